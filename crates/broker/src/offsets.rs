//! Consumer progress: the table, its version, `consumerOffset.json`, pending resets.
//! Source: `broker/.../offset/ConsumerOffsetManager.java`; reference broker 5. Checks no topic and no group.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use parking_lot::{Mutex, RwLock};
use wire::body::{ConsumerOffsetSerializeWrapper as Wrapper, DataVersion};

use crate::persist::{self, PersistError};

/// Progress of every group on this broker.
pub struct Offsets {
    state: RwLock<State>,
    file: PathBuf,
    saving: Mutex<u64>,
    version_step: i64,
}

#[derive(Default)]
struct State {
    table: HashMap<String, BTreeMap<i32, i64>>,
    resets: HashMap<String, BTreeMap<i32, i64>>,
    pulled: HashMap<String, BTreeMap<i32, i64>>,
    version: DataVersion,
    commits: i64,
    /// Counts changes, to write only what changed.
    changes: u64,
}

fn key(topic: &str, group: &str) -> String {
    format!("{topic}@{group}")
}

impl Offsets {
    /// Loads `consumerOffset.json`.
    pub fn load(file: PathBuf, version_step: i64) -> Result<Self, PersistError> {
        let mut state = State::default();
        if let Some(stored) = persist::load::<Wrapper>(&file)? {
            state.table = stored.offset_table.into_iter().collect();
            state.version = stored.data_version;
        }
        Ok(Self { state: RwLock::new(state), file, saving: Mutex::new(0), version_step: version_step.max(1) })
    }

    /// Stored progress of one queue.
    pub fn get(&self, topic: &str, group: &str, queue_id: i32) -> Option<i64> {
        let state = self.state.read();
        state.table.get(&key(topic, group)).and_then(|queues| queues.get(&queue_id)).copied()
    }

    /// Progress of all queues of a topic.
    pub fn queues(&self, topic: &str, group: &str) -> BTreeMap<i32, i64> {
        self.state.read().table.get(&key(topic, group)).cloned().unwrap_or_default()
    }

    /// Stores progress; it may go back.
    pub fn commit(&self, topic: &str, group: &str, queue_id: i32, offset: i64, now_ms: i64) {
        let mut state = self.state.write();
        let queues = state.table.entry(key(topic, group)).or_default();
        if queues.insert(queue_id, offset) == Some(offset) {
            return;
        }
        state.changes += 1;
        state.commits += 1;
        if state.commits % self.version_step == 0 {
            state.version.next(now_ms);
        }
    }

    /// Sets progress back or forth by an operator: until the consumer has heard it, its commits are ignored.
    pub fn reset(&self, topic: &str, group: &str, queue_id: i32, offset: i64, now_ms: i64) {
        {
            let mut state = self.state.write();
            let key = key(topic, group);
            state.resets.entry(key.clone()).or_default().insert(queue_id, offset);
            state.pulled.remove(&key);
            // Peers that compare versions must see a move backwards.
            state.version.next(now_ms);
        }
        self.commit(topic, group, queue_id, offset, now_ms);
    }

    /// The pending reset of a queue.
    pub fn pending_reset(&self, topic: &str, group: &str, queue_id: i32) -> Option<i64> {
        let state = self.state.read();
        if state.resets.is_empty() {
            return None;
        }
        state.resets.get(&key(topic, group)).and_then(|queues| queues.get(&queue_id)).copied()
    }

    /// Takes the pending reset of a queue: the consumer is being told.
    pub fn take_reset(&self, topic: &str, group: &str, queue_id: i32) -> Option<i64> {
        self.pending_reset(topic, group, queue_id)?;
        self.state.write().resets.get_mut(&key(topic, group))?.remove(&queue_id)
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
        self.pairs().into_iter().filter(|(_, g)| g == group).map(|(topic, _)| topic).collect()
    }

    /// Groups that have progress on a topic.
    pub fn groups_of(&self, topic: &str) -> Vec<String> {
        self.pairs().into_iter().filter(|(t, _)| t == topic).map(|(_, group)| group).collect()
    }

    /// Names of topic and group of each entry; keys with more than one `@` belong to upstream's broadcast progress.
    fn pairs(&self) -> Vec<(String, String)> {
        let split = |key: &String| {
            let (topic, group) = key.split_once('@')?;
            (!group.contains('@')).then(|| (topic.to_owned(), group.to_owned()))
        };
        self.state.read().table.keys().filter_map(split).collect()
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
        if state.table.len() != before {
            state.changes += 1;
            state.version.next(now_ms);
        }
    }

    /// Table and version at one moment, as peers and the file have it.
    pub fn snapshot(&self) -> Wrapper {
        let state = self.state.read();
        Wrapper {
            data_version: state.version,
            offset_table: state.table.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        }
    }

    /// Takes a master's table. Keys absent there are gone; the version becomes the master's. True when it differed.
    pub fn adopt(&self, master: Wrapper) -> bool {
        let mut state = self.state.write();
        let differs = state.table.len() != master.offset_table.len()
            || master.offset_table.iter().any(|(key, queues)| state.table.get(key) != Some(queues));
        if differs {
            state.table = master.offset_table.into_iter().collect();
            state.changes += 1;
        }
        state.version = master.data_version;
        differs
    }

    /// Lowers progress beyond the end of its queue to that end; answers what was lowered (P-6, P-7).
    pub fn clamp(&self, end_of: impl Fn(&str, i32) -> i64) -> Vec<(String, i32, i64, i64)> {
        let mut lowered = Vec::new();
        let mut state = self.state.write();
        for (key, queues) in &mut state.table {
            let topic = key.split('@').next().unwrap_or_default();
            for (queue_id, offset) in queues {
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
        let changes = self.state.read().changes;
        if changes == *saved && self.file.exists() {
            return Ok(());
        }
        persist::save(&self.file, &self.snapshot())?;
        *saved = changes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> (tempfile::TempDir, Offsets) {
        let dir = tempfile::tempdir().unwrap();
        let offsets = Offsets::load(dir.path().join("consumerOffset.json"), 2).unwrap();
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
        let again = Offsets::load(dir.path().join("consumerOffset.json"), 2).unwrap();
        assert_eq!(again.get("T", "G", 0), Some(2));
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
    fn an_adopted_table_replaces_and_says_whether_it_differed() {
        let (_dir, offsets) = empty();
        offsets.commit("Gone", "G", 0, 1, 1);
        let mut master = Wrapper::default();
        master.offset_table.entry("T@G".into()).or_default().insert(0, 9);
        assert!(offsets.adopt(master.clone()));
        assert!(!offsets.adopt(master.clone()));
        assert_eq!((offsets.get("Gone", "G", 0), offsets.get("T", "G", 0)), (None, Some(9)));
    }
}
