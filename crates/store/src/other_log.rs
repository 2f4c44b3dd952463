//! A directory whose commit log is elsewhere, or of another kind, is refused before anything in it is touched: a start that
//! finds no log clears the queues, and consumers lose their progress. It only looks at names and sizes.

use std::path::Path;

use crate::{
    config::StoreConfig,
    disk::{Disk, list_sorted},
    error::{IoContext, StoreError},
    queue::Kind,
};

/// Refuses the log of a DLedger group, and queues without the directory that the configuration names.
pub(crate) fn refuse(disk: &dyn Disk, config: &StoreConfig) -> Result<(), StoreError> {
    let root = &config.root;
    for entry in list_sorted(disk, root).at("list", root)? {
        let dir = root.join(&entry.name);
        if entry.is_dir && entry.name.starts_with("dledger-") && disk.exists(&dir.join("data")) {
            return Err(StoreError::DLedger { dir });
        }
    }
    let dirs = config.log_dirs();
    let is_elsewhere = !dirs.all().iter().any(|dir| disk.exists(dir)) && has_queues(disk, root)?;
    if is_elsewhere { Err(StoreError::NoLog { dir: dirs.first().to_path_buf() }) } else { Ok(()) }
}

/// True when any queue has a file with something in it.
pub(crate) fn has_queues(disk: &dyn Disk, root: &Path) -> Result<bool, StoreError> {
    Ok(has_queue(disk, root, Kind::Simple)? || has_queue(disk, root, Kind::Batch)?)
}

fn has_queue(disk: &dyn Disk, root: &Path, kind: Kind) -> Result<bool, StoreError> {
    let all = root.join(kind.directory());
    for topic in list_sorted(disk, &all).at("list", &all)?.into_iter().filter(|topic| topic.is_dir) {
        let topic = all.join(topic.name);
        for queue in list_sorted(disk, &topic).at("list", &topic)?.into_iter().filter(|queue| queue.is_dir) {
            let queue = topic.join(queue.name);
            if list_sorted(disk, &queue).at("list", &queue)?.iter().any(|file| !file.is_dir && file.len > 0) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
