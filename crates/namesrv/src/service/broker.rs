//! Requests by and about brokers: registration, heartbeats, groups, write permission. Reference namesrv 1.5 to 1.8, 1.13.

use std::sync::Arc;

use remoting::Connection;
use wire::{
    Command,
    body::{BrokerMemberGroup, DataVersion, GetBrokerMemberGroupResponseBody, KvTable},
    header::{
        AddWritePermOfBrokerRequestHeader, AddWritePermOfBrokerResponseHeader, BrokerHeartbeatRequestHeader,
        GetBrokerMemberGroupRequestHeader, QueryDataVersionRequestHeader, QueryDataVersionResponseHeader,
        RegisterBrokerResponseHeader, UnRegisterBrokerRequestHeader, WipeWritePermOfBrokerRequestHeader,
        WipeWritePermOfBrokerResponseHeader,
    },
    json,
};

use super::{Answer, NameService};
use crate::{
    kv::ORDER_TOPIC_CONFIG,
    registration,
    request::{Refusal, require, require_number},
    routes::{Departure, Member, Registered, Registration, Rejection},
};

impl NameService {
    /// 103.
    pub(super) fn register_broker(&self, conn: &Arc<Connection>, request: &Command) -> Answer {
        require(request, &["brokerName", "brokerAddr", "clusterName", "haServerAddr"])?;
        require_number(request, "brokerId")?;
        let delete_unlisted = self.config().delete_topic_with_broker_registration;
        let new = registration::read(request, conn.id(), delete_unlisted)?;
        // Known before the tables change, so that its end is never missed.
        self.connections.lock().insert(conn.id(), conn.clone());
        let registered = self.routes.write().register(&new, self.now_ms());
        let header = match registered {
            Ok(registered) => self.registered(&new, registered),
            Err(rejection) => return Err(rejected(conn, &new, &rejection)),
        };
        Ok(request.ok_body(self.order_configuration()).with_header(&header))
    }

    fn registered(&self, new: &Registration, registered: Registered) -> RegisterBrokerResponseHeader {
        let Registration { cluster, broker, broker_id, addr, .. } = new;
        match registered {
            Registered::Accepted { master, is_new, replaced, notice } => {
                if is_new {
                    tracing::info!("broker {broker} id {broker_id} of cluster {cluster} registers from {addr}");
                }
                if let Some(old) = replaced {
                    tracing::warn!("broker {broker} id {broker_id} is at {addr} now, it was at {old}");
                }
                self.tell(notice);
                let (master_addr, ha_server_addr) = master.unzip();
                RegisterBrokerResponseHeader { master_addr, ha_server_addr }
            }
            Registered::Outranked { by } => {
                tracing::warn!(
                    "broker {broker} id {broker_id} at {addr} is ignored: {by} has this id with a greater state version"
                );
                RegisterBrokerResponseHeader::default()
            }
        }
    }

    fn order_configuration(&self) -> bytes::Bytes {
        let wanted = self.config().return_order_topic_config_to_broker;
        let table = wanted.then(|| self.kv.namespace(ORDER_TOPIC_CONFIG)).flatten();
        table.map(|table| json::encode(&KvTable { table })).unwrap_or_default()
    }

    /// 104.
    pub(super) fn unregister_broker(&self, request: &Command) -> Answer {
        require(request, &["brokerName", "brokerAddr", "clusterName"])?;
        require_number(request, "brokerId")?;
        let header: UnRegisterBrokerRequestHeader = request.header();
        tracing::info!("broker {} at {} unregisters", header.broker_name, header.broker_addr);
        let member = Member::new(header.cluster_name, header.broker_addr);
        let notices = self.routes.write().unregister(&[Departure { member, broker: header.broker_name }]);
        self.tell(notices);
        Ok(request.ok())
    }

    /// 904.
    pub(super) fn heartbeat(&self, request: &Command) -> Answer {
        require(request, &["clusterName", "brokerAddr", "brokerName"])?;
        let header: BrokerHeartbeatRequestHeader = request.header();
        self.routes.write().heartbeat(&Member::new(header.cluster_name, header.broker_addr), self.now_ms());
        Ok(request.ok())
    }

    /// 322: a heartbeat too.
    pub(super) fn query_data_version(&self, request: &Command) -> Answer {
        require(request, &["brokerName", "brokerAddr", "clusterName"])?;
        require_number(request, "brokerId")?;
        let version: Option<DataVersion> = match request.body.is_empty() {
            true => None,
            false => Some(json::decode(&request.body).map_err(|error| Refusal::system(format!("body: {error}")))?),
        };
        let header: QueryDataVersionRequestHeader = request.header();
        let member = Member::new(header.cluster_name, header.broker_addr);
        let mut routes = self.routes.write();
        routes.heartbeat(&member, self.now_ms());
        let changed = version.is_none_or(|version| routes.is_changed(&member, &version));
        let body = routes.version_of(&member).map(json::encode).unwrap_or_default();
        Ok(request.ok_body(body).with_header(&QueryDataVersionResponseHeader { changed }))
    }

    /// 901.
    pub(super) fn member_group(&self, request: &Command) -> Answer {
        require(request, &["clusterName", "brokerName"])?;
        let header: GetBrokerMemberGroupRequestHeader = request.header();
        let group = BrokerMemberGroup {
            broker_addrs: self.routes.read().members(&header.cluster_name, &header.broker_name),
            broker_name: header.broker_name,
            cluster: header.cluster_name,
        };
        Ok(request.ok_body(json::encode(&GetBrokerMemberGroupResponseBody { broker_member_group: Some(group) })))
    }

    /// 106.
    pub(super) fn cluster_info(&self, request: &Command) -> Answer {
        Ok(request.ok_body(json::encode(&self.routes.read().cluster_info())))
    }

    /// 205.
    pub(super) fn wipe_write_permission(&self, conn: &Connection, request: &Command) -> Answer {
        require(request, &["brokerName"])?;
        let WipeWritePermOfBrokerRequestHeader { broker_name } = request.header();
        let wipe_topic_count = self.routes.write().wipe_write_permission(&broker_name);
        tracing::info!("{} took write permission from {wipe_topic_count} topics of {broker_name}", conn.display_peer());
        Ok(request.ok().with_header(&WipeWritePermOfBrokerResponseHeader { wipe_topic_count }))
    }

    /// 327.
    pub(super) fn add_write_permission(&self, conn: &Connection, request: &Command) -> Answer {
        require(request, &["brokerName"])?;
        let AddWritePermOfBrokerRequestHeader { broker_name } = request.header();
        let add_topic_count = self.routes.write().add_write_permission(&broker_name);
        tracing::info!("{} gave write permission to {add_topic_count} topics of {broker_name}", conn.display_peer());
        Ok(request.ok().with_header(&AddWritePermOfBrokerResponseHeader { add_topic_count }))
    }
}

fn rejected(conn: &Connection, new: &Registration, rejection: &Rejection) -> Refusal {
    let (broker, addr, peer) = (&new.broker, &new.addr, conn.display_peer());
    match rejection {
        Rejection::OneTopicBeforeAll => tracing::warn!(
            "broker {broker} at {addr} ({peer}) is refused: its first registration lists one topic only, which looks \
             like a change before the whole"
        ),
        other => tracing::warn!("broker {broker} at {addr} ({peer}): {other}"),
    }
    Refusal::system(rejection.to_string())
}
