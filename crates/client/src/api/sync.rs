//! What a slave copies from its master. Tables of topics and groups come in pages since 5.4; older masters answer the
//! whole table at once. Reference java-5.5, 3.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use wire::{
    Command,
    body::{
        ConsumerOffsetSerializeWrapper, DataVersion, DelayOffsetSerializeWrapper, KvTable,
        MessageRequestModeSerializeWrapper, SubscriptionGroupWrapper, TopicConfigAndMappingSerializeWrapper,
    },
    code::request,
    header::{
        ExchangeHAInfoRequestHeader, ExchangeHAInfoResponseHeader, GetAllSubscriptionGroupRequestHeader,
        GetAllSubscriptionGroupResponseHeader, GetAllTopicConfigRequestHeader, GetAllTopicConfigResponseHeader,
    },
    json::{self, FromJson},
};

use super::{BrokerApi, decode};
use crate::ClientError;

/// Field of GET_ALL_DELAY_OFFSET and GET_BROKER_RUNTIME_INFO that Java does not know: the end of the asking slave's log.
pub const LOG_END: &str = "maxPhyOffset";

/// Key under which a Tandem master tells its slave which topics were deleted and what is in its log of them: lines of the
/// log's end when that happened, a blank, and the name.
pub const DELETED_TOPICS: &str = "deletedTopics";

/// Entries of one page.
const PAGE: i32 = 2000;

/// Limit of one answer, and of all pages of a table.
const PAGE_LIMIT: Duration = Duration::from_secs(30);
const TABLE_LIMIT: Duration = Duration::from_secs(60);

/// A table that comes in pages.
trait Paged: FromJson + Default {
    const CODE: i32;
    /// Asks for the page that starts at entry `seq`; `version` is empty on the first one.
    fn ask(seq: i32, version: &str) -> Command;
    /// Entries of the whole table; none when the answer is the whole table.
    fn total(answer: &Command) -> Option<i32>;
    fn version(&self) -> DataVersion;
    fn entries(&self) -> usize;
    fn append(&mut self, page: Self);
}

impl Paged for TopicConfigAndMappingSerializeWrapper {
    const CODE: i32 = request::GET_ALL_TOPIC_CONFIG;

    fn ask(seq: i32, version: &str) -> Command {
        let header = GetAllTopicConfigRequestHeader {
            topic_seq: Some(seq),
            max_topic_num: Some(PAGE),
            data_version: Some(version.to_owned()),
            ..GetAllTopicConfigRequestHeader::default()
        };
        Command::request_with(Self::CODE, &header)
    }

    fn total(answer: &Command) -> Option<i32> {
        answer.header::<GetAllTopicConfigResponseHeader>().total_topic_num
    }

    fn version(&self) -> DataVersion {
        self.data_version
    }

    fn entries(&self) -> usize {
        self.topic_config_table.len()
    }

    fn append(&mut self, page: Self) {
        self.topic_config_table.extend(page.topic_config_table);
        self.topic_queue_mapping_detail_map.extend(page.topic_queue_mapping_detail_map);
        self.topic_queue_mapping_info_map.extend(page.topic_queue_mapping_info_map);
    }
}

impl Paged for SubscriptionGroupWrapper {
    const CODE: i32 = request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG;

    fn ask(seq: i32, version: &str) -> Command {
        let header = GetAllSubscriptionGroupRequestHeader {
            group_seq: Some(seq),
            max_group_num: Some(PAGE),
            data_version: Some(version.to_owned()),
            ..GetAllSubscriptionGroupRequestHeader::default()
        };
        Command::request_with(Self::CODE, &header)
    }

    fn total(answer: &Command) -> Option<i32> {
        answer.header::<GetAllSubscriptionGroupResponseHeader>().total_group_num
    }

    fn version(&self) -> DataVersion {
        self.data_version
    }

    fn entries(&self) -> usize {
        self.subscription_group_table.len()
    }

    fn append(&mut self, page: Self) {
        self.subscription_group_table.extend(page.subscription_group_table);
        self.forbidden_table.extend(page.forbidden_table);
    }
}

impl BrokerApi {
    /// GET_ALL_TOPIC_CONFIG, all pages of one version.
    pub async fn get_all_topic_config(&self, addr: &str) -> Result<TopicConfigAndMappingSerializeWrapper, ClientError> {
        self.table(addr).await
    }

    /// GET_ALL_SUBSCRIPTIONGROUP_CONFIG, all pages of one version.
    pub async fn get_all_subscription_group(&self, addr: &str) -> Result<SubscriptionGroupWrapper, ClientError> {
        self.table(addr).await
    }

    /// GET_ALL_CONSUMER_OFFSET.
    pub async fn get_all_consumer_offset(&self, addr: &str) -> Result<ConsumerOffsetSerializeWrapper, ClientError> {
        self.fetch_json(addr, request::GET_ALL_CONSUMER_OFFSET, PAGE_LIMIT).await
    }

    /// GET_BROKER_RUNTIME_INFO as a slave asks it, whose log ends at `log_end`: a Tandem master tells of [`DELETED_TOPICS`] too.
    pub async fn runtime_info_for_slave(&self, addr: &str, log_end: i64) -> Result<KvTable, ClientError> {
        let mut command = Command::request(request::GET_BROKER_RUNTIME_INFO);
        command.ext.push_number(LOG_END, log_end);
        let answer = self.call(addr, command, PAGE_LIMIT).await?;
        decode(addr, request::GET_BROKER_RUNTIME_INFO, &answer.body)
    }

    /// GET_ALL_DELAY_OFFSET. `log_end` is the end of the asker's log: a Tandem master tells of deliveries up to there, a Java
    /// master takes no notice of it.
    pub async fn get_all_delay_offset(
        &self,
        addr: &str,
        log_end: i64,
    ) -> Result<DelayOffsetSerializeWrapper, ClientError> {
        let mut command = Command::request(request::GET_ALL_DELAY_OFFSET);
        command.ext.push_number(LOG_END, log_end);
        let answer = self.call(addr, command, PAGE_LIMIT).await?;
        decode(addr, request::GET_ALL_DELAY_OFFSET, &answer.body)
    }

    /// GET_ALL_MESSAGE_REQUEST_MODE.
    pub async fn get_all_message_request_mode(
        &self,
        addr: &str,
    ) -> Result<MessageRequestModeSerializeWrapper, ClientError> {
        self.fetch_json(addr, request::GET_ALL_MESSAGE_REQUEST_MODE, PAGE_LIMIT).await
    }

    /// GET_TIMER_METRICS, as its JSON text. A master without timers refuses.
    pub async fn get_timer_metrics(&self, addr: &str) -> Result<String, ClientError> {
        let body = self.fetch(addr, request::GET_TIMER_METRICS, PAGE_LIMIT).await?;
        let not_text = |_| ClientError::body(addr, request::GET_TIMER_METRICS, "it is not UTF-8");
        String::from_utf8(body.to_vec()).map_err(not_text)
    }

    /// GET_TIMER_CHECK_POINT: the bytes of that file. A master without timers refuses.
    pub async fn get_timer_check_point(&self, addr: &str) -> Result<Bytes, ClientError> {
        self.fetch(addr, request::GET_TIMER_CHECK_POINT, PAGE_LIMIT).await
    }

    /// EXCHANGE_BROKER_HA_INFO: with a master's HA address a statement, without one a question.
    pub async fn exchange_ha_info(
        &self,
        addr: &str,
        header: &ExchangeHAInfoRequestHeader,
    ) -> Result<ExchangeHAInfoResponseHeader, ClientError> {
        Ok(self.call_with(addr, request::EXCHANGE_BROKER_HA_INFO, header).await?.header())
    }

    /// Reads until as many entries are here as the master says there are; Java stops one short of it. A table that
    /// changes meanwhile is read from its start again.
    async fn table<T: Paged>(&self, addr: &str) -> Result<T, ClientError> {
        let end = Instant::now() + TABLE_LIMIT;
        let (mut table, mut answer) = self.page::<T>(addr, 0, "").await?;
        while let Some(total) = T::total(&answer) {
            let have = table.entries();
            if have >= usize::try_from(total).unwrap_or(0) {
                break;
            }
            if Instant::now() >= end {
                return Err(ClientError::body(addr, T::CODE, format!("{have} of {total} entries after 60 s")));
            }
            let version = String::from_utf8_lossy(&json::encode(&table.version())).into_owned();
            let page;
            (page, answer) = self.page::<T>(addr, have as i32, &version).await?;
            if page.version() != table.version() {
                table = page;
                continue;
            }
            table.append(page);
            if table.entries() == have {
                return Err(ClientError::body(addr, T::CODE, format!("no entry came after {have} of {total}")));
            }
        }
        Ok(table)
    }

    async fn page<T: Paged>(&self, addr: &str, seq: i32, version: &str) -> Result<(T, Command), ClientError> {
        let answer = self.call(addr, T::ask(seq, version), PAGE_LIMIT).await?;
        Ok((decode(addr, T::CODE, &answer.body)?, answer))
    }
}
