//! What takes messages away: retention, deletion of topics, and truncation when another replica's log counts.
//! Source: `DefaultMessageStore.java` (CleanCommitLogService, truncateDirtyFiles); reference store 11 and 20;
//! replication W-6.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use parking_lot::MutexGuard;

use crate::{
    checkpoint::Checkpoint,
    dispatch::DispatchState,
    error::{IoContext, StoreError},
    queue::Queue,
    store::Store,
};

/// When segments may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Wall clock, ms since the epoch.
    pub now_ms: i64,
    /// Segments not modified for this long may go, in ms.
    pub reserved_ms: i64,
    /// Age does not count: space is short.
    pub regardless_of_age: bool,
    /// Most segments of one call.
    pub max_segments: usize,
}

/// A topic whose queues are gone from view and whose files are not deleted yet.
pub struct TopicDeletion<'a> {
    store: &'a Store,
    topic: &'a str,
    queues: Vec<Arc<Queue>>,
    no_dispatch: MutexGuard<'a, DispatchState>,
}

impl TopicDeletion<'_> {
    /// Deletes the files.
    pub fn finish(self) -> Result<(), StoreError> {
        let Self { store, topic, queues, no_dispatch } = self;
        store.queues.delete_files(&queues).inspect_err(|error| store.fail(error))?;
        tracing::info!(topic, queues = queues.len(), "topic deleted from the store");
        drop(no_dispatch);
        store.dispatch_present();
        Ok(())
    }
}

impl Store {
    /// Deletes the oldest segments of the log, never the last, and what of queues and index pointed only to them.
    /// Returns how many segments went.
    pub fn delete_expired(&self, retention: Retention) -> Result<usize, StoreError> {
        self.check_usable()?;
        let _one_at_a_time = self.retaining.lock();
        self.expire(&retention).inspect_err(|error| {
            if error.is_failed_write() {
                self.fail(error);
            }
        })
    }

    fn expire(&self, retention: &Retention) -> Result<usize, StoreError> {
        self.make_views_durable(retention)?;
        if self.first_may_go(retention)? {
            self.settle_queue_tails()?;
        }
        let mut deleted = 0;
        while deleted < retention.max_segments && self.first_may_go(retention)? {
            let Some(base) = self.log.delete_first()? else { break };
            tracing::info!(segment = base, min = self.min_phys(), "commit log segment deleted by retention");
            deleted += 1;
        }
        if deleted > 0 {
            // Before the queues: units without a record do no harm, records without their unit would be lost from view.
            self.sync_names()?;
            self.expire_views()?;
        }
        Ok(deleted)
    }

    /// A segment stays until what it holds is durable in queues and index. Where only that is missing, it is made up for.
    fn make_views_durable(&self, retention: &Retention) -> Result<(), StoreError> {
        let Some(base) = self.log.min() else { return Ok(()) };
        let is_behind = self.log.next_base(base) > self.views_durable.load(SeqCst).min(self.marks.flushed.get());
        if !is_behind || !self.is_due(retention)? {
            return Ok(());
        }
        self.flush_log()?;
        match self.flush_views() {
            Err(error) if !error.is_disk_full() => Err(error),
            _ => Ok(()),
        }
    }

    /// Units that are left beyond a queue's end are told from others by their records: they go before those do.
    fn settle_queue_tails(&self) -> Result<(), StoreError> {
        // Another flush must not take queues for durable that are only being synced here.
        let _persisting = self.persisting.lock();
        let mut settled = Vec::new();
        for queue in self.queues.all() {
            if queue.units().settle_tail()? {
                self.queues.mark_dirty(&queue);
                settled.push(queue);
            }
        }
        // Units that wait in memory stay there: retention needs no space.
        self.queues.sync(&settled)
    }

    fn first_may_go(&self, retention: &Retention) -> Result<bool, StoreError> {
        let Some(base) = self.log.min() else { return Ok(false) };
        // Queues that are not durable could not be built again; their counters would be lost.
        let not_needed = self.views_durable.load(SeqCst).min(self.marks.flushed.get());
        if self.log.next_base(base) > not_needed {
            return Ok(false);
        }
        self.is_due(retention)
    }

    /// True when the first segment, which is not the last, is old enough.
    fn is_due(&self, retention: &Retention) -> Result<bool, StoreError> {
        let Some(modified) = self.log.first_modified_ms()? else { return Ok(false) };
        Ok(retention.regardless_of_age || retention.now_ms >= modified.saturating_add(retention.reserved_ms))
    }

    fn expire_views(&self) -> Result<(), StoreError> {
        let (min, mut result) = (self.log.min().unwrap_or(0), Ok(()));
        for queue in self.queues.all() {
            // One pause a queue: many thousand queues must not hold up dispatch.
            let no_dispatch = self.dispatcher.pause();
            let expired = queue.expire(min);
            drop(no_dispatch);
            self.make_up_dispatch();
            // A file that cannot be deleted holds up no other queue.
            result = result.and(expired.map(drop));
        }
        if let Some(index) = &self.index {
            index.expire(min)?;
        }
        self.deleted.fit(min, i64::MAX)?;
        result
    }

    /// Removes a topic's queues and their files. Records that are in the log now never bring it back; a message that is
    /// appended later does, from queue offset 0 on.
    pub fn delete_topic(&self, topic: &str) -> Result<(), StoreError> {
        self.begin_deletion(topic)?.finish()
    }

    /// True when `topic` was deleted after the record at `physical` came into the log, whichever topic that record is of.
    pub fn was_deleted_after(&self, topic: &str, physical: i64) -> bool {
        self.deleted.hides(topic, physical)
    }

    /// Topics that were deleted while records of theirs are in the log, and its end when that happened.
    pub fn deleted_topics(&self) -> Vec<(String, i64)> {
        self.deleted.ends()
    }

    /// The first part of it, which is short: nothing that is in the log now brings the topic back. Dispatch waits until the
    /// rest is done or dropped; what is dropped, the next start finishes.
    pub fn begin_deletion<'a>(&'a self, topic: &'a str) -> Result<TopicDeletion<'a>, StoreError> {
        self.hide_topic(topic, None)
    }

    /// As [`Store::delete_topic`], on a replica: the topic was not there when the log ended at `end`. Records from there on
    /// are of a topic that was made since, and its queues stay.
    pub fn delete_topic_before(&self, topic: &str, end: i64) -> Result<(), StoreError> {
        self.hide_topic(topic, Some(end))?.finish()
    }

    /// True when [`Store::delete_topic_before`] would remove a queue of `topic`.
    pub fn has_topic_before(&self, topic: &str, end: i64) -> Result<bool, StoreError> {
        for queue in self.queues.of_topic(topic) {
            if begins_before(&queue, end)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn hide_topic<'a>(&'a self, topic: &'a str, end: Option<i64>) -> Result<TopicDeletion<'a>, StoreError> {
        let hidden = self.try_hide_topic(topic, end);
        if hidden.is_err() {
            self.make_up_dispatch();
        }
        hidden
    }

    fn try_hide_topic<'a>(&'a self, topic: &'a str, end: Option<i64>) -> Result<TopicDeletion<'a>, StoreError> {
        self.check_usable()?;
        let no_dispatch = self.dispatcher.pause();
        // Nothing is appended meanwhile: a record is of the old topic or of a new one.
        let tail = self.tail.lock();
        let end = end.unwrap_or(tail.end);
        let mut queues = Vec::new();
        for queue in self.queues.of_topic(topic) {
            if begins_before(&queue, end)? {
                queues.push(queue);
            }
        }
        self.deleted.hide(topic, end).inspect_err(|error| self.fail_unless_full(error))?;
        self.queues.take(topic, &queues);
        drop(tail);
        Ok(TopicDeletion { store: self, topic, queues, no_dispatch })
    }

    /// Cuts the log at `offset`, the start of a record (or its end): all that follows is gone, durably, from the log,
    /// the queues and the index, when this returns. The marks go down with it.
    pub fn truncate(&self, offset: i64) -> Result<(), StoreError> {
        self.check_usable()?;
        let result = self.truncate_locked(offset);
        self.dispatch_present();
        result
    }

    fn truncate_locked(&self, offset: i64) -> Result<(), StoreError> {
        // It may have chosen the segment that is cut.
        let _no_retention = self.retaining.lock();
        let _no_checkpoint = self.persisting.lock();
        let mut no_dispatch = self.dispatcher.pause();
        let _no_flush = self.flushing.lock();
        let mut tail = self.tail.lock();
        let (min, max) = (self.log.min().unwrap_or(0), tail.end);
        if offset < min || offset > max {
            return Err(StoreError::OutsideLog { offset, min, max });
        }
        if offset < max {
            self.dispatcher.forget_last(&mut no_dispatch);
            self.truncate_all(offset).inspect_err(|error| self.fail(error))?;
            tail.end = offset;
            tracing::warn!(from = offset, to = max, "commit log truncated");
        }
        Ok(())
    }

    fn truncate_all(&self, offset: i64) -> Result<(), StoreError> {
        // First what is told to others goes down, then the views, then the log they point to.
        for mark in [&self.marks.dispatched, &self.marks.flushed, &self.marks.appended] {
            mark.reset(mark.get().min(offset));
        }
        // The checkpoint that is written below must not say more than is durable.
        self.log.sync(self.marks.flushed.get(), offset)?;
        self.lower_checkpoint(offset)?;
        if let Some(index) = &self.index {
            index.truncate(offset, &|physical| self.time_at(physical))?;
        }
        for queue in self.queues.all() {
            queue.truncate(offset)?;
            // Records below the cut that have no unit yet move the counter again when they are dispatched; until then
            // nothing is appended.
            queue.next_offset.store(queue.max(), SeqCst);
            self.queues.mark_dirty(&queue);
        }
        self.raw_end.store(offset, SeqCst);
        self.views_durable.fetch_min(offset, SeqCst);
        self.log.cut(offset)?;
        self.marks.flushed.reset(offset);
        self.deleted.fit(self.log.min().unwrap_or(0), offset)
    }

    /// The log ends at `offset`: nothing behind it is proven any more.
    pub(crate) fn lower_checkpoint(&self, offset: i64) -> Result<(), StoreError> {
        let mut checkpoint = self.checkpoint.lock();
        checkpoint.log_proof = if checkpoint.log_proof < offset { checkpoint.log_proof } else { 0 };
        self.lower_views(checkpoint, offset)
    }

    /// Queues and index are not proven any more behind `offset`; that the log was durable stays known.
    pub(crate) fn disprove_views(&self, offset: i64) -> Result<(), StoreError> {
        let mut checkpoint = self.checkpoint.lock();
        checkpoint.log_proof = checkpoint.log_proof.max(checkpoint.logics_physical_offset);
        self.lower_views(checkpoint, offset)
    }

    /// Times count from the start of the segment that holds `offset`.
    fn lower_views(&self, mut checkpoint: MutexGuard<'_, Checkpoint>, offset: i64) -> Result<(), StoreError> {
        let time = self.record_time(self.log.base_of(offset)).unwrap_or(0);
        checkpoint.physic_msg_timestamp = checkpoint.physic_msg_timestamp.min(time);
        checkpoint.logics_msg_timestamp = checkpoint.logics_msg_timestamp.min(time);
        checkpoint.index_msg_timestamp = checkpoint.index_msg_timestamp.min(time);
        checkpoint.confirm_phy_offset = checkpoint.confirm_phy_offset.min(offset);
        if checkpoint.logics_physical_offset >= offset {
            checkpoint.logics_physical_offset = 0;
            checkpoint.own_proof = 0;
        }
        checkpoint.store(&*self.disk, &self.config.root)
    }

    /// Makes names in the commit log directory durable after segments went; their space is free then.
    fn sync_names(&self) -> Result<(), StoreError> {
        self.disk.sync_dir(self.log.dir()).at("sync", self.log.dir())
    }
}

/// True for a queue of a topic as it was when the log ended at `end`, false for one that was made since: a queue begins again with
/// the first record of a new topic, so it holds units of one of both.
pub(crate) fn begins_before(queue: &Queue, end: i64) -> Result<bool, StoreError> {
    Ok(queue.first_unit()?.is_none_or(|first| first.physical_offset < end))
}
