//! Topics that were deleted while records of theirs are still in the log: dispatching those again must not bring the
//! topic back. Kept in `ROOT/deletedTopics`, a line `offset topic` each, of which the last one of a topic counts; a Java broker
//! does not look at the file. A deletion costs a line: who deletes ten thousand topics does not write the others each time.

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
    /// Held from where the table is read until the changed one is in the file and in its place. `None` where there is no file,
    /// or something else in it.
    lines: Mutex<Option<Lines>>,
}

/// What is in the file.
#[derive(Clone, Copy)]
struct Lines {
    bytes: u64,
    count: usize,
}

/// Lines that no longer count, before the file is written anew.
const MOST_STALE: usize = 1000;

impl Deleted {
    pub(crate) fn load(disk: Arc<dyn Disk>, root: &Path) -> Result<Self, StoreError> {
        let path = root.join("deletedTopics");
        let (mut topics, mut lines) = (BTreeMap::new(), None);
        if disk.exists(&path) {
            let file = disk.open(&path, false).at("open", &path)?;
            let mut bytes = vec![0; file.len().at("size", &path)? as usize];
            file.read_exact_at(0, &mut bytes).at("read", &path)?;
            let text = String::from_utf8_lossy(&bytes);
            // A line that a crash has cut names another topic.
            let whole = text.rfind('\n').map_or(0, |last| last + 1);
            let mut all_fit = whole == bytes.len();
            for line in text[..whole].lines() {
                match parse(line) {
                    Some((topic, end)) => drop(topics.insert(topic, end)),
                    None => all_fit = false,
                }
            }
            lines = all_fit.then_some(Lines { bytes: bytes.len() as u64, count: text.lines().count() });
        }
        let any = AtomicBool::new(!topics.is_empty());
        Ok(Self { disk, root: root.to_path_buf(), topics: Mutex::new(topics), any, lines: Mutex::new(lines) })
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
        let mut lines = self.lines.lock();
        let end = self.end_of(topic).map_or(end, |before| before.max(end));
        let counting = self.topics.lock().len();
        *lines = match lines.take().filter(|lines| lines.count < counting + MOST_STALE) {
            Some(lines) => Some(self.add(lines, &line(topic, end))?),
            None => {
                let mut topics = self.topics.lock().clone();
                topics.insert(topic.to_owned(), end);
                Some(self.store(&topics)?)
            }
        };
        self.topics.lock().insert(topic.to_owned(), end);
        self.any.store(true, SeqCst);
        Ok(())
    }

    /// Forgets topics whose records are all below `min`, and lowers the others to `max`, the log's end.
    pub(crate) fn fit(&self, min: i64, max: i64) -> Result<(), StoreError> {
        let mut lines = self.lines.lock();
        let before = self.topics.lock().clone();
        let mut topics = before.clone();
        topics.values_mut().for_each(|end| *end = (*end).min(max));
        topics.retain(|_, end| *end > min);
        if topics != before {
            *lines = None;
            *lines = Some(self.store(&topics)?);
            self.any.store(!topics.is_empty(), SeqCst);
            *self.topics.lock() = topics;
        }
        Ok(())
    }

    /// Puts a line behind those that are there.
    fn add(&self, Lines { bytes, count }: Lines, line: &str) -> Result<Lines, StoreError> {
        let path = self.root.join("deletedTopics");
        let file = self.disk.open(&path, false).at("open", &path)?;
        file.write_all_at(bytes, line.as_bytes()).at("write", &path)?;
        file.sync().at("sync", &path)?;
        Ok(Lines { bytes: bytes + line.len() as u64, count: count + 1 })
    }

    /// Replaces the file.
    fn store(&self, topics: &BTreeMap<String, i64>) -> Result<Lines, StoreError> {
        let (path, aside) = (self.root.join("deletedTopics"), self.root.join("deletedTopics.new"));
        let text: String = topics.iter().map(|(topic, end)| line(topic, *end)).collect();
        let file = self.disk.open(&aside, true).at("create", &aside)?;
        file.set_len(0).at("size", &aside)?;
        file.write_all_at(0, text.as_bytes()).at("write", &aside)?;
        file.sync().at("sync", &aside)?;
        self.disk.rename(&aside, &path).at("replace", &path)?;
        self.disk.sync_dir(&self.root).at("sync", &self.root)?;
        Ok(Lines { bytes: text.len() as u64, count: topics.len() })
    }
}

fn line(topic: &str, end: i64) -> String {
    format!("{end} {topic}\n")
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

    fn file(dir: &tempfile::TempDir) -> String {
        std::fs::read_to_string(dir.path().join("deletedTopics")).unwrap()
    }

    #[test]
    fn a_deletion_adds_a_line_until_too_many_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let load = || Deleted::load(Arc::new(RealDisk), dir.path()).unwrap();
        let deleted = load();
        ["A", "B", "A"].iter().zip([10, 20, 30]).for_each(|(topic, end)| deleted.hide(topic, end).unwrap());
        assert_eq!(file(&dir), "10 A\n20 B\n30 A\n");
        let deleted = load();
        assert_eq!(deleted.ends(), [("A".to_owned(), 30), ("B".to_owned(), 20)]);
        (31..1100).for_each(|end| deleted.hide("A", end).unwrap());
        assert!(file(&dir).lines().count() <= MOST_STALE + 2);
        assert_eq!(load().ends(), [("A".to_owned(), 1099), ("B".to_owned(), 20)]);
    }

    #[test]
    fn a_line_that_a_crash_has_cut_hides_no_other_topic() {
        let whole = "10 A\n20 Topic\n";
        for cut in 5..whole.len() {
            let dir = tempfile::tempdir().unwrap();
            for tail in ["", "\0\0\0\0"] {
                std::fs::write(dir.path().join("deletedTopics"), format!("{}{tail}", &whole[..cut])).unwrap();
                let deleted = Deleted::load(Arc::new(RealDisk), dir.path()).unwrap();
                assert_eq!(deleted.topics(), ["A"], "{cut}");
                deleted.hide("B", 30).unwrap();
                assert_eq!(file(&dir), "10 A\n30 B\n", "{cut}");
            }
        }
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
