//! Segment sizes as the files of a store have them. A store keeps the sizes it was made with, whatever the configuration has
//! become; two figures are named then. It reads directories and index headers, no unit and no record.

use std::path::Path;

use crate::{
    disk::{Disk, File, list_sorted},
    error::{IoContext, StoreError},
    index_format::{ENTRY, Geometry, HEADER, Header, IndexEntry, SLOT},
    queue::get_i32,
    segments,
    segments::Shape,
};

/// Sizes of Java's default index file.
const DEFAULT: Geometry = Geometry { slots: 5_000_000, max_index: 20_000_000 };

/// Only files after which the longest is believed.
const MOST_ROWS: usize = 64;

/// Bytes of a file of the queues below `dir`, which have units of `shape`. Looks at queues until one tells; usually that is
/// the first. An only file may be short, after an unclean stop or as it was damaged, so that the longest of them counts.
pub(crate) fn of_queues(disk: &dyn Disk, dir: &Path, shape: &Shape, clean: bool) -> Result<u64, StoreError> {
    let configured = shape.segment;
    let (mut longest, mut rows) = (None, 0);
    for topic in list_sorted(disk, dir).at("list", dir)?.into_iter().filter(|entry| entry.is_dir) {
        let topic_dir = dir.join(&topic.name);
        for queue in list_sorted(disk, &topic_dir).at("list", &topic_dir)?.into_iter().filter(|entry| entry.is_dir) {
            let found = segments::find(disk, &topic_dir.join(&queue.name))?;
            let Some(size) = segments::size_of_row(&found, configured, shape.unit as u64, clean) else { continue };
            if found.len() > 1 || clean && size == configured {
                return Ok(told(dir, size, shape));
            }
            let most = *longest.insert(longest.unwrap_or(0).max(size));
            rows += usize::from(clean || size == configured);
            if rows > MOST_ROWS {
                return Ok(told(dir, most, shape));
            }
        }
    }
    // What a power loss left of them tells nothing: they are extended.
    Ok(longest.map_or(configured, |size| told(dir, size, shape)))
}

fn told(dir: &Path, size: u64, shape: &Shape) -> u64 {
    if size != shape.segment {
        tracing::warn!(dir = %dir.display(), found = size, configured = shape.segment, "queue files have another size than {}: theirs is used; set the key to it", shape.key);
    }
    size
}

/// Sizes of the index file at `path`, `len` bytes long: one of those that are known, those of the file before it first, or what
/// it tells. One without entries has what is likely; `None` for another that does not tell.
pub(crate) fn of_index_at(
    disk: &dyn Disk,
    path: &Path,
    len: u64,
    known: [Geometry; 2],
) -> Result<Option<Geometry>, StoreError> {
    let [likely, configured] = known;
    if let Some(known) = known.into_iter().find(|known| len == known.file_size()) {
        return Ok(Some(known));
    }
    let file = disk.open_read(path).at("open", path)?;
    let mut head = [0; HEADER as usize];
    if len < HEADER || file.read_exact_at(0, &mut head).is_err() {
        return Ok(Some(likely));
    }
    let header = Header::decode(&head);
    let found = of_index(&*file, path, len, &header)?;
    if let Some(found) = found {
        tracing::warn!(file = %path.display(), found_slots = found.slots, found_entries = found.max_index, slots = configured.slots, entries = configured.max_index,
            "the index file has other sizes than maxHashSlotNum and maxIndexNum: its own are used; set the keys to them");
    }
    Ok(found.or((header.next_entry <= 1).then_some(likely)))
}

/// What is said of an index file that does not tell its sizes.
pub(crate) fn untold(path: &Path, len: u64, expected: Geometry) -> StoreError {
    let (path, expected) = (path.to_path_buf(), expected.file_size());
    StoreError::SegmentSize { path, found: len, expected, key: "maxHashSlotNum and maxIndexNum" }
}

/// Slots and entries of an index file of this length, such that the first and the last entry and the count of used slots fit;
/// `None` when none do, as in a file without entries. A kill may have come between slots and header: where the count fits
/// nowhere, there may be more used slots than it says.
pub(crate) fn of_index(
    file: &dyn File,
    path: &Path,
    len: u64,
    header: &Header,
) -> Result<Option<Geometry>, StoreError> {
    if len == DEFAULT.file_size() {
        return Ok(Some(DEFAULT));
    }
    match of_index_with(&IndexHead { file, path, header, is_behind: false }, len)? {
        Some(found) => Ok(Some(found)),
        None => of_index_with(&IndexHead { file, path, header, is_behind: true }, len),
    }
}

fn of_index_with(index: &IndexHead<'_>, len: u64) -> Result<Option<Geometry>, StoreError> {
    let IndexHead { file, path, header, is_behind } = *index;
    let room = len.saturating_sub(HEADER);
    let (mut used, mut slot) = (0, 0u64);
    let mut bytes = vec![0; SLOT * 4096];
    // The slots come first: walk over them and try each place where they may end.
    while (slot + 1) * SLOT as u64 <= room {
        let left = (room - slot * SLOT as u64).min(bytes.len() as u64) as usize / SLOT * SLOT;
        file.read_exact_at(HEADER + slot * SLOT as u64, &mut bytes[..left]).at("read", path)?;
        for word in bytes[..left].chunks_exact(SLOT) {
            used += i32::from(get_i32(word, 0) != 0);
            slot += 1;
            let rest = room - slot * SLOT as u64;
            let geometry = Geometry { slots: slot as u32, max_index: (rest / ENTRY as u64) as u32 };
            if rest.is_multiple_of(ENTRY as u64) && index.fits(used, geometry)? {
                return Ok(Some(geometry));
            }
        }
        if used > header.used_slots && !is_behind {
            break;
        }
    }
    Ok(None)
}

struct IndexHead<'a> {
    file: &'a dyn File,
    path: &'a Path,
    header: &'a Header,
    /// The header is older than the slots.
    is_behind: bool,
}

impl IndexHead<'_> {
    fn fits(&self, used: i32, geometry: Geometry) -> Result<bool, StoreError> {
        let count = self.header.next_entry;
        let sizes = geometry.max_index >= 2 && (2..=geometry.max_index as i32).contains(&count);
        let counted = self.header.may_count(used) || self.is_behind && used > self.header.used_slots;
        if !sizes || !counted {
            return Ok(false);
        }
        let first = self.entry(geometry, 1)?;
        if first.physical != self.header.begin_physical {
            return Ok(false);
        }
        let last = self.entry(geometry, count - 1)?;
        let first_fits = first.previous == 0 && first.hash >= 0;
        let last_fits = last.physical == self.header.end_physical && last.hash >= 0;
        if !(first_fits && last_fits) {
            return Ok(false);
        }
        let newest = self.slot(geometry, last.hash)?;
        Ok(newest == count - 1 || self.is_behind && (count..=geometry.max_index as i32).contains(&newest))
    }

    fn entry(&self, geometry: Geometry, number: i32) -> Result<IndexEntry, StoreError> {
        let mut bytes = [0; ENTRY];
        self.file.read_exact_at(geometry.entry_at(number), &mut bytes).at("read", self.path)?;
        Ok(IndexEntry::decode(&bytes))
    }

    fn slot(&self, geometry: Geometry, hash: i32) -> Result<i32, StoreError> {
        let mut bytes = [0; SLOT];
        let slot = hash.max(0) as u64 % u64::from(geometry.slots);
        self.file.read_exact_at(HEADER + slot * SLOT as u64, &mut bytes).at("read", self.path)?;
        Ok(i32::from_be_bytes(bytes))
    }
}
