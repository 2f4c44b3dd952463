//! Questions about a queue: its ends, its units, and offsets by time. Source: `ConsumeQueue.java`,
//! `MappedFileQueue.java` (getConsumeQueueMappedFileByTime), `BatchConsumeQueue.java`; reference store 14 and 16.
//! Asking about an unknown queue makes nothing.

use std::{ops::Range, sync::Arc};

use wire::record::RecordView;

use crate::{
    build::code_of,
    error::StoreError,
    queue::{Kind, Queue, Unit, decode},
    store::Store,
};

/// Which of the neighbours counts when no message has the exact time, and which of several that have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Boundary {
    /// The first message not before the time.
    #[default]
    Lower,
    /// The last message not after the time.
    Upper,
}

impl Store {
    /// Offset of the first message whose record is still there; 0 for an unknown queue.
    pub fn min_offset(&self, topic: &str, queue_id: i32) -> i64 {
        self.queues.get(topic, queue_id).map_or(0, |queue| queue.min())
    }

    /// Offset after the last readable message; 0 for an unknown queue.
    pub fn max_offset(&self, topic: &str, queue_id: i32) -> i64 {
        self.queues.get(topic, queue_id).map_or(0, |queue| queue.max())
    }

    /// The queue unit that holds an offset.
    pub fn queue_unit(&self, topic: &str, queue_id: i32, offset: i64) -> Option<Unit> {
        let queue = self.queues.get(topic, queue_id)?;
        let unit = self.told(queue.unit_of(offset))?.filter(|unit| !unit.is_filler())?;
        Some(self.with_tags_code(&queue, unit))
    }

    /// Up to `max` units from `offset` on, as many as one read of one file gives, fillers included. Empty outside the
    /// queue. For queues with a unit a message.
    pub fn queue_units(&self, topic: &str, queue_id: i32, offset: i64, max: usize) -> Vec<Unit> {
        let Some(queue) = self.queues.get(topic, queue_id) else { return Vec::new() };
        let mut bytes = Vec::new();
        let place = self.told(queue.place_of(offset)).flatten();
        if place.is_none_or(|place| self.told(queue.units().read(place, max, &mut bytes)).is_none()) {
            return Vec::new();
        }
        let units = bytes.chunks_exact(queue.kind().unit_size()).zip(offset..);
        units.map(|(bytes, number)| self.with_tags_code(&queue, decode(queue.kind(), number, bytes))).collect()
    }

    /// The unit with a tags code where it has an address; that of its record, if the address leads nowhere.
    fn with_tags_code(&self, queue: &Queue, unit: Unit) -> Unit {
        let of_record = || {
            let bytes = self.read_record(unit.physical_offset)?;
            Some(code_of(&self.config, &RecordView::layout(&bytes)?))
        };
        let tags_code = queue.tags_code(&unit).or_else(of_record).unwrap_or(unit.tags_code);
        Unit { tags_code, ..unit }
    }

    /// Store time in ms of the message at an offset, -1 if there is none.
    pub fn store_time(&self, topic: &str, queue_id: i32, offset: i64) -> i64 {
        let unit = self.queue_unit(topic, queue_id, offset);
        unit.and_then(|unit| self.record_time(unit.physical_offset)).unwrap_or(-1)
    }

    /// Store time in ms of a queue's first message, -1 if it has none.
    pub fn earliest_time(&self, topic: &str, queue_id: i32) -> i64 {
        self.store_time(topic, queue_id, self.min_offset(topic, queue_id))
    }

    /// All queues that have, or had, messages.
    pub fn queues(&self) -> Vec<(Arc<str>, i32)> {
        let all = self.queues.all().into_iter().filter(|queue| !queue.units().is_unused());
        all.map(|queue| (queue.topic().clone(), queue.queue_id())).collect()
    }

    /// Offset by store time in ms, within the queue's ends; 0 for an unknown queue.
    ///
    /// # Errors
    /// A message on the way cannot be read now: any offset might lead a consumer past messages.
    pub fn offset_by_time(&self, topic: &str, queue_id: i32, time: i64, boundary: Boundary) -> Result<i64, StoreError> {
        let Some(queue) = self.queues.get(topic, queue_id) else { return Ok(0) };
        let search = Search { store: self, queue: &queue, time };
        let found = match queue.kind() {
            Kind::Simple => search.simple(boundary)?,
            Kind::Batch => search.batch(boundary)?,
        };
        let (min, max) = (queue.min(), queue.max());
        Ok(found.clamp(min.min(max), max))
    }
}

struct Search<'a> {
    store: &'a Store,
    queue: &'a Queue,
    time: i64,
}

impl Search<'_> {
    /// Java chooses a file first and answers within it.
    fn simple(&self, boundary: Boundary) -> Result<i64, StoreError> {
        let files = self.files();
        if files.is_empty() {
            return Ok(0);
        }
        match boundary {
            Boundary::Lower => {
                let mut chosen = files[files.len() - 1].clone();
                for file in files {
                    if self.time_of(file.end - 1)? >= self.time {
                        chosen = file;
                        break;
                    }
                }
                self.first_where(chosen, |time| time >= self.time)
            }
            Boundary::Upper => {
                for file in files.into_iter().rev() {
                    if self.time_of(file.start)? <= self.time {
                        return Ok(self.first_where(file, |time| time > self.time)? - 1);
                    }
                }
                Ok(0)
            }
        }
    }

    fn batch(&self, boundary: Boundary) -> Result<i64, StoreError> {
        let (start, end) = (self.queue.units().start(), self.queue.units().end());
        let number = match boundary {
            Boundary::Lower => self.first_where(start..end, |time| time >= self.time)?.min(end - 1),
            Boundary::Upper => self.first_where(start..end, |time| time > self.time)? - 1,
        };
        Ok(self.queue.unit_at(number)?.map_or(-1, |unit| unit.queue_offset))
    }

    /// Readable units of each file.
    fn files(&self) -> Vec<Range<i64>> {
        let (units, mut from) = (self.queue.units(), self.queue.min());
        let mut files = Vec::new();
        while from < self.queue.max() {
            let until = (units.segment_start(from) + units.per_segment()).min(self.queue.max());
            files.push(from..until);
            from = until;
        }
        files
    }

    /// First unit whose store time fits; times grow along the row.
    fn first_where(&self, range: Range<i64>, fits: impl Fn(i64) -> bool) -> Result<i64, StoreError> {
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if fits(self.time_of(middle)?) { high = middle } else { low = middle + 1 }
        }
        Ok(low)
    }

    /// Store time of a unit's record; -1, earlier than all, when it is gone.
    fn time_of(&self, number: i64) -> Result<i64, StoreError> {
        let Some(unit) = self.queue.unit_at(number)? else { return Ok(-1) };
        if self.queue.kind() == Kind::Batch {
            return Ok(unit.store_timestamp);
        }
        Ok(self.store.log.record_time(unit.physical_offset)?.unwrap_or(-1))
    }
}
