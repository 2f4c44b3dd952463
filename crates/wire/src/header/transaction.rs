//! Transactions.

crate::ext_header! {
    /// Code 37.
    pub struct EndTransactionRequestHeader: rpc {
        "topic" topic: Option<String>,
        "producerGroup" producer_group: String,
        /// Queue offset of the half message.
        "tranStateTableOffset" tran_state_table_offset: i64,
        /// Commit log offset of the half message.
        "commitLogOffset" commit_log_offset: i64,
        /// 8 commit, 12 roll back, 0 unknown.
        "commitOrRollback" commit_or_rollback: i32,
        "fromTransactionCheck" from_transaction_check: Option<bool>,
        "msgId" msg_id: String,
        "transactionId" transaction_id: Option<String>,
    }

    /// Code 39, to producers.
    pub struct CheckTransactionStateRequestHeader: rpc {
        /// Topic of half messages, not the real one.
        "topic" topic: Option<String>,
        "tranStateTableOffset" tran_state_table_offset: i64,
        "commitLogOffset" commit_log_offset: i64,
        "msgId" msg_id: Option<String>,
        "transactionId" transaction_id: Option<String>,
        "offsetMsgId" offset_msg_id: Option<String>,
    }
}
