//! Hands out chosen records of the log, in its order: those of a key through the index, others by reading. What is no whole
//! record of its own place with the right body CRC is passed over and told. Reading finds records of deleted topics, too:
//! the log still has them.

use std::collections::BTreeSet;

use wire::{property, record::RecordView, topic};

use crate::{
    build::inner_batch,
    error::StoreError,
    inspect::{
        by_key,
        log::{Halt, Scanner},
        view::StoreView,
    },
    lmq,
    queue::Kind,
};

/// Which records; `None` = any.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Topic, or the name of a light queue.
    pub topic: Option<String>,
    /// Queue.
    pub queue_id: Option<i32>,
    /// First offset in the queue; the batch that holds it is among them.
    pub offset: Option<i64>,
    /// One of `KEYS`, or the unique id.
    pub key: Option<String>,
    /// Stored at or after, milliseconds.
    pub from: Option<i64>,
    /// Stored at or before, milliseconds.
    pub to: Option<i64>,
    /// Reads the log for a key, whatever the index says.
    pub scan: bool,
    /// Beginning beyond this place of the log.
    pub beyond: Option<i64>,
}

/// How records were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Through the index, and beyond its end by reading.
    ByIndex,
    /// By reading the log.
    ByReading,
    /// By reading the log, because the index cannot tell, for this reason.
    WithoutIndex(&'static str),
}

/// What a reader of records hears.
pub trait Reader {
    /// A chosen record; false ends the reading.
    fn record(&mut self, record: &RecordView<'_>) -> bool;
    /// Bytes of the log that are no records, and why.
    fn skipped(&mut self, from: i64, to: i64, why: &str);
}

/// The record that begins at `physical`; false when none does.
pub fn read_one(view: &StoreView, physical: i64, reader: &mut dyn Reader) -> Result<bool, StoreError> {
    let bytes = view.log.record(physical)?;
    Ok(bytes.as_deref().and_then(RecordView::layout).map(|record| reader.record(&record)).is_some())
}

/// All chosen records.
pub fn read(view: &StoreView, selection: &Selection, reader: &mut dyn Reader) -> Result<Found, StoreError> {
    let Some(key) = selection.key.as_deref().filter(|_| !selection.scan && selection.offset.is_none()) else {
        scan(view, selection, start(view, selection)?, reader)?;
        return Ok(Found::ByReading);
    };
    let topics = match &selection.topic {
        // A key is looked up together with the topic of its message.
        Some(topic) if !is_light(topic) => BTreeSet::from([topic.clone()]),
        _ => topics(view)?,
    };
    let hits = match by_key::look_up(view, &topics, key)? {
        Ok(hits) => hits,
        Err(why) => {
            scan(view, selection, view.log.min(), reader)?;
            return Ok(Found::WithoutIndex(why));
        }
    };
    let behind = selection.beyond(hits.indexed_to);
    for place in hits.places.into_iter().filter(|place| *place >= view.log.min()) {
        let bytes = view.log.record(place)?;
        match bytes.as_deref().and_then(RecordView::layout) {
            Some(record) if selection.has(&record) && !reader.record(&record) => return Ok(Found::ByIndex),
            Some(_) => {}
            None => {
                reader.skipped(place, place + 1, "the index leads there for this key, and there is no whole record")
            }
        }
    }
    // After a clean stop the index has everything.
    if !view.is_clean() {
        scan(view, &behind, hits.indexed_to.max(view.log.min()), reader)?;
    }
    Ok(Found::ByIndex)
}

/// Names that records may have: a key is looked up together with its topic.
fn topics(view: &StoreView) -> Result<BTreeSet<String>, StoreError> {
    let mut names: BTreeSet<String> = view.queues()?.iter().map(|queue| queue.topic.to_string()).collect();
    names.extend(view.topics().map(|topics| topics.topic_config_table).unwrap_or_default().into_keys());
    Ok(names)
}

/// Reads the log from `from` on.
fn scan(view: &StoreView, selection: &Selection, from: i64, reader: &mut dyn Reader) -> Result<(), StoreError> {
    let mut scanner = Scanner::new(&view.log, from);
    let mut goes_on = true;
    while goes_on {
        let halt = scanner.step(|record| {
            if goes_on && selection.has(record) {
                goes_on = reader.record(record);
            }
        })?;
        if halt == Halt::More || !goes_on {
            continue;
        }
        goes_on = pass(view, &mut scanner, halt, reader)?;
    }
    Ok(())
}

/// Finds the way past what is no record. False at the end of the log.
fn pass(view: &StoreView, scanner: &mut Scanner<'_>, halt: Halt, reader: &mut dyn Reader) -> Result<bool, StoreError> {
    let at = scanner.at;
    let why = match halt {
        Halt::Bad(why) => why,
        Halt::NoSegment => "the segment is missing".into(),
        // A running broker appends here.
        Halt::Zeros if view.is_running() => return Ok(false),
        Halt::Zeros | Halt::More => "zeros".into(),
    };
    let found = scanner.resync()?;
    if found {
        reader.skipped(at, scanner.at, &why);
    }
    Ok(found)
}

/// Where to begin: a queue's unit tells, if it leads to the right record.
fn start(view: &StoreView, selection: &Selection) -> Result<i64, StoreError> {
    let min = view.log.min();
    let (Some(topic), Some(queue_id), Some(offset)) = (&selection.topic, selection.queue_id, selection.offset) else {
        return Ok(min);
    };
    let mut queues = Vec::new();
    view.queues_of(Kind::Simple, topic, &mut queues)?;
    let Some(queue) = queues.into_iter().find(|queue| queue.queue_id == queue_id) else { return Ok(min) };
    let Some(unit) = queue.unit_at(offset)? else { return Ok(min) };
    let bytes = view.log.record(unit.physical_offset)?;
    let leads = |record: RecordView<'_>| {
        record.topic() == topic && record.queue_offset() == offset || lmq::places(&record).contains(&(topic, offset))
    };
    let fits = bytes.as_deref().and_then(RecordView::layout).is_some_and(leads);
    Ok(if fits { unit.physical_offset } else { min })
}

impl Selection {
    /// The same, of records that begin beyond a place.
    fn beyond(&self, place: i64) -> Self {
        Self { beyond: Some(place), ..self.clone() }
    }

    fn has(&self, record: &RecordView<'_>) -> bool {
        self.beyond.is_none_or(|place| record.physical_offset() > place)
            && (self.has_place(record) || self.has_light_place(record))
            && self.from.is_none_or(|from| record.store_timestamp() >= from)
            && self.to.is_none_or(|to| record.store_timestamp() <= to)
            && self.key.as_deref().is_none_or(|key| has_key(record, key))
    }

    /// It is of the queue.
    fn has_place(&self, record: &RecordView<'_>) -> bool {
        self.topic.as_deref().is_none_or(|topic| record.topic() == topic)
            && self.queue_id.is_none_or(|queue_id| record.queue_id() == queue_id)
            && self
                .offset
                .is_none_or(|offset| record.queue_offset() >= offset || ends_beyond(inner_batch(record), offset))
    }

    /// It went to the light queue as well.
    fn has_light_place(&self, record: &RecordView<'_>) -> bool {
        let Some(topic) = self.topic.as_deref().filter(|topic| is_light(topic)) else { return false };
        self.queue_id.is_none_or(|queue_id| queue_id == topic::LMQ_QUEUE_ID)
            && lmq::places(record)
                .into_iter()
                .any(|(name, at)| name == topic && self.offset.is_none_or(|offset| at >= offset))
    }
}

fn ends_beyond((base, count): (i64, i32), offset: i64) -> bool {
    base.saturating_add(count.into()) > offset
}

fn is_light(topic: &str) -> bool {
    topic.starts_with(topic::LMQ_PREFIX)
}

fn has_key(record: &RecordView<'_>, key: &str) -> bool {
    let keys = record.property(property::KEYS).unwrap_or_default();
    keys.split(' ').any(|found| found == key) || record.property(property::UNIQ_KEY) == Some(key)
}
