//! The broker to measure: finds it, makes the topic that messages are sent to when it is missing, learns the queues.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use client::{BrokerApi, NameServers};
use remoting::{Client, ClientConfig, ClientTls};
use wire::body::{BrokerData, TopicConfig};

use super::{
    args::{Common, Work},
    query::{self, Key},
};

/// A broker under test.
pub(super) struct Target {
    pub addr: String,
    /// Its process.
    pub pid: Option<u32>,
    pub queues: Vec<Queue>,
    /// What queries ask for.
    pub keys: Vec<Key>,
    /// How connections speak TLS, if they do.
    pub tls: Option<ClientTls>,
}

/// A queue, with the offsets that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queue {
    pub id: i32,
    pub min: i64,
    pub max: i64,
}

impl Target {
    /// `addr`, or the broker that the name server names.
    pub async fn find(common: &Common, addr: Option<String>, pid: Option<u32>, work: &Work) -> Result<Self> {
        let tls = common.tls()?;
        let config = ClientConfig { tls: tls.clone(), ..ClientConfig::default() };
        let api = BrokerApi::new(Arc::new(Client::new(config, None)));
        let addr = match addr {
            Some(addr) => addr,
            None => look_up(common, &api).await?,
        };
        if let Some(pid) = pid {
            ensure!(super::process::sample(pid).is_some(), "process {pid} cannot be measured (no such process?)");
        }
        let topic = match (found(common, &api, &addr).await?, work) {
            (Some(topic), _) => topic,
            (None, Work::Produce(_)) => make(common, &api, &addr).await?,
            (None, _) => bail!("topic {} is not at {addr}: produce to it first", common.topic),
        };
        let queues = match work {
            Work::Produce(_) => (0..topic.write_queue_nums).map(|id| Queue { id, min: 0, max: 0 }).collect(),
            Work::Consume(_) | Work::Query(_) => filled_queues(&api, &addr, &topic).await?,
        };
        let keys = match work {
            Work::Query(args) => query::sample(args, &api, &addr, &queues).await?,
            _ => Vec::new(),
        };
        Ok(Self { addr, pid, queues, keys, tls })
    }
}

/// The master that holds the topic, or else the first master there is.
async fn look_up(common: &Common, api: &BrokerApi) -> Result<String> {
    let list = common.namesrv.as_deref().unwrap_or_default();
    let servers = NameServers::new(api.clone(), list);
    if let Ok(route) = servers.route(&common.topic).await
        && let Some(addr) = route.broker_datas.iter().find_map(master)
    {
        return Ok(addr);
    }
    let first = servers.addrs().first().context("--namesrv is empty")?;
    let cluster = api.cluster_info(first).await?;
    cluster.broker_addr_table.values().find_map(master).with_context(|| format!("{list} knows no master"))
}

fn master(broker: &BrokerData) -> Option<String> {
    broker.broker_addrs.get(&0).cloned()
}

async fn found(common: &Common, api: &BrokerApi, addr: &str) -> Result<Option<TopicConfig>> {
    match api.topic_config(addr, &common.topic).await {
        Err(error) if error.is_unreachable() => Err(error.into()),
        // Brokers differ in how they refuse a topic that is not there.
        other => Ok(other.ok().flatten()),
    }
}

async fn make(common: &Common, api: &BrokerApi, addr: &str) -> Result<TopicConfig> {
    let topic = TopicConfig {
        topic_name: common.topic.clone(),
        read_queue_nums: common.queues,
        write_queue_nums: common.queues,
        ..TopicConfig::default()
    };
    api.update_topic(addr, &topic).await?;
    Ok(topic)
}

async fn filled_queues(api: &BrokerApi, addr: &str, topic: &TopicConfig) -> Result<Vec<Queue>> {
    let mut queues = Vec::new();
    for id in 0..topic.read_queue_nums {
        let min = api.min_offset(addr, &topic.topic_name, id).await?;
        let max = api.max_offset(addr, &topic.topic_name, id).await?;
        if max > min {
            queues.push(Queue { id, min, max });
        }
    }
    ensure!(!queues.is_empty(), "topic {} at {addr} is empty: produce to it first", topic.topic_name);
    Ok(queues)
}
