//! Units of consume queues that wait in memory, so that a file is opened and written once for many of them: with many
//! thousand queues hardly a message meets an open file. Bounded for a queue and for all queues together. What is lost with
//! the process is dispatched again from the log. It touches no disk.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Bytes of the longest unit.
const LONGEST: usize = crate::queue::BATCH_UNIT;

/// How many bytes may wait.
pub(crate) struct Room {
    /// From this many on a queue's bytes go to its file.
    of_queue: usize,
    of_all: usize,
    used: AtomicUsize,
}

impl Room {
    /// For so many bytes of one queue, and of all.
    pub(crate) fn new(of_queue: usize, of_all: usize) -> Self {
        Self { of_queue, of_all, used: AtomicUsize::new(0) }
    }

    /// True when `more` bytes would be too many.
    pub(crate) fn is_short_of(&self, more: usize) -> bool {
        self.used.load(SeqCst).saturating_add(more) > self.of_all
    }

    /// Bytes that wait.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used.load(SeqCst)
    }
}

/// The units of one row from `first` on.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Gathered {
    /// Those before it are in files.
    first: i64,
    bytes: Vec<u8>,
    /// Copies of two units that are in files: with them the ends of a row are known without a look at its files.
    known: Option<Box<[Option<Known>; 2]>>,
}

type Known = (i64, [u8; LONGEST]);

impl Gathered {
    /// Number of the first unit that is in no file.
    pub(crate) fn first(&self) -> i64 {
        self.first
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds units; says whether they may stay in memory.
    pub(crate) fn add(&mut self, room: &Room, bytes: &[u8]) -> bool {
        self.bytes.extend_from_slice(bytes);
        let used = room.used.fetch_add(bytes.len(), SeqCst) + bytes.len();
        self.bytes.len() < room.of_queue && used <= room.of_all
    }

    /// The first bytes of what waits were written, whole units of `unit` bytes.
    pub(crate) fn written(&mut self, room: &Room, bytes: usize, unit: usize) {
        if bytes == 0 {
            return;
        }
        let last = &self.bytes[bytes - unit..bytes];
        let (number, copy) = (self.first + (bytes / unit) as i64 - 1, copy_of(last));
        self.known.get_or_insert_default()[1] = Some((number, copy));
        self.first = number + 1;
        room.used.fetch_sub(bytes, SeqCst);
        // With many queues, memory that is held for what may come would be most of it.
        self.bytes = self.bytes.split_off(bytes);
    }

    /// Keeps the units before `end`; those that are in files are the files' matter.
    pub(crate) fn cut(&mut self, room: &Room, end: i64, unit: usize) {
        let keep = ((end - self.first).max(0) as usize * unit).min(self.bytes.len());
        room.used.fetch_sub(self.bytes.len() - keep, SeqCst);
        self.bytes.truncate(keep);
        self.first = self.first.min(end);
        self.forget(|number| number >= end);
    }

    /// Nothing waits, and the next unit is `first`.
    pub(crate) fn begin_at(&mut self, room: &Room, first: i64) {
        room.used.fetch_sub(self.bytes.len(), SeqCst);
        *self = Self { first, ..Self::default() };
    }

    /// Remembers a unit that was read of a file, the first or the last one.
    pub(crate) fn know(&mut self, number: i64, unit: &[u8], is_last: bool) {
        self.known.get_or_insert_default()[usize::from(is_last)] = Some((number, copy_of(unit)));
    }

    fn forget(&mut self, is_wrong: impl Fn(i64) -> bool) {
        let known = self.known.iter_mut().flat_map(|known| known.iter_mut());
        known.for_each(|known| *known = known.take().filter(|(number, _)| !is_wrong(*number)));
    }

    /// Puts a unit in the place of another one; false when that is in a file.
    pub(crate) fn replace(&mut self, number: i64, unit: &[u8]) -> bool {
        self.forget(|other| other == number);
        if number < self.first {
            return false;
        }
        let at = (number - self.first) as usize * unit.len();
        if let Some(place) = self.bytes.get_mut(at..at + unit.len()) {
            place.copy_from_slice(unit);
        }
        true
    }

    /// Copies units from `from` on into `buf`, as far as they are here. Returns how many of the first ones are in files.
    pub(crate) fn copy(&self, from: i64, unit: usize, buf: &mut [u8]) -> usize {
        let count = (buf.len() / unit) as i64;
        let mut known = self.known.iter().flat_map(|known| known.iter().flatten());
        if let Some((_, known)) = known.find(|(number, _)| *number == from && count == 1) {
            buf.copy_from_slice(&known[..unit]);
            return 0;
        }
        let in_files = (self.first - from).clamp(0, count) as usize;
        let at = (from + in_files as i64 - self.first).max(0) as usize * unit;
        let here = self.bytes.get(at..).unwrap_or_default();
        let buf = &mut buf[in_files * unit..];
        let length = here.len().min(buf.len());
        buf[..length].copy_from_slice(&here[..length]);
        in_files
    }
}

fn copy_of(unit: &[u8]) -> [u8; LONGEST] {
    let mut copy = [0; LONGEST];
    copy[..unit.len()].copy_from_slice(unit);
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(range: std::ops::Range<u8>) -> Vec<u8> {
        range.flat_map(|number| [number; 20]).collect()
    }

    #[test]
    fn units_are_here_or_in_files_and_the_sum_is_exact() {
        let room = Room::new(100, 1000);
        let mut gathered = Gathered::default();
        assert!(gathered.add(&room, &numbered(0..4)));
        assert!(!gathered.add(&room, &numbered(4..6)), "a queue's bound");
        gathered.written(&room, 60, 20);
        assert_eq!((gathered.first(), gathered.bytes(), room.used()), (3, &numbered(3..6)[..], 60));
        let mut buf = [99; 80];
        assert_eq!(gathered.copy(1, 20, &mut buf), 2);
        assert_eq!(buf[40..], numbered(3..5));
        assert_eq!(gathered.copy(2, 20, &mut buf[..20]), 0, "the last one of the file is known");
        assert_eq!(buf[..20], [2; 20]);
        assert!(gathered.replace(3, &[9; 20]) && !gathered.replace(2, &[9; 20]));
        assert_eq!((gathered.copy(2, 20, &mut buf[..20]), gathered.copy(3, 20, &mut buf[..20])), (1, 0));
        assert_eq!(buf[..20], [9; 20]);
        gathered.cut(&room, 4, 20);
        assert_eq!((gathered.first(), gathered.bytes().len(), room.used()), (3, 20, 20));
        gathered.cut(&room, 1, 20);
        assert_eq!((gathered.first(), room.used()), (1, 0));
    }

    #[test]
    fn the_bound_of_all_queues() {
        let room = Room::new(100, 60);
        let (mut one, mut other) = (Gathered::default(), Gathered::default());
        assert!(one.add(&room, &numbered(0..2)) && !room.is_short_of(20) && room.is_short_of(40));
        assert!(!other.add(&room, &numbered(0..2)));
        other.begin_at(&room, 7);
        assert_eq!((other.first(), room.used()), (7, 40));
    }
}
