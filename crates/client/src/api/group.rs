//! Clients and groups: heartbeats, members, locks.

use std::collections::BTreeSet;

use wire::{
    Command,
    body::{
        ConsumerConnection, GetConsumerListByGroupResponseBody, HeartbeatData, LockBatchRequestBody,
        LockBatchResponseBody, MessageQueue, SubscriptionGroupConfig, UnlockBatchRequestBody,
    },
    code::request,
    header::{
        GetConsumerConnectionListRequestHeader, GetConsumerListByGroupRequestHeader, UnregisterClientRequestHeader,
    },
    json,
};

use super::{BrokerApi, decode};
use crate::ClientError;

/// Queues that a client holds for its group.
pub type LockedQueues = BTreeSet<MessageQueue>;

impl BrokerApi {
    /// HEART_BEAT.
    pub async fn heartbeat(&self, addr: &str, data: &HeartbeatData) -> Result<(), ClientError> {
        let command = Command::request(request::HEART_BEAT).with_body(json::encode(data));
        self.call(addr, command, self.limit).await.map(drop)
    }

    /// UNREGISTER_CLIENT.
    pub async fn unregister_client(
        &self,
        addr: &str,
        header: &UnregisterClientRequestHeader,
    ) -> Result<(), ClientError> {
        self.call_with(addr, request::UNREGISTER_CLIENT, header).await.map(drop)
    }

    /// GET_CONSUMER_LIST_BY_GROUP: client ids. A group without members is a refusal.
    pub async fn consumer_ids(&self, addr: &str, group: &str) -> Result<Vec<String>, ClientError> {
        let header = GetConsumerListByGroupRequestHeader { consumer_group: group.to_owned(), ..Default::default() };
        let answer = self.call_with(addr, request::GET_CONSUMER_LIST_BY_GROUP, &header).await?;
        let body: GetConsumerListByGroupResponseBody = decode(addr, request::GET_CONSUMER_LIST_BY_GROUP, &answer.body)?;
        Ok(body.consumer_id_list)
    }

    /// GET_CONSUMER_CONNECTION_LIST. A group without members is a refusal.
    pub async fn consumer_connection(&self, addr: &str, group: &str) -> Result<ConsumerConnection, ClientError> {
        let header = GetConsumerConnectionListRequestHeader { consumer_group: group.to_owned(), ..Default::default() };
        let answer = self.call_with(addr, request::GET_CONSUMER_CONNECTION_LIST, &header).await?;
        decode(addr, request::GET_CONSUMER_CONNECTION_LIST, &answer.body)
    }

    /// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP.
    pub async fn update_group(&self, addr: &str, group: &SubscriptionGroupConfig) -> Result<(), ClientError> {
        let code = request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP;
        self.call(addr, Command::request(code).with_body(json::encode(group)), self.limit).await.map(drop)
    }

    /// LOCK_BATCH_MQ: those of the queues that the client holds now.
    pub async fn lock_batch(&self, addr: &str, body: &LockBatchRequestBody) -> Result<LockedQueues, ClientError> {
        let command = Command::request(request::LOCK_BATCH_MQ).with_body(json::encode(body));
        let answer = self.call(addr, command, self.limit).await?;
        let body: LockBatchResponseBody = decode(addr, request::LOCK_BATCH_MQ, &answer.body)?;
        Ok(body.lock_ok_mq_set)
    }

    /// UNLOCK_BATCH_MQ.
    pub async fn unlock_batch(&self, addr: &str, body: &UnlockBatchRequestBody) -> Result<(), ClientError> {
        let command = Command::request(request::UNLOCK_BATCH_MQ).with_body(json::encode(body));
        self.call(addr, command, self.limit).await.map(drop)
    }
}
