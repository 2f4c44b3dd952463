//! From files to a store that can be used. Source: `CommitLog.java` (recoverNormally, recoverAbnormally),
//! `ConsumeQueueStore.java`; reference store 19, Java 5.5 section 4; replication W-6.
//!
//! Where it begins to read, and what becomes of each thing that can be found: the table in `FORMAT.md`, "Recovery". What
//! decides is durable before it is acted on, and what is dispatched again is not proven any more, so a start may be
//! stopped at any call.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use wire::{
    record::{BLANK_HEAD, Check, MIN_RECORD, RecordView, check},
    sys_flag,
};

use crate::{
    build::{Builder, Founded, Last, founded},
    checkpoint::Checkpoint,
    dispatch::read_chunk,
    error::StoreError,
    index::Index,
    inspect::{LogFiles, Scanner},
    progress::Progress,
    queue::{Kind, Queue, Unit},
    remove::begins_before,
    store::Store,
    walk::{Stop, walk},
};

/// Bytes of the log after which progress is saved, and at the end of each segment.
const SAVE_EVERY: i64 = 1 << 30;

/// Bytes of the log that are fetched while what is before them is looked at.
const READ_AHEAD: i64 = 16 << 20;

/// Bytes of the log that are read at once: what a core's own cache holds, so that they are not fetched twice.
const PIECE: usize = 256 << 10;

/// Bytes of the log whose units are compared with queues, or written to them, together.
const COMMIT_EVERY: i64 = 4 << 20;

/// Brings all parts to the same end and sets the marks there.
pub(crate) fn recover(store: &Store, clean: bool, progress: &Progress) -> Result<(), StoreError> {
    let Some(last_base) = store.log.bases().last().copied() else {
        return without_log(store);
    };
    let beyond = last_base + store.log.segment_size();
    if !clean {
        Checkpoint::settle(&*store.disk, &store.config.root)?;
    }
    let mut from: Option<i64> = None;
    for queue in store.queues.all() {
        let lacks_units = cut_unfounded_units(store, &queue, beyond)? || queue.units().is_tail_unknown();
        if lacks_units && clean {
            // The stop was clean, so these were damaged: what the queue lacks may lie anywhere behind its last unit.
            from = Some(from.unwrap_or(i64::MAX).min(queue.max_physical()));
        }
    }
    // After it: a queue's first unit tells whether it is of the deleted topic or of a new one.
    from = from.into_iter().chain(finish_deletions(store, clean)?).min();
    let mut plan = Plan::make(store, clean, beyond)?;
    if let Some(from) = from {
        plan.begin_at(store, from);
    }
    if clean {
        plan.queued = newest_queued(store)?;
    }
    let known_end = if clean { end_beyond(store, plan, progress)? } else { None };
    read_well(store)?;
    disprove_from(store, plan.dispatch_from)?;
    if !clean {
        for queue in store.queues.all() {
            if queue.cut_unproven(plan.dispatch_from)? {
                // The last one that is left may lead to a place where none of the queue's records is.
                cut_unfounded_units(store, &queue, beyond)?;
                store.queues.mark_dirty(&queue);
            }
        }
    }
    tracing::info!(
        clean,
        from = plan.scan_from,
        dispatch_from = plan.dispatch_from,
        files_end = beyond,
        "recovering the commit log"
    );
    let (end, lacking) = Scan::over(store, plan, progress).up_to(known_end).run()?;
    if let Some(from) = lacking {
        tracing::warn!(from, "consume queues are older than the log: the log is read again from there");
        plan.begin_at(store, from);
        disprove_from(store, plan.dispatch_from)?;
        Scan::over(store, plan, progress).up_to(Some(end)).run()?;
    }
    finish(store, end, plan)
}

/// What the device did not give is not taken for what is not there, unless `acceptLogDamage` says so.
fn read_well(store: &Store) -> Result<(), StoreError> {
    store.log.read_well().or_else(|error| if store.config.accept_log_damage { Ok(()) } else { Err(error) })
}

/// Where the log ends, when more than its last segment is read after a clean stop: then it is read for the units, and
/// damage on the way is not the end.
fn end_beyond(store: &Store, plan: Plan, progress: &Progress) -> Result<Option<i64>, StoreError> {
    let scan_from = last_segment(store, |_, _| true);
    if plan.scan_from >= scan_from {
        return Ok(None);
    }
    let (end, _) = Scan::over(store, Plan { scan_from, ..plan }, progress).without_dispatch().run()?;
    Ok(Some(end))
}

/// The stop came while a topic was being deleted: units of its old records go now. Returns from where on its new
/// records, if there are any, have to be dispatched.
fn finish_deletions(store: &Store, clean: bool) -> Result<Option<i64>, StoreError> {
    let mut from: Option<i64> = None;
    if !clean {
        // Files that are gone may come back with a power cut, when nothing tells any more that they should be gone.
        store.deleted.topics().iter().try_for_each(|topic| store.queues.sync_names(topic))?;
    }
    for queue in store.queues.all() {
        let Some(end) = store.deleted.end_of(queue.topic()) else { continue };
        let has_file = !queue.units().is_unused();
        if has_file && begins_before(&queue, end)? {
            tracing::warn!(topic = %queue.topic(), queue_id = queue.queue_id(), max = queue.max(), "the topic was being deleted when the broker stopped: its queue is cleared");
            queue.clear()?;
            queue.refresh_ends()?;
            store.queues.mark_dirty(&queue);
            from = Some(from.map_or(end, |from| from.min(end)));
        }
    }
    Ok(from)
}

/// Nothing in the log: queues and index have nothing to point to.
fn without_log(store: &Store) -> Result<(), StoreError> {
    for queue in store.queues.all() {
        if !queue.units().is_unused() {
            tracing::warn!(topic = %queue.topic(), queue_id = queue.queue_id(), max = queue.max(), "the commit log has no segment: the queue is cleared");
            queue.clear()?;
            queue.refresh_ends()?;
            queue.correct_min(0)?;
            store.queues.mark_dirty(&queue);
        }
    }
    store.queues.flush()?;
    store.deleted.fit(0, 0)?;
    finish_views(store, 0)
}

fn finish(store: &Store, end: i64, plan: Plan) -> Result<(), StoreError> {
    read_well(store)?;
    store.log.cut(end)?;
    // A cut to the first byte leaves no segment; the log goes on from there all the same.
    let min = store.log.min().unwrap_or(end);
    store.tail.lock().end = end;
    store.marks.appended.reset(end);
    store.marks.flushed.reset(end);
    store.marks.dispatched.reset(end);
    finish_views(store, end)?;
    let queues = store.queues.all();
    for queue in &queues {
        // After a clean stop the records of the last units were looked up already, and none was cut off since.
        if !plan.clean || queue.max_physical() > end {
            cut_unfounded_units(store, queue, end)?;
        }
        queue.correct_min(min)?;
    }
    // On a full disk new units stay in memory: what is there can be read, and retention makes room.
    let durable = match store.queues.flush() {
        Err(error) if error.is_disk_full() => {
            tracing::warn!(%error, "started without space for the queues: they are written once there is some");
            plan.dispatch_from.min(end)
        }
        flushed => flushed.map(|()| end)?,
    };
    store.views_durable.store(durable, SeqCst);
    store.deleted.fit(min, end)?;
    tracing::info!(min, end, queues = queues.len(), "the commit log is recovered");
    Ok(())
}

fn finish_views(store: &Store, end: i64) -> Result<(), StoreError> {
    let checkpoint = store.checkpoint();
    if checkpoint.logics_physical_offset.max(checkpoint.log_proof) >= end.max(1) {
        store.lower_checkpoint(end)?;
    }
    match &store.index {
        Some(index) => index.truncate(end, &|physical| store.time_at(physical)),
        None => Ok(()),
    }
}

/// Cuts units at the end of a queue whose record is not in a log that ends at `end`: it was lost, or the units are left
/// from another time, or they are holes; says whether there were any. Not by halving: what a power loss left is in no order.
fn cut_unfounded_units(store: &Store, queue: &Arc<Queue>, end: i64) -> Result<bool, StoreError> {
    let (start, before) = (queue.units().start(), queue.units().end());
    let mut keep = before;
    while keep > start {
        match queue.unit_at(keep - 1)? {
            Some(unit) if unit.end() > end || is_unfounded(store, queue, &unit) => keep -= 1,
            _ => break,
        }
    }
    read_well(store)?;
    if keep < before {
        tracing::warn!(topic = %queue.topic(), queue_id = queue.queue_id(), units = before - keep, kept = keep, "queue units without their record in the log: cut off");
        queue.cut_units(keep)?;
        store.queues.mark_dirty(queue);
    }
    Ok(keep < before)
}

/// A record with a smaller number than the unit's is there by chance. One with a greater number happens in stores of
/// Java brokers, which append after a gap all the same.
fn is_unfounded(store: &Store, queue: &Queue, unit: &Unit) -> bool {
    match founded(&store.log, queue, unit) {
        Founded::No => true,
        Founded::Gone => false,
        Founded::Record(queue_offset) => queue_offset < unit.queue_offset,
    }
}

/// Where to begin.
#[derive(Clone, Copy, Debug)]
struct Plan {
    clean: bool,
    scan_from: i64,
    dispatch_from: i64,
    /// End of the last segment file.
    files_end: i64,
    /// After a clean stop: the newest record that has a unit. It was in the log, as a Java broker's checkpoint does not say.
    queued: i64,
}

impl Plan {
    fn make(store: &Store, clean: bool, beyond: i64) -> Result<Self, StoreError> {
        let min = store.log.min().unwrap_or(0);
        let queued = queued_to(store);
        let not_indexed = store.index.as_ref().is_some_and(Index::is_fresh);
        if clean {
            let built = built_when_clean(queued, &store.checkpoint.lock(), beyond);
            let dispatch_from = if not_indexed { min } else { built.max(min) };
            let scan_from = last_segment(store, |base, _| base <= dispatch_from);
            let mut plan = Self { clean, scan_from, dispatch_from, files_end: beyond, queued: 0 };
            if store.index.as_ref().is_some_and(Index::lacks_files)
                && let Some(lost_from) = recover_index(store, dispatch_from)?
            {
                plan.begin_at(store, lost_from);
            }
            return Ok(plan);
        }
        let mut scan_from = if not_indexed { min } else { proven_place(store) };
        disprove_from(store, scan_from)?;
        if let Some(lost_from) = recover_index(store, scan_from)? {
            scan_from = match store.is_record(lost_from) {
                true => scan_from.min(lost_from),
                false => last_segment(store, |base, _| base <= lost_from),
            };
        }
        Ok(Self { clean, scan_from, dispatch_from: scan_from, files_end: beyond, queued: 0 })
    }
}

impl Plan {
    /// Begins early enough for records from `offset` on.
    fn begin_at(&mut self, store: &Store, offset: i64) {
        self.dispatch_from = self.dispatch_from.min(offset);
        self.scan_from = self.scan_from.min(last_segment(store, |base, _| base <= offset));
        self.dispatch_from = self.dispatch_from.max(self.scan_from);
    }
}

/// Repairs the index up to `limit`, from where on records are dispatched; returns from where on it lacks entries.
fn recover_index(store: &Store, limit: i64) -> Result<Option<i64>, StoreError> {
    let Some(index) = &store.index else { return Ok(None) };
    let lost_from = index.recover(
        limit,
        &|physical| store.time_at(physical),
        &|physical, hash| store.has_key(physical, hash),
        &|lost_from| store.disprove_views(lost_from),
    )?;
    if let Some(lost_from) = lost_from {
        tracing::warn!(lost_from, "index entries are lost: the log is read again from there");
    }
    Ok(lost_from)
}

/// End of the newest record that has a unit. 0 when `consumequeue` was taken away: that batch queues, which lie elsewhere,
/// are left says nothing of the others.
fn queued_to(store: &Store) -> i64 {
    let lost = !store.queues.has(Kind::Simple) && store.log.bases().into_iter().any(|base| lacks_queue(store, base));
    if lost { 0 } else { store.queues.max_physical() }
}

/// The record at the start of a segment belongs to a queue that is not there.
fn lacks_queue(store: &Store, base: i64) -> bool {
    let Some(bytes) = store.record_in_files(base) else { return false };
    RecordView::layout(&bytes).is_some_and(|record| {
        sys_flag::is_queued(record.sys_flag()) && store.queues.get(record.topic(), record.queue_id()).is_none()
    })
}

/// Start of that record, -1 if there is none.
fn newest_queued(store: &Store) -> Result<i64, StoreError> {
    let newest = store.queues.all().into_iter().max_by_key(|queue| queue.max_physical());
    let unit = newest.map_or(Ok(None), |queue| queue.last_unit())?;
    Ok(unit.filter(|unit| !unit.is_filler()).map_or(-1, |unit| unit.physical_offset))
}

/// What is dispatched again is taken away first: should this start be stopped, the next one must not take the checkpoint's
/// word for what was there.
fn disprove_from(store: &Store, offset: i64) -> Result<(), StoreError> {
    let claims_more = store.checkpoint().logics_physical_offset > offset || proven_place(store) > offset;
    if claims_more { store.disprove_views(offset) } else { Ok(()) }
}

/// From where on queues and index may lack something after an unclean stop.
fn proven_place(store: &Store) -> i64 {
    let queued = queued_to(store);
    let checkpoint = *store.checkpoint.lock();
    let by_offset = checkpoint.logics_physical_offset;
    if queued > 0 && checkpoint.exact_proof().is_some_and(|proof| has_unit(store, proof)) {
        return by_offset;
    }
    if queued > 0 && by_offset > 0 && store.is_record(by_offset) {
        return last_segment(store, |base, _| base <= by_offset && base <= queued);
    }
    let time = checkpoint.min_timestamp();
    last_segment(store, |base, first_time| first_time <= time && base <= queued)
}

/// A whole record is at `offset`, and its unit is in its queue: the queues are not older than the checkpoint.
fn has_unit(store: &Store, offset: i64) -> bool {
    let Some(bytes) = store.record_in_files(offset) else { return false };
    let Some(record) = RecordView::layout(&bytes) else { return false };
    let Some(queue) = store.queues.get(record.topic(), record.queue_id()) else { return false };
    let unit = store.told(queue.unit_at_or_after(offset)).flatten();
    unit.is_some_and(|unit| unit.physical_offset == offset)
}

/// A clean stop dispatched everything; the newest record may have no unit, which only byte 40 tells.
fn built_when_clean(queued: i64, checkpoint: &Checkpoint, beyond: i64) -> i64 {
    let proven = checkpoint.logics_physical_offset;
    if queued > 0 && proven < beyond { queued.max(proven) } else { queued }
}

/// The last segment whose first record is whole and for which `fits` holds (base, store time), or the first one.
fn last_segment(store: &Store, fits: impl Fn(i64, i64) -> bool) -> i64 {
    let bases = store.log.bases();
    let found = bases
        .iter()
        .rev()
        .find(|base| store.first_record_time(**base).is_some_and(|time| time != 0 && fits(**base, time)));
    found.or(bases.first()).copied().unwrap_or(0)
}

/// Where a queue ends that has files, but no unit for this record.
fn lacking_from(store: &Store, record: &RecordView<'_>) -> Option<i64> {
    let queue = store.queues.get(record.topic(), record.queue_id())?;
    let is_behind = record.physical_offset() >= queue.max_physical() && !queue.units().is_unused();
    let is_queued = sys_flag::is_queued(record.sys_flag());
    let hidden = || store.deleted.hides(record.topic(), record.physical_offset());
    (is_behind && is_queued && !hidden()).then(|| queue.max_physical())
}

/// Reads the log segment by segment and dispatches what it finds.
struct Scan<'a> {
    store: &'a Store,
    plan: Plan,
    builder: Builder,
    buf: Vec<u8>,
    told_at_ms: i64,
    progress: &'a Progress,
    /// Up to here the views were committed.
    committed: i64,
    /// Up to here the progress was saved.
    saved: i64,
    /// Up to here the disk was told what will be read.
    asked_to: i64,
    /// After a clean stop: where the records begin that a queue lacks, though it should have them.
    lacking: Option<i64>,
    /// The checkpoint, or a clean stop, says that this record and its predecessors are durable; 0 = it does not say.
    proven: i64,
    /// Where the log ends, when that was found out before: damage on the way there is passed over.
    known_end: Option<i64>,
    dispatches: bool,
}

impl<'a> Scan<'a> {
    fn over(store: &'a Store, plan: Plan, progress: &'a Progress) -> Self {
        progress.begin(plan.scan_from, plan.files_end);
        let told_at_ms = store.clock.now_ms();
        let checkpoint = store.checkpoint();
        let proven = checkpoint.logics_physical_offset.max(checkpoint.log_proof).max(plan.queued);
        let saved = plan.scan_from;
        Self {
            store,
            plan,
            builder: Builder::silent(),
            buf: Vec::new(),
            told_at_ms,
            progress,
            committed: saved,
            saved,
            asked_to: 0,
            lacking: None,
            proven,
            known_end: None,
            dispatches: true,
        }
    }

    fn up_to(self, known_end: Option<i64>) -> Self {
        Self { known_end, ..self }
    }

    fn without_dispatch(self) -> Self {
        Self { dispatches: false, ..self }
    }

    /// Returns the end of the log, and from where on queues turned out to lack records.
    fn run(mut self) -> Result<(i64, Option<i64>), StoreError> {
        let log = &self.store.log;
        let mut at = self.plan.scan_from;
        loop {
            let (end, segment_is_over) = self.segment(at)?;
            self.save_progress(end)?;
            let next = log.next_base(at);
            if let Some(known_end) = self.known_end {
                match self.beyond_damage(at, if segment_is_over { next } else { end }, known_end)? {
                    Some(place) => at = place,
                    None => return Ok((known_end, None)),
                }
                continue;
            }
            let more = log.bases().contains(&next);
            let goes_on = || self.store.first_record_time(next).is_some() || self.begins_with_blank(next);
            if !segment_is_over || !more || !goes_on() {
                let end = if segment_is_over { next } else { end };
                self.check_loss(end)?;
                return Ok((end, self.lacking));
            }
            at = next;
        }
    }

    /// Where to read on when the end is known and `from` to `read_to` was read.
    fn beyond_damage(&self, from: i64, read_to: i64, known_end: i64) -> Result<Option<i64>, StoreError> {
        let begins_well = || self.store.is_record(read_to) || self.begins_with_blank(read_to);
        if read_to >= known_end || (read_to > from && begins_well()) {
            return Ok((read_to < known_end).then_some(read_to));
        }
        let (disk, log) = (self.store.disk.clone(), &self.store.log);
        let files = LogFiles::load(disk, log.dir().to_path_buf(), Some(log.segment_size() as u64))?;
        let mut scanner = Scanner::new(&files, read_to);
        let next = scanner.resync()?.then_some(scanner.at).filter(|next| *next < known_end);
        tracing::error!(offset = read_to, next, "a record is damaged: it gets no unit; see tandem store verify");
        Ok(next)
    }

    /// What was not durable may be lost. A whole record that was durable and lies behind the end tells of damage.
    fn check_loss(&self, end: i64) -> Result<(), StoreError> {
        let proven = self.proven;
        if proven < end {
            return Ok(());
        }
        if !self.store.is_record(proven) {
            tracing::warn!(
                end,
                proven,
                "the checkpoint, or the queues after a clean stop, say that records behind the end were durable: a segment was taken away, the disk does not keep what it syncs, or this is a copy of a directory that was in use"
            );
            return Ok(());
        }
        if !self.store.config.accept_log_damage {
            return Err(StoreError::Damaged { offset: end, proven });
        }
        tracing::error!(
            offset = end,
            proven,
            "the commit log is damaged: everything from here on is dropped, as acceptLogDamage says"
        );
        Ok(())
    }

    fn begins_with_blank(&self, base: i64) -> bool {
        self.store.read_at(base, BLANK_HEAD as i32).is_some_and(|head| matches!(check(&head, false), Check::Blank))
    }

    /// Returns where the records of the segment end, and whether the next segment follows.
    fn segment(&mut self, base: i64) -> Result<(i64, bool), StoreError> {
        let limit = self.store.log.next_base(base);
        let (mut at, mut at_least) = (base, 0);
        loop {
            if at == limit {
                return Ok((at, true));
            }
            if at + READ_AHEAD / 2 > self.asked_to && self.asked_to < limit {
                let from = self.asked_to.max(at);
                self.store.log.will_read(from, READ_AHEAD);
                self.asked_to = from + READ_AHEAD;
            }
            let read = read_chunk(&self.store.log, at, limit, PIECE.max(at_least), &mut self.buf)?;
            self.buf.truncate(read);
            if read == 0 {
                return Ok((at, false));
            }
            let (next, stop) = self.chunk(at)?;
            if next - self.committed >= COMMIT_EVERY {
                self.commit(next)?;
            }
            if next - self.saved >= SAVE_EVERY {
                self.save_progress(next)?;
            }
            self.tell(next);
            match stop {
                Stop::Blank => return Ok((next, true)),
                Stop::Short(needed) if next + needed as i64 <= limit && (next > at || needed > self.buf.len()) => {
                    at_least = needed;
                }
                Stop::Short(_) | Stop::Invalid(_) => return self.end_or_lost_blank(next, limit, &stop),
            }
            at = next;
        }
    }

    fn chunk(&mut self, at: i64) -> Result<(i64, Stop), StoreError> {
        let views = self.store.views();
        let (builder, from) = (&mut self.builder, self.plan.dispatch_from);
        let (store, dispatches, lacking) = (self.store, self.dispatches, &mut self.lacking);
        let (mut result, mut last) = (Ok(()), None);
        let (next, stop) = walk(&self.buf, at, self.store.config.verify(), |record| {
            last = Some(record.physical_offset());
            if record.physical_offset() < from {
                *lacking = lacking.iter().copied().chain(lacking_from(store, record)).min();
            } else if result.is_ok() && dispatches {
                result = builder.add(&views, record);
            }
        });
        // Also of records that have their units and are not built again, which a broker's checkpoint may not name.
        last.into_iter().for_each(|start| store.dispatcher.found(start));
        result.map(|()| (next, stop))
    }

    fn commit(&mut self, end: i64) -> Result<(), StoreError> {
        self.committed = end;
        self.builder.commit(&self.store.views())
    }

    /// When only the filler can be missing, because no record fits, and a whole record begins the next segment, the
    /// filler is written again. Anything else is the end.
    fn end_or_lost_blank(&self, at: i64, limit: i64, stop: &Stop) -> Result<(i64, bool), StoreError> {
        let too_small = limit - at < (MIN_RECORD + BLANK_HEAD) as i64;
        if too_small && limit - at >= BLANK_HEAD as i64 && self.store.first_record_time(limit).is_some() {
            tracing::warn!(offset = at, "the filler at the end of a segment is lost: written again");
            self.store.log.write_blank(at)?;
            return Ok((at, true));
        }
        tracing::info!(end = at, behind_it = %stop, "the log ends here");
        Ok((at, false))
    }

    /// What was read counts for the next start, should this one be stopped.
    fn save_progress(&mut self, end: i64) -> Result<(), StoreError> {
        self.commit(end)?;
        let store = self.store;
        store.log.sync(self.saved, end)?;
        self.saved = end;
        let Some(Last { start, store_timestamp }) = self.builder.last.take() else { return Ok(()) };
        let index = match store.sync_views() {
            // Nothing is proven by what waits in memory.
            Err(error) if error.is_disk_full() => return Ok(()),
            flushed => flushed?,
        };
        let mut checkpoint = store.checkpoint.lock();
        checkpoint.prove(start, end, store_timestamp, index);
        checkpoint.store(&*store.disk, &store.config.root)
    }

    fn tell(&mut self, at: i64) {
        self.progress.reached(at);
        let now = self.store.clock.now_ms();
        if now - self.told_at_ms >= 1000 {
            self.told_at_ms = now;
            let (from, end) = (self.plan.scan_from, self.plan.files_end);
            tracing::info!(
                from,
                at,
                end,
                percent = self.progress.percent(),
                clean = self.plan.clean,
                "reading the commit log"
            );
        }
    }
}
