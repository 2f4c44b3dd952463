//! Hands out chosen records of the log, in its order. What is no whole record of its own place with the right body CRC
//! is passed over and told. Includes records of deleted topics: the log still has them.

use wire::{property, record::RecordView};

use crate::{
    error::StoreError,
    inspect::{
        log::{Halt, Scanner},
        view::StoreView,
    },
    queue::Kind,
};

/// Which records; `None` = any.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Topic.
    pub topic: Option<String>,
    /// Queue.
    pub queue_id: Option<i32>,
    /// First offset in the queue.
    pub offset: Option<i64>,
    /// One of `KEYS`, or the unique id.
    pub key: Option<String>,
    /// Stored at or after, milliseconds.
    pub from: Option<i64>,
    /// Stored at or before, milliseconds.
    pub to: Option<i64>,
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
pub fn read(view: &StoreView, selection: &Selection, reader: &mut dyn Reader) -> Result<(), StoreError> {
    let mut scanner = Scanner::new(&view.log, start(view, selection)?);
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
    let leads = |record: RecordView<'_>| record.topic() == topic && record.queue_offset() == offset;
    let fits = bytes.as_deref().and_then(RecordView::layout).is_some_and(leads);
    Ok(if fits { unit.physical_offset } else { min })
}

impl Selection {
    fn has(&self, record: &RecordView<'_>) -> bool {
        self.topic.as_deref().is_none_or(|topic| record.topic() == topic)
            && self.queue_id.is_none_or(|queue_id| record.queue_id() == queue_id)
            && self.offset.is_none_or(|offset| record.queue_offset() >= offset)
            && self.from.is_none_or(|from| record.store_timestamp() >= from)
            && self.to.is_none_or(|to| record.store_timestamp() <= to)
            && self.key.as_deref().is_none_or(|key| has_key(record, key))
    }
}

fn has_key(record: &RecordView<'_>, key: &str) -> bool {
    let keys = record.property(property::KEYS).unwrap_or_default();
    keys.split(' ').any(|found| found == key) || record.property(property::UNIQ_KEY) == Some(key)
}
