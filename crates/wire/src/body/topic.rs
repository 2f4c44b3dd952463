//! Topics: their configuration, the registration of a broker, lists.

use std::collections::{BTreeMap, BTreeSet};

use super::DataVersion;
use crate::json::Json;

crate::json_enum! {
    /// How many tags a message of a topic may have.
    pub enum TopicFilterType {
        SingleTag = "SINGLE_TAG",
        MultiTag = "MULTI_TAG",
    }
}

crate::json_object! {
    /// Configuration of a topic.
    pub struct TopicConfig {
        "attributes" attributes: BTreeMap<String, String>,
        "order" order: bool,
        /// 4 read, 2 write, 1 inherit.
        "perm" perm: i32 = 6,
        "readQueueNums" read_queue_nums: i32 = 16,
        "topicFilterType" topic_filter_type: TopicFilterType,
        "topicName" topic_name: String,
        /// Bit 0: unit; bit 1: unit subscription.
        "topicSysFlag" topic_sys_flag: i32,
        "writeQueueNums" write_queue_nums: i32 = 16,
    }

    /// A table of topics: `topics.json`, and the registration by old brokers.
    pub struct TopicConfigSerializeWrapper {
        "dataVersion" data_version: DataVersion,
        "topicConfigTable" topic_config_table: BTreeMap<String, TopicConfig>,
    }

    /// The same with static topics: answer to code 21, and inside a registration.
    pub struct TopicConfigAndMappingSerializeWrapper {
        "dataVersion" data_version: DataVersion,
        "mappingDataVersion" mapping_data_version: DataVersion,
        "topicConfigTable" topic_config_table: BTreeMap<String, TopicConfig>,
        "topicQueueMappingDetailMap" topic_queue_mapping_detail_map: BTreeMap<String, Json>,
        "topicQueueMappingInfoMap" topic_queue_mapping_info_map: BTreeMap<String, Json>,
    }

    /// Request 103.
    pub struct RegisterBrokerBody {
        "filterServerList" filter_server_list: Vec<String>,
        "topicConfigSerializeWrapper" topic_config_serialize_wrapper: TopicConfigAndMappingSerializeWrapper,
    }

    /// Request 18.
    pub struct CreateTopicListRequestBody {
        "topicConfigList" topic_config_list: Vec<TopicConfig>,
    }

    /// Names of topics.
    pub struct TopicList {
        "brokerAddr" broker_addr: Option<String>,
        "topicList" topic_list: BTreeSet<String>,
    }

    /// Strings by name.
    pub struct KvTable {
        "table" table: BTreeMap<String, String>,
    }

    /// Names of groups.
    pub struct GroupList {
        "groupList" group_list: BTreeSet<String>,
    }
}
