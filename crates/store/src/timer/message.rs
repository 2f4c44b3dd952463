//! A record of the timer topic: when it is due, where it goes, and what it looks like there.
//! Source: `TimerMessageStore.java` (convert, convertMessage); reference store 22.5.

use std::net::SocketAddr;

use wire::{
    property,
    record::{Check, RecordView, check},
    record_encode::{MAX_PROPERTIES, NewRecord},
    topic,
};

use crate::{error::StoreError, store::Store};

/// Tick of brokers whose messages may come here by replication or hand-over: their times are at most this much early.
const COMMON_PRECISION_MS: i64 = 1000;
/// The longest `timerPrecisionMs`.
pub(super) const MOST_PRECISION_MS: i64 = 3_600_000;
/// The index counts whole seconds, and clocks step back.
const INDEX_MARGIN_MS: i64 = 60_000;
/// What a message delivered without a wait has for the time it was put into the wheel.
pub(super) const NEVER_ENQUEUED: i64 = i64::MAX;

/// A message that waits.
pub(super) struct TimerMessage<'a> {
    pub(super) record: RecordView<'a>,
    /// `TIMER_OUT_MS`: start of its tick, before the time it was asked for.
    pub(super) out_ms: i64,
    pub(super) real_topic: &'a str,
}

impl<'a> TimerMessage<'a> {
    /// The record, if it is one of the timer topic that can be delivered.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        let Check::Record(record) = check(bytes, false) else { return None };
        if record.topic() != topic::TIMER {
            return None;
        }
        let out_ms = record.property(property::TIMER_OUT_MS)?.parse().ok().filter(|out_ms| *out_ms >= 0)?;
        Some(Self { record, out_ms, real_topic: record.property(property::REAL_TOPIC)? })
    }

    /// Whether the device has its body as it was stored.
    pub(super) fn is_sound(&self) -> bool {
        matches!(check(self.record.bytes(), true), Check::Record(_))
    }

    /// The time it was asked for, as exactly as the record tells; never before it. A time that was named counts whatever the
    /// precision was then; what counts from the store time, whose clock may have been ahead, is within a tick.
    pub(super) fn due_ms(&self, precision_ms: i64) -> i64 {
        let latest = self.out_ms.saturating_add(precision_ms.max(COMMON_PRECISION_MS));
        let number = |name| self.record.property(name).and_then(|text| text.parse::<i64>().ok());
        // The broker took the first of the three; what counts from the store time is exact for the first record only.
        let delay_ms = number(property::TIMER_DELAY_SEC)
            .map(|seconds| seconds.saturating_mul(1000))
            .or_else(|| number(property::TIMER_DELAY_MS));
        let asked = match delay_ms {
            Some(_) if self.roll_times() > 0 => latest,
            Some(delay_ms) => self.record.store_timestamp().saturating_add(delay_ms),
            None => {
                let asked = number(property::TIMER_DELIVER_MS).unwrap_or(latest);
                return asked.clamp(self.out_ms, self.out_ms.saturating_add(MOST_PRECISION_MS));
            }
        };
        asked.clamp(self.out_ms, latest)
    }

    /// How often it went round.
    pub(super) fn roll_times(&self) -> i64 {
        self.record.property(property::TIMER_ROLL_TIMES).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// `topic+unique id` of the message that this one takes back; Java 5.4 and later leave the topic out.
    pub(super) fn takes_back(&self) -> Option<&'a str> {
        self.record.property(property::TIMER_DELETE_UNIQUE_KEY)
    }

    /// What it adds to the number of its topic's messages that wait. Late ones never wait.
    pub(super) fn weight(&self, uncounted: bool) -> i64 {
        match (uncounted, self.takes_back()) {
            (true, _) => 0,
            (false, Some(_)) => -1,
            (false, None) => 1,
        }
    }

    /// What a message that takes this one back names.
    pub(super) fn keys(&self) -> Option<[String; 2]> {
        let unique = self.record.property(property::UNIQ_KEY)?;
        Some([format!("{}+{unique}", self.real_topic), unique.to_owned()])
    }

    /// Its properties after the wait. Those that only tell of the wait are left out where they do not fit.
    pub(super) fn properties_after(&self, roll: bool, enqueue_ms: i64, now_ms: i64) -> Vec<u8> {
        let old = self.record.properties();
        let mut names = vec![property::TIMER_ENQUEUE_MS, property::TIMER_DEQUEUE_MS];
        names.extend(roll.then_some(property::TIMER_ROLL_TIMES));
        let mut text = property::without(old, &names);
        property::push(&mut text, property::TIMER_ENQUEUE_MS, &enqueue_ms.to_string());
        property::push(&mut text, property::TIMER_DEQUEUE_MS, &now_ms.to_string());
        if roll {
            property::push(&mut text, property::TIMER_ROLL_TIMES, &(self.roll_times() + 1).to_string());
        }
        if text.len() > MAX_PROPERTIES { old.to_vec() } else { text }
    }

    /// Topic and queue it goes to.
    pub(super) fn destination(&self, roll: bool) -> (&'a str, i32) {
        if roll {
            return (topic::TIMER, self.record.queue_id());
        }
        let queue_id = self.record.property(property::REAL_QUEUE_ID).and_then(|text| text.parse().ok());
        (self.real_topic, queue_id.unwrap_or(0))
    }

    /// The record that goes there.
    pub(super) fn again<'p>(&self, roll: bool, properties: &'p [u8], host: SocketAddr) -> NewRecord<'p>
    where
        'a: 'p,
    {
        let (topic, queue_id) = self.destination(roll);
        NewRecord { properties, ..NewRecord::again(&self.record, topic, queue_id, host) }
    }

    /// True when the timer topic has a message that takes this one back. It is found by the unique id, which brokers give
    /// to both.
    pub(super) fn is_taken_back(&self, store: &Store) -> Result<bool, StoreError> {
        let Some(keys) = self.keys() else { return Ok(false) };
        // Once it went round, that one may have been stored long before this record.
        let begin_ms = if self.roll_times() > 0 { 0 } else { self.index_begin_ms() };
        self.any_of_this_id(store, topic::TIMER, begin_ms, |other| {
            let named = other.property(property::TIMER_DELETE_UNIQUE_KEY);
            named.is_some_and(|named| keys.iter().any(|key| key == named))
        })
    }

    /// True when the log has what this message becomes: it was delivered, or sent round, before. One that shall go round
    /// may have been delivered by a broker with a longer window; one that shall be delivered may have gone round before
    /// it was late, and then the one that went is delivered.
    pub(super) fn is_done(&self, store: &Store) -> Result<bool, StoreError> {
        let is_copy = |copy: &RecordView<'_>, went_round: bool| {
            let rolls = copy.property(property::TIMER_ROLL_TIMES).and_then(|text| text.parse::<i64>().ok());
            copy.queue_id() == self.destination(went_round).1
                && copy.physical_offset() > self.record.physical_offset()
                && copy.property(property::TIMER_OUT_MS) == self.record.property(property::TIMER_OUT_MS)
                && copy.property(property::TIMER_DEQUEUE_MS).is_some()
                && copy.body() == self.record.body()
                && (!went_round || rolls.unwrap_or(0) > self.roll_times())
        };
        let begin_ms = self.index_begin_ms();
        Ok(self.any_of_this_id(store, topic::TIMER, begin_ms, |copy| is_copy(copy, true))?
            || self.any_of_this_id(store, self.real_topic, begin_ms, |copy| is_copy(copy, false))?)
    }

    /// Where the index has what was stored after this record.
    fn index_begin_ms(&self) -> i64 {
        (self.record.store_timestamp() - INDEX_MARGIN_MS).max(0)
    }

    /// Whether any message of a topic with this one's unique id is as asked for.
    fn any_of_this_id(
        &self,
        store: &Store,
        topic: &str,
        begin_ms: i64,
        is: impl Fn(&RecordView<'_>) -> bool,
    ) -> Result<bool, StoreError> {
        let Some(unique) = self.record.property(property::UNIQ_KEY) else { return Ok(false) };
        let max = store.config().max_query_count as usize;
        let found = store.try_query(topic, unique, max, (begin_ms, i64::MAX), usize::MAX)?.unwrap_or_default();
        let mut rest = &found.messages[..];
        while let Check::Record(other) = check(rest, false) {
            rest = &rest[other.size()..];
            if other.topic() == topic && other.property(property::UNIQ_KEY) == Some(unique) && is(&other) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
