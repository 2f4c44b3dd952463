//! What a master told of a moment when its log had an end that this log has not reached. Copies of what it calls delivered may
//! be missing here, and a broker that believed it would deliver them never: so it waits until the log is there.

use parking_lot::Mutex;

/// What waits, if anything.
pub struct Ahead<T>(Mutex<Option<Told<T>>>);

struct Told<T> {
    /// Who told it. Another master has another log.
    addr: String,
    news: T,
    /// End of that one's log.
    end: i64,
}

impl<T> Default for Ahead<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Ahead<T> {
    /// What counts now that this log ends at `own_end`: the `news` of the master at `addr`, whose log had the end `end` then, or
    /// what it told before. `None` while this log has reached neither.
    pub fn take(&self, addr: &str, news: T, end: i64, own_end: i64) -> Option<T> {
        let mut waiting = self.0.lock();
        if own_end >= end {
            *waiting = None;
            return Some(news);
        }
        let older = waiting.take().filter(|older| older.addr == addr);
        // The older one is kept, so that a log that is always a little behind gets one now and then.
        let told = older.unwrap_or_else(|| Told { addr: addr.to_owned(), news, end });
        if told.end <= own_end {
            return Some(told.news);
        }
        *waiting = Some(told);
        None
    }

    /// Forgets it, at a change of role.
    pub fn forget(&self) {
        *self.0.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_that_the_log_has_reached_counts() {
        let ahead = Ahead::default();
        assert_eq!(ahead.take("m", 9, 1000, 999), None);
        assert_eq!(ahead.take("m", 12, 2000, 999), None, "the older one is kept");
        assert_eq!(ahead.take("m", 20, 3000, 1500), Some(9));
        assert_eq!(ahead.take("m", 15, 2000, 1999), None);
        assert_eq!(ahead.take("m", 18, 2500, 2500), Some(18));
        assert_eq!(ahead.take("m", 21, 3000, 2600), None);
        ahead.forget();
        assert_eq!(ahead.take("m", 22, 4000, 3000), None, "what was told before the change of role is gone");
    }

    /// Its log may go elsewhere from the end that both know.
    #[test]
    fn what_another_master_told_never_counts() {
        let ahead = Ahead::default();
        assert_eq!(ahead.take("old", 50, 1000, 900), None);
        assert_eq!(ahead.take("new", 40, 1010, 1005), None);
        assert_eq!(ahead.take("new", 41, 1020, 1012), Some(40));
    }
}
