//! Consume queue extension (`enableConsumeQueueExt`): the unit of a message holds the address of a longer unit, and that one
//! the tags code, the store time and a bit map of filters. Source: `ConsumeQueueExt.java`; reference store 13.
//! An address that leads nowhere is told as such: it never hides a message. The bit maps of Java brokers are passed over,
//! filters look at the message itself.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{
    disk::{File, list_sorted},
    error::{IoContext, StoreError},
    queue::{get_i16, get_i64},
    segments,
    units::UnitContext,
};

/// Directory below the root.
pub(crate) const DIRECTORY: &str = "consumequeue_ext";
/// Bytes of a unit without a bit map.
pub(crate) const UNIT: usize = 20;
/// Bytes that stay free at the end of a file.
const FREE: i64 = 4;
/// Bytes of a [`Piece`].
const PIECE: usize = 64 * 1024;
/// Says that a file goes no further.
const END_MARK: i16 = -1;
/// No tags code is as small.
const MOST_ADDRESS: i64 = i32::MIN as i64 - 1;
/// Tells these files from those of the queue itself among the open ones.
const KEYS: u64 = 1 << 63;

/// Whether a store has extensions of its own. Those of a Java broker are read in any case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExtConfig {
    /// New units get an extension.
    pub(crate) written: bool,
    /// `mappedFileSizeConsumeQueueExt`, bytes.
    pub(crate) segment: u64,
}

/// True for what stands in the place of a tags code and is none.
pub(crate) fn is_address(code: i64) -> bool {
    code <= MOST_ADDRESS
}

fn position(address: i64) -> i64 {
    address.wrapping_sub(i64::MIN)
}

fn address(position: i64) -> i64 {
    position.wrapping_add(i64::MIN)
}

/// What a unit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExtUnit {
    pub(crate) tags_code: i64,
    pub(crate) store_timestamp: i64,
    size: i16,
}

impl ExtUnit {
    /// `None` for bytes that are no unit.
    fn decode(bytes: &[u8; UNIT]) -> Option<Self> {
        let (size, bit_map) = (get_i16(bytes, 0), get_i16(bytes, 18));
        let fits = size >= UNIT as i16 && bit_map == size - UNIT as i16;
        fits.then(|| Self { tags_code: get_i64(bytes, 2), store_timestamp: get_i64(bytes, 10), size })
    }

    fn encode(tags_code: i64, store_timestamp: i64) -> [u8; UNIT] {
        let mut bytes = [0; UNIT];
        bytes[..2].copy_from_slice(&(UNIT as i16).to_be_bytes());
        bytes[2..10].copy_from_slice(&tags_code.to_be_bytes());
        bytes[10..18].copy_from_slice(&store_timestamp.to_be_bytes());
        bytes
    }
}

/// A piece of a file, as it was read.
#[derive(Default)]
pub(crate) struct Piece {
    from: i64,
    len: usize,
    bytes: Vec<u8>,
}

impl Piece {
    fn unit(&self, at: i64) -> Option<ExtUnit> {
        let first = usize::try_from(at.checked_sub(self.from)?).ok()?;
        let unit = self.bytes[..self.len].get(first..first.checked_add(UNIT)?)?;
        ExtUnit::decode(unit.try_into().ok()?)
    }
}

/// The files of one queue.
pub(crate) struct Ext {
    context: Arc<UnitContext>,
    id: u64,
    dir: PathBuf,
    segment: i64,
    state: Mutex<State>,
}

struct State {
    /// First bytes of the files.
    bases: Vec<i64>,
    /// Where the next unit goes; looked for when the first one is put.
    end: Option<i64>,
    /// First byte that may not be durable.
    unsynced: i64,
    names_changed: bool,
}

impl Ext {
    /// The files in `dir`, if there are any.
    pub(crate) fn load(context: &Arc<UnitContext>, id: u64, dir: PathBuf) -> Result<Self, StoreError> {
        let found = segments::find(&*context.disk, &dir)?;
        // What a power loss left of a file may be too short for any unit, and then tells nothing.
        let configured = context.ext.segment;
        let told = segments::size_of_row(&found, configured, 1, context.clean).unwrap_or(configured) as i64;
        let segment = if told < UNIT as i64 + FREE { configured as i64 } else { told };
        let bases = found.iter().map(|file| file.base).collect();
        let state = State { bases, end: None, unsynced: i64::MAX, names_changed: false };
        Ok(Self { context: context.clone(), id, dir, segment, state: Mutex::new(state) })
    }

    /// True while no file exists.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().bases.is_empty()
    }

    /// The unit at an address; `None` where none is.
    pub(crate) fn unit(&self, address: i64) -> Result<Option<ExtUnit>, StoreError> {
        let at = position(address);
        if !self.state.lock().bases.contains(&self.base_of(at)) {
            return Ok(None);
        }
        self.unit_at(at)
    }

    fn unit_at(&self, at: i64) -> Result<Option<ExtUnit>, StoreError> {
        let base = self.base_of(at);
        let mut bytes = [0; UNIT];
        let file = match self.file(base, false) {
            Err(error) if error.is_not_found() => return Ok(None),
            file => file?,
        };
        match file.read_exact_at((at - base) as u64, &mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            read => read.at("read", self.path(base)).map(|()| ExtUnit::decode(&bytes)),
        }
    }

    /// The unit at an address, from a piece of a file that `buf` keeps for the next call: units that follow each other are
    /// read together. Also files that came since [`Ext::load`] count.
    pub(crate) fn unit_in_row(&self, address: i64, buf: &mut Piece) -> Result<Option<ExtUnit>, StoreError> {
        let at = position(address);
        // What was read before it was written is read again.
        match buf.unit(at) {
            Some(unit) => return Ok(Some(unit)),
            None => self.read_piece(at, buf)?,
        }
        Ok(buf.unit(at))
    }

    fn read_piece(&self, at: i64, buf: &mut Piece) -> Result<(), StoreError> {
        (buf.from, buf.len) = (at, 0);
        buf.bytes.resize(PIECE, 0);
        let base = self.base_of(at);
        let file = match self.file(base, false) {
            Err(error) if error.is_not_found() => return Ok(()),
            file => file?,
        };
        while buf.len < PIECE {
            match file
                .read_at((at - base) as u64 + buf.len as u64, &mut buf.bytes[buf.len..])
                .at("read", self.path(base))?
            {
                0 => break,
                read => buf.len += read,
            }
        }
        Ok(())
    }

    /// Appends a unit for each (tags code, store time) and returns their addresses. `last` tells the newest address that
    /// the queue has: nothing is written before the end of its unit.
    pub(crate) fn append(
        &self,
        last: impl FnOnce() -> Result<Option<i64>, StoreError>,
        messages: &[(i64, i64)],
    ) -> Result<Vec<i64>, StoreError> {
        let state = &mut *self.state.lock();
        let mut at = match state.end {
            Some(end) => end,
            None => self.find_end(state, last()?)?,
        };
        state.unsynced = state.unsynced.min(at);
        let mut addresses = Vec::with_capacity(messages.len());
        let mut rest = messages;
        while !rest.is_empty() {
            let room = (self.base_of(at) + self.segment - at - FREE).max(0) as usize / UNIT;
            if room == 0 {
                self.write(state, at, &END_MARK.to_be_bytes())?;
                at = self.base_of(at) + self.segment;
                continue;
            }
            let (now, later) = rest.split_at(rest.len().min(room));
            let bytes: Vec<u8> = now.iter().flat_map(|(code, time)| ExtUnit::encode(*code, *time)).collect();
            self.write(state, at, &bytes)?;
            addresses.extend((0..now.len()).map(|number| address(at + (number * UNIT) as i64)));
            at += bytes.len() as i64;
            rest = later;
        }
        state.end = Some(at);
        Ok(addresses)
    }

    /// Units follow each other by their sizes. After a power loss there may be holes, hence `last`.
    fn find_end(&self, state: &State, last: Option<i64>) -> Result<i64, StoreError> {
        let of_last = last.map_or(-1, |last| self.base_of(position(last)));
        let Some(base) = state.bases.last().copied().filter(|base| *base >= of_last) else {
            return Ok(if of_last < 0 { 0 } else { of_last + self.segment });
        };
        let file = self.file(base, false)?;
        if file.len().at("size", self.path(base))? < self.segment as u64 {
            file.set_len(self.segment as u64).at("extend", self.path(base))?;
        }
        let mut at = base;
        let after_last = |last: i64| -> Result<i64, StoreError> {
            let size = self.unit_at(position(last))?.map_or(UNIT as i64, |unit| unit.size.into());
            Ok(position(last) + size)
        };
        if let Some(last) = last.filter(|last| position(*last) >= base) {
            at = after_last(last)?;
        }
        while at + (UNIT as i64) <= base + self.segment
            && let Some(unit) = self.unit_at(at)?
        {
            at += i64::from(unit.size);
        }
        let mut mark = [0; 2];
        let room = base + self.segment - at;
        let ends = room >= 2 && file.read_exact_at((at - base) as u64, &mut mark).is_ok();
        let is_full = room < UNIT as i64 + FREE || (ends && i16::from_be_bytes(mark) == END_MARK);
        Ok(if is_full { base + self.segment } else { at })
    }

    fn write(&self, state: &mut State, at: i64, bytes: &[u8]) -> Result<(), StoreError> {
        let base = self.base_of(at);
        let is_new = !state.bases.contains(&base);
        let file = self.file(base, is_new)?;
        if is_new {
            state.names_changed = true;
            state.bases.push(base);
        }
        file.write_all_at((at - base) as u64, bytes).at("write", self.path(base))
    }

    /// Makes all units durable.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let (from, bases, names_changed) = self.take_unsynced();
        for base in bases.into_iter().filter(|base| from < base.saturating_add(self.segment)) {
            self.file(base, false)?.sync().at("sync", self.path(base))?;
        }
        if names_changed {
            for dir in self.dir.ancestors().take(4) {
                self.context.disk.sync_dir(dir).at("sync", dir)?;
            }
        }
        Ok(())
    }

    /// Nothing of it counts as durable before the next sync.
    pub(crate) fn distrust(&self) {
        let state = &mut *self.state.lock();
        state.unsynced = 0;
        state.names_changed = true;
    }

    /// What was written counts as durable from here on: the caller makes it so, or ends. Returns the first byte that was
    /// not, the files, and whether their names were not.
    pub(crate) fn take_unsynced(&self) -> (i64, Vec<i64>, bool) {
        let state = &mut *self.state.lock();
        let from = std::mem::replace(&mut state.unsynced, i64::MAX);
        (from, state.bases.clone(), std::mem::take(&mut state.names_changed))
    }

    /// Makes the end of the unit at `last` the end; what follows is gone or reads as zeros.
    pub(crate) fn truncate(&self, last: i64) -> Result<(), StoreError> {
        let Some(unit) = self.unit(last)? else { return Ok(()) };
        let end = position(last) + i64::from(unit.size);
        let state = &mut *self.state.lock();
        self.remove(state, |base| base > position(last))?;
        let (base, path) = (self.base_of(position(last)), self.path(self.base_of(position(last))));
        let file = self.file(base, false)?;
        file.set_len((end - base) as u64).at("cut", &path)?;
        file.set_len(self.segment as u64).at("extend", &path)?;
        state.unsynced = state.unsynced.min(position(last));
        state.end = None;
        Ok(())
    }

    /// Deletes the files that end before the unit at `first`.
    pub(crate) fn expire(&self, first: i64) -> Result<(), StoreError> {
        let state = &mut *self.state.lock();
        self.remove(state, |base| base.saturating_add(self.segment) < position(first))
    }

    /// Deletes all files, and the directories if nothing is left in them.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        let state = &mut *self.state.lock();
        self.remove(state, |_| true)?;
        state.end = None;
        let disk = &*self.context.disk;
        for dir in self.dir.ancestors().take(2).filter(|dir| disk.exists(dir)) {
            if list_sorted(disk, dir).at("list", dir)?.is_empty() {
                disk.remove_dir(dir).at("delete", dir)?;
            }
        }
        state.names_changed = false;
        Ok(())
    }

    fn remove(&self, state: &mut State, goes: impl Fn(i64) -> bool) -> Result<(), StoreError> {
        for base in state.bases.clone().into_iter().filter(|base| goes(*base)) {
            self.context.handles.forget(self.key(base));
            match self.context.disk.remove(&self.path(base)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.at("delete", self.path(base))?,
            }
            state.bases.retain(|kept| *kept != base);
            state.names_changed = true;
        }
        Ok(())
    }

    fn base_of(&self, at: i64) -> i64 {
        at - at % self.segment
    }

    fn path(&self, base: i64) -> PathBuf {
        segments::path(&self.dir, base)
    }

    fn key(&self, base: i64) -> (u64, u64) {
        (self.id, (base / self.segment) as u64 | KEYS)
    }

    fn file(&self, base: i64, make: bool) -> Result<Arc<dyn File>, StoreError> {
        let disk = &self.context.disk;
        let path = self.path(base);
        if make {
            disk.create_dir_all(&self.dir).at("create", &self.dir)?;
            let file = disk.open(&path, true).at("create", &path)?;
            file.set_len(self.segment as u64).at("size", &path).inspect_err(|_| drop(disk.remove(&path)))?;
        }
        self.context.handles.get(self.key(base), || disk.open(&path, false)).at("open", &path)
    }
}

/// Directory of the extension of the queue whose files are in `queue_dir`.
pub(crate) fn dir_of(queue_dir: &Path) -> Option<PathBuf> {
    let (queue, topic_dir) = (queue_dir.file_name()?, queue_dir.parent()?);
    Some(topic_dir.parent()?.with_file_name(DIRECTORY).join(topic_dir.file_name()?).join(queue))
}
