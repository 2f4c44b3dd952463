//! What a message may say of the queues it goes to: inner batches only to topics with batch queues, and names of light
//! queues. Source: `HookUtils.java` (checkInnerBatch), `LmqDispatch.java`; reference store 6.2 and 7.

use wire::{code::response, property, sys_flag, topic};

use super::{Checked, Refused, properties::Properties};
use crate::{config::BrokerConfig, topics::has_batch_queues};

/// A client may send an inner batch that it made itself, to a topic with batch queues. Source: `HookUtils.java`
/// (checkInnerBatch), `DefaultMessageStore.java` (asyncPutMessage).
pub fn allowed(
    config: &BrokerConfig,
    checked: &Checked<'_>,
    stored_in: &str,
    properties: &Properties<'_>,
) -> Result<(), Refused> {
    let count = properties.inner.then(|| properties.get(property::INNER_NUM)).flatten();
    if checked.numbers.sys_flag & sys_flag::INNER_BATCH == 0 {
        return if count.is_some() { Err(super::illegal(config)) } else { Ok(()) };
    }
    let counted = count.and_then(|count| count.parse::<i16>().ok()).is_some_and(|count| count >= 1);
    let allowed = has_batch_queues(&checked.topic) && stored_in == checked.topic.topic_name;
    if counted && allowed { Ok(()) } else { Err(super::illegal(config)) }
}

/// Names of light queues must be such: a Java broker that meets another one with `enableLmq` dispatches nothing more.
pub fn light_queues(config: &BrokerConfig, checked: &Checked<'_>, properties: &Properties<'_>) -> Result<(), Refused> {
    if !config.enable_lmq || !properties.inner {
        return Ok(());
    }
    let Some(names) = properties.get(property::INNER_MULTI_DISPATCH) else { return Ok(()) };
    let bad = names.split(',').find(|name| !name.starts_with(topic::LMQ_PREFIX) || name.len() > topic::MAX_RETRY_TOPIC);
    match bad.filter(|_| !names.trim().is_empty()) {
        Some(bad) => {
            let remark = format!(
                "{} of a message to {} names '{bad}', which is no light queue: names begin with %LMQ% and have up to {} bytes",
                property::INNER_MULTI_DISPATCH,
                checked.topic.topic_name,
                topic::MAX_RETRY_TOPIC
            );
            Err(Refused::new(response::MESSAGE_ILLEGAL, remark))
        }
        None => Ok(()),
    }
}
