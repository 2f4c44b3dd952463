//! A real directory on a disk that is as small as a test wants: blocks count when they are written, as in sparse files.
//! Space can be taken and given back, refused below one directory, and the process can die at any change.
#![allow(dead_code, missing_docs)]

use std::{
    collections::{BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use store::{DirEntry, Disk, File, LockGuard, RealDisk, Usage};

const BLOCK: u64 = 4096;

type Blocks = Arc<Mutex<BTreeSet<u64>>>;

#[derive(Default)]
struct State {
    capacity: u64,
    /// Bytes that other programs use.
    foreign: u64,
    used: u64,
    files: HashMap<PathBuf, Blocks>,
    /// Writes below a directory of this name get no space.
    refused_in: Option<&'static str>,
    /// Changes until the process dies.
    dies_after: Option<u64>,
    writes: u64,
}

/// Shares its state with its clones.
#[derive(Clone)]
pub struct SmallDisk(Arc<Mutex<State>>);

struct SmallFile {
    disk: SmallDisk,
    path: PathBuf,
    file: Arc<dyn File>,
    blocks: Blocks,
}

impl SmallDisk {
    pub fn new(capacity: u64) -> Self {
        Self(Arc::new(Mutex::new(State { capacity, ..State::default() })))
    }

    /// Others use so many bytes of it.
    pub fn others_use(&self, bytes: u64) {
        self.0.lock().unwrap().foreign = bytes;
    }

    /// Others use all but `left` bytes of what is free.
    pub fn leave(&self, left: u64) {
        let mut state = self.0.lock().unwrap();
        state.foreign = state.capacity.saturating_sub(state.used + left);
    }

    pub fn refuse_in(&self, directory: Option<&'static str>) {
        self.0.lock().unwrap().refused_in = directory;
    }

    /// After so many changes every one fails.
    pub fn die_after(&self, changes: u64) {
        self.0.lock().unwrap().dies_after = Some(changes);
    }

    /// Bytes that the files use.
    pub fn used(&self) -> u64 {
        self.0.lock().unwrap().used
    }

    /// Writes so far, also those that failed.
    pub fn writes(&self) -> u64 {
        self.0.lock().unwrap().writes
    }

    fn change(&self) -> io::Result<()> {
        match &mut self.0.lock().unwrap().dies_after {
            Some(0) => Err(io::Error::other("the process is dead")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes the blocks of [`from`, `to`); returns up to where there is space.
    fn take(&self, path: &Path, blocks: &Blocks, from: u64, to: u64) -> u64 {
        let (mut state, mut blocks) = (self.0.lock().unwrap(), blocks.lock().unwrap());
        state.writes += 1;
        let refused = state.refused_in.is_some_and(|name| path.iter().any(|part| part == name));
        for block in from / BLOCK..to.div_ceil(BLOCK) {
            if refused
                || (!blocks.contains(&block) && state.used + BLOCK > state.capacity.saturating_sub(state.foreign))
            {
                return from.max(block * BLOCK);
            }
            if blocks.insert(block) {
                state.used += BLOCK;
            }
        }
        to
    }

    fn give_back(&self, blocks: &Blocks, from: u64) {
        let gone = blocks.lock().unwrap().split_off(&from.div_ceil(BLOCK));
        self.0.lock().unwrap().used -= gone.len() as u64 * BLOCK;
    }
}

impl File for SmallFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buf)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.change()?;
        let to = offset + bytes.len() as u64;
        let end = self.disk.take(&self.path, &self.blocks, offset, to);
        self.file.write_all_at(offset, &bytes[..(end - offset) as usize])?;
        if end < to { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change()?;
        self.disk.give_back(&self.blocks, len);
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.change()
    }
}

impl Disk for SmallDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        if create && !path.exists() {
            self.change()?;
            let state = self.0.lock().unwrap();
            let refused = state.refused_in.is_some_and(|name| path.iter().any(|part| part == name));
            if refused || state.used + BLOCK > state.capacity.saturating_sub(state.foreign) {
                // A name may need a block, too.
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let file = RealDisk.open(path, create)?;
        let blocks = self.0.lock().unwrap().files.entry(path.to_path_buf()).or_default().clone();
        Ok(Arc::new(SmallFile { disk: self.clone(), path: path.to_path_buf(), file, blocks }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        RealDisk.list(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        RealDisk.remove(path)?;
        let gone = self.0.lock().unwrap().files.remove(path);
        gone.iter().for_each(|blocks| self.give_back(blocks, 0));
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        RealDisk.remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?;
        RealDisk.rename(from, to)?;
        let mut state = self.0.lock().unwrap();
        if let Some(blocks) = state.files.remove(from) {
            state.files.insert(to.to_path_buf(), blocks);
        }
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.change()
    }

    fn modified_ms(&self, path: &Path) -> io::Result<i64> {
        RealDisk.modified_ms(path)
    }

    fn usage(&self, _: &Path) -> io::Result<Usage> {
        let state = self.0.lock().unwrap();
        let free = state.capacity.saturating_sub(state.foreign + state.used);
        Ok(Usage { total: state.capacity, free, available: free })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        RealDisk.lock(path)
    }
}
