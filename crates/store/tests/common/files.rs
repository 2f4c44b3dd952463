//! Files of a store, damaged by hand: dropping a store without closing it is a kill, what was written stays.

use std::{
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use store::{Store, StoreConfig};

use super::{open, put};

pub fn segment(root: &Path, base: i64) -> PathBuf {
    root.join(format!("commitlog/{base:020}"))
}

pub fn write(path: &Path, at: u64, bytes: &[u8]) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

pub fn fill(store: &Store, topic: &str, count: i32) {
    for number in 0..count {
        let properties = format!("UNIQ_KEY\x01{topic}-{number}\x02");
        put(store, topic, number % 2, properties.as_bytes(), &number.to_be_bytes());
    }
}

pub fn has_key(store: &Store, topic: &str, number: i32) -> bool {
    store.query(topic, &format!("{topic}-{number}"), 10, 0, i64::MAX).physical_offsets.len() == 1
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => assert!(std::fs::copy(entry.path(), target).is_ok()),
        }
    }
}

pub fn open_again(store: Store, config: &StoreConfig) -> Store {
    drop(store);
    open(config)
}
