//! Administration: topics, groups, progress, statistics.

crate::ext_header! {
    /// Codes 17 and 513.
    pub struct CreateTopicRequestHeader: topic {
        "topic" topic: String,
        "defaultTopic" default_topic: String,
        "readQueueNums" read_queue_nums: i32,
        "writeQueueNums" write_queue_nums: i32,
        "perm" perm: i32,
        /// `SINGLE_TAG` or `MULTI_TAG`.
        "topicFilterType" topic_filter_type: String,
        "topicSysFlag" topic_sys_flag: Option<i32>,
        "order" order: bool,
        /// `+key=value,-key`.
        "attributes" attributes: Option<String>,
        "force" force: Option<bool>,
    }

    /// Code 215.
    pub struct DeleteTopicRequestHeader: topic {
        "topic" topic: String,
    }

    /// Code 351.
    pub struct GetTopicConfigRequestHeader: topic {
        "topic" topic: String,
    }

    /// Code 202.
    pub struct GetTopicStatsInfoRequestHeader: topic {
        "topic" topic: String,
    }

    /// Code 352.
    pub struct GetSubscriptionGroupConfigRequestHeader: rpc {
        "group" group: String,
    }

    /// Code 207.
    pub struct DeleteSubscriptionGroupRequestHeader: rpc {
        "groupName" group_name: String,
        "cleanOffset" clean_offset: bool,
    }

    /// Code 203.
    pub struct GetConsumerConnectionListRequestHeader: rpc {
        "consumerGroup" consumer_group: String,
    }

    /// Code 204.
    pub struct GetProducerConnectionListRequestHeader: rpc {
        "producerGroup" producer_group: String,
    }

    /// Code 208.
    pub struct GetConsumeStatsRequestHeader: topic {
        "consumerGroup" consumer_group: String,
        "topic" topic: Option<String>,
        /// Topics, separated by `;`.
        "topicList" topic_list: Option<String>,
    }

    /// Code 317.
    pub struct GetConsumeStatsInBrokerHeader: rpc {
        "isOrder" is_order: bool,
    }

    /// Code 300.
    pub struct QueryTopicConsumeByWhoRequestHeader: topic {
        "topic" topic: String,
    }

    /// Code 343.
    pub struct QueryTopicsByConsumerRequestHeader: rpc {
        "group" group: String,
    }

    /// Code 345.
    pub struct QuerySubscriptionByConsumerRequestHeader: topic {
        "group" group: String,
        "topic" topic: String,
    }

    /// Code 303.
    pub struct QueryConsumeTimeSpanRequestHeader: topic {
        "topic" topic: String,
        "group" group: String,
    }

    /// Code 308.
    pub struct QueryCorrectionOffsetHeader: topic {
        "filterGroups" filter_groups: Option<String>,
        "compareGroup" compare_group: String,
        "topic" topic: String,
    }

    /// Code 314.
    pub struct CloneGroupOffsetRequestHeader: rpc {
        "srcGroup" src_group: String,
        "destGroup" dest_group: String,
        "topic" topic: Option<String>,
        "offline" offline: bool,
    }

    /// Code 315.
    pub struct ViewBrokerStatsDataRequestHeader {
        "statsName" stats_name: String,
        "statsKey" stats_key: String,
    }

    /// Code 321.
    pub struct QueryConsumeQueueRequestHeader: topic {
        "topic" topic: String,
        "queueId" queue_id: i32,
        "index" index: i64,
        "count" count: i32,
        "consumerGroup" consumer_group: Option<String>,
    }

    /// Code 323.
    pub struct ResumeCheckHalfMessageRequestHeader {
        "topic" topic: Option<String>,
        "msgId" msg_id: Option<String>,
    }

    /// Code 353.
    pub struct UpdateGroupForbiddenRequestHeader: topic {
        "group" group: String,
        "topic" topic: String,
        "readable" readable: Option<bool>,
    }

    /// Answer to code 26.
    pub struct GetBrokerConfigResponseHeader {
        /// DataVersion as JSON.
        "version" version: String,
    }
}
