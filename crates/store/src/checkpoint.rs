//! The `checkpoint` file: how far everything was durable, as times of stored messages and as an offset.
//! Source: `StoreCheckpoint.java`; reference store 18, Java 5.5 adds byte 40.

use std::path::{Path, PathBuf};

use crate::{
    disk::{Disk, list_sorted},
    error::{IoContext, StoreError},
    index::Flushed,
    queue::get_i64,
};

const SIZE: usize = 4096;
const MARGIN_MS: i64 = 3000;

/// Content of the file. Times are store timestamps in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log is durable up to the records of this time; where index files are filled, up to the first of the last one.
    pub physic_msg_timestamp: i64,
    /// Consume queues are durable up to the records of this time.
    pub logics_msg_timestamp: i64,
    /// Full index files are durable up to the records of this time.
    pub index_msg_timestamp: i64,
    /// What the master said it had flushed.
    pub master_flushed_offset: i64,
    /// Where what is proven ends. A Java broker in controller mode builds queues and index from here on: of an older
    /// place it would enter the keys of all that follows a second time.
    pub confirm_phy_offset: i64,
    /// Start of the last record whose queue unit is durable; 0 = not known, as before Java 5.5.
    pub logics_physical_offset: i64,
    /// Byte 48, ours alone: equal to byte 40 when a Tandem broker wrote that. Then queues, index and log are durable up
    /// to exactly there; a Java broker's offset says so of queues only, and leaves this as it finds it.
    pub(crate) own_proof: i64,
    /// Byte 56, ours alone: start of a record that was durable in the log, whatever became of its views. When it is
    /// whole and the log seems to end before it, the log is damaged, not cut short by a crash.
    pub(crate) log_proof: i64,
}

impl Checkpoint {
    /// Reads `root/checkpoint`; what is missing counts as 0.
    pub(crate) fn load(disk: &dyn Disk, root: &Path) -> Result<Self, StoreError> {
        let path = path(root);
        if !disk.exists(&path) {
            // Of a new store nobody need be told.
            if list_sorted(disk, &root.join("consumequeue")).is_ok_and(|queues| !queues.is_empty()) {
                tracing::info!(file = %path.display(), "no checkpoint: an unclean start would read the log from its first segment");
            }
            return Ok(Self::default());
        }
        let mut buf = [0; 64];
        let file = disk.open(&path, false).at("open", &path)?;
        let mut read = 0;
        while read < buf.len() {
            match file.read_at(read as u64, &mut buf[read..]).at("read", &path)? {
                0 => break,
                more => read += more,
            }
        }
        Ok(Self::decode(&buf))
    }

    fn decode(buf: &[u8; 64]) -> Self {
        let field = |number: usize| get_i64(buf, number * 8);
        Self {
            physic_msg_timestamp: field(0),
            logics_msg_timestamp: field(1),
            index_msg_timestamp: field(2),
            master_flushed_offset: field(3),
            confirm_phy_offset: field(4),
            logics_physical_offset: field(5),
            own_proof: field(6),
            log_proof: field(7),
        }
    }

    fn encode(&self) -> [u8; SIZE] {
        let mut buf = [0; SIZE];
        let fields = [
            self.physic_msg_timestamp,
            self.logics_msg_timestamp,
            self.index_msg_timestamp,
            self.master_flushed_offset,
            self.confirm_phy_offset,
            self.logics_physical_offset,
            self.own_proof,
            self.log_proof,
        ];
        for (number, field) in fields.into_iter().enumerate() {
            buf[number * 8..number * 8 + 8].copy_from_slice(&field.to_be_bytes());
        }
        buf
    }

    /// Writes it and returns when it is durable. In place, in one sector, as Java does.
    pub(crate) fn store(&self, disk: &dyn Disk, root: &Path) -> Result<(), StoreError> {
        let path = path(root);
        let new = !disk.exists(&path);
        let file = disk.open(&path, true).at("open", &path)?;
        file.write_all_at(0, &self.encode()).at("write", &path)?;
        file.sync().at("sync", &path)?;
        if new { disk.sync_dir(root).at("sync", root) } else { Ok(()) }
    }

    /// Everything up to the record that starts at `start` and ends at `end` is durable.
    pub(crate) fn prove(&mut self, start: i64, end: i64, store_timestamp: i64, index: Flushed) {
        self.confirm_phy_offset = end;
        self.physic_msg_timestamp = store_timestamp;
        self.reach_back(index.filling_since);
        self.logics_msg_timestamp = store_timestamp;
        self.logics_physical_offset = start;
        self.own_proof = start;
        self.log_proof = self.log_proof.max(start);
        self.index_msg_timestamp = self.index_msg_timestamp.max(index.full_timestamp);
    }

    /// After a kill a Java broker deletes the index file that is being filled, and indexes what it reads: it must read from
    /// before that file's first record.
    pub(crate) fn reach_back(&mut self, filling_since: Option<i64>) {
        self.physic_msg_timestamp = self.physic_msg_timestamp.min(filling_since.unwrap_or(i64::MAX));
    }

    /// The record up to which queues and index are known to be durable, byte by byte.
    pub(crate) fn exact_proof(&self) -> Option<i64> {
        (self.own_proof > 0 && self.own_proof == self.logics_physical_offset).then_some(self.own_proof)
    }

    /// What a former process wrote may be in the page cache only: makes it durable before recovery acts on it.
    pub(crate) fn settle(disk: &dyn Disk, root: &Path) -> Result<(), StoreError> {
        let path = path(root);
        if !disk.exists(&path) {
            return Ok(());
        }
        disk.open(&path, false).at("open", &path)?.sync().at("sync", &path)
    }

    /// Everything stored up to this time is durable, in the log and in the queues.
    pub fn min_timestamp(&self) -> i64 {
        self.physic_msg_timestamp.min(self.logics_msg_timestamp).saturating_sub(MARGIN_MS).max(0)
    }
}

fn path(root: &Path) -> PathBuf {
    root.join("checkpoint")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    #[test]
    fn as_java_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Checkpoint::load(&RealDisk, dir.path()).unwrap(), Checkpoint::default());
        let checkpoint = Checkpoint {
            physic_msg_timestamp: 10_000,
            logics_msg_timestamp: 9_000,
            index_msg_timestamp: 3,
            master_flushed_offset: 4,
            confirm_phy_offset: 5,
            logics_physical_offset: 6,
            own_proof: 6,
            log_proof: 7,
        };
        checkpoint.store(&RealDisk, dir.path()).unwrap();
        let bytes = std::fs::read(dir.path().join("checkpoint")).unwrap();
        assert_eq!((bytes.len(), get_i64(&bytes, 8), get_i64(&bytes, 40)), (4096, 9_000, 6));
        assert_eq!(Checkpoint::load(&RealDisk, dir.path()).unwrap(), checkpoint);
        assert_eq!((checkpoint.min_timestamp(), Checkpoint::default().min_timestamp()), (6_000, 0));
    }

    #[test]
    fn a_short_file_counts_as_zeros() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("checkpoint"), 7i64.to_be_bytes()).unwrap();
        let found = Checkpoint::load(&RealDisk, dir.path()).unwrap();
        assert_eq!(found, Checkpoint { physic_msg_timestamp: 7, ..Checkpoint::default() });
    }
}
