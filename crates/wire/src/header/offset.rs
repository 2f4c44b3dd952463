//! Consumer offsets and queue ends.

crate::ext_header! {
    /// Code 14.
    pub struct QueryConsumerOffsetRequestHeader: topic {
        "consumerGroup" consumer_group: String,
        "topic" topic: String,
        "queueId" queue_id: i32,
        /// False: not found is an answer of its own and never 0.
        "setZeroIfNotFound" set_zero_if_not_found: Option<bool>,
    }

    /// Answer to code 14.
    pub struct QueryConsumerOffsetResponseHeader {
        "offset" offset: i64,
    }

    /// Code 15. An absent queue or offset is an error of its own.
    pub struct UpdateConsumerOffsetRequestHeader: topic {
        "consumerGroup" consumer_group: String,
        "topic" topic: String,
        "queueId" queue_id: Option<i32>,
        "commitOffset" commit_offset: Option<i64>,
    }

    /// Code 29.
    pub struct SearchOffsetRequestHeader: topic {
        "topic" topic: String,
        "queueId" queue_id: i32,
        "timestamp" timestamp: i64,
        /// `UPPER` in any case; all else means lower.
        "boundaryType" boundary_type: Option<String>,
        "liteTopic" lite_topic: Option<String>,
    }

    /// Answer to code 29.
    pub struct SearchOffsetResponseHeader {
        "offset" offset: i64,
    }

    /// Code 30.
    pub struct GetMaxOffsetRequestHeader: topic {
        "topic" topic: String,
        "queueId" queue_id: i32,
        /// Java's broker ignores it.
        "committed" committed: bool = true,
    }

    /// Answer to code 30.
    pub struct GetMaxOffsetResponseHeader {
        "offset" offset: i64,
    }

    /// Code 31.
    pub struct GetMinOffsetRequestHeader: topic {
        "topic" topic: String,
        "queueId" queue_id: i32,
    }

    /// Answer to code 31.
    pub struct GetMinOffsetResponseHeader {
        "offset" offset: i64,
    }

    /// Code 32.
    pub struct GetEarliestMsgStoretimeRequestHeader: topic {
        "topic" topic: String,
        "queueId" queue_id: i32,
    }

    /// Answer to code 32.
    pub struct GetEarliestMsgStoretimeResponseHeader {
        "timestamp" timestamp: i64,
    }
}

impl SearchOffsetRequestHeader {
    /// True when the last of equal offsets is wanted.
    pub fn is_upper(&self) -> bool {
        self.boundary_type.as_deref().is_some_and(|text| text.eq_ignore_ascii_case("upper"))
    }
}
