//! Look-ups by key in a store with many index files.

mod common;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, atomic::Ordering::SeqCst, mpsc},
    time::Duration,
};

use common::{asking_disk::Asking, clock_at, put, small};
use parking_lot::Mutex;
use store::{RealDisk, Store};

/// Messages 0 to 199, each a minute after the one before, in five index files that are full and one that is not.
fn with_many_index_files(root: &Path, disk: Asking) -> Store {
    let clock = clock_at(1_000_000_000);
    let store = Store::open(small(root), Arc::new(disk), clock.clone()).unwrap();
    for number in 0..200 {
        clock.0.fetch_add(60_000, SeqCst);
        put(&store, "T", 0, format!("UNIQ_KEY\x01u{number}\x02").as_bytes(), b"x");
    }
    store.flush_queues().unwrap();
    store
}

#[test]
fn a_look_up_reads_files_of_its_times_alone() {
    let dir = tempfile::tempdir().unwrap();
    let read: Arc<Mutex<Vec<PathBuf>>> = Arc::default();
    let seen = read.clone();
    let hook = move |what: &str, path: &Path| {
        if what == "read" && path.parent().unwrap().ends_with("index") {
            seen.lock().push(path.to_path_buf());
        }
        Ok(())
    };
    let store = with_many_index_files(dir.path(), Asking::new(hook));
    for number in [0, 39, 100, 150, 199] {
        read.lock().clear();
        let time = 1_000_000_000 + (number + 1) * 60_000;
        let found = store.query("T", &format!("u{number}"), 10, time - 1000, time + 1000);
        assert_eq!(found.physical_offsets.len(), 1, "{number}");
        let mut files = std::mem::take(&mut *read.lock());
        files.sort();
        files.dedup();
        assert!(files.len() <= 1, "{number}: {files:?}");
        assert_eq!(store.query("T", &format!("u{number}"), 10, 0, i64::MAX).physical_offsets, found.physical_offsets);
    }
}

#[test]
fn a_look_up_that_waits_for_the_disk_keeps_no_dispatch_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let (store, done) = (Arc::<OnceLock<Arc<Store>>>::default(), Arc::new(Mutex::new(None)));
    let (writer, result) = (store.clone(), done.clone());
    let hook = move |what: &str, path: &Path| {
        if let Some(store) = writer.get()
            && what == "read"
            && path.parent().unwrap().ends_with("index")
            && result.lock().is_none()
        {
            let (tell, told) = mpsc::channel();
            let store = store.clone();
            std::thread::spawn(move || tell.send(put(&store, "T", 0, b"UNIQ_KEY\x01new\x02", b"x").0));
            *result.lock() = Some(told.recv_timeout(Duration::from_secs(60)).ok());
        }
        Ok(())
    };
    let opened = Arc::new(with_many_index_files(dir.path(), Asking::new(hook)));
    store.set(opened.clone()).ok().unwrap();
    assert_eq!(opened.query("T", "u7", 10, 0, i64::MAX).physical_offsets.len(), 1);
    assert_eq!(*done.lock(), Some(Some(200)), "dispatched while the look-up was reading");
}

/// Store times go on from there after a start. Checkpoints of Java before 5.5 do not say where the last record is, that of 5.5 may
/// name an older one.
#[test]
fn the_last_store_time_is_found_without_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock_at(1_000_000_000);
    let store = Store::open(small(dir.path()), Arc::new(RealDisk), clock.clone()).unwrap();
    let mut places = Vec::new();
    for number in 0..100 {
        clock.0.store(1_000_000_000 + number * 60_000, SeqCst);
        places.push(put(&store, "T", number as i32 % 3, b"", &[7; 50]).1);
    }
    store.close().unwrap();
    let file = dir.path().join("checkpoint");
    let sound = std::fs::read(&file).unwrap();
    for named in [0, places[50], places[99]] {
        let mut bytes = sound.clone();
        bytes[40..64].fill(0);
        bytes[40..48].copy_from_slice(&named.to_be_bytes());
        std::fs::write(&file, bytes).unwrap();
        let store = Store::open(small(dir.path()), Arc::new(RealDisk), clock_at(5)).unwrap();
        assert_eq!(store.last_store_time(), 1_000_000_000 + 99 * 60_000, "{named}");
        store.close().unwrap();
    }
}
