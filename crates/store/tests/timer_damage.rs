//! Timer files and messages that are damaged: what is whole comes at its time, nothing else comes, and no number that is read
//! is believed.

mod common;

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use common::{HandClock, clock_at, message, small};
use store::{Batch, RealDisk, Store, StoreConfig, Timer, TimerConfig};
use wire::{property, topic};

const NOW: i64 = 1_795_500_000_000;
const TIMER: TimerConfig =
    TimerConfig { segment_size: 1040, precision_ms: 1000, roll_window_slots: 60, slots: 256, in_memory: 4 };

fn config(root: &Path) -> StoreConfig {
    StoreConfig { segment_size: 1 << 18, ..small(root) }
}

struct Node {
    store: Store,
    timer: Timer,
    clock: Arc<HandClock>,
}

impl Node {
    fn master(root: &Path, now_ms: i64) -> Self {
        let clock = clock_at(now_ms);
        let store = Store::open(config(root), Arc::new(RealDisk), clock.clone()).unwrap();
        let timer = Timer::open(&store, TIMER, clock.clone()).unwrap();
        timer.set_delivering(&store, true).unwrap();
        Self { store, timer, clock }
    }

    fn send(&self, due_ms: i64, body: &str) -> i64 {
        let mut text = Vec::new();
        property::push(&mut text, property::UNIQ_KEY, body);
        property::push(&mut text, property::TIMER_OUT_MS, &((due_ms - 1) / 1000 * 1000).to_string());
        property::push(&mut text, property::TIMER_DELIVER_MS, &due_ms.to_string());
        property::push(&mut text, property::REAL_TOPIC, "T");
        property::push(&mut text, property::REAL_QUEUE_ID, "1");
        let mut batch = Batch::new();
        batch.push(&message(topic::TIMER, 0, &text, body.as_bytes())).unwrap();
        self.store.append(&mut batch).unwrap();
        self.store.dispatch();
        batch.entries()[0].physical_offset
    }

    /// All that is to be done at a time.
    fn at(&self, now_ms: i64) -> &Self {
        self.clock.0.store(now_ms, Ordering::SeqCst);
        loop {
            self.store.dispatch();
            let taken = self.timer.enqueue(&self.store, 100, &mut |_, _| {}).unwrap();
            let host = "10.0.0.2:10911".parse().unwrap();
            let told = self.timer.deliver(&self.store, host, 100, &|_, _| true, &mut |_, _| {}).unwrap();
            self.store.dispatch();
            if taken + told.count + told.dropped == 0 {
                return self;
            }
        }
    }

    fn came(&self) -> Vec<String> {
        common::bodies(&self.store, "T", 1).into_iter().map(|body| String::from_utf8(body).unwrap()).collect()
    }

    fn close(self) {
        self.timer.close(&self.store).unwrap();
        self.store.close().unwrap();
    }
}

/// As a copy it would have a CRC that fits what the device made of it.
#[test]
fn a_message_whose_body_is_damaged_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::master(dir.path(), NOW);
    let places: Vec<i64> = ["one", "two", "three"].iter().map(|body| node.send(NOW + 5_000, body)).collect();
    node.at(NOW);
    let record = node.store.read_record(places[1]).unwrap();
    let body = record.windows(3).position(|part| part == b"two").unwrap() as i64;
    common::damage::flip(dir.path(), places[1] + body);
    node.at(NOW + 6_000);
    assert_eq!(node.came(), ["one", "three"]);
    assert_eq!(node.timer.status(&node.store).set_aside, 1);
    assert_eq!(node.timer.status(&node.store).waiting, 0);
    node.close();
}
