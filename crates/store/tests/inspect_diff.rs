//! `diff` of two replicas: what is equal, what is behind, and what contradicts, each by its name; and beside two stores
//! of which one follows the other.

mod common;

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use common::{
    Fixture, damage,
    files::{copy, segment, write},
    open, put, small,
};
use store::{
    RealDisk, Retention, Store, StoreConfig,
    inspect::{Compared, LogContent, Part, StoreView, ViewOptions, Watch, Weight, diff},
};

struct Patient;

impl Watch for Patient {
    fn progress(&mut self, done: u64, total: u64) {
        assert!(done <= total, "{done} of {total}");
    }
    fn pause(&mut self) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn compare(a: &Path, b: &Path) -> Compared {
    let view = |root| StoreView::open(Arc::new(RealDisk), root, ViewOptions::default()).unwrap();
    diff(&view(a), &view(b), &mut Patient).unwrap()
}

fn fill(store: &Store, from: i32, to: i32) -> Vec<i64> {
    let body = |number: i32| vec![b'a' + (number % 26) as u8; 100];
    (from..to).map(|number| put(store, "T", number % 2, b"", &body(number)).1).collect()
}

/// Two equal stores of 60 messages in segments of 4 KiB, and where the messages are.
fn twins() -> (tempfile::TempDir, StoreConfig, StoreConfig, Vec<i64>) {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (small(&dir.path().join("a")), small(&dir.path().join("b")));
    let store = open(&a);
    let places = fill(&store, 0, 60);
    store.close().unwrap();
    copy(&a.root, &b.root);
    (dir, a, b, places)
}

/// Parts and weights of all rows.
fn kinds(found: &Compared) -> Vec<(Part, Weight, u64)> {
    found.counts.iter().map(|((part, weight), count)| (*part, *weight, *count)).collect()
}

#[test]
fn copies_are_equal() {
    for name in ["java-5.3.3-clean", "java-5.3.3-killed", "java-5.3.3-slave", "java-5.5.0-clean"] {
        let fixture = Fixture::unpack(name);
        let other = fixture.dir.path().join("other");
        copy(&fixture.root(), &other);
        let found = compare(&fixture.root(), &other);
        assert!(found.rows.is_empty() && found.verdict() == Weight::Note, "{name}: {:?}", found.rows);
        assert!(found.bytes > 1_000_000 && found.units > 300 && found.common.len() == 1, "{name}: {found:?}");
    }
}

#[test]
fn a_replica_that_lacks_the_tail_is_behind() {
    let (_dir, a, b, _) = twins();
    let store = open(&a);
    fill(&store, 60, 100);
    store.close().unwrap();
    let found = compare(&a.root, &b.root);
    assert_eq!((found.verdict(), kinds(&found)), (Weight::Behind, vec![(Part::Range, Weight::Behind, 1)]), "{found:?}");
    assert_eq!(found.common, [(0, found.sides[1].end)]);
    assert_eq!(
        (found.rows[0].name.clone(), found.log.len()),
        (format!("{} to {}", found.sides[1].end, found.sides[0].end), 0)
    );
    let back = compare(&b.root, &a.root);
    assert_eq!((back.verdict(), back.rows[0].b.as_str()), (Weight::Behind, found.rows[0].a.as_str()));
}

#[test]
fn a_replica_that_lacks_the_head_is_behind() {
    let (_dir, a, b, _) = twins();
    let store = open(&b);
    let all = Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments: 2 };
    store.delete_expired(all).unwrap();
    store.close().unwrap();
    let found = compare(&a.root, &b.root);
    assert_eq!((found.verdict(), kinds(&found)), (Weight::Behind, vec![(Part::Range, Weight::Behind, 1)]), "{found:?}");
    assert_eq!(found.common, [(8192, found.sides[0].end)]);
    assert!(found.rows[0].b.contains("begins at 8192"), "{:?}", found.rows);
}

#[test]
fn a_missing_segment_is_a_difference_and_the_rest_is_compared() {
    let (_dir, a, b, places) = twins();
    fs::remove_file(segment(&b.root, 4096)).unwrap();
    damage::flip(&b.root, places[55] + 110);
    let found = compare(&a.root, &b.root);
    assert_eq!(found.common, [(0, 4096), (8192, found.sides[0].end)]);
    assert_eq!((found.rows[0].weight, found.rows[0].name.as_str()), (Weight::Different, "4096 to 8192"));
    assert_eq!(found.log[0].first, places[55] + 110, "{found:?}");
}

#[test]
fn a_flipped_byte_is_found_with_its_record() {
    let (_dir, a, b, places) = twins();
    damage::flip(&b.root, places[21] + 110);
    damage::flip(&b.root, places[40] + 5);
    let found = compare(&a.root, &b.root);
    assert_eq!((found.log.len(), kinds(&found)), (2, vec![(Part::Log, Weight::Different, 2)]));
    let first = &found.log[0];
    assert_eq!(
        (first.first, first.a.from, first.a.to, first.to),
        (places[21] + 110, places[21], places[22], places[22])
    );
    let LogContent::Record(name) = &first.a.what else { panic!("{first:?}") };
    assert_eq!((name.topic.as_str(), name.queue_id, name.queue_offset), ("T", 1, 10));
    assert_eq!(first.b.what, LogContent::Damaged(name.clone()));
    assert!(matches!(found.log[1].b.what, LogContent::Nothing(_)) && found.log[1].to == places[41], "{found:?}");
}

/// Two lives of one store: from where they part on nothing is the same, until the next segment or to the end.
#[test]
fn histories_that_part() {
    let (_dir, a, b, places) = twins();
    for (config, lengths) in [(&a, [300, 90]), (&b, [80, 310])] {
        let store = open(config);
        for number in 0..40 {
            put(&store, "T", 0, b"", &vec![b'x'; lengths[number % 2]]);
        }
        store.close().unwrap();
    }
    let found = compare(&a.root, &b.root);
    let parted = found.common[0].1.min(places[59] + (places[59] - places[58]));
    assert_eq!(found.log[0].first, parted + 2, "in the sizes: {found:?}");
    assert!(found.log[0].a.from == parted && found.log[0].b.from == parted, "{found:?}");
    // Each segment begins with a record on both sides.
    assert_eq!(found.counts.get(&(Part::Log, Weight::Different)), Some(&4), "{:?}", found.rows);
    assert!(found.counts.contains_key(&(Part::Queue, Weight::Different)));
}

#[test]
fn what_a_filler_holds_is_nobodys() {
    let (_dir, a, b, places) = twins();
    let last = *places.iter().rfind(|place| **place < 4096).unwrap();
    let blank = last + places[1] - places[0];
    assert!(blank + 8 < 4096, "a filler with a rest");
    write(&segment(&b.root, 0), blank as u64 + 8, b"?");
    assert_eq!(compare(&a.root, &b.root).rows, []);
    write(&segment(&b.root, 0), blank as u64 + 7, b"?");
    assert_eq!(compare(&a.root, &b.root).log[0].first, blank + 7);
}

#[test]
fn segments_of_other_sizes() {
    let (_dir, a, b, _) = twins();
    let mut bases: Vec<_> = damage::segments(&b.root);
    while let [first, second, ..] = &bases[..] {
        let joined = [fs::read(&first.1).unwrap(), fs::read(&second.1).unwrap()].concat();
        fs::write(&first.1, joined).unwrap();
        fs::remove_file(&second.1).unwrap();
        bases.drain(..2);
    }
    bases.iter().for_each(|(_, path, _)| fs::File::options().write(true).open(path).unwrap().set_len(8192).unwrap());
    let found = compare(&a.root, &b.root);
    assert_eq!((found.sides[0].segment_size, found.sides[1].segment_size), (4096, 8192));
    // The smaller segments' fillers lie within the greater ones; their bytes are the same.
    assert!(found.rows.iter().all(|row| row.part == Part::Range), "{:?}", found.rows);
    assert!(found.bytes > 4096);
}

#[test]
fn queues_that_are_not_the_same() {
    let (_dir, a, b, places) = twins();
    let file = |root: &Path, name: &str| root.join(format!("consumequeue/{name}"));
    // Files of ten units.
    write(&file(&b.root, "T/1/00000000000000000200"), 6 * 20 + 19, b"?");
    let found = compare(&a.root, &b.root);
    assert_eq!(kinds(&found), [(Part::Queue, Weight::Different, 1)]);
    assert_eq!(found.rows[0].name, "T 1 offset 16");
    assert!(found.rows[0].a.contains(&format!("at {} ", places[33])), "{:?}", found.rows);

    fs::remove_file(file(&b.root, "T/1/00000000000000000400")).unwrap();
    fs::remove_dir_all(file(&b.root, "T/0")).unwrap();
    let found = compare(&a.root, &b.root);
    let told: Vec<_> = found.rows.iter().map(|row| (row.name.as_str(), row.a.as_str(), row.b.as_str())).collect();
    assert_eq!(told[0], ("T 0", "0 to 30", "not there"));
    assert_eq!(told[1].0, "T 1 offset 16");

    // After a kill the next start builds what is missing at an end.
    fs::write(b.root.join("abort"), "").unwrap();
    write(&file(&b.root, "T/1/00000000000000000200"), 6 * 20 + 19, &[0]);
    let found = compare(&a.root, &b.root);
    assert_eq!((found.verdict(), kinds(&found)), (Weight::Note, vec![(Part::Queue, Weight::Note, 2)]), "{found:?}");
    assert_eq!(found.rows[1].b, "0 to 20, more to be built");
}

fn config(root: &Path, name: &str, text: &str) {
    fs::create_dir_all(root.join("config")).unwrap();
    fs::write(root.join("config").join(name), text).unwrap();
}

#[test]
fn progress_and_configuration() {
    let (_dir, a, b, _) = twins();
    let version = |counter| format!(r#""dataVersion":{{"counter":{counter},"stateVersion":0,"timestamp":5}}"#);
    let topic = |queues| format!(r#""T":{{"perm":6,"readQueueNums":{queues},"attributes":{{"x":"1","y":"2"}}}}"#);
    config(&a.root, "topics.json", &format!(r#"{{{},"topicConfigTable":{{{}}}}}"#, version(1), topic(2)));
    config(&b.root, "topics.json", &format!(r#"{{{},"topicConfigTable":{{{},"U":{{}}}}}}"#, version(2), topic(4)));
    config(&a.root, "consumerOffset.json", r#"{"offsetTable":{"T@g":{0:10,1:7}}}"#);
    config(&b.root, "consumerOffset.json", r#"{"offsetTable":{"T@g":{1:7,0:12}}}"#);
    config(&a.root, "delayOffset.json", r#"{"offsetTable":{3:18}}"#);
    config(&b.root, "delayOffset.json", "{");
    config(&b.root, "delayOffset.json.bak", r#"{"offsetTable":{3:17}}"#);
    config(
        &a.root,
        "subscriptionGroup.json",
        r#"{"subscriptionGroupTable":{"g":{"retryMaxTimes":16,"a":{"x":1,"y":2}}}}"#,
    );
    config(
        &b.root,
        "subscriptionGroup.json",
        r#"{"subscriptionGroupTable":{"g":{"a":{"y":2,"x":1},"retryMaxTimes":16}}}"#,
    );
    let found = compare(&a.root, &b.root);
    let row = |part| {
        found
            .rows
            .iter()
            .filter(|row| row.part == part)
            .map(|row| (row.name.as_str(), row.a.as_str(), row.b.as_str()))
            .collect::<Vec<_>>()
    };
    assert_eq!(row(Part::Topic), [("T", "readQueueNums 2", "readQueueNums 4"), ("U", "not there", "{}")]);
    assert_eq!(row(Part::Progress), [("T@g 0", "10", "12")]);
    assert_eq!(row(Part::Delay), [("level 3", "18", "17")]);
    assert_eq!((row(Part::Group), row(Part::Version).len(), found.verdict()), (vec![], 1, Weight::Different));
    // Progress alone is a matter of being behind.
    fs::copy(a.root.join("config/topics.json"), b.root.join("config/topics.json")).unwrap();
    assert_eq!(compare(&a.root, &b.root).verdict(), Weight::Behind);
}

/// A master that is written, and a store that takes its log as it grows.
#[test]
fn nothing_differs_beside_two_running_stores() {
    let (_dir, a, b, _) = twins();
    let (master, slave) = (open(&a), open(&b));
    slave.set_slave(true);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 60;
            while !over.load(SeqCst) {
                fill(&master, number, number + 1);
                number += 1;
            }
        });
        scope.spawn(|| {
            while !over.load(SeqCst) {
                let at = slave.max_phys();
                if let Some(bytes) = master.read_log(at, 1 << 16).filter(|bytes| !bytes.is_empty()) {
                    slave.append_raw(at, &bytes).unwrap();
                    slave.dispatch();
                }
            }
        });
        let looks: Vec<_> = (0..10).map(|_| compare(&a.root, &b.root)).collect();
        over.store(true, SeqCst);
        for found in looks {
            assert!(found.sides[0].running && found.verdict() == Weight::Note, "{:?}", found.rows);
            assert!(found.units >= 60 && found.log.is_empty());
        }
    });
}
