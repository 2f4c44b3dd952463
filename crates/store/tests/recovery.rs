//! Starts after clean stops and kills, with queues, index or checkpoint that do not fit the log.

mod common;

use std::sync::Arc;

use common::{bodies, clock_at, files::*, message, open, put, small};
use store::{Batch, RealDisk, Retention, Store, StoreConfig, StoreError};

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

/// A cut took all units of the queue and was lost with the power: what is there leads to nothing, so it is no new topic's.
#[test]
fn a_deletion_takes_a_queue_too_whose_cut_units_came_back() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    let long = vec![7; 300];
    for _ in 0..10 {
        put(&store, "Gone", 0, b"", &long);
    }
    while put(&store, "T", 0, b"", &long).1 < 2 * 4096 {}
    let (_, cut, _) = put(&store, "Gone", 0, b"", &long);
    store.flush().unwrap();
    store.flush_queues().unwrap();
    let all = Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments: 1 };
    assert_eq!(store.delete_expired(all).unwrap(), 1);
    let path = dir.path().join("consumequeue/Gone/0/00000000000000000200");
    let units = std::fs::read(&path).unwrap();
    store.truncate(cut).unwrap();
    store.delete_topic("Gone").unwrap();
    drop(store);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, units).unwrap();
    let store = open(&config);
    assert_eq!(store.max_offset("Gone", 0), 0);
    assert_eq!(put(&store, "Gone", 0, b"", b"new").0, 0);
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

/// A store that was stopped cleanly, with a queue whose messages are all far before what such a start reads, and the
/// file of that queue.
fn with_early_queue(root: &std::path::Path) -> (StoreConfig, std::path::PathBuf) {
    let config = small(root);
    let store = open(&config);
    for (topic, count) in [("Early", 10), ("T", 200)] {
        for _ in 0..count {
            put(&store, topic, 0, b"", &[5; 50]);
        }
    }
    store.close().unwrap();
    (config, root.join(format!("consumequeue/Early/0/{:020}", 0)))
}

#[test]
fn a_queue_file_cut_short_after_a_clean_stop_is_filled_from_the_log() {
    for length in [0, 7, 60, 180, 187] {
        let dir = tempfile::tempdir().unwrap();
        let (config, file) = with_early_queue(dir.path());
        std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length).unwrap();
        let store = open(&config);
        assert_eq!((store.min_offset("Early", 0), bodies(&store, "Early", 0).len()), (0, 10), "{length}");
    }
}

#[test]
fn a_directory_in_the_place_of_a_file_is_not_taken_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (config, file) = with_early_queue(dir.path());
    std::fs::rename(&file, dir.path().join("aside")).unwrap();
    std::fs::create_dir(&file).unwrap();
    let error = Store::open(config.clone(), Arc::new(RealDisk), clock_at(1)).err().unwrap();
    assert!(matches!(&error, StoreError::Io { path, .. } if *path == file), "{error}");
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(dir.path().join("aside"), &file).unwrap();
    assert_eq!(bodies(&open(&config), "Early", 0).len(), 10);
}

/// Names of test functions in the sources below `dir`.
fn tests_below(dir: &std::path::Path, found: &mut std::collections::BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let after_attribute = text.split("#[test]").skip(1).chain(text.split("#[tokio::test").skip(1));
            let name = |rest: &str| Some(rest.split_once("fn ")?.1.split_once('(')?.0.to_owned());
            found.extend(after_attribute.filter_map(name));
        }
    }
}

#[test]
fn every_row_of_the_recovery_table_has_its_test() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tests = std::collections::BTreeSet::new();
    tests_below(&root.join("crates"), &mut tests);
    let format = std::fs::read_to_string(root.join("FORMAT.md")).unwrap();
    let table = format.split("| found | kept | rebuilt or cut | said | test |").nth(1).unwrap();
    let rows: Vec<&str> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 50, "{} rows", rows.len());
    for row in rows.iter().filter(|row| !row.starts_with("| **")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 5, "{row}");
        let named: Vec<&str> = cells[4].split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test: {row}");
        named.iter().for_each(|name| assert!(tests.contains(*name), "no test {name}: {row}"));
    }
}
