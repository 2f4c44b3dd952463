//! Who is connected: members of consumer and producer groups. Source: `AdminBrokerProcessor.java`;
//! reference broker 6.5.

use std::sync::Arc;

use wire::{
    Command,
    body::{Connection, ConsumerConnection, ProducerConnection, ProducerInfo, ProducerTableInfo},
    code::response,
    header::{GetConsumerConnectionListRequestHeader, GetProducerConnectionListRequestHeader},
    json,
};

use super::{Answer, Needs, Refused, parse};
use crate::{
    clients::{ClientInfo, ConsumerGroup},
    context::Broker,
};

/// GET_CONSUMER_CONNECTION_LIST.
pub fn consumers(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: GetConsumerConnectionListRequestHeader = parse(command, &Needs::fields(&["consumerGroup"]))?;
    let name = &header.consumer_group;
    let found = broker.clients.with_group(name, |group| (!group.members.is_empty()).then(|| shown(group)));
    let body = found
        .flatten()
        .ok_or_else(|| Refused::new(response::CONSUMER_NOT_ONLINE, format!("the consumer group[{name}] not online")))?;
    Ok(command.ok_body(json::encode(&body)))
}

fn shown(group: &ConsumerGroup) -> ConsumerConnection {
    let subscriptions = group.subscriptions.iter();
    ConsumerConnection {
        connection_set: group.members.values().map(connection).collect(),
        consume_from_where: group.consume_from_where,
        consume_type: group.consume_type,
        message_model: group.message_model,
        subscription_table: subscriptions.map(|(topic, data)| (topic.clone(), (**data).clone())).collect(),
    }
}

fn connection(info: &ClientInfo) -> Connection {
    Connection {
        client_addr: info.conn.display_peer().to_string(),
        client_id: info.client_id.clone(),
        language: info.language,
        version: info.version,
    }
}

/// GET_PRODUCER_CONNECTION_LIST.
pub fn producers(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: GetProducerConnectionListRequestHeader = parse(command, &Needs::fields(&["producerGroup"]))?;
    let members = broker.clients.producers(&header.producer_group);
    if members.is_empty() {
        return Err(Refused::error(format!("the producer group[{}] not exist", header.producer_group)));
    }
    let body = ProducerConnection { connection_set: members.iter().map(connection).collect() };
    Ok(command.ok_body(json::encode(&body)))
}

/// GET_ALL_PRODUCER_INFO.
pub fn all_producers(broker: &Arc<Broker>, command: &Command) -> Answer {
    let groups = broker.clients.all_producers().into_iter();
    let data = groups.map(|(group, members)| (group, members.iter().map(producer).collect())).collect();
    Ok(command.ok_body(json::encode(&ProducerTableInfo { data })))
}

/// The address has the slash that Java prints before one.
fn producer(info: &ClientInfo) -> ProducerInfo {
    ProducerInfo {
        client_id: info.client_id.clone(),
        language: info.language,
        last_update_timestamp: info.seen_ms,
        remote_ip: format!("/{}", info.conn.display_peer()),
        version: info.version,
    }
}
