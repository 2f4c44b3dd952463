//! SET_MESSAGE_REQUEST_MODE: how a group reads a topic, pull or pop. What follows from it is in `assignment`.
//! Source: `broker/.../processor/QueryAssignmentProcessor.java`; reference broker 10.11.

use std::sync::Arc;

use wire::{Command, body::SetMessageRequestModeRequestBody, code::response, topic};

use super::{Answer, Refused, body, master_only, no_topic};
use crate::context::{Broker, now_ms};

/// Checks topic and group, and keeps the mode.
pub fn set(broker: &Arc<Broker>, command: &Command) -> Answer {
    let mode: SetMessageRequestModeRequestBody = body(command)?;
    master_only(broker)?;
    if topic::is_retry(&mode.topic) {
        return Err(Refused::new(response::NO_PERMISSION, "retry topic is not allowed to set mode"));
    }
    if broker.topics.get(&mode.topic).is_none() {
        return Err(no_topic(&mode.topic));
    }
    let may_create = broker.config().creates_group(&mode.consumer_group);
    if broker.groups.get_or_create(&mode.consumer_group, may_create, now_ms()).is_none() {
        return Err(Refused::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, "subscription group does not exist"));
    }
    broker.request_modes.put(mode)?;
    Ok(command.ok())
}
