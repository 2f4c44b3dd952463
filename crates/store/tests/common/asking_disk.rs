//! The real disk, and somebody who is asked before a file is removed or read.
#![allow(dead_code, missing_docs)]

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use store::{Disk, File, RealDisk};

use super::over_real_disk::{rest_of_disk, sizes_of_file};

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

    sizes_of_file!();

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Disk for Asking {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let file = RealDisk.open(path, create)?;
        Ok(Arc::new(AskingFile { file, path: path.to_path_buf(), hook: self.0.clone() }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        (self.0)("remove", path)?;
        RealDisk.remove(path)
    }

    rest_of_disk!();
}
