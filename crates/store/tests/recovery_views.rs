//! Starts with a checkpoint, consume queues or an index that do not fit the log.

mod common;

use std::{collections::BTreeSet, path::Path, sync::Arc};

use common::{bodies, clock_at, files::*, message, open, put, small};
use store::{Batch, RealDisk, Store, StoreConfig, StoreError};
use wire::{record_encode::NewRecord, sys_flag};

/// A killed store with 60 keyed messages in two queues, and what must be found of them.
fn killed(root: &Path) -> [Vec<Vec<u8>>; 2] {
    let store = open(&small(root));
    fill(&store, "T", 60);
    [0, 1].map(|queue_id| bodies(&store, "T", queue_id))
}

/// Nothing is missing, and the next message follows the last one.
fn is_whole(config: &StoreConfig, want: &[Vec<Vec<u8>>; 2], what: &str) {
    let store = open(config);
    for (queue_id, want) in (0..).zip(want) {
        assert_eq!(&bodies(&store, "T", queue_id), want, "{what}, queue {queue_id}");
    }
    assert!((0..60).all(|number| has_key(&store, "T", number)), "{what}");
    let next = want[0].len() as i64;
    assert_eq!(put(&store, "T", 0, b"", b"next").0, next, "{what}");
    let store = open_again(store, config);
    assert_eq!(bodies(&store, "T", 0).len() as i64, next + 1, "{what}");
}

fn stamp(root: &Path, field: u64, value: i64) {
    write(&root.join("checkpoint"), field * 8, &value.to_be_bytes());
}

#[test]
fn a_checkpoint_that_is_missing_old_in_the_future_or_of_another_size() {
    let far = i64::MAX / 2;
    type Edit = fn(&Path);
    let edits: [(&str, Edit); 8] = [
        ("missing", |root| std::fs::remove_file(root.join("checkpoint")).unwrap()),
        ("empty", |root| std::fs::write(root.join("checkpoint"), []).unwrap()),
        ("ten bytes", |root| std::fs::write(root.join("checkpoint"), [1; 10]).unwrap()),
        ("longer", |root| std::fs::write(root.join("checkpoint"), vec![0; 9000]).unwrap()),
        ("nonsense", |root| std::fs::write(root.join("checkpoint"), vec![0xA5; 4096]).unwrap()),
        ("old", |root| (0..8).for_each(|field| stamp(root, field, 1))),
        ("offsets in the future", |root| [5, 6, 7].into_iter().for_each(|field| stamp(root, field, i64::MAX / 2))),
        ("negative", |root| (0..8).for_each(|field| stamp(root, field, -1))),
    ];
    for (what, edit) in edits {
        let dir = tempfile::tempdir().unwrap();
        let want = killed(dir.path());
        let store = open(&small(dir.path()));
        store.flush_queues().unwrap();
        store.persist_checkpoint().unwrap();
        drop(store);
        edit(dir.path());
        is_whole(&small(dir.path()), &want, what);
    }
    // Times in the future with a killed store whose last units are lost: the newest segment is read all the same.
    let dir = tempfile::tempdir().unwrap();
    let want = killed(dir.path());
    let store = open(&small(dir.path()));
    store.flush_queues().unwrap();
    store.persist_checkpoint().unwrap();
    drop(store);
    [0, 1, 2].into_iter().for_each(|field| stamp(dir.path(), field, far));
    [5, 6, 7].into_iter().for_each(|field| stamp(dir.path(), field, 0));
    let last = dir.path().join("consumequeue/T/0/00000000000000000400");
    write(&last, 9 * 20, &[0; 20]);
    is_whole(&small(dir.path()), &want, "times in the future");
}

#[test]
fn a_queue_unit_torn_at_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let want = killed(&whole);
    let stopped = dir.path().join("stopped");
    copy(&whole, &stopped);
    open(&small(&stopped)).close().unwrap();
    // The last unit of queue 0; records of queue 1 follow the last one of queue 0 in the log.
    for cut in 0..20 {
        for clean in [false, true] {
            let torn = dir.path().join("torn");
            let _ = std::fs::remove_dir_all(&torn);
            copy(if clean { &stopped } else { &whole }, &torn);
            write(&torn.join("consumequeue/T/0/00000000000000000400"), 9 * 20 + cut, &vec![0; 20 - cut as usize]);
            is_whole(&small(&torn), &want, &format!("cut at {cut}, clean: {clean}"));
        }
    }
}

/// A cut of the log, of which a power loss took what was not synced: a unit of a record that was cut away leads to a later
/// record of the queue, which was stored in its place since.
#[test]
fn a_unit_of_a_cut_record_gives_way_to_those_that_came_since() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    let want: Vec<Vec<u8>> = (0..9u8).map(|number| vec![number]).collect();
    for body in &want {
        put(&store, "T", 0, b"", body);
        if body[0] == 5 {
            store.flush_queues().unwrap();
            store.persist_checkpoint().unwrap();
        }
    }
    drop(store);
    let path = dir.path().join("consumequeue/T/0/00000000000000000000");
    let units = std::fs::read(&path).unwrap();
    write(&path, 6 * 20, &units[7 * 20..8 * 20]);
    write(&path, 7 * 20, &[0; 60]);
    let store = open(&config);
    assert_eq!(bodies(&store, "T", 0), want);
    assert_eq!(bodies(&open_again(store, &config), "T", 0), want);
}

/// A store whose topic `B` has batch queues.
fn with_batches(root: &Path) -> StoreConfig {
    StoreConfig { batch_queue_topics: Some(Arc::new(|topic| topic == "B")), ..small(root) }
}

fn put_inner_batch(store: &Store, count: usize, body: &[u8]) {
    let properties = format!("INNER_NUM\x01{count}\x02");
    let record = NewRecord { sys_flag: sys_flag::INNER_BATCH, ..message("B", 0, properties.as_bytes(), body) };
    let mut batch = Batch::new();
    batch.push(&record).unwrap();
    store.append(&mut batch).unwrap();
    store.dispatch();
}

#[test]
fn a_batch_queue_unit_torn_at_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let store = open(&with_batches(&whole));
    (0..14).for_each(|number| put_inner_batch(&store, 2 + number % 3, &[number as u8; 30]));
    let (max, want) = (store.max_offset("B", 0), bodies(&store, "B", 0));
    put(&store, "T", 0, b"", b"behind it");
    drop(store);
    for (unit, cut) in (0..46).map(|cut| (3, cut)).chain((0..46).map(|cut| (2, cut))) {
        let torn = dir.path().join("torn");
        let _ = std::fs::remove_dir_all(&torn);
        copy(&whole, &torn);
        let at = unit * 46 + cut;
        write(&torn.join("batchconsumequeue/B/0/00000000000000000460"), at, &vec![0; 46 - cut as usize]);
        let store = open(&with_batches(&torn));
        assert_eq!((store.max_offset("B", 0), bodies(&store, "B", 0)), (max, want.clone()), "unit {unit}, {cut}");
        put_inner_batch(&store, 5, b"next");
        assert_eq!(store.max_offset("B", 0), max + 5);
    }
}

/// Its place is that of another record then, or of none, or of one that has left the log; units behind it are whole.
#[test]
fn a_batch_queue_unit_whose_beginning_is_lost_at_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    for late in [false, true] {
        let whole = dir.path().join(format!("whole {late}"));
        let config = StoreConfig { batch_queue_segment_size: 920, ..with_batches(&whole) };
        let store = open(&config);
        let fill = |count: usize| (0..count).for_each(|_| assert!(put(&store, "T", 0, b"", &[b'x'; 1000]).1 >= 0));
        let batches = |count: usize| (0..count).for_each(|number| put_inner_batch(&store, 2 + number % 3, &[1; 30]));
        batches(4);
        fill(60);
        batches(1);
        fill(1);
        store.flush().unwrap();
        store.flush_queues().unwrap();
        store.persist_checkpoint().unwrap();
        if late {
            let all = store::Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments: 14 };
            store.delete_expired(all).unwrap();
        }
        fill(10);
        batches(5);
        let ends = |store: &Store| (store.min_offset("B", 0), store.max_offset("B", 0), bodies(store, "B", 0));
        let want = ends(&store);
        drop(store);
        for (unit, lost) in [5, 6, 7].into_iter().flat_map(|unit| (1..46).map(move |lost| (unit, lost))) {
            let torn = dir.path().join("torn");
            let _ = std::fs::remove_dir_all(&torn);
            copy(&whole, &torn);
            write(&torn.join("batchconsumequeue/B/0/00000000000000000000"), unit * 46, &vec![0; lost]);
            let store = open(&StoreConfig { root: torn, ..config.clone() });
            assert!(ends(&store) == want, "unit {unit}, {lost} bytes, late {late}: {:?}", ends(&store));
        }
    }
}

#[test]
fn queues_that_are_older_than_the_log_catch_up() {
    for clean in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let config = small(dir.path());
        let store = open(&config);
        fill(&store, "T", 20);
        store.flush_queues().unwrap();
        store.persist_checkpoint().unwrap();
        copy(&dir.path().join("consumequeue"), &dir.path().join("old"));
        (20..60).for_each(|number: i32| {
            put(&store, "T", number % 2, format!("UNIQ_KEY\x01T-{number}\x02").as_bytes(), &number.to_be_bytes());
        });
        let want = [0, 1].map(|queue_id| bodies(&store, "T", queue_id));
        store.flush_queues().unwrap();
        store.persist_checkpoint().unwrap();
        if clean {
            store.close().unwrap();
        }
        drop(store);
        std::fs::remove_dir_all(dir.path().join("consumequeue")).unwrap();
        std::fs::rename(dir.path().join("old"), dir.path().join("consumequeue")).unwrap();
        is_whole(&config, &want, &format!("clean: {clean}"));
    }
}

#[test]
fn all_queues_or_the_index_missing() {
    for clean in [false, true] {
        for missing in [&["consumequeue"][..], &["index"], &["consumequeue", "index", "checkpoint"]] {
            let dir = tempfile::tempdir().unwrap();
            let want = killed(dir.path());
            let store = open(&small(dir.path()));
            store.flush_queues().unwrap();
            store.persist_checkpoint().unwrap();
            if clean {
                store.close().unwrap();
            }
            drop(store);
            for name in missing {
                let path = dir.path().join(name);
                std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path)).unwrap();
            }
            is_whole(&small(dir.path()), &want, &format!("{missing:?}, clean: {clean}"));
        }
    }
}

/// Batch queues lie in another directory: that they are there says nothing of the others.
#[test]
fn plain_queues_are_made_again_beside_batch_queues() {
    for clean in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let config = small(dir.path());
        let store = open(&config);
        for _ in 0..60 {
            put(&store, "T", 0, b"", &[1; 50]);
            let mut batch = Batch::new();
            let inner = message("B", 0, b"INNER_NUM\x013\x02", b"inner");
            batch.push(&NewRecord { sys_flag: sys_flag::INNER_BATCH, ..inner }).unwrap();
            store.append(&mut batch).unwrap();
        }
        store.flush_queues().unwrap();
        store.persist_checkpoint().unwrap();
        if clean {
            store.close().unwrap();
        }
        drop(store);
        std::fs::remove_dir_all(dir.path().join("consumequeue")).unwrap();
        let store = open(&config);
        let ends = |topic| (store.min_offset(topic, 0), store.max_offset(topic, 0));
        assert_eq!((ends("T"), ends("B")), ((0, 60), (0, 180)), "clean: {clean}");
    }
}

#[test]
fn queue_files_missing_at_the_front_and_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    killed(dir.path());
    let file = |base: i64| dir.path().join(format!("consumequeue/T/0/{base:020}"));
    std::fs::remove_file(file(0)).unwrap();
    let store = open(&small(dir.path()));
    assert_eq!((store.min_offset("T", 0), store.max_offset("T", 0)), (10, 30));
    assert_eq!(bodies(&store, "T", 0).len(), 20);
    drop(store);
    write_back(&file(0));
    std::fs::remove_file(file(200)).unwrap();
    let error = Store::open(small(dir.path()), Arc::new(RealDisk), clock_at(1)).err().unwrap();
    assert!(matches!(&error, StoreError::MissingSegment { path } if *path == file(200)), "{error}");
}

fn write_back(path: &Path) {
    std::fs::write(path, [0; 200]).unwrap();
}

#[test]
fn an_index_that_is_older_cut_short_or_damaged_finds_every_key() {
    type Edit = fn(&Path);
    let edits: [(&str, Edit); 4] = [
        ("header lost", |file| write(file, 0, &[0; 40])),
        ("slots lost", |file| write(file, 40, &[0; 256])),
        ("cut short", |file| std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(500).unwrap()),
        ("entries lost", |file| write(file, 40 + 256 + 20 * 10, &[0; 100])),
    ];
    for (what, edit) in edits {
        let dir = tempfile::tempdir().unwrap();
        let want = killed(dir.path());
        let store = open(&small(dir.path()));
        store.flush_queues().unwrap();
        store.persist_checkpoint().unwrap();
        drop(store);
        let files = std::fs::read_dir(dir.path().join("index")).unwrap();
        let newest = files.map(|entry| entry.unwrap().path()).max().unwrap();
        edit(&newest);
        is_whole(&small(dir.path()), &want, what);
    }
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Headers of the index files, oldest first: store times, places, used slots and next entry.
fn index_heads(root: &Path) -> Vec<([i64; 2], [i64; 2], i32, i32)> {
    let files = std::fs::read_dir(root.join("index")).unwrap();
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let head = |path| {
        let bytes = std::fs::read(path).unwrap();
        let [times, places] = [0, 16].map(|at| [i64_at(&bytes, at), i64_at(&bytes, at + 8)]);
        (times, places, i32_at(&bytes, 32), i32_at(&bytes, 36))
    };
    files.into_iter().map(head).collect()
}

/// A second goes by before each of 100 messages with a key, of which 39 fill an index file; the first 10 are flushed.
/// Returns their places.
fn killed_with_two_index_files_filled(root: &Path) -> Vec<i64> {
    let clock = clock_at(1_000_000);
    let store = Store::open(small(root), Arc::new(RealDisk), clock.clone()).unwrap();
    let put_one = |number: i64| {
        clock.0.store(1_000_000 + number * 1000, std::sync::atomic::Ordering::SeqCst);
        let place = put(&store, "T", 0, format!("UNIQ_KEY\x01T-{number}\x02").as_bytes(), b"body").1;
        if number == 9 {
            store.flush_queues().unwrap();
            store.persist_checkpoint().unwrap();
        }
        place
    };
    (0..100).map(put_one).collect()
}

/// A Java broker that goes on reads headers alone: one of zeros would end its look-ups in a range of times.
#[test]
fn index_files_that_were_filled_since_the_last_flush_have_their_headers_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let places = killed_with_two_index_files_filled(dir.path());
    let heads = index_heads(dir.path());
    let time = |number: i64| 1_000_000 + number * 1000;
    for (head, (first, last)) in heads.iter().zip([(0, 38), (39, 77)]) {
        assert_eq!(head.0, [time(first), time(last)]);
        assert_eq!(head.1, [places[first as usize], places[last as usize]]);
        assert_eq!(head.3, 40);
    }
    assert_eq!(heads[2..], [([time(77); 2], [places[77]; 2], 0, 1)], "where the one before it ends");
    let store = open(&small(dir.path()));
    assert!((0..100).all(|number| has_key(&store, "T", number)));
    store.flush_queues().unwrap();
    assert!(index_heads(dir.path()).iter().all(|head| head.2 > 0), "all of it is durable");
}

/// The header came to the disk, what it tells of did not.
#[test]
fn a_header_that_says_full_before_the_rest_is_durable_is_not_trusted_after_a_power_cut() {
    for lost in [0..1, 38..39, 15..20, 0..39] {
        let dir = tempfile::tempdir().unwrap();
        killed_with_two_index_files_filled(dir.path());
        let files = std::fs::read_dir(dir.path().join("index")).unwrap();
        let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let (at, length) = (40 + 64 * 4 + 20 * (1 + lost.start), 20 * (lost.end - lost.start));
        write(&files[1], at as u64, &vec![0; length]);
        let store = open(&small(dir.path()));
        assert!((0..100).all(|number| has_key(&store, "T", number)), "{lost:?}");
    }
}

/// As a write leaves it that failed: the lowest byte of the place has not arrived, and it leads to another record.
#[test]
fn a_part_of_an_index_entry_is_not_taken_for_one_of_another_record() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    let (_, physical, _) = put(&store, "T", 0, b"UNIQ_KEY\x01a\x02", b"");
    put(&store, "T", 0, b"", b"has no key");
    store.flush_queues().unwrap();
    store.persist_checkpoint().unwrap();
    drop(store);
    let file = std::fs::read_dir(dir.path().join("index")).unwrap().next().unwrap().unwrap().path();
    let at = |entry: u64| 40 + 64 * 4 + entry * 20;
    assert_eq!(std::fs::read(&file).unwrap()[36..40], 2i32.to_be_bytes(), "the next entry");
    let hash_of = |key: &str| wire::hash::java_hash(&format!("T#{key}"));
    let key = ["0", "1"].into_iter().find(|key| hash_of(key) % 64 != hash_of("a") % 64).unwrap();
    write(&file, at(2), &hash_of(key).to_be_bytes());
    write(&file, at(2) + 4, &physical.to_be_bytes());
    let store = open(&config);
    let found = |key: &str| store.query("T", key, 10, 0, i64::MAX).physical_offsets;
    assert_eq!((found(key), found("a")), (vec![], vec![physical]));
    let (_, next, _) = put(&store, "T", 0, b"UNIQ_KEY\x01b\x02", b"");
    assert_eq!((found("a"), found("b")), (vec![physical], vec![next]));
}

/// Sizes of all files of queues and index.
fn sizes(root: &Path) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![root.join("consumequeue"), root.join("batchconsumequeue"), root.join("index")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
            match entry.metadata().unwrap() {
                data if data.is_dir() => dirs.push(entry.path()),
                data => drop(found.insert(data.len())),
            }
        }
    }
    found
}

#[test]
fn another_size_of_queue_and_index_files_is_taken_from_them() {
    let others = [(400, 920, 128, 90), (100, 230, 10, 20), (6_000_000, 13_800_000, 5000, 20_000)];
    for (clean, (queue_segment_size, batch_queue_segment_size, max_hash_slots, max_index)) in
        [true, false].into_iter().flat_map(|clean| others.map(|other| (clean, other)))
    {
        let dir = tempfile::tempdir().unwrap();
        let config = with_batches(dir.path());
        let store = open(&config);
        fill(&store, "T", 60);
        for _ in 0..30 {
            put(&store, "B", 0, b"", b"single");
        }
        put(&store, "Short", 0, b"", b"in one file");
        let want = [0, 1].map(|queue_id| bodies(&store, "T", queue_id));
        if clean {
            store.close().unwrap();
        } else {
            store.flush_queues().unwrap();
        }
        drop(store);
        let made_with = sizes(dir.path());
        assert_eq!(made_with, [200, 460, 40 + 64 * 4 + 40 * 20].into());
        let other =
            StoreConfig { queue_segment_size, batch_queue_segment_size, max_hash_slots, max_index, ..config.clone() };
        is_whole(&other, &want, &format!("{clean} {queue_segment_size}"));
        let store = open(&other);
        fill(&store, "New", 60);
        assert_eq!(store.max_offset("B", 0), 30);
        store.close().unwrap();
        drop(store);
        assert_eq!(sizes(dir.path()), made_with, "{clean} {queue_segment_size}");
        assert_eq!(bodies(&open(&config), "T", 1), want[1], "{clean} {queue_segment_size}");
    }
}

/// As a kill within a flush leaves it: slots were written, the header, which counts them, was not. And as a power cut leaves
/// one that was just made.
#[test]
fn an_index_file_that_does_not_tell_its_sizes_has_those_of_the_one_before_it() {
    type Edit = fn(&Path);
    let edits: [(&str, Edit); 2] = [
        ("slots", |file| write(file, 40, &[0, 0, 0, 1].repeat(64))),
        ("short", |file| std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(300).unwrap()),
    ];
    for (what, edit) in edits {
        for (max_hash_slots, max_index) in [(128, 90), (10, 20)] {
            let dir = tempfile::tempdir().unwrap();
            let want = killed(dir.path());
            let files = std::fs::read_dir(dir.path().join("index")).unwrap();
            let newest = files.map(|entry| entry.unwrap().path()).max().unwrap();
            edit(&newest);
            is_whole(&StoreConfig { max_hash_slots, max_index, ..small(dir.path()) }, &want, what);
            assert_eq!(std::fs::metadata(&newest).unwrap().len(), 40 + 64 * 4 + 40 * 20, "{what} {max_index}");
        }
    }
}

/// Of the only index file a power cut took slots, and the configuration is another one: where its entries lie cannot be told.
#[test]
fn an_index_file_that_does_not_tell_its_sizes_is_made_again_from_the_log() {
    for (max_hash_slots, max_index) in [(128, 90), (10, 20), (14, 90)] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&small(dir.path()));
        fill(&store, "T", 30);
        store.flush_queues().unwrap();
        store.persist_checkpoint().unwrap();
        let file = std::fs::read_dir(dir.path().join("index")).unwrap().next().unwrap().unwrap().path();
        drop(store);
        write(&file, 40, &[0; 64 * 4]);
        let config = StoreConfig { max_hash_slots, max_index, ..small(dir.path()) };
        let store = open(&config);
        assert!((0..30).all(|number| has_key(&store, "T", number)), "{max_hash_slots} {max_index}");
        let store = open_again(store, &config);
        assert!((0..30).all(|number| has_key(&store, "T", number)), "again {max_hash_slots} {max_index}");
    }
}

/// A kill came between slots and header of the only index file.
#[test]
fn an_index_file_whose_header_is_older_than_its_slots_tells_its_sizes() {
    for (max_hash_slots, max_index) in [(128, 90), (10, 20), (14, 90)] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&small(dir.path()));
        fill(&store, "T", 20);
        store.flush_queues().unwrap();
        let file = std::fs::read_dir(dir.path().join("index")).unwrap().next().unwrap().unwrap().path();
        let header = std::fs::read(&file).unwrap()[..40].to_vec();
        (20..30).for_each(|number: i32| {
            put(&store, "T", number % 2, format!("UNIQ_KEY\x01T-{number}\x02").as_bytes(), b"");
        });
        store.flush_queues().unwrap();
        drop(store);
        write(&file, 0, &header);
        let store = open(&StoreConfig { max_hash_slots, max_index, ..small(dir.path()) });
        assert!((0..30).all(|number| has_key(&store, "T", number)), "{max_hash_slots} {max_index}");
        assert_eq!(std::fs::metadata(&file).unwrap().len(), 40 + 64 * 4 + 40 * 20);
    }
}

/// A power cut took the length of a file: what is left is no size, where other files are longer.
#[test]
fn a_short_file_is_not_taken_for_one_of_another_size() {
    for units in [11, 13, 19] {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig { queue_segment_size: 400, ..small(dir.path()) };
        let store = open(&config);
        (0..2 * units).for_each(|number| assert!(put(&store, "T", number % 2, b"", &[7]).0 >= 0));
        drop(store);
        let path = |queue_id: i32| dir.path().join(format!("consumequeue/T/{queue_id}/00000000000000000000"));
        let file = std::fs::OpenOptions::new().write(true).open(path(0)).unwrap();
        file.set_len(units as u64 * 20).unwrap();
        let store = open(&StoreConfig { queue_segment_size: 200, ..config });
        assert_eq!([0, 1].map(|queue_id| bodies(&store, "T", queue_id).len()), [units as usize; 2]);
        assert_eq!([0, 1].map(|queue_id| std::fs::metadata(path(queue_id)).unwrap().len()), [400; 2]);
    }
}

#[test]
fn the_only_file_of_a_row_tells_its_size() {
    for (clean, size) in [(true, 400), (true, 100), (false, 100)] {
        let dir = tempfile::tempdir().unwrap();
        let config = small(dir.path());
        let store = open(&config);
        for number in 0..3 {
            put(&store, "T", 0, b"", &[number]);
        }
        if clean {
            store.close().unwrap();
        }
        drop(store);
        let store = open(&StoreConfig { queue_segment_size: size, ..config });
        for number in 3..25 {
            put(&store, "T", 0, b"", &[number]);
        }
        assert_eq!(bodies(&store, "T", 0).len(), 25);
        store.close().unwrap();
        let files = std::fs::read_dir(dir.path().join("consumequeue/T/0")).unwrap();
        assert!(files.map(Result::unwrap).all(|file| file.metadata().unwrap().len() == 200), "{clean} {size}");
    }
}

#[test]
fn f17_a_queue_that_is_cut_away_wholly_begins_at_0() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    fill(&store, "T", 10);
    let keep = store.max_phys();
    fill(&store, "New", 200);
    store.flush_queues().unwrap();
    store.truncate(keep).unwrap();
    let store = open_again(store, &config);
    assert_eq!((store.min_offset("New", 0), store.max_offset("New", 0)), (0, 0));
    fill(&store, "New", 20);
    assert_eq!((store.min_offset("New", 0), bodies(&store, "New", 0).len()), (0, 10));
}

#[test]
fn a_unit_with_a_size_below_zero_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&small(dir.path()));
    for number in 0..3 {
        put(&store, "T", 0, b"", &[number]);
    }
    store.close().unwrap();
    drop(store);
    write(&dir.path().join("consumequeue/T/0/00000000000000000000"), 20 + 8, &i32::MIN.to_be_bytes());
    let store = open(&small(dir.path()));
    assert_eq!(bodies(&store, "T", 0), [[0], [2]]);
}
