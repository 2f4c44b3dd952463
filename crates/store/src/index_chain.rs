//! The entries of one slot of an index file, newest first, walked without a lock: those that are not written yet are copied
//! when the look-up begins. Source: `IndexFile.java` (selectPhyOffset); reference store 17. Writes nothing.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::File,
    error::{IoContext, StoreError},
    index_format::{ENTRY, Geometry, HEADER, Header, IndexEntry, SLOT},
    queue::get_i32,
};

/// Where a look-up begins, and what it needs to go on.
pub(crate) struct Chain {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    pub(crate) geometry: Geometry,
    pub(crate) header: Header,
    pub(crate) hash: i32,
    /// Number of the newest entry; `None` for a file that is full: its slots in the file change no more.
    pub(crate) first: Option<i32>,
    /// Entries that are not in the file, from number `written` on.
    pub(crate) pending: Vec<u8>,
    pub(crate) written: i32,
}

impl Chain {
    /// True when the file holds times of [`begin`, `end`].
    pub(crate) fn matches_time(&self, begin: i64, end: i64) -> bool {
        !self.knows_times() || (begin <= self.header.end_timestamp && end >= self.header.begin_timestamp)
    }

    /// False for a file that was made again while none of its records told its time: it answers for any time.
    pub(crate) fn knows_times(&self) -> bool {
        self.header.begin_timestamp > 0
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Adds physical offsets of records with a key of the hash until there are `max`. Each entry takes one of `left`; false when
    /// none is left.
    pub(crate) fn select(
        &self,
        begin: i64,
        end: i64,
        max: usize,
        out: &mut Vec<i64>,
        left: &mut usize,
    ) -> Result<bool, StoreError> {
        let mut number = self.first.map_or_else(|| read_slot(&*self.file, &self.path, self.geometry, self.hash), Ok)?;
        while out.len() < max && (1..self.header.next_entry).contains(&number) {
            if *left == 0 {
                return Ok(false);
            }
            *left -= 1;
            let entry = self.entry(number)?;
            if entry.seconds < 0 {
                break;
            }
            let time = self.header.begin_timestamp.saturating_add(i64::from(entry.seconds) * 1000);
            if entry.hash == self.hash && (!self.knows_times() || (begin..=end).contains(&time)) {
                out.push(entry.physical);
            }
            if entry.previous >= number || (self.knows_times() && time < begin) {
                break;
            }
            number = entry.previous;
        }
        Ok(true)
    }

    fn entry(&self, number: i32) -> Result<IndexEntry, StoreError> {
        let waiting = usize::try_from(number - self.written).ok();
        if let Some(bytes) = waiting.and_then(|number| self.pending.get(number * ENTRY..(number + 1) * ENTRY)) {
            return Ok(IndexEntry::decode(bytes));
        }
        let mut bytes = [0; ENTRY];
        self.file.read_exact_at(self.geometry.entry_at(number), &mut bytes).at("read", &self.path)?;
        Ok(IndexEntry::decode(&bytes))
    }
}

/// Number of the newest entry in the slot of a hash, as the file has it.
pub(crate) fn read_slot(file: &dyn File, path: &Path, geometry: Geometry, hash: i32) -> Result<i32, StoreError> {
    let (mut bytes, slot) = ([0; SLOT], hash.max(0) as u64 % u64::from(geometry.slots));
    file.read_exact_at(HEADER + slot * SLOT as u64, &mut bytes).at("read", path)?;
    Ok(get_i32(&bytes, 0))
}
