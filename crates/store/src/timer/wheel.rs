//! The timer wheel: for each tick of 14 days the ends of a chain of units in the timer log, `ROOT/timerwheel`.
//! Source: `store/.../timer/TimerWheel.java`, `Slot.java`; reference store 22.2.
//!
//! The file has a fixed size and is nearly empty; in memory are only the pages of slots that are in use. It reads no
//! unit and knows no message. The wheel is a view of the timer log: what it says is proven at the start.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::{Disk, File},
    error::{IoContext, StoreError},
    queue::{get_i32, get_i64},
};

/// Slots of a wheel as Java makes it: two rounds of 7 days of 86 400, whatever the precision.
pub(super) const SLOTS: i64 = 2 * 7 * 86_400;
const SLOT: usize = 32;
const PAGE: usize = 4096;
/// Slots of a page.
pub(super) const PER_PAGE: i64 = (PAGE / SLOT) as i64;
const READ: usize = 64 * PAGE;

/// The chain of one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Time in units of the precision.
    pub(super) tick: i64,
    /// Position of the first unit in the timer log.
    pub(super) first: i64,
    /// Position of the last unit.
    pub(super) last: i64,
    /// Messages that wait; a unit that takes one back counts -1.
    pub(super) num: i32,
    magic: i32,
}

impl Slot {
    /// A chain of one unit.
    pub(super) fn begin(tick: i64, position: i64, num: i32) -> Self {
        Self { tick, first: position, last: position, num, magic: 0 }
    }

    /// The chain with one more unit.
    pub(super) fn with(self, position: i64, num: i32) -> Self {
        Self { last: position, num: self.num.wrapping_add(num), ..self }
    }

    fn is_used(&self) -> bool {
        self.tick > 0 && self.last >= 0
    }

    fn decode(bytes: &[u8]) -> Self {
        Self {
            tick: get_i64(bytes, 0),
            first: get_i64(bytes, 8),
            last: get_i64(bytes, 16),
            num: get_i32(bytes, 24),
            magic: get_i32(bytes, 28),
        }
    }

    fn encode(&self, bytes: &mut [u8]) {
        bytes[..8].copy_from_slice(&self.tick.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.first.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.last.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.num.to_be_bytes());
        bytes[28..32].copy_from_slice(&self.magic.to_be_bytes());
    }
}

type Bytes = Box<[u8; PAGE]>;

enum Page {
    Empty,
    /// As it is in the file; the newest tick in it.
    OnDisk(i64),
    Loaded(Bytes),
}

/// The wheel. Ticks are times divided by the precision.
pub(super) struct Wheel {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    slots: i64,
    pages: Vec<Page>,
    dirty: BTreeSet<usize>,
    file: Option<Arc<dyn File>>,
    /// The file is not whole yet, and has another name until it is.
    is_new: bool,
    /// Of all that was in the file.
    last_found: i64,
}

/// Pages to write, and the file they go to.
pub(super) struct Dirty {
    pages: Vec<(usize, Bytes)>,
    file: Arc<dyn File>,
    disk: Arc<dyn Disk>,
    path: PathBuf,
    is_new: bool,
}

impl Wheel {
    fn without_slots(disk: Arc<dyn Disk>, root: &Path, slots: i64) -> Self {
        let pages = (0..slots / PER_PAGE).map(|_| Page::Empty).collect();
        let path = root.join("timerwheel");
        Self { disk, path, slots, pages, dirty: BTreeSet::new(), file: None, is_new: true, last_found: -1 }
    }

    /// Looks through the file. `None` without one, and for one of another size than that of `slots`, or with a slot that is not at
    /// its place: it is no wheel.
    pub(super) fn load(disk: Arc<dyn Disk>, root: &Path, slots: i64) -> Result<Option<Self>, StoreError> {
        let mut wheel = Self::without_slots(disk, root, slots);
        if !wheel.disk.exists(&wheel.path) {
            return Ok(None);
        }
        let file = wheel.disk.open(&wheel.path, false).at("open", &wheel.path)?;
        match file.len().at("size", &wheel.path)? {
            0 => return Ok(None),
            found if found == wheel.length() => {}
            found => {
                tracing::warn!(file = %wheel.path.display(), found, expected = wheel.length(), "the timer wheel has another size: it is made again from the timer log");
                return Ok(None);
            }
        }
        let (mut buf, pages) = (vec![0; READ], wheel.pages.len());
        for chunk in 0..pages.div_ceil(READ / PAGE) {
            let first = chunk * (READ / PAGE);
            let bytes = &mut buf[..(pages - first).min(READ / PAGE) * PAGE];
            file.read_exact_at((first * PAGE) as u64, bytes).at("read", &wheel.path)?;
            for (number, page) in bytes.chunks_exact(PAGE).enumerate() {
                if page != [0; PAGE] {
                    wheel.pages[first + number] = Page::OnDisk(newest(page));
                    let found = page.chunks_exact(SLOT).map(Slot::decode).enumerate();
                    for (place, slot) in found.filter(|(_, slot)| slot.tick > 0) {
                        if wheel.place(slot.tick) != (first + number, place * SLOT) {
                            tracing::warn!(file = %wheel.path.display(), slot.tick, "the timer wheel has a slot at the place of another one: it is made again from the timer log");
                            return Ok(None);
                        }
                        wheel.last_found = wheel.last_found.max(slot.last);
                    }
                }
            }
        }
        (wheel.file, wheel.is_new) = (Some(file), false);
        Ok(Some(wheel))
    }

    /// A wheel without slots that will replace what is in the file.
    pub(super) fn empty(disk: Arc<dyn Disk>, root: &Path, slots: i64) -> Result<Self, StoreError> {
        let wheel = Self::without_slots(disk, root, slots);
        let path = &wheel.path;
        if wheel.disk.exists(path) {
            let file = wheel.disk.open(path, false).at("open", path)?;
            // The file goes to no bytes first, so that a crash leaves none and not an old one.
            file.set_len(0).at("cut", path)?;
            file.sync().at("sync", path)?;
        }
        Ok(wheel)
    }

    /// The furthest position in the timer log that the file led to, -1 for none.
    pub(super) fn last_found(&self) -> i64 {
        self.last_found
    }

    /// Bytes of the file.
    fn length(&self) -> u64 {
        self.slots as u64 * SLOT as u64
    }

    /// Page of a tick, and the byte in it.
    fn place(&self, tick: i64) -> (usize, usize) {
        let index = tick.rem_euclid(self.slots);
        ((index / PER_PAGE) as usize, (index % PER_PAGE) as usize * SLOT)
    }

    /// The chain of a tick, if it has one.
    pub(super) fn slot(&mut self, tick: i64) -> Result<Option<Slot>, StoreError> {
        let (page, at) = self.place(tick);
        match &self.pages[page] {
            Page::Empty => return Ok(None),
            Page::OnDisk(newest) if *newest < tick => return Ok(None),
            _ => {}
        }
        let slot = Slot::decode(&self.page(page)?[at..at + SLOT]);
        Ok((tick > 0 && slot.tick == tick && slot.last >= 0).then_some(slot))
    }

    /// Replaces the chain of a tick.
    pub(super) fn put(&mut self, slot: &Slot) -> Result<(), StoreError> {
        let (page, at) = self.place(slot.tick);
        slot.encode(&mut self.page(page)?[at..at + SLOT]);
        self.dirty.insert(page);
        Ok(())
    }

    /// The first tick of [`from`, `to`) that has a chain.
    pub(super) fn next_used(&mut self, from: i64, to: i64) -> Result<Option<i64>, StoreError> {
        if to - from.max(0) > self.slots {
            // After a long stop: the wheel begins later than where it is read.
            return Ok(self.earliest(from)?.filter(|tick| *tick < to));
        }
        let mut tick = from.max(0);
        while tick < to {
            let (page, at) = self.place(tick);
            let page_end = tick + PER_PAGE - (at / SLOT) as i64;
            let skip = match &self.pages[page] {
                Page::Empty => true,
                Page::OnDisk(newest) => *newest < tick,
                Page::Loaded(_) => false,
            };
            if skip {
                tick = page_end;
            } else if self.slot(tick)?.is_some() {
                return Ok(Some(tick));
            } else {
                tick += 1;
            }
        }
        Ok(None)
    }

    /// The chain that stands where that of a tick has its place.
    pub(super) fn holder(&mut self, tick: i64) -> Result<Option<Slot>, StoreError> {
        let (page, at) = self.place(tick);
        if let Page::Empty = &self.pages[page] {
            return Ok(None);
        }
        let slot = Slot::decode(&self.page(page)?[at..at + SLOT]);
        Ok((slot.is_used() && self.place(slot.tick) == (page, at)).then_some(slot))
    }

    /// All chains from a tick on, in no order.
    pub(super) fn each_from(&mut self, from: i64, mut each: impl FnMut(&Slot)) -> Result<(), StoreError> {
        for number in 0..self.pages.len() {
            match &self.pages[number] {
                Page::Empty => continue,
                Page::OnDisk(newest) if *newest < from => continue,
                _ => {}
            }
            let (first, round) = (number as i64 * PER_PAGE, self.slots);
            let slots = (first..).zip(self.page(number)?.chunks_exact(SLOT).map(Slot::decode));
            // One that is damaged may stand at the place of another time, where nobody who asks for its time finds it.
            let at_its_place = slots.filter(|(place, slot)| slot.is_used() && slot.tick.rem_euclid(round) == *place);
            at_its_place.filter(|(_, slot)| slot.tick >= from).for_each(|(_, slot)| each(&slot));
        }
        Ok(())
    }

    /// The first tick from one on that has a chain, however far away.
    pub(super) fn earliest(&mut self, from: i64) -> Result<Option<i64>, StoreError> {
        let mut earliest: Option<i64> = None;
        self.each_from(from, |slot| earliest = Some(earliest.map_or(slot.tick, |tick| tick.min(slot.tick))))?;
        Ok(earliest)
    }

    /// Gives back the memory of pages that are in the file and wholly before a tick.
    pub(super) fn release(&mut self, before: i64) {
        for (number, page) in self.pages.iter_mut().enumerate() {
            if let Page::Loaded(bytes) = page
                && !self.dirty.contains(&number)
                && newest(&bytes[..]) < before
            {
                *page = Page::OnDisk(newest(&bytes[..]));
            }
        }
    }

    /// Bytes of slots in memory.
    pub(super) fn memory(&self) -> usize {
        self.pages.iter().filter(|page| matches!(page, Page::Loaded(_))).count() * PAGE
    }

    /// Takes what changed since the last call, to be written by [`Dirty::write`] without holding the wheel.
    pub(super) fn take_dirty(&mut self) -> Result<Option<Dirty>, StoreError> {
        if self.dirty.is_empty() {
            return Ok(None);
        }
        let file = self.file_to_write()?;
        let mut pages = Vec::with_capacity(self.dirty.len());
        for number in std::mem::take(&mut self.dirty) {
            if let Page::Loaded(bytes) = &self.pages[number] {
                pages.push((number, bytes.clone()));
            }
        }
        let (disk, path) = (self.disk.clone(), self.path.clone());
        Ok(Some(Dirty { pages, file, disk, path, is_new: self.is_new }))
    }

    /// They were written.
    pub(super) fn written(&mut self) {
        self.is_new = false;
    }

    /// They were not written.
    pub(super) fn give_back(&mut self, dirty: &Dirty) {
        self.dirty.extend(dirty.pages.iter().map(|(number, _)| *number));
    }

    fn file_to_write(&mut self) -> Result<Arc<dyn File>, StoreError> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let path = beside(&self.path);
        let file = self.disk.open(&path, true).at("create", &path)?;
        // A crash may have left a part of one.
        file.set_len(0).at("cut", &path)?;
        file.set_len(self.length()).at("size", &path)?;
        Ok(self.file.insert(file).clone())
    }

    fn page(&mut self, number: usize) -> Result<&mut Bytes, StoreError> {
        let page = &mut self.pages[number];
        if let Page::Loaded(_) = page {
        } else {
            let mut bytes: Bytes = Box::new([0; PAGE]);
            if let (Page::OnDisk(_), Some(file)) = (&*page, &self.file) {
                file.read_exact_at((number * PAGE) as u64, &mut bytes[..]).at("read", &self.path)?;
            }
            *page = Page::Loaded(bytes);
        }
        match page {
            Page::Loaded(bytes) => Ok(bytes),
            _ => unreachable!("loaded above"),
        }
    }
}

impl Dirty {
    /// Writes the pages and returns when they are durable.
    pub(super) fn write(&self) -> Result<(), StoreError> {
        for (number, bytes) in &self.pages {
            self.file.write_all_at((number * PAGE) as u64, &bytes[..]).at("write", &self.path)?;
        }
        self.file.sync().at("sync", &self.path)?;
        if self.is_new {
            // What has the name is whole.
            let path = beside(&self.path);
            if self.disk.exists(&path) {
                self.disk.rename(&path, &self.path).at("name", &self.path)?;
            }
            let root = self.path.parent().unwrap_or(&self.path);
            self.disk.sync_dir(root).at("sync", root)?;
        }
        Ok(())
    }
}

/// Where a wheel is made: Java takes names that begin with `timerwheel.` for snapshots.
fn beside(path: &Path) -> PathBuf {
    path.with_file_name("new-timerwheel")
}

fn newest(page: &[u8]) -> i64 {
    page.chunks_exact(SLOT).map(|slot| get_i64(slot, 0)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    fn load(root: &Path) -> Wheel {
        Wheel::load(Arc::new(RealDisk), root, SLOTS).unwrap().unwrap()
    }

    #[test]
    fn slots_come_back_and_only_used_pages_are_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let mut wheel = Wheel::empty(Arc::new(RealDisk), dir.path(), SLOTS).unwrap();
        let tick = 1_795_492_547;
        for number in [0, 1, 500, 400_000] {
            wheel.put(&Slot::begin(tick + number, number * 52, 1)).unwrap();
        }
        let slot = wheel.slot(tick).unwrap().unwrap().with(5200, 1);
        wheel.put(&slot).unwrap();
        assert_eq!((slot.first, slot.last, slot.num), (0, 5200, 2));
        assert!(wheel.memory() <= 4 * PAGE, "{}", wheel.memory());
        assert_eq!(wheel.slot(tick + 2).unwrap(), None);
        assert_eq!(wheel.slot(tick + SLOTS).unwrap(), None, "another round");
        assert!(!dir.path().join("timerwheel").exists());
        wheel.take_dirty().unwrap().unwrap().write().unwrap();
        assert!(wheel.take_dirty().unwrap().is_none());
        assert_eq!(std::fs::metadata(dir.path().join("timerwheel")).unwrap().len(), 38_707_200);

        let mut again = load(dir.path());
        assert_eq!(again.memory(), 0);
        assert_eq!(again.slot(tick).unwrap(), Some(slot));
        let mut found = Vec::new();
        again.each_from(tick + 1, |slot| found.push(slot.tick - tick)).unwrap();
        found.sort_unstable();
        assert_eq!(found, [1, 500, 400_000]);
        assert_eq!(again.next_used(tick + 501, tick + 2 * SLOTS).unwrap(), Some(tick + 400_000));
        assert_eq!(again.next_used(tick - SLOTS - 5, tick + 1).unwrap(), Some(tick), "more than a round before it");
        assert_eq!(again.holder(tick + SLOTS).unwrap(), Some(slot));
        assert_eq!(again.next_used(tick + 2, tick + 500).unwrap(), None);
        again.release(tick + 1000);
        assert_eq!(again.memory(), PAGE, "the page of the last slot stays");
        assert_eq!(again.slot(tick + 1).unwrap().unwrap().first, 52, "it is read again");
    }

    #[test]
    fn a_file_of_another_size_is_no_wheel() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("timerwheel"), [1; 100]).unwrap();
        assert!(Wheel::load(Arc::new(RealDisk), dir.path(), SLOTS).unwrap().is_none());
        let mut wheel = Wheel::empty(Arc::new(RealDisk), dir.path(), SLOTS).unwrap();
        wheel.put(&Slot::begin(5, 0, 1)).unwrap();
        wheel.take_dirty().unwrap().unwrap().write().unwrap();
        let mut again = load(dir.path());
        assert_eq!(again.next_used(0, SLOTS).unwrap(), Some(5));
    }

    /// It would be found again and again: nobody who asks for its time gets it.
    #[test]
    fn a_slot_of_another_place_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut wheel = Wheel::empty(Arc::new(RealDisk), dir.path(), SLOTS).unwrap();
        let tick = SLOTS * 1000 + 5;
        wheel.put(&Slot::begin(tick, 0, 1)).unwrap();
        wheel.put(&Slot::begin(tick + 3, 52, 1)).unwrap();
        wheel.take_dirty().unwrap().unwrap().write().unwrap();
        let mut wheel = load(dir.path());
        let file = RealDisk.open(&dir.path().join("timerwheel"), false).unwrap();
        file.write_all_at(5 * SLOT as u64, &(tick + 1).to_be_bytes()).unwrap();
        assert_eq!(wheel.next_used(tick - SLOTS - 5, tick + 3).unwrap(), None);
        assert_eq!(wheel.earliest(0).unwrap(), Some(tick + 3));
        assert_eq!(wheel.holder(tick).unwrap(), None);
        assert!(Wheel::load(Arc::new(RealDisk), dir.path(), SLOTS).unwrap().is_none(), "it is made again");
    }
}
