//! A store directory as the read-only commands see it: where its parts are and which sizes its files have. Opening a
//! view takes no lock and reads directories alone; what it found may grow, roll and vanish under it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use wire::{body::TopicConfigAndMappingSerializeWrapper as Topics, json::Json};

use crate::{
    config::StoreConfig,
    deleted::Deleted,
    disk::{Disk, list_sorted},
    error::{IoContext, StoreError},
    handles::Handles,
    index_format::Geometry,
    inspect::{log::LogFiles, queues::QueueFiles, read_only::ReadOnlyDisk},
    multi_path::LogDirs,
    other_log,
    queue::Kind,
    rocksdb,
};

/// Files that the commands keep open at a time.
const OPEN_FILES: usize = 512;

/// Why a directory cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// It is none of ours.
    #[error("{} is no store directory: {why}; give the directory of storePathRootDir", .dir.display())]
    NoStore {
        /// What was given.
        dir: PathBuf,
        /// What is missing.
        why: &'static str,
    },
    /// Its log is in another directory.
    #[error("{} has consume queues, but no commit log at {}: give storePathCommitLog with --commitlog", .dir.display(), .log.display())]
    NoLog {
        /// The store.
        dir: PathBuf,
        /// Where the log was looked for.
        log: PathBuf,
    },
    /// Its queues are in a RocksDB alone.
    #[error("{} is a store of storeType=defaultRocksDB ({} is there): only file stores can be read", .dir.display(), .found.display())]
    RocksDb {
        /// The store.
        dir: PathBuf,
        /// What tells.
        found: PathBuf,
    },
    /// It has a copy of its queues in a RocksDB, which would not be made anew with the files.
    #[error("{} has its queues in RocksDB as well (rocksdbCQDoubleWriteEnable; {} is there), and only the files would be rebuilt: start the broker without the key and move the database away first", .dir.display(), .found.display())]
    RocksDbBeside {
        /// The store.
        dir: PathBuf,
        /// What tells.
        found: PathBuf,
    },
    /// Reading failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the caller knows better than the files. `None` is taken from the files.
#[derive(Clone, Debug, Default)]
pub struct ViewOptions {
    /// `storePathCommitLog`, all of them.
    pub commit_log_dirs: Option<LogDirs>,
    /// `mappedFileSizeCommitLog`.
    pub segment_size: Option<u64>,
    /// `maxHashSlotNum`.
    pub max_hash_slots: Option<u32>,
    /// `maxIndexNum`.
    pub max_index: Option<u32>,
    /// `messageDelayLevel`, level 1 first, in milliseconds.
    pub delay_levels_ms: Option<Vec<i64>>,
    /// `messageIndexEnable=false`: there is no index to look at.
    pub without_index: bool,
}

impl ViewOptions {
    fn log_dirs(&self, root: &Path) -> LogDirs {
        self.commit_log_dirs.clone().unwrap_or_else(|| LogDirs::one(root.join("commitlog")))
    }
}

/// A store directory, for reading.
pub struct StoreView {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) root: PathBuf,
    pub(crate) options: ViewOptions,
    pub(crate) log: LogFiles,
    pub(crate) handles: Arc<Handles>,
    /// What tells of a copy of the queues in RocksDB.
    pub(crate) rocksdb: Option<PathBuf>,
}

impl StoreView {
    /// Looks at `root`.
    pub fn open(disk: Arc<dyn Disk>, root: &Path, options: ViewOptions) -> Result<Self, ViewError> {
        let dirs = options.log_dirs(root);
        // Nothing is placed here: no size is needed.
        let disk: Arc<dyn Disk> = Arc::new(ReadOnlyDisk(dirs.over(disk, 0)));
        refuse_foreign(&*disk, root, dirs.first())?;
        let rocksdb = rocksdb::of_queues(&*disk, root);
        let log = LogFiles::load(disk.clone(), dirs.first().to_path_buf(), options.segment_size)?;
        Ok(Self { disk, root: root.to_path_buf(), options, log, handles: Arc::new(Handles::new(OPEN_FILES)), rocksdb })
    }

    /// Says, in a line, that there is a copy of the queues that is not looked at (`rocksdbCQDoubleWriteEnable`).
    pub fn not_looked_at(&self) -> Option<String> {
        let found = self.rocksdb.as_ref()?;
        Some(format!(
            "the queue files were looked at; the copy of them in RocksDB ({}, rocksdbCQDoubleWriteEnable) was not",
            found.display()
        ))
    }

    pub(crate) fn log_dirs(&self) -> LogDirs {
        self.options.log_dirs(&self.root)
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Fails when the log's directory has gone since: what was read of the store is then not all of it.
    pub fn still_there(&self) -> Result<(), ViewError> {
        match self.disk.exists(self.log.dir()) {
            true => Ok(()),
            false => Err(ViewError::NoStore { dir: self.root.clone(), why: "it was taken away while it was read" }),
        }
    }

    /// Somebody holds the lock; where that cannot be told, `abort` decides.
    pub fn is_running(&self) -> bool {
        self.disk.is_locked(&self.root.join("lock")).ok().flatten().unwrap_or_else(|| !self.is_clean())
    }

    /// There is no `abort`: the last stop was a clean one, and nobody has started since.
    pub fn is_clean(&self) -> bool {
        !self.disk.exists(&self.root.join("abort"))
    }

    /// All consume queues on disk, by topic and id.
    pub(crate) fn queues(&self) -> Result<Vec<QueueFiles>, StoreError> {
        let mut found = Vec::new();
        for kind in [Kind::Simple, Kind::Batch] {
            let dir = self.root.join(kind.directory());
            for topic in list_sorted(&*self.disk, &dir).at("list", &dir)?.into_iter().filter(|entry| entry.is_dir) {
                self.queues_of(kind, &topic.name, &mut found)?;
            }
        }
        found.sort_by(|a, b| {
            (&a.topic, a.queue_id, a.kind.directory()).cmp(&(&b.topic, b.queue_id, b.kind.directory()))
        });
        Ok(found)
    }

    /// The queues of one topic.
    pub(crate) fn queues_of(&self, kind: Kind, topic: &str, found: &mut Vec<QueueFiles>) -> Result<(), StoreError> {
        let dir = self.root.join(kind.directory()).join(topic);
        let name: Arc<str> = Arc::from(topic);
        for entry in list_sorted(&*self.disk, &dir).at("list", &dir)?.into_iter().filter(|entry| entry.is_dir) {
            if let Ok(queue_id) = entry.name.parse::<i32>() {
                let place = (kind, name.clone(), queue_id);
                found.push(QueueFiles::load(&self.disk, &self.handles, place, dir.join(&entry.name))?);
            }
        }
        Ok(())
    }

    /// Names in `topics.json` or its `.bak`; `None` when neither can be read.
    pub(crate) fn topics(&self) -> Option<Topics> {
        ["topics.json", "topics.json.bak"].into_iter().find_map(|name| {
            let bytes = self.read_small(&self.root.join("config").join(name)).ok()??;
            if bytes.is_empty() { None } else { wire::json::decode::<Topics>(&bytes).ok() }
        })
    }

    /// A configuration file, or its `.bak` where that cannot be read; `None` when neither can.
    pub(crate) fn config(&self, name: &str) -> Result<Option<Json>, StoreError> {
        for name in [name.to_owned(), format!("{name}.bak")] {
            let bytes = self.read_small(&self.root.join("config").join(name))?.unwrap_or_default();
            if let Some(json) = Json::parse(&bytes).ok().filter(|_| !bytes.is_empty()) {
                return Ok(Some(json));
            }
        }
        Ok(None)
    }

    pub(crate) fn deleted(&self) -> Result<Deleted, StoreError> {
        Deleted::load(self.disk.clone(), &self.root)
    }

    /// A whole small file; `None` when it does not exist.
    pub(crate) fn read_small(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        let file = match self.disk.open_read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.at("open", path)?,
        };
        let mut bytes = Vec::new();
        let mut chunk = [0; 8192];
        loop {
            match file.read_at(bytes.len() as u64, &mut chunk).at("read", path)? {
                0 => return Ok(Some(bytes)),
                read => bytes.extend_from_slice(&chunk[..read]),
            }
        }
    }

    /// Sizes of index files, where the caller knows them.
    pub(crate) fn geometry(&self) -> Option<Geometry> {
        let (slots, max_index) = (self.options.max_hash_slots?, self.options.max_index?);
        Some(Geometry { slots, max_index })
    }

    /// What building units takes from the configuration.
    pub(crate) fn unit_config(&self) -> StoreConfig {
        let levels = self.options.delay_levels_ms.clone().unwrap_or_default();
        StoreConfig { root: self.root.clone(), delay_levels_ms: levels, ..StoreConfig::default() }
    }
}

fn refuse_foreign(disk: &dyn Disk, root: &Path, log: &Path) -> Result<(), ViewError> {
    let no_store = |why| Err(ViewError::NoStore { dir: root.to_path_buf(), why });
    match disk.list(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return no_store("it does not exist"),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return no_store("it is a file"),
        other => other.map(drop).at("list", root)?,
    }
    if let Some(found) = rocksdb::of_queues(disk, root)
        && !other_log::has_queues(disk, root)?
    {
        return Err(ViewError::RocksDb { dir: root.to_path_buf(), found });
    }
    match disk.exists(log) {
        true => Ok(()),
        false if other_log::has_queues(disk, root)? => {
            Err(ViewError::NoLog { dir: root.to_path_buf(), log: log.to_path_buf() })
        }
        false => no_store("there is no commitlog in it"),
    }
}
