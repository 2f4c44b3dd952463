//! Between the brokers of a group: metadata for slaves, and where replication connects to.

crate::ext_header! {
    /// Code 21. Peers before 5.4 send nothing and want the whole table.
    pub struct GetAllTopicConfigRequestHeader: rpc {
        /// First entry of the page.
        "topicSeq" topic_seq: Option<i32>,
        "maxTopicNum" max_topic_num: Option<i32>,
        /// DataVersion as JSON, or empty.
        "dataVersion" data_version: Option<String>,
    }

    /// Answer to code 21. Without the total, the body is the whole table.
    pub struct GetAllTopicConfigResponseHeader {
        "totalTopicNum" total_topic_num: Option<i32>,
    }

    /// Code 201. Peers before 5.4 send nothing and want the whole table.
    pub struct GetAllSubscriptionGroupRequestHeader: rpc {
        /// First entry of the page.
        "groupSeq" group_seq: Option<i32>,
        "maxGroupNum" max_group_num: Option<i32>,
        /// DataVersion as JSON, or empty.
        "dataVersion" data_version: Option<String>,
    }

    /// Answer to code 201. Without the total, the body is the whole table.
    pub struct GetAllSubscriptionGroupResponseHeader {
        "totalGroupNum" total_group_num: Option<i32>,
    }

    /// Code 906: with `masterHaAddress` a statement, without it a question.
    pub struct ExchangeHAInfoRequestHeader {
        "masterHaAddress" master_ha_address: Option<String>,
        "masterFlushOffset" master_flush_offset: Option<i64>,
        "masterAddress" master_address: Option<String>,
    }

    /// Answer to code 906; empty unless a master was asked.
    pub struct ExchangeHAInfoResponseHeader {
        "masterHaAddress" master_ha_address: Option<String>,
        "masterFlushOffset" master_flush_offset: Option<i64>,
        "masterAddress" master_address: Option<String>,
    }

    /// Code 908.
    pub struct ResetMasterFlushOffsetHeader {
        "masterFlushOffset" master_flush_offset: Option<i64>,
    }
}
