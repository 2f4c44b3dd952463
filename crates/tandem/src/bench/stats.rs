//! What connections count, and what the others read of it while they run.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU8, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use hdrhistogram::Histogram;

/// The longest time that is told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(120);

/// Counts since they were taken last.
#[derive(Clone)]
pub(super) struct Counts {
    /// Nanoseconds, exact to a thousandth.
    pub latency: Histogram<u64>,
    pub messages: u64,
    pub bytes: u64,
    /// By response code, with the first remark.
    pub refusals: BTreeMap<i32, (u64, String)>,
}

impl Counts {
    pub fn new() -> Result<Self> {
        let latency = Histogram::new_with_bounds(1_000, LONGEST.as_nanos() as u64, 3)?;
        Ok(Self { latency, messages: 0, bytes: 0, refusals: BTreeMap::new() })
    }

    /// One answer.
    pub fn answered(&mut self, after: Duration, messages: u64, bytes: u64) {
        self.latency.saturating_record(after.as_nanos() as u64);
        self.messages += messages;
        self.bytes += bytes;
    }

    /// One refusal; `remark` is asked for the first of its code.
    pub fn refused(&mut self, code: i32, remark: impl FnOnce() -> String) {
        self.refusals.entry(code).or_insert_with(|| (0, remark())).0 += 1;
    }

    /// Adds all of `other`.
    pub fn absorb(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.latency.add(&other.latency);
        self.messages += other.messages;
        self.bytes += other.bytes;
        for (code, (count, remark)) in &other.refusals {
            self.refusals.entry(*code).or_insert_with(|| (0, remark.clone())).0 += count;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.latency.reset();
        (self.messages, self.bytes) = (0, 0);
        self.refusals.clear();
    }
}

/// Where a round stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Load that does not count.
    Warm = 0,
    /// What counts.
    Measure = 1,
    /// No further request.
    Stop = 2,
}

/// What the tasks of a round share.
pub(super) struct Shared {
    phase: AtomicU8,
    /// Messages that may still be asked for, when their number is limited.
    budget: AtomicI64,
    counts: Vec<Mutex<Counts>>,
}

impl Shared {
    pub fn new(connections: usize) -> Result<Self> {
        let counts = (0..connections).map(|_| Ok(Mutex::new(Counts::new()?))).collect::<Result<_>>()?;
        Ok(Self { phase: AtomicU8::new(Phase::Warm as u8), budget: AtomicI64::new(i64::MAX), counts })
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Warm,
            1 => Phase::Measure,
            _ => Phase::Stop,
        }
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// From now on only `messages` more.
    pub fn limit(&self, messages: u64) {
        self.budget.store(i64::try_from(messages).unwrap_or(i64::MAX), Ordering::Release);
    }

    /// Takes `messages` of the budget before they are asked for; false when none is left.
    pub fn spend(&self, messages: u64) -> bool {
        self.phase() == Phase::Warm || self.budget.fetch_sub(messages as i64, Ordering::AcqRel) > 0
    }

    /// True while further requests are wanted.
    pub fn goes_on(&self) -> bool {
        self.phase() != Phase::Stop && self.budget.load(Ordering::Acquire) > 0
    }

    /// The counts of one connection.
    pub fn counts(&self, connection: usize) -> MutexGuard<'_, Counts> {
        self.counts[connection].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes everything counted since the last time.
    pub fn take(&self, into: &mut Counts) {
        into.clear();
        for connection in 0..self.counts.len() {
            let mut counts = self.counts(connection);
            into.absorb(&counts);
            counts.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_taken_once() {
        let shared = Shared::new(2).unwrap();
        shared.counts(0).answered(Duration::from_millis(1), 1, 10);
        shared.counts(1).answered(Duration::from_millis(3), 2, 20);
        shared.counts(1).refused(2, || "busy".to_owned());
        shared.counts(1).refused(2, || "busy again".to_owned());
        let mut taken = Counts::new().unwrap();
        shared.take(&mut taken);
        assert_eq!((taken.messages, taken.bytes, taken.latency.len()), (3, 30, 2));
        assert_eq!(taken.refusals[&2], (2, "busy".to_owned()));
        shared.take(&mut taken);
        assert_eq!((taken.messages, taken.latency.len(), taken.refusals.len()), (0, 0, 0));
    }

    #[test]
    fn a_budget_is_spent_only_while_measuring() {
        let shared = Shared::new(1).unwrap();
        assert!(shared.spend(1000));
        shared.limit(2);
        shared.enter(Phase::Measure);
        assert!(shared.spend(1) && shared.spend(1) && !shared.spend(1));
        assert!(!shared.goes_on());
    }
}
