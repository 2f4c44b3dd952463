//! How far groups are: progress against the ends of queues, delay in time, copies of progress.
//! Source: `AdminBrokerProcessor.java`, `ConsumerOffsetManager.java`; reference broker 12.3.

use std::{collections::BTreeMap, sync::Arc};

use wire::{
    Command,
    body::{
        ConsumeStats, ConsumeStatsList, MessageQueue, OffsetWrapper, QueryConsumeTimeSpanBody,
        QueryCorrectionOffsetBody, QueueTimeSpan, TopicConfig,
    },
    header::{
        CloneGroupOffsetRequestHeader, GetConsumeStatsInBrokerHeader, GetConsumeStatsRequestHeader,
        QueryConsumeTimeSpanRequestHeader, QueryCorrectionOffsetHeader,
    },
    json,
};

use super::{Answer, Needs, no_topic, parse};
use crate::{
    consumer_offset,
    context::{Broker, now_ms},
};

/// GET_CONSUME_STATS.
pub fn of_group(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: GetConsumeStatsRequestHeader = parse(command, &Needs::fields(&["consumerGroup"]))?;
    let mut stats = ConsumeStats::default();
    for topic in topics_to_show(broker, &header) {
        if let Some(config) = broker.topics.get(&topic) {
            add_topic(broker, &mut stats, &header.consumer_group, &config, config.read_queue_nums);
        }
    }
    Ok(command.ok_body(json::encode(&stats)))
}

/// A list is taken as it is; a topic, or all that the group has progress on, only where the group subscribes to it.
fn topics_to_show(broker: &Broker, header: &GetConsumeStatsRequestHeader) -> Vec<String> {
    let list = header.topic_list.as_deref().unwrap_or_default().split(';').filter(|name| !name.trim().is_empty());
    let list: Vec<_> = list.map(str::to_owned).collect();
    if !list.is_empty() {
        return list;
    }
    let mut topics = match header.topic.as_deref().filter(|topic| !topic.trim().is_empty()) {
        Some(topic) => vec![topic.to_owned()],
        None => broker.offsets.topics_of(&header.consumer_group),
    };
    topics.retain(|topic| may_read(broker, &header.consumer_group, topic));
    topics
}

/// False when the group is here, subscribes to something, and not to this.
fn may_read(broker: &Broker, group: &str, topic: &str) -> bool {
    let subscribes = broker
        .clients
        .with_group(group, |group| group.subscriptions.is_empty() || group.subscriptions.contains_key(topic));
    subscribes.unwrap_or(true)
}

fn add_topic(broker: &Broker, stats: &mut ConsumeStats, group: &str, topic: &TopicConfig, queues: i32) {
    let name = &topic.topic_name;
    let broker_name = &broker.config().broker_name;
    for queue_id in 0..queues {
        let queue = MessageQueue::new(name.as_str(), broker_name.as_str(), queue_id);
        stats.offset_table.insert(queue, progress(broker, group, name, queue_id));
    }
    stats.consume_tps += broker.stats.rate("GROUP_GET_NUMS", &format!("{name}@{group}"));
}

/// A group that an operator has set back pulls from there: nothing is in flight. Upstream shows where it pulled before.
fn progress(broker: &Broker, group: &str, topic: &str, queue_id: i32) -> OffsetWrapper {
    let consumer_offset = broker.offsets.get(topic, group, queue_id).unwrap_or(0).max(0);
    let pulled = broker.offsets.pull_offset(topic, group, queue_id).unwrap_or(-1);
    let last = if consumer_offset > 0 { broker.store.store_time(topic, queue_id, consumer_offset - 1) } else { 0 };
    OffsetWrapper {
        broker_offset: broker.store.max_offset(topic, queue_id).max(0),
        consumer_offset,
        last_timestamp: last.max(0),
        pull_offset: consumer_offset.max(pulled),
    }
}

/// GET_BROKER_CONSUME_STATS: every group on every topic that it has progress on.
pub fn of_all(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: GetConsumeStatsInBrokerHeader = parse(command, &Needs::default())?;
    let mut list = ConsumeStatsList { broker_addr: Some(broker.config().broker_addr()), ..ConsumeStatsList::default() };
    for group in broker.groups.names() {
        let stats = stats_of(broker, &group, header.is_order);
        for offsets in stats.iter().flat_map(|stats| stats.offset_table.values()) {
            list.total_diff += offsets.broker_offset - offsets.consumer_offset;
            list.total_inflight_diff += offsets.pull_offset - offsets.consumer_offset;
        }
        list.consume_stats_list.push(BTreeMap::from([(group, stats)]));
    }
    Ok(command.ok_body(json::encode(&list)))
}

fn stats_of(broker: &Broker, group: &str, ordered_only: bool) -> Vec<ConsumeStats> {
    let topics = broker.offsets.topics_of(group).into_iter().filter(|topic| may_read(broker, group, topic));
    let configs = topics.filter_map(|topic| broker.topics.get(&topic)).filter(|topic| topic.order || !ordered_only);
    let of_topic = |topic: Arc<TopicConfig>| {
        let mut stats = ConsumeStats::default();
        add_topic(broker, &mut stats, group, &topic, topic.write_queue_nums);
        stats
    };
    configs.map(of_topic).collect()
}

/// QUERY_CONSUME_TIME_SPAN.
pub fn time_span(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: QueryConsumeTimeSpanRequestHeader = parse(command, &Needs::fields(&["topic", "group"]))?;
    let config = broker.topics.get(&header.topic).ok_or_else(|| no_topic(&header.topic))?;
    let span = |queue_id| queue_span(broker, &header.topic, &header.group, queue_id);
    let body = QueryConsumeTimeSpanBody { consume_time_span_set: (0..config.write_queue_nums).map(span).collect() };
    Ok(command.ok_body(json::encode(&body)))
}

fn queue_span(broker: &Broker, topic: &str, group: &str, queue_id: i32) -> QueueTimeSpan {
    let at = |offset: i64| broker.store.store_time(topic, queue_id, offset);
    let max = broker.store.max_offset(topic, queue_id);
    let min_time = broker.store.earliest_time(topic, queue_id);
    let consumed = broker.offsets.get(topic, group, queue_id).unwrap_or(-1);
    let next = at(consumed.max(broker.store.min_offset(topic, queue_id)));
    QueueTimeSpan {
        consume_time_stamp: if consumed > 0 { at(consumed - 1) } else { min_time },
        delay_time: if consumed < max && next > 0 { now_ms() - next } else { 0 },
        max_time_stamp: at(max - 1),
        message_queue: Some(MessageQueue::new(topic, broker.config().broker_name.as_str(), queue_id)),
        min_time_stamp: min_time,
        ..QueueTimeSpan::default()
    }
}

/// CLONE_GROUP_OFFSET: the progress of one group becomes that of another, on one topic or on all.
pub fn clone(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: CloneGroupOffsetRequestHeader = parse(command, &Needs::fields(&["srcGroup", "destGroup"]))?;
    let topics = match header.topic.as_deref().filter(|topic| !topic.trim().is_empty()) {
        Some(topic) => vec![topic.to_owned()],
        None => broker.offsets.topics_of(&header.src_group),
    };
    for topic in topics.iter().filter(|topic| broker.topics.get(topic).is_some()) {
        if header.offline || may_read(broker, &header.src_group, topic) {
            copy(broker, topic, &header.src_group, &header.dest_group);
        }
    }
    Ok(command.ok())
}

fn copy(broker: &Broker, topic: &str, from: &str, to: &str) {
    for (queue_id, offset) in broker.offsets.queues(topic, from) {
        // As a consumer of the group would: at a slave the master must hear of it, or its table takes it away again.
        consumer_offset::store_ahead(broker, topic, to, queue_id, offset);
    }
    tracing::info!("progress of {from} on {topic} is copied to {to}");
}

/// QUERY_CORRECTION_OFFSET: for each queue the least progress of all groups but some. Upstream deletes the progress of
/// those it leaves out; a question deletes nothing here.
pub fn correction(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: QueryCorrectionOffsetHeader = parse(command, &Needs::fields(&["topic", "compareGroup"]))?;
    let without: Vec<&str> = header.filter_groups.as_deref().unwrap_or_default().split(',').collect();
    let groups = broker.offsets.groups_of(&header.topic);
    let tables = groups.iter().filter(|group| !without.contains(&group.as_str()));
    let tables: Vec<_> = tables.map(|group| broker.offsets.queues(&header.topic, group)).collect();
    let least = least(&tables, |queue_id| broker.store.min_offset(&header.topic, queue_id));
    let compared = broker.offsets.queues(&header.topic, &header.compare_group);
    let body = QueryCorrectionOffsetBody { correction_offsets: corrected(least, &compared) };
    Ok(command.ok_body(json::encode(&body)))
}

fn least(tables: &[BTreeMap<i32, i64>], min_of: impl Fn(i32) -> i64) -> BTreeMap<i32, i64> {
    let mut least = BTreeMap::new();
    for (queue_id, offset) in tables.iter().flatten().filter(|(queue_id, offset)| **offset >= min_of(**queue_id)) {
        let entry = least.entry(*queue_id).or_insert(*offset);
        *entry = (*entry).min(*offset);
    }
    least
}

/// A queue on which the compared group is behind the others needs no correction.
fn corrected(mut least: BTreeMap<i32, i64>, compared: &BTreeMap<i32, i64>) -> BTreeMap<i32, i64> {
    for (queue_id, offset) in &mut least {
        if compared.get(queue_id).is_some_and(|own| *offset > *own) {
            *offset = i64::MAX;
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_progress_corrects_who_is_ahead() {
        let tables = [BTreeMap::from([(0, 5), (1, 9)]), BTreeMap::from([(0, 7), (1, 1)])];
        let least = least(&tables, |queue_id| if queue_id == 1 { 2 } else { 0 });
        assert_eq!(least, BTreeMap::from([(0, 5), (1, 9)]));
        let corrected = corrected(least, &BTreeMap::from([(0, 6), (1, 3), (2, 1)]));
        assert_eq!(corrected, BTreeMap::from([(0, 5), (1, i64::MAX)]));
    }
}
