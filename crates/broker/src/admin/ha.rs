//! Replication as operators and peers ask for it. Source: `AdminBrokerProcessor.java`; reference broker 12.5,
//! remoting 11.10.

use std::sync::Arc;

use wire::{
    Command,
    header::{ExchangeHAInfoRequestHeader, ExchangeHAInfoResponseHeader},
    json,
};

use super::{Answer, Needs, Refused, parse};
use crate::context::Broker;

/// GET_BROKER_HA_STATUS.
pub fn status(broker: &Arc<Broker>, command: &Command) -> Answer {
    Ok(command.ok_body(json::encode(&broker.replicas.ha_status(broker))))
}

/// EXCHANGE_BROKER_HA_INFO: with a master's address it is a statement, which a slave takes; without one it is a
/// question, which a master answers.
pub fn exchange(broker: &Arc<Broker>, command: &Command) -> Answer {
    let needs = Needs { fields: &[], ints: &[], longs: &["masterFlushOffset"] };
    let header: ExchangeHAInfoRequestHeader = parse(command, &needs)?;
    let config = broker.config();
    if header.master_ha_address.is_some() {
        broker.sync.learned(|| broker.config(), header.master_address, header.master_ha_address);
        return Ok(command.ok());
    }
    if !config.is_master() {
        return Ok(command.ok());
    }
    Ok(command.ok().with_header(&ExchangeHAInfoResponseHeader {
        master_ha_address: Some(config.ha_addr()),
        master_flush_offset: Some(broker.store.marks().flushed.get()),
        master_address: Some(config.broker_addr()),
    }))
}

/// RESET_MASTER_FLUSH_OFFSET. Upstream's slave cuts its log at the offset that its master had flushed at its start;
/// here the bytes are compared, so the number is not needed.
pub fn reset_master_flush_offset(_broker: &Arc<Broker>, command: &Command) -> Answer {
    Ok(command.ok())
}

/// NOTIFY_MIN_BROKER_ID_CHANGE. Concerns acting masters only.
pub fn min_broker_id(_broker: &Arc<Broker>, command: &Command) -> Answer {
    Ok(command.ok())
}

/// GET_BROKER_EPOCH_CACHE. Epochs exist in controller mode only.
pub fn epochs(_broker: &Arc<Broker>, _command: &Command) -> Answer {
    Err(Refused::error("this request only for controllerMode "))
}
