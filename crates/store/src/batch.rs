//! Messages on their way into the log: encoded back to back, then placed by the append. A batch is reused, so that a
//! steady load allocates nothing.

use std::sync::Arc;

use wire::{
    property,
    record::RecordView,
    record_crc,
    record_encode::{EncodeError, NewRecord, encode},
    sys_flag,
};

use crate::{config::StoreConfig, late::Late, queue::Queue};

/// Records to append together.
#[derive(Default)]
pub struct Batch {
    pub(crate) buf: Vec<u8>,
    pub(crate) entries: Vec<Entry>,
    open_group: Option<usize>,
    scratch: Vec<u8>,
    /// Its messages are in the log already and move on: only what a segment holds limits them.
    pub(crate) of_stored: bool,
}

/// One record of a batch. The placement is known when the append has returned.
pub struct Entry {
    /// The message's number in its queue; 0 for prepared and rolled back messages.
    pub queue_offset: i64,
    /// Byte position in the log.
    pub physical_offset: i64,
    /// Bytes of the record.
    pub size: usize,
    /// Milliseconds since the epoch, taken under the append lock.
    pub store_timestamp: i64,
    pub(crate) at: usize,
    /// Records that must lie in one segment, this one included; 0 inside a group.
    pub(crate) group: usize,
    /// How far the queue's counter moves.
    pub(crate) step: i64,
    pub(crate) queue: Option<Arc<Queue>>,
    pub(crate) queue_id: i32,
    /// What is written into it under the append lock.
    pub(crate) late: Option<Late>,
    /// Place and length in the record.
    topic: (usize, usize),
}

impl Entry {
    /// First byte after the record: its message is safe when a mark has reached this.
    pub fn end(&self) -> i64 {
        self.physical_offset + self.size as i64
    }

    /// Messages in the record: 1, except for an inner batch.
    pub fn count(&self) -> i64 {
        self.step.max(1)
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch for messages that are stored already and are stored once more. `maxMessageSize`, which may have
    /// been lowered since, does not apply to them (F-22).
    pub fn of_stored() -> Self {
        Self { of_stored: true, ..Self::default() }
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.entries.clear();
        self.open_group = None;
    }

    /// Encodes one more record and returns its number in the batch. On an error the batch is as before.
    pub fn push(&mut self, message: &NewRecord<'_>) -> Result<usize, EncodeError> {
        let at = self.buf.len();
        let size = encode(message, &mut self.buf)?;
        let number = self.entries.len();
        let topic_at = size - message_tail(message, size, at, &self.buf);
        self.entries.push(Entry {
            queue_offset: 0,
            physical_offset: 0,
            size,
            store_timestamp: 0,
            at,
            group: usize::from(self.open_group.is_none()),
            step: step_of(message),
            queue: None,
            queue_id: message.queue_id,
            late: None,
            topic: (topic_at, message.topic.len()),
        });
        Ok(number)
    }

    /// What is pushed from here to [`Batch::end_group`] lies in one segment: a client's batch.
    pub fn begin_group(&mut self) {
        self.end_group();
        self.open_group = Some(self.entries.len());
    }

    /// Ends the group.
    pub fn end_group(&mut self) {
        if let Some(start) = self.open_group.take()
            && start < self.entries.len()
        {
            self.entries[start].group = self.entries.len() - start;
        }
    }

    /// Drops what was pushed since [`Batch::begin_group`].
    pub fn abort_group(&mut self) {
        if let Some(start) = self.open_group.take() {
            self.truncate(start);
        }
    }

    /// Pushes a whole client batch, or nothing of it.
    pub fn push_group<'a>(&mut self, messages: impl IntoIterator<Item = NewRecord<'a>>) -> Result<usize, EncodeError> {
        self.begin_group();
        let first = self.entries.len();
        for message in messages {
            if let Err(error) = self.push(&message) {
                self.abort_group();
                return Err(error);
            }
        }
        self.end_group();
        Ok(first)
    }

    /// Keeps the first `count` records.
    pub fn truncate(&mut self, count: usize) {
        if let Some(entry) = self.entries.get(count) {
            self.buf.truncate(entry.at);
            self.entries.truncate(count);
        }
    }

    /// Some of its records in a batch of their own, a group where there are several.
    pub fn part(&self, numbers: std::ops::Range<usize>) -> Self {
        let mut part = Self::new();
        for entry in &self.entries[numbers] {
            let at = part.buf.len();
            part.buf.extend_from_slice(&self.buf[entry.at..entry.at + entry.size]);
            part.entries.push(Entry { at, group: 0, queue: None, late: None, ..*entry });
        }
        let count = part.entries.len();
        if let Some(first) = part.entries.first_mut() {
            first.group = count;
        }
        part
    }

    /// Its records in the order of pushing.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without records.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all records.
    pub fn size(&self) -> usize {
        self.buf.len()
    }

    /// Bytes of memory that it holds for records.
    pub fn capacity(&self) -> usize {
        self.buf.capacity() + self.scratch.capacity()
    }

    /// One record as stored; complete after the append.
    pub fn record(&self, number: usize) -> &[u8] {
        let entry = &self.entries[number];
        &self.buf[entry.at..entry.at + entry.size]
    }

    pub(crate) fn topic(&self, number: usize) -> &str {
        let entry = &self.entries[number];
        let (at, len) = (entry.at + entry.topic.0, entry.topic.1);
        std::str::from_utf8(&self.buf[at..at + len]).unwrap_or("")
    }

    /// Makes room for what is written under the append lock. Without such records nothing is touched.
    pub(crate) fn prepare(&mut self, config: &StoreConfig) {
        let needs = |entry: &Entry, buf: &[u8]| {
            let record = &buf[entry.at..entry.at + entry.size];
            let flag = i32::from_be_bytes([record[36], record[37], record[38], record[39]]);
            let is_posed = || record_crc::claimed(record).is_some();
            config.append_prop_crc || config.enable_lmq || flag & sys_flag::INNER_BATCH != 0 || is_posed()
        };
        if !self.entries.iter().any(|entry| needs(entry, &self.buf)) {
            return;
        }
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        for entry in &mut self.entries {
            let bytes = &self.buf[entry.at..entry.at + entry.size];
            entry.at = out.len();
            entry.late = RecordView::layout(bytes).and_then(|record| Late::prepare(&record, config, &mut out));
            match &entry.late {
                Some(late) => entry.size = late.fixed,
                None => out.extend_from_slice(bytes),
            }
        }
        self.scratch = std::mem::replace(&mut self.buf, out);
    }

    /// Writes what the queue offsets of one entry decide; its size is known from here on. An error tells the length of
    /// properties that became too long.
    pub(crate) fn complete(&mut self, number: usize) -> Result<(), usize> {
        let entry = &mut self.entries[number];
        if let Some(late) = &entry.late {
            let bytes = &mut self.buf[entry.at..entry.at + late.fixed + late.room];
            entry.size = late.complete(bytes, entry.queue_offset)?;
        }
        Ok(())
    }

    /// Writes the placement of one entry into its record.
    pub(crate) fn patch(&mut self, number: usize) {
        let entry = &self.entries[number];
        let record = &mut self.buf[entry.at..entry.at + entry.size];
        wire::record_encode::patch(record, entry.queue_offset, entry.physical_offset, entry.store_timestamp);
        if let Some(late) = &entry.late {
            late.seal(record);
        }
    }
}

/// Bytes from the topic to the end of the record.
fn message_tail(message: &NewRecord<'_>, size: usize, at: usize, buf: &[u8]) -> usize {
    let flag = i32::from_be_bytes([buf[at + 36], buf[at + 37], buf[at + 38], buf[at + 39]]);
    let topic_length_bytes = if message.topic.len() > i8::MAX as usize { 2 } else { 1 };
    size - 88 - wire::record::host_extra(flag) - message.body.len() - topic_length_bytes
}

fn step_of(message: &NewRecord<'_>) -> i64 {
    if !sys_flag::is_queued(message.sys_flag) {
        return 0;
    }
    if message.sys_flag & sys_flag::INNER_BATCH == 0 {
        return 1;
    }
    let count = property::find(message.properties, property::INNER_NUM).and_then(|count| count.parse().ok());
    count.filter(|count| (1..=i64::from(i16::MAX)).contains(count)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use wire::record::{Check, Verify, check};

    use super::*;

    fn message<'a>(topic: &'a str, properties: &'a [u8], sys_flag: i32) -> NewRecord<'a> {
        NewRecord {
            topic,
            queue_id: 2,
            flag: 0,
            sys_flag,
            born_timestamp: 1,
            born_host: "[::1]:1".parse().unwrap(),
            store_host: "127.0.0.1:2".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            properties,
            body: b"body",
        }
    }

    #[test]
    fn knows_where_the_topic_is() {
        let long = wire::topic::retry(&"g".repeat(140));
        let mut batch = Batch::new();
        batch.push(&message("T", b"a\x01b\x02", 0)).unwrap();
        batch.push(&message(&long, b"", 0)).unwrap();
        assert_eq!((batch.topic(0), batch.topic(1)), ("T", &long[..]));
    }

    #[test]
    fn groups_are_whole_or_absent() {
        let mut batch = Batch::new();
        batch.push(&message("T", b"", 0)).unwrap();
        let too_long = vec![b'x'; 40_000];
        let bad = [message("T", b"", 0), message("T", &too_long, 0)];
        assert!(batch.push_group(bad).is_err());
        assert_eq!(batch.len(), 1);
        assert_eq!(batch.push_group([message("T", b"", 0), message("U", b"", 0)]).unwrap(), 1);
        let groups: Vec<usize> = batch.entries().iter().map(|entry| entry.group).collect();
        assert_eq!(groups, [1, 2, 0]);
    }

    #[test]
    fn counters_move_by_what_a_record_holds() {
        let steps = [
            (0, &b""[..], 1),
            (sys_flag::TRANSACTION_PREPARED, b"", 0),
            (sys_flag::TRANSACTION_COMMIT, b"", 1),
            (sys_flag::TRANSACTION_ROLLBACK, b"", 0),
            (sys_flag::INNER_BATCH, b"INNER_NUM\x0132\x02", 32),
            (sys_flag::INNER_BATCH, b"INNER_NUM\x01-1\x02", 1),
        ];
        for (flag, properties, step) in steps {
            assert_eq!(step_of(&message("T", properties, flag)), step, "{flag} {properties:?}");
        }
    }

    #[test]
    fn an_inner_batch_gets_its_base() {
        let mut batch = Batch::new();
        let properties = b"INNER_BASE\x017\x02INNER_NUM\x013\x02";
        batch.push(&message("T", properties, sys_flag::INNER_BATCH)).unwrap();
        batch.push(&message("U", b"a\x01b\x02", 0)).unwrap();
        // Once more after an append that failed.
        for offset in [1234, 5] {
            batch.prepare(&StoreConfig::default());
            batch.entries[0].queue_offset = offset;
            for number in 0..2 {
                batch.complete(number).unwrap();
                batch.patch(number);
            }
            let Check::Record(view) = check(batch.record(0), true) else { panic!("no record") };
            let want = format!("INNER_NUM\x013\x02INNER_BASE\x01{offset}\x02");
            assert_eq!((view.properties(), view.topic()), (want.as_bytes(), "T"));
            let Check::Record(view) = check(batch.record(1), true) else { panic!("no record") };
            assert_eq!((view.properties(), batch.topic(1)), (&b"a\x01b\x02"[..], "U"));
        }
    }

    #[test]
    fn a_crc_stands_at_the_very_end() {
        let config = StoreConfig { append_prop_crc: true, ..StoreConfig::default() };
        let mut batch = Batch::new();
        for properties in [&b""[..], b"a\x01b", b"__CRC32#\x011\x02a\x01b\x02"] {
            batch.push(&message("T", properties, 0)).unwrap();
        }
        batch.prepare(&config);
        for number in 0..3 {
            batch.complete(number).unwrap();
            batch.patch(number);
            let Check::Record(view) = wire::record::check_as(batch.record(number), Verify::Whole) else {
                panic!("no record")
            };
            assert!(wire::record_crc::claimed(batch.record(number)).is_some());
            assert_eq!(view.property("a"), (number > 0).then_some("b"));
        }
        assert_eq!(batch.record(1).len(), batch.record(2).len());
    }

    /// Of a client, or of the record that this one is a copy of.
    #[test]
    fn a_crc_of_somebody_else_goes() {
        let cases = [
            ("a\x01b\x02__CRC32#\x011234567890\x02", "a\x01b\x02"),
            ("__CRC32#\x011234567890\x02", ""),
            ("__CRC32#\x011\x02__CRC32#\x011234567890\x02", ""),
            // Ends of other names and values.
            ("a\x01b\x02x__CRC32#\x011234567890\x02", "a\x01b\x02x__CRC32#\x011234567890"),
            ("a\x01__CRC32#\x011234567890\x02", "a\x01__CRC32#\x011234567890"),
            ("__CRC32#\x011\x02a\x01__CRC32#\x011234567890\x02", "a\x01__CRC32#\x011234567890"),
        ];
        let mut batch = Batch::new();
        for (sent, _) in cases {
            batch.push(&message("T", sent.as_bytes(), 0)).unwrap();
        }
        // Once more after an append that failed.
        for _ in 0..2 {
            batch.prepare(&StoreConfig::default());
            for (number, (sent, want)) in cases.into_iter().enumerate() {
                batch.complete(number).unwrap();
                batch.patch(number);
                let Check::Record(view) = wire::record::check_as(batch.record(number), Verify::Whole) else {
                    panic!("{sent:?}")
                };
                assert_eq!(String::from_utf8_lossy(view.properties()), want, "{sent:?}");
            }
        }
    }
}
