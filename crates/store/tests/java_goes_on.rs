//! A Java broker that goes on after this one was killed: what it does then follows from the files alone.

mod common;

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering::SeqCst},
};

use common::{clock_at, put, small};
use store::{RealDisk, Store};

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
