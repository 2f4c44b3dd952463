//! Counters of what the broker did, and their rates over 10 s, 1 min and 10 min.
//! Source of the figures: `store/.../StoreStatsService.java`; reference operations 6. Decides nothing.

use std::{
    collections::{HashMap, VecDeque},
    hint::black_box,
    ops::AddAssign,
    sync::atomic::{AtomicI64, Ordering::Relaxed},
};

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

/// Seconds between two samples.
pub const SAMPLE_SECONDS: u64 = 1;
const KEPT: usize = 601;
/// Keys that are looked up together.
const TOGETHER: usize = 16;

/// The spans over which named counts are shown: seconds between two samples, and how many are kept. The oldest sample
/// is never older than the span, so that a day's count holds nothing of the day before.
const SPANS: [(u64, usize); 3] = [(10, 6), (600, 6), (3600, 24)];

/// Names whose counts are the bytes of what is counted under another name.
const SIZES: [(&str, &str); 2] = [("TOPIC_PUT_SIZE", "TOPIC_PUT_NUMS"), ("GROUP_GET_SIZE", "GROUP_GET_NUMS")];

/// What some calls came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Amount {
    /// Messages.
    pub messages: i64,
    /// Their records, bytes.
    pub bytes: i64,
    /// Calls.
    pub calls: i64,
}

/// What was counted under a name up to a moment.
#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    amount: Amount,
}

/// One named count.
struct Named {
    now: Amount,
    spans: [VecDeque<Sample>; 3],
}

impl Named {
    fn new(at: Instant) -> Self {
        let first = Sample { at, amount: Amount::default() };
        Self { now: first.amount, spans: std::array::from_fn(|_| VecDeque::from([first])) }
    }

    fn sample(&mut self, span: usize, at: Instant) {
        self.spans[span].push_back(Sample { at, amount: self.now });
        if self.spans[span].len() > SPANS[span].1 {
            self.spans[span].pop_front();
        }
    }

    /// True when nothing was counted in the longest span: nobody asks for it any more, its topic or group may be gone.
    fn is_idle(&self) -> bool {
        let [.., (_, kept)] = SPANS;
        let [.., day] = &self.spans;
        day.len() == kept && day.front().is_some_and(|first| first.amount.calls == self.now.calls)
    }

    fn over(&self, span: usize, now: Instant, of: fn(&Amount) -> i64) -> Counted {
        let Some(first) = self.spans[span].front() else { return Counted::default() };
        let seconds = now.duration_since(first.at).max(Duration::from_secs(1)).as_secs_f64();
        let (sum, calls) = (of(&self.now) - of(&first.amount), self.now.calls - first.amount.calls);
        let average = if calls == 0 { 0.0 } else { sum as f64 / calls as f64 };
        Counted { sum, rate: sum as f64 / seconds, average }
    }
}

/// A named count over a span: messages, or bytes where the name says so.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counted {
    /// In all.
    pub sum: i64,
    /// A second.
    pub rate: f64,
    /// A call.
    pub average: f64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.calls += other.calls;
    }
}

type OfKeys = HashMap<String, Named, RandomState>;

/// By kind, then by what is counted.
#[derive(Default)]
struct NamedCounts {
    table: HashMap<&'static str, OfKeys, RandomState>,
    seconds: u64,
}

impl NamedCounts {
    fn add(&mut self, name: &'static str, amounts: &[(&str, Amount)], now: impl Fn() -> Instant) {
        let keys = self.table.entry(name).or_default();
        for together in amounts.chunks(TOGETHER) {
            if together.len() > 1 {
                // Of many thousand hardly one is in the processor's cache: it fetches all of these at once.
                together.iter().for_each(|(key, _)| _ = black_box(keys.get(*key).map(|named| named.now.calls)));
            }
            for (key, amount) in together {
                let named = match keys.get_mut(*key) {
                    Some(named) => named,
                    None => keys.entry((*key).to_owned()).or_insert_with(|| Named::new(now())),
                };
                named.now += *amount;
            }
        }
    }

    fn counted(&self, name: &str, key: &str, now: Instant) -> Option<[Counted; 3]> {
        let (name, of): (_, fn(&Amount) -> i64) = match SIZES.iter().find(|(size, _)| *size == name) {
            Some((_, counted)) => (*counted, |amount| amount.bytes),
            None => (name, |amount| amount.messages),
        };
        let found = self.table.get(name)?.get(key)?;
        Some([0, 1, 2].map(|span| found.over(span, now, of)))
    }

    fn forget(&mut self, gone: impl Fn(&str) -> bool) {
        self.table.values_mut().for_each(|keys| keys.retain(|key, _| !gone(key)));
    }

    fn sample(&mut self, now: Instant) {
        self.seconds += SAMPLE_SECONDS;
        for (span, (every, _)) in SPANS.iter().enumerate() {
            if self.seconds.is_multiple_of(*every) {
                self.table.values_mut().flat_map(OfKeys::values_mut).for_each(|named| named.sample(span, now));
            }
        }
        // Topics and groups come and go for as long as a broker lives.
        if self.seconds.is_multiple_of(SPANS[2].0) {
            self.table.values_mut().for_each(|keys| keys.retain(|_, named| !named.is_idle()));
        }
    }
}

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
    named: Mutex<NamedCounts>,
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

    /// Takes a sample; call once a second. Days begin at midnight where `local` tells the time, as Java's do.
    pub fn sample(&self, now_ms: i64, local: store::LocalTime) {
        let now = self.now();
        let mut samples = self.samples.lock();
        samples.push_back(now);
        if samples.len() > KEPT {
            samples.pop_front();
        }
        drop(samples);
        self.named.lock().sample(Instant::now());
        let mut days = self.days.lock();
        let day = local(now_ms).div_euclid(86_400_000);
        if days.day != day {
            let put_yesterday = if days.day == 0 { now[0] } else { days.put_today };
            let get_yesterday = if days.day == 0 { now[3] } else { days.get_today };
            *days = Days { day, put_yesterday, put_today: now[0], get_yesterday, get_today: now[3] };
        }
    }

    /// Counts under a name that `mqadmin` and exporters know, like `TOPIC_PUT_NUMS`.
    pub fn add(&self, name: &'static str, key: &str, amount: Amount) {
        self.add_all(name, &[(key, amount)]);
    }

    /// The same for several keys at once.
    pub fn add_all(&self, name: &'static str, amounts: &[(&str, Amount)]) {
        self.named.lock().add(name, amounts, Instant::now);
    }

    /// Forgets what was counted of a topic that is deleted.
    pub fn forget_topic(&self, topic: &str) {
        let of_topic = |key: &str| key.strip_prefix(topic).is_some_and(|rest| rest.is_empty() || rest.starts_with('@'));
        self.named.lock().forget(of_topic);
    }

    /// Forgets what was counted of a group that is deleted.
    pub fn forget_group(&self, group: &str) {
        let of_group = |key: &str| key.strip_suffix(group).is_some_and(|rest| rest.ends_with('@'));
        self.named.lock().forget(of_group);
    }

    /// A named count over the last minute, the last hour and the last day; `None` when nothing was ever counted.
    pub fn counted(&self, name: &str, key: &str) -> Option<[Counted; 3]> {
        self.named.lock().counted(name, key, Instant::now())
    }

    /// Messages a second in the last minute.
    pub fn rate(&self, name: &str, key: &str) -> f64 {
        self.counted(name, key).map_or(0.0, |[minute, ..]| minute.rate)
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Clock(NamedCounts, Instant);

    impl Clock {
        fn pass(&mut self, seconds: u64) {
            for _ in 0..seconds {
                self.1 += Duration::from_secs(1);
                self.0.sample(self.1);
            }
        }

        fn add(&mut self, count: i64) {
            let now = self.1;
            let amount = Amount { messages: count, bytes: count * 100, calls: 1 };
            self.0.add("TOPIC_PUT_NUMS", &[("T", amount)], || now);
        }

        fn counted(&self) -> Option<[Counted; 3]> {
            self.0.counted("TOPIC_PUT_NUMS", "T", self.1)
        }

        fn sums(&self) -> [i64; 3] {
            self.counted().unwrap().map(|counted| counted.sum)
        }
    }

    #[test]
    fn a_day_begins_at_midnight_where_the_broker_is() {
        const HOUR: i64 = 3_600_000;
        let stats = Stats::default();
        let at = |hour: i64| stats.sample(20_000 * 24 * HOUR + hour * HOUR, |ms| ms + 8 * HOUR);
        at(0);
        count(&stats.put, 5);
        at(15);
        assert_eq!(stats.days().put, [0, 0, 5], "eleven in the evening");
        at(17);
        count(&stats.put, 2);
        at(25);
        assert_eq!(stats.days().put, [0, 5, 7], "nine in the morning of the next day");
    }

    #[test]
    fn named_counts_are_shown_by_minute_hour_and_day() {
        let mut clock = Clock(NamedCounts::default(), Instant::now());
        assert_eq!(clock.counted(), None);
        clock.add(30);
        clock.add(10);
        assert_eq!(clock.sums(), [40; 3], "at once, in all three");
        clock.pass(20);
        let [minute, ..] = clock.counted().unwrap();
        assert_eq!(minute, Counted { sum: 40, rate: 2.0, average: 20.0 });
        let [bytes, ..] = clock.0.counted("TOPIC_PUT_SIZE", "T", clock.1).unwrap();
        assert_eq!(bytes, Counted { sum: 4000, rate: 200.0, average: 2000.0 });
        clock.pass(60);
        assert_eq!(clock.sums(), [0, 40, 40]);
        clock.pass(3600);
        clock.add(1);
        assert_eq!(clock.sums(), [1, 1, 41]);
        clock.pass(22 * 3600 - 180);
        assert_eq!(clock.sums(), [0, 0, 41], "less than a day");
        clock.pass(3700);
        assert_eq!(clock.sums(), [0, 0, 1], "the first are of the day before");
    }

    #[test]
    fn many_keys_are_counted_each_for_itself() {
        let keys: Vec<String> = (0..40).map(|number| format!("T-{}", number % 30)).collect();
        let amount = |number| Amount { messages: number, bytes: 10 * number, calls: 1 };
        let amounts: Vec<_> = keys.iter().zip(0..).map(|(key, number)| (&**key, amount(number))).collect();
        let stats = Stats::default();
        stats.add_all("TOPIC_PUT_NUMS", &amounts);
        let sum = |key| stats.counted("TOPIC_PUT_NUMS", key).map(|[minute, ..]| minute.sum);
        assert_eq!(["T-3", "T-29", "T-30"].map(sum), [Some(3 + 33), Some(29), None]);
        assert_eq!(stats.counted("TOPIC_PUT_SIZE", "T-3").map(|[minute, ..]| minute.sum), Some(360));
    }

    #[test]
    fn a_count_that_was_idle_for_a_day_is_forgotten() {
        let mut clock = Clock(NamedCounts::default(), Instant::now());
        clock.pass(1800);
        clock.add(1);
        clock.pass(23 * 3600);
        clock.add(1);
        clock.pass(23 * 3600);
        assert_eq!(clock.sums(), [0, 0, 1], "it was used within a day");
        clock.pass(2 * 3600);
        assert_eq!(clock.counted(), None);
    }
}
