//! Topics that were deleted while records of theirs are still in the log: dispatching those again must not bring the
//! topic back. Kept in `ROOT/deletedTopics`, a line `offset topic` each; a Java broker does not look at the file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use parking_lot::Mutex;

use crate::{
    disk::Disk,
    error::{IoContext, StoreError},
};

/// Deleted topics and the end of the log when that happened.
pub(crate) struct Deleted {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    topics: Mutex<BTreeMap<String, i64>>,
    any: AtomicBool,
    /// Held from where the table is read until the changed one is in the file and in its place.
    writing: Mutex<()>,
}

impl Deleted {
    pub(crate) fn load(disk: Arc<dyn Disk>, root: &Path) -> Result<Self, StoreError> {
        let path = root.join("deletedTopics");
        let mut topics = BTreeMap::new();
        if disk.exists(&path) {
            let file = disk.open(&path, false).at("open", &path)?;
            let mut bytes = vec![0; file.len().at("size", &path)? as usize];
            file.read_exact_at(0, &mut bytes).at("read", &path)?;
            topics = String::from_utf8_lossy(&bytes).lines().filter_map(parse).collect();
        }
        let any = AtomicBool::new(!topics.is_empty());
        Ok(Self { disk, root: root.to_path_buf(), topics: Mutex::new(topics), any, writing: Mutex::default() })
    }

    /// True when a record of `topic` at `physical` belongs to a deleted topic.
    pub(crate) fn hides(&self, topic: &str, physical: i64) -> bool {
        self.end_of(topic).is_some_and(|end| physical < end)
    }

    /// End of the log when `topic` was deleted, while records of that time are left.
    pub(crate) fn end_of(&self, topic: &str) -> Option<i64> {
        if self.any.load(SeqCst) { self.topics.lock().get(topic).copied() } else { None }
    }

    /// The topics of which records are left, and the end of the log when they were deleted.
    pub(crate) fn ends(&self) -> Vec<(String, i64)> {
        self.topics.lock().iter().map(|(topic, end)| (topic.clone(), *end)).collect()
    }

    /// The topics of which records are left.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.topics.lock().keys().cloned().collect()
    }

    /// Hides everything of `topic` below `end`, durably; on an error nothing is hidden that was not before.
    pub(crate) fn hide(&self, topic: &str, end: i64) -> Result<(), StoreError> {
        let _writing = self.writing.lock();
        let end = self.end_of(topic).map_or(end, |before| before.max(end));
        // There may be many thousands: they are not copied for each.
        let text = {
            let topics = self.topics.lock();
            let others = topics.iter().filter(|(name, _)| *name != topic);
            text_of(others.map(|(name, end)| (name.as_str(), *end)).chain([(topic, end)]))
        };
        self.store(&text)?;
        self.topics.lock().insert(topic.to_owned(), end);
        self.any.store(true, SeqCst);
        Ok(())
    }

    /// Forgets topics whose records are all below `min`, and lowers the others to `max`, the log's end.
    pub(crate) fn fit(&self, min: i64, max: i64) -> Result<(), StoreError> {
        let _writing = self.writing.lock();
        let fits = self.topics.lock().values().all(|end| *end > min && *end <= max);
        if !fits {
            let mut topics = self.topics.lock().clone();
            topics.values_mut().for_each(|end| *end = (*end).min(max));
            topics.retain(|_, end| *end > min);
            self.store(&text_of(topics.iter().map(|(name, end)| (name.as_str(), *end))))?;
            self.any.store(!topics.is_empty(), SeqCst);
            *self.topics.lock() = topics;
        }
        Ok(())
    }

    fn store(&self, text: &str) -> Result<(), StoreError> {
        let (path, aside) = (self.root.join("deletedTopics"), self.root.join("deletedTopics.new"));
        let file = self.disk.open(&aside, true).at("create", &aside)?;
        file.set_len(0).at("size", &aside)?;
        file.write_all_at(0, text.as_bytes()).at("write", &aside)?;
        file.sync().at("sync", &aside)?;
        self.disk.rename(&aside, &path).at("replace", &path)?;
        self.disk.sync_dir(&self.root).at("sync", &self.root)
    }
}

fn text_of<'a>(topics: impl Iterator<Item = (&'a str, i64)>) -> String {
    topics.fold(String::new(), |mut text, (topic, end)| {
        text.extend([&*end.to_string(), " ", topic, "\n"]);
        text
    })
}

fn parse(line: &str) -> Option<(String, i64)> {
    let (end, topic) = line.split_once(' ')?;
    Some((topic.to_owned(), end.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    /// Retention asks for the one while topics are deleted.
    #[test]
    fn two_changes_at_once_are_both_made() {
        let dir = tempfile::tempdir().unwrap();
        let load = || Deleted::load(Arc::new(RealDisk), dir.path()).unwrap();
        let deleted = load();
        deleted.hide("first", 1).unwrap();
        std::thread::scope(|scope| {
            let hiding =
                scope.spawn(|| (0..200).for_each(|number| deleted.hide(&format!("T{number}"), 1 << 40).unwrap()));
            let mut ends = (1..1 << 40).rev();
            while !hiding.is_finished() {
                deleted.fit(0, ends.next().unwrap()).unwrap();
            }
        });
        let topics = load().topics();
        assert_eq!((topics.len(), topics.clone()), (201, deleted.topics()));
    }

    #[test]
    fn remembers_across_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let load = || Deleted::load(Arc::new(RealDisk), dir.path()).unwrap();
        let deleted = load();
        assert!(!deleted.hides("A", 0));
        deleted.hide("A", 100).unwrap();
        deleted.hide("B", 300).unwrap();
        let deleted = load();
        assert_eq!((deleted.hides("A", 99), deleted.hides("A", 100), deleted.hides("C", 0)), (true, false, false));
        deleted.fit(100, 200).unwrap();
        let deleted = load();
        assert_eq!((deleted.hides("A", 0), deleted.hides("B", 199), deleted.hides("B", 200)), (false, true, false));
    }
}
