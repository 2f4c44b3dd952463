//! One consume queue: units that point into the commit log, by queue offset. Simple queues have a unit a message, batch
//! queues a unit an inner batch. Source: `ConsumeQueue.java`, `BatchConsumeQueue.java`; reference store 12 and 14.
//! A queue never reads the log itself: what it must know of it is handed in.

use std::{
    cell::Cell,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicI64,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use crate::{
    error::StoreError,
    ext::Ext,
    segments::Shape,
    units::{UnitContext, Units},
};

/// Bytes of a simple unit.
pub(crate) const SIMPLE_UNIT: usize = 20;
/// Bytes of a batch unit.
pub(crate) const BATCH_UNIT: usize = 46;
/// Size of the units that fill what a queue never had.
const FILLER_SIZE: i32 = i32::MAX;
/// A hole in queue offsets up to this many units is filled; more is taken for damage.
const MAX_HOLE: i64 = 1_000_000;

/// One unit of a consume queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Number of its first message in the queue.
    pub queue_offset: i64,
    /// Messages it stands for: 1 except for inner batches.
    pub count: i32,
    /// Byte position of the record in the log.
    pub physical_offset: i64,
    /// Bytes of the record.
    pub size: i32,
    /// Hash of the tags, or the time of delivery in the schedule topic.
    pub tags_code: i64,
    /// Store time in a batch queue, -1 in a simple one.
    pub(crate) store_timestamp: i64,
}

impl Unit {
    /// True for the units that stand for nothing.
    pub fn is_filler(&self) -> bool {
        self.size == FILLER_SIZE
    }

    /// Queue offset after its last message.
    pub(crate) fn next(&self) -> i64 {
        self.queue_offset.saturating_add(self.count.into())
    }

    /// First byte after the record.
    pub fn end(&self) -> i64 {
        if self.is_filler() { self.physical_offset } else { self.physical_offset.saturating_add(self.size.into()) }
    }
}

/// Which units a queue has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Simple,
    Batch,
}

impl Kind {
    pub(crate) fn unit_size(self) -> usize {
        match self {
            Self::Simple => SIMPLE_UNIT,
            Self::Batch => BATCH_UNIT,
        }
    }

    /// Shape for files of about `segment` bytes.
    pub(crate) fn shape(self, segment: u64) -> Shape {
        let unit = self.unit_size();
        let segment = segment.div_ceil(unit as u64) * unit as u64;
        match self {
            Self::Simple => Shape { unit, segment, key: "mappedFileSizeConsumeQueue", is_valid: simple_is_valid },
            Self::Batch => Shape { unit, segment, key: "mapperFileSizeBatchConsumeQueue", is_valid: batch_is_valid },
        }
    }

    /// Directory below the root.
    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::Simple => "consumequeue",
            Self::Batch => "batchconsumequeue",
        }
    }
}

fn simple_is_valid(unit: &[u8]) -> bool {
    get_i64(unit, 0) >= 0 && get_i32(unit, 8) > 0
}

fn batch_is_valid(unit: &[u8]) -> bool {
    simple_is_valid(unit) && get_i64(unit, 28) >= 0 && get_i16(unit, 36) > 0
}

/// Appends a unit's bytes.
pub(crate) fn encode(kind: Kind, unit: &Unit, out: &mut Vec<u8>) {
    out.extend_from_slice(&unit.physical_offset.to_be_bytes());
    out.extend_from_slice(&unit.size.to_be_bytes());
    out.extend_from_slice(&unit.tags_code.to_be_bytes());
    if kind == Kind::Batch {
        out.extend_from_slice(&unit.store_timestamp.to_be_bytes());
        out.extend_from_slice(&unit.queue_offset.to_be_bytes());
        out.extend_from_slice(&(unit.count as i16).to_be_bytes());
        out.extend_from_slice(&(-1i32).to_be_bytes());
        out.extend_from_slice(&0i32.to_be_bytes());
    }
}

/// A unit from its bytes; `number` is its place in the row.
pub(crate) fn decode(kind: Kind, number: i64, bytes: &[u8]) -> Unit {
    let (queue_offset, count, store_timestamp) = match kind {
        Kind::Simple => (number, 1, -1),
        Kind::Batch => (get_i64(bytes, 28), get_i16(bytes, 36).into(), get_i64(bytes, 20)),
    };
    Unit {
        queue_offset,
        count,
        physical_offset: get_i64(bytes, 0),
        size: get_i32(bytes, 8),
        tags_code: get_i64(bytes, 12),
        store_timestamp,
    }
}

/// What a queue asks of the log.
pub(crate) trait Records {
    /// The record of the unit is there.
    fn has(&self, unit: &Unit) -> bool;
    /// Makes the log durable up to `end`.
    fn make_durable(&self, end: i64) -> Result<(), StoreError>;
    /// Store time of the record at `physical`, 0 where none is.
    fn store_time(&self, physical: i64) -> i64;
}

/// One queue of one topic. In this order, what a message needs lies side by side: with many queues each further line of
/// the processor's cache costs as much as a hundred steps.
#[repr(C)]
pub(crate) struct Queue {
    /// Offset that the next message gets; moved under the append lock and by dispatch.
    pub(crate) next_offset: AtomicI64,
    topic: Arc<str>,
    queue_id: i32,
    kind: Kind,
    /// Its topic was deleted; nothing is put any more.
    pub(crate) deleted: AtomicBool,
    /// Is on the list of queues to flush.
    pub(crate) dirty: AtomicBool,
    max: AtomicI64,
    min: AtomicI64,
    /// End of the last record that has a unit.
    max_physical: AtomicI64,
    units: Units,
    /// What stands in units in the place of tags codes; looked at when it is needed.
    pub(crate) ext: OnceLock<Box<Ext>>,
}

impl Queue {
    /// A queue without files.
    pub(crate) fn empty(
        context: &Arc<UnitContext>,
        topic: Arc<str>,
        queue_id: i32,
        kind: Kind,
        dir: PathBuf,
        shape: Shape,
    ) -> Self {
        Self::over(Units::empty(context, dir, shape), topic, queue_id, kind)
    }

    /// The queue whose files are in `dir`.
    pub(crate) fn load(
        context: &Arc<UnitContext>,
        topic: Arc<str>,
        queue_id: i32,
        kind: Kind,
        dir: PathBuf,
        shape: Shape,
    ) -> Result<Self, StoreError> {
        let queue = Self::over(Units::load(context, dir, shape)?, topic, queue_id, kind);
        queue.refresh_ends()?;
        Ok(queue)
    }

    fn over(units: Units, topic: Arc<str>, queue_id: i32, kind: Kind) -> Self {
        Self {
            topic,
            queue_id,
            kind,
            units,
            ext: OnceLock::new(),
            next_offset: AtomicI64::new(0),
            min: AtomicI64::new(0),
            max: AtomicI64::new(0),
            max_physical: AtomicI64::new(0),
            dirty: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
        }
    }

    /// Makes the processor fetch what a message needs of it, and waits for nothing.
    pub(crate) fn touch(&self) {
        std::hint::black_box((self.next_offset.load(Relaxed), self.units.touch()));
    }

    pub(crate) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub(crate) fn queue_id(&self) -> i32 {
        self.queue_id
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn units(&self) -> &Units {
        &self.units
    }

    /// Identity in this process.
    pub(crate) fn id(&self) -> u64 {
        self.units.id()
    }

    /// Offset of the first message that is still in the log.
    pub(crate) fn min(&self) -> i64 {
        self.min.load(SeqCst)
    }

    /// Offset after the last message.
    pub(crate) fn max(&self) -> i64 {
        self.max.load(SeqCst)
    }

    /// End in the log of the last record that has a unit; 0 for an empty queue.
    pub(crate) fn max_physical(&self) -> i64 {
        self.max_physical.load(SeqCst)
    }

    /// The unit at a place of the row.
    pub(crate) fn unit_at(&self, number: i64) -> Result<Option<Unit>, StoreError> {
        let mut buf = [0; BATCH_UNIT];
        let buf = &mut buf[..self.kind.unit_size()];
        Ok(self.units.read_one(number, buf)?.then(|| decode(self.kind, number, buf)))
    }

    /// The last unit.
    pub(crate) fn last_unit(&self) -> Result<Option<Unit>, StoreError> {
        self.unit_at(self.units.end() - 1)
    }

    /// The first unit whose record begins at or after `physical`, by halving.
    pub(crate) fn unit_at_or_after(&self, physical: i64) -> Result<Option<Unit>, StoreError> {
        let (start, end) = (self.units.start(), self.units.end());
        self.unit_at(self.units.partition(start, end, |_, unit| get_i64(unit, 0) >= physical)?)
    }

    /// The first unit that stands for a message.
    pub(crate) fn first_unit(&self) -> Result<Option<Unit>, StoreError> {
        let is_filler = |bytes: &[u8]| decode(self.kind, 0, bytes).is_filler();
        self.unit_at(self.units.first(|bytes| !is_filler(bytes))?)
    }

    /// Place in the row of the unit that holds a queue offset.
    pub(crate) fn place_of(&self, queue_offset: i64) -> Result<Option<i64>, StoreError> {
        if queue_offset < self.min() || queue_offset >= self.max() {
            return Ok(None);
        }
        match self.kind {
            Kind::Simple => Ok(Some(queue_offset)),
            Kind::Batch => {
                let (start, end) = (self.units.start(), self.units.end());
                let after = self.units.partition(start, end, |_, unit| get_i64(unit, 28) > queue_offset)?;
                Ok((after > start).then(|| after - 1))
            }
        }
    }

    /// The unit that holds a queue offset.
    pub(crate) fn unit_of(&self, queue_offset: i64) -> Result<Option<Unit>, StoreError> {
        match self.place_of(queue_offset)? {
            Some(place) => self.unit_at(place),
            None => Ok(None),
        }
    }

    /// Puts units whose records follow each other in the log and whose offsets follow each other in the queue.
    /// Repeats are recognised. `bytes` holds the encoded units.
    pub(crate) fn put(&self, first: &Unit, last: &Unit, bytes: &[u8], records: &dyn Records) -> Result<(), StoreError> {
        if self.deleted.load(SeqCst) {
            return Ok(());
        }
        match self.kind {
            Kind::Simple => self.put_simple(first, bytes, records)?,
            Kind::Batch => self.put_batch(first, bytes, records)?,
        }
        raise(&self.max_physical, last.end());
        raise(&self.next_offset, self.max());
        Ok(())
    }

    fn put_simple(&self, first: &Unit, bytes: &[u8], records: &dyn Records) -> Result<(), StoreError> {
        let offset = first.queue_offset;
        let is_empty = self.min() >= self.max();
        if is_empty && offset > self.units.end() {
            // What a replica begins with, or what is left of a queue whose messages are all gone.
            self.units.clear()?;
            self.units.begin_at(offset, &filler(0))?;
            self.min.store(offset, SeqCst);
        }
        if offset == 0 && self.begins_anew(first, records)? {
            self.restart(first, records)?;
        }
        let end = self.units.end();
        if offset > end && (first.physical_offset < self.max_physical() || !self.fill_hole(end, first)?) {
            return Ok(());
        }
        let end = self.units.end();
        let repeated = (end - offset).clamp(0, (bytes.len() / SIMPLE_UNIT) as i64);
        let (old, new) = bytes.split_at(repeated as usize * SIMPLE_UNIT);
        self.repeat(offset, old, records)?;
        if new.is_empty() || get_i64(new, 0) < self.max_physical() {
            // Nothing new, or read again: from before the topic was made anew.
            return Ok(());
        }
        self.units.append(&self.with_ext(new, &|physical| records.store_time(physical))?)?;
        self.max.store(self.units.end(), SeqCst);
        Ok(())
    }

    /// A second record with queue offset 0, behind the first one in the log.
    fn begins_anew(&self, first: &Unit, records: &dyn Records) -> Result<bool, StoreError> {
        if self.units.end() == 0 || first.physical_offset >= self.max_physical() {
            return Ok(self.units.end() > 0);
        }
        let present = self.unit_at(0)?.filter(|present| present.physical_offset < first.physical_offset);
        Ok(present.is_some_and(|present| records.has(&present)))
    }

    /// Units that are there already: those that a power loss took or tore are written again, and those that stand for a
    /// record from before the topic was made anew. Else the first record that has an offset keeps it.
    fn repeat(&self, offset: i64, bytes: &[u8], records: &dyn Records) -> Result<(), StoreError> {
        let (mut present_bytes, mut newer) = (Vec::new(), 0);
        let mut loaded = offset..offset;
        for (number, unit) in (offset..).zip(bytes.chunks_exact(SIMPLE_UNIT)) {
            if !loaded.contains(&number) {
                let count = self.units.read(number, bytes.len() / SIMPLE_UNIT, &mut present_bytes)?;
                loaded = number..number + count.max(1) as i64;
            }
            let at = (number - loaded.start) as usize * SIMPLE_UNIT;
            let Some(found) = present_bytes.get(at..at + SIMPLE_UNIT) else { continue };
            if found == unit || self.is_extended(found, unit) {
                self.units.doubt(number);
                continue;
            }
            let present = decode(Kind::Simple, number, found);
            let physical = get_i64(unit, 0);
            let previous = self.unit_at(number - 1)?.map_or(-1, |previous| previous.physical_offset);
            let keeps = simple_is_valid(found)
                && present.physical_offset > previous
                && present.physical_offset != physical
                && records.has(&present);
            if keeps {
                newer += i32::from(physical >= self.max_physical());
            } else if physical > previous {
                self.units.rewrite(number, unit)?;
                if number + 1 == self.units.end() {
                    // What stood there led further into the log.
                    self.max_physical.store(decode(Kind::Simple, number, unit).end(), SeqCst);
                }
            }
        }
        if newer > 0 {
            tracing::warn!(topic = %self.topic, queue_id = self.queue_id, offset, count = newer, max = self.max(), "new records carry queue offsets that are taken: they stay unreadable, as with a Java broker");
        }
        Ok(())
    }

    /// Its topic was deleted and made again by the broker that wrote the log. The record that says so is made durable
    /// first: without it the queue would still have its old messages, and those are not dispatched again.
    fn restart(&self, first: &Unit, records: &dyn Records) -> Result<(), StoreError> {
        records.make_durable(first.end())?;
        tracing::warn!(topic = %self.topic, queue_id = self.queue_id, max = self.max(), "the queue begins again at offset 0: its topic was deleted and made again");
        self.min.store(0, SeqCst);
        self.max.store(0, SeqCst);
        self.max_physical.store(0, SeqCst);
        self.next_offset.store(0, SeqCst);
        self.clear()
    }

    fn fill_hole(&self, end: i64, next: &Unit) -> Result<bool, StoreError> {
        let offset = next.queue_offset;
        let missing = offset - end;
        if missing > MAX_HOLE {
            tracing::error!(topic = %self.topic, queue_id = self.queue_id, end, offset, "a record claims a queue offset far beyond the queue's end: not indexed; the record or the queue is damaged");
            return Ok(false);
        }
        tracing::warn!(topic = %self.topic, queue_id = self.queue_id, end, offset, "queue offsets are missing: filled with empty units");
        self.units.append(&filler(next.physical_offset).repeat(missing as usize))?;
        Ok(true)
    }

    fn put_batch(&self, first: &Unit, bytes: &[u8], records: &dyn Records) -> Result<(), StoreError> {
        if first.queue_offset == 0 && self.max() > 0 && first.physical_offset >= self.max_physical() {
            self.restart(first, records)?;
        }
        let seen = self.last_unit()?.map_or(-1, |unit| unit.physical_offset);
        for unit in bytes.chunks_exact(BATCH_UNIT).filter(|unit| get_i64(unit, 0) > seen) {
            let bytes = unit;
            let unit = decode(Kind::Batch, 0, bytes);
            // Before a message that is the log's first there was none.
            if self.units.end() == self.units.start() && unit.physical_offset > 0 {
                self.begin_batch_at(unit.queue_offset)?;
            } else if self.min() == self.max() {
                // Nothing can be read before it, also where a power cut brought back a unit of a log that was emptied.
                self.min.fetch_max(unit.queue_offset, SeqCst);
            }
            self.units.append(bytes)?;
            // Each by itself: the next one may find no space.
            self.max.store(unit.next(), SeqCst);
            self.max_physical.fetch_max(unit.end(), SeqCst);
        }
        Ok(())
    }

    /// Lets an empty batch queue go on at a message that is not its first. Only a unit tells where a batch row goes on, so one
    /// stands for what has left the log: the counter stays when all messages behind it are cut away.
    pub(crate) fn begin_batch_at(&self, offset: i64) -> Result<(), StoreError> {
        if offset > 0 {
            let gone = Unit {
                queue_offset: offset - 1,
                count: 1,
                physical_offset: 0,
                size: FILLER_SIZE,
                tags_code: 0,
                store_timestamp: 0,
            };
            let mut bytes = Vec::with_capacity(BATCH_UNIT);
            encode(Kind::Batch, &gone, &mut bytes);
            self.units.append(&bytes)?;
            self.max.store(offset, SeqCst);
            self.next_offset.fetch_max(offset, SeqCst);
        }
        self.min.store(offset, SeqCst);
        Ok(())
    }

    /// After an unclean stop the log is dispatched again from `proven` on. A batch unit cannot be told by its place in
    /// the row, so those of that part go; they are put again. So do those behind one that leads back in the log, of which a
    /// power loss took the beginning. True when there were any.
    pub(crate) fn cut_unproven(&self, proven: i64) -> Result<bool, StoreError> {
        if self.kind == Kind::Simple {
            return Ok(false);
        }
        let previous = Cell::new(-1);
        let keep = self.units.first(|unit| {
            let physical = get_i64(unit, 0);
            !batch_is_valid(unit) || physical >= proven || physical <= previous.replace(physical)
        })?;
        let cuts = keep < self.units.end();
        self.cut_units(keep)?;
        Ok(cuts)
    }

    /// Drops the units of records at and beyond `physical`.
    pub(crate) fn truncate(&self, physical: i64) -> Result<(), StoreError> {
        let (start, end) = (self.units.start(), self.units.end());
        let cut = self.units.partition(start, end, |_, unit| get_i64(unit, 0) >= physical)?;
        self.cut_units(cut)
    }

    /// Keeps the units before a place of the row.
    pub(crate) fn cut_units(&self, end: i64) -> Result<(), StoreError> {
        if end < self.units.end() {
            self.units.truncate(end)?;
            self.refresh_ends()?;
            self.truncate_ext()?;
        }
        Ok(())
    }

    /// Reads the ends again after the row was loaded or cut.
    pub(crate) fn refresh_ends(&self) -> Result<(), StoreError> {
        let last = self.last_unit()?;
        let max = match (self.kind, last) {
            (Kind::Simple, _) => self.units.end(),
            (Kind::Batch, Some(last)) => last.next(),
            (Kind::Batch, None) => 0,
        };
        let physical = last.map_or(0, |last| last.end());
        self.max.store(max, SeqCst);
        self.min.fetch_min(max, SeqCst);
        self.max_physical.store(physical, SeqCst);
        self.next_offset.store(max, SeqCst);
        Ok(())
    }

    /// Finds the first message whose record is still in a log that begins at `min_physical`.
    pub(crate) fn correct_min(&self, min_physical: i64) -> Result<(), StoreError> {
        let (start, end) = (self.units.start(), self.units.end());
        let alive = |bytes: &[u8]| {
            let unit = decode(Kind::Simple, 0, bytes);
            unit.physical_offset >= min_physical && !(unit.is_filler() && unit.physical_offset == 0)
        };
        // The first one tells most often, and is known without a look at the file.
        let mut first_bytes = [0; BATCH_UNIT];
        let first_bytes = &mut first_bytes[..self.kind.unit_size()];
        let all_alive = self.units.read_one(start, first_bytes)? && alive(first_bytes);
        let mut first = match all_alive {
            true => start,
            false => self.units.partition(start, end, |_, unit| alive(unit))?,
        };
        while self.unit_at(first)?.is_some_and(|unit| unit.is_filler()) {
            first += 1;
        }
        let min = match self.unit_at(first)? {
            // A damaged unit of a batch queue may claim any offset.
            Some(unit) => unit.queue_offset.min(self.max()),
            None => self.max(),
        };
        self.min.store(min, SeqCst);
        Ok(())
    }

    /// Deletes files whose records are all gone.
    pub(crate) fn expire(&self, min_physical: i64) -> Result<usize, StoreError> {
        if self.unit_of(self.min())?.is_none_or(|first| first.physical_offset >= min_physical) {
            return Ok(0);
        }
        let (start, end) = (self.units.start(), self.units.end());
        let first = self.units.partition(start, end, |_, unit| get_i64(unit, 0) >= min_physical)?;
        // The name of a file tells where a simple row goes on; of a batch row only a unit does.
        let dropped = self.units.drop_before(if self.kind == Kind::Batch { first - 1 } else { first });
        self.correct_min(min_physical)?;
        let dropped = dropped?;
        self.expire_ext()?;
        Ok(dropped)
    }
}

/// Most often a counter is there already: a look costs less than a change.
fn raise(counter: &AtomicI64, value: i64) {
    if counter.load(SeqCst) < value {
        counter.fetch_max(value, SeqCst);
    }
}

/// A unit without a message; `physical_offset` keeps the row in order: 0 before the first message, as in Java, else
/// the place of the next one.
pub(crate) fn filler(physical_offset: i64) -> [u8; SIMPLE_UNIT] {
    let mut unit = [0; SIMPLE_UNIT];
    unit[..8].copy_from_slice(&physical_offset.to_be_bytes());
    unit[8..12].copy_from_slice(&FILLER_SIZE.to_be_bytes());
    unit
}

pub(crate) fn get_i64(bytes: &[u8], at: usize) -> i64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    i64::from_be_bytes(word)
}

pub(crate) fn get_i32(bytes: &[u8], at: usize) -> i32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    i32::from_be_bytes(word)
}

pub(crate) fn get_i16(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}
