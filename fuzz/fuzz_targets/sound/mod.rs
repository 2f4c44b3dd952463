//! The files of a sound store, as an input.

use store::Batch;
use wire::{record_encode::NewRecord, sys_flag};

use crate::memory::{FILES, MemoryDisk, message, open};

/// Messages in a plain and in a batch queue, over two segments, stopped cleanly.
pub fn input() -> Vec<u8> {
    let disk = MemoryDisk::default();
    let store = open(&disk).expect("an empty directory");
    for number in 0..12u8 {
        let mut batch = Batch::new();
        let properties = format!("UNIQ_KEY\x01k{number}\x02TAGS\x01a\x02");
        batch.push(&message("T", properties.as_bytes(), &vec![number; usize::from(number) * 20])).unwrap();
        let body = [number; 30];
        let many = message("B", b"INNER_NUM\x013\x02", &body);
        batch.push(&NewRecord { sys_flag: sys_flag::INNER_BATCH, ..many }).unwrap();
        store.append(&mut batch).unwrap();
        store.dispatch();
    }
    store.close().unwrap();
    disk.describe(&FILES)
}
