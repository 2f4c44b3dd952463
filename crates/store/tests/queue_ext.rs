//! Consume queue extensions: written as Java writes them, read whoever wrote them, and never a reason to hide a message.

mod common;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{Still, bodies, files::*, open, open_at, put, small, verified};
use store::{
    MessageFilter, RealDisk, RebuildOptions, Rebuilt, Retention, Store, StoreConfig,
    inspect::{FindingKind, StoreView, ViewOptions, Weight, diff},
    rebuild,
};
use wire::{hash::tags_code, record::RecordView};

const TAGS: [&[u8]; 2] = [b"TAGS\x01TagA\x02", b"TAGS\x01TagB\x02"];
/// 51 units and the mark that says there are no more.
const SEGMENT: u64 = 1024;

fn extended(root: &Path) -> StoreConfig {
    StoreConfig { queue_ext: true, queue_ext_segment_size: SEGMENT, ..small(root) }
}

/// Messages with two tags in turn.
fn fill_tagged(store: &Store, count: u8) {
    for number in 0..count {
        put(store, "T", 0, TAGS[usize::from(number % 2)], &[number; 20]);
    }
}

fn ext_dir(root: &Path) -> PathBuf {
    root.join("consumequeue_ext/T/0")
}

/// All bytes of the extension, file by file.
fn ext_bytes(root: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(ext_dir(root)).into_iter().flatten().map(Result::unwrap);
    let mut files: Vec<_> =
        entries.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect();
    files.sort();
    files
}

fn address(bytes: &[u8], unit: usize) -> i64 {
    i64::from_be_bytes(bytes[unit * 20 + 12..unit * 20 + 20].try_into().unwrap())
}

fn queue_file(root: &Path, base: u64) -> PathBuf {
    root.join(format!("consumequeue/T/0/{base:020}"))
}

struct Only(i64);

impl MessageFilter for Only {
    fn matches_tags_code(&self, tags_code: Option<i64>) -> bool {
        tags_code.is_none_or(|code| code == self.0)
    }

    fn matches_record(&self, _: &RecordView<'_>) -> bool {
        true
    }
}

/// Messages that a filter by the code of `TagB` lets through.
fn of_tag_b(store: &Store) -> usize {
    let (mut next, mut count) = (0, 0);
    while next < store.max_offset("T", 0) {
        let got = store.get_messages("T", 0, next, 32, &Only(tags_code(Some("TagB"))));
        count += got.count as usize;
        next = got.next_begin_offset;
    }
    count
}

#[test]
fn units_get_addresses_as_java_gives_them() {
    let dir = tempfile::tempdir().unwrap();
    let config = extended(dir.path());
    let store = open(&config);
    fill_tagged(&store, 120);
    store.close().unwrap();
    drop(store);
    let units: Vec<u8> = (0..12).flat_map(|file| std::fs::read(queue_file(dir.path(), file * 200)).unwrap()).collect();
    // Of 51 units the last ends at 1020; four bytes stay free.
    let places = |unit: usize| (unit / 51 * 1024 + unit % 51 * 20) as i64;
    assert!((0..120).all(|unit| address(&units, unit) == i64::MIN + places(unit)));
    let files = ext_bytes(dir.path());
    let names: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.len())).collect();
    assert_eq!(names, [("00000000000000000000", 1024), ("00000000000000001024", 1024), ("00000000000000002048", 1024)]);
    let first = [&[0, 20][..], &2598919i64.to_be_bytes(), &1_000_000i64.to_be_bytes(), &[0, 0]].concat();
    assert_eq!((&files[0].1[..20], &files[0].1[1020..]), (&first[..], &[0xFF, 0xFF, 0, 0][..]));
    for queue_ext in [true, false] {
        let store = open(&StoreConfig { queue_ext, ..config.clone() });
        assert_eq!((of_tag_b(&store), bodies(&store, "T", 0).len()), (60, 120));
        assert_eq!(store.queue_unit("T", 0, 77).unwrap().tags_code, tags_code(Some("TagB")));
        assert_eq!(store.queue_units("T", 0, 70, 4)[2].tags_code, tags_code(Some("TagA")));
    }
}

#[test]
fn a_kill_a_start_and_a_truncation_leave_one_unit_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let config = extended(dir.path());
    let store = open(&config);
    fill_tagged(&store, 120);
    let before = ext_bytes(dir.path());
    let store = open_again(store, &config);
    assert_eq!(ext_bytes(dir.path()), before);
    let cut = store.queue_unit("T", 0, 60).unwrap().physical_offset;
    store.truncate(cut).unwrap();
    assert_eq!(ext_bytes(dir.path()).len(), 2);
    let rest = &ext_bytes(dir.path())[1].1[9 * 20..];
    assert!(rest.iter().all(|byte| *byte == 0));
    let store = open_again(store, &config);
    fill_tagged(&store, 60);
    assert_eq!((of_tag_b(&store), bodies(&store, "T", 0).len()), (60, 120));
    let store = open_again(store, &config);
    assert_eq!(ext_bytes(dir.path())[..2], before[..2]);
    // The queue is built from nothing: it gets addresses of its own.
    drop(store);
    std::fs::remove_dir_all(dir.path().join("consumequeue")).unwrap();
    let store = open(&config);
    assert_eq!((of_tag_b(&store), bodies(&store, "T", 0).len()), (60, 120));
}

#[test]
fn a_lost_extension_hides_no_message() {
    let dir = tempfile::tempdir().unwrap();
    let config = extended(dir.path());
    let store = open(&config);
    fill_tagged(&store, 120);
    store.close().unwrap();
    drop(store);
    let whole = dir.path().join("whole");
    copy(&ext_dir(dir.path()), &whole);
    for damage in ["zeros", "a short file", "a missing file", "nothing left"] {
        std::fs::remove_dir_all(ext_dir(dir.path())).unwrap();
        copy(&whole, &ext_dir(dir.path()));
        let last = ext_dir(dir.path()).join("00000000000000002048");
        match damage {
            "zeros" => write(&ext_dir(dir.path()).join("00000000000000001024"), 0, &[0; 1024]),
            "a short file" => drop(std::fs::File::options().write(true).open(last).unwrap().set_len(107)),
            "a missing file" => std::fs::remove_file(last).unwrap(),
            _ => std::fs::remove_dir_all(ext_dir(dir.path())).unwrap(),
        }
        let store = open(&config);
        assert!(of_tag_b(&store) >= 60, "{damage}");
        assert_eq!(store.queue_unit("T", 0, 115).unwrap().tags_code, tags_code(Some("TagB")), "{damage}");
        // A new address is none that an older unit has.
        put(&store, "T", 0, TAGS[1], b"new");
        let max = store.max_offset("T", 0);
        store.close().unwrap();
        drop(store);
        let bytes = std::fs::read(queue_file(dir.path(), (max as u64 - 1) / 10 * 200)).unwrap();
        let newest = address(&bytes, (max as usize - 1) % 10);
        assert!(newest > i64::MIN + 2048 + 17 * 20, "{damage}: {}", newest.wrapping_sub(i64::MIN));
    }
}

#[test]
fn units_of_java_may_hold_bit_maps() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    fill_tagged(&store, 10);
    store.close().unwrap();
    drop(store);
    let mut ext = Vec::new();
    for number in 0..10usize {
        let at = i64::MIN + ext.len() as i64;
        write(&queue_file(dir.path(), 0), number as u64 * 20 + 12, &at.to_be_bytes());
        let map = if number % 3 == 0 { 14 } else { 0 };
        ext.extend_from_slice(&(20 + map as i16).to_be_bytes());
        ext.extend_from_slice(&tags_code(Some(["TagA", "TagB"][number % 2])).to_be_bytes());
        ext.extend_from_slice(&1_000_000i64.to_be_bytes());
        ext.extend_from_slice(&(map as i16).to_be_bytes());
        ext.extend_from_slice(&vec![0x5A; map]);
    }
    let end = ext.len() as i64;
    ext.resize(SEGMENT as usize, 0);
    std::fs::create_dir_all(ext_dir(dir.path())).unwrap();
    std::fs::write(ext_dir(dir.path()).join("00000000000000000000"), ext).unwrap();
    for queue_ext in [false, true] {
        let store = open(&StoreConfig { queue_ext, ..config.clone() });
        assert_eq!(of_tag_b(&store), 5);
        let code = store.queue_unit("T", 0, 9).unwrap().tags_code;
        assert_eq!(code, tags_code(Some("TagB")));
    }
    // The next unit follows the last one, whatever its size; the file tells its size as well.
    let store = open(&extended(dir.path()));
    put(&store, "T", 0, TAGS[1], b"new");
    drop(store);
    assert_eq!(address(&std::fs::read(queue_file(dir.path(), 200)).unwrap(), 0), i64::MIN + end);
}

#[test]
fn retention_and_deletion_take_extensions_along() {
    let dir = tempfile::tempdir().unwrap();
    let config = extended(dir.path());
    let store = open_at(&config, i64::MAX / 2);
    fill_tagged(&store, 240);
    store.flush().unwrap();
    store.flush_queues().unwrap();
    let all = Retention { now_ms: i64::MAX / 2, reserved_ms: 0, regardless_of_age: true, max_segments: 100 };
    store.delete_expired(all).unwrap();
    let min = store.min_offset("T", 0);
    assert!(min > 102, "{min}");
    let first: u64 = ext_bytes(dir.path())[0].0.parse().unwrap();
    assert_eq!(first, min as u64 / 51 * 1024);
    assert_eq!(store.queue_unit("T", 0, min).unwrap().tags_code, tags_code(Some(["TagA", "TagB"][min as usize % 2])));
    store.delete_topic("T").unwrap();
    assert!(!dir.path().join("consumequeue_ext/T").exists());
}

#[test]
fn a_plain_queue_that_becomes_a_batch_queue_keeps_its_codes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&extended(dir.path()));
    fill_tagged(&store, 20);
    store.close().unwrap();
    drop(store);
    let store = open(&StoreConfig { batch_queue_topics: Some(Arc::new(|topic| topic == "T")), ..extended(dir.path()) });
    assert_eq!((of_tag_b(&store), bodies(&store, "T", 0).len()), (10, 20));
    assert!(dir.path().join("batchconsumequeue/T").exists() && !dir.path().join("consumequeue_ext/T").exists());
}

#[test]
fn verify_looks_into_extensions() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&extended(dir.path()));
    fill_tagged(&store, 60);
    store.close().unwrap();
    drop(store);
    let findings = || verified(dir.path(), &ViewOptions::default()).findings.counts().clone();
    assert!(findings().is_empty(), "{:?}", findings());
    write(&ext_dir(dir.path()).join("00000000000000000000"), 7 * 20 + 5, &[1]);
    write(&ext_dir(dir.path()).join("00000000000000001024"), 0, &[0; 20]);
    assert_eq!(findings(), [(FindingKind::UnitDiffers, 2)].into());
}

fn rebuilt(root: &Path, config: Option<&StoreConfig>) -> Rebuilt {
    let options = RebuildOptions { config: config.cloned(), ..RebuildOptions::default() };
    rebuild(Arc::new(RealDisk), root, &options, &mut Still).unwrap()
}

/// All of two queues, of which one delays, and their extensions: 120 tagged messages and 60 delayed ones.
fn filled(root: &Path) -> (StoreConfig, Vec<(PathBuf, Vec<u8>)>) {
    let config = StoreConfig { delay_levels_ms: vec![7000], ..extended(root) };
    let store = open(&config);
    fill_tagged(&store, 120);
    for _ in 0..60 {
        put(&store, "SCHEDULE_TOPIC_XXXX", 0, b"DELAY\x011\x02REAL_TOPIC\x01T\x02", b"later");
    }
    store.close().unwrap();
    (config, views(root))
}

fn all_files(dir: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => all_files(&entry, found),
            false => found.push((entry.clone(), std::fs::read(&entry).unwrap())),
        }
    }
}

/// The files of queues and extensions, below a root.
fn views(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for name in ["consumequeue", "consumequeue_ext"] {
        all_files(&root.join(name), &mut found);
    }
    found.iter_mut().for_each(|(path, _)| *path = path.strip_prefix(root).unwrap().to_owned());
    found.sort();
    found
}

#[test]
fn a_rebuild_makes_extensions_again() {
    let dir = tempfile::tempdir().unwrap();
    let (config, before) = filled(dir.path());
    assert_eq!(before.len(), 18 + 5, "files");
    let made = rebuilt(dir.path(), None);
    assert!(made.extended && (made.queues, made.units) == (2, 180), "{made:?}");
    assert!(views(dir.path()) == before, "byte for byte");
    // Lost or damaged: what is left of them tells that there were some, and their size is a default then.
    write(&ext_dir(dir.path()).join("00000000000000000000"), 0, &[0x5A; 512]);
    assert!(rebuilt(dir.path(), None).extended && views(dir.path()) == before);
    std::fs::remove_dir_all(dir.path().join("consumequeue_ext")).unwrap();
    assert!(rebuilt(dir.path(), None).extended && dir.path().join("consumequeue_ext/T/0").exists());
    rebuilt(dir.path(), Some(&config));
    assert!(views(dir.path()) == before);
    let store = open(&config);
    assert_eq!((of_tag_b(&store), bodies(&store, "T", 0).len()), (60, 120));
    assert!(!dir.path().join("rebuild.done").exists() && !dir.path().join("rebuild").exists());
}

#[test]
fn a_rebuild_without_extensions_leaves_none() {
    let dir = tempfile::tempdir().unwrap();
    let (config, _) = filled(dir.path());
    let plain = StoreConfig { queue_ext: false, ..config };
    assert!(!rebuilt(dir.path(), Some(&plain)).extended);
    assert!(!dir.path().join("consumequeue_ext").exists());
    let bytes = std::fs::read(queue_file(dir.path(), 0)).unwrap();
    assert_eq!(address(&bytes, 1), tags_code(Some("TagB")));
    let store = open(&plain);
    assert_eq!((of_tag_b(&store), bodies(&store, "T", 0).len()), (60, 120));
}

/// What `diff` tells of two stores.
fn told(a: &Path, b: &Path) -> Vec<(String, String, String)> {
    let view = |root| StoreView::open(Arc::new(RealDisk), root, ViewOptions::default()).unwrap();
    let found = diff(&view(a), &view(b), &mut Still).unwrap();
    assert!(found.units > 0 && found.rows.iter().all(|row| row.weight == Weight::Different), "{:?}", found.rows);
    found.rows.into_iter().map(|row| (row.name, row.a, row.b)).collect()
}

#[test]
fn diff_looks_into_extensions() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let (config, _) = filled(&a);
    copy(&a, &b);
    assert_eq!(told(&a, &b), []);
    // Other addresses, or none, say the same.
    let plain = StoreConfig { queue_ext: false, root: b.clone(), ..config.clone() };
    rebuilt(&b, Some(&plain));
    assert_eq!(told(&a, &b), []);
    rebuilt(&b, Some(&StoreConfig { queue_ext: true, queue_ext_segment_size: 2048, ..plain }));
    assert!(views(&a) != views(&b));
    assert_eq!(told(&a, &b), []);
    // The same addresses, and another code behind one of them, another time, nothing.
    let damages: [(u64, &[u8], &str); 3] = [
        (7 * 20 + 5, &[1], "code 4297566216 time 1000000 in the extension"),
        (7 * 20 + 17, &[0x41], "code 2598920 time 1000001 in the extension"),
        (7 * 20, &[0; 20], "its extension is lost"),
    ];
    for (at, bytes, text) in damages {
        std::fs::remove_dir_all(&b).unwrap();
        copy(&a, &b);
        write(&ext_dir(&b).join("00000000000000000000"), at, bytes);
        let found = told(&a, &b);
        assert!(found.len() == 1 && found[0].0 == "T 0 offset 7" && found[0].2.ends_with(text), "{found:?}");
        assert!(found[0].1.ends_with("code 2598920 time 1000000 in the extension"), "{found:?}");
    }
    // Lost on both sides: no difference, `verify` tells of it.
    write(&ext_dir(&a).join("00000000000000000000"), 7 * 20, &[0; 20]);
    assert_eq!(told(&a, &b), []);
}
