//! `config/delayDelivered`: how far each level is delivered, written in place after each append without fsync. It outlives
//! a kill of the process, so that a start delivers nothing twice that this process had delivered. It is never trusted by
//! itself: an entry counts only where the log holds the copy that it names, and a clean stop removes the file. Java
//! neither knows nor needs it.
//!
//! One entry a level at byte `32 * (level - 1)`: `i64` next queue offset, `i64` physical offset of the last message that
//! was delivered, `i64` physical offset of its copy, `u32` CRC-32 of these
//! 24 bytes with the sign bit cleared, 4 bytes of zeros.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use store::Store;
use wire::{
    property,
    record::{Check, check},
    topic,
};

/// Name under `config/`.
pub const NAME: &str = "delayDelivered";
const ENTRY: usize = 32;
/// More levels than this are not read, whatever the file says.
const MOST_LEVELS: usize = 1024;

/// How far a level is, and the last copy that was written for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Next queue offset.
    pub next: i64,
    /// Physical offset of the message at `next - 1`.
    pub source: i64,
    /// Physical offset of its copy.
    pub copy: i64,
}

/// The file, open for writing.
pub struct Live {
    path: PathBuf,
    file: Option<File>,
    failing: bool,
}

impl Live {
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, failing: false }
    }

    /// Notes a delivery. When that fails, a kill may deliver some messages twice: said once.
    pub fn note(&mut self, level: i32, delivery: &Delivery) {
        let written = self.file().and_then(|file| file.write_all_at(&encode(delivery), place_of(level)));
        match written {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::warn!("{}: {error}; after a kill delayed messages may come twice", self.path.display());
            }
            Err(_) => {}
        }
    }

    fn file(&mut self) -> io::Result<&File> {
        if self.file.is_none() {
            self.file = Some(OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?);
        }
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Lets go of the file: another broker delivers now.
    pub fn close(&mut self) {
        self.file = None;
    }

    /// All whole entries of a file; none when there is no file.
    pub fn read(path: &Path) -> Vec<(i32, Delivery)> {
        let bytes = fs::read(path).unwrap_or_default();
        let entries = bytes.chunks_exact(ENTRY).take(MOST_LEVELS).zip(1..);
        entries.filter_map(|(entry, level)| Some((level, decode(entry)?))).collect()
    }

    /// Removes a file, if it is there.
    pub fn remove(path: &Path) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("{} cannot be removed: {error}; remove it by hand", path.display());
            }
            _ => {}
        }
    }
}

fn place_of(level: i32) -> u64 {
    (level - 1).max(0) as u64 * ENTRY as u64
}

fn encode(delivery: &Delivery) -> [u8; ENTRY] {
    let mut bytes = [0; ENTRY];
    bytes[..8].copy_from_slice(&delivery.next.to_be_bytes());
    bytes[8..16].copy_from_slice(&delivery.source.to_be_bytes());
    bytes[16..24].copy_from_slice(&delivery.copy.to_be_bytes());
    let crc = wire::record::body_crc(&bytes[..24]);
    bytes[24..28].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Delivery> {
    let word = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(i64::from_be_bytes);
    let delivery = Delivery { next: word(0)?, source: word(8)?, copy: word(16)? };
    (encode(&delivery)[..] == *bytes).then_some(delivery)
}

/// True when the log holds the message and, behind it, the copy that was delivered of it. After a power loss the copy
/// may be gone although the file says that it was written.
pub fn is_proven(store: &Store, level: i32, delivery: &Delivery) -> bool {
    let unit = store.queue_unit(topic::SCHEDULE, level - 1, delivery.next - 1);
    if unit.is_none_or(|unit| unit.physical_offset != delivery.source) || delivery.copy <= delivery.source {
        return false;
    }
    let (Some(source), Some(copy)) = (store.read_record(delivery.source), store.read_record(delivery.copy)) else {
        return false;
    };
    let (Check::Record(source), Check::Record(copy)) = (check(&source, true), check(&copy, true)) else { return false };
    source.property(property::REAL_TOPIC) == Some(copy.topic())
        && source.born_timestamp() == copy.born_timestamp()
        && source.properties() == copy.properties()
        && source.body() == copy.body()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_whole_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        assert!(Live::read(&path).is_empty());
        let mut live = Live::new(path.clone());
        let delivery = Delivery { next: 7, source: 100, copy: 300 };
        live.note(3, &delivery);
        assert_eq!(Live::read(&path), [(3, delivery)]);
        live.note(1, &Delivery { next: 1, ..delivery });
        assert_eq!(Live::read(&path).len(), 2);
        let bytes = fs::read(&path).unwrap();
        for at in 64..96 {
            let mut bad = bytes.clone();
            bad[at] ^= 0x40;
            fs::write(&path, &bad).unwrap();
            assert_eq!(Live::read(&path).len(), 1, "a wrong byte at {at}");
            fs::write(&path, &bytes[..at]).unwrap();
            assert_eq!(Live::read(&path).len(), 1, "cut at {at}");
        }
        Live::remove(&path);
        assert!(!path.exists());
    }
}
