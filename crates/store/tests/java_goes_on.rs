//! Stores that go from a Java broker to this one and back: what a Java broker does with them, and what it leaves.

mod common;

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering::SeqCst},
};

use common::{
    clock_at,
    files::{fill, has_key, write},
    open, put, small,
};
use store::{RealDisk, Store, StoreConfig, inspect};

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Files of `dir` by name.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> =
        entries.map(|it| (it.file_name().into_string().unwrap(), std::fs::read(it.path()).unwrap())).collect();
    files.sort();
    files
}

/// Where `CommitLog.recoverAbnormally` begins to dispatch: the last segment whose first record is three seconds older
/// than the checkpoint's first two times, else the first one.
fn dispatches_from(root: &Path) -> i64 {
    let checkpoint = std::fs::read(root.join("checkpoint")).unwrap();
    let time = i64_at(&checkpoint, 0).min(i64_at(&checkpoint, 8)) - 3000;
    let segments = files(&root.join("commitlog"));
    let found = segments.iter().rfind(|(_, bytes)| i64_at(bytes, 56) > 0 && i64_at(bytes, 56) <= time);
    found.unwrap_or(&segments[0]).0.parse().unwrap()
}

/// What `IndexService.load` leaves of the index after a kill: files whose header ends no later than the checkpoint says.
/// Returns where the last of them ends.
fn index_kept_to(root: &Path) -> i64 {
    let checkpoint = std::fs::read(root.join("checkpoint")).unwrap();
    let index = files(&root.join("index"));
    let kept = index.iter().take_while(|(_, bytes)| i64_at(bytes, 8) <= i64_at(&checkpoint, 16));
    kept.last().map_or(0, |(_, bytes)| i64_at(bytes, 24))
}

/// It deletes index files that the checkpoint does not prove. Their keys are found again if it reads the log from before
/// their first record.
#[test]
fn a_java_broker_that_goes_on_after_a_kill_indexes_again_what_it_deletes() {
    // With 39 entries a file and about 25 records a segment each moment of both is met.
    for flushed in 1..130 {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock_at(1_000_000);
        let store = Store::open(small(dir.path()), Arc::new(RealDisk), clock.clone()).unwrap();
        let mut places = Vec::new();
        for number in 0..140 {
            clock.0.store(1_000_000 + number * 1000, SeqCst);
            places.push(put(&store, "T", 0, format!("UNIQ_KEY\x01T-{number}\x02").as_bytes(), b"body").1);
            if number == flushed {
                store.flush_queues().unwrap();
                store.persist_checkpoint().unwrap();
            }
        }
        let (kept, from) = (index_kept_to(dir.path()), dispatches_from(dir.path()));
        let lost = places.iter().filter(|place| **place > kept && **place < from).count();
        assert_eq!(lost, 0, "flushed after {flushed}: kept to {kept}, dispatches from {from}");
    }
}

/// A Java broker that stops proves the whole log, and leaves the index file that it was filling.
#[test]
fn a_kill_before_the_first_flush_of_a_store_that_java_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock_at(1_000_000);
    let open = || Store::open(small(dir.path()), Arc::new(RealDisk), clock.clone()).unwrap();
    let store = open();
    let put_one = |number: i64| {
        clock.0.store(1_000_000 + number * 1000, SeqCst);
        put(&store, "T", 0, format!("UNIQ_KEY\x01T-{number}\x02").as_bytes(), b"body").1
    };
    let places: Vec<_> = (0..116).map(put_one).collect();
    store.close().unwrap();
    let path = dir.path().join("checkpoint");
    let mut as_java = std::fs::read(&path).unwrap();
    as_java.copy_within(8..16, 0);
    std::fs::write(&path, &as_java).unwrap();
    assert!(dispatches_from(dir.path()) > places[78], "the file that begins there is the last one");
    let store = open();
    store.close().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), as_java, "a clean start and stop change nothing");
    drop(open());
    assert_eq!(index_kept_to(dir.path()), places[77]);
    assert!(dispatches_from(dir.path()) <= places[78]);
}

fn verifies(root: &Path, what: &str) {
    let found = common::verified(root, &inspect::ViewOptions::default());
    assert!(found.findings.is_empty(), "{what}: {:?}", found.findings.counts());
}

/// They count entries where later ones count used slots. The second file was begun by this broker.
#[test]
fn index_files_of_old_java_brokers_tell_their_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&small(dir.path()));
    fill(&store, "T", 100);
    store.close().unwrap();
    drop(store);
    for (number, (name, bytes)) in files(&dir.path().join("index")).into_iter().enumerate() {
        let [used, next] = [32, 36].map(|at| i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()));
        let counted = if number == 1 { (used + next) / 2 } else { next - 1 };
        write(&dir.path().join("index").join(name), 32, &counted.to_be_bytes());
    }
    verifies(dir.path(), "with other counts");
    for (max_hash_slots, max_index) in [(128, 90), (10, 20), (14, 90)] {
        let store = open(&StoreConfig { max_hash_slots, max_index, ..small(dir.path()) });
        assert!((0..100).all(|number| has_key(&store, "T", number)), "{max_hash_slots} {max_index}");
        store.close().unwrap();
    }
}

/// Neither broker leaves a short file; Java extends it with zeros.
#[test]
fn an_index_file_cut_short_after_a_clean_stop_is_made_again() {
    for (number, left) in [(0, 500), (1, 0), (1, 39), (1, 700), (2, 296), (2, 1095)] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&small(dir.path()));
        fill(&store, "T", 100);
        store.close().unwrap();
        drop(store);
        let index = dir.path().join("index");
        let path = index.join(&files(&index)[number].0);
        std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(left).unwrap();
        let store = open(&small(dir.path()));
        assert!((0..100).all(|number| has_key(&store, "T", number)), "{left} bytes of file {number}");
        store.close().unwrap();
        drop(store);
        verifies(dir.path(), &format!("{left} bytes of file {number}"));
    }
}

/// A Java broker in controller mode builds queues and index from the confirmed offset of the checkpoint on, whatever is there
/// already: of an older one each key would be found twice.
#[test]
fn the_checkpoint_confirms_what_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let confirmed = || i64_at(&std::fs::read(dir.path().join("checkpoint")).unwrap(), 32);
    let store = open(&small(dir.path()));
    fill(&store, "T", 30);
    store.close().unwrap();
    let end = store.marks().appended.get();
    assert_eq!(confirmed(), end);
    drop(store);
    write(&dir.path().join("checkpoint"), 32, &0i64.to_be_bytes());
    let store = open(&small(dir.path()));
    fill(&store, "U", 5);
    store.dispatch();
    store.flush_queues().unwrap();
    store.persist_checkpoint().unwrap();
    assert_eq!(confirmed(), store.marks().appended.get(), "of a store that runs");
    store.truncate(end).unwrap();
    assert_eq!(confirmed(), end, "of a log that was cut");
}
