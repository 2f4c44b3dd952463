//! Starts after clean stops, kills and damage. Dropping a store without closing it is a kill: what was written stays.

mod common;

use std::{
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{bodies, clock_at, message, open, put, small};
use store::{AppendError, Batch, RealDisk, Retention, Store, StoreConfig, StoreError};

fn segment(root: &Path, base: i64) -> PathBuf {
    root.join(format!("commitlog/{base:020}"))
}

fn write(path: &Path, at: u64, bytes: &[u8]) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

fn fill(store: &Store, topic: &str, count: i32) {
    for number in 0..count {
        let properties = format!("UNIQ_KEY\x01{topic}-{number}\x02");
        put(store, topic, number % 2, properties.as_bytes(), &number.to_be_bytes());
    }
}

fn has_key(store: &Store, topic: &str, number: i32) -> bool {
    store.query(topic, &format!("{topic}-{number}"), 10, 0, i64::MAX).physical_offsets.len() == 1
}

fn copy(from: &Path, to: &Path) {
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

#[test]
fn clean_and_unclean_starts_keep_everything() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let mut count = 0;
    for round in 0..6 {
        let store = open(&config);
        assert!(dir.path().join("abort").exists());
        assert_eq!(bodies(&store, "T", 0).len() + bodies(&store, "T", 1).len(), count as usize, "round {round}");
        let end = store.max_phys();
        assert_eq!((store.marks().flushed.get(), store.marks().dispatched.get()), (end, end));
        fill(&store, "T", 60);
        count += 60;
        if round % 2 == 0 {
            store.flush_queues().unwrap();
            store.persist_checkpoint().unwrap();
            store.close().unwrap();
        }
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("abort")).unwrap(), std::process::id().to_string());
}

#[test]
fn f44_keys_are_found_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    for _ in 0..2 {
        let store = open(&config);
        if store.max_phys() == 0 {
            fill(&store, "T", 500);
            store.flush_queues().unwrap();
            fill(&store, "U", 7);
        }
        assert!((0..500).all(|number| has_key(&store, "T", number)));
        assert!((0..7).all(|number| has_key(&store, "U", number)));
    }
}

#[test]
fn what_was_not_dispatched_is_found_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    fill(&store, "T", 20);
    let mut batch = Batch::new();
    for _ in 0..30 {
        batch.push(&message("T", 0, b"UNIQ_KEY\x01late\x02", b"late")).unwrap();
    }
    store.append(&mut batch).unwrap();
    drop(store);
    let store = open(&config);
    assert_eq!((store.max_offset("T", 0), store.max_offset("T", 1)), (40, 10));
    assert_eq!(store.query("T", "late", 64, 0, i64::MAX).physical_offsets.len(), 30);
    assert_eq!(put(&store, "T", 0, b"", b"").0, 40);
}

#[test]
fn a_clean_looking_store_with_one_record_undispatched() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    fill(&store, "T", 9);
    let mut batch = Batch::new();
    batch.push(&message("T", 0, b"", b"last")).unwrap();
    store.append(&mut batch).unwrap();
    drop(store);
    std::fs::remove_file(dir.path().join("abort")).unwrap();
    assert_eq!(bodies(&open(&config), "T", 0).last().unwrap(), b"last");
}

#[test]
fn a_torn_last_record_at_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let store = open(&small(&whole));
    fill(&store, "T", 20);
    let (_, from, to) = put(&store, "T", 0, b"KEYS\x01torn\x02", b"the last one");
    drop(store);
    let mut original = vec![0; 4096];
    std::fs::File::open(segment(&whole, 0)).unwrap().read_exact_at(&mut original, 0).unwrap();
    for cut in from..=to {
        let torn = dir.path().join("torn");
        let _ = std::fs::remove_dir_all(&torn);
        copy(&whole, &torn);
        write(&segment(&torn, 0), cut as u64, &vec![0; (4096 - cut) as usize]);
        if cut % 3 == 0 {
            std::fs::remove_file(torn.join("abort")).unwrap();
        }
        let store = open(&small(&torn));
        let max = if cut == to { 11 } else { 10 };
        assert_eq!(store.max_phys(), if cut == to { to } else { from }, "{cut}");
        assert_eq!(store.max_offset("T", 0), max, "{cut}");
        assert_eq!(put(&store, "T", 0, b"", b"next").0, max, "{cut}");
        let again = open_again(store, &small(&torn));
        assert_eq!(bodies(&again, "T", 0).last().unwrap(), b"next", "{cut}");
    }
}

fn open_again(store: Store, config: &StoreConfig) -> Store {
    drop(store);
    open(config)
}

#[test]
fn old_bytes_behind_the_end_never_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    let places: Vec<i64> = (0..8).map(|_| put(&store, "T", 0, b"", &[5; 50]).1).collect();
    drop(store);
    // Damage in the third record; those behind it are whole.
    write(&segment(dir.path(), 0), places[2] as u64 + 100, b"damage");
    let store = open(&config);
    assert_eq!((store.max_phys(), store.max_offset("T", 0)), (places[2], 2));
    // A record of the same size: the next old one would begin right behind it.
    assert_eq!(put(&store, "T", 0, b"", &[6; 50]).1, places[2]);
    let store = open_again(store, &config);
    assert_eq!((store.max_phys(), store.max_offset("T", 0)), (places[3], 3));
}

#[test]
fn durable_records_behind_damage_are_not_dropped_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    let places: Vec<i64> = (0..60).map(|_| put(&store, "T", 0, b"", &[5; 50]).1).collect();
    store.close().unwrap();
    drop(store);
    let damaged = *places.iter().rfind(|at| **at < places[59] && **at / 4096 == places[59] / 4096).unwrap();
    write(&segment(dir.path(), damaged / 4096 * 4096), (damaged % 4096) as u64 + 100, b"damage");
    let error = Store::open(config.clone(), Arc::new(RealDisk), clock_at(1)).err().unwrap();
    assert!(matches!(error, StoreError::Damaged { offset, proven } if offset == damaged && proven == places[59]));
    let store = open(&StoreConfig { accept_log_damage: true, ..config });
    assert_eq!((store.max_phys(), store.max_offset("T", 0)), (damaged, 58));
}

#[test]
fn f14_empty_and_short_files_do_not_stop_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    for length in [0, 1000] {
        let store = open(&config);
        fill(&store, "T", 10);
        let before = (store.max_phys(), store.max_offset("T", 0));
        drop(store);
        let next = (before.0 / 4096 + 1) * 4096;
        std::fs::write(segment(dir.path(), next), vec![0; length]).unwrap();
        let queue = dir.path().join("consumequeue/T/0");
        let last: i64 = std::fs::read_dir(&queue)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .max()
            .unwrap();
        std::fs::write(queue.join(format!("{:020}", last + 200)), vec![0; length.min(100)]).unwrap();
        let store = open(&config);
        assert_eq!((store.max_phys(), store.max_offset("T", 0)), before);
        assert_eq!(put(&store, "T", 0, b"", b"").0, before.1);
    }
}

#[test]
fn an_unused_segment_at_the_end_is_tolerated() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    fill(&store, "T", 10);
    let end = store.max_phys();
    drop(store);
    std::fs::write(segment(dir.path(), 4096), vec![0; 4096]).unwrap();
    std::fs::write(segment(dir.path(), 8192), vec![0; 4096]).unwrap();
    assert_eq!(open(&config).max_phys(), end);
    assert!(!segment(dir.path(), 4096).exists());
}

#[test]
fn f15_queue_units_of_lost_records_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    for remove_abort in [false, true] {
        let _ = std::fs::remove_dir_all(dir.path());
        let store = open(&config);
        fill(&store, "T", 60);
        store.flush_queues().unwrap();
        store.persist_checkpoint().unwrap();
        let lost_from = store.queue_unit("T", 0, 8).unwrap().physical_offset;
        drop(store);
        // All units of the newest files of the queue point beyond the end.
        let base = lost_from / 4096 * 4096;
        write(&segment(dir.path(), base), (lost_from - base) as u64, &vec![0; (base + 4096 - lost_from) as usize]);
        (1..10).for_each(|more| drop(std::fs::remove_file(segment(dir.path(), base + more * 4096))));
        if remove_abort {
            std::fs::remove_file(dir.path().join("abort")).unwrap();
        }
        let store = open(&config);
        assert_eq!((store.max_phys(), store.max_offset("T", 0), store.max_offset("T", 1)), (lost_from, 8, 8));
        assert_eq!(put(&store, "T", 0, b"", b"").0, 8);
        assert!(has_key(&store, "T", 15) && !has_key(&store, "T", 16));
    }
}

#[test]
fn a_hole_in_a_queue_is_filled_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    fill(&store, "T", 60);
    let all = bodies(&store, "T", 0);
    drop(store);
    write(&dir.path().join("consumequeue/T/0/00000000000000000200"), 20, &[0; 60]);
    let store = open(&config);
    assert_eq!(bodies(&store, "T", 0), all);
}

#[test]
fn f04_queues_and_oldest_segments_missing() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    fill(&store, "T", 300);
    let first_left = (0..150).find(|offset| store.queue_unit("T", 0, *offset).unwrap().physical_offset >= 12_288);
    store.close().unwrap();
    drop(store);
    std::fs::remove_dir_all(dir.path().join("consumequeue")).unwrap();
    (0..3).for_each(|number| std::fs::remove_file(segment(dir.path(), number * 4096)).unwrap());
    let check = |store: &Store| {
        assert_eq!((store.min_phys(), store.min_offset("T", 0)), (12_288, first_left.unwrap()));
        assert_eq!(store.max_offset("T", 0), 150);
        assert_eq!(bodies(store, "T", 0).len() as i64, 150 - first_left.unwrap());
    };
    let store = open(&config);
    check(&store);
    check(&open_again(store, &config));
}

#[test]
fn the_filler_of_a_full_segment_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    let (.., end) = put(&store, "T", 0, b"", b"");
    put(&store, "T", 0, b"", &vec![1; (4096 - 30 - end * 2) as usize]);
    assert_eq!(put(&store, "T", 0, b"", b"").1, 4096);
    drop(store);
    write(&segment(dir.path(), 0), 4066, &[0; 30]);
    let store = open(&config);
    assert_eq!((store.max_phys(), store.max_offset("T", 0)), (4096 + end, 3));
    assert_eq!(store.read_log(4066, 4).unwrap()[..], 30i32.to_be_bytes());
}

#[test]
fn no_commit_log_clears_the_views() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    fill(&store, "T", 30);
    drop(store);
    std::fs::remove_dir_all(dir.path().join("commitlog")).unwrap();
    let store = open(&config);
    assert_eq!((store.max_phys(), store.min_phys(), store.max_offset("T", 0)), (0, -1, 0));
    assert_eq!(put(&store, "T", 0, b"", b"new"), (0, 0, store.max_phys()));
    assert!(!has_key(&store, "T", 0));
}

#[test]
fn f18_progress_of_a_long_recovery_counts() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    fill(&store, "T", 400);
    drop(store);
    // No checkpoint: the first start reads everything and proves it; a kill right after does not begin again.
    drop(open(&config));
    let checkpoint = std::fs::read(dir.path().join("checkpoint")).unwrap();
    let proven = i64::from_be_bytes(checkpoint[40..48].try_into().unwrap());
    let store = open(&config);
    assert!(proven + 200 > store.max_phys(), "{proven}");
    assert_eq!(store.max_offset("T", 0), 200);
}

#[test]
fn another_segment_size_is_taken_from_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    fill(&store, "T", 100);
    drop(store);
    let other = StoreConfig { segment_size: 8192, ..config.clone() };
    let store = open(&other);
    assert_eq!((store.segment_size(), store.max_offset("T", 0)), (4096, 50));
    drop(store);
    let other = StoreConfig { queue_segment_size: 400, ..config };
    let error = Store::open(other, Arc::new(RealDisk), clock_at(1)).err().unwrap();
    assert!(matches!(error, StoreError::SegmentSize { key: "mappedFileSizeConsumeQueue", .. }), "{error}");
}

#[test]
fn truncation_is_durable_and_complete() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    fill(&store, "T", 40);
    let keep = store.queue_unit("T", 0, 10).unwrap().physical_offset;
    fill(&store, "Late", 40);
    store.flush_queues().unwrap();
    store.persist_checkpoint().unwrap();
    store.truncate(keep).unwrap();
    let check = |store: &Store| {
        let marks = store.marks();
        assert_eq!((marks.appended.get(), marks.dispatched.get(), marks.flushed.get()), (keep, keep, keep));
        assert_eq!((store.max_offset("T", 0), store.max_offset("T", 1)), (10, 10));
        assert_eq!((store.min_offset("Late", 0), store.max_offset("Late", 0)), (0, 0));
        assert!(has_key(store, "T", 19) && !has_key(store, "T", 20) && !has_key(store, "Late", 0));
    };
    check(&store);
    assert!(matches!(store.truncate(keep + 1), Err(StoreError::OutsideLog { .. })));
    let store = open_again(store, &config);
    check(&store);
    fill(&store, "Late", 10);
    assert_eq!((store.min_offset("Late", 0), bodies(&store, "Late", 0).len()), (0, 5));
    store.truncate(0).unwrap();
    assert_eq!((store.max_phys(), store.max_offset("Late", 0), store.min_phys()), (0, 0, -1));
    fill(&store, "T", 2);
    let store = open_again(store, &config);
    assert_eq!(bodies(&store, "T", 0), [0i32.to_be_bytes()]);
}

#[test]
fn a_deleted_topic_stays_away() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    fill(&store, "T", 40);
    fill(&store, "Gone", 40);
    store.delete_topic("Gone").unwrap();
    let check = |store: &Store| {
        assert!(store.queues().iter().all(|(topic, _)| &**topic != "Gone"));
        assert_eq!((store.max_offset("Gone", 0), store.max_offset("T", 0)), (0, 20));
    };
    check(&store);
    assert!(!dir.path().join("consumequeue/Gone").exists());
    let store = open_again(store, &config);
    check(&store);
    store.close().unwrap();
    let store = open_again(store, &config);
    check(&store);
    // Made again, it begins at 0; its former records stay hidden also when all is built anew.
    assert_eq!(put(&store, "Gone", 0, b"", b"new").0, 0);
    drop(store);
    std::fs::remove_dir_all(dir.path().join("consumequeue")).unwrap();
    let store = open(&config);
    assert_eq!((bodies(&store, "Gone", 0), store.max_offset("T", 0)), (vec![b"new".to_vec()], 20));
}

#[test]
fn retention() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    fill(&store, "Old", 40);
    fill(&store, "T", 200);
    let retention = |now_ms| Retention { now_ms, reserved_ms: 1000, regardless_of_age: false, max_segments: 3 };
    assert_eq!(store.delete_expired(retention(0)).unwrap(), 0, "too young");
    assert_eq!(store.delete_expired(retention(i64::MAX)).unwrap(), 3);
    assert!(store.marks().flushed.get() >= 3 * 4096, "log and queues are made durable first");
    let check = |store: &Store| {
        assert_eq!(store.min_phys(), 3 * 4096);
        assert_eq!((store.min_offset("Old", 0), store.max_offset("Old", 0)), (20, 20));
        let min = store.min_offset("T", 0);
        assert!(min > 0 && store.queue_unit("T", 0, min).unwrap().physical_offset >= 3 * 4096);
        assert_eq!(bodies(store, "T", 0).len() as i64, 100 - min);
        let got = store.get_messages("Old", 0, 0, 32, &store::EveryMessage);
        assert_eq!((got.status, got.next_begin_offset), (store::GetStatus::OffsetTooSmall, 20));
    };
    check(&store);
    let store = open_again(store, &config);
    check(&store);
    let forced = Retention { regardless_of_age: true, max_segments: 100, ..retention(0) };
    assert!(store.delete_expired(forced).unwrap() > 1);
    assert!(store.min_phys() < store.max_phys());
    assert_eq!(put(&store, "Old", 0, b"", b"").0, 20);
}

#[test]
fn a_replica_gets_the_same_bytes_and_queues() {
    let dir = tempfile::tempdir().unwrap();
    let (master, config) = (open(&small(&dir.path().join("m"))), small(&dir.path().join("s")));
    fill(&master, "T", 150);
    let slave = open(&config);
    let mut at = 0;
    for step in (1..).map(|step: usize| step * 37 % 501 + 1) {
        let bytes = master.read_log(at, step).unwrap();
        if bytes.is_empty() {
            break;
        }
        at = slave.append_raw(at, &bytes).unwrap();
        slave.dispatch();
    }
    assert!(matches!(slave.append_raw(at + 1, b"x"), Err(StoreError::NotAtEnd { .. })));
    assert_eq!((slave.max_phys(), slave.marks().dispatched.get()), (at, at));
    for queue_id in 0..2 {
        assert_eq!(bodies(&slave, "T", queue_id), bodies(&master, "T", queue_id));
    }
    // Promoted in the middle of a record: that is cut first.
    let mut batch = Batch::new();
    batch.push(&message("T", 0, b"", b"torn")).unwrap();
    master.append(&mut batch).unwrap();
    slave.append_raw(at, &master.read_log(at, 50).unwrap()).unwrap();
    slave.dispatch();
    batch.clear();
    batch.push(&message("T", 0, b"", b"new")).unwrap();
    assert!(matches!(slave.append(&mut batch), Err(AppendError::NotDispatched { .. })));
    slave.truncate(slave.marks().dispatched.get()).unwrap();
    slave.append(&mut batch).unwrap();
    assert_eq!((batch.entries()[0].queue_offset, batch.entries()[0].physical_offset), (75, at));
}

#[test]
fn a_replica_may_begin_at_a_later_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (master, config) = (open(&small(&dir.path().join("m"))), small(&dir.path().join("s")));
    fill(&master, "T", 150);
    let slave = open(&config);
    assert!(matches!(slave.append_raw(100, b"x"), Err(StoreError::Misaligned { .. })));
    let mut at = 8192;
    while at < master.max_phys() {
        at = slave.append_raw(at, &master.read_log(at, 4096).unwrap()).unwrap();
    }
    assert!(slave.dispatch() > 0);
    let slave = open_again(slave, &config);
    assert_eq!((slave.min_phys(), slave.max_phys()), (8192, master.max_phys()));
    let min = slave.min_offset("T", 0);
    assert!(min > 0);
    assert_eq!(bodies(&slave, "T", 0), bodies(&master, "T", 0)[min as usize..]);
}

#[test]
fn a_replica_stopped_within_a_record_goes_on_from_the_last_whole_one() {
    let dir = tempfile::tempdir().unwrap();
    let (master, config) = (open(&small(&dir.path().join("m"))), small(&dir.path().join("s")));
    fill(&master, "T", 10);
    let whole = master.max_phys();
    put(&master, "T", 0, b"", b"cut");
    let slave = open(&config);
    slave.append_raw(0, &master.read_log(0, whole as usize + 60).unwrap()).unwrap();
    slave.close().unwrap();
    drop(slave);
    assert!(dir.path().join("s/abort").exists());
    let slave = open(&config);
    assert_eq!((slave.max_phys(), slave.max_offset("T", 0)), (whole, 5));
}

#[test]
fn a_topic_that_was_deleted_and_made_again_at_the_master() {
    let dir = tempfile::tempdir().unwrap();
    let (master, slave) = (open(&small(&dir.path().join("m"))), open(&small(&dir.path().join("s"))));
    fill(&master, "T", 40);
    master.delete_topic("T").unwrap();
    fill(&master, "T", 6);
    while slave.max_phys() < master.max_phys() {
        let at = slave.max_phys();
        slave.append_raw(at, &master.read_log(at, 4096).unwrap()).unwrap();
    }
    slave.dispatch();
    assert_eq!((slave.min_offset("T", 0), slave.max_offset("T", 0)), (0, 3));
    assert_eq!(bodies(&slave, "T", 0), bodies(&master, "T", 0));
}
