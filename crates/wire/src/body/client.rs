//! What clients say of themselves, and what is said of them; locks on queues.

use std::collections::{BTreeMap, BTreeSet};

use super::MessageQueue;
use crate::{
    Language,
    json::{FromJson, Json, Out, ToJson},
};

crate::json_enum! {
    /// Who moves the messages. Absent and unknown names read as the first, here and below; Java has null there.
    pub enum ConsumeType {
        /// Pull.
        Actively = "CONSUME_ACTIVELY",
        /// Push.
        Passively = "CONSUME_PASSIVELY",
        Pop = "CONSUME_POP",
    }

    /// Who of a group gets a message.
    pub enum MessageModel {
        Clustering = "CLUSTERING",
        Broadcasting = "BROADCASTING",
        /// Since 5.5.
        LiteSelective = "LITE_SELECTIVE",
    }

    /// Where a group begins that has no offset.
    pub enum ConsumeFromWhere {
        LastOffset = "CONSUME_FROM_LAST_OFFSET",
        LastOffsetAndFromMinWhenBootFirst = "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        MinOffset = "CONSUME_FROM_MIN_OFFSET",
        MaxOffset = "CONSUME_FROM_MAX_OFFSET",
        FirstOffset = "CONSUME_FROM_FIRST_OFFSET",
        Timestamp = "CONSUME_FROM_TIMESTAMP",
    }
}

crate::json_object! {
    /// Request 34.
    pub struct HeartbeatData {
        "clientID" client_id: String,
        "consumerDataSet" consumer_data_set: Vec<ConsumerData>,
        /// 0: heartbeat of version 1.
        "heartbeatFingerprint" heartbeat_fingerprint: i32,
        "producerDataSet" producer_data_set: Vec<ProducerData>,
        /// True: subscriptions are as they were.
        "withoutSub" without_sub: bool,
    }

    /// One producer group of a client.
    pub struct ProducerData {
        "groupName" group_name: String,
    }

    /// One consumer group of a client.
    pub struct ConsumerData {
        "consumeFromWhere" consume_from_where: ConsumeFromWhere,
        "consumeType" consume_type: ConsumeType,
        "groupName" group_name: String,
        "messageModel" message_model: MessageModel,
        "subscriptionDataSet" subscription_data_set: Vec<SubscriptionData>,
        "unitMode" unit_mode: bool,
    }

    /// What a group wants of a topic.
    pub struct SubscriptionData {
        "classFilterMode" class_filter_mode: bool,
        /// Hash of each tag.
        "codeSet" code_set: BTreeSet<i32>,
        "expressionType" expression_type: String = "TAG".into(),
        "subString" sub_string: String,
        /// Grows with each change.
        "subVersion" sub_version: i64,
        "tagsSet" tags_set: BTreeSet<String>,
        "topic" topic: String,
    }

    /// Answer to code 38.
    pub struct GetConsumerListByGroupResponseBody {
        "consumerIdList" consumer_id_list: Vec<String>,
    }

    /// Request 41.
    pub struct LockBatchRequestBody {
        "clientId" client_id: String,
        "consumerGroup" consumer_group: String,
        "mqSet" mq_set: BTreeSet<MessageQueue>,
        /// True between brokers: do not ask others.
        "onlyThisBroker" only_this_broker: bool,
    }

    /// Request 42.
    pub struct UnlockBatchRequestBody {
        "clientId" client_id: String,
        "consumerGroup" consumer_group: String,
        "mqSet" mq_set: BTreeSet<MessageQueue>,
        /// True between brokers: do not ask others.
        "onlyThisBroker" only_this_broker: bool,
    }

    /// Answer to code 41.
    pub struct LockBatchResponseBody {
        "lockOKMQSet" lock_ok_mq_set: BTreeSet<MessageQueue>,
    }

    /// One client as a broker sees it.
    pub struct Connection {
        "clientAddr" client_addr: String,
        "clientId" client_id: String,
        "language" language: Language,
        "version" version: i32,
    }

    /// Answer to code 203.
    pub struct ConsumerConnection {
        "connectionSet" connection_set: Vec<Connection>,
        "consumeFromWhere" consume_from_where: ConsumeFromWhere,
        "consumeType" consume_type: ConsumeType,
        "messageModel" message_model: MessageModel,
        "subscriptionTable" subscription_table: BTreeMap<String, SubscriptionData>,
    }

    /// Answer to code 204.
    pub struct ProducerConnection {
        "connectionSet" connection_set: Vec<Connection>,
    }

    /// One producer as a broker sees it.
    pub struct ProducerInfo {
        "clientId" client_id: String,
        "language" language: Language,
        "lastUpdateTimestamp" last_update_timestamp: i64,
        "remoteIP" remote_ip: String,
        "version" version: i32,
    }

    /// Answer to code 328.
    pub struct ProducerTableInfo {
        /// By group.
        "data" data: BTreeMap<String, Vec<ProducerInfo>>,
    }
}

/// Answer to code 307. It is a client's and passes through as it is.
pub type ConsumerRunningInfo = Json;

impl FromJson for Language {
    fn from_json(json: &Json) -> Option<Self> {
        match json {
            Json::Str(name) => Some(Self::from_name(name)),
            Json::Num(_) => Some(Self::from_number(json.to_i64()?.try_into().ok()?)),
            _ => None,
        }
    }
}

impl ToJson for Language {
    fn write_json(&self, out: &mut Out) {
        out.string(self.name());
    }
}
