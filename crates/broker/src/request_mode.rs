//! How each group reads each topic (pull or pop), `messageRequestMode.json`. Carried for peers and clients.
//! Source: `broker/.../loadbalance/MessageRequestModeManager.java`.

use std::path::PathBuf;

use parking_lot::{Mutex, RwLock};
use wire::body::{MessageRequestModeSerializeWrapper as Wrapper, SetMessageRequestModeRequestBody as Mode};

use crate::persist::{self, PersistError};

/// All request modes.
pub struct RequestModes {
    table: RwLock<Wrapper>,
    file: PathBuf,
    /// What is in the file.
    written: Mutex<Option<Wrapper>>,
}

impl RequestModes {
    /// Loads `messageRequestMode.json`.
    pub fn load(file: PathBuf) -> Result<Self, PersistError> {
        let stored = persist::load::<Wrapper>(&file)?;
        let table = RwLock::new(stored.clone().unwrap_or_default());
        Ok(Self { table, file, written: Mutex::new(stored) })
    }

    /// The mode of a group on a topic.
    pub fn get(&self, topic: &str, group: &str) -> Option<Mode> {
        self.table.read().message_request_mode_map.get(topic)?.get(group).cloned()
    }

    /// Sets a mode.
    pub fn put(&self, mode: Mode) -> Result<(), PersistError> {
        let mut table = self.table.write();
        let groups = table.message_request_mode_map.entry(mode.topic.clone()).or_default();
        groups.insert(mode.consumer_group.clone(), mode);
        drop(table);
        self.save()
    }

    /// The whole table.
    pub fn snapshot(&self) -> Wrapper {
        self.table.read().clone()
    }

    /// Takes a master's table; writes only what the file has not.
    pub fn adopt(&self, master: Wrapper) -> Result<(), PersistError> {
        *self.table.write() = master;
        self.save()
    }

    fn save(&self) -> Result<(), PersistError> {
        persist::apart(|| {
            let mut written = self.written.lock();
            let table = self.snapshot();
            if written.as_ref() != Some(&table) {
                persist::save(&self.file, &table)?;
                *written = Some(table);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masters_table_that_could_not_be_written_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let (file, aside) = (dir.path().join("modes.json"), dir.path().join("modes.json.tmp"));
        let load = || RequestModes::load(file.clone()).unwrap();
        let (modes, master) = (load(), load());
        let mode = Mode { topic: "T".into(), consumer_group: "G".into(), ..Mode::default() };
        master.put(mode).unwrap();
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&aside).unwrap();
        (0..2).for_each(|_| drop(modes.adopt(master.snapshot()).unwrap_err()));
        std::fs::remove_dir(&aside).unwrap();
        modes.adopt(master.snapshot()).unwrap();
        assert!(load().get("T", "G").is_some(), "it is in the file now");
    }
}
