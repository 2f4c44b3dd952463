//! SEND_MESSAGE, SEND_MESSAGE_V2 and SEND_BATCH_MESSAGE: all sends of one socket read become one append.
//! Source: `broker/.../processor/SendMessageProcessor.java`; reference broker 2. Answers when the marks of the
//! configuration are reached, never before the write returned.

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use parking_lot::RwLockReadGuard;
use remoting::Connection;
use store::{AppendError, Batch};
use wire::{
    Command, ExtFields,
    body::TopicConfig,
    code::{request, response},
    header::SendRequest,
    message_id, property,
    recall_handle::RecallHandle,
    record_encode::{MAX_PROPERTIES, NewRecord},
    sys_flag, topic,
};

use crate::{
    config::{BrokerConfig, BrokerRole},
    context::{Broker, FAQ, Stored, now_ms},
    service::answer_unless_oneway,
    stats::{Amount, count},
    timer,
    topics::{has_batch_queues, is_compacted},
};

mod batch;
mod inner;
mod numbers;
mod properties;
mod spare;

pub use numbers::Numbers;
use properties::Properties;
pub use spare::Spare;

/// True for the codes of this family.
pub fn is_send(code: i32) -> bool {
    matches!(code, request::SEND_MESSAGE | request::SEND_MESSAGE_V2 | request::SEND_BATCH_MESSAGE)
}

/// A refusal: code and remark.
pub struct Refused(pub i32, pub String);

impl Refused {
    fn new(code: i32, remark: impl Into<String>) -> Self {
        Self(code, remark.into())
    }
}

/// The sends of one socket read.
pub struct Run<'a> {
    broker: &'a Arc<Broker>,
    conn: &'a Arc<Connection>,
    config: Arc<BrokerConfig>,
    batch: Batch,
    waiting: Vec<Accepted>,
    /// From the first check to the append.
    topics_in_use: Option<RwLockReadGuard<'a, ()>>,
    /// Memory for the properties of one send after the other.
    text: Vec<u8>,
    /// The same for message ids.
    ids: String,
}

/// A send that is in the batch.
struct Accepted {
    reply: Command,
    oneway: bool,
    first: usize,
    entries: usize,
    queue_id: i32,
    unique_id: String,
    /// Of an inner batch: the id of the batch as a whole.
    batch_id: Option<String>,
    recall_handle: Option<String>,
    topic: Arc<TopicConfig>,
    /// It lies in the delay topic.
    delayed: bool,
    waits: bool,
}

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

/// Where a message was stored.
pub struct Placed {
    /// Byte position in the log.
    pub physical_offset: i64,
    /// Byte position behind it.
    pub end: i64,
    /// Its number in its queue.
    pub queue_offset: i64,
}

impl<'a> Run<'a> {
    /// An empty run.
    pub fn new(broker: &'a Arc<Broker>, conn: &'a Arc<Connection>) -> Self {
        Self {
            broker,
            conn,
            config: broker.config(),
            batch: Batch::default(),
            waiting: Vec::new(),
            topics_in_use: None,
            text: Vec::new(),
            ids: String::new(),
        }
    }

    /// Checks one send and encodes it into the batch, or answers why not.
    pub fn add(&mut self, command: Command) {
        if self.topics_in_use.is_none() {
            self.topics_in_use = Some(self.broker.topics.in_use());
            self.batch = self.broker.spare.take();
        }
        if let Err(Refused(code, remark)) = self.accept(&command) {
            count(&self.broker.stats.put_failed, 1);
            let mut answer = command.error(code, remark);
            mark_region(&mut answer, &self.config);
            answer_unless_oneway(self.conn, &command, answer);
        }
    }

    fn accept(&mut self, command: &Command) -> Result<(), Refused> {
        let checked = check(self.broker, &self.config, command, self.conn.peer())?;
        let first = self.batch.entries().len();
        let text = std::mem::take(&mut self.text);
        let mut properties = Properties::prepare(checked.header.properties, text, self.broker, &self.config);
        properties.can_be_kept(checked.header.batch)?;
        let mut inner = None;
        let (queue_id, waits) = if checked.header.batch {
            let messages = batch::split(&command.body, checked.header.topic.len(), self.config.max_message_size)?;
            not_to_retry(&checked)?;
            match has_batch_queues(&checked.topic) && properties.named {
                true => inner = Some(self.push_inner(&checked, &mut properties, &messages, &command.body)?),
                false => self.push_batch(&checked, &messages)?,
            }
            (checked.queue_id, properties.waits())
        } else {
            self.push_single(&checked, &mut properties, &command.body)?;
            (checked.queue_id, properties.waits())
        };
        self.waiting.push(Accepted {
            reply: command.response(response::SUCCESS),
            oneway: command.is_oneway(),
            first,
            entries: self.batch.entries().len() - first,
            queue_id,
            batch_id: inner.map(|()| properties.unique_id.clone()),
            recall_handle: recall_handle(&self.config, command.code, &properties),
            delayed: properties.delay > 0,
            unique_id: properties.unique_id,
            topic: checked.topic,
            waits,
        });
        self.text = properties.text;
        Ok(())
    }

    fn push_single(&mut self, checked: &Checked<'_>, properties: &mut Properties, body: &[u8]) -> Result<(), Refused> {
        if body.len() as i64 > self.config.max_message_size.into() {
            return Err(illegal(&self.config));
        }
        let place = place(self.broker, &self.config, checked, properties)?;
        inner::allowed(&self.config, checked, &place.0, properties)?;
        inner::light_queues(&self.config, checked, properties)?;
        if properties.text.len() > MAX_PROPERTIES || (place.0.len() > topic::MAX_TOPIC && !topic::is_retry(&place.0)) {
            return Err(illegal(&self.config));
        }
        let record = self.record(checked, &place.0, place.1, &properties.text, body);
        self.batch.push(&record).map_err(|_| illegal(&self.config))?;
        Ok(())
    }

    /// A batch whose messages become records of their own.
    fn push_batch(&mut self, checked: &Checked<'_>, messages: &[batch::Message<'_>]) -> Result<(), Refused> {
        self.batch.begin_group();
        for message in messages {
            let mut record =
                self.record(checked, &checked.topic.topic_name, checked.queue_id, message.properties, message.body);
            record.flag = message.flag;
            record.reconsume_times = 0;
            record.sys_flag &= !(sys_flag::INNER_BATCH | sys_flag::NEED_UNWRAP);
            self.batch.push(&record).map_err(|_| illegal(&self.config))?;
        }
        self.batch.end_group();
        Ok(())
    }

    /// A batch that stays one record, which consumers unwrap. The store adds the offset of its first message.
    fn push_inner(
        &mut self,
        checked: &Checked<'_>,
        properties: &mut Properties,
        messages: &[batch::Message<'_>],
        body: &[u8],
    ) -> Result<(), Refused> {
        properties.set(property::INNER_NUM, &batch::count_inner(messages)?.to_string());
        if properties.text.len() > MAX_PROPERTIES {
            return Err(illegal(&self.config));
        }
        inner::light_queues(&self.config, checked, properties)?;
        let mut record = self.record(checked, &checked.topic.topic_name, checked.queue_id, &properties.text, body);
        record.sys_flag |= sys_flag::INNER_BATCH | sys_flag::NEED_UNWRAP;
        self.batch.push(&record).map_err(|_| illegal(&self.config))?;
        Ok(())
    }

    fn record<'r>(
        &self,
        checked: &Checked<'_>,
        topic: &'r str,
        queue_id: i32,
        properties: &'r [u8],
        body: &'r [u8],
    ) -> NewRecord<'r> {
        let header = &checked.header;
        NewRecord {
            topic,
            queue_id,
            flag: checked.numbers.flag,
            sys_flag: checked.numbers.sys_flag & !sys_flag::TRANSACTION_MASK,
            born_timestamp: checked.numbers.born_timestamp,
            born_host: self.conn.peer(),
            store_host: self.broker.store_host(),
            reconsume_times: header.reconsume_times.unwrap_or(0),
            prepared_transaction_offset: 0,
            properties,
            body,
        }
    }

    /// Appends what was accepted and answers it, now or when its marks are reached.
    pub fn finish(&mut self) {
        let in_use = self.topics_in_use.take();
        if self.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let timed = waiting.iter().any(|accepted| accepted.recall_handle.is_some());
        match self.broker.store.append(&mut self.batch) {
            Ok(()) => self.answer(waiting),
            Err(AppendError::TooLarge { .. }) if waiting.len() > 1 => self.finish_one_by_one(waiting),
            Err(error) => self.refuse(waiting, &error),
        }
        drop(in_use);
        self.broker.spare.give_back(std::mem::take(&mut self.batch));
        self.broker.dispatch_soon();
        if timed {
            self.broker.timers.ring();
        }
    }

    /// One send is too large for what the store adds to it; the others of the run do not suffer for it.
    fn finish_one_by_one(&mut self, waiting: Vec<Accepted>) {
        let all = std::mem::take(&mut self.batch);
        for accepted in waiting {
            self.batch = all.part(accepted.first..accepted.first + accepted.entries);
            let waiting = vec![Accepted { first: 0, ..accepted }];
            match self.broker.store.append(&mut self.batch) {
                Ok(()) => self.answer(waiting),
                Err(error) => self.refuse(waiting, &error),
            }
        }
    }

    fn answer(&mut self, waiting: Vec<Accepted>) {
        let must_wait = self.broker.must_wait(&self.config);
        let mut later = Vec::new();
        self.count_stored(&waiting);
        for accepted in waiting {
            let entries = &self.batch.entries()[accepted.first..accepted.first + accepted.entries];
            let Some(last) = entries.last() else { continue };
            let end = last.physical_offset + last.size as i64;
            let answer = stored_answer(self.broker, &self.config, &accepted, entries, &mut self.ids);
            if accepted.oneway {
                continue;
            }
            match must_wait && accepted.waits {
                true => later.push((end, answer)),
                false => self.conn.reply(answer),
            }
        }
        if !later.is_empty() {
            self.answer_later(later);
        }
    }

    /// Topics of a run are mostly one: it is looked up once for all sends that follow each other.
    fn count_stored(&self, waiting: &[Accepted]) {
        for same in waiting.chunk_by(|one, next| Arc::ptr_eq(&one.topic, &next.topic)) {
            let entries = same.iter().flat_map(|one| &self.batch.entries()[one.first..one.first + one.entries]);
            count_stored(self.broker, &same[0].topic.topic_name, entries, same.len() as i64, &self.config);
        }
        for delayed in waiting.iter().filter(|one| one.delayed) {
            let bytes = self.batch.entries()[delayed.first].size as i64;
            self.broker.stats.add("TOPIC_PUT_NUMS", topic::SCHEDULE, Amount { messages: 1, bytes, calls: 1 });
        }
    }

    /// One wait for the whole run: its messages were written together and become safe together.
    fn answer_later(&self, mut later: Vec<(i64, Command)>) {
        let (broker, conn, config) = (self.broker.clone(), self.conn.clone(), self.config.clone());
        tokio::spawn(async move {
            let end = later.iter().map(|(end, _)| *end).max().unwrap_or(0);
            let stored = broker.wait_stored(end, &config).await;
            for (end, answer) in &mut later {
                answer.code = code_of(&broker, &config, *end, stored);
            }
            for (_, answer) in later {
                conn.reply(answer);
            }
        });
    }

    fn refuse(&self, waiting: Vec<Accepted>, error: &AppendError) {
        for accepted in waiting {
            count(&self.broker.stats.put_failed, 1);
            if !accepted.oneway {
                let (code, remark) = append_failure(self.broker, error);
                let mut answer = accepted.reply.clone();
                (answer.code, answer.remark) = (code, Some(remark));
                mark_region(&mut answer, &self.config);
                self.conn.reply(answer);
            }
        }
    }
}

/// Stores one message with its properties as they came, for a family that does more than store. Waits for no mark.
pub fn store_one(
    broker: &Arc<Broker>,
    conn: &Arc<Connection>,
    checked: &Checked<'_>,
    body: &[u8],
) -> Result<Placed, Refused> {
    let _in_use = broker.topics.in_use();
    if broker.topics.get(&checked.topic.topic_name).is_none() {
        let remark = format!("topic[{}] was deleted meanwhile", checked.topic.topic_name);
        return Err(Refused::new(response::TOPIC_NOT_EXIST, remark));
    }
    let mut run = Run::new(broker, conn);
    let properties = checked.header.properties.as_bytes();
    if body.len() as i64 > run.config.max_message_size.into() || properties.len() > MAX_PROPERTIES {
        return Err(illegal(&run.config));
    }
    let record = run.record(checked, &checked.topic.topic_name, checked.queue_id, properties, body);
    run.batch.push(&record).map_err(|_| illegal(&run.config))?;
    broker.store.append(&mut run.batch).map_err(|error| {
        let (code, remark) = append_failure(broker, &error);
        Refused(code, remark)
    })?;
    broker.dispatch_soon();
    let entries = run.batch.entries();
    count_stored(broker, &checked.topic.topic_name, entries, 1, &run.config);
    let placed = |entry: &store::Entry| Placed {
        physical_offset: entry.physical_offset,
        end: entry.physical_offset + entry.size as i64,
        queue_offset: entry.queue_offset,
    };
    entries.first().map(placed).ok_or_else(|| illegal(&run.config))
}

/// What one message of a run is answered, of which `stored` tells as a whole: that it came too late need not be so for
/// an early part of it.
fn code_of(broker: &Broker, config: &BrokerConfig, end: i64, stored: Stored) -> i32 {
    if config.waits_for_replicas() && broker.replicas.is_before_a_slave(end) {
        return response::FLUSH_SLAVE_TIMEOUT;
    }
    let flushed = || broker.store.marks().flushed.get() >= end;
    let copies = config.in_sync_replicas as usize;
    let replicated = || broker.replicas.replicated(copies, broker.store.max_phys()) >= end;
    match stored {
        Stored::FlushSlaveTimeout if !replicated() => response::FLUSH_SLAVE_TIMEOUT,
        Stored::FlushDiskTimeout | Stored::FlushSlaveTimeout
            if config.flush_disk_type == crate::config::FlushDiskType::SyncFlush && !flushed() =>
        {
            response::FLUSH_DISK_TIMEOUT
        }
        _ => response::SUCCESS,
    }
}

/// What a failed append is answered with.
pub fn append_failure(broker: &Broker, error: &AppendError) -> (i32, String) {
    if let AppendError::TooLarge { .. } = error {
        return (response::MESSAGE_ILLEGAL, format!("the message is illegal: {error}"));
    }
    if let Some(cause) = broker.store.failed() {
        return (response::SERVICE_NOT_AVAILABLE, format!("service not available now. The store has failed: {cause}"));
    }
    (response::SERVICE_NOT_AVAILABLE, format!("service not available now. {error}"))
}

fn not_to_retry(checked: &Checked<'_>) -> Result<(), Refused> {
    if topic::is_retry(checked.header.topic) {
        let remark = format!("batch request does not support retry group {}", checked.header.topic);
        return Err(Refused::new(response::MESSAGE_ILLEGAL, remark));
    }
    Ok(())
}

fn illegal(config: &BrokerConfig) -> Refused {
    let remark = format!(
        "the message is illegal, maybe msg body or properties length not matched. msg body length limit {}B, msg properties length limit 32KB.",
        config.max_message_size
    );
    Refused::new(response::MESSAGE_ILLEGAL, remark)
}

/// Checks what every send is checked for; creates the topic where that is allowed.
pub fn check<'a>(
    broker: &Broker,
    config: &BrokerConfig,
    command: &'a Command,
    peer: SocketAddr,
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
    if now_ms() < config.start_accept_send_request_time_stamp {
        let until = config.start_accept_send_request_time_stamp;
        return Err(Refused::new(response::SYSTEM_ERROR, format!("broker unable to service, until {until}")));
    }
    topic::validate(header.topic).map_err(|remark| Refused::new(response::INVALID_PARAMETER, remark))?;
    if topic::forbids_send(header.topic) {
        let remark = format!("Sending message to topic[{}] is forbidden.", header.topic);
        return Err(Refused::new(response::NO_PERMISSION, remark));
    }
    if command.body.is_empty() {
        return Err(Refused::new(response::MESSAGE_ILLEGAL, "the request has no body"));
    }
    let (asked, numbers) = Numbers::of(&header)?;
    let topic = topic_of(broker, config, &header)?;
    writable(config, &topic)?;
    let queue_id = queue_of(&topic, asked, peer)?;
    Ok(Checked { header, topic, queue_id, numbers })
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
fn place<'a>(
    broker: &Broker,
    config: &BrokerConfig,
    checked: &'a Checked<'_>,
    properties: &mut Properties,
) -> Result<(Cow<'a, str>, i32), Refused> {
    let header = &checked.header;
    if properties.transaction {
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
    let group = broker.groups.get_or_create(group_name, config.auto_create_subscription_group, now_ms());
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

/// Bytes of the fields of an answer but its message ids, mostly.
const ANSWER_FIELDS: usize = 224;

/// `ids` is memory alone.
fn stored_answer(
    broker: &Broker,
    config: &BrokerConfig,
    accepted: &Accepted,
    entries: &[store::Entry],
    ids: &mut String,
) -> Command {
    let mut answer = accepted.reply.clone();
    let host = broker.store_host();
    ids.clear();
    for entry in entries {
        if !ids.is_empty() {
            ids.push(',');
        }
        message_id::push_offset_id(ids, host, entry.physical_offset);
    }
    answer.ext = ExtFields::with_capacity(ids.len() + ANSWER_FIELDS);
    answer.ext.push("msgId", ids);
    answer.ext.push_number("queueId", accepted.queue_id);
    answer.ext.push_number("queueOffset", entries.first().map_or(0, |entry| entry.queue_offset));
    answer.ext.push("transactionId", &accepted.unique_id);
    if let Some(id) = &accepted.batch_id {
        answer.ext.push("batchUniqId", id);
    }
    if let Some(handle) = &accepted.recall_handle {
        answer.ext.push("recallHandle", handle);
    }
    mark_region(&mut answer, config);
    answer
}

/// By which the producer of a timer message may take it back. Not for messages of a batch or of a retry topic.
fn recall_handle(config: &BrokerConfig, code: i32, properties: &Properties) -> Option<String> {
    if !properties.timer || code == request::SEND_BATCH_MESSAGE {
        return None;
    }
    let out_ms: i64 = properties.get(property::TIMER_OUT_MS)?.parse().ok()?;
    let real_topic = properties.get(property::REAL_TOPIC).filter(|name| !topic::is_retry(name))?;
    let handle = RecallHandle {
        topic: real_topic.to_owned(),
        broker_name: config.broker_name.clone(),
        // Rounding it again leads to the same tick.
        time_ms: (out_ms + 1).to_string(),
        unique_id: properties.unique_id.clone(),
    };
    Some(handle.encode())
}

/// Java producers take an answer without `extFields` for broken; upstream always sends these two.
pub fn mark_region(answer: &mut Command, config: &BrokerConfig) {
    answer.ext.push("MSG_REGION", &config.region_id);
    answer.ext.push("TRACE_ON", if config.trace_on { "true" } else { "false" });
}

/// Counts what `sends` of one topic stored.
fn count_stored<'e>(
    broker: &Broker,
    topic: &str,
    entries: impl IntoIterator<Item = &'e store::Entry>,
    sends: i64,
    config: &BrokerConfig,
) {
    let (mut messages, mut bytes) = (0, 0);
    for entry in entries {
        messages += entry.count();
        bytes += entry.size as i64;
    }
    count(&broker.stats.put, messages);
    count(&broker.stats.put_bytes, bytes);
    let amount = Amount { messages, bytes, calls: sends };
    broker.stats.add("TOPIC_PUT_NUMS", topic, amount);
    broker.stats.add("BROKER_PUT_NUMS", &config.broker_cluster_name, amount);
}
