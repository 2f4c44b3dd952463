//! Offsets: of groups, of delay levels, and orders to reset them; timer counts.

use std::collections::BTreeMap;

use super::{DataVersion, MessageQueue};

crate::json_object! {
    /// `consumerOffset.json` and the answer to code 43. Java's derived `groupTopicMap` is neither read nor written, nor
    /// is `pullOffsetTable`.
    pub struct ConsumerOffsetSerializeWrapper {
        "dataVersion" data_version: DataVersion,
        /// With `enableLmq`: of groups `%LMQ%…`, by `topic@group`.
        "lmqOffsetTable" lmq_offset_table: Option<BTreeMap<String, i64>>,
        /// By `topic@group`, then by queue.
        "offsetTable" offset_table: BTreeMap<String, BTreeMap<i32, i64>>,
    }

    /// `delayOffset.json` and the answer to code 45.
    pub struct DelayOffsetSerializeWrapper {
        "dataVersion" data_version: DataVersion,
        /// By delay level.
        "offsetTable" offset_table: BTreeMap<i32, i64>,
    }

    /// Request 220 and answer to code 222.
    pub struct ResetOffsetBody {
        "offsetTable" offset_table: BTreeMap<MessageQueue, i64>,
    }

    /// The same for C++ clients.
    pub struct ResetOffsetBodyForC {
        "offsetTable" offset_table: Vec<MessageQueueForC>,
    }

    /// A queue and its offset.
    #[derive(Eq)]
    pub struct MessageQueueForC {
        "brokerName" broker_name: String,
        "offset" offset: i64,
        "queueId" queue_id: i32,
        "topic" topic: String,
    }

    /// Answer to codes 221 and 223.
    pub struct GetConsumerStatusBody {
        /// By client.
        "consumerTable" consumer_table: BTreeMap<String, BTreeMap<MessageQueue, i64>>,
        "messageQueueTable" message_queue_table: BTreeMap<MessageQueue, i64>,
    }

    /// Answer to code 308.
    pub struct QueryCorrectionOffsetBody {
        /// By queue.
        "correctionOffsets" correction_offsets: BTreeMap<i32, i64>,
    }

    /// Answer to code 61, and the file `timermetrics`.
    pub struct TimerMetricsSerializeWrapper {
        "dataVersion" data_version: DataVersion,
        /// By topic.
        "timingCount" timing_count: BTreeMap<String, TimerMetric>,
    }

    /// Messages of a topic that wait for their time.
    #[derive(Copy, Eq)]
    pub struct TimerMetric {
        "count" count: i64,
        "timeStamp" time_stamp: i64,
    }
}
