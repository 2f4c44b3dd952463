//! Clients and their groups, both ways. What a client and a broker say about transactions is in [`super::transaction`].

crate::ext_header! {
    /// Code 34. The body says it all.
    pub struct HeartbeatRequestHeader: rpc {}

    /// Code 35.
    pub struct UnregisterClientRequestHeader: rpc {
        "clientID" client_id: String,
        "producerGroup" producer_group: Option<String>,
        "consumerGroup" consumer_group: Option<String>,
    }

    /// Code 38.
    pub struct GetConsumerListByGroupRequestHeader: rpc {
        "consumerGroup" consumer_group: String,
    }

    /// Code 40, to clients.
    pub struct NotifyConsumerIdsChangedRequestHeader: rpc {
        "consumerGroup" consumer_group: String,
    }

    /// Code 220 to clients, and 222 to brokers.
    pub struct ResetOffsetRequestHeader: topic {
        "topic" topic: String,
        "group" group: String,
        /// -1: every queue.
        "queueId" queue_id: i32 = -1,
        "offset" offset: Option<i64>,
        /// -1: the end of the queue.
        "timestamp" timestamp: i64,
        "isForce" is_force: bool,
    }

    /// Code 221 to clients, and 223 to brokers.
    pub struct GetConsumerStatusRequestHeader: topic {
        "topic" topic: String,
        "group" group: String,
        "clientAddr" client_addr: Option<String>,
    }

    /// Code 307, relayed to a client.
    pub struct GetConsumerRunningInfoRequestHeader: rpc {
        "consumerGroup" consumer_group: String,
        "clientId" client_id: String,
        "jstackEnable" jstack_enable: bool,
    }

    /// Code 309, relayed to a client.
    pub struct ConsumeMessageDirectlyResultRequestHeader: topic {
        "consumerGroup" consumer_group: String,
        "clientId" client_id: Option<String>,
        "msgId" msg_id: Option<String>,
        "brokerName" broker_name: Option<String>,
        "topic" topic: Option<String>,
        "topicSysFlag" topic_sys_flag: Option<i32>,
        "groupSysFlag" group_sys_flag: Option<i32>,
    }
}
