//! Keys of upstream that have no field here: those that tune what is built another way (`inert_keys.txt`), and those that turn
//! on what is not there (`absent_keys.txt`). All are accepted and shown; which of them are refused: [`super::absent`].

use std::collections::BTreeMap;

use super::BrokerConfig;

const INERT: &str = include_str!("inert_keys.txt");
const ABSENT: &str = include_str!("absent_keys.txt");

fn entries(list: &str) -> impl Iterator<Item = (&str, &str)> {
    list.lines().filter_map(|line| line.split_once('='))
}

/// All of them, with upstream's defaults.
pub fn defaults() -> BTreeMap<String, String> {
    entries(INERT).chain(entries(ABSENT)).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// True for one of them.
pub fn is_known(key: &str) -> bool {
    entries(INERT).chain(entries(ABSENT)).any(|(name, _)| name == key)
}

impl BrokerConfig {
    /// Keys that were set and change nothing, as lines for the log: first what turns on something that is not there, which its
    /// owner should know.
    pub fn without_effect(&self) -> (Vec<String>, Vec<String>) {
        let changed = |list: &'static str| -> Vec<String> {
            let is_changed = |(key, default): &(&str, &str)| {
                self.other.get(*key).is_some_and(|value| !value.eq_ignore_ascii_case(default))
            };
            entries(list).filter(is_changed).map(|(key, _)| format!("{key}={}", self.other[key])).collect()
        };
        (changed(ABSENT), changed(INERT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> BrokerConfig {
        let mut config = BrokerConfig::default();
        assert_eq!(config.apply(text).unwrap(), [""; 0]);
        config
    }

    #[test]
    fn no_key_with_a_field_is_listed() {
        for (key, value) in defaults() {
            let mut config = BrokerConfig::default();
            assert_eq!(config.set(&key, &value).unwrap(), crate::config::Known::Inert, "{key}");
        }
    }

    #[test]
    fn keys_that_change_nothing_are_told_when_they_were_set() {
        let (absent, inert) = of("metricsExporterType=disable\nsendMessageThreadPoolNums=2").without_effect();
        assert_eq!((absent, inert), (vec![], vec![]), "the defaults");
        let config = of("metricsExporterType=PROM\nsendMessageThreadPoolNums=16\nlockInStrictMode= true");
        let (absent, inert) = config.without_effect();
        assert_eq!(absent, ["lockInStrictMode=true", "metricsExporterType=PROM"]);
        assert_eq!(inert, ["sendMessageThreadPoolNums=16"]);
        assert!(of("enableMixedMessageType=true").without_effect().1.is_empty(), "topics may be of that type");
    }
}
