//! Many consume queues: units that wait in memory are read, cut, deleted and flushed like all others, stay within their
//! bound, and come back from the log after a kill; many files are synced at once.

mod common;
mod sim;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use common::{
    HandClock, Random, bodies, clock_at, files::*, message, open, put, seed, small, small_disk::SmallDisk, verified,
};
use sim::disk::{Fault, SimDisk};
use store::{Batch, Boundary, RealDisk, Retention, Store, StoreConfig, inspect::ViewOptions};

/// Rows of 10 units a file; a queue keeps up to 14 of them in memory.
fn gathering(root: &Path) -> StoreConfig {
    StoreConfig { queue_gathers: 300, ..small(root) }
}

fn queue_file(root: &Path, topic: &str, base: u64) -> std::path::PathBuf {
    root.join(format!("consumequeue/{topic}/0/{base:020}"))
}

fn put_some(store: &Store, topic: &str, count: usize) {
    for _ in 0..count {
        put(store, topic, 0, b"", b"body");
    }
}

/// Bytes of queue files that hold any, by name.
fn queue_bytes(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.join("consumequeue")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => dirs.push(entry.path()),
                false => drop(found.insert(
                    entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned(),
                    std::fs::read(entry.path()).unwrap(),
                )),
            }
        }
    }
    found.retain(|_, bytes: &mut Vec<u8>| bytes.iter().any(|byte| *byte != 0));
    found
}

#[test]
fn readers_see_units_before_any_file_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock_at(1_000);
    let store = Store::open(gathering(dir.path()), Arc::new(RealDisk), clock.clone()).unwrap();
    for number in 0..8u8 {
        clock.0.store(1_000 + i64::from(number) * 10, std::sync::atomic::Ordering::SeqCst);
        put(&store, "T", 0, b"TAGS\x01a\x02", &[number]);
        assert_eq!((store.min_offset("T", 0), store.max_offset("T", 0)), (0, i64::from(number) + 1));
    }
    assert!(!queue_file(dir.path(), "T", 0).exists(), "they wait");
    assert_eq!(bodies(&store, "T", 0), (0..8u8).map(|number| vec![number]).collect::<Vec<_>>());
    assert_eq!(store.offset_by_time("T", 0, 1_034, Boundary::Lower).unwrap(), 4);
    assert_eq!(store.offset_by_time("T", 0, 1_034, Boundary::Upper).unwrap(), 3);
    assert_eq!(store.queue_units("T", 0, 2, 100).len(), 6);
    assert_eq!(store.store_time("T", 0, 7), 1_070);
    assert_eq!(store.queues(), [("T".into(), 0)]);
    // Beyond a queue's bound they are written together, over the ends of files.
    for number in 8..40u8 {
        put(&store, "T", 0, b"", &[number]);
        assert_eq!(bodies(&store, "T", 0).len(), usize::from(number) + 1);
        assert_eq!(store.queue_unit("T", 0, number.into()).unwrap().queue_offset, i64::from(number));
    }
    assert!(queue_file(dir.path(), "T", 200).exists());
    store.flush_queues().unwrap();
    assert!(queue_file(dir.path(), "T", 600).exists());
    assert_eq!(bodies(&store, "T", 0).len(), 40);
    store.close().unwrap();
}

/// The files are the same, whatever waited in memory: sizes too, which a Java broker insists on.
#[test]
fn a_flush_and_a_stop_leave_the_files_as_if_each_unit_had_been_written_alone() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let configs = [small(dirs[0].path()), gathering(dirs[1].path())];
    let stores = configs.each_ref().map(open);
    let mut random = Random(seed());
    for round in 0..6 {
        for _ in 0..random.below(60) {
            let (topic, queue_id) = (["T", "U"][random.below(2) as usize], random.below(3) as i32);
            for store in &stores {
                put(store, topic, queue_id, b"", b"body");
            }
        }
        match round {
            2 | 4 => {
                let cut =
                    stores[0].queue_unit("T", 0, stores[0].max_offset("T", 0) / 2).map(|unit| unit.physical_offset);
                stores.iter().for_each(|store| cut.map_or((), |cut| store.truncate(cut).unwrap()));
            }
            3 => stores.iter().for_each(|store| store.delete_topic("U").unwrap()),
            _ => {}
        }
        stores.iter().for_each(|store| store.flush_queues().unwrap());
        assert!(queue_bytes(dirs[0].path()) == queue_bytes(dirs[1].path()), "round {round}");
    }
    put(&stores[1], "T", 0, b"", b"body");
    put(&stores[0], "T", 0, b"", b"body");
    stores.iter().for_each(|store| store.close().unwrap());
    assert!(queue_bytes(dirs[0].path()) == queue_bytes(dirs[1].path()));
}

/// With the bound used up, the queues that have waited for longest are written, and the sum stays where it is.
#[test]
fn the_sum_in_memory_is_bounded_and_the_oldest_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { queues_gather: 200, ..gathering(dir.path()) };
    let store = open(&config);
    for number in 0..200 {
        put(&store, &format!("T{:02}", number % 20), 0, b"", b"body");
        let written = (0..20).filter(|topic| queue_file(dir.path(), &format!("T{topic:02}"), 0).exists()).count();
        assert!(written as i32 >= (number - 9).clamp(0, 10), "{written} of {number}");
        if number == 14 {
            assert!(queue_file(dir.path(), "T04", 0).exists() && !queue_file(dir.path(), "T05", 0).exists());
        }
    }
    (0..20).for_each(|topic| assert_eq!(bodies(&store, &format!("T{topic:02}"), 0).len(), 10));
}

#[test]
fn a_kill_loses_no_unit_that_was_only_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let config = gathering(dir.path());
    let mut store = open(&config);
    for round in 1..=6 {
        fill(&store, "T", 9);
        if round % 2 == 0 {
            store.flush_queues().unwrap();
            store.persist_checkpoint().unwrap();
            fill(&store, "T", 9);
        }
        let want = [0, 1].map(|queue_id| bodies(&store, "T", queue_id));
        store = open_again(store, &config);
        assert_eq!([0, 1].map(|queue_id| bodies(&store, "T", queue_id)), want, "round {round}");
    }
}

/// Units of one queue are written long before those of another: after a kill, and beside a running broker, that is no damage.
#[test]
fn verify_knows_that_units_wait() {
    for flushed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&gathering(dir.path()));
        if flushed {
            put_some(&store, "U", 5);
            store.flush_queues().unwrap();
            store.persist_checkpoint().unwrap();
        }
        put_some(&store, "U", 3);
        put(&store, "Unborn", 0, b"", b"body");
        put_some(&store, "T", 40);
        let sizes = ViewOptions { max_hash_slots: Some(64), max_index: Some(40), ..ViewOptions::default() };
        let check = |what: &str| {
            let found = verified(dir.path(), &sizes);
            let told: Vec<String> = found.findings.list().iter().map(|finding| finding.text.clone()).collect();
            assert!(told.is_empty(), "{what}, flushed {flushed}: {told:?}");
        };
        if flushed {
            check("running");
        }
        drop(store);
        check("killed");
    }
}

#[test]
fn retention_and_deletion_work_while_queues_lack_space() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new(1 << 20);
    let config = StoreConfig { queues_gather: 400, ..gathering(dir.path()) };
    let store = Store::open(config.clone(), Arc::new(disk.clone()), clock_at(1_000_000)).unwrap();
    fill(&store, "T", 150);
    store.flush().unwrap();
    store.flush_queues().unwrap();
    disk.refuse_in(Some("consumequeue"));
    let mut sent = 0;
    while store.marks().dispatched.get() == store.max_phys() {
        let mut batch = Batch::new();
        batch.push(&message("New", sent, b"", &[1; 300])).unwrap();
        store.append(&mut batch).unwrap();
        store.dispatch();
        sent += 1;
        assert!(sent < 100, "the bound holds without space");
    }
    assert!(sent >= 20 && store.failed().is_none());
    assert!(store.flush_queues().unwrap_err().is_disk_full());
    let oldest = Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments: usize::MAX };
    let behind = store.min_phys();
    assert!(store.delete_expired(oldest).unwrap() > 0 && store.min_phys() > behind);
    store.delete_topic("T").unwrap();
    // A stop that cannot write them leaves them to the next start.
    store.close().unwrap();
    assert!(dir.path().join("abort").exists());
    disk.refuse_in(None);
    let store = open(&config);
    (0..sent).for_each(|queue_id| assert_eq!(bodies(&store, "New", queue_id).len(), 1));
    assert_eq!(store.max_offset("T", 0), 0);
}

/// 40 queues on the simulated disk.
struct Many {
    disk: SimDisk,
    config: StoreConfig,
    clock: Arc<HandClock>,
}

impl Many {
    fn new(seed: u64) -> Self {
        let root = Path::new("/sim");
        let config = StoreConfig { queues_gather: 1 << 20, queues_synced_singly: 8, ..gathering(root) };
        Self { disk: SimDisk::new(root, seed), config, clock: clock_at(1_000_000) }
    }

    fn open(&self) -> Store {
        Store::open(self.config.clone(), Arc::new(self.disk.clone()), self.clock.clone()).unwrap()
    }

    fn send(&self, store: &Store) {
        for queue in 0..40 {
            put(store, &format!("T{}", queue / 4), queue % 4, b"", b"body");
        }
    }

    fn lengths(&self, store: &Store) -> Vec<usize> {
        (0..40).map(|queue| bodies(store, &format!("T{}", queue / 4), queue % 4).len()).collect()
    }
}

/// One sync makes all of them durable, files and names: what the checkpoint then says is true after a power cut.
#[test]
fn many_queues_are_flushed_by_one_sync_and_survive_a_power_cut() {
    let seed = seed();
    for number in 0..20 {
        let many = Many::new(seed.wrapping_add(number));
        let store = many.open();
        many.send(&store);
        store.flush().unwrap();
        let before = many.disk.syncs();
        store.flush_queues().unwrap();
        assert!(many.disk.syncs() - before <= 4, "{} syncs", many.disk.syncs() - before);
        store.persist_checkpoint().unwrap();
        drop(store);
        many.disk.restart(true);
        let read = many.disk.log_bytes_read();
        let store = many.open();
        assert_eq!(many.lengths(&store), [1; 40], "TANDEM_SEED={seed}, {number}");
        assert!(many.disk.log_bytes_read() > read);
    }
}

#[test]
fn a_sync_of_all_that_fails_ends_the_store_and_proves_nothing() {
    let seed = seed();
    let many = Many::new(seed);
    let store = many.open();
    many.send(&store);
    store.flush().unwrap();
    let proven = store.checkpoint();
    many.disk.plan(0, Fault::Sync(std::io::ErrorKind::Other));
    assert!(store.flush_queues().is_err() && store.failed().is_some());
    assert_eq!(store.checkpoint(), proven);
    drop(store);
    many.disk.restart(true);
    assert_eq!(many.lengths(&many.open()), [1; 40], "TANDEM_SEED={seed}");
}

/// A kill or a power cut at each call of dispatching, flushing and stopping.
#[test]
fn a_crash_at_every_call_of_a_flush_of_many_queues() {
    let seed = seed();
    for power_cut in [false, true] {
        for after in 0.. {
            let many = Many::new(seed);
            let store = many.open();
            many.send(&store);
            store.flush().unwrap();
            many.disk.plan(after, Fault::Crash);
            let ended = store.flush_queues().and_then(|()| store.persist_checkpoint()).and_then(|()| store.close());
            let crashed = many.disk.is_dead();
            drop(store);
            many.disk.restart(power_cut);
            assert_eq!(many.lengths(&many.open()), [1; 40], "TANDEM_SEED={seed}, call {after}, power cut: {power_cut}");
            if !crashed {
                assert!(after > 40 && ended.is_ok());
                break;
            }
        }
    }
}
