//! What many consume queues cost, from 10 to 50,000: once for each of them, and for each message when all have their files,
//! the same number of messages in each row, to the queues one after the other and all over the place: `cargo bench -p store
//! --bench queues`. `TANDEM_BENCH_MESSAGES` sets the number, `TANDEM_BENCH_QUEUES` the rows, `TANDEM_BENCH_DIR` the directory
//! (default: the system's temporary one). Each row runs in a process of its own, so that memory is counted from nothing.

use std::{
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use store::{Batch, Clock, RealDisk, Store, StoreConfig};
use wire::record_encode::NewRecord;

const ROWS: &str = "10 100 1000 10000 50000";
const QUEUES_OF_A_TOPIC: usize = 5;
const BATCH: usize = 64;
/// Messages a queue that exist before counting, in its file.
const FIRST: usize = 2;
/// From a message's queue to that of the next one where they are all over the place: a prime, so that none is left out, and
/// far enough that nothing of one queue is near anything of the other.
const FAR: usize = 7919;

struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64)
    }
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn open(root: &Path) -> Store {
    // An index would add a constant to each message and hide the slope.
    let config = StoreConfig { root: root.to_path_buf(), index_enabled: false, ..StoreConfig::default() };
    Store::open(config, Arc::new(RealDisk), Arc::new(SystemClock)).expect("opens")
}

/// Appends in batches and dispatches after each, message `n` to queue `n * step % queues`.
fn send(store: &Store, queues: usize, messages: usize, step: usize) {
    // Side by side, so that looking for a name here costs next to nothing: a broker has it from the network.
    let topics: String = (0..queues.div_ceil(QUEUES_OF_A_TOPIC)).map(topic).collect();
    let name_length = topic(0).len();
    let body = [b'x'; 200];
    let mut batch = Batch::new();
    for first in (0..messages).step_by(BATCH) {
        batch.clear();
        for next in first..(first + BATCH).min(messages) {
            let queue = next * step % queues;
            let topic = &topics[queue / QUEUES_OF_A_TOPIC * name_length..][..name_length];
            batch.push(&record(topic, (queue % QUEUES_OF_A_TOPIC) as i32, &body)).expect("encodes");
        }
        store.append(&mut batch).expect("appends");
        store.dispatch();
    }
}

fn topic(number: usize) -> String {
    format!("Topic{number:05}")
}

fn record<'a>(topic: &'a str, queue_id: i32, body: &'a [u8]) -> NewRecord<'a> {
    NewRecord {
        topic,
        queue_id,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: ([10, 0, 0, 1], 5000).into(),
        store_host: ([10, 0, 0, 2], 10911).into(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        properties: b"",
        body,
    }
}

/// User and system time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<u64> = stat[stat.rfind(')').expect("a name") + 1..]
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    Duration::from_millis(fields.iter().sum::<u64>() * 10)
}

/// Resident memory in MiB.
fn rss() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number") / 1024.0
}

/// What `work` costs, in µs of CPU for each of `count`.
fn cost(count: usize, work: impl FnOnce()) -> f64 {
    let before = cpu();
    work();
    (cpu() - before).as_secs_f64() * 1e6 / count as f64
}

/// Fills a store; prints CPU a message, CPU a new queue, and memory.
fn fill(root: &Path, queues: usize) {
    let messages = number("TANDEM_BENCH_MESSAGES", 1_000_000);
    let store = open(root);
    let new = cost(queues, || send(&store, queues, queues * FIRST, 1));
    let file = cost(queues, || store.flush_queues().expect("flushes"));
    let in_turn = cost(messages, || send(&store, queues, messages, 1));
    let anywhere = cost(messages, || send(&store, queues, messages, FAR));
    let memory = rss();
    let (started, before) = (Instant::now(), cpu());
    store.flush().expect("flushes");
    store.close().expect("closes");
    let (elapsed, spent) = (started.elapsed().as_secs_f64(), (cpu() - before).as_secs_f64());
    print!(
        "| {queues} | {in_turn:.2} | {anywhere:.2} | {new:.1} | {file:.0} | {memory:.0} | {elapsed:.2} | {spent:.2} "
    );
}

/// Starts on what was filled; prints times and memory.
fn start(root: &Path, queues: usize) {
    let started = Instant::now();
    let store = open(root);
    let elapsed = started.elapsed().as_secs_f64();
    let last = queues - 1;
    let (topic, queue_id) = (topic(last / QUEUES_OF_A_TOPIC), (last % QUEUES_OF_A_TOPIC) as i32);
    assert!(store.max_offset(&topic, queue_id) >= FIRST as i64);
    println!("| {elapsed:.3} | {:.2} | {:.0} |", cpu().as_secs_f64(), rss());
    store.close().expect("closes");
}

fn child(what: &str, root: &Path, queues: &str) {
    let status = Command::new(std::env::current_exe().expect("a path"))
        .env("TANDEM_BENCH_STEP", what)
        .env("TANDEM_BENCH_ROOT", root)
        .env("TANDEM_BENCH_ROW", queues)
        .status()
        .expect("starts");
    assert!(status.success(), "{what} of {queues} queues");
}

fn main() {
    let queues = number("TANDEM_BENCH_ROW", 0);
    if let (Ok(step), Some(root)) = (std::env::var("TANDEM_BENCH_STEP"), std::env::var_os("TANDEM_BENCH_ROOT")) {
        return if step == "fill" { fill(root.as_ref(), queues) } else { start(root.as_ref(), queues) };
    }
    let dir = std::env::var_os("TANDEM_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    println!(
        "| queues | CPU a message, queues in turn, µs | queues anywhere, µs | CPU a new queue, µs | CPU of making its file, µs | RSS, MiB | flush and stop, s | its CPU, s | clean start, s | its CPU, s | RSS then, MiB |"
    );
    println!("|{}", "---|".repeat(11));
    // Deleted at the end: a file system that has just deleted many files is slow to make others.
    let mut roots = Vec::new();
    for row in std::env::var("TANDEM_BENCH_QUEUES").as_deref().unwrap_or(ROWS).split_whitespace() {
        let root = tempfile::tempdir_in(&dir).expect("a directory");
        child("fill", root.path(), row);
        child("start", root.path(), row);
        roots.push(root);
    }
}
