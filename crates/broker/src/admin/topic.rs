//! Topics: create, change, delete, show. Source: `AdminBrokerProcessor.java`, `TopicConfigManager.java`;
//! reference broker 12.1.

use std::sync::Arc;

use wire::{
    Command,
    body::{
        CreateTopicListRequestBody, MessageQueue, TopicConfig, TopicFilterType, TopicList, TopicOffset, TopicStatsTable,
    },
    code::response,
    header::{
        CreateTopicRequestHeader, DeleteTopicRequestHeader, GetTopicConfigRequestHeader, GetTopicStatsInfoRequestHeader,
    },
    json::{self, Json},
    topic::{self as names, RETRY_PREFIX},
};

use super::{Answer, Needs, Refused, attributes, body, master_only, no_topic, parse};
use crate::{
    context::{Broker, now_ms},
    deletion,
};

/// More would only be a slip: each queue is a directory.
const MAX_QUEUES: i32 = 65_535;
const QUEUES_AND_PERM: &[&str] = &["readQueueNums", "writeQueueNums", "perm"];
const TOPIC: Needs = Needs::fields(&["topic"]);

/// UPDATE_AND_CREATE_TOPIC.
pub fn update(broker: &Arc<Broker>, command: &Command) -> Answer {
    let needs = Needs {
        fields: &["topic", "readQueueNums", "writeQueueNums", "perm"],
        ints: &["readQueueNums", "writeQueueNums", "perm", "topicSysFlag"],
        longs: &[],
    };
    let header: CreateTopicRequestHeader = parse(command, &needs)?;
    master_only(broker)?;
    apply(broker, vec![wanted(header)?])?;
    Ok(command.ok())
}

/// UPDATE_AND_CREATE_TOPIC_LIST. All or none: each is checked before the first is put.
pub fn update_list(broker: &Arc<Broker>, command: &Command) -> Answer {
    let list: CreateTopicListRequestBody = body(command)?;
    if list.topic_config_list.is_empty() {
        return Err(Refused::parameter("topicConfigList is empty"));
    }
    master_only(broker)?;
    apply(broker, list.topic_config_list)?;
    Ok(command.ok())
}

/// The topic of a header; its attributes are changes.
fn wanted(header: CreateTopicRequestHeader) -> Result<TopicConfig, Refused> {
    let filter = &header.topic_filter_type;
    let topic_filter_type = match filter.is_empty() {
        true => TopicFilterType::SingleTag,
        false => TopicFilterType::from_name(filter).ok_or_else(|| {
            Refused::error(format!("topicFilterType is '{filter}', expected SINGLE_TAG or MULTI_TAG"))
        })?,
    };
    Ok(TopicConfig {
        attributes: attributes::parse(header.attributes.as_deref().unwrap_or_default()).map_err(Refused::error)?,
        order: header.order,
        perm: header.perm,
        read_queue_nums: header.read_queue_nums,
        topic_filter_type,
        topic_name: header.topic,
        topic_sys_flag: header.topic_sys_flag.unwrap_or(0),
        write_queue_nums: header.write_queue_nums,
    })
}

/// Puts topics whose attributes are changes, and lets the name servers know soon.
fn apply(broker: &Broker, topics: Vec<TopicConfig>) -> Result<(), Refused> {
    let mut ready = Vec::with_capacity(topics.len());
    for topic in topics {
        check(broker, &topic)?;
        let stored = broker.topics.get(&topic.topic_name);
        let current = stored.as_ref().map(|topic| &topic.attributes);
        let attributes = attributes::alter(current, &topic.attributes).map_err(Refused::error)?;
        ready.push(TopicConfig { attributes, ..topic });
    }
    let names: Vec<_> = ready.iter().map(|topic| topic.topic_name.clone()).collect();
    let batch_queues = ready.iter().any(crate::topics::has_batch_queues);
    if broker.topics.put_all(ready, now_ms())? > 0 {
        tracing::info!("topics created or changed: {}", names.join(", "));
        if batch_queues {
            // Plain queues of that name may be left from before.
            broker.store.align_queue_types().map_err(|error| Refused::error(error.to_string()))?;
        }
        names.iter().for_each(|name| broker.registrar.topic_changed(name));
    }
    Ok(())
}

fn check(broker: &Broker, topic: &TopicConfig) -> Result<(), Refused> {
    names::validate(&topic.topic_name).map_err(Refused::parameter)?;
    not_system(broker, &topic.topic_name)?;
    if !broker.config().enable_mixed_message_type && attributes::sets_mixed_type(&topic.attributes) {
        return Err(Refused::parameter("MIXED message type is not supported."));
    }
    numbers(topic)
}

fn numbers(topic: &TopicConfig) -> Result<(), Refused> {
    let values = [topic.read_queue_nums, topic.write_queue_nums, topic.perm];
    for ((name, value), max) in QUEUES_AND_PERM.iter().zip(values).zip([MAX_QUEUES, MAX_QUEUES, 7]) {
        if !(0..=max).contains(&value) {
            let topic = &topic.topic_name;
            return Err(Refused::parameter(format!("{name} of topic[{topic}] is {value}, expected 0 to {max}")));
        }
    }
    Ok(())
}

fn not_system(broker: &Broker, topic: &str) -> Result<(), Refused> {
    if broker.config().validate_system_topic_when_update_topic && broker.topics.is_system(topic) {
        return Err(Refused::parameter(format!("The topic[{topic}] is conflict with system topic.")));
    }
    Ok(())
}

/// DELETE_TOPIC_IN_BROKER: the topic, its queues and all progress on it; messages stay in the log until it expires. Java's
/// `DefaultMQAdminExt.deleteTopic` asks each master and slave of a cluster, in no certain order, and gives up at the first
/// refusal: a slave has nothing against it, it deletes what its master deletes.
pub fn delete(broker: &Arc<Broker>, command: &Command) -> Answer {
    let DeleteTopicRequestHeader { topic, .. } = parse(command, &TOPIC)?;
    if topic.trim().is_empty() {
        return Err(Refused::parameter("The specified topic is blank."));
    }
    not_system(broker, &topic)?;
    if !broker.config().is_master() {
        let remark = format!("topic {topic} goes when the master of this slave deletes it");
        tracing::info!("deletion asked of a slave changes nothing here: {remark}");
        return Ok(Command { remark: Some(remark), ..command.ok() });
    }
    if broker.topics.get(&topic).is_none() {
        // Queues of a topic that is no longer configured may go, but the name is part of a path.
        names::validate(&topic).map_err(Refused::parameter)?;
    }
    for name in with_retry_topics(broker, topic) {
        deletion::delete(broker, &name)?;
        tracing::info!("topic {name} is deleted");
    }
    broker.registrar.changed();
    Ok(command.ok())
}

/// The topic and, where `clearRetryTopicWhenDeleteTopic` says so, the retry topics that pop consumers made for it.
fn with_retry_topics(broker: &Broker, topic: String) -> Vec<String> {
    let mut all = Vec::new();
    if broker.config().clear_retry_topic_when_delete_topic {
        for group in broker.offsets.groups_of(&topic) {
            let both = ['+', '_'].map(|separator| format!("{RETRY_PREFIX}{group}{separator}{topic}"));
            all.extend(both.into_iter().filter(|name| broker.topics.get(name).is_some()));
        }
    }
    all.push(topic);
    all
}

/// GET_TOPIC_CONFIG.
pub fn get(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: GetTopicConfigRequestHeader = parse(command, &TOPIC)?;
    let topic = &header.topic;
    let config = broker
        .topics
        .get(topic)
        .ok_or_else(|| Refused::new(response::TOPIC_NOT_EXIST, format!("No topic in this broker. topic: {topic}")))?;
    let text = json::encode(&*config);
    let detail = if header.lo == Some(true) { broker.topics.mapping_detail(topic) } else { None };
    let (Some(detail), Ok(Json::Obj(mut members))) = (detail, Json::parse(&text)) else {
        return Ok(command.ok_body(text));
    };
    members.push((Json::Str("mappingDetail".into()), detail));
    Ok(command.ok_body(json::encode(&Json::Obj(members))))
}

/// GET_TOPIC_STATS_INFO.
pub fn stats(broker: &Arc<Broker>, command: &Command) -> Answer {
    let GetTopicStatsInfoRequestHeader { topic, .. } = parse(command, &TOPIC)?;
    let config = broker.topics.get(&topic).ok_or_else(|| no_topic(&topic))?;
    let broker_name = &broker.config().broker_name;
    let mut table = TopicStatsTable::default();
    for queue_id in 0..config.write_queue_nums.max(config.read_queue_nums) {
        let queue = MessageQueue::new(topic.as_str(), broker_name.as_str(), queue_id);
        table.offset_table.insert(queue, bounds(broker, &topic, queue_id));
    }
    table.topic_put_tps = broker.stats.rate("TOPIC_PUT_NUMS", &topic);
    Ok(command.ok_body(json::encode(&table)))
}

fn bounds(broker: &Broker, topic: &str, queue_id: i32) -> TopicOffset {
    let min_offset = broker.store.min_offset(topic, queue_id).max(0);
    let max_offset = broker.store.max_offset(topic, queue_id).max(0);
    let last = if max_offset > 0 { broker.store.store_time(topic, queue_id, max_offset - 1) } else { 0 };
    TopicOffset { last_update_timestamp: last, max_offset, min_offset }
}

/// GET_SYSTEM_TOPIC_LIST_FROM_BROKER.
pub fn system_list(broker: &Arc<Broker>, command: &Command) -> Answer {
    let fixed = [
        names::AUTO_CREATE,
        names::SCHEDULE,
        names::BENCHMARK,
        names::TRANS_HALF,
        names::TRACE,
        names::TRANS_OP_HALF,
        names::TRANS_CHECK_MAX_TIME,
        names::SELF_TEST,
        names::OFFSET_MOVED,
        "CHECKPOINT_TOPIC",
    ];
    let mut list = TopicList::default();
    list.topic_list.extend(fixed.map(str::to_owned));
    list.topic_list.extend(broker.topics.system_names());
    Ok(command.ok_body(json::encode(&list)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> CreateTopicRequestHeader {
        CreateTopicRequestHeader {
            topic: "T".into(),
            read_queue_nums: 4,
            write_queue_nums: 4,
            perm: 6,
            ..CreateTopicRequestHeader::default()
        }
    }

    #[test]
    fn a_header_becomes_a_topic() {
        let topic = wanted(CreateTopicRequestHeader {
            topic_filter_type: "MULTI_TAG".into(),
            attributes: Some("+message.type=FIFO".into()),
            ..header()
        })
        .unwrap();
        assert_eq!(topic.topic_filter_type, TopicFilterType::MultiTag);
        assert_eq!(topic.attributes["+message.type"], "FIFO");
        assert!(numbers(&topic).is_ok());
        let bad = wanted(CreateTopicRequestHeader { topic_filter_type: "NONE".into(), ..header() });
        assert!(bad.unwrap_err().1.contains("NONE"));
        let bad = wanted(CreateTopicRequestHeader { attributes: Some("x".into()), ..header() });
        assert_eq!(bad.unwrap_err(), Refused::error("delete attribute format is wrong: x"));
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let topic = |change: fn(&mut TopicConfig)| {
            let mut topic = wanted(header()).unwrap();
            change(&mut topic);
            numbers(&topic)
        };
        assert!(topic(|t| t.write_queue_nums = -1).unwrap_err().1.contains("writeQueueNums"));
        assert!(topic(|t| t.read_queue_nums = 1 << 20).unwrap_err().1.contains("readQueueNums"));
        assert!(topic(|t| t.perm = 8).unwrap_err().1.contains("perm"));
        assert!(topic(|t| t.perm = 0).is_ok());
    }
}
