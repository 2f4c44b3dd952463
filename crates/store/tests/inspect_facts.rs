//! `inspect` on stores of Java brokers: what it says a start would do is what the start then does.

mod common;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{Fixture, clock_at, damage, data};
use serde_json::Value;
use store::{
    RealDisk, StoreConfig,
    inspect::{ConfigState, Facts, Recovery, StoreView, ViewOptions, inspect},
};

const NOW: i64 = 1_800_000_000_000;

fn look(root: &Path) -> Facts {
    let view = StoreView::open(Arc::new(RealDisk), root, ViewOptions::default()).unwrap();
    inspect(&view, clock_at(NOW)).unwrap()
}

/// Size and content hash of all files below a directory.
fn content(dir: &Path) -> BTreeMap<PathBuf, (usize, u32)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => found.extend(content(&entry)),
            false => {
                let bytes = std::fs::read(&entry).unwrap();
                found.insert(entry, (bytes.len(), wire::record::body_crc(&bytes)));
            }
        }
    }
    found
}

/// Inspects, starts, and compares.
fn foretold(fixture: &mut Fixture, name: &str) {
    let before = content(&fixture.root());
    let facts = look(&fixture.root());
    assert_eq!(content(&fixture.root()), before, "{name}: the directory is as it was");
    // The trial knows batch queues from their files alone.
    fixture.config = StoreConfig { batch_queue_topics: None, ..fixture.config.clone() };
    let store = match (fixture.open(), &facts.recovery) {
        (Ok(store), _) => store,
        (Err(error), Recovery::Refused(text)) => {
            assert_eq!(&error.to_string(), text, "{name}");
            return;
        }
        (Err(error), other) => panic!("{name}: refused ({error}), foretold {other:?}"),
    };
    let Recovery::Done { min, end, queues } = &facts.recovery else { panic!("{name}: {:?}", facts.recovery) };
    assert_eq!((*min, *end), (store.min_phys(), store.max_phys()), "{name}");
    let mut ranges: BTreeMap<(String, i32), (i64, i64)> = BTreeMap::new();
    for queue in facts.queues.iter() {
        ranges.entry((queue.topic.clone(), queue.queue_id)).or_insert((queue.min, queue.max));
    }
    ranges.extend(queues.iter().map(|change| ((change.topic.clone(), change.queue_id), change.after)));
    for (topic, queue_id) in store.queues() {
        let now = (store.min_offset(&topic, queue_id), store.max_offset(&topic, queue_id));
        assert_eq!(ranges.get(&(topic.to_string(), queue_id)), Some(&now), "{name}: {topic} {queue_id}");
    }
}

#[test]
fn a_start_does_what_was_foretold() {
    for name in ["java-5.3.3-clean", "java-5.3.3-killed", "java-5.3.3-slave", "java-5.5.0-clean"] {
        foretold(&mut Fixture::unpack(name), name);
    }
    let cuts = std::fs::read_to_string(data("java-5.3.3-torn/cuts.jsonl")).unwrap();
    for line in cuts.lines() {
        let cut: Value = serde_json::from_str(line).unwrap();
        let mut fixture = Fixture::unpack("java-5.3.3-killed");
        cut["edits"].as_array().unwrap().iter().for_each(|edit| damage::apply(&fixture.root(), edit));
        foretold(&mut fixture, cut["name"].as_str().unwrap());
    }
}

#[test]
fn a_clean_store_is_left_as_it_is() {
    let fixture = Fixture::unpack("java-5.3.3-clean");
    let facts = look(&fixture.root());
    assert!(facts.clean && !facts.running && facts.gaps.is_empty());
    assert_eq!((facts.segment_size, facts.segments[0].0), (fixture.config.segment_size, 0));
    assert_eq!(facts.index[0].sizes, Some((fixture.config.max_hash_slots, fixture.config.max_index)));
    assert!(facts.index.iter().all(|file| file.times.0 > 0 && file.times.0 <= file.times.1), "{:?}", facts.index);
    let checkpoint = facts.checkpoint.unwrap();
    assert!(checkpoint.physic_msg_timestamp > 1_600_000_000_000, "{checkpoint:?}");
    assert!(facts.timer.iter().any(|(name, len)| name == "timerwheel" && *len > 0), "{:?}", facts.timer);
    let Recovery::Done { queues, .. } = &facts.recovery else { panic!("{:?}", facts.recovery) };
    assert!(queues.is_empty(), "{queues:?}");
}

#[test]
fn configuration_files_by_the_rule_of_the_backup() {
    let fixture = Fixture::unpack("java-5.3.3-clean");
    let dir = fixture.root().join("config");
    let state = |name: &str| look(&fixture.root()).configs.into_iter().find(|file| file.name == name).unwrap().state;
    assert_eq!(state("topics.json"), ConfigState::Whole);
    std::fs::copy(dir.join("topics.json"), dir.join("topics.json.bak")).unwrap();
    let bytes = std::fs::read(dir.join("topics.json")).unwrap();
    std::fs::write(dir.join("topics.json"), &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(state("topics.json"), ConfigState::OnlyBackup);
    std::fs::write(dir.join("topics.json.bak"), b"").unwrap();
    assert_eq!(state("topics.json"), ConfigState::Broken);
}

/// What waits, by the topic it goes to: from wheel, timer log and commit log the same as Java's own counts.
#[test]
fn the_timer_holds_what_java_counted() {
    for name in ["java-5.3.3-clean", "java-5.3.3-killed", "java-5.3.3-slave", "java-5.5.0-clean"] {
        let fixture = Fixture::unpack(name);
        let timer = look(&fixture.root()).timer_state.unwrap();
        let metrics = std::fs::read(fixture.root().join("config/timermetrics")).unwrap();
        let metrics: Value = serde_json::from_slice(&metrics).unwrap();
        let counts = metrics["timingCount"].as_object().unwrap();
        let want: BTreeMap<String, i64> =
            counts.iter().map(|(topic, count)| (topic.clone(), count["count"].as_i64().unwrap())).collect();
        assert_eq!((&timer.topics, timer.topics_cut), (&want, false), "{name}");
        assert_eq!((timer.waiting, timer.precision_ms), (want.values().sum(), 1000), "{name}");
        let point = timer.check_point.unwrap();
        let (first, last) = timer.due.unwrap();
        assert!(point.last_read_ms <= first && first <= last && timer.slots > 4, "{name}: {timer:?}");
        let behind = if name.contains("killed") { 24 } else { 0 };
        assert_eq!(timer.behind, Some(behind), "{name}");
    }
}

#[test]
fn a_timer_that_is_not_there_or_lost_its_files() {
    let dir = tempfile::tempdir().unwrap();
    common::open(&common::small(dir.path())).close().unwrap();
    assert_eq!(look(dir.path()).timer_state, None);
    let fixture = Fixture::unpack("java-5.3.3-clean");
    std::fs::remove_dir_all(fixture.root().join("timerlog")).unwrap();
    let timer = look(&fixture.root()).timer_state.unwrap();
    assert_eq!((timer.waiting, timer.topics.len()), (52, 0), "the wheel counts, the topics are in the timer log");
    assert!(!fixture.root().join("timerlog").exists());
    std::fs::write(fixture.root().join("timerwheel"), b"short").unwrap();
    let timer = look(&fixture.root()).timer_state.unwrap();
    assert_eq!((timer.waiting, timer.due, timer.check_point.is_some()), (0, None, true));
}
