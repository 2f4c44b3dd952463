//! A disk in memory, the files of a store as one string of bytes, and what must hold for a store opened on them.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use store::{Batch, Clock, DirEntry, Disk, EveryMessage, File, LockGuard, Store, StoreConfig, StoreError, Usage};
use wire::{record::RecordView, record_encode::NewRecord};

pub const ROOT: &str = "/fuzz";
const SEGMENT: usize = 4096;
/// Each file that an input may hold, with its proper size.
pub const FILES: [(&str, usize); 14] = [
    ("commitlog/00000000000000000000", SEGMENT),
    ("commitlog/00000000000000004096", SEGMENT),
    ("commitlog/00000000000000008192", SEGMENT),
    ("consumequeue/T/0/00000000000000000000", 200),
    ("consumequeue/T/0/00000000000000000200", 200),
    ("consumequeue/T/1/00000000000000000400", 200),
    ("batchconsumequeue/B/0/00000000000000000000", 460),
    ("batchconsumequeue/B/0/00000000000000000460", 460),
    ("index/20200101000000000", INDEX),
    ("index/20200101000000001", INDEX),
    ("checkpoint", 4096),
    ("abort", 4),
    ("deletedTopics", 0),
    ("consumequeue/B/0/00000000000000000000", 200),
];
const INDEX: usize = 40 + 4 * 16 + 20 * 20;
/// Added to a file's number: it is filled with zeros to its proper size.
pub const WHOLE: u8 = 0x80;

type Content = Arc<Mutex<Vec<u8>>>;

/// Directories exist as soon as something is in them.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<BTreeMap<PathBuf, Content>>>);

struct MemoryFile(Content);

struct NoLock;

impl LockGuard for NoLock {}

pub struct Still;

impl Clock for Still {
    fn now_ms(&self) -> i64 {
        1_600_000_000_000
    }
}

impl File for MemoryFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.0.lock().unwrap();
        let rest = bytes.get(offset as usize..).unwrap_or(&[]);
        let length = rest.len().min(buf.len());
        buf[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_all_at(&self, offset: u64, new: &[u8]) -> io::Result<()> {
        let mut bytes = self.0.lock().unwrap();
        let end = offset as usize + new.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset as usize..end].copy_from_slice(new);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let mut files = self.0.lock().unwrap();
        match files.get(path) {
            Some(content) => Ok(Arc::new(MemoryFile(content.clone()))),
            None if !create => Err(io::ErrorKind::NotFound.into()),
            None => Ok(Arc::new(MemoryFile(files.entry(path.to_path_buf()).or_default().clone()))),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut found = BTreeMap::new();
        for (path, content) in self.0.lock().unwrap().iter() {
            let Ok(below) = path.strip_prefix(dir) else { continue };
            let mut parts = below.components();
            let Some(name) = parts.next() else { continue };
            let name = name.as_os_str().to_str().unwrap().to_owned();
            let is_dir = parts.next().is_some();
            found.insert(name.clone(), DirEntry { name, is_dir, len: content.lock().unwrap().len() as u64 });
        }
        Ok(found.into_values().collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.lock().unwrap().keys().any(|name| name.starts_with(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().unwrap().remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        let content = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_path_buf(), content);
        Ok(())
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn modified_ms(&self, _: &Path) -> io::Result<i64> {
        Ok(0)
    }

    fn usage(&self, _: &Path) -> io::Result<Usage> {
        Ok(Usage { total: 1 << 50, free: 1 << 50, available: 1 << 50 })
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        Ok(Some(Box::new(NoLock)))
    }
}

impl MemoryDisk {
    /// What a file holds; nothing when it is not there.
    pub fn content(&self, name: &str) -> Vec<u8> {
        let files = self.0.lock().unwrap();
        files.get(&Path::new(ROOT).join(name)).map(|content| content.lock().unwrap().clone()).unwrap_or_default()
    }

    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        self.0.lock().unwrap().insert(Path::new(ROOT).join(name), Arc::new(Mutex::new(bytes)));
    }

    /// The files that `input` describes.
    pub fn from_input(input: &[u8]) -> Self {
        let disk = Self::default();
        disk.put_all(input, &FILES);
        disk
    }

    /// Puts some of `files` there as `input` describes them: number, length in two bytes, content, again and again.
    pub fn put_all(&self, mut input: &[u8], files: &[(&str, usize)]) {
        while let [number, low, high, rest @ ..] = input {
            let (name, size) = files[usize::from(number & !WHOLE) % files.len()];
            let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
            let mut bytes = rest[..length].to_vec();
            if number & WHOLE != 0 {
                bytes.resize(size, 0);
            }
            self.put(name, bytes);
            input = &rest[length..];
        }
    }

    /// What [`MemoryDisk::put_all`] makes these files of.
    pub fn describe(&self, files: &[(&str, usize)]) -> Vec<u8> {
        let mut input = Vec::new();
        for (number, (name, _)) in files.iter().enumerate() {
            let bytes = self.content(name);
            if !bytes.is_empty() {
                let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                input.push(number as u8 | WHOLE);
                input.extend_from_slice(&(end as u16).to_le_bytes());
                input.extend_from_slice(&bytes[..end]);
            }
        }
        input
    }
}

pub fn config() -> StoreConfig {
    StoreConfig {
        root: ROOT.into(),
        segment_size: SEGMENT as u64,
        queue_segment_size: 200,
        batch_queue_segment_size: 460,
        max_hash_slots: 16,
        max_index: 20,
        batch_queue_topics: Some(Arc::new(|topic| topic == "B")),
        ..StoreConfig::default()
    }
}

pub fn open(disk: &MemoryDisk) -> Option<Store> {
    Store::open(config(), Arc::new(disk.clone()), Arc::new(Still)).ok()
}

pub fn message<'a>(topic: &'a str, properties: &'a [u8], body: &'a [u8]) -> NewRecord<'a> {
    NewRecord {
        topic,
        queue_id: 0,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: ([10, 0, 0, 1], 5000).into(),
        store_host: ([10, 0, 0, 2], 10911).into(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        properties,
        body,
    }
}

/// Opens a store on the files: either it says why not, or it serves records of these files only, takes a message, and
/// still has that after another start.
pub fn check(disk: &MemoryDisk) {
    let log: BTreeMap<i64, Vec<u8>> =
        FILES[..3].iter().map(|(name, _)| (name[10..].parse().unwrap(), disk.content(name))).collect();
    let Some(store) = open(disk) else { return };
    for (topic, queue_id) in store.queues() {
        let (mut next, max) = (store.min_offset(&topic, queue_id), store.max_offset(&topic, queue_id));
        assert!(next <= max, "{topic} {queue_id}: {next} to {max}");
        for _ in 0..64 {
            let got = store.get_messages(&topic, queue_id, next, 32, &EveryMessage);
            got.places.iter().for_each(|(at, _)| is_of_the_log(&got.messages[*at..], &log));
            if got.next_begin_offset <= next {
                break;
            }
            next = got.next_begin_offset;
        }
        let _ = store.offset_by_time(&topic, queue_id, 1_600_000_000_000, store::Boundary::Lower);
    }
    for key in ["k0", "k1", "k9"] {
        let found = store.query("T", key, 64, 0, i64::MAX);
        assert!(found.physical_offsets.len() <= 64);
    }
    let mut batch = Batch::new();
    batch.push(&message("T", b"UNIQ_KEY\x01new\x02", b"new")).unwrap();
    store.append(&mut batch).unwrap();
    store.dispatch();
    let at = batch.entries()[0].physical_offset;
    store.close().unwrap();
    drop(store);
    // Damage below what is durable by now is refused, not cut: FORMAT.md, "Recovery".
    let store = match Store::open(config(), Arc::new(disk.clone()), Arc::new(Still)) {
        Err(StoreError::Damaged { .. }) => return,
        opened => opened.expect("what was closed opens"),
    };
    assert!(store.read_record(at).is_some_and(|bytes| RecordView::layout(&bytes).unwrap().body() == b"new"));
}

fn is_of_the_log(bytes: &[u8], log: &BTreeMap<i64, Vec<u8>>) {
    let size = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
    let record = RecordView::layout(&bytes[..size]).expect("a record");
    let (base, segment) = log.range(..=record.physical_offset()).next_back().expect("a segment");
    let from = (record.physical_offset() - base) as usize;
    assert_eq!(segment.get(from..from + size), Some(&bytes[..size]), "a message that was not in the log");
}
