//! Timer messages: delivered at their time, once, whatever is found on disk; stores of Java brokers go on.

mod common;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use common::{Fixture, HandClock, Random, clock_at, message, seed, small};
use store::{Batch, RealDisk, Store, StoreConfig, Timer, TimerCheckPoint, TimerConfig};
use wire::{
    property,
    record::{RecordView, check},
    topic,
};

const HOST: &str = "10.0.0.2:10911";
const NOW: i64 = 1_795_500_000_000;

fn host() -> SocketAddr {
    HOST.parse().unwrap()
}

fn timer_config() -> TimerConfig {
    TimerConfig { segment_size: 1040, ..TimerConfig::default() }
}

struct Node {
    store: Store,
    timer: Timer,
    clock: Arc<HandClock>,
}

impl Node {
    fn open(config: &StoreConfig, timer: TimerConfig, now_ms: i64) -> Self {
        let clock = clock_at(now_ms);
        let store = Store::open(config.clone(), Arc::new(RealDisk), clock.clone()).unwrap();
        let timer = Timer::open(&store, timer, clock.clone()).unwrap();
        Self { store, timer, clock }
    }

    fn master(config: &StoreConfig, timer: TimerConfig, now_ms: i64) -> Self {
        let node = Self::open(config, timer, now_ms);
        node.timer.set_delivering(&node.store, true).unwrap();
        node
    }

    fn at(&self, now_ms: i64) -> &Self {
        self.clock.0.store(now_ms, Ordering::SeqCst);
        self
    }

    /// What a broker does again and again, until nothing is left to do at this time.
    fn run(&self) -> usize {
        let mut all = 0;
        loop {
            self.store.dispatch();
            let taken = self.timer.enqueue(&self.store, 100, &mut |_, _| {}).unwrap();
            let delivered = self.timer.deliver(&self.store, host(), 100, &|_, _| true, &mut |_, _| {}).unwrap();
            all += delivered.count;
            self.store.dispatch();
            if taken + delivered.count + delivered.dropped == 0 {
                return all;
            }
        }
    }

    /// Runs at each of the coming seconds; answers when each body came.
    fn run_until(&self, from_ms: i64, to_ms: i64, step_ms: i64) -> BTreeMap<Vec<u8>, Vec<i64>> {
        let mut came: BTreeMap<Vec<u8>, Vec<i64>> = BTreeMap::new();
        let mut known = delivered(&self.store).len();
        let mut now = from_ms;
        while now <= to_ms {
            self.at(now).run();
            let all = delivered(&self.store);
            for body in &all[known..] {
                came.entry(body.clone()).or_default().push(now);
            }
            known = all.len();
            now += step_ms;
        }
        came
    }

    fn send(&self, out_ms: i64, asked_ms: i64, unique: &str, body: &[u8]) {
        let deliver = asked_ms.to_string();
        self.put(out_ms, unique, body, &[(property::TIMER_DELIVER_MS, &deliver)]);
    }

    fn put(&self, out_ms: i64, unique: &str, body: &[u8], more: &[(&str, &str)]) {
        let mut text = Vec::new();
        property::push(&mut text, property::UNIQ_KEY, unique);
        property::push(&mut text, property::TIMER_OUT_MS, &out_ms.to_string());
        property::push(&mut text, property::REAL_TOPIC, "T");
        property::push(&mut text, property::REAL_QUEUE_ID, "1");
        more.iter().for_each(|(name, value)| property::push(&mut text, name, value));
        let mut batch = Batch::new();
        batch.push(&message(topic::TIMER, 0, &text, body)).unwrap();
        self.store.append(&mut batch).unwrap();
        self.store.dispatch();
    }

    fn close(self) {
        self.timer.close(&self.store).unwrap();
        self.store.close().unwrap();
    }
}

/// Bodies of the real topic's queue.
fn delivered(store: &Store) -> Vec<Vec<u8>> {
    common::bodies(store, "T", 1)
}

fn body(number: i64) -> Vec<u8> {
    format!("body {number}").into_bytes()
}

/// As the broker rounds: before the asked time, at most one tick.
fn out(asked_ms: i64) -> i64 {
    (asked_ms - 1) / 1000 * 1000
}

fn copy(from: &Path, to: &Path, name: &str) {
    std::fs::copy(from.join(name), to.join(name)).unwrap();
}

#[test]
fn never_early_and_at_the_time_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::master(&small(dir.path()), timer_config(), NOW);
    let asked: Vec<i64> = vec![1, 999, 1000, 1001, 1500, 2000, 2001, 5000, 61_000];
    for (number, after) in asked.iter().enumerate() {
        node.send(out(NOW + after), NOW + after, &format!("u{number}"), &body(*after));
    }
    let came = node.run_until(NOW, NOW + 62_000, 1);
    for after in asked {
        assert_eq!(came[&body(after)], [NOW + after], "asked {after} ms later");
    }
}

/// F-22's neighbour: `maxMessageSize` is a limit of sends.
#[test]
fn f22_a_limit_does_not_apply_to_a_timer_message_that_waits() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { segment_size: 1 << 20, ..small(dir.path()) };
    let node = Node::master(&config, timer_config(), NOW);
    let big = vec![b'x'; 100 << 10];
    node.send(out(NOW + 1500), NOW + 1500, "big", &big);
    node.send(out(NOW + 1500), NOW + 1500, "small", b"small");
    node.close();
    let node = Node::master(&StoreConfig { max_message_size: 1024, ..config }, timer_config(), NOW + 1);
    node.at(NOW + 1500).run();
    assert_eq!(delivered(&node.store), [big, b"small".to_vec()]);
    node.close();
}

#[test]
fn a_delivered_message_is_as_javas() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::master(&small(dir.path()), timer_config(), NOW);
    node.run();
    node.send(NOW + 2000, NOW + 2500, "u", b"text");
    node.send(NOW - 4000, NOW - 3500, "late", b"late");
    node.at(NOW + 100).run();
    node.at(NOW + 2500).run();
    let records: Vec<_> = (0..2)
        .map(|offset| node.store.read_record(node.store.queue_unit("T", 1, offset).unwrap().physical_offset).unwrap())
        .collect();
    let late = RecordView::layout(&records[0]).unwrap();
    assert_eq!((late.body(), late.property("TIMER_ENQUEUE_MS")), (&b"late"[..], Some("9223372036854775807")));
    let view = RecordView::layout(&records[1]).unwrap();
    let property = |name| view.property(name).unwrap().to_owned();
    assert_eq!(
        [
            property("TIMER_OUT_MS"),
            property("TIMER_ENQUEUE_MS"),
            property("TIMER_DEQUEUE_MS"),
            property("REAL_TOPIC"),
            property("REAL_QID")
        ],
        [(NOW + 2000).to_string(), NOW.to_string(), (NOW + 2500).to_string(), "T".into(), "1".into()]
    );
    assert_eq!((view.property("TIMER_ROLL_TIMES"), view.store_host()), (None, host()));
}

#[test]
fn chains_of_slots_with_many_messages_survive_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let node = Node::master(&config, timer_config(), NOW);
    for number in 0..90 {
        let asked = NOW + 5000 + number % 3 * 1000;
        node.send(out(asked), asked, &format!("u{number}"), &body(number));
    }
    node.at(NOW + 1000).run();
    assert_eq!(node.timer.status(&node.store).waiting, 90);
    assert_eq!(node.timer.slot_count(&node.store, NOW + 4000), 30);
    node.close();
    let node = Node::master(&config, timer_config(), NOW + 1000);
    assert_eq!(node.timer.status(&node.store).waiting, 90);
    let came = node.run_until(NOW + 1000, NOW + 9000, 1000);
    for number in 0..90 {
        assert_eq!(came[&body(number)], [NOW + 5000 + number % 3 * 1000], "{number}");
    }
    // Oldest first within a slot.
    let first: Vec<Vec<u8>> = delivered(&node.store)[..30].to_vec();
    assert_eq!(first, (0..30).map(|number| body(number * 3)).collect::<Vec<_>>());
    assert_eq!(node.timer.status(&node.store).waiting, 0);
}

#[test]
fn beyond_the_window_it_goes_round() {
    let dir = tempfile::tempdir().unwrap();
    let config = TimerConfig { roll_window_slots: 30, ..timer_config() };
    let node = Node::master(&small(dir.path()), config, NOW);
    let asked = NOW + 100_500;
    node.send(out(asked), asked, "u", b"far");
    let came = node.run_until(NOW, NOW + 110_000, 500);
    assert_eq!(came[&b"far".to_vec()], [asked]);
    let unit = node.store.queue_unit("T", 1, 0).unwrap();
    let bytes = node.store.read_record(unit.physical_offset).unwrap();
    // 100 = 30 + 30 + 15 and what is left.
    assert_eq!(RecordView::layout(&bytes).unwrap().property("TIMER_ROLL_TIMES"), Some("3"));
    assert_eq!(node.store.max_offset(topic::TIMER, 0), 4);
}

#[test]
fn what_is_taken_back_is_not_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::master(&small(dir.path()), timer_config(), NOW);
    for (unique, text) in [("a", b"one"), ("b", b"two"), ("c", b"six")] {
        node.send(NOW + 3000, NOW + 3500, unique, text);
    }
    // With the topic as 5.3.3 has it, without as 5.4 has it, and one for nobody.
    for key in ["T+a", "b", "T+nobody"] {
        node.put(NOW + 3000, "x", b"0", &[(property::TIMER_DELETE_UNIQUE_KEY, key)]);
    }
    let mut counts = BTreeMap::new();
    let mut count = |topic: &str, by: i64| *counts.entry(topic.to_owned()).or_insert(0) += by;
    node.timer.enqueue(&node.store, 100, &mut count).unwrap();
    assert_eq!(node.timer.slot_count(&node.store, NOW + 3000), 0, "3 messages, 3 that take back");
    for now in [NOW + 3500, NOW + 4000] {
        node.at(now).timer.deliver(&node.store, host(), 100, &|_, _| true, &mut count).unwrap();
    }
    node.store.dispatch();
    assert_eq!(delivered(&node.store), [b"six"]);
    assert_eq!(counts["T"], 0);
}

#[test]
fn a_clock_that_goes_back_delivers_nothing_early() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::master(&small(dir.path()), timer_config(), NOW);
    node.send(out(NOW + 1500), NOW + 1500, "a", b"a");
    node.at(NOW + 60_000).run();
    assert_eq!(delivered(&node.store).len(), 1);
    // Asked for after the clock went back, for a time that the wheel has left behind.
    node.at(NOW + 10_000).send(out(NOW + 15_000), NOW + 15_000, "b", b"b");
    node.run();
    node.at(NOW + 14_999).run();
    assert_eq!(delivered(&node.store).len(), 1, "early");
    node.at(NOW + 15_000).run();
    assert_eq!(delivered(&node.store).len(), 2);
}

#[test]
fn a_message_that_names_nothing_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::master(&small(dir.path()), timer_config(), NOW);
    common::put(&node.store, topic::TIMER, 0, b"UNIQ_KEY\x01q\x02", b"no time");
    node.put(i64::MIN, "u", b"bad time", &[]);
    node.send(out(NOW + 1500), NOW + 1500, "a", b"good");
    node.at(NOW + 2000).run();
    assert_eq!(delivered(&node.store), [b"good"]);
    assert_eq!(node.timer.status(&node.store).set_aside, 2);
}

#[test]
fn a_peer_is_told_no_more_than_its_copies_hold() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::master(&small(dir.path()), timer_config(), NOW);
    node.send(out(NOW + 1500), NOW + 1500, "a", b"a");
    node.run();
    let before = node.store.max_phys();
    assert_eq!(node.timer.check_point(before).master_timer_queue_offset, 1);
    node.at(NOW + 5000).run();
    let told = node.timer.check_point(before);
    assert!(told.last_read_ms <= NOW + 1000, "the copy is not there yet: {told:?}");
    assert_eq!(node.timer.check_point(node.store.max_phys()).last_read_ms, NOW + 5000);
}

/// A slave takes messages up, as far as its master has, and delivers nothing; promoted, it goes on, and does not
/// deliver again what its log has.
#[test]
fn a_slave_waits_and_goes_on_when_promoted() {
    let dir = tempfile::tempdir().unwrap();
    let master = Node::master(&small(&dir.path().join("m")), timer_config(), NOW);
    for number in 1..=4 {
        let asked = NOW + number * 1000 + 500;
        master.send(out(asked), asked, &format!("u{number}"), &body(number));
    }
    let slave = Node::open(&small(&dir.path().join("s")), timer_config(), NOW);
    let follow = || {
        let from = slave.store.max_phys();
        let mut at = from;
        while at < master.store.max_phys() {
            let bytes = master.store.read_log(at, 1 << 20).unwrap();
            at = slave.store.append_raw(at, &bytes).unwrap();
        }
        slave.store.dispatch();
    };
    follow();
    slave.run();
    assert_eq!(slave.timer.status(&slave.store).queue_offset, 0, "nothing is known of the master yet");
    master.run();
    slave.timer.adopt(&slave.store, &master.timer.check_point(master.store.max_phys()));
    slave.at(NOW + 10_000).run();
    let status = slave.timer.status(&slave.store);
    assert_eq!((status.queue_offset, status.waiting, delivered(&slave.store).len()), (4, 4, 0));
    // The master delivers two; the slave gets the copy of one, and a check point that says two, as Java would say.
    master.at(NOW + 1500).run();
    follow();
    master.at(NOW + 3000).run();
    let point = TimerCheckPoint { last_read_ms: NOW + 3000, ..master.timer.check_point(i64::MAX) };
    slave.timer.adopt(&slave.store, &point);
    slave.at(NOW + 9000).timer.set_delivering(&slave.store, true).unwrap();
    slave.run();
    let mut all = delivered(&slave.store);
    all.sort();
    assert_eq!(all, (1..=4).map(body).collect::<Vec<_>>());
    slave.timer.set_delivering(&slave.store, false).unwrap();
    slave.at(NOW + 20_000).run();
    assert_eq!(delivered(&slave.store).len(), 4);
}

/// What may be missing or stale in the directory; everything that waits is delivered all the same, once.
#[test]
fn missing_stale_and_torn_timer_files_are_made_again() {
    type Harm = (&'static str, fn(&Path, &Path));
    let harms: [Harm; 9] = [
        ("nothing", |_, _| {}),
        ("no wheel", |root, _| std::fs::remove_file(root.join("timerwheel")).unwrap()),
        ("short wheel", |root, _| std::fs::write(root.join("timerwheel"), [1; 777]).unwrap()),
        ("old wheel", |root, old| copy(old, root, "timerwheel")),
        ("no timer log", |root, _| std::fs::remove_dir_all(root.join("timerlog")).unwrap()),
        ("no check point", |root, _| std::fs::remove_file(root.join("config/timercheck")).unwrap()),
        ("old check point", |root, old| copy(old, root, "config/timercheck")),
        ("torn timer log", |root, _| {
            let path = root.join("timerlog/00000000000000001040");
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[110..].fill(0);
            std::fs::write(path, bytes).unwrap();
        }),
        ("nothing at all", |root, _| {
            std::fs::remove_file(root.join("timerwheel")).unwrap();
            std::fs::remove_dir_all(root.join("timerlog")).unwrap();
            std::fs::remove_file(root.join("config/timercheck")).unwrap();
        }),
    ];
    for (name, harm) in harms {
        let dir = tempfile::tempdir().unwrap();
        let (config, old) = (small(dir.path()), dir.path().join("old"));
        let node = Node::master(&config, timer_config(), NOW);
        for number in 0..40 {
            let asked = NOW + 2000 + number % 10 * 2000;
            node.send(out(asked), asked, &format!("u{number}"), &body(number));
            if number == 20 {
                node.run();
                node.timer.close(&node.store).unwrap();
                std::fs::create_dir_all(old.join("config")).unwrap();
                copy(dir.path(), &old, "timerwheel");
                copy(dir.path(), &old, "config/timercheck");
            }
        }
        node.at(NOW + 8500).run();
        node.close();
        harm(dir.path(), &old);
        let node = Node::master(&config, timer_config(), NOW + 9000);
        node.at(NOW + 30_000).run();
        let mut all = delivered(&node.store);
        all.sort();
        let mut want: Vec<_> = (0..40).map(body).collect();
        want.sort();
        assert_eq!(all, want, "{name}");
        node.close();
        // And once more: what was made again is right on disk too.
        let node = Node::master(&config, timer_config(), NOW + 31_000);
        node.at(NOW + 60_000).run();
        assert_eq!(delivered(&node.store).len(), 40, "{name}");
    }
}

#[test]
fn a_cut_of_the_log_takes_its_timer_messages_away() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::master(&small(dir.path()), timer_config(), NOW);
    let mut cut_at = 0;
    for number in 0..60 {
        if number == 25 {
            cut_at = node.store.max_phys();
        }
        node.send(out(NOW + 5500), NOW + 5500, &format!("u{number}"), &body(number));
        node.run();
    }
    node.timer.flush(&node.store).unwrap();
    node.store.truncate(cut_at).unwrap();
    node.timer.truncated(&node.store).unwrap();
    for number in 100..110 {
        node.send(out(NOW + 5500), NOW + 5500, &format!("u{number}"), &body(number));
    }
    node.at(NOW + 6000).run();
    let want: Vec<_> = (0..25).chain(100..110).map(body).collect();
    assert_eq!(delivered(&node.store), want);
}

/// Slots must not wrap onto slots that still wait: taking up stands still until they are delivered.
#[test]
fn a_wheel_that_is_far_behind_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(dir.path());
    let node = Node::master(&config, timer_config(), NOW);
    let asked = NOW + 10_500;
    node.send(out(asked), asked, "old", b"old");
    node.run();
    node.close();
    // 14 days later, a message for the same slot of the next round.
    let round = 1_209_600_000;
    let later = NOW + round - 20_000;
    let node = Node::open(&config, timer_config(), later);
    node.send(out(asked + round), asked + round, "new", b"new");
    node.timer.set_delivering(&node.store, true).unwrap();
    node.at(later).run();
    assert_eq!(delivered(&node.store), [b"old"]);
    node.at(asked + round).run();
    assert_eq!(delivered(&node.store), [b"old", b"new"]);
}

/// Everything that a Java broker left waiting is delivered when its time comes, and what was taken back is not.
fn java_store_goes_on(name: &str, config: TimerConfig) {
    let fixture = Fixture::unpack(name);
    let clock = clock_at(0);
    let store = Store::open(fixture.config.clone(), Arc::new(RealDisk), clock.clone()).unwrap();
    let end = store.max_phys();
    let newest = newest_time(&store);
    clock.0.store(newest, Ordering::SeqCst);
    let before = wants(&store);
    let (waiting, recalled): (Vec<_>, Vec<_>) = before.into_iter().partition(|want| !want.recalled);
    assert!(waiting.len() > 5 && !recalled.is_empty(), "{} wait, {} taken back", waiting.len(), recalled.len());
    let timer = Timer::open(&store, config, clock.clone()).unwrap();
    timer.set_delivering(&store, true).unwrap();
    let node = Node { store, timer, clock };
    // Hour by hour for five days: some go round at two days.
    for hour in 0..120 {
        node.at(newest + hour * 3_600_000).run();
    }
    let after = copies(&node.store, end);
    for want in &waiting {
        let found = after.get(&want.key).copied().unwrap_or(0);
        assert_eq!(found, 1, "{name}: {want:?}");
    }
    for want in &recalled {
        assert_eq!(after.get(&want.key), None, "{name}: {want:?}");
    }
    assert_eq!(after.values().sum::<usize>(), waiting.len(), "{name}");
    assert_eq!(node.timer.status(&node.store).waiting, 0);
}

#[derive(Debug)]
struct Want {
    key: (String, String),
    recalled: bool,
}

fn newest_time(store: &Store) -> i64 {
    let times = store
        .queues()
        .into_iter()
        .map(|(topic, queue)| store.store_time(&topic, queue, store.max_offset(&topic, queue) - 1));
    times.max().unwrap()
}

/// Messages of the timer topic that no copy in the log follows.
fn wants(store: &Store) -> Vec<Want> {
    let done = copies(store, 0);
    let mut found: Vec<(String, String, String)> = Vec::new();
    let mut taken_back = Vec::new();
    for offset in store.min_offset(topic::TIMER, 0)..store.max_offset(topic::TIMER, 0) {
        let Some(unit) = store.queue_unit(topic::TIMER, 0, offset) else { continue };
        let Some(bytes) = store.read_record(unit.physical_offset) else { continue };
        let record = RecordView::layout(&bytes).unwrap();
        let property = |name| record.property(name).unwrap_or_default().to_owned();
        match record.property(property::TIMER_DELETE_UNIQUE_KEY) {
            Some(key) => taken_back.push(key.to_owned()),
            None => found.push((property("REAL_TOPIC"), property("UNIQ_KEY"), property("TIMER_OUT_MS"))),
        }
    }
    found.retain(|(topic, unique, _)| !done.contains_key(&(topic.clone(), unique.clone())));
    let is_back =
        |topic: &str, unique: &str| taken_back.iter().any(|key| *key == format!("{topic}+{unique}") || key == unique);
    let wants =
        found.into_iter().map(|(topic, unique, _)| Want { recalled: is_back(&topic, &unique), key: (topic, unique) });
    wants.collect()
}

/// Delivered copies in the log from an offset on, by topic and unique id.
fn copies(store: &Store, from: i64) -> BTreeMap<(String, String), usize> {
    let mut found = BTreeMap::new();
    for (topic, queue_id) in store.queues().into_iter().filter(|(topic, _)| &**topic != topic::TIMER) {
        for offset in store.min_offset(&topic, queue_id)..store.max_offset(&topic, queue_id) {
            let Some(unit) = store.queue_unit(&topic, queue_id, offset) else { continue };
            let Some(bytes) = store.read_record(unit.physical_offset).filter(|_| unit.physical_offset >= from) else {
                continue;
            };
            let wire::record::Check::Record(record) = check(&bytes, false) else { continue };
            if record.property("TIMER_DEQUEUE_MS").is_some() && record.property("TIMER_OUT_MS").is_some() {
                let unique = record.property("UNIQ_KEY").unwrap_or_default().to_owned();
                *found.entry((topic.to_string(), unique)).or_default() += 1;
            }
        }
    }
    found
}

fn java_config() -> TimerConfig {
    TimerConfig { segment_size: 5200, ..TimerConfig::default() }
}

#[test]
fn a_clean_java_store_goes_on() {
    java_store_goes_on("java-5.3.3-clean", java_config());
}

#[test]
fn a_killed_java_store_goes_on() {
    java_store_goes_on("java-5.3.3-killed", java_config());
}

#[test]
fn a_java_slave_goes_on() {
    java_store_goes_on("java-5.3.3-slave", java_config());
}

#[test]
fn a_5_5_java_store_goes_on() {
    java_store_goes_on("java-5.5.0-clean", java_config());
}

/// Opening a Java store and closing it leaves Java's timer log as it was, and a wheel with Java's chains.
#[test]
fn a_java_store_is_handed_back_with_its_bytes() {
    let fixture = Fixture::unpack("java-5.3.3-clean");
    let root = fixture.root();
    let read = |name: &str| std::fs::read(root.join(name)).unwrap();
    let files = ["timerlog/00000000000000000000", "timerlog/00000000000000005200", "timerwheel"];
    let before: Vec<Vec<u8>> = files.iter().map(|name| read(name)).collect();
    let store = fixture.open().unwrap();
    let timer = Timer::open(&store, java_config(), clock_at(1_800_000_000_000)).unwrap();
    timer.close(&store).unwrap();
    store.close().unwrap();
    for (name, before) in files.iter().zip(before) {
        assert!(read(name) == before, "{name}");
    }
    let check = TimerCheckPoint::decode(&read("config/timercheck")).unwrap();
    assert_eq!((check.last_timer_queue_offset, check.last_timer_log_flush_pos), (189, 9880));
}

/// Sends, time, flushes, stops without a close (a killed process), all by chance.
#[test]
fn whatever_a_killed_process_leaves_everything_comes_once() {
    let first = seed();
    for seed in first..first + 4 {
        println!("TANDEM_SEED={seed}");
        let mut random = Random(seed);
        let dir = tempfile::tempdir().unwrap();
        let (config, mut now, mut sent) = (small(dir.path()), NOW, BTreeMap::new());
        for _ in 0..6 {
            let node = Node::master(&config, timer_config(), now);
            for _ in 0..random.below(60) {
                match random.below(6) {
                    0..3 => {
                        let number = sent.len() as i64;
                        let asked = now + 1 + random.below(8000) as i64;
                        node.at(now).send(out(asked), asked, &format!("u{number}"), &body(number));
                        sent.insert(body(number), asked);
                    }
                    3 => now += random.below(3000) as i64,
                    4 => node.timer.flush(&node.store).unwrap(),
                    _ => drop(node.at(now).run()),
                }
                for early in delivered(&node.store) {
                    assert!(sent[&early] <= now, "early: {early:?}");
                }
            }
            if random.below(3) == 0 {
                node.close();
            }
            now += random.below(5000) as i64;
        }
        let node = Node::master(&config, timer_config(), now);
        node.at(now + 20_000).run();
        let mut times: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        delivered(&node.store).into_iter().for_each(|body| *times.entry(body).or_default() += 1);
        assert_eq!(times.len(), sent.len());
        let most = times.values().max().copied().unwrap_or(0);
        assert!(most <= 1, "delivered {most} times, though the index tells");
    }
}
