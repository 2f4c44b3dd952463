//! Reads the log once and builds queues and index from it, aside, with the same code that a start builds them with.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use wire::record::RecordView;

use crate::{
    append::Tail,
    build::{Builder, Views, keys_of, put_keys},
    checkpoint::Checkpoint,
    config::StoreConfig,
    deleted::Deleted,
    disk::Disk,
    error::{IoContext, StoreError},
    ext,
    index::Index,
    index_format::Geometry,
    inspect::{
        Watch,
        log::{Halt, Scanner},
        overlay::Overlay,
        queues::QueueFiles,
        view::StoreView,
    },
    log::Log,
    queues::Queues,
    rebuild::{
        PassedOver, Rebuilt, keep,
        learn::{self, Topics},
    },
    segments,
};

/// The build and what it needs.
pub(super) struct Build<'a> {
    view: &'a StoreView,
    disk: Arc<dyn Disk>,
    aside: PathBuf,
    config: StoreConfig,
    old: Vec<QueueFiles>,
    log: Log,
    queues: Queues,
    index: Option<Index>,
    deleted: Deleted,
    tail: Mutex<Tail>,
    builder: Builder,
    topics: Topics,
    left_out: BTreeMap<String, u64>,
    /// Start of a record that is surely within the log: damage before it is passed over.
    proven: i64,
    facts: Rebuilt,
}

impl<'a> Build<'a> {
    /// Loads what is needed; the log's own files are not touched.
    pub(super) fn new(
        view: &'a StoreView,
        disk: Arc<dyn Disk>,
        config: StoreConfig,
        aside: PathBuf,
        all_topics: bool,
    ) -> Result<Self, StoreError> {
        let old = view.queues()?;
        let index_enabled = config.index_enabled && !view.options.without_index;
        let geometry = Geometry { slots: config.max_hash_slots, max_index: config.max_index };
        let checkpoint = Checkpoint::load(&*view.disk, &view.root)?;
        let proven = [checkpoint.logics_physical_offset, checkpoint.log_proof];
        // What a start would mend in the files of the log is mended in memory.
        let over_log: Arc<dyn Disk> = Arc::new(Overlay::new(view.disk.clone(), 1 << 20));
        let index = match index_enabled {
            true => Some(Index::load(disk.clone(), aside.join("index"), geometry, true)?.named_in(config.local_time)),
            false => None,
        };
        let config = StoreConfig { root: aside.clone(), ..config };
        Ok(Self {
            log: Log::load(over_log, view.log.dir().to_path_buf(), view.log.size() as u64, view.is_clean())?,
            queues: Queues::load(&config, disk.clone(), true)?,
            deleted: Deleted::load(disk.clone(), &view.root)?,
            topics: if all_topics { Topics::any() } else { Topics::look(view, &old)? },
            proven: learn::proven(view, &old, proven)?,
            facts: Rebuilt { min: view.log.min(), end: view.log.min(), ..Rebuilt::default() },
            tail: Mutex::default(),
            builder: Builder::default(),
            left_out: BTreeMap::new(),
            view,
            disk,
            aside,
            config,
            old,
            index,
        })
    }

    /// Reads the log.
    pub(super) fn run(&mut self, watch: &mut dyn Watch) -> Result<(), StoreError> {
        let (min, total) = (self.facts.min, self.view.log.files_end() - self.view.log.min());
        let mut scanner = Scanner::new(&self.view.log, min);
        let mut goes_on = true;
        while goes_on {
            let mut result = Ok(());
            self.builder.arrivals.clear();
            let halt = scanner.step(|record| {
                if result.is_ok() {
                    result = self.take(record);
                }
            })?;
            result?;
            let now_ms = self.builder.last.map_or(0, |last| last.store_timestamp);
            let (builder, views) = parts(self, now_ms);
            builder.commit(&views)?;
            goes_on = halt == Halt::More || self.pass(&mut scanner, halt)?;
            watch.progress((scanner.at - min) as u64, total.max(scanner.at - min) as u64);
        }
        Ok(())
    }

    fn take(&mut self, record: &RecordView<'_>) -> Result<(), StoreError> {
        self.facts.records += 1;
        self.facts.end = record.physical_offset() + record.size() as i64;
        let is_deleted = self.topics.is_deleted(record.topic());
        if is_deleted {
            *self.left_out.entry(record.topic().to_owned()).or_default() += 1;
        }
        // Files of the index are named by a time: that of their first record is the same in every rebuild.
        let (builder, views) = parts(self, record.store_timestamp());
        if !is_deleted {
            return builder.add(&views, record);
        }
        // A Java broker leaves the keys of a deleted topic in the index.
        put_keys(&views, keys_of(record))?;
        builder.add_to_light_alone(&views, record)
    }

    /// Passes over what is no record, if the log surely goes on behind it. False at the log's end.
    fn pass(&mut self, scanner: &mut Scanner<'_>, halt: Halt) -> Result<bool, StoreError> {
        let at = scanner.at;
        let why = match halt {
            Halt::Bad(why) => why,
            Halt::NoSegment => "the segment is missing".into(),
            Halt::Zeros | Halt::More => "zeros".into(),
        };
        if at >= self.proven {
            tracing::info!(end = at, reason = why, "the log ends here");
            return Ok(false);
        }
        // A record whose body alone is damaged keeps its place in its queue, as a broker keeps it.
        let bytes = self.view.log.layout(at)?;
        if let Some(record) = bytes.as_deref().and_then(RecordView::layout) {
            self.take(&record)?;
            scanner.at = at + record.size() as i64;
        } else if !scanner.resync()? {
            return Ok(false);
        }
        self.facts.passed.push(PassedOver { from: at, to: scanner.at, why });
        Ok(true)
    }

    /// Adds what the log cannot tell any more and makes all of it durable.
    pub(super) fn finish(&mut self) -> Result<Rebuilt, StoreError> {
        self.facts.kept = keep::counters(self)?;
        self.queues.flush()?;
        let built = self.queues.all();
        let with_units = built.iter().filter(|queue| !queue.units().is_unused());
        self.facts.queues = with_units.clone().count();
        self.facts.units = with_units.map(|queue| (queue.units().end() - queue.units().start()) as u64).sum();
        self.facts.extended = self.config.queue_ext;
        if let Some(index) = &self.index {
            index.flush()?;
            (self.facts.index_files, self.facts.entries) = index.count();
            keep::index_names(&*self.disk, &self.aside, self.view)?;
        }
        self.facts.left_out = std::mem::take(&mut self.left_out).into_iter().collect();
        self.settle_log()?;
        // Also where no queue has one: the old ones, to which no unit leads any more, are replaced.
        let ext = self.aside.join(ext::DIRECTORY);
        self.disk.create_dir_all(&ext).at("create", &ext)?;
        for name in ["consumequeue", "batchconsumequeue", ext::DIRECTORY] {
            sync_dir(&*self.disk, &self.aside.join(name))?;
        }
        sync_dir(&*self.disk, &self.aside)?;
        Ok(std::mem::take(&mut self.facts))
    }

    /// After a kill the log's last records may be in the page cache alone. A queue that begins again over one of them has
    /// forgotten its former life: the record must not be lost after that.
    fn settle_log(&self) -> Result<(), StoreError> {
        if self.view.is_clean() {
            return Ok(());
        }
        for base in self.log.bases() {
            let path = segments::path(self.log.dir(), base);
            self.disk.open_read(&path).at("open", &path)?.sync().at("sync", &path)?;
        }
        sync_dir(&*self.disk, self.log.dir())
    }

    pub(super) fn old(&self) -> &[QueueFiles] {
        &self.old
    }

    pub(super) fn queues(&self) -> &Queues {
        &self.queues
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(super) fn aside(&self) -> &Path {
        &self.aside
    }

    /// First byte of the log.
    pub(super) fn min(&self) -> i64 {
        self.view.log.min()
    }
}

/// The builder and what it builds with.
fn parts<'b>(build: &'b mut Build<'_>, now_ms: i64) -> (&'b mut Builder, Views<'b>) {
    let views = Views {
        config: &build.config,
        log: &build.log,
        // What is built counts only when `finish` has made the log durable.
        flushed: i64::MAX,
        queues: &build.queues,
        index: build.index.as_ref(),
        deleted: &build.deleted,
        tail: &build.tail,
        now_ms,
    };
    (&mut build.builder, views)
}

fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    disk.sync_dir(dir).at("sync", dir)
}
