//! Starts with a damaged commit log.

mod common;

use std::{os::unix::fs::FileExt, sync::Arc};

use common::{bodies, clock_at, files::*, open, put, small};
use store::{EveryMessage, RealDisk, Store, StoreConfig, StoreError};

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

/// A NUL within somebody's property is no lost sector, wherever it stands.
#[test]
fn properties_with_nul_bytes_at_every_place_of_a_sector() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    for number in 0..600 {
        put(&store, "T", 0, b"a\x01x\0y\x02", &vec![7; number % 200]);
    }
    let store = open_again(store, &config);
    assert_eq!((store.max_offset("T", 0), bodies(&store, "T", 0).len()), (600, 600));
}

/// Java brokers before 5.1 put no separator behind the last property: a record may end with somebody's NUL.
#[test]
fn a_record_that_ends_with_a_nul_of_its_sender_is_whole_where_the_log_goes_on_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    let places: Vec<i64> = (0..8).map(|_| put(&store, "T", 0, b"a\x01xy\x02", &[5; 50]).1).collect();
    drop(store);
    for place in &places[1..] {
        write(&segment(dir.path(), 0), *place as u64 - 1, &[0]);
    }
    let store = open(&config);
    assert_eq!((store.max_offset("T", 0), bodies(&store, "T", 0).len()), (8, 8));
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

/// A store of 60 messages that was stopped and whose last but one record in the last segment is damaged since: its
/// configuration, that record's place, and the last one's.
fn stopped_and_damaged(root: &std::path::Path) -> (StoreConfig, i64, i64) {
    let config = small(root);
    let store = open(&config);
    let places: Vec<i64> = (0..60).map(|_| put(&store, "T", 0, b"", &[5; 50]).1).collect();
    store.close().unwrap();
    let damaged = *places.iter().rfind(|at| **at < places[59] && **at / 4096 == places[59] / 4096).unwrap();
    write(&segment(root, damaged / 4096 * 4096), (damaged % 4096) as u64 + 100, b"damage");
    (config, damaged, places[59])
}

#[test]
fn durable_records_behind_damage_are_not_dropped_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let (config, damaged, last) = stopped_and_damaged(dir.path());
    for _ in 0..2 {
        let error = refusal(&config);
        assert!(matches!(error, StoreError::Damaged { offset, proven } if offset == damaged && proven == last));
        assert!(!dir.path().join("abort").exists());
    }
    let store = open(&StoreConfig { accept_log_damage: true, ..config });
    assert_eq!((store.max_phys(), store.max_offset("T", 0)), (damaged, 58));
}

/// The checkpoint of a Java broker before 5.4 proves nothing, but a clean stop left the queues.
#[test]
fn damage_in_a_store_that_java_stopped_cleanly_is_not_taken_for_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (config, damaged, last) = stopped_and_damaged(dir.path());
    write(&dir.path().join("checkpoint"), 24, &[0; 100]);
    let error = refusal(&config);
    assert!(matches!(error, StoreError::Damaged { offset, proven } if offset == damaged && proven == last), "{error}");
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
    let log = dir.path().join("commitlog");
    std::fs::remove_dir_all(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    let store = open(&config);
    assert_eq!((store.max_phys(), store.min_phys(), store.max_offset("T", 0)), (0, -1, 0));
    assert_eq!(put(&store, "T", 0, b"", b"new"), (0, 0, store.max_phys()));
    assert!(!has_key(&store, "T", 0));
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
    // One file alone tells it too.
    for segment_size in [2048, 8192] {
        let dir = tempfile::tempdir().unwrap();
        let config = small(dir.path());
        let store = open(&config);
        put(&store, "T", 0, b"", b"x");
        store.close().unwrap();
        drop(store);
        let store = open(&StoreConfig { segment_size, ..config });
        assert_eq!((store.segment_size(), store.max_offset("T", 0)), (4096, 1));
    }
}

/// Also when a power loss left a file of it short.
#[test]
fn a_short_file_among_segments_of_another_size() {
    for (segment_size, short) in [2048, 8192].into_iter().flat_map(|size| [0, 1, 2].map(|short| (size, short))) {
        let dir = tempfile::tempdir().unwrap();
        let config = small(dir.path());
        let store = open(&config);
        fill(&store, "T", 80);
        assert!(store.max_phys() > 2 * 4096);
        drop(store);
        let path = dir.path().join(format!("commitlog/{:020}", short * 4096));
        let blank = std::fs::read(&path).unwrap().iter().rev().take_while(|byte| **byte == 0).count() as u64;
        assert!(blank > 0);
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4096 - blank).unwrap();
        let store = open(&StoreConfig { segment_size, ..config });
        let messages = bodies(&store, "T", 0).len() + bodies(&store, "T", 1).len();
        assert_eq!((store.segment_size(), messages), (4096, 80), "{segment_size} {short}");
    }
}

/// A killed store of 60 messages over three segments whose checkpoint covers all of them, and where they are.
fn proven(root: &std::path::Path) -> Vec<i64> {
    let store = open(&small(root));
    let places = (0..60).map(|_| put(&store, "T", 0, b"", &[5; 50]).1).collect();
    store.flush_queues().unwrap();
    store.persist_checkpoint().unwrap();
    places
}

/// What a checkpoint of a Java broker 5.5 lacks: that index and log are durable too.
fn forget_own_proof(root: &std::path::Path) {
    write(&root.join("checkpoint"), 48, &[0; 16]);
}

fn refusal(config: &StoreConfig) -> StoreError {
    Store::open(config.clone(), Arc::new(RealDisk), clock_at(1)).err().unwrap()
}

#[test]
fn damage_below_the_proven_place_costs_one_message() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let places = proven(dir.path());
    write(&segment(dir.path(), 0), places[3] as u64, &[7; 50]);
    for _ in 0..2 {
        let store = open(&config);
        assert_eq!((store.min_offset("T", 0), store.max_offset("T", 0)), (0, 60));
        assert!(store.read_record(places[3]).is_none());
        assert!((0..60).all(|number| number == 3 || store.read_record(places[number]).is_some()));
        let store = open_again(store, &config);
        assert_eq!(put(&store, "T", 1, b"", b"").0, store.max_offset("T", 1) - 1);
    }
}

#[test]
fn damage_that_a_clean_start_meets_costs_one_message() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let places = proven(dir.path());
    open(&config).close().unwrap();
    // As Java 5.3 leaves it: nothing tells what was durable.
    write(&dir.path().join("checkpoint"), 40, &[0; 24]);
    let base = places[3] / 4096 * 4096;
    write(&segment(dir.path(), base), (places[3] - base) as u64, &[7; 50]);
    // All units from that record on are lost.
    let queue = dir.path().join("consumequeue/T/0");
    write(&queue.join("00000000000000000000"), 3 * 20, &[0; 140]);
    (1..6).for_each(|file| std::fs::remove_file(queue.join(format!("{:020}", file * 200))).unwrap());
    let mut store = open(&config);
    for _ in 0..2 {
        let first =
            |number| store.get_messages("T", 0, number, 1, &EveryMessage).places.first().map(|(_, place)| *place);
        let found = (0..60).filter(|number| first(*number) == Some(*number));
        assert_eq!(found.collect::<Vec<_>>(), (0..60).filter(|number| *number != 3).collect::<Vec<_>>());
        assert_eq!(store.max_offset("T", 0), 60);
        store = open_again(store, &config);
    }
}

#[test]
fn damage_that_is_read_again_is_not_taken_for_the_end() {
    for first_of_a_segment in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let config = small(dir.path());
        let places = proven(dir.path());
        forget_own_proof(dir.path());
        let last_base = places[59] / 4096 * 4096;
        // With an offset like Java's, reading begins at the start of its segment; without one, at the first segment.
        let damaged = match first_of_a_segment {
            true => last_base,
            false => *places.iter().find(|at| **at > last_base).unwrap(),
        };
        write(&segment(dir.path(), last_base), (damaged - last_base) as u64 + 100, b"damage");
        for _ in 0..2 {
            let error = refusal(&config);
            assert!(
                matches!(error, StoreError::Damaged { offset, proven } if offset == damaged && proven == places[59])
            );
        }
        let store = open(&StoreConfig { accept_log_damage: true, ..config });
        assert_eq!(store.max_phys(), damaged);
    }
}

#[test]
fn short_segments_of_a_killed_store_are_extended() {
    for (base, length) in [(0, 0), (0, 300), (4096, 0), (4096, 300), (8192, 0), (8192, 300)] {
        let dir = tempfile::tempdir().unwrap();
        let config = small(dir.path());
        let places = proven(dir.path());
        assert!((8192..12_288).contains(&places[59]));
        let file = std::fs::OpenOptions::new().write(true).open(segment(dir.path(), base)).unwrap();
        file.set_len(length).unwrap();
        let store = open(&config);
        let lost = |at: i64| at >= base + length as i64 - 142 && at < base + 4096;
        let end = if base == 8192 { places.iter().position(|at| lost(*at)).unwrap() } else { 60 };
        assert_eq!(store.max_offset("T", 0), end as i64, "{base} {length}");
        for (number, at) in places[..end].iter().enumerate() {
            let whole = *at + 141 <= base + length as i64 || !(base..base + 4096).contains(at);
            assert_eq!(store.read_record(*at).is_some(), whole, "{base} {length} {number}");
        }
        assert_eq!(put(&store, "T", 0, b"", b"next").0, end as i64);
    }
}

#[test]
fn short_segments_of_a_cleanly_stopped_store_are_not_touched() {
    for (base, length) in [(0, 0), (0, 1000), (4096, 0), (4096, 1000)] {
        let dir = tempfile::tempdir().unwrap();
        proven(dir.path());
        std::fs::remove_file(dir.path().join("abort")).unwrap();
        let path = segment(dir.path(), base);
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
        let error = refusal(&small(dir.path()));
        assert!(matches!(error, StoreError::SegmentSize { found, .. } if found == length), "{error}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
        assert!(!dir.path().join("abort").exists());
    }
}

#[test]
fn a_missing_segment_in_the_middle_is_not_skipped() {
    let dir = tempfile::tempdir().unwrap();
    proven(dir.path());
    std::fs::remove_file(segment(dir.path(), 4096)).unwrap();
    let error = refusal(&small(dir.path()));
    assert!(matches!(&error, StoreError::MissingSegment { path } if *path == segment(dir.path(), 4096)), "{error}");
    assert!(segment(dir.path(), 8192).exists());
}

#[test]
fn a_missing_last_segment_ends_the_log_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let places = proven(dir.path());
    std::fs::remove_file(segment(dir.path(), 8192)).unwrap();
    let store = open(&config);
    let left = places.iter().filter(|at| **at < 8192).count() as i64;
    assert_eq!((store.max_phys(), store.max_offset("T", 0)), (8192, left));
    assert_eq!(put(&store, "T", 0, b"", b"next").0, left);
    assert_eq!(bodies(&open_again(store, &config), "T", 0).len() as i64, left + 1);
}

#[test]
fn an_empty_file_before_the_first_segment_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    proven(dir.path());
    std::fs::remove_file(segment(dir.path(), 0)).unwrap();
    std::fs::remove_file(segment(dir.path(), 4096)).unwrap();
    std::fs::write(segment(dir.path(), 0), []).unwrap();
    let store = open(&config);
    assert_eq!((store.min_phys(), store.max_offset("T", 0)), (8192, 60));
    assert!(!segment(dir.path(), 0).exists());
}

#[test]
fn files_that_are_no_segments_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    proven(dir.path());
    for name in ["note.txt", "1", "00000000000000012288.bak"] {
        std::fs::write(dir.path().join("commitlog").join(name), b"mine").unwrap();
    }
    assert_eq!(open(&small(dir.path())).max_offset("T", 0), 60);
    assert_eq!(std::fs::read(dir.path().join("commitlog/note.txt")).unwrap(), b"mine");
}
