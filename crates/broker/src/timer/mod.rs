//! Timer messages in a broker: which sends wait, who drives the store's timer, what peers and operators are told.
//! Source: `HookUtils.java`, `TimerMessageStore.java`; reference store 22, broker 2.7 and 8.2.
//!
//! A master delivers; a slave takes up what its master has taken up and delivers nothing. What the timer log and the
//! wheel hold is the store's business.

mod entry;
mod metrics;
mod run;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use store::{Clock, Store, Timer, TimerCheckPoint, TimerConfig};

pub use entry::enter;
pub use run::{close, flush_loop, run};

use crate::{
    ahead::Ahead,
    config::BrokerConfig,
    context::{Broker, now_ms},
    persist::PersistError,
};
use metrics::Metrics;

/// Times of delivery are wall clock times; the store's clock may be ahead of it.
struct WallClock;

impl Clock for WallClock {
    fn now_ms(&self) -> i64 {
        now_ms()
    }
}

/// The timer of a broker.
pub struct Timers {
    timer: Option<Timer>,
    metrics: Metrics,
    /// Counts by topic may be wrong: after a crash, and when they were a master's.
    recount: AtomicBool,
    adopted: AtomicBool,
    /// Check points of the master that this slave's log has not reached.
    ahead: Ahead<TimerCheckPoint>,
    rates: Mutex<Rates>,
    bell: Mutex<bool>,
    rung: Condvar,
}

/// Messages a second, of the last sample.
#[derive(Clone, Copy, Default)]
struct Rates {
    enqueued: f32,
    delivered: f32,
}

/// What a broker of this configuration opens its timer with; `None` with `timerWheelEnable=false`.
pub fn timer_config(config: &BrokerConfig) -> Option<TimerConfig> {
    config.timer_wheel_enable.then(|| TimerConfig {
        segment_size: config.mapped_file_size_timer_log,
        precision_ms: config.timer_precision_ms,
        roll_window_slots: config.timer_roll_window_slot,
        ..TimerConfig::default()
    })
}

impl Timers {
    /// Opens the timer of a store; with `timerWheelEnable=false` there is none.
    ///
    /// # Errors
    /// Timer files or `timermetrics` that cannot be read.
    pub fn open(
        store: &Store,
        config: &BrokerConfig,
        config_dir: &Path,
        clean: bool,
    ) -> Result<Self, crate::start::StartError> {
        let timer = timer_config(config).map(|timer| Timer::open(store, timer, Arc::new(WallClock))).transpose()?;
        Ok(Self {
            timer,
            metrics: Metrics::load(config_dir.join("timermetrics"))?,
            recount: AtomicBool::new(!clean),
            adopted: AtomicBool::new(false),
            ahead: Ahead::default(),
            rates: Mutex::default(),
            bell: Mutex::new(false),
            rung: Condvar::new(),
        })
    }

    /// The store's timer, unless it is switched off.
    pub fn timer(&self) -> Option<&Timer> {
        self.timer.as_ref()
    }

    /// Counts by topic as JSON; `None` without a timer.
    pub fn metrics_json(&self) -> Option<String> {
        self.timer.as_ref().map(|_| self.metrics.json())
    }

    /// The check point for peers: never ahead of the copies that all connected slaves have. `None` without a timer.
    pub fn check_point(&self, broker: &Broker) -> Option<TimerCheckPoint> {
        let replicated = broker.replicas.slowest().unwrap_or(i64::MAX);
        self.timer.as_ref().map(|timer| timer.check_point(replicated))
    }

    /// Takes a master's counts; writes only what differs.
    pub fn adopt_metrics(&self, text: &str) -> Result<(), PersistError> {
        self.adopted.store(true, Ordering::SeqCst);
        self.metrics.adopt(text)
    }

    /// Takes the check point of the master at `addr`, of a moment when its log had the end `master_end`, as soon as this log has
    /// that too: of what it calls delivered copies may be missing here before.
    pub fn adopt_check_point(&self, store: &Store, addr: &str, bytes: &[u8], master_end: i64) {
        let (Some(timer), Some(point)) = (&self.timer, TimerCheckPoint::decode(bytes)) else { return };
        if let Some(point) = self.ahead.take(addr, point, master_end, store.max_phys()) {
            timer.adopt(store, &point);
        }
    }

    /// Starts or stops delivery, at a start and at each change of role.
    pub fn set_delivering(&self, store: &Store, delivering: bool) {
        let Some(timer) = &self.timer else { return };
        self.ahead.forget();
        if let Err(error) = timer.set_delivering(store, delivering) {
            tracing::error!("the timer cannot change: {error}");
        }
        if delivering && self.adopted.swap(false, Ordering::SeqCst) {
            self.recount.store(true, Ordering::SeqCst);
        }
        self.ring();
    }

    /// Forgets a deleted topic.
    pub fn remove_topic(&self, topic: &str) {
        if self.metrics.remove(topic) {
            self.recount.store(true, Ordering::SeqCst);
        }
    }

    /// A message came: the timer looks at once.
    pub fn ring(&self) {
        *self.bell.lock() = true;
        self.rung.notify_one();
    }

    fn wait(&self, limit: Duration) {
        let mut bell = self.bell.lock();
        if !*bell {
            self.rung.wait_for(&mut bell, limit);
        }
        *bell = false;
    }

    /// `getBrokerRuntimeInfo` keys, as 5.3.3 shows them.
    pub fn runtime(&self, store: &Store, now_ms: i64) -> [(&'static str, String); 5] {
        let status = self.timer.as_ref().map(|timer| timer.status(store));
        let (read, offset, waiting) = status.map_or((0, 0, 0), |status| {
            let max = store.max_offset(wire::topic::TIMER, 0);
            ((now_ms - status.read_ms) / 1000, max - status.queue_offset, status.waiting)
        });
        let rates = *self.rates.lock();
        [
            ("timerReadBehind", read.to_string()),
            ("timerOffsetBehind", offset.to_string()),
            ("timerCongestNum", waiting.to_string()),
            ("timerEnqueueTps", format!("{:?}", rates.enqueued)),
            ("timerDequeueTps", format!("{:?}", rates.delivered)),
        ]
    }
}
