//! What the simulated disk found in timers, each as a small test: times that go back, cuts of the log, and takings back
//! that were not taken up yet; what a hand-over to Java found: stops within a slot.

mod common;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use common::{HandClock, clock_at, message, small};
use store::{Batch, RealDisk, Retention, Store, StoreConfig, Timer, TimerCheckPoint, TimerConfig};
use wire::{property, record::RecordView, topic};

const NOW: i64 = 1_795_500_000_000;

fn host() -> SocketAddr {
    "10.0.0.2:10911".parse().unwrap()
}

struct Node {
    store: Store,
    timer: Timer,
    clock: Arc<HandClock>,
    counts: BTreeMap<String, i64>,
}

impl Node {
    fn open(config: &StoreConfig, timer: TimerConfig, now_ms: i64) -> Self {
        let clock = clock_at(now_ms);
        let store = Store::open(config.clone(), Arc::new(RealDisk), clock.clone()).unwrap();
        let timer = Timer::open(&store, timer, clock.clone()).unwrap();
        Self { store, timer, clock, counts: BTreeMap::new() }
    }

    fn master(config: &StoreConfig, now_ms: i64) -> Self {
        let node = Self::open(config, timer_config(), now_ms);
        node.timer.set_delivering(&node.store, true).unwrap();
        node
    }

    fn at(&mut self, now_ms: i64) -> &mut Self {
        self.clock.0.store(now_ms, Ordering::SeqCst);
        self
    }

    fn enqueue(&mut self, max: usize) -> usize {
        self.store.dispatch();
        let counts = &mut self.counts;
        let count = &mut |topic: &str, by: i64| *counts.entry(topic.to_owned()).or_default() += by;
        self.timer.enqueue(&self.store, max, count).unwrap()
    }

    /// Answers how many were stored or dropped.
    fn deliver(&mut self) -> usize {
        let counts = &mut self.counts;
        let count = &mut |topic: &str, by: i64| *counts.entry(topic.to_owned()).or_default() += by;
        let delivered = self.timer.deliver(&self.store, host(), 100, &|_, _| true, count).unwrap();
        self.store.dispatch();
        delivered.count + delivered.dropped
    }

    fn run(&mut self) {
        while self.enqueue(100) + self.deliver() > 0 {}
    }

    fn send(&self, due_ms: i64, unique: &str, takes_back: Option<&str>) {
        self.put(due_ms, unique, takes_back);
        self.store.dispatch();
    }

    /// The same, not dispatched.
    fn put(&self, due_ms: i64, unique: &str, takes_back: Option<&str>) {
        let (out_ms, due_ms) = (out(due_ms), due_ms.to_string());
        let mut text = Vec::new();
        property::push(&mut text, property::UNIQ_KEY, unique);
        property::push(&mut text, property::TIMER_OUT_MS, &out_ms.to_string());
        property::push(&mut text, property::TIMER_DELIVER_MS, &due_ms);
        property::push(&mut text, property::REAL_TOPIC, "T");
        property::push(&mut text, property::REAL_QUEUE_ID, "1");
        takes_back.iter().for_each(|key| property::push(&mut text, property::TIMER_DELETE_UNIQUE_KEY, key));
        let mut batch = Batch::new();
        batch.push(&message(topic::TIMER, 0, &text, unique.as_bytes())).unwrap();
        self.store.append(&mut batch).unwrap();
    }

    /// Unique ids in the real topic's queue.
    fn came(&self) -> Vec<String> {
        common::bodies(&self.store, "T", 1).into_iter().map(|body| String::from_utf8(body).unwrap()).collect()
    }
}

fn timer_config() -> TimerConfig {
    TimerConfig { segment_size: 1040, ..TimerConfig::default() }
}

/// As the broker rounds.
fn out(due_ms: i64) -> i64 {
    (due_ms - 1) / 1000 * 1000
}

#[test]
fn a_slot_is_not_opened_before_those_that_take_back_are_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::master(&small(dir.path()), NOW);
    node.send(NOW + 5500, "a", None);
    node.enqueue(10);
    node.send(NOW + 5500, "a", Some("T+a"));
    assert_eq!(node.at(NOW + 7000).deliver(), 0, "the second message is not taken up");
    node.run();
    assert_eq!(node.came(), [""; 0]);
    // When the operator stops taking up, delivery does not wait for it: the index tells.
    node.send(NOW + 9500, "b", None);
    node.send(NOW + 9500, "c", None);
    node.run();
    node.send(NOW + 9500, "b", Some("T+b"));
    assert_eq!(node.at(NOW + 10_000).enqueue(0), 0);
    node.deliver();
    assert_eq!(node.came(), ["c"]);
}

/// Java goes on with the whole slot that the check point names.
#[test]
fn a_slot_that_was_begun_is_finished_before_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::master(&small(dir.path()), NOW);
    ["a", "b"].into_iter().zip([1100, 1900]).for_each(|(id, after)| node.send(NOW + after, id, None));
    node.send(NOW + 2001, "next", None);
    node.at(NOW + 1000).run();
    assert!(!node.timer.ends_within_slot(), "it is open, and whole");
    node.at(NOW + 1100).run();
    assert!(node.timer.ends_within_slot() && node.came() == ["a"]);
    node.at(NOW + 1900).run();
    assert!(node.timer.ends_within_slot(), "its tick is not over");
    node.at(NOW + 2001).run();
    assert!(!node.timer.ends_within_slot());
    assert_eq!(node.came(), ["a", "b"], "no other one is opened");
    assert_eq!(node.timer.check_point(i64::MAX).last_read_ms, NOW + 2000);
    node.timer.close(&node.store).unwrap();
    node.store.close().unwrap();
    drop(node);
    let mut node = Node::master(&small(dir.path()), NOW + 5000);
    node.run();
    assert_eq!(node.came(), ["a", "b", "next"]);
}

#[test]
fn late_messages_are_taken_back_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::master(&small(dir.path()), NOW);
    node.send(NOW + 1500, "a", None);
    node.send(NOW + 1500, "b", None);
    node.send(NOW + 1500, "a", Some("T+a"));
    // The process stood still for a minute, with nothing taken up.
    node.at(NOW + 60_000).deliver();
    node.run();
    assert_eq!(node.came(), ["b"]);
}

/// What takes a late message back may be in the log and in no index yet.
#[test]
fn a_late_message_waits_until_all_is_dispatched_that_was_there_when_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::master(&small(dir.path()), NOW);
    node.send(NOW + 1500, "a", None);
    // The time goes on before anything is taken up.
    node.at(NOW + 60_000).deliver();
    node.put(NOW + 1500, "a", Some("T+a"));
    let nothing = &mut |_: &str, _: i64| {};
    assert_eq!(node.timer.enqueue(&node.store, 1, nothing).unwrap(), 1);
    assert_eq!(node.timer.deliver(&node.store, host(), 100, &|_, _| true, nothing).unwrap().count, 0);
    node.run();
    assert_eq!(node.came(), [""; 0]);
}

/// Messages that were delivered without a wait are in no timer log: the queue is read from there again.
#[test]
fn a_cut_that_takes_copies_away_delivers_them_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let mut node = Node::master(&config, NOW);
    node.send(NOW + 30_500, "slot", None);
    node.enqueue(10);
    node.timer.flush(&node.store).unwrap();
    node.at(NOW + 300_000).send(NOW + 40_500, "late", None);
    // All that follows is stored within the same second: store times do not tell what is delivered.
    common::put(&node.store, "U", 0, b"", b"kept");
    let cut = node.store.max_phys();
    assert_eq!((node.enqueue(0), node.deliver()), (0, 1));
    node.run();
    assert_eq!(node.came().len(), 2);
    common::put(&node.store, "U", 0, b"", b"cut");
    node.timer.flush(&node.store).unwrap();
    node.store.truncate(cut).unwrap();
    drop(node);
    // The process died between the cut and what follows it.
    let mut node = Node::master(&config, NOW + 301_000);
    assert_eq!(node.came().len(), 0);
    node.run();
    assert_eq!(node.came(), ["slot", "late"]);
}

#[test]
fn a_cut_right_after_a_promotion_leaves_no_slot_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::open(&small(dir.path()), timer_config(), NOW);
    node.send(NOW + 3500, "a", None);
    node.at(NOW + 40_000).send(NOW + 50_500, "b", None);
    // The master was further than what has arrived here of its log.
    let point =
        TimerCheckPoint { last_read_ms: NOW + 40_000, master_timer_queue_offset: 2, ..TimerCheckPoint::default() };
    node.timer.adopt(&node.store, &point);
    assert_eq!(node.enqueue(10), 2);
    node.timer.flush(&node.store).unwrap();
    node.timer.set_delivering(&node.store, true).unwrap();
    let end = node.store.max_phys();
    node.send(NOW + 50_500, "c", None);
    node.store.truncate(end).unwrap();
    node.timer.truncated(&node.store).unwrap();
    node.run();
    assert_eq!(node.came(), ["a"]);
    node.at(NOW + 52_000).run();
    assert_eq!(node.came(), ["a", "b"]);
}

#[test]
fn a_queue_that_begins_later_by_now_is_not_taken_up_twice() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let mut node = Node::master(&config, NOW);
    node.send(NOW + 3500, "gone", None);
    node.timer.close(&node.store).unwrap();
    while node.store.min_phys() == 0 && node.store.max_phys() < 8192 {
        common::put(&node.store, "U", 0, b"", &[b'x'; 300]);
    }
    node.send(NOW + 8500, "a", None);
    node.run();
    let retention = Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments: 1 };
    node.store.delete_expired(retention).unwrap();
    assert_eq!(node.store.min_offset(topic::TIMER, 0), 1);
    drop(node);
    let mut node = Node::master(&config, NOW + 1000);
    node.run();
    assert_eq!(node.timer.slot_count(&node.store, out(NOW + 8500)), 1);
    node.at(NOW + 9000).run();
    assert_eq!(node.came(), ["a"]);
}

/// A start as master goes some time back, and may take up what is due in a slot before the time of the check point.
#[test]
fn what_came_after_the_check_point_is_delivered_however_early_its_slot() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let mut node = Node::master(&config, NOW);
    node.send(NOW + 1500, "a", None);
    node.at(NOW + 50_000).run();
    node.timer.close(&node.store).unwrap();
    let check_point = std::fs::read(dir.path().join("config/timercheck")).unwrap();
    drop(node);
    let mut node = Node::master(&config, NOW + 51_000);
    std::fs::write(dir.path().join("config/timercheck"), &check_point).unwrap();
    node.send(NOW + 20_500, "b", None);
    assert_eq!(node.enqueue(10), 1);
    assert_eq!(node.timer.slot_count(&node.store, out(NOW + 20_500)), 1, "in a slot before the check point's time");
    drop(node);
    let mut node = Node::master(&config, NOW + 52_000);
    node.run();
    assert_eq!(node.came(), ["a", "b"]);
}

/// Time went back behind a slot that waits: another time with the same place in the wheel must not replace it.
#[test]
fn a_slot_that_waits_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let config = TimerConfig { slots: 256, roll_window_slots: 60, ..timer_config() };
    let mut node = Node::open(&small(dir.path()), config, NOW);
    node.timer.set_delivering(&node.store, true).unwrap();
    node.at(NOW + 250_000).run();
    let later = out(NOW + 280_500);
    node.send(later + 500, "later", None);
    node.enqueue(10);
    // As a promotion does.
    node.timer.set_delivering(&node.store, false).unwrap();
    node.timer.set_delivering(&node.store, true).unwrap();
    let early = later - 256_000;
    let read_ms = node.timer.status(&node.store).read_ms;
    if early < read_ms {
        let point = store::TimerCheckPoint { last_read_ms: early - 1000, ..node.timer.check_point(i64::MAX) };
        node.timer.set_delivering(&node.store, false).unwrap();
        node.timer.adopt(&node.store, &point);
        node.timer.set_delivering(&node.store, true).unwrap();
    }
    node.send(early + 500, "early", None);
    for second in 0..40 {
        node.at(NOW + 250_000 + second * 1000).run();
        node.run();
    }
    let mut came = node.came();
    came.sort();
    assert_eq!(came, ["early", "later"]);
}

#[test]
fn counts_by_topic_come_to_zero_and_a_recount_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let config = TimerConfig { roll_window_slots: 30, in_memory: 2, ..timer_config() };
    let mut node = Node::open(&small(dir.path()), config, NOW);
    node.timer.set_delivering(&node.store, true).unwrap();
    for number in 0..6 {
        node.send(NOW + 100_500, &format!("far{number}"), None);
        node.send(NOW + 5500, &format!("near{number}"), None);
    }
    node.send(NOW + 5500, "near3", None);
    for (unique, key) in
        [("near3", "near3"), ("far1", "T+far1"), ("near2", "near2"), ("near2", "near2"), ("nobody", "T+nobody")]
    {
        node.send(if unique == "far1" { NOW + 100_500 } else { NOW + 5500 }, unique, Some(key));
    }
    for second in 0..110 {
        node.at(NOW + second * 1000 + 500).run();
        let mut again: BTreeMap<String, i64> = BTreeMap::new();
        let count = &mut |topic: &str, by: i64| *again.entry(topic.to_owned()).or_default() += by;
        node.timer.count_topics(&node.store, || (), || true, count).unwrap();
        assert_eq!(node.counts["T"], again.get("T").copied().unwrap_or(0), "second {second}");
        assert!(node.timer.status(&node.store).waiting >= 0);
    }
    assert_eq!((node.came().len(), node.counts["T"]), (9, 0));
}

/// One slot with far more messages than are held in memory: all come, in the order of their times where they fit.
#[test]
fn a_slot_with_very_many_messages_is_read_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let config = TimerConfig { in_memory: 64, segment_size: 5200, ..TimerConfig::default() };
    let mut node = Node::open(&small(dir.path()), config, NOW);
    node.timer.set_delivering(&node.store, true).unwrap();
    for number in 0..1000 {
        node.send(NOW + 4001 + number % 999, &format!("m{number}"), None);
        if number % 100 == 50 {
            node.enqueue(1000);
            node.send(NOW + 4500, &format!("m{number}"), Some(&format!("T+m{number}")));
        }
    }
    node.enqueue(2000);
    let (mut most, mut added) = (0, 0);
    for now in (NOW + 3990..NOW + 5100).step_by(10) {
        node.at(now);
        while node.enqueue(100) + node.deliver() > 0 {
            most = most.max(node.timer.status(&node.store).in_memory);
        }
        if added < 40 && now > NOW + 4300 && now < NOW + 4900 {
            // While the slot is open.
            node.send(now + 50, &format!("added{added}"), None);
            added += 1;
        }
    }
    assert!(most > 32 && most <= 64 + 100, "{most} in memory");
    let came = node.came();
    let unique: std::collections::BTreeSet<&String> = came.iter().collect();
    assert_eq!((came.len(), unique.len(), added), (990 + 40, 1030, 40));
    for offset in 0..came.len() as i64 {
        let unit = node.store.queue_unit("T", 1, offset).unwrap();
        let bytes = node.store.read_record(unit.physical_offset).unwrap();
        let record = RecordView::layout(&bytes).unwrap();
        let number = |name| record.property(name).unwrap().parse::<i64>().unwrap();
        let late = number(property::TIMER_DEQUEUE_MS) - number(property::TIMER_DELIVER_MS);
        assert!((0..1100).contains(&late), "{late} ms late");
    }
}

/// A unit has no checksum; what a crash left of it may look like one.
#[test]
fn a_unit_torn_at_every_byte_is_made_again() {
    for bytes in 1..52 {
        let dir = tempfile::tempdir().unwrap();
        let config = small(dir.path());
        let mut node = Node::master(&config, NOW);
        node.timer.close(&node.store).unwrap();
        // Place and size take two bytes, so that a half of them looks like another one.
        common::put(&node.store, "U", 0, b"", &[b'x'; 300]);
        let unique = "a".repeat(200);
        node.send(NOW + 2500, &unique, None);
        node.enqueue(10);
        drop(node);
        let path = dir.path().join("timerlog/00000000000000000000");
        let mut log = std::fs::read(&path).unwrap();
        log[bytes..52].fill(0);
        std::fs::write(&path, log).unwrap();
        let mut node = Node::master(&config, NOW + 1000);
        node.at(NOW + 3000).run();
        assert_eq!(node.came(), [unique], "{bytes} bytes of it");
    }
}

/// A start goes some time back and looks at slots again; what was counted before the stop counts on.
#[test]
fn counts_survive_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let mut node = Node::master(&config, NOW);
    for number in 0..10 {
        node.send(NOW + 1500 + 5000 * (number % 2), &format!("m{number}"), None);
    }
    node.at(NOW + 3000).run();
    assert_eq!(node.counts["T"], 5);
    node.timer.close(&node.store).unwrap();
    node.store.close().unwrap();
    let counts = std::mem::take(&mut node.counts);
    drop(node);
    let mut node = Node { counts, ..Node::master(&config, NOW + 3000) };
    node.run();
    assert_eq!(node.counts["T"], 5);
    node.at(NOW + 10_000).run();
    assert_eq!((node.counts["T"], node.came().len()), (0, 10));
}

/// Messages that were due before they could be put into the wheel are in memory alone: no more than the bound, and none
/// is lost over it.
#[test]
fn late_messages_are_bounded_and_all_come() {
    let dir = tempfile::tempdir().unwrap();
    let config = TimerConfig { in_memory: 4, ..timer_config() };
    let mut node = Node::open(&small(dir.path()), config, NOW);
    node.timer.set_delivering(&node.store, true).unwrap();
    node.at(NOW + 100_000).run();
    for number in 0..30 {
        node.send(NOW + 50_000 + number * 1000, &format!("m{number:02}"), None);
    }
    let in_memory = |node: &Node| node.timer.status(&node.store).in_memory;
    for _ in 0..3 {
        node.enqueue(100);
        assert_eq!((in_memory(&node), node.came().len()), (4, 0), "nothing was delivered meanwhile");
    }
    while node.deliver() + node.enqueue(100) > 0 {
        assert!(in_memory(&node) <= 4, "{} in memory", in_memory(&node));
    }
    let mut came = node.came();
    came.sort();
    assert!(came.len() == 30 && came.windows(2).all(|pair| pair[0] < pair[1]), "{came:?}");
}

/// Java 5.5 with `timerWheelSnapshotFlush=true` leaves the file `timerwheel` as it was when that was switched on. Nothing
/// in the part of the timer log that a start looks at tells: all of that is delivered.
#[test]
fn a_wheel_that_java_keeps_in_snapshots_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let mut node = Node::master(&config, NOW);
    node.send(NOW + 5500, "first", None);
    node.run();
    node.timer.close(&node.store).unwrap();
    let wheel = dir.path().join("timerwheel");
    let old = std::fs::read(&wheel).unwrap();
    for number in 0..100 {
        node.send(NOW + 1_000_500 + number * 1000, &format!("m{number:02}"), None);
    }
    // Three segments of it.
    for number in 0..60 {
        node.send(NOW + 6500 + number, &format!("near{number}"), None);
    }
    node.run();
    node.at(NOW + 300_000).run();
    assert_eq!(node.came().len(), 61);
    node.timer.close(&node.store).unwrap();
    node.store.close().unwrap();
    drop(node);
    let snapshot = dir.path().join("timerwheel.5252");
    std::fs::rename(&wheel, &snapshot).unwrap();
    std::fs::write(&wheel, old).unwrap();
    let mut node = Node::master(&config, NOW + 301_000);
    assert!(!snapshot.exists(), "Java would load it again");
    node.at(NOW + 1_200_000).run();
    assert_eq!(node.came().len(), 161);
}

/// What was delivered without a wait has no unit: the last unit does not tell how far the queue was taken up.
#[test]
fn a_cut_goes_back_to_a_late_message_before_the_last_unit() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::master(&small(dir.path()), NOW);
    node.at(NOW + 60_000).run();
    node.timer.flush(&node.store).unwrap();
    node.send(NOW + 30_500, "late", None);
    node.send(NOW + 90_500, "far", None);
    let cut = node.store.max_phys();
    node.run();
    assert_eq!(node.came(), ["late"]);
    node.send(NOW + 91_500, "cut", None);
    node.run();
    node.timer.flush(&node.store).unwrap();
    node.store.truncate(cut).unwrap();
    node.timer.truncated(&node.store).unwrap();
    node.run();
    node.at(NOW + 95_000).run();
    assert_eq!(node.came(), ["late", "far"]);
}

/// The timer log near the check point's position says nothing of what waits in older segments.
#[test]
fn a_missing_or_empty_wheel_is_made_again_from_the_whole_timer_log() {
    for bytes in [None, Some(Vec::new())] {
        let dir = tempfile::tempdir().unwrap();
        let config = small(dir.path());
        let mut node = Node::master(&config, NOW);
        node.send(NOW + 100_500, "far", None);
        for number in 0..60 {
            node.send(NOW + 2500, &format!("near{number}"), None);
        }
        node.run();
        node.at(NOW + 10_000).run();
        node.timer.close(&node.store).unwrap();
        drop(node);
        let wheel = dir.path().join("timerwheel");
        match &bytes {
            None => std::fs::remove_file(&wheel).unwrap(),
            Some(bytes) => std::fs::write(&wheel, bytes).unwrap(),
        }
        // And a part of one that was being made.
        std::fs::write(dir.path().join("new-timerwheel"), vec![0xAA; 10_000]).unwrap();
        let mut node = Node::master(&config, NOW + 11_000);
        node.at(NOW + 101_000).run();
        assert_eq!(node.came().last().unwrap(), "far", "{bytes:?}");
        node.timer.close(&node.store).unwrap();
        assert!(wheel.exists() && !dir.path().join("new-timerwheel").exists());
    }
}

/// The timer log is lost when messages that went round are late: both records of each are taken up again.
fn lose_the_timer_log_of(node: Node, config: &StoreConfig, timer: TimerConfig, now_ms: i64) -> Node {
    node.timer.close(&node.store).unwrap();
    drop(node);
    std::fs::remove_dir_all(config.root.join("timerlog")).unwrap();
    let mut node = Node::open(config, timer, now_ms);
    node.timer.set_delivering(&node.store, true).unwrap();
    node.run();
    node
}

#[test]
fn what_went_round_comes_once_when_both_its_records_are_late() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let timer = TimerConfig { roll_window_slots: 30, ..timer_config() };
    let mut node = Node::open(&config, timer, NOW);
    node.timer.set_delivering(&node.store, true).unwrap();
    node.send(NOW + 40_500, "a", None);
    for second in 0..35 {
        node.at(NOW + second * 1000).run();
    }
    assert!(node.store.max_offset(topic::TIMER, 0) > 1, "it went round");
    let node = lose_the_timer_log_of(node, &config, timer, NOW + 100_000);
    assert_eq!(node.came(), ["a"]);
}

#[test]
fn what_was_taken_back_long_before_it_went_round_does_not_come_late() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let timer = TimerConfig { roll_window_slots: 200, ..timer_config() };
    let mut node = Node::open(&config, timer, NOW);
    node.timer.set_delivering(&node.store, true).unwrap();
    node.send(NOW + 300_500, "a", None);
    node.run();
    node.at(NOW + 110_000).send(NOW + 300_500, "a", Some("T+a"));
    node.run();
    for second in 195..210 {
        node.at(NOW + second * 1000).run();
    }
    assert_eq!(node.store.max_offset(topic::TIMER, 0), 3, "it went round, and what takes it back did not");
    let node = lose_the_timer_log_of(node, &config, timer, NOW + 400_000);
    assert_eq!(node.came(), [""; 0]);
}
