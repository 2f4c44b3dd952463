//! Plain queues of a topic that turns out to have batch queues become batch queues. A slave builds queues before it has
//! the topic table, and until an inner batch comes nothing in the log tells the two kinds apart; a Java broker keeps the
//! plain files and does not start any more. No message is lost on the way: the plain files go when the others are
//! durable. Source: `ConsumeQueueStore.java` (queueTypeShouldBe); reference store 12 and 14.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use crate::{
    build::batch_unit,
    error::StoreError,
    log::Log,
    queue::{self, Kind, Queue, Records, Unit},
    queues::Queues,
    store::Store,
};

/// Units that are converted at once.
const UNITS_AT_ONCE: usize = 4096;

/// Replaces a plain queue by a batch queue with the same messages and returns that one. Nobody may put into the queue
/// meanwhile.
pub(crate) fn to_batch(queues: &Queues, log: &Log, old: &Arc<Queue>) -> Result<Arc<Queue>, StoreError> {
    let new = Arc::new(queues.empty(old.topic(), old.queue_id(), Kind::Batch));
    let (mut place, end) = (old.min().max(old.units().start()), old.units().end());
    let mut bytes = Vec::new();
    while place < end {
        let read = old.units().read(place, UNITS_AT_ONCE, &mut bytes)?;
        if read == 0 {
            break;
        }
        put_units(&new, log, place, &bytes)?;
        place += read as i64;
    }
    if new.units().is_unused() {
        // All its messages have left the log.
        new.begin_batch_at(old.max())?;
    }
    if !new.units().is_unused() {
        new.units().write()?;
        new.units().sync()?;
    }
    new.next_offset.fetch_max(old.next_offset.load(SeqCst), SeqCst);
    queues.replace(new.clone());
    queues.delete_files(std::slice::from_ref(old))?;
    tracing::info!(topic = %new.topic(), queue_id = new.queue_id(), min = new.min(), max = new.max(), "the topic has queue.type=BatchCQ: its plain queue was made a batch queue");
    Ok(new)
}

/// Units that were in order in the plain queue; a new queue does not begin again.
struct Converted;

impl Records for Converted {
    fn has(&self, _: &Unit) -> bool {
        true
    }

    fn make_durable(&self, _: i64) -> Result<(), StoreError> {
        Ok(())
    }

    fn store_time(&self, _: i64) -> i64 {
        0
    }
}

fn put_units(new: &Queue, log: &Log, first: i64, plain: &[u8]) -> Result<(), StoreError> {
    let mut bytes = Vec::new();
    let mut ends: Option<(Unit, Unit)> = None;
    for (number, unit) in (first..).zip(plain.chunks_exact(queue::SIMPLE_UNIT)) {
        let unit = queue::decode(Kind::Simple, number, unit);
        if unit.is_filler() {
            continue;
        }
        // A Java slave numbers inner batches by their place in the row: only the record tells.
        // One that retention took already goes from the queue with the next cleaning.
        let unit = batch_unit(log, &unit)?.unwrap_or(Unit { store_timestamp: 0, ..unit });
        queue::encode(Kind::Batch, &unit, &mut bytes);
        ends = Some((ends.map_or(unit, |(first, _)| first), unit));
    }
    match ends {
        Some((first, last)) => new.put(&first, &last, &bytes, &Converted),
        None => Ok(()),
    }
}

impl Store {
    /// Looks at the topic table again: plain queues of topics that have `queue.type=BatchCQ` by now become batch queues.
    /// Call it when topics were taken over from a master or loaded.
    pub fn align_queue_types(&self) -> Result<(), StoreError> {
        let wrong = |queue: &Arc<Queue>| queue.kind() == Kind::Simple && self.queues.is_batch(queue.topic());
        let candidates: Vec<_> = self.queues.all().into_iter().filter(wrong).collect();
        if candidates.is_empty() {
            return Ok(());
        }
        self.check_usable()?;
        {
            let _no_flush = self.persisting.lock();
            let _no_dispatch = self.dispatcher.pause();
            let _no_append = self.tail.lock();
            for queue in candidates.iter().filter(|queue| !queue.deleted.load(SeqCst)) {
                self.convert(queue)?;
            }
        }
        self.make_up_dispatch();
        Ok(())
    }

    pub(crate) fn convert(&self, queue: &Arc<Queue>) -> Result<Arc<Queue>, StoreError> {
        to_batch(&self.queues, &self.log, queue).inspect_err(|error| self.fail(error))
    }
}
