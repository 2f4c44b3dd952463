//! DataVersion: when a table last changed.

use std::cmp::Ordering;

crate::json_object! {
    /// Version of a table. Equality compares all three fields and is what "unchanged" means between peers.
    ///
    /// Java reads an absent timestamp as now; here it is 0.
    #[derive(Copy, Eq, Hash)]
    pub struct DataVersion {
        /// Changes so far.
        "counter" counter: i64,
        /// Epoch of the master in controller mode, else 0.
        "stateVersion" state_version: i64,
        /// Time of the last change, in ms.
        "timestamp" timestamp: i64,
    }
}

impl DataVersion {
    /// After one more change, at `now_ms`.
    pub fn next(&mut self, now_ms: i64) {
        self.timestamp = now_ms;
        self.counter = self.counter.wrapping_add(1);
    }

    /// Same, in a new state.
    pub fn next_in_state(&mut self, now_ms: i64, state_version: i64) {
        self.state_version = state_version;
        self.next(now_ms);
    }
}

impl Ord for DataVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |version: &Self| (version.state_version, version.counter, version.timestamp);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for DataVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
