//! From the timer topic's queue into the timer log and the wheel. Source: `TimerMessageStore.java` (enqueue, doEnqueue).

use bytes::Bytes;
use wire::{hash::java_hash, topic};

use super::{
    Timer, TopicCount, Work,
    log::{Unit, UnitKind},
    message::{NEVER_ENQUEUED, TimerMessage},
    slot::{Gone, Waiting},
    wheel::Slot,
};
use crate::{error::StoreError, queue, store::Store};

use std::sync::atomic::Ordering::SeqCst;

impl Timer {
    /// Takes up to `max` messages of the queue into the wheel; answers how many there were. A timer that does not
    /// deliver stops where its master is. `count` is told of each message that waits from now on, or was taken back. With
    /// `max` 0 the operator has stopped it, and delivery waits for nothing that is not taken up.
    ///
    /// # Errors
    /// The timer log or the wheel cannot be written or read: nothing is lost, the next call goes on there. Anything but
    /// lack of space ends the store.
    pub fn enqueue(&self, store: &Store, max: usize, count: TopicCount<'_>) -> Result<usize, StoreError> {
        let mut work = self.work.lock();
        let result = self.take_all(store, &mut work, max, count);
        match &result {
            Ok(0) => {}
            Err(error) if !error.is_disk_full() => store.fail(error),
            _ => self.note_progress(&work, store),
        }
        result
    }

    fn take_all(&self, store: &Store, work: &mut Work, max: usize, count: TopicCount<'_>) -> Result<usize, StoreError> {
        let min = store.min_offset(topic::TIMER, 0);
        if work.queue_offset < min {
            say_skipped(work.delivering, work.queue_offset, min);
            work.queue_offset = min;
        }
        let mut end = store.max_offset(topic::TIMER, 0);
        if !work.delivering {
            end = end.min(self.progress.lock().master_queue_offset);
        }
        let precision_ms = self.config.precision_ms;
        work.write_ms = work.write_ms.max(self.clock.now_ms() / precision_ms * precision_ms);
        let mut taken = 0;
        work.blocked = max == 0;
        let reader = Gone::new(&self.patience, self.clock.now_ms());
        while taken < max && work.queue_offset < end {
            let read = reader.readable(waiting_at(store, work.queue_offset), work.queue_offset);
            // What cannot be read now comes later, and with it what is behind it.
            let found = match store.told(read) {
                Some(found) => found.flatten(),
                None => break,
            };
            if let Some((unit, bytes)) = found
                && !self.take(store, work, &unit, bytes.as_deref(), count)?
            {
                work.blocked = true;
                break;
            }
            work.queue_offset += 1;
            taken += 1;
        }
        Ok(taken)
    }

    /// False when the wheel has no room for it yet.
    fn take(
        &self,
        store: &Store,
        work: &mut Work,
        unit: &queue::Unit,
        bytes: Option<&[u8]>,
        count: TopicCount<'_>,
    ) -> Result<bool, StoreError> {
        let Some(bytes) = bytes else {
            tracing::warn!(physical = unit.physical_offset, "a timer message is gone from the log");
            return Ok(true);
        };
        let Some(message) = TimerMessage::of(bytes) else {
            self.set_aside.fetch_add(1, SeqCst);
            tracing::error!(
                physical = unit.physical_offset,
                queue_offset = work.queue_offset,
                "a message in the timer topic names no time or no topic: it is passed over and stays there"
            );
            return Ok(true);
        };
        if work.delivering && message.out_ms / self.config.precision_ms < work.read_tick {
            if work.late.len() >= self.config.in_memory {
                return Ok(false);
            }
            // Its time is over: whoever took it back in time is in the log by now.
            work.late_log_end = store.max_phys();
            work.add_late(&message, unit, self.config.precision_ms);
            return Ok(true);
        }
        let placed = self.place(work, &message, unit);
        let tick = placed.slot_ms() / self.config.precision_ms;
        let holder = self.wheel.lock().holder(tick)?;
        if tick >= work.read_tick + self.config.slots
            || holder.is_some_and(|other| other.tick != tick && other.tick >= work.read_tick)
        {
            return Ok(false);
        }
        self.append(work, placed, &message)?;
        if tick >= work.counted_from {
            count(message.real_topic, i64::from(placed.count()));
        }
        self.enqueued.fetch_add(1, SeqCst);
        Ok(true)
    }

    /// The slot of its time; beyond the window, one where it goes round.
    fn place(&self, work: &Work, message: &TimerMessage<'_>, unit: &queue::Unit) -> Unit {
        let (precision_ms, window) = (self.config.precision_ms, self.config.roll_window_slots);
        let beyond = message.out_ms - work.write_ms - window * precision_ms;
        let mut slot_ms = message.out_ms / precision_ms * precision_ms;
        if beyond >= 0 {
            // Near its time it gets a shorter round, so that enough is left for the last one.
            let ticks = if beyond < window / 3 * precision_ms { window / 2 } else { window };
            // A slave must not send it round before its master has done so.
            let margin = if work.delivering { 0 } else { (window / 6).min(60) };
            slot_ms = work.write_ms + (ticks + margin) * precision_ms;
        }
        let kind = UnitKind { roll: beyond >= 0, delete: message.takes_back().is_some() };
        Unit::new(slot_ms, work.write_ms, kind, unit.physical_offset, unit.size, java_hash(message.real_topic))
    }

    fn append(&self, work: &mut Work, mut unit: Unit, message: &TimerMessage<'_>) -> Result<(), StoreError> {
        let mut wheel = self.wheel.lock();
        let tick = unit.slot_ms() / self.config.precision_ms;
        let slot = wheel.slot(tick)?;
        unit.previous = slot.map_or(-1, |slot| slot.last);
        let position = work.log.append(&unit)?;
        let count = unit.count();
        wheel.put(&slot.map_or_else(|| Slot::begin(tick, position, count), |slot| slot.with(position, count)))?;
        drop(wheel);
        if let Some(open) = work.slot.as_mut().filter(|open| open.tick == tick) {
            open.add(position, &unit, message);
        }
        Ok(())
    }
}

impl Work {
    fn add_late(&mut self, message: &TimerMessage<'_>, unit: &queue::Unit, precision_ms: i64) {
        self.late_offsets.insert(self.queue_offset);
        let waiting = Waiting {
            due_ms: message.due_ms(precision_ms),
            physical: unit.physical_offset,
            size: unit.size,
            roll: false,
            enqueue_ms: NEVER_ENQUEUED,
            late_offset: Some(self.queue_offset),
        };
        self.late.push(waiting);
    }
}

/// A unit of the timer topic's queue, and its record if the log has it.
fn waiting_at(store: &Store, queue_offset: i64) -> Result<Option<(queue::Unit, Option<Bytes>)>, StoreError> {
    let Some(queue) = store.queues.get(topic::TIMER, 0) else { return Ok(None) };
    let Some(unit) = queue.unit_of(queue_offset)?.filter(|unit| !unit.is_filler()) else { return Ok(None) };
    Ok(Some((unit, store.try_read_record(unit.physical_offset)?)))
}

/// Messages of the timer topic went with old segments, or this log never had them.
fn say_skipped(delivering: bool, from: i64, to: i64) {
    match delivering {
        true => tracing::warn!(
            from,
            to,
            "timer messages left the log before they were taken up: they are lost; keep more of the log (fileReservedTime)"
        ),
        false => tracing::info!(
            from,
            to,
            "this log begins after some timer messages: the master delivers those that still wait, this slave could not"
        ),
    }
}
