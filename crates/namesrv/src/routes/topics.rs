//! Topics without their brokers: lists, deletion, single registration, write permission.
//! Source: `RouteInfoManager.java`; reference namesrv 1.4, 1.12, 1.13.

use std::collections::BTreeMap;

use wire::{
    body::{ClusterInfo, QueueData, TopicList},
    topic::perm,
};

use super::Routes;

/// Topic belongs to a unit. Source: `TopicSysFlag.java`.
const UNIT: i32 = 1;
/// Topic has subscriptions of units.
const UNIT_SUB: i32 = 1 << 1;

impl Routes {
    /// All topics.
    pub fn all_topics(&self) -> TopicList {
        self.topics_where(|_, _| true)
    }

    /// Topics of the brokers of a cluster; none for an unknown cluster.
    pub fn topics_of_cluster(&self, cluster: &str) -> TopicList {
        self.topics_where(|broker, _| self.groups.get(broker).is_some_and(|group| group.cluster == cluster))
    }

    /// Names of clusters and brokers, which are the system topics of a name server, and the address of some broker.
    pub fn system_topics(&self) -> TopicList {
        let names = self.groups.values().flat_map(|group| [group.cluster.clone(), group.broker_name.clone()]);
        let addr = self.groups.values().find_map(|group| group.broker_addrs.values().next());
        TopicList { topic_list: names.collect(), broker_addr: addr.cloned() }
    }

    /// Topics of a unit.
    pub fn unit_topics(&self) -> TopicList {
        self.topics_by_flag(|flag| flag & UNIT != 0)
    }

    /// Topics with subscriptions of units.
    pub fn unit_sub_topics(&self) -> TopicList {
        self.topics_by_flag(|flag| flag & UNIT_SUB != 0)
    }

    /// Topics with subscriptions of units that are in no unit themselves.
    pub fn unit_sub_topics_outside_units(&self) -> TopicList {
        self.topics_by_flag(|flag| flag & (UNIT | UNIT_SUB) == UNIT_SUB)
    }

    /// All groups, and the names of each cluster.
    pub fn cluster_info(&self) -> ClusterInfo {
        let mut info = ClusterInfo { broker_addr_table: self.groups.clone(), ..Default::default() };
        for group in self.groups.values() {
            info.cluster_addr_table.entry(group.cluster.clone()).or_default().insert(group.broker_name.clone());
        }
        info
    }

    /// Forgets a topic, at the brokers of one cluster or at all. A broker that still has it brings it back with its next
    /// registration.
    pub fn delete_topic(&mut self, topic: &str, cluster: Option<&str>) {
        let Some(brokers) = self.topics.get_mut(topic) else { return };
        match cluster {
            None => brokers.clear(),
            Some(cluster) => {
                brokers.retain(|broker, _| self.groups.get(broker).is_none_or(|group| group.cluster != cluster))
            }
        }
        if brokers.is_empty() {
            self.topics.remove(topic);
            self.mappings.remove(topic);
        }
    }

    /// Adds or replaces entries of one topic. Returns the first broker name that is not known here: it and what follows
    /// are skipped, and a new topic is then not made at all.
    pub fn register_topic(&mut self, topic: &str, queues: &[QueueData]) -> Result<(), String> {
        let known = queues.iter().take_while(|entry| self.groups.contains_key(&entry.broker_name)).count();
        let unknown = queues.get(known).map(|entry| entry.broker_name.clone());
        if known > 0 && (unknown.is_none() || self.topics.contains_key(topic)) {
            let brokers = self.topics.entry(topic.to_owned()).or_default();
            brokers.extend(queues[..known].iter().map(|entry| (entry.broker_name.clone(), entry.clone())));
        }
        unknown.map_or(Ok(()), Err)
    }

    /// Takes the write permission from all topics of a broker. Returns how many it has.
    pub fn wipe_write_permission(&mut self, broker: &str) -> i32 {
        self.change_permission(broker, |old| old & !perm::WRITE)
    }

    /// Makes all topics of a broker readable and writeable, whatever they were. Returns how many it has.
    pub fn add_write_permission(&mut self, broker: &str) -> i32 {
        self.change_permission(broker, |_| perm::READ_WRITE)
    }

    fn change_permission(&mut self, broker: &str, change: impl Fn(i32) -> i32) -> i32 {
        let entries = self.topics.values_mut().filter_map(|brokers| brokers.get_mut(broker));
        entries.map(|queues| queues.perm = change(queues.perm)).count() as i32
    }

    /// Keeps entries by topic and broker name; a topic without entries goes, and its mapping with it.
    pub(super) fn retain_queues(&mut self, keep: impl Fn(&str, &str) -> bool) {
        let mappings = &mut self.mappings;
        self.topics.retain(|topic, brokers| {
            brokers.retain(|broker, _| keep(topic, broker));
            if brokers.is_empty() {
                mappings.remove(topic);
            }
            !brokers.is_empty()
        });
    }

    /// Java looks at some one broker of the topic; all have the same flags unless someone is changing them.
    fn topics_by_flag(&self, wanted: impl Fn(i32) -> bool) -> TopicList {
        self.topics_where(|_, queues| wanted(queues.topic_sys_flag))
    }

    fn topics_where(&self, wanted: impl Fn(&str, &QueueData) -> bool) -> TopicList {
        let has = |brokers: &BTreeMap<String, QueueData>| brokers.iter().any(|(broker, queues)| wanted(broker, queues));
        let names = self.topics.iter().filter(|(_, brokers)| has(brokers)).map(|(topic, _)| topic.clone());
        TopicList { topic_list: names.collect(), broker_addr: None }
    }
}
