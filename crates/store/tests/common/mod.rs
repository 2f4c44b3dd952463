//! What the tests of the store share: fixtures of Java brokers, a clock that is set by hand, small messages.
#![allow(dead_code, missing_docs)]

pub mod damage;

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use serde_json::Value;
use store::{
    Batch, Clock, RealDisk, Store, StoreConfig, StoreError,
    inspect::{StoreView, Verified, ViewOptions, Watch, verify},
};
use wire::record_encode::NewRecord;

pub mod asking_disk;
pub mod files;
pub mod over_real_disk;
pub mod small_disk;
pub mod timer_node;

/// Nobody watches.
pub struct Still;

impl Watch for Still {
    fn progress(&mut self, done: u64, total: u64) {
        assert!(done <= total);
    }
    fn pause(&mut self) {}
}

/// What `verify` finds in a store.
pub fn verified(root: &Path, options: &ViewOptions) -> Verified {
    let view = StoreView::open(Arc::new(RealDisk), root, options.clone()).unwrap();
    verify(&view, &mut Still).unwrap()
}

/// `verify` finds nothing.
pub fn assert_sound(root: &Path, options: &ViewOptions, when: &str) {
    let found = verified(root, options);
    assert!(found.findings.is_empty(), "{when}: {:?}", found.findings.list());
}

pub struct HandClock(pub AtomicI64);

impl Clock for HandClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub fn clock_at(now_ms: i64) -> Arc<HandClock> {
    Arc::new(HandClock(AtomicI64::new(now_ms)))
}

/// A store made by a Java broker, unpacked into a directory that goes with it.
pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub config: StoreConfig,
    pub expected: Value,
}

pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

impl Fixture {
    pub fn unpack(name: &str) -> Self {
        let from = data(name);
        let dir = tempfile::tempdir().unwrap();
        let packed = std::fs::File::open(from.join("store.tar.zst")).unwrap();
        let mut plain = ruzstd::decoding::StreamingDecoder::new(packed).unwrap();
        let mut bytes = Vec::new();
        plain.read_to_end(&mut bytes).unwrap();
        tar::Archive::new(&bytes[..]).unpack(dir.path()).unwrap();
        let config = config_of(&from.join("broker.conf"), &dir.path().join("store"));
        let expected = serde_json::from_slice(&std::fs::read(from.join("expected.json")).unwrap()).unwrap();
        Self { dir, config, expected }
    }

    pub fn root(&self) -> PathBuf {
        self.config.root.clone()
    }

    pub fn open(&self) -> Result<Store, StoreError> {
        Store::open(self.config.clone(), Arc::new(RealDisk), clock_at(1_800_000_000_000))
    }
}

fn config_of(conf: &Path, root: &Path) -> StoreConfig {
    let text = std::fs::read_to_string(conf).unwrap();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{key} is missing")).to_owned()
    };
    let number = |key: &str| value(key).parse::<u64>().unwrap();
    StoreConfig {
        root: root.to_path_buf(),
        segment_size: number("mappedFileSizeCommitLog"),
        queue_segment_size: number("mappedFileSizeConsumeQueue"),
        batch_queue_segment_size: number("mapperFileSizeBatchConsumeQueue"),
        max_hash_slots: number("maxHashSlotNum") as u32,
        max_index: number("maxIndexNum") as u32,
        delay_levels_ms: value("messageDelayLevel").split(' ').map(level_ms).collect(),
        batch_queue_topics: Some(Arc::new(|topic| topic == "CorpusBcq")),
        ..StoreConfig::default()
    }
}

fn level_ms(level: &str) -> i64 {
    let (number, unit) = level.split_at(level.len() - 1);
    let unit = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        other => panic!("unit {other}"),
    };
    number.parse::<i64>().unwrap() * unit
}

/// Small files, so that everything rolls.
pub fn small(root: &Path) -> StoreConfig {
    StoreConfig {
        root: root.to_path_buf(),
        segment_size: 4096,
        queue_segment_size: 200,
        batch_queue_segment_size: 460,
        max_hash_slots: 64,
        max_index: 40,
        max_open_queue_files: 4,
        // Units are in the files at once, where tests look for them and damage them.
        queue_gathers: 0,
        ..StoreConfig::default()
    }
}

pub fn open(config: &StoreConfig) -> Store {
    open_at(config, 1_000_000)
}

pub fn open_at(config: &StoreConfig, now_ms: i64) -> Store {
    Store::open(config.clone(), Arc::new(RealDisk), clock_at(now_ms)).unwrap()
}

pub fn message<'a>(topic: &'a str, queue_id: i32, properties: &'a [u8], body: &'a [u8]) -> NewRecord<'a> {
    NewRecord {
        topic,
        queue_id,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: "10.0.0.1:5000".parse().unwrap(),
        store_host: "10.0.0.2:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        properties,
        body,
    }
}

/// Appends one message and dispatches; returns (queue offset, physical offset, end).
pub fn put(store: &Store, topic: &str, queue_id: i32, properties: &[u8], body: &[u8]) -> (i64, i64, i64) {
    let mut batch = Batch::new();
    batch.push(&message(topic, queue_id, properties, body)).unwrap();
    store.append(&mut batch).unwrap();
    store.dispatch();
    let entry = &batch.entries()[0];
    (entry.queue_offset, entry.physical_offset, entry.end())
}

/// Bodies of a queue's messages from its first to its last.
pub fn bodies(store: &Store, topic: &str, queue_id: i32) -> Vec<Vec<u8>> {
    let (mut next, max) = (store.min_offset(topic, queue_id), store.max_offset(topic, queue_id));
    let mut bodies = Vec::new();
    while next < max {
        let got = store.get_messages(topic, queue_id, next, 32, &store::EveryMessage);
        bodies.extend(records(&got.messages).into_iter().map(|(_, body)| body));
        assert!(got.next_begin_offset > next, "stuck at {next}: {:?}", got.status);
        next = got.next_begin_offset;
    }
    bodies
}

/// Queue offset and body of records back to back.
pub fn records(mut bytes: &[u8]) -> Vec<(i64, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let wire::record::Check::Record(record) = wire::record::check(bytes, true) else { panic!("no record") };
        found.push((record.queue_offset(), record.body().to_vec()));
        bytes = &bytes[record.size()..];
    }
    found
}

/// `TANDEM_SEED`, or one from the clock; printed, so that a failure can be repeated.
pub fn seed() -> u64 {
    let seed = std::env::var("TANDEM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
    });
    println!("TANDEM_SEED={seed}");
    seed
}

/// Small deterministic generator (SplitMix64).
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
