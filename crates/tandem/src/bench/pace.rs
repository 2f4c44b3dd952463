//! Rings for connections of an open loop when their next request is due. A thread of its own: tokio's timers are a
//! millisecond coarse.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// Requests that are due within this time are sent together.
const TICK: Duration = Duration::from_micros(250);

/// The longest sleep: an alarm that is set meanwhile is at most this late.
const NAP: Duration = Duration::from_millis(1);

const NEVER: u64 = u64::MAX;

/// When one connection wants to be woken.
pub(super) struct Alarm {
    pub bell: Notify,
    /// Nanoseconds after the pacer's start.
    due: AtomicU64,
    start: Instant,
}

impl Alarm {
    pub fn new(start: Instant) -> Arc<Self> {
        Arc::new(Self { bell: Notify::new(), due: AtomicU64::new(NEVER), start })
    }

    /// Rings once at `at`, or a little later.
    pub fn set(&self, at: Instant) {
        self.due.store(at.duration_since(self.start).as_nanos() as u64, Ordering::Release);
    }

    fn ring_if_due(&self, now: u64) {
        let due = self.due.load(Ordering::Acquire);
        if due <= now && self.due.compare_exchange(due, NEVER, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.bell.notify_one();
        }
    }
}

/// Rings for `alarms` until it is dropped.
pub(super) struct Pacer {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Pacer {
    pub fn start(start: Instant, alarms: Vec<Arc<Alarm>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let now = start.elapsed().as_nanos() as u64;
                alarms.iter().for_each(|alarm| alarm.ring_if_due(now));
                thread::sleep(pause(&alarms, now));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

fn pause(alarms: &[Arc<Alarm>], now: u64) -> Duration {
    let next = alarms.iter().map(|alarm| alarm.due.load(Ordering::Acquire)).min().unwrap_or(NEVER);
    if next == NEVER { TICK } else { Duration::from_nanos(next.saturating_sub(now)).clamp(TICK, NAP) }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within a nap; a panic there has been printed.
            let _ = thread.join();
        }
    }
}
