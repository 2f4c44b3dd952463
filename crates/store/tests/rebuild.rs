//! `rebuild` makes the views of Java's stores again, byte for byte where theirs are complete, and keeps what the log
//! cannot tell.

mod common;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{Fixture, Still, assert_sound, files::copy, open, put, small};
use store::{
    RealDisk, RebuildError, RebuildOptions, Rebuilt, Retention, Store, StoreConfig, StoreError, inspect::ViewOptions,
    rebuild,
};

fn run(root: &Path) -> Rebuilt {
    rebuild(Arc::new(RealDisk), root, &RebuildOptions::default(), &mut Still).unwrap()
}

/// Content of all files below a directory, by their path in it.
fn content(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => walk(root, &entry, found),
                false => drop(found.insert(entry.strip_prefix(root).unwrap().to_owned(), fs::read(&entry).unwrap())),
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

/// The directories that a rebuild makes.
fn is_view(path: &Path) -> bool {
    ["consumequeue", "batchconsumequeue", "index"].iter().any(|name| path.starts_with(name))
}

fn put_some(store: &Store, topic: &str, count: usize) -> Vec<(i64, i64, i64)> {
    (0..count).map(|_| put(store, topic, 0, b"KEYS\x01k\x02", b"body")).collect()
}

fn is_sound(root: &Path, config: &StoreConfig) {
    let (max_hash_slots, max_index) = (Some(config.max_hash_slots), Some(config.max_index));
    let options = ViewOptions { max_hash_slots, max_index, ..ViewOptions::default() };
    assert_sound(root, &options, "after a rebuild");
}

fn assert_same(what: &str, before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>) {
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{what}");
    let other = before.iter().find(|(path, bytes)| &after[*path] != *bytes);
    assert!(other.is_none(), "{what}: {:?}", other.map(|(path, _)| path));
}

#[test]
fn views_of_java_are_made_again_byte_for_byte() {
    for name in ["java-5.3.3-clean", "java-5.3.3-slave", "java-5.5.0-clean"] {
        let fixture = Fixture::unpack(name);
        let before = content(&fixture.root());
        let inode = |fixture: &Fixture| fs::metadata(fixture.root().join("consumequeue")).unwrap().ino();
        let old = inode(&fixture);
        let made = run(&fixture.root());
        assert!(made.units > 2000 && made.entries > 4000 && made.passed.is_empty(), "{made:?}");
        assert_ne!(inode(&fixture), old, "these are other files");
        assert_same(name, &before, &content(&fixture.root()));
        assert!(fixture.open().is_ok());
    }
}

#[test]
fn damaged_and_lost_views_are_made_again() {
    let fixture = Fixture::unpack("java-5.3.3-clean");
    let (root, before) = (fixture.root(), content(&fixture.root()));
    let views: Vec<_> = before.keys().filter(|path| is_view(path)).collect();
    for (number, path) in views.iter().enumerate() {
        let path = root.join(path);
        match number % 3 {
            // Sizes are learned from the first file of all.
            0 if number > 0 => fs::remove_file(path).unwrap(),
            1 => {
                let mut bytes = fs::read(&path).unwrap();
                bytes.iter_mut().skip(3).step_by(50).for_each(|byte| *byte ^= 0x11);
                fs::write(&path, bytes).unwrap();
            }
            _ => {}
        }
    }
    let options = RebuildOptions { config: Some(fixture.config.clone()), ..RebuildOptions::default() };
    rebuild(Arc::new(RealDisk), &root, &options, &mut Still).unwrap();
    let names = |content: &BTreeMap<PathBuf, Vec<u8>>| -> Vec<Vec<u8>> {
        content.iter().filter(|(path, _)| !path.starts_with("index")).map(|(_, bytes)| bytes.clone()).collect()
    };
    let after = content(&root);
    // The names of index files that are gone cannot be known.
    assert!(names(&before) == names(&after));
    let index = |content: &BTreeMap<PathBuf, Vec<u8>>| -> Vec<Vec<u8>> {
        content.iter().filter(|(path, _)| path.starts_with("index")).map(|(_, bytes)| bytes.clone()).collect()
    };
    assert!(index(&before) == index(&after));
    is_sound(&root, &fixture.config);
}

#[test]
fn without_any_view_a_deleted_topic_cannot_be_told_from_a_lost_one() {
    let fixture = Fixture::unpack("java-5.3.3-clean");
    let root = fixture.root();
    for name in ["consumequeue", "batchconsumequeue", "index"] {
        fs::remove_dir_all(root.join(name)).unwrap();
    }
    let made = run(&root);
    assert!(made.default_sizes && made.left_out.is_empty(), "{made:?}");
    let config =
        StoreConfig { queue_segment_size: 6_000_000, batch_queue_segment_size: 13_800_000, ..fixture.config.clone() };
    let store = open(&StoreConfig { max_hash_slots: 5_000_000, max_index: 20_000_000, ..config });
    assert_eq!((store.max_offset("CorpusGone", 0), store.max_offset("CorpusGone", 1)), (30, 30));
    assert_eq!(made.units, 5695, "those of the deleted topic are among them");
}

#[test]
fn topics_that_java_deleted_stay_away_unless_asked_for() {
    let fixture = Fixture::unpack("java-5.5.0-clean");
    let made = run(&fixture.root());
    assert_eq!(
        (made.left_out, fixture.root().join("consumequeue/CorpusGone").exists()),
        (vec![("CorpusGone".into(), 60)], false)
    );
    let config = Some(fixture.config.clone());
    let options = RebuildOptions { config, all_topics: true, ..RebuildOptions::default() };
    let made = rebuild(Arc::new(RealDisk), &fixture.root(), &options, &mut Still).unwrap();
    assert_eq!(made.entries, 15373, "tags have entries");
    assert!(made.left_out.is_empty() && fixture.root().join("consumequeue/CorpusGone/1").exists());
}

/// Counters of queues whose messages have all expired, of both kinds; each of the queues in another place of its file.
#[test]
fn expired_queues_keep_their_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { batch_queue_topics: Some(Arc::new(|topic| topic == "B")), ..small(dir.path()) };
    let store = open(&config);
    // Files of ten units: one that is full, one that is begun, one of a single unit.
    for (topic, count) in [("full", 20), ("begun", 13), ("one", 1), ("B", 17)] {
        put_some(&store, topic, count);
    }
    store.delete_topic("one").unwrap();
    put_some(&store, "again", 5);
    for number in 0..80 {
        put(&store, "T", number % 2, b"KEYS\x01k\x02", &[b'x'; 100]);
    }
    let all = Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments: 3 };
    store.delete_expired(all).unwrap();
    let range = |store: &Store, topic| (store.min_offset(topic, 0), store.max_offset(topic, 0));
    let topics = ["full", "begun", "B", "again", "T"];
    let before = topics.map(|topic| range(&store, topic));
    assert_eq!(before[..4], [(20, 20), (13, 13), (17, 17), (5, 5)]);
    assert!(before[4].0 > 0 && before[4].1 == 40);
    store.close().unwrap();
    let made = run(dir.path());
    let kept = ["B", "again", "begun", "full"].map(|topic| (topic.to_owned(), 0));
    assert_eq!(made.kept, kept);
    let again = run(dir.path());
    assert_eq!((again.kept, again.units), (made.kept, made.units), "a second one does the same");
    is_sound(dir.path(), &config);
    let store = open(&config);
    assert_eq!(topics.map(|topic| range(&store, topic)), before);
    assert_eq!(topics.map(|topic| put(&store, topic, 0, b"", b"next").0), [20, 13, 17, 5, 40]);
    assert_eq!(range(&store, "one"), (0, 0), "a deleted topic begins anew");
    store.close().unwrap();
}

/// The files that keep their counters have the same size as all others then.
#[test]
fn expired_queues_keep_their_offsets_in_files_of_another_size() {
    for (queue_segment_size, batch_queue_segment_size) in [(400, 920), (100, 230), (60, 138), (1000, 4600)] {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig { batch_queue_topics: Some(Arc::new(|topic| topic == "B")), ..small(dir.path()) };
        let store = open(&config);
        for (topic, count) in [("full", 20), ("begun", 13), ("B", 17)] {
            put_some(&store, topic, count);
        }
        for number in 0..80 {
            put(&store, "T", number % 2, b"KEYS\x01k\x02", &[b'x'; 100]);
        }
        let all = Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments: 3 };
        store.delete_expired(all).unwrap();
        store.close().unwrap();
        drop(store);
        let config = StoreConfig { queue_segment_size, batch_queue_segment_size, ..config };
        let options = RebuildOptions { config: Some(config.clone()), ..RebuildOptions::default() };
        let made = rebuild(Arc::new(RealDisk), dir.path(), &options, &mut Still).unwrap();
        assert_eq!(made.kept, ["B", "begun", "full"].map(|topic| (topic.to_owned(), 0)));
        is_sound(dir.path(), &config);
        let again = rebuild(Arc::new(RealDisk), dir.path(), &options, &mut Still).unwrap();
        assert_eq!((again.kept, again.units), (made.kept, made.units), "a second one does the same");
        let store = open(&config);
        let range = |topic| (store.min_offset(topic, 0), store.max_offset(topic, 0));
        assert_eq!(["full", "begun", "B"].map(range), [(20, 20), (13, 13), (17, 17)], "{queue_segment_size}");
        assert_eq!(["full", "begun", "B"].map(|topic| put(&store, topic, 0, b"", b"next").0), [20, 13, 17]);
    }
}

/// Of a plain queue the place of a unit tells its number, of a batch queue only the unit itself.
#[test]
fn queues_of_a_log_that_begins_later_keep_their_offsets_when_all_their_messages_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { batch_queue_topics: Some(Arc::new(|topic| topic == "B")), ..small(dir.path()) };
    let store = open(&config);
    let mut first = BTreeMap::new();
    let pass = |store: &Store, first: &mut BTreeMap<(&'static str, i64), i64>| {
        for topic in ["B", "T"] {
            let (offset, physical, _) = put(store, topic, 0, b"KEYS\x01k\x02", &[b'x'; 100]);
            first.insert((topic, offset), physical);
        }
    };
    (0..40).for_each(|_| pass(&store, &mut first));
    let all = Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments: 1 };
    store.delete_expired(all).unwrap();
    let [in_batch, plain] = ["B", "T"].map(|topic| store.min_offset(topic, 0));
    assert!(in_batch > 0 && plain > 0);
    store.close().unwrap();
    for without_views in [false, true] {
        if without_views {
            for name in ["consumequeue", "batchconsumequeue"] {
                fs::remove_dir_all(dir.path().join(name)).unwrap();
            }
            open(&config).close().unwrap();
        } else {
            run(dir.path());
        }
        is_sound(dir.path(), &config);
        let store = open(&config);
        let ends = |store: &Store| ["B", "T"].map(|topic| (store.min_offset(topic, 0), store.max_offset(topic, 0)));
        assert_eq!(ends(&store), [(in_batch, 40), (plain, 40)]);
        store.truncate(first[&("B", in_batch)].min(first[&("T", plain)])).unwrap();
        assert_eq!(ends(&store), [(in_batch, in_batch), (plain, plain)]);
        store.close().unwrap();
        let store = open(&config);
        assert_eq!(ends(&store), [(in_batch, in_batch), (plain, plain)], "after another start");
        (in_batch.max(plain)..40).for_each(|_| pass(&store, &mut first));
        ["B", "T"].into_iter().filter(|topic| store.max_offset(topic, 0) < 40).for_each(|topic| {
            put_some(&store, topic, 1);
        });
        assert_eq!(ends(&store), [(in_batch, 40), (plain, 40)]);
        store.close().unwrap();
    }
}

#[test]
fn a_running_broker_is_refused_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&small(dir.path()));
    put(&store, "T", 0, b"", b"body");
    let before = content(dir.path());
    let error = rebuild(Arc::new(RealDisk), dir.path(), &RebuildOptions::default(), &mut Still).unwrap_err();
    assert!(matches!(error, RebuildError::Store(StoreError::Locked { .. })), "{error}");
    assert_same("refused", &before, &content(dir.path()));
    drop(store);
    run(dir.path());
}

#[test]
fn directories_of_others_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    open(&config).close().unwrap();
    for name in ["rebuild", "rebuild.done"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("photo"), "of others").unwrap();
        let before = content(dir.path());
        let error = rebuild(Arc::new(RealDisk), dir.path(), &RebuildOptions::default(), &mut Still).unwrap_err();
        assert!(matches!(&error, RebuildError::Store(StoreError::Foreign { path }) if path.ends_with(name)), "{error}");
        assert_same(name, &before, &content(dir.path()));
        fs::remove_dir_all(dir.path().join(name)).unwrap();
    }
}

/// Damage with records behind it that are surely there: a body alone keeps its message's place, a head leaves a hole.
#[test]
fn damage_in_the_log_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    let places: Vec<_> = (0..60).map(|_| put(&store, "T", 0, b"", &[b'x'; 100]).1).collect();
    store.close().unwrap();
    common::damage::flip(dir.path(), places[25] + 110);
    common::damage::flip(dir.path(), places[30] + 5);
    let made = run(dir.path());
    let passed: Vec<_> = made.passed.iter().map(|passed| (passed.from, passed.to)).collect();
    assert_eq!(passed, [(places[25], places[26]), (places[30], places[31])], "{made:?}");
    let store = open(&config);
    assert_eq!((store.min_offset("T", 0), store.max_offset("T", 0)), (0, 60));
    let at = |offset| store.queue_unit("T", 0, offset).map(|unit| unit.physical_offset);
    assert_eq!((at(25), at(31)), (Some(places[25]), Some(places[31])));
    assert_eq!(at(30), None, "what cannot be read stands for nothing");
}

/// A log that ends in a torn record, and one with records of another time behind its end.
#[test]
fn what_is_behind_the_end_is_not_queued() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    let places: Vec<_> = (0..15).map(|_| put(&store, "T", 0, b"", &[b'x'; 100]).1).collect();
    store.close().unwrap();
    common::damage::flip(dir.path(), places[14] + 110);
    let made = run(dir.path());
    assert_eq!((made.end, made.records, made.passed.len()), (places[14], 14, 0));
    assert_eq!(open(&config).max_offset("T", 0), 14);
    // The queues go to 14 now: nothing proves the record behind the damage.
    let file = common::files::segment(dir.path(), 0);
    let mut bytes = fs::read(&file).unwrap();
    bytes.copy_within(places[12] as usize..places[13] as usize, places[14] as usize);
    bytes[places[14] as usize + 28..places[14] as usize + 36].copy_from_slice(&places[14].to_be_bytes());
    bytes[places[13] as usize + 4] = 0;
    fs::write(&file, bytes).unwrap();
    for (topic, base) in [("T/0", 0), ("T/0", 200)] {
        common::files::write(
            &dir.path().join(format!("consumequeue/{topic}/{base:020}")),
            if base == 0 { 0 } else { 60 },
            &[0; 20],
        );
    }
    let made = run(dir.path());
    assert_eq!((made.end, made.records), (places[13], 13), "{made:?}");
}

/// Its messages before that one have left the log, and so has their file: the name of the next one tells how many they were.
#[test]
fn a_queue_whose_only_record_is_lost_keeps_the_number_of_those_that_expired() {
    lose_the_only_record(false);
}

/// A power cut within a truncation leaves its file without a byte.
#[test]
fn a_queue_whose_only_file_was_cut_to_nothing_keeps_that_number_too() {
    lose_the_only_record(true);
}

fn lose_the_only_record(is_file_cut: bool) {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    put_some(&store, "T", 10);
    (0..80).for_each(|_| assert!(put(&store, "U", 0, b"", &[b'x'; 100]).0 >= 0));
    let (_, physical, end) = put_some(&store, "T", 1)[0];
    store.flush_queues().unwrap();
    let all = Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments: 1 };
    assert_eq!(store.delete_expired(all).unwrap(), 1);
    drop(store);
    let segment = physical - physical % 4096;
    let lost = vec![0; (end - physical) as usize];
    common::files::write(&common::files::segment(dir.path(), segment), (physical - segment) as u64, &lost);
    if is_file_cut {
        let file = dir.path().join("consumequeue/T/0").join(format!("{:020}", 200));
        std::fs::File::options().write(true).open(file).unwrap().set_len(0).unwrap();
    }
    assert_eq!(run(dir.path()).kept, [("T".to_owned(), 0)]);
    let store = open(&config);
    assert_eq!((store.min_offset("T", 0), store.max_offset("T", 0)), (10, 10));
}

#[test]
fn a_queue_whose_records_are_lost_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    put_some(&store, "T", 5);
    let (_, last, _) = put_some(&store, "lost", 1)[0];
    store.close().unwrap();
    common::damage::flip(dir.path(), last + 5);
    let made = run(dir.path());
    assert_eq!((made.end, made.records, made.kept.len(), made.queues), (last, 5, 0, 1));
}

#[test]
fn light_queues_and_inner_batches() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        enable_lmq: true,
        enable_multi_dispatch: true,
        batch_queue_topics: Some(Arc::new(|topic| topic == "B")),
        ..small(dir.path())
    };
    let store = open(&config);
    for number in 0..50 {
        let names = ["%LMQ%a,%LMQ%b", "%LMQ%b"][number % 2];
        put(&store, "T", 0, format!("INNER_MULTI_DISPATCH\x01{names}\x02TAGS\x01t{number}\x02").as_bytes(), b"to many");
        put(&store, "B", 0, b"", b"in a batch queue");
    }
    store.close().unwrap();
    let before = content(dir.path());
    assert!(before.keys().any(|path| path.starts_with("consumequeue/%LMQ%a")));
    run(dir.path());
    assert_same("light queues", &before, &content(dir.path()));
}

/// A rebuild that was stopped before it was put in place, then a broker that knows nothing of it: what it has written
/// stays.
#[test]
fn views_that_a_broker_went_on_with_stay() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    let places = put_some(&store, "T", 20);
    store.close().unwrap();
    // As it is at the commit point: the marks of what the views in place know.
    let done = dir.path().join("rebuild.done");
    let (_, last, end) = places[19];
    let mark = [end, 0, last].map(i64::to_be_bytes).concat();
    for name in ["consumequeue", "batchconsumequeue", "index"] {
        copy(&dir.path().join(name), &done.join(name));
    }
    fs::write(done.join("made"), &mark).unwrap();
    let aside = dir.path().join("kept");
    fs::rename(&done, &aside).unwrap();
    let store = open(&config);
    put_some(&store, "T", 20);
    store.close().unwrap();
    let before = content(dir.path());
    fs::rename(&aside, &done).unwrap();
    let store = open(&config);
    assert!(!done.exists());
    assert_eq!(store.max_offset("T", 0), 40);
    store.close().unwrap();
    let after = content(dir.path());
    let views = |content: &BTreeMap<PathBuf, Vec<u8>>| -> BTreeMap<PathBuf, Vec<u8>> {
        content.iter().filter(|(path, _)| is_view(path)).map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
    };
    assert_same("views", &views(&before), &views(&after));
}

/// What a power loss left behind damage is no part of the log: nothing says that it was durable, and a start will cut it off.
#[test]
fn a_log_that_a_power_loss_cut_ends_where_a_start_lets_it_end() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    put_some(&store, "U", 1);
    let (_, physical, end) = put_some(&store, "T", 3)[0];
    drop(store);
    let path = dir.path().join("commitlog/00000000000000000000");
    let mut bytes = fs::read(&path).unwrap();
    bytes[physical as usize..end as usize].fill(0);
    fs::write(&path, bytes).unwrap();
    let made = run(dir.path());
    assert_eq!((made.end, made.passed.len()), (physical, 0), "{made:?}");
    let store = open(&config);
    assert_eq!((store.max_phys(), store.max_offset("U", 0)), (physical, 1));
    assert_eq!((store.min_offset("T", 0), store.max_offset("T", 0)), (0, 0));
}
