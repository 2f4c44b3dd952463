//! PULL_MESSAGE and LITE_PULL_MESSAGE: read, answer, or hold until something arrives.
//! Source: `broker/.../processor/PullMessageProcessor.java`; reference broker 4. Records go out as they lie in the
//! log, behind a header.

use std::sync::Arc;

use bytes::Bytes;
use remoting::{Connection, NOT_TAKEN};
use store::{GetResult, GetStatus};
use tokio::time::{Duration, Instant};
use wire::{
    Command,
    body::{ConsumeType, SubscriptionGroupConfig, TopicConfig},
    code::{request, response},
    header::{PullMessageRequestHeader, PullMessageResponseHeader},
    sys_flag, topic,
};

use crate::{
    config::{BrokerConfig, BrokerRole},
    consumer_offset,
    context::{Broker, FAQ, now_ms},
    filter::{TAG, TagFilter},
    groups::reads_unregistered,
    hold::Held,
    service::answer_unless_oneway,
    stats::{Amount, count},
};

/// A pull that passed its checks.
pub struct Pull {
    /// Who asks.
    pub conn: Arc<Connection>,
    /// The request, for its opaque and encoding.
    pub command: Command,
    /// Its header.
    pub header: PullMessageRequestHeader,
    /// Queue.
    pub queue_id: i32,
    /// First wanted offset.
    pub offset: i64,
    /// Which messages.
    pub filter: Arc<TagFilter>,
    group: Arc<SubscriptionGroupConfig>,
    topic: Arc<TopicConfig>,
}

const OFFSET_RESET: &str = "OFFSET_RESET";

/// A refusal: code, `forbiddenType`, remark.
struct Refused(i32, Option<i32>, String);

/// Checks and executes one pull.
pub fn handle(broker: &Arc<Broker>, conn: &Arc<Connection>, command: &Command) {
    let config = broker.config();
    match check(broker, &config, conn, command) {
        Ok(pull) => first_execution(broker, &config, pull),
        Err(refused) => refuse(conn, command, refused),
    }
}

fn refuse(conn: &Arc<Connection>, command: &Command, Refused(code, forbidden_type, remark): Refused) {
    let header = PullMessageResponseHeader { forbidden_type, ..PullMessageResponseHeader::default() };
    answer_unless_oneway(conn, command, command.error(code, remark).with_header(&header));
}

fn first_execution(broker: &Arc<Broker>, config: &BrokerConfig, pull: Pull) {
    let outcome = read(broker, config, &pull);
    let header = &pull.header;
    // A consumer that is just being told where an operator has moved it does not know that yet: what it commits is where it
    // stood before. Upstream stores it.
    if let Some(offset) = header.commit_offset
        && header.sys_flag & sys_flag::PULL_COMMIT_OFFSET != 0
        && outcome.remark != OFFSET_RESET
    {
        consumer_offset::store(broker, &header.topic, &header.consumer_group, pull.queue_id, offset);
    }
    // Who wants no answer waits for none. Nothing would bound how many of these there are.
    let waits = header.sys_flag & sys_flag::PULL_SUSPEND != 0 && !pull.command.is_oneway();
    let news_from = match outcome.code {
        _ if !waits => None,
        response::PULL_NOT_FOUND => Some(pull.offset),
        _ if leads_nowhere(broker, config, &outcome) => Some(pull.offset.max(outcome.max)),
        _ => None,
    };
    match news_from {
        Some(offset) => hold(broker, config, pull, offset),
        None => answer(broker, config, &pull, outcome),
    }
}

/// True where a slave would send a consumer to a master that does not answer: told so at once, it would ask as fast as it
/// can (F-02).
fn leads_nowhere(broker: &Broker, config: &BrokerConfig, outcome: &Outcome) -> bool {
    corrects_nobody(config, outcome) && !broker.sync.has_master()
}

/// A slave may be behind, or keep less: where its queues begin and end is nothing to go by.
fn corrects_nobody(config: &BrokerConfig, outcome: &Outcome) -> bool {
    config.broker_role == BrokerRole::Slave
        && outcome.code == response::PULL_OFFSET_MOVED
        && outcome.remark != OFFSET_RESET
        && !config.offset_check_in_slave
}

/// A message at `news_from` or behind it would have been another answer.
fn hold(broker: &Arc<Broker>, config: &BrokerConfig, pull: Pull, news_from: i64) {
    let wait = match config.long_polling_enable {
        true => Duration::from_millis(pull.header.suspend_timeout_millis.clamp(0, 600_000) as u64),
        false => Duration::from_millis(config.short_polling_time_mills),
    };
    let (topic, group, queue_id) = (pull.header.topic.clone(), pull.header.consumer_group.clone(), pull.queue_id);
    broker.holds.add(Held { pull, until: Instant::now() + wait });
    // A message that arrived between the read and the hold has woken nobody; nor has an operator's reset or a stop that began there.
    let is_moved = || broker.offsets.pending_reset(&topic, &group, queue_id).is_some();
    if broker.store.max_offset(&topic, queue_id) > news_from || is_moved() || broker.is_stopping() {
        broker.holds.wake(broker, &topic, queue_id);
    }
}

/// Executes a held pull for good: whatever is there now is the answer. The topic may be gone meanwhile.
pub fn again(broker: &Arc<Broker>, pull: &Pull) {
    if let Err(refused) = topic_of(broker, &pull.header) {
        return refuse(&pull.conn, &pull.command, refused);
    }
    let config = broker.config();
    let outcome = read(broker, &config, pull);
    answer(broker, &config, pull, outcome);
}

fn check(broker: &Broker, config: &BrokerConfig, conn: &Arc<Connection>, command: &Command) -> Result<Pull, Refused> {
    let header: PullMessageRequestHeader = command.header();
    broker_allows(config, command)?;
    let group = group_of(broker, config, &header)?;
    let topic = topic_of(broker, &header)?;
    let (Some(queue_id), Some(offset)) = (header.queue_id, header.queue_offset) else {
        return Err(Refused(response::INVALID_PARAMETER, None, "queueId and queueOffset are needed".into()));
    };
    if queue_id < 0 || queue_id >= topic.read_queue_nums {
        let remark = format!(
            "queueId[{queue_id}] is illegal, topic:[{}] topicConfig.readQueueNums:[{}] consumer:[{}]",
            header.topic,
            topic.read_queue_nums,
            conn.peer()
        );
        return Err(Refused(response::INVALID_PARAMETER, None, remark));
    }
    let filter = Arc::new(filter_of(broker, &group, &header)?);
    not_rejected(broker, config, conn, &header.consumer_group)?;
    let command = Command { body: Bytes::new(), ..command.clone() };
    Ok(Pull { conn: conn.clone(), command, header, queue_id, offset, filter, group, topic })
}

fn broker_allows(config: &BrokerConfig, command: &Command) -> Result<(), Refused> {
    if config.broker_role == BrokerRole::Slave && !config.slave_read_enable {
        let remark = format!(
            "[REJECTREQUEST]system busy, start flow control for a while: this broker is a slave that serves no reads \
             (slaveReadEnable=false); set slaveReadEnable=true on {} to read from it",
            config.broker_addr()
        );
        return Err(Refused(response::SYSTEM_BUSY, None, remark));
    }
    if !topic::perm::readable(config.broker_permission) {
        let remark = format!("the broker[{}] pulling message is forbidden", config.broker_ip1);
        return Err(Refused(response::NO_PERMISSION, Some(1), remark));
    }
    if command.code == request::LITE_PULL_MESSAGE && !config.lite_pull_message_enable {
        let remark = format!("the broker[{}] for lite pull consumer is forbidden", config.broker_ip1);
        return Err(Refused(response::NO_PERMISSION, Some(1), remark));
    }
    Ok(())
}

fn group_of(
    broker: &Broker,
    config: &BrokerConfig,
    header: &PullMessageRequestHeader,
) -> Result<Arc<SubscriptionGroupConfig>, Refused> {
    let name = &header.consumer_group;
    let group = broker.groups.get_or_create(name, config.creates_group(name) && config.is_master(), now_ms());
    let group = group.or_else(|| slave_group(config, name)).ok_or_else(|| {
        let remark = format!("subscription group [{name}] does not exist, {FAQ}");
        Refused(response::SUBSCRIPTION_GROUP_NOT_EXIST, None, remark)
    })?;
    match group.consume_enable {
        true => Ok(group),
        false => Err(Refused(response::NO_PERMISSION, Some(2), format!("subscription group no permission, {name}"))),
    }
}

/// A slave creates no group of its own, which would part it from its master; it serves an unknown one with defaults.
fn slave_group(config: &BrokerConfig, name: &str) -> Option<Arc<SubscriptionGroupConfig>> {
    let allowed = !config.is_master() && config.creates_group(name) && topic::validate_group(name).is_ok();
    allowed.then(|| {
        Arc::new(SubscriptionGroupConfig { group_name: name.to_owned(), ..SubscriptionGroupConfig::default() })
    })
}

fn topic_of(broker: &Broker, header: &PullMessageRequestHeader) -> Result<Arc<TopicConfig>, Refused> {
    let topic = broker.topics.get(&header.topic).ok_or_else(|| {
        let remark = format!("topic[{}] not exist, apply first please! {FAQ}", header.topic);
        Refused(response::TOPIC_NOT_EXIST, None, remark)
    })?;
    match topic::perm::readable(topic.perm) {
        true => Ok(topic),
        false => {
            let remark = format!("the topic[{}] pulling message is forbidden", header.topic);
            Err(Refused(response::NO_PERMISSION, Some(3), remark))
        }
    }
}

/// With `rejectPullConsumerEnable` only consumers that are pushed to may read: those that are here on this connection, or
/// whose group is known as such.
fn not_rejected(broker: &Broker, config: &BrokerConfig, conn: &Connection, group: &str) -> Result<(), Refused> {
    if !config.reject_pull_consumer_enable || reads_unregistered(group) {
        return Ok(());
    }
    let known = broker.clients.with_group(group, |online| {
        online.consume_type != ConsumeType::Actively || online.members.contains_key(&conn.id())
    });
    match known {
        Some(true) => Ok(()),
        _ => {
            let remark =
                format!("the consumer's group info not exist, or the pull consumer is rejected by server.{FAQ}");
            Err(Refused(response::SUBSCRIPTION_NOT_EXIST, None, remark))
        }
    }
}

fn filter_of(
    broker: &Broker,
    group: &SubscriptionGroupConfig,
    header: &PullMessageRequestHeader,
) -> Result<TagFilter, Refused> {
    only_tags(header.expression_type.as_deref().unwrap_or(TAG))?;
    if header.sys_flag & sys_flag::PULL_SUBSCRIPTION != 0 {
        let expression = header.subscription.as_deref().unwrap_or_default();
        return TagFilter::parse(expression).ok_or_else(|| {
            Refused(response::SUBSCRIPTION_PARSE_FAILED, None, "parse the consumer's subscription failed".into())
        });
    }
    registered_filter(broker, group, header)
}

/// Other expressions are refused: served as if they were none, they would hand out what nobody asked for.
fn only_tags(kind: &str) -> Result<(), Refused> {
    if kind.is_empty() || kind == TAG {
        return Ok(());
    }
    let remark = format!("The broker does not support consumer to filter message by {kind}");
    Err(Refused(response::SYSTEM_ERROR, None, remark))
}

fn registered_filter(
    broker: &Broker,
    group: &SubscriptionGroupConfig,
    header: &PullMessageRequestHeader,
) -> Result<TagFilter, Refused> {
    let name = &header.consumer_group;
    let found = broker
        .clients
        .with_group(name, |online| (online.is_broadcasting(), online.subscriptions.get(&header.topic).cloned()));
    let (broadcasting, subscription) = found.ok_or_else(|| {
        Refused(response::SUBSCRIPTION_NOT_EXIST, None, format!("the consumer's group info not exist{FAQ}"))
    })?;
    if broadcasting && !group.consume_broadcast_enable {
        let remark = format!("the consumer group[{name}] can not consume by broadcast way");
        return Err(Refused(response::NO_PERMISSION, Some(4), remark));
    }
    if broker.groups.forbids_read(name, &header.topic) {
        let remark = format!("the consumer group[{name}] is forbidden for topic[{}]", header.topic);
        return Err(Refused(response::NO_PERMISSION, Some(5), remark));
    }
    let subscription = subscription.ok_or_else(|| {
        Refused(response::SUBSCRIPTION_NOT_EXIST, None, format!("the consumer's subscription not exist{FAQ}"))
    })?;
    if subscription.sub_version < header.sub_version {
        let remark = "the consumer's subscription not latest".to_owned();
        return Err(Refused(response::SUBSCRIPTION_NOT_LATEST, None, remark));
    }
    // The type counts that the consumer registered: some clients send TAG in each pull whatever it was.
    only_tags(&subscription.expression_type)?;
    Ok(TagFilter::of(&subscription))
}

/// What a read came to.
struct Outcome {
    code: i32,
    remark: &'static str,
    next: i64,
    min: i64,
    max: i64,
    suggest_slave: bool,
    messages: Bytes,
}

fn read(broker: &Broker, config: &BrokerConfig, pull: &Pull) -> Outcome {
    let header = &pull.header;
    if let Some(reset) = broker.offsets.take_reset(&header.topic, &header.consumer_group, pull.queue_id) {
        return without_messages(broker, pull, response::PULL_OFFSET_MOVED, OFFSET_RESET, reset);
    }
    // A message may wake tens of thousands of pulls of one client that reads nothing.
    if pull.conn.is_congested() {
        return without_messages(broker, pull, response::PULL_RETRY_IMMEDIATELY, NOT_TAKEN, pull.offset);
    }
    let got = broker.store.get_messages(&header.topic, pull.queue_id, pull.offset, header.max_msg_nums, &*pull.filter);
    broker.offsets.pulled(&header.topic, &header.consumer_group, pull.queue_id, got.next_begin_offset);
    count_read(broker, config, pull, &got);
    Outcome {
        code: code_of(got.status, pull.offset),
        remark: name_of(got.status),
        next: got.next_begin_offset,
        min: got.min_offset,
        max: got.max_offset,
        suggest_slave: got.suggest_pull_from_slave,
        messages: got.messages,
    }
}

/// An answer that only says where to go on.
fn without_messages(broker: &Broker, pull: &Pull, code: i32, remark: &'static str, next: i64) -> Outcome {
    let topic = &pull.header.topic;
    Outcome {
        code,
        remark,
        next,
        min: broker.store.min_offset(topic, pull.queue_id),
        max: broker.store.max_offset(topic, pull.queue_id),
        suggest_slave: false,
        messages: Bytes::new(),
    }
}

fn count_read(broker: &Broker, config: &BrokerConfig, pull: &Pull, got: &GetResult) {
    if got.status != GetStatus::Found {
        count(&broker.stats.get_missed, 1);
        return;
    }
    let found = got.count as i64;
    count(&broker.stats.get_found, 1);
    count(&broker.stats.transferred, found);
    let key = format!("{}@{}", pull.topic.topic_name, pull.group.group_name);
    let amount = Amount { messages: found, bytes: got.messages.len() as i64, calls: 1 };
    broker.stats.add("GROUP_GET_NUMS", &key, amount);
    broker.stats.add("BROKER_GET_NUMS", &config.broker_cluster_name, amount);
}

fn code_of(status: GetStatus, offset: i64) -> i32 {
    match status {
        GetStatus::Found => response::SUCCESS,
        GetStatus::MessageWasRemoving | GetStatus::NoMatchedMessage => response::PULL_RETRY_IMMEDIATELY,
        GetStatus::NoMessageInQueue if offset != 0 => response::PULL_OFFSET_MOVED,
        GetStatus::NoMessageInQueue => response::PULL_NOT_FOUND,
        GetStatus::OffsetFoundNull | GetStatus::OffsetOverflowOne => response::PULL_NOT_FOUND,
        GetStatus::OffsetOverflowBadly | GetStatus::OffsetTooSmall => response::PULL_OFFSET_MOVED,
        // Clients wait before they ask again.
        GetStatus::Unreadable => response::SYSTEM_ERROR,
    }
}

/// The remark of an answer. Source: `GetMessageStatus.java`.
fn name_of(status: GetStatus) -> &'static str {
    match status {
        GetStatus::Found => "FOUND",
        GetStatus::NoMatchedMessage => "NO_MATCHED_MESSAGE",
        GetStatus::MessageWasRemoving => "MESSAGE_WAS_REMOVING",
        GetStatus::OffsetFoundNull => "OFFSET_FOUND_NULL",
        GetStatus::OffsetOverflowBadly => "OFFSET_OVERFLOW_BADLY",
        GetStatus::OffsetOverflowOne => "OFFSET_OVERFLOW_ONE",
        GetStatus::OffsetTooSmall => "OFFSET_TOO_SMALL",
        GetStatus::NoMessageInQueue => "NO_MESSAGE_IN_QUEUE",
        GetStatus::Unreadable => "the broker cannot read the message at this offset: see its log",
    }
}

fn answer(broker: &Broker, config: &BrokerConfig, pull: &Pull, mut outcome: Outcome) {
    let suggest_which_broker_id = suggest(broker, config, pull, &mut outcome);
    let header = PullMessageResponseHeader {
        suggest_which_broker_id,
        next_begin_offset: outcome.next,
        min_offset: outcome.min,
        max_offset: outcome.max,
        topic_sys_flag: Some(pull.topic.topic_sys_flag),
        group_sys_flag: Some(pull.group.group_sys_flag),
        ..PullMessageResponseHeader::default()
    };
    let mut answer = pull.command.error(outcome.code, outcome.remark).with_header(&header);
    if outcome.code == response::SUCCESS {
        answer.body = outcome.messages;
    }
    // With an answer the client would ask again at once; when the connection closes it goes elsewhere.
    let unanswered = broker.is_stopping() && outcome.code != response::SUCCESS;
    match (pull.command.is_oneway(), unanswered) {
        (true, _) => {}
        (false, true) => pull.conn.leave_unanswered(),
        (false, false) => pull.conn.reply(answer),
    }
}

/// Which broker the client shall ask next, and what a slave makes of its answer (reference replication 4.8).
fn suggest(broker: &Broker, config: &BrokerConfig, pull: &Pull, outcome: &mut Outcome) -> i64 {
    let slave = config.broker_role == BrokerRole::Slave;
    if corrects_nobody(config, outcome) {
        outcome.code = response::PULL_RETRY_IMMEDIATELY;
        return pull.group.broker_id;
    }
    match (config.slave_read_enable, outcome.suggest_slave) {
        (false, _) => 0,
        (true, true) => pull.group.which_broker_when_consume_slowly,
        (true, false) if slave => {
            // The master may be able to read what this broker cannot; where there is none the client shall wait.
            let is_final = outcome.code == response::SYSTEM_ERROR && !broker.sync.has_master();
            if outcome.code != response::SUCCESS && !is_final {
                outcome.code = response::PULL_RETRY_IMMEDIATELY;
            }
            0
        }
        (true, false) => pull.group.broker_id,
    }
}
