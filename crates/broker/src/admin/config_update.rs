//! What a request to change the configuration comes to, before anything changes: refused keys and values, keys that
//! count from the next start on, and the text of the file afterwards. Source: `AdminBrokerProcessor.java`,
//! `Configuration.java`; reference broker 12.4, field reports F-39 and F-40. Opens no file.

use wire::{code::response, properties};

use super::Refused;
use crate::config::{BrokerConfig, Known};

const BLACK_LIST: [&str; 3] = ["brokerConfigPath", "rocketmqHome", "configBlackList"];

/// Keys under which clients and name servers know this broker.
const NAMES: [&str; 2] = ["brokerName", "brokerClusterName"];

/// Keys that are read at start only. What is announced and shown stays what is in force.
const AT_START: [&str; 35] = [
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
        next_start.finish().map_err(|error| Refused::error(error.to_string()))?;
        plan.config.finish().map_err(|error| Refused::error(error.to_string()))?;
        plan.check_id(current)?;
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

    /// A master's id is 0 whatever is asked for; to say nothing would look like success.
    fn check_id(&self, current: &BrokerConfig) -> Result<(), Refused> {
        let asked = self.keys.iter().find(|(key, _)| key == "brokerId").map(|(_, value)| value.as_str());
        match asked {
            Some(id) if self.config.is_master() && id.parse() != Ok(0) => Err(Refused::error(format!(
                "brokerId={id} is for a slave, brokerRole is {}; set brokerRole=SLAVE in the same request, the id of a \
                 master is 0",
                current.entries()["brokerRole"]
            ))),
            _ => Ok(()),
        }
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
    fn role_and_id_go_together() {
        let plan = Plan::new(&current(), "brokerRole=SLAVE\nbrokerId=1").unwrap();
        assert!(plan.changes_role(&current()) && plan.has("brokerId"));
        assert!(refused("brokerRole=SLAVE").1.contains("brokerId"));
        assert!(refused("brokerId=1").1.contains("brokerRole=SLAVE"));
        assert!(!Plan::new(&current(), "brokerId=0").unwrap().changes_role(&current()));
    }
}
