//! The broker to measure: finds it, makes the topic that messages are sent to when it is missing, learns the queues.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use client::{BrokerApi, NameServers};
use remoting::{Client, ClientConfig, ClientTls};
use wire::body::{BrokerData, TopicConfig};

use super::{
    args::{Common, ProduceArgs, Work},
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queue {
    pub topic: Arc<str>,
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
        let queues = match work {
            Work::Produce(args) => writable_queues(&api, &addr, args).await?,
            Work::Consume(_) | Work::Query(_) => filled_queues(&api, &addr, &common.topic).await?,
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

/// The queues of all topics; missing topics are made. Those of one topic come in their order, those of several mixed, as
/// producers of several topics know nothing of each other.
async fn writable_queues(api: &BrokerApi, addr: &str, args: &ProduceArgs) -> Result<Vec<Queue>> {
    let mut queues = Vec::new();
    for name in args.names() {
        let topic = match found(api, addr, &name).await? {
            Some(topic) => topic,
            None => make(api, addr, &name, args.common.queues).await?,
        };
        let name: Arc<str> = name.into();
        queues.extend((0..topic.write_queue_nums).map(|id| Queue { topic: name.clone(), id, min: 0, max: 0 }));
    }
    if args.topics > 1 {
        let mut chance = query::Chance(args.topics as u64);
        (1..queues.len()).for_each(|last| queues.swap(last, chance.below(last as u64 + 1) as usize));
    }
    Ok(queues)
}

async fn found(api: &BrokerApi, addr: &str, name: &str) -> Result<Option<TopicConfig>> {
    match api.topic_config(addr, name).await {
        Err(error) if error.is_unreachable() => Err(error.into()),
        // Brokers differ in how they refuse a topic that is not there.
        other => Ok(other.ok().flatten()),
    }
}

async fn make(api: &BrokerApi, addr: &str, name: &str, queues: i32) -> Result<TopicConfig> {
    let topic = TopicConfig {
        topic_name: name.to_owned(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        ..TopicConfig::default()
    };
    api.update_topic(addr, &topic).await?;
    Ok(topic)
}

async fn filled_queues(api: &BrokerApi, addr: &str, name: &str) -> Result<Vec<Queue>> {
    let found = found(api, addr, name).await?;
    let topic = found.with_context(|| format!("topic {name} is not at {addr}: produce to it first"))?;
    let name: Arc<str> = name.into();
    let mut queues = Vec::new();
    for id in 0..topic.read_queue_nums {
        let min = api.min_offset(addr, &name, id).await?;
        let max = api.max_offset(addr, &name, id).await?;
        if max > min {
            queues.push(Queue { topic: name.clone(), id, min, max });
        }
    }
    ensure!(!queues.is_empty(), "topic {name} at {addr} is empty: produce to it first");
    Ok(queues)
}
