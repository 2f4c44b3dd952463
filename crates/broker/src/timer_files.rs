//! Timer state that this broker carries for its peers: `timermetrics` and `timercheck`, as a master told them.
//! It delivers no timer message. Source: `store/.../timer/TimerMetrics.java`, `TimerCheckpoint.java`.

use std::{fs, path::PathBuf};

use parking_lot::RwLock;
use wire::json::Json;

use crate::persist::{self, PersistError};

const CHECK_POINT_FILE: usize = 4096;
/// Bytes of a check point on the wire.
pub const CHECK_POINT: usize = 56;

/// Both files.
pub struct TimerFiles {
    metrics: RwLock<Option<String>>,
    check_point: RwLock<Option<[u8; CHECK_POINT]>>,
    metrics_file: PathBuf,
    check_point_file: PathBuf,
}

impl TimerFiles {
    /// Loads both where they exist.
    pub fn load(config_dir: PathBuf) -> Result<Self, PersistError> {
        let metrics_file = config_dir.join("timermetrics");
        let check_point_file = config_dir.join("timercheck");
        let metrics = fs::read(&metrics_file).ok().filter(|bytes| Json::parse(bytes).is_ok());
        let check_point = fs::read(&check_point_file).ok().and_then(|bytes| bytes.first_chunk().copied());
        Ok(Self {
            metrics: RwLock::new(metrics.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
            check_point: RwLock::new(check_point),
            metrics_file,
            check_point_file,
        })
    }

    /// Metrics as JSON, empty ones where none are known.
    pub fn metrics_json(&self) -> String {
        let empty = || r#"{"dataVersion":{"counter":0,"stateVersion":0,"timestamp":0},"timingCount":{}}"#.to_owned();
        self.metrics.read().clone().unwrap_or_else(empty)
    }

    /// The check point, once one is known.
    pub fn check_point(&self) -> Option<[u8; CHECK_POINT]> {
        *self.check_point.read()
    }

    /// Takes a master's metrics; writes only what differs.
    pub fn adopt_metrics(&self, text: &str) -> Result<(), PersistError> {
        let mut metrics = self.metrics.write();
        if metrics.as_deref() == Some(text) {
            return Ok(());
        }
        persist::save_text(&self.metrics_file, text)?;
        *metrics = Some(text.to_owned());
        Ok(())
    }

    /// Takes a master's check point (at least 32 bytes; older masters send no version); writes only what differs.
    pub fn adopt_check_point(&self, bytes: &[u8]) -> Result<(), PersistError> {
        if bytes.len() < 32 {
            return Ok(());
        }
        let mut point = [0; CHECK_POINT];
        let length = bytes.len().min(CHECK_POINT);
        point[..length].copy_from_slice(&bytes[..length]);
        let mut known = self.check_point.write();
        if *known == Some(point) {
            return Ok(());
        }
        let mut file = point.to_vec();
        file.resize(CHECK_POINT_FILE, 0);
        fs::write(&self.check_point_file, file)
            .map_err(|source| PersistError::Io { path: self.check_point_file.clone(), source })?;
        *known = Some(point);
        Ok(())
    }
}
