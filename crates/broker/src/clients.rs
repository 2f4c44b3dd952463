//! Who is connected: consumer groups with their subscriptions, producer groups.
//! Source: `broker/.../client/ConsumerManager.java`, `ProducerManager.java`; reference broker 6.2 to 6.4.
//! Sends nothing itself: answers whom a change concerns.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::RwLock;
use remoting::Connection;
use tokio::time::{Duration, Instant};
use wire::{
    Language,
    body::{ConsumeFromWhere, ConsumeType, ConsumerData, MessageModel, SubscriptionData},
};

/// One client on one connection.
#[derive(Clone)]
pub struct ClientInfo {
    /// The connection it is heard on.
    pub conn: Arc<Connection>,
    /// Its own name.
    pub client_id: String,
    /// Language of its SDK.
    pub language: Language,
    /// Version of its SDK.
    pub version: i32,
    /// Last heartbeat.
    pub seen: Instant,
    /// Last heartbeat, milliseconds since the epoch, to show.
    pub seen_ms: i64,
}

/// One consumer group.
#[derive(Clone, Default)]
pub struct ConsumerGroup {
    /// By connection.
    pub members: HashMap<u64, ClientInfo>,
    /// By topic.
    pub subscriptions: BTreeMap<String, Arc<SubscriptionData>>,
    /// As in the last heartbeat.
    pub consume_type: ConsumeType,
    /// As in the last heartbeat.
    pub message_model: MessageModel,
    /// As in the last heartbeat.
    pub consume_from_where: ConsumeFromWhere,
    fingerprint: Option<i32>,
}

impl ConsumerGroup {
    /// True when each member reads everything.
    pub fn is_broadcasting(&self) -> bool {
        self.message_model == MessageModel::Broadcasting
    }

    fn connections(&self) -> Vec<Arc<Connection>> {
        self.members.values().map(|member| member.conn.clone()).collect()
    }
}

/// A group whose members changed, and who must hear it.
pub struct Changed {
    /// Group.
    pub group: String,
    /// Its members now.
    pub members: Vec<Arc<Connection>>,
}

/// All clients of this broker.
#[derive(Default)]
pub struct Clients {
    consumers: RwLock<HashMap<String, ConsumerGroup>>,
    producers: RwLock<HashMap<String, HashMap<u64, ClientInfo>>>,
    /// By client id: where it was last heard as a producer. Stays until the connection closes.
    channels: RwLock<HashMap<String, Arc<Connection>>>,
}

impl Clients {
    /// Registers one consumer of a heartbeat. `None` when nobody needs to hear of it.
    pub fn register_consumer(&self, info: ClientInfo, data: &ConsumerData, without_sub: bool) -> Option<Changed> {
        let mut consumers = self.consumers.write();
        let group = consumers.entry(data.group_name.clone()).or_default();
        group.consume_type = data.consume_type;
        group.message_model = data.message_model;
        group.consume_from_where = data.consume_from_where;
        warn_of_double(group, &info, &data.group_name);
        let mut changed = group.members.insert(info.conn.id(), info).is_none();
        if !without_sub {
            changed |= subscribe(group, &data.subscription_data_set);
        }
        (changed && !group.is_broadcasting())
            .then(|| Changed { group: data.group_name.clone(), members: group.connections() })
    }

    /// Remembers a heartbeat fingerprint; true when the client must send its subscriptions in full.
    pub fn fingerprint(&self, group: &str, fingerprint: i32, without_sub: bool) -> bool {
        let mut consumers = self.consumers.write();
        let group = consumers.entry(group.to_owned()).or_default();
        match group.fingerprint.replace(fingerprint) {
            Some(old) => old != fingerprint,
            // After a restart nothing is remembered: a heartbeat without subscriptions would leave the group without
            // any, and its pulls would fail until the client's subscription changes.
            None => without_sub,
        }
    }

    /// Registers one producer of a heartbeat.
    pub fn register_producer(&self, group: &str, info: ClientInfo) {
        let mut channels = self.channels.write();
        if channels.get(&info.client_id).is_none_or(|known| known.id() != info.conn.id()) {
            channels.insert(info.client_id.clone(), info.conn.clone());
        }
        drop(channels);
        self.producers.write().entry(group.to_owned()).or_default().insert(info.conn.id(), info);
    }

    /// Removes a consumer; answers whom it concerns.
    pub fn unregister_consumer(&self, group: &str, conn: u64) -> Option<Changed> {
        let mut consumers = self.consumers.write();
        leave(&mut consumers, group, conn)
    }

    /// Removes a producer.
    pub fn unregister_producer(&self, group: &str, conn: u64) {
        let mut producers = self.producers.write();
        if let Some(members) = producers.get_mut(group) {
            members.remove(&conn);
            if members.is_empty() {
                producers.remove(group);
            }
        }
    }

    /// Removes everything of a connection; answers whom it concerns.
    pub fn connection_closed(&self, conn: u64) -> Vec<Changed> {
        let mut consumers = self.consumers.write();
        let groups: Vec<String> = consumers
            .iter()
            .filter(|(_, group)| group.members.contains_key(&conn))
            .map(|(name, _)| name.clone())
            .collect();
        let changed = groups.iter().filter_map(|group| leave(&mut consumers, group, conn)).collect();
        drop(consumers);
        self.channels.write().retain(|_, channel| channel.id() != conn);
        self.producers.write().retain(|_, members| {
            members.remove(&conn);
            !members.is_empty()
        });
        changed
    }

    /// Connections that sent no heartbeat for longer than `timeout`.
    pub fn expired(&self, now: Instant, timeout: Duration) -> Vec<Arc<Connection>> {
        let old = |info: &&ClientInfo| now.duration_since(info.seen) > timeout;
        let consumers = self.consumers.read();
        let producers = self.producers.read();
        let mut all: Vec<_> = consumers.values().flat_map(|group| group.members.values()).filter(old).collect();
        all.extend(producers.values().flat_map(HashMap::values).filter(old));
        all.into_iter().map(|info| info.conn.clone()).collect()
    }

    /// Reads one consumer group in place.
    pub fn with_group<T>(&self, group: &str, read: impl FnOnce(&ConsumerGroup) -> T) -> Option<T> {
        self.consumers.read().get(group).map(read)
    }

    /// Groups with members that subscribe to a topic.
    pub fn subscribers(&self, topic: &str) -> Vec<String> {
        let consumers = self.consumers.read();
        let of_topic = |group: &ConsumerGroup| !group.members.is_empty() && group.subscriptions.contains_key(topic);
        consumers.iter().filter(|(_, group)| of_topic(group)).map(|(name, _)| name.clone()).collect()
    }

    /// The member of a group with that client id, where it was heard last.
    pub fn member(&self, group: &str, client_id: &str) -> Option<ClientInfo> {
        self.with_group(group, |group| {
            let known = group.members.values().filter(|m| m.client_id == client_id);
            known.max_by_key(|m| m.seen).cloned()
        })?
    }

    /// The connection of a client that is a producer. Upstream forgets it when the client leaves one of its groups.
    pub fn producer_channel(&self, client_id: &str) -> Option<Arc<Connection>> {
        self.channels.read().get(client_id).cloned()
    }

    /// Members of a producer group.
    pub fn producers(&self, group: &str) -> Vec<ClientInfo> {
        self.producers.read().get(group).map(|members| members.values().cloned().collect()).unwrap_or_default()
    }

    /// Members of all producer groups.
    pub fn all_producers(&self) -> BTreeMap<String, Vec<ClientInfo>> {
        let producers = self.producers.read();
        producers.iter().map(|(name, members)| (name.clone(), members.values().cloned().collect())).collect()
    }
}

fn leave(consumers: &mut HashMap<String, ConsumerGroup>, name: &str, conn: u64) -> Option<Changed> {
    let group = consumers.get_mut(name)?;
    group.members.remove(&conn)?;
    if group.members.is_empty() {
        consumers.remove(name);
        return None;
    }
    (!group.is_broadcasting()).then(|| Changed { group: name.to_owned(), members: group.connections() })
}

/// Takes the subscriptions of a heartbeat; true when a topic came or went.
fn subscribe(group: &mut ConsumerGroup, subscriptions: &[SubscriptionData]) -> bool {
    let mut changed = false;
    for subscription in subscriptions {
        match group.subscriptions.get(&subscription.topic) {
            Some(old) if old.sub_version >= subscription.sub_version => continue,
            Some(_) => {}
            None => changed = true,
        }
        group.subscriptions.insert(subscription.topic.clone(), Arc::new(subscription.clone()));
    }
    let before = group.subscriptions.len();
    group.subscriptions.retain(|topic, _| subscriptions.iter().any(|s| s.topic == *topic));
    changed || group.subscriptions.len() != before
}

fn warn_of_double(group: &ConsumerGroup, info: &ClientInfo, name: &str) {
    // Most heartbeats are of members.
    if group.members.contains_key(&info.conn.id()) {
        return;
    }
    if let Some(double) = group.members.values().find(|m| m.client_id == info.client_id) {
        tracing::warn!(
            "group {name} has two connections of the client id {}: {} and {}; if a client connected anew, the old one ends \
             soon, if there are two clients, both read the same queues: give each its own instanceName",
            info.client_id,
            double.conn.peer(),
            info.conn.peer()
        );
    }
}
