//! Disk space: a look at the disks each second, deletion of old segments. Each deletion is preceded by a new look, so that
//! no more goes than must. What is decided when is in `store::space`; nothing here waits for a request.
//! Source: `DefaultMessageStore.java` (CleanCommitLogService); reference store 20.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use store::{Deletion, Retention, StoreError};

use crate::{
    config::{BrokerConfig, check},
    context::{Broker, now_ms},
    told::Told,
};

const LOOK: Duration = Duration::from_secs(1);
/// How often it is said that nothing can be deleted although it should.
const REMIND: Duration = Duration::from_secs(600);
/// Less than this until messages are refused is said, and how often.
const SOON_HOURS: f64 = 24.0;
const WARN_OF_END: Duration = Duration::from_secs(3600);

/// Looks until the broker stops.
pub fn run(broker: &Arc<Broker>) {
    let mut cleaned = Instant::now();
    let (mut reminded, mut warned, mut failing) = (None, None, Told::default());
    while !broker.is_stopping() {
        let config = broker.config();
        let verdict = broker.store.check_space(&config.space_limits());
        let is_due = cleaned.elapsed() >= Duration::from_millis(config.clean_resource_interval.max(1000));
        if is_due || verdict.deletion == Deletion::Oldest {
            cleaned = Instant::now();
            let done = clean(broker, When::ItsHour);
            let deleted = *done.as_ref().unwrap_or(&0);
            failing.of(
                done.map(drop),
                "old segments cannot be deleted, it is tried again",
                "old segments are deleted again",
            );
            let in_vain = deleted == 0 && verdict.deletion == Deletion::Oldest;
            remind(&mut reminded, in_vain);
        }
        let held = broker.store.max_phys() - broker.store.min_phys().max(0);
        broker.forecast.lock().note(now_ms(), held);
        warn_of_end(&mut warned, hours_until_full(broker));
        broker.sleep_blocking(LOOK);
    }
}

/// Hours until the log's disk is so full that messages are refused, if the log goes on growing as in the last hour;
/// `None` while it does not grow, or too little is known.
pub fn hours_until_full(broker: &Broker) -> Option<f64> {
    let usage = broker.store.disk_usage()?;
    let room = broker.config().space_limits().room(usage);
    broker.forecast.lock().hours_until_full(room)
}

fn warn_of_end(warned: &mut Option<Instant>, hours: Option<f64>) {
    if let Some(hours) = hours.filter(|hours| *hours < SOON_HOURS)
        && warned.is_none_or(|at| at.elapsed() >= WARN_OF_END)
    {
        *warned = Some(Instant::now());
        tracing::warn!(
            hours = format!("{hours:.1}"),
            "as the log grew in the last hour, its disk will soon be too full for messages: free space, shorten fileReservedTime or move load away"
        );
    }
}

fn remind(reminded: &mut Option<Instant>, in_vain: bool) {
    if !in_vain {
        *reminded = None;
    } else if reminded.is_none_or(|at| at.elapsed() >= REMIND) {
        *reminded = Some(Instant::now());
        tracing::warn!(
            "disk space will be full soon, but no segment can be deleted: only the last one is left, or others use the disk"
        );
    }
}

/// What makes it time to delete what is expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The hours of `deleteWhen`.
    ItsHour,
    /// An operator asks.
    Now,
}

/// Deletes whole segments, oldest first: expired ones when it is time or the disk is above `diskMaxUsedSpaceRatio`,
/// others while space is short. Returns how many. Takes some time; at most `deleteFileBatchMax` unless an operator asks.
pub fn clean(broker: &Broker, when: When) -> Result<usize, StoreError> {
    let config = broker.config();
    let by_hand = when == When::Now;
    let is_time = by_hand || is_hour(&config.delete_when);
    let most = if by_hand { usize::MAX } else { config.delete_file_batch_max.max(1) as usize };
    let mut deleted = 0;
    while deleted < most && !broker.is_stopping() {
        let deletion = broker.store.check_space(&config.space_limits()).deletion_when(is_time);
        if deletion == Deletion::Nothing || delete_one(broker, &config, deletion)? == 0 {
            break;
        }
        deleted += 1;
        if !by_hand {
            broker.sleep_blocking(Duration::from_millis(config.delete_commit_log_files_interval.min(60_000)));
        }
    }
    Ok(deleted)
}

fn delete_one(broker: &Broker, config: &BrokerConfig, deletion: Deletion) -> Result<usize, StoreError> {
    let regardless_of_age = deletion == Deletion::Oldest;
    broker.store.delete_expired(Retention {
        now_ms: now_ms(),
        reserved_ms: config.file_reserved_time.max(0).saturating_mul(3_600_000),
        regardless_of_age,
        max_segments: usize::from(regardless_of_age || !is_first_needed(broker)),
    })
}

/// True while a connected slave still reads from the first segment. A slave that loses its place must be seeded anew,
/// so age alone does not take it away.
fn is_first_needed(broker: &Broker) -> bool {
    let first_end = broker.store.min_phys() + broker.store.segment_size();
    broker.replicas.slowest().is_some_and(|acked| acked < first_end)
}

/// True in one of the hours, which are separated by `;`, in local time.
pub(crate) fn is_hour(hours: &str) -> bool {
    let now = jiff::Zoned::now().hour();
    check::hours(hours).is_some_and(|hours| hours.contains(&now.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_warned_of_below_a_day_and_once_an_hour() {
        let mut warned = None;
        warn_of_end(&mut warned, None);
        warn_of_end(&mut warned, Some(24.0));
        assert_eq!(warned, None);
        warn_of_end(&mut warned, Some(23.9));
        let first = warned;
        assert!(first.is_some());
        warn_of_end(&mut warned, Some(1.0));
        assert_eq!(warned, first);
    }
}
