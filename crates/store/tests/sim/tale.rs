//! With `TANDEM_TALE=1` a life is told while it goes on: all that is done, and the timer's files after each start and cut.
//! Reading them is no step: the tale of a seed is that of the seed.

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

impl Life {
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
