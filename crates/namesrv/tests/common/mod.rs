//! A name server in a directory of its own, and a client to talk to it.
#![allow(dead_code)]

use std::{path::PathBuf, sync::Arc, time::Duration};

use namesrv::{NameServer, NamesrvConfig};
use remoting::{Client, ClientConfig};
use tempfile::TempDir;
use wire::{
    Command,
    body::{DataVersion, RegisterBrokerBody, TopicConfig},
    code::request,
    header::{GetRouteInfoRequestHeader, RegisterBrokerRequestHeader},
    json,
};

/// Limit of one call.
pub const LIMIT: Duration = Duration::from_secs(5);

/// A running name server and its directory.
pub struct Rig {
    pub root: TempDir,
    pub server: NameServer,
    pub addr: String,
    pub client: Client,
}

impl Rig {
    /// With further `settings` as properties text.
    pub async fn start(settings: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        Self::start_in(root, settings).await
    }

    pub async fn start_in(root: TempDir, settings: &str) -> Self {
        let server = NameServer::start(config(&root, settings)).await.unwrap();
        let addr = server.local_addr().to_string();
        Self { root, server, addr, client: client() }
    }

    /// Stops and keeps the directory.
    pub async fn stop(self) -> TempDir {
        self.server.shutdown().await;
        self.root
    }

    pub async fn ask(&self, request: Command) -> Command {
        self.client.invoke(&self.addr, request, LIMIT).await.unwrap()
    }

    pub async fn route(&self, topic: &str) -> Command {
        let header = GetRouteInfoRequestHeader { topic: topic.into(), ..Default::default() };
        self.ask(Command::request_with(request::GET_ROUTEINFO_BY_TOPIC, &header)).await
    }

    /// Waits until the route of `topic` is answered with `code`.
    pub async fn wait_for_route(&self, topic: &str, code: i32) {
        for _ in 0..100 {
            if self.route(topic).await.code == code {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the route of {topic} is not answered with {code} after 5 s");
    }
}

pub fn client() -> Client {
    Client::new(ClientConfig::default(), None)
}

pub fn config(root: &TempDir, settings: &str) -> NamesrvConfig {
    let path = |name: &str| -> PathBuf { root.path().join(name) };
    let (kv, own) = (path("kvConfig.json"), path("namesrv.properties"));
    let text = format!(
        "bindAddress=127.0.0.1\nlistenPort=0\nkvConfigPath={}\nconfigStorePath={}\n{settings}",
        kv.display(),
        own.display()
    );
    NamesrvConfig::from_properties(&text).unwrap()
}

/// A registration of group `broker-a` in cluster `c1`.
pub struct Broker {
    pub header: RegisterBrokerRequestHeader,
    pub body: RegisterBrokerBody,
}

impl Broker {
    pub fn new(id: i64, addr: &str) -> Self {
        let header = RegisterBrokerRequestHeader {
            broker_name: "broker-a".into(),
            broker_addr: addr.into(),
            cluster_name: "c1".into(),
            ha_server_addr: format!("{addr}1"),
            broker_id: id,
            enable_acting_master: Some(false),
            ..Default::default()
        };
        let mut broker = Self { header, body: RegisterBrokerBody::default() };
        broker.set_version(1);
        broker.with_topics(&["T1", "T2"])
    }

    pub fn with_topics(mut self, names: &[&str]) -> Self {
        let table = &mut self.body.topic_config_serialize_wrapper.topic_config_table;
        table.clear();
        for name in names {
            table.insert((*name).into(), TopicConfig { topic_name: (*name).into(), ..Default::default() });
        }
        self
    }

    pub fn set_version(&mut self, counter: i64) {
        let version = DataVersion { counter, ..Default::default() };
        self.body.topic_config_serialize_wrapper.data_version = version;
    }

    pub fn request(&self) -> Command {
        Command::request_with(request::REGISTER_BROKER, &self.header).with_body(json::encode(&self.body))
    }
}

/// A client whose server side is `service`: stands for a broker that is called back.
pub async fn listen(service: Arc<dyn remoting::Service>) -> remoting::Server {
    remoting::Server::bind("127.0.0.1:0", remoting::ServerConfig::default(), service).await.unwrap()
}
