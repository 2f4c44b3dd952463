//! Name server: registration, heartbeats, routes, key-value configuration.

crate::ext_header! {
    /// Code 103.
    pub struct RegisterBrokerRequestHeader {
        "brokerName" broker_name: String,
        "brokerAddr" broker_addr: String,
        "clusterName" cluster_name: String,
        "haServerAddr" ha_server_addr: String,
        "brokerId" broker_id: i64,
        "heartbeatTimeoutMillis" heartbeat_timeout_millis: Option<i64>,
        /// Absent: a broker from before 5.0.
        "enableActingMaster" enable_acting_master: Option<bool>,
        "compressed" compressed: bool,
        /// CRC-32 of the body as sent, without its sign bit; 0: unchecked.
        "bodyCrc32" body_crc32: i32,
        "__ZONE_NAME" zone_name: Option<String>,
    }

    /// Answer to code 103; only a slave is told its master.
    pub struct RegisterBrokerResponseHeader {
        "haServerAddr" ha_server_addr: Option<String>,
        "masterAddr" master_addr: Option<String>,
    }

    /// Code 104.
    pub struct UnRegisterBrokerRequestHeader {
        "brokerName" broker_name: String,
        "brokerAddr" broker_addr: String,
        "clusterName" cluster_name: String,
        "brokerId" broker_id: i64,
    }

    /// Code 105.
    pub struct GetRouteInfoRequestHeader: topic {
        "topic" topic: String,
        "acceptStandardJsonOnly" accept_standard_json_only: Option<bool>,
    }

    /// Code 322.
    pub struct QueryDataVersionRequestHeader {
        "brokerName" broker_name: String,
        "brokerAddr" broker_addr: String,
        "clusterName" cluster_name: String,
        "brokerId" broker_id: i64,
    }

    /// Answer to code 322.
    pub struct QueryDataVersionResponseHeader {
        "changed" changed: bool,
    }

    /// Code 904, to name servers and controllers.
    pub struct BrokerHeartbeatRequestHeader {
        "clusterName" cluster_name: String,
        "brokerAddr" broker_addr: String,
        "brokerName" broker_name: String,
        "brokerId" broker_id: Option<i64>,
        "epoch" epoch: Option<i32>,
        "maxOffset" max_offset: Option<i64>,
        "confirmOffset" confirm_offset: Option<i64>,
        /// Spelled so upstream.
        "heartbeatTimeoutMills" heartbeat_timeout_mills: Option<i64>,
        "electionPriority" election_priority: Option<i32>,
    }

    /// Code 901.
    pub struct GetBrokerMemberGroupRequestHeader {
        "clusterName" cluster_name: String,
        "brokerName" broker_name: String,
    }

    /// Code 905, from the name server to brokers.
    pub struct NotifyMinBrokerIdChangeRequestHeader {
        "minBrokerId" min_broker_id: Option<i64>,
        "brokerName" broker_name: Option<String>,
        "minBrokerAddr" min_broker_addr: Option<String>,
        "offlineBrokerAddr" offline_broker_addr: Option<String>,
        "haBrokerAddr" ha_broker_addr: Option<String>,
    }

    /// Code 100. The server answers an absent namespace or key with an error.
    pub struct PutKVConfigRequestHeader {
        "namespace" namespace: Option<String>,
        "key" key: Option<String>,
        "value" value: Option<String>,
    }

    /// Code 101.
    pub struct GetKVConfigRequestHeader {
        "namespace" namespace: String,
        "key" key: String,
    }

    /// Answer to code 101.
    pub struct GetKVConfigResponseHeader {
        "value" value: Option<String>,
    }

    /// Code 102.
    pub struct DeleteKVConfigRequestHeader {
        "namespace" namespace: String,
        "key" key: String,
    }

    /// Code 219.
    pub struct GetKVListByNamespaceRequestHeader {
        "namespace" namespace: String,
    }

    /// Code 205.
    pub struct WipeWritePermOfBrokerRequestHeader {
        "brokerName" broker_name: String,
    }

    /// Answer to code 205.
    pub struct WipeWritePermOfBrokerResponseHeader {
        "wipeTopicCount" wipe_topic_count: i32,
    }

    /// Code 327.
    pub struct AddWritePermOfBrokerRequestHeader {
        "brokerName" broker_name: String,
    }

    /// Answer to code 327.
    pub struct AddWritePermOfBrokerResponseHeader {
        "addTopicCount" add_topic_count: i32,
    }

    /// Code 216.
    pub struct DeleteTopicFromNamesrvRequestHeader: topic {
        "topic" topic: String,
        "clusterName" cluster_name: Option<String>,
    }

    /// Code 217.
    pub struct RegisterTopicRequestHeader: topic {
        "topic" topic: String,
    }

    /// Code 224.
    pub struct GetTopicsByClusterRequestHeader {
        "cluster" cluster: String,
    }
}
