//! Index files, for reading: sizes worked out from the file itself, the header, entries in order, and the chain of one
//! key. Trusts no number in them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::{Disk, File, list_sorted},
    error::{IoContext, StoreError},
    file_sizes,
    index_chain::read_slot,
    index_format::{ENTRY, Geometry, HEADER, Header, IndexEntry, SLOT},
    queue::get_i32,
};

/// Entries that are read at once.
const AT_ONCE: usize = 3200;

/// One index file.
pub(crate) struct IndexView {
    pub(crate) path: PathBuf,
    file: Arc<dyn File>,
    pub(crate) len: u64,
    pub(crate) header: Header,
    pub(crate) geometry: Option<Geometry>,
}

/// The index files of a store, oldest first.
pub(crate) fn find(disk: &dyn Disk, root: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let dir = root.join("index");
    let entries = list_sorted(disk, &dir).at("list", &dir)?;
    let named = |name: &str| name.parse::<u64>().is_ok();
    Ok(entries.into_iter().filter(|e| !e.is_dir && named(&e.name)).map(|e| dir.join(e.name)).collect())
}

impl IndexView {
    /// Opens a file; `known` are its sizes where the caller knows them.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, known: Option<Geometry>) -> Result<Self, StoreError> {
        let file = disk.open_read(path).at("open", path)?;
        let len = file.len().at("size", path)?;
        let mut head = [0; HEADER as usize];
        let header = match file.read_exact_at(0, &mut head) {
            Ok(()) => Header::decode(&head),
            Err(_) => Header { next_entry: 1, ..Header::default() },
        };
        let mut view = Self { path: path.to_path_buf(), file, len, header, geometry: known };
        if known.is_none() {
            view.geometry = file_sizes::of_index(&*view.file, &view.path, view.len, &view.header)?;
        }
        Ok(view)
    }

    /// Number of entries that the header tells, within the file's size.
    pub(crate) fn entries(&self) -> i32 {
        let most = self.geometry.map_or(1, |geometry| geometry.max_index as i32);
        self.header.next_entry.clamp(1, most) - 1
    }

    pub(crate) fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Number of the newest entry in the slot of a hash.
    pub(crate) fn slot(&self, geometry: Geometry, hash: i32) -> Result<i32, StoreError> {
        read_slot(&*self.file, &self.path, geometry, hash)
    }

    /// An entry by its number.
    pub(crate) fn entry(&self, geometry: Geometry, number: i32) -> Result<IndexEntry, StoreError> {
        let mut bytes = [0; ENTRY];
        self.file.read_exact_at(geometry.entry_at(number), &mut bytes).at("read", &self.path)?;
        Ok(IndexEntry::decode(&bytes))
    }

    /// All slots.
    pub(crate) fn slots(&self, geometry: Geometry) -> Result<Vec<i32>, StoreError> {
        let mut bytes = vec![0; geometry.slots as usize * SLOT];
        self.file.read_exact_at(HEADER, &mut bytes).at("read", &self.path)?;
        Ok(bytes.chunks_exact(SLOT).map(|slot| get_i32(slot, 0)).collect())
    }

    /// Entries from `number` on, as many as one read gives.
    pub(crate) fn read(&self, number: i32, out: &mut Vec<IndexEntry>) -> Result<(), StoreError> {
        out.clear();
        let Some(geometry) = self.geometry else { return Ok(()) };
        let left = (geometry.max_index as i32 - number).max(0) as usize;
        let mut bytes = vec![0; left.min(AT_ONCE) * ENTRY];
        let at = geometry.entry_at(number);
        let there = self.len.saturating_sub(at).min(bytes.len() as u64) as usize / ENTRY * ENTRY;
        self.file.read_exact_at(at, &mut bytes[..there]).at("read", &self.path)?;
        out.extend(bytes[..there].chunks_exact(ENTRY).map(IndexEntry::decode));
        Ok(())
    }
}
