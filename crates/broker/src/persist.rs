//! The JSON files under `config/`: read with their `.bak`, replaced so that a crash leaves an old or a new whole file.
//! Source of the layout: `common/.../ConfigManager.java`; reference store 23. Knows no content.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::runtime::{Handle, RuntimeFlavor};
use wire::json::{self, FromJson, ToJson};

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// Reading or writing failed.
    #[error("{path}: {source}; check space, owner and permissions")]
    Io {
        /// File.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Neither the file nor its `.bak` can be read.
    #[error("{path} and its .bak cannot be read ({cause}); put a good copy in place, or remove both to start empty")]
    Unreadable {
        /// File.
        path: PathBuf,
        /// What the reader said.
        cause: String,
    },
    /// The file cannot be read and has no `.bak`.
    #[error("{path} cannot be read ({cause}) and has no .bak; put a good copy in place, or remove it to start empty")]
    NoBackup {
        /// File.
        path: PathBuf,
        /// What the reader said.
        cause: String,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> PersistError + '_ {
    move |source| PersistError::Io { path: path.to_owned(), source }
}

/// Reads `path`, or its `.bak` where the file is missing, empty or broken; the broken one is then kept aside, and a warning
/// names both. `None` when neither exists.
///
/// # Errors
/// Also where a broken file has no good `.bak`: a broker without consumer progress would let its consumers skip messages.
/// Nothing is changed then.
pub fn load<T: FromJson + Default>(path: &Path) -> Result<Option<T>, PersistError> {
    let broken = match read(path)? {
        Found::Good(value) => return Ok(Some(value)),
        Found::Missing => None,
        Found::Bad(cause) => Some(cause),
    };
    let backup = with_suffix(path, ".bak");
    let value = match (read(&backup)?, &broken) {
        (Found::Good(value), _) => value,
        (Found::Missing, None) => return Ok(None),
        (Found::Missing, Some(cause)) => {
            return Err(PersistError::NoBackup { path: path.to_owned(), cause: cause.clone() });
        }
        (Found::Bad(cause), _) => return Err(PersistError::Unreadable { path: path.to_owned(), cause }),
    };
    match broken {
        Some(cause) => set_aside(path, &cause, &backup)?,
        None => tracing::warn!("{} is missing or empty: {} is used", path.display(), backup.display()),
    }
    Ok(Some(value))
}

/// True when there is neither the file nor its `.bak`, or nothing is in them.
pub fn is_missing(path: &Path) -> bool {
    let is_empty = |path: &Path| fs::metadata(path).map_or(true, |found| found.len() == 0);
    is_empty(path) && is_empty(&with_suffix(path, ".bak"))
}

enum Found<T> {
    Good(T),
    Missing,
    Bad(String),
}

fn read<T: FromJson + Default>(path: &Path) -> Result<Found<T>, PersistError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) => return Err(io_error(path)(error)),
    };
    if bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
        return Ok(if bytes.is_empty() { Found::Missing } else { Found::Bad("it holds only blanks".into()) });
    }
    Ok(match json::decode(&bytes) {
        Ok(value) => Found::Good(value),
        Err(error) => Found::Bad(error.to_string()),
    })
}

fn set_aside(path: &Path, cause: &str, used: &Path) -> Result<(), PersistError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let aside = with_suffix(path, &format!(".broken-{now}"));
    fs::rename(path, &aside).map_err(io_error(path))?;
    tracing::warn!(
        "{} is broken ({cause}): {} is used; the broken one is kept as {}",
        path.display(),
        used.display(),
        aside.display()
    );
    Ok(())
}

/// Runs what waits for the disk, or for another that does. Where that is a task's thread, its other tasks go on elsewhere
/// meanwhile: a few clients that make groups and topics would else hold up all others.
pub fn apart<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Replaces `path` by `value`: written aside, fsynced, the former content kept as `.bak`, renamed, directory fsynced.
/// At each moment the file or its `.bak` is whole.
pub fn save(path: &Path, value: &impl ToJson) -> Result<(), PersistError> {
    save_text(path, &json::pretty(value))
}

/// Same, for text that is ready.
pub fn save_text(path: &Path, text: &str) -> Result<(), PersistError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(io_error(directory))?;
    let aside = with_suffix(path, ".tmp");
    // As secret as what it replaces, before anything is in it: a configuration may hold passwords.
    let mode = fs::metadata(path).map(|found| found.permissions()).ok();
    let create = || File::create(&aside);
    // One that a crash left may be read-only.
    let created = create().or_else(|error| fs::remove_file(&aside).map_err(|_| error).and_then(|()| create()));
    let written = created.and_then(|mut file| {
        mode.map_or(Ok(()), |mode| file.set_permissions(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    // A full disk must not be kept full by what could not be finished.
    written.inspect_err(|_| drop(fs::remove_file(&aside))).map_err(io_error(&aside))?;
    if path.exists() {
        let backup = with_suffix(path, ".bak");
        let link = with_suffix(path, ".bak.tmp");
        let _ = fs::remove_file(&link);
        keep(path, &link).and_then(|()| fs::rename(&link, &backup)).map_err(io_error(&backup))?;
    }
    fs::rename(&aside, path).map_err(io_error(path))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_error(directory))
}

/// The same content under a second name: a link, or a copy where the file system has no links or the file is another user's.
fn keep(path: &Path, link: &Path) -> io::Result<()> {
    if fs::hard_link(path, link).is_ok() {
        return Ok(());
    }
    let copied = fs::copy(path, link).and_then(|_| File::open(link)?.sync_all());
    copied.inspect_err(|_| drop(fs::remove_file(link)))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::body::ConsumerOffsetSerializeWrapper as Offsets;

    fn offsets(value: i64) -> Offsets {
        let mut offsets = Offsets::default();
        offsets.offset_table.entry("T@G".into()).or_default().insert(0, value);
        offsets
    }

    #[test]
    fn f19_a_stale_tail_or_a_cut_file_falls_back_to_bak() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("consumerOffset.json");
        save(&path, &offsets(1)).unwrap();
        save(&path, &offsets(2)).unwrap();
        assert_eq!(load::<Offsets>(&path).unwrap().unwrap(), offsets(2));
        let good = fs::read_to_string(&path).unwrap();
        for bad in [format!("{good}7}}}}}}"), good[..21].to_owned()] {
            fs::write(&path, &bad).unwrap();
            assert_eq!(load::<Offsets>(&path).unwrap().unwrap(), offsets(1), "{bad}");
            let aside = fs::read_dir(dir.path()).unwrap().flatten().any(|e| {
                e.file_name().to_string_lossy().contains(".broken-") && fs::read_to_string(e.path()).unwrap() == bad
            });
            assert!(aside, "the broken file is kept");
        }
        fs::write(dir.path().join("consumerOffset.json.bak"), "{").unwrap();
        assert!(matches!(load::<Offsets>(&path), Err(PersistError::Unreadable { .. })));
    }

    #[test]
    fn a_broken_file_without_bak_is_no_reason_to_start_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("consumerOffset.json");
        for bad in ["{\"offsetTable\":{\"T@", "\0\0\0\0"] {
            fs::write(&path, bad).unwrap();
            for _ in 0..2 {
                let refused = load::<Offsets>(&path).unwrap_err();
                assert!(refused.to_string().contains("consumerOffset.json"), "{refused}");
                assert_eq!(fs::read_to_string(&path).unwrap(), bad, "nothing was changed");
            }
        }
        fs::write(&path, "").unwrap();
        assert_eq!(load::<Offsets>(&path).unwrap(), None);
        assert!(is_missing(&path));
    }

    #[test]
    fn what_is_written_aside_is_as_secret_as_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker.conf");
        fs::write(&path, "tls.server.keyPassword=1").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        // It stays where the former content cannot be kept.
        fs::create_dir(with_suffix(&path, ".bak")).unwrap();
        save_text(&path, "tls.server.keyPassword=2").unwrap_err();
        assert_eq!(mode(&with_suffix(&path, ".tmp")), 0o600);
        fs::remove_dir(with_suffix(&path, ".bak")).unwrap();
        save_text(&path, "tls.server.keyPassword=3").unwrap();
        assert_eq!((mode(&path), mode(&with_suffix(&path, ".bak"))), (0o600, 0o600));
    }

    #[test]
    fn a_file_that_cannot_be_linked_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (elsewhere, link) = (Path::new("/proc/version"), dir.path().join("x.bak.tmp"));
        assert!(fs::hard_link(elsewhere, &link).is_err(), "another file system");
        keep(elsewhere, &link).unwrap();
        assert_eq!(fs::read(elsewhere).unwrap(), fs::read(&link).unwrap());
        assert!(keep(&dir.path().join("none"), &link).is_err() && !link.exists());
    }

    #[test]
    fn a_crash_while_a_file_is_replaced_leaves_one_of_both() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("consumerOffset.json");
        let beside = |suffix: &str| with_suffix(&path, suffix);
        let new = json::pretty(&offsets(3));
        // The new content half written aside; whole, with the link to the old one; the old one moved, the new one not yet.
        let stops: [(&dyn Fn(), i64); 3] = [
            (&|| fs::write(beside(".tmp"), &new[..new.len() / 2]).unwrap(), 2),
            (&|| fs::write(beside(".tmp"), &new).and_then(|()| fs::hard_link(&path, beside(".bak.tmp"))).unwrap(), 2),
            (&|| fs::rename(&path, beside(".bak")).and_then(|()| fs::write(beside(".tmp"), &new)).unwrap(), 2),
        ];
        for (stop, want) in stops {
            save(&path, &offsets(1)).unwrap();
            save(&path, &offsets(2)).unwrap();
            stop();
            assert_eq!(load::<Offsets>(&path).unwrap().unwrap(), offsets(want));
            save(&path, &offsets(4)).unwrap();
            assert_eq!(load::<Offsets>(&path).unwrap().unwrap(), offsets(4));
        }
    }
}
