//! Keys that ask for what is not there. To pass over them would be worse than to refuse: a log that is not read, two masters
//! of one name, a broker that serves everybody.

use super::{BrokerConfig, ConfigError};

/// Keys of a log that is refused when they are true, and why.
const NO_STORE: [(&str, &str); 1] =
    [("enableDLegerCommitLog", "the log of a DLedger group is not served; serve it with the broker that made it")];

/// The same of what a broker does.
const NO_SERVICE: [(&str, &str); 4] = [
    (
        "enableControllerMode",
        "no controller makes this broker master or slave, and beside brokers that follow one there could be two masters; take the key \
         out where no other broker of the name has it, and give it a brokerRole and a brokerId",
    ),
    ("authenticationEnabled", NO_USERS),
    ("authorizationEnabled", NO_USERS),
    ("aclEnable", NO_USERS),
];
const NO_USERS: &str =
    "this broker has no users and no access rules, it would serve everybody; take the key out if that is what you want";

impl BrokerConfig {
    pub(super) fn asks_for_no_absent_service(&self) -> Result<(), ConfigError> {
        self.refuse(&NO_SERVICE)
    }

    pub(super) fn asks_for_no_absent_store(&self) -> Result<(), ConfigError> {
        self.nothing_in_rocksdb()?;
        self.refuse(&NO_STORE)
    }

    fn refuse(&self, absent: &[(&str, &str)]) -> Result<(), ConfigError> {
        match absent.iter().find(|(key, _)| self.is_on(key)) {
            Some((key, why)) => Err(ConfigError::Conflict(format!("{key}=true: {why}"))),
            None => Ok(()),
        }
    }

    /// Keys that keep queues, timers, transactions or settings in RocksDB only.
    fn nothing_in_rocksdb(&self) -> Result<(), ConfigError> {
        if !self.store_type.eq_ignore_ascii_case("default") {
            return Err(ConfigError::Conflict(format!(
                "storeType={}: only the file store is served; set storeType=default for a file store directory",
                self.store_type
            )));
        }
        let halves = self.is_on("transRocksDBEnable")
            && self.other.get("transWriteOriginTransHalfEnable").is_some_and(|text| text.eq_ignore_ascii_case("false"));
        let settings = self.other.get("configManagerVersion").is_some_and(|version| version == "v2");
        let refused = [
            (self.is_on("timerRocksDBEnable"), "timerRocksDBEnable=true", "timers are kept in the timer wheel"),
            (halves, "transWriteOriginTransHalfEnable=false", "half messages are kept in their topic"),
            (settings, "configManagerVersion=v2", "settings are kept in JSON files"),
        ];
        match refused.iter().find(|(refused, ..)| *refused) {
            Some((_, key, instead)) => Err(ConfigError::Conflict(format!(
                "{key}: nothing is read from RocksDB, {instead}; take the key out, after the broker that kept them there has moved them"
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let mut config = BrokerConfig::default();
        assert!(config.apply(text).unwrap().is_empty(), "{text}");
        config.finish().unwrap_err().to_string()
    }

    const STORE: &str = "enableDLegerCommitLog";
    const SERVICE: [&str; 4] = ["enableControllerMode", "authenticationEnabled", "authorizationEnabled", "aclEnable"];

    #[test]
    fn what_is_not_there_is_refused_by_its_key() {
        for key in [&[STORE], &SERVICE[..]].concat() {
            let error = refusal(&format!("{key}=true"));
            assert!(error.starts_with(&format!("{key}=true: ")) && !error.contains(['\n', '\\']), "{error}");
            assert_eq!(refusal(&format!("{key}=True ")), error, "as a value that has a field of its own");
            let mut off = BrokerConfig::default();
            off.apply(&format!("{key}=false")).unwrap();
            off.finish().unwrap();
        }
        // What a controller decides stands in no file: the role that does is not the fault.
        let error = refusal("enableControllerMode=true\nbrokerRole=SLAVE\nbrokerId=-1");
        assert!(error.contains("enableControllerMode=true"), "{error}");
    }

    #[test]
    fn who_serves_nobody_needs_the_keys_of_the_store_alone() {
        let mut config = BrokerConfig::default();
        config.apply("brokerRole=SLAVE\nbrokerId=-1").unwrap();
        SERVICE.iter().for_each(|key| assert!(config.apply(&format!("{key}=true")).unwrap().is_empty()));
        config.check_store().unwrap();
        config.apply(&format!("{STORE}=true")).unwrap();
        assert!(config.check_store().unwrap_err().to_string().contains(STORE));
    }

    #[test]
    fn what_would_live_in_rocksdb_is_refused_by_its_key() {
        for key in ["storeType=defaultRocksDB", "timerRocksDBEnable=true", "configManagerVersion=v2"] {
            let error = refusal(key);
            assert!(error.contains(key) && !error.contains('\n'), "{error}");
        }
        let mut config = BrokerConfig::default();
        config.apply("transRocksDBEnable=true\nindexRocksDBEnable=true\nrocksdbCQDoubleWriteEnable=true").unwrap();
        config.finish().unwrap();
        config.apply("transWriteOriginTransHalfEnable=false").unwrap();
        assert!(config.finish().unwrap_err().to_string().contains("transWriteOriginTransHalfEnable"));
    }
}
