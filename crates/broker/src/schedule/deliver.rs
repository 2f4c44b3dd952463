//! Delivery: one thread looks at every level, takes what is due and appends the copies of a level as one batch.
//!
//! Never early: the clock is the one that stamped the message. Nothing here waits for replicas, so none can hold a level
//! up or lose it a message (W-26); progress waits instead. A level never stands still for one message that cannot be
//! delivered (F-22): size limits do not apply to what is stored already, and what still fails stays in its queue, is
//! named once and passed over.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use store::{AppendError, Batch, Store, Unit};
use wire::{
    message_id, property,
    record::{self, Check, RecordView},
    record_encode::NewRecord,
    topic,
};

use super::live::{Delivery, Live};
use crate::{context::Broker, deletion, stats::count};

/// Messages are looked for this often at least; no delay is shorter than a second.
const MOST_REST_MS: i64 = 100;
/// A batch gathers for this long at least: at 10,000 messages a second that makes 200 of 10,000 appends.
const LEAST_REST_MS: i64 = 5;
/// Messages and bytes that one append delivers.
const MOST_MESSAGES: usize = 1024;
const MOST_BYTES: usize = 2 << 20;
/// How often a message that cannot be read is tried.
const MOST_TRIES: u32 = 50;
/// Bytes of the log that are read at once, and the longest stretch of other records that is read with them.
const WINDOW: i64 = 512 << 10;
const GAP: i64 = 16 << 10;

/// Delivers while this broker is a master, until it stops.
pub fn run(broker: &Arc<Broker>) {
    let mut deliverer = Deliverer::new(broker);
    while !broker.is_stopping() {
        let rest = deliverer.round();
        std::thread::sleep(Duration::from_millis(rest as u64));
    }
}

struct Deliverer<'a> {
    broker: &'a Arc<Broker>,
    batch: Batch,
    live: Live,
    window: Window,
    /// Levels that have, or had, messages; more than are configured when `messageDelayLevel` had more once.
    levels: i32,
    leads: bool,
    /// Physical offset of the message that could not be read last, and how often it was tried.
    unread: (i64, u32),
    /// Why the last append failed, to say it once.
    trouble: Option<String>,
}

/// What became of a message that is due.
enum Take {
    Copied,
    PassedOver,
    /// Reading failed: tried again at the next round.
    Later,
}

/// What became of a level in one pass.
enum Look {
    /// Some were delivered, there may be more.
    More,
    /// Nothing is due before this time.
    Until(i64),
}

/// What was taken of a level for one append.
#[derive(Default)]
struct Taken {
    /// First offset that was not looked at.
    next: i64,
    /// Offset and physical offset of the last message whose copy is in the batch.
    last: Option<(i64, i64)>,
    /// Delivery time of the message at `next`, when it is there and not due.
    due_at: Option<i64>,
    /// Messages passed over because their topic was deleted.
    gone: BTreeMap<String, Gone>,
}

/// Messages of one topic that was deleted.
struct Gone {
    count: usize,
    /// Of the first one.
    id: String,
    first: i64,
    last: i64,
}

impl Gone {
    fn tell(&self, level: i32, topic: &str) {
        let Self { count, id, first, last } = self;
        tracing::warn!(
            "{count} delayed messages of level {level} at offsets {first} to {last}, the first of them {id}, are not delivered: topic {topic} was deleted after they were sent; they stay in {}",
            topic::SCHEDULE
        );
    }
}

impl<'a> Deliverer<'a> {
    fn new(broker: &'a Arc<Broker>) -> Self {
        Self {
            broker,
            batch: Batch::of_stored(),
            live: Live::new(broker.delays.live_file()),
            window: Window::default(),
            levels: 0,
            leads: false,
            unread: (-1, 0),
            trouble: None,
        }
    }

    /// Delivers all that is due and answers how many milliseconds nothing is.
    fn round(&mut self) -> i64 {
        let broker = self.broker;
        let mut until = broker.clock.now_ms() + MOST_REST_MS;
        let mut again = true;
        while std::mem::take(&mut again) {
            for level in 1..=self.levels.max(broker.delays.levels() as i32) {
                let _turn = broker.delays.hold();
                if !self.may_deliver() {
                    return MOST_REST_MS;
                }
                match self.deliver(level) {
                    Ok(Look::More) => again = true,
                    Ok(Look::Until(time)) => until = until.min(time),
                    Err(error) => {
                        self.complain(&error);
                        return MOST_REST_MS;
                    }
                }
            }
            broker.delays.settle(broker.safe_end());
        }
        (until - broker.clock.now_ms()).clamp(LEAST_REST_MS, MOST_REST_MS)
    }

    fn may_deliver(&mut self) -> bool {
        let leads = self.broker.config().is_master() && !self.broker.is_stopping();
        if leads && !self.leads {
            let queues = self.broker.store.queues().into_iter();
            self.levels =
                queues.filter(|(name, _)| &**name == topic::SCHEDULE).map(|(_, id)| id + 1).max().unwrap_or(0);
        }
        if !leads {
            self.live.close();
        }
        self.leads = leads;
        leads
    }

    fn deliver(&mut self, level: i32) -> Result<Look, AppendError> {
        let (store, delays) = (&self.broker.store, &self.broker.delays);
        let from = delays.next(level);
        let max = store.max_offset(topic::SCHEDULE, level - 1);
        if from >= max {
            return Ok(Look::Until(i64::MAX));
        }
        let from = from.max(store.min_offset(topic::SCHEDULE, level - 1));
        self.batch.clear();
        let _in_use = self.broker.topics.in_slow_use();
        let taken = self.take_due(level, from);
        if taken.next == from {
            return Ok(Look::Until(taken.due_at.unwrap_or(i64::MAX)));
        }
        if !self.batch.is_empty() {
            self.append()?;
        }
        let end = self.batch.entries().last().map_or(0, store::Entry::end);
        if let (Some((offset, source)), Some(copy)) = (taken.last, self.batch.entries().last()) {
            self.live.note(level, &Delivery { next: offset + 1, source, copy: copy.physical_offset });
        }
        delays.moved(level, taken.next, end);
        taken.gone.iter().for_each(|(topic, gone)| gone.tell(level, topic));
        Ok(taken.due_at.map_or(Look::More, Look::Until))
    }

    /// Puts the copies of what is due from `from` on into the batch.
    fn take_due(&mut self, level: i32, from: i64) -> Taken {
        let units = self.broker.store.queue_units(topic::SCHEDULE, level - 1, from, MOST_MESSAGES);
        let now = self.broker.clock.now_ms();
        let mut taken = Taken { next: from, ..Taken::default() };
        for (number, unit) in units.iter().enumerate() {
            if !unit.is_filler() && !self.is_due(level, unit, now) {
                taken.due_at = Some(unit.tags_code);
                break;
            }
            if self.batch.size() >= MOST_BYTES {
                break;
            }
            match self.take(level, &units[number..], &mut taken.gone) {
                Take::Copied => taken.last = Some((unit.queue_offset, unit.physical_offset)),
                Take::PassedOver => {}
                Take::Later => {
                    taken.due_at = Some(now + MOST_REST_MS);
                    break;
                }
            }
            taken.next = unit.queue_offset + 1;
        }
        taken
    }

    fn is_due(&self, level: i32, unit: &Unit, now: i64) -> bool {
        if unit.tags_code <= now {
            return true;
        }
        let delay = self.broker.delays.delays_ms.get((level - 1) as usize);
        let Some(delay) = delay.filter(|delay| unit.tags_code > now + **delay) else { return false };
        // The level is shorter than when the message came, or the clock that stamped it was ahead by days.
        let stored = self.broker.store.store_time(topic::SCHEDULE, level - 1, unit.queue_offset);
        stored > now || stored + delay <= now
    }

    /// Puts the copy of the first of `units` into the batch.
    fn take(&mut self, level: i32, units: &[Unit], gone: &mut BTreeMap<String, Gone>) -> Take {
        let (broker, unit) = (self.broker, &units[0]);
        if unit.is_filler() {
            return Take::PassedOver;
        }
        let result = match self.window.record(&broker.store, units) {
            None if self.tries_again(unit) => return Take::Later,
            None => Err(Refusal::Other("no message can be read there".to_owned())),
            Some(bytes) => push_copy(broker, &bytes, &mut self.batch),
        };
        let id = || message_id::offset_id(broker.store_host(), unit.physical_offset);
        let reason = match result {
            Ok(()) => return Take::Copied,
            Err(Refusal::Gone(topic)) => {
                let (first, last) = (unit.queue_offset, unit.queue_offset);
                let gone = gone.entry(topic).or_insert_with(|| Gone { count: 0, id: id(), first, last });
                (gone.count, gone.last) = (gone.count + 1, last);
                return Take::PassedOver;
            }
            Err(Refusal::Other(reason)) => reason,
        };
        let id = id();
        tracing::error!(
            "the delayed message {id} at offset {} of level {level} is not delivered and passed over: {reason}",
            unit.queue_offset
        );
        Take::PassedOver
    }

    /// A message that is in the log and cannot be read is tried for a while: the disk may answer again.
    fn tries_again(&mut self, unit: &Unit) -> bool {
        let at = unit.physical_offset;
        let in_log = at >= self.broker.store.min_phys() && at < self.broker.store.max_phys();
        self.unread = if self.unread.0 == at { (at, self.unread.1 + 1) } else { (at, 1) };
        in_log && self.unread.1 < MOST_TRIES
    }

    fn append(&mut self) -> Result<(), AppendError> {
        let broker = self.broker;
        broker.store.append(&mut self.batch)?;
        if self.trouble.take().is_some() {
            tracing::info!("delayed messages are delivered again");
        }
        broker.dispatch_soon();
        count(&broker.stats.put, self.batch.len() as i64);
        count(&broker.stats.put_bytes, self.batch.size() as i64);
        Ok(())
    }

    fn complain(&mut self, error: &AppendError) {
        if matches!(error, AppendError::NoSpace(_) | AppendError::Slave) {
            // The store has said so, and says when it is over; or the role is changing.
            return;
        }
        let error = error.to_string();
        if self.trouble.as_ref() != Some(&error) {
            tracing::error!("delayed messages are not delivered: {error}; it is tried again until it works");
            self.trouble = Some(error);
        }
    }
}

/// Why a message is not delivered.
enum Refusal {
    /// Its topic was deleted.
    Gone(String),
    Other(String),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Other(reason)
    }
}

/// Appends the copy of a waiting message to `batch`, with the topic and queue it was sent to.
fn push_copy(broker: &Broker, bytes: &[u8], batch: &mut Batch) -> Result<(), Refusal> {
    let old = match record::check(bytes, true) {
        Check::Record(old) => old,
        Check::Invalid(reason) => return Err(reason.to_string().into()),
        Check::Blank | Check::Incomplete => return Err("there is no whole record".to_owned().into()),
    };
    let (real_topic, real_queue) = destination(&old)?;
    if deletion::is_gone(broker, real_topic, old.physical_offset()) {
        return Err(Refusal::Gone(real_topic.to_owned()));
    }
    let copy = NewRecord::again(&old, real_topic, real_queue, broker.store_host());
    let number = batch.push(&copy).map_err(|error| error.to_string())?;
    let (size, limit) = (batch.record(number).len() as i64, broker.store.segment_size() - record::BLANK_HEAD as i64);
    if size > limit {
        batch.truncate(number);
        return Err(format!("{size} bytes do not fit into a segment of the log").into());
    }
    Ok(())
}

fn destination<'a>(old: &RecordView<'a>) -> Result<(&'a str, i32), String> {
    let real_topic = old.property(property::REAL_TOPIC).ok_or("it names no topic")?;
    if real_topic == topic::TRANS_HALF {
        return Err(format!("{real_topic} takes no delayed messages"));
    }
    let real_queue = old.property(property::REAL_QUEUE_ID).and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok((real_topic, real_queue))
}

/// A stretch of the log: the messages of a level often lie close to each other.
#[derive(Default)]
struct Window {
    at: i64,
    bytes: Bytes,
}

impl Window {
    /// The record of the first of `units`.
    fn record(&mut self, store: &Store, units: &[Unit]) -> Option<Bytes> {
        let (at, size) = (units[0].physical_offset, usize::try_from(units[0].size).ok()?);
        if !self.holds(at, size) {
            let end = stretch(units);
            self.bytes = store.read_log(at, (end - at) as usize)?;
            self.at = at;
        }
        if !self.holds(at, size) {
            return store.read_record(at);
        }
        let from = (at - self.at) as usize;
        let record = self.bytes.slice(from..from + size);
        RecordView::layout(&record).is_some_and(|record| record.physical_offset() == at).then_some(record)
    }

    fn holds(&self, at: i64, size: usize) -> bool {
        at >= self.at && at + size as i64 <= self.at + self.bytes.len() as i64
    }
}

/// Where to read to, from the first of `units`: over those that lie close behind each other.
fn stretch(units: &[Unit]) -> i64 {
    let from = units[0].physical_offset;
    let mut end = units[0].end();
    for unit in &units[1..] {
        let close = unit.physical_offset >= end && unit.physical_offset - end <= GAP && unit.end() - from <= WINDOW;
        if unit.is_filler() || !close {
            break;
        }
        end = unit.end();
    }
    end
}
