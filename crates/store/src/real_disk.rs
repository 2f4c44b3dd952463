//! [`Disk`] on the file system of the host. The only module that calls the operating system.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use parking_lot::Mutex;
use rustix::fs::FlockOperation;

use crate::disk::{DirEntry, Disk, File, FileSystem, LockGuard, Usage};

/// The file system of the host.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

struct RealFile(fs::File);

/// An open directory on it. The kernel remembers for each open file which failures it was told of.
struct RealFileSystem(fs::File);

impl FileSystem for RealFileSystem {
    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.0)?)
    }
}

/// Whether `syncfs` tells that something could not be written. Linux passes on failures of the data since 5.8 and of the
/// journal since 5.17; layered and remote file systems have their own ways.
fn tells_failures(release: &str, file_system: u64) -> bool {
    const EXT4: u64 = 0xEF53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683E;
    const F2FS: u64 = 0xF2F5_2010;
    const TMPFS: u64 = 0x0102_1994;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (5, 17) && [EXT4, XFS, BTRFS, F2FS, TMPFS].contains(&(file_system & 0xFFFF_FFFF))
}

/// POSIX record locks do not exclude the process that holds them, hence this list of (device, inode).
static LOCKED_HERE: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

struct RealLock {
    file: Option<fs::File>,
    id: (u64, u64),
}

impl LockGuard for RealLock {}

impl Drop for RealLock {
    fn drop(&mut self) {
        let mut held = LOCKED_HERE.lock();
        self.file.take();
        held.remove(&self.id);
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(create).truncate(false);
        Ok(Arc::new(RealFile(open_unstamped(&mut options, path)?)))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(fs::File::open(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let described = |entry: io::Result<fs::DirEntry>| match describe(&entry?) {
            // Removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        };
        fs::read_dir(dir)?.filter_map(|entry| described(entry).transpose()).collect()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn file_system(&self, root: &Path, dirs: &[PathBuf]) -> io::Result<Option<Arc<dyn FileSystem>>> {
        let file = match fs::File::open(root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let device = file.metadata()?.dev();
        let elsewhere = |dir: &PathBuf| fs::metadata(dir).is_ok_and(|meta| meta.dev() != device);
        let kernel = rustix::system::uname();
        let tells = tells_failures(&kernel.release().to_string_lossy(), rustix::fs::fstatfs(&file)?.f_type as u64);
        let usable = tells && !dirs.iter().any(elsewhere);
        Ok(usable.then(|| Arc::new(RealFileSystem(file)) as Arc<dyn FileSystem>))
    }

    fn modified_ms(&self, path: &Path) -> io::Result<i64> {
        let modified = fs::metadata(path)?.modified()?;
        Ok(modified.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as i64))
    }

    fn usage(&self, path: &Path) -> io::Result<Usage> {
        let stat = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Usage { total: bytes(stat.f_blocks), free: bytes(stat.f_bfree), available: bytes(stat.f_bavail) })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        let mut held = LOCKED_HERE.lock();
        // Closing any descriptor of a file drops the process's locks on it: look before opening.
        if let Ok(meta) = fs::metadata(path)
            && held.contains(&(meta.dev(), meta.ino()))
        {
            return Ok(None);
        }
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        file.write_all_at(b"lock", 0)?;
        let meta = file.metadata()?;
        let id = (meta.dev(), meta.ino());
        held.insert(id);
        Ok(Some(Box::new(RealLock { file: Some(file), id })))
    }

    fn is_locked(&self, path: &Path) -> io::Result<Option<bool>> {
        let meta = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(false)),
            other => other?,
        };
        if LOCKED_HERE.lock().contains(&(meta.dev(), meta.ino())) {
            return Ok(Some(true));
        }
        // Asking the file itself means opening it, and closing it again would drop this process's own locks.
        let Ok(table) = fs::read_to_string("/proc/locks") else { return Ok(None) };
        Ok(Some(table.lines().any(|line| locks_inode(line, meta.ino()))))
    }
}

/// Reads leave no access time behind: nobody asks for it, and to see whether it is due costs a tenth of a small read. Only
/// the owner of a file may ask for that.
fn open_unstamped(options: &mut fs::OpenOptions, path: &Path) -> io::Result<fs::File> {
    let unstamped = rustix::fs::OFlags::NOATIME.bits() as i32;
    match options.custom_flags(unstamped).open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => options.custom_flags(0).open(path),
        other => other,
    }
}

/// A line of `/proc/locks`: number, POSIX, ADVISORY, WRITE, process, `major:minor:inode`, first byte, last byte. The
/// device is not compared: layered file systems show another one.
fn locks_inode(line: &str, inode: u64) -> bool {
    let mut words = line.split_whitespace().skip(1);
    let posix = words.next() == Some("POSIX");
    let writes = words.nth(1) == Some("WRITE");
    let of_file = words.nth(1).and_then(|id| id.rsplit(':').next()?.parse().ok()) == Some(inode);
    posix && writes && of_file
}

fn describe(entry: &fs::DirEntry) -> io::Result<DirEntry> {
    let name = entry.file_name().to_string_lossy().into_owned();
    // Of a directory the entry tells enough.
    if entry.file_type()?.is_dir() {
        return Ok(DirEntry { name, is_dir: true, len: 0 });
    }
    let meta = entry.metadata()?;
    Ok(DirEntry { name, is_dir: meta.is_dir(), len: meta.len() })
}

impl File for RealFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn will_read(&self, offset: u64, len: u64) {
        // Advice: where it is not taken, the read waits for the disk instead.
        let _ = rustix::fs::fadvise(&self.0, offset, len.try_into().ok(), rustix::fs::Advice::WillNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lock_a_file_also_within_a_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = RealDisk.lock(&path).unwrap();
        assert!(first.is_some());
        assert!(RealDisk.lock(&path).unwrap().is_none());
        drop(first);
        assert!(RealDisk.lock(&path).unwrap().is_some());
        assert_eq!(fs::read(&path).unwrap(), b"lock");
    }

    #[test]
    fn a_lock_is_seen_without_touching_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert_eq!(RealDisk.is_locked(&path).unwrap(), Some(false));
        let held = RealDisk.lock(&path).unwrap();
        assert_eq!(RealDisk.is_locked(&path).unwrap(), Some(true));
        let inode = fs::metadata(&path).unwrap().ino();
        let table = fs::read_to_string("/proc/locks").unwrap();
        assert!(table.lines().any(|line| locks_inode(line, inode)), "{table}");
        drop(held);
        assert_ne!(RealDisk.is_locked(&path).unwrap(), Some(true));
    }

    #[test]
    fn a_file_system_is_synced_as_a_whole_where_it_tells_failures() {
        assert!(tells_failures("6.18.44-fc", 0xEF53) && tells_failures("5.17", 0x9123_683E));
        assert!(
            !tells_failures("5.16.20", 0xEF53) && !tells_failures("6.1.0", 0x794C_7630) && !tells_failures("", 0xEF53)
        );
        let dir = tempfile::tempdir().unwrap();
        let below = [dir.path().join("a"), dir.path().join("missing")];
        fs::create_dir(&below[0]).unwrap();
        if let Some(whole) = RealDisk.file_system(dir.path(), &below).unwrap() {
            whole.sync().unwrap();
        }
        assert!(RealDisk.file_system(dir.path(), &["/proc".into()]).unwrap().is_none(), "two file systems");
        assert!(RealDisk.file_system(&below[1], &[]).unwrap().is_none());
    }

    #[test]
    fn added_bytes_read_as_zero() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&dir.path().join("f"), true).unwrap();
        file.write_all_at(0, b"abcdef").unwrap();
        file.set_len(2).unwrap();
        file.set_len(8).unwrap();
        let mut buf = [9; 8];
        file.read_exact_at(0, &mut buf).unwrap();
        assert_eq!(&buf, b"ab\0\0\0\0\0\0");
        assert_eq!(file.read_exact_at(4, &mut buf).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
