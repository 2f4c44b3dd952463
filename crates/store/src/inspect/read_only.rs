//! A [`Disk`] that cannot write: what the read-only commands see the store through. Whatever would change a byte, a name
//! or a lock is refused here, so nothing above can do it by mistake.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::{DirEntry, Disk, File, LockGuard, Usage},
    read_only_file::ReadOnlyFile,
};

/// Lets reads through and refuses the rest.
pub(crate) struct ReadOnlyDisk(pub(crate) Arc<dyn Disk>);

const WHY: &str = "this view of the store writes nothing";

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::PermissionDenied, WHY))
}

impl Disk for ReadOnlyDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        if create { refused() } else { self.open_read(path) }
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(ReadOnlyFile::new(self.0.open_read(path)?, WHY)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.0.list(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.exists(path)
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn modified_ms(&self, path: &Path) -> io::Result<i64> {
        self.0.modified_ms(path)
    }

    fn usage(&self, path: &Path) -> io::Result<Usage> {
        self.0.usage(path)
    }

    fn real_path(&self, path: &Path) -> PathBuf {
        self.0.real_path(path)
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        refused()
    }

    fn is_locked(&self, path: &Path) -> io::Result<Option<bool>> {
        self.0.is_locked(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    #[test]
    fn writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"abc").unwrap();
        let disk = ReadOnlyDisk(Arc::new(RealDisk));
        let file = disk.open(&path, false).unwrap();
        let mut buf = [0; 3];
        file.read_exact_at(0, &mut buf).unwrap();
        assert!(file.write_all_at(0, b"x").is_err() && file.set_len(0).is_err() && file.sync().is_err());
        assert!(disk.open(&dir.path().join("g"), true).is_err() && disk.remove(&path).is_err());
        assert!(disk.rename(&path, &dir.path().join("g")).is_err() && disk.lock(&path).is_err());
        assert!(disk.create_dir_all(&dir.path().join("d")).is_err() && disk.remove_dir(dir.path()).is_err());
        assert_eq!((std::fs::read(&path).unwrap(), &buf[..]), (b"abc".to_vec(), &b"abc"[..]));
    }
}
