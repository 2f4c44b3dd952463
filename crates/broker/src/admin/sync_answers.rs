//! What a slave reads from its master: topics, groups, progress, delay progress, request modes, timer state.
//! Source: `AdminBrokerProcessor.java`, `SlaveSynchronize.java`; reference remoting 11.10, java-5.5 3.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use wire::{
    Command,
    body::{SubscriptionGroupWrapper, TopicConfigAndMappingSerializeWrapper},
    header::{
        GetAllSubscriptionGroupRequestHeader, GetAllSubscriptionGroupResponseHeader, GetAllTopicConfigRequestHeader,
        GetAllTopicConfigResponseHeader,
    },
    json::{self, ToJson},
};

use super::{
    Answer, Needs, Refused,
    paging::{Asked, FITS},
    parse,
};
use crate::context::Broker;

const TOPICS: Needs = Needs { fields: &[], ints: &["topicSeq", "maxTopicNum"], longs: &[] };
const GROUPS: Needs = Needs { fields: &[], ints: &["groupSeq", "maxGroupNum"], longs: &[] };

/// GET_ALL_TOPIC_CONFIG: the whole table where it fits into a frame.
pub fn topics(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: GetAllTopicConfigRequestHeader = parse(command, &TOPICS)?;
    let asked = Asked { from: header.topic_seq, max: header.max_topic_num, version: header.data_version.as_deref() };
    let table = broker.topics.snapshot();
    let total_topic_num = Some(table.topic_config_table.len() as i32);
    let body = match whole(broker, &asked, &table) {
        Some(body) => body,
        None => json::encode(&topic_page(table, &asked)),
    };
    Ok(command.ok_body(body).with_header(&GetAllTopicConfigResponseHeader { total_topic_num }))
}

/// GET_ALL_SUBSCRIPTIONGROUP_CONFIG, in the same way.
pub fn groups(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: GetAllSubscriptionGroupRequestHeader = parse(command, &GROUPS)?;
    let asked = Asked { from: header.group_seq, max: header.max_group_num, version: header.data_version.as_deref() };
    let table = broker.groups.snapshot();
    let total_group_num = Some(table.subscription_group_table.len() as i32);
    let body = match whole(broker, &asked, &table) {
        Some(body) => body,
        None => json::encode(&group_page(table, &asked)),
    };
    Ok(command.ok_body(body).with_header(&GetAllSubscriptionGroupResponseHeader { total_group_num }))
}

/// The whole table, unless it is too large and its reader knows pages.
fn whole(broker: &Broker, asked: &Asked, table: &impl ToJson) -> Option<Bytes> {
    let body = json::encode(table);
    let pages = body.len() > FITS && asked.wants_pages() && broker.config().enable_split_metadata;
    (!pages).then_some(body)
}

/// Details of static topics go with the page of their topics.
fn topic_page(
    mut table: TopicConfigAndMappingSerializeWrapper,
    asked: &Asked,
) -> TopicConfigAndMappingSerializeWrapper {
    let page = asked.page(&table.data_version, &sizes(&table.topic_config_table), FITS);
    table.topic_config_table = table.topic_config_table.into_iter().take(page.end).skip(page.start).collect();
    let topics = &table.topic_config_table;
    table.topic_queue_mapping_detail_map.retain(|topic, _| topics.contains_key(topic));
    table.topic_queue_mapping_info_map.retain(|topic, _| topics.contains_key(topic));
    table
}

fn group_page(mut table: SubscriptionGroupWrapper, asked: &Asked) -> SubscriptionGroupWrapper {
    let page = asked.page(&table.data_version, &sizes(&table.subscription_group_table), FITS);
    table.subscription_group_table =
        table.subscription_group_table.into_iter().take(page.end).skip(page.start).collect();
    let groups = &table.subscription_group_table;
    table.forbidden_table.retain(|group, _| groups.contains_key(group));
    table
}

fn sizes(table: &BTreeMap<String, impl ToJson>) -> Vec<usize> {
    table.iter().map(|(name, value)| name.len() + json::encode(value).len() + 4).collect()
}

/// GET_ALL_CONSUMER_OFFSET.
pub fn consumer_offsets(broker: &Arc<Broker>, command: &Command) -> Answer {
    Ok(command.ok_body(json::encode(&broker.offsets.snapshot())))
}

/// GET_ALL_DELAY_OFFSET. A Tandem slave tells how far its log is, and hears of all deliveries whose copies it has.
pub fn delay_offsets(broker: &Arc<Broker>, command: &Command) -> Answer {
    let delays = &broker.delays;
    let end = command.ext.get(client::LOG_END).and_then(|end| end.parse().ok());
    Ok(command.ok_body(json::encode(&end.map_or_else(|| delays.snapshot(), |end| delays.snapshot_at(end)))))
}

/// GET_ALL_MESSAGE_REQUEST_MODE.
pub fn request_modes(broker: &Arc<Broker>, command: &Command) -> Answer {
    Ok(command.ok_body(json::encode(&broker.request_modes.snapshot())))
}

/// GET_TIMER_METRICS.
pub fn timer_metrics(broker: &Arc<Broker>, command: &Command) -> Answer {
    let metrics = broker.timers.metrics_json().ok_or_else(|| Refused::error("The timer message store is null"))?;
    Ok(command.ok_body(metrics))
}

/// GET_TIMER_CHECK_POINT.
pub fn timer_check_point(broker: &Arc<Broker>, command: &Command) -> Answer {
    let point = broker.timers.check_point(broker).ok_or_else(|| Refused::error("The checkpoint is null"))?;
    Ok(command.ok_body(point.encode().to_vec()))
}

#[cfg(test)]
mod tests {
    use wire::body::TopicConfig;

    use super::*;

    #[test]
    fn a_page_has_its_own_mapping_details() {
        let mut table = TopicConfigAndMappingSerializeWrapper::default();
        for name in ["A", "B", "C", "D"] {
            let topic = TopicConfig { topic_name: name.into(), ..TopicConfig::default() };
            table.topic_config_table.insert(name.into(), topic);
            table.topic_queue_mapping_detail_map.insert(name.into(), json::Json::Bool(true));
        }
        let page = topic_page(table, &Asked { from: Some(0), max: Some(2), version: Some("") });
        assert_eq!(page.topic_config_table.keys().collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(page.topic_queue_mapping_detail_map.keys().collect::<Vec<_>>(), ["A", "B"]);
    }
}
