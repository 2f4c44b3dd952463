//! What a broker tells name servers of itself, and what they answer.

use std::sync::Arc;

use remoting::Connection;
use wire::{
    body::{KvTable, RegisterBrokerBody},
    header::{RegisterBrokerRequestHeader, UnRegisterBrokerRequestHeader},
};

/// A broker's registration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Registration {
    /// Its cluster.
    pub cluster_name: String,
    /// Its group.
    pub broker_name: String,
    /// 0 for the master.
    pub broker_id: i64,
    /// Where clients reach it.
    pub broker_addr: String,
    /// Where slaves reach it.
    pub ha_server_addr: String,
    /// Its topics.
    pub body: RegisterBrokerBody,
}

/// What a name server answered.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The master of the group; only a slave is told.
    pub master_addr: Option<String>,
    /// Where that master replicates from; only a slave is told.
    pub ha_server_addr: Option<String>,
    /// Ordered topics, when the name server has some.
    pub order_topics: KvTable,
    /// The connection the answer came over.
    pub over: Arc<Connection>,
}

impl Registration {
    pub(crate) fn header(&self, body_crc32: u32) -> RegisterBrokerRequestHeader {
        RegisterBrokerRequestHeader {
            broker_name: self.broker_name.clone(),
            broker_addr: self.broker_addr.clone(),
            cluster_name: self.cluster_name.clone(),
            ha_server_addr: self.ha_server_addr.clone(),
            broker_id: self.broker_id,
            enable_acting_master: Some(false),
            body_crc32: body_crc32 as i32,
            ..RegisterBrokerRequestHeader::default()
        }
    }

    pub(crate) fn farewell(&self) -> UnRegisterBrokerRequestHeader {
        UnRegisterBrokerRequestHeader {
            broker_name: self.broker_name.clone(),
            broker_addr: self.broker_addr.clone(),
            cluster_name: self.cluster_name.clone(),
            broker_id: self.broker_id,
        }
    }
}
