//! What runs by itself: flushing, dispatch, saving of tables, expiry, registration, sync. Threads for what blocks on
//! the disk, tasks for the rest.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, atomic::Ordering::Release},
    task::{Context, Poll},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    clock::local_time,
    config::FlushDiskType,
    context::{Broker, now_ms},
    schedule, space,
    start::StartError,
    stats::SAMPLE_SECONDS,
    sync, timer,
    told::Told,
};

/// Most time between two flushes of queues, unless the configuration says more.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The threads of a broker.
#[derive(Default)]
pub struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Waits until all have seen that the broker stops.
    pub fn join(self) {
        for thread in self.0 {
            // One that panicked has ended the process.
            let _ = thread.join();
        }
    }
}

type Run = fn(&Arc<Broker>);

/// What a broker cannot be without.
const THREADS: [(&str, Run); 7] = [
    ("flush", flush_loop),
    ("flush-queues", flush_queues_loop),
    ("save", save_loop),
    ("delay", schedule::run),
    ("space", space::run),
    ("timer", timer::run),
    ("timer-flush", timer::flush_loop),
];

/// Starts the threads, all or none.
pub fn start(broker: &Arc<Broker>) -> Result<Threads, StartError> {
    let mut threads = Threads::default();
    for (name, run) in THREADS {
        let of_thread = broker.clone();
        let run = move || or_end(name, || run(&of_thread), end);
        match std::thread::Builder::new().name(name.to_owned()).spawn(run) {
            Ok(thread) => threads.0.push(thread),
            Err(source) => {
                broker.stopping.store(true, Release);
                broker.deserted.store(true, Release);
                threads.join();
                return Err(StartError::Thread { name, source });
            }
        }
    }
    Ok(threads)
}

/// A broker that goes on without one of its threads would acknowledge what nobody flushes any more.
fn or_end(name: &str, run: impl FnOnce(), end: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        panicked("thread", name, end);
    }
}

fn panicked(kind: &str, name: &str, end: impl FnOnce()) {
    tracing::error!("the {kind} {name} has panicked, see above, and this process ends; start it again: it recovers");
    end();
}

fn end() {
    std::process::exit(101);
}

/// Starts a task that a broker cannot be without either: one that never follows its master again, or lets no pull end, would look
/// alive.
pub fn spawn(name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::spawn(guard(name, work))
}

/// The same of one that its caller starts.
pub async fn guard(name: &'static str, work: impl Future<Output = ()>) {
    polled_or_end(name, work, end).await;
}

async fn polled_or_end(name: &str, work: impl Future<Output = ()>, end: impl Fn()) {
    let mut work = pin!(work);
    let poll = |cx: &mut Context<'_>| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(poll) => poll,
        Err(cause) => {
            if !is_end_of_runtime(&*cause) {
                panicked("task", name, &end);
            }
            Poll::Ready(())
        }
    };
    poll_fn(poll).await;
}

/// What sleeps while its runtime ends panics if it is just being polled. This process ends then anyway, or wants this broker no more.
fn is_end_of_runtime(cause: &(dyn Any + Send)) -> bool {
    let text = cause.downcast_ref::<String>().map(String::as_str).or(cause.downcast_ref::<&str>().copied());
    text.is_some_and(|text| text.contains("is being shutdown"))
}

/// Starts the tasks.
pub fn start_async(broker: &Arc<Broker>) {
    spawn("sync", sync::run(broker.clone()));
    spawn("ticks", ticks(broker.clone()));
    let broker = broker.clone();
    spawn("late dispatch", async move { broker.dispatch_late().await });
}

/// One fsync for all that was written meanwhile; with SYNC_FLUSH as soon as there is something, else periodically. While the
/// broker stops it goes on for the sends that wait for it.
fn flush_loop(broker: &Arc<Broker>) {
    while !broker.is_deserted() {
        let config = broker.config();
        let marks = broker.store.marks();
        match config.flush_disk_type {
            FlushDiskType::SyncFlush => {
                marks.appended.wait_blocking(marks.flushed.get() + 1, Duration::from_millis(200));
            }
            // Nobody waits; the end of the stop flushes.
            FlushDiskType::AsyncFlush if broker.is_stopping() => return,
            FlushDiskType::AsyncFlush => {
                let interval = Duration::from_millis(config.flush_interval_commit_log.clamp(10, 10_000));
                broker.sleep_while(interval, || broker.config().flush_disk_type == FlushDiskType::AsyncFlush);
            }
        }
        if marks.appended.get() > marks.flushed.get() && broker.store.flush().is_err() {
            fatal(broker);
        }
        broker.dispatch_soon();
        if broker.store.failed().is_some() {
            fatal(broker);
        }
    }
}

/// Makes queues and index durable, and says so in the checkpoint: what is proven there is not read again after a crash.
/// Thousands of files take a while; a round takes a tenth of the time at most. Nobody waits for it.
fn flush_queues_loop(broker: &Arc<Broker>) {
    let mut proven = broker.store.marks().dispatched.get();
    while !broker.is_stopping() {
        let begin = Instant::now();
        match flush_queues(broker, proven) {
            Ok(end) => proven = end,
            // It is tried again; the store has said that there is no space.
            Err(error) if error.is_disk_full() => {}
            Err(_) if broker.is_stopping() => {}
            Err(_) => fatal(broker),
        }
        let interval = Duration::from_millis(broker.config().flush_interval_consume_queue.max(100));
        broker.sleep_blocking(interval.max(begin.elapsed() * 9).min(interval.max(LONGEST_PAUSE)));
    }
}

/// Flushes; the checkpoint is written when something was dispatched since it said `proven`.
fn flush_queues(broker: &Broker, proven: i64) -> Result<i64, store::StoreError> {
    let end = broker.store.marks().dispatched.get();
    broker.store.flush_queues()?;
    if end != proven {
        broker.store.persist_checkpoint()?;
    }
    Ok(end)
}

/// Exit code of a process whose store failed: `EX_IOERR` of `sysexits.h`.
pub const STORE_FAILED: u8 = 74;

/// A failed write or fsync: what is on the device is unknown, so nothing may be acknowledged any more.
fn fatal(broker: &Broker) -> ! {
    let cause = broker.store.failed().map_or_else(|| "unknown".to_owned(), |cause| cause.to_string());
    tracing::error!("the store has failed and this process ends: {cause}; check the disk, then start again to recover");
    std::process::exit(STORE_FAILED.into())
}

/// Saves progress every `flushConsumerOffsetInterval` and delay progress every `flushDelayOffsetInterval`.
fn save_loop(broker: &Arc<Broker>) {
    let (mut offsets, mut delays) = (Saved::new(), Saved::new());
    while !broker.is_stopping() {
        std::thread::sleep(Duration::from_millis(100));
        let config = broker.config();
        offsets.after(config.flush_consumer_offset_interval, || broker.offsets.save());
        delays.after(config.flush_delay_offset_interval, || broker.delays.save());
    }
}

/// A table that is saved again and again.
struct Saved {
    last: Instant,
    told: Told,
}

impl Saved {
    fn new() -> Self {
        Self { last: Instant::now(), told: Told::default() }
    }

    fn after(&mut self, interval_ms: u64, save: impl FnOnce() -> Result<(), crate::persist::PersistError>) {
        if self.last.elapsed() < Duration::from_millis(interval_ms.max(100)) {
            return;
        }
        self.last = Instant::now();
        let failed = format_args!("not saved, it is tried again each {interval_ms} ms");
        self.told.of(save(), failed, "tables are saved again");
    }
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
        tracing::error!("a table is not saved: {error}");
    }
}

/// Held pulls, clients that went silent, counters.
async fn ticks(broker: Arc<Broker>) {
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut count, mut looks) = (0u64, Looks::new(tokio::time::Instant::now()));
    while !broker.is_stopping() {
        tick.tick().await;
        count += 1;
        let now = tokio::time::Instant::now();
        broker.holds.expire(&broker, now);
        if count.is_multiple_of(5 * SAMPLE_SECONDS) {
            broker.stats.sample(now_ms(), local_time);
        }
        if looks.is_due(now) {
            broker.locks.expire(now);
            let limit = Duration::from_millis(broker.config().channel_expired_timeout);
            for conn in broker.clients.expired(now, limit) {
                conn.close("no heartbeat in time");
            }
        }
    }
}

/// When to look for clients that went silent. Not where this process stood still, or the machine: their heartbeats are to be
/// read first.
struct Looks {
    last: tokio::time::Instant,
    ticks: u32,
}

impl Looks {
    const TICKS: u32 = 50;
    const PAUSE: Duration = Duration::from_secs(5);

    fn new(now: tokio::time::Instant) -> Self {
        Self { last: now, ticks: 0 }
    }

    /// To be asked at each tick.
    fn is_due(&mut self, now: tokio::time::Instant) -> bool {
        let was_paused = now.duration_since(std::mem::replace(&mut self.last, now)) > Self::PAUSE;
        self.ticks = if was_paused { 0 } else { self.ticks + 1 };
        let is_due = self.ticks == Self::TICKS;
        self.ticks %= Self::TICKS;
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_thread_is_gone_without_the_process() {
        let mut ended = 0;
        or_end("a", || {}, || ended += 1);
        assert_eq!(ended, 0);
        or_end("b", || panic!("for the test"), || ended += 1);
        assert_eq!(ended, 1);
    }

    #[tokio::test]
    async fn no_task_is_gone_without_the_process() {
        let ended = std::cell::Cell::new(0);
        let end = || ended.set(ended.get() + 1);
        polled_or_end("a", tokio::task::yield_now(), end).await;
        assert_eq!(ended.get(), 0);
        let panics = async {
            tokio::task::yield_now().await;
            panic!("for the test");
        };
        polled_or_end("b", panics, end).await;
        assert_eq!(ended.get(), 1);
    }

    #[test]
    fn the_end_of_a_runtime_is_no_fault_of_its_tasks() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let entered = runtime.enter();
        let mut sleep = Box::pin(tokio::time::sleep(LONGEST_PAUSE));
        drop(entered);
        drop(runtime);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let polled = catch_unwind(AssertUnwindSafe(|| sleep.as_mut().poll(&mut cx).is_ready()));
        assert!(is_end_of_runtime(&*polled.unwrap_err()));
    }

    #[test]
    fn nobody_is_silent_while_his_heartbeats_wait_to_be_read() {
        let mut now = tokio::time::Instant::now();
        let mut looks = Looks::new(now);
        let mut due_after = |ticks: u32, pause: u64| {
            for _ in 0..ticks {
                now += Duration::from_millis(200);
                assert!(!looks.is_due(now));
            }
            now += Duration::from_millis(200) + Duration::from_secs(pause);
            looks.is_due(now)
        };
        assert!(due_after(49, 0), "each ten seconds");
        assert!(!due_after(49, 130), "it stood still");
        assert!(!due_after(48, 0) && due_after(0, 0), "ten seconds later");
    }
}
