//! The key-value table of a name server and its file, in which operators keep the configuration of ordered topics.
//! Source: `namesrv/.../kvconfig/KVConfigManager.java`; reference namesrv 1.11.
//!
//! The file has Java's format. A change is on the disk before it is seen, and a crash leaves the old file or the new
//! one. Changes block on the disk: never make one on a thread that serves connections.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use parking_lot::{Mutex, RwLock};

use crate::files;

/// Namespace of the order configuration of topics: `broker:queues;broker:queues` by topic.
pub const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

/// Keys and values of one namespace.
pub type Namespace = BTreeMap<String, String>;

wire::json_object! {
    /// The whole file.
    pub struct KvFile {
        "configTable" config_table: BTreeMap<String, Namespace>,
    }
}

/// Why the table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// The file is there but cannot be read.
    #[error("cannot read the key-value file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is damaged, and so is the copy beside it that Java makes. The next change would lose what it held.
    #[error("the key-value file {path} is damaged ({reason}); repair it, or move it away to start with an empty table")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and how.
        reason: String,
    },
    /// A change could not be written; the table is as before.
    #[error("cannot write the key-value file {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The table, with its file.
#[derive(Debug)]
pub struct KvStore {
    path: PathBuf,
    table: RwLock<BTreeMap<String, Namespace>>,
    /// Held by the one who changes.
    writer: Mutex<()>,
}

impl KvStore {
    /// Reads the file. None is an empty table; a damaged one is replaced by the copy that a Java name server left.
    pub fn open(path: &Path) -> Result<Self, KvError> {
        let table = match read(path) {
            Err(damaged @ KvError::Damaged { .. }) => {
                let copy = files::beside(path, ".bak");
                let table = read(&copy).ok().flatten().ok_or(damaged)?;
                tracing::warn!("{} is damaged, using {}", path.display(), copy.display());
                table
            }
            other => other?.unwrap_or_default(),
        };
        Ok(Self { path: path.to_owned(), table: RwLock::new(table), writer: Mutex::new(()) })
    }

    /// One value.
    pub fn get(&self, namespace: &str, key: &str) -> Option<String> {
        self.table.read().get(namespace)?.get(key).cloned()
    }

    /// A whole namespace. One that lost its last key is still there, and empty.
    pub fn namespace(&self, namespace: &str) -> Option<Namespace> {
        self.table.read().get(namespace).cloned()
    }

    /// Sets a value.
    pub fn put(&self, namespace: &str, key: &str, value: &str) -> Result<(), KvError> {
        self.change(|table| {
            table.entry(namespace.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
        })
    }

    /// Removes a value, if it is there.
    pub fn delete(&self, namespace: &str, key: &str) -> Result<(), KvError> {
        self.change(|table| {
            table.get_mut(namespace).map(|keys| keys.remove(key));
        })
    }

    fn change(&self, edit: impl FnOnce(&mut BTreeMap<String, Namespace>)) -> Result<(), KvError> {
        let _writer = self.writer.lock();
        let mut file = KvFile { config_table: self.table.read().clone() };
        edit(&mut file.config_table);
        files::replace(&self.path, &wire::json::encode(&file))
            .map_err(|source| KvError::Write { path: self.path.clone(), source })?;
        *self.table.write() = file.config_table;
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<BTreeMap<String, Namespace>>, KvError> {
    let damaged = |reason: String| KvError::Damaged { path: path.to_owned(), reason };
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KvError::Read { path: path.to_owned(), source }),
        // What is left when a Java name server dies between opening and writing.
        Ok(text) if text.is_empty() => Err(damaged("it is empty".into())),
        Ok(text) => match wire::json::decode::<KvFile>(&text) {
            Ok(file) => Ok(Some(file.config_table)),
            Err(error) => Err(damaged(error.to_string())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JAVA: &str = r#"{"configTable":{"ORDER_TOPIC_CONFIG":{"TopicA":"broker-a:4;broker-b:4"}}}"#;

    #[test]
    fn reads_and_writes_the_java_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("namesrv/kvConfig.json");
        let table = KvStore::open(&path).unwrap();
        assert_eq!(table.namespace(ORDER_TOPIC_CONFIG), None);
        table.put(ORDER_TOPIC_CONFIG, "TopicA", "broker-a:4;broker-b:4").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), JAVA);
        let again = KvStore::open(&path).unwrap();
        assert_eq!(again.get(ORDER_TOPIC_CONFIG, "TopicA").unwrap(), "broker-a:4;broker-b:4");
    }

    #[test]
    fn a_namespace_stays_when_its_last_key_goes() {
        let root = tempfile::tempdir().unwrap();
        let table = KvStore::open(&root.path().join("kv.json")).unwrap();
        table.delete("Space", "key").unwrap();
        assert_eq!(table.namespace("Space"), None);
        table.put("Space", "key", "value").unwrap();
        table.delete("Space", "key").unwrap();
        assert_eq!((table.get("Space", "key"), table.namespace("Space")), (None, Some(Namespace::new())));
    }

    #[test]
    fn a_damaged_file_is_never_overwritten_unseen() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("kv.json");
        for torn in ["", r#"{"configTable":{"ORDER"#] {
            fs::write(&path, torn).unwrap();
            let message = KvStore::open(&path).unwrap_err().to_string();
            assert!(message.contains("kv.json is damaged"), "{message}");
        }
        fs::write(files::beside(&path, ".bak"), JAVA).unwrap();
        let table = KvStore::open(&path).unwrap();
        assert!(table.get(ORDER_TOPIC_CONFIG, "TopicA").is_some());
    }

    #[test]
    fn a_change_that_cannot_be_written_is_not_seen() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("kv.json");
        let table = KvStore::open(&path).unwrap();
        fs::create_dir(files::beside(&path, ".tmp")).unwrap();
        let message = table.put("Space", "key", "value").unwrap_err().to_string();
        assert!(message.contains("cannot write") && message.contains("kv.json"), "{message}");
        assert_eq!(table.get("Space", "key"), None);
    }
}
