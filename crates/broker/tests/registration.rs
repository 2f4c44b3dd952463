//! What name servers are told, and when.

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use client::BrokerApi;
use common::{LIMIT, Node, api, name_server, topic, until};
use remoting::{Connection, Server, ServerConfig, Service};
use wire::{Command, code::request};

type Held = Mutex<Option<Vec<(Arc<Connection>, Command)>>>;

/// In front of a name server: keeps registrations back while it holds.
struct Gate {
    api: BrokerApi,
    namesrv: String,
    /// `None`: nothing is held.
    held: Held,
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
    fn on_requests(&self, conn: &Arc<Connection>, requests: &mut Vec<Command>) {
        for command in requests.drain(..) {
            match &mut *self.held.lock().unwrap() {
                Some(held) if command.code == request::REGISTER_BROKER => held.push((conn.clone(), command)),
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
        let gate = Arc::new(Gate { api: api(), namesrv: namesrv.clone(), held: Mutex::default() });
        let gate_server = Server::bind("127.0.0.1:0", ServerConfig::default(), gate.clone()).await.unwrap();
        Self { dir, name_server, namesrv, gate, gate_server, api: api() }
    }

    async fn master(&self) -> Node {
        Node::start(&self.dir, "m", &[("namesrvAddr", &self.gate_server.local_addr().to_string())]).await
    }

    async fn has_route(&self, topic: &str) -> bool {
        self.api.query_route(&self.namesrv, topic).await.is_ok()
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
