//! Messages of one queue from an offset on. Source: `DefaultMessageStore.java` (getMessage, isTheBatchFull,
//! nextOffsetCorrection); reference store 15. Never hands out a record beyond the `dispatched` mark.

use std::{ops::Range, sync::atomic::Ordering::SeqCst};

use bytes::Bytes;
use wire::record::RecordView;

use crate::{
    error::StoreError,
    queue::{Kind, Queue, Unit, decode},
    read::is_record_at,
    store::Store,
};

/// Units that are read from a queue file at once.
const UNITS_AT_ONCE: usize = 128;
const MAX_BYTES: u64 = 128 * 1024 * 1024;

/// Chooses messages. Both calls must say yes.
pub trait MessageFilter {
    /// By the code in the queue unit; `None` when it does not tell the tags.
    fn matches_tags_code(&self, tags_code: Option<i64>) -> bool;
    /// By the record.
    fn matches_record(&self, record: &RecordView<'_>) -> bool;
}

/// Chooses everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct EveryMessage;

impl MessageFilter for EveryMessage {
    fn matches_tags_code(&self, _: Option<i64>) -> bool {
        true
    }

    fn matches_record(&self, _: &RecordView<'_>) -> bool {
        true
    }
}

/// How a get went. Source: `GetMessageStatus.java`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetStatus {
    /// At least one message.
    Found,
    /// All were filtered out.
    NoMatchedMessage,
    /// The records are gone from the log.
    MessageWasRemoving,
    /// A file of the queue is missing.
    OffsetFoundNull,
    /// Far beyond the end.
    OffsetOverflowBadly,
    /// Exactly at the end.
    OffsetOverflowOne,
    /// Before the first message.
    OffsetTooSmall,
    /// The queue has never had a message.
    NoMessageInQueue,
    /// The device, or the system, did not give what is there: it is to be asked for again.
    Unreadable,
}

/// Answer of [`Store::get_messages`].
#[derive(Clone, Debug)]
pub struct GetResult {
    /// How it went.
    pub status: GetStatus,
    /// Where to go on.
    pub next_begin_offset: i64,
    /// First offset of the queue.
    pub min_offset: i64,
    /// Offset after the last message of the queue.
    pub max_offset: i64,
    /// Records back to back.
    pub messages: Bytes,
    /// Messages in them; an inner batch counts as all it holds.
    pub count: u32,
    /// Where each record of `messages` begins, with the queue offset of its first message.
    pub places: Vec<(usize, i64)>,
    /// What is read is no longer in this broker's memory.
    pub suggest_pull_from_slave: bool,
}

/// A get in progress.
struct Get<'a> {
    store: &'a Store,
    queue: &'a Queue,
    filter: &'a dyn MessageFilter,
    from: i64,
    max_count: u32,
    max_bytes: u64,
    /// Units beyond this many bytes from `from` are not looked at.
    max_unit_bytes: i64,
    status: GetStatus,
    next: i64,
    records: Records,
    count: u32,
    places: Vec<(usize, i64)>,
    /// Records below this are gone: a record was missing before.
    gone_below: Option<i64>,
    /// Reading the next one failed.
    is_unreadable: bool,
    last_physical: i64,
    /// Bytes at the end of the log that count as in memory.
    window: i64,
    log_end: i64,
}

impl Store {
    /// Up to `max_num` messages from `offset` on that `filter` lets through.
    pub fn get_messages(
        &self,
        topic: &str,
        queue_id: i32,
        offset: i64,
        max_num: i32,
        filter: &dyn MessageFilter,
    ) -> GetResult {
        self.get_messages_within(topic, queue_id, offset, max_num, MAX_BYTES, filter)
    }

    /// As [`Store::get_messages`], with a bound on the bytes, which the first message may exceed.
    pub fn get_messages_within(
        &self,
        topic: &str,
        queue_id: i32,
        offset: i64,
        max_num: i32,
        max_bytes: u64,
        filter: &dyn MessageFilter,
    ) -> GetResult {
        let Some(queue) = self.queues.get(topic, queue_id) else {
            return self.nothing(GetStatus::NoMessageInQueue, offset, 0, (0, 0));
        };
        let (min, max) = (queue.min(), queue.max());
        let outside = match () {
            () if max == 0 => Some((GetStatus::NoMessageInQueue, 0)),
            () if offset < min => Some((GetStatus::OffsetTooSmall, min)),
            () if offset == max => Some((GetStatus::OffsetOverflowOne, offset)),
            () if offset > max => Some((GetStatus::OffsetOverflowBadly, max)),
            () => None,
        };
        if let Some((status, next)) = outside {
            return self.nothing(status, offset, next, (min, max));
        }
        let mut get = Get::new(self, &queue, offset, max_num, max_bytes, filter);
        // An error is logged; what was read before it counts. Nobody may be led past what could not be read.
        let is_unreadable = self.told(get.run(max)).is_none() || get.is_unreadable;
        if get.next > offset {
            return get.result(min, max);
        }
        if is_unreadable {
            return self.nothing(GetStatus::Unreadable, offset, offset, (min, max));
        }
        // No unit could be read: retention was faster, or a file is missing.
        let (min, max) = (queue.min(), queue.max());
        if offset < min {
            return self.nothing(GetStatus::OffsetTooSmall, offset, min, (min, max));
        }
        let next = self.told(behind_missing(&queue, offset)).unwrap_or(offset);
        self.nothing(GetStatus::OffsetFoundNull, offset, next.min(max), (min, max))
    }

    fn nothing(&self, status: GetStatus, asked: i64, next: i64, (min_offset, max_offset): (i64, i64)) -> GetResult {
        GetResult {
            status,
            next_begin_offset: self.corrected(asked, next),
            min_offset,
            max_offset,
            messages: Bytes::new(),
            count: 0,
            places: Vec::new(),
            suggest_pull_from_slave: false,
        }
    }

    /// A slave may be behind: it sends nobody elsewhere.
    fn corrected(&self, asked: i64, next: i64) -> i64 {
        if self.is_slave.load(SeqCst) && !self.config.offset_check_in_slave { asked } else { next }
    }
}

/// Where a queue goes on behind units that are not there: with its next file, as in Java. In a batch row an offset tells no
/// file; it goes on with its first unit.
fn behind_missing(queue: &Queue, offset: i64) -> Result<i64, StoreError> {
    match queue.kind() {
        Kind::Simple => Ok(queue.units().segment_start(offset) + queue.units().per_segment()),
        Kind::Batch => Ok(queue.unit_at(queue.units().start())?.map_or(offset, |first| first.queue_offset.max(offset))),
    }
}

impl<'a> Get<'a> {
    fn new(
        store: &'a Store,
        queue: &'a Queue,
        from: i64,
        max_num: i32,
        max_bytes: u64,
        filter: &'a dyn MessageFilter,
    ) -> Self {
        let max_count = max_num.max(0) as u32;
        let wanted = u64::from(max_count) * queue.kind().unit_size() as u64;
        Self {
            store,
            queue,
            filter,
            from,
            max_count,
            max_bytes: max_bytes.clamp(100, MAX_BYTES),
            max_unit_bytes: store.config.max_filter_message_size.max(wanted) as i64,
            status: GetStatus::NoMatchedMessage,
            next: from,
            records: Records::default(),
            count: 0,
            places: Vec::new(),
            gone_below: None,
            is_unreadable: false,
            last_physical: 0,
            window: store.config.memory_window(),
            log_end: store.max_phys(),
        }
    }

    fn run(&mut self, max: i64) -> Result<(), StoreError> {
        let mut files = 0;
        while self.records.kept == 0
            && !self.is_unreadable
            && self.next < max
            && files < self.store.config.max_queue_files_per_get
        {
            files += 1;
            self.gone_below = None;
            self.one_file(max)?;
        }
        Ok(())
    }

    /// Looks at units to the end of a queue file.
    fn one_file(&mut self, max: i64) -> Result<(), StoreError> {
        let Some(mut place) = self.queue.place_of(self.next)? else { return Ok(()) };
        let file_end = self.queue.units().segment_start(place) + self.queue.units().per_segment();
        let (kind, size) = (self.queue.kind(), self.queue.kind().unit_size());
        let mut bytes = Vec::new();
        let mut at_once = (self.max_count as usize).clamp(1, UNITS_AT_ONCE);
        while place < file_end && self.next < max {
            let read = self.queue.units().read(place, at_once, &mut bytes)?;
            at_once = UNITS_AT_ONCE;
            if read == 0 {
                return Ok(());
            }
            let units = bytes.chunks_exact(size).zip(place..).map(|(bytes, number)| decode(kind, number, bytes));
            let units: Vec<Unit> = units.collect();
            if !self.take(&units) {
                return Ok(());
            }
            place += read as i64;
        }
        Ok(())
    }

    /// Takes units in; false when it has enough.
    fn take(&mut self, units: &[Unit]) -> bool {
        for (number, unit) in units.iter().enumerate() {
            let looked_at =
                unit.queue_offset.saturating_sub(self.from).saturating_mul(self.queue.kind().unit_size() as i64);
            if looked_at >= self.max_unit_bytes || self.is_full(unit) {
                return false;
            }
            let before = std::mem::replace(&mut self.next, unit.next());
            if unit.is_filler() {
                continue;
            }
            if unit.physical_offset < 0 || unit.size <= 0 || unit.end() > self.log_end {
                // A damaged unit points nowhere.
                self.missed(GetStatus::MessageWasRemoving);
                continue;
            }
            self.last_physical = unit.physical_offset;
            if self.gone_below.is_some_and(|end| unit.physical_offset < end) {
                continue;
            }
            if !self.filter.matches_tags_code(self.queue.tags_code(unit)) {
                self.missed(GetStatus::NoMatchedMessage);
                continue;
            }
            self.record(unit, &units[number..]);
            if self.is_unreadable {
                self.next = before;
                return false;
            }
        }
        true
    }

    fn record(&mut self, unit: &Unit, following: &[Unit]) {
        if !self.records.holds(unit) {
            self.read(unit, following);
        }
        let Some(record) = self.records.at(unit) else {
            if self.is_unreadable {
                return;
            }
            self.missed(GetStatus::MessageWasRemoving);
            self.gone_below = Some(self.store.log.next_base(unit.physical_offset.max(0)));
            return;
        };
        if !RecordView::layout(record).is_some_and(|record| self.filter.matches_record(&record)) {
            self.missed(GetStatus::NoMatchedMessage);
            return;
        }
        let size = record.len();
        self.places.push((self.records.kept, unit.queue_offset));
        self.records.keep(unit.physical_offset, size);
        self.count += unit.count.max(1) as u32;
        self.status = GetStatus::Found;
        self.gone_below = None;
    }

    /// Reads the record of `unit`, which is the first of `following`, and those that lie behind it as far as they fit
    /// into the answer. What cannot be read is not held afterwards.
    fn read(&mut self, unit: &Unit, following: &[Unit]) {
        let log = &self.store.log;
        let (limit, max_records) = self.transfer_limits(unit.physical_offset);
        let left = max_records.min(self.max_count).saturating_sub(self.count).max(1) as usize;
        if self.records.bytes.capacity() == 0 {
            let wanted: u64 = following.iter().take(left).map(|unit| unit.size.max(0) as u64).sum();
            self.records.bytes.reserve_exact(wanted.min(limit) as usize);
        }
        let segment_end = log.next_base(unit.physical_offset);
        let mut end = unit.end();
        for next in following.iter().take(left).skip(1) {
            let fits = next.end().saturating_sub(unit.physical_offset) <= limit as i64 && next.end() <= segment_end;
            // A damaged unit may have a size below zero.
            if next.physical_offset != end || next.size <= 0 || !fits {
                break;
            }
            end = next.end();
        }
        let at = unit.physical_offset;
        let is_there = at >= self.store.min_phys().max(0) && end <= self.log_end && end <= segment_end;
        self.records.begin(at);
        if is_there && !self.read_shared(at..end, following) {
            let room = self.records.room((end - at) as usize);
            let mut told = self.store.told(log.read(at, room));
            if told.is_none() && end > unit.end() {
                // It may be one of those behind that cannot be read.
                let room = self.records.room(unit.size as usize);
                told = self.store.told(log.read(at, room));
            }
            self.is_unreadable = told.is_none();
            let read = told.flatten();
            self.records.bytes.truncate(self.records.kept + read.unwrap_or(0));
        }
    }

    /// From a piece of the log that serves other records too, far from the end.
    fn read_shared(&mut self, place: Range<i64>, following: &[Unit]) -> bool {
        let (store, queue, filter) = (self.store, self.queue, self.filter);
        let cold = &store.config.cold_reads;
        if self.log_end - place.end < cold.behind || place.end - place.start >= cold.longest as i64 {
            return false;
        }
        let soon = |piece: &Range<i64>| {
            let before_end = following.iter().take_while(|unit| unit.physical_offset < piece.end);
            let within = before_end.filter(|unit| unit.physical_offset >= piece.start);
            within.filter(|unit| filter.matches_tags_code(queue.tags_code(unit))).count()
        };
        store.log.read_shared(place, &store.marks.appended, &soon, &mut self.records.bytes)
    }

    fn missed(&mut self, status: GetStatus) {
        if self.records.kept == 0 {
            self.status = status;
        }
    }

    fn is_full(&self, unit: &Unit) -> bool {
        if self.records.kept == 0 {
            return false;
        }
        let (bytes, count) = self.transfer_limits(unit.physical_offset);
        let after = self.records.kept as u64 + unit.size.max(0) as u64;
        self.count + unit.count.max(1) as u32 > self.max_count
            || after > self.max_bytes
            || after > bytes
            || self.count + 1 > count
    }

    /// Bytes and messages of one answer: fewer when they must come from the disk.
    fn transfer_limits(&self, physical: i64) -> (u64, u32) {
        let config = &self.store.config;
        if self.log_end.saturating_sub(physical) <= self.window {
            (config.max_transfer_bytes_in_memory, config.max_transfer_count_in_memory)
        } else {
            (config.max_transfer_bytes_on_disk, config.max_transfer_count_on_disk)
        }
    }

    fn result(self, min_offset: i64, max_offset: i64) -> GetResult {
        GetResult {
            status: self.status,
            next_begin_offset: self.next,
            min_offset,
            max_offset,
            messages: self.records.into_bytes(),
            count: self.count,
            places: self.places,
            suggest_pull_from_slave: self.log_end.saturating_sub(self.last_physical) > self.window,
        }
    }
}

/// The records of the answer, and behind them what was read of the log and not looked at yet: records that lie one after
/// the other in the log are read at once, to where they stay.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    /// Bytes of the answer.
    kept: usize,
    /// From this byte of `bytes` on, and from this place of the log on, is what was read last.
    read: (usize, i64),
}

impl Records {
    /// Keeps the record at `physical` in the answer; it must be held.
    fn keep(&mut self, physical: i64, size: usize) {
        let from = self.index(physical);
        if from != self.kept {
            self.bytes.copy_within(from..from + size, self.kept);
        }
        self.kept += size;
    }

    /// The record of `unit`, if it is held and whole.
    fn at(&self, unit: &Unit) -> Option<&[u8]> {
        let from = self.index(unit.physical_offset);
        let record = self.bytes.get(from..from + usize::try_from(unit.size).ok()?)?;
        is_record_at(record, unit.physical_offset).then_some(record)
    }

    /// What is before the end of the answer was moved, or is part of it.
    fn holds(&self, unit: &Unit) -> bool {
        let end = self.read.1 + (self.bytes.len() - self.read.0) as i64;
        unit.physical_offset >= self.read.1 && unit.end() <= end && self.index(unit.physical_offset) >= self.kept
    }

    fn index(&self, physical: i64) -> usize {
        self.read.0 + (physical - self.read.1) as usize
    }

    /// What is added to `bytes` next is the log from `at` on, behind the answer.
    fn begin(&mut self, at: i64) {
        self.read = (self.kept, at);
        self.bytes.truncate(self.kept);
    }

    /// Room for so many bytes.
    fn room(&mut self, len: usize) -> &mut [u8] {
        self.bytes.resize(self.kept + len, 0);
        &mut self.bytes[self.kept..]
    }

    fn into_bytes(mut self) -> Bytes {
        self.bytes.truncate(self.kept);
        Bytes::from(self.bytes)
    }
}
