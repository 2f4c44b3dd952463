//! From the timer's files to a timer that fits the log. Source: `TimerMessageStore.java` (recover, recoverAndRevise,
//! reviseQueueOffset); reference store 22.5.
//!
//! One rule: the newest state of the check point whose copies are all in the commit log is what is proven. The timer log
//! ends before the first message that this state does not count, or where its first invalid unit is; from there on the
//! timer topic's queue is read again, so that units stand in the queue's order, each once. The wheel must agree with the
//! units from one segment before the check point on and lead nowhere else, or it is made again from the whole timer log.
//! Delivery goes on at the time of that state. Where Java gives up what is older than 7 days, or what a lost timer log
//! held, this does not; FORMAT.md has the table.

use wire::{hash::java_hash, record::RecordView, topic};

use super::{
    Progress, TimerConfig, Work,
    check_point::TimerCheckPoint,
    log::{TimerLog, Unit},
    message::{MOST_PRECISION_MS, TimerMessage},
    wheel::{PER_PAGE, Slot, Wheel},
};
use crate::{
    error::{IoContext, StoreError},
    store::Store,
};

/// Slots that stay free between the roll window and a half of the wheel.
const BLANK_SLOTS: i64 = 60;
/// Ticks that a start goes back where the index can tell what is delivered: the device may have lost copies.
const START_MARGIN: i64 = 2;

impl TimerConfig {
    /// Refuses what no timer can be opened with.
    ///
    /// # Errors
    /// [`StoreError::Config`] names the key.
    pub fn check(&self) -> Result<(), StoreError> {
        let bad = |key, value: i64, why| Err(StoreError::Config { key, value: value.to_string(), why });
        if self.segment_size < 1024 || self.segment_size > i32::MAX as u64 {
            return bad("mappedFileSizeTimerLog", self.segment_size as i64, "use 1024 to 2147483647");
        }
        if !(1..=MOST_PRECISION_MS).contains(&self.precision_ms) {
            return bad("timerPrecisionMs", self.precision_ms, "use 1 to 3600000");
        }
        if self.slots < 4 * BLANK_SLOTS || self.slots % PER_PAGE != 0 {
            return bad("slots", self.slots, "use a multiple of 128");
        }
        Ok(())
    }
}

/// Brings a configuration into bounds as Java does.
pub(super) fn checked(mut config: TimerConfig) -> Result<TimerConfig, StoreError> {
    config.check()?;
    let most = (config.slots / 2 - BLANK_SLOTS).min(i64::from(i32::MAX) / config.precision_ms - BLANK_SLOTS);
    if config.roll_window_slots < 2 || config.roll_window_slots > most {
        config.roll_window_slots = most;
    }
    Ok(config)
}

/// Loads everything. The last value is where the timer log is not known to be durable from.
pub(super) fn load(
    store: &Store,
    config: &TimerConfig,
    now_ms: i64,
) -> Result<(Work, Wheel, Progress, i64), StoreError> {
    let (disk, root) = (store.disk.clone(), store.config().root.clone());
    let (found, mut proofs) = TimerCheckPoint::load(&*disk, &root)?;
    let point = proofs.fitted(found.unwrap_or_default(), store.max_phys());
    proofs.cut(store.max_phys());
    let mut log = TimerLog::load(disk.clone(), &root, config.segment_size, false)?;
    let mut wheel = Wheel::load(disk.clone(), &root, config.slots)?;
    if !snapshots(&*disk, &root)?.is_empty() {
        tracing::info!("a Java broker kept the timer wheel in snapshots: it is made again from the timer log");
        wheel = None;
    }
    let margin = if store.index.is_some() { START_MARGIN } else { 0 };
    let (from_tick, now_tick) =
        (proven_tick(store, point.last_read_ms, config.precision_ms, margin), now_ms / config.precision_ms);
    let mut scan = Scan::new(store, config, found.map(|_| &point));
    let mut end = scan.revise(&log, &mut wheel)?;
    let stale = wheel.is_none();
    if stale {
        let first = if from_tick > 0 { from_tick } else { now_tick };
        end = scan.end_before(&log, end, first.saturating_add(config.slots / 2))?;
    }
    let mut wheel = match wheel {
        Some(wheel) => wheel,
        // Before the timer log is cut: what speaks against the old wheel may go with that.
        None => Wheel::empty(disk, &root, config.slots)?,
    };
    let queue_offset = scan.queue_offset(end);
    if found.is_some_and(|found| found.last_timer_log_flush_pos > end) {
        // Before as well: a start after a crash must not take what is cut for what was lost.
        let point = TimerCheckPoint {
            last_timer_log_flush_pos: end,
            last_timer_queue_offset: queue_offset.min(point.last_timer_queue_offset),
            ..point
        };
        point.store(&proofs, &*store.disk, &store.config().root)?;
    }
    log.cut(end)?;
    let durable = if stale { log.min() } else { end.min(point.last_timer_log_flush_pos) };
    if stale {
        fill(&mut wheel, &log, config.precision_ms)?;
    }
    // A store without timer messages has nothing to recover.
    if end > 0 || queue_offset > 0 {
        tracing::info!(
            read_ms = from_tick * config.precision_ms,
            queue_offset,
            timer_log_end = end,
            wheel_made_again = stale,
            "the timer is recovered"
        );
    }
    let read_tick = first_tick(&mut wheel, from_tick, now_tick)?;
    let progress = Progress {
        read_ms: read_tick * config.precision_ms,
        queue_offset,
        master_queue_offset: found.map_or(queue_offset, |_| point.master_timer_queue_offset),
        version: point.version,
        proofs,
        ..Progress::default()
    };
    let mut work = at_rest(log, queue_offset, read_tick);
    (work.doubt_until_ms, work.doubt_log_end) = (now_ms, store.max_phys());
    work.counted_from = point.last_read_ms / config.precision_ms;
    Ok((work, wheel, progress, durable))
}

/// Nothing is open or under way.
fn at_rest(log: TimerLog, queue_offset: i64, read_tick: i64) -> Work {
    Work {
        log,
        queue_offset,
        write_ms: 0,
        read_tick,
        delivering: false,
        slot: None,
        late: Default::default(),
        late_offsets: Default::default(),
        late_log_end: 0,
        doubt_until_ms: 0,
        doubt_log_end: 0,
        gate: None,
        counted_from: 0,
        last_physical: None,
        blocked: false,
        ending: false,
    }
}

/// Files `timerwheel.<position>` and `timerwheel.<position>.tmp`, of Java 5.5 with `timerWheelSnapshotFlush=true`. Where
/// there is one, the file `timerwheel` is missing or old.
fn snapshots(disk: &dyn crate::disk::Disk, root: &std::path::Path) -> Result<Vec<std::path::PathBuf>, StoreError> {
    let entries = disk.list(root).at("list", root)?;
    let is_snapshot = |name: &str| {
        name.strip_prefix("timerwheel.").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    Ok(entries.into_iter().filter(|entry| is_snapshot(&entry.name)).map(|entry| root.join(entry.name)).collect())
}

/// Takes snapshots of the wheel away, once the wheel itself is durable: Java would load the newest of them.
pub(super) fn remove_snapshots(store: &Store) -> Result<(), StoreError> {
    let (disk, root) = (&*store.disk, &store.config().root);
    for path in snapshots(disk, root)? {
        disk.remove(&path).at("remove", &path)?;
    }
    Ok(())
}

/// The tick that delivery goes on from: not after the newest message of the log, for nothing can have been delivered
/// since, and some ticks before it.
pub(super) fn proven_tick(store: &Store, read_ms: i64, precision_ms: i64, margin: i64) -> i64 {
    let newest = store.newest_queued_time().unwrap_or(read_ms);
    if read_ms <= 0 { 0 } else { (read_ms.min(newest) / precision_ms - margin).max(1) }
}

/// A start that knows no time begins with the first slot in use, and without one now.
pub(super) fn first_tick(wheel: &mut Wheel, tick: i64, now_tick: i64) -> Result<i64, StoreError> {
    if tick > 0 {
        return Ok(tick);
    }
    Ok(wheel.earliest(0)?.unwrap_or(now_tick).min(now_tick))
}

struct Scan<'a> {
    store: &'a Store,
    precision_ms: i64,
    /// `None` when there is none.
    point: Option<&'a TimerCheckPoint>,
    /// In the commit log: units from here on are cut. It is where the message at the check point's queue offset lies, or
    /// the log's end.
    limit: i64,
    newest: Option<Unit>,
    /// It ended at a unit that is to be cut, and not where the timer log has none.
    reached_limit: bool,
}

impl<'a> Scan<'a> {
    fn new(store: &'a Store, config: &TimerConfig, point: Option<&'a TimerCheckPoint>) -> Self {
        // The queue may begin later by now.
        let (min, max) = (store.min_offset(topic::TIMER, 0), store.max_offset(topic::TIMER, 0));
        let open = point.and_then(|point| {
            (point.last_timer_queue_offset.max(min)..max).find_map(|next| store.queue_unit(topic::TIMER, 0, next))
        });
        let log_end = store.max_phys();
        Self {
            store,
            precision_ms: config.precision_ms,
            point,
            limit: open.map_or(log_end, |unit| unit.physical_offset.min(log_end)),
            newest: None,
            reached_limit: false,
        }
    }

    /// Where the check point says that the timer log is durable up to.
    fn flushed(&self) -> i64 {
        self.point.map_or(0, |point| point.last_timer_log_flush_pos)
    }

    /// Finds the end of the timer log and brings the wheel up to it. Takes a wheel away that does not fit.
    fn revise(&mut self, log: &TimerLog, wheel: &mut Option<Wheel>) -> Result<i64, StoreError> {
        let (min, files_end, flushed) = (log.min(), log.files_end(), self.flushed());
        let near = flushed.saturating_sub(log.segment_size()).clamp(min, (files_end - 1).max(min));
        let mut from = log.base_of(near);
        // Also back over what is cut, and over what the log has lost.
        while from > min && log.unit(from)?.is_none_or(|unit| unit.physical >= self.limit) {
            from -= log.segment_size();
        }
        let mut fits = wheel.is_some();
        let end = log.scan(from, files_end, |position, unit| {
            if unit.physical + i64::from(unit.size) > self.limit {
                self.reached_limit = true;
                return Ok(false);
            }
            if position >= flushed && !self.fits_its_record(unit) {
                return Ok(false);
            }
            self.newest = Some(*unit);
            if let Some(wheel) = wheel.as_mut().filter(|_| fits) {
                fits = self.revise_slot(wheel, log, position, unit)?;
            }
            Ok(true)
        })?;
        if !fits || wheel.as_ref().is_some_and(|wheel| wheel.last_found() >= end) {
            *wheel = None;
        }
        Ok(end)
    }

    /// A unit has no checksum: one that may be torn is compared with what it is of.
    fn fits_its_record(&self, unit: &Unit) -> bool {
        if unit.physical < self.store.min_phys() {
            // Its record has left the log. Where half of a unit names another record, the size is in the other half.
            return true;
        }
        let bytes = self.store.read_record(unit.physical).filter(|bytes| bytes.len() == unit.size as usize);
        let Some(message) = bytes.as_deref().and_then(TimerMessage::of) else { return false };
        let tick = |ms: i64| ms / self.precision_ms;
        java_hash(message.real_topic) == unit.topic_hash()
            && (unit.kind().roll || tick(unit.slot_ms()) == tick(message.out_ms))
    }

    /// Finds the end of the timer log before the first unit of a tick from this one on. Such units are of another precision, and
    /// in this wheel their places may be those of earlier ones: their messages are taken up again, and go round.
    fn end_before(&mut self, log: &TimerLog, end: i64, tick: i64) -> Result<i64, StoreError> {
        let mut newest = None;
        let cut = log.scan(log.min(), end, |_, unit| {
            let goes_on = unit.slot_ms() / self.precision_ms < tick;
            newest = if goes_on { Some(*unit) } else { newest };
            Ok(goes_on)
        })?;
        if cut < end {
            (self.newest, self.reached_limit) = (newest, false);
        }
        Ok(cut)
    }

    fn revise_slot(&self, wheel: &mut Wheel, log: &TimerLog, position: i64, unit: &Unit) -> Result<bool, StoreError> {
        let tick = unit.slot_ms() / self.precision_ms;
        let slot = match wheel.slot(tick)? {
            Some(slot) if slot.last >= position => return Ok(true),
            Some(slot) if slot.last == unit.previous => slot.with(position, unit.count()),
            // A round later its place is another time's, unless ticks were shorter when that was written.
            None if let Some(other) = wheel.holder(tick)?.filter(|other| other.tick > tick) => {
                return Ok(log.unit(other.last)?.is_some_and(|unit| unit.slot_ms() / self.precision_ms == other.tick));
            }
            None if unit.previous == -1 && position >= self.flushed() => Slot::begin(tick, position, unit.count()),
            _ => return Ok(false),
        };
        wheel.put(&slot)?;
        Ok(true)
    }

    /// Where the queue is read on: where the check point says, unless the timer log lost what that counts.
    fn queue_offset(&self, end: i64) -> i64 {
        let (min, max) = (self.store.min_offset(topic::TIMER, 0), self.store.max_offset(topic::TIMER, 0));
        let proven = self.point.map_or(max, |point| point.last_timer_queue_offset);
        if self.point.is_some() && (self.reached_limit || end >= self.flushed()) {
            return proven.clamp(min, max);
        }
        let record = self.newest.and_then(|unit| self.store.read_record(unit.physical));
        let after = record.as_deref().and_then(RecordView::layout).map(|record| record.queue_offset() + 1);
        let from = after.unwrap_or(min).min(proven).clamp(min, max);
        if from < max {
            tracing::warn!(
                from,
                to = max,
                timer_log_end = end,
                expected = self.flushed(),
                "the timer log has less than its check point says: its units are made again from the timer topic's queue; what is already delivered is looked up"
            );
        }
        from
    }
}

/// Puts all units into a wheel without slots, also those of times that are over: delivery may go back to them. Mends
/// chains that are broken.
fn fill(wheel: &mut Wheel, log: &TimerLog, precision_ms: i64) -> Result<(), StoreError> {
    if log.end() > log.min() {
        tracing::warn!(
            from = log.min(),
            to = log.end(),
            "the timer wheel does not fit the timer log: it is made again"
        );
    }
    log.scan(log.min(), log.end(), |position, unit| {
        let tick = unit.slot_ms() / precision_ms;
        if wheel.holder(tick)?.is_some_and(|other| other.tick > tick) {
            return Ok(true);
        }
        let slot = wheel.slot(tick)?;
        let previous = slot.map_or(-1, |slot| slot.last);
        if previous != unit.previous {
            log.link(position, previous)?;
        }
        let count = unit.count();
        wheel.put(&slot.map_or_else(|| Slot::begin(tick, position, count), |slot| slot.with(position, count)))?;
        Ok(true)
    })?;
    Ok(())
}
