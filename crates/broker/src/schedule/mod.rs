//! Delay levels: messages that wait in `SCHEDULE_TOPIC_XXXX` until their time, and how far each level is.
//! Source: `broker/.../schedule/ScheduleMessageService.java`; reference store 21, broker 8.1.
//!
//! Two positions a level. `delivered` is where delivery goes on; it moves when the copies are written. What is in
//! `delayOffset.json` and told to slaves follows when these copies are on the device and at every connected slave: a
//! file or a slave that knew of a delivery whose copy is lost would lose the message. [`live`] keeps the first position
//! over a kill, [`deliver`] moves it.

mod deliver;
mod live;

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard, RwLock};
use wire::{
    body::{DataVersion, DelayOffsetSerializeWrapper as Wrapper},
    topic,
};

pub use deliver::run;
use live::Live;

use crate::{
    ahead::Ahead,
    context::{Broker, now_ms},
    persist::{self, PersistError},
};

/// Progress of each delay level, `delayOffset.json`.
pub struct DelayOffsets {
    state: RwLock<State>,
    delays_ms: Vec<i64>,
    file: PathBuf,
    saved: Mutex<Option<Wrapper>>,
    version_step: i64,
    /// Held while messages are delivered, and while the role changes.
    turn: Mutex<()>,
    /// Tables of the master that this slave's log has not reached.
    ahead: Ahead<Wrapper>,
}

#[derive(Default)]
struct State {
    offsets: BTreeMap<i32, i64>,
    version: DataVersion,
    updates: i64,
    /// Where delivery goes on, for the levels that were delivered from since this broker leads.
    delivered: BTreeMap<i32, i64>,
    /// Ends of copies that are not safe yet, in log order, with what they mean for their level.
    unsafe_copies: VecDeque<(i64, i32, i64)>,
}

impl DelayOffsets {
    /// Loads `delayOffset.json`.
    pub fn load(file: PathBuf, delays_ms: Vec<i64>, version_step: i64) -> Result<Self, PersistError> {
        let stored = persist::load::<Wrapper>(&file)?.unwrap_or_default();
        let state = State { offsets: stored.offset_table, version: stored.data_version, ..State::default() };
        Ok(Self {
            state: RwLock::new(state),
            delays_ms,
            file,
            saved: Mutex::default(),
            version_step: version_step.max(1),
            turn: Mutex::default(),
            ahead: Ahead::default(),
        })
    }

    /// Number of levels.
    pub fn levels(&self) -> usize {
        self.delays_ms.len()
    }

    /// A level in range.
    pub fn clamp_level(&self, level: i32) -> i32 {
        level.clamp(1, self.delays_ms.len() as i32)
    }

    /// Next queue offset of a level (1 is the first), as file and slaves have it.
    pub fn get(&self, level: i32) -> i64 {
        self.state.read().offsets.get(&level).copied().unwrap_or(0)
    }

    /// Next queue offset of a level to deliver.
    pub fn next(&self, level: i32) -> i64 {
        let state = self.state.read();
        state.delivered.get(&level).or(state.offsets.get(&level)).copied().unwrap_or(0)
    }

    /// A level is delivered up to `next`; the copies of that lie before `end` in the log.
    fn moved(&self, level: i32, next: i64, end: i64) {
        let mut state = self.state.write();
        state.delivered.insert(level, next);
        state.unsafe_copies.push_back((end, level, next));
    }

    /// Copies that lie before `end` are safe.
    pub fn settle(&self, end: i64) {
        if self.state.read().unsafe_copies.front().is_none_or(|(copy, ..)| *copy > end) {
            return;
        }
        let mut state = self.state.write();
        while let Some((copy, level, next)) = state.unsafe_copies.front().copied()
            && copy <= end
        {
            state.unsafe_copies.pop_front();
            state.set(level, next, self.version_step);
        }
    }

    /// Table and version, as peers and the file have it.
    pub fn snapshot(&self) -> Wrapper {
        let state = self.state.read();
        Wrapper { offset_table: state.offsets.clone(), data_version: state.version }
    }

    /// The same for one whose log ends at `end`: it has the copies that lie before, also where nobody has flushed them.
    pub fn snapshot_at(&self, end: i64) -> Wrapper {
        let state = self.state.read();
        let mut offset_table = state.offsets.clone();
        for (_, level, next) in state.unsafe_copies.iter().take_while(|(copy, ..)| *copy <= end) {
            offset_table.insert(*level, *next);
        }
        Wrapper { offset_table, data_version: state.version }
    }

    /// Takes the table of the master at `addr`, of a moment when its log had the end `master_end`; this log ends at `own_end`.
    /// Until it has reached that, copies of what the table calls delivered may be missing here, and the table waits. True
    /// when something changed.
    pub fn adopt(&self, addr: &str, master: Wrapper, master_end: i64, own_end: i64) -> bool {
        let Some(master) = self.ahead.take(addr, master, master_end, own_end) else { return false };
        let mut state = self.state.write();
        let differs = state.offsets != master.offset_table;
        state.offsets = master.offset_table;
        state.version = master.data_version;
        // What this broker has delivered itself before is in the new master's table, or came again.
        state.unsafe_copies.clear();
        differs
    }

    /// True when the table is what this broker has.
    pub fn has(&self, table: &Wrapper) -> bool {
        let state = self.state.read();
        state.offsets == table.offset_table && state.version == table.data_version
    }

    /// Waits until no delivery runs and lets none begin.
    fn hold(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }

    /// Forgets tables that were ahead and what only a broker that delivers knows, at a change of role. Copies that were
    /// not safe stay known: the next master asks which of them it has.
    fn forget(&self) {
        self.state.write().delivered.clear();
        self.ahead.forget();
    }

    fn set(&self, level: i32, next: i64) {
        self.state.write().set(level, next, self.version_step);
    }

    /// Brings progress outside its queue back to it (F-24), when this broker starts to deliver.
    fn correct(&self, bounds: impl Fn(i32) -> (i64, i64)) {
        for level in 1..=self.levels() as i32 {
            let (min, max) = bounds(level - 1);
            let at = self.get(level);
            let right = at.clamp(min, max.max(min));
            if right != at {
                tracing::warn!("delay level {level} stood at {at}, its queue is {min}..{max}: it goes on at {right}");
                self.set(level, right);
            }
        }
    }

    /// Writes `delayOffset.json` when something changed since it was written.
    pub fn save(&self) -> Result<(), PersistError> {
        let mut saved = self.saved.lock();
        let now = self.snapshot();
        if saved.as_ref() != Some(&now) {
            persist::save(&self.file, &now)?;
            *saved = Some(now);
        }
        Ok(())
    }

    fn live_file(&self) -> PathBuf {
        self.file.parent().unwrap_or(Path::new(".")).join(live::NAME)
    }
}

impl State {
    fn set(&mut self, level: i32, offset: i64, version_step: i64) {
        if self.offsets.insert(level, offset) == Some(offset) {
            return;
        }
        self.updates += 1;
        if self.updates % version_step == 0 {
            self.version.next(now_ms());
        }
    }
}

/// Makes progress fit the log before this broker delivers: what a kill left in the live file counts where the log
/// proves it, and nothing lies outside its queue.
pub fn lead(broker: &Broker) {
    let delays = &broker.delays;
    let _turn = delays.hold();
    delays.forget();
    // What this broker delivered when it led the last time, and no master since has told more.
    delays.settle(broker.store.max_phys());
    for (level, delivery) in Live::read(&delays.live_file()) {
        if delivery.next > delays.get(level) && live::is_proven(&broker.store, level, &delivery) {
            tracing::info!("delay level {level} goes on at {}, as the log proves", delivery.next);
            delays.set(level, delivery.next);
        }
    }
    if !broker.is_dispatched() {
        return;
    }
    let store = &broker.store;
    delays.correct(|queue| (store.min_offset(topic::SCHEDULE, queue), store.max_offset(topic::SCHEDULE, queue)));
}

/// Ends delivery, when this broker becomes a slave: on return nothing is delivered any more. Copies that the new master does
/// not have are for it to deliver.
pub fn follow(broker: &Arc<Broker>) {
    let _turn = broker.delays.hold();
    broker.delays.forget();
    Live::remove(&broker.delays.live_file());
}

/// Writes the exact progress at the end of a clean stop; the log must be on the device. The next start delivers
/// nothing twice.
pub fn finish(broker: &Broker) -> Result<(), PersistError> {
    if broker.config().is_master() {
        broker.delays.settle(i64::MAX);
    }
    broker.delays.save()?;
    Live::remove(&broker.delays.live_file());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(dir: &Path) -> DelayOffsets {
        DelayOffsets::load(dir.join("delayOffset.json"), vec![1000, 2000], 2).unwrap()
    }

    fn table(entries: &[(i32, i64)]) -> Wrapper {
        Wrapper { offset_table: entries.iter().copied().collect(), ..Wrapper::default() }
    }

    #[test]
    fn file_and_peers_hear_of_a_delivery_when_its_copy_is_safe() {
        let dir = tempfile::tempdir().unwrap();
        let delays = delays(dir.path());
        delays.moved(1, 5, 500);
        delays.moved(2, 3, 900);
        assert_eq!((delays.next(1), delays.get(1)), (5, 0));
        delays.settle(499);
        assert_eq!(delays.get(1), 0);
        delays.settle(500);
        assert_eq!((delays.get(1), delays.get(2), delays.next(2)), (5, 0, 3));
        assert_eq!(delays.snapshot_at(899).offset_table, table(&[(1, 5)]).offset_table);
        assert_eq!(delays.snapshot_at(900).offset_table, table(&[(1, 5), (2, 3)]).offset_table);
        delays.save().unwrap();
        let again = DelayOffsets::load(dir.path().join("delayOffset.json"), vec![1000], 2).unwrap();
        assert_eq!((again.get(1), again.get(2)), (5, 0));
    }

    #[test]
    fn a_masters_table_waits_for_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let delays = delays(dir.path());
        assert!(!delays.adopt("m", table(&[(1, 9)]), 1000, 999));
        assert!(!delays.adopt("m", table(&[(1, 12)]), 2000, 999), "the older table is kept");
        assert_eq!(delays.get(1), 0);
        assert!(delays.adopt("m", table(&[(1, 20)]), 3000, 1500));
        assert_eq!(delays.get(1), 9);
        assert!(!delays.adopt("m", table(&[(1, 15)]), 2000, 1999));
        assert!(delays.adopt("m", table(&[(1, 18)]), 2500, 2500), "the newest that this log has reached counts");
        assert_eq!(delays.get(1), 18);
        assert!(delays.adopt("m", table(&[(1, 20)]), 3000, 3000) && delays.has(&table(&[(1, 20)])));
    }

    #[test]
    fn f24_progress_outside_its_queue_is_corrected() {
        let dir = tempfile::tempdir().unwrap();
        let delays = delays(dir.path());
        delays.set(2, 77);
        delays.correct(|queue| if queue == 1 { (0, 74) } else { (3, 5) });
        assert_eq!((delays.get(1), delays.get(2)), (3, 74));
    }
}
