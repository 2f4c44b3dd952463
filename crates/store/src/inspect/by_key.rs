//! Where the index leads to for a key, as a broker looks it up: by the hash of `topic#key`, through the chain of its slot.
//! Other keys of the same hash are among the answers: the caller looks at the records.

use std::collections::BTreeSet;

use crate::{
    error::StoreError,
    index::key_hash,
    index_format::IndexEntry,
    inspect::{
        index::{self, IndexView},
        view::StoreView,
    },
};

/// What the index says of a key.
pub(crate) struct Hits {
    /// Places in the log, in its order.
    pub(crate) places: Vec<i64>,
    /// Records before this place are in the index; the one that begins there is, too.
    pub(crate) indexed_to: i64,
}

/// Looks `key` up for each of `topics`. `None` with the reason when the index cannot tell.
pub(crate) fn look_up(
    view: &StoreView,
    topics: &BTreeSet<String>,
    key: &str,
) -> Result<Result<Hits, &'static str>, StoreError> {
    let hashes: BTreeSet<i32> = topics.iter().map(|topic| key_hash(&format!("{topic}#{key}"))).collect();
    let paths = index::find(&*view.disk, &view.root)?;
    if paths.is_empty() {
        return Ok(Err("there is no index"));
    }
    let mut hits = Hits { places: Vec::new(), indexed_to: 0 };
    let sound = view.is_clean();
    for path in paths {
        let file = IndexView::open(&*view.disk, &path, view.geometry())?;
        let Some(geometry) = file.geometry else {
            return Ok(Err("an index file does not tell its sizes: give maxHashSlotNum and maxIndexNum"));
        };
        // Header and slots of a file that is being filled live in the memory of its broker; the header of one that is
        // full comes last.
        let filling = !sound && file.header.next_entry < geometry.max_index as i32;
        let end = if filling { all_entries(&file, &hashes, &mut hits.places)? } else { file.header.end_physical };
        hits.indexed_to = hits.indexed_to.max(end);
        if !filling {
            for hash in &hashes {
                chain(&file, *hash, &mut hits.places)?;
            }
        }
    }
    hits.places.sort_unstable();
    hits.places.dedup();
    Ok(Ok(hits))
}

/// Follows the chain of a slot, from the newest entry to older ones.
fn chain(file: &IndexView, hash: i32, places: &mut Vec<i64>) -> Result<(), StoreError> {
    let Some(geometry) = file.geometry else { return Ok(()) };
    let mut number = file.slot(geometry, hash)?;
    while (1..=file.entries()).contains(&number) {
        let entry = file.entry(geometry, number)?;
        if entry.hash == hash {
            places.push(entry.physical);
        }
        // An older entry has a smaller number.
        number = if entry.previous < number { entry.previous } else { 0 };
    }
    Ok(())
}

/// Goes through all entries that were written; returns the place of the last one's record.
fn all_entries(file: &IndexView, hashes: &BTreeSet<i32>, places: &mut Vec<i64>) -> Result<i64, StoreError> {
    let (mut number, mut entries, mut reached) = (1, Vec::new(), 0);
    loop {
        file.read(number, &mut entries)?;
        let written = |entry: &&IndexEntry| entry.hash >= 0 && (entry.hash != 0 || entry.physical != 0);
        let mut count = 0;
        for entry in entries.iter().take_while(written) {
            if entry.physical < reached {
                break;
            }
            reached = entry.physical;
            count += 1;
            if hashes.contains(&entry.hash) {
                places.push(entry.physical);
            }
        }
        if count == 0 || count < entries.len() {
            return Ok(reached);
        }
        number += count as i32;
    }
}
