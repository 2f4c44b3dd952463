//! Who reads what: groups of a topic, topics of a group, a group's subscription.
//! Source: `AdminBrokerProcessor.java`; reference broker 12.3.

use std::{collections::BTreeSet, sync::Arc};

use wire::{
    Command,
    body::{GroupList, QuerySubscriptionResponseBody, TopicList},
    header::{
        QuerySubscriptionByConsumerRequestHeader, QueryTopicConsumeByWhoRequestHeader,
        QueryTopicsByConsumerRequestHeader,
    },
    json,
};

use super::{Answer, Needs, parse};
use crate::context::Broker;

/// QUERY_TOPIC_CONSUME_BY_WHO: groups that are here or have progress.
pub fn groups_of_topic(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: QueryTopicConsumeByWhoRequestHeader = parse(command, &Needs::fields(&["topic"]))?;
    let mut group_list: BTreeSet<String> = broker.clients.subscribers(&header.topic).into_iter().collect();
    group_list.extend(broker.offsets.groups_of(&header.topic));
    Ok(command.ok_body(json::encode(&GroupList { group_list })))
}

/// QUERY_TOPICS_BY_CONSUMER: topics that the group has progress on.
pub fn topics_of_group(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: QueryTopicsByConsumerRequestHeader = parse(command, &Needs::fields(&["group"]))?;
    let topic_list = broker.offsets.topics_of(&header.group).into_iter().collect();
    let list = TopicList { broker_addr: Some(broker.config().broker_addr()), topic_list };
    Ok(command.ok_body(json::encode(&list)))
}

/// QUERY_SUBSCRIPTION_BY_CONSUMER.
pub fn subscription(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: QuerySubscriptionByConsumerRequestHeader = parse(command, &Needs::fields(&["group", "topic"]))?;
    let found = broker.clients.with_group(&header.group, |group| group.subscriptions.get(&header.topic).cloned());
    let body = QuerySubscriptionResponseBody {
        subscription_data: found.flatten().map(|subscription| (*subscription).clone()),
        group: header.group,
        topic: header.topic,
    };
    Ok(command.ok_body(json::encode(&body)))
}
