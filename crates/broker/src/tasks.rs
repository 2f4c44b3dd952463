//! What runs by itself: flushing, dispatch, saving of tables, expiry, registration, sync. Threads for what blocks on
//! the disk, tasks for the rest.

use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    config::FlushDiskType,
    context::{Broker, now_ms},
    register, schedule,
    stats::SAMPLE_SECONDS,
    sync,
};

/// The threads of a broker.
pub struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Waits until all have seen that the broker stops.
    pub fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                tracing::error!("a thread ended by a panic, see above");
            }
        }
    }
}

/// Starts the threads.
pub fn start(broker: &Arc<Broker>) -> Threads {
    let named = |name: &str, run: fn(&Arc<Broker>)| {
        let broker = broker.clone();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&broker))
    };
    let threads = [named("flush", flush_loop), named("save", save_loop), named("delay", schedule::run)];
    Threads(
        threads
            .into_iter()
            .filter_map(|thread| thread.map_err(|error| tracing::error!("a thread cannot be started: {error}")).ok())
            .collect(),
    )
}

/// Starts the tasks.
pub fn start_async(broker: &Arc<Broker>) {
    tokio::spawn(register::run(broker.clone()));
    tokio::spawn(sync::run(broker.clone()));
    tokio::spawn(ticks(broker.clone()));
    tokio::spawn({
        let broker = broker.clone();
        async move { broker.dispatch_late().await }
    });
}

/// One fsync for all that was written meanwhile; with SYNC_FLUSH as soon as there is something, else periodically.
fn flush_loop(broker: &Arc<Broker>) {
    let mut queues_flushed = Instant::now();
    while !broker.is_stopping() {
        let config = broker.config();
        let marks = broker.store.marks();
        let wait = match config.flush_disk_type {
            FlushDiskType::SyncFlush => 200,
            FlushDiskType::AsyncFlush => config.flush_interval_commit_log.clamp(10, 10_000),
        };
        match config.flush_disk_type {
            FlushDiskType::SyncFlush => {
                marks.appended.wait_blocking(marks.flushed.get() + 1, Duration::from_millis(wait));
            }
            FlushDiskType::AsyncFlush => std::thread::sleep(Duration::from_millis(wait)),
        }
        if marks.appended.get() > marks.flushed.get() && broker.store.flush().is_err() {
            fatal(broker);
        }
        broker.dispatch_soon();
        if queues_flushed.elapsed() >= Duration::from_millis(config.flush_interval_consume_queue.max(100)) {
            queues_flushed = Instant::now();
            if broker.store.flush_queues().is_err() {
                fatal(broker);
            }
        }
        if let Some(cause) = broker.store.failed() {
            tracing::error!("{cause}");
            fatal(broker);
        }
    }
}

/// A failed write or fsync: what is on the device is unknown, so nothing may be acknowledged any more.
fn fatal(broker: &Broker) -> ! {
    let cause = broker.store.failed().map_or_else(|| "unknown".to_owned(), |cause| cause.to_string());
    tracing::error!("the store has failed and this process ends: {cause}; check the disk, then start again to recover");
    std::process::exit(74)
}

/// Saves progress every `flushConsumerOffsetInterval` and delay progress every `flushDelayOffsetInterval`.
fn save_loop(broker: &Arc<Broker>) {
    let (mut offsets, mut delays, mut cleaned) = (Instant::now(), Instant::now(), Instant::now());
    while !broker.is_stopping() {
        std::thread::sleep(Duration::from_millis(100));
        let config = broker.config();
        if offsets.elapsed() >= Duration::from_millis(config.flush_consumer_offset_interval.max(100)) {
            offsets = Instant::now();
            said(broker.offsets.save());
        }
        if delays.elapsed() >= Duration::from_millis(config.flush_delay_offset_interval.max(100)) {
            delays = Instant::now();
            said(broker.delays.save());
        }
        if cleaned.elapsed() >= Duration::from_millis(config.clean_resource_interval.max(1000)) {
            cleaned = Instant::now();
            clean(broker, false);
        }
    }
}

/// Deletes whole expired segments, oldest first: at the hours of `deleteWhen`, and when the disk is fuller than its
/// limits; `manual` at any hour. Reference store 20.
pub fn clean(broker: &Broker, manual: bool) {
    let config = broker.config();
    let used = broker.store.disk_usage().map_or(0.0, |usage| usage.used_ratio()) * 100.0;
    let short = used > f64::from(config.disk_space_clean_forcibly_ratio);
    let full = used > f64::from(config.disk_max_used_space_ratio);
    if !(manual || short || full || is_hour(&config.delete_when)) {
        return;
    }
    let retention = store::Retention {
        now_ms: now_ms(),
        reserved_ms: config.file_reserved_time.max(0).saturating_mul(3_600_000),
        regardless_of_age: short,
        max_segments: 10,
    };
    if let Err(error) = broker.store.delete_expired(retention) {
        tracing::error!("old segments cannot be deleted: {error}");
    }
}

/// True in one of the hours of `deleteWhen`, in local time.
fn is_hour(delete_when: &str) -> bool {
    let now = jiff::Zoned::now().hour();
    delete_when.split(';').filter_map(|hour| hour.trim().parse::<i8>().ok()).any(|hour| hour == now)
}

/// Writes every table.
pub fn save_all(broker: &Broker) {
    said(broker.offsets.save());
    said(broker.delays.save());
    said(broker.topics.save());
    said(broker.groups.save());
}

fn said(result: Result<(), crate::persist::PersistError>) {
    if let Err(error) = result {
        tracing::error!("not saved, it is tried again: {error}");
    }
}

/// Held pulls, clients that went silent, counters.
async fn ticks(broker: Arc<Broker>) {
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = 0u64;
    while !broker.is_stopping() {
        tick.tick().await;
        count += 1;
        let now = tokio::time::Instant::now();
        broker.holds.expire(&broker, now);
        if count.is_multiple_of(5 * SAMPLE_SECONDS) {
            broker.stats.sample(now_ms());
        }
        if count.is_multiple_of(50) {
            let limit = Duration::from_millis(broker.config().channel_expired_timeout);
            for conn in broker.clients.expired(now, limit) {
                conn.close("no heartbeat in time");
            }
        }
    }
}
