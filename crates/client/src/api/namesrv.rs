//! Requests to a name server: registration, liveness, routes.

use std::time::Duration;

use remoting::Connection;
use wire::{
    Command,
    body::{BrokerMemberGroup, ClusterInfo, DataVersion, GetBrokerMemberGroupResponseBody, QueueData, TopicRouteData},
    code::request,
    header::{
        BrokerHeartbeatRequestHeader, GetBrokerMemberGroupRequestHeader, GetRouteInfoRequestHeader,
        QueryDataVersionRequestHeader, QueryDataVersionResponseHeader, RegisterBrokerResponseHeader,
        RegisterTopicRequestHeader,
    },
    json,
    record::body_crc,
};

use super::{BrokerApi, decode, succeeded};
use crate::{ClientError, Registered, Registration};

impl BrokerApi {
    /// REGISTER_BROKER.
    pub async fn register_broker(
        &self,
        server: &str,
        registration: &Registration,
        limit: Duration,
    ) -> Result<Registered, ClientError> {
        let body = json::encode(&registration.body);
        let header = registration.header(body_crc(&body));
        let command = Command::request_with(request::REGISTER_BROKER, &header).with_body(body);
        let (answer, over) = self.ask_over(server, command, limit).await?;
        let answer = succeeded(server, request::REGISTER_BROKER, answer)?;
        let header: RegisterBrokerResponseHeader = answer.header();
        Ok(Registered {
            master_addr: header.master_addr,
            ha_server_addr: header.ha_server_addr,
            order_topics: decode(server, request::REGISTER_BROKER, &answer.body)?,
            over,
        })
    }

    /// REGISTER_TOPIC_IN_NAMESRV: one topic of a broker that has registered. Java's name server says yes also when it does
    /// not know the broker, and then forgets the topic.
    pub async fn register_topic(
        &self,
        over: &Connection,
        topic: &str,
        queues: QueueData,
        limit: Duration,
    ) -> Result<(), ClientError> {
        let header = RegisterTopicRequestHeader { topic: topic.to_owned(), ..RegisterTopicRequestHeader::default() };
        let body = TopicRouteData { queue_datas: vec![queues], ..TopicRouteData::default() };
        let command = Command::request_with(request::REGISTER_TOPIC_IN_NAMESRV, &header);
        self.call_over(over, command.with_body(json::encode(&body)), limit).await.map(drop)
    }

    /// UNREGISTER_BROKER.
    pub async fn unregister_broker(
        &self,
        server: &str,
        registration: &Registration,
        limit: Duration,
    ) -> Result<(), ClientError> {
        let command = Command::request_with(request::UNREGISTER_BROKER, &registration.farewell());
        self.call(server, command, limit).await.map(drop)
    }

    /// BROKER_HEARTBEAT, one-way.
    pub async fn broker_heartbeat(
        &self,
        server: &str,
        header: &BrokerHeartbeatRequestHeader,
    ) -> Result<(), ClientError> {
        self.tell(server, Command::request_with(request::BROKER_HEARTBEAT, header)).await
    }

    /// QUERY_DATA_VERSION: true when the server does not have `version` of the broker's topics. A sign of life too.
    pub async fn has_changed(
        &self,
        over: &Connection,
        header: &QueryDataVersionRequestHeader,
        version: &DataVersion,
        limit: Duration,
    ) -> Result<bool, ClientError> {
        let command = Command::request_with(request::QUERY_DATA_VERSION, header).with_body(json::encode(version));
        let answer = self.call_over(over, command, limit).await?;
        Ok(answer.header::<QueryDataVersionResponseHeader>().changed)
    }

    /// GET_ROUTEINFO_BY_TOPIC. A topic that is not there is an answer of TOPIC_NOT_EXIST.
    pub async fn query_route(&self, server: &str, topic: &str) -> Result<TopicRouteData, ClientError> {
        let header = GetRouteInfoRequestHeader {
            topic: topic.to_owned(),
            accept_standard_json_only: Some(true),
            ..GetRouteInfoRequestHeader::default()
        };
        let answer = self.call_with(server, request::GET_ROUTEINFO_BY_TOPIC, &header).await?;
        decode(server, request::GET_ROUTEINFO_BY_TOPIC, &answer.body)
    }

    /// GET_BROKER_CLUSTER_INFO.
    pub async fn cluster_info(&self, server: &str) -> Result<ClusterInfo, ClientError> {
        self.fetch_json(server, request::GET_BROKER_CLUSTER_INFO, self.limit).await
    }

    /// GET_BROKER_MEMBER_GROUP; a group that the server does not know has no addresses.
    pub async fn member_group(
        &self,
        server: &str,
        cluster_name: &str,
        broker_name: &str,
    ) -> Result<BrokerMemberGroup, ClientError> {
        let header = GetBrokerMemberGroupRequestHeader {
            cluster_name: cluster_name.to_owned(),
            broker_name: broker_name.to_owned(),
        };
        let answer = self.call_with(server, request::GET_BROKER_MEMBER_GROUP, &header).await?;
        let body: GetBrokerMemberGroupResponseBody = decode(server, request::GET_BROKER_MEMBER_GROUP, &answer.body)?;
        Ok(body.broker_member_group.unwrap_or_default())
    }
}
