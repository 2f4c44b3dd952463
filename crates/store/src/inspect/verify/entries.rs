//! Walks the index files beside the log: entries come in the order of their records. Checks the chains of each file while
//! it passes, with the slots of one file in memory.

use std::path::PathBuf;

use wire::record::RecordView;

use crate::{
    build::keys_of,
    disk::Disk,
    error::StoreError,
    index::TAGS_MARK,
    index_format::{Geometry, Header, IndexEntry},
    inspect::{
        index::IndexView,
        verify::{
            cursor::{Ground, Missing},
            findings::FindingKind,
        },
    },
};

/// A hash that the record in hand must or may have in the index.
struct Wanted {
    hash: i32,
    required: bool,
    seen: bool,
}

/// Where the walk is in the row of files.
pub(crate) struct EntryWalk<'a> {
    disk: &'a dyn Disk,
    paths: std::vec::IntoIter<PathBuf>,
    geometry: Option<Geometry>,
    file: Option<IndexView>,
    before: Option<Header>,
    number: i32,
    buf: Vec<IndexEntry>,
    buf_from: i32,
    slots: Vec<i32>,
    used: i32,
    last: Option<(i64, i64)>,
    /// The broker did not stop cleanly: header and slots of a file that is not full may be old.
    unclean: bool,
    wanted: Vec<Wanted>,
    pub(crate) missing: Option<Missing>,
    pub(crate) entries: u64,
    /// Header and slots of a file were not compared.
    pub(crate) table_skipped: bool,
    /// The file that is being filled does not tell its sizes yet: its entries cannot be found.
    pub(crate) sizes_unknown: bool,
}

impl<'a> EntryWalk<'a> {
    /// Begins with the first of `paths`.
    pub(crate) fn new(disk: &'a dyn Disk, paths: Vec<PathBuf>, geometry: Option<Geometry>, unclean: bool) -> Self {
        Self {
            disk,
            paths: paths.into_iter(),
            geometry,
            file: None,
            before: None,
            number: 1,
            buf: Vec::new(),
            buf_from: 1,
            slots: Vec::new(),
            used: 0,
            last: None,
            unclean,
            wanted: Vec::new(),
            missing: None,
            entries: 0,
            table_skipped: false,
            sizes_unknown: false,
        }
    }

    /// The entry at the cursor; steps to the next file where one ends.
    fn peek(&mut self, ground: &mut Ground<'_>) -> Result<Option<IndexEntry>, StoreError> {
        loop {
            if self.file.is_none() && !self.open_next(ground)? {
                return Ok(None);
            }
            let Some(file) = &self.file else { return Ok(None) };
            let full = self.geometry.is_some_and(|geometry| file.header.next_entry >= geometry.max_index as i32);
            let trusted = !self.unclean || full;
            if !trusted || self.number <= file.entries() {
                let at = (self.number - self.buf_from) as usize;
                if at >= self.buf.len() {
                    file.read(self.number, &mut self.buf)?;
                    self.buf_from = self.number;
                }
                let entry = self.buf.get((self.number - self.buf_from) as usize).copied();
                if let Some(entry) = entry.filter(|entry| trusted || self.follows(entry)) {
                    return Ok(Some(entry));
                }
            }
            if !trusted && self.paths.as_slice().is_empty() {
                // The file that is being filled: there may be more the next time.
                self.buf.clear();
                self.table_skipped = true;
                return Ok(None);
            }
            self.end_file(trusted, ground)?;
        }
    }

    /// Where the header cannot be trusted: tells an entry from zeros and from what another time left.
    fn follows(&self, entry: &IndexEntry) -> bool {
        let zero = entry.hash == 0 && entry.physical == 0 && entry.previous == 0;
        let slot = entry.hash.max(0) as usize % self.slots.len().max(1);
        !zero
            && entry.hash >= 0
            && self.last.is_none_or(|(physical, _)| entry.physical >= physical)
            && self.slots.get(slot) == Some(&entry.previous)
    }

    fn open_next(&mut self, ground: &mut Ground<'_>) -> Result<bool, StoreError> {
        while let Some(path) = self.paths.as_slice().first().cloned() {
            let file = match IndexView::open(self.disk, &path, self.geometry) {
                // Retention took it.
                Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
                other => Some(other?),
            };
            let is_last = self.paths.as_slice().len() == 1;
            if self.unclean && is_last && file.as_ref().is_some_and(|file| file.len == 0) {
                // A broker is about to give it its size: asked again.
                return Ok(false);
            }
            self.paths.next();
            let Some(file) = file else { continue };
            if file.header.next_entry <= 1 && !self.unclean {
                continue;
            }
            let Some(geometry) = file.geometry else {
                // A broker writes the head of a new file with its first flush.
                if self.unclean && file.header.next_entry <= 1 && self.paths.as_slice().is_empty() {
                    self.sizes_unknown = true;
                    return Ok(false);
                }
                ground.findings.add(FindingKind::IndexFile, 1, || {
                    format!("index {}: its header, slots and entries do not fit together; if the header is right, give maxHashSlotNum and maxIndexNum", file.name())
                });
                continue;
            };
            if file.len < geometry.file_size() {
                let (name, len) = (file.name(), file.len);
                ground.findings.add(FindingKind::IndexFile, 1, || {
                    format!("index {name}: has {len} bytes of {}", geometry.file_size())
                });
            }
            self.geometry = Some(geometry);
            self.slots = vec![0; geometry.slots as usize];
            (self.number, self.used) = (1, 0);
            self.buf.clear();
            self.buf_from = 1;
            self.file = Some(file);
            return Ok(true);
        }
        Ok(false)
    }

    fn end_file(&mut self, trusted: bool, ground: &mut Ground<'_>) -> Result<(), StoreError> {
        let (Some(file), Some(geometry)) = (self.file.take(), self.geometry) else { return Ok(()) };
        self.before = Some(file.header);
        if !trusted {
            self.table_skipped = true;
            return Ok(());
        }
        let name = file.name();
        let mut bad = |text: String| ground.findings.add(FindingKind::IndexFile, 1, || format!("index {name}: {text}"));
        let header = file.header;
        if header.next_entry > geometry.max_index as i32 {
            bad(format!("the header tells of {} entries, {} have room", header.next_entry - 1, geometry.max_index - 1));
        }
        if !header.may_count(self.used) {
            bad(format!("the header tells of {} used slots, {} are used", header.used_slots, self.used));
        }
        if let Some((physical, time)) = self.last
            && (header.end_physical, header.end_timestamp) != (physical, time)
        {
            let Header { end_physical, end_timestamp, .. } = header;
            bad(format!(
                "the header ends at {end_physical} at time {end_timestamp}, the last entry is at {physical} of {time}"
            ));
        }
        let wrong = file.slots(geometry)?.iter().zip(&self.slots).filter(|(found, want)| found != want).count();
        if wrong > 0 {
            bad(format!("{wrong} slots do not lead to their newest entry"));
        }
        Ok(())
    }

    /// Compares the entries of the record that was told to [`EntryWalk::want`]. True when some are missing and the index
    /// ends here; it may be asked again then.
    pub(crate) fn take(&mut self, record: &RecordView<'_>, ground: &mut Ground<'_>) -> Result<bool, StoreError> {
        let (at, time) = (record.physical_offset(), record.store_timestamp());
        while let Some(entry) = self.peek(ground)? {
            if entry.physical > at && !self.is_misplaced(&entry, ground)? {
                break;
            }
            if entry.physical == at {
                self.same_record(&entry, time, ground);
            } else if entry.physical > at && self.wanted.iter().any(|w| w.hash == entry.hash && !w.seen) {
                self.see(entry.hash);
                self.differs(&entry, ground, || format!("points to {}, its record is at {at}", entry.physical));
            } else {
                self.without_record(&entry, ground);
            }
            self.consume(&entry, ground);
        }
        let lacking = self.lacking();
        if lacking == 0 {
            return Ok(false);
        }
        let at_end = self.peek(ground)?.is_none();
        if !at_end {
            let topic = record.topic();
            ground.findings.add(FindingKind::RecordWithoutEntry, lacking, || {
                format!("index: {lacking} keys of the record at {at} (topic {topic}) have no entry")
            });
        }
        Ok(at_end)
    }

    /// Keys of the record in hand without an entry.
    fn lacking(&self) -> u64 {
        if self.sizes_unknown {
            return 0;
        }
        self.wanted.iter().filter(|wanted| wanted.required && !wanted.seen).count() as u64
    }

    /// The record in hand has an entry: those before it are not merely late.
    pub(crate) fn has_entry(&self) -> bool {
        self.wanted.iter().any(|wanted| wanted.seen)
    }

    /// Remembers that the record in hand, at the end of the index, lacks entries.
    pub(crate) fn miss(&mut self, at: i64) {
        let lacking = self.lacking();
        self.missing.get_or_insert(Missing::from(at, at)).add(at, at, lacking);
    }

    /// Sets the record whose entries come next. `hidden`: its topic was deleted, so it needs none.
    pub(crate) fn want(&mut self, record: &RecordView<'_>, hidden: bool) {
        self.wanted.clear();
        let Some(keys) = keys_of(record) else { return };
        for part in keys.parts() {
            let hash = keys.hash(part);
            let required = !hidden && part[0] != TAGS_MARK;
            match self.wanted.iter_mut().find(|wanted| wanted.hash == hash) {
                Some(known) => known.required |= required,
                None => self.wanted.push(Wanted { hash, required, seen: false }),
            }
        }
    }

    fn see(&mut self, hash: i32) -> bool {
        let Some(wanted) = self.wanted.iter_mut().find(|wanted| wanted.hash == hash) else { return false };
        wanted.seen = true;
        true
    }

    fn same_record(&mut self, entry: &IndexEntry, time: i64, ground: &mut Ground<'_>) {
        if !self.see(entry.hash) {
            self.differs(entry, ground, || {
                format!("has hash {}, which no key of its record at {} has", entry.hash, entry.physical)
            });
            return;
        }
        let Some(file) = &self.file else { return };
        let seconds =
            |begin: i64| if begin <= 0 { 0 } else { ((time - begin) / 1000).clamp(0, i32::MAX.into()) as i32 };
        let begin = file.header.begin_timestamp;
        let first = self.number == 1;
        if first && !self.unclean && (begin, file.header.begin_physical) != (time, entry.physical) {
            let (name, physical) = (file.name(), file.header.begin_physical);
            ground.findings.add(FindingKind::IndexFile, 1, || {
                format!(
                    "index {name}: the header begins at {physical} at time {begin}, the first entry is at {} of {time}",
                    entry.physical
                )
            });
        }
        // Java counts the first entry from the end of the file before.
        let from_before = first && self.before.is_some_and(|before| seconds(before.end_timestamp) == entry.seconds);
        let known = !(self.unclean && begin <= 0);
        if known && entry.seconds != seconds(begin) && !from_before && !(first && entry.seconds == 0) {
            self.differs(entry, ground, || {
                format!("says {} s after the file's first, its record says {}", entry.seconds, seconds(begin))
            });
        }
        self.last = Some((entry.physical, time));
    }

    /// An entry further on, while the record in hand lacks one: true when no record with its key is where it points to.
    fn is_misplaced(&mut self, entry: &IndexEntry, ground: &Ground<'_>) -> Result<bool, StoreError> {
        if !self.wanted.iter().any(|wanted| wanted.required && !wanted.seen) {
            return Ok(false);
        }
        let Some(bytes) = ground.log.record(entry.physical)? else { return Ok(true) };
        let keys = RecordView::layout(&bytes).and_then(|record| keys_of(&record));
        Ok(!keys.is_some_and(|keys| keys.parts().any(|part| keys.hash(part) == entry.hash)))
    }

    fn without_record(&self, entry: &IndexEntry, ground: &mut Ground<'_>) {
        if entry.physical < ground.log.min() && entry.physical >= 0 {
            return;
        }
        let (name, number) = (self.file.as_ref().map(IndexView::name).unwrap_or_default(), self.number);
        ground.findings.add(FindingKind::EntryWithoutRecord, 1, || {
            format!("index {name}: entry {number} points to {}, where no record with its key is", entry.physical)
        });
    }

    fn differs(&self, entry: &IndexEntry, ground: &mut Ground<'_>, what: impl FnOnce() -> String) {
        let (name, number) = (self.file.as_ref().map(IndexView::name).unwrap_or_default(), self.number);
        let _ = entry;
        ground.findings.add(FindingKind::EntryDiffers, 1, || format!("index {name}: entry {number} {}", what()));
    }

    /// Passes an entry: its slot leads to it from now on.
    fn consume(&mut self, entry: &IndexEntry, ground: &mut Ground<'_>) {
        let slot = entry.hash.max(0) as usize % self.slots.len().max(1);
        if let Some(newest) = self.slots.get(slot).copied() {
            if newest != entry.previous {
                self.differs(entry, ground, || {
                    format!("leads to entry {} of its slot, {newest} is the one before", entry.previous)
                });
            }
            self.used += i32::from(newest == 0);
            self.slots[slot] = self.number;
        }
        self.entries += 1;
        self.number += 1;
    }

    /// What was missing at the end is damage after all.
    pub(crate) fn settle(&mut self, ground: &mut Ground<'_>) {
        let Some(Missing { first, last, count, .. }) = self.missing.take() else { return };
        ground.findings.add(FindingKind::RecordWithoutEntry, count, || {
            format!("index: {count} keys of records from {first} to {last} have no entry")
        });
    }

    /// The log was read: what is left has no record. Entries from `new_from` on came meanwhile.
    pub(crate) fn finish(&mut self, new_from: i64, ground: &mut Ground<'_>) -> Result<(), StoreError> {
        while let Some(entry) = self.peek(ground)? {
            if entry.physical >= new_from {
                break;
            }
            self.without_record(&entry, ground);
            self.consume(&entry, ground);
        }
        Ok(())
    }
}
