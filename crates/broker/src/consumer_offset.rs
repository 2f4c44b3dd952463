//! Consumer progress and queue bounds as clients ask them. Source: `broker/.../processor/ConsumerManageProcessor.java`,
//! `AdminBrokerProcessor.java`; reference broker 5.2, 5.3, 5.5.

use store::Boundary;
use wire::{
    Command,
    code::response,
    header::{
        GetEarliestMsgStoretimeRequestHeader, GetEarliestMsgStoretimeResponseHeader, GetMaxOffsetRequestHeader,
        GetMaxOffsetResponseHeader, GetMinOffsetRequestHeader, GetMinOffsetResponseHeader,
        QueryConsumerOffsetRequestHeader, QueryConsumerOffsetResponseHeader, SearchOffsetRequestHeader,
        SearchOffsetResponseHeader, UpdateConsumerOffsetRequestHeader,
    },
};

use crate::{
    context::{Broker, now_ms},
    needs::Needs,
};

/// A queue of a topic.
const QUEUE: Needs = Needs { fields: &["topic", "queueId"], ints: &["queueId"], longs: &[] };
/// And the time that is looked for in it.
const QUEUE_AND_TIME: Needs =
    Needs { fields: &["topic", "queueId", "timestamp"], ints: &["queueId"], longs: &["timestamp"] };
/// Or the group that reads it.
const QUEUE_AND_GROUP: Needs = Needs { fields: &["consumerGroup", "topic", "queueId"], ints: &["queueId"], longs: &[] };

/// An answer, or what is wrong with the header.
type Answer = Result<Command, String>;

/// UPDATE_CONSUMER_OFFSET.
pub fn update(broker: &Broker, command: &Command) -> Command {
    let header: UpdateConsumerOffsetRequestHeader = command.header();
    if broker.groups.get(&header.consumer_group).is_none() && broker.config().is_master() {
        let remark = format!("Group {} not exist!", header.consumer_group);
        return command.error(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark);
    }
    if broker.topics.get(&header.topic).is_none() {
        return command.error(response::TOPIC_NOT_EXIST, format!("Topic {} not exist!", header.topic));
    }
    let Some(queue_id) = header.queue_id else {
        return command.error(response::INVALID_PARAMETER, format!("QueueId is null, topic is {}", header.topic));
    };
    let Some(offset) = header.commit_offset else {
        return command.error(response::INVALID_PARAMETER, format!("Offset is null, topic is {}", header.topic));
    };
    if broker.offsets.pending_reset(&header.topic, &header.consumer_group, queue_id).is_some() {
        return command.error(response::SUCCESS, "Offset has been previously reset");
    }
    store(broker, &header.topic, &header.consumer_group, queue_id, offset);
    command.ok()
}

/// Stores what a consumer committed, as long as its group is there: it may be deleted after the request was checked, and its progress
/// would come back for a group of its name to find.
pub fn store(broker: &Broker, topic: &str, group: &str, queue_id: i32, offset: i64) {
    put(broker, topic, group, queue_id, offset, || broker.groups.get(group).is_some());
}

/// The same for a group that may come later.
pub fn store_ahead(broker: &Broker, topic: &str, group: &str, queue_id: i32, offset: i64) {
    put(broker, topic, group, queue_id, offset, || true);
}

/// Not beyond the end of a queue on a master: a live consumer that still commits what a lost master had, or what a deleted topic
/// of the name had, would skip what comes next (F-02, F-01). A slave may simply be behind; its master hears of the progress.
/// One that is about to be a master counts as one.
fn put(broker: &Broker, topic: &str, group: &str, queue_id: i32, offset: i64, may_be: impl FnOnce() -> bool) {
    if !broker.config().is_master() && broker.offsets.commit_at_slave(topic, group, queue_id, offset) {
        return;
    }
    // A topic may be deleted after the request was checked, like a group.
    let _in_use = broker.topics.in_use();
    let max = broker.store.max_offset(topic, queue_id);
    if broker.topics.get(topic).is_none() || !may_be() || offset > max {
        tracing::debug!(
            "progress {offset} of {group} on {topic} queue {queue_id} is not taken: group or queue is gone, or it ends at {max}"
        );
        return;
    }
    broker.offsets.commit_unless_reset(topic, group, queue_id, offset, now_ms());
}

/// QUERY_CONSUMER_OFFSET.
pub fn query(broker: &Broker, command: &Command) -> Answer {
    let header: QueryConsumerOffsetRequestHeader = QUEUE_AND_GROUP.read(command)?;
    let (topic, group) = (&header.topic, &header.consumer_group);
    let queue_id = header.queue_id;
    let stored =
        broker.offsets.pending_reset(topic, group, queue_id).or_else(|| broker.offsets.get(topic, group, queue_id));
    if let Some(offset) = stored.filter(|offset| *offset >= 0) {
        return Ok(command.ok().with_header(&QueryConsumerOffsetResponseHeader { offset }));
    }
    if header.set_zero_if_not_found == Some(false) {
        let remark = "Not found, do not set to zero, maybe this group boot first";
        return Ok(command.error(response::QUERY_NOT_FOUND, remark));
    }
    if broker.store.min_offset(topic, queue_id) <= 0 && in_memory(broker, topic, queue_id) {
        return Ok(command.ok().with_header(&QueryConsumerOffsetResponseHeader { offset: 0 }));
    }
    Ok(command.error(response::QUERY_NOT_FOUND, "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first"))
}

/// True while the first message of a queue counts as in memory: a young group starts there then.
fn in_memory(broker: &Broker, topic: &str, queue_id: i32) -> bool {
    let config = broker.store.config();
    let window = config.total_memory / 100 * u64::from(config.access_message_in_memory_max_ratio);
    let unit = broker.store.queue_unit(topic, queue_id, 0);
    unit.is_some_and(|unit| broker.store.max_phys() - unit.physical_offset <= window as i64)
}

/// GET_MAX_OFFSET.
pub fn max(broker: &Broker, command: &Command) -> Answer {
    let header: GetMaxOffsetRequestHeader = QUEUE.read(command)?;
    let offset = broker.store.max_offset(&header.topic, header.queue_id);
    Ok(command.ok().with_header(&GetMaxOffsetResponseHeader { offset }))
}

/// GET_MIN_OFFSET.
pub fn min(broker: &Broker, command: &Command) -> Answer {
    let header: GetMinOffsetRequestHeader = QUEUE.read(command)?;
    let offset = broker.store.min_offset(&header.topic, header.queue_id);
    Ok(command.ok().with_header(&GetMinOffsetResponseHeader { offset }))
}

/// SEARCH_OFFSET_BY_TIMESTAMP.
pub fn search(broker: &Broker, command: &Command) -> Answer {
    let header: SearchOffsetRequestHeader = QUEUE_AND_TIME.read(command)?;
    let boundary = match header.boundary_type.as_deref() {
        Some(text) if text.eq_ignore_ascii_case("upper") => Boundary::Upper,
        _ => Boundary::Lower,
    };
    let found = broker.store.offset_by_time(&header.topic, header.queue_id, header.timestamp, boundary);
    let offset = found.map_err(|error| error.to_string())?;
    Ok(command.ok().with_header(&SearchOffsetResponseHeader { offset }))
}

/// GET_EARLIEST_MSG_STORETIME.
pub fn earliest_time(broker: &Broker, command: &Command) -> Answer {
    let header: GetEarliestMsgStoretimeRequestHeader = QUEUE.read(command)?;
    let timestamp = broker.store.earliest_time(&header.topic, header.queue_id);
    Ok(command.ok().with_header(&GetEarliestMsgStoretimeResponseHeader { timestamp }))
}
