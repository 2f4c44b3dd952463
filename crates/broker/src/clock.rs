//! The clock that stores a message and measures its delay: the wall clock, except that it never runs back.
//!
//! Offsets by time need store times that do not fall along a queue, and a delay must last as long as it says. So when
//! the wall clock is behind (a step back, or a promotion on a machine whose clock is slower, F-21), this one goes on at
//! its own pace from the last time it knows, until the wall clock has caught up. Durations and expiry are no matter of
//! this clock.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::context::now_ms;

/// A wall clock that is further behind than this was not stepped: what it said before was wrong, and it is followed.
const MOST_AHEAD_MS: i64 = 24 * 3_600_000;

/// What the clocks of this host's time zone show at `ms` after the epoch: [`store::LocalTime`].
pub fn local_time(ms: i64) -> i64 {
    let Ok(time) = jiff::Timestamp::from_millisecond(ms) else { return ms };
    ms + i64::from(jiff::tz::TimeZone::system().to_offset(time).seconds()) * 1000
}

/// `ms` after the epoch as Java writes it for people: `2026-01-31 23:59:59,999`, in the time zone of this host.
/// Source: `UtilAll.java` (timeMillisToHumanString2).
pub fn date(ms: i64) -> String {
    let Ok(time) = jiff::Timestamp::from_millisecond(ms) else { return ms.to_string() };
    time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S,%3f").to_string()
}

/// Milliseconds since the epoch that never fall.
pub struct StoreClock {
    anchor: Mutex<(i64, Instant)>,
    step_ms: AtomicI64,
}

impl Default for StoreClock {
    fn default() -> Self {
        Self { anchor: Mutex::new((i64::MIN, Instant::now())), step_ms: AtomicI64::new(0) }
    }
}

impl StoreClock {
    /// The time for a message that is stored now.
    pub fn now_ms(&self) -> i64 {
        let wall = now_ms() + self.step_ms.load(Relaxed);
        let mut anchor = self.anchor.lock();
        let (at, since) = *anchor;
        let run = at.saturating_add(since.elapsed().as_millis() as i64);
        if run > wall && run - wall <= MOST_AHEAD_MS {
            return run;
        }
        if run > wall && at != i64::MIN {
            tracing::warn!("the clock is {} s behind the last store time: store times go back", (run - wall) / 1000);
        }
        *anchor = (wall, Instant::now());
        wall
    }

    /// Nothing is stored before `time_ms`: a record that this broker took over has that store time.
    pub fn not_before(&self, time_ms: i64) {
        if time_ms > self.now_ms() {
            *self.anchor.lock() = (time_ms, Instant::now());
        }
    }

    /// Begins anew over a wall clock that differs by so much, as on another machine. For tests.
    pub fn begin(&self, by_ms: i64) {
        self.step_ms.store(by_ms, Relaxed);
        *self.anchor.lock() = Self::default().anchor.into_inner();
    }

    /// Steps the wall clock under this clock. For tests.
    pub fn step(&self, by_ms: i64) {
        self.step_ms.fetch_add(by_ms, Relaxed);
    }
}

impl store::Clock for StoreClock {
    fn now_ms(&self) -> i64 {
        Self::now_ms(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_falls_and_follows_the_wall_clock_when_that_is_ahead() {
        let clock = StoreClock::default();
        let first = clock.now_ms();
        clock.step(-5_000);
        let second = clock.now_ms();
        assert!(second >= first && second < first + 4_000, "{first} {second}");
        clock.step(60_000);
        assert!(clock.now_ms() >= first + 55_000);
        clock.not_before(first + 90_000);
        assert!(clock.now_ms() >= first + 90_000);
    }

    #[test]
    fn another_machines_clock_may_be_behind() {
        let clock = StoreClock::default();
        let here = clock.now_ms();
        clock.begin(-60_000);
        assert!(clock.now_ms() < here - 30_000);
        clock.not_before(here);
        assert!(clock.now_ms() >= here);
    }

    #[test]
    fn a_clock_that_was_wrong_by_days_is_followed_back() {
        let clock = StoreClock::default();
        clock.step(3 * MOST_AHEAD_MS);
        let wrong = clock.now_ms();
        clock.step(-3 * MOST_AHEAD_MS);
        assert!(clock.now_ms() < wrong - 2 * MOST_AHEAD_MS);
        clock.not_before(wrong);
        assert!(clock.now_ms() < wrong - 2 * MOST_AHEAD_MS, "a record from the future moves nothing");
    }
}
