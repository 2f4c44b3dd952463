//! Values that are of the right kind and mean nothing all the same: an address without a port, an hour that is none.

use super::{BrokerConfig, ConfigError};

/// Bits of a permission: read, write, inherit.
const PERMISSIONS: std::ops::RangeInclusive<i32> = 0..=7;

const TEXT: &str = "a text that is not empty";
const TIME: &str = "milliseconds, 1 or more";
const HOURS: &str = "hours of the day like 04 or 04;16, or none";

impl BrokerConfig {
    /// Names the first key whose value means nothing.
    pub(super) fn check_values(&self) -> Result<(), ConfigError> {
        let servers = "name servers like 10.0.0.1:9876;10.0.0.2:9876, or none";
        let permission = "a sum of 4 (read), 2 (write) and 1 (inherit)";
        let is_text = |text: &String| !text.trim().is_empty();
        let are_servers = |list: &String| parts(list).all(is_address);
        let are_hours = |list: &String| hours(list).is_some();
        self.check_texts(&[
            ("brokerName", &self.broker_name, &is_text, TEXT),
            ("brokerClusterName", &self.broker_cluster_name, &is_text, TEXT),
            ("brokerIP1", &self.broker_ip1, &is_text, TEXT),
            ("brokerIP2", &self.broker_ip2, &is_text, TEXT),
            ("storePathRootDir", &self.store_path_root_dir, &is_text, TEXT),
            ("namesrvAddr", &self.namesrv_addr, &are_servers, servers),
            ("deleteWhen", &self.delete_when, &are_hours, HOURS),
            ("timerCheckMetricsWhen", &self.timer_check_metrics_when, &are_hours, HOURS),
        ])?;
        let number = |key, value: i64, is_right, expected| if is_right { Ok(()) } else { refuse(key, value, expected) };
        let (heartbeat, housekeeping) = (self.ha_send_heartbeat_interval, self.ha_housekeeping_interval);
        number("haSendHeartbeatInterval", heartbeat as i64, heartbeat > 0, TIME)?;
        number("haHousekeepingInterval", housekeeping as i64, housekeeping > 0, TIME)?;
        let perm = self.broker_permission;
        number("brokerPermission", perm.into(), PERMISSIONS.contains(&perm), permission)
    }

    fn check_texts(&self, texts: &[Text<'_>]) -> Result<(), ConfigError> {
        match texts.iter().find(|(_, value, is_right, _)| !is_right(value)) {
            Some((key, value, _, expected)) => refuse(key, value, expected),
            None => Ok(()),
        }
    }
}

/// Key, value, what it must be, and that in words.
type Text<'a> = (&'a str, &'a String, &'a dyn Fn(&String) -> bool, &'static str);

fn refuse(key: &str, value: impl ToString, expected: &'static str) -> Result<(), ConfigError> {
    Err(ConfigError::Value { key: key.into(), value: value.to_string(), expected })
}

fn parts(list: &str) -> impl Iterator<Item = &str> {
    list.split(';').map(str::trim).filter(|part| !part.is_empty())
}

/// A comma or a blank is in no host: whoever wrote it meant several.
fn is_address(address: &str) -> bool {
    let is_host = |host: &str| !host.is_empty() && !host.contains([',', ' ', '\t']);
    address.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok())
}

/// The hours of a key, separated by `;`. Those that no day has are kept: they never come. `None` where one is no number.
pub(crate) fn hours(list: &str) -> Option<Vec<i64>> {
    parts(list).map(|hour| hour.parse().ok()).collect()
}
