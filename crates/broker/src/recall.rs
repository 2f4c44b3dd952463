//! RECALL_MESSAGE: a producer takes a timer message back before its time. A marker waits beside the message; when their
//! time comes, neither is delivered. Source: `broker/.../processor/RecallMessageProcessor.java`; reference broker 8.3.

use std::{net::SocketAddr, sync::Arc};

use remoting::Connection;
use store::Batch;
use wire::{
    Command,
    code::response,
    header::{RecallMessageRequestHeader, RecallMessageResponseHeader},
    property,
    recall_handle::RecallHandle,
    record_encode::NewRecord,
    topic,
};

use crate::{
    config::BrokerConfig,
    context::{Broker, now_ms},
    send::Refused,
    service::answer_unless_oneway,
    timer,
};

/// Tag of a marker.
const TAG: &str = "_RECALL_TAG_";

/// Stores the marker and answers when it is as safe as a send.
pub fn handle(broker: &Arc<Broker>, conn: &Arc<Connection>, command: Command) {
    let config = broker.config();
    match store_marker(broker, &config, &command, conn.peer()) {
        Err(Refused(code, remark)) => {
            let mut answer = command.error(code, remark);
            answer.ext.push("MSG_REGION", &config.region_id);
            answer_unless_oneway(conn, &command, answer);
        }
        // Nothing would bound how many tasks wait for nobody.
        Ok(_) if command.is_oneway() => {}
        Ok((end, msg_id)) => {
            let (broker, conn) = (broker.clone(), conn.clone());
            tokio::spawn(async move {
                // Stored is stored: upstream answers success in all three cases.
                let _ = broker.wait_stored(end, &config).await;
                let mut answer = command.ok().with_header(&RecallMessageResponseHeader { msg_id });
                answer.ext.push("MSG_REGION", &config.region_id);
                answer_unless_oneway(&conn, &command, answer);
            });
        }
    }
}

/// Answers the end of the marker's record and the id of the message.
fn store_marker(
    broker: &Arc<Broker>,
    config: &BrokerConfig,
    command: &Command,
    peer: SocketAddr,
) -> Result<(i64, String), Refused> {
    let header: RecallMessageRequestHeader = command.header();
    allowed(broker, config, &header)?;
    let handle = check(config, &header)?;
    let mut properties = properties_of(&header, &handle);
    let failed = |why: String| {
        tracing::warn!("a message cannot be taken back: {why}");
        Refused(response::SYSTEM_ERROR, "recall failed, execute error".into())
    };
    let place =
        timer::enter(broker, config, &mut properties, &handle.topic, 0).map_err(|Refused(_, why)| failed(why))?;
    let (topic, queue_id) = place.ok_or_else(|| failed(format!("nothing waits in {}", handle.topic)))?;
    let record = NewRecord {
        topic: &topic,
        queue_id,
        flag: 0,
        sys_flag: 0,
        born_timestamp: now_ms(),
        born_host: peer,
        store_host: broker.store_host(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        properties: &properties,
        body: b"0",
    };
    let mut batch = Batch::new();
    batch.push(&record).map_err(|error| failed(error.to_string()))?;
    broker.store.append(&mut batch).map_err(|error| failed(error.to_string()))?;
    broker.dispatch_soon();
    broker.timers.ring();
    Ok((batch.entries().last().map_or(0, |entry| entry.end()), handle.unique_id))
}

fn allowed(broker: &Broker, config: &BrokerConfig, header: &RecallMessageRequestHeader) -> Result<(), Refused> {
    let not_available = |code| Err(Refused(code, "recall failed, broker service not available".into()));
    if !config.recall_message_enable {
        return Err(Refused(response::NO_PERMISSION, "recall failed, operation is forbidden".into()));
    }
    if !config.is_master() {
        return not_available(response::SLAVE_NOT_AVAILABLE);
    }
    let writable = topic::perm::writeable(config.broker_permission) || config.allow_recall_when_broker_not_writeable;
    if now_ms() < config.start_accept_send_request_time_stamp || !writable {
        return not_available(response::SERVICE_NOT_AVAILABLE);
    }
    if broker.topics.get(&header.topic).is_none() {
        let remark = format!("recall failed, the topic[{}] not exist", header.topic);
        return Err(Refused(response::TOPIC_NOT_EXIST, remark));
    }
    Ok(())
}

fn check(config: &BrokerConfig, header: &RecallMessageRequestHeader) -> Result<RecallHandle, Refused> {
    let illegal = |remark: &str| Refused(response::ILLEGAL_OPERATION, remark.to_owned());
    let handle = RecallHandle::decode(&header.recall_handle).ok_or_else(|| illegal("recall handle is invalid"))?;
    if handle.topic != header.topic {
        return Err(illegal("recall failed, topic not match"));
    }
    if handle.broker_name != config.broker_name {
        return Err(illegal("recall failed, broker service not available"));
    }
    let left = handle.time_ms.parse::<i64>().unwrap_or(-1).saturating_sub(now_ms());
    if left <= 0 || left >= config.timer_max_delay_sec.saturating_mul(1000) {
        return Err(illegal("recall failed, timestamp invalid"));
    }
    Ok(handle)
}

fn properties_of(header: &RecallMessageRequestHeader, handle: &RecallHandle) -> Vec<u8> {
    let mut text = Vec::new();
    let key = format!("{}+{}", handle.topic, handle.unique_id);
    property::push(&mut text, property::TAGS, TAG);
    property::push(&mut text, property::TIMER_DELETE_UNIQUE_KEY, &key);
    property::push(&mut text, property::UNIQ_KEY, &handle.unique_id);
    property::push(&mut text, property::TIMER_DELIVER_MS, &handle.time_ms);
    property::push(&mut text, property::BORN_TIMESTAMP, &now_ms().to_string());
    if let Some(group) = header.producer_group.as_deref().filter(|group| !group.is_empty()) {
        property::push(&mut text, property::PRODUCER_GROUP, group);
    }
    text
}
