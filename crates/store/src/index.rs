//! The index: finds messages by key and time. A row of [`IndexFile`]s, oldest first; the last one is being filled.
//! Source: `IndexService.java`; reference store 17. A hit only says that a hash is equal: callers compare the key.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use wire::hash::{java_hash, java_hash_on};

use crate::{
    config::LocalTime,
    disk::{Disk, list_sorted},
    error::{IoContext, StoreError},
    file_sizes,
    index_chain::Chain,
    index_file::{IndexFile, Unsynced},
    index_format::{Geometry, Header},
};

/// Stands before tags, which have entries since Java 5.4.
pub(crate) const TAGS_MARK: &str = "T#";

/// Bytes of entries that wait in memory for space.
const MOST_WAITING: usize = 1 << 20;

/// What is indexed of a record.
pub(crate) struct Keys<'a> {
    pub(crate) topic: &'a str,
    pub(crate) unique: Option<&'a str>,
    /// Separated by blanks.
    pub(crate) keys: Option<&'a str>,
    /// Only if tags are indexed.
    pub(crate) tags: Option<&'a str>,
    pub(crate) physical_offset: i64,
    pub(crate) store_timestamp: i64,
}

impl<'a> Keys<'a> {
    /// What follows `topic#` in each indexed text, in Java's order: the unique key, the keys, the tags.
    pub(crate) fn parts(&self) -> impl Iterator<Item = [&'a str; 2]> + use<'a> {
        let keys = self.keys.unwrap_or_default().split(' ').filter(|key| !key.is_empty()).map(|key| [key, ""]);
        self.unique.map(|unique| [unique, ""]).into_iter().chain(keys).chain(self.tags.map(|tags| [TAGS_MARK, tags]))
    }

    /// Hash of one of the parts.
    pub(crate) fn hash(&self, part: [&str; 2]) -> i32 {
        positive([self.topic, "#", part[0], part[1]].into_iter().fold(0, java_hash_on))
    }
}

/// All index files.
pub(crate) struct Index {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    geometry: Geometry,
    local_time: LocalTime,
    /// The directory did not exist: nothing was ever indexed.
    fresh: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    files: Vec<IndexFile>,
    /// Files behind those that cannot be read: the first one does not tell its sizes.
    untold: Vec<PathBuf>,
    names_changed: bool,
    /// Files that were written since the last flush.
    unsynced: Vec<Unsynced>,
    /// Place of the last record whose keys were put.
    last_physical: Option<i64>,
}

impl State {
    fn filling_since(&self) -> Option<i64> {
        let filling = self.files.iter().find(|file| !file.is_full() && !file.is_empty());
        filling.map(|file| file.header().begin_timestamp)
    }
}

/// Hits of a look-up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hits {
    /// Physical offsets, newest first.
    pub(crate) offsets: Vec<i64>,
    pub(crate) last_update_timestamp: i64,
    pub(crate) last_update_physical: i64,
}

/// What a flush made durable.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flushed {
    /// End time of the newest full file that became durable, 0 if none did.
    pub(crate) full_timestamp: i64,
    /// Store time of the first record of the file that is being filled.
    pub(crate) filling_since: Option<i64>,
}

impl Index {
    /// Opens the files in `dir`. Each keeps the sizes it was made with; new ones have those of the newest. One that does not
    /// tell them is made again after an unclean stop, and one that was cut short after a clean one ([`Index::recover`]); else it is
    /// refused.
    pub(crate) fn load(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        configured: Geometry,
        clean: bool,
    ) -> Result<Self, StoreError> {
        let mut geometry = configured;
        let fresh = !disk.exists(&dir);
        disk.create_dir_all(&dir).at("create", &dir)?;
        let (mut files, mut untold) = (Vec::new(), Vec::new());
        let entries = list_sorted(&*disk, &dir).at("list", &dir)?;
        for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
            if entry.name.parse::<u64>().is_err() {
                tracing::warn!(file = %dir.join(&entry.name).display(), "no index file by its name: ignored");
                continue;
            }
            let path = dir.join(&entry.name);
            if !untold.is_empty() {
                untold.push(path);
                continue;
            }
            match file_sizes::of_index_at(&*disk, &path, entry.len, [geometry, configured])? {
                // After a clean stop none is short: it was cut.
                Some(found) if !clean || entry.len >= found.file_size() => geometry = found,
                None if clean && entry.len > geometry.file_size() => {
                    return Err(file_sizes::untold(&path, entry.len, geometry));
                }
                _ => {
                    untold.push(path);
                    continue;
                }
            }
            files.push(IndexFile::open(&*disk, &path, geometry)?);
        }
        let last_physical = files.iter().rfind(|file| !file.is_empty()).map(|file| file.header().end_physical);
        let state = State { files, untold, last_physical, ..State::default() };
        Ok(Self { disk, dir, geometry, local_time: std::convert::identity, fresh, state: Mutex::new(state) })
    }

    /// Names new files by the time of this zone.
    pub(crate) fn named_in(self, local_time: LocalTime) -> Self {
        Self { local_time, ..self }
    }

    /// True when files must be made again from the log.
    pub(crate) fn lacks_files(&self) -> bool {
        !self.state.lock().untold.is_empty()
    }

    /// True when there was no index at all.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// After an unclean stop: repairs the files that were not full and durable from their entries. Records from `limit`
    /// on are put again afterwards, so their entries go. Where entries before that are lost, indexing must begin earlier:
    /// `on_loss` is told before anything changes on disk, and the place is returned. `has_key`: see [`IndexFile::rebuild`].
    pub(crate) fn recover(
        &self,
        limit: i64,
        store_time: &dyn Fn(i64) -> i64,
        has_key: &dyn Fn(i64, i32) -> bool,
        on_loss: &dyn Fn(i64) -> Result<(), StoreError>,
    ) -> Result<Option<i64>, StoreError> {
        let (last, lost) = {
            let mut state = self.state.lock();
            // The process that made the files may have ended before it synced their names.
            state.names_changed = true;
            let (mut sound, mut lost) = (0, false);
            let mut from = 0;
            while sound < state.files.len() {
                let file = &mut state.files[sound];
                if !file.is_proven() {
                    let before = *file.header();
                    let reaches_limit = file.rebuild(from, limit, store_time, has_key)?;
                    let found = file.header().next_entry;
                    tracing::info!(file = %file.path().display(), header = before.next_entry - 1, found = found - 1, "index file checked after an unclean stop");
                    lost = found < before.next_entry && !reaches_limit;
                    if lost {
                        on_loss(file.header().end_physical)?;
                    }
                    file.write_all()?.map_or(Ok(()), |written| written.sync())?;
                }
                if !file.is_full() {
                    break;
                }
                from = file.header().end_physical;
                sound += 1;
            }
            // What follows a file that is not full lacks what was lost in between.
            while state.files.len() > sound + 1 {
                self.remove_last(&mut state)?;
            }
            let last = state.files.iter().rfind(|file| !file.is_empty()).map_or(0, |file| file.header().end_physical);
            if let Some(file) = state.untold.first() {
                tracing::warn!(file = %file.display(), "the index file was cut short, or has other sizes than maxHashSlotNum and maxIndexNum and does not tell them: it is made again from the log");
                on_loss(last)?;
                lost = true;
            }
            (last, lost)
        };
        // The last record may lack keys, unless it was durable as a whole.
        self.truncate(if lost || last >= limit { last } else { limit }, store_time)?;
        Ok(lost.then_some(last))
    }

    fn remove_last(&self, state: &mut State) -> Result<(), StoreError> {
        let Some(file) = state.files.pop() else { return Ok(()) };
        self.remove(file.path())
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        self.disk.remove(path).at("delete", path)?;
        // At once: a full file that came back would pass for complete.
        self.disk.sync_dir(&self.dir).at("sync", &self.dir)
    }

    /// Store time of the first record of the file that is being filled.
    pub(crate) fn filling_since(&self) -> Option<i64> {
        self.state.lock().filling_since()
    }

    /// Puts the keys of a record, unless its place was indexed before.
    pub(crate) fn put(&self, keys: &Keys<'_>, now_ms: i64) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let seen = state.last_physical.is_some_and(|last| keys.physical_offset <= last);
        if seen || (keys.unique.is_none() && keys.keys.is_none() && keys.tags.is_none()) {
            return Ok(());
        }
        for key in keys.parts() {
            self.put_key(&mut state, keys, key, now_ms)?;
        }
        state.last_physical = Some(keys.physical_offset);
        Ok(())
    }

    fn put_key(&self, state: &mut State, keys: &Keys<'_>, key: [&str; 2], now_ms: i64) -> Result<(), StoreError> {
        let hash = keys.hash(key);
        if state.files.last().is_none_or(IndexFile::is_full) {
            self.add_file(state, now_ms)?;
        }
        let file = state.files.last_mut().expect("just made");
        file.load_slots()?;
        file.put(hash, keys.physical_offset, keys.store_timestamp);
        Ok(())
    }

    /// Kept apart from what each key runs through.
    #[cold]
    fn add_file(&self, state: &mut State, now_ms: i64) -> Result<(), StoreError> {
        let mut before: Option<Header> = None;
        let mut name = time_name((self.local_time)(now_ms));
        if let Some(full) = state.files.last_mut() {
            state.unsynced.extend(full.write_all()?);
            full.release_slots();
            before = Some(*full.header());
            name = name.max(number_of(full) + 1);
        }
        let path = self.dir.join(format!("{name:017}"));
        state.files.push(IndexFile::create(&*self.disk, &path, self.geometry, before.as_ref())?);
        state.names_changed = true;
        Ok(())
    }

    /// Hands all entries to the operating system. Without space they may wait, as long as they are not too many.
    pub(crate) fn write_pending(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let Some(file) = state.files.last_mut() else { return Ok(()) };
        match file.write_pending() {
            Err(error) if error.is_disk_full() && file.pending() <= MOST_WAITING => Ok(()),
            written => written,
        }
    }

    /// Makes durable what was put before the call. Nobody waits for the sync.
    pub(crate) fn flush(&self) -> Result<Flushed, StoreError> {
        let (unsynced, names_changed, filling_since) = {
            let state = &mut *self.state.lock();
            for file in &mut state.files {
                state.unsynced.extend(file.write_all()?);
            }
            let since = state.filling_since();
            (std::mem::take(&mut state.unsynced), std::mem::take(&mut state.names_changed), since)
        };
        if let Err(error) = unsynced.iter().try_for_each(Unsynced::sync) {
            // For want of space the header of a full file was not written: the next flush does it.
            let state = &mut *self.state.lock();
            state.unsynced.extend(unsynced);
            state.names_changed |= names_changed;
            return Err(error);
        }
        if names_changed {
            self.disk.sync_dir(&self.dir).at("sync", &self.dir)?;
        }
        let full_timestamp = unsynced.iter().map(Unsynced::full_timestamp).max().unwrap_or(0);
        Ok(Flushed { full_timestamp, filling_since })
    }

    /// Physical offsets of records that may have `key`, stored in [`begin`, `end`]. Reads `left` entries at most, which go from
    /// it; `None` where there would be more.
    pub(crate) fn find(
        &self,
        topic: &str,
        key: &str,
        max: usize,
        (begin, end): (i64, i64),
        left: &mut usize,
    ) -> Result<Option<Hits>, StoreError> {
        let chains = self.chains(key_hash(&format!("{topic}#{key}")))?;
        let mut hits = Hits::default();
        if let Some(newest) = chains.first() {
            hits.last_update_timestamp = newest.header().end_timestamp;
            hits.last_update_physical = newest.header().end_physical;
        }
        for chain in chains {
            if chain.matches_time(begin, end) && !chain.select(begin, end, max, &mut hits.offsets, left)? {
                return Ok(None);
            }
            if (chain.knows_times() && chain.header().begin_timestamp < begin) || hits.offsets.len() >= max {
                break;
            }
        }
        Ok(Some(hits))
    }

    /// Where to look in each file, newest first. They are walked without the lock.
    fn chains(&self, hash: i32) -> Result<Vec<Chain>, StoreError> {
        let state = self.state.lock();
        state.files.iter().rev().map(|file| file.chain(hash)).collect()
    }

    /// Forgets records at and beyond `physical`. The caller keeps [`Index::flush`] out.
    pub(crate) fn truncate(&self, physical: i64, store_time: &dyn Fn(i64) -> i64) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        // A full file gets its header now, not when it is no longer full.
        std::mem::take(&mut state.unsynced).iter().try_for_each(Unsynced::sync)?;
        while let Some(path) = state.untold.pop() {
            self.remove(&path)?;
        }
        while let Some(file) = state.files.last_mut() {
            if !file.is_empty() && file.header().end_physical < physical {
                break;
            }
            file.drop_from(physical, store_time)?;
            file.write_all()?.map_or(Ok(()), |written| written.sync())?;
            if !file.is_empty() {
                break;
            }
            self.remove_last(&mut state)?;
        }
        state.last_physical = state.files.last().map(|file| file.header().end_physical);
        Ok(())
    }

    /// Files, and entries in all of them.
    pub(crate) fn count(&self) -> (usize, u64) {
        let state = self.state.lock();
        (state.files.len(), state.files.iter().map(|file| file.header().next_entry as u64 - 1).sum())
    }

    /// Bytes of all files.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.state.lock().files.len() as u64 * self.geometry.file_size()
    }

    /// Deletes files, never the last, whose records are all below `min_physical`.
    pub(crate) fn expire(&self, min_physical: i64) -> Result<usize, StoreError> {
        let mut state = self.state.lock();
        let mut dropped = 0;
        while state.files.len() > 1 && state.files[0].header().end_physical < min_physical {
            let path = state.files.remove(0).path().to_path_buf();
            self.disk.remove(&path).at("delete", &path)?;
            dropped += 1;
        }
        Ok(dropped)
    }
}

/// Java's `Math.abs(hashCode)`, with the one value that has no absolute mapped to 0.
pub(crate) fn key_hash(text: &str) -> i32 {
    positive(java_hash(text))
}

fn positive(hash: i32) -> i32 {
    hash.checked_abs().unwrap_or(0)
}

fn number_of(file: &IndexFile) -> u64 {
    file.path().file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0)
}

/// `yyyyMMddHHmmssSSS` of a local time, as a number.
fn time_name(now_ms: i64) -> u64 {
    let (days, in_day) = (now_ms.div_euclid(86_400_000), now_ms.rem_euclid(86_400_000) as u64);
    let (year, month, day) = civil(days);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let date = (year.max(0) as u64 * 100 + month) * 100 + day;
    ((date * 100 + hour) * 100 + minute) * 100_000 + in_day % 60_000
}

/// Year, month and day of a number of days since 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as u64, day as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    #[test]
    fn names() {
        assert_eq!(time_name(0), 19_700_101_000_000_000);
        assert_eq!(time_name(1_700_000_000_123), 20_231_114_221_320_123);
        assert_eq!(time_name(1_709_210_096_789), 20_240_229_123_456_789);
        assert_eq!((key_hash("polygenelubricants"), key_hash("TopicTest#KEY1")), (0, 1_656_969_516));
    }

    fn put(index: &Index, number: i64) {
        let (unique, keys) = (format!("u{number}"), format!("a  k{} ", number % 3));
        let keys = Keys {
            topic: "T",
            unique: Some(&unique),
            keys: Some(&keys),
            tags: None,
            physical_offset: number * 10,
            store_timestamp: 1_000_000 + number,
        };
        index.put(&keys, 5).unwrap();
    }

    fn find(index: &Index, key: &str) -> Vec<i64> {
        index.find("T", key, 1000, (0, i64::MAX), &mut 1000).unwrap().unwrap().offsets
    }

    #[test]
    fn many_files_truncation_expiry() {
        let dir = tempfile::tempdir().unwrap();
        let geometry = Geometry { slots: 5, max_index: 8 };
        let load = || Index::load(Arc::new(RealDisk), dir.path().to_path_buf(), geometry, false).unwrap();
        let index = load();
        (0..20).for_each(|number| put(&index, number));
        (15..20).for_each(|number| put(&index, number));
        assert_eq!(find(&index, "k1"), [190, 160, 130, 100, 70, 40, 10]);
        assert_eq!(find(&index, "u0"), [0]);
        index.flush().unwrap();
        drop(index);
        let index = load();
        assert_eq!(find(&index, "a").len(), 20);
        index.truncate(100, &|physical| 1_000_000 + physical / 10).unwrap();
        assert_eq!(find(&index, "k1"), [70, 40, 10]);
        (10..12).for_each(|number| put(&index, number));
        assert_eq!(find(&index, "k1"), [100, 70, 40, 10]);
        let files = index.state.lock().files.len();
        let dropped = index.expire(100).unwrap();
        assert!(dropped > 0 && dropped < files);
        assert_eq!(find(&index, "u11"), [110]);
    }

    #[test]
    fn an_unclean_stop_loses_no_old_key() {
        let dir = tempfile::tempdir().unwrap();
        let geometry = Geometry { slots: 5, max_index: 100 };
        let load = || Index::load(Arc::new(RealDisk), dir.path().to_path_buf(), geometry, false).unwrap();
        let index = load();
        (0..20).for_each(|number| put(&index, number));
        index.write_pending().unwrap();
        drop(index);
        let index = load();
        // The header knows of no entry, so nothing tells of a loss; records from 180 on are put again.
        let (store_time, nothing_is_lost) = (|physical| 1_000_000 + physical / 10, |_| panic!("nothing is lost"));
        assert_eq!(index.recover(180, &store_time, &|_, _| true, &nothing_is_lost).unwrap(), None);
        assert_eq!(find(&index, "u17"), [170]);
        assert!(find(&index, "u18").is_empty());
        (18..21).for_each(|number| put(&index, number));
        assert_eq!((find(&index, "u0"), find(&index, "u19"), find(&index, "a").len()), (vec![0], vec![190], 21));
    }
}
