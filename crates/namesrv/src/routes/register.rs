//! A broker registers, in the steps of Java. Source: `RouteInfoManager.registerBroker`; reference namesrv 1.5.
//!
//! Where a registration is rejected, the tables stay as they were; Java leaves an empty group behind.

use std::collections::{BTreeMap, HashSet};

use wire::{
    body::{BrokerData, DataVersion, QueueData, TopicConfig},
    json::Json,
    topic::perm,
};

use super::{DEFAULT_HEARTBEAT_TIMEOUT_MS, Live, MASTER_ID, Member, Notice, Recipients, Routes, smallest};

/// What a broker says of itself.
#[derive(Clone, Debug, Default)]
pub struct Registration {
    /// Cluster.
    pub cluster: String,
    /// Broker name, which names the group.
    pub broker: String,
    /// Id in the group; 0 is the master.
    pub broker_id: i64,
    /// Address for clients.
    pub addr: String,
    /// Address for replication.
    pub ha_addr: String,
    /// Zone, from the sender's extra field.
    pub zone: Option<String>,
    /// How long it may be silent.
    pub heartbeat_timeout_ms: Option<u64>,
    /// Whether a slave may act as master. `None` is a broker too old to know.
    pub acting_master: Option<bool>,
    /// Version of `topics`.
    pub version: DataVersion,
    /// Topics: all, or what changed.
    pub topics: Vec<TopicConfig>,
    /// Static topics by name.
    pub mappings: BTreeMap<String, Json>,
    /// Filter servers; `None` leaves what is known.
    pub filter_servers: Option<Vec<String>>,
    /// Connection it came over.
    pub connection: u64,
    /// Remove the broker's topics that are not listed.
    pub delete_unlisted: bool,
}

impl Registration {
    fn member(&self) -> Member {
        Member::new(&self.cluster, &self.addr)
    }
}

/// How a registration went.
#[derive(Clone, Debug, PartialEq)]
pub enum Registered {
    /// It is in the tables.
    Accepted {
        /// Address and replication address of the master, for a slave whose master is alive.
        master: Option<(String, String)>,
        /// True when it was not known to be alive.
        is_new: bool,
        /// Address that held this id until now, when it is another one.
        replaced: Option<String>,
        /// Set when the smallest id of the group changed.
        notice: Option<Notice>,
    },
    /// Another live address holds this id with a greater state version (an epoch of the controller). Peers are answered
    /// a success without addresses.
    Outranked {
        /// The address that stays.
        by: String,
    },
}

/// Why a registration is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Java's guard against an incremental registration before a full one, in Java's words. A full registration with
    /// one topic looks the same.
    #[error("register broker failed")]
    OneTopicBeforeAll,
    /// Tables know brokers by name alone, so a second cluster with the name would mix both groups.
    #[error(
        "broker name {broker} of cluster {newcomer} is refused: cluster {owner} has a live group of that name at this \
         name server; give one of them another brokerName"
    )]
    NameInOtherCluster {
        /// The name both claim.
        broker: String,
        /// The cluster that has it.
        owner: String,
        /// The cluster that wants it.
        newcomer: String,
    },
}

impl Routes {
    /// Takes a registration. `now_ms` counts as a sign of life.
    pub fn register(&mut self, new: &Registration, now_ms: u64) -> Result<Registered, Rejection> {
        self.check_cluster(new)?;
        if let Some(by) = self.outranking(new) {
            self.withdraw(new);
            return Ok(Registered::Outranked { by });
        }
        self.check_one_topic(new)?;
        let joined = self.join(new);
        if self.publishes_topics(new) {
            self.publish(new, joined.is_first);
        }
        let is_new = self.note_alive(new, now_ms);
        let newcomer = Recipients::OthersThanNewcomer { ha_addr: new.ha_addr.clone() };
        let notice = joined.is_min_changed.then(|| self.notice(&new.broker, newcomer)).flatten();
        Ok(Registered::Accepted { master: self.master_for(new), is_new, replaced: joined.replaced, notice })
    }

    fn check_cluster(&self, new: &Registration) -> Result<(), Rejection> {
        match self.groups.get(&new.broker) {
            Some(group) if group.cluster != new.cluster => Err(Rejection::NameInOtherCluster {
                broker: new.broker.clone(),
                owner: group.cluster.clone(),
                newcomer: new.cluster.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn address_of(&self, new: &Registration) -> Option<&String> {
        self.groups.get(&new.broker)?.broker_addrs.get(&new.broker_id)
    }

    /// The live address that holds the newcomer's id and must keep it.
    fn outranking(&self, new: &Registration) -> Option<String> {
        let holder = self.address_of(new).filter(|addr| **addr != new.addr)?;
        let live = self.live.get(&Member::new(&new.cluster, holder))?;
        (live.version.state_version > new.version.state_version).then(|| holder.clone())
    }

    /// Takes an outranked broker out, whatever other id it had.
    fn withdraw(&mut self, new: &Registration) {
        self.live.remove(&new.member());
        if let Some(group) = self.groups.get_mut(&new.broker) {
            group.broker_addrs.retain(|_, addr| *addr != new.addr);
        }
    }

    fn check_one_topic(&self, new: &Registration) -> Result<(), Rejection> {
        match self.address_of(new).is_none() && new.topics.len() == 1 {
            true => Err(Rejection::OneTopicBeforeAll),
            false => Ok(()),
        }
    }

    fn join(&mut self, new: &Registration) -> Joined {
        let group = self.groups.entry(new.broker.clone()).or_insert_with(|| BrokerData {
            cluster: new.cluster.clone(),
            broker_name: new.broker.clone(),
            ..Default::default()
        });
        group.enable_acting_master = new.acting_master.unwrap_or(false);
        group.zone_name = new.zone.clone();
        let previous_min = smallest(group).map_or(MASTER_ID, |(id, _)| id);
        // A slave that was promoted in place keeps one entry.
        group.broker_addrs.retain(|id, addr| *addr != new.addr || *id == new.broker_id);
        let previous = group.broker_addrs.insert(new.broker_id, new.addr.clone());
        Joined {
            is_first: previous.is_none(),
            is_min_changed: new.broker_id < previous_min,
            replaced: previous.filter(|addr| *addr != new.addr),
        }
    }

    /// True for a master, and for the smallest slave of a group without master unless its broker is too old.
    fn publishes_topics(&self, new: &Registration) -> bool {
        let min = self.groups.get(&new.broker).and_then(smallest);
        new.broker_id == MASTER_ID || new.acting_master.is_some() && min.is_some_and(|(id, _)| id == new.broker_id)
    }

    fn publish(&mut self, new: &Registration, is_first: bool) {
        if new.delete_unlisted && new.mappings.is_empty() {
            self.delete_unlisted(new);
        }
        let is_changed = is_first || self.is_changed(&new.member(), &new.version);
        for topic in &new.topics {
            if is_changed || !self.has_topic(&topic.topic_name, &new.broker) {
                let brokers = self.topics.entry(topic.topic_name.clone()).or_default();
                brokers.insert(new.broker.clone(), queues(new, topic));
            }
        }
        self.publish_mappings(new, is_changed);
    }

    fn publish_mappings(&mut self, new: &Registration, is_changed: bool) {
        for (topic, mapping) in &new.mappings {
            let brokers = self.mappings.entry(topic.clone()).or_default();
            let name = mapping.get("bname").and_then(Json::as_str).unwrap_or(&new.broker);
            if is_changed || !brokers.contains_key(name) {
                brokers.insert(name.to_owned(), mapping.clone());
            }
        }
    }

    fn delete_unlisted(&mut self, new: &Registration) {
        let listed: HashSet<&str> = new.topics.iter().map(|t| t.topic_name.as_str()).collect();
        let keep = |topic: &str| listed.contains(topic);
        self.retain_queues(|topic, broker| broker != new.broker || keep(topic));
    }

    fn has_topic(&self, topic: &str, broker: &str) -> bool {
        self.topics.get(topic).is_some_and(|brokers| brokers.contains_key(broker))
    }

    /// True when it was not known before.
    fn note_alive(&mut self, new: &Registration, now_ms: u64) -> bool {
        let live = Live {
            last_seen_ms: now_ms,
            heartbeat_timeout_ms: new.heartbeat_timeout_ms.unwrap_or(DEFAULT_HEARTBEAT_TIMEOUT_MS),
            version: new.version,
            connection: new.connection,
            ha_addr: new.ha_addr.clone(),
        };
        let known = self.live.insert(new.member(), live);
        match &new.filter_servers {
            None => {}
            Some(servers) if servers.is_empty() => drop(self.filter_servers.remove(&new.member())),
            Some(servers) => drop(self.filter_servers.insert(new.member(), servers.clone())),
        }
        known.is_none()
    }

    fn master_for(&self, new: &Registration) -> Option<(String, String)> {
        if new.broker_id == MASTER_ID {
            return None;
        }
        let addr = self.groups.get(&new.broker)?.broker_addrs.get(&MASTER_ID)?;
        let live = self.live.get(&Member::new(&new.cluster, addr))?;
        Some((addr.clone(), live.ha_addr.clone()))
    }
}

struct Joined {
    is_first: bool,
    is_min_changed: bool,
    replaced: Option<String>,
}

/// A slave that stands in for its master offers its topics for reading only.
fn queues(new: &Registration, topic: &TopicConfig) -> QueueData {
    let is_stand_in = new.broker_id != MASTER_ID && new.acting_master == Some(true);
    QueueData {
        broker_name: new.broker.clone(),
        read_queue_nums: topic.read_queue_nums,
        write_queue_nums: topic.write_queue_nums,
        perm: if is_stand_in { topic.perm & !perm::WRITE } else { topic.perm },
        topic_sys_flag: topic.topic_sys_flag,
    }
}
