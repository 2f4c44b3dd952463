//! Timer messages on the simulated disk: what was asked for, and what must come of it. Every message whose record is in
//! the log and that was not delivered comes at its time, none early, none twice, none that nobody asked for; one that
//! was taken back in time does not come.

use std::{collections::BTreeMap, rc::Rc, sync::atomic::Ordering};

use store::{Batch, Store, Timer, TimerCheckPoint, TimerConfig, TimerError};
use wire::{
    property,
    record::{Check, RecordView, check},
    topic,
};

use super::{
    life::Life,
    model::{BATCH_TOPIC, Model, QUEUES, Sent, TIMER, TOPICS, Verdict},
};
use crate::common::{Random, message};

/// With at most some hundred messages in a log.
const MOST_TURNS: usize = 3000;

/// The timer of a life, and the counts that it told.
pub struct Timers {
    pub timer: Option<Timer>,
    config: TimerConfig,
    counts: BTreeMap<String, i64>,
    pub delivered: u64,
}

/// What a record has to do with timers.
#[derive(Clone, Debug, Default)]
pub enum Timed {
    #[default]
    No,
    /// It waits in the timer topic.
    Waits(Rc<Ask>),
    /// It waits there and takes the message of this key back.
    TakesBack(Rc<Ask>, String),
    /// It was delivered.
    Copy,
}

/// What a sender asked for.
#[derive(Clone, Debug)]
pub struct Ask {
    pub topic: usize,
    pub queue_id: i32,
    pub out_ms: i64,
    due_ms: i64,
    /// Stored before its second began.
    in_time: bool,
}

impl Timers {
    /// The timers of some lives.
    pub fn of(seed: u64) -> Option<Self> {
        let mut random = Random(seed ^ 0x71);
        let in_some = random.below(3) == 0;
        let in_memory = if random.below(2) == 0 { 4 } else { 1000 };
        let config =
            TimerConfig { segment_size: 1040, roll_window_slots: 30, slots: 256, in_memory, ..TimerConfig::default() };
        in_some.then(|| Self { timer: None, config, counts: BTreeMap::new(), delivered: 0 })
    }

    /// What was due by then must have come. A slot with more messages than fit in memory may take its whole second.
    fn must_have_come(&self, now_ms: i64) -> i64 {
        if self.config.in_memory < 1000 { now_ms / 1000 * 1000 } else { now_ms }
    }
}

impl Ask {
    fn any(now_ms: i64, random: &mut Random) -> Self {
        let far = if random.below(8) == 0 { 100_000 } else { 6_000 };
        let due_ms = now_ms + 1 + random.below(far) as i64;
        let out_ms = (due_ms - 1) / 1000 * 1000;
        let (topic, queue_id) = (random.below(TIMER as u64) as usize, random.below(QUEUES as u64) as i32);
        Self { topic, queue_id, out_ms, due_ms, in_time: now_ms < out_ms }
    }

    fn properties(&self, key: &str, takes_back: Option<&str>) -> Vec<u8> {
        let mut text = Vec::new();
        property::push(&mut text, property::UNIQ_KEY, key);
        property::push(&mut text, property::TIMER_OUT_MS, &self.out_ms.to_string());
        property::push(&mut text, property::TIMER_DELIVER_MS, &self.due_ms.to_string());
        property::push(&mut text, property::REAL_TOPIC, TOPICS[self.topic]);
        property::push(&mut text, property::REAL_QUEUE_ID, &self.queue_id.to_string());
        if let Some(key) = takes_back {
            property::push(&mut text, property::TIMER_DELETE_UNIQUE_KEY, &format!("{}+{key}", TOPICS[self.topic]));
        }
        text
    }
}

/// A record of the timer topic with its properties: a message, now and then one that takes another back.
pub fn record(log: &[Sent], number: &mut u64, now_ms: i64, random: &mut Random) -> (Sent, Vec<u8>) {
    let mut key = format!("t{number}");
    *number += 1;
    let mut body: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
    let open = if random.below(4) == 0 { undelivered(log) } else { Vec::new() };
    let target = open.get(random.below(open.len().max(1) as u64) as usize);
    let (timed, properties) = match target {
        Some((sent, ask)) if ask.due_ms > now_ms => {
            let ask = Ask { in_time: now_ms < ask.out_ms, ..Ask::clone(ask) };
            let properties = ask.properties(&sent.key, Some(&sent.key));
            key = sent.key.clone();
            body = b"0".to_vec();
            (Timed::TakesBack(Rc::new(ask), key.clone()), properties)
        }
        _ => {
            let ask = Ask::any(now_ms, random);
            let properties = ask.properties(&key, None);
            (Timed::Waits(Rc::new(ask)), properties)
        }
    };
    (Sent { topic: TIMER, queue_id: 0, at: 0, end: 0, base: 0, count: 1, key, body, timed, light: false }, properties)
}

/// A delivered copy as a master makes it, of a message that is due.
pub fn copy(log: &[Sent], now_ms: i64, random: &mut Random) -> Option<(Sent, Vec<u8>)> {
    let open = undelivered(log);
    let due: Vec<_> = open.into_iter().filter(|(_, ask)| ask.due_ms <= now_ms).collect();
    let (sent, ask) = due.get(random.below(due.len().max(1) as u64) as usize)?;
    let mut properties = ask.properties(&sent.key, None);
    property::push(&mut properties, property::TIMER_ENQUEUE_MS, "1");
    property::push(&mut properties, property::TIMER_DEQUEUE_MS, &now_ms.to_string());
    let (key, body) = (sent.key.clone(), sent.body.clone());
    let (topic, queue_id) = (ask.topic, ask.queue_id);
    Some((
        Sent { topic, queue_id, at: 0, end: 0, base: 0, count: 1, key, body, timed: Timed::Copy, light: false },
        properties,
    ))
}

/// Messages that wait: no copy in the log, and not taken back in time.
fn undelivered(log: &[Sent]) -> Vec<(&Sent, &Rc<Ask>)> {
    let mut open = BTreeMap::new();
    for sent in log {
        match &sent.timed {
            Timed::No => {}
            Timed::Waits(ask) => drop(open.insert(&sent.key, (sent, ask))),
            Timed::Copy => drop(open.remove(&sent.key)),
            Timed::TakesBack(ask, key) if ask.in_time => drop(open.remove(key)),
            Timed::TakesBack(..) => {}
        }
    }
    open.into_values().collect()
}

/// Keys that were taken back, in time or not.
fn taken_back(log: &[Sent], min: i64) -> BTreeMap<&String, bool> {
    let mut keys = BTreeMap::new();
    for sent in log.iter().filter(|sent| sent.at >= min) {
        if let Timed::TakesBack(ask, key) = &sent.timed {
            *keys.entry(key).or_default() |= ask.in_time;
        }
    }
    keys
}

/// Where a log's master is.
pub fn master_point(log: &[Sent], now_ms: i64, queue_offset: i64) -> TimerCheckPoint {
    let first = undelivered(log).into_iter().map(|(_, ask)| ask.out_ms).min();
    let last_read_ms = first.unwrap_or(now_ms).min(now_ms) / 1000 * 1000;
    TimerCheckPoint { last_read_ms, master_timer_queue_offset: queue_offset, ..TimerCheckPoint::default() }
}

impl Model {
    /// Records that the timer stored, from what is known of the log to its end.
    pub fn absorb(&mut self, store: &Store) -> Result<u64, String> {
        let known = self.log.last().map_or(store.min_phys().max(0), |last| last.end);
        let (mut at, end, size, mut copies) = (known, store.max_phys(), store.segment_size(), 0);
        while at < end {
            let Some(bytes) = store.read_record(at) else {
                at = (at / size + 1) * size;
                continue;
            };
            let Check::Record(record) = check(&bytes, true) else { return Err(format!("no record at {at}")) };
            let sent = self.stored_by_timer(&record, store.min_phys())?;
            at = sent.end;
            copies += u64::from(sent.topic != TIMER);
            self.log.push(sent);
        }
        Ok(copies)
    }

    fn stored_by_timer(&self, record: &RecordView<'_>, min: i64) -> Result<Sent, String> {
        let at = record.physical_offset();
        let number = |name| record.property(name).and_then(|text| text.parse::<i64>().ok());
        let key = record.property(property::UNIQ_KEY).unwrap_or_default().to_owned();
        let what = format!("{key} in {} at {at}", record.topic());
        let Some(dequeue_ms) = number(property::TIMER_DEQUEUE_MS) else { return Err(format!("{what} is nobody's")) };
        let takes_back = record.property(property::TIMER_DELETE_UNIQUE_KEY).is_some();
        let source = self.log.iter().rfind(|sent| {
            let same_kind = matches!(sent.timed, Timed::TakesBack(..)) == takes_back;
            sent.topic == TIMER && sent.key == key && sent.at >= min && same_kind
        });
        let Some(source) = source else { return Err(format!("{what} was never asked for")) };
        let (Timed::Waits(ask) | Timed::TakesBack(ask, _)) = &source.timed else { return Err(format!("{what}: bad")) };
        let is_roll = record.topic() == topic::TIMER;
        let (topic, queue_id) = if is_roll { (TIMER, 0) } else { (ask.topic, ask.queue_id) };
        let same = record.topic() == TOPICS[topic] && record.queue_id() == queue_id && record.body() == source.body;
        if !same || number(property::TIMER_OUT_MS) != Some(ask.out_ms) {
            return Err(format!("{what} is not what was asked for"));
        }
        let end = at + record.size() as i64;
        let base = record.queue_offset();
        let timed = if is_roll { source.timed.clone() } else { Timed::Copy };
        let sent =
            Sent { topic, queue_id, at, end, base, count: 1, key, body: source.body.clone(), timed, light: false };
        if is_roll {
            return Ok(sent);
        }
        if matches!(source.timed, Timed::TakesBack(..)) {
            return Err(format!("{what}: what takes back was delivered"));
        }
        let stored = record.store_timestamp();
        if dequeue_ms < ask.due_ms || stored < ask.due_ms {
            return Err(format!(
                "{what} was delivered at {dequeue_ms}, stored at {stored}, early: due at {}",
                ask.due_ms
            ));
        }
        if taken_back(&self.log, min).get(&sent.key) == Some(&true) {
            return Err(format!(
                "{what}, asked for at {}, had been taken back; {}",
                source.at,
                self.history(&sent.key)
            ));
        }
        // A copy in a topic that was deleted since is not looked for.
        let gone = self.maybe_hidden.filter(|hidden| hidden.0 == topic).map_or(0, |hidden| hidden.1).max(min);
        let visible = self.queue(topic, queue_id, i64::MAX);
        let is_first = |sent: &&&Sent| sent.key == source.key && matches!(sent.timed, Timed::Copy) && sent.at >= gone;
        if let Some(first) = visible.iter().find(is_first) {
            let history = self.history(&sent.key);
            return Err(format!(
                "{what}, asked for at {}, was delivered before, at {}; {history}",
                source.at, first.at
            ));
        }
        Ok(sent)
    }

    /// What the log has of a key.
    fn history(&self, key: &str) -> String {
        let of_key = self.log.iter().filter(|sent| sent.key == key);
        let rows =
            of_key.map(|sent| format!("{} to {} in {}: {:?}", sent.at, sent.end, TOPICS[sent.topic], sent.timed));
        rows.collect::<Vec<_>>().join("; ")
    }

    /// All that was due has come.
    pub fn check_delivered(&self, store: &Store, now_ms: i64) -> Verdict {
        let (min, end) = (store.min_phys(), store.marks().dispatched.get());
        // Also by one that has left the log since.
        let taken_back = taken_back(&self.log, 0);
        let mut copies = BTreeMap::new();
        for sent in self.log.iter().filter(|sent| matches!(sent.timed, Timed::Copy)) {
            copies.insert(&sent.key, sent.at);
        }
        for sent in self.log.iter().filter(|sent| sent.at >= min && sent.end <= end) {
            let Timed::Waits(ask) = &sent.timed else { continue };
            let came = copies.get(&sent.key).is_some_and(|at| *at > sent.at);
            if ask.due_ms <= now_ms && !came && !taken_back.contains_key(&sent.key) {
                let history = self.history(&sent.key);
                return Err(format!(
                    "{} at {}, due at {}, has not come at {now_ms}; {history}",
                    sent.key, sent.at, ask.due_ms
                ));
            }
        }
        Ok(())
    }
}

impl Life {
    pub fn now_ms(&self) -> i64 {
        self.clock.0.load(Ordering::SeqCst)
    }

    /// The timer of a store that was opened.
    pub fn open_timer(&mut self, store: &Store) -> Result<(), store::StoreError> {
        let Some(timers) = &mut self.timers else { return Ok(()) };
        let timer = Timer::open(store, timers.config, self.clock.clone())?;
        timer.set_delivering(store, true)?;
        timers.timer = Some(timer);
        self.recount(store)
    }

    /// Counts what waits anew, as a broker does after a crash and on becoming master.
    fn recount(&mut self, store: &Store) -> Result<(), store::StoreError> {
        let Some(Timers { timer: Some(timer), counts, .. }) = &mut self.timers else { return Ok(()) };
        counts.clear();
        timer.count_topics(store, || (), || true, &mut |topic, by| *counts.entry(topic.to_owned()).or_default() += by)
    }

    /// Looks at what a timer stored, and what a process that ended may have left of it.
    pub fn absorb(&mut self, store: &Store) -> Verdict {
        let Some(timers) = &mut self.timers else { return Ok(()) };
        timers.delivered += self.model.absorb(store)?;
        Ok(())
    }

    pub fn set_delivering(&mut self, store: &Store, delivering: bool) -> Verdict {
        let Some(timer) = self.timers.as_ref().and_then(|timers| timers.timer.as_ref()) else { return Ok(()) };
        let result = timer.set_delivering(store, delivering).and_then(|()| self.recount(store));
        result.or_else(|error| self.excuse(store, "change of delivery", &error))
    }

    /// Mostly: a process may also end without it.
    pub fn close_timer(&mut self, store: &Store) -> Result<(), store::StoreError> {
        let skipped = self.timers.is_none() || self.random.below(4) == 0;
        if skipped { Ok(()) } else { self.timer().close(store) }
    }

    /// The log was cut.
    pub fn timer_truncated(&mut self, store: &Store) -> Verdict {
        let Some(timer) = self.timers.as_ref().and_then(|timers| timers.timer.as_ref()) else { return Ok(()) };
        let result = timer.truncated(store);
        result.or_else(|error| self.excuse(store, "timer truncated", &error))
    }

    /// All of a master's bytes have come: it tells how far it is.
    pub fn adopt(&mut self, store: &Store) {
        if self.timers.as_ref().is_none_or(|timers| timers.timer.is_none()) {
            return;
        }
        let taken = self.model.next_offset(TIMER, 0) - self.random.below(2) as i64;
        let point = master_point(&self.model.log, self.clock.0.load(Ordering::SeqCst), taken.max(0));
        self.tell(format!("adopt {} {}", point.last_read_ms, point.master_timer_queue_offset));
        self.timer().adopt(store, &point);
    }

    pub fn timer_step(&mut self, store: &Store) -> Verdict {
        match self.random.below(12) {
            0..4 if self.stream.is_none() => self.append_timed(store),
            0..4 => self.write(store),
            4..7 => self.turn(store, 1 + self.random.clone().below(4) as usize).map(drop),
            7..9 => {
                let result = self.timer().flush(store);
                self.tell(format!("timer flush, stands at {:?}", self.timer().status(store)));
                self.tell_timer_files();
                result.or_else(|error| self.excuse(store, "timer flush", &error))
            }
            9 => {
                let result = self.timer().expire(store).map(drop);
                result.or_else(|error| self.excuse(store, "timer expire", &error))
            }
            10 => {
                self.clock.0.fetch_add(self.random.below(8000) as i64, Ordering::SeqCst);
                Ok(())
            }
            _ => self.idle(store),
        }
    }

    fn timer(&self) -> &Timer {
        self.timers.as_ref().and_then(|timers| timers.timer.as_ref()).unwrap()
    }

    fn append_timed(&mut self, store: &Store) -> Verdict {
        let (mut batch, mut sent) = (Batch::new(), Vec::new());
        for _ in 0..=self.random.below(4) {
            let now_ms = self.now_ms();
            let (record, properties) = record(&self.model.log, &mut self.number, now_ms, &mut self.random);
            batch.push(&message(topic::TIMER, 0, &properties, &record.body)).unwrap();
            self.tell(format!("{:?} {}", record.timed, record.key));
            sent.push(record);
        }
        self.store_batch(store, &mut batch, sent)
    }

    /// One round of a broker's timer thread; answers how much there was to do.
    fn turn(&mut self, store: &Store, max: usize) -> Result<usize, String> {
        if self.full {
            store.check_space(&store::SpaceLimits::default());
        }
        store.dispatch();
        let mut told = Vec::new();
        let taken = self.timer().enqueue(store, max, &mut |topic, by| told.push((topic.to_owned(), by)));
        let taken = match taken {
            Ok(taken) => taken,
            Err(error) => return self.excuse(store, "enqueue", &error).map(|()| 0),
        };
        let host = "10.0.0.2:10911".parse().unwrap();
        let delivered =
            self.timer().deliver(store, host, max, &|_, _| true, &mut |topic, by| told.push((topic.to_owned(), by)));
        self.tell(format!("at {}: took {taken}, {delivered:?}", self.now_ms()));
        if let Some(timers) = &mut self.timers {
            told.into_iter().for_each(|(topic, by)| *timers.counts.entry(topic).or_default() += by);
        }
        match delivered {
            Ok(delivered) => {
                self.absorb(store)?;
                self.model.acked = self.model.acked.max(store.max_phys());
                store.dispatch();
                Ok(taken + delivered.count + delivered.dropped)
            }
            Err(TimerError::Store(error)) => self.excuse(store, "deliver", &error).map(|()| 0),
            Err(TimerError::Append(error)) => {
                let excused = self.disk.is_dead() || store.failed().is_some() || self.full;
                if excused { Ok(0) } else { Err(format!("deliver: {error}")) }
            }
        }
    }

    /// Until nothing is to be done at this time: all that is due must have come.
    pub fn idle(&mut self, store: &Store) -> Verdict {
        let (mut still, mut turns) = (0, 0);
        // A turn may only bring the timer forward, so that the next one has room.
        while still < 2 {
            turns += 1;
            if turns > MOST_TURNS {
                return Err("the timer does not come to rest".into());
            }
            if self.config.sync_flush {
                // The group commit: only then is it dispatched.
                self.flush(store)?;
            }
            if !self.disk.is_dead() && store.failed().is_none() {
                still = if self.turn(store, 3)? > 0 { 0 } else { still + 1 };
            }
            if self.disk.is_dead() || store.failed().is_some() {
                return Ok(());
            }
        }
        if self.disk.is_dead() || store.failed().is_some() || self.full || self.stream.is_some() {
            return Ok(());
        }
        let now_ms = self.timers.as_ref().map_or(0, |timers| timers.must_have_come(self.now_ms()));
        self.model.check_delivered(store, now_ms)?;
        let waiting = self.timer().status(store).waiting;
        if waiting < 0 { Err(format!("{waiting} messages wait")) } else { Ok(()) }
    }

    /// Lets time go by until all has come.
    pub fn finish(&mut self, store: &Store) -> Verdict {
        for _ in 0..40 {
            self.clock.0.fetch_add(4000, Ordering::SeqCst);
            self.idle(store)?;
        }
        // Above 0 are those that left the log before their time.
        let counts = self.timers.as_ref().map(|timers| timers.counts.clone()).unwrap_or_default();
        self.recount(store).map_err(|error| error.to_string())?;
        let again = self.timers.as_ref().map(|timers| timers.counts.clone()).unwrap_or_default();
        if counts.values().any(|count| *count < 0) || again.values().any(|count| *count != 0) {
            return Err(format!("nothing waits, counted are {counts:?}, and again {again:?}"));
        }
        Ok(())
    }
}

/// Delivered copies go to plain and to batch queues.
const _: () = assert!(BATCH_TOPIC < TIMER);
