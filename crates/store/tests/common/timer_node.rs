//! A broker's timer without the broker.

use std::sync::{Arc, atomic::Ordering};

use store::{Batch, RealDisk, Store, StoreConfig, Timer, TimerConfig};
use wire::{property, topic};

use super::{HandClock, bodies, clock_at, message};

/// A store with its timer, and a clock in the hand of the test.
pub struct Node {
    pub store: Store,
    pub timer: Timer,
    pub clock: Arc<HandClock>,
    pub precision_ms: i64,
}

impl Node {
    pub fn open(config: &StoreConfig, timer: TimerConfig, now_ms: i64) -> Self {
        let clock = clock_at(now_ms);
        let store = Store::open(config.clone(), Arc::new(RealDisk), clock.clone()).unwrap();
        let opened = Timer::open(&store, timer, clock.clone()).unwrap();
        Self { store, timer: opened, clock, precision_ms: timer.precision_ms }
    }

    pub fn master(config: &StoreConfig, timer: TimerConfig, now_ms: i64) -> Self {
        let node = Self::open(config, timer, now_ms);
        node.timer.set_delivering(&node.store, true).unwrap();
        node
    }

    /// As the broker rounds. Returns its place in the log.
    pub fn send(&self, due_ms: i64, body: &str) -> i64 {
        let out_ms = (due_ms - 1) / self.precision_ms * self.precision_ms;
        let mut text = Vec::new();
        property::push(&mut text, property::UNIQ_KEY, body);
        property::push(&mut text, property::TIMER_OUT_MS, &out_ms.to_string());
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
    pub fn at(&self, now_ms: i64) -> &Self {
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

    /// Bodies of what was delivered, in the order of the queue.
    pub fn came(&self) -> Vec<String> {
        bodies(&self.store, "T", 1).into_iter().map(|body| String::from_utf8(body).unwrap()).collect()
    }

    pub fn close(self) {
        self.timer.close(&self.store).unwrap();
        self.store.close().unwrap();
    }
}
