//! Registration at the name servers: at start, periodically, and soon after a topic changed.
//! Source: `broker/.../BrokerController.java`, `out/BrokerOuterAPI.java`; reference broker 13.1.
//!
//! A change rings here. Each server is served on its own, one registration at a time, which tells all that has changed
//! until then: none can overtake a newer one, and a server that does not answer delays nobody (F-10). Operators' changes wait
//! for an answer a little while, as they ask for the route next.
//!
//! A new or changed topic is told alone where that is safe, as each creation would else cost what all topics cost: to a
//! name server that got all topics from this broker over the connection that is still open, and says that it still has them.
//! One that was started again, or took the broker out, gets them all (F-12). The same that Java's brokers do with
//! `enableSingleTopicRegister`; a registration with some topics only, as they send without it, lets a name server with
//! `deleteTopicWithBrokerRegistration` forget all others. Every period tells all, whatever was told alone before.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use client::{ClientError, Registration};
use parking_lot::{Mutex, RwLock};
use remoting::Connection;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, timeout},
};
use wire::{
    body::{DataVersion, KvTable, QueueData, RegisterBrokerBody, TopicConfig},
    code::response,
    header::QueryDataVersionRequestHeader,
    topic::perm,
};

use self::changes::Changes;
use crate::{
    config::BrokerConfig,
    context::{Broker, now_ms},
    tasks,
};

mod changes;

const FIRST_LIMIT: Duration = Duration::from_secs(3);
/// How long an operator's change waits for the name servers.
const TOLD_LIMIT: Duration = Duration::from_millis(500);
/// How often it is looked whether a registration is due.
const LOOK: Duration = Duration::from_secs(1);
/// The same while the next master is about to register.
const SOON: Duration = Duration::from_millis(100);
/// How often it is said of a name server that it does not answer: a slave without a master asks each second.
const SAY: Duration = Duration::from_secs(60);
/// How often a name server that did not answer is asked again: back and empty, it leads nobody anywhere.
const AGAIN: Duration = Duration::from_secs(5);

/// The name servers of this broker.
pub struct Registrar {
    servers: RwLock<Vec<Arc<NameServer>>>,
    changes: Mutex<Changes>,
    bell: Notify,
    /// Counts registrations that ended, well or not.
    attempts: watch::Sender<u64>,
}

/// One name server, while it is configured.
pub struct NameServer {
    addr: String,
    bell: Notify,
    /// Held while a registration is on its way: what shall come after it waits.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    has_worker: bool,
    /// How many of the changes the last registration told of, and the last one that was answered. 0: none yet.
    tried: u64,
    known: u64,
    /// Nobody waits for it: it did not answer, or not in time.
    is_slow: bool,
    /// When it was said that it does not answer; until it does.
    silent: Option<Instant>,
    /// All topics are to be told once more.
    is_due: bool,
    /// The last registration, of a master, unless something failed since or this broker said that it goes.
    whole: Option<Whole>,
    /// The connection over which single topics are not understood (4.9).
    refused: Option<u64>,
}

/// All topics, as a name server got them.
#[derive(Clone)]
struct Whole {
    over: Arc<Connection>,
    version: DataVersion,
}

/// What a name server is to be told.
enum Due {
    Nothing,
    Topics(BTreeSet<String>, Whole),
    All,
}

impl NameServer {
    fn new(addr: String) -> Arc<Self> {
        Arc::new(Self { addr, bell: Notify::new(), turn: tokio::sync::Mutex::default(), state: Mutex::default() })
    }

    /// It answered; true when it had not before.
    fn answered(&self) -> bool {
        self.state.lock().silent.take().is_some()
    }

    /// What is to be told of `changes`.
    fn due(&self, changes: &Changes) -> Due {
        let mut state = self.state.lock();
        let is_due = std::mem::take(&mut state.is_due);
        let whole = state.whole.as_ref().filter(|whole| !is_due && whole.over.is_open());
        match whole.zip(changes.topics_since(state.known)) {
            Some((_, topics)) if topics.is_empty() => Due::Nothing,
            Some((whole, topics)) if state.refused != Some(whole.over.id()) => Due::Topics(topics, whole.clone()),
            _ => Due::All,
        }
    }

    /// It did not answer; true when it is time to say so.
    fn failed(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let is_due = state.silent.is_none_or(|said| now.duration_since(said) >= SAY);
        if is_due {
            state.silent = Some(now);
        }
        is_due
    }
}

impl Registrar {
    /// From `namesrvAddr`.
    pub fn new(config: &BrokerConfig) -> Self {
        Self {
            servers: RwLock::new(split(&config.namesrv_addr).map(NameServer::new).collect()),
            changes: Mutex::default(),
            bell: Notify::new(),
            attempts: watch::Sender::new(0),
        }
    }

    /// Addresses of the name servers.
    pub fn namesrv_list(&self) -> Vec<String> {
        self.servers.read().iter().map(|server| server.addr.clone()).collect()
    }

    fn servers(&self) -> Vec<Arc<NameServer>> {
        self.servers.read().clone()
    }

    /// Takes a new list; answers the servers that are no longer in it.
    pub fn set_list(&self, namesrv_addr: &str) -> Vec<Arc<NameServer>> {
        let mut old = self.servers();
        let known = |addr: String| match old.iter().position(|server| server.addr == addr) {
            Some(at) => old.remove(at),
            None => NameServer::new(addr),
        };
        let new = split(namesrv_addr).map(known).collect();
        *self.servers.write() = new;
        // Their workers end.
        old.iter().for_each(|server| server.bell.notify_one());
        self.changed();
        old
    }

    /// Something that clients or other brokers see has changed: register soon.
    pub fn changed(&self) {
        self.changes.lock().any();
        self.bell.notify_one();
    }

    /// The same of a topic that is new or another one now.
    pub fn topic_changed(&self, name: &str) {
        self.changes.lock().topic(name);
        self.bell.notify_one();
    }

    /// How often something has changed.
    pub fn changes(&self) -> u64 {
        self.changes.lock().count()
    }

    /// Waits until every name server has been told of all that has changed until now, for 500 ms at most and for none that
    /// took longer last time. Clients ask for the route of a topic as soon as they hear that it is there.
    pub async fn told(&self) {
        let (changes, servers) = (self.changes(), self.servers());
        let is_told = |server: &Arc<NameServer>| {
            let state = server.state.lock();
            state.tried >= changes || state.is_slow
        };
        if !self.until(TOLD_LIMIT, || servers.iter().all(is_told)).await {
            let late = servers.iter().filter(|server| !is_told(server));
            late.for_each(|server| server.state.lock().is_slow = true);
        }
    }

    /// Looks whenever a registration has ended; false when it was not so in time.
    async fn until(&self, limit: Duration, is_so: impl Fn() -> bool) -> bool {
        let mut attempts = self.attempts.subscribe();
        timeout(limit, attempts.wait_for(|_| is_so())).await.is_ok()
    }
}

fn split(list: &str) -> impl Iterator<Item = String> {
    list.split(';').map(str::trim).filter(|server| !server.is_empty()).map(str::to_owned)
}

/// Begins to register, and waits until one server has answered, or none does, or for 3 s.
pub async fn start(broker: &Arc<Broker>) {
    let registrar = &broker.registrar;
    tasks::spawn("registration", run(broker.clone()));
    registrar.changed();
    let servers = registrar.servers();
    if servers.is_empty() {
        tracing::warn!("no name server is configured (namesrvAddr): clients will not find this broker");
        return;
    }
    let knows = |server: &Arc<NameServer>| server.state.lock().known > 0;
    let was_tried = |server: &Arc<NameServer>| server.state.lock().tried > 0;
    registrar.until(FIRST_LIMIT, || servers.iter().any(knows) || servers.iter().all(was_tried)).await;
}

/// Rings at every server when something changed, and periodically, until the broker stops.
async fn run(broker: Arc<Broker>) {
    let mut workers = JoinSet::new();
    let mut last = Instant::now();
    while !broker.is_stopping() {
        let is_rung = timeout(LOOK.min(period(&broker)), broker.registrar.bell.notified()).await.is_ok();
        // The period may become shorter meanwhile.
        let is_due = last.elapsed() >= period(&broker);
        if is_due {
            last = Instant::now();
        } else if !is_rung {
            continue;
        }
        for server in broker.registrar.servers() {
            let mut state = server.state.lock();
            state.is_due |= is_due;
            if !std::mem::replace(&mut state.has_worker, true) {
                workers.spawn(tasks::guard("registration", work(broker.clone(), server.clone())));
            }
            drop(state);
            server.bell.notify_one();
        }
        while workers.try_join_next().is_some() {}
    }
    broker.registrar.servers().iter().for_each(|server| server.bell.notify_one());
    workers.join_all().await;
}

/// Registers at one server whenever it rings, as long as that is configured.
async fn work(broker: Arc<Broker>, server: Arc<NameServer>) {
    loop {
        let is_silent = server.state.lock().silent.is_some();
        tokio::select! {
            () = server.bell.notified() => {}
            () = tokio::time::sleep(AGAIN), if is_silent => {}
        }
        let _turn = server.turn.lock().await;
        let is_configured = broker.registrar.servers.read().iter().any(|other| Arc::ptr_eq(other, &server));
        if !is_configured || broker.is_stopping() {
            return;
        }
        if broker.is_leaving() {
            continue;
        }
        let (changes, due) = {
            let changes = broker.registrar.changes.lock();
            (changes.count(), server.due(&changes))
        };
        let is_known = match due {
            Due::Nothing => continue,
            Due::Topics(names, whole) if tell_topics(&broker, &server, &names, &whole).await => true,
            Due::Topics(..) | Due::All => register_at(&broker, &server).await,
        };
        let mut state = server.state.lock();
        state.tried = changes;
        state.is_slow = !is_known;
        if is_known {
            state.known = changes;
        }
        drop(state);
        broker.registrar.attempts.send_modify(|attempts| *attempts += 1);
    }
}

/// A slave that does not know its master asks each second: the master may have started after it; and more often just after a role
/// change, as SYNC_MASTER acknowledges nothing before the old master follows the new one. One whose master does not answer asks
/// every few seconds: another broker may be it now.
fn period(broker: &Broker) -> Duration {
    let config = broker.config();
    if !config.is_master() && broker.sync.expects_master() {
        return SOON;
    }
    if !config.is_master() && broker.sync.master_addr().is_none() {
        return LOOK;
    }
    if !config.is_master() && broker.sync.is_failing() {
        return Duration::from_secs(5);
    }
    Duration::from_millis(config.register_name_server_period.clamp(10_000, 60_000))
}

/// Tells of single topics; false when a registration with all is needed. Java's name server says yes also when it does not
/// know the broker, so it is asked whether it still has its topics.
async fn tell_topics(broker: &Broker, server: &NameServer, names: &BTreeSet<String>, whole: &Whole) -> bool {
    let told = try_topics(broker, names, whole).await;
    if let Err(ClientError::Answer { code: response::REQUEST_CODE_NOT_SUPPORTED, .. }) = told {
        server.state.lock().refused = Some(whole.over.id());
    }
    told.inspect_err(|error| tracing::debug!("all topics are told to name server {}: {error}", server.addr))
        .unwrap_or(false)
}

async fn try_topics(broker: &Broker, names: &BTreeSet<String>, whole: &Whole) -> Result<bool, ClientError> {
    let (config, api) = (broker.config(), &broker.api);
    let limit = Duration::from_millis(config.register_broker_timeout_mills);
    for name in names {
        let Some(topic) = broker.topics.get(name) else { return Ok(false) };
        let queues = QueueData {
            broker_name: config.broker_name.clone(),
            perm: told_perm(&config, topic.perm),
            read_queue_nums: topic.read_queue_nums,
            topic_sys_flag: topic.topic_sys_flag,
            write_queue_nums: topic.write_queue_nums,
        };
        api.register_topic(&whole.over, name, queues, limit).await?;
    }
    let header = QueryDataVersionRequestHeader {
        broker_name: config.broker_name.clone(),
        broker_addr: config.broker_addr(),
        cluster_name: config.broker_cluster_name.clone(),
        broker_id: config.broker_id,
    };
    Ok(!api.has_changed(&whole.over, &header, &whole.version, limit).await?)
}

async fn register_at(broker: &Broker, server: &NameServer) -> bool {
    let (config, addr) = (broker.config(), &server.addr);
    let registration = registration(broker, &config);
    let limit = Duration::from_millis(config.register_broker_timeout_mills);
    let answer = broker.api.register_broker(addr, &registration, limit).await;
    let version = registration.body.topic_config_serialize_wrapper.data_version;
    // A name server takes no topics from a slave.
    let master = answer.as_ref().ok().filter(|_| config.is_master());
    server.state.lock().whole = master.map(|answer| Whole { over: answer.over.clone(), version });
    match answer {
        Ok(answer) => {
            if server.answered() {
                tracing::info!("registration at name server {addr} works again");
            }
            broker.sync.learned(|| broker.config(), answer.master_addr, answer.ha_server_addr);
            if broker.config().is_master() {
                set_ordered(broker, &answer.order_topics);
            }
            true
        }
        Err(error) => {
            if server.failed(Instant::now()) {
                tracing::warn!("registration at name server {addr} failed, it is tried again: {error}");
            }
            false
        }
    }
}

/// A slave has it from its master. Name servers hear of it with the next registration, as from upstream's brokers.
fn set_ordered(broker: &Broker, topics: &KvTable) {
    if let Err(error) = broker.topics.set_ordered(topics.table.keys(), now_ms()) {
        tracing::error!("{error}");
    }
}

fn registration(broker: &Broker, config: &BrokerConfig) -> Registration {
    let mut wrapper = broker.topics.snapshot();
    let limit = |topic: &mut TopicConfig| topic.perm = told_perm(config, topic.perm);
    wrapper.topic_config_table.values_mut().for_each(limit);
    Registration {
        cluster_name: config.broker_cluster_name.clone(),
        broker_name: config.broker_name.clone(),
        broker_id: config.broker_id,
        broker_addr: config.broker_addr(),
        ha_server_addr: config.ha_addr(),
        body: RegisterBrokerBody { topic_config_serialize_wrapper: wrapper, ..RegisterBrokerBody::default() },
    }
}

/// A broker that may not do all takes that from its topics.
fn told_perm(config: &BrokerConfig, topic: i32) -> i32 {
    let is_restricted = config.broker_permission & perm::READ_WRITE != perm::READ_WRITE;
    if is_restricted { topic & config.broker_permission } else { topic }
}

/// Tells every name server that this broker goes.
pub async fn unregister_all(broker: &Arc<Broker>) {
    unregister(broker, broker.registrar.servers()).await;
}

/// Tells some name servers that this broker goes. A registration that is on its way is waited for: it would bring the broker
/// back.
pub async fn unregister(broker: &Arc<Broker>, servers: Vec<Arc<NameServer>>) {
    let mut tasks = JoinSet::new();
    for server in servers {
        let broker = broker.clone();
        tasks.spawn(async move {
            let registration = registration(&broker, &broker.config());
            let told = timeout(FIRST_LIMIT, async {
                let _turn = server.turn.lock().await;
                server.state.lock().whole = None;
                broker.api.unregister_broker(&server.addr, &registration, FIRST_LIMIT).await
            });
            let reason = match told.await {
                Ok(Ok(_)) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", FIRST_LIMIT.as_secs()),
            };
            tracing::warn!("name server {} was not told that this broker goes: {reason}", server.addr);
        });
    }
    while tasks.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_that_stays_silent_is_told_of_once_a_minute() {
        let server = NameServer::new("a:1".into());
        let start = Instant::now();
        let said = (0..121).filter(|second| server.failed(start + Duration::from_secs(*second))).count();
        assert_eq!(said, 3, "a slave without a master asks each second");
        assert!(server.answered() && !server.answered());
        assert!(server.failed(start), "it was there meanwhile");
    }

    #[test]
    fn servers_that_stay_in_the_list_stay_the_same() {
        let mut config = BrokerConfig::default();
        config.set("namesrvAddr", "a:1;b:1").unwrap();
        let registrar = Registrar::new(&config);
        let before = registrar.servers();
        let left = registrar.set_list("c:1; b:1;");
        assert!(left.len() == 1 && Arc::ptr_eq(&left[0], &before[0]));
        assert!(Arc::ptr_eq(&registrar.servers()[1], &before[1]));
        assert_eq!(registrar.namesrv_list(), ["c:1", "b:1"]);
    }
}
