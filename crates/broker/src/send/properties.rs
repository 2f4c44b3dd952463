//! The properties of a message that is being sent: what the broker adds, and what decides where it goes.
//! Reference broker 2.3 "Property handling before storing".

use wire::{code::response, property, topic};

use super::Refused;
use crate::{config::BrokerConfig, context::Broker};

/// Property text ready to store, and what a look at it told.
pub struct Properties {
    /// Text as it will be stored.
    pub text: Vec<u8>,
    /// The client's message id, or ours where it has none.
    pub unique_id: String,
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

impl Properties {
    /// From the header's text. What `memory` holds is forgotten.
    pub fn prepare(received: &str, mut memory: Vec<u8>, broker: &Broker, config: &BrokerConfig) -> Self {
        memory.clear();
        memory.reserve(received.len() + 96);
        let mut out = Self {
            text: memory,
            unique_id: String::new(),
            delay: 0,
            timer: false,
            transaction: false,
            named: false,
            inner: false,
            broken_delay: false,
            waits: true,
        };
        for (name, value) in property::iter_text(received) {
            out.take(name, value);
        }
        if out.unique_id.is_empty() {
            out.unique_id = broker.unique_id();
            property::push(&mut out.text, property::UNIQ_KEY, &out.unique_id);
        }
        property::push(&mut out.text, property::MSG_REGION, &config.region_id);
        property::push(&mut out.text, property::TRACE_ON, if config.trace_on { "true" } else { "false" });
        property::push(&mut out.text, property::CLUSTER, &config.broker_cluster_name);
        out
    }

    fn take(&mut self, name: &str, value: &str) {
        match name {
            property::POP_CK | property::MSG_REGION | property::TRACE_ON | property::CLUSTER | property::CRC32 => {
                return;
            }
            property::UNIQ_KEY => {
                value.clone_into(&mut self.unique_id);
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
        property::push(&mut self.text, name, value);
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
