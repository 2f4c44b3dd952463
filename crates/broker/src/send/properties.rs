//! The properties of a message that is being sent: what the broker adds, and what decides where it goes.
//! Reference broker 2.3 "Property handling before storing".

use std::borrow::Cow;

use wire::{code::response, property, topic};

use super::{Refused, answer::trace_on};
use crate::{config::BrokerConfig, context::Broker};

/// Property text ready to store, and what a look at it told.
pub struct Properties<'a> {
    /// Text as it will be stored.
    pub text: Vec<u8>,
    /// The client's message id, or ours where it has none.
    pub unique_id: Cow<'a, str>,
    /// Delay level, 0 without one that can be read.
    pub delay: i32,
    /// Asks for delivery at an arbitrary time.
    pub timer: bool,
    /// A half message.
    pub transaction: bool,
    /// The unique id is the client's.
    pub named: bool,
    /// Says something of inner batches or of light queues.
    pub inner: bool,
    broken_delay: bool,
    waits: bool,
}

/// Makes of `text` what the broker says of each message: its region, whether it is traced, its cluster.
pub fn marks(config: &BrokerConfig, text: &mut Vec<u8>) {
    text.clear();
    property::push(text, property::MSG_REGION, &config.region_id);
    property::push(text, property::TRACE_ON, trace_on(config));
    property::push(text, property::CLUSTER, &config.broker_cluster_name);
}

impl<'a> Properties<'a> {
    /// From the header's text; `marks` come behind it. What `memory` holds is forgotten.
    pub fn prepare(received: &'a str, memory: Vec<u8>, broker: &Broker, marks: &[u8]) -> Self {
        let mut out = Self {
            text: Vec::new(),
            unique_id: Cow::Borrowed(""),
            delay: 0,
            timer: false,
            transaction: false,
            named: false,
            inner: false,
            broken_delay: false,
            waits: true,
        };
        let mut text = memory;
        text.clear();
        property::push_kept(&mut text, received, |name, value| out.take(name, value));
        out.text = text;
        if out.unique_id.is_empty() {
            out.unique_id = Cow::Owned(broker.unique_id());
            property::push(&mut out.text, property::UNIQ_KEY, &out.unique_id);
        }
        out.text.extend_from_slice(marks);
        out
    }

    /// Looks at an entry; false when it is not stored.
    fn take(&mut self, name: &str, value: &'a str) -> bool {
        match name {
            property::POP_CK | property::MSG_REGION | property::TRACE_ON | property::CLUSTER | property::CRC32 => {
                return false;
            }
            property::UNIQ_KEY => {
                self.unique_id = Cow::Borrowed(value);
                self.named = true;
            }
            property::INNER_NUM | property::INNER_MULTI_DISPATCH => self.inner = true,
            property::DELAY => {
                self.delay = value.parse().unwrap_or(0);
                self.broken_delay = value.parse::<i32>().is_err();
            }
            property::WAIT => self.waits = !value.eq_ignore_ascii_case("false"),
            property::TRANSACTION_PREPARED => self.transaction = value.eq_ignore_ascii_case("true"),
            property::TIMER_DELAY_MS | property::TIMER_DELAY_SEC | property::TIMER_DELIVER_MS => self.timer = true,
            _ => {}
        }
        true
    }

    /// Refuses a delay that nobody can read, and that of a batch: it would be delivered at once. Java does both.
    pub fn can_be_kept(&self, batch: bool) -> Result<(), Refused> {
        let name = property::DELAY;
        if self.broken_delay {
            let value = self.get(name).unwrap_or_default();
            let remark = format!("the message is illegal, its property {name} is '{value}', expected a delay level");
            return Err(Refused::new(response::MESSAGE_ILLEGAL, remark));
        }
        if batch && self.delay > 0 {
            let level = self.delay;
            let remark = format!("the message is illegal, a batch is not delayed but has the property {name} {level}");
            return Err(Refused::new(response::MESSAGE_ILLEGAL, remark));
        }
        Ok(())
    }

    /// False when the producer does not wait for flush and replicas.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// One property.
    pub fn get(&self, name: &str) -> Option<&str> {
        property::find(&self.text, name)
    }

    /// Replaces one property.
    pub fn set(&mut self, name: &str, value: &str) {
        property::set(&mut self.text, name, value);
    }

    /// Sends the message through the delay topic; answers where it goes.
    pub fn delay_to(&mut self, real_topic: &str, real_queue: i32, level: i32) -> (String, i32) {
        if self.timer {
            let timer = [property::TIMER_DELAY_MS, property::TIMER_DELAY_SEC, property::TIMER_DELIVER_MS];
            self.text = property::without(&self.text, &timer);
        }
        if level != self.delay {
            self.set(property::DELAY, &level.to_string());
        }
        self.set(property::REAL_TOPIC, real_topic);
        self.set(property::REAL_QUEUE_ID, &real_queue.to_string());
        (topic::SCHEDULE.to_owned(), level - 1)
    }
}
