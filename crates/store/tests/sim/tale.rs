//! With `TANDEM_TALE=1` a life is told while it goes on: all that is done, the store's files after each stop and start, and
//! the timer's after each start and cut. Reading them is no step: the tale of a seed is that of the seed.

use std::path::Path;

use super::life::Life;

/// Whether somebody wants to read it.
pub fn is_told() -> bool {
    std::env::var_os("TANDEM_TALE").is_some()
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    bytes.get(at..at + 8).map_or(-1, |bytes| i64::from_be_bytes(bytes.try_into().unwrap()))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    bytes.get(at..at + 4).map_or(-1, |bytes| i32::from_be_bytes(bytes.try_into().unwrap()))
}

/// What a file is called.
fn number(path: &Path) -> usize {
    path.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0)
}

impl Life {
    /// Check point, log files and queues as the system has them now; FORMAT.md.
    pub fn tell_store_files(&mut self) {
        if !is_told() {
            return;
        }
        let point = self.disk.peek(Path::new("/sim/checkpoint")).unwrap_or_default();
        let [place, proof, log_proof] = [40, 48, 56].map(|at| i64_at(&point, at));
        let abort = self.disk.peek(Path::new("/sim/abort")).is_some();
        let length = |path: &Path| self.disk.peek(path).map_or(0, |bytes| bytes.len());
        let segments = self.disk.names_in(Path::new("/sim/commitlog"));
        let segments: Vec<_> = segments.iter().map(|path| format!("{}:{}", number(path), length(path))).collect();
        self.tell(format!(
            "  checkpoint: {place}, proof {proof}, of the log {log_proof}; abort {abort}; log {}",
            segments.join(" ")
        ));
        let index = self.disk.names_in(Path::new("/sim/index"));
        let index: Vec<_> = index.iter().map(|path| self.tell_index(path)).collect();
        self.tell(format!("  index (name: bytes, log places, used slots, next entry): {}", index.join(" ")));
        for (kind, unit) in [("consumequeue", 20), ("batchconsumequeue", 46)] {
            for topic in self.disk.names_in(&Path::new("/sim").join(kind)) {
                for queue in self.disk.names_in(&topic) {
                    self.tell_queue(&queue, unit);
                }
            }
        }
    }

    fn tell_index(&self, path: &Path) -> String {
        let bytes = self.disk.peek(path).unwrap_or_default();
        let [from, to] = [16, 24].map(|at| i64_at(&bytes, at));
        let [used, next] = [32, 36].map(|at| i32_at(&bytes, at));
        format!("{}: {}, {from} to {to}, {used}, {next};", number(path), bytes.len())
    }

    fn tell_queue(&mut self, dir: &Path, unit: usize) {
        let mut rows = Vec::new();
        for path in self.disk.names_in(dir) {
            let bytes = self.disk.peek(&path).unwrap_or_default();
            let places: Vec<_> = bytes.chunks_exact(unit).map(|unit| (i64_at(unit, 0), i32_at(unit, 8))).collect();
            let used = places.iter().rposition(|place| *place != (0, 0)).map_or(0, |last| last + 1);
            let places: Vec<_> = places[..used].iter().map(|(at, size)| if *size > 0 { *at } else { -1 }).collect();
            rows.push(format!("{}: {places:?}", number(&path) / unit));
        }
        self.tell(format!("  {} (places by queue offset, -1 for a hole): {}", dir.display(), rows.join(" ")));
    }

    /// Check point with its former states, timer log and wheel as the system has them now; FORMAT.md.
    pub fn tell_timer_files(&mut self) {
        if !is_told() || self.timers.is_none() {
            return;
        }
        let point = self.disk.peek(Path::new("/sim/config/timercheck")).unwrap_or_default();
        let [read_ms, flushed, queue_offset, master] = [0, 8, 16, 24].map(|at| i64_at(&point, at));
        self.tell(format!("  point: read {read_ms}, flushed {flushed}, queue {queue_offset}, master {master}"));
        let rows = point.get(64..512).unwrap_or_default().chunks(24).filter(|row| row.iter().any(|byte| *byte != 0));
        let rows: Vec<_> = rows.map(|row| [0, 8, 16].map(|at| i64_at(row, at))).collect();
        self.tell(format!("  states (log end, read, queue): {rows:?}"));
        for path in self.disk.names_in(Path::new("/sim/timerlog")) {
            let bytes = self.disk.peek(&path).unwrap_or_default();
            let units = bytes.chunks_exact(52).take_while(|unit| i32_at(unit, 0) == 52);
            let row = |unit: &[u8]| {
                let slot_ms = i64_at(unit, 16) + i64::from(i32_at(unit, 24));
                format!("{}>{}@{}", i64_at(unit, 4), i64_at(unit, 28), slot_ms / 1000)
            };
            let units: Vec<_> = units.map(row).collect();
            self.tell(format!("  {} (previous>physical@tick): {}", path.display(), units.join(" ")));
        }
        let wheel = self.disk.peek(Path::new("/sim/timerwheel"));
        let slots = wheel.iter().flat_map(|bytes| bytes.chunks_exact(32)).filter(|slot| i64_at(slot, 0) != 0);
        let slots: Vec<_> =
            slots.map(|slot| format!("{}:{}..{}", i64_at(slot, 0), i64_at(slot, 8), i64_at(slot, 16))).collect();
        self.tell(format!("  wheel of {:?} bytes: {}", wheel.map(|bytes| bytes.len()), slots.join(" ")));
    }
}
