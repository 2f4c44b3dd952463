//! What is in a store directory: its files, their ranges and times, and what the next start would do. Judges nothing:
//! whether it all fits together is for `verify`.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use wire::{json::Json, topic};

use crate::{
    checkpoint::Checkpoint,
    disk::{Clock, list_sorted},
    error::{IoContext, StoreError},
    inspect::{
        index::{self, IndexView},
        overlay::Overlay,
        queues::QueueFiles,
        recovery::{Recovery, recovery},
        view::StoreView,
    },
    queue::Kind,
    timer::{TimerFacts, look},
};

/// All of it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Somebody holds the lock.
    pub running: bool,
    /// There is no `abort`.
    pub clean: bool,
    /// Bytes of a log segment.
    pub segment_size: u64,
    /// Base and bytes of each log segment.
    pub segments: Vec<(i64, u64)>,
    /// Stretches between segments that no file holds.
    pub gaps: Vec<(i64, i64)>,
    /// Consume queues by topic and id.
    pub queues: Vec<QueueFacts>,
    /// Index files, oldest first.
    pub index: Vec<IndexFacts>,
    /// The checkpoint, if there is one.
    pub checkpoint: Option<Checkpoint>,
    /// Files in `config`.
    pub configs: Vec<ConfigFacts>,
    /// Names and bytes of the timer's files.
    pub timer: Vec<(String, u64)>,
    /// What waits in the timer, if there is one.
    pub timer_state: Option<TimerFacts>,
    /// What the next start would do.
    pub recovery: Recovery,
}

/// A consume queue.
#[derive(Clone, Debug)]
pub struct QueueFacts {
    /// Topic.
    pub topic: String,
    /// Queue.
    pub queue_id: i32,
    /// It is a batch consume queue.
    pub is_batch: bool,
    /// Files.
    pub files: usize,
    /// Units in the files.
    pub units: i64,
    /// First offset whose record the log still has.
    pub min: i64,
    /// The offset behind the last.
    pub max: i64,
    /// End in the log of the last record, 0 without one.
    pub end: i64,
}

/// An index file. Times are store timestamps in milliseconds.
#[derive(Clone, Debug)]
pub struct IndexFacts {
    /// Name.
    pub name: String,
    /// Bytes.
    pub len: u64,
    /// Entries that its header tells of.
    pub entries: i32,
    /// Store times of the first and the last record.
    pub times: (i64, i64),
    /// Places of the first and the last record.
    pub places: (i64, i64),
    /// `maxHashSlotNum` and `maxIndexNum`, if they can be told.
    pub sizes: Option<(u32, u32)>,
}

/// Which of a configuration file and its `.bak` can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigState {
    /// The file.
    Whole,
    /// Only the `.bak`.
    OnlyBackup,
    /// None.
    Broken,
}

/// A configuration file.
#[derive(Clone, Debug)]
pub struct ConfigFacts {
    /// Name, without `.bak`.
    pub name: String,
    /// What can be read.
    pub state: ConfigState,
    /// There is a `.bak`.
    pub has_backup: bool,
}

/// Looks at everything behind `view`; `clock` is what a start would be given.
pub fn inspect(view: &StoreView, clock: Arc<dyn Clock>) -> Result<Facts, StoreError> {
    let segments: Vec<_> = view.log.segments().iter().map(|found| (found.base, found.len)).collect();
    let size = view.log.size();
    let gaps = segments.windows(2).map(|pair| (pair[0].0 + size, pair[1].0)).filter(|(from, to)| from < to).collect();
    let queues = view.queues()?.iter().map(|queue| queue_facts(view, queue)).collect::<Result<Vec<_>, _>>()?;
    let checkpoint = view.disk.exists(&view.root.join("checkpoint"));
    Ok(Facts {
        running: view.is_running(),
        clean: view.is_clean(),
        segment_size: size as u64,
        segments,
        gaps,
        index: index_facts(view)?,
        checkpoint: checkpoint.then(|| Checkpoint::load(&*view.disk, &view.root)).transpose()?,
        configs: configs(view)?,
        timer: timer(view)?,
        timer_state: timer_state(view, &queues)?,
        recovery: recovery(view, &queues, clock)?,
        queues,
    })
}

fn queue_facts(view: &StoreView, queue: &QueueFiles) -> Result<QueueFacts, StoreError> {
    let (start, end) = (queue.start(), queue.end()?);
    let last = queue.unit_at(end - 1)?;
    let max = last.map_or(start, |unit| unit.queue_offset + i64::from(unit.count));
    let first = queue.unit_at(queue.first_at(view.log.min(), end)?)?;
    Ok(QueueFacts {
        topic: queue.topic.to_string(),
        queue_id: queue.queue_id,
        is_batch: queue.kind == Kind::Batch,
        files: queue.files.len(),
        units: end - start,
        min: first.map_or(max, |unit| unit.queue_offset),
        max,
        end: last.map_or(0, |unit| unit.end()),
    })
}

fn index_facts(view: &StoreView) -> Result<Vec<IndexFacts>, StoreError> {
    let mut found = Vec::new();
    for path in index::find(&*view.disk, &view.root)? {
        let file = IndexView::open(&*view.disk, &path, view.geometry())?;
        let header = file.header;
        found.push(IndexFacts {
            name: file.name(),
            len: file.len,
            entries: header.next_entry - 1,
            times: (header.begin_timestamp, header.end_timestamp),
            places: (header.begin_physical, header.end_physical),
            sizes: file.geometry.map(|geometry| (geometry.slots, geometry.max_index)),
        });
    }
    Ok(found)
}

/// A file counts as whole when it holds JSON, by Java's rule: an empty one does not.
fn configs(view: &StoreView) -> Result<Vec<ConfigFacts>, StoreError> {
    let dir = view.root.join("config");
    let mut found = BTreeMap::<String, [Option<bool>; 2]>::new();
    for entry in list_sorted(&*view.disk, &dir).at("list", &dir)?.into_iter().filter(|entry| !entry.is_dir) {
        let (name, place) = entry.name.strip_suffix(".bak").map_or((entry.name.as_str(), 0), |name| (name, 1));
        if name.ends_with(".json") {
            found.entry(name.to_owned()).or_default()[place] = Some(parses(view, &dir.join(&entry.name))?);
        }
    }
    let facts = |(name, [file, backup]): (String, [Option<bool>; 2])| {
        let state = match (file, backup) {
            (Some(true), _) => ConfigState::Whole,
            (_, Some(true)) => ConfigState::OnlyBackup,
            _ => ConfigState::Broken,
        };
        ConfigFacts { name, state, has_backup: backup.is_some() }
    };
    Ok(found.into_iter().map(facts).collect())
}

fn parses(view: &StoreView, path: &Path) -> Result<bool, StoreError> {
    Ok(view.read_small(path)?.is_some_and(|bytes| !bytes.is_empty() && Json::parse(&bytes).is_ok()))
}

fn timer_state(view: &StoreView, queues: &[QueueFacts]) -> Result<Option<TimerFacts>, StoreError> {
    let queue = queues.iter().find(|queue| queue.topic == topic::TIMER && queue.queue_id == 0);
    // Files that a start would mend are mended in memory.
    let disk = Arc::new(Overlay::new(view.disk.clone(), 1 << 20));
    look(disk, &view.root, queue.map(|queue| queue.max), &|physical| view.log.record(physical))
}

fn timer(view: &StoreView) -> Result<Vec<(String, u64)>, StoreError> {
    let mut found = Vec::new();
    for (under, only) in [("", &["timerwheel"][..]), ("timerlog", &[]), ("config", &["timercheck", "timermetrics"])] {
        let dir = view.root.join(under);
        for entry in list_sorted(&*view.disk, &dir).at("list", &dir)?.into_iter().filter(|entry| !entry.is_dir) {
            if only.is_empty() || only.contains(&entry.name.as_str()) {
                found.push((Path::new(under).join(&entry.name).to_string_lossy().into_owned(), entry.len));
            }
        }
    }
    Ok(found)
}
