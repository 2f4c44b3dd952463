//! LOCK_BATCH_MQ and UNLOCK_BATCH_MQ, for orderly consumers. Reference broker 6.6.

use tokio::time::Instant;
use wire::{
    Command,
    body::{LockBatchRequestBody, LockBatchResponseBody, UnlockBatchRequestBody},
    code::response,
    json,
};

use crate::context::Broker;

/// LOCK_BATCH_MQ.
pub fn lock(broker: &Broker, command: &Command) -> Command {
    let body: LockBatchRequestBody = match json::decode(&command.body) {
        Ok(body) => body,
        Err(error) => return command.error(response::SYSTEM_ERROR, format!("lock request: {error}")),
    };
    let queues = body.mq_set.into_iter().collect();
    let locked = broker.locks.lock(&body.consumer_group, &body.client_id, &queues, Instant::now());
    command.ok_body(json::encode(&LockBatchResponseBody { lock_ok_mq_set: locked.into_iter().collect() }))
}

/// UNLOCK_BATCH_MQ.
pub fn unlock(broker: &Broker, command: &Command) -> Command {
    let body: UnlockBatchRequestBody = match json::decode(&command.body) {
        Ok(body) => body,
        Err(error) => return command.error(response::SYSTEM_ERROR, format!("unlock request: {error}")),
    };
    broker.locks.unlock(&body.consumer_group, &body.client_id, &body.mq_set.into_iter().collect());
    command.ok()
}
