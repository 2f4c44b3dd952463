//! Timer messages: those with an arbitrary time of delivery wait in the topic `rmq_sys_wheel_timer`; the wheel tells
//! which of them are due. Source: `store/.../timer/TimerMessageStore.java`; reference store 22, replication W-26.
//!
//! The queue of that topic is the truth, the timer log follows it, the wheel follows the timer log. A [`Timer`] has no
//! thread and no clock of its own: the broker calls [`Timer::enqueue`], [`Timer::deliver`] and [`Timer::flush`]. It never
//! waits for a replica, and it never gives a message up: what cannot be stored now is tried again.

mod check_point;
mod deliver;
mod enqueue;
mod log;
mod look;
mod message;
mod recover;
mod slot;
mod wheel;

use std::{
    collections::{BTreeSet, BinaryHeap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
};

use parking_lot::Mutex;

pub use check_point::{TIMER_CHECK_POINT, TimerCheckPoint};
pub use deliver::{Delivered, TimerError};
pub use look::TimerFacts;
pub(crate) use look::look;

use crate::{disk::Clock, error::StoreError, log::Log, store::Store};
use check_point::{Proof, Proofs};
use log::TimerLog;
use slot::{Bounds, OpenSlot, Patience, Waiting};
use wheel::Wheel;

/// Snapshots for peers that are kept while no replica follows.
const MOST_SNAPSHOTS: usize = 1024;

/// A start of delivery goes back so many ticks, and so many ms: a master delivers a slot for some time after its tick.
const PROMOTION_MARGIN: i64 = 60;
const PROMOTION_MARGIN_MS: i64 = 60_000;
/// How old the time in the check point may be while nothing happens, ms.
const IDLE_MS: i64 = 60_000;

/// What a timer is told at its start. Defaults are Java's; reference store 30.7.
#[derive(Clone, Copy, Debug)]
pub struct TimerConfig {
    /// `mappedFileSizeTimerLog`, bytes.
    pub segment_size: u64,
    /// `timerPrecisionMs`: one tick.
    pub precision_ms: i64,
    /// `timerRollWindowSlot`: ticks after which a message goes round.
    pub roll_window_slots: i64,
    /// Slots of the wheel. Java's file has 1 209 600, and takes no other number; tests take fewer.
    pub slots: i64,
    /// Messages of the slot that is being delivered, and late ones, in memory at once.
    pub in_memory: usize,
}

impl Default for TimerConfig {
    fn default() -> Self {
        Self {
            segment_size: 104_857_600,
            precision_ms: 1000,
            roll_window_slots: 172_800,
            slots: wheel::SLOTS,
            in_memory: 65_536,
        }
    }
}

/// Counts of a timer since its start, and where it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerStatus {
    /// Slots before this time are delivered, ms.
    pub read_ms: i64,
    /// Queue offset of the timer topic that comes next.
    pub queue_offset: i64,
    /// Messages in the wheel whose time has not come.
    pub waiting: i64,
    /// Messages passed over because they can never be delivered; each is named in the log.
    pub set_aside: i64,
    /// Bytes of the wheel in memory.
    pub wheel_memory: usize,
    /// Messages of the slot that is being delivered, and late ones, in memory.
    pub in_memory: usize,
}

/// A change of the number of waiting messages of a topic.
pub type TopicCount<'a> = &'a mut dyn FnMut(&str, i64);

/// The timer of a store. Share it by reference; every call may come from any thread.
pub struct Timer {
    config: TimerConfig,
    clock: Arc<dyn Clock>,
    work: Mutex<Work>,
    wheel: Mutex<Wheel>,
    progress: Mutex<Progress>,
    flushing: Mutex<Flushed>,
    patience: Patience,
    enqueued: AtomicI64,
    delivered: AtomicI64,
    set_aside: AtomicI64,
}

/// What enqueueing and delivering change. Whoever needs more than one lock takes this one first, then the wheel.
struct Work {
    log: TimerLog,
    /// Next queue offset to look at.
    queue_offset: i64,
    /// Latest write time, so that times in the log do not go back when the clock does, ms.
    write_ms: i64,
    /// Slots before this tick are delivered.
    read_tick: i64,
    delivering: bool,
    slot: Option<OpenSlot>,
    /// Messages that were due before they could be put into the wheel.
    late: BinaryHeap<Waiting>,
    late_offsets: BTreeSet<i64>,
    /// End of the log when the last of them was found to be late.
    late_log_end: i64,
    /// What was due up to this time may have been delivered already: the log is asked, ms.
    doubt_until_ms: i64,
    /// And it must be in the index up to here.
    doubt_log_end: i64,
    gate: Option<Gate>,
    /// Messages of slots before this tick are in no count: they were delivered once, and are looked at again.
    counted_from: i64,
    /// Of the message that was delivered last.
    last_physical: Option<i64>,
    /// No message is taken up now: the operator stopped that, or there is no room.
    blocked: bool,
    /// No slot is opened any more.
    ending: bool,
}

/// What must be taken up before a slot is opened: it may take messages of that slot back.
#[derive(Clone, Copy, Debug)]
struct Gate {
    tick: i64,
    log_end: i64,
    queue_end: Option<i64>,
}

/// A part of a slot's chain.
struct Chain {
    last: i64,
    after: i64,
    tick: i64,
    /// Of the open slot, which knows itself who takes back.
    open: bool,
}

/// How far the timer is, for peers and the file.
#[derive(Default)]
struct Progress {
    read_ms: i64,
    queue_offset: i64,
    master_queue_offset: i64,
    version: [i64; 3],
    proofs: Proofs,
    snapshots: VecDeque<Snapshot>,
    told: Snapshot,
}

/// Progress, and the end of the log that holds the copies it stands on.
#[derive(Clone, Copy, Debug, Default)]
struct Snapshot {
    log_end: i64,
    read_ms: i64,
    queue_offset: i64,
}

/// What is on disk.
#[derive(Default)]
struct Flushed {
    position: i64,
    point: TimerCheckPoint,
    proofs: Proofs,
    delivered: i64,
}

impl Work {
    /// Messages before this queue offset are in the timer log or delivered.
    fn commit_offset(&self) -> i64 {
        self.late_offsets.first().copied().unwrap_or(self.queue_offset)
    }
}

impl Timer {
    /// Loads the files and makes them fit the log. The timer delivers nothing before [`Timer::set_delivering`]. `clock` is
    /// the wall clock: that of the store may be ahead of it, so that store times do not go back.
    ///
    /// # Errors
    /// Files that cannot be read or written; segments of an impossible size.
    pub fn open(store: &Store, config: TimerConfig, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let config = recover::checked(config)?;
        let (work, wheel, progress, position) = recover::load(store, &config, clock.now_ms())?;
        let flushed = Flushed { position, ..Flushed::default() };
        let timer = Self {
            config,
            clock,
            work: Mutex::new(work),
            wheel: Mutex::new(wheel),
            progress: Mutex::new(progress),
            flushing: Mutex::new(flushed),
            patience: Patience::default(),
            enqueued: AtomicI64::new(0),
            delivered: AtomicI64::new(0),
            set_aside: AtomicI64::new(0),
        };
        // What was found counts from here on; a crash before the next flush must not take the old check point for it.
        timer.close(store)?;
        recover::remove_snapshots(store)?;
        Ok(timer)
    }

    /// What it was opened with.
    pub fn config(&self) -> &TimerConfig {
        &self.config
    }

    /// Starts or stops delivery. A start goes back to what this store's own log proves: a master's check point may be
    /// ahead of the copies that arrived here. What the log already has is not delivered again.
    pub fn set_delivering(&self, store: &Store, delivering: bool) -> Result<(), StoreError> {
        let mut work = self.work.lock();
        if work.delivering == delivering {
            return Ok(());
        }
        (work.slot, work.gate) = (None, None);
        if delivering {
            self.begin_delivery(store, &mut work)?;
        }
        work.delivering = delivering;
        self.note_progress(&work, store);
        Ok(())
    }

    /// From now on no slot is opened. True while the open one is delivered in part: who opens this store next begins it anew,
    /// and a Java broker does not look what was delivered.
    pub fn ends_within_slot(&self) -> bool {
        let mut work = self.work.lock();
        work.ending = true;
        work.slot.as_ref().is_some_and(|open| open.begun)
    }

    fn begin_delivery(&self, store: &Store, work: &mut Work) -> Result<(), StoreError> {
        let (read_ms, now_ms) = (self.progress.lock().read_ms, self.clock.now_ms());
        work.counted_from = work.counted_from.max(read_ms / self.config.precision_ms);
        (work.doubt_until_ms, work.doubt_log_end) = (now_ms, store.max_phys());
        let margin = PROMOTION_MARGIN.max(PROMOTION_MARGIN_MS / self.config.precision_ms);
        let tick = recover::proven_tick(store, read_ms, self.config.precision_ms, margin);
        work.read_tick = recover::first_tick(&mut self.wheel.lock(), tick, now_ms / self.config.precision_ms)?;
        Ok(())
    }

    /// Takes a master's check point. Nothing happens while this timer delivers by itself.
    pub fn adopt(&self, store: &Store, point: &TimerCheckPoint) {
        let mut work = self.work.lock();
        if work.delivering {
            return;
        }
        work.read_tick = point.last_read_ms / self.config.precision_ms;
        {
            let mut progress = self.progress.lock();
            progress.master_queue_offset = point.master_timer_queue_offset;
            progress.version = point.version;
            progress.read_ms = point.last_read_ms;
        }
        self.note_progress(&work, store);
    }

    /// The check point for a peer: no further than what copies up to `replicated` of the commit log prove.
    pub fn check_point(&self, replicated: i64) -> TimerCheckPoint {
        let mut progress = self.progress.lock();
        while let Some(snapshot) = progress.snapshots.front().copied().filter(|next| next.log_end <= replicated) {
            progress.told = snapshot;
            progress.snapshots.pop_front();
        }
        let told = progress.told;
        TimerCheckPoint {
            last_read_ms: told.read_ms,
            last_timer_log_flush_pos: 0,
            last_timer_queue_offset: told.queue_offset,
            master_timer_queue_offset: told.queue_offset,
            version: progress.version,
        }
    }

    /// Messages in the slot of a time, for the limit of `timerCongestNumEachSlot`.
    pub fn slot_count(&self, store: &Store, time_ms: i64) -> i64 {
        let slot = self.wheel.lock().slot(time_ms / self.config.precision_ms);
        store.told(slot).flatten().map_or(0, |slot| i64::from(slot.num.max(0)))
    }

    /// Where it stands.
    pub fn status(&self, store: &Store) -> TimerStatus {
        let (read_ms, queue_offset) = {
            let progress = self.progress.lock();
            (progress.read_ms, progress.queue_offset)
        };
        let in_memory = {
            let work = self.work.lock();
            work.late.len() + work.slot.as_ref().map_or(0, OpenSlot::in_memory)
        };
        let mut wheel = self.wheel.lock();
        let mut waiting = 0;
        let all = wheel.each_from(read_ms / self.config.precision_ms, |slot| waiting += i64::from(slot.num.max(0)));
        store.told(all);
        TimerStatus {
            read_ms,
            queue_offset,
            waiting,
            set_aside: self.set_aside.load(SeqCst),
            wheel_memory: wheel.memory(),
            in_memory,
        }
    }

    /// Messages put into the wheel, and delivered or sent round, since the start.
    pub fn counts(&self) -> (i64, i64) {
        (self.enqueued.load(SeqCst), self.delivered.load(SeqCst))
    }

    /// Counts waiting messages by topic once more, from the log: `timermetrics` after a crash, and each day. Reads each of
    /// them. `begin` is called at the moment whose messages are counted; changes go on meanwhile. What is counted is worth
    /// nothing once `goes_on` answered false.
    pub fn count_topics(
        &self,
        store: &Store,
        begin: impl FnOnce(),
        goes_on: impl Fn() -> bool,
        count: TopicCount<'_>,
    ) -> Result<(), StoreError> {
        let (log, single, chains) = self.to_count(begin)?;
        let mut count_unit = |physical| {
            if goes_on()
                && let Some(bytes) = store.read_record(physical)
                && let Some(message) = message::TimerMessage::of(&bytes)
            {
                count(message.real_topic, message.weight(false));
            }
        };
        single.into_iter().for_each(&mut count_unit);
        for Chain { last, after, tick, open } in chains {
            log.chain(last, after, tick, self.config.precision_ms, |_, unit| {
                if !open || !unit.takes_back() {
                    count_unit(unit.physical);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// What waits at one moment: the timer log, records of the open slot, and parts of chains.
    fn to_count(&self, begin: impl FnOnce()) -> Result<(TimerLog, Vec<i64>, Vec<Chain>), StoreError> {
        let mut work = self.work.lock();
        let mut chains = Vec::new();
        let open_tick = work.slot.as_ref().map(|open| open.tick);
        self.wheel.lock().each_from(work.read_tick, |slot| {
            if Some(slot.tick) != open_tick {
                chains.push(Chain { last: slot.last, after: -1, tick: slot.tick, open: false });
            }
        })?;
        let mut single = Vec::new();
        if let Some(open) = &work.slot {
            let (in_memory, pieces) = open.rest();
            single = in_memory;
            chains.extend(pieces.into_iter().map(|(last, after)| Chain { last, after, tick: open.tick, open: true }));
        }
        begin();
        work.counted_from = 0;
        if let Some(open) = &mut work.slot {
            open.counted = true;
        }
        Ok((work.log.reader(), single, chains))
    }

    /// Makes the timer log, the wheel and the check point durable, in this order, and before them the commit log, on
    /// whose copies they stand. Does nothing when nothing changed.
    ///
    /// # Errors
    /// Lack of space is survived and tried again by the next call; anything else ends the store.
    pub fn flush(&self, store: &Store) -> Result<(), StoreError> {
        self.flush_if(store, |flushed, new| {
            let was = &flushed.point;
            new.delivered != flushed.delivered
                || new.position != flushed.position
                || new.point.last_timer_queue_offset != was.last_timer_queue_offset
                || new.point.last_read_ms.abs_diff(was.last_read_ms) >= IDLE_MS as u64
        })
    }

    /// Same, at the end: also when only time went by.
    pub fn close(&self, store: &Store) -> Result<(), StoreError> {
        self.flush_if(store, |flushed, new| new.point != flushed.point)
    }

    fn flush_if(&self, store: &Store, changed: impl Fn(&Flushed, &Flushed) -> bool) -> Result<(), StoreError> {
        let mut flushed = self.flushing.lock();
        let (new, files) = self.to_flush(store, &flushed);
        if !changed(&flushed, &new) {
            return Ok(());
        }
        let result = self.write(store, &flushed, &new, &files);
        match &result {
            Ok(()) => *flushed = new,
            Err(error) if !error.is_disk_full() => store.fail(error),
            Err(_) => {}
        }
        result
    }

    fn to_flush(&self, store: &Store, flushed: &Flushed) -> (Flushed, Arc<Log>) {
        let work = self.work.lock();
        let mut progress = self.progress.lock();
        let queue_offset = work.commit_offset();
        let (last_read_ms, position) = (work.read_tick * self.config.precision_ms, work.log.end());
        if work.delivering {
            progress.master_queue_offset = queue_offset;
            let was = &flushed.point;
            if (was.last_read_ms, was.last_timer_queue_offset) != (last_read_ms, queue_offset) {
                progress.version = [progress.version[0], self.clock.now_ms(), progress.version[2].wrapping_add(1)];
            }
        }
        let point = TimerCheckPoint {
            last_read_ms,
            last_timer_log_flush_pos: position,
            last_timer_queue_offset: queue_offset.min(progress.master_queue_offset),
            master_timer_queue_offset: progress.master_queue_offset,
            version: progress.version,
        };
        progress.proofs.add(Proof { log_end: store.max_phys(), read_ms: last_read_ms, queue_offset });
        let proofs = progress.proofs.clone();
        (Flushed { position, point, proofs, delivered: self.delivered.load(SeqCst) }, work.log.files())
    }

    fn write(&self, store: &Store, old: &Flushed, new: &Flushed, files: &Log) -> Result<(), StoreError> {
        store.flush_log()?;
        files.sync(old.position.min(new.position), new.position)?;
        let dirty = self.wheel.lock().take_dirty()?;
        if let Some(dirty) = dirty {
            let result = dirty.write();
            let mut wheel = self.wheel.lock();
            match result {
                Ok(()) => wheel.written(),
                Err(error) => {
                    wheel.give_back(&dirty);
                    return Err(error);
                }
            }
        }
        new.point.store(&new.proofs, &*store.disk, &store.config().root)?;
        self.wheel.lock().release(new.point.last_read_ms / self.config.precision_ms);
        Ok(())
    }

    /// Deletes segments of the timer log whose messages have left the commit log.
    pub fn expire(&self, store: &Store) -> Result<usize, StoreError> {
        self.work.lock().log.expire(store.min_phys())
    }

    /// After [`Store::truncate`]: what pointed beyond the new end of the log goes, from all files.
    ///
    /// # Errors
    /// The timer's files cannot be read or written: that ends the store, for they do not fit the log.
    pub fn truncated(&self, store: &Store) -> Result<(), StoreError> {
        let result = self.load_again(store);
        if let Err(error) = &result {
            store.fail(error);
        }
        result
    }

    fn load_again(&self, store: &Store) -> Result<(), StoreError> {
        let mut flushed = self.flushing.lock();
        let mut work = self.work.lock();
        let delivering = work.delivering;
        let (new_work, new_wheel, new_progress, position) = recover::load(store, &self.config, self.clock.now_ms())?;
        *flushed = Flushed { position, ..Flushed::default() };
        *self.wheel.lock() = new_wheel;
        *self.progress.lock() = new_progress;
        *work = new_work;
        if delivering {
            // The check point may be a master's still.
            self.begin_delivery(store, &mut work)?;
            work.delivering = true;
        }
        drop((work, flushed));
        self.close(store)
    }

    /// Makes the progress of `work` known to peers. Called with `work` held.
    fn note_progress(&self, work: &Work, store: &Store) {
        let (read_ms, queue_offset) = (work.read_tick * self.config.precision_ms, work.commit_offset());
        let snapshot = Snapshot { log_end: store.max_phys(), read_ms, queue_offset };
        let mut progress = self.progress.lock();
        (progress.read_ms, progress.queue_offset) = (read_ms, queue_offset);
        if progress.snapshots.back().is_some_and(|last| last.log_end == snapshot.log_end) {
            progress.snapshots.pop_back();
        }
        progress.snapshots.push_back(snapshot);
        if progress.snapshots.len() > MOST_SNAPSHOTS {
            // Every other one: the oldest is what a slow replica needs first.
            let mut number = 0;
            progress.snapshots.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            progress.snapshots.push_back(snapshot);
        }
    }
}
