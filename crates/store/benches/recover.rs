//! Start after `kill -9` of a log that was never proven: 16 queues, records of 1 KiB, indexed by unique key.
//! `cargo bench -p store --bench recover`. `TANDEM_BENCH_MIB` sets the volume (1024), `TANDEM_BENCH_DIR` the directory
//! (default: the system's temporary one), `TANDEM_BENCH_KEEP=1` leaves the store there for another broker to start on,
//! `TANDEM_BENCH_STORE` measures one that was left.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use store::{Batch, Clock, RealDisk, Store, StoreConfig};
use wire::record_encode::NewRecord;

struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64)
    }
}

fn record<'a>(queue_id: i32, properties: &'a [u8], body: &'a [u8]) -> NewRecord<'a> {
    NewRecord {
        topic: "BenchTopic",
        queue_id,
        flag: 0,
        sys_flag: 0,
        born_timestamp: SystemClock.now_ms(),
        born_host: ([10, 0, 0, 1], 5000).into(),
        store_host: ([10, 0, 0, 2], 10911).into(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        properties,
        body,
    }
}

/// Fills the log and ends like a killed process: nothing is closed, no checkpoint is written.
fn fill(config: &StoreConfig, records: usize) {
    let store = Store::open(config.clone(), Arc::new(RealDisk), Arc::new(SystemClock)).expect("opens");
    let mut batch = Batch::new();
    for first in (0..records).step_by(64) {
        batch.clear();
        for number in first..(first + 64).min(records) {
            let properties = format!("UNIQ_KEY\x017F00000100002A9F{number:016X}\x02TAGS\x01TagA\x02");
            let body = vec![b'a' + (number % 26) as u8; 1024 - 91 - 10 - properties.len()];
            batch.push(&record((number % 16) as i32, properties.as_bytes(), &body)).expect("encodes");
        }
        store.append(&mut batch).expect("appends");
        store.dispatch();
    }
    // So that the start below measures a start, not the writing back of what was written here.
    store.flush().expect("flushes");
    store.flush_queues().expect("flushes");
}

/// Time and CPU time.
fn start(config: &StoreConfig) -> (Duration, f64) {
    let (started, used) = (Instant::now(), cpu_seconds());
    let store = Store::open(config.clone(), Arc::new(RealDisk), Arc::new(SystemClock)).expect("opens");
    let took = (started.elapsed(), cpu_seconds() - used);
    assert!(store.max_offset("BenchTopic", 15) > 0);
    took
}

/// User and system time of this process, in hundredths.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn forget_progress(root: &Path) {
    let _ = std::fs::remove_file(root.join("checkpoint"));
}

/// Drops the files below a directory from the page cache.
fn cool(dir: &Path) {
    for entry in std::fs::read_dir(dir).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            cool(&path);
        } else if let Ok(file) = std::fs::File::open(&path) {
            file.sync_all().expect("syncs");
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advises");
        }
    }
}

fn main() {
    let dir = std::env::var_os("TANDEM_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let mib = std::env::var("TANDEM_BENCH_MIB").ok().and_then(|value| value.parse().ok()).unwrap_or(1024usize);
    let dir = tempfile::tempdir_in(dir).expect("a directory");
    let left = std::env::var_os("TANDEM_BENCH_STORE").map(std::path::PathBuf::from);
    let root = left.clone().unwrap_or_else(|| dir.path().to_path_buf());
    let config = StoreConfig { root: root.clone(), ..StoreConfig::default() };
    if left.is_none() {
        fill(&config, mib * 1024);
    }
    let report = |what: &str, (took, cpu): (Duration, f64)| {
        let rate = mib as f64 / 1024.0 * 1.073_741_824 / took.as_secs_f64();
        println!("{what:<44} {:>8.2} s {rate:>8.2} GB/s, CPU {cpu:.2} s", took.as_secs_f64());
    };
    for round in 0..2 {
        forget_progress(&root);
        report(if round == 0 { "killed, nothing proven, files in memory" } else { "again" }, start(&config));
    }
    forget_progress(&root);
    cool(&root);
    report("killed, nothing proven, files on disk", start(&config));
    report("killed again, all proven", start(&config));
    if std::env::var_os("TANDEM_BENCH_KEEP").is_some() {
        forget_progress(&root);
        println!("the store is in {}", dir.keep().display());
    }
}
