//! INVOKE_BROKER_TO_RESET_OFFSET: an operator moves a group on a topic, to a time, to the end, or to an offset.
//! Source: `AdminBrokerProcessor.java`, `Broker2Client.java`; reference broker 5.4.

use std::{collections::BTreeMap, sync::Arc};

use store::Boundary;
use wire::{
    Command, Language,
    body::{MessageQueue, MessageQueueForC, ResetOffsetBody, ResetOffsetBodyForC},
    code::{request, response},
    header::ResetOffsetRequestHeader,
    json,
};

use super::{Answer, Needs, Refused, parse};
use crate::{
    clients::ClientInfo,
    context::{Broker, now_ms},
};

const NEEDS: Needs =
    Needs { fields: &["topic", "group", "timestamp"], ints: &["queueId"], longs: &["timestamp", "offset"] };

/// Checks which way `useServerSideResetOffset` says, and goes it.
pub fn reset(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: ResetOffsetRequestHeader = parse(command, &NEEDS)?;
    match broker.config().use_server_side_reset_offset {
        true => here(broker, command, &header),
        false => at_clients(broker, command, &header),
    }
}

/// Sets progress here; the consumer hears it with its next pull, and pulls that are held are answered for it.
fn here(broker: &Arc<Broker>, command: &Command, header: &ResetOffsetRequestHeader) -> Answer {
    if !broker.config().is_master() {
        return Err(Refused::error("Can not reset offset in slave broker"));
    }
    let (topic, group) = (&header.topic, &header.group);
    let config = broker
        .topics
        .get(topic)
        .ok_or_else(|| Refused::new(response::TOPIC_NOT_EXIST, format!("Topic {topic} does not exist")))?;
    if broker.groups.get(group).is_none() {
        let remark = format!("Group {group} does not exist");
        return Err(Refused::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
    }
    let targets = targets(broker, header, config.read_queue_nums)?;
    if targets.is_empty() {
        return Err(Refused::error("No queues to reset."));
    }
    for (queue_id, offset) in targets.iter().filter(|(_, offset)| **offset >= 0) {
        broker.offsets.reset(topic, group, *queue_id, *offset, now_ms());
        broker.holds.wake(broker, topic, *queue_id);
    }
    tracing::info!("progress of {group} on {topic} is reset to {targets:?}");
    let offset_table = by_queue(broker, topic, targets);
    Ok(command.ok_body(json::encode(&ResetOffsetBody { offset_table })))
}

fn targets(broker: &Broker, header: &ResetOffsetRequestHeader, queues: i32) -> Result<BTreeMap<i32, i64>, Refused> {
    let topic = &header.topic;
    if header.queue_id < 0 {
        return (0..queues).map(|queue| Ok((queue, offset_at(broker, topic, queue, header.timestamp)?))).collect();
    }
    let queue = header.queue_id;
    let target = match header.offset.filter(|offset| *offset != -1) {
        Some(offset) => within(offset, broker.store.min_offset(topic, queue), broker.store.max_offset(topic, queue))?,
        None => offset_at(broker, topic, queue, header.timestamp)?,
    };
    Ok(BTreeMap::from([(queue, target)]))
}

/// Upstream allows one beyond the end; what would be skipped by it is not: the end is meant.
fn within(offset: i64, min: i64, max: i64) -> Result<i64, Refused> {
    if offset < min || offset > max.saturating_add(1) {
        return Err(Refused::error(format!("Target offset {offset} not in consume queue range [{min}-{max}]")));
    }
    Ok(offset.min(max))
}

fn offset_at(broker: &Broker, topic: &str, queue_id: i32, timestamp: i64) -> Result<i64, Refused> {
    if timestamp < 0 {
        return Ok(broker.store.max_offset(topic, queue_id));
    }
    let found = broker.store.offset_by_time(topic, queue_id, timestamp, Boundary::Lower);
    found.map_err(|error| Refused::error(error.to_string()))
}

fn by_queue(broker: &Broker, topic: &str, offsets: BTreeMap<i32, i64>) -> BTreeMap<MessageQueue, i64> {
    let broker_name = &broker.config().broker_name;
    offsets.into_iter().map(|(queue, offset)| (MessageQueue::new(topic, broker_name.as_str(), queue), offset)).collect()
}

/// Tells every member of the group to move; it commits that itself.
fn at_clients(broker: &Arc<Broker>, command: &Command, header: &ResetOffsetRequestHeader) -> Answer {
    let (topic, group) = (&header.topic, &header.group);
    let config = broker.topics.get(topic).ok_or_else(|| {
        let remark = format!("[reset-offset] reset offset failed, no topic in this broker. topic={topic}");
        Refused::new(response::TOPIC_NOT_EXIST, remark)
    })?;
    let offsets = client_targets(broker, header, config.write_queue_nums)?;
    let members: Vec<ClientInfo> =
        broker.clients.with_group(group, |group| group.members.values().cloned().collect()).unwrap_or_default();
    if members.is_empty() {
        let remark = format!(
            "Consumer not online, so can not reset offset, Group: {group} Topic: {topic} Timestamp: {}",
            header.timestamp
        );
        return Err(Refused::new(response::CONSUMER_NOT_ONLINE, remark));
    }
    let offset_table = by_queue(broker, topic, offsets);
    let order = order(command, header, &offset_table);
    for member in members {
        member.conn.send_oneway(order.clone());
    }
    Ok(command.ok_body(json::encode(&ResetOffsetBody { offset_table })))
}

fn client_targets(
    broker: &Broker,
    header: &ResetOffsetRequestHeader,
    queues: i32,
) -> Result<BTreeMap<i32, i64>, Refused> {
    let target = |queue: i32| {
        let stored = broker.offsets.get(&header.topic, &header.group, queue);
        // The capital letters are upstream's.
        let stored =
            stored.ok_or_else(|| Refused::error(format!("THe consumer group <{}> not exist", header.group)))?;
        let wanted = offset_at(broker, &header.topic, queue, header.timestamp)?.max(0);
        Ok((queue, if header.is_force || wanted < stored { wanted } else { stored }))
    };
    (0..queues).map(target).collect()
}

/// The request to a client, in the form that the language of whoever asks has.
fn order(command: &Command, header: &ResetOffsetRequestHeader, table: &BTreeMap<MessageQueue, i64>) -> Command {
    let body = match command.language {
        Language::Cpp => json::encode(&ResetOffsetBodyForC { offset_table: table.iter().map(for_c).collect() }),
        _ => json::encode(&ResetOffsetBody { offset_table: table.clone() }),
    };
    let header = ResetOffsetRequestHeader {
        topic: header.topic.clone(),
        group: header.group.clone(),
        timestamp: header.timestamp,
        ..ResetOffsetRequestHeader::default()
    };
    Command::request_with(request::RESET_CONSUMER_CLIENT_OFFSET, &header).with_body(body)
}

fn for_c((queue, offset): (&MessageQueue, &i64)) -> MessageQueueForC {
    MessageQueueForC {
        broker_name: queue.broker_name.clone(),
        offset: *offset,
        queue_id: queue.queue_id,
        topic: queue.topic.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_in_its_queue() {
        assert_eq!(within(5, 5, 9), Ok(5));
        assert_eq!(within(10, 5, 9), Ok(9));
        let remark = "Target offset 11 not in consume queue range [5-9]";
        assert_eq!(within(11, 5, 9), Err(Refused::error(remark)));
        assert!(within(4, 5, 9).is_err());
        assert!(within(i64::MIN, 5, i64::MAX).is_err());
    }

    #[test]
    fn cpp_gets_a_list() {
        let header =
            ResetOffsetRequestHeader { topic: "T".into(), group: "G".into(), timestamp: 7, ..Default::default() };
        let table = BTreeMap::from([(MessageQueue::new("T", "b", 1), 3)]);
        let mut command = Command::request(request::INVOKE_BROKER_TO_RESET_OFFSET);
        let java = order(&command, &header, &table);
        assert_eq!(java.body, r#"{"offsetTable":{{"brokerName":"b","queueId":1,"topic":"T"}:3}}"#);
        assert_eq!(java.ext.get("queueId"), Some("-1"));
        command.language = Language::Cpp;
        let cpp = order(&command, &header, &table);
        assert_eq!(cpp.body, r#"{"offsetTable":[{"brokerName":"b","offset":3,"queueId":1,"topic":"T"}]}"#);
    }
}
