//! What the request families share: configuration, store, tables, clients, and the few operations on them that belong
//! to no single family. Parses no request.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::{Mutex, RwLock};
use store::Store;
use tokio::{
    sync::Semaphore,
    time::{Duration, Instant, timeout},
};
use wire::{Command, address, code::request, header::NotifyConsumerIdsChangedRequestHeader, message_id};

use crate::{
    assignment::Routes,
    clients::{Changed, Clients},
    clock::StoreClock,
    config::{BrokerConfig, FlushDiskType},
    groups::Groups,
    ha::{Replicas, seams::Seams},
    hold::Holds,
    leaving::Leaving,
    locks::QueueLocks,
    offsets::Offsets,
    persist,
    put_off::PutOff,
    register::Registrar,
    request_mode::RequestModes,
    schedule::DelayOffsets,
    stats::Stats,
    sync::SyncState,
    timer::Timers,
    topics::Topics,
};

/// How long a request waits for another thread to dispatch what it must see: a topic's deletion keeps dispatch out.
const MOST_WAIT: Duration = Duration::from_secs(1);
/// How much of that it does so as if it were busy: dispatch takes no longer, as a rule.
const BRIEF_WAIT: Duration = Duration::from_millis(2);
/// How often it looks.
const LOOK_EACH: Duration = Duration::from_micros(50);

/// A running broker, as its request families see it.
pub struct Broker {
    config: RwLock<Arc<BrokerConfig>>,
    /// Path of `broker.conf`, when there is one; changes at run time are written there.
    pub config_file: Option<PathBuf>,
    /// Version of the configuration, for `getBrokerConfig`.
    pub config_version: Mutex<wire::body::DataVersion>,
    /// Commit log and queues.
    pub store: Store,
    /// Topics.
    pub topics: Arc<Topics>,
    /// Subscription groups.
    pub groups: Groups,
    /// Consumer progress.
    pub offsets: Offsets,
    /// Delay progress.
    pub delays: DelayOffsets,
    /// Message request modes.
    pub request_modes: RequestModes,
    /// Routes of the topics whose queues this broker shares out.
    pub routes: Routes,
    /// Timer messages.
    pub timers: Timers,
    /// Connected clients.
    pub clients: Clients,
    /// Queue locks.
    pub locks: QueueLocks,
    /// Held pulls.
    pub holds: Holds,
    /// Counters.
    pub stats: Stats,
    /// Batches that the next sends are put into.
    pub spare: crate::send::Spare,
    /// Room for requests of administration that wait their turn or for somebody.
    pub admin_room: Arc<Semaphore>,
    /// Turns of those that take a thread.
    pub admin_turns: Semaphore,
    /// Slaves of this broker and their acknowledgements.
    pub replicas: Replicas,
    /// The master of this broker, when it is a slave.
    pub sync: SyncState,
    /// What of this log no master has told of.
    pub seams: Seams,
    /// How fast the log grows.
    pub forecast: Mutex<store::Forecast>,
    /// Name servers.
    pub registrar: Registrar,
    /// Calls to other brokers.
    pub api: client::BrokerApi,
    /// The clock of the store and of delays.
    pub clock: Arc<StoreClock>,
    /// Start, milliseconds since the epoch.
    pub started_ms: i64,
    /// Start.
    pub started: Instant,
    /// Set before a graceful stop: clients are sent away (`enableShutdownGracefully`).
    pub leaving: Leaving,
    /// Set once the broker stops.
    pub stopping: AtomicBool,
    /// Set when the broker stops and its connections are closed: nobody waits for a flush any more.
    pub deserted: AtomicBool,
    put_off: PutOff,
    id_counter: AtomicU32,
    store_host: RwLock<SocketAddr>,
}

/// The parts that are made before a [`Broker`] is.
pub struct Parts {
    /// Configuration.
    pub config: BrokerConfig,
    /// Its file.
    pub config_file: Option<PathBuf>,
    /// Commit log and queues.
    pub store: Store,
    /// Topics.
    pub topics: Arc<Topics>,
    /// Subscription groups.
    pub groups: Groups,
    /// Consumer progress.
    pub offsets: Offsets,
    /// Delay progress.
    pub delays: DelayOffsets,
    /// Message request modes.
    pub request_modes: RequestModes,
    /// Timer messages.
    pub timers: Timers,
    /// What of the log no master has told of.
    pub seams: Seams,
    /// Name servers.
    pub registrar: Registrar,
    /// Calls to other brokers.
    pub api: client::BrokerApi,
    /// The clock of the store and of delays.
    pub clock: Arc<StoreClock>,
}

/// How a stored message stands after the wait for its marks. Source: `PutMessageStatus.java`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Everything asked for is done.
    Ok,
    /// Not on the device in time.
    FlushDiskTimeout,
    /// Not on enough replicas in time.
    FlushSlaveTimeout,
}

impl Broker {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        let store_host = store_host(&parts.config);
        Self {
            config: RwLock::new(Arc::new(parts.config)),
            config_file: parts.config_file,
            config_version: Mutex::default(),
            store: parts.store,
            topics: parts.topics,
            groups: parts.groups,
            offsets: parts.offsets,
            delays: parts.delays,
            request_modes: parts.request_modes,
            timers: parts.timers,
            routes: Routes::default(),
            clients: Clients::default(),
            locks: QueueLocks::default(),
            holds: Holds::default(),
            stats: Stats::default(),
            spare: crate::send::Spare::default(),
            admin_room: Arc::new(Semaphore::new(crate::admin::MAX_WAITING)),
            admin_turns: Semaphore::new(crate::admin::AT_ONCE),
            replicas: Replicas::default(),
            sync: SyncState::default(),
            seams: parts.seams,
            forecast: Mutex::default(),
            registrar: parts.registrar,
            api: parts.api,
            clock: parts.clock,
            started_ms: now_ms(),
            started: Instant::now(),
            leaving: Leaving::default(),
            stopping: AtomicBool::new(false),
            deserted: AtomicBool::new(false),
            put_off: PutOff::default(),
            id_counter: AtomicU32::new(0),
            store_host: RwLock::new(store_host),
        }
    }

    /// The configuration at this moment.
    pub fn config(&self) -> Arc<BrokerConfig> {
        self.config.read().clone()
    }

    /// Replaces the configuration.
    pub fn set_config(&self, config: BrokerConfig) {
        self.store.set_sync_flush(config.flush_disk_type == FlushDiskType::SyncFlush);
        *self.store_host.write() = store_host(&config);
        *self.config.write() = Arc::new(config);
    }

    /// The address that records carry.
    pub fn store_host(&self) -> SocketAddr {
        *self.store_host.read()
    }

    /// True when the queues have every message of the log.
    pub fn is_dispatched(&self) -> bool {
        self.store.marks().dispatched.get() >= self.store.dispatch_limit()
    }

    /// True once the broker is about to stop, or stops: no name server shall lead clients here any more.
    pub fn is_leaving(&self) -> bool {
        self.leaving.has_begun() || self.is_stopping()
    }

    /// True once the broker stops.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// True once the broker stops and nobody is connected any more.
    pub fn is_deserted(&self) -> bool {
        self.deserted.load(Ordering::Acquire)
    }

    /// Sleeps on a thread of its own, but not beyond the broker's stop.
    pub fn sleep_blocking(&self, time: Duration) {
        self.sleep_while(time, || true);
    }

    /// The same, and no longer than `is_to_wait` holds, which is looked at ten times a second.
    pub fn sleep_while(&self, time: Duration, is_to_wait: impl Fn() -> bool) {
        let end = std::time::Instant::now() + time;
        while !self.is_stopping() && is_to_wait() {
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    /// A unique id as clients make it, for messages that came without one.
    pub fn unique_id(&self) -> String {
        let ip = match self.store_host().ip() {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(_) => std::net::Ipv4Addr::LOCALHOST,
        };
        let count = self.id_counter.fetch_add(1, Ordering::Relaxed);
        let millis = (now_ms() - self.started_ms) as u32;
        message_id::unique_id(
            ip,
            std::process::id() as u16,
            (self.started_ms as u32).rotate_left(16) ^ (count >> 16),
            millis,
            count as u16,
        )
    }

    /// Builds the views of what was appended and wakes who waits for messages. Whoever reads a queue calls it first.
    pub fn dispatch(&self) {
        self.store.dispatch();
    }

    /// Before a request is answered that is no send: whoever asks sees everything that was acknowledged before. When
    /// another thread is just at it, that one is waited for.
    pub fn dispatch_acknowledged(&self) {
        let acknowledged = self.store.dispatch_limit();
        self.dispatch();
        let began = Instant::now();
        let is_behind = || self.store.marks().dispatched.get() < acknowledged;
        let is_to_wait = |limit| is_behind() && self.store.is_dispatching() && began.elapsed() < limit;
        let wait = |limit| {
            while is_to_wait(limit) {
                std::thread::sleep(LOOK_EACH);
            }
        };
        wait(BRIEF_WAIT);
        if is_to_wait(MOST_WAIT) {
            persist::apart(|| wait(MOST_WAIT));
        }
        if is_behind() {
            self.dispatch();
        }
    }

    /// The same after an append. While nobody waits for a message the views are built a moment later, for all that came
    /// meanwhile: at low load that saves most of the writes.
    pub fn dispatch_soon(&self) {
        if !self.holds.is_empty() {
            self.dispatch();
        } else {
            self.put_off.call(self.store.dispatch_limit() - self.store.marks().dispatched.get());
        }
    }

    /// Builds what [`Broker::dispatch_soon`] put off, until the broker stops.
    pub async fn dispatch_late(&self) {
        while !self.is_stopping() {
            self.put_off.due().await;
            self.dispatch();
        }
    }

    /// True when an acknowledgement has to wait for a mark.
    pub fn must_wait(&self, config: &BrokerConfig) -> bool {
        config.flush_disk_type == FlushDiskType::SyncFlush || config.waits_for_replicas()
    }

    /// Waits until everything up to `end` is as safe as the configuration promises. When both fail, the replica
    /// status wins, as upstream.
    pub async fn wait_stored(&self, end: i64, config: &BrokerConfig) -> Stored {
        let flushed = async {
            if config.flush_disk_type != FlushDiskType::SyncFlush {
                return true;
            }
            let limit = Duration::from_millis(config.sync_flush_timeout);
            timeout(limit, self.store.marks().flushed.wait(end)).await.is_ok()
        };
        let replicated = async {
            if !config.waits_for_replicas() {
                return true;
            }
            let mark = self.replicas.mark(config.in_sync_replicas as usize, self.store.max_phys());
            let reached = timeout(Duration::from_millis(config.slave_timeout), mark.wait(end)).await;
            reached.is_ok() && !self.replicas.is_before_a_slave(end)
        };
        match tokio::join!(flushed, replicated) {
            (_, false) => Stored::FlushSlaveTimeout,
            (false, true) => Stored::FlushDiskTimeout,
            (true, true) => Stored::Ok,
        }
    }

    /// Tells the members of a group to look at their queues again.
    pub fn notify_change(&self, changed: Option<Changed>) {
        let Some(changed) = changed else { return };
        let allowed = self.groups.get(&changed.group).is_none_or(|group| group.notify_consumer_ids_changed_enable);
        if !allowed || !self.config().notify_consumer_ids_changed_enable {
            return;
        }
        let header = NotifyConsumerIdsChangedRequestHeader { consumer_group: changed.group, ..Default::default() };
        for member in changed.members {
            member.send_oneway(Command::request_with(request::NOTIFY_CONSUMER_IDS_CHANGED, &header));
        }
    }

    /// The end of what the device and every connected slave hold.
    pub fn safe_end(&self) -> i64 {
        self.store.marks().flushed.get().min(self.replicas.slowest().unwrap_or(i64::MAX))
    }
}

fn store_host(config: &BrokerConfig) -> SocketAddr {
    let host = address::host(&config.broker_ip1);
    let ip = host.parse().unwrap_or_else(|_| {
        use std::net::ToSocketAddrs;
        let found = (host, 0).to_socket_addrs().ok().and_then(|mut all| all.next());
        found.map_or(IpAddr::from([127, 0, 0, 1]), |address| address.ip())
    });
    SocketAddr::new(ip, config.listen_port)
}

/// Milliseconds that tests have stepped the wall clock of this process by.
static CLOCK_STEP_MS: AtomicI64 = AtomicI64::new(0);

/// Milliseconds since the epoch, for what is stored and shown. Whatever lasts or expires goes by
/// [`tokio::time::Instant`], which no clock step moves (F-20).
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    since + CLOCK_STEP_MS.load(Ordering::Relaxed)
}

/// Steps the wall clock of this process, as an operator or a time server would. For tests.
pub fn step_clock(by_ms: i64) {
    CLOCK_STEP_MS.fetch_add(by_ms, Ordering::Relaxed);
}

/// The `See …` line that upstream appends to some remarks; tools look for it.
pub const FAQ: &str = "\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.";
