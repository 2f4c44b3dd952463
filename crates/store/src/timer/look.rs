//! The timer's files as they lie there, for `inspect`: what waits in the wheel, and how far it is behind its queue.
//! Changes nothing and starts nothing.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{
    TimerCheckPoint, TimerConfig,
    log::TimerLog,
    message::TimerMessage,
    wheel::{Slot, Wheel},
};
use crate::{
    disk::{Disk, list_sorted},
    error::{IoContext, StoreError},
};

/// Messages whose topics are looked up in the log.
const MOST_MESSAGES: u64 = 200_000;

/// State of a timer, from its files. Times are milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimerFacts {
    /// The check point, if there is one.
    pub check_point: Option<TimerCheckPoint>,
    /// One tick.
    pub precision_ms: i64,
    /// Slots from the check point's time on that have messages.
    pub slots: u64,
    /// Messages in them.
    pub waiting: i64,
    /// Times of the first and the last of these slots.
    pub due: Option<(i64, i64)>,
    /// Messages by the topic that they go to.
    pub topics: BTreeMap<String, i64>,
    /// There are more messages than were looked up for that.
    pub topics_cut: bool,
    /// Messages of the timer topic that the check point does not count yet, if there is such a queue.
    pub behind: Option<i64>,
}

/// Looks at the files. `None` when there is neither a wheel nor a check point. `record` reads the commit log; `queue_max`
/// is where the timer topic's queue ends. `disk` keeps writes to itself.
pub(crate) fn look(
    disk: Arc<dyn Disk>,
    root: &Path,
    queue_max: Option<i64>,
    record: &dyn Fn(i64) -> Result<Option<Vec<u8>>, StoreError>,
) -> Result<Option<TimerFacts>, StoreError> {
    let (check_point, _) = TimerCheckPoint::load(&*disk, root)?;
    if check_point.is_none() && !disk.exists(&root.join("timerwheel")) {
        return Ok(None);
    }
    let behind = queue_max.map(|max| max.saturating_sub(check_point.map_or(0, |point| point.last_timer_queue_offset)));
    let mut facts = TimerFacts { check_point, behind, precision_ms: 1000, ..TimerFacts::default() };
    let Some(mut wheel) = Wheel::load(disk.clone(), root, TimerConfig::default().slots)? else {
        return Ok(Some(facts));
    };
    let log = TimerLog::load(disk.clone(), root, segment_size(&*disk, root)?, false)?;
    facts.precision_ms = precision_ms(&mut wheel, &log)?.unwrap_or(facts.precision_ms);
    let read_tick = check_point.map_or(0, |point| point.last_read_ms) / facts.precision_ms;
    let first = if read_tick > 0 { read_tick } else { wheel.earliest(i64::MIN)?.unwrap_or(0) };
    let mut slots = Vec::new();
    wheel.each_from(first, |slot| slots.push(*slot))?;
    slots.sort_unstable_by_key(|slot: &Slot| slot.tick);
    facts.slots = slots.len() as u64;
    facts.waiting = slots.iter().map(|slot| i64::from(slot.num)).sum();
    if let [first, ..] = slots[..] {
        let last = slots[slots.len() - 1];
        facts.due = Some([first, last].map(|slot| slot.tick.saturating_mul(facts.precision_ms)).into());
    }
    count_topics(&mut facts, &log, &slots, record)?;
    Ok(Some(facts))
}

fn count_topics(
    facts: &mut TimerFacts,
    log: &TimerLog,
    slots: &[Slot],
    record: &dyn Fn(i64) -> Result<Option<Vec<u8>>, StoreError>,
) -> Result<(), StoreError> {
    let mut left = MOST_MESSAGES;
    for slot in slots {
        let mut places = Vec::new();
        log.chain(slot.last, -1, slot.tick, facts.precision_ms, |_, unit| {
            places.push((unit.physical, unit.count()));
            Ok(())
        })?;
        for (physical, count) in places {
            if left == 0 {
                facts.topics_cut = true;
                return Ok(());
            }
            left -= 1;
            let bytes = record(physical)?;
            let topic =
                bytes.as_deref().and_then(TimerMessage::of).map_or("(not in the log)", |found| found.real_topic);
            *facts.topics.entry(topic.to_owned()).or_default() += i64::from(count);
        }
    }
    Ok(())
}

/// Bytes of a segment of the timer log, as the first one has them.
fn segment_size(disk: &dyn Disk, root: &Path) -> Result<u64, StoreError> {
    let dir = root.join("timerlog");
    let files = list_sorted(disk, &dir).at("list", &dir)?;
    Ok(files.iter().find(|entry| !entry.is_dir && entry.len > 0).map_or(TimerConfig::default().segment_size, |e| e.len))
}

/// A unit tells the time of its slot, the slot tells its tick.
fn precision_ms(wheel: &mut Wheel, log: &TimerLog) -> Result<Option<i64>, StoreError> {
    let Some(tick) = wheel.earliest(i64::MIN)? else { return Ok(None) };
    let Some(slot) = wheel.slot(tick)? else { return Ok(None) };
    let precision = log.unit(slot.last)?.map(|unit| unit.slot_ms() / tick);
    Ok(precision.filter(|precision| *precision > 0))
}
