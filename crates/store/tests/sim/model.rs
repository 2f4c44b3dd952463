//! What a store must hold: every record that was written, in log order, and what may not be lost of it.

use std::collections::BTreeMap;

use store::{EveryMessage, Store};
use wire::{hash::java_hash, record::RecordView};

use super::timers::Timed;
use crate::common::records;

pub const TOPICS: [&str; 6] = ["A", "B", "C", "D", wire::topic::TIMER, "%LMQ%x"];
/// The topic where timer messages wait; those before it are any topics.
pub const TIMER: usize = 4;
/// A light queue, to which some messages of the first topic go as well.
pub const LIGHT: usize = 5;
pub const QUEUES: i32 = 2;
/// The topic with batch consume queues.
pub const BATCH_TOPIC: usize = 1;

/// A record.
#[derive(Clone, Debug)]
pub struct Sent {
    pub topic: usize,
    pub queue_id: i32,
    pub at: i64,
    pub end: i64,
    /// First queue offset.
    pub base: i64,
    /// Messages in it; 0 for one that is in no queue.
    pub count: i64,
    pub key: String,
    pub body: Vec<u8>,
    pub timed: Timed,
    /// It goes to the light queue as well.
    pub light: bool,
}

/// The log as it may be, and what must be there.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub log: Vec<Sent>,
    /// Records of a topic below this belong to a deleted topic.
    pub hidden: [i64; TOPICS.len()],
    /// A deletion of this topic at this end of the log was under way.
    pub maybe_hidden: Option<(usize, i64)>,
    /// Acknowledged as written: must survive the end of the process.
    pub acked: i64,
    /// Acknowledged as flushed: must survive a power cut.
    pub durable: i64,
    /// The log began later than at 0: queues may begin anywhere.
    pub late: bool,
    /// A topic was made anew by a record that ends here: what was before it does not come back.
    pub floor: i64,
    /// Keys of records that were cut away.
    pub cut_keys: Vec<(usize, String)>,
}

/// What is wrong.
pub type Verdict = Result<(), String>;

macro_rules! demand {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}

const ALL_TIMES: (i64, i64) = (0, i64::MAX);

/// The index counts in seconds, and from where it can after a loss.
fn times_about(store: &Store, sent: &Sent) -> (i64, i64) {
    let bytes = store.read_record(sent.at);
    let time = bytes.as_deref().and_then(RecordView::layout).map_or(0, |record| record.store_timestamp());
    (time - 3000, time + 3000)
}

impl Model {
    /// The messages of a queue in a log that ends at `end`: those since the topic was made last.
    pub fn queue(&self, topic: usize, queue_id: i32, end: i64) -> Vec<&Sent> {
        let mine = |sent: &&Sent| {
            (sent.topic, sent.queue_id) == (topic, queue_id)
                && sent.count > 0
                && sent.at >= self.hidden[topic]
                && sent.end <= end
        };
        let mut queue: Vec<&Sent> = self.log.iter().rev().filter(mine).collect();
        if let Some(first) = queue.iter().position(|sent| sent.base == 0) {
            queue.truncate(first + 1);
        }
        queue.reverse();
        queue
    }

    /// Offset that the next message gets.
    pub fn next_offset(&self, topic: usize, queue_id: i32) -> i64 {
        self.queue(topic, queue_id, i64::MAX).last().map_or(0, |last| last.base + last.count)
    }

    /// A record that may be in the log; one that goes to the light queue is there a second time.
    pub fn push(&mut self, sent: Sent) {
        let light =
            sent.light.then(|| Sent { topic: LIGHT, queue_id: 0, base: self.next_offset(LIGHT, 0), ..sent.clone() });
        self.log.push(sent);
        self.log.extend(light);
    }

    /// Records came from a master.
    pub fn arrive(&mut self, records: Vec<Sent>) {
        for sent in records {
            if sent.base == 0 && self.next_offset(sent.topic, sent.queue_id) > 0 {
                self.floor = sent.end;
            }
            self.log.push(sent);
        }
    }

    /// Every record from `end` on is gone for good.
    pub fn settle(&mut self, end: i64) {
        while self.log.last().is_some_and(|last| last.end > end) {
            let cut = self.log.pop().unwrap();
            self.cut_keys.push((cut.topic, cut.key));
        }
        let old = self.cut_keys.len().saturating_sub(30);
        self.cut_keys.drain(..old);
        self.hidden.iter_mut().for_each(|hidden| *hidden = (*hidden).min(end));
        self.acked = end;
        self.durable = self.durable.min(end);
    }

    /// Records that are far below the first segment are forgotten, but for those that keep a queue's counter.
    fn forget_below(&mut self, min: i64) {
        if self.log.len() < 600 {
            return;
        }
        let mut counters: BTreeMap<(usize, i32), i64> = BTreeMap::new();
        for sent in self.log.iter().filter(|sent| sent.at < min && sent.count > 0) {
            counters.insert((sent.topic, sent.queue_id), sent.at);
        }
        self.log.retain(|sent| {
            let takes_back = matches!(sent.timed, Timed::TakesBack(..));
            sent.at >= min || sent.base == 0 || takes_back || counters.values().any(|at| *at == sent.at)
        });
    }

    /// The store was opened: its end is allowed, and all that is below it is there.
    pub fn check_recovered(&mut self, store: &Store, power_cut: bool) -> Verdict {
        let (end, must) = (store.max_phys(), if power_cut { self.durable } else { self.acked });
        let promised = self.log.iter().rfind(|sent| sent.end <= must).map_or(0, |sent| sent.end);
        demand!(end >= promised, "the log ends at {end}, acknowledged are {promised} (power cut: {power_cut})");
        let last = self.log.iter().rfind(|sent| sent.end <= end).map_or(0, |sent| sent.end);
        let size = store.segment_size();
        let begins_late = self.late && last == 0 && end == store.min_phys();
        demand!(
            end == last || begins_late || (end % size == 0 && end - last < size),
            "no record ends at {end}; the last one does at {last}"
        );
        let marks = store.marks();
        let found = (marks.appended.get(), marks.flushed.get(), marks.dispatched.get());
        demand!(found == (end, end, end), "marks {found:?}");
        if let Some((topic, at)) = self.maybe_hidden {
            // Where both would do, it may be deleted all the same: then an index that is made anew lacks its keys.
            let before = std::mem::replace(&mut self.hidden[topic], at.min(end));
            if let Err(deleted) = self.check(store) {
                self.hidden[topic] = before;
                self.check(store).map_err(|why| format!("{why}; were {topic} deleted: {deleted}"))?;
            }
        } else {
            self.check(store)?;
        }
        self.maybe_hidden = None;
        self.settle(end);
        self.durable = end;
        self.forget_below(store.min_phys());
        Ok(())
    }

    /// Queues, index and records are those of the log up to what is dispatched.
    pub fn check(&self, store: &Store) -> Verdict {
        let end = store.marks().dispatched.get();
        for topic in 0..TOPICS.len() {
            for queue_id in 0..QUEUES {
                self.check_queue(store, topic, queue_id, end)?;
            }
        }
        self.check_keys(store, end)?;
        let min = store.min_phys();
        for sent in self.log.iter().filter(|sent| sent.count == 0 && sent.at >= min && sent.end <= end) {
            let bytes = store.read_record(sent.at).ok_or_else(|| format!("no record at {}", sent.at))?;
            demand!(records(&bytes)[0].1 == sent.body, "the record at {} has another body", sent.at);
        }
        Ok(())
    }

    fn check_queue(&self, store: &Store, topic: usize, queue_id: i32, end: i64) -> Verdict {
        let (name, queue) = (TOPICS[topic], self.queue(topic, queue_id, end));
        if self.late && queue.is_empty() {
            demand!(
                store.max_offset(name, queue_id) == store.min_offset(name, queue_id),
                "{name} {queue_id} is not empty"
            );
            return Ok(());
        }
        let rows: Vec<_> = queue.iter().map(|sent| (sent.base, sent.count, sent.at)).collect();
        let what = format!("{name} {queue_id} {rows:?} of a log from {} to {end}", store.min_phys());
        let max = queue.last().map_or(0, |last| last.base + last.count);
        let found = store.max_offset(name, queue_id);
        // A light queue goes on where a unit ends that a power cut brought back, of a log that was cut to nothing.
        let further = if self.late && topic == LIGHT { (found - max).max(0) } else { 0 };
        let max = max + further;
        demand!(found == max, "{what}: maximum {found}, not {max}");
        let readable: Vec<&&Sent> = queue.iter().filter(|sent| sent.at >= store.min_phys()).collect();
        let min = readable.first().map_or(max, |first| first.base + further);
        let found = store.min_offset(name, queue_id);
        demand!(found == min, "{what}: minimum {found}, not {min}, maximum {max}");
        let mut wanted = readable.iter();
        let mut next = min;
        while next < max {
            let got = store.get_messages(name, queue_id, next, 32, &EveryMessage);
            for (offset, body) in records(&got.messages) {
                let sent = wanted.next().ok_or_else(|| format!("{what}: one message too many, at {offset}"))?;
                demand!(sent.body == body, "{what}: another body at {offset}; {} lies at {}", sent.base, sent.at);
                demand!(
                    topic == BATCH_TOPIC || topic == LIGHT || sent.base == offset,
                    "{what}: {offset} where {} should be",
                    sent.base
                );
            }
            demand!(got.next_begin_offset > next, "{what}: stuck at {next}: {:?}", got.status);
            next = got.next_begin_offset;
        }
        let missing = wanted
            .next()
            .map(|sent| (sent.base, (0..max).map(|o| store.queue_unit(name, queue_id, o)).collect::<Vec<_>>()));
        demand!(missing.is_none(), "{what}: missing: {missing:?}");
        Ok(())
    }

    /// Records by their own topics.
    fn indexed(&self) -> impl Iterator<Item = &Sent> {
        self.log.iter().filter(|sent| sent.topic != LIGHT)
    }

    fn check_keys(&self, store: &Store, end: i64) -> Verdict {
        let min = store.min_phys();
        let places: BTreeMap<i64, &Sent> = self.indexed().map(|sent| (sent.at, sent)).collect();
        let look_up = |topic: usize, key: &str, (begin_ms, end_ms): (i64, i64)| {
            let hash = |topic: usize, key: &str| java_hash(&format!("{}#{key}", TOPICS[topic])).unsigned_abs();
            let found = store.query(TOPICS[topic], key, 64, begin_ms, end_ms).physical_offsets;
            let foreign = found
                .iter()
                .find(|at| places.get(at).is_none_or(|sent| hash(sent.topic, &sent.key) != hash(topic, key)));
            match foreign {
                Some(at) => Err(format!("key {key} leads to {at}, where it never was")),
                None => Ok(found),
            }
        };
        for sent in self.indexed().filter(|sent| sent.at >= min.max(self.hidden[sent.topic]) && sent.end <= end) {
            let times = if sent.at % 8 == 0 { times_about(store, sent) } else { ALL_TIMES };
            let found = look_up(sent.topic, &sent.key, times)?;
            demand!(
                found.contains(&sent.at),
                "key {} at {} is not found in a log from {min} to {end} at {times:?}: {found:?}",
                sent.key,
                sent.at
            );
        }
        self.cut_keys.iter().try_for_each(|(topic, key)| look_up(*topic, key, ALL_TIMES).map(drop))
    }
}
