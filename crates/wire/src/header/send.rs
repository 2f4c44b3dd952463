//! Producing: send in both spellings, send back, recall, and the reply that is pushed to its asker.

use super::ExtHeader;
use crate::{Command, code::request};

crate::ext_header! {
    /// Send with names in full: codes 10 and 324.
    pub struct SendMessageRequestHeader {
        "producerGroup" producer_group: String,
        "topic" topic: String,
        /// Template for a topic that does not exist yet.
        "defaultTopic" default_topic: String,
        "defaultTopicQueueNums" default_topic_queue_nums: i32,
        /// Negative: the broker picks a queue.
        "queueId" queue_id: i32,
        "sysFlag" sys_flag: i32,
        "bornTimestamp" born_timestamp: i64,
        "flag" flag: i32,
        "properties" properties: Option<String>,
        "reconsumeTimes" reconsume_times: Option<i32>,
        "unitMode" unit_mode: Option<bool>,
        "maxReconsumeTimes" max_reconsume_times: Option<i32>,
        /// Decides, and not the code, whether the body is a batch.
        "batch" batch: Option<bool>,
        "bname" bname: Option<String>,
        "lo" lo: Option<bool>,
    }

    /// The same with names of one letter: codes 310, 320 and 325.
    pub struct SendMessageRequestHeaderV2 {
        "a" producer_group: String,
        "b" topic: String,
        /// Template for a topic that does not exist yet.
        "c" default_topic: String,
        "d" default_topic_queue_nums: i32,
        /// Negative: the broker picks a queue.
        "e" queue_id: i32,
        "f" sys_flag: i32,
        "g" born_timestamp: i64,
        "h" flag: i32,
        "i" properties: Option<String>,
        "j" reconsume_times: Option<i32>,
        "k" unit_mode: Option<bool>,
        "l" max_reconsume_times: Option<i32>,
        /// Decides, and not the code, whether the body is a batch.
        "m" batch: Option<bool>,
        "n" bname: Option<String>,
        "lo" lo: Option<bool>,
    }

    /// Answer to every kind of send. Clients need each of the plain fields.
    pub struct SendMessageResponseHeader {
        /// Offset message ids, joined by commas for a batch.
        "msgId" msg_id: String,
        "queueId" queue_id: i32,
        "queueOffset" queue_offset: i64,
        "transactionId" transaction_id: Option<String>,
        "batchUniqId" batch_uniq_id: Option<String>,
        "recallHandle" recall_handle: Option<String>,
    }

    /// A message that was not consumed goes back, code 36.
    pub struct ConsumerSendMsgBackRequestHeader: rpc {
        /// Commit log offset.
        "offset" offset: i64,
        "group" group: String,
        /// Negative: dead letter; 0: the broker decides.
        "delayLevel" delay_level: i32,
        "originMsgId" origin_msg_id: Option<String>,
        "originTopic" origin_topic: Option<String>,
        "unitMode" unit_mode: bool,
        "maxReconsumeTimes" max_reconsume_times: Option<i32>,
    }

    /// A timer message is taken back, code 370.
    pub struct RecallMessageRequestHeader: topic {
        "producerGroup" producer_group: Option<String>,
        "topic" topic: String,
        "recallHandle" recall_handle: String,
    }

    /// Answer to it.
    pub struct RecallMessageResponseHeader {
        "msgId" msg_id: String,
    }

    /// A reply on its way to the client that asked, code 326.
    pub struct ReplyMessageRequestHeader: topic {
        "producerGroup" producer_group: String,
        "topic" topic: String,
        "defaultTopic" default_topic: String,
        "defaultTopicQueueNums" default_topic_queue_nums: i32,
        "queueId" queue_id: i32,
        "sysFlag" sys_flag: i32,
        "bornTimestamp" born_timestamp: i64,
        "flag" flag: i32,
        "properties" properties: Option<String>,
        "reconsumeTimes" reconsume_times: Option<i32>,
        "unitMode" unit_mode: bool,
        /// `ip:port`.
        "bornHost" born_host: String,
        /// `ip:port`.
        "storeHost" store_host: String,
        "storeTimestamp" store_timestamp: i64,
    }
}

macro_rules! convert {
    ($from:ident => $to:ident: $($field:ident)*) => {
        impl From<$from> for $to {
            fn from(header: $from) -> Self {
                Self { $($field: header.$field),* }
            }
        }
    };
    ($($field:ident)*) => {
        convert! { SendMessageRequestHeader => SendMessageRequestHeaderV2: $($field)* }
        convert! { SendMessageRequestHeaderV2 => SendMessageRequestHeader: $($field)* }
    };
}

convert! {
    producer_group topic default_topic default_topic_queue_nums queue_id sys_flag born_timestamp flag properties
    reconsume_times unit_mode max_reconsume_times batch bname lo
}

impl SendMessageRequestHeader {
    /// Reads the spelling that belongs to the code; there is no mixed form.
    pub fn from_command(command: &Command) -> Self {
        match command.code {
            request::SEND_MESSAGE_V2 | request::SEND_BATCH_MESSAGE | request::SEND_REPLY_MESSAGE_V2 => {
                SendMessageRequestHeaderV2::read_ext(&command.ext).into()
            }
            _ => Self::read_ext(&command.ext),
        }
    }
}
