//! SEND_MESSAGE, SEND_MESSAGE_V2 and SEND_BATCH_MESSAGE: all sends of one socket read become one append.
//! Source: `broker/.../processor/SendMessageProcessor.java`; reference broker 2. Answers when the marks of the
//! configuration are reached, never before the write returned.

use std::{net::SocketAddr, ops::Range, sync::Arc};

use parking_lot::RwLockReadGuard;
use remoting::Connection;
use store::{AppendError, Batch};
use wire::{
    Command, SerializeType,
    body::TopicConfig,
    code::{request, response},
    property,
    record_encode::{MAX_PROPERTIES, NewRecord},
    sys_flag, topic,
};

use crate::{
    config::BrokerConfig, context::Broker, service::answer_unless_oneway, stats::count, topics::has_batch_queues,
};

mod answer;
mod batch;
mod check;
mod inner;
mod numbers;
mod properties;
mod spare;

use answer::{amount_of, code_of, count_stored, recall_handle};
pub use answer::{append_failure, mark_region};
pub use check::{Checked, any_queue, check};
use check::{not_to_retry, place};
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
    store_host: SocketAddr,
    memory: Memory,
    /// From the first check to the append.
    topics_in_use: Option<RwLockReadGuard<'a, ()>>,
}

/// What a run works with; the next one gets it.
#[derive(Default)]
pub(crate) struct Memory {
    batch: Batch,
    waiting: Vec<Accepted>,
    /// Ids of messages.
    ids: String,
    /// The properties of one send after the other.
    text: Vec<u8>,
    /// What comes behind the properties of each.
    marks: Vec<u8>,
}

/// A send that is in the batch.
struct Accepted {
    opaque: i32,
    serialize: SerializeType,
    oneway: bool,
    first: usize,
    entries: usize,
    queue_id: i32,
    /// Place in the run's ids.
    unique_id: Range<usize>,
    /// The same, once it is stored.
    msg_id: Range<usize>,
    queue_offset: i64,
    /// First byte behind its last record, in the log.
    end: i64,
    /// An inner batch: the unique id names the batch as a whole.
    is_inner: bool,
    recall_handle: Option<String>,
    topic: Arc<TopicConfig>,
    /// It lies in the delay topic.
    delayed: bool,
    waits: bool,
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
        let (config, store_host) = (broker.config(), broker.store_host());
        Self { broker, conn, config, store_host, memory: Memory::default(), topics_in_use: None }
    }

    /// Checks one send and encodes it into the batch, or answers why not.
    pub fn add(&mut self, command: &Command) {
        if self.topics_in_use.is_none() {
            self.topics_in_use = Some(self.broker.topics.in_use());
            self.memory = self.broker.spare.take();
            properties::marks(&self.config, &mut self.memory.marks);
        }
        match self.accept(command) {
            Ok(accepted) => self.memory.waiting.push(accepted),
            Err(Refused(code, remark)) => {
                count(&self.broker.stats.put_failed, 1);
                let mut answer = command.error(code, remark);
                mark_region(&mut answer, &self.config);
                answer_unless_oneway(self.conn, command, answer);
            }
        }
    }

    fn accept(&mut self, command: &Command) -> Result<Accepted, Refused> {
        let last = self.memory.waiting.last().map(|last| &last.topic);
        let checked = check(self.broker, &self.config, command, self.conn.peer(), last)?;
        let first = self.memory.batch.len();
        let text = std::mem::take(&mut self.memory.text);
        let mut properties = Properties::prepare(checked.header.properties, text, self.broker, &self.memory.marks);
        properties.can_be_kept(checked.header.batch)?;
        let mut is_inner = false;
        if checked.header.batch {
            let messages = batch::split(&command.body, checked.header.topic.len(), self.config.max_message_size)?;
            not_to_retry(&checked)?;
            is_inner = has_batch_queues(&checked.topic) && properties.named;
            match is_inner {
                true => self.push_inner(&checked, &mut properties, &messages, &command.body)?,
                false => self.push_batch(&checked, &messages)?,
            }
        } else {
            self.push_single(&checked, &mut properties, &command.body)?;
        }
        let ids = &mut self.memory.ids;
        ids.push_str(&properties.unique_id);
        let recall_handle = recall_handle(&self.config, command.code, &properties);
        let accepted = Accepted {
            opaque: command.opaque,
            serialize: command.serialize,
            oneway: command.is_oneway(),
            first,
            entries: self.memory.batch.len() - first,
            queue_id: checked.queue_id,
            unique_id: ids.len() - properties.unique_id.len()..ids.len(),
            msg_id: 0..0,
            queue_offset: 0,
            end: 0,
            is_inner,
            recall_handle,
            delayed: properties.delay > 0,
            topic: checked.topic,
            waits: properties.waits(),
        };
        self.memory.text = properties.text;
        Ok(accepted)
    }

    fn push_single(
        &mut self,
        checked: &Checked<'_>,
        properties: &mut Properties<'_>,
        body: &[u8],
    ) -> Result<(), Refused> {
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
        self.memory.batch.push(&record).map_err(|_| illegal(&self.config))?;
        Ok(())
    }

    /// A batch whose messages become records of their own.
    fn push_batch(&mut self, checked: &Checked<'_>, messages: &[batch::Message<'_>]) -> Result<(), Refused> {
        self.memory.batch.begin_group();
        for message in messages {
            let mut record =
                self.record(checked, &checked.topic.topic_name, checked.queue_id, message.properties, message.body);
            record.flag = message.flag;
            record.reconsume_times = 0;
            record.sys_flag &= !(sys_flag::INNER_BATCH | sys_flag::NEED_UNWRAP);
            self.memory.batch.push(&record).map_err(|_| illegal(&self.config))?;
        }
        self.memory.batch.end_group();
        Ok(())
    }

    /// A batch that stays one record, which consumers unwrap. The store adds the offset of its first message.
    fn push_inner(
        &mut self,
        checked: &Checked<'_>,
        properties: &mut Properties<'_>,
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
        self.memory.batch.push(&record).map_err(|_| illegal(&self.config))?;
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
            store_host: self.store_host,
            reconsume_times: header.reconsume_times.unwrap_or(0),
            prepared_transaction_offset: 0,
            properties,
            body,
        }
    }

    /// Appends what was accepted and answers it, now or when its marks are reached.
    pub fn finish(&mut self) {
        let in_use = self.topics_in_use.take();
        if self.memory.waiting.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.memory.waiting);
        let timed = waiting.iter().any(|accepted| accepted.recall_handle.is_some());
        match self.broker.store.append(&mut self.memory.batch) {
            Ok(()) => self.answer(&mut waiting),
            Err(AppendError::TooLarge { .. }) if waiting.len() > 1 => self.finish_one_by_one(waiting.drain(..)),
            Err(error) => self.refuse(&waiting, &error),
        }
        drop(in_use);
        self.memory.waiting = waiting;
        self.broker.spare.give_back(std::mem::take(&mut self.memory));
        self.broker.dispatch_soon();
        if timed {
            self.broker.timers.ring();
        }
    }

    /// One send is too large for what the store adds to it; the others of the run do not suffer for it.
    fn finish_one_by_one(&mut self, waiting: impl Iterator<Item = Accepted>) {
        let all = std::mem::take(&mut self.memory.batch);
        for accepted in waiting {
            self.memory.batch = all.part(accepted.first..accepted.first + accepted.entries);
            let mut waiting = vec![Accepted { first: 0, ..accepted }];
            match self.broker.store.append(&mut self.memory.batch) {
                Ok(()) => self.answer(&mut waiting),
                Err(error) => self.refuse(&waiting, &error),
            }
        }
    }

    fn answer(&mut self, waiting: &mut Vec<Accepted>) {
        self.count_stored(waiting);
        let Memory { batch, ids, .. } = &mut self.memory;
        waiting.retain(|accepted| !accepted.oneway);
        for accepted in waiting.iter_mut() {
            let entries = &batch.entries()[accepted.first..accepted.first + accepted.entries];
            accepted.placed(entries, self.store_host, ids);
        }
        if self.broker.must_wait(&self.config) && waiting.iter().any(|accepted| accepted.waits) {
            let (later, now) = waiting.drain(..).partition(|accepted| accepted.waits);
            *waiting = now;
            self.answer_later(later);
        }
        if waiting.is_empty() {
            return;
        }
        self.conn.reply_written(waiting.len(), |out| {
            for accepted in &*waiting {
                accepted.write_answer(response::SUCCESS, &self.memory.ids, &self.config, out);
            }
        });
    }

    /// Topics of a run are mostly one: it is looked up once for all sends that follow each other.
    fn count_stored(&self, waiting: &[Accepted]) {
        let entries = |one: &Accepted| &self.memory.batch.entries()[one.first..one.first + one.entries];
        let by_topic: Vec<_> = waiting
            .chunk_by(|one, next| Arc::ptr_eq(&one.topic, &next.topic))
            .map(|same| (&*same[0].topic.topic_name, amount_of(same.iter().flat_map(entries), same.len())))
            .collect();
        count_stored(self.broker, &self.config, &by_topic);
        for delayed in waiting.iter().filter(|one| one.delayed) {
            self.broker.stats.add("TOPIC_PUT_NUMS", topic::SCHEDULE, amount_of(entries(delayed), 1));
        }
    }

    /// One wait for the whole run: its messages were written together and become safe together.
    fn answer_later(&self, later: Vec<Accepted>) {
        let (broker, conn, config) = (self.broker.clone(), self.conn.clone(), self.config.clone());
        let ids = self.memory.ids.clone();
        tokio::spawn(async move {
            let end = later.iter().map(|accepted| accepted.end).max().unwrap_or(0);
            let stored = broker.wait_stored(end, &config).await;
            let codes: Vec<i32> = later.iter().map(|one| code_of(&broker, &config, one.end, stored)).collect();
            conn.reply_written(later.len(), |out| {
                for (accepted, code) in later.iter().zip(codes) {
                    accepted.write_answer(code, &ids, &config, out);
                }
            });
        });
    }

    fn refuse(&self, waiting: &[Accepted], error: &AppendError) {
        for accepted in waiting {
            count(&self.broker.stats.put_failed, 1);
            if !accepted.oneway {
                let (code, remark) = append_failure(self.broker, error);
                let mut answer = accepted.refused(code, remark);
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
    run.memory.batch.push(&record).map_err(|_| illegal(&run.config))?;
    broker.store.append(&mut run.memory.batch).map_err(|error| {
        let (code, remark) = append_failure(broker, &error);
        Refused(code, remark)
    })?;
    broker.dispatch_soon();
    let entries = run.memory.batch.entries();
    count_stored(broker, &run.config, &[(&checked.topic.topic_name, amount_of(entries, 1))]);
    let placed = |entry: &store::Entry| Placed {
        physical_offset: entry.physical_offset,
        end: entry.physical_offset + entry.size as i64,
        queue_offset: entry.queue_offset,
    };
    entries.first().map(placed).ok_or_else(|| illegal(&run.config))
}

fn illegal(config: &BrokerConfig) -> Refused {
    let remark = format!(
        "the message is illegal, maybe msg body or properties length not matched. msg body length limit {}B, msg properties length limit 32KB.",
        config.max_message_size
    );
    Refused::new(response::MESSAGE_ILLEGAL, remark)
}
