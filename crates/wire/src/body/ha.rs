//! State of replication.

crate::json_object! {
    /// Answer to code 907.
    pub struct HARuntimeInfo {
        "haClientRuntimeInfo" ha_client_runtime_info: HAClientRuntimeInfo,
        "haConnectionInfo" ha_connection_info: Vec<HAConnectionRuntimeInfo>,
        "inSyncSlaveNums" in_sync_slave_nums: i32,
        "master" master: bool,
        "masterCommitLogMaxOffset" master_commit_log_max_offset: i64,
    }

    /// A slave's view.
    pub struct HAClientRuntimeInfo {
        "lastReadTimestamp" last_read_timestamp: i64,
        "lastWriteTimestamp" last_write_timestamp: i64,
        "masterAddr" master_addr: Option<String>,
        "masterFlushOffset" master_flush_offset: i64,
        "maxOffset" max_offset: i64,
        "transferredByteInSecond" transferred_byte_in_second: i64,
    }

    /// A master's view of one slave.
    pub struct HAConnectionRuntimeInfo {
        "addr" addr: Option<String>,
        "diff" diff: i64,
        "inSync" in_sync: bool,
        "slaveAckOffset" slave_ack_offset: i64,
        "transferFromWhere" transfer_from_where: i64,
        "transferredByteInSecond" transferred_byte_in_second: i64,
    }
}
