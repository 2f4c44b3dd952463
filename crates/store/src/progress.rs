//! How far a recovery is, for those who wait for it. Told by `recover`, read from any thread; decides nothing.

use std::{
    fmt,
    sync::atomic::{AtomicI64, Ordering::Relaxed},
};

/// The part of the commit log that a start reads again, and how far it is.
#[derive(Debug, Default)]
pub struct Progress {
    from: AtomicI64,
    at: AtomicI64,
    end: AtomicI64,
}

impl Progress {
    pub(crate) fn begin(&self, from: i64, end: i64) {
        self.from.store(from, Relaxed);
        self.at.store(from, Relaxed);
        self.end.store(end, Relaxed);
    }

    pub(crate) fn reached(&self, at: i64) {
        self.at.store(at, Relaxed);
    }

    /// 0 to 100; `None` before the log is read. The end of the last segment counts as the end: what is not yet written
    /// of it is passed at once.
    pub fn percent(&self) -> Option<u8> {
        let (from, at, end) = (self.from.load(Relaxed), self.at.load(Relaxed), self.end.load(Relaxed));
        (end > 0).then(|| ((at - from) * 100 / (end - from).max(1)).clamp(0, 100) as u8)
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(percent) = self.percent() else { return f.write_str("opening the store's files") };
        let (at, end) = (self.at.load(Relaxed), self.end.load(Relaxed));
        write!(f, "reading the commit log, {percent} % (offset {at} of {end})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_how_far_it_is() {
        let progress = Progress::default();
        assert_eq!((progress.percent(), progress.to_string()), (None, "opening the store's files".to_owned()));
        progress.begin(1000, 3000);
        assert_eq!(progress.percent(), Some(0));
        progress.reached(2000);
        assert_eq!(progress.to_string(), "reading the commit log, 50 % (offset 2000 of 3000)");
        progress.begin(3000, 3000);
        assert_eq!(progress.percent(), Some(0));
    }
}
