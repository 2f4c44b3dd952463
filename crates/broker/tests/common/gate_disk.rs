//! The real disk with a gate before one file of the commit log: long reads wait there until it is opened.

use std::{
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex},
};

use store::{DirEntry, Disk, File, LockGuard, RealDisk, Usage};

/// Whoever looks for a single record reads less.
const LONG_READ: usize = 64 << 10;

/// Shares its gate with its files.
#[derive(Clone, Default)]
pub struct GateDisk(Arc<(Mutex<Option<&'static str>>, Condvar)>);

/// A gate that is closed. It opens when a test fails, too: a start that never ends would hide why.
pub struct Closed(GateDisk);

impl Drop for Closed {
    fn drop(&mut self) {
        *self.0.0.0.lock().unwrap() = None;
        self.0.0.1.notify_all();
    }
}

struct GateFile {
    disk: GateDisk,
    name: String,
    file: Arc<dyn File>,
}

impl GateDisk {
    /// Long reads of files of this name wait until what is returned is dropped.
    pub fn close(&self, name: &'static str) -> Closed {
        *self.0.0.lock().unwrap() = Some(name);
        Closed(self.clone())
    }

    fn pass(&self, name: &str) {
        let closed = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(closed, |closed| *closed == Some(name)).unwrap());
    }
}

impl File for GateFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if buf.len() > LONG_READ {
            self.disk.pass(&self.name);
        }
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

impl Disk for GateDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let in_log = path.iter().any(|part| part == "commitlog");
        let name = path.file_name().filter(|_| in_log).unwrap_or_default().to_string_lossy().into_owned();
        Ok(Arc::new(GateFile { disk: self.clone(), name, file: RealDisk.open(path, create)? }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        RealDisk.list(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
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
