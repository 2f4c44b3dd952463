//! What the files tell of the configuration that made them, beyond sizes: delays of the levels, which topics have batch
//! queues, whether there are light queues and index entries of tags. And what they tell of topics that were deleted.

use std::{collections::BTreeSet, sync::Arc};

use wire::{record::RecordView, topic};

use crate::{
    build::keys_of,
    config::StoreConfig,
    error::StoreError,
    index::TAGS_MARK,
    inspect::{
        index::{self, IndexView},
        queues::QueueFiles,
        view::StoreView,
    },
    queue::Kind,
};

/// Entries of the index that are looked at for one of tags.
const LOOKED_AT: usize = 3000;

/// A configuration that makes the same views again.
pub(super) fn config(view: &StoreView, fitting: StoreConfig) -> Result<StoreConfig, StoreError> {
    let queues = view.queues()?;
    let config = StoreConfig {
        delay_levels_ms: delays(view, &queues, StoreConfig::default().delay_levels_ms)?,
        enable_multi_dispatch: queues.is_empty() || queues.iter().any(is_light),
        ..fitting
    };
    completed(view, config)
}

/// Adds what no key says: whether tags are in the index, and which topics have batch queues.
pub(super) fn completed(view: &StoreView, config: StoreConfig) -> Result<StoreConfig, StoreError> {
    let config = StoreConfig { index_tags: config.index_tags || has_tags(view)?, ..config };
    if config.batch_queue_topics.is_some() {
        return Ok(config);
    }
    let queues = view.queues()?;
    let mut batch: BTreeSet<String> =
        queues.iter().filter(|queue| queue.kind == Kind::Batch).map(|queue| queue.topic.to_string()).collect();
    for (name, topic) in view.topics().map(|topics| topics.topic_config_table).unwrap_or_default() {
        if topic.attributes.get("queue.type").is_some_and(|kind| kind == "BatchCQ") {
            batch.insert(name);
        }
    }
    Ok(StoreConfig { batch_queue_topics: Some(Arc::new(move |name| batch.contains(name))), ..config })
}

/// True when there is no queue file, or no index file whose sizes can be told.
pub(super) fn nothing_tells_sizes(view: &StoreView) -> Result<bool, StoreError> {
    let no_queue = view.queues()?.iter().all(|queue| queue.file_size() == 0);
    let mut no_index = !view.options.without_index && view.geometry().is_none();
    for path in index::find(&*view.disk, &view.root)? {
        no_index &= IndexView::open(&*view.disk, &path, None)?.geometry.is_none();
    }
    Ok(no_queue || no_index)
}

fn is_light(queue: &QueueFiles) -> bool {
    queue.topic.starts_with(topic::LMQ_PREFIX)
}

/// The unit of a delayed message says when it is due, its record when it was stored.
fn delays(view: &StoreView, queues: &[QueueFiles], mut levels: Vec<i64>) -> Result<Vec<i64>, StoreError> {
    for queue in queues.iter().filter(|queue| &*queue.topic == topic::SCHEDULE) {
        let Ok(place) = usize::try_from(queue.queue_id) else { continue };
        let first = queue.first_at(view.log.min(), queue.end()?)?;
        let Some(unit) = queue.unit_at(first)? else { continue };
        let bytes = view.log.record(unit.physical_offset)?;
        let Some(record) = bytes.as_deref().and_then(RecordView::layout) else { continue };
        let Some(due_ms) = queue.tags_code(&unit)? else { continue };
        let delay_ms = due_ms.saturating_sub(record.store_timestamp());
        let right = record.topic() == topic::SCHEDULE && record.queue_id() == queue.queue_id && delay_ms >= 0;
        // More levels than there are queues on this earth would be damage.
        if right && place < 1024 {
            let last = levels.last().copied().unwrap_or(0);
            levels.resize(levels.len().max(place + 1), last);
            levels[place] = delay_ms;
        }
    }
    Ok(levels)
}

/// True when the oldest entries have those of tags among them.
fn has_tags(view: &StoreView) -> Result<bool, StoreError> {
    let (mut entries, mut looked_at) = (Vec::new(), 0);
    for path in index::find(&*view.disk, &view.root)? {
        let file = IndexView::open(&*view.disk, &path, view.geometry())?;
        file.read(1, &mut entries)?;
        for entry in entries.iter().take(file.entries().max(0) as usize) {
            let Some(bytes) = view.log.record(entry.physical)? else { continue };
            let Some(record) = RecordView::layout(&bytes) else { continue };
            let Some(keys) = keys_of(&record) else { continue };
            let of_tags = |part: &[&str; 2]| part[0] == TAGS_MARK && keys.hash(*part) == entry.hash;
            if keys.parts().any(|part| of_tags(&part)) {
                return Ok(true);
            }
            looked_at += 1;
            if looked_at >= LOOKED_AT {
                return Ok(false);
            }
        }
    }
    Ok(false)
}

/// The topics that exist, as far as that can be told.
pub(super) struct Topics {
    /// In the topic table, or with queues. `None` when it cannot be told.
    known: Option<BTreeSet<String>>,
}

impl Topics {
    /// Looks at the table and at the queues. Without any queue there is no telling a deleted topic from a lost one.
    pub(super) fn look(view: &StoreView, queues: &[QueueFiles]) -> Result<Self, StoreError> {
        let mut any_unit = false;
        for queue in queues {
            any_unit |= queue.end()? > queue.start();
        }
        let table = view.topics().filter(|_| any_unit);
        let known = table.map(|table| {
            let with_queues = queues.iter().map(|queue| queue.topic.to_string());
            table.topic_config_table.into_keys().chain(with_queues).collect()
        });
        Ok(Self { known })
    }

    /// All of them.
    pub(super) fn any() -> Self {
        Self { known: None }
    }

    /// True for a topic that a Java broker has deleted: it leaves no word of that.
    pub(super) fn is_deleted(&self, topic: &str) -> bool {
        self.known.as_ref().is_some_and(|known| !known.contains(topic))
    }
}

/// Start of a record that is known to be within the log, not left from another time: the newest one that the checkpoint
/// tells of or, after a clean stop, that has a unit or begins a segment. -1 for none. After any other stop those may lie
/// behind what a power loss took, where a start lets the log end.
pub(super) fn proven(view: &StoreView, queues: &[QueueFiles], by_checkpoint: [i64; 2]) -> Result<i64, StoreError> {
    let mut places = by_checkpoint.to_vec();
    if view.is_clean() {
        for queue in queues {
            let last = queue.unit_at(queue.end()? - 1)?;
            places.extend(last.filter(|unit| !unit.is_filler()).map(|unit| unit.physical_offset));
        }
        places.extend(view.log.segments().iter().map(|segment| segment.base));
    }
    places.sort_unstable();
    while let Some(place) = places.pop() {
        if place >= view.log.min() && view.log.record(place)?.is_some() {
            return Ok(place);
        }
    }
    Ok(-1)
}
