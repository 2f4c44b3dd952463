//! What sends are answered, and what is counted of them. Reference broker 2.2, 2.8, 2.9 and 2.12.

use std::net::SocketAddr;

use bytes::BytesMut;
use store::AppendError;
use wire::{
    Command,
    code::{request, response},
    head::{Head, HeadWriter},
    message_id, property,
    recall_handle::RecallHandle,
    topic,
};

use super::{Accepted, properties::Properties};
use crate::{
    config::{BrokerConfig, FlushDiskType},
    context::{Broker, Stored},
    stats::{Amount, count},
};

impl Accepted {
    /// Its messages have their places. Their ids come behind `text`.
    pub(super) fn placed(&mut self, entries: &[store::Entry], host: SocketAddr, text: &mut String) {
        let start = text.len();
        for entry in entries {
            if text.len() > start {
                text.push(',');
            }
            message_id::push_offset_id(text, host, entry.physical_offset);
        }
        self.msg_id = start..text.len();
        self.queue_offset = entries.first().map_or(0, |entry| entry.queue_offset);
        self.end = entries.last().map_or(0, store::Entry::end);
    }

    /// Writes what a stored send is answered; its texts are in `text`.
    pub(super) fn write_answer(&self, code: i32, text: &str, config: &BrokerConfig, out: &mut BytesMut) {
        let unique_id = &text[self.unique_id.clone()];
        let mut head = HeadWriter::begin(Head::response(code, self.opaque, self.serialize), true, out);
        head.field("msgId", &text[self.msg_id.clone()]);
        head.number("queueId", self.queue_id.into());
        head.number("queueOffset", self.queue_offset);
        head.field("transactionId", unique_id);
        if self.is_inner {
            head.field("batchUniqId", unique_id);
        }
        if let Some(handle) = &self.recall_handle {
            head.field("recallHandle", handle);
        }
        head.field("MSG_REGION", &config.region_id);
        head.field("TRACE_ON", trace_on(config));
        head.end(0);
    }

    /// The answer when it was not stored.
    pub(super) fn refused(&self, code: i32, remark: String) -> Command {
        Command { opaque: self.opaque, serialize: self.serialize, ..Command::default() }.error(code, remark)
    }
}

/// By which the producer of a timer message may take it back. Not for messages of a batch or of a retry topic.
pub(super) fn recall_handle(config: &BrokerConfig, code: i32, properties: &Properties<'_>) -> Option<String> {
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
        unique_id: properties.unique_id.clone().into_owned(),
    };
    Some(handle.encode())
}

/// Java producers take an answer without `extFields` for broken; upstream always sends these two.
pub fn mark_region(answer: &mut Command, config: &BrokerConfig) {
    answer.ext.push("MSG_REGION", &config.region_id);
    answer.ext.push("TRACE_ON", trace_on(config));
}

pub(super) fn trace_on(config: &BrokerConfig) -> &'static str {
    if config.trace_on { "true" } else { "false" }
}

/// What `sends` stored as `entries`.
pub(super) fn amount_of<'e>(entries: impl IntoIterator<Item = &'e store::Entry>, sends: usize) -> Amount {
    let mut amount = Amount { calls: sends as i64, ..Amount::default() };
    for entry in entries {
        amount.messages += entry.count();
        amount.bytes += entry.size as i64;
    }
    amount
}

/// Counts what was stored, by topic.
pub(super) fn count_stored(broker: &Broker, config: &BrokerConfig, by_topic: &[(&str, Amount)]) {
    let mut all = Amount::default();
    by_topic.iter().for_each(|(_, amount)| all += *amount);
    count(&broker.stats.put, all.messages);
    count(&broker.stats.put_bytes, all.bytes);
    broker.stats.add_all("TOPIC_PUT_NUMS", by_topic);
    broker.stats.add("BROKER_PUT_NUMS", &config.broker_cluster_name, all);
}

/// What one message of a run is answered, of which `stored` tells as a whole: that it came too late need not be so for
/// an early part of it.
pub(super) fn code_of(broker: &Broker, config: &BrokerConfig, end: i64, stored: Stored) -> i32 {
    if config.waits_for_replicas() && broker.replicas.is_before_a_slave(end) {
        return response::FLUSH_SLAVE_TIMEOUT;
    }
    let flushed = || broker.store.marks().flushed.get() >= end;
    let copies = config.in_sync_replicas as usize;
    let replicated = || broker.replicas.replicated(copies, broker.store.max_phys()) >= end;
    match stored {
        Stored::FlushSlaveTimeout if !replicated() => response::FLUSH_SLAVE_TIMEOUT,
        Stored::FlushDiskTimeout | Stored::FlushSlaveTimeout
            if config.flush_disk_type == FlushDiskType::SyncFlush && !flushed() =>
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
