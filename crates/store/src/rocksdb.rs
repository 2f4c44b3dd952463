//! What a broker keeps in RocksDB is not served here: a directory whose queues or settings live there is refused before
//! anything in it is touched, lock file and all. Source: `RocksDBMessageStore.java`, `MessageRocksDBStorage.java`;
//! reference store 25, Java 5.5 section 4. It only looks at names and sizes.

use std::path::{Path, PathBuf};

use crate::{
    disk::{Disk, list_sorted},
    error::{IoContext, StoreError},
};

/// The file that every RocksDB database has.
const CURRENT: &str = "CURRENT";

/// Databases that hold the only copy of something, with the key that made them and what the operator can do.
const DATABASES: [(&str, &str, &str); 6] = [
    ("consumequeue", "storeType=defaultRocksDB", QUEUES),
    ("consumequeue_rocksdb", "storeType=defaultRocksDB", QUEUES),
    ("config/topics", "storeType=defaultRocksDB", SETTINGS),
    ("config/consumerOffsets", "storeType=defaultRocksDB", SETTINGS),
    ("config/subscriptionGroups", "storeType=defaultRocksDB", SETTINGS),
    ("config/rdb", "configManagerVersion=v2", SETTINGS),
];
const QUEUES: &str = "serve it with the broker that made it, or let a broker with storeType=default follow that one as its slave and start from the slave's directory";
const SETTINGS: &str = "topics, groups and progress are in it: export them with mqadmin exportMetadataInRocksDB, put the JSON files into config/ and move the database away";
const MIXED: &str = "start the broker that made it without these keys until its timers and transactions are through; then, or if it was only the index, move the database away";

/// What tells that a store has its queues in RocksDB, alone or beside the files.
pub(crate) fn of_queues(disk: &dyn Disk, root: &Path) -> Option<PathBuf> {
    let of_queues = DATABASES.into_iter().filter(|(_, _, advice)| *advice == QUEUES);
    of_queues.map(|(name, ..)| root.join(name).join(CURRENT)).find(|found| disk.exists(found))
}

/// Refuses a directory with data in RocksDB. `queues_doubled`: `rocksdbCQDoubleWriteEnable`, the files are whole.
pub(crate) fn refuse(disk: &dyn Disk, root: &Path, queues_doubled: bool) -> Result<(), StoreError> {
    for (name, key, advice) in DATABASES {
        let dir = root.join(name);
        let is_queues = advice == QUEUES;
        if disk.exists(&dir.join(CURRENT)) && !(is_queues && queues_doubled) {
            return Err(StoreError::RocksDb { dir, key, advice });
        }
    }
    // A 5.4 or 5.5 broker makes this one at each start, empty.
    let dir = root.join("rocksdbstore");
    match holds_data(disk, &dir)? {
        true => {
            let key = "timerRocksDBEnable, transRocksDBEnable or indexRocksDBEnable=true";
            Err(StoreError::RocksDb { dir, key, advice: MIXED })
        }
        false => Ok(()),
    }
}

/// True with tables, or with a write-ahead log of any length.
fn holds_data(disk: &dyn Disk, dir: &PathBuf) -> Result<bool, StoreError> {
    let entries = list_sorted(disk, dir).at("list", dir)?;
    Ok(entries.iter().any(|entry| entry.name.ends_with(".sst") || (entry.name.ends_with(".log") && entry.len > 0)))
}
