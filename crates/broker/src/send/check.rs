//! What every send is checked for, and where a single message is stored. Source: `AbstractSendMessageProcessor.java`;
//! reference broker 2.3 and 2.4. Stores nothing; makes the topics that a send may make.

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use wire::{Command, body::TopicConfig, code::response, header::SendRequest, property, topic};

use super::{Numbers, Refused, properties::Properties};
use crate::{
    clock,
    config::{BrokerConfig, BrokerRole},
    context::{Broker, FAQ, now_ms},
    timer,
    topics::is_compacted,
};

/// What a send asks, after its checks.
pub struct Checked<'a> {
    /// As it came.
    pub header: SendRequest<'a>,
    /// Its topic, which may have been made for it.
    pub topic: Arc<TopicConfig>,
    /// The queue asked for, or one the broker chose.
    pub queue_id: i32,
    /// Further numbers of the header.
    pub numbers: Numbers,
}

pub(super) fn not_to_retry(checked: &Checked<'_>) -> Result<(), Refused> {
    if topic::is_retry(checked.header.topic) {
        let remark = format!("batch request does not support retry group {}", checked.header.topic);
        return Err(Refused::new(response::MESSAGE_ILLEGAL, remark));
    }
    Ok(())
}

/// Checks what every send is checked for; creates the topic where that is allowed. `last` is the topic of a send that was
/// checked just before, and is not looked up again.
pub fn check<'a>(
    broker: &Broker,
    config: &BrokerConfig,
    command: &'a Command,
    peer: SocketAddr,
    last: Option<&Arc<TopicConfig>>,
) -> Result<Checked<'a>, Refused> {
    if config.broker_role == BrokerRole::Slave {
        let remark = format!(
            "[REJECTREQUEST]this broker {} is a slave, brokerId {}; send to its master",
            config.broker_addr(),
            config.broker_id
        );
        return Err(Refused::new(response::SYSTEM_BUSY, remark));
    }
    let header = SendRequest::of(command);
    let until = config.start_accept_send_request_time_stamp;
    if until > 0 && now_ms() < until {
        let remark = format!("broker unable to service, until {}", clock::date(until));
        return Err(Refused::new(response::SYSTEM_ERROR, remark));
    }
    let last = last.filter(|last| last.topic_name == header.topic);
    if last.is_none() {
        allowed(header.topic)?;
    }
    if command.body.is_empty() {
        return Err(Refused::new(response::MESSAGE_ILLEGAL, "the request has no body"));
    }
    let (asked, numbers) = Numbers::of(&header)?;
    let topic = last.map_or_else(|| topic_of(broker, config, &header), |last| Ok(last.clone()))?;
    writable(config, &topic)?;
    let queue_id = queue_of(&topic, asked, peer)?;
    Ok(Checked { header, topic, queue_id, numbers })
}

fn allowed(name: &str) -> Result<(), Refused> {
    topic::validate(name).map_err(|remark| Refused::new(response::INVALID_PARAMETER, remark))?;
    if topic::forbids_send(name) {
        let remark = format!("Sending message to topic[{name}] is forbidden.");
        return Err(Refused::new(response::NO_PERMISSION, remark));
    }
    Ok(())
}

fn writable(config: &BrokerConfig, topic: &TopicConfig) -> Result<(), Refused> {
    if !topic::perm::writeable(config.broker_permission) && topic.order {
        let remark = format!("the broker[{}] sending message is forbidden", config.broker_ip1);
        return Err(Refused::new(response::NO_PERMISSION, remark));
    }
    Ok(())
}

fn topic_of(broker: &Broker, config: &BrokerConfig, header: &SendRequest<'_>) -> Result<Arc<TopicConfig>, Refused> {
    if let Some(topic) = broker.topics.get(header.topic) {
        return Ok(topic);
    }
    let unit = i32::from(header.unit_mode);
    let sys_flag = if topic::is_retry(header.topic) { unit << 1 } else { unit };
    let (template, queues) = (header.default_topic, header.default_topic_queue_nums);
    let created = broker
        .topics
        .create_from(header.topic, template, queues, sys_flag, now_ms(), config.auto_create_topic_enable)
        .or_else(|| {
            let retry = topic::is_retry(header.topic);
            retry.then(|| broker.topics.create_internal(header.topic, 1, sys_flag, now_ms()))?.map(|(topic, _)| topic)
        });
    let topic = created.ok_or_else(|| {
        let remark = format!("topic[{}] not exist, apply first please!{FAQ}", header.topic);
        Refused::new(response::TOPIC_NOT_EXIST, remark)
    })?;
    broker.registrar.topic_changed(header.topic);
    Ok(topic)
}

fn queue_of(topic: &TopicConfig, queue_id: i32, peer: SocketAddr) -> Result<i32, Refused> {
    if queue_id >= topic.write_queue_nums.max(topic.read_queue_nums) {
        let remark = format!(
            "request queueId[{queue_id}] is illegal, topic:[{}] readQueueNums:[{}] writeQueueNums:[{}] Producer: {peer}",
            topic.topic_name, topic.read_queue_nums, topic.write_queue_nums
        );
        return Err(Refused::new(response::INVALID_PARAMETER, remark));
    }
    if queue_id >= 0 {
        return Ok(queue_id);
    }
    if topic.write_queue_nums <= 0 {
        let remark = format!("topic[{}] has no queue to write to", topic.topic_name);
        return Err(Refused::new(response::SYSTEM_ERROR, remark));
    }
    Ok(any_queue(topic.write_queue_nums))
}

/// A queue of `0..queues`, evenly over many calls.
pub fn any_queue(queues: i32) -> i32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    (NEXT.fetch_add(1, Ordering::Relaxed) % queues.max(1) as u32) as i32
}

/// Where a single message is stored: its topic, the dead letter topic, or the delay topic.
pub(super) fn place<'a>(
    broker: &Broker,
    config: &BrokerConfig,
    checked: &'a Checked<'_>,
    properties: &mut Properties<'_>,
) -> Result<(Cow<'a, str>, i32), Refused> {
    let header = &checked.header;
    // A client before 4.6.1 that sends a message back by itself leaves the mark of its transaction on it, which is over.
    let comes_back = header.reconsume_times.is_some_and(|times| times > 0) && properties.delay > 0;
    if properties.transaction && !comes_back {
        let remark = format!("the broker[{}] sending transaction message is forbidden", config.broker_ip1);
        return Err(Refused::new(response::NO_PERMISSION, remark));
    }
    if is_compacted(&checked.topic) && properties.get(property::KEYS).is_none() {
        return Err(Refused::new(response::MESSAGE_ILLEGAL, "Required message key is missing"));
    }
    let (name, queue_id) = match dead_letter(broker, config, header)? {
        Some(dead) => {
            properties.set(property::DELAY, "-1");
            properties.delay = 0;
            (Cow::Owned(dead), 0)
        }
        None => (Cow::Borrowed(checked.topic.topic_name.as_str()), checked.queue_id),
    };
    if properties.delay > 0 {
        let level = broker.delays.clamp_level(properties.delay);
        let (name, queue_id) = properties.delay_to(&name, queue_id, level);
        return Ok((name.into(), queue_id));
    }
    if properties.timer
        && let Some((name, queue_id)) = timer::enter(broker, config, &mut properties.text, &name, queue_id)?
    {
        return Ok((name.into(), queue_id));
    }
    Ok((name, queue_id))
}

/// The dead letter topic, when a client's own send to a retry topic was tried too often (reference broker 2.4).
fn dead_letter(broker: &Broker, config: &BrokerConfig, header: &SendRequest<'_>) -> Result<Option<String>, Refused> {
    let Some(group_name) = header.topic.strip_prefix(topic::RETRY_PREFIX) else { return Ok(None) };
    let group = broker.groups.get_or_create(group_name, config.creates_group(group_name), now_ms());
    let group = group.ok_or_else(|| {
        let remark = format!("subscription group not exist, {group_name} {FAQ}");
        Refused::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark)
    })?;
    let limit = header.max_reconsume_times.unwrap_or(group.retry_max_times);
    let orderly = broker.locks.any(group_name, tokio::time::Instant::now());
    if header.reconsume_times.unwrap_or(0) <= limit && !orderly {
        return Ok(None);
    }
    let name = topic::dead_letter(group_name);
    let (_, created) = broker
        .topics
        .create_internal(&name, 1, 0, now_ms())
        .ok_or_else(|| Refused::new(response::SYSTEM_ERROR, format!("topic[{name}] not exist")))?;
    if created {
        broker.registrar.topic_changed(&name);
    }
    Ok(Some(name))
}
