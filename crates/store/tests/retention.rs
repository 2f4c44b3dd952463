//! Retention that is disturbed: files that cannot be deleted or are gone already, and readers in the middle of it.

mod common;

use std::{
    io,
    path::Path,
    sync::{Arc, OnceLock},
};

use common::{asking_disk::Asking, bodies, clock_at, message, put, small};
use parking_lot::Mutex;
use store::{Batch, EveryMessage, GetStatus, Retention, Store, StoreConfig};
use wire::{property, record_encode::NewRecord, sys_flag};

fn open(config: &StoreConfig, disk: Asking) -> Store {
    Store::open(config.clone(), Arc::new(disk), clock_at(1_000_000)).unwrap()
}

fn oldest(max_segments: usize) -> Retention {
    Retention { now_ms: i64::MAX, reserved_ms: 0, regardless_of_age: true, max_segments }
}

/// Messages in several segments and several files of two queues, durable.
fn fill(store: &Store) {
    for number in 0..120 {
        put(store, "T", number % 2, b"", &[b'x'; 400]);
    }
    store.flush().unwrap();
    store.flush_queues().unwrap();
}

/// A directory that is mounted to be read alone, a file that the system protects: what stays there stays part of the row.
/// With a hole in it the next start would be refused.
#[test]
fn what_cannot_be_deleted_leaves_no_hole() {
    for first in ["commitlog/00000000000000000000", "consumequeue/T/0/00000000000000000000"] {
        let dir = tempfile::tempdir().unwrap();
        let config = small(dir.path());
        let hook = move |what: &str, path: &Path| match what == "remove" && path.ends_with(first) {
            true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            false => Ok(()),
        };
        let store = open(&config, Asking::new(hook));
        fill(&store);
        for _ in 0..8 {
            if let Err(error) = store.delete_expired(oldest(1)) {
                assert!(error.to_string().contains(first), "{error}");
            }
        }
        let of_log = first.starts_with("commitlog");
        assert_eq!(store.min_phys() == 0, of_log, "{first}");
        assert_eq!(bodies(&store, "T", 0).len() == 60, of_log, "{first}");
        assert!(store.failed().is_none());
        let mins = [0, 1].map(|queue_id| store.min_offset("T", queue_id));
        assert_eq!(mins[0] > 0, !of_log);
        assert!((mins[0] - mins[1]).abs() <= 1, "{mins:?}");
        store.close().unwrap();
        let store = common::open(&config);
        assert_eq!([0, 1].map(|queue_id| store.min_offset("T", queue_id)), mins);
        assert_eq!(store.delete_expired(oldest(1)).unwrap(), 1);
        store.close().unwrap();
        common::open(&config);
    }
}

/// Somebody deletes old segments by hand to make room: retention goes on behind them.
#[test]
fn segments_that_somebody_took_away_count_as_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = common::open(&config);
    fill(&store);
    let young = Retention { now_ms: 1, reserved_ms: i64::MAX, regardless_of_age: false, max_segments: 10 };
    assert_eq!(store.delete_expired(young).unwrap(), 0);
    for base in [0, 4096] {
        std::fs::remove_file(dir.path().join(format!("commitlog/{base:020}"))).unwrap();
    }
    assert_eq!(store.delete_expired(young).unwrap(), 2);
    assert_eq!(store.min_phys(), 8192);
    assert!(store.min_offset("T", 0) > 0);
    assert_eq!(bodies(&store, "T", 0).len() as i64, 60 - store.min_offset("T", 0));
}

/// Files of offsets have gone, and the queue's minimum is not there yet.
#[test]
fn a_reader_of_a_batch_queue_is_led_past_nothing_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { batch_queue_topics: Some(Arc::new(|_| true)), ..small(dir.path()) };
    let store: Arc<OnceLock<Arc<Store>>> = Arc::default();
    let (led, removed) = (Arc::new(Mutex::new(Vec::new())), Mutex::new(false));
    let (reader, answers) = (store.clone(), led.clone());
    let hook = move |what: &str, path: &Path| {
        if !path.to_str().unwrap().contains("batchconsumequeue") {
            return Ok(());
        }
        if what == "remove" {
            *removed.lock() = true;
        } else if std::mem::take(&mut *removed.lock()) {
            let store = reader.get().unwrap();
            for offset in store.min_offset("B", 0)..store.max_offset("B", 0) {
                let got = store.get_messages("B", 0, offset, 32, &EveryMessage);
                answers.lock().push((offset, got.status, got.next_begin_offset));
            }
        }
        Ok(())
    };
    store.set(Arc::new(open(&config, Asking::new(hook)))).ok().unwrap();
    let store = store.get().unwrap();
    for number in 0..300 {
        let inner = if number % 3 == 0 { "2" } else { "1" };
        let mut properties = Vec::new();
        property::push(&mut properties, property::INNER_NUM, inner);
        let inner_batch = NewRecord { sys_flag: sys_flag::INNER_BATCH, ..message("B", 0, &properties, &[b'x'; 300]) };
        let mut batch = Batch::new();
        batch.push(&inner_batch).unwrap();
        store.append(&mut batch).unwrap();
        store.dispatch();
    }
    store.flush().unwrap();
    store.flush_queues().unwrap();
    let mut asked = 0;
    while store.delete_expired(oldest(1)).unwrap() > 0 {
        let min = store.min_offset("B", 0);
        for (offset, status, next) in std::mem::take(&mut *led.lock()) {
            asked += 1;
            let led_past = status != GetStatus::Found && offset < min && next > min;
            assert!(!led_past, "{offset}: {status:?}, led to {next}, the queue begins at {min}");
        }
    }
    assert!(asked > 100, "{asked}");
}
