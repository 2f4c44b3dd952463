//! The real disk with gates before the commit log: long reads of one file, all writes, or all syncs, wait until theirs is
//! opened; so do deletions of any files. Syncs of the log are counted. Reads of the log fail when a test says so.
#![allow(dead_code)]

use std::{
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use store::{DirEntry, Disk, File, LockGuard, RealDisk, Usage};

/// Whoever looks for a single record reads less.
const LONG_READ: usize = 64 << 10;

#[derive(Default)]
struct Gates {
    /// Long reads of files of this name wait.
    reads: Option<&'static str>,
    reading: usize,
    renames: bool,
    renaming: usize,
    writes: bool,
    syncs: bool,
    deletions: bool,
    /// Segments are not deleted: how often that was refused.
    refuses: bool,
    refused: usize,
    broken: bool,
    begun: usize,
    synced: usize,
}

/// Shares its gates with its files.
#[derive(Clone, Default)]
pub struct GateDisk(Arc<(Mutex<Gates>, Condvar)>);

/// A gate that is closed. It opens when a test fails, too: a start that never ends would hide why.
pub struct Closed(GateDisk);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.change(|gates| (gates.reads, gates.deletions, gates.renames) = (None, false, false));
    }
}

struct GateFile {
    disk: GateDisk,
    /// In the commit log.
    name: Option<String>,
    file: Arc<dyn File>,
}

impl GateDisk {
    /// Long reads of files of this name wait until what is returned is dropped.
    pub fn close(&self, name: &'static str) -> Closed {
        self.change(|gates| gates.reads = Some(name));
        Closed(self.clone())
    }

    /// Syncs of the log wait from now on, or no more.
    pub fn close_syncs(&self, closed: bool) {
        self.change(|gates| gates.syncs = closed);
    }

    /// Writes to the log wait from now on, or no more; each of them holds up its thread.
    pub fn close_writes(&self, closed: bool) {
        self.change(|gates| gates.writes = closed);
    }

    /// Reads of the log fail from now on, or no more.
    pub fn break_reads(&self, broken: bool) {
        self.change(|gates| gates.broken = broken);
    }

    /// Deletions of files wait until what is returned is dropped; each of them holds up its thread.
    pub fn close_deletions(&self) -> Closed {
        self.change(|gates| gates.deletions = true);
        Closed(self.clone())
    }

    /// Files are not renamed until what is returned is dropped; each of these calls holds up its thread.
    pub fn close_renames(&self) -> Closed {
        self.change(|gates| gates.renames = true);
        Closed(self.clone())
    }

    /// Renames that have waited so far.
    pub fn renaming(&self) -> usize {
        self.0.0.lock().unwrap().renaming
    }

    /// Segments of the log are not deleted from now on, or again.
    pub fn refuse_deletions(&self, refuses: bool) {
        self.change(|gates| gates.refuses = refuses);
    }

    /// Deletions that were refused so far.
    pub fn refused(&self) -> usize {
        self.0.0.lock().unwrap().refused
    }

    /// Long reads that have waited so far.
    pub fn reading(&self) -> usize {
        self.0.0.lock().unwrap().reading
    }

    /// Syncs of the log so far.
    pub fn syncs(&self) -> usize {
        self.0.0.lock().unwrap().synced
    }

    /// Syncs of the log that were asked for so far.
    pub fn begun(&self) -> usize {
        self.0.0.lock().unwrap().begun
    }

    fn change(&self, change: impl FnOnce(&mut Gates)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    fn wait_while(&self, is_closed: impl Fn(&Gates) -> bool) -> MutexGuard<'_, Gates> {
        self.0.1.wait_while(self.0.0.lock().unwrap(), |gates| is_closed(gates)).unwrap()
    }
}

impl File for GateFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if self.name.is_some() && self.disk.0.0.lock().unwrap().broken {
            return Err(io::Error::other("broken for the test"));
        }
        if let Some(name) = self.name.as_deref().filter(|_| buf.len() > LONG_READ) {
            self.disk.change(|gates| gates.reading += usize::from(gates.reads == Some(name)));
            drop(self.disk.wait_while(|gates| gates.reads == Some(name)));
        }
        self.file.read_at(offset, buf)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.name.is_some() {
            drop(self.disk.wait_while(|gates| gates.writes));
        }
        self.file.write_all_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync(&self) -> io::Result<()> {
        if self.name.is_some() {
            self.disk.change(|gates| gates.begun += 1);
            self.disk.wait_while(|gates| gates.syncs).synced += 1;
        }
        self.file.sync()
    }
}

impl Disk for GateDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let in_log = path.iter().any(|part| part == "commitlog");
        let name = path.file_name().filter(|_| in_log).map(|name| name.to_string_lossy().into_owned());
        Ok(Arc::new(GateFile { disk: self.clone(), name, file: RealDisk.open(path, create)? }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        RealDisk.list(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut gates = self.wait_while(|gates| gates.deletions);
        if gates.refuses && path.iter().any(|part| part == "commitlog") {
            gates.refused += 1;
            return Err(io::Error::other("refused for the test"));
        }
        drop(gates);
        RealDisk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|gates| gates.renaming += usize::from(gates.renames));
        drop(self.wait_while(|gates| gates.renames));
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
