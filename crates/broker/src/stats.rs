//! Counters of what the broker did, and their rates over 10 s, 1 min and 10 min.
//! Source of the figures: `store/.../StoreStatsService.java`; reference operations 6. Decides nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::{AtomicI64, Ordering::Relaxed},
};

use parking_lot::Mutex;

/// Seconds between two samples.
pub const SAMPLE_SECONDS: u64 = 1;
const KEPT: usize = 601;

/// Kind of a named count, and what it counts.
type Name = (&'static str, String);

/// Counters since start.
#[derive(Default)]
pub struct Stats {
    /// Messages stored.
    pub put: AtomicI64,
    /// Sends that failed.
    pub put_failed: AtomicI64,
    /// Bytes of records stored.
    pub put_bytes: AtomicI64,
    /// Pulls that found messages.
    pub get_found: AtomicI64,
    /// Pulls that found none.
    pub get_missed: AtomicI64,
    /// Messages handed to consumers.
    pub transferred: AtomicI64,
    samples: Mutex<VecDeque<[i64; 4]>>,
    days: Mutex<Days>,
    keyed: Mutex<HashMap<Name, VecDeque<[i64; 2]>>>,
    totals: Mutex<HashMap<Name, [i64; 2]>>,
}

#[derive(Default, Clone, Copy)]
struct Days {
    day: i64,
    put_yesterday: i64,
    put_today: i64,
    get_yesterday: i64,
    get_today: i64,
}

/// Which rate.
#[derive(Clone, Copy)]
pub enum Rate {
    /// Messages stored.
    Put = 0,
    /// Pulls that found messages.
    Found = 1,
    /// Pulls that found none.
    Missed = 2,
    /// Messages handed out.
    Transferred = 3,
}

/// Counts at midnight: yesterday's and today's, then now.
pub struct DayCounts {
    /// Messages stored.
    pub put: [i64; 3],
    /// Messages handed out.
    pub get: [i64; 3],
}

impl Stats {
    fn now(&self) -> [i64; 4] {
        [&self.put, &self.get_found, &self.get_missed, &self.transferred].map(|counter| counter.load(Relaxed))
    }

    /// Takes a sample; call once a second.
    pub fn sample(&self, now_ms: i64) {
        let now = self.now();
        let mut samples = self.samples.lock();
        samples.push_back(now);
        if samples.len() > KEPT {
            samples.pop_front();
        }
        drop(samples);
        self.sample_keyed();
        let mut days = self.days.lock();
        let day = now_ms / 86_400_000;
        if days.day != day {
            let put_yesterday = if days.day == 0 { now[0] } else { days.put_today };
            let get_yesterday = if days.day == 0 { now[3] } else { days.get_today };
            *days = Days { day, put_yesterday, put_today: now[0], get_yesterday, get_today: now[3] };
        }
    }

    fn sample_keyed(&self) {
        let totals = self.totals.lock();
        let mut keyed = self.keyed.lock();
        for (key, total) in totals.iter() {
            let samples = keyed.entry(key.clone()).or_default();
            samples.push_back(*total);
            if samples.len() > 61 {
                samples.pop_front();
            }
        }
    }

    /// Counts `count` messages under a name that `mqadmin` knows, like `TOPIC_PUT_NUMS`.
    pub fn add(&self, name: &'static str, key: &str, count: i64) {
        let mut totals = self.totals.lock();
        let total = match totals.get_mut(&(name, key.to_owned())) {
            Some(total) => total,
            None => totals.entry((name, key.to_owned())).or_default(),
        };
        total[0] += count;
        total[1] += 1;
    }

    /// Sum, rate a second and average of the last minute of a named count.
    pub fn minute(&self, name: &str, key: &str) -> Option<(i64, f64, f64)> {
        let totals = self.totals.lock();
        let (found, total) = totals.iter().find(|((n, k), _)| *n == name && k == key)?;
        let keyed = self.keyed.lock();
        let samples = keyed.get(found);
        let first = samples.and_then(|s| s.front()).copied().unwrap_or_default();
        let seconds = samples.map_or(1, VecDeque::len).max(1) as f64;
        let (sum, times) = (total[0] - first[0], total[1] - first[1]);
        Some((sum, sum as f64 / seconds, if times == 0 { 0.0 } else { sum as f64 / times as f64 }))
    }

    /// Rates a second over the last 10, 60 and 600 seconds, as upstream prints them.
    pub fn rates(&self, rate: Rate) -> String {
        let now = self.now()[rate as usize];
        let samples = self.samples.lock();
        let over = |seconds: usize| {
            let back = seconds.min(samples.len());
            if back == 0 {
                return 0.0;
            }
            (now - samples[samples.len() - back][rate as usize]) as f64 / back as f64
        };
        format!("{:?} {:?} {:?}", over(10), over(60), over(600))
    }

    /// Counts at midnight and now.
    pub fn days(&self) -> DayCounts {
        let days = *self.days.lock();
        let now = self.now();
        DayCounts {
            put: [days.put_yesterday, days.put_today, now[0]],
            get: [days.get_yesterday, days.get_today, now[3]],
        }
    }
}

/// Adds to a counter.
pub fn count(counter: &AtomicI64, by: i64) {
    counter.fetch_add(by, Relaxed);
}
