//! What a store is told at its start. Defaults are those of `MessageStoreConfig.java`; reference store 30.

use std::{path::PathBuf, sync::Arc};

use wire::record::Verify;

use crate::{error::StoreError, ext::ExtConfig, multi_path::LogDirs, pieces::ColdReads};

/// Says whether a topic's queues are batch consume queues (attribute `queue.type=BatchCQ`).
pub type BatchQueueTopics = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What a clock of some time zone shows at a time, both in milliseconds since 1970 began there.
pub type LocalTime = fn(i64) -> i64;

/// Configuration of a store. Sizes in bytes, times in milliseconds.
#[derive(Clone)]
pub struct StoreConfig {
    /// `storePathRootDir`.
    pub root: PathBuf,
    /// `storePathCommitLog` and `readOnlyCommitLogStorePaths`; `None` = `root/commitlog`.
    pub commit_log_dirs: Option<LogDirs>,
    /// `mappedFileSizeCommitLog`.
    pub segment_size: u64,
    /// `mappedFileSizeConsumeQueue`, rounded up to whole units of 20 bytes.
    pub queue_segment_size: u64,
    /// `mapperFileSizeBatchConsumeQueue`, rounded up to whole units of 46 bytes.
    pub batch_queue_segment_size: u64,
    /// `enableConsumeQueueExt`: units of simple queues get an extension. Those that are there are read in any case.
    pub queue_ext: bool,
    /// `mappedFileSizeConsumeQueueExt`.
    pub queue_ext_segment_size: u64,
    /// The time zone of the host. Names of index files are local times, as Java's are: only so do they grow where both
    /// make some, and Java knows their order by nothing else.
    pub local_time: LocalTime,
    /// `maxMessageSize`: of a body; a record may have 64 KiB more.
    pub max_message_size: u64,
    /// `messageIndexEnable`.
    pub index_enabled: bool,
    /// Adds an index entry for tags as Java 5.4 and later do. Older brokers pass over it.
    pub index_tags: bool,
    /// `maxHashSlotNum`.
    pub max_hash_slots: u32,
    /// `maxIndexNum`.
    pub max_index: u32,
    /// `flushDiskType=SYNC_FLUSH`: nothing is dispatched before it is durable; at the start, see
    /// [`Store::set_sync_flush`](crate::Store::set_sync_flush).
    pub sync_flush: bool,
    /// `maxTransferBytesOnMessageInMemory`.
    pub max_transfer_bytes_in_memory: u64,
    /// `maxTransferCountOnMessageInMemory`.
    pub max_transfer_count_in_memory: u32,
    /// `maxTransferBytesOnMessageInDisk`.
    pub max_transfer_bytes_on_disk: u64,
    /// `maxTransferCountOnMessageInDisk`.
    pub max_transfer_count_on_disk: u32,
    /// `accessMessageInMemoryMaxRatio`, percent of `total_memory`.
    pub access_message_in_memory_max_ratio: u32,
    /// Physical memory of the host.
    pub total_memory: u64,
    /// `maxFilterMessageSize`: bytes of queue units one pull looks at.
    pub max_filter_message_size: u64,
    /// `travelCqFileNumWhenGetMessage`.
    pub max_queue_files_per_get: u32,
    /// `offsetCheckInSlave`.
    pub offset_check_in_slave: bool,
    /// `maxMsgsNumBatch`: hits of one index query.
    pub max_query_count: u32,
    /// `messageDelayLevel`; level n is at n - 1.
    pub delay_levels_ms: Vec<i64>,
    /// Starts even if durable records lie behind damage in the log, and drops them, as Java does.
    pub accept_log_damage: bool,
    /// Which topics have batch consume queues; `None` = none but those found on disk.
    pub batch_queue_topics: Option<BatchQueueTopics>,
    /// `enabledAppendPropCRC`: each record ends with a CRC of all of it.
    pub append_prop_crc: bool,
    /// `forceVerifyPropCRC`: recovery checks that CRC where a record has it.
    pub force_verify_prop_crc: bool,
    /// `enableLmq`: messages get offsets in the light queues that they name.
    pub enable_lmq: bool,
    /// `enableMultiDispatch`: light queues get units.
    pub enable_multi_dispatch: bool,
    /// `rocksdbCQDoubleWriteEnable`: a RocksDB database beside the queue files is no reason to refuse them.
    pub queues_doubled_in_rocksdb: bool,
    /// Descriptors that consume queues may hold open.
    pub max_open_queue_files: usize,
    /// How records far from the end of the log are read.
    pub cold_reads: ColdReads,
    /// Bytes of new units that a consume queue gathers in memory before they go to its file; 0 = none, as with
    /// `queue_ext`.
    pub queue_gathers: usize,
    /// Bytes of new units that all consume queues gather.
    pub queues_gather: usize,
    /// Up to so many consume queues a flush syncs file by file; with more, it syncs their file system, where that can be.
    pub queues_synced_singly: usize,
}

const KIB: u64 = 1024;
const DELAY_LEVELS_S: [i64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200];

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            root: PathBuf::from("store"),
            commit_log_dirs: None,
            segment_size: 1024 * 1024 * KIB,
            queue_segment_size: 6_000_000,
            batch_queue_segment_size: 13_800_000,
            queue_ext: false,
            queue_ext_segment_size: 48 * 1024 * KIB,
            local_time: std::convert::identity,
            max_message_size: 4096 * KIB,
            index_enabled: true,
            index_tags: false,
            max_hash_slots: 5_000_000,
            max_index: 20_000_000,
            sync_flush: false,
            max_transfer_bytes_in_memory: 256 * KIB,
            max_transfer_count_in_memory: 32,
            max_transfer_bytes_on_disk: 64 * KIB,
            max_transfer_count_on_disk: 8,
            access_message_in_memory_max_ratio: 40,
            total_memory: 8 * 1024 * 1024 * KIB,
            max_filter_message_size: 16_000,
            max_queue_files_per_get: 1,
            offset_check_in_slave: false,
            max_query_count: 64,
            delay_levels_ms: DELAY_LEVELS_S.map(|seconds| seconds * 1000).to_vec(),
            accept_log_damage: false,
            batch_queue_topics: None,
            append_prop_crc: false,
            force_verify_prop_crc: false,
            enable_lmq: false,
            enable_multi_dispatch: false,
            queues_doubled_in_rocksdb: false,
            max_open_queue_files: 1024,
            cold_reads: ColdReads::default(),
            queue_gathers: 4096,
            queues_gather: 32 * 1024 * KIB as usize,
            queues_synced_singly: 64,
        }
    }
}

impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreConfig")
            .field("root", &self.root)
            .field("segment_size", &self.segment_size)
            .field("sync_flush", &self.sync_flush)
            .finish_non_exhaustive()
    }
}

impl StoreConfig {
    /// Directories of the commit log.
    pub(crate) fn log_dirs(&self) -> LogDirs {
        self.commit_log_dirs.clone().unwrap_or_else(|| LogDirs::one(self.root.join("commitlog")))
    }

    pub(crate) fn ext(&self) -> ExtConfig {
        ExtConfig { written: self.queue_ext, segment: self.queue_ext_segment_size }
    }

    /// How much recovery reads of a record.
    pub(crate) fn verify(&self) -> Verify {
        if self.force_verify_prop_crc { Verify::Whole } else { Verify::Body }
    }

    /// Longest record or client batch, in bytes.
    pub(crate) fn record_limit(&self, segment_size: i64) -> u64 {
        let segment = segment_size as u64 - wire::record::BLANK_HEAD as u64;
        segment.min(self.max_message_size.saturating_add(64 * KIB))
    }

    /// Bytes of the log's end that count as in memory.
    pub(crate) fn memory_window(&self) -> i64 {
        let window = u128::from(self.total_memory) * u128::from(self.access_message_in_memory_max_ratio) / 100;
        i64::try_from(window).unwrap_or(i64::MAX)
    }

    /// Refuses what no store can be opened with.
    ///
    /// # Errors
    /// [`StoreError::Config`] names the key.
    pub fn check(&self) -> Result<(), StoreError> {
        let bad = |key, value: u64, why| Err(StoreError::Config { key, value: value.to_string(), why });
        if self.segment_size < 1024 || self.segment_size > i32::MAX as u64 {
            return bad("mappedFileSizeCommitLog", self.segment_size, "use 1024 to 2147483647");
        }
        if self.queue_segment_size == 0 || self.queue_segment_size > i32::MAX as u64 {
            return bad("mappedFileSizeConsumeQueue", self.queue_segment_size, "use 20 to 2147483647");
        }
        if self.batch_queue_segment_size == 0 || self.batch_queue_segment_size > i32::MAX as u64 {
            return bad("mapperFileSizeBatchConsumeQueue", self.batch_queue_segment_size, "use 46 to 2147483647");
        }
        if self.queue_ext_segment_size < 1024 || self.queue_ext_segment_size > i32::MAX as u64 {
            return bad("mappedFileSizeConsumeQueueExt", self.queue_ext_segment_size, "use 1024 to 2147483647");
        }
        if self.max_hash_slots == 0 || self.max_hash_slots > i32::MAX as u32 / 4 {
            return bad("maxHashSlotNum", self.max_hash_slots.into(), "use 1 to 536870911");
        }
        if self.max_index < 2 || self.max_index > i32::MAX as u32 / 2 {
            return bad("maxIndexNum", self.max_index.into(), "use 2 to 1073741823");
        }
        Ok(())
    }
}
