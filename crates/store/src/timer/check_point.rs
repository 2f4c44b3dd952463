//! `config/timercheck`: how far the timer is. Source: `store/.../timer/TimerCheckpoint.java`; reference store 22.4.

use std::path::Path;

use crate::{
    disk::Disk,
    error::{IoContext, StoreError},
    queue::get_i64,
};

/// Bytes of a check point on the wire.
pub const TIMER_CHECK_POINT: usize = 56;
const FILE: usize = 4096;

/// How far a timer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerCheckPoint {
    /// Slots before this time are delivered, ms.
    pub last_read_ms: i64,
    /// The timer log is durable up to here.
    pub last_timer_log_flush_pos: i64,
    /// Messages of the timer topic before this queue offset are in the timer log or delivered.
    pub last_timer_queue_offset: i64,
    /// The same at the master.
    pub master_timer_queue_offset: i64,
    /// `dataVersion`: state version, time in ms, counter.
    pub version: [i64; 3],
}

impl TimerCheckPoint {
    /// From the wire or the file; the version may be missing, as from old masters. `None` for too few bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 32 {
            return None;
        }
        let field = |number: usize| if bytes.len() >= number * 8 + 8 { get_i64(bytes, number * 8) } else { 0 };
        Some(Self {
            last_read_ms: field(0),
            last_timer_log_flush_pos: field(1),
            last_timer_queue_offset: field(2),
            master_timer_queue_offset: field(3),
            version: [field(4), field(5), field(6)],
        })
    }

    /// As peers get it.
    pub fn encode(&self) -> [u8; TIMER_CHECK_POINT] {
        let fields = [
            self.last_read_ms,
            self.last_timer_log_flush_pos,
            self.last_timer_queue_offset,
            self.master_timer_queue_offset,
            self.version[0],
            self.version[1],
            self.version[2],
        ];
        let mut bytes = [0; TIMER_CHECK_POINT];
        for (number, field) in fields.into_iter().enumerate() {
            bytes[number * 8..number * 8 + 8].copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }

    /// Reads the file; a missing or short one counts as one that knows nothing.
    pub(crate) fn load(disk: &dyn Disk, root: &Path) -> Result<Option<Self>, StoreError> {
        let path = root.join("config/timercheck");
        if !disk.exists(&path) {
            return Ok(None);
        }
        let file = disk.open(&path, false).at("open", &path)?;
        let length = (file.len().at("size", &path)? as usize).min(TIMER_CHECK_POINT);
        let mut bytes = vec![0; length];
        file.read_exact_at(0, &mut bytes).at("read", &path)?;
        Ok(Self::decode(&bytes).filter(|point| *point != Self::default()))
    }

    /// Writes the file, in place and within one sector, and returns when it is durable.
    pub(super) fn store(&self, disk: &dyn Disk, root: &Path) -> Result<(), StoreError> {
        let dir = root.join("config");
        let path = dir.join("timercheck");
        let new = !disk.exists(&path);
        disk.create_dir_all(&dir).at("create", &dir)?;
        let file = disk.open(&path, true).at("open", &path)?;
        if new || file.len().at("size", &path)? < FILE as u64 {
            file.set_len(FILE as u64).at("size", &path)?;
        }
        file.write_all_at(0, &self.encode()).at("write", &path)?;
        file.sync().at("sync", &path)?;
        if new {
            disk.sync_dir(&dir).at("sync", &dir)?;
            disk.sync_dir(root).at("sync", root)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    #[test]
    fn the_file_and_short_forms() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(TimerCheckPoint::load(&RealDisk, dir.path()).unwrap(), None);
        let point = TimerCheckPoint {
            last_read_ms: 1_795_492_663_000,
            last_timer_log_flush_pos: 9880,
            last_timer_queue_offset: 189,
            master_timer_queue_offset: 190,
            version: [0, 1_795_492_663_215, 134],
        };
        point.store(&RealDisk, dir.path()).unwrap();
        let bytes = std::fs::read(dir.path().join("config/timercheck")).unwrap();
        assert_eq!((bytes.len(), get_i64(&bytes, 24), get_i64(&bytes, 48)), (4096, 190, 134));
        assert_eq!(TimerCheckPoint::load(&RealDisk, dir.path()).unwrap(), Some(point));
        assert_eq!(TimerCheckPoint::decode(&bytes[..32]).unwrap().version, [0, 0, 0]);
        assert_eq!(TimerCheckPoint::decode(&bytes[..31]), None);
        std::fs::write(dir.path().join("config/timercheck"), [7; 9]).unwrap();
        assert_eq!(TimerCheckPoint::load(&RealDisk, dir.path()).unwrap(), None);
    }
}
