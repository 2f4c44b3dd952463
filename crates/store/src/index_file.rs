//! One index file: a hash table of message keys. Slots and header of the file being filled live in memory and reach the
//! disk at a flush and when it is full; entries are written as they come. The header of a full file is written twice: with
//! the rest, so that a kill leaves what a Java broker reads right, and after all else is durable: the second one, which
//! says so, can be trusted after a power loss. Source: `IndexFile.java`, `IndexHeader.java`; reference store 17.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::{Disk, File},
    error::{IoContext, StoreError},
    index_chain::{Chain, read_slot},
    index_format::{ENTRY, Geometry, HEADER, Header, IndexEntry, SLOT},
    queue::get_i32,
};

/// What a disk loses at least.
const SECTOR: u64 = 512;
/// Slots are written back in pieces of this many bytes.
const PAGE: usize = 4096;
/// So many of them at once.
const MOST_PAGES: usize = 256;

/// An index file. The caller serialises writers.
pub(crate) struct IndexFile {
    path: PathBuf,
    file: Arc<dyn File>,
    geometry: Geometry,
    header: Header,
    /// All slots while the file is being filled, else empty.
    slots: Vec<i32>,
    dirty_pages: Vec<bool>,
    /// Entries not written yet, from `written` on.
    pending: Vec<u8>,
    written: i32,
    dirty: bool,
    /// As it was found: what the header tells of may not be there.
    unproven: bool,
    /// The header on disk says so.
    marked: bool,
}

impl IndexFile {
    /// Makes a file that goes on where `before` ended, and says so: a header of zeros would end a Java broker's look-ups.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        geometry: Geometry,
        before: Option<&Header>,
    ) -> Result<Self, StoreError> {
        let (end_timestamp, end_physical) = before.map_or((0, 0), |header| (header.end_timestamp, header.end_physical));
        let header = Header {
            begin_timestamp: end_timestamp,
            end_timestamp,
            begin_physical: end_physical,
            end_physical,
            used_slots: 0,
            next_entry: 1,
        };
        let make = || {
            let file = disk.open(path, true).at("create", path)?;
            file.set_len(0).at("size", path)?;
            file.set_len(geometry.file_size()).at("size", path)?;
            if before.is_some() {
                file.write_all_at(0, &header.encode()).at("write", path)?;
            }
            Ok(file)
        };
        // A file without content would end each look-up that comes to it.
        let file = make().inspect_err(|_: &StoreError| drop(disk.remove(path)))?;
        let mut index = Self::over(path, file, geometry, header);
        index.slots = vec![0; geometry.slots as usize];
        index.dirty_pages = vec![false; (geometry.slots as usize * SLOT).div_ceil(PAGE)];
        index.dirty = true;
        Ok(index)
    }

    /// Opens a file; a shorter one is extended with zeros, as Java's mapping does. One that is longer holds nothing.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, geometry: Geometry) -> Result<Self, StoreError> {
        let file = disk.open(path, false).at("open", path)?;
        let found = file.len().at("size", path)?;
        if found != geometry.file_size() {
            file.set_len(geometry.file_size()).at("size", path)?;
        }
        if found > geometry.file_size() {
            // With entries in it and its old size, it would be refused.
            file.sync().at("sync", path)?;
        }
        let mut head = [0; HEADER as usize];
        file.read_exact_at(0, &mut head).at("read", path)?;
        let mut header = Header::decode(&head);
        header.next_entry = header.next_entry.min(geometry.max_index as i32);
        let unproven = !Header::vouches(&head);
        Ok(Self { unproven, marked: unproven, ..Self::over(path, file, geometry, header) })
    }

    fn over(path: &Path, file: Arc<dyn File>, geometry: Geometry, header: Header) -> Self {
        Self {
            path: path.to_path_buf(),
            file,
            geometry,
            header,
            slots: Vec::new(),
            dirty_pages: Vec::new(),
            pending: Vec::new(),
            written: header.next_entry,
            dirty: false,
            unproven: false,
            marked: false,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn is_full(&self) -> bool {
        self.header.next_entry >= self.geometry.max_index as i32
    }

    /// Full, and all of it was durable before its header said so.
    pub(crate) fn is_proven(&self) -> bool {
        self.is_full() && !self.unproven && self.header.used_slots as u32 <= self.geometry.slots
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.header.next_entry <= 1
    }

    /// Reads the slots into memory, to fill the file further.
    pub(crate) fn load_slots(&mut self) -> Result<(), StoreError> {
        if !self.slots.is_empty() {
            return Ok(());
        }
        let mut bytes = vec![0; self.geometry.slots as usize * SLOT];
        self.file.read_exact_at(HEADER, &mut bytes).at("read", &self.path)?;
        self.slots = bytes.chunks_exact(SLOT).map(|slot| get_i32(slot, 0)).collect();
        self.dirty_pages = vec![false; bytes.len().div_ceil(PAGE)];
        Ok(())
    }

    /// Makes slots and header anew from the entries, after an unclean stop. What does not fit together or lies outside
    /// `from`..`end` in the log is dropped; `from` is where the file before this one ends. True when the first entry that
    /// was dropped is of a record at or behind `end`: then none before it is missing. Of a write that failed a part may be
    /// there, and half a place leads to another record: `has_key` is asked whether the last entry is of its record.
    pub(crate) fn rebuild(
        &mut self,
        from: i64,
        end: i64,
        store_time: &dyn Fn(i64) -> i64,
        has_key: &dyn Fn(i64, i32) -> bool,
    ) -> Result<bool, StoreError> {
        let old = self.header;
        self.slots = vec![0; self.geometry.slots as usize];
        self.dirty_pages = vec![true; (self.geometry.slots as usize * SLOT).div_ceil(PAGE)];
        let mut rebuilt = Header { next_entry: 1, begin_physical: from, end_physical: from, ..Header::default() };
        let mut chunk = vec![0; ENTRY * 4096];
        let (mut reaches_end, mut seconds, mut last) = (false, 0, None);
        'file: while rebuilt.next_entry < self.geometry.max_index as i32 {
            let left = (self.geometry.max_index as i32 - rebuilt.next_entry) as usize;
            let bytes = &mut chunk[..left.min(4096) * ENTRY];
            self.file.read_exact_at(self.geometry.entry_at(rebuilt.next_entry), bytes).at("read", &self.path)?;
            for entry in bytes.chunks_exact(ENTRY).map(IndexEntry::decode) {
                let (before, torn) = (rebuilt, self.is_torn(&rebuilt, &entry, store_time));
                if torn || !self.take_entry(&mut rebuilt, &entry, end) {
                    reaches_end = !torn && entry.hash >= 0 && entry.physical >= end;
                    break 'file;
                }
                last = Some((before, seconds, entry));
                seconds = i64::from(entry.seconds.max(0));
            }
        }
        if let Some((before, seconds_before, entry)) = last
            && !reaches_end
            && !has_key(entry.physical, entry.hash)
        {
            self.slots[entry.hash as usize % self.geometry.slots as usize] = entry.previous;
            (rebuilt, seconds) = (before, seconds_before);
        }
        self.header = rebuilt;
        self.written = rebuilt.next_entry;
        (self.dirty, self.unproven) = (true, false);
        if !self.is_empty() {
            let kept = old.begin_physical == rebuilt.begin_physical && old.begin_timestamp > 0;
            self.header.end_timestamp = store_time(rebuilt.end_physical);
            self.header.begin_timestamp = match (kept, store_time(rebuilt.begin_physical)) {
                (true, _) => old.begin_timestamp,
                // Its record has left the log: times count back from the last one.
                (false, 0) => self.header.end_timestamp.saturating_sub(seconds * 1000),
                (false, time) => time,
            };
            self.date_end(seconds);
        }
        Ok(reaches_end)
    }

    /// The next entry lies over the edge of a sector, and what is on one side of it reads as zeros.
    fn is_torn(&self, rebuilt: &Header, entry: &IndexEntry, store_time: &dyn Fn(i64) -> i64) -> bool {
        let at = self.geometry.entry_at(rebuilt.next_entry);
        let low_lost = entry.physical as u32 == 0 && entry.seconds == 0 && entry.previous == 0;
        match SECTOR - at % SECTOR {
            4 => entry.hash == 0 || low_lost,
            8 => low_lost,
            12 if entry.seconds == 0 && rebuilt.next_entry > 1 => {
                let first = store_time(rebuilt.begin_physical);
                first > 0 && store_time(entry.physical).saturating_sub(first) >= 1000
            }
            _ => false,
        }
    }

    fn take_entry(&mut self, rebuilt: &mut Header, entry: &IndexEntry, end: i64) -> bool {
        if entry.hash < 0 || entry.physical < rebuilt.end_physical || entry.physical >= end {
            return false;
        }
        let slot = &mut self.slots[entry.hash as usize % self.geometry.slots as usize];
        // Never written; a key of hash 0 at the log's first byte is not worth telling apart.
        let zero = entry.hash == 0 && entry.physical == 0;
        if *slot != entry.previous || zero {
            return false;
        }
        rebuilt.used_slots += i32::from(*slot == 0);
        *slot = rebuilt.next_entry;
        if rebuilt.next_entry == 1 {
            rebuilt.begin_physical = entry.physical;
        }
        rebuilt.end_physical = entry.physical;
        rebuilt.next_entry += 1;
        true
    }

    /// Where the record of the last entry tells no time, that entry does: without an end the file would answer for none.
    fn date_end(&mut self, seconds: i64) {
        let header = &mut self.header;
        if header.end_timestamp <= 0 && header.begin_timestamp > 0 {
            header.end_timestamp = header.begin_timestamp.saturating_add(seconds * 1000 + 999);
        }
    }

    /// Takes the newest entries out again while their records lie at or beyond `physical`.
    pub(crate) fn drop_from(&mut self, physical: i64, store_time: &dyn Fn(i64) -> i64) -> Result<(), StoreError> {
        self.load_slots()?;
        self.write_pending()?;
        self.unmark_full()?;
        while let Some(entry) = self.entry(self.header.next_entry - 1)? {
            if entry.physical < physical {
                self.header.end_physical = entry.physical;
                self.header.end_timestamp = store_time(entry.physical);
                self.date_end(entry.seconds.max(0).into());
                break;
            }
            self.set_slot(entry.hash, entry.previous);
            self.header.used_slots = self.header.used_slots.saturating_sub(i32::from(entry.previous == 0));
            self.header.next_entry -= 1;
            self.header.end_physical = self.header.begin_physical;
            self.file
                .write_all_at(self.geometry.entry_at(self.header.next_entry), &[0; ENTRY])
                .at("write", &self.path)?;
        }
        self.written = self.header.next_entry;
        self.dirty = true;
        Ok(())
    }

    /// The header must not say "full" while entries go.
    fn unmark_full(&self) -> Result<(), StoreError> {
        if !self.is_full() {
            return Ok(());
        }
        let header = Header { next_entry: self.header.next_entry - 1, ..self.header };
        self.file.write_all_at(0, &header.encode()).at("write", &self.path)?;
        self.file.sync().at("sync", &self.path)
    }

    fn set_slot(&mut self, hash: i32, value: i32) {
        let slot = hash as usize % self.geometry.slots as usize;
        self.slots[slot] = value;
        self.dirty_pages[slot * SLOT / PAGE] = true;
    }

    /// Adds a key. The file must not be full and its slots loaded.
    pub(crate) fn put(&mut self, hash: i32, physical: i64, store_timestamp: i64) {
        let number = self.header.next_entry;
        if number <= 1 {
            self.header.begin_timestamp = store_timestamp;
            self.header.begin_physical = physical;
        }
        let seconds = store_timestamp.saturating_sub(self.header.begin_timestamp) / 1000;
        let previous = self.slots[hash as usize % self.geometry.slots as usize];
        let previous = if (1..number).contains(&previous) { previous } else { 0 };
        let entry = IndexEntry { hash, physical, seconds: seconds.clamp(0, i32::MAX.into()) as i32, previous };
        self.pending.extend_from_slice(&entry.encode());
        self.set_slot(hash, number);
        self.header.used_slots = self.header.used_slots.saturating_add(i32::from(previous == 0));
        self.header.next_entry = number + 1;
        self.header.end_physical = physical;
        self.header.end_timestamp = store_timestamp;
        self.dirty = true;
    }

    /// Bytes of entries that are not written.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Hands the entries to the operating system.
    pub(crate) fn write_pending(&mut self) -> Result<(), StoreError> {
        if !self.pending.is_empty() {
            self.file.write_all_at(self.geometry.entry_at(self.written), &self.pending).at("write", &self.path)?;
            self.pending.clear();
        }
        self.written = self.header.next_entry;
        Ok(())
    }

    /// Hands everything to the operating system; returns what must be synced, `None` if nothing changed.
    pub(crate) fn write_all(&mut self) -> Result<Option<Unsynced>, StoreError> {
        if !self.dirty {
            return Ok(None);
        }
        self.write_pending()?;
        self.write_slots()?;
        // Half of a header that vouches, over one that does not, might vouch for entries that are lost.
        self.marked |= self.is_full();
        let head = if self.marked { self.header.encode_unproven() } else { self.header.encode() };
        self.file.write_all_at(0, &head).at("write", &self.path)?;
        self.dirty = false;
        let full = self.is_full().then_some(self.header);
        Ok(Some(Unsynced { path: self.path.clone(), file: self.file.clone(), full }))
    }

    /// Pages that follow each other go in one write, up to a bound.
    fn write_slots(&mut self) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        let mut page = 0;
        while page < self.dirty_pages.len() {
            let run = self.dirty_pages[page..].iter().take(MOST_PAGES).take_while(|dirty| **dirty).count();
            if run > 0 {
                let slots = &self.slots[page * PAGE / SLOT..];
                bytes.clear();
                slots.iter().take(run * PAGE / SLOT).for_each(|slot| bytes.extend_from_slice(&slot.to_be_bytes()));
                self.file.write_all_at(HEADER + (page * PAGE) as u64, &bytes).at("write", &self.path)?;
                self.dirty_pages[page..page + run].fill(false);
            }
            page += run.max(1);
        }
        Ok(())
    }

    /// The file is full and flushed: its slots need not stay in memory.
    pub(crate) fn release_slots(&mut self) {
        self.slots = Vec::new();
        self.dirty_pages = Vec::new();
    }

    /// Where a look-up of `hash` begins.
    pub(crate) fn chain(&self, hash: i32) -> Result<Chain, StoreError> {
        let slot = hash as usize % self.geometry.slots as usize;
        let first = match self.slots.get(slot) {
            Some(first) => Some(*first),
            None if self.is_full() => None,
            None => Some(read_slot(&*self.file, &self.path, self.geometry, hash)?),
        };
        Ok(Chain {
            path: self.path.clone(),
            file: self.file.clone(),
            geometry: self.geometry,
            header: self.header,
            hash,
            first,
            pending: self.pending.clone(),
            written: self.written,
        })
    }

    /// An entry, also one that is not written yet; `None` for number 0.
    fn entry(&self, number: i32) -> Result<Option<IndexEntry>, StoreError> {
        if number < 1 {
            return Ok(None);
        }
        if number >= self.written {
            let at = (number - self.written) as usize * ENTRY;
            return Ok(self.pending.get(at..at + ENTRY).map(IndexEntry::decode));
        }
        let mut bytes = [0; ENTRY];
        self.file.read_exact_at(self.geometry.entry_at(number), &mut bytes).at("read", &self.path)?;
        Ok(Some(IndexEntry::decode(&bytes)))
    }
}

/// A file that was written and is not durable yet.
pub(crate) struct Unsynced {
    path: PathBuf,
    file: Arc<dyn File>,
    /// Header of a full file, to be written once the rest is durable.
    full: Option<Header>,
}

impl Unsynced {
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync().at("sync", &self.path)?;
        let Some(header) = &self.full else { return Ok(()) };
        self.file.write_all_at(0, &header.encode()).at("write", &self.path)?;
        self.file.sync().at("sync", &self.path)
    }

    /// End time of a full file, 0 for another.
    pub(crate) fn full_timestamp(&self) -> i64 {
        self.full.map_or(0, |header| header.end_timestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    const SMALL: Geometry = Geometry { slots: 7, max_index: 50 };

    fn hits(file: &mut IndexFile, hash: i32) -> Vec<i64> {
        let mut out = Vec::new();
        file.chain(hash).unwrap().select(0, i64::MAX, 64, &mut out, &mut 1000).unwrap();
        out
    }

    fn filled(path: &Path) -> IndexFile {
        let mut file = IndexFile::create(&RealDisk, path, SMALL, None).unwrap();
        for number in 0..20 {
            file.put(number % 9, i64::from(number) * 100 + 7, 1_000_000 + i64::from(number) * 1000);
        }
        file
    }

    #[test]
    fn finds_what_was_put_before_and_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("20200101000000000");
        let mut file = filled(&path);
        assert_eq!((hits(&mut file, 1), hits(&mut file, 8)), (vec![1907, 1007, 107], vec![1707, 807]));
        file.write_all().unwrap().unwrap().sync().unwrap();
        assert!(file.write_all().unwrap().is_none());
        let mut again = IndexFile::open(&RealDisk, &path, SMALL).unwrap();
        assert_eq!((hits(&mut again, 1), *again.header()), (vec![1907, 1007, 107], *file.header()));
        let mut out = Vec::new();
        again.chain(1).unwrap().select(1_005_000, 1_012_000, 64, &mut out, &mut 1000).unwrap();
        assert_eq!(out, [1007]);
    }

    #[test]
    fn dropping_the_newest_is_an_exact_undo() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = filled(&dir.path().join("20200101000000000"));
        file.drop_from(1000, &|physical| physical).unwrap();
        assert_eq!((hits(&mut file, 1), hits(&mut file, 8), file.header().next_entry), (vec![107], vec![807], 11));
        assert_eq!((file.header().end_physical, file.header().end_timestamp), (907, 907));
        file.drop_from(0, &|physical| physical).unwrap();
        assert!(file.is_empty() && hits(&mut file, 1).is_empty() && file.header().used_slots == 0);
    }

    #[test]
    fn rebuilds_from_entries_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("20200101000000000");
        let mut file = filled(&path);
        file.write_pending().unwrap();
        let slots = file.slots.clone();
        drop(file);
        let mut again = IndexFile::open(&RealDisk, &path, SMALL).unwrap();
        assert!(hits(&mut again, 1).is_empty());
        again.rebuild(0, 1_900, &|physical| physical / 100 * 1000 + 1_000_000, &|_, _| true).unwrap();
        assert_eq!((again.header().next_entry, again.header().end_physical), (20, 1807));
        assert_eq!((hits(&mut again, 1), again.header().begin_timestamp), (vec![1007, 107], 1_000_000));
        again.put(19 % 9, 1907, 1_019_000);
        assert_eq!(again.slots, slots);
    }

    /// A start writes what it found over the header of a full file that lost entries. The write may fail in the middle.
    #[test]
    fn no_half_of_a_header_vouches_for_what_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("20200101000000000");
        let header = || std::fs::read(&path).unwrap()[..HEADER as usize].to_vec();
        for kept in [1, 15, 40] {
            let mut file = IndexFile::create(&RealDisk, &path, SMALL, None).unwrap();
            (1..50).for_each(|number| file.put(number % 6, number.into(), 1000));
            file.write_all().unwrap().unwrap();
            let before = header();
            let mut found = IndexFile::open(&RealDisk, &path, SMALL).unwrap();
            assert!(found.is_full() && !found.is_proven());
            found.rebuild(0, kept, &|_| 1000, &|_, _| true).unwrap();
            found.write_all().unwrap().unwrap().sync().unwrap();
            let after = header();
            assert_eq!(Header::decode(&after), *found.header());
            for half in 0..=HEADER as usize {
                let torn = [&after[..half], &before[half..]].concat();
                crate::Disk::open(&RealDisk, &path, false).unwrap().write_all_at(0, &torn).unwrap();
                assert!(!IndexFile::open(&RealDisk, &path, SMALL).unwrap().is_proven(), "{kept}, {half} bytes");
            }
        }
    }

    #[test]
    fn a_rebuilt_file_that_knows_no_time_answers_for_any() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("20200101000000000");
        let mut file = filled(&path);
        file.write_pending().unwrap();
        let mut again = IndexFile::open(&RealDisk, &path, SMALL).unwrap();
        again.rebuild(0, 1_900, &|_| 0, &|_, _| true).unwrap();
        let (chain, mut out) = (again.chain(1).unwrap(), Vec::new());
        assert!(chain.matches_time(500_000, i64::MAX));
        chain.select(500_000, i64::MAX, 10, &mut out, &mut 1000).unwrap();
        assert_eq!(out, [1007, 107]);
    }

    #[test]
    fn a_file_whose_last_record_tells_no_time_answers_for_its_times() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("20200101000000000");
        let mut file = filled(&path);
        file.write_pending().unwrap();
        let time = |physical: i64| physical / 100 * 1000 + 1_000_000;
        let mut again = IndexFile::open(&RealDisk, &path, SMALL).unwrap();
        again.rebuild(0, 1_900, &|physical| if physical < 1_700 { time(physical) } else { 0 }, &|_, _| true).unwrap();
        assert_eq!(again.header().end_timestamp, time(1_807) + 999);
        again.drop_from(1_000, &|_| 0).unwrap();
        assert_eq!(again.header().end_timestamp, time(907) + 999);
        let (chain, mut out) = (again.chain(1).unwrap(), Vec::new());
        assert!(chain.matches_time(500_000, i64::MAX));
        chain.select(500_000, i64::MAX, 10, &mut out, &mut 1000).unwrap();
        assert_eq!(out, [107]);
    }

    /// With a beginning in 1970 a look-up in a range of times would find nothing in it.
    #[test]
    fn a_rebuilt_file_whose_first_record_has_left_the_log_keeps_its_times() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("20200101000000000");
        let mut file = IndexFile::create(&RealDisk, &path, SMALL, None).unwrap();
        (1..6).for_each(|number| file.put(number, number.into(), 1_000_000 + 1000 * i64::from(number)));
        file.write_pending().unwrap();
        let mut again = IndexFile::open(&RealDisk, &path, SMALL).unwrap();
        again
            .rebuild(0, 100, &|physical| if physical < 3 { 0 } else { 1_000_000 + 1000 * physical }, &|_, _| true)
            .unwrap();
        assert_eq!((again.header().begin_timestamp, again.header().end_timestamp), (1_001_000, 1_005_000));
    }
}
