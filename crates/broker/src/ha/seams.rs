//! The places at which this log went on with a master's bytes before that master had told what it has there (W-22). What was
//! copied since is the master's own and tells nothing of what lies before, so each of them is compared later, by
//! [`super::parted`]; a restart forgets none. Knows no master and compares nothing.

use std::{collections::BTreeSet, path::PathBuf};

use parking_lot::Mutex;

use crate::persist::{self, PersistError};

/// Many more than a slave has that connects again and again while its master's listener is away.
const MOST: usize = 256;

wire::json_object! {
    /// `config/uncompared.json`.
    pub struct Stored {
        /// Where the records begin, in the log.
        "offsets" offsets: Vec<i64>,
    }
}

/// Records of this log that are not compared yet, by where they begin.
pub struct Seams {
    state: Mutex<State>,
    file: PathBuf,
}

#[derive(Default)]
struct State {
    offsets: BTreeSet<i64>,
    is_saved: bool,
}

impl Seams {
    /// Loads `uncompared.json`.
    ///
    /// # Errors
    /// Neither it nor its `.bak` can be read.
    pub fn load(file: PathBuf) -> Result<Self, PersistError> {
        let stored = persist::load::<Stored>(&file)?.unwrap_or_default();
        let state = State { offsets: stored.offsets.into_iter().collect(), is_saved: true };
        Ok(Self { state: Mutex::new(state), file })
    }

    /// All of them, the oldest first.
    pub fn offsets(&self) -> Vec<i64> {
        self.state.lock().offsets.iter().copied().collect()
    }

    /// True when no place is left that is not compared.
    pub fn is_empty(&self) -> bool {
        self.state.lock().offsets.is_empty()
    }

    /// Bytes may follow the record at `offset` before it is compared. Of very many the oldest and the newest are kept.
    pub fn add(&self, offset: i64) {
        let mut state = self.state.lock();
        if state.offsets.contains(&offset) {
            return;
        }
        if state.offsets.len() >= MOST {
            state.offsets.pop_last();
        }
        state.offsets.insert(offset);
        state.is_saved = false;
    }

    /// The record at `offset` is compared.
    pub fn remove(&self, offset: i64) {
        self.retain(|other| other != offset);
    }

    /// Forgets those of which nothing is there to compare.
    pub fn retain(&self, is_there: impl Fn(i64) -> bool) {
        let mut state = self.state.lock();
        let before = state.offsets.len();
        state.offsets.retain(|offset| is_there(*offset));
        state.is_saved &= state.offsets.len() == before;
    }

    /// Writes the file when something has changed. What cannot be written counts until this process ends.
    pub fn save(&self) {
        let mut state = self.state.lock();
        if state.is_saved {
            return;
        }
        let stored = Stored { offsets: state.offsets.iter().copied().collect() };
        match persist::apart(|| persist::save(&self.file, &stored)) {
            Ok(()) => state.is_saved = true,
            Err(error) => tracing::warn!("what of this log is not compared with the master's is not written: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seams_outlast_a_restart_until_they_are_compared() {
        let dir = tempfile::tempdir().unwrap();
        let load = || Seams::load(dir.path().join("uncompared.json")).unwrap();
        let seams = load();
        seams.save();
        assert!(seams.is_empty() && !dir.path().join("uncompared.json").exists(), "nothing is written for nothing");
        for offset in [300, 100, 300] {
            seams.add(offset);
        }
        seams.save();
        let seams = load();
        assert_eq!(seams.offsets(), [100, 300]);
        seams.remove(100);
        seams.save();
        assert_eq!(load().offsets(), [300]);
    }

    #[test]
    fn of_too_many_seams_the_oldest_and_the_newest_stay() {
        let seams = Seams::load(PathBuf::new().join("uncompared.json")).unwrap();
        (0..1000).for_each(|offset| seams.add(offset));
        let offsets = seams.offsets();
        assert_eq!((offsets.len(), offsets[0], offsets[MOST - 2], offsets[MOST - 1]), (MOST, 0, 254, 999));
    }
}
