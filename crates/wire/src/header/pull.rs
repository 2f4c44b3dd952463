//! Pulling.

crate::ext_header! {
    /// Codes 11 and 361.
    pub struct PullMessageRequestHeader: topic {
        "consumerGroup" consumer_group: String,
        "topic" topic: String,
        "queueId" queue_id: Option<i32>,
        "queueOffset" queue_offset: Option<i64>,
        "maxMsgNums" max_msg_nums: i32,
        /// Bit 0: commit; 1: wait; 2: subscription is given; 3: class filter; 4: lite pull.
        "sysFlag" sys_flag: i32,
        /// Counts when bit 0 of `sys_flag` is set.
        "commitOffset" commit_offset: Option<i64>,
        "suspendTimeoutMillis" suspend_timeout_millis: i64,
        "subscription" subscription: Option<String>,
        "subVersion" sub_version: i64,
        /// Absent or empty: TAG.
        "expressionType" expression_type: Option<String>,
        "maxMsgBytes" max_msg_bytes: Option<i32>,
        "requestSource" request_source: Option<i32>,
        /// Spelled so upstream.
        "proxyFrowardClientId" proxy_froward_client_id: Option<String>,
        "liteTopic" lite_topic: Option<String>,
    }

    /// Answer. The Java client needs the first four fields whatever the code.
    pub struct PullMessageResponseHeader {
        "suggestWhichBrokerId" suggest_which_broker_id: i64,
        "nextBeginOffset" next_begin_offset: i64,
        "minOffset" min_offset: i64,
        "maxOffset" max_offset: i64,
        "offsetDelta" offset_delta: Option<i64>,
        "topicSysFlag" topic_sys_flag: Option<i32>,
        "groupSysFlag" group_sys_flag: Option<i32>,
        /// 1 broker, 2 group, 3 topic, 4 broadcasting, 5 subscription.
        "forbiddenType" forbidden_type: Option<i32>,
    }
}
