//! Producing: send in both spellings, send back, recall, and the reply that is pushed to its asker.

use super::ExtValue;
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

macro_rules! send_request {
    ($($(#[$meta:meta])* $long:literal $short:literal $field:ident: $kind:ty, $read:expr;)*) => {
        /// A send of either spelling, read in place.
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct SendRequest<'a> {
            $($(#[$meta])* #[doc = concat!("\n\nField `", $long, "` or `", stringify!($short), "`.")] pub $field: $kind,)*
        }

        impl<'a> SendRequest<'a> {
            fn take_long(&mut self, name: &[u8], value: &'a str) {
                $(if name == $long.as_bytes() {
                    return self.$field = $read(value).unwrap_or(self.$field);
                })*
            }

            fn take_short(&mut self, name: &[u8], value: &'a str) {
                match name {
                    $([$short] => self.$field = $read(value).unwrap_or(self.$field),)*
                    _ => {}
                }
            }
        }
    };
}

send_request! {
    "producerGroup" b'a' producer_group: &'a str, Some;
    "topic" b'b' topic: &'a str, Some;
    /// Template for a topic that does not exist yet.
    "defaultTopic" b'c' default_topic: &'a str, Some;
    "defaultTopicQueueNums" b'd' default_topic_queue_nums: i32, ExtValue::read;
    /// Negative: the broker picks a queue.
    "queueId" b'e' queue_id: Option<i32>, ExtValue::read;
    "sysFlag" b'f' sys_flag: Option<i32>, ExtValue::read;
    "bornTimestamp" b'g' born_timestamp: Option<i64>, ExtValue::read;
    "flag" b'h' flag: Option<i32>, ExtValue::read;
    "properties" b'i' properties: &'a str, Some;
    "reconsumeTimes" b'j' reconsume_times: Option<i32>, ExtValue::read;
    "unitMode" b'k' unit_mode: bool, ExtValue::read;
    "maxReconsumeTimes" b'l' max_reconsume_times: Option<i32>, ExtValue::read;
    /// Decides, and not the code, whether the body is a batch.
    "batch" b'm' batch: bool, ExtValue::read;
}

impl<'a> SendRequest<'a> {
    /// Reads the spelling that belongs to the code; there is no mixed form. Absent or unreadable fields have their
    /// default; those without which nothing can be stored are options, so that a broken send is not one to queue 0.
    pub fn of(command: &'a Command) -> Self {
        use request::{SEND_BATCH_MESSAGE, SEND_MESSAGE_V2, SEND_REPLY_MESSAGE_V2};
        let mut this = Self::default();
        let fields = command.ext.by_bytes();
        match command.code {
            SEND_MESSAGE_V2 | SEND_BATCH_MESSAGE | SEND_REPLY_MESSAGE_V2 => {
                fields.for_each(|(name, value)| this.take_short(name, value));
            }
            _ => fields.for_each(|(name, value)| this.take_long(name, value)),
        }
        this
    }
}
