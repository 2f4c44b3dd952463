//! A disk in memory with a page cache. What was not synced may be kept, lost, out of order or torn (sector by
//! sector, in the log at any byte) after a power cut; names become durable with their directory's sync; each call may be the last one
//! before a crash; writes and syncs may fail; space may end; reads may be short. One seed gives one run.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use store::{DirEntry, Disk, File, FileSystem, LockGuard, Usage};

use super::{
    content::{Change, Content, SECTOR},
    names::{Names, Naming, Node, name_of},
};
use crate::common::Random;

/// What one of the next calls meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process or the machine stops within any call.
    Crash,
    /// A call that writes, creates or renames fails.
    Write(io::ErrorKind),
    /// A sync of a file or a directory fails; what it should have made durable may be lost for good.
    Sync(io::ErrorKind),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Read,
    Remove,
    Write,
    /// A write that may need space. Cutting a file or extending one that holds something needs none.
    Grow,
    Sync,
}

struct State {
    random: Random,
    inodes: Vec<Content>,
    names: Names,
    steps: u64,
    trace: u64,
    plan: Option<(u64, Fault)>,
    fired: bool,
    dead: bool,
    full: bool,
    boot: u64,
    log_bytes_read: u64,
    syncs: u64,
}

/// The disk. Clones share it.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

struct SimFile {
    disk: SimDisk,
    inode: usize,
    is_log: bool,
    boot: u64,
}

struct SimFileSystem {
    disk: SimDisk,
    boot: u64,
}

struct NoLock;

impl LockGuard for NoLock {}

/// How far a call gets.
enum Go {
    On,
    /// It fails with this, after having had a part of its effect.
    Fail(io::Error),
}

fn is_off() -> io::Error {
    io::Error::other("the machine is off")
}

impl State {
    /// Counts a call and decides how it goes. `what` and `number` go into the trace.
    fn enter(&mut self, class: Class, what: u64, number: u64) -> Result<Go, io::Error> {
        if self.dead {
            return Err(is_off());
        }
        self.steps += 1;
        self.note(what ^ number.rotate_left(17));
        if let Some((left, fault)) = self.plan {
            let concerned = match fault {
                Fault::Crash => true,
                Fault::Write(_) => matches!(class, Class::Write | Class::Grow),
                Fault::Sync(_) => class == Class::Sync,
            };
            match (concerned, left) {
                (true, 0) => return Ok(Go::Fail(self.fire(fault))),
                (true, _) => self.plan = Some((left - 1, fault)),
                (false, _) => {}
            }
        }
        if self.full && class == Class::Grow && self.random.below(2) == 0 {
            return Ok(Go::Fail(io::ErrorKind::StorageFull.into()));
        }
        Ok(Go::On)
    }

    fn fire(&mut self, fault: Fault) -> io::Error {
        self.plan = None;
        self.fired = true;
        match fault {
            Fault::Crash => {
                self.dead = true;
                is_off()
            }
            Fault::Write(kind) | Fault::Sync(kind) => kind.into(),
        }
    }

    fn note(&mut self, value: u64) {
        self.trace = (self.trace ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }

    fn note_path(&mut self, path: &Path) -> u64 {
        path.to_str()
            .unwrap()
            .bytes()
            .fold(1, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    fn lose(&mut self) {
        self.names.lose(&mut self.random);
        for inode in 0..self.inodes.len() {
            let mut content = std::mem::take(&mut self.inodes[inode]);
            content.lose(&mut self.random);
            self.inodes[inode] = content;
        }
    }
}

impl SimDisk {
    /// An empty disk on which `root` exists.
    pub fn new(root: &Path, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: Random(seed ^ 0xD15C),
            inodes: Vec::new(),
            names: Names::new(root),
            steps: 0,
            trace: 0,
            plan: None,
            fired: false,
            dead: false,
            full: false,
            boot: 0,
            log_bytes_read: 0,
            syncs: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// One of the next calls, `after` more of its kind, meets `fault`.
    pub fn plan(&self, after: u64, fault: Fault) {
        self.state().plan = Some((after, fault));
    }

    /// Takes the plan back; says whether it came to pass since the last call of this.
    pub fn take_fired(&self) -> bool {
        let mut state = self.state();
        state.plan = None;
        std::mem::take(&mut state.fired)
    }

    /// Whether it came to pass.
    pub fn fired(&self) -> bool {
        self.state().fired
    }

    /// True after a crash, until [`SimDisk::restart`].
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Bytes that were read of the commit log so far.
    pub fn log_bytes_read(&self) -> u64 {
        self.state().log_bytes_read
    }

    /// Syncs of files so far.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// What a file holds, without a call.
    pub fn peek(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        match state.names.find(path) {
            Some(Node::File(inode)) => Some(state.inodes[inode].bytes().to_vec()),
            _ => None,
        }
    }

    /// Paths in a directory in order, without a call.
    pub fn names_in(&self, dir: &Path) -> Vec<PathBuf> {
        let state = self.state();
        let names = |dir_number| state.names.entries(dir_number).keys().map(|name| dir.join(name)).collect();
        state.names.dir(dir).map(names).unwrap_or_default()
    }

    /// Lengths of all files below a directory, without a call.
    pub fn lengths_under(&self, dir: &Path) -> Vec<u64> {
        let state = self.state();
        let (mut lengths, mut dirs) = (Vec::new(), Vec::from_iter(state.names.dir(dir)));
        while let Some(number) = dirs.pop() {
            for node in state.names.entries(number).values() {
                match *node {
                    Node::Dir(number) => dirs.push(number),
                    Node::File(inode) => lengths.push(state.inodes[inode].len()),
                }
            }
        }
        lengths
    }

    /// Calls so far.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// Differs when any call, its arguments or its order differ.
    pub fn trace(&self) -> u64 {
        self.state().trace
    }

    /// While full, writes fail now and then for want of space.
    pub fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// A new process: former files are closed. After a power cut what was not synced is lost in parts.
    pub fn restart(&self, power_cut: bool) {
        let mut state = self.state();
        (state.dead, state.fired, state.plan, state.full) = (false, false, None, false);
        state.boot += 1;
        if power_cut {
            state.lose();
        }
    }
}

impl SimFile {
    fn enter(&self, class: Class, what: u64, number: u64) -> io::Result<(MutexGuard<'_, State>, Go)> {
        let mut state = self.disk.state();
        if state.boot != self.boot {
            return Err(is_off());
        }
        let go = state.enter(class, what ^ (self.inode as u64) << 8, number)?;
        Ok((state, go))
    }
}

impl File for SimFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let (mut state, go) = self.enter(Class::Read, 1, offset)?;
        if let Go::Fail(error) = go {
            return Err(error);
        }
        // As a read that a signal interrupts.
        let wanted = if state.random.below(64) == 0 { buf.len().div_ceil(2) } else { buf.len() };
        let read = state.inodes[self.inode].read(offset, &mut buf[..wanted]);
        state.log_bytes_read += if self.is_log { read as u64 } else { 0 };
        Ok(read)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut state, go) = self.enter(Class::Grow, 2, offset)?;
        let sum = bytes.iter().fold(bytes.len() as u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
        state.note(sum);
        let done = match &go {
            Go::On => bytes.len(),
            // A sector that is written as a whole is there as a whole, or not.
            Go::Fail(_) if bytes.len() == SECTOR && offset.is_multiple_of(SECTOR as u64) => {
                state.random.below(2) as usize * bytes.len()
            }
            Go::Fail(_) => state.random.below(bytes.len() as u64 + 1) as usize,
        };
        if done > 0 {
            state.inodes[self.inode].change(Change::Write(offset, bytes[..done].to_vec()));
        }
        match go {
            Go::On => Ok(()),
            Go::Fail(error) => Err(error),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let is_new = self.disk.state().inodes[self.inode].is_new();
        let class = if is_new { Class::Grow } else { Class::Write };
        let (mut state, go) = self.enter(class, 3, len)?;
        if let Go::Fail(error) = go {
            if state.dead && state.random.below(2) == 0 {
                state.inodes[self.inode].change(Change::Length(len));
            }
            return Err(error);
        }
        state.inodes[self.inode].change(Change::Length(len));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let (state, go) = self.enter(Class::Read, 4, 0)?;
        match go {
            Go::On => Ok(state.inodes[self.inode].len()),
            Go::Fail(error) => Err(error),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let (mut state, go) = self.enter(Class::Sync, 5, 0)?;
        let state = &mut *state;
        match go {
            Go::On => {
                state.syncs += 1;
                state.inodes[self.inode].sync();
            }
            Go::Fail(error) => {
                // The kernel forgets that the pages were dirty: a second sync would succeed and prove nothing.
                if !state.dead {
                    state.inodes[self.inode].fail_sync(&mut state.random);
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

impl FileSystem for SimFileSystem {
    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.disk.state();
        if state.boot != self.boot {
            return Err(is_off());
        }
        match state.enter(Class::Sync, 18, 0)? {
            Go::On => {
                state.syncs += 1;
                state.inodes.iter_mut().for_each(Content::sync);
                state.names.sync_all();
                Ok(())
            }
            Go::Fail(error) => {
                if !state.dead {
                    // Some of it is written, of some the kernel forgets that it was not, some it has not come to.
                    for inode in &mut state.inodes {
                        match state.random.below(3) {
                            0 => inode.sync(),
                            1 => inode.fail_sync(&mut state.random),
                            _ => {}
                        }
                    }
                }
                Err(error)
            }
        }
    }
}

impl SimDisk {
    fn named(&self, class: Class, what: u64, path: &Path) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        let hash = state.note_path(path);
        match state.enter(class, what, hash)? {
            Go::On => Ok(state),
            Go::Fail(error) => Err(error),
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let exists = self.state().names.find(path).is_some();
        let class = if create && !exists { Class::Grow } else { Class::Read };
        let mut state = self.named(class, 6, path)?;
        let inode = match state.names.find(path) {
            Some(Node::File(inode)) => inode,
            Some(Node::Dir(_)) => return Err(io::ErrorKind::IsADirectory.into()),
            None if !create => return Err(io::ErrorKind::NotFound.into()),
            None => {
                let inode = state.inodes.len();
                state.names.change(path, Naming::Create(name_of(path), Node::File(inode)))?;
                state.inodes.push(Content::new(path.starts_with("/sim/commitlog")));
                inode
            }
        };
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            inode,
            is_log: path.starts_with("/sim/commitlog"),
            boot: state.boot,
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.named(Class::Read, 7, dir)?;
        let entry = |(name, node): (&String, &Node)| {
            let (is_dir, len) = match node {
                Node::Dir(_) => (true, 0),
                Node::File(inode) => (false, state.inodes[*inode].len()),
            };
            DirEntry { name: name.clone(), is_dir, len }
        };
        Ok(state.names.entries(state.names.dir(dir)?).iter().map(entry).collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.named(Class::Read, 8, path).is_ok_and(|state| state.names.find(path).is_some())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.named(Class::Remove, 9, path)?;
        match state.names.find(path) {
            Some(Node::File(_)) => state.names.change(path, Naming::Remove(name_of(path))),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.named(Class::Remove, 10, path)?;
        if !state.names.entries(state.names.dir(path)?).is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.names.change(path, Naming::Remove(name_of(path)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.named(Class::Write, 11, from)?;
        if state.names.find(from).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        if from.parent() == to.parent() {
            return state.names.change(from, Naming::Rename(name_of(from), name_of(to)));
        }
        let other = state.names.dir(to.parent().unwrap())?;
        state.names.change(from, Naming::Move(name_of(from), other, name_of(to)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let missing = self.state().names.find(path).is_none();
        let mut state = self.named(if missing { Class::Grow } else { Class::Read }, 12, path)?;
        let mut parents: Vec<&Path> = path.ancestors().take_while(|dir| state.names.find(dir).is_none()).collect();
        while let Some(dir) = parents.pop() {
            state.names.make_dir(dir)?;
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.named(Class::Sync, 13, path)?;
        let dir = state.names.dir(path)?;
        state.names.sync(dir);
        Ok(())
    }

    fn file_system(&self, root: &Path, _: &[PathBuf]) -> io::Result<Option<Arc<dyn FileSystem>>> {
        let state = self.named(Class::Read, 17, root)?;
        Ok(Some(Arc::new(SimFileSystem { disk: self.clone(), boot: state.boot })))
    }

    fn modified_ms(&self, path: &Path) -> io::Result<i64> {
        self.named(Class::Read, 14, path).map(|_| 0)
    }

    fn usage(&self, path: &Path) -> io::Result<Usage> {
        self.named(Class::Read, 15, path).map(|_| Usage { total: 1 << 50, free: 1 << 50, available: 1 << 50 })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        self.named(Class::Read, 16, path).map(|_| Some(Box::new(NoLock) as Box<dyn LockGuard>))
    }
}
