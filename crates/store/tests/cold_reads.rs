//! Records far from the end of the log are read in pieces that many queues share: with few calls, and never from a piece
//! that is no longer what the log says.

mod common;

use std::{
    io,
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use common::{
    Random, bodies, clock_at, message,
    over_real_disk::{rest_of_disk, sizes_of_file},
    records, seed, small,
};
use store::{
    Batch, ColdReads, Disk, EveryMessage, File, GetStatus, MessageFilter, RealDisk, Retention, Store, StoreConfig,
};
use wire::record::RecordView;

/// Counts the reads of the log, fails those that touch one byte of its first file, and holds one up.
#[derive(Clone, Default)]
struct Counting {
    calls: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    /// One more than the place of the bad byte; 0 for none.
    bad: Arc<AtomicU64>,
    gate: Arc<Gate>,
}

/// Holds up the next read of a whole piece.
#[derive(Default)]
struct Gate {
    is_set: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    has_come: bool,
    is_open: bool,
}

impl Gate {
    fn pass(&self) {
        if self.is_set.swap(false, SeqCst) {
            let mut state = self.state.lock().unwrap();
            state.has_come = true;
            self.changed.notify_all();
            drop(self.changed.wait_while(state, |state| !state.is_open).unwrap());
        }
    }

    fn wait(&self) {
        drop(self.changed.wait_while(self.state.lock().unwrap(), |state| !state.has_come).unwrap());
    }

    fn open(&self) {
        self.state.lock().unwrap().is_open = true;
        self.changed.notify_all();
    }
}

struct CountingFile {
    file: Arc<dyn File>,
    disk: Counting,
    is_log: bool,
    is_first: bool,
}

impl Counting {
    /// Reads of the log, and their bytes, since the last call.
    fn take(&self) -> (u64, u64) {
        (self.calls.swap(0, SeqCst), self.bytes.swap(0, SeqCst))
    }
}

impl File for CountingFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if self.is_log {
            self.disk.calls.fetch_add(1, SeqCst);
            self.disk.bytes.fetch_add(buf.len() as u64, SeqCst);
            let touched = offset + 1..offset + 1 + buf.len() as u64;
            if self.is_first && touched.contains(&self.disk.bad.load(SeqCst)) {
                return Err(io::Error::other("a bad sector"));
            }
        }
        let read = self.file.read_at(offset, buf);
        if self.is_log && buf.len() == PIECE {
            self.disk.gate.pass();
        }
        read
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(offset, bytes)
    }

    sizes_of_file!();

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Disk for Counting {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let is_log = path.iter().any(|part| part == "commitlog");
        let is_first = is_log && path.ends_with("00000000000000000000");
        Ok(Arc::new(CountingFile { file: RealDisk.open(path, create)?, disk: self.clone(), is_log, is_first }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    rest_of_disk!();
}

const QUEUES: i32 = 8;
const PIECE: usize = 4096;

fn config(dir: &tempfile::TempDir) -> StoreConfig {
    StoreConfig {
        segment_size: 64 * 1024,
        queue_segment_size: 200_000,
        cold_reads: ColdReads { piece: PIECE, pieces: 16, behind: 8192, worth: 4, longest: 1024 },
        ..small(dir.path())
    }
}

fn open(config: &StoreConfig, disk: &Counting) -> Store {
    let store = Store::open(config.clone(), Arc::new(disk.clone()), clock_at(1_000_000)).unwrap();
    disk.take();
    store
}

/// A message for each queue in turn, `count` of them. Bodies tell the generation, the queue and the number.
fn in_turns(store: &Store, generation: u8, count: u32) {
    in_turns_from(store, generation, 0, count);
}

/// The same for the numbers from `first` on.
fn in_turns_from(store: &Store, generation: u8, first: u32, count: u32) {
    for number in first..count {
        let mut batch = Batch::new();
        let queue_id = number as i32 % QUEUES;
        batch.push(&message("T", queue_id, b"", &body(generation, queue_id, number))).unwrap();
        store.append(&mut batch).unwrap();
    }
    store.dispatch();
}

fn body(generation: u8, queue_id: i32, number: u32) -> Vec<u8> {
    let mut body = vec![generation; 60];
    body[1] = queue_id as u8;
    body[2..6].copy_from_slice(&number.to_be_bytes());
    body
}

/// What [`in_turns`] put into a queue.
fn expected(generation: u8, queue_id: i32, count: u32) -> Vec<Vec<u8>> {
    let numbers = (0..count).filter(|number| *number as i32 % QUEUES == queue_id);
    numbers.map(|number| body(generation, queue_id, number)).collect()
}

fn all_as_expected(store: &Store, generation: u8, count: u32) {
    for queue_id in 0..QUEUES {
        assert!(bodies(store, "T", queue_id) == expected(generation, queue_id, count), "queue {queue_id}");
    }
}

/// Messages from `first` on are of this generation, those before are not.
fn all_new_from(store: &Store, generation: u8, first: u32, count: u32) {
    for queue_id in 0..QUEUES {
        let found = bodies(store, "T", queue_id);
        let numbers = (0..count).filter(|number| *number as i32 % QUEUES == queue_id);
        for (body, number) in found.iter().zip(numbers.clone()) {
            assert_eq!(body[0] == generation, number >= first, "generation {generation}, queue {queue_id}, {number}");
        }
        assert_eq!(found.len(), numbers.count());
    }
}

/// Each queue in turn gets an answer of 32, as consumers of a backlog do.
fn drain(store: &Store) -> u64 {
    let mut next = [0; QUEUES as usize];
    let mut found = 0;
    while (0..QUEUES).any(|queue_id| next[queue_id as usize] < store.max_offset("T", queue_id)) {
        for queue_id in 0..QUEUES {
            let got = store.get_messages("T", queue_id, next[queue_id as usize], 32, &EveryMessage);
            next[queue_id as usize] = got.next_begin_offset;
            found += u64::from(got.count);
        }
    }
    found
}

#[test]
fn queues_that_lie_in_turns_share_what_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Counting::default();
    let store = open(&config(&dir), &disk);
    in_turns(&store, 1, 4000);
    disk.take();
    assert_eq!(drain(&store), 4000);
    let (calls, bytes) = disk.take();
    let log = store.max_phys() as u64;
    // The last 8 KiB are read one by one.
    assert!(calls < log / PIECE as u64 + 400, "{calls} reads of 4000 records");
    assert!(bytes < log + log / 2, "{bytes} bytes of a log of {log}");
    all_as_expected(&store, 1, 4000);
}

#[test]
fn a_cut_log_is_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Counting::default();
    let store = open(&config(&dir), &disk);
    in_turns(&store, 1, 400);
    all_as_expected(&store, 1, 400);
    for (generation, at) in [(2, 0), (3, 50), (4, 200)] {
        let keep = (store.queue_unit("T", at % QUEUES, i64::from(at / QUEUES)).unwrap()).physical_offset;
        store.truncate(keep).unwrap();
        // The same places again, with other bodies.
        in_turns_from(&store, generation, at as u32, 400);
        all_new_from(&store, generation, at as u32, 400);
    }
}

/// A piece is being read while the log is cut: it is forgotten all the same.
#[test]
fn a_piece_that_is_read_while_the_log_is_cut_does_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Counting::default();
    let store = open(&config(&dir), &disk);
    in_turns(&store, 1, 400);
    disk.gate.is_set.store(true, SeqCst);
    thread::scope(|scope| {
        scope.spawn(|| store.get_messages("T", 0, 0, 32, &EveryMessage));
        disk.gate.wait();
        scope.spawn(|| store.truncate(0).unwrap());
        while store.max_phys() > 0 {
            thread::yield_now();
        }
        disk.gate.open();
    });
    in_turns(&store, 2, 400);
    all_as_expected(&store, 2, 400);
}

/// Cuts the log at a place when it is asked, in the middle of a get.
struct Cutting<'a>(&'a Store, i64);

impl MessageFilter for Cutting<'_> {
    fn matches_tags_code(&self, _: Option<i64>) -> bool {
        if self.0.max_phys() > self.1 {
            self.0.truncate(self.1).unwrap();
        }
        true
    }

    fn matches_record(&self, _: &RecordView<'_>) -> bool {
        true
    }
}

/// Who began before the log was cut reads what is not written yet: no piece is made of that.
#[test]
fn a_get_that_outlives_a_cut_leaves_no_piece() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Counting::default();
    let config = config(&dir);
    let cold_reads = ColdReads { worth: 1, ..config.cold_reads };
    let store = open(&StoreConfig { cold_reads, ..config }, &disk);
    in_turns(&store, 1, 400);
    let cut = store.queue_unit("T", 0, 1).unwrap().physical_offset;
    assert_eq!(store.get_messages("T", 0, 2, 32, &Cutting(&store, cut)).count, 0);
    assert_eq!(store.max_phys(), cut);
    in_turns_from(&store, 2, QUEUES as u32, 400);
    all_new_from(&store, 2, QUEUES as u32, 400);
}

/// A replica whose log begins anew holds other bytes at the same places.
#[test]
fn a_log_that_begins_anew_is_read_anew() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = Counting::default();
    let (slave, master) = (open(&config(&dir), &disk), open(&config(&other), &disk));
    in_turns(&slave, 1, 400);
    in_turns(&master, 2, 400);
    all_as_expected(&slave, 1, 400);
    slave.truncate(0).unwrap();
    slave.set_slave(true);
    while slave.max_phys() < master.max_phys() {
        let bytes = master.read_log(slave.max_phys(), 4096).unwrap();
        slave.append_raw(slave.max_phys(), &bytes).unwrap();
    }
    slave.dispatch();
    all_as_expected(&slave, 2, 400);
}

#[test]
fn the_end_of_the_log_is_read_record_by_record() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Counting::default();
    let store = open(&config(&dir), &disk);
    in_turns(&store, 1, 400);
    disk.take();
    for queue_id in 0..QUEUES {
        let from = store.max_offset("T", queue_id) - 4;
        let got = store.get_messages("T", queue_id, from, 32, &EveryMessage);
        assert_eq!((got.count, records(&got.messages).len()), (4, 4));
    }
    let (calls, bytes) = disk.take();
    let size = store.queue_unit("T", 0, 0).unwrap().size as u64;
    assert_eq!((calls, bytes), (32, 32 * size));
}

#[test]
fn few_records_are_not_worth_a_piece() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Counting::default();
    let store = open(&config(&dir), &disk);
    in_turns(&store, 1, 400);
    disk.take();
    let size = store.queue_unit("T", 0, 0).unwrap().size as u64;
    let mut read = |queue_id| {
        let got = store.get_messages("T", queue_id, 0, 1, &EveryMessage);
        assert_eq!(got.count, 1);
        disk.take()
    };
    // The first that is asked for counts with those before: three are read by themselves, then the piece is.
    assert_eq!([0, 1, 2].map(&mut read), [(1, size); 3]);
    assert_eq!([3, 4, 5].map(&mut read), [(1, PIECE as u64), (0, 0), (0, 0)]);
}

#[test]
fn a_piece_that_cannot_be_read_spoils_no_record_but_the_bad_one() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Counting::default();
    let store = open(&config(&dir), &disk);
    in_turns(&store, 1, 400);
    let bad = store.queue_unit("T", 3, 1).unwrap();
    disk.bad.store(bad.physical_offset as u64 + 20, SeqCst);
    for queue_id in (0..QUEUES).filter(|queue_id| *queue_id != 3) {
        assert!(bodies(&store, "T", queue_id) == expected(1, queue_id, 400), "queue {queue_id}");
    }
    assert_eq!(store.get_messages("T", 3, 0, 1, &EveryMessage).count, 1);
    assert_eq!(store.get_messages("T", 3, 1, 1, &EveryMessage).status, GetStatus::Unreadable);
    // It can be read again: nothing of the failure stays.
    disk.bad.store(0, SeqCst);
    all_as_expected(&store, 1, 400);
}

#[test]
fn what_retention_took_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Counting::default();
    let store = open(&StoreConfig { segment_size: 8192, ..config(&dir) }, &disk);
    in_turns(&store, 1, 400);
    all_as_expected(&store, 1, 400);
    assert_eq!(store.get_messages("T", 0, 0, 1, &EveryMessage).count, 1);
    store.flush().unwrap();
    store.flush_queues().unwrap();
    let retention = Retention { now_ms: i64::MAX, reserved_ms: 0, regardless_of_age: true, max_segments: 2 };
    assert_eq!(store.delete_expired(retention).unwrap(), 2);
    assert_eq!(store.get_messages("T", 0, 0, 1, &EveryMessage).status, GetStatus::OffsetTooSmall);
    let left: usize = (0..QUEUES).map(|queue_id| bodies(&store, "T", queue_id).len()).sum();
    let first = (0..QUEUES).filter_map(|id| store.queue_unit("T", id, store.min_offset("T", id)));
    assert_eq!(first.map(|unit| unit.physical_offset).min(), Some(2 * 8192));
    assert!(left < 400 && left > 200, "{left}");
}

/// Any mix of sizes, queues, answers and cuts reads as a store that has no pieces.
#[test]
fn pieces_change_no_answer() {
    let mut random = Random(seed());
    for _ in 0..20 {
        let (with, without) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let disk = Counting::default();
        let piece = 256 + random.below(8000) as usize;
        let cold_reads = ColdReads { piece, pieces: 3, behind: 0, worth: 1 + random.below(6) as usize, longest: 900 };
        let segment_size = 8192 + random.below(30_000);
        let with = open(&StoreConfig { cold_reads, segment_size, ..config(&with) }, &disk);
        let plain = StoreConfig { cold_reads: ColdReads::NONE, segment_size, ..config(&without) };
        let without = open(&plain, &disk);
        for _ in 0..200 {
            let body = vec![random.next() as u8; random.below(1500) as usize];
            let queue_id = random.below(3) as i32;
            for store in [&with, &without] {
                let mut batch = Batch::new();
                batch.push(&message("T", queue_id, b"", &body)).unwrap();
                store.append(&mut batch).unwrap();
                store.dispatch();
            }
            let (queue_id, max) = (random.below(3) as i32, 1 + random.below(40) as i32);
            let offset = random.below(with.max_offset("T", queue_id).max(1) as u64) as i64;
            let answer = |store: &Store| {
                let got = store.get_messages("T", queue_id, offset, max, &EveryMessage);
                (got.status, got.next_begin_offset, got.messages, got.places)
            };
            assert_eq!(answer(&with), answer(&without));
            if random.below(40) == 0 && offset < with.max_offset("T", queue_id) {
                let cut = with.queue_unit("T", queue_id, offset).unwrap().physical_offset;
                for store in [&with, &without] {
                    store.truncate(cut).unwrap();
                }
            }
        }
    }
}
