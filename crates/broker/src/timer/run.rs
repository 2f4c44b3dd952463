//! The two threads of the timer: one takes up and delivers, the other makes what they did durable. Neither waits for a
//! replica: a copy in the log is as safe as any message there, and peers are told of it only once they have it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use store::{Timer, TimerError};

use super::Rates;
use crate::{
    config::BrokerConfig,
    context::{Broker, now_ms},
};

/// Messages of one step.
const AT_ONCE: usize = 512;
/// Longest sleep: the role or the configuration may have changed.
const POLL: Duration = Duration::from_millis(100);
const AGAIN: Duration = Duration::from_secs(1);
const EXPIRE: Duration = Duration::from_secs(30);

/// Takes up and delivers until the broker stops.
pub fn run(broker: &Arc<Broker>) {
    let Some(timer) = broker.timers.timer() else { return };
    recount(broker, timer);
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
    let mut taken = 0;
    if !config.timer_stop_enqueue {
        taken = timer.enqueue(&broker.store, AT_ONCE, &mut count)?;
    }
    let hidden = broker.started.elapsed().as_millis() < config.disappear_time_after_start.max(0) as u128;
    if !is_master || config.timer_stop_dequeue || hidden {
        return Ok(if taken == AT_ONCE { Duration::ZERO } else { POLL });
    }
    let delivered = timer.deliver(&broker.store, broker.store_host(), AT_ONCE, &mut count)?;
    if delivered.count > 0 {
        broker.dispatch_soon();
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

/// After a crash the counts by topic may be off by what happened since they were written.
fn recount(broker: &Broker, timer: &Timer) {
    if !std::mem::take(&mut *broker.timers.recount.lock()) || !broker.config().is_master() {
        return;
    }
    let mut counted = BTreeMap::new();
    let result =
        timer.count_topics(&broker.store, &mut |topic, by| *counted.entry(topic.to_owned()).or_insert(0) += by);
    match result {
        Ok(()) => broker.timers.metrics.replace(&counted),
        Err(error) => tracing::error!("timer messages cannot be counted: {error}"),
    }
}

/// Makes timer files durable every `timerFlushIntervalMs`, and at the end.
pub fn flush_loop(broker: &Arc<Broker>) {
    let Some(timer) = broker.timers.timer() else { return };
    let (mut expired, mut sampled) = (Instant::now(), Sample::new(timer));
    while !broker.is_stopping() {
        let config = broker.config();
        pause(broker, Duration::from_millis(config.timer_flush_interval_ms.clamp(100, 60_000)));
        said(timer.flush(&broker.store));
        save_metrics(broker);
        if expired.elapsed() >= EXPIRE {
            expired = Instant::now();
            said(timer.expire(&broker.store).map(|_| ()));
        }
        if sampled.at.elapsed() >= AGAIN {
            sampled = sampled.next(broker, timer);
        }
    }
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
        said(timer.close(&broker.store));
        save_metrics(broker);
    }
}

fn save_metrics(broker: &Broker) {
    if let Err(error) = broker.timers.metrics.save() {
        tracing::error!("timer metrics are not saved, it is tried again: {error}");
    }
}

fn said(result: Result<(), store::StoreError>) {
    if let Err(error) = result {
        tracing::error!("timer files are not written: {error}");
    }
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
