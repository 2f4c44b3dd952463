//! Routes: which brokers hold a topic, and which brokers there are.

use std::collections::{BTreeMap, BTreeSet};

use crate::json::Json;

crate::json_object! {
    /// Answer to code 105.
    pub struct TopicRouteData {
        "brokerDatas" broker_datas: Vec<BrokerData>,
        "filterServerTable" filter_server_table: BTreeMap<String, Vec<String>>,
        "orderTopicConf" order_topic_conf: Option<String>,
        "queueDatas" queue_datas: Vec<QueueData>,
        "topicQueueMappingByBroker" topic_queue_mapping_by_broker: Option<BTreeMap<String, Json>>,
    }

    /// Queues of a topic on a broker group.
    #[derive(Eq, Hash)]
    pub struct QueueData {
        "brokerName" broker_name: String,
        /// 4 read, 2 write, 1 inherit.
        "perm" perm: i32,
        "readQueueNums" read_queue_nums: i32,
        "topicSysFlag" topic_sys_flag: i32,
        "writeQueueNums" write_queue_nums: i32,
    }

    /// Addresses of a broker group.
    #[derive(Eq, Hash)]
    pub struct BrokerData {
        /// By broker id; 0 is the master.
        "brokerAddrs" broker_addrs: BTreeMap<i64, String>,
        "brokerName" broker_name: String,
        "cluster" cluster: String,
        "enableActingMaster" enable_acting_master: bool,
        "zoneName" zone_name: Option<String>,
    }

    /// Answer to code 106.
    pub struct ClusterInfo {
        "brokerAddrTable" broker_addr_table: BTreeMap<String, BrokerData>,
        "clusterAddrTable" cluster_addr_table: BTreeMap<String, BTreeSet<String>>,
    }

    /// Members of a broker group.
    #[derive(Eq)]
    pub struct BrokerMemberGroup {
        "brokerAddrs" broker_addrs: BTreeMap<i64, String>,
        "brokerName" broker_name: String,
        "cluster" cluster: String,
    }

    /// Answer to code 901.
    pub struct GetBrokerMemberGroupResponseBody {
        "brokerMemberGroup" broker_member_group: Option<BrokerMemberGroup>,
    }
}
