//! CPU time and memory of another process, from `/proc`. Measures nothing where that does not exist.

use std::fs;

/// Ticks of `/proc/PID/stat` a second: fixed by the kernel's interface to programs, whatever its own clock is.
const TICKS: f64 = 100.0;

/// A process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// CPU time since its start.
    pub cpu_seconds: f64,
    /// Resident bytes, file pages included.
    pub rss: u64,
    /// Resident bytes that belong to no file.
    pub anonymous: u64,
}

/// The process now; `None` when it is not there or not ours to see.
pub(super) fn sample(pid: u32) -> Option<Sample> {
    let cpu_seconds = cpu_seconds(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    let (rss, anonymous) = memory(pid)?;
    Some(Sample { cpu_seconds, rss, anonymous })
}

/// User and system time; the name before them may hold blanks and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS)
}

/// `smaps_rollup` where it can be read, else `status`.
fn memory(pid: u32) -> Option<(u64, u64)> {
    let exact = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    if let Some(found) = exact.and_then(|text| Some((field(&text, "Rss:")?, field(&text, "Anonymous:")?))) {
        return Some(found);
    }
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some((field(&text, "VmRSS:")?, field(&text, "RssAnon:")?))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_after_a_strange_name() {
        let stat =
            "17 (a) b (c)) S 1 17 17 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 5 0 100 1000 10 18446744073709551615";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("17 (x"), None);
    }

    #[test]
    fn memory_fields() {
        assert_eq!(field("Rss:   12 kB\nAnonymous:  8 kB\n", "Anonymous:"), Some(8192));
        assert_eq!(field("Rss:   12 kB\n", "Anonymous:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process() {
        let own = sample(std::process::id()).unwrap();
        assert!(own.rss > 0 && own.anonymous > 0);
    }
}
