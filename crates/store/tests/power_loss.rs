//! Power cuts: what was not synced may be lost, torn or out of order. What the `flushed` mark covered is there, nothing
//! is there that was not written, and log, queues and index agree. Repeat a failure with the printed `TANDEM_SEED`.

mod common;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use common::{Random, bodies, clock_at, message, seed, small};
use store::{Batch, DirEntry, Disk, File, LockGuard, Retention, Store, StoreConfig, Usage};

/// A change of a file that is not synced.
#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Clone, Default)]
struct Content {
    durable: Vec<u8>,
    changes: Vec<Change>,
    now: Vec<u8>,
}

/// A change of a name that is not synced; names become durable in order, as in a journal.
#[derive(Clone)]
enum Naming {
    Create(PathBuf, Arc<Mutex<Content>>),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

type Names = BTreeMap<PathBuf, Arc<Mutex<Content>>>;

#[derive(Default)]
struct State {
    durable: Names,
    now: Names,
    pending: Vec<Naming>,
    /// Operations until the power goes, within an operation of the store.
    countdown: Option<u64>,
    /// What was there at that moment.
    at_the_cut: Option<Box<State>>,
}

/// A disk in memory. Directories exist as soon as they are named.
#[derive(Clone, Default)]
struct MemoryDisk(Arc<Mutex<State>>);

struct MemoryFile(MemoryDisk, Arc<Mutex<Content>>);

struct NoLock;

impl LockGuard for NoLock {}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => bytes.resize(*length as usize, 0),
        Change::Write(at, new) => {
            let end = *at as usize + new.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[*at as usize..end].copy_from_slice(new);
        }
    }
}

fn rename(names: &mut Names, naming: &Naming) {
    match naming {
        Naming::Create(path, content) => drop(names.insert(path.clone(), content.clone())),
        Naming::Remove(path) => drop(names.remove(path)),
        Naming::Rename(from, to) => {
            if let Some(content) = names.remove(from) {
                names.insert(to.clone(), content);
            }
        }
    }
}

impl Content {
    fn change(&mut self, change: Change) {
        apply(&mut self.now, &change);
        self.changes.push(change);
    }

    fn sync(&mut self) {
        self.durable = self.now.clone();
        self.changes.clear();
    }

    /// Each change that was not synced is kept, lost, or kept in part.
    fn lose(&mut self, random: &mut Random) {
        for mut change in std::mem::take(&mut self.changes) {
            if let Change::Write(_, bytes) = &mut change
                && random.below(4) == 0
            {
                bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
            }
            if random.below(3) > 0 {
                apply(&mut self.durable, &change);
            }
        }
        self.now = self.durable.clone();
    }
}

impl State {
    /// A copy that shares nothing.
    fn copy(&self) -> Self {
        let mut copies: BTreeMap<*const Mutex<Content>, Arc<Mutex<Content>>> = BTreeMap::new();
        let mut copy = |content: &Arc<Mutex<Content>>| {
            let fresh = || Arc::new(Mutex::new(content.lock().unwrap().clone()));
            copies.entry(Arc::as_ptr(content)).or_insert_with(fresh).clone()
        };
        let mut names = |names: &Names| names.iter().map(|(path, content)| (path.clone(), copy(content))).collect();
        let (durable, now) = (names(&self.durable), names(&self.now));
        let pending = self.pending.iter().map(|naming| match naming {
            Naming::Create(path, content) => Naming::Create(path.clone(), copy(content)),
            other => other.clone(),
        });
        Self { durable, now, pending: pending.collect(), ..Self::default() }
    }
}

impl MemoryDisk {
    /// The power goes after `operations` more.
    fn cut_after(&self, operations: u64) {
        let mut state = self.0.lock().unwrap();
        (state.countdown, state.at_the_cut) = (Some(operations), None);
    }

    /// The disk at the moment of the cut; as it is now if that did not come.
    fn at_the_cut(&self) -> Self {
        let mut state = self.0.lock().unwrap();
        state.countdown = None;
        match state.at_the_cut.take() {
            Some(cut) => Self(Arc::new(Mutex::new(*cut))),
            None => self.clone(),
        }
    }

    /// Counts an operation that changes something.
    fn tick(&self) {
        let mut state = self.0.lock().unwrap();
        match state.countdown {
            Some(0) => {
                state.at_the_cut = Some(Box::new(state.copy()));
                state.countdown = None;
            }
            Some(left) => state.countdown = Some(left - 1),
            None => {}
        }
    }

    fn name(&self, naming: Naming) {
        self.tick();
        let mut state = self.0.lock().unwrap();
        rename(&mut state.now, &naming);
        state.pending.push(naming);
    }

    /// What is on the disk after the power came back.
    fn after_power_loss(&self, random: &mut Random) -> Self {
        let mut state = self.0.lock().unwrap();
        let kept = random.below(state.pending.len() as u64 + 1) as usize;
        let pending = std::mem::take(&mut state.pending);
        pending[..kept].iter().for_each(|naming| rename(&mut state.durable, naming));
        let names = state.durable.clone();
        names.values().for_each(|content| content.lock().unwrap().lose(random));
        Self(Arc::new(Mutex::new(State { durable: names.clone(), now: names, ..State::default() })))
    }
}

impl File for MemoryFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let content = self.1.lock().unwrap();
        let rest = content.now.get(offset as usize..).unwrap_or(&[]);
        let length = rest.len().min(buf.len());
        buf[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.tick();
        self.1.lock().unwrap().change(Change::Write(offset, bytes.to_vec()));
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.tick();
        self.1.lock().unwrap().change(Change::Length(len));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.1.lock().unwrap().now.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.tick();
        self.1.lock().unwrap().sync();
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let found = self.0.lock().unwrap().now.get(path).cloned();
        let content = match found {
            Some(content) => content,
            None if !create => return Err(io::ErrorKind::NotFound.into()),
            None => {
                let content = Arc::<Mutex<Content>>::default();
                self.name(Naming::Create(path.to_path_buf(), content.clone()));
                content
            }
        };
        Ok(Arc::new(MemoryFile(self.clone(), content)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.0.lock().unwrap();
        let mut found: BTreeMap<String, DirEntry> = BTreeMap::new();
        for (path, content) in &state.now {
            let Ok(below) = path.strip_prefix(dir) else { continue };
            let mut parts = below.components();
            let name = parts.next().unwrap().as_os_str().to_str().unwrap().to_owned();
            let is_dir = parts.next().is_some();
            let len = content.lock().unwrap().now.len() as u64;
            found.insert(name.clone(), DirEntry { name, is_dir, len });
        }
        Ok(found.into_values().collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.lock().unwrap().now.keys().any(|name| name.starts_with(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.name(Naming::Remove(path.to_path_buf()));
        Ok(())
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.name(Naming::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Names directly in the directory become durable, and with them all changes before the last of them.
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.tick();
        let mut state = self.0.lock().unwrap();
        let concerns = |naming: &Naming| match naming {
            Naming::Create(name, _) | Naming::Remove(name) | Naming::Rename(_, name) => name.parent() == Some(path),
        };
        let count = state.pending.iter().rposition(concerns).map_or(0, |last| last + 1);
        let durable: Vec<Naming> = state.pending.drain(..count).collect();
        durable.iter().for_each(|naming| rename(&mut state.durable, naming));
        Ok(())
    }

    fn modified_ms(&self, _: &Path) -> io::Result<i64> {
        Ok(0)
    }

    fn usage(&self, _: &Path) -> io::Result<Usage> {
        Ok(Usage { total: 1, free: 1, available: 1 })
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        Ok(Some(Box::new(NoLock)))
    }
}

/// Everything that was appended and not cut: topic, queue, place, end, body.
type Written = Vec<(usize, i32, i64, i64, Vec<u8>)>;

const TOPICS: [&str; 3] = ["A", "B", "C"];

fn append(store: &Store, written: &mut Written, random: &mut Random) {
    let mut batch = Batch::new();
    let first = written.len();
    for number in 0..=random.below(5) {
        let (topic, queue_id) = (random.below(3) as usize, random.below(2) as i32);
        let body: Vec<u8> = (0..random.below(500)).map(|_| random.next() as u8).collect();
        let key = format!("UNIQ_KEY\x01{}-{}\x02", first as u64 + number, store.max_phys());
        batch.push(&message(TOPICS[topic], queue_id, key.as_bytes(), &body)).unwrap();
        written.push((topic, queue_id, 0, 0, body));
    }
    store.append(&mut batch).unwrap();
    for (entry, written) in batch.entries().iter().zip(&mut written[first..]) {
        (written.2, written.3) = (entry.physical_offset, entry.end());
    }
}

/// Log and queues hold exactly the messages of a log that ends where this one ends.
fn check(store: &Store, written: &Written, durable_end: i64) {
    let (min, end) = (store.min_phys(), store.max_phys());
    assert!(end >= durable_end, "durable up to {durable_end}, found {end}");
    assert_eq!(store.marks().dispatched.get(), end);
    for (number, topic) in TOPICS.iter().enumerate() {
        for queue_id in 0..2 {
            let mine = written.iter().filter(|(of, id, ..)| (*of, *id) == (number, queue_id));
            let mine: Vec<_> = mine.filter(|(_, _, _, to, _)| *to <= end).collect();
            assert_eq!(store.max_offset(topic, queue_id), mine.len() as i64, "{topic} {queue_id}");
            let kept = mine.iter().filter(|(_, _, at, ..)| *at >= min);
            let want: Vec<&Vec<u8>> = kept.map(|(.., body)| body).collect();
            let found = bodies(store, topic, queue_id);
            let same = found.iter().zip(&want).take_while(|(found, want)| found == *want).count();
            assert_eq!((same, found.len()), (want.len(), want.len()), "{topic} {queue_id} from message {same} on");
        }
    }
    for (topic, _, at, to, _) in written.iter().filter(|(_, _, at, to, _)| *at >= min && *to <= end) {
        let bytes = store.read_record(*at).unwrap();
        let record = wire::record::RecordView::layout(&bytes).unwrap();
        assert_eq!(record.size() as i64, to - at);
        let key = record.property("UNIQ_KEY").unwrap();
        let found = store.query(TOPICS[*topic], key, 64, 0, i64::MAX).physical_offsets;
        assert!(found.contains(at), "key {key} at {at}, found {found:?}");
    }
}

/// What is cut never comes back.
fn truncate(store: &Store, written: &mut Written, random: &mut Random) {
    let back = random.below(written.len().min(12) as u64 + 1) as usize;
    let Some((_, _, at, ..)) = written.get(written.len() - back).cloned() else { return };
    if at < store.min_phys() {
        return;
    }
    store.truncate(at).unwrap();
    written.truncate(written.len() - back);
}

fn retain(store: &Store, random: &mut Random) {
    let max_segments = random.below(3) as usize;
    let retention = Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments };
    store.delete_expired(retention).unwrap();
}

fn step(store: &Store, written: &mut Written, random: &mut Random) {
    match random.below(22) {
        0..10 => append(store, written, random),
        10..15 => drop(store.dispatch()),
        15..18 => drop(store.flush().unwrap()),
        18 => store.flush_queues().unwrap(),
        19 => store.flush_queues().and_then(|()| store.persist_checkpoint()).unwrap(),
        20 => truncate(store, written, random),
        _ => retain(store, random),
    }
}

/// Works until the power goes, mostly in the middle of a step; returns what must survive, and what may.
fn work(store: &Store, disk: &MemoryDisk, mut written: Written, random: &mut Random) -> (i64, Written) {
    for _ in 0..random.below(60) {
        step(store, &mut written, random);
    }
    let (durable_end, before) = (store.marks().flushed.get(), written.clone());
    disk.cut_after(random.below(30));
    match random.below(8) {
        0 => store.close().unwrap(),
        1 => truncate(store, &mut written, random),
        _ => step(store, &mut written, random),
    }
    // A truncation may have happened or not; anything else only adds.
    let may = if written.len() < before.len() { before } else { written };
    (durable_end.min(store.max_phys()), may)
}

fn open(config: &StoreConfig, disk: &MemoryDisk, now_ms: i64) -> Store {
    Store::open(config.clone(), Arc::new(disk.clone()), clock_at(now_ms)).unwrap()
}

#[test]
fn nothing_durable_is_lost_and_nothing_else_is_found() {
    let first = seed();
    let rounds = std::env::var("TANDEM_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(30);
    for seed in (0..rounds).map(|round| first.wrapping_add(round)) {
        println!("TANDEM_SEED={seed}");
        let mut random = Random(seed);
        let (mut disk, mut written, mut now_ms) = (MemoryDisk::default(), Written::new(), 1_000_000);
        let config = StoreConfig { sync_flush: seed % 2 == 0, ..small(Path::new("/memory")) };
        for _ in 0..12 {
            let store = open(&config, &disk, now_ms);
            let durable_end;
            (durable_end, written) = work(&store, &disk, written, &mut random);
            now_ms += random.below(10_000) as i64;
            drop(store);
            disk = disk.at_the_cut().after_power_loss(&mut random);
            while random.below(3) == 0 {
                // Once more, during recovery.
                disk.cut_after(random.below(100));
                drop(open(&config, &disk, now_ms));
                disk = disk.at_the_cut().after_power_loss(&mut random);
            }
            let store = open(&config, &disk, now_ms);
            check(&store, &written, durable_end);
            let end = store.max_phys();
            written.retain(|(_, _, _, to, _)| *to <= end);
        }
    }
}
