//! Administration of a broker: topics and its state.

use wire::{
    Command,
    body::{HARuntimeInfo, KvTable, TopicConfig},
    code::{request, response},
    header::{CreateTopicRequestHeader, DeleteTopicRequestHeader, GetTopicConfigRequestHeader},
};

use super::{BrokerApi, decode};
use crate::ClientError;

impl BrokerApi {
    /// UPDATE_AND_CREATE_TOPIC.
    pub async fn update_topic(&self, addr: &str, topic: &TopicConfig) -> Result<(), ClientError> {
        let attributes: Vec<String> = topic.attributes.iter().map(|(key, value)| format!("+{key}={value}")).collect();
        let header = CreateTopicRequestHeader {
            topic: topic.topic_name.clone(),
            default_topic: wire::topic::AUTO_CREATE.to_owned(),
            read_queue_nums: topic.read_queue_nums,
            write_queue_nums: topic.write_queue_nums,
            perm: topic.perm,
            topic_filter_type: topic.topic_filter_type.name().to_owned(),
            topic_sys_flag: Some(topic.topic_sys_flag),
            order: topic.order,
            attributes: (!attributes.is_empty()).then(|| attributes.join(",")),
            ..CreateTopicRequestHeader::default()
        };
        self.call_with(addr, request::UPDATE_AND_CREATE_TOPIC, &header).await.map(drop)
    }

    /// GET_TOPIC_CONFIG; `None` when the broker has no such topic.
    pub async fn topic_config(&self, addr: &str, topic: &str) -> Result<Option<TopicConfig>, ClientError> {
        let header = GetTopicConfigRequestHeader { topic: topic.to_owned(), ..Default::default() };
        match self.call_with(addr, request::GET_TOPIC_CONFIG, &header).await {
            Ok(answer) => decode(addr, request::GET_TOPIC_CONFIG, &answer.body).map(Some),
            Err(error) if error.code() == Some(response::TOPIC_NOT_EXIST) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// DELETE_TOPIC_IN_BROKER.
    pub async fn delete_topic(&self, addr: &str, topic: &str) -> Result<(), ClientError> {
        let header = DeleteTopicRequestHeader { topic: topic.to_owned(), ..Default::default() };
        self.call_with(addr, request::DELETE_TOPIC_IN_BROKER, &header).await.map(drop)
    }

    /// GET_BROKER_RUNTIME_INFO.
    pub async fn runtime_info(&self, addr: &str) -> Result<KvTable, ClientError> {
        self.fetch_json(addr, request::GET_BROKER_RUNTIME_INFO, self.limit).await
    }

    /// GET_BROKER_HA_STATUS.
    pub async fn ha_status(&self, addr: &str) -> Result<HARuntimeInfo, ClientError> {
        self.fetch_json(addr, request::GET_BROKER_HA_STATUS, self.limit).await
    }

    /// GET_BROKER_CONFIG: lines of `key=value`.
    pub async fn broker_config(&self, addr: &str) -> Result<String, ClientError> {
        let answer = self.call(addr, Command::request(request::GET_BROKER_CONFIG), self.limit).await?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// UPDATE_BROKER_CONFIG: lines of `key=value`.
    pub async fn update_config(&self, addr: &str, lines: &str) -> Result<(), ClientError> {
        let command = Command::request(request::UPDATE_BROKER_CONFIG).with_body(lines.to_owned());
        self.call(addr, command, self.limit).await.map(drop)
    }
}
