//! Whether the log of this slave is the beginning of its master's (W-22). An old master that comes back with messages of its
//! own has another last record than its master has there; beside a master that has lost its disk this log goes on where
//! that one has ended. Neither bytes nor tables are taken from such a master.

use std::{sync::Arc, time::Duration};

use replica::SlaveClose;
use wire::record::RecordView;

use crate::{context::Broker, sync};

/// How long a master has to tell what it has where this log ends.
const LIMIT: Duration = Duration::from_secs(1);

/// Compares the last record here with what the master has in its place. A master that does not tell, within a second, is
/// followed as it is.
///
/// # Errors
/// The logs are not one: nothing of this master's may be taken.
pub async fn compare(broker: &Arc<Broker>) -> Result<(), SlaveClose> {
    broker.dispatch();
    let Some(record) = broker.store.last_record() else { return Ok(()) };
    let compared = tokio::time::timeout(LIMIT, compare_record(broker, &record)).await;
    compared.unwrap_or(Ok(()))
}

async fn compare_record(broker: &Broker, record: &[u8]) -> Result<(), SlaveClose> {
    let Some(offset) = RecordView::layout(record).map(|view| view.physical_offset()) else { return Ok(()) };
    let end = offset + record.len() as i64;
    for addr in sync::addresses(broker) {
        match broker.api.view_message(&addr, offset).await {
            Ok(bytes) if bytes == record => return Ok(()),
            Ok(_) => return Err(SlaveClose::Parted { offset }),
            Err(error) if error.is_answer() => return missing(broker, &addr, offset, end).await,
            Err(_) => {}
        }
    }
    Ok(())
}

/// The master has no record there: it may be starting, or have deleted that part of its log.
async fn missing(broker: &Broker, addr: &str, offset: i64, end: i64) -> Result<(), SlaveClose> {
    match sync::log_range(broker, addr).await {
        Ok(Some(range)) if end > range.end => Err(SlaveClose::BeyondMaster { slave: end, master: range.end }),
        Ok(Some(range)) if range.contains(&offset) => Err(SlaveClose::Parted { offset }),
        _ => Ok(()),
    }
}
