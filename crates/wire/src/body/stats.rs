//! Progress, rates, and what is in a queue.

use std::collections::BTreeMap;

use super::{MessageQueue, SubscriptionData};

crate::json_object! {
    /// Answer to code 208.
    pub struct ConsumeStats {
        "consumeTps" consume_tps: f64,
        "offsetTable" offset_table: BTreeMap<MessageQueue, OffsetWrapper>,
    }

    /// Progress of a group on a queue.
    #[derive(Copy, Eq)]
    pub struct OffsetWrapper {
        "brokerOffset" broker_offset: i64,
        "consumerOffset" consumer_offset: i64,
        "lastTimestamp" last_timestamp: i64,
        "pullOffset" pull_offset: i64,
    }

    /// Answer to code 317.
    pub struct ConsumeStatsList {
        "brokerAddr" broker_addr: Option<String>,
        /// Maps of one group each.
        "consumeStatsList" consume_stats_list: Vec<BTreeMap<String, Vec<ConsumeStats>>>,
        "totalDiff" total_diff: i64,
        "totalInflightDiff" total_inflight_diff: i64,
    }

    /// Answer to code 202.
    pub struct TopicStatsTable {
        "offsetTable" offset_table: BTreeMap<MessageQueue, TopicOffset>,
        "topicPutTps" topic_put_tps: f64,
    }

    /// Ends of a queue.
    #[derive(Copy, Eq)]
    pub struct TopicOffset {
        "lastUpdateTimestamp" last_update_timestamp: i64,
        "maxOffset" max_offset: i64,
        "minOffset" min_offset: i64,
    }

    /// Answer to code 315.
    pub struct BrokerStatsData {
        "statsDay" stats_day: BrokerStatsItem,
        "statsHour" stats_hour: BrokerStatsItem,
        "statsMinute" stats_minute: BrokerStatsItem,
    }

    /// One rate.
    #[derive(Copy)]
    pub struct BrokerStatsItem {
        /// Average of one call.
        "avgpt" avgpt: f64,
        "sum" sum: i64,
        "tps" tps: f64,
    }

    /// Answer to code 303.
    pub struct QueryConsumeTimeSpanBody {
        "consumeTimeSpanSet" consume_time_span_set: Vec<QueueTimeSpan>,
    }

    /// How far behind a group is on a queue. The texts are for people and depend on the sender's time zone.
    pub struct QueueTimeSpan {
        "consumeTimeStamp" consume_time_stamp: i64,
        "consumeTimeStampStr" consume_time_stamp_str: Option<String>,
        "delayTime" delay_time: i64,
        "maxTimeStamp" max_time_stamp: i64,
        "maxTimeStampStr" max_time_stamp_str: Option<String>,
        "messageQueue" message_queue: Option<MessageQueue>,
        "minTimeStamp" min_time_stamp: i64,
        "minTimeStampStr" min_time_stamp_str: Option<String>,
    }

    /// Answer to code 321.
    pub struct QueryConsumeQueueResponseBody {
        "filterData" filter_data: Option<String>,
        "maxQueueIndex" max_queue_index: i64,
        "minQueueIndex" min_queue_index: i64,
        "queueData" queue_data: Vec<ConsumeQueueData>,
        "subscriptionData" subscription_data: Option<SubscriptionData>,
    }

    /// One unit of a consume queue.
    pub struct ConsumeQueueData {
        "bitMap" bit_map: Option<String>,
        "eval" eval: bool,
        "extendDataJson" extend_data_json: Option<String>,
        "msg" msg: Option<String>,
        "physicOffset" physic_offset: i64,
        "physicSize" physic_size: i32,
        "tagsCode" tags_code: i64,
    }
}
