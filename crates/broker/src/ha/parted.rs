//! Whether the log of this slave is the beginning of its master's (W-22). An old master that comes back with messages of its
//! own has another last record than its master has there; beside a master that has lost its disk this log goes on where
//! that one has ended. Neither bytes nor tables are taken from such a master.

use std::{sync::Arc, time::Duration};

use replica::SlaveClose;
use wire::record::RecordView;

use crate::{context::Broker, sync};

/// What came of a comparison that found nothing against the master.
pub enum Compared {
    /// The logs are one as far as the master can tell: it may be starting, or have deleted that part of its log.
    One,
    /// The master did not answer, for this reason.
    Untold(String),
}

/// Compares the last record here with what the master has in its place; each of its addresses has `limit` to tell.
///
/// # Errors
/// The logs are not one: nothing of this master's may be taken.
pub async fn compare(broker: &Arc<Broker>, limit: Duration) -> Result<Compared, SlaveClose> {
    broker.dispatch();
    let Some(record) = broker.store.last_record() else { return Ok(Compared::One) };
    let mut failure = None;
    for addr in sync::addresses(broker) {
        match tokio::time::timeout(limit, compare_at(broker, &addr, &record)).await {
            Ok(Ok(Compared::Untold(reason))) => failure = failure.or(Some(reason)),
            Ok(told) => return told,
            Err(_) => {
                failure = failure.or_else(|| Some(format!("{addr} does not tell within {limit:?} what is in its log")));
            }
        }
    }
    Ok(Compared::Untold(failure.unwrap_or_default()))
}

async fn compare_at(broker: &Broker, addr: &str, record: &[u8]) -> Result<Compared, SlaveClose> {
    let Some(offset) = RecordView::layout(record).map(|view| view.physical_offset()) else { return Ok(Compared::One) };
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
        Ok(_) => Ok(Compared::One),
    }
}
