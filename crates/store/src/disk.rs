//! The seam to the operating system: every file of the store is reached through [`Disk`], so that a simulated disk can
//! stand in for the real one. Nothing outside `real_disk` touches a file system.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A file system as the store needs it. Paths are whole paths.
pub trait Disk: Send + Sync {
    /// Opens for reading and writing. With `create` a missing file is made, empty; an existing one keeps its content.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading alone: needs no permission to write.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path, false)
    }
    /// Files and directories directly in `dir`, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// True when something of that name exists.
    fn exists(&self, path: &Path) -> bool;
    /// Deletes one file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Deletes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Replaces `to` by `from`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a directory and its parents.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The file system that holds `root` and `dirs`, as far as those exist, and what is below them; `None` where they are on
    /// several, or where it cannot be trusted to tell what it failed to write. From then on it remembers failures.
    fn file_system(&self, _root: &Path, _dirs: &[PathBuf]) -> io::Result<Option<Arc<dyn FileSystem>>> {
        Ok(None)
    }
    /// Last modification, milliseconds since the epoch.
    fn modified_ms(&self, path: &Path) -> io::Result<i64>;
    /// Space of the partition that holds `path`.
    fn usage(&self, path: &Path) -> io::Result<Usage>;
    /// The same for each directory that new files of the directory `path` may go to.
    fn usages(&self, path: &Path) -> Vec<(PathBuf, io::Result<Usage>)> {
        vec![(path.to_path_buf(), self.usage(path))]
    }
    /// Where a file lies that is reached as `path`.
    fn real_path(&self, path: &Path) -> PathBuf {
        path.to_path_buf()
    }
    /// Makes the file if need be and takes an exclusive lock that other processes see, Java brokers among them.
    /// `None` when somebody else holds it. Dropping the guard releases it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>>;
    /// True when somebody holds [`Disk::lock`] on `path`; takes nothing and opens nothing. `None` where that cannot be
    /// told.
    fn is_locked(&self, _path: &Path) -> io::Result<Option<bool>> {
        Ok(None)
    }
}

/// Syncs many files at once.
pub trait FileSystem: Send + Sync {
    /// Returns when everything is durable, names too, that was written before the call, also by others. Fails when any of it
    /// could not be written since the last call.
    fn sync(&self) -> io::Result<()>;
}

/// An open file. Positions are bytes from its start.
pub trait File: Send + Sync {
    /// Reads what is there, at most the buffer; 0 at the end.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes`.
    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts or extends; what is added reads as 0.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Size in bytes.
    fn len(&self) -> io::Result<u64>;
    /// True for a file of no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Returns when content and size are durable.
    fn sync(&self) -> io::Result<()>;
    /// Says that these bytes will be read soon, so that they may be fetched meanwhile. Changes nothing else.
    fn will_read(&self, _offset: u64, _len: u64) {}

    /// Fills the whole buffer, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match self.read_at(offset + done as u64, &mut buf[done..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Holds a lock until it is dropped.
pub trait LockGuard: Send + Sync {}

/// What [`Disk::list`] tells of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Name without its directory.
    pub name: String,
    /// True for a directory.
    pub is_dir: bool,
    /// Size in bytes; of no meaning for a directory.
    pub len: u64,
}

/// Space of a partition, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// All of it.
    pub total: u64,
    /// Not used by anybody.
    pub free: u64,
    /// What this process may still use.
    pub available: u64,
}

impl Usage {
    /// Used part between 0 and 1, rounded up to whole percents as Java does: used / (used + available).
    pub fn used_ratio(&self) -> f64 {
        let used = self.total - self.free.min(self.total);
        let all = used + self.available;
        if all == 0 { 0.0 } else { used.saturating_mul(100).div_ceil(all) as f64 / 100.0 }
    }
}

/// The wall clock.
pub trait Clock: Send + Sync {
    /// Milliseconds since the epoch.
    fn now_ms(&self) -> i64;
}

/// As [`Disk::list`], sorted by name; a missing directory is an empty one.
pub(crate) fn list_sorted(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_as_java_rounds_it() {
        let usage = |total, free, available| Usage { total, free, available }.used_ratio();
        assert_eq!(usage(1000, 1000, 1000), 0.0);
        assert_eq!(usage(1000, 499, 499), 0.51);
        assert_eq!(usage(1000, 300, 200), 0.78);
        assert_eq!(usage(0, 0, 0), 0.0);
    }
}
