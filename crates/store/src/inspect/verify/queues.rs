//! All consume queues beside the log: finds the cursor of each record, gathers records whose queue is not there.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use wire::{
    body::TopicConfig,
    property,
    record::RecordView,
    sys_flag,
    topic::{self, LMQ_PREFIX},
};

use crate::{
    build::{is_directory_name, unit_of},
    config::StoreConfig,
    error::StoreError,
    inspect::{
        queues::QueueFiles,
        verify::{
            cursor::{Cursor, Ground, Missing, Outcome},
            findings::{FindingKind, Findings},
        },
        view::StoreView,
    },
    lmq,
    queue::{Kind, Unit, encode},
};

/// Bytes that all cursors may hold.
const BUDGET: usize = 64 << 20;
/// Queues without files that are told apart.
const MAX_ABSENT: usize = 100_000;

/// The cursors of all queues.
pub(crate) struct QueueWalk {
    cursors: Vec<Cursor>,
    places: HashMap<Arc<str>, Vec<(i32, usize)>>,
    /// Records whose queue has no files, by topic and id.
    absent: BTreeMap<(String, i32), Missing>,
    config: StoreConfig,
    levels_known: bool,
    has_lmq: bool,
    /// End in the log of the newest unit when the walk began.
    pub(crate) built: i64,
    bytes: Vec<u8>,
    bad_topics: u64,
    /// A record without files for its queue came before one with a unit.
    last_found: i64,
}

impl QueueWalk {
    pub(crate) fn new(view: &StoreView, log_min: i64) -> Result<Self, StoreError> {
        let mut queues = view.queues()?;
        let mut built = 0;
        for queue in &queues {
            let last = queue.unit_at(queue.end()? - 1)?;
            built = last.filter(|unit| !unit.is_filler()).map_or(built, |unit| built.max(unit.end()));
        }
        if view.is_running() {
            // Queues that were made before the newest unit was seen.
            queues = view.queues()?;
        }
        let at_once = (BUDGET / queues.len().max(1) / 46).clamp(64, 4096);
        let mut walk = Self {
            has_lmq: queues.iter().any(|queue| queue.topic.starts_with(LMQ_PREFIX)),
            cursors: Vec::with_capacity(queues.len()),
            places: HashMap::new(),
            absent: BTreeMap::new(),
            config: view.unit_config(),
            levels_known: view.options.delay_levels_ms.is_some(),
            built,
            bytes: Vec::new(),
            bad_topics: 0,
            last_found: -1,
        };
        for queue in queues {
            walk.add(queue, log_min, at_once)?;
        }
        Ok(walk)
    }

    fn add(&mut self, queue: QueueFiles, log_min: i64, at_once: usize) -> Result<(), StoreError> {
        let of_topic = self.places.entry(queue.topic.clone()).or_default();
        let number = self.cursors.len();
        match of_topic.binary_search_by_key(&queue.queue_id, |(queue_id, _)| *queue_id) {
            // In both forms: the one that holds something counts, as at a start.
            Ok(place) if queue.end()? > queue.start() => of_topic[place].1 = number,
            Ok(_) => {}
            Err(place) => of_topic.insert(place, (queue.queue_id, number)),
        }
        self.cursors.push(Cursor::new(queue, log_min, at_once)?);
        Ok(())
    }

    pub(crate) fn count(&self) -> usize {
        self.cursors.len()
    }

    fn cursor(&self, topic: &str, queue_id: i32) -> Option<usize> {
        let of_topic = self.places.get(topic)?;
        of_topic.binary_search_by_key(&queue_id, |(queue_id, _)| *queue_id).ok().map(|place| of_topic[place].1)
    }

    /// Compares the units of one record, those of light queues alone where its topic was deleted (`hidden`). True when
    /// one is missing at the end of its queue.
    pub(crate) fn take(
        &mut self,
        record: &RecordView<'_>,
        hidden: bool,
        ground: &mut Ground<'_>,
        wait: &mut dyn FnMut() -> bool,
    ) -> Result<bool, StoreError> {
        if !sys_flag::is_queued(record.sys_flag()) {
            return Ok(false);
        }
        if !is_directory_name(record.topic()) {
            self.bad_topics += 1;
            return Ok(false);
        }
        let (mut unit, mut missing) = (unit_of(&self.config, Kind::Simple, record), false);
        match self.cursor(record.topic(), record.queue_id()) {
            _ if hidden => {}
            None => self.absent(record),
            Some(number) => {
                unit = self.unit(number, record)?;
                missing = self.compare(number, &unit, ground, wait)?;
            }
        }
        if self.has_lmq {
            missing |= self.light_queues(&unit, record, ground, wait)?;
        }
        Ok(missing)
    }

    fn unit(&mut self, number: usize, record: &RecordView<'_>) -> Result<Unit, StoreError> {
        let cursor = &mut self.cursors[number];
        let mut unit = unit_of(&self.config, cursor.queue.kind, record);
        let delayed = !self.levels_known
            && record.topic() == topic::SCHEDULE
            && record.property(property::DELAY).is_some_and(|level| level.parse::<i64>().is_ok_and(|level| level > 0));
        if delayed {
            if cursor.delay_ms.is_none() {
                let first = cursor.queue.unit_at(unit.queue_offset)?;
                let due = first.map_or(Ok(None), |first| cursor.queue.tags_code(&first))?;
                cursor.delay_ms = due.map(|due| due - record.store_timestamp());
            }
            unit.tags_code = record.store_timestamp() + cursor.delay_ms.unwrap_or(0);
        }
        Ok(unit)
    }

    fn compare(
        &mut self,
        number: usize,
        unit: &Unit,
        ground: &mut Ground<'_>,
        wait: &mut dyn FnMut() -> bool,
    ) -> Result<bool, StoreError> {
        let cursor = &mut self.cursors[number];
        self.bytes.clear();
        encode(cursor.queue.kind, unit, &mut self.bytes);
        let (offset, physical) = (unit.queue_offset, unit.physical_offset);
        loop {
            match cursor.take(unit, &self.bytes, ground)? {
                Outcome::Found => {
                    self.last_found = physical;
                    return Ok(false);
                }
                Outcome::Taken if physical < cursor.taken_until() => {
                    cursor.taken += 1;
                    return Ok(false);
                }
                Outcome::Taken => {
                    cursor.record_without_unit(offset, physical, ground.findings);
                    return Ok(false);
                }
                Outcome::AtEnd if wait() => cursor.queue.refresh()?,
                Outcome::AtEnd => {
                    cursor.miss(offset, physical);
                    return Ok(true);
                }
            }
        }
    }

    /// Queues for light consumers hold units of records of other topics.
    fn light_queues(
        &mut self,
        unit: &Unit,
        record: &RecordView<'_>,
        ground: &mut Ground<'_>,
        wait: &mut dyn FnMut() -> bool,
    ) -> Result<bool, StoreError> {
        let (mut missing, on_its_way) = (false, lmq::is_on_its_way(record.topic()));
        for (name, queue_offset) in lmq::places(record) {
            let Some(number) = self.cursor(name, topic::LMQ_QUEUE_ID) else { continue };
            if on_its_way && !self.cursors[number].is_at(record.physical_offset())? {
                continue;
            }
            missing |= self.compare(number, &Unit { queue_offset, count: 1, ..*unit }, ground, wait)?;
        }
        Ok(missing)
    }

    fn absent(&mut self, record: &RecordView<'_>) {
        let key = (record.topic().to_owned(), record.queue_id());
        if self.absent.len() >= MAX_ABSENT && !self.absent.contains_key(&key) {
            return;
        }
        let (number, physical) = (record.queue_offset(), record.physical_offset());
        self.absent.entry(key).or_insert(Missing::from(number, physical)).add(number, physical, 1);
    }

    /// True when the record was the last one whose unit was found.
    pub(crate) fn has_unit(&self, record: &RecordView<'_>) -> bool {
        self.last_found == record.physical_offset()
    }

    /// True when any record has a unit.
    pub(crate) fn any_unit(&self) -> bool {
        self.last_found >= 0
    }

    pub(crate) fn units(&self) -> u64 {
        self.cursors.iter().map(|cursor| cursor.units).sum()
    }

    /// First place and number of the records that lack units at the ends of their queues.
    pub(crate) fn behind(&self) -> Option<(i64, u64)> {
        let missing = || self.cursors.iter().filter_map(|cursor| cursor.missing);
        Some((missing().map(|missing| missing.physical).min()?, missing().map(|missing| missing.count).sum()))
    }

    pub(crate) fn settle(&mut self, findings: &mut Findings) {
        self.cursors.iter_mut().for_each(|cursor| cursor.settle(findings));
    }

    pub(crate) fn finish(&mut self, new_from: i64, ground: &mut Ground<'_>) -> Result<(), StoreError> {
        self.cursors.iter_mut().try_for_each(|cursor| cursor.finish(new_from, ground))
    }

    /// True when another queue of the topic began anew behind `physical`.
    fn made_again(&self, topic: &str, physical: i64) -> bool {
        let queues = self.places.get(topic).into_iter().flatten();
        queues.map(|(_, number)| self.cursors[*number].taken_until()).any(|place| physical < place)
    }

    /// What concerns whole queues: their files, and records whose queue has none.
    pub(crate) fn report(
        &self,
        view: &StoreView,
        may_lag: bool,
        in_order_to: i64,
        findings: &mut Findings,
        notes: &mut Vec<String>,
    ) {
        self.cursors.iter().for_each(|cursor| files(&cursor.queue, findings));
        let configured = view.topics().map(|topics| topics.topic_config_table).filter(|_| self.any_unit());
        for ((topic, queue_id), missing) in &self.absent {
            let Missing { first, last, physical, last_physical, count } = *missing;
            let known = configured.as_ref().map(|table| table.get(topic));
            if known == Some(None) && !self.places.contains_key(topic.as_str()) {
                notes.push(format!("{count} records of topic {topic} queue {queue_id} belong to a deleted topic"));
            } else if self.made_again(topic, last_physical)
                || known.flatten().is_some_and(|it| !has_queue(it, *queue_id))
            {
                notes.push(format!(
                    "{count} records of queue {topic} {queue_id} are from before its topic was deleted and made again"
                ));
            } else if may_lag && physical > self.last_found.min(in_order_to.saturating_sub(1)) {
                notes.push(format!("queue {topic} {queue_id} has no files yet for {count} records from {physical} on"));
            } else {
                findings.add(FindingKind::RecordWithoutUnit, count, || {
                    format!("queue {topic} {queue_id} has no files, the log has {count} of its records ({first} to {last}), the first at {physical}")
                });
            }
        }
        for cursor in self.cursors.iter().filter(|cursor| cursor.taken > 0) {
            notes.push(format!(
                "{} records of queue {} are from before its topic was deleted and made again",
                cursor.taken, cursor.name
            ));
        }
        if self.bad_topics > 0 {
            notes.push(format!("{} records have topics that cannot be queues", self.bad_topics));
        }
    }
}

/// False for a queue that the topic no longer has: it had more before it was deleted. There are as many delay levels as
/// the configuration says, whatever the table says.
fn has_queue(config: &TopicConfig, queue_id: i32) -> bool {
    config.topic_name == topic::SCHEDULE || queue_id < config.read_queue_nums.max(config.write_queue_nums)
}

/// Sizes and names of a queue's files.
fn files(queue: &QueueFiles, findings: &mut Findings) {
    let size = queue.file_size();
    let mut bad = |base: i64, text: String| {
        let name = queue.name();
        findings.add(FindingKind::QueueFile, 1, || format!("queue {name}: file {base:020} {text}"));
    };
    let last = queue.files.last().map_or(0, |last| last.base);
    for (number, file) in queue.files.iter().enumerate() {
        if (file.len != size && !(file.base == last && file.len == 0)) || file.len % queue.unit() as u64 != 0 {
            bad(file.base, format!("has {} bytes, the first one has {size}", file.len));
        }
        if number > 0 && file.base != queue.files[number - 1].base + size as i64 {
            bad(file.base, format!("does not follow {:020}", queue.files[number - 1].base));
        }
    }
}
