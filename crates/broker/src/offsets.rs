//! Consumer progress: the table, its version, `consumerOffset.json` (with `enableLmq`: `lmqConsumerOffset.json`),
//! pending resets; on a slave, what consumers committed to it and its master does not know yet (`slaveOffset.json`).
//! Source: `broker/.../offset/ConsumerOffsetManager.java`; reference broker 5. Checks no topic and no group.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use wire::{
    body::{ConsumerOffsetSerializeWrapper as Wrapper, DataVersion},
    topic::{LMQ_PREFIX, LMQ_QUEUE_ID},
};

use crate::persist::{self, PersistError};

/// Progress of every group on this broker.
pub struct Offsets {
    state: RwLock<State>,
    file: PathBuf,
    own_file: PathBuf,
    /// Changes of both tables that are in their files.
    saving: Mutex<(u64, u64)>,
    version_step: i64,
    /// Groups of light queues have a table of their own in files and answers.
    lmq: bool,
}

/// Progress by queue.
type Queues = BTreeMap<i32, i64>;

#[derive(Default)]
struct State {
    /// Shared with whoever copies all of it, so that this takes no longer than it has to: commits wait meanwhile.
    table: HashMap<String, Arc<Queues>>,
    resets: HashMap<String, Queues>,
    /// Committed at this slave and not known to the master; part of `table` too.
    own: HashMap<String, Queues>,
    own_changes: u64,
    /// It counts itself, and no master's.
    leads: bool,
    pulled: HashMap<String, Queues>,
    version: DataVersion,
    commits: i64,
    /// Counts changes, to write only what changed.
    changes: u64,
}

/// Progress of one queue that a slave knows and its master does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Topic.
    pub topic: String,
    /// Group.
    pub group: String,
    /// Queue id.
    pub queue_id: i32,
    /// Queue offset of the next message.
    pub offset: i64,
}

fn key(topic: &str, group: &str) -> String {
    format!("{topic}@{group}")
}

/// True for an entry of a group of light queues.
fn is_light(key: &str) -> bool {
    key.split_once('@').is_some_and(|(_, group)| group.starts_with(LMQ_PREFIX))
}

/// Names of topic and group of each entry; keys with more than one `@` belong to upstream's broadcast progress.
fn pairs(table: &HashMap<String, Arc<Queues>>) -> impl Iterator<Item = (&str, &str)> {
    table.keys().filter_map(|key| key.split_once('@')).filter(|(_, group)| !group.contains('@'))
}

/// Both tables of a file or an answer as one.
fn one_table(stored: Wrapper) -> HashMap<String, Arc<Queues>> {
    let light = stored.lmq_offset_table.unwrap_or_default();
    let light = light.into_iter().map(|(key, offset)| (key, BTreeMap::from([(LMQ_QUEUE_ID, offset)])));
    stored.offset_table.into_iter().chain(light).map(|(key, queues)| (key, Arc::new(queues))).collect()
}

impl Offsets {
    /// Loads the file for `lmq` (`enableLmq`) from a directory. Java begins without progress when the key changes; here
    /// the other file counts until this one is written.
    pub fn load(dir: &Path, lmq: bool, version_step: i64) -> Result<Self, PersistError> {
        let (plain, light) = (dir.join("consumerOffset.json"), dir.join("lmqConsumerOffset.json"));
        let (file, other) = if lmq { (light, plain) } else { (plain, light) };
        let mut state = State::default();
        let stored = match persist::load::<Wrapper>(&file)? {
            None => persist::load::<Wrapper>(&other)?.inspect(|_| {
                tracing::warn!("{} is not there: consumer progress is taken from {}", file.display(), other.display());
            }),
            stored => stored,
        };
        if let Some(stored) = stored {
            state.version = stored.data_version;
            state.table = one_table(stored);
        }
        let own_file = dir.join("slaveOffset.json");
        if let Some(own) = persist::load::<Wrapper>(&own_file)? {
            state.own = own.offset_table.into_iter().collect();
        }
        let saving = Mutex::default();
        Ok(Self { state: RwLock::new(state), file, own_file, saving, version_step: version_step.max(1), lmq })
    }

    /// Stored progress of one queue.
    pub fn get(&self, topic: &str, group: &str, queue_id: i32) -> Option<i64> {
        let state = self.state.read();
        state.table.get(&key(topic, group)).and_then(|queues| queues.get(&queue_id)).copied()
    }

    /// Progress of all queues of a topic.
    pub fn queues(&self, topic: &str, group: &str) -> BTreeMap<i32, i64> {
        self.state.read().table.get(&key(topic, group)).map(|queues| (**queues).clone()).unwrap_or_default()
    }

    /// Stores progress; it may go back.
    pub fn commit(&self, topic: &str, group: &str, queue_id: i32, offset: i64, now_ms: i64) {
        self.state.write().put(key(topic, group), queue_id, offset, now_ms, self.version_step);
    }

    /// Stores what a consumer committed, unless it has still to hear that an operator has moved it: it stands where it was before.
    pub fn commit_unless_reset(&self, topic: &str, group: &str, queue_id: i32, offset: i64, now_ms: i64) {
        let key = key(topic, group);
        let mut state = self.state.write();
        if state.pending_reset(&key, queue_id).is_none() {
            state.put(key, queue_id, offset, now_ms, self.version_step);
        }
    }

    /// Stores what a consumer committed at a slave: the master hears of it when it answers. The version stays the master's.
    /// False, and nothing stored, once this broker leads.
    pub fn commit_at_slave(&self, topic: &str, group: &str, queue_id: i32, offset: i64) -> bool {
        let mut state = self.state.write();
        if state.leads {
            return false;
        }
        let key = key(topic, group);
        if Arc::make_mut(state.table.entry(key.clone()).or_default()).insert(queue_id, offset) != Some(offset) {
            state.changes += 1;
            state.own.entry(key).or_default().insert(queue_id, offset);
            state.own_changes += 1;
        }
        true
    }

    /// What consumers committed at this slave and its master does not know.
    pub fn own(&self) -> Vec<Own> {
        let state = self.state.read();
        let split = |key: &String| key.split_once('@').map(|(topic, group)| (topic.to_owned(), group.to_owned()));
        let mut all = Vec::new();
        for (key, queues) in &state.own {
            let Some((topic, group)) = split(key) else { continue };
            let own = |(queue_id, offset): (&i32, &i64)| Own {
                topic: topic.clone(),
                group: group.clone(),
                queue_id: *queue_id,
                offset: *offset,
            };
            all.extend(queues.iter().map(own));
        }
        all
    }

    /// The master knows it, or knows better, unless more was committed meanwhile.
    pub fn told(&self, own: &Own) {
        let mut state = self.state.write();
        let key = key(&own.topic, &own.group);
        let Some(queues) = state.own.get_mut(&key) else { return };
        if queues.get(&own.queue_id) == Some(&own.offset) {
            queues.remove(&own.queue_id);
            if queues.is_empty() {
                state.own.remove(&key);
            }
            state.own_changes += 1;
        }
    }

    /// This broker becomes a master: its table is what counts from now on.
    pub fn lead(&self) {
        let mut state = self.state.write();
        state.own_changes += u64::from(!state.own.is_empty());
        state.own.clear();
        state.leads = true;
    }

    /// This broker becomes a slave.
    pub fn follow(&self) {
        self.state.write().leads = false;
    }

    /// Sets progress back or forth by an operator: until the consumer has heard it, its commits are ignored.
    pub fn reset(&self, topic: &str, group: &str, queue_id: i32, offset: i64, now_ms: i64) {
        let mut state = self.state.write();
        let key = key(topic, group);
        state.resets.entry(key.clone()).or_default().insert(queue_id, offset);
        state.pulled.remove(&key);
        // Peers that compare versions must see a move backwards.
        state.version.next(now_ms);
        state.put(key, queue_id, offset, now_ms, self.version_step);
    }

    /// The pending reset of a queue.
    pub fn pending_reset(&self, topic: &str, group: &str, queue_id: i32) -> Option<i64> {
        let state = self.state.read();
        if state.resets.is_empty() {
            return None;
        }
        state.pending_reset(&key(topic, group), queue_id)
    }

    /// Takes the pending reset of a queue: the consumer is being told.
    pub fn take_reset(&self, topic: &str, group: &str, queue_id: i32) -> Option<i64> {
        self.pending_reset(topic, group, queue_id)?;
        let key = key(topic, group);
        let mut state = self.state.write();
        let queues = state.resets.get_mut(&key)?;
        let reset = queues.remove(&queue_id);
        if queues.is_empty() {
            state.resets.remove(&key);
        }
        reset
    }

    /// This broker is a slave now: the table has what was reset, and what the master says since is what counts.
    pub fn forget_resets(&self) {
        let mut state = self.state.write();
        state.resets.clear();
        state.pulled.clear();
    }

    /// Remembers where a group pulls.
    pub fn pulled(&self, topic: &str, group: &str, queue_id: i32, offset: i64) {
        self.state.write().pulled.entry(key(topic, group)).or_default().insert(queue_id, offset);
    }

    /// Where a group pulled last.
    pub fn pull_offset(&self, topic: &str, group: &str, queue_id: i32) -> Option<i64> {
        let state = self.state.read();
        state.pulled.get(&key(topic, group)).and_then(|queues| queues.get(&queue_id)).copied()
    }

    /// Topics on which a group has progress.
    pub fn topics_of(&self, group: &str) -> Vec<String> {
        let state = self.state.read();
        pairs(&state.table).filter(|(_, g)| *g == group).map(|(topic, _)| topic.to_owned()).collect()
    }

    /// Groups that have progress on a topic.
    pub fn groups_of(&self, topic: &str) -> Vec<String> {
        let state = self.state.read();
        pairs(&state.table).filter(|(t, _)| *t == topic).map(|(_, group)| group.to_owned()).collect()
    }

    /// Forgets everything of a topic (deleted).
    pub fn remove_topic(&self, topic: &str, now_ms: i64) {
        self.remove_where(now_ms, |t, _| t == topic);
    }

    /// Forgets everything of a group (deleted).
    pub fn remove_group(&self, group: &str, now_ms: i64) {
        self.remove_where(now_ms, |_, g| g == group);
    }

    fn remove_where(&self, now_ms: i64, gone: impl Fn(&str, &str) -> bool) {
        let keep = |key: &String| key.split_once('@').is_none_or(|(topic, group)| !gone(topic, group));
        let mut state = self.state.write();
        let before = state.table.len();
        state.table.retain(|key, _| keep(key));
        state.resets.retain(|key, _| keep(key));
        state.pulled.retain(|key, _| keep(key));
        let own = state.own.len();
        state.own.retain(|key, _| keep(key));
        state.own_changes += u64::from(state.own.len() != own);
        if state.table.len() != before {
            state.changes += 1;
            state.version.next(now_ms);
        }
    }

    /// Table and version at one moment, as peers and the file have it.
    pub fn snapshot(&self) -> Wrapper {
        let (table, data_version) = {
            let state = self.state.read();
            let table: Vec<_> = state.table.iter().map(|(key, queues)| (key.clone(), queues.clone())).collect();
            (table, state.version)
        };
        let mut snapshot = Wrapper { data_version, ..Wrapper::default() };
        let mut light = BTreeMap::new();
        for (key, queues) in table {
            match queues.get(&LMQ_QUEUE_ID).filter(|_| self.lmq && is_light(&key)) {
                Some(offset) => drop(light.insert(key, *offset)),
                None => drop(snapshot.offset_table.insert(key, (*queues).clone())),
            }
        }
        snapshot.lmq_offset_table = self.lmq.then_some(light);
        snapshot
    }

    /// Takes a master's table. Keys absent there are gone, but for what the master does not know yet; the version becomes
    /// the master's. True when it differed.
    pub fn adopt(&self, master: Wrapper) -> bool {
        let version = master.data_version;
        let mut table = one_table(master);
        let mut state = self.state.write();
        state.version = version;
        for (key, queues) in &state.own {
            Arc::make_mut(table.entry(key.clone()).or_default()).extend(queues);
        }
        let differs = state.table != table;
        if differs {
            // Deletions of topics and groups are heard of in no other way.
            state.pulled.retain(|key, _| table.contains_key(key));
            state.table = table;
            state.changes += 1;
        }
        differs
    }

    /// Lowers progress beyond the end of its queue to that end; answers what was lowered (P-6, P-7).
    pub fn clamp(&self, end_of: impl Fn(&str, i32) -> i64) -> Vec<(String, i32, i64, i64)> {
        let mut lowered = Vec::new();
        let mut state = self.state.write();
        for (key, queues) in &mut state.table {
            let topic = key.split('@').next().unwrap_or_default();
            for (queue_id, offset) in Arc::make_mut(queues) {
                let end = end_of(topic, *queue_id);
                if *offset > end {
                    lowered.push((key.clone(), *queue_id, *offset, end));
                    *offset = end;
                }
            }
        }
        state.changes += u64::from(!lowered.is_empty());
        lowered
    }

    /// Writes `consumerOffset.json` when something changed since it was written.
    pub fn save(&self) -> Result<(), PersistError> {
        let mut saved = self.saving.lock();
        let (changes, own_changes) = {
            let state = self.state.read();
            (state.changes, state.own_changes)
        };
        if changes != saved.0 || !self.file.exists() {
            persist::save(&self.file, &self.snapshot())?;
            saved.0 = changes;
        }
        if own_changes != saved.1 {
            persist::save(&self.own_file, &self.own_snapshot())?;
            saved.1 = own_changes;
        }
        Ok(())
    }

    fn own_snapshot(&self) -> Wrapper {
        let state = self.state.read();
        let offset_table = state.own.iter().map(|(key, queues)| (key.clone(), queues.clone())).collect();
        Wrapper { offset_table, ..Wrapper::default() }
    }
}

impl State {
    fn pending_reset(&self, key: &str, queue_id: i32) -> Option<i64> {
        self.resets.get(key).and_then(|queues| queues.get(&queue_id)).copied()
    }

    fn put(&mut self, key: String, queue_id: i32, offset: i64, now_ms: i64, version_step: i64) {
        let queues = self.table.entry(key).or_default();
        if queues.get(&queue_id) == Some(&offset) {
            return;
        }
        Arc::make_mut(queues).insert(queue_id, offset);
        self.changes += 1;
        self.commits += 1;
        if self.commits % version_step == 0 {
            self.version.next(now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> (tempfile::TempDir, Offsets) {
        let dir = tempfile::tempdir().unwrap();
        let offsets = Offsets::load(dir.path(), false, 2).unwrap();
        (dir, offsets)
    }

    #[test]
    fn commits_resets_and_the_file() {
        let (dir, offsets) = empty();
        offsets.commit("T", "G", 0, 5, 1);
        offsets.reset("T", "G", 0, 2, 1);
        assert_eq!(offsets.pending_reset("T", "G", 0), Some(2));
        assert_eq!((offsets.take_reset("T", "G", 0), offsets.take_reset("T", "G", 0)), (Some(2), None));
        offsets.commit("T", "G@broadcast", 0, 5, 1);
        assert_eq!(offsets.topics_of("G"), ["T"]);
        offsets.save().unwrap();
        let again = Offsets::load(dir.path(), false, 2).unwrap();
        assert_eq!(again.get("T", "G", 0), Some(2));
    }

    #[test]
    fn light_groups_have_a_table_and_a_file_of_their_own() {
        let (dir, offsets) = empty();
        offsets.commit("T", "G", 3, 5, 1);
        offsets.save().unwrap();
        // The key was set: nothing is lost.
        let offsets = Offsets::load(dir.path(), true, 2).unwrap();
        offsets.commit("%LMQ%q", "%LMQ%g", 0, 7, 1);
        offsets.commit("%LMQ%q", "G", 0, 8, 1);
        let snapshot = offsets.snapshot();
        assert_eq!(snapshot.lmq_offset_table, Some(BTreeMap::from([("%LMQ%q@%LMQ%g".to_owned(), 7)])));
        assert_eq!(snapshot.offset_table.keys().collect::<Vec<_>>(), ["%LMQ%q@G", "T@G"]);
        offsets.save().unwrap();
        let text = std::fs::read_to_string(dir.path().join("lmqConsumerOffset.json")).unwrap();
        assert!(text.contains("lmqOffsetTable"), "{text}");
        let again = Offsets::load(dir.path(), true, 2).unwrap();
        assert_eq!((again.get("T", "G", 3), again.get("%LMQ%q", "%LMQ%g", 0)), (Some(5), Some(7)));
        let slave = Offsets::load(tempfile::tempdir().unwrap().path(), true, 2).unwrap();
        assert!(slave.adopt(snapshot.clone()) && !slave.adopt(snapshot));
        assert_eq!(slave.get("%LMQ%q", "%LMQ%g", 0), Some(7));
    }

    #[test]
    fn progress_beyond_the_queue_is_lowered() {
        let (_dir, offsets) = empty();
        offsets.commit("T", "G", 0, 15_619, 1);
        offsets.commit("T", "G", 1, 3, 1);
        assert_eq!(offsets.clamp(|_, _| 7_358), [("T@G".to_owned(), 0, 15_619, 7_358)]);
        assert_eq!((offsets.get("T", "G", 0), offsets.get("T", "G", 1)), (Some(7_358), Some(3)));
    }

    #[test]
    fn what_was_committed_at_a_slave_stays_until_the_master_knows_it() {
        let (dir, offsets) = empty();
        offsets.commit_at_slave("T", "G", 0, 5);
        offsets.save().unwrap();
        let offsets = Offsets::load(dir.path(), false, 2).unwrap();
        let version = offsets.snapshot().data_version;
        offsets.adopt(Wrapper::default());
        assert_eq!(offsets.get("T", "G", 0), Some(5));
        let [own] = offsets.own().try_into().unwrap();
        offsets.commit_at_slave("T", "G", 0, 6);
        offsets.told(&own);
        let [own] = offsets.own().try_into().unwrap();
        assert_eq!((own.offset, offsets.snapshot().data_version), (6, version));
        offsets.told(&own);
        offsets.save().unwrap();
        offsets.adopt(Wrapper::default());
        assert_eq!(offsets.get("T", "G", 0), None);
        assert_eq!(Offsets::load(dir.path(), false, 2).unwrap().own(), []);
        offsets.commit_at_slave("T", "G", 0, 7);
        offsets.remove_topic("T", 1);
        assert_eq!(offsets.own(), []);
    }

    /// A copy shares its entries with the table until they change.
    #[test]
    fn a_snapshot_stays_as_it_was() {
        let (_dir, offsets) = empty();
        offsets.commit("T", "G", 0, 5, 1);
        let before = offsets.snapshot();
        offsets.commit("T", "G", 0, 6, 1);
        offsets.commit_at_slave("T", "G", 1, 7);
        assert_eq!(before.offset_table["T@G"], BTreeMap::from([(0, 5)]));
        assert_eq!(offsets.snapshot().offset_table["T@G"], BTreeMap::from([(0, 6), (1, 7)]));
        assert_eq!(offsets.clamp(|_, _| 6), [("T@G".to_owned(), 1, 7, 6)]);
        assert_eq!(offsets.queues("T", "G"), BTreeMap::from([(0, 6), (1, 6)]));
    }

    #[test]
    fn an_adopted_table_replaces_and_says_whether_it_differed() {
        let (_dir, offsets) = empty();
        offsets.commit("Gone", "G", 0, 1, 1);
        offsets.pulled("Gone", "G", 0, 1);
        offsets.pulled("T", "G", 0, 8);
        let mut master = Wrapper::default();
        master.offset_table.entry("T@G".into()).or_default().insert(0, 9);
        assert!(offsets.adopt(master.clone()));
        assert!(!offsets.adopt(master.clone()));
        assert_eq!((offsets.get("Gone", "G", 0), offsets.get("T", "G", 0)), (None, Some(9)));
        assert_eq!((offsets.pull_offset("Gone", "G", 0), offsets.pull_offset("T", "G", 0)), (None, Some(8)));
    }
}
