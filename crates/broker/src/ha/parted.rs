//! Whether the log of this slave is the beginning of its master's (W-22). An old master that comes back with messages of its
//! own has another last record than its master has there; beside a master that has lost its disk this log goes on where
//! that one has ended. Neither bytes nor tables are taken from such a master.
//!
//! A master that does not tell is followed all the same. Its own records are the last ones here then, so the last record
//! of before is kept as a seam ([`super::seams`]) until somebody tells of it.

use std::{sync::Arc, time::Duration};

use replica::SlaveClose;
use store::Store;
use wire::record::RecordView;

use crate::{context::Broker, sync};

/// What came of a comparison that found nothing against the master.
pub enum Compared {
    /// The logs are one as far as the master can tell: it may have deleted that part of its log.
    One,
    /// Nobody told, for this reason.
    Untold(String),
}

/// Where the last record of this log begins; `None` without one.
///
/// # Errors
/// It cannot be read: what is copied behind it could hide that the two logs have parted. The text says so.
pub fn last_place(broker: &Broker) -> Result<Option<i64>, String> {
    broker.dispatch();
    let store = &broker.store;
    if store.min_phys() < 0 || store.min_phys() >= store.max_phys() {
        return Ok(None);
    }
    let place = store.last_record().and_then(|record| RecordView::layout(&record).map(|view| view.physical_offset()));
    place.map(Some).ok_or_else(|| {
        format!(
            "the last record of this log, which ends at {}, cannot be found, so it cannot be compared with the master's",
            store.max_phys()
        )
    })
}

/// Compares the last record here, and what else is not compared yet, with what the master has in its place; each of its
/// addresses has `limit` to tell.
///
/// # Errors
/// The logs are not one: nothing of this master's may be taken.
pub async fn compare(broker: &Arc<Broker>, limit: Duration) -> Result<Compared, SlaveClose> {
    match last_place(broker) {
        Ok(last) => compare_up_to(broker, limit, last).await,
        Err(reason) => Ok(Compared::Untold(reason)),
    }
}

/// The same where it is known that the last record begins at `last`.
///
/// # Errors
/// As [`compare`].
pub async fn compare_up_to(broker: &Arc<Broker>, limit: Duration, last: Option<i64>) -> Result<Compared, SlaveClose> {
    broker.seams.retain(|offset| !is_gone(&broker.store, offset));
    let had_seams = !broker.seams.is_empty();
    let compared = ask(broker, limit, last).await;
    broker.seams.save();
    if had_seams && matches!(compared, Ok(Compared::One)) {
        tracing::info!("the master has told: its log is this one up to where this slave began to follow it");
    }
    compared
}

async fn ask(broker: &Arc<Broker>, limit: Duration, last: Option<i64>) -> Result<Compared, SlaveClose> {
    if last.is_none() && broker.seams.is_empty() {
        return Ok(Compared::One);
    }
    let mut failure = None;
    for addr in listeners(broker, limit).await {
        match tokio::time::timeout(limit, compare_all(broker, &addr, last)).await {
            Ok(Ok(Compared::Untold(reason))) => failure = failure.or(Some(reason)),
            Ok(told) => return told,
            Err(_) => {
                failure = failure.or_else(|| Some(format!("{addr} does not tell within {limit:?} what is in its log")));
            }
        }
    }
    let nowhere =
        || "no name server tells where the master listens, nor is it found beside its replication port".into();
    Ok(Compared::Untold(failure.unwrap_or_else(nowhere)))
}

/// Where the master may be asked.
async fn listeners(broker: &Arc<Broker>, limit: Duration) -> Vec<String> {
    let told = sync::addresses(broker);
    if !told.is_empty() {
        return told;
    }
    let beside = tokio::time::timeout(limit, beside(broker)).await;
    beside.ok().flatten().into_iter().collect()
}

/// Without a name server: the port before the replication port is the master's listener where nothing else is configured.
/// It is believed where the broker there says that this replication port is its own.
async fn beside(broker: &Arc<Broker>) -> Option<String> {
    let config = broker.config();
    let ha = broker.sync.ha_addr(&config)?;
    let (host, ha_port) = ha.rsplit_once(':')?;
    let addr = format!("{host}:{}", ha_port.parse::<u16>().ok()?.checked_sub(1)?);
    let said = broker.api.broker_config(&addr).await.ok()?;
    let says = |key: &str, value: &str| said.lines().any(|line| line.trim().split_once('=') == Some((key, value)));
    (says("haListenPort", ha_port) && says("brokerName", &config.broker_name)).then_some(addr)
}

/// All that is not compared yet at one address. What was told of counts, also when the time is over before the end.
async fn compare_all(broker: &Broker, addr: &str, last: Option<i64>) -> Result<Compared, SlaveClose> {
    let seams = broker.seams.offsets();
    let last = last.filter(|last| !seams.contains(last));
    for offset in seams.into_iter().chain(last) {
        let Some(record) = broker.store.read_record(offset) else {
            return Ok(Compared::Untold(format!("the record here, at {offset}, cannot be read")));
        };
        match compare_at(broker, addr, offset, &record).await? {
            Compared::One => broker.seams.remove(offset),
            untold => return Ok(untold),
        }
    }
    Ok(Compared::One)
}

/// Retention has taken the record, or another log was put here. One that cannot be read may be there.
fn is_gone(store: &Store, offset: i64) -> bool {
    let is_within = (store.min_phys()..store.max_phys()).contains(&offset);
    !is_within || (store.read_record(offset).is_none() && store.read_log(offset, 1).is_some())
}

async fn compare_at(broker: &Broker, addr: &str, offset: i64, record: &[u8]) -> Result<Compared, SlaveClose> {
    match broker.api.view_message(addr, offset).await {
        Ok(bytes) if bytes == record => Ok(Compared::One),
        Ok(_) => Err(SlaveClose::Parted { offset }),
        Err(error) if error.is_final() => missing(broker, addr, offset, offset + record.len() as i64).await,
        Err(error) => Ok(Compared::Untold(format!("{addr}: {error}"))),
    }
}

/// The master has no record there.
async fn missing(broker: &Broker, addr: &str, offset: i64, end: i64) -> Result<Compared, SlaveClose> {
    match sync::log_range(broker, addr).await {
        Err(error) => Ok(Compared::Untold(format!("{addr}: {error}"))),
        Ok(Some(range)) if end > range.end => Err(SlaveClose::BeyondMaster { slave: end, master: range.end }),
        Ok(Some(range)) if range.contains(&offset) => Err(SlaveClose::Parted { offset }),
        Ok(Some(_)) => Ok(Compared::One),
        Ok(None) => Ok(Compared::Untold(format!("{addr} does not tell how far its log reaches"))),
    }
}
