//! Reading the log by physical offset and by key. What is not a whole record at its own place is never handed out.

use bytes::{Bytes, BytesMut};
use wire::{
    frame::MAX_FRAME,
    record::{BLANK_HEAD, Check, RecordView, Verify, check_as},
};

use crate::{
    build::keys_of,
    disk::Usage,
    error::{IoContext, StoreError},
    index::TAGS_MARK,
    queue::get_i32,
    space::Partition,
    store::Store,
    walk::looks_torn,
};

/// Enough to read most records at once.
const MOST_RECORDS: usize = 2048;
/// Bytes that are gone through to find the last record.
const FARTHEST_TO_LAST: i64 = 64 << 20;
/// Bytes of records that fit into one answer with its header.
const MAX_ANSWER: usize = MAX_FRAME - (64 << 10);

/// Answer of [`Store::query`].
#[derive(Clone, Debug, Default)]
pub struct QueryResult {
    /// Records back to back, by physical offset.
    pub messages: Bytes,
    /// Where each of them is.
    pub physical_offsets: Vec<i64>,
    /// Store time of the newest indexed message.
    pub index_last_update_timestamp: i64,
    /// Physical offset of the newest indexed message.
    pub index_last_update_phyoffset: i64,
}

impl Store {
    /// The record that begins at `physical_offset`.
    pub fn read_record(&self, physical_offset: i64) -> Option<Bytes> {
        self.told(self.try_read_record(physical_offset)).flatten()
    }

    /// The same for one who must know whether nothing is there, or it cannot be read now.
    pub(crate) fn try_read_record(&self, physical_offset: i64) -> Result<Option<Bytes>, StoreError> {
        let Some(mut bytes) = self.try_read_log(physical_offset, MOST_RECORDS)? else { return Ok(None) };
        let Some(size) = bytes.get(..4).and_then(|head| usize::try_from(get_i32(head, 0)).ok()) else {
            return Ok(None);
        };
        if size > bytes.len() {
            let Some(whole) = self.try_read_log(physical_offset, size)? else { return Ok(None) };
            bytes = whole;
        }
        bytes.truncate(size);
        Ok(is_record_at(&bytes, physical_offset).then_some(bytes))
    }

    /// True where a record or a blank of this log begins or ends: a replica that ends elsewhere ends within a record.
    pub fn is_boundary(&self, offset: i64) -> bool {
        let is_end = || offset == self.marks.appended.get() || offset % self.log.segment_size() == 0;
        // Asked again at the end: the log may have grown to there meanwhile.
        is_end() || self.read_record(offset).is_some() || self.is_blank(offset) || is_end()
    }

    fn is_blank(&self, offset: i64) -> bool {
        let head = self.read_log(offset, BLANK_HEAD).unwrap_or_default();
        head.len() == BLANK_HEAD && matches!(check_as(&head, Verify::Layout), Check::Blank)
    }

    /// The last record of the log. `None` without one, where it cannot be read, and where finding it would mean to read more
    /// than 64 MiB that came since dispatch went on last.
    pub fn last_record(&self) -> Option<Bytes> {
        let known = self.dispatcher.newest().unwrap_or_else(|| self.checkpoint().logics_physical_offset);
        let (mut at, end) = (known.max(self.log.min()?), self.marks.appended.get());
        if end - at > FARTHEST_TO_LAST {
            return None;
        }
        let mut found = None;
        while at < end {
            match self.read_record(at) {
                Some(record) => {
                    at += record.len() as i64;
                    found = Some(record);
                }
                None if self.is_blank(at) => at = self.log.next_base(at),
                None => return None,
            }
        }
        found
    }

    /// Bytes of the log from `offset` on: at most `max_len`, to the end of the segment, below the mark `appended`.
    /// Empty at the end of the log, `None` outside.
    pub fn read_log(&self, offset: i64, max_len: usize) -> Option<Bytes> {
        self.told(self.try_read_log(offset, max_len)).flatten()
    }

    fn try_read_log(&self, offset: i64, max_len: usize) -> Result<Option<Bytes>, StoreError> {
        let end = self.marks.appended.get();
        if offset == end {
            return Ok(Some(Bytes::new()));
        }
        if offset > end || self.log.min().is_none_or(|min| offset < min) {
            return Ok(None);
        }
        let length = max_len.min((end - offset) as usize).min((self.log.next_base(offset) - offset) as usize);
        let mut buf = BytesMut::zeroed(length);
        let Some(read) = self.log.read(offset, &mut buf)? else { return Ok(None) };
        // What was cut off meanwhile may have been read as zeros.
        buf.truncate(read.min((self.marks.appended.get() - offset).max(0) as usize));
        Ok(Some(buf.freeze()))
    }

    /// Raw bytes at a place of the files, also beyond the marks, for recovery.
    pub(crate) fn read_at(&self, offset: i64, size: i32) -> Option<Vec<u8>> {
        let size = usize::try_from(size).ok().filter(|size| *size as i64 <= self.log.segment_size())?;
        let mut buf = vec![0; size];
        let read = self.told(self.log.read(offset, &mut buf))??;
        (read == size).then_some(buf)
    }

    /// The whole record at a place of the files, CRC checked.
    pub(crate) fn record_in_files(&self, offset: i64) -> Option<Vec<u8>> {
        let head = self.read_at(offset, 4)?;
        let bytes = self.read_at(offset, get_i32(&head, 0))?;
        let Check::Record(record) = check_as(&bytes, self.config.verify()) else { return None };
        let behind = || self.read_at(offset + bytes.len() as i64, BLANK_HEAD as i32).unwrap_or_default();
        let torn = looks_torn(&record, &[]) && looks_torn(&record, &behind());
        let whole = record.physical_offset() == offset && !torn;
        whole.then_some(bytes)
    }

    /// Whether the record at a place of the files has a key of this hash; true for one that has left the log.
    pub(crate) fn has_key(&self, physical: i64, hash: i32) -> bool {
        if physical < self.log.min().unwrap_or(0) {
            return true;
        }
        let bytes = self.record_in_files(physical);
        let keys = bytes.as_deref().and_then(RecordView::layout).and_then(|record| keys_of(&record));
        keys.is_some_and(|keys| keys.parts().any(|part| keys.hash(part) == hash))
    }

    /// Store time of the record at the start of a segment, if it is whole.
    pub(crate) fn first_record_time(&self, base: i64) -> Option<i64> {
        let bytes = self.record_in_files(base)?;
        Some(RecordView::layout(&bytes)?.store_timestamp())
    }

    /// True when a whole record is at this place of the files.
    pub(crate) fn is_record(&self, offset: i64) -> bool {
        self.record_in_files(offset).is_some()
    }

    /// Store time of the record at `physical`, 0 if there is none.
    pub(crate) fn time_at(&self, physical: i64) -> i64 {
        self.record_time(physical).unwrap_or(0)
    }

    /// Store time from the head of the record at `physical`.
    pub(crate) fn record_time(&self, physical: i64) -> Option<i64> {
        self.told(self.log.record_time(physical))?
    }

    /// Store time of the first record of the log, -1 without one.
    pub fn earliest_log_time(&self) -> i64 {
        self.log.min().filter(|min| *min < self.max_phys()).and_then(|min| self.record_time(min)).unwrap_or(-1)
    }

    /// Messages with a key or unique id, stored in [`begin`, `end`] ms, by physical offset. Hash collisions are not
    /// sorted out, as in Java: compare the key.
    pub fn query(&self, topic: &str, key: &str, max: usize, begin: i64, end: i64) -> QueryResult {
        self.query_within(topic, key, max, (begin, end), usize::MAX).unwrap_or_default()
    }

    /// The same, where no more than `entries` of the index are to be read for it; `None` where they are not enough. Many keys
    /// may share a slot.
    pub fn query_within(
        &self,
        topic: &str,
        key: &str,
        max: usize,
        (begin, end): (i64, i64),
        entries: usize,
    ) -> Option<QueryResult> {
        self.told(self.try_query(topic, key, max, (begin, end), entries))
            .unwrap_or_else(|| Some(QueryResult::default()))
    }

    /// The same for one who must know whether nothing is there, or the index cannot be read now.
    pub(crate) fn try_query(
        &self,
        topic: &str,
        key: &str,
        max: usize,
        (begin, end): (i64, i64),
        entries: usize,
    ) -> Result<Option<QueryResult>, StoreError> {
        let mut result = QueryResult::default();
        let max = max.min(self.config.max_query_count as usize);
        let (mut until, mut left) = (end, entries);
        for _ in 0..3 {
            let Some(index) = &self.index else { break };
            let Some(mut hits) = index.find(topic, key, max, (begin, until), &mut left)? else { return Ok(None) };
            if hits.offsets.is_empty() {
                break;
            }
            hits.offsets.sort_unstable();
            result.index_last_update_timestamp = hits.last_update_timestamp;
            result.index_last_update_phyoffset = hits.last_update_physical;
            self.read_hits(&hits.offsets, &mut result);
            until = self.time_at(hits.offsets[0]);
            if !result.physical_offsets.is_empty() || until < begin {
                break;
            }
        }
        Ok(Some(result))
    }

    /// The newest records that one answer can carry, in the order of the log. Java answers with all, which its own clients
    /// then refuse.
    fn read_hits(&self, offsets: &[i64], result: &mut QueryResult) {
        let (mut records, mut bytes) = (Vec::new(), 0);
        for offset in offsets.iter().rev() {
            let Some(record) = self.read_record(*offset) else { continue };
            bytes += record.len();
            if bytes > MAX_ANSWER && !records.is_empty() {
                break;
            }
            records.push((*offset, record));
        }
        result.physical_offsets = records.iter().rev().map(|(offset, _)| *offset).collect();
        let messages: Vec<&[u8]> = records.iter().rev().map(|(_, record)| &record[..]).collect();
        result.messages = messages.concat().into();
    }

    /// The directories that new segments of the commit log may go to.
    pub fn log_partitions(&self) -> Vec<Partition> {
        let usages = self.disk.usages(self.log.dir());
        usages.into_iter().map(|(dir, usage)| Partition { dir, usage: usage.ok() }).collect()
    }

    /// Space of the emptiest one of them, in bytes.
    pub fn disk_usage(&self) -> Option<Usage> {
        Partition::emptiest(self.log_partitions())?.usage
    }

    /// Space of the partition of the consume queues, in bytes.
    pub fn queue_disk_usage(&self) -> Result<Usage, StoreError> {
        self.disk.usage(&self.config.root).at("read the space of", &self.config.root)
    }

    /// A read that fails is logged and counts as absent; reads do not end the store.
    pub(crate) fn told<T>(&self, result: Result<T, StoreError>) -> Option<T> {
        self.log.told(result)
    }
}

/// What [`Store::query`] finds messages by the whole text of their tags with, where a broker since Java 5.4 has indexed them.
pub fn tags_key(tags: &str) -> String {
    format!("{TAGS_MARK}{tags}")
}

/// True for exactly one whole record that carries its own place.
pub(crate) fn is_record_at(bytes: &[u8], offset: i64) -> bool {
    RecordView::layout(bytes).is_some_and(|record| record.physical_offset() == offset)
}
