//! When space will end, from how fast the log grew lately. Pure: times and sizes are handed in, no disk is looked at.
//! It foresees the log's own growth only: not what queues or other programs write, and no change of the load.

use std::collections::VecDeque;

/// Growth is taken over this time.
const WINDOW_MS: i64 = 3_600_000;
/// A size is kept this often.
const STEP_MS: i64 = 60_000;
/// Less than this tells nothing of a rate.
const LEAST_MS: i64 = 300_000;

/// Bytes of the log at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    at_ms: i64,
    bytes: i64,
}

/// Sizes of the log over the last hour.
#[derive(Debug, Default)]
pub struct Forecast {
    samples: VecDeque<Sample>,
}

impl Forecast {
    /// Takes in how many bytes the log holds (its maximum minus its minimum offset) at a time in ms. A clock that goes
    /// back begins anew.
    pub fn note(&mut self, at_ms: i64, bytes: i64) {
        if self.samples.back().is_some_and(|last| at_ms < last.at_ms) {
            self.samples.clear();
        }
        if self.samples.back().is_none_or(|last| at_ms - last.at_ms >= STEP_MS) {
            self.samples.push_back(Sample { at_ms, bytes });
        }
        while self.samples.front().is_some_and(|first| at_ms - first.at_ms > WINDOW_MS) {
            self.samples.pop_front();
        }
    }

    /// Hours until `room` more bytes are used; `None` while too little is known, or the log does not grow: as long as
    /// retention takes what comes, nothing fills up.
    pub fn hours_until_full(&self, room: u64) -> Option<f64> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        hours_until_full(last.at_ms - first.at_ms, last.bytes - first.bytes, room)
    }
}

fn hours_until_full(window_ms: i64, growth: i64, room: u64) -> Option<f64> {
    if window_ms < LEAST_MS || growth <= 0 {
        return None;
    }
    Some(room as f64 / growth as f64 * window_ms as f64 / 3_600_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    /// A log that grows so many bytes each minute.
    fn after(minutes: std::ops::RangeInclusive<i64>, growth: i64) -> Forecast {
        let mut forecast = Forecast::default();
        minutes.for_each(|minute| forecast.note(minute * MINUTE, minute * growth));
        forecast
    }

    #[test]
    fn room_by_rate() {
        assert_eq!(hours_until_full(3_600_000, 100, 250), Some(2.5));
        assert_eq!(hours_until_full(1_800_000, 100, 250), Some(1.25));
        assert_eq!(hours_until_full(3_600_000, 100, 0), Some(0.0));
        assert_eq!(after(0..=10, 100).hours_until_full(60 * 100), Some(1.0));
    }

    #[test]
    fn nothing_is_foretold_of_too_short_a_time_or_a_log_that_does_not_grow() {
        assert_eq!(Forecast::default().hours_until_full(1), None);
        assert_eq!(after(0..=4, 100).hours_until_full(1), None);
        assert!(after(0..=5, 100).hours_until_full(1).is_some());
        assert_eq!(after(0..=10, 0).hours_until_full(1), None);
        assert_eq!(after(0..=10, -100).hours_until_full(1), None, "retention took more than came");
    }

    #[test]
    fn only_the_last_hour_counts_and_little_is_kept() {
        let mut forecast = after(0..=600, 1000);
        let full = 600 * 1000;
        (601..=660).for_each(|minute| forecast.note(minute * MINUTE, full + (minute - 600) * 10));
        assert_eq!(forecast.hours_until_full(600), Some(1.0));
        (0..5000).for_each(|second| forecast.note(660 * MINUTE + second * 1000, full));
        assert!(forecast.samples.len() <= 61, "{}", forecast.samples.len());
    }

    #[test]
    fn a_clock_that_goes_back_begins_anew() {
        let mut forecast = after(100..=110, 100);
        forecast.note(5 * MINUTE, 50_000);
        assert_eq!(forecast.hours_until_full(1), None);
        forecast.note(10 * MINUTE, 50_500);
        assert_eq!(forecast.hours_until_full(6000), Some(1.0));
    }
}
