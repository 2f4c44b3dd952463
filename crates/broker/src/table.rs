//! Tables of named entries that are written for every change (topics, groups). The text of each entry is kept, so that a
//! change costs its own formatting and the bytes of the rest; who comes while the file is written shares the next write.
//! Knows no entry; how a file is replaced: [`crate::persist`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
};

use foldhash::quality::RandomState;
use wire::{
    body::DataVersion,
    json::{self, Out, ToJson},
};

use crate::persist::{self, PersistError};

/// Objects around an entry: the file, and the table in it.
const DEPTH: usize = 2;

/// Entries by name, and which of them changed since they were last asked for.
pub struct Table<T> {
    entries: HashMap<String, Arc<T>, RandomState>,
    /// Counts changes.
    count: u64,
    /// `None`: nobody asked yet.
    changed: Option<BTreeSet<String>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: HashMap::default(), count: 0, changed: None }
    }
}

impl<T: PartialEq> Table<T> {
    /// One entry.
    pub fn get(&self, name: &str) -> Option<&Arc<T>> {
        self.entries.get(name)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.entries.keys()
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Arc<T>)> {
        self.entries.iter()
    }

    /// Puts one entry; false when it was there and the same.
    pub fn put(&mut self, name: &str, entry: T) -> bool {
        if self.entries.get(name).is_some_and(|old| **old == entry) {
            return false;
        }
        self.entries.insert(name.to_owned(), Arc::new(entry));
        self.note(name);
        true
    }

    /// Puts one entry where there is none of that name; false when there is.
    pub fn put_new(&mut self, name: &str, entry: T) -> bool {
        !self.entries.contains_key(name) && self.put(name, entry)
    }

    /// Takes one entry out; false when it was not there.
    pub fn remove(&mut self, name: &str) -> bool {
        let is_gone = self.entries.remove(name).is_some();
        if is_gone {
            self.note(name);
        }
        is_gone
    }

    /// Takes out what has not one of these names.
    pub fn keep<V>(&mut self, names: &BTreeMap<String, V>) {
        let gone: Vec<_> = self.names().filter(|name| !names.contains_key(*name)).cloned().collect();
        for name in gone {
            self.remove(&name);
        }
    }

    fn note(&mut self, name: &str) {
        self.count += 1;
        if let Some(changed) = &mut self.changed {
            changed.insert(name.to_owned());
        }
    }

    /// What changed since the last call; all entries at the first one.
    pub fn news(&mut self) -> News<T> {
        let entries = match self.changed.replace(BTreeSet::new()) {
            None => self.entries.iter().map(|(name, entry)| (name.clone(), Some(entry.clone()))).collect(),
            Some(changed) => changed.into_iter().map(|name| self.named(name)).collect(),
        };
        News { count: self.count, entries }
    }

    fn named(&self, name: String) -> (String, Option<Arc<T>>) {
        let entry = self.entries.get(&name).cloned();
        (name, entry)
    }
}

/// Entries that are new, others or gone.
pub struct News<T> {
    count: u64,
    entries: Vec<(String, Option<Arc<T>>)>,
}

/// The file of a table. Lock it before the table's news are taken: an older table never replaces a newer one then.
pub struct TableFile {
    path: PathBuf,
    members: Members,
    /// The changes and the version that are in the file.
    written: Option<(u64, DataVersion)>,
}

/// The entries of a table as they stand in its file, each with the comma before it.
#[derive(Default)]
pub struct Members {
    texts: BTreeMap<String, Box<str>>,
    bytes: usize,
}

impl TableFile {
    /// Reads and writes nothing.
    pub fn new(path: PathBuf) -> Self {
        Self { path, members: Members::default(), written: None }
    }

    /// Takes what is new, and writes what `text` makes of all entries, unless the file has just that and is still there. True
    /// when it was written.
    pub fn save<T: ToJson>(
        &mut self,
        news: News<T>,
        version: DataVersion,
        text: impl FnOnce(&Members) -> String,
    ) -> Result<bool, PersistError> {
        let current = Some((news.count, version));
        news.entries.iter().for_each(|(name, entry)| self.members.set(name, entry.as_deref()));
        if self.written == current && self.path.exists() {
            return Ok(false);
        }
        persist::save_text(&self.path, &text(&self.members))?;
        self.written = current;
        Ok(true)
    }
}

impl Members {
    fn set(&mut self, name: &str, entry: Option<&impl ToJson>) {
        let text = entry.map(|entry| json::pretty_member(DEPTH, name, entry).into_boxed_str());
        self.bytes += text.as_ref().map_or(0, |text| text.len());
        let old = match text {
            Some(text) => self.texts.insert(name.to_owned(), text),
            None => self.texts.remove(name),
        };
        self.bytes -= old.map_or(0, |old| old.len());
    }
}

impl ToJson for Members {
    fn write_json(&self, out: &mut Out) {
        out.reserve(self.bytes);
        out.begin_object();
        let mut texts = self.texts.values();
        if let Some(first) = texts.next() {
            out.raw(first.trim_start_matches(','));
        }
        texts.for_each(|text| out.raw(text));
        out.end_object();
    }
}

#[cfg(test)]
mod tests {
    use wire::body::{TopicConfig, TopicConfigSerializeWrapper as Wrapper};

    use super::*;

    struct Stored<'a>(DataVersion, &'a Members);

    impl ToJson for Stored<'_> {
        fn write_json(&self, out: &mut Out) {
            out.begin_object();
            out.text_key("dataVersion");
            self.0.write_json(out);
            out.text_key("topicConfigTable");
            self.1.write_json(out);
            out.end_object();
        }
    }

    struct Rig {
        _dir: tempfile::TempDir,
        table: Table<TopicConfig>,
        version: DataVersion,
        file: TableFile,
        path: PathBuf,
    }

    impl Rig {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("topics.json");
            let file = TableFile::new(path.clone());
            Self { _dir: dir, table: Table::default(), version: DataVersion::default(), file, path }
        }

        fn put(&mut self, name: &str, queues: i32) -> bool {
            let topic = TopicConfig { topic_name: name.into(), read_queue_nums: queues, ..TopicConfig::default() };
            self.table.put(name, topic)
        }

        /// True when it was written.
        fn save(&mut self) -> Result<bool, PersistError> {
            let version = self.version;
            self.file.save(self.table.news(), version, |topics| json::pretty(&Stored(version, topics)))
        }

        fn is_in_file(&self) {
            let entries = self.table.iter().map(|(name, entry)| (name.clone(), (**entry).clone()));
            let whole = Wrapper { data_version: self.version, topic_config_table: entries.collect() };
            assert_eq!(std::fs::read_to_string(&self.path).unwrap(), json::pretty(&whole));
        }
    }

    #[test]
    fn whatever_changes_the_file_is_the_one_that_is_written_as_a_whole() {
        let mut rig = Rig::new();
        assert!(rig.save().unwrap(), "also an empty table");
        rig.is_in_file();
        let mut seed = std::process::id();
        println!("seed {seed}");
        for _ in 0..300 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let name = format!("\"{}\u{e9}", seed >> 8 & 7);
            match seed >> 16 & 7 {
                0 | 1 => _ = rig.table.remove(&name),
                2 => rig.table.keep(&BTreeMap::from([(name, ())])),
                3 => rig.version.next(i64::from(seed)),
                queues => _ = rig.put(&name, queues as i32),
            }
            if seed >> 24 & 1 == 0 {
                rig.save().unwrap();
                rig.is_in_file();
            }
        }
    }

    #[test]
    fn what_is_in_the_file_is_not_written_again() {
        let mut rig = Rig::new();
        assert!(rig.put("T", 1) && rig.save().unwrap());
        assert!(!rig.put("T", 1) && !rig.save().unwrap());
        rig.version.next(7);
        assert!(rig.save().unwrap());
        std::fs::remove_file(&rig.path).unwrap();
        assert!(rig.save().unwrap(), "someone took it away");
        rig.is_in_file();
    }

    #[test]
    fn what_could_not_be_written_is_written_next_time() {
        let mut rig = Rig::new();
        rig.save().unwrap();
        let aside = rig.path.with_extension("json.tmp");
        std::fs::create_dir(&aside).unwrap();
        rig.put("T", 1);
        rig.save().unwrap_err();
        rig.save().unwrap_err();
        std::fs::remove_dir(&aside).unwrap();
        assert!(!rig.put("T", 1), "unchanged");
        assert!(rig.save().unwrap());
        rig.is_in_file();
    }
}
