//! Pieces of the log that were read whole, for records that many readers ask for one by one: queues lie in turns in the
//! log, so that what passes through eight of them would read each piece eight times in small calls.
//!
//! A piece holds bytes below the mark `appended` alone, which change only when the log is cut; whoever cuts or deletes
//! calls [`Pieces::forget_from`] or [`Pieces::forget_below`] after the mark is down. Never decides whether a record is still
//! there, never reports an error: what is not in a piece is read by itself.

use std::ops::Range;

use parking_lot::Mutex;

use crate::{log::Log, mark::Mark};

/// How records are read that lie behind the end of the log. Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColdReads {
    /// Of a piece. What a core's own cache holds: what is read is copied on at once.
    pub piece: usize,
    /// Pieces that are kept, at most; with 0 each record is read by itself.
    pub pieces: usize,
    /// The last bytes of the log, which are read record by record: who follows the end finds few that others want too.
    pub behind: i64,
    /// Records that are read by themselves, or will be soon, before the piece that holds them is read. As many small reads
    /// take about the time of one of a piece, so the worst a piece can cost is twice what it could save.
    pub worth: usize,
    /// Records in a row from this size on are read by themselves.
    pub longest: usize,
}

impl Default for ColdReads {
    fn default() -> Self {
        Self { piece: 256 << 10, pieces: 32, behind: 8 << 20, worth: 16, longest: 8 << 10 }
    }
}

impl ColdReads {
    /// Each record is read by itself.
    pub const NONE: Self = Self { piece: 1, pieces: 0, behind: i64::MAX, worth: usize::MAX, longest: 0 };
}

/// The disk is told of so many pieces at once, so that it gets few and large requests,
const SPAN: i64 = 4;
/// and so many pieces before they are read: some milliseconds, which a disk takes that others use too.
const AHEAD: i64 = 16;

/// No piece.
const NOTHING: i64 = -1;

/// The pieces of one log. Each has one slot that it can be in.
pub(crate) struct Pieces {
    piece: i64,
    worth: usize,
    slots: Box<[Mutex<Slot>]>,
}

struct Slot {
    /// First byte of the piece, or [`NOTHING`].
    start: i64,
    /// Empty when it could not be read.
    bytes: Vec<u8>,
    /// A piece that could be here, and how many of its records were read by themselves.
    asked: (i64, usize),
}

impl Slot {
    const fn empty() -> Self {
        Self { start: NOTHING, bytes: Vec::new(), asked: (NOTHING, 0) }
    }
}

impl Pieces {
    pub(crate) fn new(config: ColdReads) -> Self {
        let slots = (0..config.pieces).map(|_| Mutex::new(Slot::empty())).collect();
        Self { piece: config.piece.max(1) as i64, worth: config.worth, slots }
    }

    /// Appends `place` of the log to `out`; false, and nothing is appended, where it is better read by itself. `soon` counts
    /// the records of a piece that will be asked for next, the first one among them.
    pub(crate) fn copy(
        &self,
        log: &Log,
        place: Range<i64>,
        appended: &Mark,
        soon: &dyn Fn(&Range<i64>) -> usize,
        out: &mut Vec<u8>,
    ) -> bool {
        if self.slots.is_empty() {
            return false;
        }
        let before = out.len();
        let mut at = place.start;
        while at < place.end {
            let piece = self.around(log, at);
            let part = at..place.end.min(piece.end);
            at = part.end;
            if !self.copy_part(log, &piece, part, appended, soon, out) {
                out.truncate(before);
                return false;
            }
        }
        true
    }

    fn copy_part(
        &self,
        log: &Log,
        piece: &Range<i64>,
        part: Range<i64>,
        appended: &Mark,
        soon: &dyn Fn(&Range<i64>) -> usize,
        out: &mut Vec<u8>,
    ) -> bool {
        // Who wants the same piece meanwhile waits here for the same bytes.
        let mut slot = self.slots[(piece.start / self.piece) as usize % self.slots.len()].lock();
        if slot.start != piece.start {
            let asked = if slot.asked.0 == piece.start { slot.asked.1 } else { 0 };
            if asked + soon(piece) < self.worth {
                slot.asked = (piece.start, asked + 1);
                return false;
            }
            self.fill(&mut slot, log, piece, appended);
        }
        let (from, to) = ((part.start - piece.start) as usize, (part.end - piece.start) as usize);
        match slot.bytes.get(from..to) {
            Some(bytes) if slot.start == piece.start => {
                out.extend_from_slice(bytes);
                true
            }
            _ => false,
        }
    }

    fn fill(&self, slot: &mut Slot, log: &Log, piece: &Range<i64>, appended: &Mark) {
        slot.start = NOTHING;
        // Looked at within the slot's lock: whoever cuts the log lowers the mark first and then forgets, and so finds this
        // piece, or it is too late to be read here.
        if appended.get() < piece.end {
            return;
        }
        let wanted = (piece.end - piece.start) as usize;
        slot.bytes.resize(wanted, 0);
        // A failure is not told: it concerns a record only if that cannot be read by itself either.
        if !matches!(log.read(piece.start, &mut slot.bytes), Ok(Some(read)) if read == wanted) {
            slot.bytes = Vec::new();
        }
        slot.start = piece.start;
        let span = SPAN * self.piece;
        let ahead = piece.start + AHEAD * self.piece;
        if (piece.start - log.base_of(piece.start)) % span == 0 && ahead + span <= appended.get() {
            log.will_read(ahead, span);
        }
    }

    /// The piece that holds `at`. None reaches beyond its segment.
    fn around(&self, log: &Log, at: i64) -> Range<i64> {
        let base = log.base_of(at);
        let start = at - (at - base) % self.piece;
        start..(start + self.piece).min(log.next_base(at))
    }

    /// The log is cut at `offset`.
    pub(crate) fn forget_from(&self, offset: i64) {
        self.forget_where(|start| start + self.piece > offset);
    }

    /// The log begins at `min`.
    pub(crate) fn forget_below(&self, min: i64) {
        self.forget_where(|start| start < min);
    }

    fn forget_where(&self, is_gone: impl Fn(i64) -> bool) {
        for slot in &self.slots {
            let mut slot = slot.lock();
            if slot.start != NOTHING && is_gone(slot.start) {
                *slot = Slot::empty();
            }
        }
    }
}
