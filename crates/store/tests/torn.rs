//! Damaged copies of a killed Java store: what Java recovers from each, and what this store does.

mod common;

use std::{
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use common::{Fixture, data};
use serde_json::Value;

fn int(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

fn segments(root: &Path) -> Vec<(i64, PathBuf, u64)> {
    let dir = std::fs::read_dir(root.join("commitlog")).unwrap();
    let mut found: Vec<_> = dir
        .map(|entry| {
            let entry = entry.unwrap();
            let base = entry.file_name().to_str().unwrap().parse().unwrap();
            (base, entry.path(), entry.metadata().unwrap().len())
        })
        .collect();
    found.sort();
    found
}

/// Sets `length` bytes at a physical offset to 0, over segments.
fn zero(root: &Path, from: i64, length: i64) {
    for (base, path, size) in segments(root) {
        let (begin, end) = (from.max(base), (from.saturating_add(length)).min(base + size as i64));
        if begin < end {
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&vec![0; (end - begin) as usize], (begin - base) as u64).unwrap();
        }
    }
}

fn flip(root: &Path, at: i64) {
    for (base, path, size) in segments(root) {
        if (base..base + size as i64).contains(&at) {
            let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, (at - base) as u64).unwrap();
            file.write_all_at(&[!byte[0]], (at - base) as u64).unwrap();
        }
    }
}

/// The edit language at the head of `Recover.java`.
fn apply(root: &Path, edit: &Value) {
    if let Some(from) = edit.get("zeroFrom") {
        zero(root, int(from), i64::MAX / 2);
    } else if let Some(from) = edit.get("dropFrom") {
        segments(root).iter().filter(|(base, ..)| *base >= int(from)).for_each(|(_, path, _)| {
            std::fs::remove_file(path).unwrap();
        });
        zero(root, int(from), i64::MAX / 2);
    } else if let Some(range) = edit.get("zero") {
        zero(root, int(&range[0]), int(&range[1]));
    } else if let Some(at) = edit.get("flip") {
        flip(root, int(at));
    } else {
        let path = root.join(edit["delete"].as_str().unwrap());
        if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    }
}

#[test]
fn recovers_what_java_recovers() {
    let cuts = std::fs::read_to_string(data("java-5.3.3-torn/cuts.jsonl")).unwrap();
    let mut rows = 0;
    for line in cuts.lines() {
        let cut: Value = serde_json::from_str(line).unwrap();
        let fixture = Fixture::unpack("java-5.3.3-killed");
        cut["edits"].as_array().unwrap().iter().for_each(|edit| apply(&fixture.root(), edit));
        let store = fixture.open().unwrap();
        let (name, want) = (&cut["name"], &cut["recovered"]);
        assert_eq!(store.max_phys(), int(&want["commitLogMaxOffset"]), "{name}");
        for queue in want["queues"].as_array().unwrap() {
            let (topic, queue_id) = (queue["topic"].as_str().unwrap(), int(&queue["queueId"]) as i32);
            let found = (store.min_offset(topic, queue_id), store.max_offset(topic, queue_id));
            assert_eq!(found, (int(&queue["min"]), int(&queue["max"])), "{name}: {topic} {queue_id}");
            for offset in found.0..found.1 {
                let unit = store.queue_unit(topic, queue_id, offset).unwrap();
                assert!(store.read_record(unit.physical_offset).is_some(), "{name}: {topic} {queue_id} {offset}");
            }
        }
        // Nothing of the old tail comes back when the log grows over it.
        let (_, at, _) = common::put(&store, "After", 0, b"", b"after");
        assert_eq!(at, int(&want["commitLogMaxOffset"]), "{name}");
        drop(store);
        let store = fixture.open().unwrap();
        assert_eq!(common::bodies(&store, "After", 0), [b"after"], "{name}");
        assert!(store.read_record(at).is_some() && store.max_phys() > at, "{name}");
        rows += 1;
    }
    assert!(rows >= 8, "{rows}");
}
