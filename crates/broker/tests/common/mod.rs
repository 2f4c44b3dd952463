//! A name server, a master and a slave inside the test process, on free ports and a temporary directory.
#![allow(dead_code)]

pub mod lines;
pub mod relay;

use std::{
    future::Future,
    net::TcpListener,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use broker::{BrokerConfig, RunningBroker};
use client::{BrokerApi, OutgoingMessage, Sent};
use tempfile::TempDir;
use tokio::time::Instant;
use wire::{
    body::TopicConfig,
    header::{PullMessageRequestHeader, SendMessageRequestHeaderV2},
    property, sys_flag,
    topic::AUTO_CREATE,
};

/// Nothing here takes longer, on the slowest machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Three free ports in a row: fast, main + 2, replication + 3. Below those that the system gives to connections: one of
/// them could take the port of a broker between its stop and its next start.
pub fn ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 16_000 + (std::process::id() % 800) as u16 * 20;
    loop {
        let port = base.wrapping_add(NEXT.fetch_add(5, Ordering::Relaxed)).max(1100) + 2;
        let free = [port - 2, port, port + 1].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
        if free {
            return port;
        }
    }
}

/// A client of its own.
pub fn api() -> BrokerApi {
    let client = remoting::Client::new(remoting::ClientConfig::default(), None);
    BrokerApi::new(Arc::new(client)).with_limit(Duration::from_secs(10))
}

/// Files as large as users have them, for measurements: those of [`Node`] are so small that a second would fill dozens.
pub const FILES_OF_USE: [(&str, &str); 4] = [
    ("mappedFileSizeCommitLog", "1073741824"),
    ("mappedFileSizeConsumeQueue", "6000000"),
    ("maxHashSlotNum", "5000000"),
    ("maxIndexNum", "20000000"),
];

/// One broker and its directory.
pub struct Node {
    pub running: Option<RunningBroker>,
    pub addr: String,
    pub port: u16,
    pub root: PathBuf,
    pub keys: Vec<(String, String)>,
    pub disk: Arc<dyn store::Disk>,
}

/// The disk of the machine that tests run on may be as full as it likes.
const WHATEVER_OTHERS_USE: [(&str, &str); 3] =
    [("cleanFileForciblyEnable", "false"), ("diskReservedBytes", "0"), ("diskSpaceWarningLevelRatio", "100")];

impl Node {
    pub async fn start(dir: &TempDir, name: &str, keys: &[(&str, &str)]) -> Self {
        Self::start_on(Arc::new(store::RealDisk), dir, name, keys).await
    }

    pub async fn start_on(disk: Arc<dyn store::Disk>, dir: &TempDir, name: &str, keys: &[(&str, &str)]) -> Self {
        lines::Lines::of_process();
        let port = ports();
        let root = dir.path().join(name);
        let mut all: Vec<(String, String)> = [
            ("brokerName", "broker-a".to_owned()),
            ("brokerIP1", "127.0.0.1".into()),
            ("brokerIP2", "127.0.0.1".into()),
            ("bindAddress", "127.0.0.1".into()),
            ("listenPort", port.to_string()),
            ("storePathRootDir", root.display().to_string()),
            ("mappedFileSizeCommitLog", "1048576".into()),
            ("mappedFileSizeConsumeQueue", "6000".into()),
            ("maxHashSlotNum", "2000".into()),
            ("maxIndexNum", "6000".into()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        all.extend(WHATEVER_OTHERS_USE.map(|(key, value)| (key.to_owned(), value.to_owned())));
        all.extend(keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let mut node = Self { running: None, addr: format!("127.0.0.1:{port}"), port, root, keys: all, disk };
        node.again().await;
        let config = node.broker().config();
        if config.broker_ip1.contains(':') {
            node.addr = config.broker_addr();
        }
        node
    }

    pub fn config(&self) -> BrokerConfig {
        let mut config = BrokerConfig::default();
        for (key, value) in &self.keys {
            config.set(key, value).unwrap();
        }
        config
    }

    /// Starts it again with the same keys.
    pub async fn again(&mut self) {
        self.running = Some(RunningBroker::start_on(self.config(), None, self.disk.clone()).await.unwrap());
    }

    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown().await.unwrap();
        }
    }

    pub fn broker(&self) -> &Arc<broker::context::Broker> {
        &self.running.as_ref().unwrap().broker
    }
}

/// A whole pair.
pub struct Pair {
    pub name_server: namesrv::NameServer,
    pub namesrv_addr: String,
    pub master: Node,
    pub slave: Node,
    pub dir: TempDir,
    pub api: BrokerApi,
}

pub async fn name_server(dir: &TempDir) -> (namesrv::NameServer, String) {
    name_server_at(dir, 0).await
}

pub async fn name_server_at(dir: &TempDir, listen_port: u16) -> (namesrv::NameServer, String) {
    let config = namesrv::NamesrvConfig {
        listen_port,
        bind_address: "127.0.0.1".into(),
        kv_config_path: dir.path().join("kv.json").display().to_string(),
        ..namesrv::NamesrvConfig::default()
    };
    let server = namesrv::NameServer::start(config).await.unwrap();
    let addr = server.local_addr().to_string();
    (server, addr)
}

impl Pair {
    /// SYNC_MASTER with two copies, and further keys.
    pub async fn start(master_keys: &[(&str, &str)], slave_keys: &[(&str, &str)]) -> Self {
        let disk = || Arc::new(store::RealDisk);
        Self::start_on([disk(), disk()], master_keys, slave_keys).await
    }

    /// The same on two disks, the master's first.
    pub async fn start_on<D: store::Disk + 'static>(
        [master_disk, slave_disk]: [Arc<D>; 2],
        master_keys: &[(&str, &str)],
        slave_keys: &[(&str, &str)],
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (name_server, namesrv_addr) = name_server(&dir).await;
        let mut keys =
            vec![("brokerRole", "SYNC_MASTER"), ("inSyncReplicas", "2"), ("namesrvAddr", namesrv_addr.as_str())];
        keys.extend(master_keys);
        let master = Node::start_on(master_disk, &dir, "master", &keys).await;
        let mut keys = vec![
            ("brokerRole", "SLAVE"),
            ("brokerId", "1"),
            ("slaveReadEnable", "true"),
            ("slaveSyncInterval", "100"),
            ("namesrvAddr", namesrv_addr.as_str()),
        ];
        keys.extend(slave_keys);
        let slave = Node::start_on(slave_disk, &dir, "slave", &keys).await;
        let pair = Self { name_server, namesrv_addr, master, slave, dir, api: api() };
        until("the slave follows", || async { pair.master.broker().replicas.connections() == 1 }).await;
        pair
    }

    pub async fn stop(mut self) {
        self.slave.stop().await;
        self.master.stop().await;
        self.name_server.shutdown().await;
    }

    /// Waits until the slave holds what the master holds, and has built its queues.
    pub async fn equal(&self) {
        until("the slave holds everything", || async {
            let (master, slave) = (&self.master.broker().store, &self.slave.broker().store);
            let is_dispatched = |store: &store::Store| store.marks().dispatched.get() == store.max_phys();
            master.max_phys() == slave.max_phys() && is_dispatched(master) && is_dispatched(slave)
        })
        .await;
    }
}

/// Polls a condition until it holds, or fails the test by its name.
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let end = Instant::now() + LIMIT;
    while !condition().await {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Creates a topic with that many queues.
pub async fn topic(api: &BrokerApi, addr: &str, name: &str, queues: i32) {
    let config = TopicConfig {
        topic_name: name.into(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        ..TopicConfig::default()
    };
    api.update_topic(addr, &config).await.unwrap();
}

/// Header of a send with property pairs.
pub fn header(topic: &str, queue_id: i32, properties: &[(&str, &str)]) -> SendMessageRequestHeaderV2 {
    let mut text = Vec::new();
    for (name, value) in properties {
        property::push(&mut text, name, value);
    }
    SendMessageRequestHeaderV2 {
        producer_group: "P".into(),
        topic: topic.into(),
        default_topic: AUTO_CREATE.into(),
        default_topic_queue_nums: 4,
        queue_id,
        properties: Some(String::from_utf8(text).unwrap()),
        ..SendMessageRequestHeaderV2::default()
    }
}

/// Sends one message and expects it to be stored.
pub async fn send(
    api: &BrokerApi,
    addr: &str,
    topic: &str,
    queue_id: i32,
    properties: &[(&str, &str)],
    body: &[u8],
) -> Sent {
    api.send(addr, &header(topic, queue_id, properties), body.to_vec(), Duration::from_secs(10)).await.unwrap()
}

/// A message for a batch.
pub fn message(body: &str) -> OutgoingMessage {
    OutgoingMessage::new(body.as_bytes().to_vec())
}

/// All bodies of a queue from `offset` on.
pub async fn drain(api: &BrokerApi, addr: &str, topic: &str, queue_id: i32, mut offset: i64) -> Vec<Vec<u8>> {
    let puller = client::Puller::new(api.clone(), addr, "G");
    let mut bodies = Vec::new();
    loop {
        let pulled = puller.pull(topic, queue_id, offset, 32).await.unwrap();
        bodies.extend(pulled.records().map(|record| record.body().to_vec()));
        if pulled.code != wire::code::response::SUCCESS {
            return bodies;
        }
        offset = pulled.header.next_begin_offset;
    }
}

/// Processor time of this process, in hundredths of a second.
pub fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The slave looks at its master's tables when the test says so.
pub const BY_HAND: (&str, &str) = ("slaveSyncInterval", "3600000");

/// One round of metadata sync.
pub async fn sync(node: &Node) {
    assert!(broker::sync::round(node.broker()).await, "the master answers");
}

/// False where the queues of `topic` are gone from memory and disk.
pub fn has_queues(node: &Node, topic: &str) -> bool {
    let in_memory = node.broker().store.queues().iter().any(|(name, _)| **name == *topic);
    in_memory || node.root.join("consumequeue").join(topic).exists()
}

/// Header of a pull at 3 of a consumer G that has committed 3, which is the end of queue 0 of T.
pub fn pull_at_three(more_flags: i32) -> PullMessageRequestHeader {
    PullMessageRequestHeader {
        consumer_group: "G".into(),
        topic: "T".into(),
        queue_id: Some(0),
        queue_offset: Some(3),
        commit_offset: Some(3),
        max_msg_nums: 1,
        sys_flag: sys_flag::PULL_SUBSCRIPTION | sys_flag::PULL_COMMIT_OFFSET | more_flags,
        suspend_timeout_millis: 600_000,
        subscription: Some("*".into()),
        ..PullMessageRequestHeader::default()
    }
}

/// A broker with three messages in queue 0 of T.
pub async fn node_with_three(dir: &TempDir) -> (Node, BrokerApi) {
    let node = Node::start(dir, "m", &[]).await;
    let api = api();
    topic(&api, &node.addr, "T", 1).await;
    for _ in 0..3 {
        send(&api, &node.addr, "T", 0, &[], b"x").await;
    }
    assert_eq!(api.max_offset(&node.addr, "T", 0).await.unwrap(), 3);
    (node, api)
}
