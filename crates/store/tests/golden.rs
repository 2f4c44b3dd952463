//! Stores made by Java brokers open here and say what the Java broker said of them.

mod common;

use common::Fixture;
use serde_json::Value;
use store::{Boundary, EveryMessage, GetStatus, Store};
use wire::record::{Check, RecordView, check};

fn int(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("no integer: {value}"))
}

fn name(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Compares one row of expected.json with a record.
fn compare(columns: &[Value], row: &[Value], record: &RecordView<'_>) {
    let property = |name| record.property(name).map_or(Value::Null, Value::from);
    for (column, want) in columns.iter().zip(row) {
        let found: Value = match name(column) {
            "queueOffset" => record.queue_offset().into(),
            "physicalOffset" => record.physical_offset().into(),
            "storeSize" => record.size().into(),
            "sysFlag" => record.sys_flag().into(),
            "flag" => record.flag().into(),
            "bornTimestamp" => record.born_timestamp().into(),
            "storeTimestamp" => record.store_timestamp().into(),
            "bornHost" => record.born_host().to_string().into(),
            "storeHost" => record.store_host().to_string().into(),
            "reconsumeTimes" => record.reconsume_times().into(),
            "preparedTransactionOffset" => record.prepared_transaction_offset().into(),
            "uniqKey" => property("UNIQ_KEY"),
            "tags" => property("TAGS"),
            "keys" => property("KEYS"),
            "storedBodyCrc" => record.stored_body_crc().into(),
            "storedBodyLength" => record.body().len().into(),
            _ => continue,
        };
        assert_eq!(&found, want, "{column} of {row:?}");
    }
}

fn check_queue(store: &Store, columns: &[Value], queue: &Value) -> usize {
    let (topic, queue_id) = (name(&queue["topic"]), int(&queue["queueId"]) as i32);
    let ends = (store.min_offset(topic, queue_id), store.max_offset(topic, queue_id));
    assert_eq!(ends, (int(&queue["min"]), int(&queue["max"])), "{topic} {queue_id}");
    let rows = queue["messages"].as_array().unwrap();
    for row in rows {
        let row = row.as_array().unwrap();
        let (offset, physical) = (int(&row[0]), int(&row[1]));
        let unit = store.queue_unit(topic, queue_id, offset).unwrap_or_else(|| panic!("{topic} {queue_id} {offset}"));
        assert_eq!((unit.physical_offset, unit.size), (physical, int(&row[2]) as i32), "{topic} {queue_id} {offset}");
        let bytes = store.read_record(physical).unwrap();
        let Check::Record(record) = check(&bytes, true) else { panic!("no record at {physical}") };
        compare(columns, row, &record);
        assert_eq!((record.topic(), record.queue_id()), (topic, queue_id));
    }
    pull_all(store, topic, queue_id, rows);
    rows.len()
}

/// Pulls must give the same records in the same order.
fn pull_all(store: &Store, topic: &str, queue_id: i32, rows: &[Value]) {
    let mut next = store.min_offset(topic, queue_id);
    let mut found = Vec::new();
    loop {
        let got = store.get_messages(topic, queue_id, next, 32, &EveryMessage);
        match got.status {
            GetStatus::Found => {}
            GetStatus::OffsetOverflowOne | GetStatus::NoMessageInQueue => break,
            status => panic!("{topic} {queue_id} {next}: {status:?}"),
        }
        for (at, _) in &got.places {
            let Check::Record(record) = check(&got.messages[*at..], false) else { panic!("no record") };
            found.push(record.physical_offset());
        }
        assert!(got.next_begin_offset > next);
        next = got.next_begin_offset;
    }
    let want: Vec<i64> = rows.iter().map(|row| int(&row[1])).collect();
    assert_eq!(found, want, "{topic} {queue_id}");
}

fn check_times(store: &Store, answers: &[Value]) {
    for answer in answers {
        let (topic, queue_id) = (name(&answer["topic"]), int(&answer["queueId"]) as i32);
        let time = int(&answer["time"]);
        let found = |boundary| Value::from(store.offset_by_time(topic, queue_id, time, boundary).unwrap());
        assert_eq!(found(Boundary::Lower), answer["default"], "{answer}");
        if let Some(lower) = answer.get("lower") {
            assert_eq!(&found(Boundary::Lower), lower, "{answer}");
        }
        // Java's answer for a batch queue depends on where its search probes.
        if let Some(upper) = answer.get("upper").filter(|_| topic != "CorpusBcq") {
            assert_eq!(&found(Boundary::Upper), upper, "{answer}");
        }
    }
}

fn check_keys(store: &Store, queries: &[Value]) {
    for query in queries {
        let (topic, key) = (name(&query["topic"]), name(&query["key"]));
        let found = store.query(topic, key, 32, 0, i64::MAX);
        let want: Vec<i64> = query["physicalOffsets"].as_array().unwrap().iter().map(int).collect();
        if query["unique"].as_bool().unwrap() {
            assert!(want.iter().all(|offset| found.physical_offsets.contains(offset)), "{query}");
        } else {
            assert_eq!(found.physical_offsets, want, "{query}");
        }
    }
}

fn list<'a>(expected: &'a Value, field: &str) -> &'a [Value] {
    expected[field].as_array().unwrap()
}

fn check_all(store: &Store, expected: &Value) {
    let runtime = &expected["runtime"];
    assert_eq!(store.max_phys(), int(&runtime["commitLogMaxOffset"]));
    assert_eq!(store.min_phys(), int(&runtime["commitLogMinOffset"]));
    assert_eq!(store.earliest_log_time(), int(&runtime["earliestMessageTimeStamp"]));
    let columns = list(expected, "columns");
    let rows: usize = list(expected, "queues").iter().map(|queue| check_queue(store, columns, queue)).sum();
    assert!(rows > 1000, "{rows}");
    let queues: Vec<(String, i32)> =
        store.queues().into_iter().map(|(topic, queue_id)| (topic.to_string(), queue_id)).collect();
    // Java's list is of configured topics; a deleted one has queues on a slave and after a recovery, in Java too.
    let listed = |topic: &str, queue_id| topic != "CorpusGone" && store.max_offset(topic, queue_id) > 0;
    for (topic, queue_id) in queues.iter().filter(|(topic, queue_id)| listed(topic, *queue_id)) {
        let known = |queue: &&Value| name(&queue["topic"]) == topic && int(&queue["queueId"]) == i64::from(*queue_id);
        assert!(list(expected, "queues").iter().any(|queue| known(&queue)), "{topic} {queue_id} is not Java's");
    }
    check_times(store, list(expected, "offsetByTime"));
    check_keys(store, list(expected, "queryByKey"));
}

/// Opens, compares, closes, and compares once more after a clean stop of ours.
fn opens_as_java_left_it(fixture: &str) {
    let fixture = Fixture::unpack(fixture);
    let store = fixture.open().unwrap();
    check_all(&store, &fixture.expected);
    store.close().unwrap();
    assert!(!fixture.root().join("abort").exists());
    drop(store);
    let store = fixture.open().unwrap();
    check_all(&store, &fixture.expected);
}

#[test]
fn clean_5_3_3() {
    opens_as_java_left_it("java-5.3.3-clean");
}

#[test]
fn killed_5_3_3() {
    opens_as_java_left_it("java-5.3.3-killed");
}

#[test]
fn slave_5_3_3() {
    opens_as_java_left_it("java-5.3.3-slave");
}

#[test]
fn clean_5_5_0() {
    opens_as_java_left_it("java-5.5.0-clean");
}

/// All views can be made from the log alone; what Java's queues say comes out again.
#[test]
fn rebuilt_from_the_log_alone() {
    for name in ["java-5.3.3-clean", "java-5.3.3-slave"] {
        let fixture = Fixture::unpack(name);
        for dir in ["consumequeue", "batchconsumequeue", "index"] {
            let _ = std::fs::remove_dir_all(fixture.root().join(dir));
        }
        let store = fixture.open().unwrap();
        let columns = list(&fixture.expected, "columns");
        for queue in list(&fixture.expected, "queues") {
            check_queue(&store, columns, queue);
        }
        check_times(&store, list(&fixture.expected, "offsetByTime"));
        check_keys(&store, list(&fixture.expected, "queryByKey"));
    }
}

/// The files that we build are Java's, byte for byte.
#[test]
fn rebuilt_queue_files_are_equal() {
    let fixture = Fixture::unpack("java-5.3.3-clean");
    let (queues, kept) = (fixture.root().join("consumequeue"), fixture.root().join("kept"));
    std::fs::rename(&queues, &kept).unwrap();
    let bcq = fixture.root().join("batchconsumequeue");
    let kept_bcq = fixture.root().join("kept-bcq");
    std::fs::rename(&bcq, &kept_bcq).unwrap();
    fixture.open().unwrap().close().unwrap();
    let files = compare_trees(&kept, &queues) + compare_trees(&kept_bcq, &bcq);
    assert!(files > 50, "{files}");
}

/// Opened and closed, a store that was stopped cleanly is what it was, to the byte: a Java broker may take it back.
#[test]
fn a_clean_start_and_stop_changes_no_file() {
    for name in ["java-5.3.3-clean", "java-5.5.0-clean", "java-5.3.3-slave"] {
        let (fixture, untouched) = (Fixture::unpack(name), Fixture::unpack(name));
        fixture.open().unwrap().close().unwrap();
        assert!(compare_trees(&untouched.root(), &fixture.root()) > 50);
        assert!(compare_trees(&fixture.root(), &untouched.root()) > 50);
    }
}

fn compare_trees(want: &std::path::Path, found: &std::path::Path) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(want).unwrap() {
        let entry = entry.unwrap();
        let other = found.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            files += compare_trees(&entry.path(), &other);
        } else {
            assert!(std::fs::read(entry.path()).unwrap() == std::fs::read(&other).unwrap(), "{}", other.display());
            files += 1;
        }
    }
    files
}
