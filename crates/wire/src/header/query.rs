//! Finding messages by key or by place.

crate::ext_header! {
    /// Code 12.
    pub struct QueryMessageRequestHeader: topic {
        "topic" topic: String,
        "key" key: String,
        "maxNum" max_num: i32,
        "beginTimestamp" begin_timestamp: i64,
        "endTimestamp" end_timestamp: i64,
        /// True: `key` is a client's message id.
        "_UNIQUE_KEY_QUERY" unique_key_query: Option<bool>,
        /// Since 5.4: K key, U unique key, T tag.
        "indexType" index_type: Option<String>,
        "lastKey" last_key: Option<String>,
    }

    /// Answer to code 12, also when nothing was found.
    pub struct QueryMessageResponseHeader {
        "indexLastUpdateTimestamp" index_last_update_timestamp: i64,
        "indexLastUpdatePhyoffset" index_last_update_phyoffset: i64,
    }

    /// Code 33.
    pub struct ViewMessageRequestHeader: topic {
        "topic" topic: Option<String>,
        /// Commit log offset.
        "offset" offset: i64,
    }
}
