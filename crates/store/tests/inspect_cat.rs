//! Messages by key: what the index leads to is what reading the whole log finds, whoever made the index and however its
//! broker ended.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use common::{Fixture, message, open, put, small};
use store::{
    Batch, RealDisk, StoreConfig,
    inspect::{Found, Reader, Selection, StoreView, ViewOptions, read},
};
use wire::{property, record::RecordView, record_encode::NewRecord, sys_flag};

#[derive(Default)]
struct Places {
    places: Vec<i64>,
    /// The places of each key of each topic.
    keys: BTreeMap<(String, String), Vec<i64>>,
    skipped: usize,
}

impl Reader for Places {
    fn record(&mut self, record: &RecordView<'_>) -> bool {
        self.places.push(record.physical_offset());
        let keys = record.property(property::KEYS).unwrap_or_default().split(' ').filter(|key| !key.is_empty());
        for key in keys.chain(record.property(property::UNIQ_KEY)).collect::<BTreeSet<_>>() {
            let places = self.keys.entry((record.topic().to_owned(), key.to_owned())).or_default();
            places.push(record.physical_offset());
        }
        true
    }

    fn skipped(&mut self, _: i64, _: i64, _: &str) {
        self.skipped += 1;
    }
}

fn look(root: &Path, selection: &Selection) -> (Found, Places) {
    let view = StoreView::open(Arc::new(RealDisk), root, ViewOptions::default()).unwrap();
    let mut places = Places::default();
    let found = read(&view, selection, &mut places).unwrap();
    (found, places)
}

/// Every `step`th key of the store leads to the same messages with the index as without, with its topic and without it.
fn same_as_reading(root: &Path, step: usize) -> usize {
    let all = look(root, &Selection::default()).1;
    let mut compared = 0;
    for ((topic, key), places) in all.keys.iter().step_by(step) {
        let of_any: BTreeSet<_> =
            all.keys.iter().filter(|((_, other), _)| other == key).flat_map(|(_, places)| places).collect();
        for topic in [Some(topic.clone()), None] {
            let want: Vec<i64> = if topic.is_some() { places.clone() } else { of_any.iter().map(|at| **at).collect() };
            let selection = Selection { topic, key: Some(key.clone()), ..Selection::default() };
            let (how, found) = look(root, &selection);
            assert_eq!((how, found.skipped, found.places), (Found::ByIndex, 0, want), "{selection:?}");
            compared += 1;
        }
    }
    compared
}

#[test]
fn keys_of_java_stores() {
    for name in ["java-5.3.3-clean", "java-5.3.3-killed", "java-5.5.0-clean"] {
        let fixture = Fixture::unpack(name);
        // Of the deleted topic nothing but its records is left; without a topic's name its keys are not looked up.
        let gone = Selection { topic: Some("CorpusGone".into()), ..Selection::default() };
        assert!(name.contains("killed") || look(&fixture.root(), &gone).1.places.len() == 60, "{name}");
        std::fs::create_dir_all(fixture.root().join("consumequeue/CorpusGone")).unwrap();
        std::fs::create_dir_all(fixture.root().join("consumequeue/CorpusGone/0")).unwrap();
        assert!(same_as_reading(&fixture.root(), 211) > 20, "{name}");
        let queries = fixture.expected["queryByKey"].as_array().unwrap();
        for query in queries.iter().filter(|_| name.contains("clean")) {
            let text = |field: &str| query[field].as_str().map(str::to_owned);
            let want: Vec<i64> =
                query["physicalOffsets"].as_array().unwrap().iter().map(|at| at.as_i64().unwrap()).collect();
            let selection = Selection { topic: text("topic"), key: text("key"), ..Selection::default() };
            let (_, found) = look(&fixture.root(), &selection);
            assert!(want.iter().all(|at| found.places.contains(at)), "{name}: {query}");
        }
    }
}

/// The file that is being filled is in its broker's memory, slots and header: its entries are gone through, and what has
/// none yet is read.
#[test]
fn keys_beside_a_running_broker_and_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&small(dir.path()));
    for number in 0..60 {
        let properties = format!("KEYS\x01k{} all\x02UNIQ_KEY\x01u{number}\x02", number % 7);
        put(&store, ["T", "U"][number % 2], 0, properties.as_bytes(), b"body");
    }
    let sizes = ViewOptions { max_hash_slots: Some(64), max_index: Some(40), ..ViewOptions::default() };
    let count = |selection: &Selection| {
        let view = StoreView::open(Arc::new(RealDisk), dir.path(), sizes.clone()).unwrap();
        let mut places = Places::default();
        let found = read(&view, selection, &mut places).unwrap();
        (found, places.places.len())
    };
    let key = |topic: Option<&str>, key: &str| Selection {
        topic: topic.map(str::to_owned),
        key: Some(key.to_owned()),
        ..Selection::default()
    };
    let check = || {
        assert_eq!(count(&key(None, "all")), (Found::ByIndex, 60));
        assert_eq!(count(&key(Some("U"), "all")), (Found::ByIndex, 30));
        assert_eq!(count(&key(None, "k3")), (Found::ByIndex, 9));
        (0..60).for_each(|number| assert_eq!(count(&key(None, &format!("u{number}"))), (Found::ByIndex, 1)));
        assert_eq!(count(&key(None, "none")), (Found::ByIndex, 0));
        assert_eq!(count(&Selection { to: Some(999_999), ..key(None, "all") }).1, 0);
    };
    check();
    let mut late = Batch::new();
    late.push(&message("T", 0, b"KEYS\x01late\x02", b"not dispatched")).unwrap();
    store.append(&mut late).unwrap();
    assert_eq!(count(&key(Some("T"), "late")), (Found::ByIndex, 1));
    check();
    drop(store);
    check();
    open(&small(dir.path())).close().unwrap();
    check();
}

#[test]
fn without_an_index_the_log_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&small(dir.path()));
    (0..5).for_each(|_| assert!(put(&store, "T", 0, b"KEYS\x01k\x02", b"body").0 >= 0));
    store.close().unwrap();
    let selection = Selection { key: Some("k".into()), ..Selection::default() };
    assert_eq!(look(dir.path(), &selection).1.places.len(), 5);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (how, found) = look(dir.path(), &selection);
    assert!(matches!(how, Found::WithoutIndex(_)) && found.places.len() == 5, "{how:?}");
}

/// An entry that leads elsewhere is not taken for the message: the record tells.
#[test]
fn a_collision_is_told_from_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&small(dir.path()));
    // Both have the same Java hash.
    let wanted = put(&store, "T", 0, b"KEYS\x01Aa\x02", b"body").1;
    put(&store, "T", 0, b"KEYS\x01BB\x02", b"body");
    assert_eq!(store.query("T", "Aa", 10, 0, i64::MAX).physical_offsets.len(), 2, "the index cannot tell");
    store.close().unwrap();
    let selection = Selection { key: Some("Aa".into()), ..Selection::default() };
    let (how, found) = look(dir.path(), &selection);
    assert_eq!((how, found.places), (Found::ByIndex, vec![wanted]));
}

/// An offset within a batch, and queues that hold messages of other topics.
#[test]
fn batches_and_light_queues() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        batch_queue_topics: Some(Arc::new(|topic| topic == "B")),
        enable_lmq: true,
        enable_multi_dispatch: true,
        ..small(dir.path())
    };
    let store = open(&config);
    let mut batches = Vec::new();
    for _ in 0..3 {
        let inner = message("B", 0, b"INNER_NUM\x0110\x02", b"ten");
        let mut batch = Batch::new();
        batch.push(&NewRecord { sys_flag: sys_flag::INNER_BATCH, ..inner }).unwrap();
        store.append(&mut batch).unwrap();
        batches.push(batch.entries()[0].physical_offset);
    }
    let light: Vec<i64> = ["%LMQ%a", "%LMQ%b,%LMQ%a", "%LMQ%a"]
        .into_iter()
        .map(|names| {
            put(&store, "T", 3, format!("KEYS\x01k\x02INNER_MULTI_DISPATCH\x01{names}\x02").as_bytes(), b"x").1
        })
        .collect();
    store.close().unwrap();
    let of = |topic: &str, queue_id: i32, offset: Option<i64>, key: Option<&str>| {
        let selection = Selection {
            topic: Some(topic.to_owned()),
            queue_id: Some(queue_id),
            offset,
            key: key.map(str::to_owned),
            ..Selection::default()
        };
        look(dir.path(), &selection).1.places
    };
    assert_eq!([9, 10, 15, 30].map(|offset| of("B", 0, Some(offset), None).len()), [3, 2, 2, 0]);
    assert_eq!(of("B", 0, Some(20), None), batches[2..]);
    assert_eq!((of("%LMQ%a", 0, None, None), of("%LMQ%b", 0, None, None)), (light.clone(), light[1..2].to_vec()));
    assert_eq!((of("%LMQ%a", 0, Some(1), None), of("%LMQ%a", 0, None, Some("k"))), (light[1..].to_vec(), light));
    assert!(of("%LMQ%a", 1, None, None).is_empty() && of("%LMQ%a", 0, None, Some("other")).is_empty());
}
