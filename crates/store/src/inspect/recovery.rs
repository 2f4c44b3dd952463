//! What the next start would make of a store: the start itself, on a disk that keeps its writes in memory. Tells what it
//! keeps and what it refuses; the directory stays as it is.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    disk::Clock,
    error::StoreError,
    inspect::{facts::QueueFacts, fit, overlay::Overlay, view::StoreView},
    rebuild::swap,
    store::Store,
};

/// Bytes that a trial may write.
const BUDGET: u64 = 256 << 20;

/// Result of a trial.
#[derive(Clone, Debug)]
pub enum Recovery {
    /// A broker has the store: nothing to recover.
    Running,
    /// A rebuild was stopped while it was put in place: the start ends that first, which is not tried.
    Unfinished(String),
    /// The start refuses the store.
    Refused(String),
    /// The store as the start leaves it.
    Done {
        /// First byte of the log, -1 for an empty one.
        min: i64,
        /// End of the log.
        end: i64,
        /// Queues whose range is another one afterwards.
        queues: Vec<QueueChange>,
    },
}

/// A queue before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueChange {
    /// Topic.
    pub topic: String,
    /// Queue.
    pub queue_id: i32,
    /// First offset and the one behind the last; `None` without files.
    pub before: Option<(i64, i64)>,
    /// The same after the start.
    pub after: (i64, i64),
}

/// Tries the start.
pub(crate) fn recovery(view: &StoreView, queues: &[QueueFacts], clock: Arc<dyn Clock>) -> Result<Recovery, StoreError> {
    if view.is_running() {
        return Ok(Recovery::Running);
    }
    if let Some(why) = swap::unfinished(&*view.disk, &view.root) {
        return Ok(Recovery::Unfinished(why));
    }
    let disk = Arc::new(Overlay::new(view.disk.clone(), BUDGET));
    match Store::open(fit::config(view)?, disk, clock) {
        Ok(store) => {
            Ok(Recovery::Done { min: store.min_phys(), end: store.max_phys(), queues: changes(&store, queues) })
        }
        Err(error) => Ok(Recovery::Refused(error.to_string())),
    }
}

fn changes(store: &Store, queues: &[QueueFacts]) -> Vec<QueueChange> {
    let mut all: BTreeMap<(String, i32), Option<(i64, i64)>> =
        store.queues().into_iter().map(|(topic, queue_id)| ((topic.to_string(), queue_id), None)).collect();
    // A queue in both forms: the one that holds something counts.
    for queue in queues {
        let before = all.entry((queue.topic.clone(), queue.queue_id)).or_default();
        if before.is_none() || queue.units > 0 {
            *before = Some((queue.min, queue.max));
        }
    }
    let change = |((topic, queue_id), before): ((String, i32), _)| {
        let after = (store.min_offset(&topic, queue_id), store.max_offset(&topic, queue_id));
        QueueChange { topic, queue_id, before, after }
    };
    all.into_iter().map(change).filter(|change| change.before != Some(change.after)).collect()
}
