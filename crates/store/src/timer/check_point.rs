//! `config/timercheck`: how far the timer is. Source: `store/.../timer/TimerCheckpoint.java`; reference store 22.4.

use std::path::Path;

use wire::record::body_crc;

use crate::{
    disk::Disk,
    error::{IoContext, StoreError},
    queue::get_i64,
};

/// Bytes of a check point on the wire.
pub const TIMER_CHECK_POINT: usize = 56;
const FILE: usize = 4096;
/// The file is written in one sector, so that it is never torn.
const SECTOR: usize = 512;
const AT_PROOFS: usize = 64;
const PROOF: usize = 24;
const MOST_PROOFS: usize = (SECTOR - AT_PROOFS) / PROOF;

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
    pub(crate) fn load(disk: &dyn Disk, root: &Path) -> Result<(Option<Self>, Proofs), StoreError> {
        let path = root.join("config/timercheck");
        if !disk.exists(&path) {
            return Ok((None, Proofs::default()));
        }
        let file = disk.open(&path, false).at("open", &path)?;
        let length = (file.len().at("size", &path)? as usize).min(SECTOR);
        let mut bytes = vec![0; length];
        file.read_exact_at(0, &mut bytes).at("read", &path)?;
        let point = Self::decode(&bytes).filter(|point| *point != Self::default());
        Ok((point, Proofs::decode(&bytes)))
    }

    /// Writes the file, in place and within one sector, and returns when it is durable.
    pub(super) fn store(&self, proofs: &Proofs, disk: &dyn Disk, root: &Path) -> Result<(), StoreError> {
        let dir = root.join("config");
        let path = dir.join("timercheck");
        let new = !disk.exists(&path);
        disk.create_dir_all(&dir).at("create", &dir)?;
        let file = disk.open(&path, true).at("open", &path)?;
        if new || file.len().at("size", &path)? < FILE as u64 {
            file.set_len(FILE as u64).at("size", &path)?;
        }
        file.write_all_at(0, &proofs.encode(&self.encode())).at("write", &path)?;
        file.sync().at("sync", &path)?;
        if new {
            disk.sync_dir(&dir).at("sync", &dir)?;
            disk.sync_dir(root).at("sync", root)?;
        }
        Ok(())
    }
}

/// One of the states that the timer was in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Proof {
    /// Where in the commit log the copies end that the rest stands on.
    pub(super) log_end: i64,
    /// Slots before this time are delivered, ms.
    pub(super) read_ms: i64,
    /// Messages before this queue offset are in the timer log or delivered.
    pub(super) queue_offset: i64,
}

/// Some former states, oldest first, at bytes 64 to 511 of the file. When the log is cut, delivery goes back to one whose
/// copies are all there. Byte 56 has the CRC of all the rest, as of a message's body: Java leaves them as they are, and
/// once it has written its own fields they count no longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proofs(Vec<Proof>);

impl Proofs {
    pub(super) fn add(&mut self, new: Proof) {
        // After the clock or the log went back.
        self.0.retain(|old| {
            old.log_end <= new.log_end && old.read_ms <= new.read_ms && old.queue_offset <= new.queue_offset
        });
        match self.0.last_mut() {
            Some(last) if (last.read_ms, last.queue_offset) == (new.read_ms, new.queue_offset) => return,
            Some(last) if last.log_end == new.log_end => *last = new,
            _ => self.0.push(new),
        }
        if self.0.len() > MOST_PROOFS {
            // Every other one of the older half, so that some reach far back.
            let mut number = 0;
            self.0.retain(|_| {
                number += 1;
                number > MOST_PROOFS / 2 || number % 2 == 1
            });
        }
    }

    /// The newest state, `point`, or a former one where the log ends before the copies that it stands on.
    pub(super) fn fitted(&self, mut point: TimerCheckPoint, log_end: i64) -> TimerCheckPoint {
        if self.0.last().is_some_and(|last| last.log_end > log_end) {
            let found = self.0.iter().rev().find(|proof| proof.log_end <= log_end).copied().unwrap_or_default();
            point.last_read_ms = point.last_read_ms.min(found.read_ms);
            point.last_timer_queue_offset = point.last_timer_queue_offset.min(found.queue_offset);
        }
        point
    }

    /// What lies beyond the end of the log proves nothing.
    pub(super) fn cut(&mut self, log_end: i64) {
        self.0.retain(|proof| proof.log_end <= log_end);
    }

    fn encode(&self, point: &[u8; TIMER_CHECK_POINT]) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        bytes[..TIMER_CHECK_POINT].copy_from_slice(point);
        for (row, proof) in bytes[AT_PROOFS..].chunks_exact_mut(PROOF).zip(&self.0) {
            row[..8].copy_from_slice(&proof.log_end.to_be_bytes());
            row[8..16].copy_from_slice(&proof.read_ms.to_be_bytes());
            row[16..].copy_from_slice(&proof.queue_offset.to_be_bytes());
        }
        let sum = sum(&bytes);
        bytes[TIMER_CHECK_POINT..AT_PROOFS].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        if bytes.len() < SECTOR || get_i64(bytes, TIMER_CHECK_POINT) != sum(bytes) {
            return Self::default();
        }
        let rows = bytes[AT_PROOFS..SECTOR].chunks_exact(PROOF);
        let proof = |row| Proof { log_end: get_i64(row, 0), read_ms: get_i64(row, 8), queue_offset: get_i64(row, 16) };
        Self(rows.map(proof).take_while(|proof| *proof != Proof::default()).collect())
    }
}

fn sum(bytes: &[u8]) -> i64 {
    let mut rest = bytes[..SECTOR].to_vec();
    rest[TIMER_CHECK_POINT..AT_PROOFS].fill(0);
    i64::from(body_crc(&rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    #[test]
    fn the_file_and_short_forms() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(TimerCheckPoint::load(&RealDisk, dir.path()).unwrap(), (None, Proofs::default()));
        let point = TimerCheckPoint {
            last_read_ms: 1_795_492_663_000,
            last_timer_log_flush_pos: 9880,
            last_timer_queue_offset: 189,
            master_timer_queue_offset: 190,
            version: [0, 1_795_492_663_215, 134],
        };
        let mut proofs = Proofs::default();
        let proof = |number| Proof { log_end: number * 50, read_ms: number * 1000, queue_offset: number };
        (1..=100).for_each(|number| proofs.add(proof(number)));
        assert!(
            proofs.0.len() <= MOST_PROOFS && proofs.0[0] == proof(1) && proofs.0.ends_with(&[proof(99), proof(100)])
        );
        let fitted = [49, 99, 4950, 5000].map(|log_end| proofs.fitted(point, log_end));
        assert_eq!(fitted.map(|point| point.last_timer_queue_offset), [0, 1, 99, 189]);
        assert_eq!(fitted.map(|point| point.last_read_ms), [0, 1000, 99_000, point.last_read_ms]);
        point.store(&proofs, &RealDisk, dir.path()).unwrap();
        let bytes = std::fs::read(dir.path().join("config/timercheck")).unwrap();
        assert_eq!((bytes.len(), get_i64(&bytes, 24), get_i64(&bytes, 48)), (4096, 190, 134));
        assert_eq!(TimerCheckPoint::load(&RealDisk, dir.path()).unwrap(), (Some(point), proofs));
        let mut javas = bytes.clone();
        javas[7] += 1;
        std::fs::write(dir.path().join("config/timercheck"), javas).unwrap();
        assert_eq!(TimerCheckPoint::load(&RealDisk, dir.path()).unwrap().1, Proofs::default());
        assert_eq!(TimerCheckPoint::decode(&bytes[..32]).unwrap().version, [0, 0, 0]);
        assert_eq!(TimerCheckPoint::decode(&bytes[..31]), None);
        std::fs::write(dir.path().join("config/timercheck"), [7; 9]).unwrap();
        assert_eq!(TimerCheckPoint::load(&RealDisk, dir.path()).unwrap(), (None, Proofs::default()));
    }
}
