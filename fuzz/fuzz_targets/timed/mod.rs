//! A store with timer messages, of which some are delivered, and its timer's files.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::SeqCst},
};

use store::{Batch, Clock, EveryMessage, Store, StoreConfig, Timer, TimerConfig};
use wire::{property, record::RecordView, topic};

use crate::memory::{MemoryDisk, config, message};

/// Each file of the timer, with its proper size.
pub const FILES: [(&str, usize); 4] = [
    ("timerlog/00000000000000000000", LOG),
    ("timerlog/00000000000000001040", LOG),
    ("timerwheel", SLOTS as usize * 32),
    ("config/timercheck", 4096),
];
const LOG: usize = 1040;
const SLOTS: i64 = 256;
/// More than fit into a file of the timer log.
const MESSAGES: i64 = 24;
const NOW: i64 = 1_600_000_000_000;
/// What is due before this is delivered before the files are damaged.
const STOPPED: i64 = NOW + 10_000;

struct Hand(AtomicI64);

impl Clock for Hand {
    fn now_ms(&self) -> i64 {
        self.0.load(SeqCst)
    }
}

struct Node {
    store: Store,
    timer: Timer,
    clock: Arc<Hand>,
}

impl Node {
    /// `None` where the files are refused.
    fn open(disk: &MemoryDisk, now_ms: i64) -> Option<Self> {
        let clock = Arc::new(Hand(AtomicI64::new(now_ms)));
        let config = StoreConfig { segment_size: 1 << 16, ..config() };
        let store = Store::open(config, Arc::new(disk.clone()), clock.clone()).expect("the store is sound");
        let timer = TimerConfig { segment_size: LOG as u64, slots: SLOTS, in_memory: 4, ..TimerConfig::default() };
        let timer = Timer::open(&store, timer, clock.clone()).ok()?;
        timer.set_delivering(&store, true).ok()?;
        Some(Self { store, timer, clock })
    }

    fn send(&self, number: i64) {
        let due_ms = NOW + 5_000 + number * 700;
        let mut text = Vec::new();
        for (name, value) in [
            (property::UNIQ_KEY, number.to_string()),
            (property::TIMER_OUT_MS, (due_ms / 1000 * 1000).to_string()),
            (property::TIMER_DELIVER_MS, due_ms.to_string()),
            (property::REAL_TOPIC, "T".to_owned()),
            (property::REAL_QUEUE_ID, "0".to_owned()),
        ] {
            property::push(&mut text, name, &value);
        }
        let mut batch = Batch::new();
        batch.push(&message(topic::TIMER, &text, &[number as u8])).expect("a message");
        self.store.append(&mut batch).expect("room");
        self.store.dispatch();
    }

    /// All that is to be done at a time, though not for ever.
    fn at(&self, now_ms: i64) {
        self.clock.0.store(now_ms, SeqCst);
        for _ in 0..100 {
            self.store.dispatch();
            let taken = self.timer.enqueue(&self.store, 100, &mut |_, _| {}).unwrap_or(0);
            let host = ([10, 0, 0, 2], 10911).into();
            let told = self.timer.deliver(&self.store, host, 100, &|_, _| true, &mut |_, _| {}).unwrap_or_default();
            self.store.dispatch();
            if taken + told.count + told.dropped == 0 {
                return;
            }
        }
        panic!("the timer finds no end");
    }

    fn close(self) {
        self.timer.close(&self.store).expect("the timer closes");
        self.store.close().expect("the store closes");
    }
}

/// Sound files.
pub fn sound() -> MemoryDisk {
    let disk = MemoryDisk::default();
    let node = Node::open(&disk, NOW).expect("an empty directory");
    (0..MESSAGES).for_each(|number| node.send(number));
    node.at(STOPPED);
    node.close();
    disk
}

/// Goes on with whatever is there: what comes is what was sent, and another start works.
pub fn check(disk: &MemoryDisk) {
    let Some(node) = Node::open(disk, STOPPED) else { return };
    for second in (10..60).step_by(5) {
        node.at(NOW + second * 1000);
    }
    node.at(NOW + 86_400_000);
    let (mut next, max) = (0, node.store.max_offset("T", 0));
    while next < max {
        let got = node.store.get_messages("T", 0, next, 32, &EveryMessage);
        for (at, _) in &got.places {
            let bytes = &got.messages[*at..];
            let size = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
            let record = RecordView::layout(&bytes[..size]).expect("a record");
            assert!(matches!(record.body(), [number] if i64::from(*number) < MESSAGES));
        }
        assert!(got.next_begin_offset > next);
        next = got.next_begin_offset;
    }
    node.close();
    Node::open(disk, NOW + 86_400_000).expect("what was closed opens").close();
}
