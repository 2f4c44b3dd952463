//! Brokers leave: by their own word, by silence, or because their connection is gone.
//! Source: `RouteInfoManager.unRegisterBroker`, `scanNotActiveBroker`, `onChannelDestroy`; reference namesrv 1.6, 1.7.
//!
//! Brokers that go together are taken out together, so that the topics are looked through once.

use std::collections::{BTreeMap, BTreeSet};

use wire::topic::perm;

use super::{MASTER_ID, Member, Notice, Recipients, Routes, smallest};

/// One broker process leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Cluster and address.
    pub member: Member,
    /// Its group.
    pub broker: String,
}

/// Result of a look for silent brokers.
#[derive(Debug, Default, PartialEq)]
pub struct Expired {
    /// Who was silent for too long, and for how many milliseconds it might have been.
    pub members: Vec<(Member, u64)>,
    /// Connections that belong to nobody else and should be closed.
    pub connections: Vec<u64>,
    /// What to tell the groups.
    pub notices: Vec<Notice>,
}

#[derive(Default)]
struct Losses {
    /// Groups without any member left.
    removed: BTreeSet<String>,
    /// Groups that lost a member and still have one.
    reduced: BTreeSet<String>,
    /// Groups whose smallest id left, with its address.
    min_lost: BTreeMap<String, String>,
}

impl Routes {
    /// Takes brokers out. Returns what to tell the groups whose smallest id left and that have acting masters.
    pub fn unregister(&mut self, batch: &[Departure]) -> Vec<Notice> {
        let mut losses = Losses::default();
        for departure in batch {
            self.depart(departure, &mut losses);
        }
        self.clean_topics(&losses);
        let told = losses.min_lost.into_iter().filter(|(broker, _)| self.has_acting_master(broker));
        told.filter_map(|(broker, addr)| self.notice(&broker, Recipients::AllAfterLossOf(addr))).collect()
    }

    /// Takes out who was silent for longer than it said it might be.
    pub fn expire(&mut self, now_ms: u64) -> Expired {
        let silent = |last: u64, limit: u64| last.saturating_add(limit) < now_ms;
        let mut expired = Expired::default();
        for (member, live) in &self.live {
            if silent(live.last_seen_ms, live.heartbeat_timeout_ms) {
                expired.members.push((member.clone(), live.heartbeat_timeout_ms));
                expired.connections.push(live.connection);
            }
        }
        let members: Vec<Member> = expired.members.iter().map(|(member, _)| member.clone()).collect();
        expired.notices = self.lose(&members);
        expired.connections.sort_unstable();
        expired.connections.dedup();
        expired.connections.retain(|id| self.live.values().all(|live| live.connection != *id));
        expired
    }

    /// Takes out all brokers that registered over a connection that is gone.
    pub fn disconnect(&mut self, connection: u64) -> (Vec<Member>, Vec<Notice>) {
        let gone = self.live.iter().filter(|(_, live)| live.connection == connection);
        let members: Vec<Member> = gone.map(|(member, _)| member.clone()).collect();
        let notices = self.lose(&members);
        (members, notices)
    }

    fn lose(&mut self, members: &[Member]) -> Vec<Notice> {
        for member in members {
            self.live.remove(member);
            self.filter_servers.remove(member);
        }
        let batch: Vec<Departure> = members.iter().filter_map(|member| self.departure_of(member)).collect();
        self.unregister(&batch)
    }

    /// Where a process is registered; nowhere when another one took its id.
    fn departure_of(&self, member: &Member) -> Option<Departure> {
        let mut groups = self.groups.values().filter(|group| group.cluster == member.cluster);
        let group = groups.find(|group| group.broker_addrs.values().any(|addr| *addr == member.addr))?;
        Some(Departure { member: member.clone(), broker: group.broker_name.clone() })
    }

    fn depart(&mut self, departure: &Departure, losses: &mut Losses) {
        let Departure { member, broker } = departure;
        self.live.remove(member);
        self.filter_servers.remove(member);
        let Some(group) = self.groups.get_mut(broker).filter(|group| group.cluster == member.cluster) else { return };
        let before = smallest(group).map(|(id, _)| id);
        group.broker_addrs.retain(|_, addr| *addr != member.addr);
        match smallest(group).map(|(id, _)| id) {
            None => {
                self.groups.remove(broker);
                losses.removed.insert(broker.clone());
            }
            after => {
                losses.reduced.insert(broker.clone());
                if after != before {
                    losses.min_lost.insert(broker.clone(), member.addr.clone());
                }
            }
        }
    }

    fn clean_topics(&mut self, losses: &Losses) {
        if !losses.removed.is_empty() {
            self.retain_queues(|_, broker| !losses.removed.contains(broker));
        }
        let read_only: Vec<&String> = losses.reduced.iter().filter(|broker| self.lacks_master(broker)).collect();
        for broker in read_only {
            let entries = self.topics.values_mut().filter_map(|brokers| brokers.get_mut(broker));
            entries.for_each(|queues| queues.perm &= !perm::WRITE);
        }
    }

    /// True when a slave stands in for the master of the group.
    fn lacks_master(&self, broker: &str) -> bool {
        self.has_acting_master(broker) && !self.groups[broker].broker_addrs.contains_key(&MASTER_ID)
    }

    fn has_acting_master(&self, broker: &str) -> bool {
        self.groups.get(broker).is_some_and(|group| group.enable_acting_master)
    }
}
