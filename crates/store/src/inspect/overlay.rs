//! A [`Disk`] whose writes stay in memory, over one that is only read: what a start would do to a store can be tried on
//! it. Keeps pages that were written, up to a bound; beyond it writes fail. Nothing of it outlives the value.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use crate::disk::{DirEntry, Disk, File, LockGuard, Usage};

const PAGE: u64 = 4096;

type Page = Box<[u8; PAGE as usize]>;

/// What a path has become.
#[derive(Clone)]
enum Node {
    Removed,
    Directory,
    File(Arc<Layered>),
}

/// The disk.
pub(crate) struct Overlay {
    below: Arc<dyn Disk>,
    nodes: Mutex<BTreeMap<PathBuf, Node>>,
    budget: Arc<AtomicU64>,
}

struct Guard;

impl LockGuard for Guard {}

impl Overlay {
    /// Over `below`, keeping at most `budget` bytes.
    pub(crate) fn new(below: Arc<dyn Disk>, budget: u64) -> Self {
        Self { below, nodes: Mutex::default(), budget: Arc::new(AtomicU64::new(budget / PAGE)) }
    }

    fn node(&self, path: &Path) -> Option<Node> {
        self.nodes.lock().get(path).cloned()
    }

    fn open_file(&self, path: &Path, create: bool) -> io::Result<Arc<Layered>> {
        let mut nodes = self.nodes.lock();
        let below = match nodes.get(path) {
            Some(Node::File(file)) => return Ok(file.clone()),
            Some(Node::Directory) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(Node::Removed) => None,
            None => match self.below.open_read(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                other => Some(other?),
            },
        };
        if below.is_none() && !create {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = Arc::new(Layered::over(below, self.budget.clone())?);
        nodes.insert(path.to_path_buf(), Node::File(file.clone()));
        Ok(file)
    }
}

impl Disk for Overlay {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        Ok(self.open_file(path, create)?)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        // A file that nobody writes needs no layer.
        match self.node(path) {
            None => self.below.open_read(path),
            Some(_) => Ok(self.open_file(path, false)?),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let nodes = self.nodes.lock();
        let mut found: BTreeMap<String, DirEntry> = match self.below.list(dir) {
            Ok(entries) => entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect(),
            Err(_) if matches!(nodes.get(dir), Some(Node::Directory)) => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        for (path, node) in nodes.range(dir.to_path_buf()..).take_while(|(path, _)| path.starts_with(dir)) {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            if parent != dir {
                continue;
            }
            let name = name.to_string_lossy().into_owned();
            let (is_dir, len) = match node {
                Node::Removed => {
                    found.remove(&name);
                    continue;
                }
                Node::Directory => (true, 0),
                Node::File(file) => (false, file.state.lock().len),
            };
            found.insert(name.clone(), DirEntry { name, is_dir, len });
        }
        Ok(found.into_values().collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.node(path).map_or_else(|| self.below.exists(path), |node| !matches!(node, Node::Removed))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.exists(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.nodes.lock().insert(path.to_path_buf(), Node::Removed);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.open_file(from, false)?;
        let mut nodes = self.nodes.lock();
        nodes.insert(from.to_path_buf(), Node::Removed);
        nodes.insert(to.to_path_buf(), Node::File(file));
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        for dir in path.ancestors() {
            if dir.as_os_str().is_empty() || self.exists(dir) {
                break;
            }
            self.nodes.lock().insert(dir.to_path_buf(), Node::Directory);
        }
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn modified_ms(&self, path: &Path) -> io::Result<i64> {
        self.below.modified_ms(path)
    }

    fn usage(&self, path: &Path) -> io::Result<Usage> {
        self.below.usage(path)
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        Ok(Some(Box::new(Guard)))
    }
}

/// A file of pages that were written, over one that was there.
struct Layered {
    below: Option<Arc<dyn File>>,
    state: Mutex<State>,
    budget: Arc<AtomicU64>,
}

struct State {
    len: u64,
    /// Bytes of the file below that still show through.
    shows: u64,
    pages: BTreeMap<u64, Page>,
}

impl Layered {
    fn over(below: Option<Arc<dyn File>>, budget: Arc<AtomicU64>) -> io::Result<Self> {
        let len = below.as_ref().map_or(Ok(0), |file| file.len())?;
        Ok(Self { below, state: Mutex::new(State { len, shows: len, pages: BTreeMap::new() }), budget })
    }

    /// What a page without a copy holds.
    fn original(&self, shows: u64, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        buf.fill(0);
        let there = shows.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while let Some(below) = &self.below
            && done < there
        {
            match below.read_at(offset + done as u64, &mut buf[done..there])? {
                0 => break,
                read => done += read,
            }
        }
        Ok(())
    }

    fn page<'a>(&self, state: &'a mut State, number: u64) -> io::Result<&'a mut Page> {
        let shows = state.shows;
        match state.pages.entry(number) {
            std::collections::btree_map::Entry::Occupied(found) => Ok(found.into_mut()),
            std::collections::btree_map::Entry::Vacant(place) => {
                let take = |left: u64| left.checked_sub(1);
                if self.budget.fetch_update(Relaxed, Relaxed, take).is_err() {
                    return Err(io::Error::other("more would be written than is kept for a trial"));
                }
                let mut page = Box::new([0; PAGE as usize]);
                self.original(shows, number * PAGE, &mut page[..])?;
                Ok(place.insert(page))
            }
        }
    }
}

impl File for Layered {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let state = self.state.lock();
        let wanted = state.len.saturating_sub(offset).min(buf.len() as u64);
        if wanted == 0 {
            return Ok(0);
        }
        self.original(state.shows, offset, &mut buf[..wanted as usize])?;
        let end = offset + wanted;
        for (number, page) in state.pages.range(offset / PAGE..end.div_ceil(PAGE)) {
            let from = (number * PAGE).max(offset);
            let to = ((number + 1) * PAGE).min(end);
            let part = &page[(from - number * PAGE) as usize..(to - number * PAGE) as usize];
            buf[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
        }
        Ok(wanted as usize)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let state = &mut *self.state.lock();
        let end = offset + bytes.len() as u64;
        for number in offset / PAGE..end.div_ceil(PAGE) {
            let from = (number * PAGE).max(offset);
            let to = ((number + 1) * PAGE).min(end);
            let page = self.page(state, number)?;
            page[(from - number * PAGE) as usize..(to - number * PAGE) as usize]
                .copy_from_slice(&bytes[(from - offset) as usize..(to - offset) as usize]);
        }
        state.len = state.len.max(end);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let state = &mut *self.state.lock();
        if len < state.len {
            state.shows = state.shows.min(len);
            state.pages.split_off(&len.div_ceil(PAGE));
            if let Some(page) = state.pages.get_mut(&(len / PAGE)) {
                page[(len % PAGE) as usize..].fill(0);
            }
        }
        state.len = len;
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().len)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    /// The same steps on a real directory and on the overlay of a copy of it.
    #[test]
    fn behaves_as_a_real_disk() {
        let (real, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first: Vec<u8> = (0..10_000u32).map(|number| number as u8).collect();
        for dir in [&real, &copy] {
            std::fs::write(dir.path().join("a"), &first).unwrap();
            std::fs::write(dir.path().join("b"), b"b").unwrap();
            std::fs::write(dir.path().join("cut"), &first).unwrap();
        }
        let overlay = Overlay::new(Arc::new(RealDisk), 1 << 20);
        let steps = |disk: &dyn Disk, root: &Path| {
            let a = disk.open(&root.join("a"), false).unwrap();
            a.write_all_at(4000, &[1; 5000]).unwrap();
            a.set_len(8500).unwrap();
            a.set_len(12_000).unwrap();
            a.write_all_at(12_100, b"end").unwrap();
            let cut = disk.open(&root.join("cut"), false).unwrap();
            cut.set_len(100).unwrap();
            cut.set_len(5000).unwrap();
            disk.create_dir_all(&root.join("c/d")).unwrap();
            disk.open(&root.join("c/d/new"), true).unwrap().write_all_at(5, b"x").unwrap();
            disk.rename(&root.join("b"), &root.join("c/b")).unwrap();
            disk.open(&root.join("gone"), true).unwrap();
            disk.remove(&root.join("gone")).unwrap();
            assert!(disk.remove_dir(&root.join("c")).is_err() && disk.open(&root.join("gone"), false).is_err());
            let mut all = Vec::new();
            for dir in ["", "c", "c/d"] {
                let mut list = disk.list(&root.join(dir)).unwrap();
                list.sort_by(|a, b| a.name.cmp(&b.name));
                for entry in list {
                    let path = root.join(dir).join(&entry.name);
                    assert!(disk.exists(&path));
                    let mut bytes = vec![0; if entry.is_dir { 0 } else { entry.len as usize }];
                    if !entry.is_dir {
                        disk.open_read(&path).unwrap().read_exact_at(0, &mut bytes).unwrap();
                    }
                    all.push((dir, entry.name, entry.is_dir, bytes));
                }
            }
            all
        };
        assert_eq!(steps(&overlay, copy.path()), steps(&RealDisk, real.path()));
        assert_eq!(std::fs::read(copy.path().join("a")).unwrap(), first, "nothing was written");
        assert!(copy.path().join("b").exists() && !copy.path().join("c").exists());
    }

    #[test]
    fn keeps_no_more_than_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = Overlay::new(Arc::new(RealDisk), 2 * PAGE);
        let file = overlay.open(&dir.path().join("f"), true).unwrap();
        file.set_len(1 << 40).unwrap();
        file.write_all_at(0, &[1; 2 * PAGE as usize]).unwrap();
        assert!(file.write_all_at(1 << 30, b"x").is_err());
    }
}
