//! Configuration of a broker: Java's keys and defaults, from `broker.conf` and the command line.
//!
//! A key nobody knows is named in a warning; a value that cannot be read refuses to start. Keys of upstream that
//! change nothing here: [`other`]. Opens no file itself.

mod absent;
pub(crate) mod check;
mod other;
mod space;
pub mod value;

use std::{collections::BTreeMap, net::Ipv6Addr};

use remoting::{TlsError, TlsSettings};
use value::Value;
pub use value::{BrokerRole, FlushDiskType};
use wire::{address, body::MessageRequestMode, properties, topic::SYSTEM_GROUP_PREFIX};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value of the wrong kind.
    #[error("configuration key {key} has the value '{value}', expected {expected}")]
    Value {
        /// Key.
        key: String,
        /// As given.
        value: String,
        /// What would do.
        expected: &'static str,
    },
    /// Keys that do not go together.
    #[error("{0}")]
    Conflict(String),
    /// A key of TLS, or a file that one names.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What became of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// It is in force.
    Set,
    /// Upstream has it, nothing here depends on it.
    Inert,
    /// Nobody knows it.
    Unknown,
}

macro_rules! broker_config {
    ($($(#[$doc:meta])* $key:literal $field:ident: $type:ty = $default:expr;)*) => {
        /// All keys that change something here. Times are in the unit of the key's upstream meaning, mostly
        /// milliseconds.
        #[derive(Clone, Debug)]
        pub struct BrokerConfig {
            $($(#[$doc])* #[doc = concat!(" Key `", $key, "`.")] pub $field: $type,)*
            /// The keys that begin with `tls.`.
            pub tls: TlsSettings,
            /// Keys of upstream without effect, and unknown ones, with their values.
            pub other: BTreeMap<String, String>,
            /// The `brokerId` that was set for this broker while it is a master, whose id is 0: it has it again as a
            /// slave. 0 where none was.
            pub slave_id: i64,
        }

        impl Default for BrokerConfig {
            fn default() -> Self {
                Self { $($field: $default,)* tls: TlsSettings::default(), other: other::defaults(), slave_id: 0 }
            }
        }

        impl BrokerConfig {
            /// Sets one key from text.
            pub fn set(&mut self, key: &str, text: &str) -> Result<Known, ConfigError> {
                match key {
                    $($key => { self.$field = value::parse(key, text)?; Ok(Known::Set) })*
                    _ if self.tls.set(key, text)? => Ok(Known::Set),
                    _ => {
                        let before = self.other.insert(key.to_owned(), text.trim().to_owned());
                        let known = before.is_some() || other::is_known(key);
                        Ok(if known { Known::Inert } else { Known::Unknown })
                    }
                }
            }

            /// All keys with their values, sorted by key.
            pub fn entries(&self) -> BTreeMap<String, String> {
                let mut all = self.other.clone();
                $(all.insert($key.to_owned(), self.$field.show());)*
                all.extend(self.tls.entries().into_iter().map(|(key, value)| (key.to_owned(), value)));
                all
            }
        }
    };
}

broker_config! {
    "brokerClusterName" broker_cluster_name: String = "DefaultCluster".into();
    "brokerName" broker_name: String = host_name();
    /// 0 is the master.
    "brokerId" broker_id: i64 = 0;
    "brokerRole" broker_role: BrokerRole = BrokerRole::AsyncMaster;
    /// Address that clients are told.
    "brokerIP1" broker_ip1: String = local_address();
    /// Address that slaves are told.
    "brokerIP2" broker_ip2: String = local_address();
    "bindAddress" bind_address: String = "0.0.0.0".into();
    "listenPort" listen_port: u16 = 10911;
    /// 0: `listenPort` + 1.
    "haListenPort" ha_listen_port: u16 = 0;
    /// Name servers, separated by `;`.
    "namesrvAddr" namesrv_addr: String = std::env::var("NAMESRV_ADDR").unwrap_or_default();
    "brokerPermission" broker_permission: i32 = 6;
    /// A connection without traffic for so many seconds is closed; 0 closes none.
    "serverChannelMaxIdleTimeSeconds" server_channel_max_idle_time_seconds: u64 = 120;
    "enableShutdownGracefully" enable_shutdown_gracefully: bool = false;
    "shutdownWaitTimeSeconds" shutdown_wait_time_seconds: u64 = 30;

    "storePathRootDir" store_path_root_dir: String = home_store();
    "storePathCommitLog" store_path_commit_log: String = String::new();
    "readOnlyCommitLogStorePaths" read_only_commit_log_store_paths: String = String::new();
    "storeType" store_type: String = "default".into();
    "mappedFileSizeCommitLog" mapped_file_size_commit_log: u64 = 1 << 30;
    "mappedFileSizeConsumeQueue" mapped_file_size_consume_queue: u64 = 6_000_000;
    "enableConsumeQueueExt" enable_consume_queue_ext: bool = false;
    "mappedFileSizeConsumeQueueExt" mapped_file_size_consume_queue_ext: u64 = 48 << 20;
    /// The spelling is upstream's.
    "mapperFileSizeBatchConsumeQueue" mapper_file_size_batch_consume_queue: u64 = 13_800_000;
    "enabledAppendPropCRC" enabled_append_prop_crc: bool = false;
    "forceVerifyPropCRC" force_verify_prop_crc: bool = false;
    "enableLmq" enable_lmq: bool = false;
    "enableMultiDispatch" enable_multi_dispatch: bool = false;
    "maxHashSlotNum" max_hash_slot_num: u64 = 5_000_000;
    "maxIndexNum" max_index_num: u64 = 20_000_000;
    "messageIndexEnable" message_index_enable: bool = true;
    "maxMessageSize" max_message_size: i32 = 4 << 20;
    "flushDiskType" flush_disk_type: FlushDiskType = FlushDiskType::AsyncFlush;
    "flushIntervalCommitLog" flush_interval_commit_log: u64 = 500;
    "flushIntervalConsumeQueue" flush_interval_consume_queue: u64 = 1000;
    "syncFlushTimeout" sync_flush_timeout: u64 = 5000;
    "fileReservedTime" file_reserved_time: i64 = 72;
    "deleteWhen" delete_when: String = "04".into();
    "diskMaxUsedSpaceRatio" disk_max_used_space_ratio: i32 = 75;
    "diskSpaceWarningLevelRatio" disk_space_warning_level_ratio: i32 = 90;
    "diskSpaceCleanForciblyRatio" disk_space_clean_forcibly_ratio: i32 = 85;
    "cleanResourceInterval" clean_resource_interval: u64 = 10_000;
    "cleanFileForciblyEnable" clean_file_forcibly_enable: bool = true;
    "deleteFileBatchMax" delete_file_batch_max: i32 = 10;
    "deleteCommitLogFilesInterval" delete_commit_log_files_interval: u64 = 100;
    "replicasPerDiskPartition" replicas_per_disk_partition: i32 = 1;
    "logicalDiskSpaceCleanForciblyThreshold" logical_disk_space_clean_forcibly_threshold: f64 = 0.8;
    /// Bytes of a disk that stay free whatever the ratios say. Own key; -1: a twentieth of the disk, at most 256 MiB.
    "diskReservedBytes" disk_reserved_bytes: i64 = -1;
    /// As Java's system property: a part of 1, instead of the percent key.
    "rocketmq.broker.diskSpaceWarningLevelRatio" property_warning_level_ratio: String = String::new();
    /// As Java's system property: a part of 1, instead of the percent key.
    "rocketmq.broker.diskSpaceCleanForciblyRatio" property_clean_forcibly_ratio: String = String::new();
    "messageDelayLevel" message_delay_level: String = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h".into();
    "flushDelayOffsetInterval" flush_delay_offset_interval: u64 = 10_000;
    "maxTransferBytesOnMessageInMemory" max_transfer_bytes_on_message_in_memory: i32 = 262_144;
    "maxTransferCountOnMessageInMemory" max_transfer_count_on_message_in_memory: i32 = 32;
    "maxTransferBytesOnMessageInDisk" max_transfer_bytes_on_message_in_disk: i32 = 65_536;
    "maxTransferCountOnMessageInDisk" max_transfer_count_on_message_in_disk: i32 = 8;
    "accessMessageInMemoryMaxRatio" access_message_in_memory_max_ratio: i32 = 40;
    "maxFilterMessageSize" max_filter_message_size: i32 = 16_000;
    "offsetCheckInSlave" offset_check_in_slave: bool = false;
    "maxMsgsNumBatch" max_msgs_num_batch: i32 = 64;
    "defaultQueryMaxNum" default_query_max_num: i32 = 32;

    /// Static HA address of the master; replaces the learned one.
    "haMasterAddress" ha_master_address: String = String::new();
    "haSendHeartbeatInterval" ha_send_heartbeat_interval: u64 = 5000;
    "haHousekeepingInterval" ha_housekeeping_interval: u64 = 20_000;
    "haTransferBatchSize" ha_transfer_batch_size: u64 = 32_768;
    /// With it a slave gets at most `maxHaTransferByteInSecond`.
    "haFlowControlEnable" ha_flow_control_enable: bool = false;
    "maxHaTransferByteInSecond" max_ha_transfer_byte_in_second: u64 = 100 << 20;
    "haMaxGapNotInSync" ha_max_gap_not_in_sync: i64 = 256 << 20;
    /// Copies an acknowledgement stands on, the master included. 1 waits for nobody.
    "inSyncReplicas" in_sync_replicas: i32 = 1;
    "totalReplicas" total_replicas: i32 = 1;
    /// Upstream waits 3000 ms, exactly as long as its producers do, so that they give up first (F-05).
    "slaveTimeout" slave_timeout: u64 = 2500;
    "slaveReadEnable" slave_read_enable: bool = false;
    /// Milliseconds between two rounds of metadata sync from the master. Own key; upstream waits 60 s.
    "slaveSyncInterval" slave_sync_interval: u64 = 1000;

    "defaultTopicQueueNums" default_topic_queue_nums: i32 = 8;
    "autoCreateTopicEnable" auto_create_topic_enable: bool = true;
    "autoCreateSubscriptionGroup" auto_create_subscription_group: bool = true;
    "enableCreateSysGroup" enable_create_sys_group: bool = true;
    "clusterTopicEnable" cluster_topic_enable: bool = true;
    "brokerTopicEnable" broker_topic_enable: bool = true;
    "traceTopicEnable" trace_topic_enable: bool = false;
    /// Topics may say `message.type=MIXED`.
    "enableMixedMessageType" enable_mixed_message_type: bool = false;
    "msgTraceTopicName" msg_trace_topic_name: String = "RMQ_SYS_TRACE_TOPIC".into();
    "traceOn" trace_on: bool = true;
    "regionId" region_id: String = "DefaultRegion".into();
    "reviveQueueNum" revive_queue_num: i32 = 8;
    "timerWheelEnable" timer_wheel_enable: bool = true;
    "mappedFileSizeTimerLog" mapped_file_size_timer_log: u64 = 100 << 20;
    "timerPrecisionMs" timer_precision_ms: i64 = 1000;
    "timerRollWindowSlot" timer_roll_window_slot: i64 = 172_800;
    "timerMaxDelaySec" timer_max_delay_sec: i64 = 259_200;
    "timerFlushIntervalMs" timer_flush_interval_ms: u64 = 1000;
    "timerCongestNumEachSlot" timer_congest_num_each_slot: i64 = i32::MAX as i64;
    "timerEnableCheckMetrics" timer_enable_check_metrics: bool = true;
    "timerCheckMetricsWhen" timer_check_metrics_when: String = "05".into();
    "timerStopEnqueue" timer_stop_enqueue: bool = false;
    "timerStopDequeue" timer_stop_dequeue: bool = false;
    /// Milliseconds after the start before a timer message is delivered.
    "disappearTimeAfterStart" disappear_time_after_start: i64 = -1;
    "recallMessageEnable" recall_message_enable: bool = false;
    "allowRecallWhenBrokerNotWriteable" allow_recall_when_broker_not_writeable: bool = true;
    "validateSystemTopicWhenUpdateTopic" validate_system_topic_when_update_topic: bool = true;
    "clearRetryTopicWhenDeleteTopic" clear_retry_topic_when_delete_topic: bool = true;
    "rejectTransactionMessage" reject_transaction_message: bool = false;
    "rejectPullConsumerEnable" reject_pull_consumer_enable: bool = false;
    /// Replies are stored besides being handed over.
    "storeReplyMessageEnable" store_reply_message_enable: bool = true;
    "longPollingEnable" long_polling_enable: bool = true;
    "shortPollingTimeMills" short_polling_time_mills: u64 = 1000;
    "litePullMessageEnable" lite_pull_message_enable: bool = true;
    "notifyConsumerIdsChangedEnable" notify_consumer_ids_changed_enable: bool = true;
    "serverLoadBalancerEnable" server_load_balancer_enable: bool = true;
    "loadBalancePollNameServerInterval" load_balance_poll_name_server_interval: u64 = 30_000;
    "defaultMessageRequestMode" default_message_request_mode: MessageRequestMode = MessageRequestMode::Pull;
    "useServerSideResetOffset" use_server_side_reset_offset: bool = true;
    "startAcceptSendRequestTimeStamp" start_accept_send_request_time_stamp: i64 = 0;
    "flushConsumerOffsetInterval" flush_consumer_offset_interval: u64 = 5000;
    "consumerOffsetUpdateVersionStep" consumer_offset_update_version_step: i64 = 500;
    "delayOffsetUpdateVersionStep" delay_offset_update_version_step: i64 = 200;
    "channelExpiredTimeout" channel_expired_timeout: u64 = 120_000;
    "registerNameServerPeriod" register_name_server_period: u64 = 30_000;
    "registerBrokerTimeoutMills" register_broker_timeout_mills: u64 = 24_000;
    "enableSplitMetadata" enable_split_metadata: bool = true;
    "splitMetadataSize" split_metadata_size: i32 = 2000;
    /// The file that this broker was started with; only shown.
    "brokerConfigPath" broker_config_path: String = String::new();
    "configBlackList" config_black_list: String = "configBlackList;brokerConfigPath".into();
}

impl BrokerConfig {
    /// True when a group that is not there is created by use. Source: `MixAll.java` (isSysConsumerGroupAndEnableCreate).
    pub fn creates_group(&self, name: &str) -> bool {
        let is_system = name.starts_with(SYSTEM_GROUP_PREFIX);
        self.auto_create_subscription_group || is_system && self.enable_create_sys_group
    }

    /// Applies a properties text; answers the keys that nobody knows.
    pub fn apply(&mut self, text: &str) -> Result<Vec<String>, ConfigError> {
        let mut unknown = Vec::new();
        for (key, value) in properties::parse(text) {
            if self.set(&key, &value)? == Known::Unknown {
                unknown.push(key);
            }
        }
        Ok(unknown)
    }

    /// Derives what depends on other keys and refuses what does not go together. Source: `BrokerStartup.java`.
    pub fn finish(&mut self) -> Result<(), ConfigError> {
        if self.ha_listen_port == 0 {
            self.ha_listen_port = self.listen_port.saturating_add(1);
        }
        self.asks_for_no_absent_service()?;
        self.fit_id()?;
        self.check_values()?;
        self.check_space()?;
        self.check_store()
    }

    /// What a store alone depends on, for commands that serve nobody: a store is rebuilt with the configuration of the broker
    /// that made it, whatever that served.
    pub fn check_store(&self) -> Result<(), ConfigError> {
        self.asks_for_no_absent_store()?;
        self.sizes()?;
        self.delay_levels_ms().map(|_| ())
    }

    /// A master's id is 0. What was set beside that waits for the broker to be a slave: `mqadmin` changes one key at a time,
    /// so role and id come one after the other.
    fn fit_id(&mut self) -> Result<(), ConfigError> {
        if self.is_master() {
            if self.broker_id > 0 {
                self.slave_id = self.broker_id;
            }
            self.broker_id = 0;
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.slave_id);
        if self.broker_id <= 0 && waiting > 0 {
            self.broker_id = waiting;
        }
        if self.broker_id <= 0 {
            return Err(ConfigError::Conflict(format!(
                "brokerRole=SLAVE needs brokerId > 0, it is {}; set brokerId=1 (2, 3, … for further slaves)",
                self.broker_id
            )));
        }
        Ok(())
    }

    /// True when a key that has no field of its own is set to true.
    pub fn is_on(&self, key: &str) -> bool {
        self.other.get(key).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    fn sizes(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, value: u64, expected: &'static str| {
            Err(ConfigError::Value { key: key.into(), value: value.to_string(), expected })
        };
        if !(4096..=(1 << 31)).contains(&self.mapped_file_size_commit_log) {
            return refuse("mappedFileSizeCommitLog", self.mapped_file_size_commit_log, "4096 bytes to 2 GiB");
        }
        if !(20..=(1 << 31)).contains(&self.mapped_file_size_consume_queue) {
            return refuse("mappedFileSizeConsumeQueue", self.mapped_file_size_consume_queue, "20 bytes to 2 GiB");
        }
        if !(46..=(1 << 31)).contains(&self.mapper_file_size_batch_consume_queue) {
            let value = self.mapper_file_size_batch_consume_queue;
            return refuse("mapperFileSizeBatchConsumeQueue", value, "46 bytes to 2 GiB");
        }
        if !(1024..=(1 << 31)).contains(&self.mapped_file_size_consume_queue_ext) {
            let value = self.mapped_file_size_consume_queue_ext;
            return refuse("mappedFileSizeConsumeQueueExt", value, "1024 bytes to 2 GiB");
        }
        if self.in_sync_replicas < 1 {
            return Err(ConfigError::Value {
                key: "inSyncReplicas".into(),
                value: self.in_sync_replicas.to_string(),
                expected: "1 or more copies, the master included",
            });
        }
        Ok(())
    }

    /// The delays of `messageDelayLevel`, level 1 first, in milliseconds.
    pub fn delay_levels_ms(&self) -> Result<Vec<i64>, ConfigError> {
        let level = |text: &str| {
            let (number, unit) = text.split_at(text.len().saturating_sub(1));
            let unit = match unit {
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            number.parse::<i64>().ok().filter(|number| *number >= 0)?.checked_mul(unit)
        };
        let levels = self.message_delay_level.split_whitespace().map(level).collect::<Option<Vec<_>>>();
        levels.filter(|levels| !levels.is_empty()).ok_or_else(|| ConfigError::Value {
            key: "messageDelayLevel".into(),
            value: self.message_delay_level.clone(),
            expected: "delays like '1s 5s 1m 2h', separated by blanks",
        })
    }

    /// Port of the fast listener.
    pub fn fast_port(&self) -> u16 {
        self.listen_port.saturating_sub(2)
    }

    /// The host that the ports are bound to. A Java broker's wildcard takes connections of both kinds: where an address that
    /// is told to others is IPv6, so must the one of the default, or nobody could connect there.
    pub fn bind_host(&self) -> &str {
        let is_v6 = |host: &String| address::host(host).parse::<Ipv6Addr>().is_ok();
        match self.bind_address == "0.0.0.0" && [&self.broker_ip1, &self.broker_ip2].into_iter().any(is_v6) {
            true => "::",
            false => &self.bind_address,
        }
    }

    /// `brokerIP1:listenPort`, what clients are told.
    pub fn broker_addr(&self) -> String {
        address::join(&self.broker_ip1, self.listen_port)
    }

    /// `brokerIP2:haListenPort`, what slaves are told.
    pub fn ha_addr(&self) -> String {
        address::join(&self.broker_ip2, self.ha_listen_port)
    }

    /// True for both kinds of master.
    pub fn is_master(&self) -> bool {
        self.broker_role != BrokerRole::Slave
    }

    /// True when an acknowledgement waits for other copies.
    pub fn waits_for_replicas(&self) -> bool {
        self.broker_role == BrokerRole::SyncMaster && self.in_sync_replicas > 1
    }
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "DEFAULT_BROKER".into() } else { name }
}

fn home_store() -> String {
    format!("{}/store", std::env::var("HOME").unwrap_or_else(|_| ".".into()))
}

/// The address of the interface that leads outside; the loopback address where there is none.
pub fn local_address() -> String {
    let probe = |any: &str, outside: &str| -> std::io::Result<std::net::IpAddr> {
        let socket = std::net::UdpSocket::bind(any)?;
        // Connecting a datagram socket sends nothing; it only chooses a source address.
        socket.connect(outside)?;
        Ok(socket.local_addr()?.ip())
    };
    let found = probe("0.0.0.0:0", "192.0.2.1:9").or_else(|_| probe("[::]:0", "[2001:db8::1]:9"));
    found.map_or_else(|_| "127.0.0.1".into(), |ip| ip.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn javas_defaults_and_derived_values() {
        let mut config = BrokerConfig::default();
        config.finish().unwrap();
        assert_eq!((config.listen_port, config.fast_port(), config.ha_listen_port), (10911, 10909, 10912));
        assert_eq!(config.delay_levels_ms().unwrap().len(), 18);
        assert_eq!(config.entries()["brokerRole"], "ASYNC_MASTER");
        assert_eq!(config.entries()["sendMessageThreadPoolNums"], "2");
    }

    #[test]
    fn bad_values_name_the_key() {
        let mut config = BrokerConfig::default();
        let error = config.apply("listenPort=many").unwrap_err().to_string();
        assert!(error.contains("listenPort") && error.contains("many"), "{error}");
        assert_eq!(config.apply("nobodyKnows=1\nackThreadPoolQueueCapacity=5").unwrap(), ["nobodyKnows"]);
        config.set("brokerRole", "SLAVE").unwrap();
        assert!(config.finish().unwrap_err().to_string().contains("brokerId"));
        config.set("brokerRole", "ASYNC_MASTER").unwrap();
        config.set("messageDelayLevel", "1s 5x").unwrap();
        assert!(config.finish().unwrap_err().to_string().contains("messageDelayLevel"));
    }

    #[test]
    fn values_that_mean_nothing_are_refused_by_their_key() {
        let finished = |text: &str| {
            let mut config = BrokerConfig::default();
            config.apply(text).unwrap();
            config.finish()
        };
        let wrong = [
            "namesrvAddr=127.0.0.1",
            "namesrvAddr=127.0.0.1:9876,127.0.0.1:9877",
            "namesrvAddr=a:9876;b:many",
            "namesrvAddr=:9876",
            "brokerPermission=8",
            "brokerPermission=-1",
            "deleteWhen=4am",
            "deleteWhen=04,16",
            "timerCheckMetricsWhen=5-7",
            "brokerName= ",
            "brokerClusterName=",
            "brokerIP1=",
            "brokerIP2=",
            "storePathRootDir=",
            "haSendHeartbeatInterval=0",
            "haHousekeepingInterval=0",
        ];
        for text in wrong {
            let error = finished(text).expect_err(text).to_string();
            assert!(text.split('=').all(|part| error.contains(part.trim())), "{text}: {error}");
        }
        let right = "namesrvAddr=ns1:9876; [::1]:9876;\nbrokerPermission=0\ndeleteWhen=04; 16\ntimerCheckMetricsWhen=";
        finished(right).unwrap();
        // Hours that never come.
        finished("deleteWhen=99").unwrap();
    }
}
