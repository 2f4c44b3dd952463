//! HEART_BEAT, UNREGISTER_CLIENT, CHECK_CLIENT_CONFIG, GET_CONSUMER_LIST_BY_GROUP: who is here.
//! Source: `broker/.../processor/ClientManageProcessor.java`; reference broker 6.1 and 6.5.

use std::{collections::BTreeSet, sync::Arc};

use remoting::Connection;
use tokio::time::Instant;
use wire::{
    Command,
    body::{ConsumeType, ConsumerData, GetConsumerListByGroupResponseBody, HeartbeatData},
    code::response,
    header::{GetConsumerListByGroupRequestHeader, UnregisterClientRequestHeader},
    json::{self, Json},
    topic,
};

use crate::{
    clients::ClientInfo,
    context::{Broker, now_ms},
    filter::{TAG, TagFilter},
};

/// HEART_BEAT.
pub fn heart_beat(broker: &Arc<Broker>, conn: &Arc<Connection>, command: &Command) -> Command {
    let data: HeartbeatData = match json::decode(&command.body) {
        Ok(data) => data,
        Err(error) => return command.error(response::SYSTEM_ERROR, format!("heartbeat: {error}")),
    };
    let info = ClientInfo {
        conn: conn.clone(),
        client_id: data.client_id.clone(),
        language: command.language,
        version: command.version,
        seen: Instant::now(),
        seen_ms: now_ms(),
    };
    let v2 = data.heartbeat_fingerprint != 0;
    let mut resend = !v2;
    for consumer in &data.consumer_data_set {
        resend |= register_consumer(broker, &info, consumer, &data);
    }
    for producer in &data.producer_data_set {
        broker.clients.register_producer(&producer.group_name, info.clone());
    }
    let mut answer = command.ok();
    answer.ext.push("IS_SUPPORT_HEART_BEAT_V2", "true");
    answer.ext.push("IS_SUB_CHANGE", if resend { "true" } else { "false" });
    answer
}

/// Registers one consumer; true when the client has to send its subscriptions in full.
fn register_consumer(broker: &Arc<Broker>, info: &ClientInfo, consumer: &ConsumerData, data: &HeartbeatData) -> bool {
    let config = broker.config();
    if config.reject_pull_consumer_enable && consumer.consume_type == ConsumeType::Actively {
        return false;
    }
    let name = &consumer.group_name;
    // A slave takes groups and topics from its master; creating them here would part the two.
    if config.is_master() {
        let Some(group) = broker.groups.get_or_create(name, config.creates_group(name), now_ms()) else {
            return false;
        };
        let sys_flag = if consumer.unit_mode { 2 } else { 0 };
        let retry = topic::retry(name);
        let created = broker.topics.create_internal(&retry, group.retry_queue_nums, sys_flag, now_ms());
        if created.is_some_and(|(_, created)| created) {
            broker.registrar.topic_changed(&retry);
        }
    }
    let resend = broker.clients.fingerprint(name, data.heartbeat_fingerprint, data.without_sub);
    let changed = broker.clients.register_consumer(info.clone(), consumer, data.without_sub);
    broker.notify_change(changed);
    resend
}

/// UNREGISTER_CLIENT.
pub fn unregister(broker: &Arc<Broker>, conn: &Arc<Connection>, command: &Command) -> Command {
    let header: UnregisterClientRequestHeader = command.header();
    if let Some(group) = &header.producer_group {
        broker.clients.unregister_producer(group, conn.id());
    }
    if let Some(group) = &header.consumer_group {
        let changed = broker.clients.unregister_consumer(group, conn.id());
        broker.notify_change(changed);
    }
    command.ok()
}

/// CHECK_CLIENT_CONFIG: says early that an expression will not be served.
pub fn check_client(_broker: &Broker, command: &Command) -> Command {
    let body = match Json::parse(&command.body) {
        Ok(body) => body,
        Err(error) => return command.error(response::SYSTEM_ERROR, format!("client check: {error}")),
    };
    let text = |json: &Json, name: &str| match json.get(name) {
        Some(Json::Str(text)) => text.clone(),
        _ => String::new(),
    };
    let Some(subscription) = body.get("subscriptionData") else { return command.ok() };
    let kind = text(subscription, "expressionType");
    if !kind.is_empty() && kind != TAG {
        let remark = format!("The broker does not support consumer to filter message by {kind}");
        return command.error(response::SYSTEM_ERROR, remark);
    }
    match TagFilter::parse(&text(subscription, "subString")) {
        Some(_) => command.ok(),
        None => command.error(response::SUBSCRIPTION_PARSE_FAILED, "subString split error"),
    }
}

/// GET_CONSUMER_LIST_BY_GROUP: each client once, however many connections it has. Clients share out queues by the place of
/// their id: of one that is there twice, as upstream tells it, the second share has no reader until the old connection is gone.
pub fn consumer_list(broker: &Broker, command: &Command) -> Command {
    let header: GetConsumerListByGroupRequestHeader = command.header();
    let ids = broker.clients.with_group(&header.consumer_group, |group| {
        group.members.values().map(|member| member.client_id.clone()).collect::<BTreeSet<_>>()
    });
    match ids.filter(|ids| !ids.is_empty()) {
        Some(ids) => {
            let consumer_id_list = ids.into_iter().collect();
            command.ok_body(json::encode(&GetConsumerListByGroupResponseBody { consumer_id_list }))
        }
        None => {
            let remark = format!("no consumer for this group, {}", header.consumer_group);
            command.error(response::SYSTEM_ERROR, remark)
        }
    }
}
