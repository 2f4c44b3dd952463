//! Consume queues and segments: look into a queue, clean what is no longer needed.
//! Source: `AdminBrokerProcessor.java`, `DefaultMessageStore.java`; reference broker 12.1.

use std::{collections::BTreeSet, sync::Arc};

use wire::{
    Command,
    body::{ConsumeQueueData, QueryConsumeQueueResponseBody, SubscriptionData},
    header::QueryConsumeQueueRequestHeader,
    json,
};

use super::{Answer, Needs, Refused, parse};
use crate::{
    context::Broker,
    deletion,
    space::{self, When},
};

/// Units of one answer.
const MAX_UNITS: i32 = 10_000;

/// QUERY_CONSUME_QUEUE. Where there is no such queue it is an error, as Java's clients cannot read an answer without a body;
/// only an index beyond the end has one, as upstream.
pub fn query(broker: &Arc<Broker>, command: &Command) -> Answer {
    let needs =
        Needs { fields: &["topic", "queueId", "index", "count"], ints: &["queueId", "count"], longs: &["index"] };
    let header: QueryConsumeQueueRequestHeader = parse(command, &needs)?;
    let (topic, queue_id, index) = (&header.topic, header.queue_id, header.index);
    let max_queue_index = broker.store.max_offset(topic, queue_id);
    let queues = broker.topics.get(topic).map_or(0, |config| config.read_queue_nums.max(config.write_queue_nums));
    if max_queue_index == 0 && !(0..queues).contains(&queue_id) {
        return Err(Refused::error(format!("{queue_id}@{topic} is not exist!")));
    }
    let min_queue_index = broker.store.min_offset(topic, queue_id);
    if index < min_queue_index || index >= max_queue_index {
        let remark = format!("Index {index} of {queue_id}@{topic} is not exist!");
        return Ok(Command { remark: Some(remark), ..command.ok() });
    }
    let subscription_data = subscription(broker, &header);
    let body = QueryConsumeQueueResponseBody {
        filter_data: filter_data(&header, subscription_data.is_some()),
        max_queue_index,
        min_queue_index,
        queue_data: units(broker, &header),
        subscription_data,
    };
    Ok(command.ok_body(json::encode(&body)))
}

fn subscription(broker: &Broker, header: &QueryConsumeQueueRequestHeader) -> Option<SubscriptionData> {
    let group = header.consumer_group.as_deref()?;
    let found = broker.clients.with_group(group, |group| group.subscriptions.get(&header.topic).cloned());
    found.flatten().map(|subscription| (*subscription).clone())
}

/// Filters by SQL are not kept here, which upstream prints as `null`.
fn filter_data(header: &QueryConsumeQueueRequestHeader, online: bool) -> Option<String> {
    let group = header.consumer_group.as_deref()?;
    Some(if online { "null".into() } else { format!("{group}@{} is not online!", header.topic) })
}

/// A unit of a batch queue stands for several offsets.
fn units(broker: &Broker, header: &QueryConsumeQueueRequestHeader) -> Vec<ConsumeQueueData> {
    let end = header.index.saturating_add(header.count.clamp(0, MAX_UNITS).into());
    let mut next = header.index;
    let mut found = Vec::new();
    while next < end {
        let Some(unit) = broker.store.queue_unit(&header.topic, header.queue_id, next) else { break };
        found.push(ConsumeQueueData {
            physic_offset: unit.physical_offset,
            physic_size: unit.size,
            tags_code: unit.tags_code,
            ..ConsumeQueueData::default()
        });
        next = (unit.queue_offset + i64::from(unit.count)).max(next + 1);
    }
    found
}

/// CLEAN_UNUSED_TOPIC: queues whose topic is not configured go, except those of system and light message topics. A slave
/// may hold messages before it hears of their topic: it follows its master.
pub fn clean_unused(broker: &Arc<Broker>, command: &Command) -> Answer {
    if !broker.config().is_master() {
        tracing::info!("cleanUnusedTopic changes nothing at a slave: it deletes what its master deletes");
        return Ok(command.ok());
    }
    let stored: BTreeSet<Arc<str>> = broker.store.queues().into_iter().map(|(topic, _)| topic).collect();
    for name in stored.iter().filter(|name| broker.topics.get(name).is_none() && !deletion::is_kept(broker, name)) {
        tracing::info!("topic {name} is not configured: its queues are removed");
        deletion::delete_unless_known(broker, name)?;
    }
    Ok(command.ok())
}

/// CLEAN_EXPIRED_CONSUMEQUEUE: what points before the log goes with the segments it points to.
pub fn clean_expired(broker: &Arc<Broker>, command: &Command) -> Answer {
    space::clean(broker, When::ItsHour).map_err(cannot_delete)?;
    Ok(command.ok())
}

/// DELETE_EXPIRED_COMMITLOG: deletes what is expired now, whatever `deleteWhen` says.
pub fn delete_expired(broker: &Arc<Broker>, command: &Command) -> Answer {
    let deleted = space::clean(broker, When::Now).map_err(cannot_delete)?;
    tracing::info!("deleteExpiredCommitLog: {deleted} segment(s) deleted");
    Ok(command.ok())
}

fn cannot_delete(error: store::StoreError) -> Refused {
    Refused::error(format!("old segments cannot be deleted: {error}"))
}
