//! Small stores for the tests of `tandem store`, and the command as an operator runs it.
#![allow(dead_code, missing_docs)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use store::{Batch, Clock, RealDisk, Store, StoreConfig};
use wire::record_encode::NewRecord;

pub struct Noon;

impl Clock for Noon {
    fn now_ms(&self) -> i64 {
        1_700_000_000_000
    }
}

pub fn config(root: &Path) -> StoreConfig {
    StoreConfig {
        root: root.to_path_buf(),
        segment_size: 4096,
        queue_segment_size: 200,
        max_hash_slots: 64,
        max_index: 40,
        ..StoreConfig::default()
    }
}

pub fn open(root: &Path) -> Store {
    Store::open(config(root), Arc::new(RealDisk), Arc::new(Noon)).unwrap()
}

/// Appends one message, its views built; returns its place in the log.
pub fn put(store: &Store, topic: &str, queue_id: i32, key: &str, body: &[u8]) -> i64 {
    let mut properties = Vec::new();
    wire::property::push(&mut properties, "KEYS", key);
    let record = NewRecord {
        topic,
        queue_id,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1_600_000_000_000,
        born_host: "10.0.0.1:5000".parse().unwrap(),
        store_host: "10.0.0.2:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        properties: &properties,
        body,
    };
    let mut batch = Batch::new();
    batch.push(&record).unwrap();
    store.append(&mut batch).unwrap();
    store.dispatch();
    batch.entries()[0].physical_offset
}

/// A store of three segments that was stopped cleanly: 40 messages in two queues of topic `T`.
pub fn sound(root: &Path) -> Vec<i64> {
    let store = open(root);
    let put =
        |number: i32| put(&store, "T", number % 2, &format!("k{number}"), format!("body {number:080}").as_bytes());
    let places = (0..40).map(put).collect();
    store.close().unwrap();
    places
}

pub fn tandem(args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.env_remove("RUST_LOG").arg("store").args(args).arg(dir).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Content of all files below a directory.
pub fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => found.extend(content(&entry)),
            false => drop(found.insert(entry.clone(), std::fs::read(&entry).unwrap())),
        }
    }
    found
}

pub fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    std::fs::write(path, bytes).unwrap();
}
