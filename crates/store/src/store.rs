//! The store: one commit log and the views of it, in one directory that no other process uses meanwhile.
//! It opens no socket, spawns no thread and reads no clock but the one it was given.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
};

use parking_lot::{Mutex, RwLock};

use crate::{
    append::Tail,
    build::Views,
    checkpoint::Checkpoint,
    config::StoreConfig,
    deleted::Deleted,
    disk::{Clock, Disk, LockGuard},
    dispatch::{ArrivalListener, Dispatcher},
    error::{IoContext, StoreError},
    index::Index,
    index_format::Geometry,
    log::Log,
    mark::Marks,
    other_log,
    progress::Progress,
    queues::Queues,
    rebuild::swap,
    recover,
    refusal::Refusal,
    rocksdb,
};

/// A message store. Share it by `Arc`; every call may come from any thread.
pub struct Store {
    pub(crate) config: StoreConfig,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log: Log,
    pub(crate) queues: Queues,
    pub(crate) index: Option<Index>,
    pub(crate) deleted: Deleted,
    pub(crate) marks: Marks,
    pub(crate) tail: Mutex<Tail>,
    pub(crate) flushing: Mutex<()>,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) listener: RwLock<Option<ArrivalListener>>,
    pub(crate) checkpoint: Mutex<Checkpoint>,
    /// What [`Store::hold_back`] found, 0 if it changed nothing.
    physic_found: AtomicI64,
    /// Held while the checkpoint is made up and written; taken before all other locks.
    pub(crate) persisting: Mutex<()>,
    /// End of bytes that came from a master and must be dispatched before this store appends by itself.
    pub(crate) raw_end: AtomicI64,
    pub(crate) is_slave: AtomicBool,
    /// Nothing is dispatched before it is durable.
    pub(crate) sync_flush: AtomicBool,
    /// Queues and index are durable up to here.
    pub(crate) views_durable: AtomicI64,
    pub(crate) refusal: Refusal,
    /// Held while segments are chosen and deleted.
    pub(crate) retaining: Mutex<()>,
    failure: OnceLock<String>,
    closed: AtomicBool,
    lock: Mutex<Option<Box<dyn LockGuard>>>,
}

/// A directory that belongs to this process until this, or the store opened in it, is dropped.
pub struct Directory {
    lock: Box<dyn LockGuard>,
    progress: Arc<Progress>,
}

impl Directory {
    /// Takes the directory of a configuration, which is checked first. One that cannot be served stays as it is.
    pub fn lock(config: &StoreConfig, disk: &dyn Disk) -> Result<Self, StoreError> {
        config.check()?;
        let root = &config.root;
        rocksdb::refuse(disk, root, config.queues_doubled_in_rocksdb)?;
        other_log::refuse(disk, config)?;
        disk.create_dir_all(root).at("create", root)?;
        match disk.lock(&root.join("lock")).at("lock", root.join("lock"))? {
            Some(lock) => Ok(Self { lock, progress: Arc::default() }),
            None => Err(StoreError::Locked { root: root.clone() }),
        }
    }

    /// How far the recovery of the store that is opened in it is.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }
}

impl Store {
    /// Locks the directory, loads and recovers what is in it and dispatches what recovery found. On return the three
    /// marks are equal and `abort` says that the store is in use.
    pub fn open(config: StoreConfig, disk: Arc<dyn Disk>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let directory = Directory::lock(&config, &*disk)?;
        Self::open_locked(config, disk, clock, directory)
    }

    /// As [`Store::open`], in a directory that is locked already.
    pub fn open_locked(
        config: StoreConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        directory: Directory,
    ) -> Result<Self, StoreError> {
        let disk = config.log_dirs().over(disk, config.segment_size);
        swap::at_start(&disk, &config.root)?;
        let clean = !disk.exists(&config.root.join("abort"));
        let store = Self::load(config, disk, clock, directory.lock, clean)?;
        // Before anything changes: a power cut within recovery must not leave what looks like a clean stop.
        store.write_abort()?;
        store.align_queue_types()?;
        if let Err(error) = recover::recover(&store, clean, &directory.progress) {
            // A start that is refused leaves the directory as it was.
            if clean && matches!(error, StoreError::Damaged { .. }) {
                store.remove_abort()?;
            }
            return Err(error);
        }
        store.hold_back()?;
        Ok(store)
    }

    /// Until something is flushed the checkpoint is that of the last stop: where a Java broker wrote it, it proves more than
    /// a kill would leave of the index in a Java broker.
    fn hold_back(&self) -> Result<(), StoreError> {
        let mut checkpoint = self.checkpoint.lock();
        let found = checkpoint.physic_msg_timestamp;
        checkpoint.reach_back(self.index.as_ref().and_then(Index::filling_since));
        if checkpoint.physic_msg_timestamp == found {
            return Ok(());
        }
        self.physic_found.store(found, SeqCst);
        match checkpoint.store(&*self.disk, &self.config.root) {
            Err(error) if error.is_disk_full() => Ok(()),
            stored => stored,
        }
    }

    /// Nothing came since the start: the checkpoint becomes as it was.
    fn give_back(&self) {
        let found = self.physic_found.load(SeqCst);
        if found > 0 && self.dispatcher.progress(&self.marks.dispatched).0.is_none() {
            self.checkpoint.lock().physic_msg_timestamp = found;
        }
    }

    fn load(
        config: StoreConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        lock: Box<dyn LockGuard>,
        clean: bool,
    ) -> Result<Self, StoreError> {
        let geometry = Geometry { slots: config.max_hash_slots, max_index: config.max_index };
        let index = match config.index_enabled {
            true => {
                Some(Index::load(disk.clone(), config.root.join("index"), geometry, clean)?.named_in(config.local_time))
            }
            false => None,
        };
        Ok(Self {
            log: Log::load(disk.clone(), config.log_dirs().first().to_path_buf(), config.segment_size, clean)?
                .with_pieces(config.cold_reads),
            queues: Queues::load(&config, disk.clone(), clean)?,
            index,
            deleted: Deleted::load(disk.clone(), &config.root)?,
            marks: Marks::default(),
            tail: Mutex::default(),
            flushing: Mutex::default(),
            dispatcher: Dispatcher::default(),
            listener: RwLock::new(None),
            checkpoint: Mutex::new(Checkpoint::load(&*disk, &config.root)?),
            physic_found: AtomicI64::new(0),
            persisting: Mutex::default(),
            raw_end: AtomicI64::new(0),
            is_slave: AtomicBool::new(false),
            sync_flush: AtomicBool::new(config.sync_flush),
            views_durable: AtomicI64::new(0),
            refusal: Refusal::default(),
            retaining: Mutex::default(),
            failure: OnceLock::new(),
            closed: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
            config,
            disk,
            clock,
        })
    }

    /// The marks of this store.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// What it was opened with.
    pub fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// Bytes of a log segment; those of the files, if they differ from the configuration.
    pub fn segment_size(&self) -> i64 {
        self.log.segment_size()
    }

    /// First byte of the log that is still there, -1 for an empty log.
    pub fn min_phys(&self) -> i64 {
        self.log.min().unwrap_or(-1)
    }

    /// Readable end of the log.
    pub fn max_phys(&self) -> i64 {
        self.marks.appended.get()
    }

    /// Store time in ms of the last record whose views are built, -1 without one. When this process has built none yet, a message
    /// that is in no queue is not seen where the checkpoint does not name it.
    pub fn last_store_time(&self) -> i64 {
        let (last, _) = self.dispatcher.progress(&self.marks.dispatched);
        match last {
            Some(last) => last.store_timestamp,
            None => {
                // Java before 5.5 names none, and 5.5 one that may be older.
                let named = self.record_time(self.checkpoint().logics_physical_offset);
                named.max(self.newest_queued_time()).unwrap_or(-1)
            }
        }
    }

    /// Store time of the last message that is in a queue, ms.
    pub(crate) fn newest_queued_time(&self) -> Option<i64> {
        let queue = self.queues.all().into_iter().max_by_key(|queue| queue.max_physical())?;
        let unit = self.told(queue.last_unit())??;
        self.record_time(unit.physical_offset)
    }

    /// A slave appends nothing of its own: what was begun before is in the log when this returns, and nothing comes
    /// after it. It answers pulls outside a queue's range with the offset that was asked for (unless
    /// `offsetCheckInSlave`).
    pub fn set_slave(&self, is_slave: bool) {
        let _tail = self.tail.lock();
        self.is_slave.store(is_slave, SeqCst);
    }

    /// `flushDiskType` from now on: with `true` nothing is dispatched before it is durable. What is dispatched stays.
    pub fn set_sync_flush(&self, sync_flush: bool) {
        self.sync_flush.store(sync_flush, SeqCst);
    }

    /// True while appends are possible.
    pub fn is_writeable(&self) -> bool {
        self.failed().is_none() && !self.is_closed()
    }

    /// Why the store has failed, once it has: a write or fsync went wrong. Only a restart helps.
    pub fn failed(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    /// Nothing is acknowledged from here on.
    pub(crate) fn fail(&self, error: &StoreError) {
        if self.failure.set(error.to_string()).is_ok() {
            tracing::error!(%error, "the store has failed: nothing more is stored or acknowledged; repair the cause and restart the broker");
        }
    }

    /// Lack of space is survived: what could not be written now is written later.
    pub(crate) fn fail_unless_full(&self, error: &StoreError) {
        if !error.is_disk_full() {
            self.fail(error);
        }
    }

    pub(crate) fn check_usable(&self) -> Result<(), StoreError> {
        match self.failed() {
            Some(reason) => Err(StoreError::Failed(reason.to_owned())),
            None if self.is_closed() => Err(StoreError::Closed),
            None => Ok(()),
        }
    }

    pub(crate) fn views(&self) -> Views<'_> {
        Views {
            config: &self.config,
            log: &self.log,
            flushed: self.marks.flushed.get(),
            queues: &self.queues,
            index: self.index.as_ref(),
            deleted: &self.deleted,
            tail: &self.tail,
            now_ms: self.clock.now_ms(),
        }
    }

    fn write_abort(&self) -> Result<(), StoreError> {
        let (root, path) = (&self.config.root, self.config.root.join("abort"));
        let file = self.disk.open(&path, true).at("create", &path)?;
        file.set_len(0).at("size", &path)?;
        file.write_all_at(0, std::process::id().to_string().as_bytes()).at("write", &path)?;
        file.sync().at("sync", &path)?;
        self.disk.sync_dir(root).at("sync", root)
    }

    /// Dispatches what is left, makes everything durable and releases the directory. `abort` goes only when nothing is
    /// left to dispatch; otherwise the next start checks the log's end, as after a crash.
    pub fn close(&self) -> Result<(), StoreError> {
        if self.closed.swap(true, SeqCst) {
            return Ok(());
        }
        let result = self.close_files();
        self.lock.lock().take();
        result
    }

    fn close_files(&self) -> Result<(), StoreError> {
        if let Some(reason) = self.failed() {
            return Err(StoreError::Failed(reason.to_owned()));
        }
        // Waits for an append and a dispatch in progress; no later one starts.
        drop(self.tail.lock());
        self.flush_log()?;
        self.dispatch_rest();
        self.give_back();
        let written = self.flush_views().and_then(|()| self.store_checkpoint());
        if let Err(error) = &written
            && error.is_disk_full()
        {
            tracing::warn!(%error, "closed without space for the queues: the next start builds them from the log");
            return Ok(());
        }
        written?;
        let (dispatched, end) = (self.marks.dispatched.get(), self.marks.appended.get());
        if dispatched < end || self.failed().is_some() {
            tracing::warn!(
                dispatched,
                end,
                "closed before everything was dispatched: the next start checks the end of the log"
            );
            return Ok(());
        }
        // The next start takes queues as they are: also those that only a former process changed, which was killed.
        self.queues.settle().inspect_err(|error| self.fail(error))?;
        self.remove_abort()
    }

    fn remove_abort(&self) -> Result<(), StoreError> {
        let (root, path) = (&self.config.root, self.config.root.join("abort"));
        self.disk.remove(&path).at("delete", &path)?;
        self.disk.sync_dir(root).at("sync", root)
    }
}
