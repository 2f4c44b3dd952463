//! Subscription groups: the table, its version, `subscriptionGroup.json`.
//! Source: `broker/.../subscription/SubscriptionGroupManager.java`; reference broker 1.4.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use parking_lot::{Mutex, RwLock};
use wire::{
    body::{DataVersion, SubscriptionGroupConfig, SubscriptionGroupWrapper as Wrapper},
    json::{self, Out, ToJson},
    topic,
};

use crate::{
    persist::{self, PersistError},
    table::{Members, Table, TableFile},
};

const PREDEFINED: [&str; 8] = [
    "TOOLS_CONSUMER",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    "CID_RMQ_SYS_TRANS",
];

/// Further names that tools and brokers read under, without a heartbeat.
const READERS: [&str; 3] = ["DEFAULT_CONSUMER", "SCHEDULE_CONSUMER", "__MONITOR_CONSUMER"];

/// True for a group of tools, proxies and brokers, which need not be here as consumers to read.
/// Source: `MixAll.java` (isSysConsumerGroupPullMessage).
pub fn reads_unregistered(group: &str) -> bool {
    PREDEFINED.contains(&group) || READERS.contains(&group) || group.starts_with(topic::SYSTEM_GROUP_PREFIX)
}

/// Bit of the forbidden table that forbids reading.
const FORBIDDEN_READ: i32 = 1 << 2;

/// The subscription groups of this broker.
pub struct Groups {
    state: RwLock<State>,
    /// `subscriptionGroup.json`.
    file: Mutex<TableFile>,
    /// Every group `%LMQ%…` is there, and none is stored.
    lmq: bool,
}

#[derive(Default)]
struct State {
    table: Table<SubscriptionGroupConfig>,
    forbidden: BTreeMap<String, BTreeMap<String, i32>>,
    version: DataVersion,
}

impl Groups {
    /// Loads `subscriptionGroup.json` over the predefined groups. `lmq`: `enableLmq`.
    pub fn load(file: PathBuf, lmq: bool) -> Result<Self, PersistError> {
        let mut state = State::default();
        for name in PREDEFINED {
            state.table.put(name, named(name));
        }
        if let Some(stored) = persist::load::<Wrapper>(&file)? {
            for (name, group) in stored.subscription_group_table {
                state.table.put(&name, group);
            }
            state.forbidden = stored.forbidden_table;
            state.version = stored.data_version;
        }
        Ok(Self { state: RwLock::new(state), file: Mutex::new(TableFile::new(file)), lmq })
    }

    /// One group; never creates.
    pub fn get(&self, name: &str) -> Option<Arc<SubscriptionGroupConfig>> {
        if self.is_light(name) {
            return Some(Arc::new(named(name)));
        }
        self.state.read().table.get(name).cloned()
    }

    /// True for a group of light queues, which needs no entry. Source: `LmqSubscriptionGroupManager.java`.
    fn is_light(&self, name: &str) -> bool {
        self.lmq && name.starts_with(topic::LMQ_PREFIX)
    }

    /// One group, created with defaults where it may be and its name is legal.
    pub fn get_or_create(&self, name: &str, may_create: bool, now_ms: i64) -> Option<Arc<SubscriptionGroupConfig>> {
        if let Some(group) = self.get(name) {
            return Some(group);
        }
        if !may_create || topic::validate_group(name).is_err() {
            return None;
        }
        if let Err(error) = self.create(name, now_ms) {
            tracing::error!("group {name} is not created: {error}");
        }
        self.get(name)
    }

    /// Puts a group with defaults, unless an operator has just put one of that name.
    fn create(&self, name: &str, now_ms: i64) -> Result<(), PersistError> {
        let mut state = self.state.write();
        if !state.table.put_new(name, named(name)) {
            return Ok(());
        }
        state.version.next(now_ms);
        drop(state);
        self.save()
    }

    /// Puts one group and raises the version; false when nothing changed. It is in the file in either case.
    pub fn put(&self, group: SubscriptionGroupConfig, now_ms: i64) -> Result<bool, PersistError> {
        if self.is_light(&group.group_name) {
            return Ok(false);
        }
        self.put_all(vec![group], now_ms).map(|changed| changed > 0)
    }

    /// Removes one group; false when it was not there. It is not in the file in either case.
    pub fn remove(&self, name: &str, now_ms: i64) -> Result<bool, PersistError> {
        let mut state = self.state.write();
        let removed = state.table.remove(name);
        if removed {
            state.forbidden.remove(name);
            state.version.next(now_ms);
        }
        drop(state);
        self.save().map(|()| removed)
    }

    /// True when the group may not read the topic.
    pub fn forbids_read(&self, group: &str, topic: &str) -> bool {
        let state = self.state.read();
        state.forbidden.get(group).and_then(|topics| topics.get(topic)).is_some_and(|bits| bits & FORBIDDEN_READ != 0)
    }

    /// Forbids or allows reading; answers whether reading is allowed now.
    pub fn set_readable(
        &self,
        group: &str,
        topic: &str,
        readable: Option<bool>,
        now_ms: i64,
    ) -> Result<bool, PersistError> {
        if let Some(readable) = readable {
            let mut state = self.state.write();
            let topics = state.forbidden.entry(group.to_owned()).or_default();
            let bits = topics.entry(topic.to_owned()).or_default();
            *bits = if readable { *bits & !FORBIDDEN_READ } else { *bits | FORBIDDEN_READ };
            topics.retain(|_, bits| *bits != 0);
            state.forbidden.retain(|_, topics| !topics.is_empty());
            state.version.next(now_ms);
            drop(state);
            self.save()?;
        }
        Ok(!self.forbids_read(group, topic))
    }

    /// Table and version at one moment, as peers and the file have it.
    pub fn snapshot(&self) -> Wrapper {
        let state = self.state.read();
        Wrapper {
            subscription_group_table: state.table.iter().map(|(k, v)| (k.clone(), (**v).clone())).collect(),
            forbidden_table: state.forbidden.clone(),
            data_version: state.version,
        }
    }

    /// Takes a master's table as differences, whatever its version says, and keeps that version (W-23); what is in the file is
    /// not written again (F-34).
    pub fn adopt(&self, master: Wrapper) -> Result<(), PersistError> {
        let mut state = self.state.write();
        state.table.keep(&master.subscription_group_table);
        for (name, group) in master.subscription_group_table {
            state.table.put(&name, group);
        }
        state.forbidden = master.forbidden_table;
        state.version = master.data_version;
        drop(state);
        self.save()
    }

    /// All names.
    pub fn names(&self) -> Vec<String> {
        self.state.read().table.names().cloned().collect()
    }

    /// Puts several groups and writes the file once; answers how many changed.
    pub fn put_all(&self, groups: Vec<SubscriptionGroupConfig>, now_ms: i64) -> Result<usize, PersistError> {
        let mut changed = 0;
        {
            let mut state = self.state.write();
            for group in groups {
                if state.table.put(&group.group_name.clone(), group) {
                    state.version.next(now_ms);
                    changed += 1;
                }
            }
        }
        self.save().map(|()| changed)
    }

    /// Writes `subscriptionGroup.json`, unless it has all already.
    pub fn save(&self) -> Result<(), PersistError> {
        persist::apart(|| {
            let mut file = self.file.lock();
            let (news, version, forbidden) = {
                let mut state = self.state.write();
                (state.table.news(), state.version, state.forbidden.clone())
            };
            file.save(news, version, |groups| json::pretty(&Stored { version, forbidden, groups })).map(drop)
        })
    }
}

/// `subscriptionGroup.json`, as [`Wrapper`] is written.
struct Stored<'a> {
    version: DataVersion,
    forbidden: BTreeMap<String, BTreeMap<String, i32>>,
    groups: &'a Members,
}

impl ToJson for Stored<'_> {
    fn write_json(&self, out: &mut Out) {
        out.begin_object();
        out.text_key("dataVersion");
        self.version.write_json(out);
        out.text_key("forbiddenTable");
        self.forbidden.write_json(out);
        out.text_key("subscriptionGroupTable");
        self.groups.write_json(out);
        out.end_object();
    }
}

fn named(name: &str) -> SubscriptionGroupConfig {
    SubscriptionGroupConfig { group_name: name.to_owned(), ..SubscriptionGroupConfig::default() }
}

#[cfg(test)]
mod tests {
    use parking_lot::RwLockUpgradableReadGuard;

    use super::*;

    #[test]
    fn who_creates_a_group_by_use_replaces_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let groups = Groups::load(dir.path().join("groups.json"), false).unwrap();
        for round in 0..20 {
            let name = format!("N{round}");
            std::thread::scope(|scope| {
                let looking = groups.state.upgradable_read();
                scope.spawn(|| groups.get_or_create(&name, true, 1));
                // By then it has found none, and waits to put its own.
                (0..1000).for_each(|_| std::thread::yield_now());
                let mut operator = RwLockUpgradableReadGuard::upgrade(looking);
                operator.table.put(&name, SubscriptionGroupConfig { retry_max_times: 3, ..named(&name) });
            });
            assert_eq!(groups.get(&name).unwrap().retry_max_times, 3);
        }
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let (file, aside) = (dir.path().join("groups.json"), dir.path().join("groups.json.tmp"));
        let load = || Groups::load(file.clone(), false).unwrap();
        let groups = load();
        let mut master = groups.snapshot();
        master.subscription_group_table.insert("G".into(), named("G"));
        master.data_version.counter = 7;
        std::fs::create_dir(&aside).unwrap();
        (0..2).for_each(|_| drop(groups.adopt(master.clone()).unwrap_err()));
        std::fs::remove_dir(&aside).unwrap();
        groups.adopt(master).unwrap();
        assert!(load().get("G").is_some(), "a master's table");
        std::fs::create_dir(&aside).unwrap();
        (0..2).for_each(|_| drop(groups.remove("G", 2).unwrap_err()));
        std::fs::remove_dir(&aside).unwrap();
        assert!(!groups.remove("G", 2).unwrap(), "it was gone already");
        assert!(load().get("G").is_none(), "a removal");
    }
}
