//! From records to views: consume queue units, index entries and arrivals. Units of one queue are gathered and written
//! in runs. Source: `DefaultMessageStore.java` (dispatchers), `CommitLog.java` (tags code); reference store 3.6 and 11.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, atomic::Ordering::SeqCst},
};

use parking_lot::Mutex;
use wire::{
    hash::tags_code,
    property,
    record::{Check, RecordView, check},
    sys_flag, topic,
};

use crate::{
    append::Tail,
    config::StoreConfig,
    convert,
    deleted::Deleted,
    error::StoreError,
    ext,
    index::{Index, Keys},
    lmq,
    log::Log,
    queue::{self, Kind, Queue, Records, Unit},
    queues::{Queues, TOGETHER},
};

/// A message became readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Topic.
    pub topic: Arc<str>,
    /// Queue id.
    pub queue_id: i32,
    /// Queue offset after the message.
    pub next_offset: i64,
    /// Tags code of its unit.
    pub tags_code: i64,
    /// Store time in milliseconds.
    pub store_timestamp: i64,
    /// Byte position in the log.
    pub physical_offset: i64,
}

/// What building needs of the store.
pub(crate) struct Views<'a> {
    pub(crate) config: &'a StoreConfig,
    pub(crate) log: &'a Log,
    /// The log is durable up to here, or further.
    pub(crate) flushed: i64,
    pub(crate) queues: &'a Queues,
    pub(crate) index: Option<&'a Index>,
    pub(crate) deleted: &'a Deleted,
    pub(crate) tail: &'a Mutex<Tail>,
    pub(crate) now_ms: i64,
}

/// No queue gets as far: what lies beyond is damage, and does not fit the arithmetic.
const MAX_QUEUE_OFFSET: i64 = i64::MAX >> 8;

/// Queues that are kept at hand.
const RECENT: usize = 64;

/// Gathers units until they are committed. Reused, so that it allocates nothing in steady state.
#[derive(Default)]
pub(crate) struct Builder {
    runs: Vec<Run>,
    used: usize,
    by_queue: HashMap<u64, usize, BuildHasherDefault<Number>>,
    /// By queue id.
    recent: Vec<Arc<Queue>>,
    pub(crate) arrivals: Vec<Arrival>,
    /// Nobody asks for arrivals.
    is_silent: bool,
    /// The last record that got a unit.
    pub(crate) last: Option<Last>,
}

/// Hashes what is a number already, and as good as any.
#[derive(Default)]
pub(crate) struct Number(u64);

impl Hasher for Number {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, number: u64) {
        // The table looks at the lowest and at the highest bits.
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Place and time of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) start: i64,
    pub(crate) store_timestamp: i64,
}

/// Units of one queue that follow each other.
struct Run {
    queue: Arc<Queue>,
    first: Unit,
    last: Unit,
    bytes: Vec<u8>,
}

impl Builder {
    /// One that keeps no arrivals.
    pub(crate) fn silent() -> Self {
        Self { is_silent: true, ..Self::default() }
    }

    /// Takes one record in.
    pub(crate) fn add(&mut self, views: &Views<'_>, record: &RecordView<'_>) -> Result<(), StoreError> {
        self.add_to_found(views, record, None)
    }

    /// Takes up to [`TOGETHER`] records in. Queues that are not at hand are looked up together.
    pub(crate) fn add_together(&mut self, views: &Views<'_>, records: &[RecordView<'_>]) -> Result<(), StoreError> {
        let found = match records.iter().all(|record| self.at_hand(record).is_some()) {
            true => Default::default(),
            false => {
                let mut wanted = [("", 0); TOGETHER];
                wanted
                    .iter_mut()
                    .zip(records)
                    .for_each(|(wanted, record)| *wanted = (record.topic(), record.queue_id()));
                views.queues.get_together(&wanted[..records.len()])
            }
        };
        let mut together = records.iter().zip(found);
        together.try_for_each(|(record, queue)| self.add_to_found(views, record, queue))
    }

    fn add_to_found(
        &mut self,
        views: &Views<'_>,
        record: &RecordView<'_>,
        queue: Option<Arc<Queue>>,
    ) -> Result<(), StoreError> {
        let topic = record.topic();
        if !is_directory_name(topic) {
            tracing::error!(offset = record.physical_offset(), topic = ?record.topic_bytes(), "a record's topic cannot be a directory name: the message is not readable by queue");
            return Ok(());
        }
        if views.deleted.hides(topic, record.physical_offset()) {
            return self.add_to_light_alone(views, record);
        }
        let keys = keys_of(record);
        if sys_flag::is_queued(record.sys_flag()) {
            self.add_unit(views, record, keys.as_ref().and_then(|keys| keys.tags), queue)?;
            self.last = Some(Last { start: record.physical_offset(), store_timestamp: record.store_timestamp() });
        }
        put_keys(views, keys)
    }

    fn add_unit(
        &mut self,
        views: &Views<'_>,
        record: &RecordView<'_>,
        tags: Option<&str>,
        found: Option<Arc<Queue>>,
    ) -> Result<(), StoreError> {
        let queue = self.queue_of(views, record, found)?;
        let unit = unit_with(views.config, queue.kind(), record, tags);
        self.add_to(views, queue, unit, record.store_timestamp())?;
        self.add_to_light(views, record, unit)
    }

    /// A record whose topic was deleted stays in light queues: their numbers go on over it.
    pub(crate) fn add_to_light_alone(&mut self, views: &Views<'_>, record: &RecordView<'_>) -> Result<(), StoreError> {
        self.add_to_light(views, record, unit_of(views.config, Kind::Simple, record))
    }

    fn add_to_light(&mut self, views: &Views<'_>, record: &RecordView<'_>, unit: Unit) -> Result<(), StoreError> {
        if !views.config.enable_multi_dispatch {
            return Ok(());
        }
        let on_its_way = lmq::is_on_its_way(record.topic());
        for (name, queue_offset) in lmq::places(record).into_iter().filter(|(name, _)| is_directory_name(name)) {
            if on_its_way && queue_offset != self.next_of(views, name) {
                continue;
            }
            let queue = views.queues.get_or_make(name, topic::LMQ_QUEUE_ID);
            if !views.deleted.hides(name, record.physical_offset()) {
                self.add_to(views, queue, Unit { queue_offset, count: 1, ..unit }, record.store_timestamp())?;
            }
        }
        Ok(())
    }

    /// The next number of a light queue, with what is gathered for it.
    fn next_of(&self, views: &Views<'_>, name: &str) -> i64 {
        let Some(queue) = views.queues.get(name, topic::LMQ_QUEUE_ID) else { return 0 };
        let run = self.by_queue.get(&queue.id()).map(|place| &self.runs[*place]);
        run.filter(|run| !run.bytes.is_empty()).map_or_else(|| queue.max(), |run| run.last.next())
    }

    /// The queue of a record. An inner batch needs a batch queue, whatever was known of its topic before.
    fn queue_of(
        &mut self,
        views: &Views<'_>,
        record: &RecordView<'_>,
        found: Option<Arc<Queue>>,
    ) -> Result<Arc<Queue>, StoreError> {
        let (topic, queue_id) = (record.topic(), record.queue_id());
        if record.sys_flag() & sys_flag::INNER_BATCH == 0 {
            return Ok(self.plain_queue_of(views, record, found));
        }
        let queue = views.queues.get_or_make_as(topic, queue_id, Kind::Batch);
        if queue.kind() == Kind::Batch {
            return Ok(queue);
        }
        if let Some(place) = self.by_queue.remove(&queue.id()) {
            self.runs[place].commit(views)?;
        }
        // An append that takes an offset from the old queue meanwhile would be lost to the new one.
        let _no_append = views.tail.lock();
        convert::to_batch(views.queues, views.log, &queue)
    }

    /// Records of few queues follow each other: the last ones are kept at hand.
    fn plain_queue_of(&mut self, views: &Views<'_>, record: &RecordView<'_>, found: Option<Arc<Queue>>) -> Arc<Queue> {
        if let Some(queue) = self.at_hand(record) {
            return queue.clone();
        }
        // One that was found before the records in front of this one went in may be replaced.
        let queue = found.filter(|queue| !queue.deleted.load(SeqCst));
        let queue = queue.unwrap_or_else(|| views.queues.get_or_make(record.topic(), record.queue_id()));
        match self.recent.get_mut(place_at_hand(record)) {
            Some(recent) => *recent = queue.clone(),
            None => self.recent.resize(RECENT, queue.clone()),
        }
        queue
    }

    fn at_hand(&self, record: &RecordView<'_>) -> Option<&Arc<Queue>> {
        self.recent.get(place_at_hand(record)).filter(|queue| {
            queue.queue_id() == record.queue_id()
                && queue.topic().as_bytes() == record.topic_bytes()
                && !queue.deleted.load(SeqCst)
        })
    }

    fn add_to(
        &mut self,
        views: &Views<'_>,
        queue: Arc<Queue>,
        unit: Unit,
        store_timestamp: i64,
    ) -> Result<(), StoreError> {
        if !(0..=MAX_QUEUE_OFFSET).contains(&unit.queue_offset) {
            tracing::error!(
                offset = unit.physical_offset,
                queue_offset = unit.queue_offset,
                "a record claims an impossible queue offset: the message is not readable by queue"
            );
            return Ok(());
        }
        if !self.is_silent {
            self.arrivals.push(Arrival {
                topic: queue.topic().clone(),
                queue_id: queue.queue_id(),
                next_offset: unit.next(),
                tags_code: unit.tags_code,
                store_timestamp,
                physical_offset: unit.physical_offset,
            });
        }
        let place = self.run_of(views, queue, unit)?;
        let run = &mut self.runs[place];
        if run.bytes.is_empty() {
            run.first = unit;
        }
        run.last = unit;
        queue::encode(run.queue.kind(), &unit, &mut run.bytes);
        Ok(())
    }

    /// The run that `unit` continues; one that it does not continue is written first.
    fn run_of(&mut self, views: &Views<'_>, queue: Arc<Queue>, unit: Unit) -> Result<usize, StoreError> {
        if let Some(place) = self.by_queue.get(&queue.id()).copied() {
            let run = &mut self.runs[place];
            if run.last.next() != unit.queue_offset {
                run.commit(views)?;
            }
            return Ok(place);
        }
        let place = self.used;
        self.by_queue.insert(queue.id(), place);
        self.used += 1;
        match self.runs.get_mut(place) {
            Some(run) => run.queue = queue,
            None => self.runs.push(Run { queue, first: unit, last: unit, bytes: Vec::new() }),
        }
        Ok(place)
    }

    /// Writes all units and index entries.
    pub(crate) fn commit(&mut self, views: &Views<'_>) -> Result<(), StoreError> {
        let result = self.runs[..self.used].iter_mut().try_for_each(|run| run.commit(views));
        self.forget_units();
        result?;
        views.index.map_or(Ok(()), Index::write_pending)
    }

    /// Drops what was gathered and not written.
    pub(crate) fn forget_units(&mut self) {
        self.runs[..self.used].iter_mut().for_each(|run| run.bytes.clear());
        self.used = 0;
        self.by_queue.clear();
    }
}

fn place_at_hand(record: &RecordView<'_>) -> usize {
    record.queue_id() as usize % RECENT
}

impl Run {
    fn commit(&mut self, views: &Views<'_>) -> Result<(), StoreError> {
        if !self.bytes.is_empty() {
            let queue = &self.queue;
            views.queues.make_room(self.bytes.len())?;
            queue.put(
                &self.first,
                &self.last,
                &self.bytes,
                &InLog { log: views.log, flushed: views.flushed, queue },
            )?;
            views.queues.mark_dirty(queue);
            self.bytes.clear();
        }
        Ok(())
    }
}

/// The log as one queue sees it.
struct InLog<'a> {
    log: &'a Log,
    flushed: i64,
    queue: &'a Queue,
}

impl Records for InLog<'_> {
    fn has(&self, unit: &Unit) -> bool {
        founded(self.log, self.queue, unit) == Founded::Record(unit.queue_offset)
    }

    fn make_durable(&self, end: i64) -> Result<(), StoreError> {
        self.log.settle(self.flushed, end)
    }

    fn store_time(&self, physical: i64) -> i64 {
        self.log.record_time(physical).ok().flatten().unwrap_or(0)
    }
}

/// What the log has where a unit of a queue points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Founded {
    /// No record of the queue.
    No,
    /// Nothing any more: it was there before retention took it.
    Gone,
    /// A record of the queue with this queue offset.
    Record(i64),
}

/// Looks up the record of a unit.
pub(crate) fn founded(log: &Log, queue: &Queue, unit: &Unit) -> Founded {
    if unit.is_filler() && unit.physical_offset == 0 {
        return Founded::Gone;
    }
    if unit.is_filler() || unit.size <= 0 {
        return Founded::No;
    }
    if unit.physical_offset < log.min().unwrap_or(0) {
        return Founded::Gone;
    }
    let mut bytes = vec![0; (unit.size as usize).min(log.segment_size() as usize)];
    let read = log.told(log.read(unit.physical_offset, &mut bytes)).flatten().unwrap_or(0);
    let Check::Record(record) = check(&bytes[..read], false) else { return Founded::No };
    if record.size() != bytes.len() || record.physical_offset() != unit.physical_offset {
        return Founded::No;
    }
    let same_queue = record.topic() == &**queue.topic() && record.queue_id() == queue.queue_id();
    // Light queues hold records of other topics.
    if !same_queue && queue.topic().starts_with(topic::LMQ_PREFIX) {
        let place = lmq::places(&record).into_iter().find(|(name, _)| *name == &**queue.topic());
        return place.map_or(Founded::No, |(_, queue_offset)| Founded::Record(queue_offset));
    }
    match (same_queue, queue.kind()) {
        (false, _) => Founded::No,
        // Batch units are found by their own numbers.
        (true, Kind::Batch) => Founded::Record(unit.queue_offset),
        (true, Kind::Simple) => Founded::Record(record.queue_offset()),
    }
}

/// Topics become directories: nothing that leaves its parent, and short enough for a file name.
pub(crate) fn is_directory_name(topic: &str) -> bool {
    let holds = |byte| topic.as_bytes().contains(&byte);
    !topic.is_empty() && topic.len() <= 255 && topic != "." && topic != ".." && !holds(b'/') && !holds(0)
}

pub(crate) fn unit_of(config: &StoreConfig, kind: Kind, record: &RecordView<'_>) -> Unit {
    unit_with(config, kind, record, record.property(property::TAGS))
}

/// The same for a record whose tags are known.
fn unit_with(config: &StoreConfig, kind: Kind, record: &RecordView<'_>, tags: Option<&str>) -> Unit {
    let (queue_offset, count) = match kind {
        Kind::Simple => (record.queue_offset(), 1),
        Kind::Batch => inner_batch(record),
    };
    Unit {
        queue_offset,
        count,
        physical_offset: record.physical_offset(),
        size: record.size() as i32,
        tags_code: code_with(config, record, tags),
        store_timestamp: record.store_timestamp(),
    }
}

/// What a plain unit says, as a batch queue has it; `None` when its record is gone.
pub(crate) fn batch_unit(log: &Log, plain: &Unit) -> Result<Option<Unit>, StoreError> {
    let mut bytes = vec![0; usize::try_from(plain.size).unwrap_or(0).min(log.segment_size() as usize)];
    let read = log.read(plain.physical_offset, &mut bytes)?.unwrap_or(0);
    let record = RecordView::layout(&bytes[..read]).filter(|record| record.physical_offset() == plain.physical_offset);
    Ok(record.map(|record| {
        let (queue_offset, count) = inner_batch(&record);
        let tags_code = match ext::is_address(plain.tags_code) {
            true => tags_code(record.property(property::TAGS)),
            false => plain.tags_code,
        };
        Unit { queue_offset, count, store_timestamp: record.store_timestamp(), tags_code, ..*plain }
    }))
}

/// Base offset and count of an inner batch; a plain message counts as a batch of one.
pub(crate) fn inner_batch(record: &RecordView<'_>) -> (i64, i32) {
    let number = |name| record.property(name).and_then(|text| text.parse::<i64>().ok());
    match (number(property::INNER_BASE), number(property::INNER_NUM)) {
        (Some(base), Some(count)) if base >= 0 && (1..=i64::from(i16::MAX)).contains(&count) => (base, count as i32),
        _ => (record.queue_offset(), 1),
    }
}

/// Hash of the tags, or the time of delivery of a message with a delay level.
pub(crate) fn code_of(config: &StoreConfig, record: &RecordView<'_>) -> i64 {
    code_with(config, record, record.property(property::TAGS))
}

fn code_with(config: &StoreConfig, record: &RecordView<'_>, tags: Option<&str>) -> i64 {
    if record.topic_bytes() == topic::SCHEDULE.as_bytes()
        && let Some(level) = record.property(property::DELAY).and_then(|level| level.parse::<i64>().ok())
        && level > 0
    {
        return record.store_timestamp() + delay_ms(&config.delay_levels_ms, level);
    }
    tags_code(tags)
}

fn delay_ms(levels: &[i64], level: i64) -> i64 {
    let level = level.min(levels.len() as i64) - 1;
    usize::try_from(level).ok().and_then(|level| levels.get(level)).copied().unwrap_or(1000)
}

/// The index entries of a record that has these keys.
pub(crate) fn put_keys(views: &Views<'_>, keys: Option<Keys<'_>>) -> Result<(), StoreError> {
    let (Some(index), Some(mut keys)) = (views.index, keys) else { return Ok(()) };
    keys.tags = keys.tags.filter(|_| views.config.index_tags);
    index.put(&keys, views.now_ms)
}

/// What is indexed of a record; `None` for a rollback.
pub(crate) fn keys_of<'a>(record: &RecordView<'a>) -> Option<Keys<'a>> {
    if record.sys_flag() & sys_flag::TRANSACTION_MASK == sys_flag::TRANSACTION_ROLLBACK {
        return None;
    }
    let mut keys = Keys {
        topic: record.topic(),
        unique: None,
        keys: None,
        tags: None,
        physical_offset: record.physical_offset(),
        store_timestamp: record.store_timestamp(),
    };
    for (name, value) in property::entries(record.properties()) {
        let place = match name {
            _ if name == property::UNIQ_KEY.as_bytes() => &mut keys.unique,
            _ if name == property::KEYS.as_bytes() => &mut keys.keys,
            _ if name == property::TAGS.as_bytes() => &mut keys.tags,
            _ => continue,
        };
        *place = std::str::from_utf8(value).ok().or(*place);
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays() {
        let levels = StoreConfig::default().delay_levels_ms;
        assert_eq!([1, 2, 18, 19].map(|level| delay_ms(&levels, level)), [1000, 5000, 7_200_000, 7_200_000]);
        assert_eq!(delay_ms(&[], 1), 1000);
    }

    #[test]
    fn topics_that_are_no_directory() {
        assert!(is_directory_name("%RETRY%g") && is_directory_name("..."));
        for bad in ["", ".", "..", "../x", "a/b", "a\0b"] {
            assert!(!is_directory_name(bad), "{bad:?}");
        }
    }
}
