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
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Default)]
struct Content {
    durable: Vec<u8>,
    changes: Vec<Change>,
    now: Vec<u8>,
}

/// A change of a name that is not synced; names become durable in order, as in a journal.
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
}

/// A disk in memory. Directories exist as soon as they are named.
#[derive(Clone, Default)]
struct MemoryDisk(Arc<Mutex<State>>);

struct MemoryFile(Arc<Mutex<Content>>);

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

impl MemoryDisk {
    fn name(&self, naming: Naming) {
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
        Self(Arc::new(Mutex::new(State { durable: names.clone(), now: names, pending: Vec::new() })))
    }
}

impl File for MemoryFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let content = self.0.lock().unwrap();
        let rest = content.now.get(offset as usize..).unwrap_or(&[]);
        let length = rest.len().min(buf.len());
        buf[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().change(Change::Write(offset, bytes.to_vec()));
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().change(Change::Length(len));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.lock().unwrap().sync();
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
        Ok(Arc::new(MemoryFile(content)))
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
            if store.max_offset(topic, queue_id) != mine.len() as i64 {
                for o in 0..store.max_offset(topic, queue_id) { println!("unit {o} {:?}", store.queue_unit(topic, queue_id, o)); }
                for w in &mine { println!("want {} {}", w.2, w.3); }
                println!("end {end} {:?} min {} {min}", store.checkpoint(), store.min_offset(topic, queue_id));
            }
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
    store.truncate(at).unwrap(); println!("truncate {at}");
    written.truncate(written.len() - back);
}

fn retain(store: &Store, random: &mut Random) {
    let max_segments = random.below(3) as usize;
    let retention = Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments };
    store.delete_expired(retention).unwrap();
}

fn work(store: &Store, written: &mut Written, random: &mut Random) {
    for _ in 0..random.below(60) {
        match random.below(22) {
            21 => retain(store, random),
            20 => truncate(store, written, random),
            0..10 => append(store, written, random),
            10..15 => drop(store.dispatch()),
            15..18 => drop(store.flush().unwrap()),
            18 => store.flush_queues().unwrap(),
            _ => store.flush_queues().and_then(|()| store.persist_checkpoint()).unwrap(),
        }
    }
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
        println!("new");
        for _ in 0..12 {
            let store = open(&config, &disk, now_ms);
            work(&store, &mut written, &mut random);
            now_ms += random.below(10_000) as i64;
            let durable_end = store.marks().flushed.get();
            if random.below(5) == 0 {
                store.close().unwrap();
            }
            drop(store);
            disk = disk.after_power_loss(&mut random);
            while random.below(4) == 0 {
                drop(open(&config, &disk, now_ms));
                disk = disk.after_power_loss(&mut random);
            }
            let store = open(&config, &disk, now_ms);
            check(&store, &written, durable_end);
            let end = store.max_phys();
            written.retain(|(_, _, _, to, _)| *to <= end);
        }
    }
}
