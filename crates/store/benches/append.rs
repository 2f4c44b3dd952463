//! Time to append, to dispatch and to read records of 1 KiB: `cargo bench -p store`. `TANDEM_BENCH_MIB` sets the volume,
//! `TANDEM_BENCH_DIR` the directory (default: the system's temporary one).

use std::{
    hint::black_box,
    os::unix::fs::FileExt,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use store::{Batch, Clock, EveryMessage, RealDisk, Store, StoreConfig};
use wire::record_encode::NewRecord;

struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64)
    }
}

fn record<'a>(topic: &'a str, queue_id: i32, properties: &'a [u8], body: &'a [u8]) -> NewRecord<'a> {
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
        properties,
        body,
    }
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn report(what: &str, records: usize, started: Instant) {
    let elapsed = started.elapsed();
    let ns = elapsed.as_nanos() as f64 / records as f64;
    println!("{what:<44} {ns:>9.0} ns a record {:>10.0} records/s", 1e9 / ns);
}

/// Appends `records` in batches; encoding is part of it.
fn append(store: &Store, records: usize, size: usize, properties: &[u8], body: &[u8]) {
    let mut batch = Batch::new();
    for first in (0..records).step_by(size) {
        batch.clear();
        for next in first..(first + size).min(records) {
            batch.push(&record("BenchTopic", (next % 8) as i32, properties, body)).expect("encodes");
        }
        store.append(&mut batch).expect("appends");
    }
}

fn pull(store: &Store) -> usize {
    let mut count = 0;
    for queue_id in 0..8 {
        let mut next = 0;
        while next < store.max_offset("BenchTopic", queue_id) {
            let got = store.get_messages("BenchTopic", queue_id, next, 32, &EveryMessage);
            count += got.count as usize;
            next = got.next_begin_offset;
            black_box(got.messages);
        }
    }
    count
}

fn run(dir: &std::path::Path, size: usize, records: usize, index_enabled: bool) {
    let dir = tempfile::tempdir_in(dir).expect("a directory");
    let config = StoreConfig { root: dir.path().to_path_buf(), index_enabled, ..StoreConfig::default() };
    let store = Store::open(config, Arc::new(RealDisk), Arc::new(SystemClock)).expect("opens");
    let properties = b"UNIQ_KEY\x017F00000100002A9F0000000000000001\x02TAGS\x01TagA\x02";
    // 1 KiB in all.
    let body = vec![b'x'; 1024 - 91 - 10 - properties.len()];
    append(&store, 1000, size, properties, &body);
    store.dispatch();
    let started = Instant::now();
    append(&store, records, size, properties, &body);
    report(&format!("append, batches of {size}"), records, started);
    let started = Instant::now();
    store.dispatch();
    report(if index_enabled { "  dispatch with index" } else { "  dispatch without index" }, records, started);
    let started = Instant::now();
    let count = pull(&store);
    report("  pull, 8 queues interleaved", count, started);
    let started = Instant::now();
    store.flush().expect("flushes");
    report("  flush", records, started);
    store.close().expect("closes");
}

/// What the operating system takes for the writes alone.
fn baseline(dir: &std::path::Path, size: usize, records: usize) {
    let file = tempfile::tempfile_in(dir).expect("a file");
    file.set_len(records as u64 * 1024).expect("sizes");
    let bytes = vec![b'x'; size * 1024];
    let started = Instant::now();
    for first in (0..records).step_by(size) {
        file.write_all_at(&bytes, first as u64 * 1024).expect("writes");
    }
    report(&format!("plain positioned writes of {size} KiB"), records, started);
}

fn main() {
    let dir = std::env::var_os("TANDEM_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let records = number("TANDEM_BENCH_MIB", 256) * 1024;
    for size in [1, 4, 16, 64] {
        baseline(&dir, size, records);
        run(&dir, size, records, size != 64);
    }
}
