//! One store from its first start on: what is done to it, how it ends, and how it starts again.

use std::{
    io::ErrorKind,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use store::{AppendError, Batch, ColdReads, Retention, SpaceLimits, Store, StoreConfig, StoreError};
use wire::sys_flag;

use super::{
    between::KINDS,
    disk::{Fault, SimDisk},
    model::{BATCH_TOPIC, LIGHT, Model, QUEUES, Sent, TIMER, TOPICS, Verdict},
    raw::Stream,
    tale,
    timers::{Timed, Timers},
};
use crate::common::{HandClock, Random, clock_at, message, small};

const STARTS: usize = 16;

/// Nearly everything is read in pieces, which this store is large enough for.
const SHARED: ColdReads = ColdReads { piece: 700, pieces: 3, behind: 0, worth: 2, longest: 600 };

pub struct Life {
    pub disk: SimDisk,
    pub config: StoreConfig,
    pub clock: Arc<HandClock>,
    pub random: Random,
    pub model: Model,
    /// In some lives only.
    pub timers: Option<Timers>,
    /// A master's bytes, while this store is a slave.
    pub stream: Option<Stream>,
    pub number: u64,
    /// The power went since the store was last open.
    pub power_cut: bool,
    pub full: bool,
    /// Number of the size of each kind of files.
    pub made_with: [Option<usize>; KINDS],
    pub story: Vec<String>,
}

impl Life {
    pub fn new(seed: u64) -> Self {
        let root = Path::new("/sim");
        let batch_queue_topics: store::BatchQueueTopics = Arc::new(|topic| topic == TOPICS[BATCH_TOPIC]);
        let config = StoreConfig {
            sync_flush: seed.is_multiple_of(2),
            batch_queue_topics: Some(batch_queue_topics),
            queue_ext: seed % 4 == 1,
            enable_lmq: seed % 4 == 2,
            enable_multi_dispatch: seed % 4 == 2,
            queue_ext_segment_size: 1024,
            queue_gathers: [0, 60, 200, 4096][(seed / 3 % 4) as usize],
            queues_gather: [100, 300, 1 << 20][(seed / 5 % 3) as usize],
            queues_synced_singly: [0, 2, 64][(seed / 7 % 3) as usize],
            segment_size: 4096,
            cold_reads: if matches!(seed % 8, 0 | 1 | 3 | 5) { SHARED } else { ColdReads::default() },
            ..small(root)
        };
        Self {
            disk: SimDisk::new(root, seed),
            config,
            clock: clock_at(1_000_000),
            random: Random(seed),
            model: Model::default(),
            timers: Timers::of(seed),
            stream: None,
            number: 0,
            power_cut: false,
            full: false,
            made_with: [None; KINDS],
            story: Vec::new(),
        }
    }

    /// What was done last.
    pub fn story(&self) -> String {
        self.story[self.story.len().saturating_sub(600)..].join("\n")
    }

    pub fn tell(&mut self, what: String) {
        self.story.push(format!("  {:>7} {what}", self.disk.steps()));
        if tale::is_told() {
            println!("{}", self.story[self.story.len() - 1]);
        }
    }

    pub fn run(&mut self) -> Verdict {
        for _ in 0..STARTS {
            let store = self.open()?;
            self.absorb(&store)?;
            self.model.check_recovered(&store, self.power_cut)?;
            self.tell(format!("open: {} to {}, power cut: {}", store.min_phys(), store.max_phys(), self.power_cut));
            self.tell_store_files();
            self.tell_timer_files();
            self.power_cut = false;
            self.work(&store)?;
            let power_cut = self.random.below(2) == 0;
            self.restart(power_cut);
        }
        if self.timers.is_none() {
            return Ok(());
        }
        let store = self.open()?;
        self.absorb(&store)?;
        self.model.check_recovered(&store, self.power_cut)?;
        self.finish(&store)
    }

    pub fn restart(&mut self, power_cut: bool) {
        self.tell(format!("restart, power cut: {power_cut}"));
        self.note_sizes();
        self.disk.restart(power_cut);
        self.tell_store_files();
        self.power_cut |= power_cut;
        self.stream = None;
        self.full = false;
        if let Some(timers) = &mut self.timers {
            timers.timer = None;
        }
        self.clock.0.fetch_add(self.random.below(10_000) as i64, Ordering::SeqCst);
    }

    /// Starts the store and looks at it; nothing disturbs that.
    pub fn start(&mut self) -> Result<Store, String> {
        let opened = Store::open(self.config.clone(), Arc::new(self.disk.clone()), self.clock.clone());
        let store = opened.map_err(|error| format!("it does not start: {error}"))?;
        self.model.check_recovered(&store, self.power_cut)?;
        self.power_cut = false;
        Ok(store)
    }

    /// Some segments of messages, partly flushed, partly dispatched, partly proven.
    pub fn prepare(&mut self, store: &Store, appends: usize) -> Verdict {
        for number in 0..appends {
            self.append(store)?;
            if number % 3 == 0 {
                self.flush(store)?;
                store.dispatch();
            }
            if number % 7 == 6 {
                self.call(store, "checkpoint", |store| store.flush_queues().and_then(|()| store.persist_checkpoint()))?;
            }
        }
        Ok(())
    }

    /// Starts the store, through crashes and faults within its recovery.
    fn open(&mut self) -> Result<Store, String> {
        self.rebuild()?;
        self.change_config();
        loop {
            self.set_sizes_back(true);
            let fault = self.random.below(12);
            match fault {
                0..4 => self.disk.plan(self.random.below(500), Fault::Crash),
                4 => self.disk.plan(self.random.below(20), Fault::Write(ErrorKind::Other)),
                5 => self.disk.plan(self.random.below(20), Fault::Write(ErrorKind::StorageFull)),
                6 => self.disk.plan(self.random.below(20), Fault::Sync(ErrorKind::Other)),
                7 => self.disk.set_full(true),
                _ => {}
            }
            let opened = Store::open(self.config.clone(), Arc::new(self.disk.clone()), self.clock.clone());
            let opened = opened.and_then(|store| self.open_timer(&store).map(|()| store));
            self.disk.set_full(false);
            let fired = self.disk.take_fired();
            match opened {
                Ok(store) if !self.disk.is_dead() => return Ok(store),
                Err(error) if !(fired || fault == 7 && error.is_disk_full()) => {
                    return Err(format!("it does not start: {error}"));
                }
                Ok(_) => self.tell("crash within the start".into()),
                Err(error) => self.tell(format!("the start failed: {error}")),
            }
            // What a failed sync should have written is nowhere but in the page cache.
            let power_cut = fault == 6 || self.random.below(2) == 0;
            self.restart(power_cut);
        }
    }

    fn work(&mut self, store: &Store) -> Verdict {
        let steps = self.random.below(70);
        let fault_at = self.random.below(steps + 1);
        for step in 0..=steps {
            if step == fault_at {
                self.plan_fault();
            }
            let verdict = self.step(store);
            if self.disk.is_dead() {
                self.model.durable = self.model.durable.max(store.marks().flushed.get());
                return Ok(());
            }
            if store.failed().is_some() {
                return self.check_stopped(store);
            }
            verdict?;
            if self.disk.fired() && !self.full {
                return Err("a failed write or sync was passed over".into());
            }
        }
        self.disk.take_fired();
        self.set_full(store, false);
        if self.random.below(3) == 0 { self.close(store) } else { Ok(()) }
    }

    fn plan_fault(&mut self) {
        let after = self.random.below(120);
        match self.random.below(10) {
            0..6 => self.disk.plan(after, Fault::Crash),
            6 => self.disk.plan(after % 30, Fault::Write(ErrorKind::Other)),
            7 => self.disk.plan(after % 20, Fault::Sync(ErrorKind::Other)),
            8 => self.disk.plan(after % 20, Fault::Sync(ErrorKind::StorageFull)),
            _ => {}
        }
    }

    /// A failed write or sync ended the store: nothing is stored or proven any more.
    pub fn check_stopped(&mut self, store: &Store) -> Verdict {
        let why = store.failed().unwrap_or_default().to_owned();
        self.tell(format!("the store has failed: {why}"));
        if !self.disk.take_fired() {
            return Err(format!("it failed without a reason: {why}"));
        }
        let flushed = store.marks().flushed.get();
        self.model.durable = self.model.durable.max(flushed);
        let mut batch = Batch::new();
        batch.push(&message("A", 0, b"", b"")).unwrap();
        let stopped = matches!(store.append(&mut batch), Err(AppendError::Failed(_)))
            && store.append_raw(store.max_phys(), b"x").is_err()
            && store.flush().is_err()
            && store.flush_queues().is_err()
            && store.persist_checkpoint().is_err()
            && store.truncate(store.max_phys()).is_err()
            && store.close().is_err()
            && store.marks().flushed.get() == flushed;
        // What a failed sync should have written is nowhere but in the page cache.
        self.power_cut = true;
        self.note_sizes();
        self.disk.restart(true);
        if stopped { Ok(()) } else { Err(format!("it goes on after: {why}")) }
    }

    fn step(&mut self, store: &Store) -> Verdict {
        if self.timers.is_some() && self.random.below(3) == 0 {
            return self.timer_step(store);
        }
        match self.random.below(60) {
            0..24 => self.write(store),
            24..34 => {
                self.tell("dispatch".into());
                store.dispatch();
                Ok(())
            }
            34..41 => self.flush(store),
            41..43 => self.call(store, "flush queues", |store| store.flush_queues()),
            43..46 => {
                self.call(store, "checkpoint", |store| store.flush_queues().and_then(|()| store.persist_checkpoint()))
            }
            46..49 => self.truncate(store),
            49..52 => self.retain(store),
            52 => self.delete_topic(store),
            53 => self.change_role(store),
            54 => {
                let full = !self.full && self.random.below(2) == 0;
                self.set_full(store, full);
                Ok(())
            }
            _ => {
                self.clock.0.fetch_add(self.random.below(3000) as i64, Ordering::SeqCst);
                if self.full {
                    return Ok(());
                }
                store.dispatch();
                self.model.check(store)
            }
        }
    }

    /// Space ends, or is there again.
    fn set_full(&mut self, store: &Store, full: bool) {
        if full != self.full {
            self.tell(format!("full: {full}"));
            self.full = full;
            self.disk.set_full(full);
        }
        // After it one write may try.
        store.check_space(&SpaceLimits::default());
    }

    /// Is this error the consequence of something that was done to the disk?
    pub fn excuse(&mut self, store: &Store, what: &str, error: &StoreError) -> Verdict {
        self.tell(format!("{what}: {error}"));
        let excused = self.disk.is_dead() || store.failed().is_some() || (self.full && error.is_disk_full());
        if excused { Ok(()) } else { Err(format!("{what}: {error}, and the store goes on")) }
    }

    fn call(&mut self, store: &Store, what: &str, act: impl Fn(&Store) -> Result<(), StoreError>) -> Verdict {
        self.tell(what.into());
        act(store).or_else(|error| self.excuse(store, what, &error))
    }

    pub fn flush(&mut self, store: &Store) -> Verdict {
        match store.flush() {
            Ok(end) => {
                self.tell(format!("flushed to {end}"));
                self.model.durable = self.model.durable.max(end);
                Ok(())
            }
            Err(error) => self.excuse(store, "flush", &error),
        }
    }

    pub fn write(&mut self, store: &Store) -> Verdict {
        if self.full {
            store.check_space(&SpaceLimits::default());
        }
        match self.stream.take() {
            Some(stream) => self.receive(store, stream),
            None => self.append(store),
        }
    }

    pub fn append(&mut self, store: &Store) -> Verdict {
        let (mut batch, mut sent) = (Batch::new(), Vec::new());
        let grouped = self.random.below(4) == 0;
        if grouped {
            batch.begin_group();
        }
        for _ in 0..=self.random.below(5) {
            sent.push(self.push(&mut batch, if grouped { 150 } else { 500 }));
        }
        self.store_batch(store, &mut batch, sent)
    }

    pub fn store_batch(&mut self, store: &Store, batch: &mut Batch, mut sent: Vec<Sent>) -> Verdict {
        let result = store.append(batch);
        for (sent, entry) in sent.iter_mut().zip(batch.entries()) {
            (sent.at, sent.end, sent.base) = (entry.physical_offset, entry.end(), entry.queue_offset);
        }
        self.tell(format!("append {} to {}: {result:?}", sent[0].at, sent[sent.len() - 1].end));
        match result {
            Ok(()) => {
                for sent in sent {
                    let next = self.model.next_offset(sent.topic, sent.queue_id);
                    let unknown = self.model.late && next == 0;
                    if sent.count > 0 && sent.base != next && !unknown {
                        let topic = TOPICS[sent.topic];
                        return Err(format!("{topic} {}: offset {}, not {next}", sent.queue_id, sent.base));
                    }
                    self.model.push(sent);
                }
                self.model.acked = store.max_phys();
                Ok(())
            }
            Err(AppendError::NoSpace(_)) if self.full => Ok(()),
            Err(AppendError::Failed(_)) => {
                // Some of it may be found.
                sent.into_iter().for_each(|sent| self.model.push(sent));
                Ok(())
            }
            Err(error) => Err(format!("append: {error}")),
        }
    }

    fn push(&mut self, batch: &mut Batch, longest: u64) -> Sent {
        let (topic, queue_id) = (self.random.below(4) as usize, self.random.below(QUEUES as u64) as i32);
        let body: Vec<u8> = (0..self.random.below(longest)).map(|_| self.random.next() as u8).collect();
        let key = format!("k{}", self.number);
        self.number += 1;
        let (flag, count) = match self.random.below(12) {
            0 => (sys_flag::TRANSACTION_PREPARED, 0),
            1 => (sys_flag::TRANSACTION_COMMIT, 1),
            2..6 if topic == BATCH_TOPIC => (sys_flag::INNER_BATCH, 1 + self.random.below(9) as i64),
            _ => (0, 1),
        };
        let mut properties = format!("UNIQ_KEY\x01{key}\x02");
        if flag == sys_flag::INNER_BATCH {
            properties.push_str(&format!("INNER_NUM\x01{count}\x02"));
        }
        let light = self.config.enable_lmq && topic == 0 && count > 0 && self.random.below(3) == 0;
        if light {
            properties.push_str(&format!("INNER_MULTI_DISPATCH\x01{}\x02", TOPICS[LIGHT]));
        }
        let record = wire::record_encode::NewRecord {
            sys_flag: flag,
            ..message(TOPICS[topic], queue_id, properties.as_bytes(), &body)
        };
        batch.push(&record).unwrap();
        Sent { topic, queue_id, at: 0, end: 0, base: 0, count, key, body, timed: Timed::No, light }
    }

    /// A piece of a master's log, cut anywhere.
    fn receive(&mut self, store: &Store, mut stream: Stream) -> Verdict {
        if stream.bytes.len() < 600 {
            let now_ms = self.clock.0.load(Ordering::SeqCst);
            let timed = self.timers.is_some();
            stream.fill(&self.model, &mut self.number, store.segment_size(), now_ms, timed, &mut self.random);
        }
        let end = stream.cut(&mut self.random);
        let length = (end - stream.at) as usize;
        self.tell(format!("receive {} to {end}", stream.at));
        match store.append_raw(stream.at, &stream.bytes[..length]) {
            Ok(found) => {
                assert_eq!(found, end);
                stream.bytes.drain(..length);
                stream.at = end;
                self.model.arrive(stream.arrived(end));
                self.model.acked = end;
                let all = stream.bytes.is_empty();
                self.stream = Some(stream);
                if all {
                    self.adopt(store);
                }
                Ok(())
            }
            Err(error) => {
                if !error.is_disk_full() || store.failed().is_some() || self.disk.is_dead() {
                    self.model.arrive(stream.arrived(end));
                } else {
                    self.stream = Some(stream);
                }
                self.excuse(store, "receive", &error)
            }
        }
    }

    fn change_role(&mut self, store: &Store) -> Verdict {
        if self.stream.is_some() {
            return self.promote(store);
        }
        let mut at = store.max_phys();
        if store.min_phys() < 0 && self.model.log.is_empty() {
            at += self.random.below(3) as i64 * store.segment_size();
            self.model.late = at > 0;
        }
        self.tell(format!("slave from {at} on"));
        self.set_delivering(store, false)?;
        self.stream = Some(Stream { at, ..Stream::default() });
        Ok(())
    }

    /// A slave becomes master: what is no whole record goes.
    fn promote(&mut self, store: &Store) -> Verdict {
        self.set_full(store, false);
        self.tell("promotion".into());
        self.flush(store)?;
        store.dispatch();
        if self.disk.is_dead() || store.failed().is_some() {
            return Ok(());
        }
        let end = store.marks().dispatched.get();
        self.stream = None;
        self.cut(store, end)?;
        self.set_delivering(store, true)
    }

    pub fn truncate(&mut self, store: &Store) -> Verdict {
        let back = self.random.below(self.model.log.len().min(12) as u64 + 1) as usize;
        let Some(at) = self.model.log.get(self.model.log.len() - back).map(|sent| sent.at) else { return Ok(()) };
        if at < store.min_phys().max(self.model.floor) || self.full {
            return Ok(());
        }
        self.stream = None;
        self.cut(store, at)?;
        self.set_delivering(store, true)
    }

    pub fn cut(&mut self, store: &Store, at: i64) -> Verdict {
        self.tell(format!("truncate at {at}"));
        self.model.durable = self.model.durable.min(at);
        self.model.acked = self.model.acked.min(at);
        match store.truncate(at) {
            Ok(()) => {
                self.model.settle(at);
                self.model.durable = at;
                self.timer_truncated(store)?;
                self.tell_timer_files();
                Ok(())
            }
            Err(error) => self.excuse(store, "truncate", &error),
        }
    }

    pub fn retain(&mut self, store: &Store) -> Verdict {
        let max_segments = self.random.below(3) as usize;
        let retention = Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments };
        self.call(store, "retention", |store| store.delete_expired(retention).map(drop))
    }

    pub fn delete_topic(&mut self, store: &Store) -> Verdict {
        let light = self.config.enable_lmq && self.random.below(4) == 0;
        let topic = if light { LIGHT } else { self.random.below(TIMER as u64) as usize };
        let end = store.max_phys();
        if let Some(stream) = &self.stream {
            // The master deletes it too: what it sends next begins anew, in an empty log where it was to begin.
            let at = stream.at;
            let whole = end % store.segment_size() == 0 || self.model.log.last().is_some_and(|last| last.end == end);
            if !whole {
                return Ok(());
            }
            self.stream = Some(Stream { at, ..Stream::default() });
        }
        self.tell(format!("delete topic {} at {end}", TOPICS[topic]));
        self.model.maybe_hidden = Some((topic, end));
        match store.delete_topic(TOPICS[topic]) {
            Ok(()) => {
                self.model.maybe_hidden = None;
                self.model.hidden[topic] = end;
                Ok(())
            }
            Err(error) => {
                if !self.disk.is_dead() && store.failed().is_none() {
                    self.model.maybe_hidden = None;
                }
                self.excuse(store, "delete topic", &error)
            }
        }
    }

    pub fn close(&mut self, store: &Store) -> Verdict {
        self.tell("close".into());
        if let Err(error) = self.close_timer(store) {
            return self.excuse(store, "close of the timer", &error);
        }
        match store.close() {
            Ok(()) => {
                self.model.durable = store.marks().flushed.get();
                Ok(())
            }
            Err(error) => self.excuse(store, "close", &error),
        }
    }
}
