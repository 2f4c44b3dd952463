//! The route of one topic. Source: `RouteInfoManager.pickupTopicRouteData`, `ZoneRouteRPCHook.java`; reference namesrv
//! 1.9, 1.10.

use std::collections::{BTreeMap, BTreeSet};

use wire::{
    body::{BrokerData, QueueData, TopicRouteData},
    hash::java_hash,
    topic::{SYNC_MEMBER_PREFIX, perm},
};

use super::{MASTER_ID, Member, Routes};

impl Routes {
    /// Where a topic is; `None` when nobody has it. With `acting_master` the smallest slave of a group without master is
    /// shown as master where the topic is not writeable, except to brokers that look for their own group.
    pub fn route(&self, topic: &str, acting_master: bool) -> Option<TopicRouteData> {
        let queues = self.topics.get(topic)?;
        let names = java_order(queues.keys());
        let groups: Vec<BrokerData> = names.iter().filter_map(|name| self.groups.get(*name).cloned()).collect();
        if groups.is_empty() {
            return None;
        }
        let mut route = TopicRouteData {
            filter_server_table: self.filter_servers_of(&groups),
            broker_datas: groups,
            queue_datas: names.iter().map(|name| queues[*name].clone()).collect(),
            topic_queue_mapping_by_broker: self.mappings.get(topic).cloned(),
            ..Default::default()
        };
        if acting_master && !topic.starts_with(SYNC_MEMBER_PREFIX) {
            show_acting_masters(&mut route);
        }
        Some(route)
    }

    fn filter_servers_of(&self, groups: &[BrokerData]) -> BTreeMap<String, Vec<String>> {
        if self.filter_servers.is_empty() {
            return BTreeMap::new();
        }
        let addrs = groups.iter().flat_map(|group| group.broker_addrs.values().map(|addr| (&group.cluster, addr)));
        let servers = |(cluster, addr): (&String, &String)| {
            Some((addr.clone(), self.filter_servers.get(&Member::new(cluster, addr))?.clone()))
        };
        addrs.filter_map(servers).collect()
    }
}

fn show_acting_masters(route: &mut TopicRouteData) {
    for group in route.broker_datas.iter_mut().filter(|group| group.enable_acting_master) {
        let is_of_group = |queues: &&QueueData| queues.broker_name == group.broker_name;
        let is_writeable = route.queue_datas.iter().find(is_of_group).is_none_or(|q| perm::writeable(q.perm));
        if is_writeable || group.broker_addrs.contains_key(&MASTER_ID) {
            continue;
        }
        if let Some((_, addr)) = group.broker_addrs.pop_first() {
            group.broker_addrs.insert(MASTER_ID, addr);
        }
    }
}

/// Keeps the groups of `zone` and those without master, whose slaves serve everyone; the rest goes with its queues and
/// filter servers.
pub fn keep_zone(route: &mut TopicRouteData, zone: &str) {
    let is_kept = |group: &BrokerData| {
        let in_zone = group.zone_name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(zone));
        in_zone || !group.broker_addrs.contains_key(&MASTER_ID)
    };
    let dropped: Vec<BrokerData> = route.broker_datas.extract_if(.., |group| !is_kept(group)).collect();
    let names: BTreeSet<&str> = dropped.iter().map(|group| group.broker_name.as_str()).collect();
    route.queue_datas.retain(|queues| !names.contains(queues.broker_name.as_str()));
    for addr in dropped.iter().flat_map(|group| group.broker_addrs.values()) {
        route.filter_server_table.remove(addr);
    }
}

/// The order in which a Java hash map of that many names gives them, so that equal tables give equal bytes. Names that
/// fall into one bucket come in the order of the alphabet; in Java the order of their arrival counts.
fn java_order<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> Vec<&'a String> {
    let buckets = (names.len() * 4).div_ceil(3).next_power_of_two().max(16) as u32;
    let bucket = |name: &str| {
        let hash = java_hash(name) as u32;
        (hash ^ hash >> 16) & (buckets - 1)
    };
    let mut names: Vec<&String> = names.collect();
    names.sort_by_cached_key(|name| (bucket(name), (*name).clone()));
    names
}
