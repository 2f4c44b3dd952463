//! What a request to change the configuration comes to, before anything changes: refused keys and values, keys that
//! count from the next start on, and the text of the file afterwards. Source: `AdminBrokerProcessor.java`,
//! `Configuration.java`; reference broker 12.4, field reports F-39 and F-40. Opens no file.

use wire::{code::response, properties};

use super::Refused;
use crate::{
    config::{BrokerConfig, Known},
    start,
};

const BLACK_LIST: [&str; 3] = ["brokerConfigPath", "rocketmqHome", "configBlackList"];

/// Keys under which clients and name servers know this broker.
const NAMES: [&str; 2] = ["brokerName", "brokerClusterName"];

/// Keys that are read at start only. What is announced and shown stays what is in force.
const AT_START: [&str; 36] = [
    "accessMessageInMemoryMaxRatio",
    "bindAddress",
    "consumerOffsetUpdateVersionStep",
    "delayOffsetUpdateVersionStep",
    "enableConsumeQueueExt",
    "enableLmq",
    "enableMultiDispatch",
    "enabledAppendPropCRC",
    "forceVerifyPropCRC",
    "haListenPort",
    "listenPort",
    "mapperFileSizeBatchConsumeQueue",
    "mappedFileSizeCommitLog",
    "mappedFileSizeConsumeQueue",
    "mappedFileSizeConsumeQueueExt",
    "mappedFileSizeTimerLog",
    "maxFilterMessageSize",
    "maxHashSlotNum",
    "maxIndexNum",
    "maxMessageSize",
    "maxMsgsNumBatch",
    "maxTransferBytesOnMessageInDisk",
    "maxTransferBytesOnMessageInMemory",
    "maxTransferCountOnMessageInDisk",
    "maxTransferCountOnMessageInMemory",
    "messageDelayLevel",
    "messageIndexEnable",
    "offsetCheckInSlave",
    "readOnlyCommitLogStorePaths",
    "serverChannelMaxIdleTimeSeconds",
    "storePathCommitLog",
    "storePathRootDir",
    "storeType",
    "timerPrecisionMs",
    "timerRollWindowSlot",
    "timerWheelEnable",
];

/// A change that may be made.
#[derive(Debug)]
pub struct Plan {
    /// The configuration from now on.
    pub config: BrokerConfig,
    /// Keys and values for the file.
    pub keys: Vec<(String, String)>,
    /// Keys nobody knows; they change nothing.
    pub unknown: Vec<String>,
    /// Keys that count from the next start on.
    pub at_start: Vec<String>,
}

impl Plan {
    /// Checks a properties text against the configuration in force.
    pub fn new(current: &BrokerConfig, text: &str) -> Result<Self, Refused> {
        let entries = properties::parse(text);
        entries.iter().try_for_each(|(key, value)| allowed(current, key, value))?;
        let mut plan = Self { config: current.clone(), keys: Vec::new(), unknown: Vec::new(), at_start: Vec::new() };
        let mut next_start = current.clone();
        for (key, value) in entries {
            plan.take(&mut next_start, key, value.trim().to_owned())?;
        }
        plan.check_id()?;
        next_start.finish().map_err(|error| Refused::error(error.to_string()))?;
        start::checked_store_config(&next_start).map_err(|error| Refused::error(error.to_string()))?;
        plan.config.finish().map_err(|error| Refused::error(error.to_string()))?;
        Ok(plan)
    }

    /// The value is tried on the configuration of the next start; only what counts at once goes into the one in force.
    fn take(&mut self, next_start: &mut BrokerConfig, key: String, value: String) -> Result<(), Refused> {
        match next_start.set(&key, &value) {
            Err(error) => return Err(Refused::error(error.to_string())),
            Ok(Known::Unknown) => {
                next_start.other.remove(&key);
                self.unknown.push(key);
                return Ok(());
            }
            Ok(Known::Set | Known::Inert) => {}
        }
        if AT_START.contains(&key.as_str()) {
            self.at_start.push(key.clone());
        } else {
            self.config.set(&key, &value).map_err(|error| Refused::error(error.to_string()))?;
        }
        self.keys.retain(|(earlier, _)| *earlier != key);
        self.keys.push((key, value));
        Ok(())
    }

    /// An id that cannot be this broker's: to say nothing would look like success.
    fn check_id(&self) -> Result<(), Refused> {
        let Some((_, asked)) = self.keys.iter().find(|(key, _)| key == "brokerId") else { return Ok(()) };
        let least = if self.config.is_master() { 0 } else { 1 };
        match asked.parse::<i64>() {
            Ok(id) if id >= least => Ok(()),
            _ => Err(Refused::error(format!(
                "brokerId={asked}: a slave's id is 1 or more, a master's is 0; the one set at a master counts once \
                 brokerRole is SLAVE"
            ))),
        }
    }

    /// The id that was asked for and waits for the broker to be a slave.
    pub fn waiting_id(&self) -> Option<i64> {
        (self.has("brokerId") && self.config.is_master()).then_some(self.config.slave_id).filter(|id| *id > 0)
    }

    /// Keys and values of the request that turn on what is not there.
    pub fn absent(&self) -> Vec<String> {
        let mut absent = self.config.without_effect().0;
        absent.retain(|line| line.split_once('=').is_some_and(|(key, _)| self.has(key)));
        absent
    }

    /// True when key `key` was asked for.
    pub fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|(asked, _)| asked == key)
    }

    /// True when the broker becomes another member of its group.
    pub fn changes_role(&self, current: &BrokerConfig) -> bool {
        self.config.broker_role != current.broker_role || self.config.broker_id != current.broker_id
    }

    /// What the text of the file becomes: the keys are in it, all else stays as it is (F-39).
    pub fn applier(&self) -> impl FnOnce(&str) -> String + use<> {
        let keys = self.keys.clone();
        move |file| keys.iter().fold(file.to_owned(), |text, (key, value)| properties::set(&text, key, value))
    }
}

fn allowed(current: &BrokerConfig, key: &str, value: &str) -> Result<(), Refused> {
    let listed = BLACK_LIST.contains(&key) || current.config_black_list.split(';').any(|listed| listed.trim() == key);
    if listed {
        return Err(Refused::new(response::NO_PERMISSION, "Can not update config in black list."));
    }
    if key.starts_with("tls.") {
        return Err(Refused::new(
            response::NO_PERMISSION,
            format!("{key} is not changed over the network; set it in the configuration file and start again"),
        ));
    }
    let in_force = current.entries().remove(key);
    if NAMES.contains(&key) && in_force.as_deref() != Some(value.trim()) {
        return Err(Refused::error(format!(
            "{key} cannot change while the broker runs: clients and name servers would know it under two names; set it \
             in the configuration file and start again"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current() -> BrokerConfig {
        let mut config = BrokerConfig::default();
        config.set("brokerName", "a").unwrap();
        config.finish().unwrap();
        config
    }

    fn refused(text: &str) -> Refused {
        Plan::new(&current(), text).unwrap_err()
    }

    #[test]
    fn f39_one_key_changes_one_line() {
        let file = "# mine\nbrokerName = a\n\n# keep for the audit\nfileReservedTime=48\n";
        let plan = Plan::new(&current(), "fileReservedTime=72\n").unwrap();
        assert_eq!(plan.config.file_reserved_time, 72);
        assert_eq!(plan.applier()(file), file.replace("=48", "=72"));
        let plan = Plan::new(&current(), "slaveReadEnable=true\n").unwrap();
        assert_eq!(plan.applier()(file), format!("{file}slaveReadEnable=true\n"));
    }

    #[test]
    fn a_wrong_value_is_named_and_changes_nothing() {
        for text in ["fileReservedTime=72\ninSyncReplicas=two", "inSyncReplicas=0", "flushDiskType=SOMETIMES"] {
            let Refused(code, remark) = refused(text);
            let (key, value) = text.rsplit('\n').next().unwrap().split_once('=').unwrap();
            assert_eq!(code, response::SYSTEM_ERROR);
            assert!(remark.contains(key) && remark.contains(value), "{remark}");
        }
    }

    #[test]
    fn the_black_list_is_refused() {
        for key in ["brokerConfigPath", "rocketmqHome", "configBlackList"] {
            let remark = "Can not update config in black list.";
            assert_eq!(
                refused(&format!("slaveReadEnable=true\n{key}=x")),
                Refused::new(response::NO_PERMISSION, remark)
            );
        }
        let mut config = current();
        config.set("configBlackList", "configBlackList;inSyncReplicas").unwrap();
        assert_eq!(Plan::new(&config, "inSyncReplicas=2").unwrap_err().0, response::NO_PERMISSION);
    }

    #[test]
    fn unknown_keys_change_nothing() {
        let plan = Plan::new(&current(), "nobodyKnows=1\nackThreadPoolQueueCapacity=5").unwrap();
        assert_eq!(plan.unknown, ["nobodyKnows"]);
        assert!(!plan.config.other.contains_key("nobodyKnows"));
        assert_eq!(plan.config.other["ackThreadPoolQueueCapacity"], "5");
        assert_eq!(plan.applier()("# c\n"), "# c\nackThreadPoolQueueCapacity=5\n");
    }

    #[test]
    fn f40_the_name_stays() {
        assert!(refused("brokerName=b").1.contains("brokerName cannot change"));
        assert!(refused("brokerClusterName=b").1.contains("brokerClusterName cannot change"));
        assert!(Plan::new(&current(), "brokerName=a").is_ok());
    }

    #[test]
    fn a_port_counts_from_the_next_start_on() {
        let plan = Plan::new(&current(), "listenPort=20911").unwrap();
        assert_eq!((plan.config.listen_port, plan.at_start.as_slice()), (10911, ["listenPort".to_owned()].as_slice()));
        assert_eq!(plan.applier()(""), "listenPort=20911\n");
        assert!(refused("listenPort=70000").1.contains("listenPort"));
        assert!(refused("messageDelayLevel=1x").1.contains("messageDelayLevel"));
    }

    #[test]
    fn what_the_next_start_would_refuse_is_not_written() {
        let texts = [
            "mappedFileSizeCommitLog=2147483648",
            "mappedFileSizeConsumeQueue=2147483648",
            "maxHashSlotNum=0",
            "maxHashSlotNum=4294967297",
            "maxIndexNum=1",
            "mappedFileSizeTimerLog=1",
            "timerPrecisionMs=0",
            "readOnlyCommitLogStorePaths=/a\nstorePathCommitLog=/a",
        ];
        for text in texts {
            let refused = Plan::new(&current(), text).expect_err(text);
            let key = text.rsplit('\n').next().unwrap().split('=').next().unwrap();
            assert!(refused.1.contains(key), "{text}: {refused:?}");
        }
        Plan::new(&current(), "timerWheelEnable=false\ntimerPrecisionMs=0").unwrap();
    }

    #[test]
    fn role_and_id_go_together() {
        let plan = Plan::new(&current(), "brokerRole=SLAVE\nbrokerId=1").unwrap();
        assert!(plan.changes_role(&current()) && plan.has("brokerId"));
        assert!(refused("brokerRole=SLAVE").1.contains("brokerId"));
        assert!(refused("brokerRole=SLAVE\nbrokerId=0").1.contains("1 or more"));
        assert!(refused("brokerId=-1").1.contains("1 or more"));
        assert!(!Plan::new(&current(), "brokerId=0").unwrap().changes_role(&current()));
    }

    #[test]
    fn role_and_id_may_come_one_after_the_other() {
        // One key a request is all that mqadmin can send.
        let change = |config: &BrokerConfig, text: &str| Plan::new(config, text).map(|plan| plan.config);
        let plan = Plan::new(&current(), "brokerId=3").unwrap();
        assert!(!plan.changes_role(&current()));
        assert_eq!((plan.config.broker_id, plan.waiting_id()), (0, Some(3)));
        let slave = change(&plan.config, "brokerRole=SLAVE").unwrap();
        assert_eq!((slave.broker_id, slave.is_master()), (3, false));
        assert!(change(&slave, "brokerId=0").unwrap_err().1.contains("1 or more"));
        let master = change(&slave, "brokerRole=SYNC_MASTER").unwrap();
        assert_eq!((master.broker_id, master.is_master()), (0, true));
        assert_eq!(change(&master, "brokerRole=SLAVE").unwrap().broker_id, 3);
    }
}
