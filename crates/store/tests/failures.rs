//! A disk that fails on demand: nothing is acknowledged that may be lost, and nothing is tried twice.

mod common;

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
    },
};

use common::{
    bodies, clock_at, message,
    over_real_disk::{rest_of_disk, sizes_of_file},
    small,
};
use store::{AppendError, Batch, Boundary, Disk, File, GetStatus, RealDisk, Store, StoreError, Timer, TimerConfig};
use wire::{property, topic};

/// Fails writes or syncs below a directory name once a countdown is over, reads and opening when told to.
#[derive(Clone)]
struct Faulty {
    only_in: &'static str,
    kind: io::ErrorKind,
    writes_left: Arc<AtomicI64>,
    syncs_left: Arc<AtomicI64>,
    reads_fail: Arc<AtomicBool>,
    opens_fail: Arc<AtomicBool>,
}

struct FaultyFile {
    file: Arc<dyn File>,
    disk: Faulty,
    concerned: bool,
}

impl Faulty {
    fn new(only_in: &'static str, kind: io::ErrorKind) -> Self {
        let never = || Arc::new(AtomicI64::new(i64::MAX));
        let (reads_fail, opens_fail) = Default::default();
        Self { only_in, kind, writes_left: never(), syncs_left: never(), reads_fail, opens_fail }
    }

    fn open(&self, config: store::StoreConfig) -> Store {
        Store::open(config, Arc::new(self.clone()), clock_at(1_000_000)).unwrap()
    }

    fn count(&self, left: &AtomicI64) -> io::Result<()> {
        if left.fetch_sub(1, SeqCst) > 0 { Ok(()) } else { Err(self.kind.into()) }
    }
}

impl File for FaultyFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if self.concerned && self.disk.reads_fail.load(SeqCst) {
            return Err(self.disk.kind.into());
        }
        self.file.read_at(offset, buf)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.concerned && self.disk.count(&self.disk.writes_left).is_err() {
            // As a full disk does: a part arrives.
            self.file.write_all_at(offset, &bytes[..bytes.len() * 2 / 3])?;
            return Err(self.disk.kind.into());
        }
        self.file.write_all_at(offset, bytes)
    }

    sizes_of_file!();

    fn sync(&self) -> io::Result<()> {
        if self.concerned {
            self.disk.count(&self.disk.syncs_left)?;
        }
        self.file.sync()
    }
}

impl Disk for Faulty {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let concerned = path.to_str().unwrap().contains(self.only_in);
        if concerned && self.opens_fail.load(SeqCst) {
            return Err(self.kind.into());
        }
        Ok(Arc::new(FaultyFile { file: RealDisk.open(path, create)?, disk: self.clone(), concerned }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    rest_of_disk!();
}

fn batch_of(bodies: &[&[u8]]) -> Batch {
    let mut batch = Batch::new();
    bodies.iter().for_each(|body| assert!(batch.push(&message("T", 0, b"UNIQ_KEY\x01k\x02", body)).is_ok()));
    batch
}

#[test]
fn a_failed_fsync_ends_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::new("commitlog", io::ErrorKind::Other);
    let store = disk.open(small(dir.path()));
    store.append(&mut batch_of(&[b"a"])).unwrap();
    disk.syncs_left.store(0, SeqCst);
    assert!(store.flush().is_err());
    assert_eq!(store.marks().flushed.get(), 0);
    disk.syncs_left.store(i64::MAX, SeqCst);
    assert!(matches!(store.flush(), Err(StoreError::Failed(_))));
    assert!(matches!(store.append(&mut batch_of(&[b"b"])), Err(AppendError::Failed(_))));
    assert!(store.failed().unwrap().contains("sync") && !store.is_writeable());
    assert!(store.close().is_err() && dir.path().join("abort").exists());
}

#[test]
fn a_failed_write_ends_the_store_and_counts_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::new("commitlog", io::ErrorKind::Other);
    let store = disk.open(small(dir.path()));
    store.append(&mut batch_of(&[b"a"])).unwrap();
    let end = store.max_phys();
    disk.writes_left.store(0, SeqCst);
    assert!(matches!(store.append(&mut batch_of(&[b"b", b"c", b"d"])), Err(AppendError::Failed(_))));
    assert_eq!((store.max_phys(), store.marks().appended.get()), (end, end));
    assert!(store.failed().is_some());
}

#[test]
fn a_full_disk_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::new("commitlog", io::ErrorKind::StorageFull);
    let store = disk.open(small(dir.path()));
    store.append(&mut batch_of(&[b"a"])).unwrap();
    let end = store.max_phys();
    // The batch needs two segments: it fails in the second, and at once.
    let long = vec![9; 2000];
    for writes in [2, 0] {
        store.check_space(&store::SpaceLimits { warning_ratio: 1.0, reserved_bytes: Some(0), ..Default::default() });
        disk.writes_left.store(writes, SeqCst);
        let error = store.append(&mut batch_of(&[&long, &long, b"c"])).unwrap_err();
        assert!(matches!(error, AppendError::NoSpace(_)), "{error}");
        assert_eq!(store.max_phys(), end);
        assert!(!dir.path().join("commitlog/00000000000000004096").exists());
    }
    disk.writes_left.store(i64::MAX, SeqCst);
    store.check_space(&store::SpaceLimits { warning_ratio: 1.0, reserved_bytes: Some(0), ..Default::default() });
    let mut batch = batch_of(&[b"d"]);
    store.append(&mut batch).unwrap();
    assert_eq!((batch.entries()[0].queue_offset, batch.entries()[0].physical_offset), (1, end));
    drop(store);
    let store = common::open(&small(dir.path()));
    assert_eq!(bodies(&store, "T", 0), [b"a", b"d"]);
}

#[test]
fn a_look_up_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::new("index/", io::ErrorKind::StorageFull);
    let store = disk.open(small(dir.path()));
    store.append(&mut batch_of(&[b"a"])).unwrap();
    store.dispatch();
    disk.writes_left.store(0, SeqCst);
    store.append(&mut batch_of(&[b"b"])).unwrap();
    store.dispatch();
    let writes = disk.writes_left.load(SeqCst);
    assert_eq!(store.query("T", "k", 64, 0, i64::MAX).physical_offsets.len(), 2);
    assert_eq!(disk.writes_left.load(SeqCst), writes);
}

#[test]
fn queues_without_space_catch_up_by_themselves() {
    for only_in in ["consumequeue", "index/"] {
        let dir = tempfile::tempdir().unwrap();
        let disk = Faulty::new(only_in, io::ErrorKind::StorageFull);
        let store = disk.open(small(dir.path()));
        store.append(&mut batch_of(&[b"a"])).unwrap();
        store.dispatch();
        disk.writes_left.store(0, SeqCst);
        store.append(&mut batch_of(&[b"b", b"c"])).unwrap();
        store.dispatch();
        assert_eq!(bodies(&store, "T", 0), [b"a", b"b", b"c"], "what waits for space in memory is there");
        assert_eq!(store.query("T", "k", 64, 0, i64::MAX).physical_offsets.len(), 3, "{only_in}");
        assert!(store.flush_queues().unwrap_err().is_disk_full() && store.failed().is_none(), "{only_in}");
        disk.writes_left.store(i64::MAX, SeqCst);
        store.append(&mut batch_of(&[b"d"])).unwrap();
        store.dispatch();
        assert_eq!(bodies(&store, "T", 0), [b"a", b"b", b"c", b"d"], "{only_in}");
        assert_eq!(store.query("T", "k", 64, 0, i64::MAX).physical_offsets.len(), 4, "{only_in}");
        store.flush_queues().unwrap();
    }
}

#[test]
fn what_the_device_does_not_give_is_not_taken_for_absent() {
    let segments = ["00000000000000000000", "00000000000000004096", "00000000000000008192"];
    for (number, segment) in segments.into_iter().enumerate() {
        for clean in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let store = common::open(&small(dir.path()));
            let bodies_of = |count| (0..count).map(|byte| vec![byte; 1000]).collect::<Vec<_>>();
            let whole = bodies_of(9);
            whole.iter().for_each(|body| store.append(&mut batch_of(&[body])).unwrap());
            store.dispatch();
            if clean {
                store.close().unwrap();
            }
            drop(store);
            let disk = Faulty::new(segment, io::ErrorKind::PermissionDenied);
            let refused = |what: &Arc<AtomicBool>| {
                what.store(true, SeqCst);
                let opened = Store::open(small(dir.path()), Arc::new(disk.clone()), clock_at(1_000_000));
                what.store(false, SeqCst);
                opened.err().map(|error| error.to_string())
            };
            let error = refused(&disk.opens_fail).expect("it belongs to somebody else");
            assert!(error.contains("open") && error.contains(segment), "{error}");
            // What a start does not look at may fail later.
            match refused(&disk.reads_fail) {
                Some(error) => assert!(error.contains("read") && error.contains(segment), "{error}"),
                None => assert!(number < segments.len() - 1, "the last one is read"),
            }
            assert_eq!(bodies(&common::open(&small(dir.path())), "T", 0), whole, "{segment} {clean}");
        }
    }
}

/// Descriptors that ran out, a device that does not answer for a while: a consumer that is led on would never see these
/// messages.
#[test]
fn nobody_is_led_past_what_cannot_be_read_now() {
    let bodies_of = |numbers: std::ops::Range<u8>| numbers.map(|byte| vec![byte; 1000]).collect::<Vec<_>>();
    for only_in in ["commitlog/00000000000000004096", "consumequeue/T/0/00000000000000000000"] {
        let dir = tempfile::tempdir().unwrap();
        let disk = Faulty::new(only_in, io::ErrorKind::Other);
        let store = disk.open(small(dir.path()));
        let whole = bodies_of(0..9);
        whole.iter().for_each(|body| store.append(&mut batch_of(&[body])).unwrap());
        store.dispatch();
        store.flush_queues().unwrap();
        let mut next = 0;
        disk.reads_fail.store(true, SeqCst);
        let refused = loop {
            let got = store.get_messages("T", 0, next, 32, &store::EveryMessage);
            if got.status != GetStatus::Found {
                break got;
            }
            next = got.next_begin_offset;
        };
        assert_eq!((refused.status, refused.next_begin_offset), (GetStatus::Unreadable, next), "{only_in}");
        assert!(next < 9 && refused.messages.is_empty());
        let by_time = || store.offset_by_time("T", 0, 1_000_000, Boundary::Lower);
        assert!(by_time().is_err(), "{only_in}");
        disk.reads_fail.store(false, SeqCst);
        assert_eq!(by_time().unwrap(), 0);
        let got = store.get_messages("T", 0, next, 1, &store::EveryMessage);
        assert_eq!(common::records(&got.messages)[0].1, whole[next as usize]);
        assert_eq!(bodies(&store, "T", 0), whole);
    }
}

/// The device may give it again; one that stays damaged holds up the others for a while only.
#[test]
fn a_timer_message_that_cannot_be_read_now_is_not_given_up() {
    const NOW: i64 = 1_795_500_000_000;
    let dir = tempfile::tempdir().unwrap();
    let (disk, clock) = (Faulty::new("commitlog", io::ErrorKind::Other), clock_at(NOW));
    let store = Store::open(small(dir.path()), Arc::new(disk.clone()), clock.clone()).unwrap();
    let timer = Timer::open(&store, TimerConfig::default(), clock.clone()).unwrap();
    timer.set_delivering(&store, true).unwrap();
    for due_ms in [NOW + 1_500, NOW + 2_500, NOW + 63_500] {
        let mut text = Vec::new();
        let properties = [
            (property::UNIQ_KEY, due_ms.to_string()),
            (property::TIMER_OUT_MS, (due_ms / 1000 * 1000).to_string()),
            (property::TIMER_DELIVER_MS, due_ms.to_string()),
            (property::REAL_TOPIC, "T".to_owned()),
        ];
        properties.iter().for_each(|(name, value)| property::push(&mut text, name, value));
        common::put(&store, topic::TIMER, 0, &text, due_ms.to_string().as_bytes());
    }
    let enqueue = || timer.enqueue(&store, 10, &mut |_, _| {}).unwrap();
    let host = || "10.0.0.2:10911".parse().unwrap();
    let deliver = |now_ms: i64| {
        clock.0.store(now_ms, SeqCst);
        timer.deliver(&store, host(), 10, &|_, _| true, &mut |_, _| {}).map(|told| (told.count, told.dropped))
    };
    disk.reads_fail.store(true, SeqCst);
    assert_eq!(enqueue(), 0);
    disk.reads_fail.store(false, SeqCst);
    assert_eq!(enqueue(), 3);
    disk.reads_fail.store(true, SeqCst);
    assert!(deliver(NOW + 1_500).is_err() && deliver(NOW + 2_000).is_err());
    disk.reads_fail.store(false, SeqCst);
    assert_eq!(deliver(NOW + 2_400).unwrap(), (1, 0));
    store.dispatch();
    enqueue();
    disk.reads_fail.store(true, SeqCst);
    assert!(deliver(NOW + 2_500).is_err() && deliver(NOW + 29_000).is_err());
    assert_eq!(deliver(NOW + 62_000).unwrap(), (0, 0), "the second one is passed over");
    disk.reads_fail.store(false, SeqCst);
    assert_eq!(deliver(NOW + 63_500).unwrap(), (1, 0));
    store.dispatch();
    assert_eq!(bodies(&store, "T", 0), [(NOW + 1_500).to_string().as_bytes(), (NOW + 63_500).to_string().as_bytes()]);
    assert!(store.failed().is_none());
}
