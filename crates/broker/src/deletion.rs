//! Deletion of topics: at the master, where nothing that was checked before may be stored after it (F-33), and at a slave,
//! where the log may already hold messages of a topic of the same name that was made since (F-01).

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
};

use store::{StoreError, TopicDeletion};
use wire::{body::DataVersion, code::response, topic::LMQ_PREFIX};

use crate::{
    context::{Broker, now_ms},
    persist::{self, PersistError},
    sync::{self, SyncError},
};

/// Topics of which a round removes the queues. Each takes some ms of the disk's, and the rest of the round, consumer progress
/// above all, must not wait for thousands.
const MOST_AT_ONCE: usize = 64;

/// Why a topic is not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeletionError {
    /// Its queues.
    #[error("queues of topic {topic} are not removed: {source}; try again")]
    Store {
        /// Name.
        topic: String,
        /// Cause.
        source: StoreError,
    },
    /// `topics.json`.
    #[error(transparent)]
    Table(#[from] PersistError),
}

/// Removes a topic with its queues and progress. Queues first: a topic without messages after a crash is better than
/// messages that wait for a topic of their name.
pub fn delete(broker: &Broker, topic: &str) -> Result<(), DeletionError> {
    let alone = broker.topics.alone();
    let deletion = begin(broker, topic)?;
    broker.topics.remove(topic, now_ms());
    // Files take time; a topic that is made now begins behind what is hidden already.
    drop(alone);
    let finished = deletion.finish().map_err(|source| failed(topic, source));
    broker.topics.save()?;
    finished
}

/// Removes queues and progress of a name, if it is still not in the table once no message is on its way.
pub fn delete_unless_known(broker: &Broker, topic: &str) -> Result<(), DeletionError> {
    let alone = broker.topics.alone();
    if broker.topics.get(topic).is_some() {
        return Ok(());
    }
    let deletion = begin(broker, topic)?;
    drop(alone);
    deletion.finish().map_err(|source| failed(topic, source))
}

/// A table of the master's, and where its log ended while the table was so: what came before of other topics is deleted.
pub struct Known {
    topics: HashSet<String>,
    end: i64,
    /// Deleted, whether they were made again or not, and the end of the log at that time. Only a Tandem master tells.
    deleted: BTreeMap<String, i64>,
}

/// The master's tables that this log has not yet reached. A topic that is made again meanwhile is in the next one, and
/// nothing but the former tells that its old messages are gone.
#[derive(Default)]
pub struct Absent {
    version: Option<DataVersion>,
    tables: VecDeque<Arc<Known>>,
}

impl Absent {
    /// Tables that are kept for a slave that is far behind: the oldest ones, which it reaches first, and the newest.
    const MOST: usize = 16;

    fn add(&mut self, version: DataVersion, mut known: Known) {
        self.version = Some(version);
        self.tables.truncate(Self::MOST - 1);
        // The master tells all of them each time, as long as its log has messages of them; an earlier table has its turn before.
        let tables = &self.tables;
        known.deleted.retain(|topic, end| !tables.iter().any(|earlier| earlier.deleted.get(topic) == Some(end)));
        self.tables.push_back(Arc::new(known));
    }

    fn reached(&self, end: i64) -> Option<Arc<Known>> {
        self.tables.front().filter(|known| known.end <= end).cloned()
    }

    fn settled(&mut self, known: &Arc<Known>) {
        self.tables.retain(|other| !Arc::ptr_eq(other, known));
    }
}

/// At a slave: queues that the master deleted go here too, [`MOST_AT_ONCE`] topics a round, and where there are more the next
/// round begins at once. What was deleted is in no table of the master's, neither before its log had an end nor after, has no
/// message there, and lies before that end.
pub async fn follow(broker: &Broker, addr: &str, version: &DataVersion) -> Result<(), SyncError> {
    if broker.sync.absent(|absent| absent.version != Some(*version)) {
        let before = broker.topics.names();
        let (log, deleted) = sync::log_and_deleted(broker, addr).await?;
        let end = log.map_or(broker.store.max_phys(), |log| log.end);
        let after = broker.api.get_all_topic_config(addr).await?;
        let topics = before.into_iter().chain(after.topic_config_table.into_keys()).collect();
        broker.sync.absent(|absent| absent.add(*version, Known { topics, end, deleted }));
    }
    broker.dispatch();
    let dispatched = broker.store.marks().dispatched.get();
    let mut left = MOST_AT_ONCE;
    while let Some(known) = broker.sync.absent(|absent| absent.reached(dispatched)) {
        remove_deleted(broker, &known, &mut left)?;
        remove_absent(broker, addr, &known, &mut left).await?;
        if left == 0 {
            broker.sync.go_on();
            return Ok(());
        }
        broker.sync.absent(|absent| absent.settled(&known));
    }
    Ok(())
}

/// Queues of topics that were deleted and made again between two looks at the table: what is in them is old where nothing came
/// for them since.
fn remove_deleted(broker: &Broker, known: &Known, left: &mut usize) -> Result<(), SyncError> {
    let store = &broker.store;
    let stored: HashSet<_> = store.queues().into_iter().map(|(topic, _)| topic).collect();
    let min = store.min_phys();
    let is_news = |topic: &str, end| end > min && stored.contains(topic) && !store.was_deleted_after(topic, end - 1);
    for (topic, end) in known.deleted.iter().filter(|(topic, end)| is_news(topic, **end)) {
        if !take(left) {
            return Ok(());
        }
        tracing::info!("topic {topic} was deleted at the master, its queues of that time go here too");
        persist::apart(|| store.delete_topic_before(topic, *end)).map_err(|source| failed(topic, source))?;
    }
    Ok(())
}

async fn remove_absent(broker: &Broker, addr: &str, known: &Known, left: &mut usize) -> Result<(), SyncError> {
    let mut stored: BTreeMap<Arc<str>, Vec<i32>> = BTreeMap::new();
    for (topic, queue_id) in broker.store.queues() {
        stored.entry(topic).or_default().push(queue_id);
    }
    let wanted = |topic: &str| known.topics.contains(topic) || is_kept(broker, topic);
    for (topic, queues) in stored.into_iter().filter(|(topic, _)| !wanted(topic)) {
        if !broker.store.has_topic_before(&topic, known.end)? {
            // Made since; a later table tells whether it is gone.
            continue;
        }
        if master_has(broker, addr, &topic, &queues).await? {
            if broker.topics.get(&topic).is_none() {
                tracing::warn!(
                    "topic {topic} is not configured at the master, which has messages of it: they stay here too"
                );
            }
            continue;
        }
        if !take(left) {
            return Ok(());
        }
        tracing::info!("topic {topic} is deleted at the master, its queues go here too");
        broker.timers.remove_topic(&topic);
        persist::apart(|| broker.store.delete_topic_before(&topic, known.end))
            .map_err(|source| failed(&topic, source))?;
    }
    Ok(())
}

/// One more; false when there were enough.
fn take(left: &mut usize) -> bool {
    let is_some = *left > 0;
    *left -= usize::from(is_some);
    is_some
}

/// Names whose queues need no entry in the table.
pub fn is_kept(broker: &Broker, topic: &str) -> bool {
    broker.topics.is_system(topic) || topic.starts_with(LMQ_PREFIX)
}

/// True for a topic that was deleted after the message at `physical` came for it: what waited for a time is not delivered to
/// it, or its queue would come back without a topic. If somebody has made it again it is another one. Called with the topics
/// in use.
///
/// A topic that is merely not configured here, as at a slave that was promoted before it heard of it, or one that a Java
/// broker deleted, gets its messages; that is said once.
pub fn is_gone(broker: &Broker, topic: &str, physical: i64) -> bool {
    if is_kept(broker, topic) {
        return false;
    }
    let is_gone = broker.store.was_deleted_after(topic, physical);
    if !is_gone && broker.topics.get(topic).is_none() && broker.topics.miss(topic) {
        tracing::warn!(
            "topic {topic} is not configured here, and messages that waited for their time are stored in its queues: configure it, or delete it to remove them"
        );
    }
    is_gone
}

async fn master_has(broker: &Broker, addr: &str, topic: &str, queues: &[i32]) -> Result<bool, SyncError> {
    for queue_id in queues {
        match broker.api.max_offset(addr, topic, *queue_id).await {
            Ok(end) if end > 0 => return Ok(true),
            Ok(_) => {}
            // Any other refusal says nothing of what it has.
            Err(error) if error.code() == Some(response::TOPIC_NOT_EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn begin<'a>(broker: &'a Broker, topic: &'a str) -> Result<TopicDeletion<'a>, DeletionError> {
    let deletion = broker.store.begin_deletion(topic).map_err(|source| failed(topic, source))?;
    broker.offsets.remove_topic(topic, now_ms());
    broker.timers.remove_topic(topic);
    broker.stats.forget_topic(topic);
    Ok(deletion)
}

fn failed(topic: &str, source: StoreError) -> DeletionError {
    DeletionError::Store { topic: topic.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{BrokerConfig, BrokerRole},
        sync::SyncState,
    };

    /// Another master need not have deleted what its predecessor did.
    #[test]
    fn what_a_former_master_deleted_is_forgotten() {
        let sync = SyncState::default();
        let slave = || Arc::new(BrokerConfig { broker_role: BrokerRole::Slave, ..BrokerConfig::default() });
        let learn = |addr: &str| sync.learned(slave, Some(addr.to_owned()), None);
        let known = || Known { topics: HashSet::new(), end: 100, deleted: BTreeMap::new() };
        let is_there = || sync.absent(|absent| absent.version.is_some() && absent.reached(100).is_some());
        learn("10.0.0.1:10911");
        sync.absent(|absent| absent.add(DataVersion::default(), known()));
        learn("10.0.0.1:10911");
        assert!(is_there(), "the same one");
        learn("10.0.0.2:10911");
        assert!(!is_there());
        assert!(sync.absent(|absent| absent.version.is_none()), "the next table counts, whatever its version");
    }
}
