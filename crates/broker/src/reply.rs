//! SEND_REPLY_MESSAGE and SEND_REPLY_MESSAGE_V2: the answer to a request message, handed to the client that asked.
//! Source: `broker/.../processor/ReplyMessageProcessor.java`; reference broker 9. Success means that the asker has the
//! reply; it says nothing of the stored copy, but for its place where there is one.

use std::sync::Arc;

use remoting::{Connection, LineLimit};
use tokio::time::Duration;
use wire::{
    Command,
    code::{request, response},
    header::ReplyMessageRequestHeader,
    message_id, property,
};

use crate::{
    config::BrokerConfig,
    context::{Broker, Stored, now_ms},
    send::{self, Checked},
    service::answer_unless_oneway,
};

/// How long the asker may take.
const PUSH_LIMIT: Duration = Duration::from_secs(10);
const REPLY_TO_CLIENT: &str = "REPLY_TO_CLIENT";
const PUSH_REPLY_TIME: &str = "PUSH_REPLY_TIME";

/// Askers that are gone or do not answer.
static NOT_TAKEN: LineLimit = LineLimit::new(20);

/// True for the codes of this family.
pub fn is_reply(code: i32) -> bool {
    matches!(code, request::SEND_REPLY_MESSAGE | request::SEND_REPLY_MESSAGE_V2)
}

/// Hands the reply over, stores it where `storeReplyMessageEnable` says so, and answers.
pub fn handle(broker: &Arc<Broker>, conn: &Arc<Connection>, command: Command) {
    let (broker, conn) = (broker.clone(), conn.clone());
    tokio::spawn(async move {
        let config = broker.config();
        let mut answer = match send::check(&broker, &config, &command, conn.peer(), None) {
            Ok(checked) => deliver(&broker, &config, &conn, &command, &checked).await,
            Err(send::Refused(code, remark)) => command.error(code, remark),
        };
        send::mark_region(&mut answer, &config);
        answer_unless_oneway(&conn, &command, answer);
    });
}

async fn deliver(
    broker: &Arc<Broker>,
    config: &BrokerConfig,
    conn: &Arc<Connection>,
    command: &Command,
    checked: &Checked<'_>,
) -> Command {
    let pushed = push(broker, conn, command, checked).await;
    let stored = match config.store_reply_message_enable {
        true => store(broker, config, conn, command, checked).await,
        false => None,
    };
    let mut answer = match pushed {
        Ok(()) => command.ok(),
        Err(remark) => command.error(response::SYSTEM_ERROR, remark),
    };
    // Java clients need all three, whatever became of the copy.
    let (msg_id, queue_offset) = stored.unwrap_or_else(|| ("0".to_owned(), 0));
    answer.ext.push("msgId", &msg_id);
    answer.ext.push_number("queueId", checked.queue_id);
    answer.ext.push_number("queueOffset", queue_offset);
    answer
}

/// To the client that the message names, on the connection on which it is heard as a producer.
async fn push(broker: &Broker, conn: &Connection, command: &Command, checked: &Checked<'_>) -> Result<(), String> {
    let properties = checked.header.properties;
    let asker = property::find(properties.as_bytes(), REPLY_TO_CLIENT)
        .ok_or_else(|| format!("reply message properties[{REPLY_TO_CLIENT}] is null"))?;
    let channel = broker
        .clients
        .producer_channel(asker)
        .ok_or_else(|| format!("push reply message fail, channel of <{asker}> not found."))?;
    let header = push_header(broker, conn, checked);
    let request = Command::request_with(request::PUSH_REPLY_MESSAGE_TO_CLIENT, &header).with_body(command.body.clone());
    let failure = match channel.invoke(request, PUSH_LIMIT).await {
        Ok(answer) if answer.code == response::SUCCESS => return Ok(()),
        Ok(answer) => format!("it answered {}: {}", answer.code, answer.remark.unwrap_or_default()),
        Err(error) => error.to_string(),
    };
    if let Some(left_out) = NOT_TAKEN.take() {
        tracing::warn!("a reply for {asker} of topic {} is not taken: {failure}{left_out}", checked.header.topic);
    }
    Err(format!("push reply message to {asker}fail."))
}

fn push_header(broker: &Broker, conn: &Connection, checked: &Checked<'_>) -> ReplyMessageRequestHeader {
    let header = &checked.header;
    let mut properties = header.properties.as_bytes().to_vec();
    property::set(&mut properties, PUSH_REPLY_TIME, &now_ms().to_string());
    ReplyMessageRequestHeader {
        producer_group: header.producer_group.to_owned(),
        topic: header.topic.to_owned(),
        default_topic: header.default_topic.to_owned(),
        default_topic_queue_nums: header.default_topic_queue_nums,
        queue_id: header.queue_id.unwrap_or(checked.queue_id),
        sys_flag: checked.numbers.sys_flag,
        born_timestamp: checked.numbers.born_timestamp,
        flag: checked.numbers.flag,
        properties: Some(String::from_utf8_lossy(&properties).into_owned()),
        reconsume_times: header.reconsume_times,
        unit_mode: header.unit_mode,
        born_host: conn.peer().to_string(),
        store_host: broker.store_host().to_string(),
        store_timestamp: now_ms(),
        ..ReplyMessageRequestHeader::default()
    }
}

/// Message id and queue offset of the stored copy, once it is as safe as the configuration promises.
async fn store(
    broker: &Arc<Broker>,
    config: &BrokerConfig,
    conn: &Arc<Connection>,
    command: &Command,
    checked: &Checked<'_>,
) -> Option<(String, i64)> {
    let placed = match send::store_one(broker, conn, checked, &command.body) {
        Ok(placed) => placed,
        Err(send::Refused(_, remark)) => {
            tracing::warn!("a reply of topic {} is handed over but not stored: {remark}", checked.header.topic);
            return None;
        }
    };
    if broker.must_wait(config) && broker.wait_stored(placed.end, config).await != Stored::Ok {
        return None;
    }
    Some((message_id::offset_id(broker.store_host(), placed.physical_offset), placed.queue_offset))
}
