//! Builds the views from what was appended. Any thread may call; one works at a time and nobody waits for it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use parking_lot::{Mutex, MutexGuard};
use wire::record::Verify;

use crate::{
    build::{Arrival, Builder, Last},
    error::StoreError,
    log::Log,
    mark::Mark,
    queues::TOGETHER,
    store::Store,
    walk::{Stop, walk},
};

/// Bytes of the log that are built at once.
const CHUNK: usize = 1 << 20;
/// Times that one who kept dispatch out makes up for it. Who is asked for it more often meets so many senders that they see to
/// it themselves.
const MOST_ROUNDS: usize = 8;

/// Called with the messages that have become readable, in log order.
pub type ArrivalListener = Box<dyn Fn(&[Arrival]) + Send + Sync>;

/// Who dispatches, and what it reuses.
#[derive(Default)]
pub(crate) struct Dispatcher {
    wanted: AtomicBool,
    state: Mutex<DispatchState>,
    /// Who waits to keep dispatch out.
    waiting: AtomicUsize,
    newest: Mutex<Newest>,
}

/// The newest records that are known. Who asks for them waits for no dispatch.
#[derive(Default)]
struct Newest {
    /// The last record whose views were written.
    last: Option<Last>,
    /// Where the last record began that a start found. That it was read proves nothing of its views.
    found: Option<i64>,
}

/// Held by the one who dispatches.
#[derive(Default)]
pub(crate) struct DispatchState {
    builder: Builder,
    buf: Vec<u8>,
    /// Where it cannot go on, to say it once.
    stuck_at: Option<i64>,
}

impl Dispatcher {
    /// The log was cut: what was built last may be gone.
    pub(crate) fn forget_last(&self, state: &mut DispatchState) {
        *self.newest.lock() = Newest::default();
        state.builder.last = None;
        state.stuck_at = None;
    }

    /// Keeps dispatch out while queues are changed otherwise. Call [`Store::make_up_dispatch`] after
    /// dropping it.
    pub(crate) fn pause(&self) -> MutexGuard<'_, DispatchState> {
        self.waiting.fetch_add(1, SeqCst);
        let state = self.state.lock();
        self.waiting.fetch_sub(1, SeqCst);
        state
    }

    /// With more senders than one thread can build for dispatch has no end: it is left to those who wait to keep it out, and who go
    /// on with it afterwards.
    fn leave(&self, state: MutexGuard<'_, DispatchState>) {
        self.wanted.store(true, SeqCst);
        MutexGuard::unlock_fair(state);
    }

    /// Recovery has read the record at `start`, and those before it.
    pub(crate) fn found(&self, start: i64) {
        self.newest.lock().found = Some(start);
    }

    /// Where the newest record begins that is known: few follow it, as a rule none.
    pub(crate) fn newest(&self) -> Option<i64> {
        let newest = self.newest.lock();
        newest.last.map(|last| last.start).or(newest.found)
    }

    /// The last record that was built, and a mark that is not behind it. The views of both are written.
    pub(crate) fn progress(&self, dispatched: &Mark) -> (Option<Last>, i64) {
        let dispatched = dispatched.get();
        (self.newest.lock().last, dispatched)
    }
}

/// Reads on from `offset` up to `limit` into the first bytes of `buf`, at most `most` bytes; returns how many. What `buf` has
/// beyond them is from before: to fill it with zeros each time costs as much as to read.
pub(crate) fn read_chunk(
    log: &Log,
    offset: i64,
    limit: i64,
    most: usize,
    buf: &mut Vec<u8>,
) -> Result<usize, StoreError> {
    let wanted = (limit - offset).clamp(0, most as i64) as usize;
    if buf.len() < wanted {
        buf.resize(wanted, 0);
    }
    Ok(log.read(offset, &mut buf[..wanted])?.unwrap_or(0))
}

impl Store {
    /// Builds queues and index from the `dispatched` mark on, to the end of the log, or to `flushed` with SYNC_FLUSH.
    /// Returns how many records it took. When another thread is at it, that one goes on and this call returns 0.
    pub fn dispatch(&self) -> usize {
        self.dispatcher.wanted.store(true, SeqCst);
        let mut total = 0;
        'free: while self.dispatcher.wanted.load(SeqCst) {
            let Some(mut state) = self.dispatcher.state.try_lock() else { break };
            while self.dispatcher.wanted.swap(false, SeqCst) {
                let (records, is_over) = self.dispatch_to(&mut state, i64::MAX);
                total += records;
                if !is_over {
                    self.dispatcher.leave(state);
                    continue 'free;
                }
            }
        }
        total
    }

    /// The same, to the end: waits for another thread that is at it.
    pub(crate) fn dispatch_rest(&self) {
        loop {
            let mut state = self.dispatcher.pause();
            if self.dispatch_to(&mut state, i64::MAX).1 {
                return;
            }
            self.dispatcher.leave(state);
        }
    }

    /// True while a thread dispatches, or dispatch is kept out.
    pub fn is_dispatching(&self) -> bool {
        self.dispatcher.state.is_locked()
    }

    /// Builds what is there now, after the log or its queues were changed otherwise. Others may go on for longer.
    pub(crate) fn dispatch_present(&self) {
        self.dispatcher.wanted.store(true, SeqCst);
        self.make_up_dispatch();
    }

    /// Does what was asked for while dispatch was kept out.
    pub(crate) fn make_up_dispatch(&self) {
        for _ in 0..MOST_ROUNDS {
            if !self.dispatcher.wanted.load(SeqCst) {
                return;
            }
            let Some(mut state) = self.dispatcher.state.try_lock() else { return };
            self.dispatcher.wanted.store(false, SeqCst);
            if !self.dispatch_to(&mut state, self.dispatch_limit()).1 {
                return self.dispatcher.leave(state);
            }
        }
    }

    /// Builds up to `until`, or as far as can be now; says how many records that was, and false if it has to be left before.
    fn dispatch_to(&self, state: &mut DispatchState, until: i64) -> (usize, bool) {
        let mut total = 0;
        loop {
            let from = self.marks.dispatched.get();
            let limit = self.dispatch_limit();
            if from >= limit.min(until) || self.failed().is_some() {
                return (total, true);
            }
            match self.dispatch_chunk(state, from, limit) {
                Ok(0) => return (total, true),
                Ok(records) => total += records,
                Err(error) => {
                    self.dispatch_failed(state, from, error);
                    return (total, true);
                }
            }
            if self.dispatcher.waiting.load(SeqCst) > 0 {
                return (total, false);
            }
        }
    }

    /// Where dispatch ends now: everything that was acknowledged lies before.
    pub fn dispatch_limit(&self) -> i64 {
        let appended = self.marks.appended.get();
        if self.sync_flush.load(SeqCst) { appended.min(self.marks.flushed.get()) } else { appended }
    }

    /// One chunk; returns the records taken, counting a step to the next segment as one, or 0 when it cannot go on.
    fn dispatch_chunk(&self, state: &mut DispatchState, from: i64, limit: i64) -> Result<usize, StoreError> {
        let mut at_least = 0;
        let (at, records, stop, read) = loop {
            let read = read_chunk(&self.log, from, limit, CHUNK.max(at_least), &mut state.buf)?;
            if read == 0 {
                return Ok(0);
            }
            let (at, records, stop) = self.build_chunk(state, from, read)?;
            match stop {
                Stop::Short(needed) if records == 0 && needed > read && needed > at_least => at_least = needed,
                stop => break (at, records, stop, read),
            }
        };
        state.builder.commit(&self.views())?;
        if let Some(last) = state.builder.last {
            self.dispatcher.newest.lock().last = Some(last);
        }
        let (next, stepped) = match stop {
            Stop::Blank if self.log.next_base(at) <= limit => (self.log.next_base(at), 1),
            Stop::Short(needed)
                if at + needed as i64 > self.log.next_base(at)
                    && says_its_size(from + read as i64 - at, self.log.next_base(at) - at) =>
            {
                self.report_stuck(state, at, "a record would reach beyond its segment");
                (at, 0)
            }
            Stop::Blank | Stop::Short(_) => (at, 0),
            Stop::Invalid(reason) => {
                self.report_stuck(state, at, &reason);
                (at, 0)
            }
        };
        self.marks.dispatched.advance(next);
        self.announce(&mut state.builder.arrivals);
        Ok(records + stepped)
    }

    fn build_chunk(&self, state: &mut DispatchState, from: i64, read: usize) -> Result<(i64, usize, Stop), StoreError> {
        let (views, builder) = (self.views(), &mut state.builder);
        let (mut records, mut result) = (0, Ok(()));
        let mut together = Vec::with_capacity(TOGETHER);
        builder.arrivals.clear();
        let (at, stop) = walk(&state.buf[..read], from, Verify::Layout, |record| {
            together.push(*record);
            records += 1;
            if together.len() == TOGETHER {
                if result.is_ok() {
                    result = builder.add_together(&views, &together);
                }
                together.clear();
            }
        });
        result?;
        builder.add_together(&views, &together)?;
        Ok((at, records, stop))
    }

    fn announce(&self, arrivals: &mut Vec<Arrival>) {
        if !arrivals.is_empty()
            && let Some(listener) = &*self.listener.read()
        {
            listener(arrivals);
        }
        arrivals.clear();
    }

    fn report_stuck(&self, state: &mut DispatchState, at: i64, reason: &str) {
        if state.stuck_at.replace(at) != Some(at) {
            tracing::error!(
                offset = at,
                reason,
                end = self.marks.appended.get(),
                "no record here: messages from here on are not readable; compare the log with another replica and truncate it here"
            );
        }
    }

    /// Without space it is tried again with the next call; anything else is final.
    fn dispatch_failed(&self, state: &mut DispatchState, from: i64, error: StoreError) {
        state.builder.forget_units();
        state.builder.arrivals.clear();
        if !error.is_disk_full() {
            self.fail(&error);
        } else if state.stuck_at.replace(from) != Some(from) {
            tracing::error!(offset = from, %error, "no space to build queues: new messages are not readable until space is freed; then it goes on by itself");
        }
    }

    /// Sets who is told of new messages; the former one is not called any more. It runs within [`Store::dispatch`]: it
    /// may read, append and dispatch, but not truncate, delete topics or close.
    pub fn set_arrival_listener(&self, listener: ArrivalListener) {
        *self.listener.write() = Some(listener);
    }
}

/// Whether what was read of a record tells its size: `rest` bytes of it, `room` bytes before the end of its segment. Less
/// is what a log ends with before the next record or blank record is there, however near the end of the segment.
const fn says_its_size(rest: i64, room: i64) -> bool {
    rest >= 8 || rest == room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_log_near_the_end_of_a_segment_is_no_record_that_reaches_beyond() {
        assert!(!says_its_size(0, 14) && !says_its_size(7, 14));
        assert!(says_its_size(8, 14) && says_its_size(4, 4));
    }
}
