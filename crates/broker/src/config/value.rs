//! Types of configuration values: from text, and back as Java prints them.

use wire::body::MessageRequestMode;

use super::ConfigError;

/// A value of one configuration key.
pub trait Value: Sized {
    /// From trimmed text.
    fn parse(text: &str) -> Option<Self>;
    /// As `getBrokerConfig` prints it.
    fn show(&self) -> String;
    /// What is expected, for an error message.
    const EXPECTED: &'static str;
}

macro_rules! number {
    ($($type:ty => $what:literal),*) => { $(
        impl Value for $type {
            const EXPECTED: &'static str = $what;
            fn parse(text: &str) -> Option<Self> { text.parse().ok() }
            fn show(&self) -> String { self.to_string() }
        }
    )* };
}

number!(i32 => "a whole number", i64 => "a whole number", u64 => "a whole number, 0 or more", u16 => "a port, 0 to 65535");

impl Value for f64 {
    const EXPECTED: &'static str = "a number";
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number: &f64| number.is_finite())
    }
    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl Value for bool {
    const EXPECTED: &'static str = "true or false";
    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    const EXPECTED: &'static str = "text";
    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
    fn show(&self) -> String {
        self.clone()
    }
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident $expected:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),* }
        impl Value for $name {
            const EXPECTED: &'static str = $expected;
            fn parse(text: &str) -> Option<Self> { match text { $($text => Some(Self::$variant),)* _ => None } }
            fn show(&self) -> String { match self { $(Self::$variant => $text.to_owned()),* } }
        }
    };
}

choice! {
    /// `brokerRole`. Source: `store/.../config/BrokerRole.java`.
    BrokerRole "ASYNC_MASTER, SYNC_MASTER or SLAVE" {
        /// Acknowledges without waiting for a slave.
        AsyncMaster = "ASYNC_MASTER",
        /// Waits for `inSyncReplicas` copies.
        SyncMaster = "SYNC_MASTER",
        /// Follows a master.
        Slave = "SLAVE",
    }
}

choice! {
    /// `flushDiskType`. Source: `store/.../config/FlushDiskType.java`.
    FlushDiskType "ASYNC_FLUSH or SYNC_FLUSH" {
        /// Acknowledges when the message is in the file.
        AsyncFlush = "ASYNC_FLUSH",
        /// Acknowledges when the message is on the device.
        SyncFlush = "SYNC_FLUSH",
    }
}

impl Value for MessageRequestMode {
    const EXPECTED: &'static str = "PULL or POP";
    fn parse(text: &str) -> Option<Self> {
        match text {
            "PULL" => Some(Self::Pull),
            "POP" => Some(Self::Pop),
            _ => None,
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Pull => "PULL".to_owned(),
            Self::Pop => "POP".to_owned(),
        }
    }
}

/// Parses `text` for `key`.
pub fn parse<V: Value>(key: &str, text: &str) -> Result<V, ConfigError> {
    V::parse(text.trim()).ok_or_else(|| ConfigError::Value {
        key: key.to_owned(),
        value: text.to_owned(),
        expected: V::EXPECTED,
    })
}
