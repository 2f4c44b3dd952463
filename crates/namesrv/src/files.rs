//! Replacing a small file so that a crash leaves either the old or the new content, never a part of one.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

/// Writes `content` beside `path`, fsyncs, renames over `path` and fsyncs the directory. Creates missing directories.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, content, None)
}

/// Changes the text of `path`, which is empty where there is no such file. An operator's file: a link stays a link, the mode
/// stays, and what does not change is not written.
///
/// # Errors
/// Reading and writing, also where the file is no UTF-8. It is unchanged then.
pub fn edit(path: &Path, change: impl FnOnce(&str) -> String) -> io::Result<()> {
    let target = match fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => path.to_owned(),
        found => found?,
    };
    let (mut old, mut mode) = (String::new(), None);
    match File::open(&target) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        found => {
            let mut file = found?;
            file.read_to_string(&mut old)?;
            mode = Some(file.metadata()?.permissions());
        }
    }
    let new = change(&old);
    if new == old { Ok(()) } else { replace_with(&target, new.as_bytes(), mode) }
}

fn replace_with(path: &Path, content: &[u8], mode: Option<Permissions>) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let aside = beside(path, ".tmp");
    let create = || File::create(&aside);
    // One that a crash left may be read-only.
    let mut file = create().or_else(|error| fs::remove_file(&aside).map_err(|_| error).and_then(|()| create()))?;
    // Before the content, which may be secret.
    mode.map_or(Ok(()), |mode| file.set_permissions(mode))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    File::open(directory)?.sync_all()
}

/// `path` with `suffix` at the end of its file name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn f39_an_edited_file_keeps_its_mode_and_its_link() {
        let root = tempfile::tempdir().unwrap();
        let (file, link) = (root.path().join("real.conf"), root.path().join("namesrv.conf"));
        fs::write(&file, "one").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        symlink(&file, &link).unwrap();
        edit(&link, |old| format!("{old}, two")).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"one, two");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::create_dir(beside(&file, ".tmp")).unwrap();
        edit(&link, str::to_owned).unwrap();
        assert!(edit(&link, |_| "three".into()).is_err(), "and what does not change was not written");
    }

    #[test]
    fn replaces_and_leaves_nothing_aside() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/kv.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_keeps_the_old_content() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("kv.json");
        replace(&path, b"one").unwrap();
        fs::create_dir(beside(&path, ".tmp")).unwrap();
        assert!(replace(&path, b"two").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }
}
