//! Makes consume queues and index anew from the commit log: the views are built aside, in `ROOT/rebuild`, made durable,
//! and then take the place of those that are there. Never changes the log, the configuration or the checkpoint, and
//! never runs beside a broker: it holds the directory's lock.
//!
//! It may be stopped at any call. Before the build is whole the old views are in place and in force; after that the next
//! rebuild or the next start of a Tandem broker puts the new ones in place ([`swap`]).

mod build;
mod keep;
mod learn;
pub(crate) mod swap;

use std::{path::Path, sync::Arc};

use crate::{
    config::{LocalTime, StoreConfig},
    disk::Disk,
    error::StoreError,
    inspect::{ViewError, ViewOptions, Watch, fit, view::StoreView},
    store::Directory,
};
use build::Build;

/// What the caller knows better than the files.
#[derive(Clone, Default)]
pub struct RebuildOptions {
    /// The broker's configuration; without it sizes come from the files, and delays from the units, that are there.
    pub config: Option<StoreConfig>,
    /// Where the log is and which sizes files have.
    pub view: ViewOptions,
    /// Also queues of topics that neither the old queues nor the topic table know.
    pub all_topics: bool,
    /// The time zone of the host, for names of index files; without it that of the configuration, or UTC.
    pub local_time: Option<LocalTime>,
}

/// Bytes of the log that are no records, with records behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// First byte.
    pub from: i64,
    /// First byte behind.
    pub to: i64,
    /// Why they are none.
    pub why: String,
}

/// What a rebuild made.
#[derive(Clone, Debug, Default)]
pub struct Rebuilt {
    /// First byte of the log.
    pub min: i64,
    /// End of the last record that was taken.
    pub end: i64,
    /// Records that were taken.
    pub records: u64,
    /// Consume queues with units of these records.
    pub queues: usize,
    /// Their units.
    pub units: u64,
    /// Units of plain queues have extensions (`enableConsumeQueueExt`).
    pub extended: bool,
    /// Queues of which only the counter is left: their last file was kept.
    pub kept: Vec<(String, i32)>,
    /// Index files.
    pub index_files: usize,
    /// Their entries.
    pub entries: u64,
    /// Topics that were left out as deleted, and how many records of theirs the log has.
    pub left_out: Vec<(String, u64)>,
    /// What of the log could not be taken.
    pub passed: Vec<PassedOver>,
    /// An earlier rebuild had been stopped while it was put in place; that was ended first.
    pub finished_earlier: bool,
    /// Nothing told the sizes of queue files, or of index files: they have the default ones.
    pub default_sizes: bool,
}

/// Why nothing was rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The directory cannot be looked at.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A part failed. What is in place is whole.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Rebuilds the views of the store in `root`.
pub fn rebuild(
    disk: Arc<dyn Disk>,
    root: &Path,
    options: &RebuildOptions,
    watch: &mut dyn Watch,
) -> Result<Rebuilt, RebuildError> {
    let view = StoreView::open(disk.clone(), root, options.view.clone())?;
    if let Some(found) = view.rocksdb.clone() {
        return Err(ViewError::RocksDbBeside { dir: root.to_path_buf(), found }.into());
    }
    let disk = view.log_dirs().over(disk, 0);
    let lock_config = StoreConfig {
        root: root.to_path_buf(),
        commit_log_dirs: options.view.commit_log_dirs.clone(),
        ..options.config.clone().unwrap_or_default()
    };
    let _directory = Directory::lock(&lock_config, &*disk)?;
    let finished_earlier = swap::finish(&disk, root)?;
    let (config, default_sizes) = match &options.config {
        Some(config) => (learn::completed(&view, StoreConfig { root: root.to_path_buf(), ..config.clone() })?, false),
        None => (learn::config(&view, fit::config(&view)?)?, learn::nothing_tells_sizes(&view)?),
    };
    let config = StoreConfig { local_time: options.local_time.unwrap_or(config.local_time), ..config };
    let aside = swap::begin(&*disk, root)?;
    let mut build = Build::new(&view, disk.clone(), config, aside, options.all_topics)?;
    let facts = match build.run(watch).and_then(|()| build.finish()) {
        Ok(facts) => facts,
        Err(error) => {
            // The space, if nothing else, is needed elsewhere; what is left is no harm.
            let _ = swap::discard(&*disk, root);
            return Err(error.into());
        }
    };
    swap::commit(&disk, root)?;
    swap::finish(&disk, root)?;
    Ok(Rebuilt { finished_earlier, default_sizes, ..facts })
}
