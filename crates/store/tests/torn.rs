//! Damaged copies of a killed Java store: what Java recovers from each, and what this store does.

mod common;

use common::{Fixture, damage, data};
use serde_json::Value;

fn int(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

#[test]
fn recovers_what_java_recovers() {
    let cuts = std::fs::read_to_string(data("java-5.3.3-torn/cuts.jsonl")).unwrap();
    let mut rows = 0;
    for line in cuts.lines() {
        let cut: Value = serde_json::from_str(line).unwrap();
        let fixture = Fixture::unpack("java-5.3.3-killed");
        cut["edits"].as_array().unwrap().iter().for_each(|edit| damage::apply(&fixture.root(), edit));
        let store = fixture.open().unwrap();
        let (name, want) = (&cut["name"], &cut["recovered"]);
        assert_eq!(store.max_phys(), int(&want["commitLogMaxOffset"]), "{name}");
        for queue in want["queues"].as_array().unwrap() {
            let (topic, queue_id) = (queue["topic"].as_str().unwrap(), int(&queue["queueId"]) as i32);
            let found = (store.min_offset(topic, queue_id), store.max_offset(topic, queue_id));
            assert_eq!(found, (int(&queue["min"]), int(&queue["max"])), "{name}: {topic} {queue_id}");
            for offset in found.0..found.1 {
                let unit = store.queue_unit(topic, queue_id, offset).unwrap();
                assert!(store.read_record(unit.physical_offset).is_some(), "{name}: {topic} {queue_id} {offset}");
            }
        }
        // Nothing of the old tail comes back when the log grows over it.
        let (_, at, _) = common::put(&store, "After", 0, b"", b"after");
        assert_eq!(at, int(&want["commitLogMaxOffset"]), "{name}");
        drop(store);
        let store = fixture.open().unwrap();
        assert_eq!(common::bodies(&store, "After", 0), [b"after"], "{name}");
        assert!(store.read_record(at).is_some() && store.max_phys() > at, "{name}");
        rows += 1;
    }
    assert!(rows >= 8, "{rows}");
}
