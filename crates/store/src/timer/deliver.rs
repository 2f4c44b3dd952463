//! From the wheel to the topics the messages were sent to. Source: `TimerMessageStore.java` (dequeue, doPut);
//! replication W-26, field report F-22.
//!
//! A slot is opened when its tick begins and left when its tick is over and its last message is stored: each message is
//! delivered at the time it was asked for, not at the end of its tick as Java does. Messages that take others back
//! count for the whole slot. What cannot be stored now stays first in line.

use std::{
    collections::{BinaryHeap, HashMap},
    net::SocketAddr,
    sync::atomic::Ordering::SeqCst,
};

use bytes::Bytes;

use super::{
    Delete, OpenSlot, Timer, TopicCount, Waiting, Work,
    log::Unit,
    message::{NEVER_ENQUEUED, TimerMessage},
    wheel::Slot,
};
use crate::{
    batch::Batch,
    error::{AppendError, StoreError},
    store::Store,
};

/// Bytes of one append.
const MOST_BYTES: usize = 1024 * 1024;

/// What a call of [`Timer::deliver`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Messages stored.
    pub count: usize,
    /// Messages dropped: taken back, delivered before, or gone from the log.
    pub dropped: usize,
    /// When the next message that is known of is due, ms; `None` when none is before the next tick.
    pub next_due_ms: Option<i64>,
}

/// Why due messages are not delivered now. They are kept, and the next call tries again.
#[derive(Debug, thiserror::Error)]
pub enum TimerError {
    /// The log took no message.
    #[error("due timer messages cannot be stored: {0}; they are kept and tried again")]
    Append(#[from] AppendError),
    /// A timer file cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Timer {
    /// Delivers what is due, at most `max` messages in one append that `host` stores. `count` is told of each message
    /// that waits no longer. Dispatch afterwards.
    pub fn deliver(
        &self,
        store: &Store,
        host: SocketAddr,
        max: usize,
        count: TopicCount<'_>,
    ) -> Result<Delivered, TimerError> {
        let mut work = self.work.lock();
        if !work.delivering {
            return Ok(Delivered::default());
        }
        let now_ms = self.clock.now_ms();
        let mut told = Delivered::default();
        let before = (work.read_tick, work.commit_offset());
        let result = self.advance(store, &mut work, now_ms, count).and_then(|()| {
            self.deliver_due(store, &mut work, Order { host, max, now_ms }, count, &mut told)?;
            self.advance(store, &mut work, now_ms, count)
        });
        if before != (work.read_tick, work.commit_offset()) {
            self.note_progress(&work, store);
        }
        result?;
        told.next_due_ms = work.next_due_ms();
        Ok(told)
    }

    /// Leaves slots whose tick is over and which are empty, and opens the one whose tick has begun.
    fn advance(&self, store: &Store, work: &mut Work, now_ms: i64, count: TopicCount<'_>) -> Result<(), TimerError> {
        let now_tick = now_ms.div_euclid(self.config.precision_ms);
        loop {
            if let Some(open) = &work.slot {
                if !open.waiting.is_empty() || now_tick <= open.tick {
                    return Ok(());
                }
                work.read_tick = open.tick + 1;
                if let Some(open) = work.slot.take() {
                    open.settle(count);
                }
            }
            let next = self.wheel.lock().next_used(work.read_tick, now_tick + 1)?;
            let Some(tick) = next else {
                work.read_tick = work.read_tick.max(now_tick);
                return Ok(());
            };
            work.read_tick = tick;
            let slot = self.wheel.lock().slot(tick)?;
            if let Some(slot) = slot {
                work.open(store, &slot, self.config.precision_ms)?;
            }
        }
    }

    fn deliver_due(
        &self,
        store: &Store,
        work: &mut Work,
        order: Order,
        count: TopicCount<'_>,
        told: &mut Delivered,
    ) -> Result<(), TimerError> {
        let mut load = Load { batch: Batch::of_stored(), taken: Vec::new() };
        while load.taken.len() < order.max
            && load.batch.size() < MOST_BYTES
            && let Some(waiting) = work.pop_due(order.now_ms)
        {
            if !load.add(store, work, waiting, &order) {
                told.dropped += 1;
                work.done(&waiting);
            }
        }
        let result = if load.batch.is_empty() { Ok(()) } else { store.append(&mut load.batch) };
        match result {
            Ok(()) => {}
            Err(AppendError::TooLarge { .. }) if load.taken.len() > 1 && order.max > 1 => {
                load.give_back(work);
                return self.deliver_due(store, work, Order { max: 1, ..order }, count, told);
            }
            Err(AppendError::TooLarge { size, limit }) => {
                for (waiting, topic) in load.taken {
                    tracing::error!(physical = waiting.physical, %topic, size, limit, "a timer message does not fit into a segment of the log (mappedFileSizeCommitLog): it stays in the timer topic and is not delivered");
                    self.set_aside.fetch_add(1, SeqCst);
                    work.done(&waiting);
                }
                return Ok(());
            }
            Err(error) => {
                load.give_back(work);
                return Err(error.into());
            }
        }
        told.count += load.taken.len();
        self.delivered.fetch_add(load.taken.len() as i64, SeqCst);
        for (waiting, topic) in &load.taken {
            work.done(waiting);
            if waiting.enqueue_ms != NEVER_ENQUEUED {
                count(topic, -1);
            }
        }
        Ok(())
    }
}

/// One delivery.
#[derive(Clone, Copy)]
struct Order {
    host: SocketAddr,
    max: usize,
    now_ms: i64,
}

/// Messages of one append.
struct Load {
    batch: Batch,
    taken: Vec<(Waiting, String)>,
}

impl Load {
    /// False when there is nothing to deliver.
    fn add(&mut self, store: &Store, work: &mut Work, waiting: Waiting, order: &Order) -> bool {
        let Some(bytes) = record_of(store, &waiting) else { return false };
        let Some(message) = TimerMessage::of(&bytes) else { return false };
        let roll = waiting.roll;
        if !roll && (message.takes_back().is_some() || work.is_taken_back(&message)) {
            return false;
        }
        if waiting.due_ms <= work.doubt_until_ms && message.is_done(store, roll) {
            return false;
        }
        let properties = message.properties_after(roll, waiting.enqueue_ms, order.now_ms);
        match self.batch.push(&message.again(roll, &properties, order.host)) {
            Ok(_) => self.taken.push((waiting, message.real_topic.to_owned())),
            Err(error) => {
                tracing::error!(physical = waiting.physical, %error, "a timer message cannot be delivered: it stays in the timer topic");
                return false;
            }
        }
        true
    }

    fn give_back(&mut self, work: &mut Work) {
        for (waiting, _) in self.taken.drain(..) {
            work.push(waiting);
        }
    }
}

fn record_of(store: &Store, waiting: &Waiting) -> Option<Bytes> {
    let bytes = store.read_record(waiting.physical).filter(|bytes| bytes.len() == waiting.size as usize);
    if bytes.is_none() {
        tracing::warn!(physical = waiting.physical, "a timer message is gone from the log and cannot be delivered");
    }
    bytes
}

impl OpenSlot {
    /// Messages that took back nothing count no longer against their topic.
    fn settle(self, count: TopicCount<'_>) {
        for delete in self.deletes.into_values().filter(|delete| !delete.met) {
            count(&delete.topic, 1);
        }
    }
}

impl Work {
    fn open(&mut self, store: &Store, slot: &Slot, precision_ms: i64) -> Result<(), StoreError> {
        let mut units = Vec::new();
        self.chain(slot, precision_ms, |_, unit| units.push(*unit))?;
        self.slot = Some(OpenSlot { tick: slot.tick, waiting: BinaryHeap::new(), deletes: HashMap::new() });
        for unit in units.iter().rev() {
            let bytes = store.read_record(unit.physical).filter(|bytes| bytes.len() == unit.size as usize);
            match bytes.as_deref().and_then(TimerMessage::of) {
                Some(message) => self.open_unit(unit, &message, precision_ms),
                None => {
                    tracing::warn!(
                        physical = unit.physical,
                        "a timer message is gone from the log and cannot be delivered"
                    )
                }
            }
        }
        Ok(())
    }

    /// Adds a unit to the open slot.
    pub(super) fn open_unit(&mut self, unit: &Unit, message: &TimerMessage<'_>, precision_ms: i64) {
        let number = self.number();
        let Some(open) = &mut self.slot else { return };
        let kind = unit.kind();
        if kind.delete && !kind.roll {
            if let Some(key) = message.takes_back() {
                let delete = Delete { topic: message.real_topic.to_owned(), met: false };
                open.deletes.insert(key.to_owned(), delete);
            }
            return;
        }
        let due_ms = if kind.roll { unit.slot_ms() + precision_ms } else { message.due_ms(precision_ms) };
        open.waiting.push(Waiting {
            due_ms,
            number,
            physical: unit.physical,
            size: unit.size,
            roll: kind.roll,
            enqueue_ms: unit.write_ms,
            late_offset: None,
        });
    }

    fn is_taken_back(&mut self, message: &TimerMessage<'_>) -> bool {
        let (Some(open), Some(keys)) = (&mut self.slot, message.keys()) else { return false };
        keys.iter().any(|key| {
            open.deletes.get_mut(key).is_some_and(|delete| {
                delete.met = true;
                true
            })
        })
    }

    fn pop_due(&mut self, now_ms: i64) -> Option<Waiting> {
        let due = |heap: &BinaryHeap<Waiting>| heap.peek().copied().filter(|first| first.due_ms <= now_ms);
        let late = due(&self.late);
        let open = self.slot.as_ref().and_then(|open| due(&open.waiting));
        match (late, open) {
            (None, None) => None,
            (Some(late), Some(open)) if open > late => self.slot.as_mut()?.waiting.pop(),
            (None, Some(_)) => self.slot.as_mut()?.waiting.pop(),
            (Some(_), _) => self.late.pop(),
        }
    }

    fn push(&mut self, waiting: Waiting) {
        match (&mut self.slot, waiting.late_offset) {
            (Some(open), None) => open.waiting.push(waiting),
            _ => self.late.push(waiting),
        }
    }

    fn done(&mut self, waiting: &Waiting) {
        if let Some(offset) = waiting.late_offset {
            self.late_offsets.remove(&offset);
        }
    }

    fn next_due_ms(&self) -> Option<i64> {
        let late = self.late.peek().map(|first| first.due_ms);
        let open = self.slot.as_ref().and_then(|open| open.waiting.peek()).map(|first| first.due_ms);
        late.into_iter().chain(open).min()
    }
}
