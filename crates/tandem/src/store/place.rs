//! Which store is meant, and what the caller knows better than its files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;
use clap::Args;
use store::{
    LogDirs, RealDisk,
    inspect::{StoreView, ViewOptions},
};

/// What all commands of `tandem store` take.
#[derive(Args)]
pub(super) struct Place {
    /// Store directory (`storePathRootDir`).
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Directory of the commit log (`storePathCommitLog`), where it is not `DIR/commitlog`; several with `,` between them.
    #[arg(long, value_name = "DIRS", value_parser = log_dirs)]
    commitlog: Option<LogDirs>,
    /// Bytes of a log segment (`mappedFileSizeCommitLog`), where the files do not tell.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1024..=2_147_483_647))]
    segment_size: Option<u64>,
    /// `maxHashSlotNum` of the index, where the files do not tell.
    #[arg(long, value_name = "COUNT", requires = "max_index", value_parser = clap::value_parser!(u32).range(1..=536_870_911))]
    max_hash_slots: Option<u32>,
    /// `maxIndexNum` of the index, where the files do not tell.
    #[arg(long, value_name = "COUNT", requires = "max_hash_slots", value_parser = clap::value_parser!(u32).range(2..=1_073_741_823))]
    max_index: Option<u32>,
}

/// The directories of a log, for reading: it does not matter which of them get new segments.
pub(super) fn log_dirs(list: &str) -> Result<LogDirs, String> {
    LogDirs::parse(list, "")?.ok_or_else(|| "a directory is missing".to_owned())
}

impl Place {
    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Opens the view.
    pub fn open(&self, without_index: bool) -> Result<StoreView> {
        Ok(StoreView::open(Arc::new(RealDisk), &self.dir, self.options(without_index))?)
    }

    /// What the caller knows better than the files.
    pub fn options(&self, without_index: bool) -> ViewOptions {
        ViewOptions {
            commit_log_dirs: self.commitlog.clone(),
            segment_size: self.segment_size,
            max_hash_slots: self.max_hash_slots,
            max_index: self.max_index,
            without_index,
            ..ViewOptions::default()
        }
    }
}
