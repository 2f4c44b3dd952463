//! Formats that only some topics and settings bring: inner batches and batch queues, light queues, the CRC property.
//! What we write is compared with what Java brokers wrote.

mod common;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use common::{Fixture, Random, Still, assert_sound, bodies, clock_at, message, open, put, small};
use store::{AppendError, Batch, LogDirs, RealDisk, RebuildOptions, Store, StoreConfig, inspect::ViewOptions, rebuild};
use wire::{
    property,
    record::{Check, RecordView, Verify, check, check_as},
    record_encode::NewRecord,
    sys_flag,
};

fn sorted_properties(record: &RecordView<'_>) -> Vec<(String, String)> {
    let mut all: Vec<_> =
        property::iter(record.properties()).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    all.sort();
    all
}

/// All records of a log, whole segments read from the files.
fn every_record(root: &Path, each: &mut dyn FnMut(&RecordView<'_>)) {
    let mut names: Vec<_> = std::fs::read_dir(root.join("commitlog")).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    for name in names {
        let bytes = std::fs::read(name).unwrap();
        let mut at = 0;
        while let Check::Record(record) = check(&bytes[at..], true) {
            each(&record);
            at += record.size();
        }
    }
}

fn units_of(root: &Path, topic: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for queue in 0..8 {
        let dir = root.join("batchconsumequeue").join(topic).join(queue.to_string());
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names.iter().for_each(|name| all.extend(std::fs::read(name).unwrap()));
    }
    all
}

/// What Java stored comes out again when the same messages are given to us, but for the order of properties.
#[test]
fn inner_batches_are_stored_as_java_stores_them() {
    let fixture = Fixture::unpack("java-5.3.3-clean");
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { root: dir.path().join("ours"), ..fixture.config.clone() };
    let mut inner = 0;
    let mut batch = Batch::new();
    let mut javas = Vec::new();
    every_record(&fixture.root(), &mut |record| {
        if record.topic() != "CorpusBcq" {
            return;
        }
        inner += usize::from(record.sys_flag() & sys_flag::INNER_BATCH != 0);
        let sent = property::without(record.properties(), &[property::INNER_BASE]);
        batch
            .push(&NewRecord {
                properties: &sent,
                ..NewRecord::again(record, record.topic(), record.queue_id(), record.store_host())
            })
            .unwrap();
        javas.push(record.bytes().to_vec());
    });
    assert!(inner > 5 && !javas.is_empty(), "{inner} of {}", javas.len());
    let store = Store::open(config.clone(), Arc::new(RealDisk), clock_at(7)).unwrap();
    store.append(&mut batch).unwrap();
    store.dispatch();
    for (number, java) in javas.iter().enumerate() {
        let ours = RecordView::layout(batch.record(number)).unwrap();
        let java = RecordView::layout(java).unwrap();
        assert_eq!(sorted_properties(&ours), sorted_properties(&java));
        assert_eq!(
            (ours.size(), ours.queue_offset(), ours.sys_flag()),
            (java.size(), java.queue_offset(), java.sys_flag())
        );
        // Everything up to the properties, places and times aside.
        let same = |from: usize, to: usize| assert_eq!(ours.bytes()[from..to], java.bytes()[from..to], "{number}");
        same(0, 28);
        same(36, 56);
        same(64, ours.properties_at());
    }
    // Units: all but physical offset and store time.
    store.close().unwrap();
    let (ours, java) = (units_of(&config.root, "CorpusBcq"), units_of(&fixture.root(), "CorpusBcq"));
    assert_eq!(ours.len(), java.len());
    for (ours, java) in ours.chunks_exact(46).zip(java.chunks_exact(46)) {
        assert_eq!((&ours[8..20], &ours[28..]), (&java[8..20], &java[28..]));
    }
}

/// A topic table that a test fills.
fn table(topic: &'static str) -> (Arc<AtomicBool>, StoreConfigChange) {
    let known = Arc::new(AtomicBool::new(false));
    let seen = known.clone();
    let change: StoreConfigChange = Box::new(move |config| {
        let seen = seen.clone();
        config.batch_queue_topics = Some(Arc::new(move |name| name == topic && seen.load(SeqCst)));
    });
    (known, change)
}

type StoreConfigChange = Box<dyn Fn(&mut StoreConfig)>;

/// A slave has the log before the topic table. Java 5.5.0 builds plain queues then and does not start again.
#[test]
fn a_slave_that_builds_before_it_has_the_topic_gets_batch_queues() {
    let fixture = Fixture::unpack("java-5.3.3-clean");
    let dir = tempfile::tempdir().unwrap();
    let (known, change) = table("CorpusBcq");
    let mut config = StoreConfig { root: dir.path().join("slave"), ..fixture.config.clone() };
    change(&mut config);
    let store = Store::open(config.clone(), Arc::new(RealDisk), clock_at(7)).unwrap();
    let mut end = 0;
    every_record(&fixture.root(), &mut |record| end = record.physical_offset() + record.size() as i64);
    let mut at = 0;
    while at < end {
        let name = fixture.root().join(format!("commitlog/{at:020}"));
        let bytes = std::fs::read(name).unwrap();
        let wanted = bytes.len().min((end - at) as usize);
        at = store.append_raw(at, &bytes[..wanted]).unwrap();
        store.dispatch();
    }
    known.store(true, SeqCst);
    store.align_queue_types().unwrap();
    store.close().unwrap();
    assert_eq!(units_of(&config.root, "CorpusBcq"), units_of(&fixture.root(), "CorpusBcq"));
    assert!(!config.root.join("consumequeue/CorpusBcq").exists());
}

fn inner(store: &Store, topic: &str, count: i32) -> i64 {
    let properties = format!("INNER_NUM\x01{count}\x02");
    let mut batch = Batch::new();
    batch
        .push(&NewRecord { sys_flag: sys_flag::INNER_BATCH, ..message(topic, 0, properties.as_bytes(), b"inner") })
        .unwrap();
    store.append(&mut batch).unwrap();
    batch.entries()[0].queue_offset
}

/// Single messages give no hint of the kind; an inner batch or the topic table does, at any time, and a stop in between
/// changes nothing.
#[test]
fn plain_queues_become_batch_queues() {
    for by_table in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (known, change) = table("T");
        let mut config = small(dir.path());
        change(&mut config);
        let store = open(&config);
        for _ in 0..25 {
            put(&store, "T", 0, b"TAGS\x01a\x02", b"single");
        }
        assert!(dir.path().join("consumequeue/T/0/00000000000000000000").exists());
        let count = if by_table {
            known.store(true, SeqCst);
            store.align_queue_types().unwrap();
            25
        } else {
            assert_eq!(inner(&store, "T", 7), 25);
            store.dispatch();
            32
        };
        assert_eq!((store.min_offset("T", 0), store.max_offset("T", 0)), (0, count));
        assert_eq!(put(&store, "T", 0, b"", b"last").0, count);
        let bodies_now = bodies(&store, "T", 0);
        assert_eq!((bodies_now.len(), &bodies_now[0][..]), (if by_table { 26 } else { 27 }, &b"single"[..]));
        assert!(!dir.path().join("consumequeue/T").exists());
        assert!(dir.path().join("batchconsumequeue/T/0/00000000000000000460").exists());
        drop(store);
        assert_eq!(bodies(&open(&config), "T", 0), bodies_now);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => std::fs::copy(entry.path(), to.join(entry.file_name())).map(drop).unwrap(),
        }
    }
}

/// Stopped while a plain queue was made a batch queue: before all units were there, or before the plain files were gone.
#[test]
fn a_conversion_that_was_cut_short_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let (known, change) = table("T");
    let mut config = small(&dir.path().join("store"));
    change(&mut config);
    let store = open(&config);
    for number in 0..25 {
        put(&store, "T", 0, b"", format!("{number}").as_bytes());
    }
    store.close().unwrap();
    let before = bodies(&store, "T", 0);
    drop(store);
    let kept = dir.path().join("kept");
    copy(&config.root.join("consumequeue"), &kept);
    known.store(true, SeqCst);
    open(&config).close().unwrap();
    let batch_files = config.root.join("batchconsumequeue/T/0");
    // Plain files still there, beside a whole batch queue; then beside one that lacks its end.
    for lacks in [false, true] {
        copy(&kept, &config.root.join("consumequeue"));
        if lacks {
            std::fs::remove_file(batch_files.join("00000000000000000920")).unwrap();
        }
        let store = open(&config);
        assert_eq!(bodies(&store, "T", 0), before);
        assert!(!config.root.join("consumequeue/T").exists());
        assert!(batch_files.join("00000000000000000920").exists());
        store.close().unwrap();
    }
}

/// Its messages have all left the log; where it goes on stays known.
#[test]
fn an_expired_plain_queue_becomes_a_batch_queue_with_its_counter() {
    let dir = tempfile::tempdir().unwrap();
    let (known, change) = table("T");
    let mut config = small(&dir.path().join("store"));
    change(&mut config);
    let store = open(&config);
    for number in 0..87 {
        put(&store, if number < 7 { "T" } else { "U" }, 0, b"", &[b'x'; 100]);
    }
    let all = store::Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments: 1 };
    store.flush_queues().unwrap();
    assert_eq!(store.delete_expired(all).unwrap(), 1);
    assert_eq!((store.min_offset("T", 0), store.max_offset("T", 0)), (7, 7));
    known.store(true, SeqCst);
    store.align_queue_types().unwrap();
    assert!(config.root.join("batchconsumequeue/T/0").exists());
    assert_eq!((store.min_offset("T", 0), store.max_offset("T", 0)), (7, 7));
    store.close().unwrap();
    drop(store);
    let store = open(&config);
    assert_eq!((store.min_offset("T", 0), store.max_offset("T", 0)), (7, 7));
    assert_eq!(put(&store, "T", 0, b"", b"next").0, 7);
}

fn tree(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.display().to_string();
            if path.is_dir() {
                all.push((name, Vec::new()));
                left.push(path);
            } else {
                all.push((name, std::fs::read(&path).unwrap()));
            }
        }
    }
    all.sort();
    all
}

/// Refused with the key that made it, and left as it is, to the byte.
#[test]
fn a_rocksdb_store_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let open_error = |config: &StoreConfig| {
        let before = tree(dir.path());
        let refused = Store::open(config.clone(), Arc::new(RealDisk), clock_at(1));
        let Err(error) = refused else { return None };
        assert!(tree(dir.path()) == before, "{error}");
        let text = error.to_string();
        assert!(!text.contains('\n'), "{text}");
        Some(text)
    };
    let databases = [
        ("consumequeue", "storeType"),
        ("consumequeue_rocksdb", "storeType"),
        ("config/topics", "storeType"),
        ("config/rdb", "configManagerVersion"),
    ];
    for (database, key) in databases {
        let at = dir.path().join(database);
        std::fs::create_dir_all(&at).unwrap();
        std::fs::write(at.join("CURRENT"), "MANIFEST-000001\n").unwrap();
        let text = open_error(&config).unwrap_or_else(|| panic!("{database} was opened"));
        assert!(text.contains(key) && text.contains(database), "{text}");
        std::fs::remove_dir_all(dir.path().join(database.split('/').next().unwrap())).unwrap();
    }
    // What 5.5.0 makes at each start is empty; a table or a log with content is not.
    let at = dir.path().join("rocksdbstore");
    std::fs::create_dir_all(&at).unwrap();
    std::fs::write(at.join("CURRENT"), "MANIFEST-000005\n").unwrap();
    std::fs::write(at.join("000004.log"), "x").unwrap();
    assert!(open_error(&config).unwrap().contains("timerRocksDBEnable"));
    std::fs::write(at.join("000004.log"), "").unwrap();
    std::fs::write(at.join("000007.sst"), "x").unwrap();
    assert!(open_error(&config).is_some());
    std::fs::remove_file(at.join("000007.sst")).unwrap();
    assert_eq!(open_error(&config), None);
    // Queues in files too.
    std::fs::write(dir.path().join("consumequeue/CURRENT"), "MANIFEST-000001\n").unwrap();
    assert!(open_error(&config).is_some());
    let doubled = StoreConfig { queues_doubled_in_rocksdb: true, ..config };
    assert_eq!(open_error(&doubled), None);
}

fn light(root: &Path) -> StoreConfig {
    StoreConfig { enable_lmq: true, enable_multi_dispatch: true, ..small(root) }
}

const TO_A_AND_B: &[u8] = b"WAIT\x01true\x02INNER_MULTI_DISPATCH\x01%LMQ%a,%LMQ%b\x02TAGS\x01t\x02";
const TO_B: &[u8] = b"INNER_MULTI_DISPATCH\x01%LMQ%b,%LMQ%b\x02";

fn last_record(store: &Store, physical: i64) -> Vec<(String, String)> {
    let bytes = store.read_record(physical).unwrap();
    sorted_properties(&RecordView::layout(&bytes).unwrap())
}

/// Light queues count for themselves, point to the records of other topics, and survive stops, kills and cuts.
#[test]
fn light_queues() {
    let dir = tempfile::tempdir().unwrap();
    let config = light(dir.path());
    let store = open(&config);
    put(&store, "T", 3, TO_B, b"one");
    let (_, physical, _) = put(&store, "T", 1, TO_A_AND_B, b"two");
    let properties = last_record(&store, physical);
    assert!(properties.contains(&("INNER_MULTI_QUEUE_OFFSET".into(), "0,1".into())), "{properties:?}");
    assert!(!properties.iter().any(|(name, _)| name == "WAIT"), "{properties:?}");
    put(&store, "%RETRY%g", 0, TO_A_AND_B, b"on its way");
    let (_, cut, _) = put(&store, "U", 0, TO_A_AND_B, b"three");
    let ends = |store: &Store| ["%LMQ%a", "%LMQ%b"].map(|name| store.max_offset(name, 0));
    assert_eq!(ends(&store), [2, 3]);
    assert_eq!(bodies(&store, "%LMQ%b", 0), [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    assert_eq!(bodies(&store, "%LMQ%a", 0), [b"two".to_vec(), b"three".to_vec()]);
    // A kill.
    drop(store);
    let store = open(&config);
    assert_eq!(ends(&store), [2, 3]);
    // Nothing but the log.
    store.close().unwrap();
    drop(store);
    std::fs::remove_dir_all(dir.path().join("consumequeue")).unwrap();
    let store = open(&config);
    assert_eq!((ends(&store), bodies(&store, "%LMQ%a", 0)), ([2, 3], vec![b"two".to_vec(), b"three".to_vec()]));
    store.truncate(cut).unwrap();
    assert_eq!(ends(&store), [1, 2]);
    let (_, physical, _) = put(&store, "T", 0, TO_A_AND_B, b"again");
    assert!(last_record(&store, physical).contains(&("INNER_MULTI_QUEUE_OFFSET".into(), "1,2".into())));
    assert_eq!(bodies(&store, "%LMQ%b", 0), [b"one".to_vec(), b"two".to_vec(), b"again".to_vec()]);
}

/// Java brokers before 5.1 put messages into light queues that are delayed or come again, too; with later ones such records
/// have numbers that count no more.
#[test]
fn light_queues_of_old_java_brokers_hold_messages_that_are_on_their_way() {
    let dir = tempfile::tempdir().unwrap();
    // Properties are stored as they come.
    let config = StoreConfig { enable_lmq: false, ..light(dir.path()) };
    let store = open(&config);
    let rows = [("T", 0), ("SCHEDULE_TOPIC_XXXX", 1), ("SCHEDULE_TOPIC_XXXX", 0), ("%RETRY%g", 2), ("%RETRY%g", 1)];
    for (topic, number) in rows {
        let properties = format!("INNER_MULTI_DISPATCH\x01%LMQ%a\x02INNER_MULTI_QUEUE_OFFSET\x01{number}\x02");
        put(&store, topic, 0, properties.as_bytes(), topic.as_bytes());
    }
    let all = ["T", "SCHEDULE_TOPIC_XXXX", "%RETRY%g"].map(|topic| topic.as_bytes().to_vec());
    assert_eq!(bodies(&store, "%LMQ%a", 0), all);
    drop(store);
    let store = open(&light(dir.path()));
    assert_eq!(bodies(&store, "%LMQ%a", 0), all, "after a kill");
    store.close().unwrap();
    drop(store);
    assert_sound(dir.path(), &ViewOptions::default(), "after a stop");
    std::fs::remove_dir_all(dir.path().join("consumequeue")).unwrap();
    let store = open(&light(dir.path()));
    assert_eq!(bodies(&store, "%LMQ%a", 0), all, "dispatched again");
    let stray = b"INNER_MULTI_DISPATCH\x01%LMQ%a\x02INNER_MULTI_QUEUE_OFFSET\x013\x02x\x01y";
    let (_, physical, _) = put(&store, "%RETRY%g", 0, stray, b"a client's number");
    let names: Vec<_> = last_record(&store, physical).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["INNER_MULTI_DISPATCH", "x"]);
    assert_eq!(bodies(&store, "%LMQ%a", 0), all);
}

/// A topic that is deleted takes nothing out of the light queues that its messages went to: they have their own numbers.
#[test]
fn light_queues_keep_the_messages_of_a_deleted_topic() {
    let dir = tempfile::tempdir().unwrap();
    let config = light(dir.path());
    let store = open(&config);
    put(&store, "T", 0, TO_B, b"one");
    put(&store, "U", 0, TO_A_AND_B, b"two");
    put(&store, "T", 0, TO_A_AND_B, b"three");
    store.delete_topic("T").unwrap();
    put(&store, "T", 0, TO_B, b"four");
    let all = [b"one".to_vec(), b"two".to_vec(), b"three".to_vec(), b"four".to_vec()];
    let holds = |store: &Store, what: &str| {
        assert_eq!(bodies(store, "%LMQ%b", 0), all, "{what}");
        assert_eq!(bodies(store, "%LMQ%a", 0), all[1..3], "{what}");
        assert_eq!(bodies(store, "T", 0), all[3..], "{what}");
    };
    let sound = |what: &str| assert_sound(dir.path(), &ViewOptions::default(), what);
    holds(&store, "at once");
    store.close().unwrap();
    drop(store);
    sound("after a stop");
    std::fs::remove_dir_all(dir.path().join("consumequeue")).unwrap();
    let store = open(&config);
    holds(&store, "dispatched again");
    store.close().unwrap();
    drop(store);
    let options = RebuildOptions { config: Some(config.clone()), ..RebuildOptions::default() };
    rebuild(Arc::new(RealDisk), dir.path(), &options, &mut Still).unwrap();
    sound("after a rebuild");
    holds(&open(&config), "rebuilt");
}

/// As in Java, `enableLmq` alone counts and makes no queues.
#[test]
fn without_multi_dispatch_there_are_no_units() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&StoreConfig { enable_multi_dispatch: false, ..light(dir.path()) });
    let (_, physical, _) = put(&store, "T", 0, TO_A_AND_B, b"one");
    assert!(last_record(&store, physical).contains(&("INNER_MULTI_QUEUE_OFFSET".into(), "0,0".into())));
    assert_eq!(store.max_offset("%LMQ%a", 0), 0);
}

/// Offsets that make the properties too long refuse the message, and no counter moves.
#[test]
fn too_many_light_queues() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&StoreConfig { segment_size: 1 << 20, ..light(dir.path()) });
    let names: Vec<String> = (0..3600).map(|number| format!("%LMQ%{number:03}")[..8].to_owned()).collect();
    let properties = format!("INNER_MULTI_DISPATCH\x01{}\x02", names.join(","));
    let mut batch = Batch::new();
    batch.push(&message("T", 0, TO_A_AND_B, b"fits")).unwrap();
    batch.push(&message("T", 0, properties.as_bytes(), b"does not")).unwrap();
    let error = store.append(&mut batch).unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { .. }), "{error}");
    let mut fits = batch.part(0..1);
    store.append(&mut fits).unwrap();
    store.dispatch();
    assert_eq!((fits.entries()[0].queue_offset, store.max_offset("%LMQ%a", 0)), (0, 1));
    assert!(last_record(&store, 0).contains(&("INNER_MULTI_QUEUE_OFFSET".into(), "0,0".into())));
}

/// The CRC property: written at append, checked by recovery where the key says so. Bytes that were lost in the properties
/// pass for whole without it.
#[test]
fn recovery_checks_the_crc_of_whole_records() {
    for force in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig { append_prop_crc: true, force_verify_prop_crc: force, ..small(dir.path()) };
        let store = open(&StoreConfig { append_prop_crc: false, ..config.clone() });
        put(&store, "T", 0, b"a\x01b\x02", b"of before");
        drop(store);
        let store = open(&config);
        let (_, _, good) = put(&store, "T", 0, b"a\x01b\x02", b"good");
        let (_, physical, end) = put(&store, "T", 0, b"a\x01b\x02", b"bad");
        let bytes = store.read_record(physical).unwrap();
        let Check::Record(record) = check_as(&bytes, Verify::Whole) else { panic!("no record") };
        let at = physical as usize + record.properties_at();
        drop(store);
        let path = dir.path().join("commitlog/00000000000000000000");
        let mut file = std::fs::read(&path).unwrap();
        file[at] ^= 1;
        std::fs::write(&path, file).unwrap();
        let store = open(&config);
        assert_eq!(store.max_phys(), if force { good } else { end });
        assert_eq!(store.max_offset("T", 0), if force { 2 } else { 3 });
    }
}

/// Everything that is written under the lock at once, over segment ends.
#[test]
fn late_properties_together() {
    let seed = common::seed();
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        append_prop_crc: true,
        force_verify_prop_crc: true,
        batch_queue_topics: Some(Arc::new(|topic| topic == "B")),
        ..light(dir.path())
    };
    let store = open(&config);
    let mut want = Vec::new();
    for _ in 0..40 {
        let mut batch = Batch::new();
        for _ in 0..1 + random.below(6) {
            let body = vec![b'x'; random.below(300) as usize];
            match random.below(3) {
                0 => batch.push(&message("T", 0, b"a\x01b", &body)),
                1 => batch.push(&message("T", 0, TO_A_AND_B, &body)),
                _ => batch.push(&NewRecord {
                    sys_flag: sys_flag::INNER_BATCH,
                    ..message("B", 0, b"INNER_NUM\x0112\x02", &body)
                }),
            }
            .unwrap();
        }
        store.append(&mut batch).unwrap();
        store.dispatch();
        for (number, entry) in batch.entries().iter().enumerate() {
            want.push((entry.physical_offset, batch.record(number).to_vec()));
        }
    }
    let check_all = |store: &Store| {
        for (physical, bytes) in &want {
            assert_eq!(&store.read_record(*physical).unwrap()[..], bytes, "at {physical}, TANDEM_SEED={seed}");
            let Check::Record(record) = check_as(bytes, Verify::Whole) else { panic!("no record at {physical}") };
            assert!(wire::record_crc::claimed(bytes).is_some());
            if record.topic() == "B" {
                let base: i64 = record.property("INNER_BASE").unwrap().parse().unwrap();
                assert_eq!(base, record.queue_offset());
                assert_eq!(store.queue_unit("B", 0, base + 11).unwrap().physical_offset, *physical);
            }
        }
        assert_eq!(store.max_offset("%LMQ%a", 0), store.max_offset("%LMQ%b", 0));
        assert!(store.max_offset("%LMQ%a", 0) > 0 && store.max_offset("B", 0) % 12 == 0);
    };
    check_all(&store);
    drop(store);
    check_all(&open(&config));
}

#[test]
fn a_log_that_is_elsewhere_or_of_another_kind_is_refused_and_the_store_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    put(&store, "T", 0, b"", b"body");
    store.close().unwrap();
    drop(store);
    let refused = |expected: &str| {
        let before = tree(dir.path());
        let Err(error) = Store::open(config.clone(), Arc::new(RealDisk), clock_at(1)) else { panic!("it was opened") };
        let text = error.to_string();
        assert!(tree(dir.path()) == before && text.contains(expected) && !text.contains('\n'), "{text}");
    };
    let data = dir.path().join("dledger-n0/data");
    std::fs::create_dir_all(&data).unwrap();
    refused("dledger-n0");
    std::fs::remove_dir_all(dir.path().join("dledger-n0")).unwrap();
    let log = dir.path().join("commitlog");
    std::fs::rename(&log, dir.path().join("elsewhere")).unwrap();
    refused("storePathCommitLog");
    let found =
        open(&StoreConfig { commit_log_dirs: Some(LogDirs::one(dir.path().join("elsewhere"))), ..config.clone() });
    assert_eq!(found.max_offset("T", 0), 1);
}

/// The slave's log was cut to nothing, and a power cut brought a unit of it back.
#[test]
fn a_batch_queue_without_anything_to_read_begins_at_its_next_message() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = |root: &Path| StoreConfig { batch_queue_topics: Some(Arc::new(|topic| topic == "B")), ..small(root) };
    let master = open(&config(dirs[0].path()));
    for _ in 0..20 {
        put(&master, "B", 0, b"", &[b'x'; 300]);
    }
    let begin = (master.max_phys() / 4096 + 1) * 4096;
    while master.max_phys() < begin + 500 {
        put(&master, "T", 0, b"", &[b'y'; 300]);
    }
    let end_of_first = master.max_phys();
    assert_eq!(put(&master, "B", 0, b"", b"next").0, 20);

    let slave = open(&config(dirs[1].path()));
    put(&slave, "B", 0, b"", b"of a log that is emptied");
    let file = dirs[1].path().join("batchconsumequeue/B/0/00000000000000000000");
    slave.flush_queues().unwrap();
    let unit = std::fs::read(&file).unwrap();
    slave.truncate(0).unwrap();
    slave.append_raw(begin, &master.read_log(begin, (end_of_first - begin) as usize).unwrap()).unwrap();
    slave.close().unwrap();
    drop(slave);
    std::fs::write(&file, unit).unwrap();
    let slave = open(&config(dirs[1].path()));
    slave.append_raw(end_of_first, &master.read_log(end_of_first, 4096).unwrap()).unwrap();
    slave.dispatch();
    assert_eq!((slave.min_offset("B", 0), slave.max_offset("B", 0)), (20, 21));
}

/// Queues of one dispatch are looked up together; the one that a batch in the middle replaces gets nothing more.
#[test]
fn what_comes_behind_the_batch_that_makes_a_queue_a_batch_queue_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&small(dir.path()));
    let mut batch = Batch::new();
    let inner = message("T", 0, b"INNER_NUM\x013\x02", b"inner");
    batch.push(&message("T", 0, b"", b"before")).unwrap();
    batch.push(&NewRecord { sys_flag: sys_flag::INNER_BATCH, ..inner }).unwrap();
    batch.push(&message("T", 0, b"", b"behind")).unwrap();
    store.append(&mut batch).unwrap();
    store.dispatch();
    assert_eq!((store.min_offset("T", 0), store.max_offset("T", 0)), (0, 5));
}
