//! All consume queues by topic and queue id. A look-up makes no file: files come with the first unit.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use foldhash::quality::RandomState;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use crate::{
    config::{BatchQueueTopics, StoreConfig},
    disk::{Disk, list_sorted},
    error::{IoContext, StoreError},
    ext, file_sizes,
    gather::Room,
    handles::Handles,
    queue::{Kind, Queue},
    segments::Shape,
    units::UnitContext,
};

const SHARDS: usize = 16;
/// Queues that are written for the room of one.
const MOST_TRIES: usize = 8;

/// Queues that are looked up together.
pub(crate) const TOGETHER: usize = 16;

/// The queues of one topic by queue id.
type OfTopic = Vec<Arc<Queue>>;

/// A part of all topics.
type Shard = HashMap<Arc<str>, OfTopic, RandomState>;

/// All queues.
pub(crate) struct Queues {
    context: Arc<UnitContext>,
    root: PathBuf,
    segment_size: OnceLock<u64>,
    batch_segment_size: OnceLock<u64>,
    batch_topics: Option<BatchQueueTopics>,
    shards: [RwLock<Shard>; SHARDS],
    dirty: Mutex<Dirty>,
    /// So many are synced one by one; more at once with all of their file system.
    synced_singly: usize,
}

/// Queues to flush, those first that have had something for longest.
#[derive(Default)]
struct Dirty {
    queues: Vec<Arc<Queue>>,
    /// The one whose units leave memory next, should there be too many.
    next: usize,
}

impl Queues {
    /// Loads what is below `consumequeue` and `batchconsumequeue`.
    pub(crate) fn load(config: &StoreConfig, disk: Arc<dyn Disk>, clean: bool) -> Result<Self, StoreError> {
        let handles = Handles::new(config.max_open_queue_files);
        let names = [Kind::Simple.directory(), Kind::Batch.directory(), ext::DIRECTORY];
        let dirs = names.map(|name| config.root.join(name));
        let file_system = disk.file_system(&config.root, &dirs).at("open", &config.root)?;
        let queues = Self {
            context: Arc::new(UnitContext {
                disk,
                handles,
                next_id: AtomicU64::new(1),
                clean,
                ext: config.ext(),
                // Extensions are written at once, and so is what leads to them: a kill leaves none without a unit.
                room: Room::new(if config.queue_ext { 0 } else { config.queue_gathers }, config.queues_gather),
                file_system,
            }),
            root: config.root.clone(),
            segment_size: OnceLock::new(),
            batch_segment_size: OnceLock::new(),
            batch_topics: config.batch_queue_topics.clone(),
            shards: std::array::from_fn(|_| RwLock::default()),
            dirty: Mutex::default(),
            synced_singly: config.queues_synced_singly,
        };
        queues.load_kind(Kind::Simple, config.queue_segment_size)?;
        queues.load_kind(Kind::Batch, config.batch_queue_segment_size)?;
        Ok(queues)
    }

    fn load_kind(&self, kind: Kind, configured: u64) -> Result<(), StoreError> {
        let disk = &*self.context.disk;
        let dir = self.root.join(kind.directory());
        disk.create_dir_all(&dir).at("create", &dir)?;
        let size = file_sizes::of_queues(disk, &dir, &kind.shape(configured), self.context.clean)?;
        self.size_of(kind).get_or_init(|| size);
        for topic in list_sorted(disk, &dir).at("list", &dir)?.into_iter().filter(|entry| entry.is_dir) {
            let topic_dir = dir.join(&topic.name);
            for queue in list_sorted(disk, &topic_dir).at("list", &topic_dir)?.into_iter().filter(|entry| entry.is_dir)
            {
                if let Ok(queue_id) = queue.name.parse::<i32>() {
                    self.load_queue(kind, &topic.name, queue_id, topic_dir.join(&queue.name))?;
                }
            }
        }
        Ok(())
    }

    fn load_queue(&self, kind: Kind, topic: &str, queue_id: i32, dir: PathBuf) -> Result<(), StoreError> {
        let queue = Arc::new(Queue::load(&self.context, self.name(topic), queue_id, kind, dir, self.shape(kind))?);
        let Some(plain) = self.get(topic, queue_id) else {
            self.insert(queue);
            return Ok(());
        };
        // A stop while one was made of the other. The plain files go only when all units are durable in the others.
        let dir = queue.units().dir().display();
        if queue.max_physical() >= plain.max_physical() {
            tracing::warn!(topic, queue_id, %dir, "the queue exists in both forms: the plain files are left over and deleted");
            self.replace(queue);
            self.delete_files(&[plain])
        } else {
            tracing::warn!(topic, queue_id, %dir, "the queue exists in both forms: the batch files are not complete and deleted");
            self.delete_files(&[queue])
        }
    }

    fn size_of(&self, kind: Kind) -> &OnceLock<u64> {
        match kind {
            Kind::Simple => &self.segment_size,
            Kind::Batch => &self.batch_segment_size,
        }
    }

    /// Bytes of a file of such queues.
    pub(crate) fn file_size(&self, kind: Kind) -> u64 {
        self.shape(kind).segment
    }

    fn shape(&self, kind: Kind) -> Shape {
        kind.shape(self.size_of(kind).get().copied().unwrap_or_default())
    }

    /// The queue, if it is known.
    pub(crate) fn get(&self, topic: &str, queue_id: i32) -> Option<Arc<Queue>> {
        self.shard(topic).read().get(topic).and_then(|queues| of_id(queues, queue_id)).cloned()
    }

    /// Up to [`TOGETHER`] queues, as far as they are known. Of many thousand queues hardly one is in the processor's cache;
    /// it fetches all of these at once, as neither a lock nor a counter comes between.
    pub(crate) fn get_together(&self, wanted: &[(&str, i32)]) -> [Option<Arc<Queue>>; TOGETHER] {
        let set = wanted.iter().fold(0u32, |set, (topic, _)| set | 1 << shard_of(topic));
        // In their order: two who each wait for what the other one holds, behind those who want to write, would wait for ever.
        let shards: [Option<RwLockReadGuard<'_, Shard>>; SHARDS] =
            std::array::from_fn(|place| (set >> place & 1 == 1).then(|| self.shards[place].read()));
        let mut of_topics: [Option<&OfTopic>; TOGETHER] = [None; TOGETHER];
        for (of_topic, (topic, _)) in of_topics.iter_mut().zip(wanted) {
            *of_topic = shards[shard_of(topic)].as_ref().and_then(|shard| shard.get(*topic));
        }
        for (queues, (_, queue_id)) in of_topics.iter().zip(wanted) {
            // Where it most likely is.
            if let Some(queue) = queues.and_then(|queues| queues.get(*queue_id as usize)) {
                queue.touch();
            }
        }
        let mut wanted = wanted.iter();
        of_topics.map(|queues| {
            let (_, queue_id) = wanted.next()?;
            of_id(queues?, *queue_id).cloned()
        })
    }

    /// The queue; an unknown one is made in memory.
    pub(crate) fn get_or_make(&self, topic: &str, queue_id: i32) -> Arc<Queue> {
        match self.get(topic, queue_id) {
            Some(queue) => queue,
            None => self.get_or_make_as(topic, queue_id, if self.is_batch(topic) { Kind::Batch } else { Kind::Simple }),
        }
    }

    /// The queue, whatever its kind; an unknown one is made in memory, of this kind.
    pub(crate) fn get_or_make_as(&self, topic: &str, queue_id: i32, kind: Kind) -> Arc<Queue> {
        self.get(topic, queue_id).unwrap_or_else(|| self.insert(Arc::new(self.empty(topic, queue_id, kind))))
    }

    /// True when the topic table says that the topic has batch queues.
    pub(crate) fn is_batch(&self, topic: &str) -> bool {
        self.batch_topics.as_ref().is_some_and(|is_batch| is_batch(topic))
    }

    /// A queue without files that nobody knows yet.
    pub(crate) fn empty(&self, topic: &str, queue_id: i32, kind: Kind) -> Queue {
        let dir = self.root.join(kind.directory()).join(topic).join(queue_id.to_string());
        Queue::empty(&self.context, self.name(topic), queue_id, kind, dir, self.shape(kind))
    }

    /// The topic's name, which its queues share.
    fn name(&self, topic: &str) -> Arc<str> {
        let shard = self.shard(topic).read();
        shard.get_key_value(topic).map_or_else(|| topic.into(), |(name, _)| name.clone())
    }

    /// Puts a queue in the place of the one of the same topic and id, which is not put into any more.
    pub(crate) fn replace(&self, queue: Arc<Queue>) {
        let mut shard = self.shard(queue.topic()).write();
        let queues = shard.entry(queue.topic().clone()).or_default();
        match queues.binary_search_by_key(&queue.queue_id(), |queue| queue.queue_id()) {
            Ok(place) => std::mem::replace(&mut queues[place], queue).deleted.store(true, SeqCst),
            Err(place) => queues.insert(place, queue),
        }
    }

    /// Adds a queue, or returns the one that somebody else added meanwhile.
    fn insert(&self, queue: Arc<Queue>) -> Arc<Queue> {
        let mut shard = self.shard(queue.topic()).write();
        let queues = shard.entry(queue.topic().clone()).or_default();
        match queues.binary_search_by_key(&queue.queue_id(), |queue| queue.queue_id()) {
            Ok(place) => queues[place].clone(),
            Err(place) => {
                queues.insert(place, queue.clone());
                queue
            }
        }
    }

    /// All queues of a topic.
    pub(crate) fn of_topic(&self, topic: &str) -> OfTopic {
        self.shard(topic).read().get(topic).cloned().unwrap_or_default()
    }

    /// Takes queues of a topic out; nothing is put into them any more.
    pub(crate) fn take(&self, topic: &str, queues: &[Arc<Queue>]) {
        let mut shard = self.shard(topic).write();
        if let Some(of_topic) = shard.get_mut(topic) {
            of_topic.retain(|queue| queues.iter().all(|gone| gone.id() != queue.id()));
            if of_topic.is_empty() {
                shard.remove(topic);
            }
        }
        queues.iter().for_each(|queue| queue.deleted.store(true, SeqCst));
    }

    /// Deletes the files of queues that were taken out, and their directories if nothing is left in them. What names there
    /// are is made durable once for all: that of each would cost as much as of all.
    pub(crate) fn delete_files(&self, queues: &[Arc<Queue>]) -> Result<(), StoreError> {
        let mut topics = BTreeSet::new();
        for queue in queues {
            queue.clear()?;
            let dir = queue.units().dir();
            self.remove_if_empty(dir)?;
            topics.extend(dir.parent());
        }
        topics.iter().try_for_each(|dir| self.remove_if_empty(dir))?;
        let parents: BTreeSet<_> = topics.iter().filter_map(|dir| dir.parent()).collect();
        parents.into_iter().try_for_each(|dir| self.context.disk.sync_dir(dir).at("sync", dir))
    }

    fn remove_if_empty(&self, dir: &Path) -> Result<(), StoreError> {
        let disk = &*self.context.disk;
        match disk.exists(dir) && list_sorted(disk, dir).at("list", dir)?.is_empty() {
            true => disk.remove_dir(dir).at("delete", dir),
            false => Ok(()),
        }
    }

    /// Makes durable which files and directories of a topic there are.
    pub(crate) fn sync_names(&self, topic: &str) -> Result<(), StoreError> {
        let disk = &*self.context.disk;
        for parent in [Kind::Simple, Kind::Batch].map(|kind| self.root.join(kind.directory())) {
            let dir = parent.join(topic);
            let queues = list_sorted(disk, &dir).at("list", &dir)?;
            let queue_dirs = queues.iter().filter(|entry| entry.is_dir).map(|entry| dir.join(&entry.name));
            let dirs = queue_dirs.chain([dir.clone()]).filter(|dir| disk.exists(dir)).chain([parent]);
            dirs.into_iter().try_for_each(|dir| disk.sync_dir(&dir).at("sync", &dir))?;
        }
        Ok(())
    }

    /// True when there is a queue of this kind.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.shards.iter().any(|shard| shard.read().values().flatten().any(|queue| queue.kind() == kind))
    }

    /// All queues, by topic and id.
    pub(crate) fn all(&self) -> Vec<Arc<Queue>> {
        let mut all: Vec<Arc<Queue>> =
            self.shards.iter().flat_map(|shard| shard.read().values().flatten().cloned().collect::<Vec<_>>()).collect();
        all.sort_by(|a, b| (a.topic(), a.queue_id()).cmp(&(b.topic(), b.queue_id())));
        all
    }

    /// End in the log of the newest record that has a unit.
    pub(crate) fn max_physical(&self) -> i64 {
        let of_shard = |shard: &RwLock<Shard>| shard.read().values().flatten().map(|queue| queue.max_physical()).max();
        self.shards.iter().filter_map(of_shard).max().unwrap_or(0)
    }

    /// Puts a queue on the list of those to flush.
    pub(crate) fn mark_dirty(&self, queue: &Arc<Queue>) {
        if !queue.dirty.load(SeqCst) && !queue.dirty.swap(true, SeqCst) {
            self.dirty.lock().queues.push(queue.clone());
        }
    }

    /// Makes room in memory for bytes of units that are to be put. Where that is not enough they go to their file at once.
    pub(crate) fn make_room(&self, bytes: usize) -> Result<(), StoreError> {
        let mut tries = 0;
        while self.context.room.is_short_of(bytes) && tries < MOST_TRIES {
            tries += 1;
            let Some(queue) = self.next_dirty() else { break };
            self.write(&queue)?;
        }
        Ok(())
    }

    fn next_dirty(&self) -> Option<Arc<Queue>> {
        let dirty = &mut *self.dirty.lock();
        let place = if dirty.next < dirty.queues.len() { dirty.next } else { 0 };
        dirty.next = place + 1;
        dirty.queues.get(place).cloned()
    }

    /// Writes the units of a queue that wait in memory.
    fn write(&self, queue: &Queue) -> Result<(), StoreError> {
        match queue.deleted.load(SeqCst) {
            true => Ok(()),
            false => unless_deleted(queue, queue.units().write()),
        }
    }

    /// Makes all units durable that were put before the call. Where space is lacking they are still to be flushed.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        let queues = std::mem::take(&mut *self.dirty.lock()).queues;
        for queue in &queues {
            queue.dirty.store(false, SeqCst);
            if let Err(error) = self.write(queue) {
                self.put_back(queues);
                return Err(error);
            }
        }
        self.sync(&queues)
    }

    /// Queues are still to be flushed; some were put into meanwhile.
    fn put_back(&self, queues: Vec<Arc<Queue>>) {
        let mut dirty = self.dirty.lock();
        let later = std::mem::replace(&mut dirty.queues, queues);
        dirty.queues.extend(later);
        let mut seen = HashSet::new();
        dirty.queues.retain(|queue| seen.insert(queue.id()));
        dirty.queues.iter().for_each(|queue| queue.dirty.store(true, SeqCst));
    }

    /// Makes durable what was written of these queues.
    pub(crate) fn sync(&self, queues: &[Arc<Queue>]) -> Result<(), StoreError> {
        if let Some(file_system) = self.context.file_system.as_ref().filter(|_| queues.len() > self.synced_singly) {
            // Before it: what is written meanwhile is none of this.
            queues.iter().for_each(|queue| queue.take_unsynced());
            return file_system.sync().at("sync", &self.root);
        }
        let mut left = queues.iter().filter(|queue| !queue.deleted.load(SeqCst));
        left.try_for_each(|queue| unless_deleted(queue, queue.sync()))
    }

    /// Makes durable what a former process left of all queues, which ended without doing so itself. After a clean stop
    /// there is nothing.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        if self.context.clean {
            return Ok(());
        }
        if let Some(file_system) = &self.context.file_system {
            return file_system.sync().at("sync", &self.root);
        }
        let queues = self.all();
        queues.iter().for_each(|queue| queue.distrust());
        self.sync(&queues)
    }

    fn shard(&self, topic: &str) -> &RwLock<Shard> {
        &self.shards[shard_of(topic)]
    }
}

/// Only spreads the locks: topics whose names end alike share one.
fn shard_of(topic: &str) -> usize {
    let end = topic.as_bytes().iter().rev().take(4);
    end.fold(topic.len(), |sum, byte| sum + usize::from(*byte)) % SHARDS
}

/// Queue ids mostly count from 0, so that an id is its place; no other queue is looked at then.
fn of_id(queues: &OfTopic, queue_id: i32) -> Option<&Arc<Queue>> {
    if let Some(queue) = queues.get(queue_id as usize).filter(|queue| queue.queue_id() == queue_id) {
        return Some(queue);
    }
    let place = queues.binary_search_by_key(&queue_id, |queue| queue.queue_id()).ok()?;
    Some(&queues[place])
}

/// The topic may have been deleted meanwhile, and its files with it.
fn unless_deleted(queue: &Queue, result: Result<(), StoreError>) -> Result<(), StoreError> {
    if queue.deleted.load(SeqCst) { Ok(()) } else { result }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    #[test]
    fn together_or_one_by_one_the_same_queues_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig { root: dir.path().to_path_buf(), ..StoreConfig::default() };
        let queues = Queues::load(&config, Arc::new(RealDisk), true).unwrap();
        for (topic, queue_id) in [("A", 0), ("A", 1), ("A", 7), ("A", i32::MAX), ("B", 3), ("B", -1), ("C", 0)] {
            queues.get_or_make(topic, queue_id);
        }
        let wanted = [("A", 7), ("B", 3), ("A", 0), ("D", 0), ("A", 2), ("B", -1), ("C", 0), ("A", i32::MAX), ("B", 0)];
        let found = queues.get_together(&wanted);
        let expected = [true, true, true, false, false, true, true, true, false];
        for ((found, (topic, queue_id)), is_there) in found.iter().zip(wanted).zip(expected) {
            let alone = queues.get(topic, queue_id);
            assert_eq!(alone.is_some(), is_there, "{topic} {queue_id}");
            assert_eq!(found.as_ref().map(|queue| queue.id()), alone.as_ref().map(|queue| queue.id()));
            let place = alone.map(|queue| (queue.topic().to_string(), queue.queue_id()));
            assert_eq!(place, is_there.then(|| (topic.to_owned(), queue_id)));
        }
        assert!(found[wanted.len()..].iter().all(Option::is_none));
    }
}
