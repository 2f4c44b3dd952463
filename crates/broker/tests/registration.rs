//! What name servers are told, and when.

mod common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use client::{BrokerApi, Registration};
use common::{LIMIT, Node, api, name_server, name_server_at, topic, until};
use remoting::{Connection, Requests, Server, ServerConfig, Service};
use wire::{
    Command,
    code::{request, response},
    header::{DeleteTopicFromNamesrvRequestHeader, PutKVConfigRequestHeader},
};

type Held = Mutex<Option<Vec<(Arc<Connection>, Command)>>>;

/// In front of a name server: keeps registrations back while it holds, and tells what came.
struct Gate {
    api: BrokerApi,
    namesrv: String,
    /// `None`: nothing is held.
    held: Held,
    /// Connection and code.
    seen: Mutex<Vec<(u64, i32)>>,
    /// As a name server of 4.9.
    knows_no_single_topics: AtomicBool,
}

impl Gate {
    fn pass(&self, conn: Arc<Connection>, command: Command) {
        let (api, namesrv) = (self.api.clone(), self.namesrv.clone());
        tokio::spawn(async move {
            let opaque = command.opaque;
            let answer = api.ask(&namesrv, command, LIMIT).await.unwrap();
            conn.reply(Command { opaque, ..answer });
        });
    }

    fn refuse(&self, conn: &Connection, command: &Command) {
        conn.reply(command.error(response::REQUEST_CODE_NOT_SUPPORTED, " request type 217 not supported"));
    }

    /// How often this was asked.
    fn seen(&self, code: i32) -> usize {
        self.seen.lock().unwrap().iter().filter(|(_, seen)| *seen == code).count()
    }

    fn hold(&self) {
        *self.held.lock().unwrap() = Some(Vec::new());
    }

    fn count(&self) -> usize {
        self.held.lock().unwrap().as_ref().map_or(0, Vec::len)
    }

    fn release(&self) {
        let held = self.held.lock().unwrap().take();
        held.into_iter().flatten().for_each(|(conn, command)| self.pass(conn, command));
    }
}

impl Service for Gate {
    fn on_requests(&self, conn: &Arc<Connection>, requests: &mut Requests<'_>) {
        for command in requests {
            self.seen.lock().unwrap().push((conn.id(), command.code));
            let is_topic = command.code == request::REGISTER_TOPIC_IN_NAMESRV;
            match &mut *self.held.lock().unwrap() {
                Some(held) if is_topic || command.code == request::REGISTER_BROKER => {
                    held.push((conn.clone(), command))
                }
                _ if is_topic && self.knows_no_single_topics.load(Ordering::Relaxed) => self.refuse(conn, &command),
                _ => self.pass(conn.clone(), command),
            }
        }
    }
}

struct Rig {
    dir: tempfile::TempDir,
    name_server: namesrv::NameServer,
    namesrv: String,
    gate: Arc<Gate>,
    gate_server: Server,
    api: BrokerApi,
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (name_server, namesrv) = name_server(&dir).await;
        let gate = Arc::new(Gate {
            api: api(),
            namesrv: namesrv.clone(),
            held: Mutex::default(),
            seen: Mutex::default(),
            knows_no_single_topics: AtomicBool::new(false),
        });
        let gate_server = Server::bind("127.0.0.1:0", ServerConfig::default(), gate.clone()).await.unwrap();
        Self { dir, name_server, namesrv, gate, gate_server, api: api() }
    }

    async fn master(&self) -> Node {
        self.master_with(&[]).await
    }

    async fn master_with(&self, keys: &[(&str, &str)]) -> Node {
        let gate = self.gate_server.local_addr().to_string();
        let mut all = vec![("namesrvAddr", gate.as_str())];
        all.extend(keys);
        Node::start(&self.dir, "m", &all).await
    }

    async fn has_route(&self, topic: &str) -> bool {
        self.api.query_route(&self.namesrv, topic).await.is_ok()
    }

    async fn has_routes(&self, topics: &[&str]) {
        for name in topics {
            assert!(self.has_route(name).await, "{name}");
        }
    }

    /// The name server ends, and another begins at its address that knows nothing.
    async fn restart(self) -> Self {
        let port = self.namesrv.rsplit(':').next().unwrap().parse().unwrap();
        self.name_server.shutdown().await;
        let (name_server, _) = name_server_at(&self.dir, port).await;
        Self { name_server, ..self }
    }

    async fn stop(self) {
        self.gate_server.shutdown(Duration::ZERO).await;
        self.name_server.shutdown().await;
    }
}

/// Clients ask for it next; without a route a consumer would wait for half a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_has_its_route_when_its_creation_is_answered() {
    let rig = Rig::new().await;
    let mut master = rig.master().await;
    for number in 0..50 {
        let name = format!("T{number}");
        topic(&rig.api, &master.addr, &name, 1).await;
        assert!(rig.has_route(&name).await, "{name}");
    }
    master.stop().await;
    rig.stop().await;
}

/// A Java slave does so by itself: its table would differ from its master's.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_a_name_server_calls_ordered_is_ordered() {
    let rig = Rig::new().await;
    let mut master = rig.master().await;
    topic(&rig.api, &master.addr, "T", 1).await;
    topic(&rig.api, &master.addr, "U", 1).await;
    for name in ["T", "gone"] {
        let header = PutKVConfigRequestHeader {
            namespace: Some("ORDER_TOPIC_CONFIG".into()),
            key: Some(name.into()),
            value: Some("broker-a:1".into()),
        };
        let command = Command::request_with(request::PUT_KV_CONFIG, &header);
        rig.api.call(&rig.namesrv, command, LIMIT).await.unwrap();
    }
    let broker = master.broker().clone();
    let is_ordered = |name: &str| broker.topics.get(name).map(|topic| topic.order);
    broker.registrar.changed();
    until("it has heard", || async { is_ordered("T") == Some(true) }).await;
    assert_eq!((is_ordered("U"), is_ordered("gone")), (Some(false), None));
    master.stop().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_do_not_pile_up_at_a_name_server_that_does_not_answer() {
    let rig = Rig::new().await;
    let mut master = rig.master().await;
    rig.gate.hold();
    for number in 0..20 {
        topic(&rig.api, &master.addr, &format!("T{number}"), 1).await;
    }
    assert_eq!(rig.gate.count(), 1);
    rig.gate.release();
    until("the name server knows the last one", || rig.has_route("T19")).await;
    master.stop().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_on_its_way_does_not_bring_back_a_broker_that_leaves() {
    let rig = Rig::new().await;
    let mut master = rig.master().await;
    topic(&rig.api, &master.addr, "T", 1).await;
    until("the route is there", || rig.has_route("T")).await;
    rig.gate.hold();
    topic(&rig.api, &master.addr, "U", 1).await;
    until("a registration is on its way", || async { rig.gate.count() == 1 }).await;
    let broker = master.broker().clone();
    let stopping = tokio::spawn(async move { master.stop().await });
    until("it stops", || async { broker.is_stopping() }).await;
    rig.gate.release();
    stopping.await.unwrap();
    assert!(!rig.has_route("T").await, "it is gone");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_topic_is_told_alone() {
    let rig = Rig::new().await;
    let mut master = rig.master_with(&[("brokerPermission", "4")]).await;
    topic(&rig.api, &master.addr, "T", 1).await;
    let before = rig.gate.seen(request::REGISTER_BROKER);
    for number in 0..20 {
        topic(&rig.api, &master.addr, &format!("T{number}"), 3).await;
    }
    assert!(rig.gate.seen(request::REGISTER_BROKER) - before < 2, "none but the periodic one, if it was due");
    assert_eq!(rig.gate.seen(request::REGISTER_TOPIC_IN_NAMESRV), 21);
    let queues = &rig.api.query_route(&rig.namesrv, "T19").await.unwrap().queue_datas[0];
    assert_eq!(
        (queues.read_queue_nums, queues.write_queue_nums, queues.perm),
        (3, 3, 4),
        "the broker is for reading only"
    );
    topic(&rig.api, &master.addr, "T19", 5).await;
    assert_eq!(rig.api.query_route(&rig.namesrv, "T19").await.unwrap().queue_datas[0].write_queue_nums, 5);
    master.stop().await;
    rig.stop().await;
}

/// F-12. The broker keeps its connection, as it does to what stands between both.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_that_was_started_again_gets_all_topics() {
    let rig = Rig::new().await;
    let mut master = rig.master().await;
    topic(&rig.api, &master.addr, "T", 1).await;
    let rig = rig.restart().await;
    assert!(!rig.has_route("T").await);
    topic(&rig.api, &master.addr, "U", 1).await;
    rig.has_routes(&["T", "U"]).await;
    master.stop().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_that_took_the_broker_out_gets_all_topics() {
    let rig = Rig::new().await;
    let mut master = rig.master().await;
    topic(&rig.api, &master.addr, "T", 1).await;
    let farewell = Registration {
        cluster_name: "DefaultCluster".into(),
        broker_name: "broker-a".into(),
        broker_addr: master.addr.clone(),
        ..Registration::default()
    };
    rig.api.unregister_broker(&rig.namesrv, &farewell, LIMIT).await.unwrap();
    assert!(!rig.has_route("T").await);
    topic(&rig.api, &master.addr, "U", 1).await;
    rig.has_routes(&["T", "U"]).await;
    master.stop().await;
    rig.stop().await;
}

/// The end of the old connection takes out what was registered over it, and may be noticed late.
#[tokio::test(flavor = "multi_thread")]
async fn over_a_new_connection_all_topics_are_told_first() {
    let rig = Rig::new().await;
    let mut master = rig.master().await;
    topic(&rig.api, &master.addr, "T", 1).await;
    rig.gate_server.connections().iter().for_each(|conn| conn.close("the test does"));
    topic(&rig.api, &master.addr, "U", 1).await;
    topic(&rig.api, &master.addr, "V", 1).await;
    rig.has_routes(&["T", "U", "V"]).await;
    let mut first = BTreeMap::new();
    for (conn, code) in rig.gate.seen.lock().unwrap().iter() {
        first.entry(*conn).or_insert(*code);
    }
    assert!(first.len() > 1 && first.values().all(|code| *code == request::REGISTER_BROKER), "{first:?}");
    master.stop().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_that_forgets_what_is_not_listed_keeps_the_other_topics() {
    let rig = Rig::new().await;
    let forgets = Command::request(request::UPDATE_NAMESRV_CONFIG).with_body("deleteTopicWithBrokerRegistration=true");
    rig.api.call(&rig.namesrv, forgets, LIMIT).await.unwrap();
    let mut master = rig.master().await;
    for name in ["T", "U", "V"] {
        topic(&rig.api, &master.addr, name, 1).await;
    }
    rig.has_routes(&["T", "U", "V"]).await;
    rig.api.delete_topic(&master.addr, "U").await.unwrap();
    assert!(!rig.has_route("U").await, "as soon as its deletion is answered");
    topic(&rig.api, &master.addr, "W", 1).await;
    rig.has_routes(&["T", "V", "W"]).await;
    master.stop().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_that_knows_no_single_topics_gets_all() {
    let rig = Rig::new().await;
    rig.gate.knows_no_single_topics.store(true, Ordering::Relaxed);
    let mut master = rig.master().await;
    for name in ["T", "U", "V"] {
        topic(&rig.api, &master.addr, name, 1).await;
    }
    rig.has_routes(&["T", "U", "V"]).await;
    assert_eq!(rig.gate.seen(request::REGISTER_TOPIC_IN_NAMESRV), 1, "asked once");
    master.stop().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_that_does_not_answer_keeps_no_topic_from_another() {
    let (rig, other) = (Rig::new().await, Rig::new().await);
    let both = format!("{};{}", rig.gate_server.local_addr(), other.namesrv);
    let mut master = Node::start(&rig.dir, "m", &[("namesrvAddr", &both)]).await;
    topic(&rig.api, &master.addr, "T", 1).await;
    rig.has_routes(&["T"]).await;
    rig.gate.hold();
    for name in ["U", "V"] {
        topic(&rig.api, &master.addr, name, 1).await;
        other.has_routes(&["T", name]).await;
    }
    rig.gate.release();
    until("the other one knows too", || rig.has_route("V")).await;
    rig.has_routes(&["T", "U"]).await;
    master.stop().await;
    other.stop().await;
    rig.stop().await;
}

/// Also while topics are told alone all the time.
#[tokio::test(flavor = "multi_thread")]
async fn each_period_tells_all_topics() {
    let rig = Rig::new().await;
    let mut master = rig.master_with(&[("registerNameServerPeriod", "10000")]).await;
    topic(&rig.api, &master.addr, "T", 1).await;
    let header = DeleteTopicFromNamesrvRequestHeader { topic: "T".into(), ..Default::default() };
    let forget = Command::request_with(request::DELETE_TOPIC_IN_NAMESRV, &header);
    rig.api.call(&rig.namesrv, forget, LIMIT).await.unwrap();
    assert!(!rig.has_route("T").await);
    let made = AtomicUsize::new(0);
    until("the name server knows it again", || async {
        let name = format!("T{}", made.fetch_add(1, Ordering::Relaxed));
        topic(&rig.api, &master.addr, &name, 1).await;
        rig.has_route("T").await
    })
    .await;
    master.stop().await;
    rig.stop().await;
}
