//! The real disk, and somebody who is asked before a file is removed or read.
#![allow(dead_code, missing_docs)]

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use store::{DirEntry, Disk, File, LockGuard, RealDisk, Usage};

pub type Hook = Box<dyn Fn(&str, &Path) -> io::Result<()> + Send + Sync>;

#[derive(Clone)]
pub struct Asking(Arc<Hook>);

impl Asking {
    /// `hook` is told what is to be done, `remove` or `read`, and where.
    pub fn new(hook: impl Fn(&str, &Path) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Box::new(hook)))
    }
}

struct AskingFile {
    file: Arc<dyn File>,
    path: PathBuf,
    hook: Arc<Hook>,
}

impl File for AskingFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        (self.hook)("read", &self.path)?;
        self.file.read_at(offset, buf)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Disk for Asking {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let file = RealDisk.open(path, create)?;
        Ok(Arc::new(AskingFile { file, path: path.to_path_buf(), hook: self.0.clone() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        RealDisk.list(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        (self.0)("remove", path)?;
        RealDisk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }

    fn modified_ms(&self, path: &Path) -> io::Result<i64> {
        RealDisk.modified_ms(path)
    }

    fn usage(&self, path: &Path) -> io::Result<Usage> {
        RealDisk.usage(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        RealDisk.lock(path)
    }
}
