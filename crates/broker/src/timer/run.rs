//! The two threads of the timer: one takes up and delivers, the other makes what they did durable. Neither waits for a
//! replica: a copy in the log is as safe as any message there, and peers are told of it only once they have it.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::SeqCst},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use store::{Timer, TimerError};

use super::Rates;
use crate::{
    config::BrokerConfig,
    context::{Broker, now_ms},
    deletion,
    space::is_hour,
    told::Told,
};

/// Messages of one step.
const AT_ONCE: usize = 512;
/// Longest sleep: the role or the configuration may have changed.
const POLL: Duration = Duration::from_millis(100);
const AGAIN: Duration = Duration::from_secs(1);
const EXPIRE: Duration = Duration::from_secs(30);
/// Longer than an hour: once in each hour of `timerCheckMetricsWhen`.
const RECOUNT: Duration = Duration::from_secs(70 * 60);

/// Takes up and delivers until the broker stops.
pub fn run(broker: &Arc<Broker>) {
    let Some(timer) = broker.timers.timer() else { return };
    let mut failing = false;
    while !broker.is_stopping() {
        let wait = match step(broker, timer, &broker.config()) {
            Ok(wait) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("timer messages are delivered again");
                }
                wait
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!("{error}");
                }
                AGAIN
            }
        };
        if !wait.is_zero() {
            broker.timers.wait(wait);
        }
    }
    finish_slot(broker, timer);
}

/// The rest of a slot that is delivered in part comes before the stop, as no slot is longer than a second: whoever opens this
/// store next begins it anew, and a Java broker would deliver all of it again.
fn finish_slot(broker: &Arc<Broker>, timer: &Timer) {
    let end = Instant::now() + Duration::from_millis(2 * timer.config().precision_ms.unsigned_abs());
    let config = broker.config();
    while timer.ends_within_slot() && config.is_master() && !config.timer_stop_dequeue && Instant::now() < end {
        match step(broker, timer, &config) {
            Ok(wait) => broker.timers.wait(wait),
            // It was said, or the disk is full: the next start looks at the log.
            Err(_) => return,
        }
    }
}

/// One round; answers how long nothing is to be done.
fn step(broker: &Arc<Broker>, timer: &Timer, config: &BrokerConfig) -> Result<Duration, TimerError> {
    let metrics = &broker.timers.metrics;
    let is_master = config.is_master();
    let mut count = |topic: &str, by: i64| {
        if is_master {
            metrics.add(topic, by);
        }
    };
    broker.dispatch();
    let at_once = if config.timer_stop_enqueue { 0 } else { AT_ONCE };
    let taken = timer.enqueue(&broker.store, at_once, &mut count)?;
    let hidden = broker.started.elapsed().as_millis() < config.disappear_time_after_start.max(0) as u128;
    if !is_master || config.timer_stop_dequeue || hidden {
        return Ok(if taken == AT_ONCE { Duration::ZERO } else { POLL });
    }
    let delivered = {
        let _in_use = broker.topics.in_slow_use();
        let is_wanted = |topic: &str, physical| !deletion::is_gone(broker, topic, physical);
        timer.deliver(&broker.store, broker.store_host(), AT_ONCE, &is_wanted, &mut count)?
    };
    if delivered.count > 0 {
        broker.dispatch_soon();
    }
    if delivered.dropped > 0 {
        metrics.forget_gone(|topic| broker.topics.get(topic).is_none() && !deletion::is_kept(broker, topic));
    }
    if taken + delivered.count + delivered.dropped > 0 {
        return Ok(Duration::ZERO);
    }
    Ok(until_next(delivered.next_due_ms, timer.config().precision_ms))
}

/// Until the next message is due or the next tick begins.
fn until_next(next_due_ms: Option<i64>, precision_ms: i64) -> Duration {
    let now = now_ms();
    let tick = precision_ms - now.rem_euclid(precision_ms);
    let due = next_due_ms.map_or(tick, |due| (due - now).min(tick)).max(1);
    Duration::from_millis(due as u64).min(POLL)
}

/// Counts messages by topic anew: after a crash, after a promotion, and once in each hour of `timerCheckMetricsWhen`. It
/// reads each message that waits, so it has a thread of its own; deliveries go on.
struct Recount {
    thread: Option<JoinHandle<()>>,
    last: Option<Instant>,
}

impl Recount {
    fn look(&mut self, broker: &Arc<Broker>) {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) || !broker.config().is_master() {
            return;
        }
        let config = broker.config();
        let is_time = config.timer_enable_check_metrics
            && self.last.is_none_or(|last| last.elapsed() > RECOUNT)
            && is_hour(&config.timer_check_metrics_when);
        if broker.timers.recount.swap(false, SeqCst) || is_time {
            self.last = is_time.then(Instant::now).or(self.last);
            let broker = broker.clone();
            let thread = std::thread::Builder::new().name("timer-count".into()).spawn(move || recount(&broker));
            self.thread = thread.inspect_err(|error| tracing::error!("a thread cannot be started: {error}")).ok();
        }
    }
}

fn recount(broker: &Broker) {
    let Some(timer) = broker.timers.timer() else { return };
    let (metrics, mut counted) = (&broker.timers.metrics, BTreeMap::new());
    let count = &mut |topic: &str, by: i64| *counted.entry(topic.to_owned()).or_insert(0) += by;
    let goes_on = || !broker.is_stopping();
    match timer.count_topics(&broker.store, || metrics.begin(), goes_on, count) {
        Ok(()) if broker.is_stopping() => {}
        Ok(()) => metrics.replace(counted),
        Err(error) => tracing::error!("timer messages cannot be counted: {error}"),
    }
}

/// Makes timer files durable every `timerFlushIntervalMs`, and at the end.
pub fn flush_loop(broker: &Arc<Broker>) {
    let Some(timer) = broker.timers.timer() else { return };
    let [mut files, mut metrics, mut expiry] = [(); 3].map(|()| Told::default());
    let (mut expired, mut sampled) = (Instant::now(), Sample::new(timer));
    let mut recount = Recount { thread: None, last: None };
    while !broker.is_stopping() {
        recount.look(broker);
        let config = broker.config();
        pause(broker, Duration::from_millis(config.timer_flush_interval_ms.clamp(100, 60_000)));
        flushed(&mut files, timer.flush(&broker.store));
        save_metrics(&mut metrics, broker);
        if expired.elapsed() >= EXPIRE {
            expired = Instant::now();
            flushed(&mut expiry, timer.expire(&broker.store).map(|_| ()));
        }
        if sampled.at.elapsed() >= AGAIN {
            sampled = sampled.next(broker, timer);
        }
    }
    recount.thread.map(JoinHandle::join);
}

fn pause(broker: &Broker, limit: Duration) {
    let end = Instant::now() + limit;
    while !broker.is_stopping() && Instant::now() < end {
        std::thread::sleep(POLL.min(end.saturating_duration_since(Instant::now())));
    }
}

/// Writes everything, when nothing changes any more.
pub fn close(broker: &Broker) {
    if let Some(timer) = broker.timers.timer() {
        flushed(&mut Told::default(), timer.close(&broker.store));
        save_metrics(&mut Told::default(), broker);
    }
}

fn save_metrics(told: &mut Told, broker: &Broker) {
    let saved = broker.timers.metrics.save();
    told.of(saved, "timer metrics are not saved, it is tried again", "timer metrics are saved again");
}

fn flushed(told: &mut Told, result: Result<(), store::StoreError>) {
    told.of(result, "timer files are not written, it is tried again", "timer files are written again");
}

/// Counters at one moment.
struct Sample {
    at: Instant,
    enqueued: i64,
    delivered: i64,
}

impl Sample {
    fn new(timer: &Timer) -> Self {
        let (enqueued, delivered) = timer.counts();
        Self { at: Instant::now(), enqueued, delivered }
    }

    fn next(&self, broker: &Broker, timer: &Timer) -> Self {
        let next = Self::new(timer);
        let seconds = (next.at - self.at).as_secs_f32();
        let rate = |from: i64, to: i64| (to - from) as f32 / seconds;
        *broker.timers.rates.lock() =
            Rates { enqueued: rate(self.enqueued, next.enqueued), delivered: rate(self.delivered, next.delivered) };
        next
    }
}
