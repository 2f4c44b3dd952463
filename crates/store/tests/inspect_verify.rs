//! `verify` on stores of Java brokers, sound and damaged, and beside a store that is being written.

mod common;

use std::sync::Arc;

use common::{Fixture, Still, damage, data, open, put, small, verified};
use serde_json::Value;
use store::{
    RealDisk,
    inspect::{FindingKind, StoreView, Verified, ViewOptions, verify},
};

const FIXTURES: [&str; 4] = ["java-5.3.3-clean", "java-5.3.3-killed", "java-5.3.3-slave", "java-5.5.0-clean"];

fn told(found: &Verified) -> String {
    let list: Vec<_> = found.findings.list().iter().map(|finding| finding.text.as_str()).collect();
    format!("{:?}\n{}\nnotes:\n{}", found.findings.counts(), list.join("\n"), found.notes.join("\n"))
}

#[test]
fn stores_of_java_are_sound() {
    for name in FIXTURES {
        let fixture = Fixture::unpack(name);
        let found = verified(&fixture.root(), &ViewOptions::default());
        assert!(found.findings.is_empty(), "{name}: {}", told(&found));
        println!("{name}: {found:?}");
    }
}

/// Each edit of a killed store is reported, and by the right name.
#[test]
fn each_cut_is_reported() {
    let cuts = std::fs::read_to_string(data("java-5.3.3-torn/cuts.jsonl")).unwrap();
    let mut damaged = 0;
    for line in cuts.lines() {
        let cut: Value = serde_json::from_str(line).unwrap();
        let fixture = Fixture::unpack("java-5.3.3-killed");
        let edits = cut["edits"].as_array().unwrap();
        edits.iter().for_each(|edit| damage::apply(&fixture.root(), edit));
        let found = verified(&fixture.root(), &ViewOptions::default());
        println!("{}: {}", cut["name"], told(&found));
        assert_eq!(found.findings.is_empty(), edits.is_empty(), "{}: {}", cut["name"], told(&found));
        damaged += usize::from(!edits.is_empty());
        let kinds = found.findings.counts();
        let has = |kind| kinds.contains_key(&kind);
        let name = cut["name"].as_str().unwrap();
        if name.contains("inverted") {
            assert!(has(FindingKind::BodyCrc) && kinds.len() == 1, "{name}: {}", told(&found));
        }
        if name.contains("hole") {
            assert!(has(FindingKind::BodyCrc) || has(FindingKind::Record), "{name}: {}", told(&found));
        }
        if name.starts_with("at a record boundary") && !name.contains("lost") {
            assert!(
                has(FindingKind::UnitWithoutRecord) && has(FindingKind::EntryWithoutRecord),
                "{name}: {}",
                told(&found)
            );
        }
        if name.contains("lost") {
            assert!(
                has(FindingKind::RecordWithoutUnit) && has(FindingKind::RecordWithoutEntry),
                "{name}: {}",
                told(&found)
            );
        }
    }
    assert!(damaged >= 7, "{damaged}");
}

#[test]
fn a_store_that_is_taken_away_meanwhile_is_not_called_sound() {
    let fixture = Fixture::unpack("java-5.3.3-slave");
    let view = StoreView::open(Arc::new(RealDisk), &fixture.root(), ViewOptions::default()).unwrap();
    view.still_there().unwrap();
    std::fs::rename(fixture.root(), fixture.dir.path().join("elsewhere")).unwrap();
    let found = verify(&view, &mut Still);
    let told = view.still_there().unwrap_err().to_string();
    assert!(told.contains("it was taken away while it was read"), "{told}, {found:?}");
}

/// A slave that did not hear of a deletion learns of it from the log, where the numbers of a queue begin again.
#[test]
fn earlier_lives_of_a_topic_are_no_damage_at_a_slave() {
    let dir = tempfile::tempdir().unwrap();
    let (master, slave) = (open(&small(&dir.path().join("m"))), open(&small(&dir.path().join("s"))));
    for (number, count) in [11, 3, 22].into_iter().enumerate() {
        if number > 0 {
            master.delete_topic("T").unwrap();
        }
        for _ in 0..count {
            put(&master, "T", 0, b"KEYS\x01k\x02", b"body");
            put(&master, "other", 0, b"", b"body");
        }
    }
    while slave.max_phys() < master.max_phys() {
        let at = slave.max_phys();
        slave.append_raw(at, &master.read_log(at, 4096).unwrap()).unwrap();
    }
    slave.dispatch();
    assert_eq!((slave.min_offset("T", 0), slave.max_offset("T", 0)), (0, 22));
    slave.close().unwrap();
    let found = verified(&dir.path().join("s"), &ViewOptions::default());
    assert!(found.findings.is_empty(), "{}", told(&found));
    assert_eq!(found.notes.len(), 1, "{}", told(&found));
    assert!(found.notes[0].starts_with("14 records of queue T 0"), "{}", told(&found));
}

/// A Java broker leaves no word of a deletion but that the numbers of the queues begin again.
#[test]
fn a_topic_that_java_deleted_and_made_again_with_fewer_queues_is_sound() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&small(dir.path()));
    let put_some = |queues: &[(i32, i32)]| {
        for (queue_id, count) in queues {
            (0..*count).for_each(|_| assert!(put(&store, "T", *queue_id, b"KEYS\x01k\x02", b"body").0 >= 0));
        }
    };
    // Of queue 1 more than ever come again; queue 2 gets nothing any more, and queue 3 is not there any more.
    put_some(&[(0, 2), (1, 9), (2, 3), (3, 4)]);
    store.delete_topic("T").unwrap();
    put_some(&[(0, 5), (1, 4)]);
    store.close().unwrap();
    std::fs::remove_file(dir.path().join("deletedTopics")).unwrap();
    std::fs::create_dir(dir.path().join("config")).unwrap();
    let table = r#"{"topicConfigTable":{"T":{"topicName":"T","readQueueNums":3,"writeQueueNums":3}}}"#;
    std::fs::write(dir.path().join("config/topics.json"), table).unwrap();
    let found = verified(dir.path(), &ViewOptions { segment_size: Some(4096), ..ViewOptions::default() });
    assert!(found.findings.is_empty(), "{}", told(&found));
    let of_before = |note: &&String| note.contains("are from before its topic was deleted and made again");
    assert_eq!(found.notes.iter().filter(of_before).count(), 4, "{:?}", found.notes);
    assert!(found.notes.iter().any(|note| note.starts_with("9 records of queue T 1 ")), "{:?}", found.notes);
    // What is lost of the queue as it is now is found all the same.
    let unit = dir.path().join("consumequeue/T/1/00000000000000000000");
    let mut bytes = std::fs::read(&unit).unwrap();
    bytes[20..40].fill(0);
    std::fs::write(&unit, bytes).unwrap();
    let found = verified(dir.path(), &ViewOptions { segment_size: Some(4096), ..ViewOptions::default() });
    assert_eq!(found.findings.counts().get(&FindingKind::RecordWithoutUnit), Some(&1), "{}", told(&found));
}
