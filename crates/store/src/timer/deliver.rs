//! From the wheel to the topics the messages were sent to. Source: `TimerMessageStore.java` (dequeue, doPut);
//! replication W-26, field report F-22.
//!
//! A slot is opened when its tick begins and left when its tick is over and its last message is stored: each message is
//! delivered at the time it was asked for, not at the end of its tick as Java does. Messages that take others back
//! count for the whole slot. What cannot be stored now stays first in line.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicI64, Ordering::SeqCst},
};

use wire::topic;

use super::{
    Bounds, Gate, OpenSlot, Timer, TopicCount, Waiting, Work,
    message::TimerMessage,
    slot::{Gone, TakenBack},
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
    /// Messages dropped: taken back, delivered before, without a topic by now, or gone from the log.
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
    /// Delivers what is due, at most `max` messages in one append that `host` stores. `is_wanted` is asked whether a topic
    /// still takes the message at a physical offset: the log names those it does not, and they stay in the timer topic.
    /// `count` is told of each message that waits no longer. Dispatch afterwards.
    pub fn deliver(
        &self,
        store: &Store,
        host: SocketAddr,
        max: usize,
        is_wanted: &dyn Fn(&str, i64) -> bool,
        count: TopicCount<'_>,
    ) -> Result<Delivered, TimerError> {
        let mut work = self.work.lock();
        if !work.delivering {
            return Ok(Delivered::default());
        }
        let now_ms = self.clock.now_ms();
        let window_ms = self.config.roll_window_slots * self.config.precision_ms;
        let mut told = Delivered::default();
        if store.marks().dispatched.get() < work.doubt_log_end {
            return Ok(told);
        }
        let before = (work.read_tick, work.commit_offset());
        let result = self.advance(store, &mut work, now_ms, count).and_then(|()| {
            self.deliver_due(store, &mut work, Order { host, max, now_ms, window_ms, is_wanted }, count, &mut told)?;
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
        let (now_tick, mut gone) = (now_ms.div_euclid(self.config.precision_ms), Gone::new(&self.patience, now_ms));
        loop {
            if let Some(open) = &mut work.slot {
                open.fill(store, &work.log, &mut gone)?;
                if !open.is_empty() || now_tick <= open.tick {
                    return Ok(());
                }
                work.read_tick = open.tick + 1;
                if let Some(open) = work.slot.take() {
                    open.settle(store, count);
                }
            }
            if work.ending {
                return Ok(());
            }
            let next = self.wheel.lock().next_used(work.read_tick, now_tick + 1)?;
            let Some(tick) = next else {
                work.read_tick = work.read_tick.max(now_tick);
                return Ok(());
            };
            work.read_tick = tick;
            let all_taken_up = work.has_taken_up(store, tick);
            if !all_taken_up && !work.blocked {
                return Ok(());
            }
            let slot = self.wheel.lock().slot(tick)?;
            if let Some(slot) = slot {
                let bounds = Bounds { precision_ms: self.config.precision_ms, most: self.config.in_memory };
                let mut open = OpenSlot::open(store, &work.log, &slot, bounds, &mut gone)?;
                if let Some((before, messages)) = open.lost {
                    tracing::error!(
                        before,
                        messages,
                        time_ms = tick * self.config.precision_ms,
                        "the timer log is damaged before this position: messages of this time are not delivered; they stay in the timer topic, and come when the broker is started without its directory timerlog"
                    );
                    self.set_aside.fetch_add(messages, SeqCst);
                }
                open.counted = tick >= work.counted_from;
                // What took a message of it back before the start may have come late, and then has no unit.
                open.in_doubt = !all_taken_up || tick * self.config.precision_ms <= work.doubt_until_ms;
                work.slot = Some(open);
            }
        }
    }

    fn deliver_due(
        &self,
        store: &Store,
        work: &mut Work,
        order: Order<'_>,
        count: TopicCount<'_>,
        told: &mut Delivered,
    ) -> Result<(), TimerError> {
        let gone = Gone::new(&self.patience, order.now_ms);
        let mut load = Load {
            batch: Batch::of_stored(),
            taken: Vec::new(),
            unwanted: Unwanted::default(),
            gone,
            set_aside: &self.set_aside,
        };
        while load.taken.len() < order.max
            && load.batch.size() < MOST_BYTES
            && let Some(waiting) = work.pop_due(store, order.now_ms)
        {
            match load.add(store, work, waiting, &order, count) {
                Ok(true) => {}
                Ok(false) => {
                    told.dropped += 1;
                    work.done(&waiting);
                }
                Err(error) => {
                    work.push(waiting);
                    load.give_back(work);
                    return Err(error.into());
                }
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
                for Taken { waiting, topic, weight } in load.taken {
                    tracing::error!(physical = waiting.physical, %topic, size, limit, "a timer message does not fit into a segment of the log (mappedFileSizeCommitLog): it stays in the timer topic and is not delivered");
                    self.set_aside.fetch_add(1, SeqCst);
                    work.done(&waiting);
                    count(&topic, -weight);
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
        for Taken { waiting, topic, weight } in &load.taken {
            work.done(waiting);
            work.begun(waiting);
            work.last_physical = Some(waiting.physical);
            count(topic, -weight);
        }
        Ok(())
    }
}

/// One delivery.
#[derive(Clone, Copy)]
struct Order<'a> {
    host: SocketAddr,
    max: usize,
    now_ms: i64,
    /// What was stored longer before its time went round.
    window_ms: i64,
    is_wanted: &'a dyn Fn(&str, i64) -> bool,
}

/// Messages of one append.
struct Load<'a> {
    batch: Batch,
    taken: Vec<Taken>,
    unwanted: Unwanted,
    gone: Gone<'a>,
    set_aside: &'a AtomicI64,
}

/// Messages whose topic takes them no longer: how many of each topic, and the first one's place. The log hears of them when
/// it goes.
#[derive(Default)]
struct Unwanted(BTreeMap<String, (usize, i64)>);

impl Drop for Unwanted {
    fn drop(&mut self) {
        for (topic, (messages, physical)) in &self.0 {
            tracing::warn!(%topic, messages, physical, "timer messages are not delivered: their topic was deleted after they were sent; they stay in the timer topic, the first of them at that physical offset");
        }
    }
}

struct Taken {
    waiting: Waiting,
    topic: String,
    weight: i64,
}

impl Load<'_> {
    /// False when there is nothing to deliver.
    fn add(
        &mut self,
        store: &Store,
        work: &mut Work,
        waiting: Waiting,
        order: &Order<'_>,
        count: TopicCount<'_>,
    ) -> Result<bool, StoreError> {
        let Some(bytes) = self.gone.read(store, waiting.physical, waiting.size)? else { return Ok(false) };
        let Some(message) = TimerMessage::of(&bytes) else { return Ok(false) };
        let uncounted = waiting.late_offset.is_some() || work.slot.as_ref().is_some_and(|open| !open.counted);
        let weight = message.weight(uncounted);
        // A copy would get a CRC of its own: nobody could tell any more that it is not what was sent.
        if !message.is_sound() {
            tracing::error!(
                physical = waiting.physical,
                topic = message.real_topic,
                "a timer message is damaged, its body is not what its CRC says: it stays in the timer topic and is not delivered"
            );
            self.set_aside.fetch_add(1, SeqCst);
            count(message.real_topic, -weight);
            return Ok(false);
        }
        if !waiting.roll && (message.takes_back().is_some() || is_taken_back(store, work, &waiting, &message, count)?) {
            return Ok(false);
        }
        // A recovery may have put a message into the timer log twice.
        let before = self.taken.last().map(|taken| taken.waiting.physical).or(work.last_physical);
        if before == Some(waiting.physical) {
            count(message.real_topic, -weight);
            return Ok(false);
        }
        // What the log had at the start and is due later may have gone round before it.
        let may_have_gone = waiting.physical < work.doubt_log_end
            && message.out_ms - message.record.store_timestamp() >= order.window_ms;
        if (waiting.due_ms <= work.doubt_until_ms || may_have_gone) && message.is_done(store)? {
            count(message.real_topic, -weight);
            return Ok(false);
        }
        if !(order.is_wanted)(message.real_topic, waiting.physical) {
            self.unwanted.0.entry(message.real_topic.to_owned()).or_insert((0, waiting.physical)).0 += 1;
            count(message.real_topic, -weight);
            return Ok(false);
        }
        let properties = message.properties_after(waiting.roll, waiting.enqueue_ms, order.now_ms);
        match self.batch.push(&message.again(waiting.roll, &properties, order.host)) {
            Ok(_) => self.taken.push(Taken { waiting, topic: message.real_topic.to_owned(), weight }),
            Err(error) => {
                tracing::error!(physical = waiting.physical, %error, "a timer message cannot be delivered: it stays in the timer topic");
                count(message.real_topic, -weight);
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn give_back(&mut self, work: &mut Work) {
        for taken in self.taken.drain(..) {
            work.push(taken.waiting);
        }
    }
}

/// A late message is in no slot: who takes it back is looked up.
fn is_taken_back(
    store: &Store,
    work: &mut Work,
    waiting: &Waiting,
    message: &TimerMessage<'_>,
    count: TopicCount<'_>,
) -> Result<bool, StoreError> {
    if waiting.late_offset.is_some() {
        return message.is_taken_back(store);
    }
    let Some(open) = &mut work.slot else { return Ok(false) };
    let found = open.takes_back(store, message);
    let looked_up = found.is_none() && open.in_doubt && message.is_taken_back(store)?;
    // The one that takes back has counted for it, unless it did so for another one, or is not taken up.
    if (looked_up || found == Some(TakenBack::Again)) && open.counted {
        count(message.real_topic, -1);
    }
    Ok(looked_up || found.is_some())
}

impl Work {
    fn pop_due(&mut self, store: &Store, now_ms: i64) -> Option<Waiting> {
        // Who takes a late one back is looked up, and found only once it is dispatched.
        let is_in_index = store.marks().dispatched.get() >= self.late_log_end.min(store.max_phys());
        let late = self.late.peek().filter(|first| first.due_ms <= now_ms && is_in_index);
        let open = self.slot.as_ref().and_then(|open| open.first_due(now_ms));
        match (late, open) {
            (Some(late), Some(open)) if open <= late => self.late.pop(),
            (Some(_), None) => self.late.pop(),
            (_, Some(_)) => self.slot.as_mut()?.pop(),
            (None, None) => None,
        }
    }

    fn push(&mut self, waiting: Waiting) {
        match (&mut self.slot, waiting.late_offset) {
            (Some(open), None) => open.push(waiting),
            _ => self.late.push(waiting),
        }
    }

    fn done(&mut self, waiting: &Waiting) {
        if let Some(offset) = waiting.late_offset {
            self.late_offsets.remove(&offset);
        }
    }

    fn begun(&mut self, waiting: &Waiting) {
        if let Some(open) = self.slot.as_mut().filter(|_| waiting.late_offset.is_none()) {
            open.begun = true;
        }
    }

    fn next_due_ms(&self) -> Option<i64> {
        let late = self.late.peek().map(|first| first.due_ms);
        let open = self.slot.as_ref().and_then(OpenSlot::next_due_ms);
        late.into_iter().chain(open).min()
    }

    /// Whether a slot can be opened: what was in the log when its time had begun is taken up, so that it knows everybody
    /// who takes one of its messages back and was acknowledged before.
    fn has_taken_up(&mut self, store: &Store, tick: i64) -> bool {
        let log_end = store.max_phys();
        let mut gate = self.gate.filter(|gate| gate.tick == tick).unwrap_or(Gate { tick, log_end, queue_end: None });
        if gate.queue_end.is_none() && store.marks().dispatched.get() >= gate.log_end {
            gate.queue_end = Some(store.max_offset(topic::TIMER, 0));
        }
        self.gate = Some(gate);
        gate.queue_end.is_some_and(|end| self.queue_offset >= end)
    }
}
