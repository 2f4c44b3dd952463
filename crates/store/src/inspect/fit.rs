//! A configuration that fits the files of a store, where nobody gives `broker.conf`: sizes come from the files, the rest
//! has its defaults.

use crate::{
    config::StoreConfig,
    disk::list_sorted,
    error::{IoContext, StoreError},
    ext,
    inspect::{index, index::IndexView, queues::QueueFiles, view::StoreView},
    multi_path::LogDirs,
    queue::Kind,
    segments,
};

/// A configuration that fits the files.
pub(crate) fn config(view: &StoreView) -> Result<StoreConfig, StoreError> {
    let mut config = StoreConfig {
        // The disk of the view shows all of the log there.
        commit_log_dirs: Some(LogDirs::one(view.log.dir())),
        index_enabled: !view.options.without_index,
        queues_doubled_in_rocksdb: view.rocksdb.is_some(),
        ..view.unit_config()
    };
    if !view.log.segments().is_empty() {
        config.segment_size = view.log.size() as u64;
    }
    let queues = view.queues()?;
    (config.queue_ext, config.queue_ext_segment_size) = extensions(view, &queues, config.queue_ext_segment_size)?;
    for queue in queues {
        let size = queue.file_size();
        match queue.kind {
            _ if size == 0 => {}
            Kind::Simple => config.queue_segment_size = size,
            Kind::Batch => config.batch_queue_segment_size = size,
        }
    }
    for path in index::find(&*view.disk, &view.root)? {
        if let Some(geometry) = IndexView::open(&*view.disk, &path, view.geometry())?.geometry {
            (config.max_hash_slots, config.max_index) = (geometry.slots, geometry.max_index);
        }
    }
    Ok(config)
}

/// Whether plain queues have extensions (`enableConsumeQueueExt`): there are files of them, or units that lead to some. And
/// the bytes of such a file; `default` when there is none.
fn extensions(view: &StoreView, queues: &[QueueFiles], default: u64) -> Result<(bool, u64), StoreError> {
    let (root, disk) = (view.root.join(ext::DIRECTORY), &*view.disk);
    for topic in list_sorted(disk, &root).at("list", &root)?.into_iter().filter(|entry| entry.is_dir) {
        let topic = root.join(topic.name);
        for queue in list_sorted(disk, &topic).at("list", &topic)?.into_iter().filter(|entry| entry.is_dir) {
            if let Some(file) = segments::find(disk, &topic.join(queue.name))?.into_iter().find(|file| file.len > 0) {
                return Ok((true, file.len));
            }
        }
    }
    for queue in queues.iter().filter(|queue| queue.kind == Kind::Simple) {
        if queue.unit_at(queue.end()? - 1)?.is_some_and(|unit| ext::is_address(unit.tags_code)) {
            return Ok((true, default));
        }
    }
    Ok((false, default))
}
