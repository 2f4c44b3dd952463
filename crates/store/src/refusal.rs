//! Whether bytes are taken: what the last look at the disks said, and what the operating system said since. Says it in
//! one line when taking ends and in one when it begins again. It decides no limit: [`crate::space`] does.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use parking_lot::Mutex;

use crate::{
    space::{NoSpace, Partition, SpaceLimits, SpaceSeen, Verdict, judge},
    store::Store,
};

/// Looks at the disks without a refused write until it is said that there is space again. On a full disk a small write still
/// fits in a block that is there: success and refusal in turn would be two lines a second.
const CALM_LOOKS: u32 = 5;

/// State of a store.
#[derive(Default)]
pub(crate) struct Refusal {
    /// Something is refused: the state must be looked at.
    any: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    refuse: Option<NoSpace>,
    refuse_raw: Option<NoSpace>,
    /// A write got no space.
    by_system: Option<NoSpace>,
    /// The disks were looked at since: one write may try.
    may_try: bool,
    /// Looks until a success counts as the end.
    uneasy: u32,
    told: bool,
}

impl Refusal {
    /// Why a message, or a master's bytes, cannot be taken now. When there is no cause, the caller writes.
    pub(crate) fn before_write(&self, raw: bool) -> Option<NoSpace> {
        let cause = self.cause(raw);
        if cause.is_none() && self.any.load(SeqCst) {
            // One write after each look at the disks: another one needs its success.
            self.state.lock().may_try = false;
        }
        cause
    }

    fn cause(&self, raw: bool) -> Option<NoSpace> {
        if !self.any.load(SeqCst) {
            return None;
        }
        let state = self.state.lock();
        let judged = if raw { &state.refuse_raw } else { &state.refuse };
        let by_system = state.by_system.as_ref().filter(|_| !state.may_try);
        judged.as_ref().or(by_system).cloned()
    }

    /// The last look at the disks.
    fn judged(&self, verdict: &Verdict, is_slave: bool) {
        let mut state = self.state.lock();
        state.refuse = verdict.refuse.clone();
        state.refuse_raw = verdict.refuse_raw.clone();
        state.may_try = state.by_system.is_some();
        state.uneasy = state.uneasy.saturating_sub(1);
        self.tell(&mut state, is_slave);
    }

    /// A write got no space.
    pub(crate) fn by_system(&self, dir: PathBuf, is_slave: bool) -> NoSpace {
        let cause = NoSpace::Refused { dir };
        let mut state = self.state.lock();
        state.by_system = Some(cause.clone());
        state.may_try = false;
        state.uneasy = CALM_LOOKS;
        self.tell(&mut state, is_slave);
        cause
    }

    /// A write got its space.
    pub(crate) fn written(&self, is_slave: bool) {
        if self.any.load(SeqCst) {
            let mut state = self.state.lock();
            state.by_system = None;
            self.tell(&mut state, is_slave);
        }
    }

    fn tell(&self, state: &mut State, is_slave: bool) {
        self.any.store(state.refuse.is_some() || state.refuse_raw.is_some() || state.by_system.is_some(), SeqCst);
        let judged = if is_slave { &state.refuse_raw } else { &state.refuse };
        let cause = judged.as_ref().or(state.by_system.as_ref());
        if cause.is_some() == state.told || (cause.is_none() && state.uneasy > 0) {
            return;
        }
        state.told = !state.told;
        match cause {
            Some(cause) if is_slave => tracing::error!(
                "no space: {cause}; this replica takes and acknowledges nothing until there is space, then it goes on by itself"
            ),
            Some(cause) => tracing::error!(
                "no space: {cause}; messages are refused, reads and replication go on; free space or shorten fileReservedTime: writes resume by themselves"
            ),
            None => tracing::info!("there is space again: writes go on"),
        }
    }
}

impl Store {
    /// Looks at the disks: from now on messages and bytes of a master are taken, or refused with the cause. Call it
    /// about once a second.
    pub fn check_space(&self, limits: &SpaceLimits) -> Verdict {
        let store_bytes = if limits.replicas_per_partition > 1 { self.file_bytes() } else { 0 };
        let log = Partition::emptiest(self.log_partitions());
        let log = log.unwrap_or_else(|| Partition { usage: None, dir: self.log.dir().to_path_buf() });
        let root = self.config.root.clone();
        let seen = SpaceSeen { log, queues: Partition { usage: self.disk.usage(&root).ok(), dir: root }, store_bytes };
        let verdict = judge(limits, &seen);
        self.refusal.judged(&verdict, self.is_slave.load(SeqCst));
        verdict
    }

    /// Why nothing is taken now: messages, or on a slave bytes of its master. A write may be tried when there is none.
    pub fn no_space(&self) -> Option<NoSpace> {
        self.refusal.cause(self.is_slave.load(SeqCst))
    }

    fn file_bytes(&self) -> u64 {
        let queues: u64 = self.queues.all().iter().map(|queue| queue.units().file_bytes()).sum();
        let log = self.log.bases().len() as u64 * self.log.segment_size() as u64;
        log + queues + self.index.as_ref().map_or(0, crate::index::Index::file_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Deletion;

    /// A write that still fits in a block that is there succeeds each second, the next one does not.
    #[test]
    fn a_disk_where_one_write_in_two_fits_is_told_of_once() {
        let enough = Verdict { refuse: None, refuse_raw: None, deletion: Deletion::Nothing };
        let refusal = Refusal::default();
        for _ in 0..30 {
            refusal.by_system("log".into(), false);
            assert!(refusal.before_write(false).is_some());
            refusal.judged(&enough, false);
            assert!(refusal.before_write(false).is_none(), "one write may try");
            refusal.written(false);
            assert!(refusal.state.lock().told, "the next write finds none again");
        }
        for _ in 1..CALM_LOOKS {
            assert!(refusal.state.lock().told);
            refusal.judged(&enough, false);
            assert!(refusal.before_write(false).is_none());
        }
        assert!(!refusal.state.lock().told);
    }
}
