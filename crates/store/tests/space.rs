//! Retention and the end of space: the oldest segments go and everything else follows, also when the process dies in
//! between; when space ends nothing is lost, nothing is taken, and it goes on by itself.

mod common;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use common::{bodies, clock_at, message, put, small, small_disk::SmallDisk};
use store::{AppendError, Batch, Deletion, NoSpace, RealDisk, Retention, SpaceLimits, Store, StoreConfig, StoreError};

const MIB: u64 = 1 << 20;

fn oldest(max_segments: usize) -> Retention {
    Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments }
}

fn open_on(config: &StoreConfig, disk: &SmallDisk) -> Store {
    Store::open(config.clone(), Arc::new(disk.clone()), clock_at(1_000_000)).unwrap()
}

fn append(store: &Store, body: &[u8]) -> Result<i64, AppendError> {
    let mut batch = Batch::new();
    batch.push(&message("T", 0, b"", body)).unwrap();
    store.append(&mut batch)?;
    Ok(batch.entries()[0].queue_offset)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// Where each message of three topics and two queues went; the queues end in different segments.
fn fill(store: &Store) -> Vec<(&'static str, i32, i64)> {
    let mut placed = Vec::new();
    for (topic, count) in [("T1", 40), ("T2", 60), ("T3", 60)] {
        for number in 0..count {
            let queue_id = number % 2;
            let (_, physical, _) = put(store, topic, queue_id, b"UNIQ_KEY\x01k\x02", &[number as u8; 100]);
            placed.push((topic, queue_id, physical));
        }
    }
    placed
}

/// Every queue begins with its first message that is still in the log, and counts on.
fn check_mins(store: &Store, placed: &[(&'static str, i32, i64)]) {
    let min = store.min_phys();
    for topic in ["T1", "T2", "T3"] {
        for queue_id in 0..2 {
            let of_queue: Vec<i64> =
                placed.iter().filter(|(t, q, _)| (*t, *q) == (topic, queue_id)).map(|(.., at)| *at).collect();
            let gone = of_queue.iter().filter(|at| **at < min).count() as i64;
            let ends = (store.min_offset(topic, queue_id), store.max_offset(topic, queue_id));
            assert_eq!(ends, (gone, of_queue.len() as i64), "{topic} {queue_id}, the log begins at {min}");
            assert_eq!(bodies(store, topic, queue_id).len() as i64, ends.1 - ends.0);
        }
    }
}

#[test]
fn mins_are_right_whenever_the_process_dies_during_a_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir.path().join("store"));
    let placed = {
        let store = Store::open(config.clone(), Arc::new(RealDisk), clock_at(1_000_000)).unwrap();
        let placed = fill(&store);
        store.flush().unwrap();
        store.flush_queues().unwrap();
        store.persist_checkpoint().unwrap();
        // Not closed: the deletion below finds what a crash left, too.
        placed
    };
    let mut changes = 0;
    loop {
        let root = dir.path().join(format!("dies-{changes}"));
        copy(&config.root, &root);
        let config = small(&root);
        let disk = SmallDisk::new(64 * MIB);
        let store = open_on(&config, &disk);
        disk.die_after(changes);
        let result = store.delete_expired(oldest(4));
        if result.is_ok() {
            check_mins(&store, &placed);
        }
        let is_over = result.is_ok();
        drop(store);
        let store = Store::open(config.clone(), Arc::new(RealDisk), clock_at(1_000_000)).unwrap();
        check_mins(&store, &placed);
        assert_eq!(put(&store, "T1", 0, b"", b"next").0, 20, "the counter goes on");
        drop(store);
        std::fs::remove_dir_all(&root).unwrap();
        if is_over {
            break;
        }
        changes += 1;
    }
    assert!(changes > 10, "only {changes} changes");
}

#[test]
fn a_failed_write_while_queue_tails_are_settled_ends_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let disk = SmallDisk::new(64 * MIB);
    let store = open_on(&config, &disk);
    // A queue that ends within a segment: there is a rest to be zeroed.
    put(&store, "T0", 0, b"", b"one");
    fill(&store);
    store.flush().unwrap();
    store.flush_queues().unwrap();
    store.persist_checkpoint().unwrap();
    drop(store);
    let store = open_on(&config, &disk);
    disk.die_after(0);
    let error = store.delete_expired(oldest(1)).unwrap_err().to_string();
    assert!(store.failed().is_some(), "{error}");
    assert!(!store.is_writeable());
}

#[test]
fn a_reader_of_deleted_segments_gets_the_right_bytes_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = common::open(&small(dir.path()));
    fill(&store);
    let whole: Vec<u8> = (0..)
        .map(|number| store.read_log(number * 4096, 4096).unwrap_or_default())
        .take_while(|bytes| !bytes.is_empty())
        .flatten()
        .collect();
    drop(store);
    // Opened again, so that no file is open yet: the race is between finding a segment and opening its file.
    let store = common::open(&small(dir.path()));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (store, whole, done) = (&store, &whole, &done);
            scope.spawn(move || {
                let mut round = reader;
                while !done.load(SeqCst) {
                    round += 1;
                    let at = round * 977 % whole.len();
                    let Some(bytes) = store.read_log(at as i64, 1000) else { continue };
                    assert_eq!(bytes, whole[at..at + bytes.len()], "at {at}");
                }
            });
        }
        while store.delete_expired(oldest(1)).unwrap() > 0 {}
        done.store(true, SeqCst);
    });
    assert_eq!(store.read_log(0, 100), None);
}

/// Appends until space ends; returns the number of messages and the cause.
fn append_until_full(store: &Store) -> (i64, NoSpace) {
    let mut count = 0;
    loop {
        match append(store, &[7; 1000]) {
            Ok(_) => count += 1,
            Err(AppendError::NoSpace(cause)) => return (count, cause),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn when_space_ends_writes_are_refused_and_resume_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new(MIB);
    let store = open_on(&small(dir.path()), &disk);
    put(&store, "T", 0, b"", b"first");
    disk.leave(40_000);
    let (count, cause) = append_until_full(&store);
    let text = AppendError::NoSpace(cause).to_string();
    assert!(
        text.contains(&dir.path().join("commitlog").display().to_string()) && text.contains("no space left"),
        "{text}"
    );
    assert!(count > 20 && store.failed().is_none() && store.no_space().is_some());
    let names = std::fs::read_dir(dir.path().join("commitlog")).unwrap().count() as i64;
    assert_eq!(names, (store.max_phys() + 4095) / 4096, "nothing is left of a segment that could not be made");
    // Nothing is tried until the disks are looked at again, and then once.
    let writes = disk.writes();
    assert!((0..10).all(|_| append(&store, b"x").is_err()));
    assert_eq!(disk.writes(), writes);
    assert_eq!(bodies(&store, "T", 0), [b"first"], "reads go on");
    // Space comes back, and what was taken stays in order.
    disk.others_use(0);
    assert!(append(&store, b"x").is_err(), "nobody looked yet");
    assert_eq!(store.check_space(&SpaceLimits::default()).refuse, None);
    assert_eq!(append(&store, b"again").unwrap(), count + 1);
    assert_eq!(append(&store, b"and again").unwrap(), count + 2);
    assert_eq!(store.no_space(), None);
    drop(store);
    let store = open_on(&small(dir.path()), &disk);
    assert_eq!(bodies(&store, "T", 0).len() as i64, count + 3);
}

#[test]
fn a_batch_that_lacks_space_in_its_middle_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new(MIB);
    let store = open_on(&small(dir.path()), &disk);
    append(&store, b"first").unwrap();
    let (end, used) = (store.max_phys(), disk.used());
    for left in [0, 4096, 8192, 12_288] {
        disk.leave(left);
        store.check_space(&SpaceLimits { reserved_bytes: Some(0), warning_ratio: 1.0, ..SpaceLimits::default() });
        let mut batch = Batch::new();
        (0..8).for_each(|_| assert!(batch.push(&message("T", 0, b"", &[9; 3000])).is_ok()));
        assert!(matches!(store.append(&mut batch), Err(AppendError::NoSpace(_))), "{left} bytes left");
        assert_eq!((store.max_phys(), store.failed()), (end, None));
        disk.others_use(0);
        assert_eq!(disk.used(), used, "{left} bytes left");
    }
}

#[test]
fn a_ratio_refuses_messages_and_a_slave_goes_on_until_the_reserve() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new(10 * MIB);
    let (master, slave) = (common::open(&small(&dir.path().join("m"))), open_on(&small(&dir.path().join("s")), &disk));
    (0..50).for_each(|_| assert!(append(&master, &[1; 1000]).is_ok()));
    slave.set_slave(true);
    let bytes = |from| master.read_log(from, 4096).unwrap();
    let limits = SpaceLimits { reserved_bytes: Some(MIB / 2), warning_ratio: 0.9, ..SpaceLimits::default() };
    disk.leave(MIB * 4 / 5);
    let verdict = slave.check_space(&limits);
    assert!(verdict.refuse.unwrap().to_string().contains("above diskSpaceWarningLevelRatio 90"));
    assert_eq!(verdict.deletion, Deletion::Oldest);
    let at = slave.append_raw(0, &bytes(0)).unwrap();
    assert_eq!(slave.no_space(), None, "a slave goes on");
    disk.leave(MIB / 4);
    slave.check_space(&limits);
    let error = slave.append_raw(at, &bytes(at)).unwrap_err();
    assert!(matches!(&error, StoreError::NoSpace(NoSpace::Reserve { .. })) && error.is_disk_full(), "{error}");
    assert_eq!((slave.max_phys(), slave.failed()), (at, None));
    disk.others_use(0);
    slave.check_space(&limits);
    assert_eq!(slave.append_raw(at, &bytes(at)).unwrap(), 2 * at);
    // The system refuses although enough seems to be left, as with a quota.
    disk.refuse_in(Some("commitlog"));
    let at = slave.max_phys();
    assert!(matches!(slave.append_raw(at, &bytes(at)), Err(StoreError::NoSpace(NoSpace::Refused { .. }))));
    slave.check_space(&limits);
    assert_eq!(slave.no_space(), None, "one try after each look");
    assert!(slave.append_raw(at, &bytes(at)).is_err() && slave.no_space().is_some());
    disk.refuse_in(None);
    slave.check_space(&limits);
    slave.append_raw(at, &bytes(at)).unwrap();
    assert_eq!(slave.no_space(), None);
}

#[test]
fn segments_can_be_deleted_while_queues_lack_space() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new(MIB);
    let store = open_on(&small(dir.path()), &disk);
    let placed = fill(&store);
    store.flush().unwrap();
    store.flush_queues().unwrap();
    let in_files = store.max_phys();
    disk.refuse_in(Some("consumequeue"));
    (0..20).for_each(|_| assert!(append(&store, &[1; 1000]).is_ok()));
    store.dispatch();
    assert!(store.flush_queues().unwrap_err().is_disk_full() && store.failed().is_none());
    let before = disk.used();
    assert!(store.delete_expired(oldest(usize::MAX)).unwrap() > 2);
    assert!(disk.used() < before && store.min_phys() <= in_files, "what is not in its queue's files stays");
    check_mins(&store, &placed);
    disk.refuse_in(None);
    store.dispatch();
    assert_eq!(bodies(&store, "T", 0).len(), 20);
}
