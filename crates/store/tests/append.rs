//! Appending, rolling, dispatching and reading.

mod common;

use std::{
    io::{BufRead, BufReader},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use common::{bodies, message, open, put, records, small};
use store::{
    AppendError, Arrival, Batch, Boundary, EveryMessage, GetStatus, MessageFilter, RealDisk, Retention, Store,
    StoreConfig, StoreError,
};
use wire::{
    record::{Check, MAGIC_BLANK, RecordView, check},
    sys_flag,
};

#[test]
fn a_batch_gets_its_places_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&small(dir.path()));
    let mut batch = Batch::new();
    for (topic, queue_id) in [("A", 0), ("A", 1), ("A", 0), ("B", 0), ("A", 0)] {
        batch.push(&message(topic, queue_id, b"", b"body")).unwrap();
    }
    store.append(&mut batch).unwrap();
    let offsets: Vec<i64> = batch.entries().iter().map(|entry| entry.queue_offset).collect();
    assert_eq!(offsets, [0, 0, 1, 0, 2]);
    let mut at = 0;
    for (number, entry) in batch.entries().iter().enumerate() {
        assert_eq!((entry.physical_offset, entry.store_timestamp), (at, 1_000_000));
        assert_eq!(&store.read_record(at).unwrap()[..], batch.record(number));
        let Check::Record(record) = check(batch.record(number), true) else { panic!("no record") };
        assert_eq!((record.queue_offset(), record.store_timestamp()), (entry.queue_offset, 1_000_000));
        at = entry.end();
    }
    assert_eq!((store.marks().appended.get(), store.marks().flushed.get()), (at, 0));
    assert_eq!(store.max_offset("A", 0), 0);
    assert_eq!(store.dispatch(), 5);
    assert_eq!((store.max_offset("A", 0), store.max_offset("A", 1), store.marks().dispatched.get()), (3, 1, at));
    assert_eq!(store.flush().unwrap(), at);
    batch.clear();
    batch.push(&message("A", 0, b"", b"")).unwrap();
    store.append(&mut batch).unwrap();
    assert_eq!(batch.entries()[0].queue_offset, 3);
}

#[test]
fn a_segment_ends_with_a_filler_and_a_group_is_never_split() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&small(dir.path()));
    let body = vec![7; 900];
    let mut batch = Batch::new();
    for _ in 0..3 {
        batch.push(&message("T", 0, b"", &body)).unwrap();
    }
    batch.push_group([message("T", 0, b"", &body), message("T", 0, b"", &body)]).unwrap();
    store.append(&mut batch).unwrap();
    let size = batch.entries()[0].size as i64;
    let places: Vec<i64> = batch.entries().iter().map(|entry| entry.physical_offset).collect();
    assert_eq!(places, [0, size, 2 * size, 4096, 4096 + size]);
    let blank = store.read_log(3 * size, 8).unwrap();
    assert_eq!(blank[..4], (4096 - 3 * size as i32).to_be_bytes());
    assert_eq!(blank[4..], MAGIC_BLANK.to_be_bytes());
    assert_eq!(store.read_log(3 * size, 1 << 20).unwrap().len() as i64, 4096 - 3 * size);
    assert!(store.read_log(4096, 100).is_some() && store.read_log(1 << 20, 1).is_none());
    assert_eq!(store.read_log(store.max_phys(), 1).unwrap().len(), 0);
    store.dispatch();
    assert_eq!(bodies(&store, "T", 0), vec![body; 5]);
}

#[test]
fn exactly_eight_bytes_may_stay_free() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&small(dir.path()));
    let (.., end) = put(&store, "T", 0, b"", b"");
    let fitting = vec![1; (4096 - 8 - end * 2) as usize];
    let (_, at, end) = put(&store, "T", 0, b"", &fitting);
    assert_eq!((at, end), (92 - 1 + 1, 4096 - 8));
    assert_eq!(put(&store, "T", 0, b"", b"").1, 4096);
    assert_eq!(bodies(&store, "T", 0).len(), 3);
}

#[test]
fn too_large_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&small(dir.path()));
    let (half, whole) = (vec![0; 2100], vec![0; 4090]);
    let mut batch = Batch::new();
    batch.push(&message("T", 0, b"", &whole)).unwrap();
    assert!(matches!(store.append(&mut batch), Err(AppendError::TooLarge { limit: 4088, .. })));
    batch.clear();
    batch.push_group([message("T", 0, b"", &half), message("T", 0, b"", &half)]).unwrap();
    assert!(matches!(store.append(&mut batch), Err(AppendError::TooLarge { .. })));
    assert_eq!((store.max_phys(), put(&store, "T", 0, b"", b"").0), (0, 0));
}

#[test]
fn transactions_have_no_place_until_committed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&small(dir.path()));
    let mut batch = Batch::new();
    for flag in [0, sys_flag::TRANSACTION_PREPARED, sys_flag::TRANSACTION_ROLLBACK, sys_flag::TRANSACTION_COMMIT] {
        let properties = format!("UNIQ_KEY\x01u{flag}\x02");
        let mut message = message("T", 0, properties.as_bytes(), b"x");
        message.sys_flag = flag;
        batch.push(&message).unwrap();
    }
    store.append(&mut batch).unwrap();
    store.dispatch();
    let offsets: Vec<i64> = batch.entries().iter().map(|entry| entry.queue_offset).collect();
    assert_eq!((offsets, store.max_offset("T", 0)), (vec![0, 0, 0, 1], 2));
    let indexed = |flag: i32| store.query("T", &format!("u{flag}"), 10, 0, i64::MAX).physical_offsets.len();
    assert_eq!([0, 4, 8, 12].map(indexed), [1, 1, 1, 0]);
}

#[test]
fn scheduled_messages_carry_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&small(dir.path()));
    put(&store, "SCHEDULE_TOPIC_XXXX", 2, b"DELAY\x013\x02", b"");
    put(&store, "T", 0, b"DELAY\x013\x02TAGS\x01TagA\x02", b"");
    assert_eq!(store.queue_unit("SCHEDULE_TOPIC_XXXX", 2, 0).unwrap().tags_code, 1_010_000);
    assert_eq!(store.queue_unit("T", 0, 0).unwrap().tags_code, 2_598_919);
}

#[test]
fn inner_batches() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { batch_queue_topics: Some(Arc::new(|topic| topic == "Inner")), ..small(dir.path()) };
    let check = |store: &Store| {
        assert_eq!((store.min_offset("Inner", 0), store.max_offset("Inner", 0)), (0, 90));
        for (offset, base) in [(0, 0), (2, 0), (3, 3), (89, 87)] {
            let unit = store.queue_unit("Inner", 0, offset).unwrap();
            assert_eq!((unit.queue_offset, unit.count), (base, 3));
        }
        let got = store.get_messages("Inner", 0, 40, 6, &EveryMessage);
        assert_eq!((got.status, got.count, got.next_begin_offset), (GetStatus::Found, 6, 45));
        assert_eq!(got.places.iter().map(|(_, offset)| *offset).collect::<Vec<_>>(), [39, 42]);
        assert_eq!(store.offset_by_time("Inner", 0, 1_000_000, Boundary::Lower).unwrap(), 0);
    };
    let store = open(&config);
    let mut batch = Batch::new();
    for _ in 0..30 {
        let mut message = message("Inner", 0, b"INNER_NUM\x013\x02", b"abc");
        message.sys_flag = sys_flag::INNER_BATCH;
        batch.push(&message).unwrap();
    }
    store.append(&mut batch).unwrap();
    store.dispatch();
    check(&store);
    drop(store);
    check(&open(&config));
    assert!(dir.path().join("batchconsumequeue/Inner/0/00000000000000000460").exists());
}

#[test]
fn sync_flush_shows_nothing_that_is_not_durable() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&StoreConfig { sync_flush: true, ..small(dir.path()) });
    put(&store, "T", 0, b"", b"x");
    assert_eq!(store.max_offset("T", 0), 0);
    store.flush().unwrap();
    assert_eq!((store.dispatch(), store.max_offset("T", 0)), (1, 1));
}

#[test]
fn arrivals_come_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&small(dir.path())));
    let seen: Arc<Mutex<Vec<(String, i64)>>> = Arc::default();
    store.set_arrival_listener(Box::new({
        let (seen, store) = (seen.clone(), Arc::downgrade(&store));
        move |arrivals: &[Arrival]| {
            for arrival in arrivals {
                // Readable before it is announced; a call back into dispatch does not block.
                let store = store.upgrade().unwrap();
                assert!(store.max_offset(&arrival.topic, arrival.queue_id) >= arrival.next_offset);
                store.dispatch();
                seen.lock().unwrap().push((arrival.topic.to_string(), arrival.next_offset));
            }
        }
    }));
    let threads: Vec<_> = (0..4)
        .map(|lane| {
            let store = store.clone();
            std::thread::spawn(move || {
                for _ in 0..200 {
                    put(&store, &format!("T{lane}"), 0, b"", b"x");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(store.marks().dispatched.get(), store.max_phys());
    let seen = seen.lock().unwrap();
    for lane in 0..4 {
        let topic = format!("T{lane}");
        let offsets: Vec<i64> = seen.iter().filter(|(of, _)| *of == topic).map(|(_, offset)| *offset).collect();
        assert_eq!(offsets, (1..=200).collect::<Vec<_>>());
        assert_eq!(bodies(&store, &topic, 0).len(), 200);
    }
}

/// While messages come faster than they are dispatched, dispatch has no end; a flush and a deletion have.
#[test]
fn a_dispatch_without_end_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&StoreConfig { segment_size: 1 << 20, ..small(dir.path()) }));
    let (is_over, has_no_end, began) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default(), Instant::now());
    store.set_arrival_listener(Box::new({
        let (is_over, has_no_end, store) = (is_over.clone(), has_no_end.clone(), Arc::downgrade(&store));
        move |_: &[Arrival]| {
            if began.elapsed() > Duration::from_secs(60) {
                has_no_end.store(true, SeqCst);
            } else if !is_over.load(SeqCst) {
                std::thread::yield_now();
                let mut batch = Batch::new();
                batch.push(&message("T", 0, b"", b"x")).unwrap();
                store.upgrade().unwrap().append(&mut batch).unwrap();
            }
        }
    }));
    let dispatching = std::thread::spawn({
        let store = store.clone();
        move || put(&store, "T", 0, b"", b"first")
    });
    while store.max_offset("T", 0) == 0 {
        std::thread::yield_now();
    }
    store.flush_queues().unwrap();
    store.delete_topic("U").unwrap();
    is_over.store(true, SeqCst);
    dispatching.join().unwrap();
    assert!(!has_no_end.load(SeqCst), "both had to wait for the end of the dispatch");
    store.dispatch();
    assert_eq!(store.marks().dispatched.get(), store.max_phys());
}

struct Tags(&'static str);

impl MessageFilter for Tags {
    fn matches_tags_code(&self, tags_code: Option<i64>) -> bool {
        tags_code.is_none_or(|code| code == wire::hash::tags_code(Some(self.0)))
    }

    fn matches_record(&self, record: &RecordView<'_>) -> bool {
        record.property("TAGS") == Some(self.0)
    }
}

#[test]
fn every_status_of_a_get() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&StoreConfig { queue_segment_size: 6000, ..small(dir.path()) });
    let get = |offset, filter: &dyn MessageFilter| {
        let got = store.get_messages("T", 0, offset, 32, filter);
        (got.status, got.next_begin_offset, got.count)
    };
    assert_eq!(get(5, &EveryMessage), (GetStatus::NoMessageInQueue, 0, 0));
    assert!(!dir.path().join("consumequeue/T").exists());
    for number in 0..100 {
        // Two tags with one hash: the text decides.
        let tag = if number % 10 == 0 { "AaAa" } else { "BBBB" };
        put(&store, "T", 0, format!("TAGS\x01{tag}\x02").as_bytes(), &[number]);
    }
    assert_eq!(get(100, &EveryMessage), (GetStatus::OffsetOverflowOne, 100, 0));
    assert_eq!(get(101, &EveryMessage), (GetStatus::OffsetOverflowBadly, 100, 0));
    assert_eq!(get(-1, &EveryMessage), (GetStatus::OffsetTooSmall, 0, 0));
    assert_eq!(get(0, &EveryMessage), (GetStatus::Found, 32, 32));
    assert_eq!(get(0, &Tags("AaAa")), (GetStatus::Found, 100, 10));
    assert_eq!(get(91, &Tags("AaAa")), (GetStatus::NoMatchedMessage, 100, 0));
    assert_eq!(get(0, &Tags("C")), (GetStatus::NoMatchedMessage, 100, 0));
    let few = store.get_messages("T", 0, 3, 2, &EveryMessage);
    assert_eq!((few.next_begin_offset, few.min_offset, few.max_offset), (5, 0, 100));
    assert_eq!(records(&few.messages).iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [3, 4]);
    store.set_slave(true);
    assert_eq!(get(500, &EveryMessage), (GetStatus::OffsetOverflowBadly, 500, 0));
}

#[test]
fn limits_of_one_answer() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        queue_segment_size: 60_000,
        max_transfer_bytes_in_memory: 2000,
        max_transfer_count_on_disk: 3,
        total_memory: 100_000,
        ..small(dir.path())
    };
    let store = open(&config);
    for _ in 0..1000 {
        put(&store, "T", 0, b"", &[0; 100]);
    }
    let size = store.queue_unit("T", 0, 0).unwrap().size as i64;
    let got = store.get_messages("T", 0, 0, 32, &EveryMessage);
    assert_eq!((got.count, got.suggest_pull_from_slave), (3, true));
    let got = store.get_messages("T", 0, 950, 32, &EveryMessage);
    assert_eq!((i64::from(got.count), got.suggest_pull_from_slave), (2000 / size, false));
    assert_eq!(store.get_messages_within("T", 0, 950, 32, 500, &EveryMessage).count, 2);
    assert_eq!(store.get_messages_within("T", 0, 950, 32, 1, &EveryMessage).count, 1);
    // 16,000 bytes of units are looked at.
    let got = store.get_messages("T", 0, 0, 32, &Tags("none"));
    assert_eq!((got.status, got.next_begin_offset), (GetStatus::NoMatchedMessage, 800));
}

/// Takes records by the first byte of their bodies.
struct Bodies<'a>(&'a [u8]);

impl MessageFilter for Bodies<'_> {
    fn matches_tags_code(&self, _: Option<i64>) -> bool {
        true
    }

    fn matches_record(&self, record: &RecordView<'_>) -> bool {
        record.body().first().is_some_and(|first| self.0.contains(first))
    }
}

/// Neighbours in the log are read at once, also those that are not wanted.
#[test]
fn what_a_filter_refuses_leaves_no_gap_and_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&small(dir.path()));
    let lengths = [3, 60, 9, 1, 200, 40, 40, 7];
    for (number, length) in (0..).zip(lengths) {
        put(&store, "T", 0, b"", &vec![number; length]);
        if number % 3 == 2 {
            put(&store, "Other", 0, b"", b"between");
        }
    }
    for wanted in [&[0u8, 1, 2, 3, 4, 5, 6, 7][..], &[1, 3, 4, 7], &[0, 6], &[7], &[0, 1, 2, 5]] {
        let got = store.get_messages("T", 0, 0, 32, &Bodies(wanted));
        let expected: Vec<Vec<u8>> = wanted.iter().map(|number| vec![*number; lengths[*number as usize]]).collect();
        assert_eq!(records(&got.messages).into_iter().map(|(_, body)| body).collect::<Vec<_>>(), expected);
        assert_eq!(got.count as usize, wanted.len());
        for (at, queue_offset) in &got.places {
            let Check::Record(record) = check(&got.messages[*at..], true) else { panic!("no record at {at}") };
            assert_eq!(record.queue_offset(), *queue_offset);
        }
    }
}

#[test]
fn everything_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { sync_flush: true, queue_segment_size: 2000, segment_size: 65_536, ..small(dir.path()) };
    let store = Arc::new(open(&config));
    let stop = Arc::new(AtomicBool::new(false));
    let background = |work: fn(&Store)| {
        let (store, stop) = (store.clone(), stop.clone());
        std::thread::spawn(move || {
            while !stop.load(SeqCst) {
                work(&store);
            }
        })
    };
    let helpers = [
        background(|store| assert!(store.flush().is_ok())),
        background(|store| store.flush_queues().and_then(|()| store.persist_checkpoint()).unwrap()),
        background(|store| assert!(store.dispatch() < 10_000)),
        background(|store| drop(bodies(store, "T0", 0))),
        background(|store| drop(store.query("T1", "k", 64, 0, i64::MAX))),
        background(|store| {
            let retention = Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments: 1 };
            if store.max_phys() - store.min_phys() > 150_000 {
                store.delete_expired(retention).unwrap();
            }
        }),
    ];
    let producers: Vec<_> = (0..3)
        .map(|lane| {
            let store = store.clone();
            std::thread::spawn(move || {
                let (topic, mut batch) = (format!("T{lane}"), Batch::new());
                for number in 0..150u32 {
                    batch.clear();
                    for _ in 0..4 {
                        batch.push(&message(&topic, 0, b"KEYS\x01k\x02", &number.to_be_bytes().repeat(50))).unwrap();
                    }
                    store.append(&mut batch).unwrap();
                    let end = batch.entries()[3].end();
                    assert!(store.marks().flushed.wait_blocking(end, Duration::from_secs(60)));
                    assert!(store.marks().dispatched.wait_blocking(end, Duration::from_secs(60)));
                    assert_eq!(store.max_offset(&topic, 0), i64::from(number + 1) * 4);
                }
            })
        })
        .collect();
    producers.into_iter().for_each(|producer| producer.join().unwrap());
    stop.store(true, SeqCst);
    helpers.into_iter().for_each(|helper| helper.join().unwrap());
    for lane in 0..3 {
        let (topic, min) = (format!("T{lane}"), store.min_offset(&format!("T{lane}"), 0));
        let want: Vec<Vec<u8>> = (min as u32..600).map(|number| (number / 4).to_be_bytes().repeat(50)).collect();
        assert!(min > 0 && bodies(&store, &topic, 0) == want, "{topic}");
    }
}

/// Runs this test once more in a process of its own, which holds the directory until its input ends.
#[test]
fn another_process_holds_the_directory() {
    if let Ok(root) = std::env::var("TANDEM_TEST_HOLD") {
        let _store = open(&small(root.as_ref()));
        println!("holding");
        let _ = std::io::stdin().read_line(&mut String::new());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut other = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "another_process_holds_the_directory", "--nocapture"])
        .env("TANDEM_TEST_HOLD", dir.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("holding")));
    let refused = Store::open(small(dir.path()), Arc::new(RealDisk), common::clock_at(0)).err().unwrap();
    assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
    open(&small(dir.path()));
}

#[test]
fn two_stores_in_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let store = open(&config);
    let error = Store::open(config.clone(), Arc::new(RealDisk), common::clock_at(0)).err().unwrap();
    assert!(matches!(error, StoreError::Locked { .. }) && error.to_string().contains(dir.path().to_str().unwrap()));
    store.close().unwrap();
    let mut batch = Batch::new();
    batch.push(&message("T", 0, b"", b"")).unwrap();
    assert!(matches!(store.append(&mut batch), Err(AppendError::Closed)));
    assert!(!store.is_writeable());
    open(&config);
}

#[test]
fn bad_configuration_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { segment_size: 10, ..small(dir.path()) };
    let error = Store::open(config, Arc::new(RealDisk), common::clock_at(0)).err().unwrap();
    assert!(error.to_string().contains("mappedFileSizeCommitLog = 10"), "{error}");
}
