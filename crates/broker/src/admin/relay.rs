//! Questions that a client answers: the broker passes them on, waits, and passes the answer back.
//! Source: `AdminBrokerProcessor.java`, `Broker2Client.java`; reference broker 6.5, remoting 11.12.

use std::{sync::Arc, time::Duration};

use remoting::RemotingError;
use tokio::task::JoinSet;
use wire::{
    Command,
    body::GetConsumerStatusBody,
    code::{request, response},
    header::{
        ConsumeMessageDirectlyResultRequestHeader, GetConsumerRunningInfoRequestHeader, GetConsumerStatusRequestHeader,
    },
    json, message_id,
};

use super::{Answer, Needs, Refused, parse};
use crate::{clients::ClientInfo, context::Broker};

const RELAY_LIMIT: Duration = Duration::from_secs(10);
const STATUS_LIMIT: Duration = Duration::from_secs(5);
/// V3_1_8_SNAPSHOT, the first that answers 307 and 309.
const RELAY_VERSION: i32 = 62;
/// V3_0_7_SNAPSHOT, the first that answers 221.
const STATUS_VERSION: i32 = 28;

/// GET_CONSUMER_RUNNING_INFO.
pub async fn running_info(broker: Arc<Broker>, command: Command) -> Answer {
    let header: GetConsumerRunningInfoRequestHeader = parse(&command, &Needs::fields(&["consumerGroup", "clientId"]))?;
    relay(&broker, command, &header.consumer_group, &header.client_id).await
}

/// CONSUME_MESSAGE_DIRECTLY: the stored message goes to one consumer.
pub async fn consume_directly(broker: Arc<Broker>, mut command: Command) -> Answer {
    let header: ConsumeMessageDirectlyResultRequestHeader =
        parse(&command, &Needs::fields(&["consumerGroup", "clientId", "msgId"]))?;
    let msg_id = header.msg_id.unwrap_or_default();
    let (_, offset) = message_id::parse_offset_id(&msg_id)
        .ok_or_else(|| Refused::parameter(format!("msgId is '{msg_id}', expected an offset message id")))?;
    let record = broker.store.read_record(offset);
    command.body = record.ok_or_else(|| Refused::error(format!("can not find message by the offset, {offset}")))?;
    command.ext.set("brokerName", &broker.config().broker_name);
    if let Some(topic) = header.topic.and_then(|topic| broker.topics.get(&topic)) {
        command.ext.set("topicSysFlag", &topic.topic_sys_flag.to_string());
    }
    if let Some(group) = broker.groups.get(&header.consumer_group) {
        command.ext.set("groupSysFlag", &group.group_sys_flag.to_string());
    }
    relay(&broker, command, &header.consumer_group, &header.client_id.unwrap_or_default()).await
}

/// The client's answer goes back as it is, but for its opaque.
async fn relay(broker: &Broker, command: Command, group: &str, client_id: &str) -> Answer {
    let client = broker
        .clients
        .member(group, client_id)
        .ok_or_else(|| Refused::error(format!("The Consumer <{group}> <{client_id}> not online")))?;
    if client.version < RELAY_VERSION {
        let version = client.version;
        let remark = format!(
            "The Consumer <{client_id}> Version <{version}> too low to finish, please upgrade it to V3_1_8_SNAPSHOT"
        );
        return Err(Refused::error(remark));
    }
    let mut forwarded = Command::request(command.code);
    forwarded.has_ext = command.has_ext;
    forwarded.ext = command.ext;
    forwarded.body = command.body;
    match client.conn.invoke(forwarded, RELAY_LIMIT).await {
        Ok(answer) => Ok(Command { opaque: command.opaque, ..answer }),
        Err(error) => Err(relay_failed(group, client_id, &error)),
    }
}

fn relay_failed(group: &str, client_id: &str, error: &RemotingError) -> Refused {
    match error {
        RemotingError::Timeout { .. } => {
            let remark = format!("consumer <{group}> <{client_id}> Timeout: {error}");
            Refused::new(response::CONSUME_MSG_TIMEOUT, remark)
        }
        _ => Refused::error(format!("invoke consumer <{group}> <{client_id}> Exception: {error}")),
    }
}

/// INVOKE_BROKER_TO_GET_CONSUMER_STATUS: the offsets that one client or all have in hand, asked at the same time.
pub async fn consumer_status(broker: Arc<Broker>, command: Command) -> Answer {
    let header: GetConsumerStatusRequestHeader = parse(&command, &Needs::fields(&["topic", "group"]))?;
    let wanted = header.client_addr.as_deref().unwrap_or_default().trim().to_owned();
    let members = members(&broker, &header.group)?;
    let question = question(&header);
    let mut asked = JoinSet::new();
    for member in members.into_iter().filter(|member| wanted.is_empty() || member.client_id == wanted) {
        let question = question.clone();
        asked.spawn(async move {
            let answer = member.conn.invoke(question, STATUS_LIMIT).await;
            (member.client_id, answer)
        });
    }
    let mut body = GetConsumerStatusBody::default();
    while let Some(done) = asked.join_next().await {
        if let Ok((client_id, Ok(answer))) = done {
            add_status(&mut body, client_id, &answer);
        }
    }
    Ok(command.ok_body(json::encode(&body)))
}

fn members(broker: &Broker, group: &str) -> Result<Vec<ClientInfo>, Refused> {
    let members: Vec<ClientInfo> =
        broker.clients.with_group(group, |group| group.members.values().cloned().collect()).unwrap_or_default();
    if members.is_empty() {
        return Err(Refused::error(format!("No Any Consumer online in the consumer group: [{group}]")));
    }
    match members.iter().find(|member| member.version < STATUS_VERSION) {
        Some(old) => Err(Refused::error(format!("the client does not support this feature. version={}", old.version))),
        None => Ok(members),
    }
}

fn question(header: &GetConsumerStatusRequestHeader) -> Command {
    let header = GetConsumerStatusRequestHeader {
        topic: header.topic.clone(),
        group: header.group.clone(),
        ..GetConsumerStatusRequestHeader::default()
    };
    Command::request_with(request::GET_CONSUMER_STATUS_FROM_CLIENT, &header)
}

fn add_status(body: &mut GetConsumerStatusBody, client_id: String, answer: &Command) {
    if answer.code != response::SUCCESS {
        return;
    }
    if let Ok(status) = json::decode::<GetConsumerStatusBody>(&answer.body) {
        body.consumer_table.insert(client_id, status.message_queue_table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_javas_codes() {
        let late = RemotingError::Timeout { addr: "1.2.3.4:5".into(), after: RELAY_LIMIT };
        assert_eq!(relay_failed("G", "c", &late).0, response::CONSUME_MSG_TIMEOUT);
        let gone = RemotingError::Closed { addr: "1.2.3.4:5".into(), why: "idle".into() };
        let Refused(code, remark) = relay_failed("G", "c", &gone);
        assert_eq!(code, response::SYSTEM_ERROR);
        assert!(remark.starts_with("invoke consumer <G> <c> Exception: ") && remark.contains("idle"), "{remark}");
    }

    #[test]
    fn a_clients_status_is_taken_only_from_a_good_answer() {
        let mut body = GetConsumerStatusBody::default();
        let text = r#"{"messageQueueTable":{{"brokerName":"b","queueId":0,"topic":"T"}:5}}"#;
        let asked = Command::request(request::GET_CONSUMER_STATUS_FROM_CLIENT);
        add_status(&mut body, "a".into(), &asked.ok_body(text));
        add_status(&mut body, "b".into(), &asked.error(1, "no"));
        add_status(&mut body, "c".into(), &asked.ok_body("["));
        assert_eq!(body.consumer_table.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(body.consumer_table["a"].values().collect::<Vec<_>>(), [&5]);
    }
}
