//! What is in an index file, as bytes: its head, its entries, and where they lie. Source: `IndexHeader.java`, `IndexFile.java`;
//! reference store 17.

use crate::queue::{get_i32, get_i64};

pub(crate) const HEADER: u64 = 40;
pub(crate) const ENTRY: usize = 20;
pub(crate) const SLOT: usize = 4;

/// Head of an index file. On disk the count of used slots is negative from when the file is full until what is in it is
/// durable: nobody reads that count to find a key, a Java broker least of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) begin_timestamp: i64,
    pub(crate) end_timestamp: i64,
    pub(crate) begin_physical: i64,
    pub(crate) end_physical: i64,
    pub(crate) used_slots: i32,
    /// Number of the next entry; the first is 1.
    pub(crate) next_entry: i32,
}

impl Header {
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let next_entry = get_i32(bytes, 36).max(1);
        Self {
            begin_timestamp: get_i64(bytes, 0),
            end_timestamp: get_i64(bytes, 8),
            begin_physical: get_i64(bytes, 16),
            end_physical: get_i64(bytes, 24),
            used_slots: if next_entry == 1 { 0 } else { get_i32(bytes, 32).saturating_abs() },
            next_entry,
        }
    }

    /// True where a file with so many used slots may have this header: old Java brokers (seen: 4.3.2, 4.5.2; no longer 4.7.1)
    /// count each entry, also in a file that another broker began.
    pub(crate) fn may_count(&self, used: i32) -> bool {
        (used..self.next_entry.max(used + 1)).contains(&self.used_slots)
    }

    /// False where a header says of itself that the entries it tells of may be lost.
    pub(crate) fn vouches(bytes: &[u8]) -> bool {
        get_i32(bytes, 32) >= 0
    }

    /// The header of a full file before what it tells of is durable, and of one that lost entries since then.
    pub(crate) fn encode_unproven(&self) -> [u8; HEADER as usize] {
        Self { used_slots: -self.used_slots.max(1), ..*self }.encode()
    }

    pub(crate) fn encode(&self) -> [u8; HEADER as usize] {
        let mut bytes = [0; HEADER as usize];
        let words = [self.begin_timestamp, self.end_timestamp, self.begin_physical, self.end_physical];
        for (number, word) in words.into_iter().enumerate() {
            bytes[number * 8..number * 8 + 8].copy_from_slice(&word.to_be_bytes());
        }
        bytes[32..36].copy_from_slice(&self.used_slots.to_be_bytes());
        bytes[36..].copy_from_slice(&self.next_entry.to_be_bytes());
        bytes
    }
}

/// One entry: a key of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) hash: i32,
    pub(crate) physical: i64,
    pub(crate) seconds: i32,
    pub(crate) previous: i32,
}

impl IndexEntry {
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        Self {
            hash: get_i32(bytes, 0),
            physical: get_i64(bytes, 4),
            seconds: get_i32(bytes, 12),
            previous: get_i32(bytes, 16),
        }
    }

    pub(crate) fn encode(&self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..4].copy_from_slice(&self.hash.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.physical.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[16..].copy_from_slice(&self.previous.to_be_bytes());
        bytes
    }
}

/// Sizes that all files of a store share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub(crate) slots: u32,
    pub(crate) max_index: u32,
}

impl Geometry {
    pub(crate) fn entry_at(self, number: i32) -> u64 {
        HEADER + u64::from(self.slots) * SLOT as u64 + number as u64 * ENTRY as u64
    }

    /// Bytes of a file.
    pub(crate) fn file_size(self) -> u64 {
        HEADER + u64::from(self.slots) * SLOT as u64 + u64::from(self.max_index) * ENTRY as u64
    }
}
