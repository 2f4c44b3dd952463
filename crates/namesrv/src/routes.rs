//! The tables of a name server: who is where, which broker has which topic, who is still alive.
//! Source: `namesrv/.../routeinfo/RouteInfoManager.java`; reference namesrv 1.3 to 1.13.
//!
//! Pure: the time is a number of monotonic milliseconds that the caller hands in, a connection is an id, and what must
//! be told to others is returned as [`Notice`]. Does no I/O, takes no lock and never fails for lack of a peer.

use std::collections::{BTreeMap, HashMap};

use wire::{
    body::{BrokerData, DataVersion, QueueData},
    header::NotifyMinBrokerIdChangeRequestHeader,
    json::Json,
};

mod pick;
mod register;
mod topics;
mod unregister;

#[cfg(test)]
mod tests;

pub use pick::keep_zone;
pub use register::{Registered, Registration, Rejection};
pub use unregister::{Departure, Expired};

/// Id of the master of a group.
pub const MASTER_ID: i64 = 0;

/// How long a broker may be silent that did not say so itself, in milliseconds.
pub const DEFAULT_HEARTBEAT_TIMEOUT_MS: u64 = 120_000;

/// One broker process: the cluster it is in and the address it gave.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// Cluster.
    pub cluster: String,
    /// Address for clients.
    pub addr: String,
}

impl Member {
    /// From both parts.
    pub fn new(cluster: impl Into<String>, addr: impl Into<String>) -> Self {
        Self { cluster: cluster.into(), addr: addr.into() }
    }
}

/// What is known of a registered broker process beside its topics.
#[derive(Clone, Debug)]
struct Live {
    last_seen_ms: u64,
    heartbeat_timeout_ms: u64,
    version: DataVersion,
    connection: u64,
    ha_addr: String,
}

/// One NOTIFY_MIN_BROKER_ID_CHANGE for several brokers: the smallest id of their group is another one now.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// What to send.
    pub header: NotifyMinBrokerIdChangeRequestHeader,
    /// Addresses to send it to.
    pub recipients: Vec<String>,
}

/// All tables. The cluster table of Java is the `cluster` of each group: a group is in one cluster only.
#[derive(Debug, Default)]
pub struct Routes {
    /// Topic to broker name to queues.
    topics: HashMap<String, BTreeMap<String, QueueData>>,
    /// Broker name to its group. No group is without an address.
    groups: BTreeMap<String, BrokerData>,
    live: HashMap<Member, Live>,
    filter_servers: HashMap<Member, Vec<String>>,
    /// Static topics: topic to broker name to its part, handed on as it came. Goes with the last broker of the topic.
    mappings: HashMap<String, BTreeMap<String, Json>>,
}

impl Routes {
    /// Empty tables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a sign of life. An unknown broker stays unknown: only a registration makes it known.
    pub fn heartbeat(&mut self, member: &Member, now_ms: u64) {
        if let Some(live) = self.live.get_mut(member) {
            live.last_seen_ms = now_ms;
        }
    }

    /// Version of the topics that a broker registered last.
    pub fn version_of(&self, member: &Member) -> Option<&DataVersion> {
        self.live.get(member).map(|live| &live.version)
    }

    /// True when a broker with topics of `version` must register again, as far as this name server knows.
    pub fn is_changed(&self, member: &Member, version: &DataVersion) -> bool {
        self.version_of(member) != Some(version)
    }

    /// Addresses of a group by id. Nothing when the group is in another cluster: a slave must never follow the master of
    /// a foreign group that happens to have its name.
    pub fn members(&self, cluster: &str, broker: &str) -> BTreeMap<i64, String> {
        let group = self.groups.get(broker).filter(|group| group.cluster == cluster);
        group.map(|group| group.broker_addrs.clone()).unwrap_or_default()
    }

    fn notice(&self, broker: &str, recipients: Recipients) -> Option<Notice> {
        let addrs = &self.groups.get(broker)?.broker_addrs;
        let (&min_id, min_addr) = addrs.first_key_value()?;
        let (offline, ha, skip_min) = match recipients {
            Recipients::AllAfterLossOf(addr) => (Some(addr), None, false),
            Recipients::OthersThanNewcomer { ha_addr } => (None, Some(ha_addr), addrs.len() > 1),
        };
        let recipients = addrs.iter().filter(|(id, _)| !(skip_min && **id == min_id));
        Some(Notice {
            recipients: recipients.map(|(_, addr)| addr.clone()).collect(),
            header: NotifyMinBrokerIdChangeRequestHeader {
                min_broker_id: Some(min_id),
                min_broker_addr: Some(min_addr.clone()),
                offline_broker_addr: offline,
                ha_broker_addr: ha,
                ..Default::default()
            },
        })
    }
}

enum Recipients {
    AllAfterLossOf(String),
    OthersThanNewcomer { ha_addr: String },
}

/// Smallest id of a group and its address.
fn smallest(group: &BrokerData) -> Option<(i64, &str)> {
    group.broker_addrs.first_key_value().map(|(id, addr)| (*id, addr.as_str()))
}
