//! Times that the timer's files were not made for: messages older than a unit can tell, and a `timerPrecisionMs` that has
//! changed, so that a wheel spans less time than its messages do.

mod common;

use std::{path::Path, sync::atomic::Ordering};

use common::{small, timer_node::Node};
use store::{StoreConfig, TimerCheckPoint, TimerConfig};

const NOW: i64 = 1_795_500_000_000;
const DAY: i64 = 86_400_000;

fn wheel_of(slots: i64, precision_ms: i64) -> TimerConfig {
    TimerConfig { segment_size: 1040, slots, precision_ms, ..TimerConfig::default() }
}

fn config(dir: &Path) -> StoreConfig {
    StoreConfig { segment_size: 1 << 20, ..small(dir) }
}

/// A new slave takes up all that its log has, which may be older than the 24 days that fit into a unit.
#[test]
fn a_slave_takes_up_messages_that_are_older_than_a_unit_can_tell() {
    let dir = tempfile::tempdir().unwrap();
    let timer = wheel_of(1_209_600, 1000);
    let master = Node::open(&config(&dir.path().join("m")), timer, NOW - 60 * DAY);
    for days in [60, 41, 30, 25] {
        master.clock.0.store(NOW - days * DAY, Ordering::SeqCst);
        master.send(NOW - days * DAY + 5_500, &format!("{days} days ago"));
    }
    master.clock.0.store(NOW, Ordering::SeqCst);
    master.send(NOW + 5_500, "now");
    let slave = Node::open(&config(&dir.path().join("s")), timer, NOW);
    slave.store.append_raw(0, &master.store.read_log(0, 1 << 20).unwrap()).unwrap();
    let point = TimerCheckPoint {
        last_read_ms: NOW,
        last_timer_queue_offset: 5,
        master_timer_queue_offset: 5,
        ..TimerCheckPoint::default()
    };
    slave.timer.adopt(&slave.store, &point);
    slave.at(NOW);
    assert_eq!(slave.timer.status(&slave.store).queue_offset, 5);
    assert_eq!(slave.timer.status(&slave.store).waiting, 1);
    slave.timer.set_delivering(&slave.store, true).unwrap();
    slave.at(NOW + 6_000);
    assert_eq!(slave.came(), ["now"]);
}

/// Each slot of a wheel keeps what was in it last. Whatever stands there, what waits is delivered once.
#[test]
fn a_full_wheel_of_another_precision_is_made_again() {
    for (before, after) in [(100, 1000), (1000, 100), (1000, 5000), (1000, 7)] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let node = Node::master(&config, wheel_of(256, before), NOW);
        let mut wanted = Vec::new();
        // A message for each tick of more than two rounds.
        for tick in 0..600 {
            let due_ms = NOW + tick * before + before / 2;
            node.send(due_ms, &format!("{tick}"));
            wanted.push(format!("{tick}"));
            if tick >= 60 {
                node.at(NOW + (tick - 60) * before);
            }
        }
        let stopped = NOW + 540 * before;
        node.at(stopped);
        let came = node.came().len();
        assert!((535..545).contains(&came), "{came}");
        node.close();
        let node = Node::master(&config, wheel_of(256, after), stopped);
        let mut now = stopped;
        while now < NOW + 700 * before {
            node.at(now);
            now += before.min(after).max(100);
        }
        assert_eq!(node.came(), wanted, "{before} ms, then {after} ms");
    }
}

/// With a shorter tick the wheel spans less time than its messages do.
#[test]
fn what_waits_beyond_the_span_of_a_finer_wheel_is_delivered_at_its_time() {
    for (before, after) in [(1000, 125), (1000, 300), (5000, 1000)] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let node = Node::master(&config, wheel_of(256, before), NOW);
        let due_ms = |number: i64| NOW + 1000 + number * 500;
        let all: Vec<String> = (0..120).map(|number| format!("{number}")).collect();
        for number in (0..120).rev() {
            node.send(due_ms(number), &all[number as usize]);
        }
        node.at(NOW);
        node.close();
        let node = Node::master(&config, wheel_of(256, after), NOW);
        for number in 0..120 {
            let due_ms = due_ms(number);
            node.at(due_ms - 1);
            assert_eq!(node.came(), all[..number as usize], "{before} ms, then {after} ms");
            node.at(due_ms);
            assert_eq!(node.came(), all[..=number as usize], "{before} ms, then {after} ms");
        }
    }
}

/// A master tells that a slot is delivered, though its copies did not come here: a promotion goes back, by time and not only by
/// ticks.
#[test]
fn a_promotion_goes_back_a_minute_however_short_a_tick_is() {
    for precision_ms in [100, 1000, 2000] {
        let dir = tempfile::tempdir().unwrap();
        let slave = Node::open(&config(dir.path()), wheel_of(4096, precision_ms), NOW);
        slave.send(NOW + 1_000, "lost by the master");
        slave.clock.0.store(NOW + 50_000, Ordering::SeqCst);
        slave.send(NOW + 70_000, "newer");
        let point = TimerCheckPoint {
            last_read_ms: NOW + 50_000,
            last_timer_queue_offset: 2,
            master_timer_queue_offset: 2,
            ..TimerCheckPoint::default()
        };
        slave.timer.adopt(&slave.store, &point);
        slave.at(NOW + 50_000);
        slave.timer.set_delivering(&slave.store, true).unwrap();
        slave.at(NOW + 50_000);
        assert_eq!(slave.came(), ["lost by the master"], "{precision_ms} ms");
    }
}
