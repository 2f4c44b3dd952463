//! Topic configuration: the table, its version, `topics.json`. Source: `broker/.../topic/TopicConfigManager.java`;
//! reference broker 1.3. Talks to no peer: who changes a topic announces it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use wire::{
    body::{DataVersion, TopicConfig, TopicConfigAndMappingSerializeWrapper as Wrapper},
    json::{self, Out, ToJson},
    topic::{self, perm},
};

use crate::{
    config::BrokerConfig,
    persist::{self, PersistError},
    table::{Members, Table, TableFile},
};

/// Missing topics that are told of.
const MOST_MISSED: usize = 1000;

/// The topics of this broker.
pub struct Topics {
    state: RwLock<State>,
    /// `topics.json`.
    file: Mutex<TableFile>,
    /// Held shared from the look at a topic to the append of its message, and alone by a deletion.
    in_use: RwLock<()>,
    /// The same of those who read the log meanwhile.
    in_slow_use: RwLock<()>,
    /// Names of [`Topics::miss`].
    missed: Mutex<BTreeSet<String>>,
    /// Every topic `%LMQ%…` is there, and none is stored (`enableLmq`).
    lmq: bool,
}

/// No message is on its way while it is held.
pub struct Alone<'a> {
    _in_use: RwLockWriteGuard<'a, ()>,
    _in_slow_use: RwLockWriteGuard<'a, ()>,
}

#[derive(Default)]
struct State {
    table: Table<TopicConfig>,
    version: DataVersion,
    /// Names that clients may not change: system topics and this broker's own.
    system: Vec<String>,
    /// Parts of `topics.json` and of the sync answer that this broker only carries.
    carried: Wrapper,
}

impl State {
    /// Adds what is missing of the system topics of a configuration; false when that is nothing.
    fn complete(&mut self, config: &BrokerConfig) -> bool {
        let mut changed = false;
        for topic in system_topics(config) {
            let name = topic.topic_name.clone();
            if !self.system.contains(&name) {
                self.system.push(name.clone());
            }
            changed |= self.table.put_new(&name, topic);
        }
        changed
    }
}

impl Topics {
    /// Loads `topics.json` over the system topics of this configuration.
    pub fn load(config: &BrokerConfig, file: PathBuf) -> Result<Self, PersistError> {
        let mut state = State::default();
        state.complete(config);
        if let Some(stored) = persist::load::<Wrapper>(&file)? {
            for (name, topic) in &stored.topic_config_table {
                warn_of_compaction(topic);
                state.table.put(name, topic.clone());
            }
            state.version = stored.data_version;
            state.carried = Wrapper { topic_config_table: BTreeMap::new(), ..stored };
        }
        Ok(Self {
            state: RwLock::new(state),
            file: Mutex::new(TableFile::new(file)),
            in_use: RwLock::default(),
            in_slow_use: RwLock::default(),
            missed: Mutex::default(),
            lmq: config.enable_lmq,
        })
    }

    /// One topic.
    pub fn get(&self, name: &str) -> Option<Arc<TopicConfig>> {
        if self.is_light(name) {
            let (topic_name, queues) = (name.to_owned(), 1);
            return Some(Arc::new(TopicConfig {
                topic_name,
                read_queue_nums: queues,
                write_queue_nums: queues,
                perm: perm::READ_WRITE,
                ..TopicConfig::default()
            }));
        }
        self.state.read().table.get(name).cloned()
    }

    /// True for a light queue, which needs no entry. Source: `LmqTopicConfigManager.java`.
    fn is_light(&self, name: &str) -> bool {
        self.lmq && name.starts_with(topic::LMQ_PREFIX)
    }

    /// True for system topics, this broker's and its cluster's names among them.
    pub fn is_system(&self, name: &str) -> bool {
        topic::is_system(name) || self.state.read().system.iter().any(|system| system == name)
    }

    /// Names of the system topics.
    pub fn system_names(&self) -> Vec<String> {
        self.state.read().system.clone()
    }

    /// The version of the table.
    pub fn version(&self) -> DataVersion {
        self.state.read().version
    }

    /// All names.
    pub fn names(&self) -> Vec<String> {
        self.state.read().table.names().cloned().collect()
    }

    /// Table and version at one moment, as peers and `topics.json` have it.
    pub fn snapshot(&self) -> Wrapper {
        let state = self.state.read();
        Wrapper {
            topic_config_table: state.table.iter().map(|(k, v)| (k.clone(), (**v).clone())).collect(),
            data_version: state.version,
            ..state.carried.clone()
        }
    }

    /// Puts one topic and raises the version; false when nothing changed. It is in the file in either case: who put the same
    /// before may not have got so far.
    pub fn put(&self, topic: TopicConfig, now_ms: i64) -> Result<bool, PersistError> {
        if self.is_light(&topic.topic_name) {
            return Ok(false);
        }
        self.put_all(vec![topic], now_ms).map(|changed| changed > 0)
    }

    /// While it is held no topic is deleted: whoever stores a message takes it before the topic is looked up. Not to be
    /// taken twice.
    pub fn in_use(&self) -> RwLockReadGuard<'_, ()> {
        self.in_use.try_read().unwrap_or_else(|| persist::apart(|| self.in_use.read()))
    }

    /// The same for messages that are read of the log first. A deletion that waits for the disk to give them holds up no others.
    pub fn in_slow_use(&self) -> RwLockReadGuard<'_, ()> {
        self.in_slow_use.try_read().unwrap_or_else(|| persist::apart(|| self.in_slow_use.read()))
    }

    /// Waits until the messages that are on their way are in the log, and lets no other on its way.
    pub fn alone(&self) -> Alone<'_> {
        // In this order: who comes while the slow ones are waited for goes on.
        let _in_slow_use = self.in_slow_use.write();
        Alone { _in_use: self.in_use.write(), _in_slow_use }
    }

    /// Notes that a message came for a topic that is not configured; true when that is to be told.
    pub fn miss(&self, name: &str) -> bool {
        let mut missed = self.missed.lock();
        missed.len() < MOST_MISSED && missed.insert(name.to_owned())
    }

    /// Removes one topic; false when it was not there. It is in the file until the table is saved.
    pub fn remove(&self, name: &str, now_ms: i64) -> bool {
        let mut state = self.state.write();
        let removed = state.table.remove(name);
        if removed {
            state.version.next(now_ms);
        }
        removed
    }

    /// Raises the version without a change, so that peers look again.
    pub fn touch(&self, now_ms: i64) -> Result<(), PersistError> {
        self.state.write().version.next(now_ms);
        self.save()
    }

    /// At a promotion: the system topics of this configuration that the old master had not, as one of an older version has, are
    /// there from now on. Raises the version in any case, so that peers look again.
    pub fn lead(&self, config: &BrokerConfig, now_ms: i64) -> Result<(), PersistError> {
        let mut state = self.state.write();
        state.complete(config);
        state.version.next(now_ms);
        drop(state);
        self.save()
    }

    /// After a change of the configuration: the system topics that it asks for and that are missing are there from now on. False
    /// when none was.
    pub fn complete(&self, config: &BrokerConfig, now_ms: i64) -> Result<bool, PersistError> {
        let mut state = self.state.write();
        if !state.complete(config) {
            return Ok(false);
        }
        state.version.next(now_ms);
        drop(state);
        self.save().map(|()| true)
    }

    /// Creates a topic on first send after the template `template`, when that allows it.
    pub fn create_from(
        &self,
        name: &str,
        template: &str,
        queues: i32,
        sys_flag: i32,
        now_ms: i64,
        auto: bool,
    ) -> Option<Arc<TopicConfig>> {
        let template_config = self.get(template)?;
        let mut inherited = template_config.perm;
        if template == topic::AUTO_CREATE && !auto {
            inherited = perm::READ_WRITE;
        }
        if inherited & perm::INHERIT == 0 {
            return None;
        }
        // Who asks for none asks for a topic that nobody can use: upstream makes it.
        let queues =
            if queues > 0 { queues.min(template_config.write_queue_nums) } else { template_config.write_queue_nums };
        let topic = TopicConfig {
            topic_name: name.to_owned(),
            read_queue_nums: queues,
            write_queue_nums: queues,
            perm: inherited & !perm::INHERIT,
            topic_filter_type: template_config.topic_filter_type,
            topic_sys_flag: sys_flag,
            ..TopicConfig::default()
        };
        self.create(topic, now_ms)
    }

    /// Creates an internal topic (retry, dead letter) with `queues` queues, or answers the one that is there.
    pub fn create_internal(
        &self,
        name: &str,
        queues: i32,
        sys_flag: i32,
        now_ms: i64,
    ) -> Option<(Arc<TopicConfig>, bool)> {
        if let Some(topic) = self.get(name) {
            return Some((topic, false));
        }
        let topic = TopicConfig {
            topic_name: name.to_owned(),
            read_queue_nums: queues,
            write_queue_nums: queues,
            perm: perm::READ_WRITE,
            topic_sys_flag: sys_flag,
            ..TopicConfig::default()
        };
        self.create(topic, now_ms).map(|topic| (topic, true))
    }

    fn create(&self, topic: TopicConfig, now_ms: i64) -> Option<Arc<TopicConfig>> {
        let name = topic.topic_name.clone();
        let mut state = self.state.write();
        // In one go: an operator may just be putting another one of that name.
        if !state.table.put_new(&name, topic) {
            return state.table.get(&name).cloned();
        }
        state.version.next(now_ms);
        drop(state);
        if let Err(error) = self.save() {
            tracing::error!("topic {name} is not created: {error}");
            return None;
        }
        self.get(&name)
    }

    /// Takes a master's table as differences: names absent there go, others are put, its version is kept (W-23). An equal
    /// version proves nothing: a Java 5.5.0 slave that becomes master adds system topics under the version that it has.
    /// What is in the file is not written again (F-34).
    pub fn adopt(&self, mut master: Wrapper) -> Adopted {
        let mut batch_queues = false;
        let topics = std::mem::take(&mut master.topic_config_table);
        let mut state = self.state.write();
        state.table.keep(&topics);
        for (name, topic) in topics {
            if state.table.get(&name).is_none_or(|old| **old != topic) {
                batch_queues |= has_batch_queues(&topic);
                warn_of_compaction(&topic);
                state.table.put(&name, topic);
            }
        }
        state.version = master.data_version;
        state.carried = master;
        drop(state);
        Adopted { batch_queues, saved: self.save() }
    }

    /// The same of several, which are written once; answers how many changed.
    pub fn put_all(&self, topics: Vec<TopicConfig>, now_ms: i64) -> Result<usize, PersistError> {
        let mut changed = 0;
        {
            let mut state = self.state.write();
            for topic in topics.into_iter().filter(|topic| !self.is_light(&topic.topic_name)) {
                if state.table.put(&topic.topic_name, topic.clone()) {
                    warn_of_compaction(&topic);
                    state.version.next(now_ms);
                    changed += 1;
                }
            }
        }
        self.save().map(|()| changed)
    }

    /// Topics that a name server has in its ordered-topic configuration are ordered from now on.
    /// Source: `TopicConfigManager.java` (updateOrderTopicConfig).
    pub fn set_ordered<'a>(&self, names: impl Iterator<Item = &'a String>, now_ms: i64) -> Result<(), PersistError> {
        let mut state = self.state.write();
        let mut changed = false;
        for name in names {
            let Some(topic) = state.table.get(name).filter(|topic| !topic.order) else { continue };
            let topic = TopicConfig { order: true, ..(**topic).clone() };
            tracing::info!("topic {name} is ordered now, as a name server says (ORDER_TOPIC_CONFIG)");
            changed |= state.table.put(name, topic);
        }
        if changed {
            state.version.next(now_ms);
        }
        drop(state);
        self.save()
    }

    /// How a static topic's queues are mapped; carried for peers.
    pub fn mapping_detail(&self, name: &str) -> Option<wire::json::Json> {
        self.state.read().carried.topic_queue_mapping_detail_map.get(name).cloned()
    }

    /// Writes `topics.json`, unless it has all already.
    pub fn save(&self) -> Result<(), PersistError> {
        persist::apart(|| {
            let mut file = self.file.lock();
            let (news, version) = {
                let mut state = self.state.write();
                (state.table.news(), state.version)
            };
            file.save(news, version, |topics| json::pretty(&Stored { version, topics })).map(drop)
        })
    }
}

/// `topics.json`, as [`wire::body::TopicConfigSerializeWrapper`] is written.
struct Stored<'a> {
    version: DataVersion,
    topics: &'a Members,
}

impl ToJson for Stored<'_> {
    fn write_json(&self, out: &mut Out) {
        out.begin_object();
        out.text_key("dataVersion");
        self.version.write_json(out);
        out.text_key("topicConfigTable");
        self.topics.write_json(out);
        out.end_object();
    }
}

/// What [`Topics::adopt`] changed.
#[derive(Debug)]
pub struct Adopted {
    /// A topic with batch queues is new or changed.
    pub batch_queues: bool,
    /// Whether the file has it, too; else the next call tries it again.
    pub saved: Result<(), PersistError>,
}

/// True when the attribute `queue.type` says BatchCQ. Source: `QueueTypeUtils.java`.
pub fn has_batch_queues(topic: &TopicConfig) -> bool {
    topic.attributes.get("queue.type").is_some_and(|kind| kind == "BatchCQ")
}

/// True when the attribute `cleanup.policy` says COMPACTION. Source: `CleanupPolicyUtils.java`.
pub fn is_compacted(topic: &TopicConfig) -> bool {
    topic.attributes.get("cleanup.policy").is_some_and(|policy| policy == "COMPACTION")
}

/// Called when the topic comes into the table.
fn warn_of_compaction(topic: &TopicConfig) {
    if is_compacted(topic) {
        let name = &topic.topic_name;
        tracing::warn!(
            "topic {name} has cleanup.policy=COMPACTION: it is served uncompacted, consumers get every message of a key"
        );
    }
}

/// Topics that every broker has. Source: the constructor of `TopicConfigManager.java`.
fn system_topics(config: &BrokerConfig) -> Vec<TopicConfig> {
    let with = |enabled| if enabled { perm::INHERIT | perm::READ_WRITE } else { perm::INHERIT };
    let cluster = &config.broker_cluster_name;
    let broker = &config.broker_name;
    let rw = perm::READ_WRITE;
    let mut all = vec![
        (topic::SELF_TEST.to_owned(), 1, rw),
        (topic::BENCHMARK.to_owned(), 1024, rw),
        (cluster.clone(), 16, with(config.cluster_topic_enable)),
        (broker.clone(), 1, with(config.broker_topic_enable)),
        (topic::OFFSET_MOVED.to_owned(), 1, rw),
        (topic::SCHEDULE.to_owned(), 18, rw),
        (format!("{cluster}_REPLY_TOPIC"), 1, rw),
        (format!("rmq_sys_REVIVE_LOG_{cluster}"), config.revive_queue_num, rw),
        (format!("{}{broker}", topic::SYNC_MEMBER_PREFIX), 1, perm::INHERIT),
        (topic::TRANS_HALF.to_owned(), 1, rw),
        (topic::TRANS_OP_HALF.to_owned(), 1, rw),
    ];
    if config.auto_create_topic_enable {
        all.push((topic::AUTO_CREATE.to_owned(), config.default_topic_queue_nums, perm::INHERIT | rw));
    }
    if config.trace_topic_enable {
        all.push((config.msg_trace_topic_name.clone(), 1, rw));
    }
    if config.timer_wheel_enable {
        all.push((topic::TIMER.to_owned(), 1, rw));
    }
    let to_config = |(topic_name, queues, perm)| TopicConfig {
        topic_name,
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm,
        ..TopicConfig::default()
    };
    all.into_iter().map(to_config).collect()
}

#[cfg(test)]
mod tests {
    use parking_lot::RwLockUpgradableReadGuard;

    use super::*;

    #[test]
    fn a_topic_that_could_not_be_written_is_no_success_the_second_time() {
        let dir = tempfile::tempdir().unwrap();
        let (file, aside) = (dir.path().join("topics.json"), dir.path().join("topics.json.tmp"));
        let load = || Topics::load(&BrokerConfig::default(), file.clone()).unwrap();
        let topic = TopicConfig { topic_name: "T".into(), ..TopicConfig::default() };
        let topics = load();
        std::fs::create_dir(&aside).unwrap();
        for _ in 0..2 {
            topics.put(topic.clone(), 1).unwrap_err();
            topics.put_all(vec![topic.clone()], 1).unwrap_err();
        }
        std::fs::remove_dir(&aside).unwrap();
        assert!(!topics.put(topic, 1).unwrap(), "nothing changed");
        assert!(load().get("T").is_some(), "it is in the file now");
        std::fs::create_dir(&aside).unwrap();
        assert!(topics.remove("T", 2));
        (0..2).for_each(|_| drop(topics.save().unwrap_err()));
        std::fs::remove_dir(&aside).unwrap();
        assert!(!topics.remove("T", 2), "it was gone already");
        topics.save().unwrap();
        assert!(load().get("T").is_none(), "from the file, too");
    }

    /// The template says how many there may be.
    #[test]
    fn a_topic_that_is_created_by_use_has_queues() {
        let dir = tempfile::tempdir().unwrap();
        let topics = Topics::load(&BrokerConfig::default(), dir.path().join("topics.json")).unwrap();
        for (name, asked, made) in [("four", 4, 4), ("many", 100, 8), ("none", 0, 8), ("less", -1, 8)] {
            let topic = topics.create_from(name, topic::AUTO_CREATE, asked, 0, 1, true).unwrap();
            assert_eq!((topic.read_queue_nums, topic.write_queue_nums), (made, made), "{name}");
        }
    }

    #[test]
    fn who_creates_a_topic_by_use_replaces_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let topics = Topics::load(&BrokerConfig::default(), dir.path().join("topics.json")).unwrap();
        for round in 0..20 {
            let name = format!("N{round}");
            std::thread::scope(|scope| {
                let looking = topics.state.upgradable_read();
                scope.spawn(|| topics.create_internal(&name, 1, 0, 1));
                // By then it has found none, and waits to put its own.
                (0..1000).for_each(|_| std::thread::yield_now());
                let mut operator = RwLockUpgradableReadGuard::upgrade(looking);
                operator
                    .table
                    .put(&name, TopicConfig { topic_name: name.clone(), read_queue_nums: 3, ..TopicConfig::default() });
            });
            assert_eq!(topics.get(&name).unwrap().read_queue_nums, 3);
        }
    }

    #[test]
    fn a_masters_table_is_taken_whatever_its_version_and_a_promotion_adds_system_topics_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let (file, config) = (dir.path().join("topics.json"), BrokerConfig::default());
        let topics = Topics::load(&config, file.clone()).unwrap();
        let mut master = topics.snapshot();
        let new = TopicConfig { topic_name: "RMQ_SYS_NEW".into(), ..TopicConfig::default() };
        assert!(master.topic_config_table.remove(topic::SCHEDULE).is_some());
        master.topic_config_table.insert("RMQ_SYS_NEW".into(), new);
        topics.adopt(master.clone()).saved.unwrap();
        assert_eq!(topics.snapshot(), master);
        topics.lead(&config, 1).unwrap();
        let all = Topics::load(&config, file).unwrap();
        assert!(all.get("RMQ_SYS_NEW").is_some() && topics.get(topic::SCHEDULE).is_some());
        assert!(all.snapshot() == topics.snapshot() && topics.version() != master.data_version);
    }

    #[test]
    fn a_masters_table_that_could_not_be_written_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let (file, aside) = (dir.path().join("topics.json"), dir.path().join("topics.json.tmp"));
        let load = || Topics::load(&BrokerConfig::default(), file.clone()).unwrap();
        let topics = load();
        let topic = TopicConfig { topic_name: "T".into(), ..TopicConfig::default() };
        let master = || Wrapper {
            topic_config_table: BTreeMap::from([("T".to_owned(), topic.clone())]),
            data_version: DataVersion { counter: 7, ..DataVersion::default() },
            ..Wrapper::default()
        };
        std::fs::create_dir(&aside).unwrap();
        (0..2).for_each(|_| drop(topics.adopt(master()).saved.unwrap_err()));
        std::fs::remove_dir(&aside).unwrap();
        topics.adopt(master()).saved.unwrap();
        assert!(load().get("T").is_some(), "it is in the file now");
        std::fs::create_dir(&aside).unwrap();
        let ordered = "T".to_owned();
        (0..2).for_each(|_| drop(topics.set_ordered([&ordered].into_iter(), 1).unwrap_err()));
        std::fs::remove_dir(&aside).unwrap();
        topics.set_ordered([&ordered].into_iter(), 1).unwrap();
        assert!(load().get("T").unwrap().order, "and that, too");
    }
}
