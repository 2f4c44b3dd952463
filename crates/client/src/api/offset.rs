//! Consumer progress and the ends of queues.

use wire::{
    code::{request, response},
    header::{
        GetEarliestMsgStoretimeRequestHeader, GetEarliestMsgStoretimeResponseHeader, GetMaxOffsetRequestHeader,
        GetMaxOffsetResponseHeader, GetMinOffsetRequestHeader, GetMinOffsetResponseHeader,
        QueryConsumerOffsetRequestHeader, QueryConsumerOffsetResponseHeader, SearchOffsetRequestHeader,
        SearchOffsetResponseHeader, UpdateConsumerOffsetRequestHeader,
    },
};

use super::BrokerApi;
use crate::ClientError;

impl BrokerApi {
    /// QUERY_CONSUMER_OFFSET; `None` when the group has no progress there.
    pub async fn query_consumer_offset(
        &self,
        addr: &str,
        group: &str,
        topic: &str,
        queue_id: i32,
    ) -> Result<Option<i64>, ClientError> {
        let header = QueryConsumerOffsetRequestHeader {
            consumer_group: group.to_owned(),
            topic: topic.to_owned(),
            queue_id,
            set_zero_if_not_found: Some(false),
            ..QueryConsumerOffsetRequestHeader::default()
        };
        match self.call_with(addr, request::QUERY_CONSUMER_OFFSET, &header).await {
            Ok(answer) => Ok(Some(answer.header::<QueryConsumerOffsetResponseHeader>().offset)),
            Err(error) if error.code() == Some(response::QUERY_NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// UPDATE_CONSUMER_OFFSET.
    pub async fn update_consumer_offset(
        &self,
        addr: &str,
        group: &str,
        topic: &str,
        queue_id: i32,
        offset: i64,
    ) -> Result<(), ClientError> {
        let header = UpdateConsumerOffsetRequestHeader {
            consumer_group: group.to_owned(),
            topic: topic.to_owned(),
            queue_id: Some(queue_id),
            commit_offset: Some(offset),
            ..UpdateConsumerOffsetRequestHeader::default()
        };
        self.call_with(addr, request::UPDATE_CONSUMER_OFFSET, &header).await.map(drop)
    }

    /// GET_MAX_OFFSET: the offset of the next message.
    pub async fn max_offset(&self, addr: &str, topic: &str, queue_id: i32) -> Result<i64, ClientError> {
        let header = GetMaxOffsetRequestHeader { topic: topic.to_owned(), queue_id, ..Default::default() };
        let answer = self.call_with(addr, request::GET_MAX_OFFSET, &header).await?;
        Ok(answer.header::<GetMaxOffsetResponseHeader>().offset)
    }

    /// GET_MIN_OFFSET: the offset of the first message that is still there.
    pub async fn min_offset(&self, addr: &str, topic: &str, queue_id: i32) -> Result<i64, ClientError> {
        let header = GetMinOffsetRequestHeader { topic: topic.to_owned(), queue_id, ..Default::default() };
        let answer = self.call_with(addr, request::GET_MIN_OFFSET, &header).await?;
        Ok(answer.header::<GetMinOffsetResponseHeader>().offset)
    }

    /// SEARCH_OFFSET_BY_TIMESTAMP: the first message stored at or after `timestamp`, or the last one at or before it.
    pub async fn search_offset(
        &self,
        addr: &str,
        topic: &str,
        queue_id: i32,
        timestamp: i64,
        upper: bool,
    ) -> Result<i64, ClientError> {
        let header = SearchOffsetRequestHeader {
            topic: topic.to_owned(),
            queue_id,
            timestamp,
            boundary_type: Some(if upper { "UPPER" } else { "LOWER" }.to_owned()),
            ..SearchOffsetRequestHeader::default()
        };
        let answer = self.call_with(addr, request::SEARCH_OFFSET_BY_TIMESTAMP, &header).await?;
        Ok(answer.header::<SearchOffsetResponseHeader>().offset)
    }

    /// GET_EARLIEST_MSG_STORETIME, in ms.
    pub async fn earliest_store_time(&self, addr: &str, topic: &str, queue_id: i32) -> Result<i64, ClientError> {
        let header = GetEarliestMsgStoretimeRequestHeader { topic: topic.to_owned(), queue_id, ..Default::default() };
        let answer = self.call_with(addr, request::GET_EARLIEST_MSG_STORETIME, &header).await?;
        Ok(answer.header::<GetEarliestMsgStoretimeResponseHeader>().timestamp)
    }
}
