//! Configuration of the name server: the keys of a Java name server that mean something here.
//! Source: `common/.../namesrv/NamesrvConfig.java`, `NettyServerConfig.java`; reference namesrv 1.2.
//!
//! A wrong value is an error that names key and value; an unknown key is kept and reported. Opens no socket and never
//! writes a file by itself.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use remoting::{TlsError, TlsSettings};
use wire::properties;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A value cannot be understood or is out of range.
    #[error("configuration {key}={value}: expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value as given.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A key of TLS, or a file that one names.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Something that a Java name server has and this one has not.
    #[error("configuration {0}=true is not supported: {1}")]
    Unsupported(&'static str, &'static str),
}

/// Why a configuration update is refused.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The key may not be changed over the network.
    #[error("Can not update config in black list.")]
    Blacklisted,
    /// A value is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

trait Value: Sized {
    const EXPECTED: &'static str;
    fn read(text: &str) -> Option<Self>;
}

impl Value for bool {
    const EXPECTED: &'static str = "true or false";
    fn read(text: &str) -> Option<Self> {
        text.to_ascii_lowercase().parse().ok()
    }
}

impl Value for u16 {
    const EXPECTED: &'static str = "a number from 0 to 65535";
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for u64 {
    const EXPECTED: &'static str = "a number that is not negative";
    fn read(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number| *number <= i64::MAX as u64)
    }
}

impl Value for String {
    const EXPECTED: &'static str = "a text";
    fn read(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

macro_rules! keys {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $key:literal, $default:expr;)*) => {
        /// All settings, under their Java names where they are written.
        #[derive(Clone, Debug, PartialEq)]
        pub struct NamesrvConfig {
            $($(#[doc = $doc])+ pub $field: $type,)*
            /// The keys that begin with `tls.`.
            pub tls: TlsSettings,
            /// Keys that are not known here, or change nothing; they are shown.
            pub other: BTreeMap<String, String>,
        }

        impl Default for NamesrvConfig {
            fn default() -> Self {
                Self { $($field: $default,)* tls: TlsSettings::default(), other: BTreeMap::new() }
            }
        }

        impl NamesrvConfig {
            /// Sets one key; one that is not known is kept.
            pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
                match key {
                    $($key => self.$field = read($key, value)?,)*
                    _ if self.tls.set(key, value)? => {}
                    _ => drop(self.other.insert(key.to_owned(), value.to_owned())),
                }
                Ok(())
            }

            fn entries(&self) -> BTreeMap<&str, String> {
                let mut all: BTreeMap<&str, String> =
                    self.other.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
                $(all.insert($key, self.$field.to_string());)*
                all.extend(self.tls.entries());
                all
            }
        }
    };
}

keys! {
    /// Address to listen on.
    bind_address: String = "bindAddress", "0.0.0.0".into();
    /// Port to listen on; 0 picks a free one.
    listen_port: u16 = "listenPort", 9876;
    /// A connection without traffic for so many seconds is closed, and the brokers registered over it leave; 0 keeps it.
    server_channel_max_idle_time_seconds: u64 = "serverChannelMaxIdleTimeSeconds", 120;
    /// Home of the installation. Only shown.
    rocketmq_home: String = "rocketmqHome", std::env::var("ROCKETMQ_HOME").unwrap_or_default();
    /// File of the key-value table.
    kv_config_path: String = "kvConfigPath", in_user_home("namesrv/kvConfig.json");
    /// File that a configuration update over the network changes.
    config_store_path: String = "configStorePath", in_user_home("namesrv/namesrv.properties");
    /// Put the order configuration of a topic into its route.
    order_message_enable: bool = "orderMessageEnable", false;
    /// Send the order configuration of all topics to a registering broker.
    return_order_topic_config_to_broker: bool = "returnOrderTopicConfigToBroker", true;
    /// Milliseconds between two looks for silent brokers.
    scan_not_active_broker_interval: u64 = "scanNotActiveBrokerInterval", 5000;
    /// Show the smallest slave of a group without master as its master, where the topic is not writeable there.
    support_acting_master: bool = "supportActingMaster", false;
    /// Answer the list of all topics.
    enable_all_topic_list: bool = "enableAllTopicList", true;
    /// Answer the lists of topics by cluster and by unit flag.
    enable_topic_list: bool = "enableTopicList", true;
    /// Tell the members of a group when their smallest id changes.
    notify_min_broker_id_changed: bool = "notifyMinBrokerIdChanged", false;
    /// Refuse routes for a while after the start.
    need_wait_for_service: bool = "needWaitForService", false;
    /// How long, in seconds.
    wait_seconds_for_service: u64 = "waitSecondsForService", 45;
    /// A registration removes the topics of its broker that it does not list.
    delete_topic_with_broker_registration: bool = "deleteTopicWithBrokerRegistration", false;
    /// Keys that may not be changed over the network, separated by `;`.
    config_black_list: String = "configBlackList", "configBlackList;configStorePath;kvConfigPath".into();
    /// Send clients away before a stop, by an answer that says so.
    enable_shutdown_gracefully: bool = "enableShutdownGracefully", false;
    /// For how long, in seconds, if somebody stays connected.
    shutdown_wait_time_seconds: u64 = "shutdownWaitTimeSeconds", 30;
    /// A controller in this process. Only false is possible.
    enable_controller_in_namesrv: bool = "enableControllerInNamesrv", false;
    /// Routes from another name server. Only false is possible.
    cluster_test: bool = "clusterTest", false;
}

/// Keys of a Java name server that say how its threads and sockets are made; they change nothing here.
const WITHOUT_EFFECT: [&str; 19] = [
    "clientRequestThreadPoolNums",
    "clientRequestThreadPoolQueueCapacity",
    "defaultThreadPoolNums",
    "defaultThreadPoolQueueCapacity",
    "productEnvName",
    "serverAsyncSemaphoreValue",
    "serverCallbackExecutorThreads",
    "serverNettyWorkerGroupEnable",
    "serverOnewaySemaphoreValue",
    "serverPooledByteBufAllocatorEnable",
    "serverSelectorThreads",
    "serverSocketBacklog",
    "serverSocketRcvBufSize",
    "serverSocketSndBufSize",
    "serverWorkerThreads",
    "unRegisterBrokerQueueCapacity",
    "useEpollNativeSelector",
    "writeBufferHighWaterMark",
    "writeBufferLowWaterMark",
];

/// May never be changed over the network, whatever `configBlackList` says.
const ALWAYS_BLACKLISTED: [&str; 4] = ["configBlackList", "configStorePath", "kvConfigPath", "rocketmqHome"];

fn read<V: Value>(key: &'static str, text: &str) -> Result<V, ConfigError> {
    V::read(text.trim()).ok_or_else(|| ConfigError::Value { key, value: text.to_owned(), expected: V::EXPECTED })
}

fn in_user_home(relative: &str) -> String {
    let home = std::env::var("HOME").unwrap_or_else(|_| ".".into());
    Path::new(&home).join(relative).to_string_lossy().into_owned()
}

impl NamesrvConfig {
    /// Reads a properties file; a later configuration update changes that file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let bytes = fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config = Self::from_properties(&String::from_utf8_lossy(&bytes))?;
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        config.config_store_path = absolute.to_string_lossy().into_owned();
        Ok(config)
    }

    /// Reads properties text over the defaults.
    pub fn from_properties(text: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        config.apply(text)?;
        Ok(config)
    }

    /// This configuration with the values of `text`, or why they may not be applied. Changes nothing itself.
    /// Source: `DefaultRequestProcessor.updateConfig`, which skips what it cannot read without a word.
    pub fn updated(&self, text: &str) -> Result<Self, UpdateError> {
        if properties::parse(text).iter().any(|(key, _)| self.is_blacklisted(key)) {
            return Err(UpdateError::Blacklisted);
        }
        let mut config = self.clone();
        config.apply(text)?;
        Ok(config)
    }

    /// All settings as `key=value` lines in the order of their keys, as GET_NAMESRV_CONFIG answers them.
    pub fn to_text(&self) -> String {
        self.entries().into_iter().map(|(key, value)| format!("{key}={value}\n")).collect()
    }

    /// Keys that neither we nor a Java name server know.
    pub fn unknown_keys(&self) -> impl Iterator<Item = &str> {
        self.other.keys().map(String::as_str).filter(|key| !WITHOUT_EFFECT.contains(key))
    }

    /// Keys of a Java name server that change nothing here.
    fn keys_without_effect(&self) -> impl Iterator<Item = &str> {
        self.other.keys().map(String::as_str).filter(|key| WITHOUT_EFFECT.contains(key))
    }

    /// Says which keys change nothing.
    pub fn report_keys(&self) {
        for key in self.unknown_keys() {
            tracing::warn!("configuration key {key} is unknown, it changes nothing");
        }
        for key in self.keys_without_effect() {
            tracing::info!("configuration key {key} has no effect here");
        }
    }

    /// `host:port` to listen on.
    pub fn listen_address(&self) -> String {
        match self.bind_address.contains(':') && !self.bind_address.starts_with('[') {
            true => format!("[{}]:{}", self.bind_address, self.listen_port),
            false => format!("{}:{}", self.bind_address, self.listen_port),
        }
    }

    fn apply(&mut self, text: &str) -> Result<(), ConfigError> {
        for (key, value) in properties::parse(text) {
            self.set(&key, &value)?;
        }
        self.check()
    }

    /// Refuses values that do not go together.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.scan_not_active_broker_interval == 0 {
            return Err(ConfigError::Value {
                key: "scanNotActiveBrokerInterval",
                value: "0".into(),
                expected: "at least 1 millisecond",
            });
        }
        if self.enable_controller_in_namesrv {
            let why = "run the controller as a process of its own";
            return Err(ConfigError::Unsupported("enableControllerInNamesrv", why));
        }
        match self.cluster_test {
            true => Err(ConfigError::Unsupported("clusterTest", "brokers could not register at all")),
            false => Ok(()),
        }
    }

    fn is_blacklisted(&self, key: &str) -> bool {
        key.starts_with("tls.")
            || ALWAYS_BLACKLISTED.contains(&key)
            || self.config_black_list.split(';').any(|listed| listed.trim() == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_java() {
        let config = NamesrvConfig::default();
        assert_eq!(config.listen_address(), "0.0.0.0:9876");
        assert_eq!((config.scan_not_active_broker_interval, config.wait_seconds_for_service), (5000, 45));
        assert!(config.return_order_topic_config_to_broker && config.enable_all_topic_list && config.enable_topic_list);
        assert!(!config.support_acting_master && !config.notify_min_broker_id_changed && !config.order_message_enable);
        assert!(config.kv_config_path.ends_with("namesrv/kvConfig.json"));
    }

    #[test]
    fn values_are_read_and_shown() {
        let text = "listenPort = 0\nbindAddress=::1\nsupportActingMaster=TRUE \nmine=1\nserverWorkerThreads=8\n";
        let config = NamesrvConfig::from_properties(text).unwrap();
        assert_eq!(config.listen_address(), "[::1]:0");
        assert!(config.support_acting_master);
        assert_eq!(config.unknown_keys().collect::<Vec<_>>(), ["mine"]);
        assert_eq!(config.keys_without_effect().collect::<Vec<_>>(), ["serverWorkerThreads"]);
        assert!(config.to_text().contains("\nlistenPort=0\nmine=1\n"));
        let config = NamesrvConfig::from_properties("tls.server.keyPassword=secret").unwrap();
        assert!(config.to_text().contains("tls.server.keyPassword=***\n"), "{}", config.to_text());
    }

    #[test]
    fn a_wrong_value_names_key_and_value() {
        for (text, parts) in [
            ("listenPort=high", ["listenPort=high", "65535"]),
            ("listenPort=70000", ["listenPort=70000", "65535"]),
            ("supportActingMaster=yes", ["supportActingMaster=yes", "true or false"]),
            ("waitSecondsForService=-1", ["waitSecondsForService=-1", "not negative"]),
            ("scanNotActiveBrokerInterval=0", ["scanNotActiveBrokerInterval=0", "at least"]),
            ("enableControllerInNamesrv=true", ["enableControllerInNamesrv=true", "process of its own"]),
            ("clusterTest=true", ["clusterTest=true", "not supported"]),
        ] {
            let message = NamesrvConfig::from_properties(text).unwrap_err().to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
    }

    #[test]
    fn a_file_names_itself_as_the_place_of_updates() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("namesrv.conf");
        let missing = NamesrvConfig::from_file(&path).unwrap_err().to_string();
        assert!(missing.contains("namesrv.conf"), "{missing}");
        fs::write(&path, "configStorePath=/elsewhere\nlistenPort=1\n").unwrap();
        let config = NamesrvConfig::from_file(&path).unwrap();
        assert_eq!((Path::new(&config.config_store_path), config.listen_port), (path.as_path(), 1));
    }

    #[test]
    fn updates_respect_the_black_list() {
        let config = NamesrvConfig::from_properties("configBlackList=listenPort; x").unwrap();
        for text in ["rocketmqHome=/", "kvConfigPath=/", "configBlackList=", "configStorePath=/", "listenPort=1", "x=1"]
        {
            assert!(matches!(config.updated(text), Err(UpdateError::Blacklisted)), "{text}");
        }
        let updated = config.updated("scanNotActiveBrokerInterval=6000\n").unwrap();
        assert_eq!(updated.scan_not_active_broker_interval, 6000);
        let wrong = config.updated("enableTopicList=1").unwrap_err().to_string();
        assert!(wrong.contains("enableTopicList=1"), "{wrong}");
    }
}
