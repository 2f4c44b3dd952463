//! Delay levels: messages that wait in `SCHEDULE_TOPIC_XXXX` until their time, and how far each level is.
//! Source: `broker/.../schedule/ScheduleMessageService.java`; reference store 21, broker 8.1.
//!
//! A level never stands still for one message that cannot be delivered (F-22): size limits do not apply to what is
//! already stored, and what still fails is named and passed over.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};
use store::Batch;
use wire::{
    body::{DataVersion, DelayOffsetSerializeWrapper as Wrapper},
    property,
    record::{self, Check, RecordView},
    record_encode::NewRecord,
    topic,
};

use crate::{
    context::{Broker, now_ms},
    persist::{self, PersistError},
};

const POLL: Duration = Duration::from_millis(100);
/// Messages that one append delivers at most.
const AT_ONCE: i64 = 256;

/// Progress of each delay level, `delayOffset.json`.
pub struct DelayOffsets {
    state: RwLock<State>,
    delays_ms: Vec<i64>,
    file: PathBuf,
    saved: Mutex<Option<Wrapper>>,
    version_step: i64,
}

#[derive(Default)]
struct State {
    offsets: BTreeMap<i32, i64>,
    version: DataVersion,
    updates: i64,
}

impl DelayOffsets {
    /// Loads `delayOffset.json`.
    pub fn load(file: PathBuf, delays_ms: Vec<i64>, version_step: i64) -> Result<Self, PersistError> {
        let stored = persist::load::<Wrapper>(&file)?.unwrap_or_default();
        let state = State { offsets: stored.offset_table, version: stored.data_version, updates: 0 };
        Ok(Self {
            state: RwLock::new(state),
            delays_ms,
            file,
            saved: Mutex::default(),
            version_step: version_step.max(1),
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

    /// Next queue offset of a level (1 is the first).
    pub fn get(&self, level: i32) -> i64 {
        self.state.read().offsets.get(&level).copied().unwrap_or(0)
    }

    fn set(&self, level: i32, offset: i64) {
        let mut state = self.state.write();
        if state.offsets.insert(level, offset) == Some(offset) {
            return;
        }
        state.updates += 1;
        if state.updates % self.version_step == 0 {
            state.version.next(now_ms());
        }
    }

    /// Table and version, as peers and the file have it.
    pub fn snapshot(&self) -> Wrapper {
        let state = self.state.read();
        Wrapper { offset_table: state.offsets.clone(), data_version: state.version }
    }

    /// Takes a master's table; true when it differed.
    pub fn adopt(&self, master: Wrapper) -> bool {
        let mut state = self.state.write();
        let differs = state.offsets != master.offset_table;
        state.offsets = master.offset_table;
        state.version = master.data_version;
        differs
    }

    /// Brings progress outside its queue back to it (F-24), when this broker starts to deliver.
    pub fn correct(&self, bounds: impl Fn(i32) -> (i64, i64)) {
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
}

/// Starts the delivery of every level; each runs while this broker is a master.
pub fn start(broker: &Arc<Broker>) {
    for level in 1..=broker.delays.levels() as i32 {
        tokio::spawn(run_level(broker.clone(), level));
    }
}

async fn run_level(broker: Arc<Broker>, level: i32) {
    while !broker.is_stopping() {
        let more = broker.config().is_master() && deliver(&broker, level).await;
        if !more {
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Delivers what is due; true when there may be more.
async fn deliver(broker: &Arc<Broker>, level: i32) -> bool {
    let queue = level - 1;
    let from = broker.delays.get(level);
    let max = broker.store.max_offset(topic::SCHEDULE, queue);
    if from >= max {
        return false;
    }
    let mut batch = Batch::new();
    let now = now_ms();
    let mut next = from.max(broker.store.min_offset(topic::SCHEDULE, queue));
    while next < max && next - from < AT_ONCE && is_due(broker, level, next, now) {
        take(broker, queue, next, &mut batch);
        next += 1;
    }
    if next == from {
        return false;
    }
    if !batch.is_empty() && !append(broker, &mut batch).await {
        return false;
    }
    // Progress is moved only when the delivered copies are as safe as a send is: a slave that takes the progress
    // earlier than the copy would lose the message at a promotion.
    broker.delays.set(level, next);
    true
}

async fn append(broker: &Arc<Broker>, batch: &mut Batch) -> bool {
    if let Err(error) = broker.store.append(batch) {
        tracing::error!("delayed messages are not delivered yet: {error}; they are tried again");
        tokio::time::sleep(Duration::from_secs(1)).await;
        return false;
    }
    broker.dispatch_soon();
    let end = batch.entries().last().map_or(0, |entry| entry.end());
    let _ = broker.wait_stored(end, &broker.config()).await;
    true
}

fn is_due(broker: &Broker, level: i32, offset: i64, now: i64) -> bool {
    let Some(unit) = broker.store.queue_unit(topic::SCHEDULE, level - 1, offset) else { return true };
    let delay = broker.delays.delays_ms[(level - 1) as usize];
    // A time further off than the level's own delay means that the clock went back: it is due.
    unit.tags_code <= now || unit.tags_code > now + delay
}

/// Puts the message of one unit into `batch`, with the topic and queue it was sent to.
fn take(broker: &Broker, queue: i32, offset: i64, batch: &mut Batch) {
    let unit = broker.store.queue_unit(topic::SCHEDULE, queue, offset);
    let Some(bytes) = unit.and_then(|unit| broker.store.read_record(unit.physical_offset)) else {
        tracing::warn!("the delayed message at offset {offset} of level {} is gone from the log", queue + 1);
        return;
    };
    let Check::Record(old) = record::check(&bytes, false) else { return };
    let Some((real_topic, real_queue)) = destination(&old) else {
        tracing::error!(
            "the delayed message at physical offset {} names no topic, it is passed over",
            old.physical_offset()
        );
        return;
    };
    if let Err(error) = batch.push(&NewRecord::again(&old, real_topic, real_queue, broker.store_host())) {
        tracing::error!("the delayed message at physical offset {} is passed over: {error}", old.physical_offset());
    }
}

fn destination<'a>(old: &RecordView<'a>) -> Option<(&'a str, i32)> {
    let real_topic = old.property(property::REAL_TOPIC)?;
    let real_queue = old.property(property::REAL_QUEUE_ID).and_then(|text| text.parse().ok()).unwrap_or(0);
    (real_topic != topic::TRANS_HALF).then_some((real_topic, real_queue))
}
