//! Replication of the commit log over sockets: thin shells around the state machines of `replica`.
//! [`master`] accepts slaves and sends [`frames`], [`slave`] follows a master that [`parted`] finds nothing against, [`seams`]
//! are what it could not look at yet, [`Replicas`] holds what is known of the copies.

pub mod frames;
pub mod master;
pub mod parted;
pub mod seams;
pub mod slave;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use replica::{AckTable, SlaveClose};
use store::Mark;
use tokio::{sync::watch, time::Instant};
use wire::body::{HAClientRuntimeInfo, HAConnectionRuntimeInfo, HARuntimeInfo};

use self::frames::Frames;
use crate::context::{Broker, now_ms};

/// When a slave has reported for the first time: upstream's does so `haSendHeartbeatInterval` after it has connected, 5 s.
const FIRST_REPORT: Duration = Duration::from_secs(6);

/// Copies of the log, and this broker's own following.
pub struct Replicas {
    state: Mutex<State>,
    /// Changes at each role change and at the end; everything older ends, this broker's own following for the reason that is
    /// in it.
    term: watch::Sender<Option<SlaveClose>>,
    /// Held by the follower while it may append.
    following: tokio::sync::Mutex<()>,
    paused: AtomicBool,
    next_connection: AtomicU64,
    follower: Mutex<HAClientRuntimeInfo>,
}

#[derive(Default)]
struct State {
    acks: AckTable,
    marks: BTreeMap<usize, Arc<Mark>>,
    connections: HashMap<u64, SlaveConnection>,
    /// How far slaves of this term were sent this log, and in which frames, by their address.
    sent: HashMap<IpAddr, (i64, Frames)>,
    /// The highest offset at which a slave of this term began with an empty log.
    floor: i64,
}

struct SlaveConnection {
    addr: String,
    acked: i64,
    next: i64,
    sent: u64,
    since: Instant,
}

impl Default for Replicas {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            term: watch::Sender::new(None),
            following: tokio::sync::Mutex::default(),
            paused: AtomicBool::new(false),
            next_connection: AtomicU64::new(1),
            follower: Mutex::default(),
        }
    }
}

impl Replicas {
    /// The mark that says how far `copies` copies reach.
    pub fn mark(&self, copies: usize, own_end: i64) -> Arc<Mark> {
        let mut state = self.state.lock();
        let now = state.acks.replicated(copies, own_end).unwrap_or(-1);
        state.marks.entry(copies).or_insert_with(|| Arc::new(Mark::new(now))).clone()
    }

    /// How far `copies` copies reach.
    pub fn replicated(&self, copies: usize, own_end: i64) -> i64 {
        self.state.lock().acks.replicated(copies, own_end).unwrap_or(-1)
    }

    /// True for a message before the first segment of a slave that came empty: what that slave reports says nothing of
    /// it. Such a message was on its way while the slave joined; every later one lies behind.
    pub fn is_before_a_slave(&self, end: i64) -> bool {
        end <= self.state.lock().floor
    }

    fn began_at(&self, first: Option<i64>) {
        let mut state = self.state.lock();
        state.floor = state.floor.max(first.unwrap_or(0));
    }

    /// A new term: what slaves acknowledged before counts no longer.
    pub fn new_term(&self) {
        let mut state = self.state.lock();
        state.acks = AckTable::new();
        state.marks.clear();
        state.sent.clear();
        state.floor = 0;
    }

    /// No follower starts before the configuration says of whom.
    pub fn pause_following(&self) {
        self.paused.store(true, Ordering::Release);
    }

    /// A follower may start again, once the configuration says of whom.
    pub fn allow_following(&self) {
        self.paused.store(false, Ordering::Release);
    }

    /// Ends every replication connection.
    pub fn disconnect_all(&self) {
        self.term.send_replace(None);
    }

    /// The same because the master that is followed turned out to have another log.
    pub fn end_parted(&self, reason: SlaveClose) {
        self.term.send_replace(Some(reason));
    }

    /// Ends the following of a master and waits until nothing of it can be appended any more.
    pub async fn end_following(&self) {
        self.pause_following();
        self.disconnect_all();
        drop(self.following.lock().await);
    }

    fn connected(&self, id: u64, addr: String) {
        let connection = SlaveConnection { addr, acked: -1, next: -1, sent: 0, since: Instant::now() };
        self.state.lock().connections.insert(id, connection);
    }

    /// True for a connection that was a slave's.
    fn disconnected(&self, id: u64, slave: IpAddr) -> bool {
        let mut state = self.state.lock();
        state.acks.disconnect(&slave.to_string(), id);
        state.connections.remove(&id).is_some_and(|connection| connection.is_slave())
    }

    /// Counts an acknowledgement once for each address a slave comes from (W-2): the newest connection that has
    /// reported stands for it. Classic replication names no slave otherwise. True for the first one of a connection.
    fn acknowledged(&self, id: u64, slave: IpAddr, offset: i64, own_end: i64) -> bool {
        let mut state = self.state.lock();
        let slave = slave.to_string();
        let first = state.connections.get(&id).is_some_and(|connection| !connection.is_slave());
        if first || !state.acks.replicas().any(|(known, _)| known == slave) {
            state.acks.connect(&slave, id);
        }
        state.acks.ack(&slave, id, offset, own_end);
        if let Some(connection) = state.connections.get_mut(&id) {
            connection.acked = offset;
        }
        let State { acks, marks, .. } = &mut *state;
        for (copies, mark) in marks {
            mark.advance(acks.replicated(*copies, own_end).unwrap_or(-1));
        }
        first
    }

    fn sent(&self, id: u64, slave: IpAddr, next: i64, bytes: usize, frames: &Frames) {
        let mut state = self.state.lock();
        if let Some(connection) = state.connections.get_mut(&id) {
            connection.next = next;
            connection.sent += bytes as u64;
        }
        let (sent, of_slave) = state.sent.entry(slave).or_default();
        *sent = next.max(*sent);
        of_slave.clone_from(frames);
    }

    /// Where a record is that a slave at that address has a part of.
    fn frames(&self, slave: IpAddr) -> Frames {
        self.state.lock().sent.get(&slave).map(|(_, frames)| frames.clone()).unwrap_or_default()
    }

    /// True when this broker sent a slave at that address this log up to there, in this term.
    fn has_sent(&self, slave: IpAddr, offset: i64) -> bool {
        self.state.lock().sent.get(&slave).is_some_and(|(sent, _)| offset <= *sent)
    }

    /// How far the slowest connected slave is; `None` without one.
    pub fn slowest(&self) -> Option<i64> {
        self.least_acked(SlaveConnection::is_slave)
    }

    /// The same of those that may be the master soon: what has connected just now may be a slave that has nothing yet.
    pub fn slowest_successor(&self) -> Option<i64> {
        self.least_acked(|connection| connection.is_slave() || connection.since.elapsed() < FIRST_REPORT)
    }

    fn least_acked(&self, counts: impl Fn(&SlaveConnection) -> bool) -> Option<i64> {
        let state = self.state.lock();
        let counting = state.connections.values().filter(|connection| counts(connection));
        counting.map(|connection| connection.acked).min()
    }

    /// Number of connected slaves.
    pub fn slaves(&self) -> usize {
        self.state.lock().connections.values().filter(|connection| connection.is_slave()).count()
    }

    /// Number of connections: of slaves, and of what has not reported yet.
    pub fn connections(&self) -> usize {
        self.state.lock().connections.len()
    }

    /// The answer to GET_BROKER_HA_STATUS.
    pub fn ha_status(&self, broker: &Broker) -> HARuntimeInfo {
        let config = broker.config();
        let own_end = broker.store.max_phys();
        if !config.is_master() {
            let mut info = self.follower.lock().clone();
            info.max_offset = own_end;
            return HARuntimeInfo { master: false, ha_client_runtime_info: info, ..HARuntimeInfo::default() };
        }
        let state = self.state.lock();
        let gap = config.ha_max_gap_not_in_sync;
        let ha_connection_info: Vec<_> =
            state.connections.values().map(|connection| connection.info(own_end, gap)).collect();
        HARuntimeInfo {
            master: true,
            master_commit_log_max_offset: own_end,
            in_sync_slave_nums: ha_connection_info.iter().filter(|info| info.in_sync).count() as i32,
            ha_connection_info,
            ..HARuntimeInfo::default()
        }
    }

    fn followed(&self, update: impl FnOnce(&mut HAClientRuntimeInfo)) {
        update(&mut self.follower.lock());
    }
}

impl SlaveConnection {
    /// What has not reported is no slave yet: it may be anybody.
    fn is_slave(&self) -> bool {
        self.acked >= 0
    }

    fn info(&self, own_end: i64, gap: i64) -> HAConnectionRuntimeInfo {
        let seconds = self.since.elapsed().max(Duration::from_secs(1)).as_secs();
        HAConnectionRuntimeInfo {
            addr: Some(self.addr.clone()),
            slave_ack_offset: self.acked,
            diff: own_end - self.acked,
            in_sync: self.is_slave() && own_end - self.acked < gap,
            transferred_byte_in_second: (self.sent / seconds) as i64,
            transfer_from_where: self.next,
        }
    }
}

/// Monotonic milliseconds for the state machines.
fn ticks(broker: &Broker) -> u64 {
    broker.started.elapsed().as_millis() as u64
}

fn wall_ms() -> i64 {
    now_ms()
}
