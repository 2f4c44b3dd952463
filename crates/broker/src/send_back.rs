//! CONSUMER_SEND_MSG_BACK: a consumer could not handle a message; it comes again later or becomes a dead letter.
//! Source: `broker/.../processor/AbstractSendMessageProcessor.java`; reference broker 3.

use std::sync::Arc;

use remoting::Connection;
use store::Batch;
use wire::{
    Command,
    body::SubscriptionGroupConfig,
    code::response,
    header::ConsumerSendMsgBackRequestHeader,
    message_id, property,
    record::{self, Check, RecordView},
    record_encode::NewRecord,
    sys_flag, topic,
};

use crate::{
    config::BrokerConfig,
    context::{Broker, FAQ, Stored, now_ms},
    needs::Needs,
    send::{any_queue, append_failure},
    service::answer_unless_oneway,
    stats::Amount,
};

/// Stores the message again and answers when it is as safe as a send.
pub fn handle(broker: &Arc<Broker>, conn: &Arc<Connection>, command: Command) {
    let config = broker.config();
    match store_again(broker, &config, &command) {
        Err((code, remark)) => answer_unless_oneway(conn, &command, command.error(code, remark)),
        Ok(None) => answer_unless_oneway(conn, &command, command.ok()),
        // Nothing would bound how many tasks wait for nobody.
        Ok(Some(_)) if command.is_oneway() => {}
        Ok(Some(end)) => {
            let (broker, conn) = (broker.clone(), conn.clone());
            tokio::spawn(async move {
                let answer = match broker.wait_stored(end, &config).await {
                    Stored::Ok => command.ok(),
                    // The client sends it again, a double is better than a loss.
                    Stored::FlushDiskTimeout => command.error(response::SYSTEM_ERROR, "FLUSH_DISK_TIMEOUT"),
                    Stored::FlushSlaveTimeout => command.error(response::SYSTEM_ERROR, "FLUSH_SLAVE_TIMEOUT"),
                };
                answer_unless_oneway(&conn, &command, answer);
            });
        }
    }
}

type Failure = (i32, String);

/// Offset 0 is a message like any other: one that nobody named must not come again.
const NEEDS: Needs = Needs {
    fields: &["offset", "group", "delayLevel"],
    ints: &["delayLevel", "maxReconsumeTimes"],
    longs: &["offset"],
};

/// Answers the end of the new record, `None` when the group keeps no retries.
fn store_again(broker: &Arc<Broker>, config: &BrokerConfig, command: &Command) -> Result<Option<i64>, Failure> {
    let _in_use = broker.topics.in_slow_use();
    let header: ConsumerSendMsgBackRequestHeader =
        NEEDS.read(command).map_err(|remark| (response::SYSTEM_ERROR, remark))?;
    let group = check(broker, config, &header)?;
    if group.retry_queue_nums <= 0 {
        return Ok(None);
    }
    let bytes = broker.store.read_record(header.offset);
    let bytes =
        bytes.ok_or_else(|| (response::SYSTEM_ERROR, format!("look message by offset failed, {}", header.offset)))?;
    let Check::Record(old) = record::check(&bytes, false) else {
        return Err((response::SYSTEM_ERROR, format!("no message starts at offset {}", header.offset)));
    };
    if old.sys_flag() & sys_flag::INNER_BATCH != 0 {
        // As Java: the client then sends the one message that failed to the retry topic itself.
        let remark = format!("the message at offset {} is in an inner batch, which is not sent back", header.offset);
        return Err((response::SYSTEM_ERROR, remark));
    }
    let (topic, queue_id, properties) = retry_of(broker, &header, &group, &old)?;
    let (end, bytes) = append(broker, &old, &topic, queue_id, &properties)?;
    // The property is the producer's word.
    let origin = old.property(property::RETRY_TOPIC).filter(|name| broker.topics.get(name).is_some());
    let origin = origin.unwrap_or_else(|| old.topic());
    let one = Amount { messages: 1, bytes, calls: 1 };
    broker.stats.add("SNDBCK_PUT_NUMS", &format!("{origin}@{}", header.group), one);
    if topic == topic::SCHEDULE {
        broker.stats.add("TOPIC_PUT_NUMS", topic::SCHEDULE, one);
    }
    Ok(Some(end))
}

fn check(
    broker: &Broker,
    config: &BrokerConfig,
    header: &ConsumerSendMsgBackRequestHeader,
) -> Result<Arc<SubscriptionGroupConfig>, Failure> {
    if !config.is_master() {
        return Err((response::SYSTEM_ERROR, format!("no master available along with {}", config.broker_ip1)));
    }
    let group = broker.groups.get_or_create(&header.group, config.creates_group(&header.group), now_ms());
    let group = group.ok_or_else(|| {
        (response::SUBSCRIPTION_GROUP_NOT_EXIST, format!("subscription group not exist, {} {FAQ}", header.group))
    })?;
    match topic::perm::writeable(config.broker_permission) {
        true => Ok(group),
        false => {
            Err((response::NO_PERMISSION, format!("the broker[{}] sending message is forbidden", config.broker_ip1)))
        }
    }
}

/// Where the message goes next, and its properties there.
fn retry_of(
    broker: &Broker,
    header: &ConsumerSendMsgBackRequestHeader,
    group: &SubscriptionGroupConfig,
    old: &RecordView<'_>,
) -> Result<(String, i32, Vec<u8>), Failure> {
    let sys_flag = if header.unit_mode { 2 } else { 0 };
    let retry = internal_topic(broker, &topic::retry(&header.group), group.retry_queue_nums, sys_flag)?;
    if !topic::perm::writeable(retry.perm) {
        return Err((response::NO_PERMISSION, format!("the topic[{}] sending message is forbidden", retry.topic_name)));
    }
    let mut properties = property::without(old.properties(), &[property::WAIT, property::DELAY]);
    if old.property(property::RETRY_TOPIC).is_none() {
        property::push(&mut properties, property::RETRY_TOPIC, old.topic());
    }
    if old.property(property::ORIGIN_MESSAGE_ID).is_none() {
        let id = message_id::offset_id(old.store_host(), old.physical_offset());
        property::push(&mut properties, property::ORIGIN_MESSAGE_ID, &id);
    }
    let limit = header.max_reconsume_times.unwrap_or(group.retry_max_times);
    if old.reconsume_times() >= limit || header.delay_level < 0 {
        let dead = internal_topic(broker, &topic::dead_letter(&header.group), 1, 0)?;
        return Ok((dead.topic_name.clone(), 0, properties));
    }
    let level = if header.delay_level == 0 { 3 + old.reconsume_times() } else { header.delay_level };
    let level = broker.delays.clamp_level(level);
    property::push(&mut properties, property::DELAY, &level.to_string());
    property::set(&mut properties, property::REAL_TOPIC, &retry.topic_name);
    property::set(&mut properties, property::REAL_QUEUE_ID, &any_queue(retry.write_queue_nums).to_string());
    Ok((topic::SCHEDULE.to_owned(), level - 1, properties))
}

fn internal_topic(
    broker: &Broker,
    name: &str,
    queues: i32,
    sys_flag: i32,
) -> Result<Arc<wire::body::TopicConfig>, Failure> {
    let (topic, created) = broker
        .topics
        .create_internal(name, queues, sys_flag, now_ms())
        .ok_or_else(|| (response::SYSTEM_ERROR, format!("topic[{name}] not exist")))?;
    if created {
        broker.registrar.topic_changed(name);
    }
    Ok(topic)
}

/// Answers the end and the size of the record.
fn append(
    broker: &Arc<Broker>,
    old: &RecordView<'_>,
    topic: &str,
    queue_id: i32,
    properties: &[u8],
) -> Result<(i64, i64), Failure> {
    let record = NewRecord {
        reconsume_times: old.reconsume_times() + 1,
        properties,
        ..NewRecord::again(old, topic, queue_id, broker.store_host())
    };
    let mut batch = Batch::of_stored();
    batch.push(&record).map_err(|error| (response::SYSTEM_ERROR, error.to_string()))?;
    broker.store.append(&mut batch).map_err(|error| append_failure(broker, &error))?;
    broker.dispatch_soon();
    Ok(batch.entries().last().map_or((0, 0), |entry| (entry.end(), entry.size as i64)))
}
