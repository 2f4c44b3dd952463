//! A slot whose time has begun. Only a part of its messages is in memory, the earliest of the part first; the rest of the
//! chain is read when there is room. Of each message that takes another one back it keeps a hash and a place, and reads
//! the record again before it drops anything. It writes nothing and delivers nothing.

use std::{
    collections::{BinaryHeap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    TopicCount,
    log::{TimerLog, Unit},
    message::TimerMessage,
    wheel::Slot,
};
use crate::{error::StoreError, store::Store};

/// A message of a slot whose time has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) due_ms: i64,
    /// Of two that are due at the same time the older one comes first.
    pub(super) physical: i64,
    pub(super) size: i32,
    pub(super) roll: bool,
    pub(super) enqueue_ms: i64,
    /// Of a late one, which is not in the timer log.
    pub(super) late_offset: Option<i64>,
}

impl Ord for Waiting {
    /// The earliest is the greatest, as a heap wants it.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due_ms, other.physical).cmp(&(self.due_ms, self.physical))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Bounds of a slot.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) precision_ms: i64,
    /// Messages in memory.
    pub(super) most: usize,
}

/// The open slot.
pub(super) struct OpenSlot {
    pub(super) tick: i64,
    /// Its messages are in the counts by topic.
    pub(super) counted: bool,
    /// Messages that take back may not be taken up: they are looked up.
    pub(super) in_doubt: bool,
    /// Some of its messages are delivered.
    pub(super) begun: bool,
    /// Where its chain broke off before its first unit, and how many messages lie before that.
    pub(super) lost: Option<(i64, i64)>,
    bounds: Bounds,
    waiting: BinaryHeap<Waiting>,
    /// Parts of the chain that are not in memory, the oldest first.
    pieces: VecDeque<Piece>,
    takers: Takers,
}

/// Units of a chain: those after position `after` up to the one at `last`.
#[derive(Clone, Copy)]
struct Piece {
    after: i64,
    last: i64,
    count: usize,
}

/// What becomes of a message that somebody took back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TakenBack {
    /// By one that was counted for it.
    Counted,
    /// By one that took another back already.
    Again,
}

impl OpenSlot {
    /// Looks through a slot's chain: who takes back, and how it falls into pieces.
    pub(super) fn open(
        store: &Store,
        log: &TimerLog,
        slot: &Slot,
        bounds: Bounds,
        gone: &mut Gone<'_>,
    ) -> Result<Self, StoreError> {
        let (waiting, pieces, takers) = (BinaryHeap::new(), VecDeque::new(), Takers::default());
        let (tick, lost) = (slot.tick, None);
        let mut open =
            Self { tick, counted: true, in_doubt: false, begun: false, lost, bounds, waiting, pieces, takers };
        let (mut reached, mut missing) = (i64::MAX, i64::from(slot.num));
        let half = bounds.most.div_ceil(2);
        log.chain(slot.last, -1, slot.tick, bounds.precision_ms, |position, unit| {
            (reached, missing) = (position, missing - i64::from(unit.count()));
            match open.pieces.front_mut() {
                Some(piece) if piece.count < half => piece.count += 1,
                Some(piece) => {
                    piece.after = position;
                    open.pieces.push_front(Piece { after: -1, last: position, count: 1 });
                }
                None => open.pieces.push_front(Piece { after: -1, last: position, count: 1 }),
            }
            if unit.takes_back()
                && let Some(bytes) = gone.read(store, unit.physical, unit.size)?
                && let Some(message) = TimerMessage::of(&bytes)
                && let Some(key) = message.takes_back()
            {
                open.takers.all.push(Taker { hash: hash_of(key), physical: unit.physical, met: false });
            }
            Ok(())
        })?;
        // What Java calls the first may be none, and one may have gone with its file.
        if slot.first >= log.min() && reached > slot.first {
            open.lost = Some((reached, missing.max(1)));
        }
        open.takers.all.sort_by_key(|taker| taker.hash);
        Ok(open)
    }

    /// Reads on where there is room for more.
    pub(super) fn fill(&mut self, store: &Store, log: &TimerLog, gone: &mut Gone<'_>) -> Result<(), StoreError> {
        while self.waiting.len() <= self.bounds.most / 2
            && let Some(piece) = self.pieces.front().copied()
        {
            let (mut waiting, precision_ms) = (Vec::new(), self.bounds.precision_ms);
            log.chain(piece.last, piece.after, self.tick, precision_ms, |_, unit| {
                if !unit.takes_back()
                    && let Some(bytes) = gone.read(store, unit.physical, unit.size)?
                    && let Some(message) = TimerMessage::of(&bytes)
                {
                    waiting.push(Waiting::of(unit, &message, precision_ms));
                }
                Ok(())
            })?;
            // All of the piece or none: what cannot be read now is read again with the rest.
            self.waiting.extend(waiting);
            self.pieces.pop_front();
        }
        Ok(())
    }

    /// Adds a unit that came while the slot is open.
    pub(super) fn add(&mut self, position: i64, unit: &Unit, message: &TimerMessage<'_>) {
        if unit.takes_back() {
            let Some(key) = message.takes_back() else { return };
            self.takers.add(Taker { hash: hash_of(key), physical: unit.physical, met: false });
        } else if self.pieces.is_empty() && self.waiting.len() < self.bounds.most {
            self.waiting.push(Waiting::of(unit, message, self.bounds.precision_ms));
        } else {
            match self.pieces.back_mut() {
                Some(piece) if piece.count < self.bounds.most / 2 => {
                    piece.last = position;
                    piece.count += 1;
                }
                _ => self.pieces.push_back(Piece { after: unit.previous, last: position, count: 1 }),
            }
        }
    }

    /// Whether somebody of this slot takes a message back.
    pub(super) fn takes_back(&mut self, store: &Store, message: &TimerMessage<'_>) -> Option<TakenBack> {
        if self.takers.all.is_empty() {
            return None;
        }
        message.keys()?.iter().find_map(|key| self.takers.find(store, key))
    }

    /// The first message that is due.
    pub(super) fn first_due(&self, now_ms: i64) -> Option<&Waiting> {
        self.waiting.peek().filter(|first| first.due_ms <= now_ms)
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        self.waiting.pop()
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        self.waiting.push(waiting);
    }

    /// When the next of those in memory is due.
    pub(super) fn next_due_ms(&self) -> Option<i64> {
        self.waiting.peek().map(|first| first.due_ms)
    }

    /// Messages in memory.
    pub(super) fn in_memory(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.pieces.is_empty()
    }

    /// Where what is left of it lies: single records, and parts of the chain without those that take back.
    pub(super) fn rest(&self) -> (Vec<i64>, Vec<(i64, i64)>) {
        let unmet = self.takers.all.iter().filter(|taker| !taker.met).map(|taker| taker.physical);
        let single = self.waiting.iter().map(|waiting| waiting.physical).chain(unmet).collect();
        (single, self.pieces.iter().map(|piece| (piece.last, piece.after)).collect())
    }

    /// Those that took back nothing count no longer against their topic.
    pub(super) fn settle(self, store: &Store, count: TopicCount<'_>) {
        for taker in self.takers.all.iter().filter(|taker| self.counted && !taker.met) {
            if let Some(bytes) = store.read_record(taker.physical)
                && let Some(message) = TimerMessage::of(&bytes)
            {
                count(message.real_topic, 1);
            }
        }
    }
}

impl Waiting {
    fn of(unit: &Unit, message: &TimerMessage<'_>, precision_ms: i64) -> Self {
        let roll = unit.kind().roll;
        Self {
            due_ms: if roll { unit.slot_ms() + precision_ms } else { message.due_ms(precision_ms) },
            physical: unit.physical,
            size: unit.size,
            roll,
            enqueue_ms: unit.write_ms,
            late_offset: None,
        }
    }
}

/// Messages that take others back, by the hash of the key they name.
#[derive(Default)]
struct Takers {
    all: Vec<Taker>,
}

struct Taker {
    hash: u64,
    physical: i64,
    met: bool,
}

impl Takers {
    fn add(&mut self, taker: Taker) {
        let at = self.all.partition_point(|other| other.hash <= taker.hash);
        self.all.insert(at, taker);
    }

    fn find(&mut self, store: &Store, key: &str) -> Option<TakenBack> {
        let hash = hash_of(key);
        let from = self.all.partition_point(|taker| taker.hash < hash);
        let to = self.all.partition_point(|taker| taker.hash <= hash);
        let mut found = None;
        for taker in &mut self.all[from..to] {
            let bytes = store.read_record(taker.physical);
            let named = bytes.as_deref().and_then(TimerMessage::of);
            if named.is_some_and(|message| message.takes_back() == Some(key)) {
                if !std::mem::replace(&mut taker.met, true) {
                    return Some(TakenBack::Counted);
                }
                found = Some(TakenBack::Again);
            }
        }
        found
    }
}

fn hash_of(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// How long the timer stands still for records that the device does not give, ms: it may give them again.
const PATIENCE_MS: i64 = 30_000;
/// And how long it does not after that. A message is not given up for what passes, and all others not held up for one that
/// stays damaged.
const NO_PATIENCE_MS: i64 = 600_000;

/// When a record could not be read the first time, ms.
#[derive(Default)]
pub(super) struct Patience(Mutex<Option<i64>>);

impl Patience {
    fn has_more(&self, now_ms: i64) -> bool {
        let mut began = self.0.lock();
        let is_over = began.is_none_or(|began| !(began..began.saturating_add(NO_PATIENCE_MS)).contains(&now_ms));
        *began = if is_over { Some(now_ms) } else { *began };
        began.is_none_or(|began| now_ms < began + PATIENCE_MS)
    }
}

/// Reads messages that wait. Of those whose records the log does not have any more it keeps how many there are, and the first
/// one's place: the log hears of all of them in one line.
pub(super) struct Gone<'a> {
    patience: &'a Patience,
    now_ms: i64,
    messages: usize,
    physical: i64,
}

impl<'a> Gone<'a> {
    pub(super) fn new(patience: &'a Patience, now_ms: i64) -> Self {
        Self { patience, now_ms, messages: 0, physical: 0 }
    }

    /// The record of a message that waits. An error is to be tried again, later.
    pub(super) fn read(&mut self, store: &Store, physical: i64, size: i32) -> Result<Option<Bytes>, StoreError> {
        let bytes = self.readable(store.try_read_record(physical), physical)?;
        let bytes = bytes.flatten().filter(|bytes| bytes.len() == size as usize);
        if bytes.is_none() {
            self.physical = if self.messages == 0 { physical } else { self.physical };
            self.messages += 1;
        }
        Ok(bytes)
    }

    /// What was read at a place; `None` where reading failed for so long that it is passed over.
    pub(super) fn readable<T>(&self, read: Result<T, StoreError>, at: i64) -> Result<Option<T>, StoreError> {
        match read {
            Err(error) if self.patience.has_more(self.now_ms) => Err(error),
            Err(error) => {
                tracing::error!(at, %error, "the timer message at this place cannot be read and is passed over: it stays in the timer topic");
                Ok(None)
            }
            Ok(found) => Ok(Some(found)),
        }
    }
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let Self { messages, physical, .. } = *self;
        if messages > 0 {
            tracing::warn!(
                messages,
                physical,
                "timer messages were deleted with old segments before their time and cannot be delivered, the first of \
                 them from that physical offset; keep more of the log (fileReservedTime, space on its disk)"
            );
        }
    }
}
