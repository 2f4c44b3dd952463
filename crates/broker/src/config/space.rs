//! Limits of disk space from their keys. Bounds are applied where the limits are used, in `store::space`.

use store::SpaceLimits;

use super::{BrokerConfig, ConfigError};

impl BrokerConfig {
    /// What `store` decides by. The keys named like Java's system properties are parts of 1 and win over the percent keys.
    pub fn space_limits(&self) -> SpaceLimits {
        let property = |text: &str, percent: i32| fraction(text).unwrap_or(f64::from(percent) / 100.0);
        SpaceLimits {
            warning_ratio: property(&self.property_warning_level_ratio, self.disk_space_warning_level_ratio),
            forcible_ratio: property(&self.property_clean_forcibly_ratio, self.disk_space_clean_forcibly_ratio),
            max_used_ratio: f64::from(self.disk_max_used_space_ratio) / 100.0,
            reserved_bytes: u64::try_from(self.disk_reserved_bytes).ok(),
            may_force: self.clean_file_forcibly_enable,
            replicas_per_partition: self.replicas_per_disk_partition.max(1) as u64,
            logical_forcible_ratio: self.logical_disk_space_clean_forcibly_threshold,
        }
    }

    pub(super) fn check_space(&self) -> Result<(), ConfigError> {
        let ratios = [
            ("rocketmq.broker.diskSpaceWarningLevelRatio", &self.property_warning_level_ratio),
            ("rocketmq.broker.diskSpaceCleanForciblyRatio", &self.property_clean_forcibly_ratio),
        ];
        match ratios.into_iter().find(|(_, text)| !text.is_empty() && fraction(text).is_none()) {
            None => Ok(()),
            Some((key, text)) => Err(ConfigError::Value {
                key: key.into(),
                value: text.clone(),
                expected: "a part of 1, like 0.9 (the key without 'rocketmq.broker.' is in percent)",
            }),
        }
    }
}

fn fraction(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_keys_and_javas_properties() {
        let mut config = BrokerConfig::default();
        assert_eq!(config.space_limits(), SpaceLimits::default());
        config.apply("diskSpaceWarningLevelRatio=80\ndiskReservedBytes=5\nreplicasPerDiskPartition=2").unwrap();
        let limits = config.space_limits();
        assert_eq!((limits.warning_ratio, limits.reserved_bytes, limits.replicas_per_partition), (0.8, Some(5), 2));
        config.apply("rocketmq.broker.diskSpaceWarningLevelRatio=0.7").unwrap();
        assert_eq!(config.space_limits().warning_ratio, 0.7);
        config.apply("rocketmq.broker.diskSpaceWarningLevelRatio=70").unwrap();
        let error = config.finish().unwrap_err().to_string();
        assert!(error.contains("rocketmq.broker.diskSpaceWarningLevelRatio") && error.contains("0.9"), "{error}");
    }
}
