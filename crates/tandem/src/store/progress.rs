//! How far a long command is: one line that is written over on a terminal, else a line every few seconds. Goes to
//! standard error, so that the result can be piped.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use store::inspect::Watch;

use super::table::bytes;

/// Between two looks of the line on a terminal.
const ON_TERMINAL: Duration = Duration::from_millis(200);
/// Between two lines elsewhere.
const IN_LOGS: Duration = Duration::from_secs(3);
/// How long a running broker is given before its files are read again.
const PAUSE: Duration = Duration::from_millis(25);

/// Tells rate and time left.
pub(super) struct Progress {
    quiet: bool,
    terminal: bool,
    began: Instant,
    told: Instant,
    shown: bool,
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        let now = Instant::now();
        Self { quiet, terminal: std::io::stderr().is_terminal(), began: now, told: now, shown: false }
    }

    /// Removes the line from the terminal.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Watch for Progress {
    fn progress(&mut self, done: u64, total: u64) {
        let every = if self.terminal { ON_TERMINAL } else { IN_LOGS };
        if self.quiet || self.told.elapsed() < every {
            return;
        }
        self.told = Instant::now();
        let line = line(done, total, self.began.elapsed());
        // Nobody may be there to see it: no reason to end.
        let _ = match self.terminal {
            true => write!(std::io::stderr(), "\r\x1b[K{line}"),
            false => writeln!(std::io::stderr(), "{line}"),
        };
        self.shown = self.terminal;
    }

    fn pause(&mut self) {
        std::thread::sleep(PAUSE);
    }
}

fn line(done: u64, total: u64, since: Duration) -> String {
    let rate = done as f64 / since.as_secs_f64().max(0.001);
    let percent = done.saturating_mul(100) / total.max(1);
    let left = match rate {
        rate if rate >= 1.0 => time((total.saturating_sub(done) as f64 / rate).ceil() as u64),
        _ => "unknown".into(),
    };
    format!("{percent:3}%  {} of {}  {}/s  {left} left", bytes(done), bytes(total), bytes(rate as u64))
}

fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_left() {
        let at = |done, seconds| line(done, 100 << 20, Duration::from_secs(seconds));
        assert_eq!(at(50 << 20, 10), " 50%  50.0 MiB of 100.0 MiB  5.0 MiB/s  10 s left");
        assert_eq!(at(1 << 20, 10), "  1%  1.0 MiB of 100.0 MiB  102.4 KiB/s  16 min 30 s left");
        assert_eq!(at(0, 10), "  0%  0 B of 100.0 MiB  0 B/s  unknown left");
        assert_eq!(at(100 << 20, 0).split("  ").last(), Some("0 s left"));
        assert_eq!(line(0, 0, Duration::ZERO), "  0%  0 B of 0 B  0 B/s  unknown left");
        assert_eq!(time(7300), "2 h 1 min");
    }
}
