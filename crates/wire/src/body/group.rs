//! Consumer groups: their configuration, who may read what, who gets which queue.

use std::collections::BTreeMap;

use super::{DataVersion, MessageModel, MessageQueue, SubscriptionData};
use crate::json::Json;

crate::json_enum! {
    /// How a group gets its messages.
    pub enum MessageRequestMode {
        Pull = "PULL",
        Pop = "POP",
    }
}

crate::json_object! {
    /// Configuration of a consumer group.
    pub struct SubscriptionGroupConfig {
        "attributes" attributes: BTreeMap<String, String>,
        "brokerId" broker_id: i64,
        "consumeBroadcastEnable" consume_broadcast_enable: bool = true,
        "consumeEnable" consume_enable: bool = true,
        "consumeFromMinEnable" consume_from_min_enable: bool = true,
        "consumeMessageOrderly" consume_message_orderly: bool,
        "consumeTimeoutMinute" consume_timeout_minute: i32 = 15,
        "groupName" group_name: String,
        "groupRetryPolicy" group_retry_policy: Json = default_retry_policy(),
        "groupSysFlag" group_sys_flag: i32,
        "notifyConsumerIdsChangedEnable" notify_consumer_ids_changed_enable: bool = true,
        "retryMaxTimes" retry_max_times: i32 = 16,
        "retryQueueNums" retry_queue_nums: i32 = 1,
        "subscriptionDataSet" subscription_data_set: Json,
        "whichBrokerWhenConsumeSlowly" which_broker_when_consume_slowly: i64 = 1,
    }

    /// A table of groups: `subscriptionGroup.json` and the answer to code 201.
    pub struct SubscriptionGroupWrapper {
        "dataVersion" data_version: DataVersion,
        /// Group, topic, bits that forbid.
        "forbiddenTable" forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
        "subscriptionGroupTable" subscription_group_table: BTreeMap<String, SubscriptionGroupConfig>,
    }

    /// Request 225.
    pub struct SubscriptionGroupList {
        "groupConfigList" group_config_list: Vec<SubscriptionGroupConfig>,
    }

    /// Answer to code 353.
    pub struct GroupForbidden {
        "group" group: String,
        "readable" readable: Option<bool>,
        "topic" topic: String,
    }

    /// Request 401, and an entry of the table of modes.
    pub struct SetMessageRequestModeRequestBody {
        "consumerGroup" consumer_group: String,
        "mode" mode: MessageRequestMode,
        "popShareQueueNum" pop_share_queue_num: i32,
        "topic" topic: String,
    }

    /// `messageRequestMode.json` and the answer to code 402.
    pub struct MessageRequestModeSerializeWrapper {
        /// By topic, then by group.
        "messageRequestModeMap" message_request_mode_map:
            BTreeMap<String, BTreeMap<String, SetMessageRequestModeRequestBody>>,
    }

    /// Request 400.
    pub struct QueryAssignmentRequestBody {
        "clientId" client_id: String,
        "consumerGroup" consumer_group: String,
        "messageModel" message_model: MessageModel,
        "strategyName" strategy_name: Option<String>,
        "topic" topic: String,
    }

    /// One queue a client shall consume.
    pub struct MessageQueueAssignment {
        "attachments" attachments: Option<BTreeMap<String, String>>,
        "messageQueue" message_queue: Option<MessageQueue>,
        "mode" mode: MessageRequestMode,
    }

    /// Answer to code 400; without the member when the client shall keep what it has.
    pub struct QueryAssignmentResponseBody {
        "messageQueueAssignments" message_queue_assignments: Option<Vec<MessageQueueAssignment>>,
    }

    /// Request 46.
    pub struct CheckClientRequestBody {
        "clientId" client_id: String,
        "group" group: String,
        "namespace" namespace: Option<String>,
        "subscriptionData" subscription_data: SubscriptionData,
    }

    /// Answer to code 345.
    pub struct QuerySubscriptionResponseBody {
        "group" group: String,
        "subscriptionData" subscription_data: Option<SubscriptionData>,
        "topic" topic: String,
    }
}

fn default_retry_policy() -> Json {
    Json::Obj(vec![("type".into(), "CUSTOMIZED".into())])
}
