//! The write path: a batch becomes a few positioned writes under one short lock. Source: `CommitLog.java`; reference
//! store 3.5, 8 and 9; replication 2.6. Nothing of a batch counts before all of it is written.

use std::sync::atomic::Ordering::SeqCst;

use wire::{record_encode::MAX_PROPERTIES, topic};

use crate::{
    batch::{Batch, Entry},
    error::{AppendError, StoreError},
    index::{Flushed, Index},
    lmq,
    queues::TOGETHER,
    space::NoSpace,
    store::Store,
};

/// The append lock's content.
#[derive(Default)]
pub(crate) struct Tail {
    /// End of the log; equals the mark `appended` except within an append.
    pub(crate) end: i64,
    writes: Vec<Write>,
}

/// A piece of a batch that is written at once.
#[derive(Clone, Copy)]
enum Write {
    Records { at: i64, from: usize, to: usize },
    Blank { at: i64 },
}

/// Queue offsets that were given are free again.
fn give_back(entries: &[Entry]) {
    for entry in entries.iter().rev() {
        if let Some(queue) = &entry.queue {
            queue.next_offset.store(entry.queue_offset, SeqCst);
        }
        if let Some(late) = &entry.late {
            late.take_back();
        }
    }
}

impl Store {
    /// Stores all records of a batch, or none. On return they are written (not yet durable), readable by physical
    /// offset, and each entry has its placement. Wait for [`crate::Marks`] to reach [`crate::Entry::end`].
    pub fn append(&self, batch: &mut Batch) -> Result<(), AppendError> {
        batch.end_group();
        batch.prepare(&self.config);
        self.check_sizes(batch)?;
        match batch.len() {
            1 => self.find_queues(batch, 0),
            _ => self.find_all_queues(batch),
        }
        let mut tail = self.tail.lock();
        self.check_appendable(&tail)?;
        self.take_queue_offsets(batch)?;
        self.place(&mut tail, batch);
        let end = self.write_batch(&mut tail, batch)?;
        // Under the lock, so that no truncation comes between.
        self.marks.appended.advance(end);
        Ok(())
    }

    fn find_all_queues(&self, batch: &mut Batch) {
        for first in (0..batch.len()).step_by(TOGETHER) {
            let numbers = first..(first + TOGETHER).min(batch.len());
            let mut wanted = [("", 0); TOGETHER];
            for (wanted, number) in wanted.iter_mut().zip(numbers.clone()) {
                *wanted = (batch.topic(number), batch.entries[number].queue_id);
            }
            let found = self.queues.get_together(&wanted[..numbers.len()]);
            for (number, queue) in numbers.zip(found) {
                let entry = &mut batch.entries[number];
                entry.queue = queue.filter(|_| entry.step > 0);
                if entry.late.is_some() || entry.queue.is_none() {
                    self.find_queues(batch, number);
                }
            }
        }
    }

    fn find_queues(&self, batch: &mut Batch, number: usize) {
        if batch.entries[number].step > 0 {
            let queue = self.queues.get_or_make(batch.topic(number), batch.entries[number].queue_id);
            batch.entries[number].queue = Some(queue);
        }
        let late = batch.entries[number].late.as_mut();
        for light in late.map(|late| &mut late.light[..]).unwrap_or_default() {
            let has_queue = lmq::has_queue(&light.name);
            light.queue = has_queue.then(|| self.queues.get_or_make(&light.name, topic::LMQ_QUEUE_ID));
        }
    }

    /// Queue offsets are given, and with them the sizes of all records are known. On an error none was given.
    fn take_queue_offsets(&self, batch: &mut Batch) -> Result<(), AppendError> {
        let mut has_late = false;
        for number in 0..batch.entries.len() {
            self.renew_queues(batch, number);
            let entry = &mut batch.entries[number];
            entry.queue_offset =
                entry.queue.as_ref().map_or(0, |queue| queue.next_offset.fetch_add(entry.step, SeqCst));
            let Some(late) = &mut entry.late else { continue };
            late.take_places();
            has_late = true;
            if let Err(size) = batch.complete(number) {
                give_back(&batch.entries[..=number]);
                return Err(AppendError::TooLarge { size: size as u64, limit: MAX_PROPERTIES as u64 });
            }
        }
        match has_late {
            true => self.check_sizes(batch).inspect_err(|_| give_back(&batch.entries)),
            false => Ok(()),
        }
    }

    fn check_sizes(&self, batch: &Batch) -> Result<(), AppendError> {
        let segment_size = self.log.segment_size();
        let group_limit = (segment_size - wire::record::BLANK_HEAD as i64) as u64;
        let record_limit = if batch.of_stored { group_limit } else { self.config.record_limit(segment_size) };
        for (number, entry) in batch.entries.iter().enumerate() {
            let group: usize = batch.entries[number..number + entry.group].iter().map(|entry| entry.size).sum();
            let record_limit = match &entry.late {
                Some(late) if !late.light.is_empty() => record_limit.min(self.config.max_message_size),
                _ => record_limit,
            };
            for (size, limit) in [(entry.size as u64, record_limit), (group as u64, group_limit)] {
                if size > limit {
                    return Err(AppendError::TooLarge { size, limit });
                }
            }
        }
        Ok(())
    }

    fn check_appendable(&self, tail: &Tail) -> Result<(), AppendError> {
        if let Some(reason) = self.failed() {
            return Err(AppendError::Failed(reason.to_owned()));
        }
        if self.is_closed() {
            return Err(AppendError::Closed);
        }
        if self.is_slave.load(SeqCst) {
            return Err(AppendError::Slave);
        }
        if let Some(cause) = self.refusal.before_write(false) {
            return Err(AppendError::NoSpace(cause));
        }
        let dispatched = self.marks.dispatched.get();
        if dispatched < self.raw_end.load(SeqCst) {
            return Err(AppendError::NotDispatched { dispatched, end: tail.end });
        }
        Ok(())
    }

    /// Decides where each record goes and patches that into it.
    fn place(&self, tail: &mut Tail, batch: &mut Batch) {
        let now = self.clock.now_ms();
        let mut at = tail.end;
        tail.writes.clear();
        for number in 0..batch.entries.len() {
            let group = batch.entries[number].group;
            let length: usize = batch.entries[number..number + group].iter().map(|entry| entry.size).sum();
            if at % self.log.segment_size() != 0 && at + length as i64 + 8 > self.log.next_base(at) {
                tail.writes.push(Write::Blank { at });
                at = self.log.next_base(at);
            }
            let entry = &mut batch.entries[number];
            entry.physical_offset = at;
            entry.store_timestamp = now;
            let (from, to) = (entry.at, entry.at + entry.size);
            match tail.writes.last_mut() {
                Some(Write::Records { to: end, .. }) if *end == from => *end = to,
                _ => tail.writes.push(Write::Records { at, from, to }),
            }
            at += entry.size as i64;
            batch.patch(number);
        }
    }

    /// A topic that was deleted since the queue was looked up begins again at offset 0.
    fn renew_queues(&self, batch: &mut Batch, number: usize) {
        let entry = &batch.entries[number];
        let light = entry.late.iter().flat_map(|late| &late.light).filter_map(|light| light.queue.as_ref());
        if entry.queue.iter().chain(light).any(|queue| queue.deleted.load(SeqCst)) {
            self.find_queues(batch, number);
        }
    }

    fn write_batch(&self, tail: &mut Tail, batch: &Batch) -> Result<i64, AppendError> {
        let mut end = tail.end;
        for write in &tail.writes {
            let (result, after) = match *write {
                Write::Blank { at } => (self.log.write_blank(at), self.log.next_base(at)),
                Write::Records { at, from, to } => (self.log.write(at, &batch.buf[from..to]), at + (to - from) as i64),
            };
            if let Err(error) = result {
                return Err(self.take_back(tail.end, batch, error));
            }
            end = after;
        }
        tail.end = end;
        self.refusal.written(self.is_slave.load(SeqCst));
        Ok(end)
    }

    /// A batch could not be written: what was written of it goes, the counters go back. Lack of space is survived.
    fn take_back(&self, end: i64, batch: &Batch, error: StoreError) -> AppendError {
        give_back(&batch.entries);
        if error.is_disk_full()
            && let Ok(()) = self.log.cut(end)
        {
            return AppendError::NoSpace(self.lacks_space());
        }
        self.fail(&error);
        AppendError::Failed(error.to_string())
    }

    /// The operating system has no space for the log.
    fn lacks_space(&self) -> NoSpace {
        self.refusal.by_system(self.log.dir().to_path_buf(), self.is_slave.load(SeqCst))
    }

    /// Appends bytes of a master's log at `offset`, which must be the end of this log; into an empty log, the start of a
    /// segment. They may span segments. Returns the new end. Content is not looked at, but it should be whole records
    /// and blanks: of a record that was written in pieces a power loss may take a few bytes of the head alone, which
    /// nobody can tell afterwards.
    pub fn append_raw(&self, offset: i64, bytes: &[u8]) -> Result<i64, StoreError> {
        let mut tail = self.tail.lock();
        self.check_usable()?;
        self.check_raw_place(&tail, offset)?;
        if let Some(cause) = self.refusal.before_write(true) {
            return Err(StoreError::NoSpace(cause));
        }
        if self.has_no_bytes(&tail) && offset != tail.end {
            self.log.clear().inspect_err(|error| self.fail(error))?;
            self.begin_marks_at(offset);
            tail.end = offset;
        }
        let end = self.write_raw(offset, bytes)?;
        self.raw_end.store(end, SeqCst);
        tail.end = end;
        self.marks.appended.advance(end);
        Ok(end)
    }

    fn check_raw_place(&self, tail: &Tail, offset: i64) -> Result<(), StoreError> {
        let segment_size = self.log.segment_size();
        match self.has_no_bytes(tail) {
            true if offset < 0 || offset % segment_size != 0 => Err(StoreError::Misaligned { offset, segment_size }),
            false if offset != tail.end => Err(StoreError::NotAtEnd { offset, end: tail.end }),
            _ => Ok(()),
        }
    }

    fn has_no_bytes(&self, tail: &Tail) -> bool {
        self.log.min().is_none_or(|min| min == tail.end)
    }

    fn write_raw(&self, offset: i64, bytes: &[u8]) -> Result<i64, StoreError> {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let room = (self.log.next_base(at) - at) as usize;
            let (now, later) = rest.split_at(rest.len().min(room));
            if let Err(error) = self.log.write(at, now) {
                if error.is_disk_full() && self.log.cut(offset).is_ok() {
                    return Err(StoreError::NoSpace(self.lacks_space()));
                }
                self.fail(&error);
                return Err(error);
            }
            at += now.len() as i64;
            rest = later;
        }
        self.refusal.written(self.is_slave.load(SeqCst));
        Ok(at)
    }

    /// The log of a new replica begins later than 0: nothing before it is missing.
    fn begin_marks_at(&self, offset: i64) {
        self.marks.appended.reset(offset);
        self.marks.flushed.reset(offset);
        self.marks.dispatched.reset(offset);
    }

    /// Makes the log durable up to what is written when the call begins, and returns that end. A failure is final: it
    /// is never tried again.
    pub fn flush(&self) -> Result<i64, StoreError> {
        self.check_usable()?;
        self.flush_log()
    }

    pub(crate) fn flush_log(&self) -> Result<i64, StoreError> {
        let _flushing = self.flushing.lock();
        let (from, to) = (self.marks.flushed.get(), self.marks.appended.get());
        if let Some(reason) = self.failed() {
            return Err(StoreError::Failed(reason.to_owned()));
        }
        if from < to {
            self.log.sync(from, to).inspect_err(|error| self.fail(error))?;
            self.marks.flushed.advance(to);
        }
        Ok(to.max(from))
    }

    /// Makes durable what was dispatched: consume queues and index.
    pub fn flush_queues(&self) -> Result<(), StoreError> {
        self.check_usable()?;
        self.flush_views()
    }

    pub(crate) fn flush_views(&self) -> Result<(), StoreError> {
        // No truncation between what is sampled here and what is written down below.
        let _persisting = self.persisting.lock();
        let (last, dispatched) = self.dispatcher.progress(&self.marks.dispatched);
        let index = self.sync_views().inspect_err(|error| self.fail_unless_full(error))?;
        self.views_durable.store(dispatched, SeqCst);
        if let Some(last) = last {
            self.checkpoint.lock().prove(last.start, last.store_timestamp, index);
        }
        Ok(())
    }

    pub(crate) fn sync_views(&self) -> Result<Flushed, StoreError> {
        self.queues.flush()?;
        self.index.as_ref().map_or(Ok(Flushed::default()), Index::flush)
    }

    /// Writes the checkpoint: what the last [`Store::flush_queues`] proved, with the log made durable first.
    pub fn persist_checkpoint(&self) -> Result<(), StoreError> {
        self.check_usable()?;
        self.store_checkpoint()
    }

    pub(crate) fn store_checkpoint(&self) -> Result<(), StoreError> {
        let (proven, flushed) = {
            let checkpoint = self.checkpoint.lock();
            (checkpoint.logics_physical_offset, self.marks.flushed.get())
        };
        if flushed <= proven {
            self.flush_log()?;
        }
        let _persisting = self.persisting.lock();
        let checkpoint = self.checkpoint();
        // Without space for a new file the former checkpoint, or none, goes on to count: both prove less, never too much.
        checkpoint.store(&*self.disk, &self.config.root).inspect_err(|error| self.fail_unless_full(error))
    }

    /// The checkpoint as it would be written now.
    pub fn checkpoint(&self) -> crate::checkpoint::Checkpoint {
        *self.checkpoint.lock()
    }
}
