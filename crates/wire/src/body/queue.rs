//! MessageQueue, which Java also uses as a key of maps.

use std::cmp::Ordering;

use crate::json::{FromJson, Json, JsonKey, Out};

crate::json_object! {
    /// One queue of a topic on one broker.
    #[derive(Eq, Hash)]
    pub struct MessageQueue {
        "brokerName" broker_name: String,
        "queueId" queue_id: i32,
        "topic" topic: String,
    }
}

impl MessageQueue {
    /// Queue `queue_id` of `topic` on `broker_name`.
    pub fn new(topic: impl Into<String>, broker_name: impl Into<String>, queue_id: i32) -> Self {
        Self { topic: topic.into(), broker_name: broker_name.into(), queue_id }
    }
}

/// Java's order: topic, broker, queue.
impl Ord for MessageQueue {
    fn cmp(&self, other: &Self) -> Ordering {
        let ours = (&self.topic, &self.broker_name, self.queue_id);
        ours.cmp(&(&other.topic, &other.broker_name, other.queue_id))
    }
}

impl PartialOrd for MessageQueue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// An object as key; read also from a string that holds its text.
impl JsonKey for MessageQueue {
    fn read_key(key: &Json) -> Option<Self> {
        match key {
            Json::Str(text) => Self::from_json(&Json::parse(text.as_bytes()).ok()?),
            other => Self::from_json(other),
        }
    }

    fn write_key(&self, out: &mut Out) {
        out.object_key(self);
    }
}
