//! A configuration that fits the files of a store, where nobody gives `broker.conf`: sizes come from the files, the rest
//! has its defaults.

use crate::{
    config::StoreConfig,
    error::StoreError,
    inspect::{index, index::IndexView, view::StoreView},
    queue::Kind,
};

/// A configuration that fits the files.
pub(crate) fn config(view: &StoreView) -> Result<StoreConfig, StoreError> {
    let mut config = StoreConfig {
        commit_log_dir: view.options.commit_log_dir.clone(),
        index_enabled: !view.options.without_index,
        ..view.unit_config()
    };
    if !view.log.segments().is_empty() {
        config.segment_size = view.log.size() as u64;
    }
    for queue in view.queues()? {
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
