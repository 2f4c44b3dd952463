//! A small producer: looks up the route, takes the writable queues in turn, sends, and waits for the answer.
//! It does not retry: the caller hears of every failure.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::time::Instant;
use wire::{
    body::{BrokerData, MessageQueue, QueueData, TopicRouteData},
    code::{request, response},
    header::SendMessageRequestHeaderV2,
    property,
    topic::{AUTO_CREATE, perm},
};

use crate::{BrokerApi, ClientError, NameServers, Sent};

/// How long a route is taken as it is.
const ROUTE_AGE: Duration = Duration::from_secs(30);

/// Queues of a topic that a send creates.
const NEW_TOPIC_QUEUES: i32 = 4;

/// A message to send.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutgoingMessage {
    /// The body.
    pub body: Bytes,
    /// Names and values.
    pub properties: Vec<(String, String)>,
    /// For the application.
    pub flag: i32,
}

impl OutgoingMessage {
    /// A message without properties.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// The same with a property.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    fn property_text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        self.properties.iter().for_each(|(name, value)| property::push(&mut text, name, value));
        text
    }
}

/// A producer of one group.
pub struct Producer {
    api: BrokerApi,
    name_servers: NameServers,
    group: String,
    limit: Duration,
    routes: Mutex<HashMap<String, Arc<Route>>>,
    turn: AtomicUsize,
}

struct Route {
    learned: Instant,
    /// Writable queues with the addresses of their masters.
    queues: Vec<(MessageQueue, String)>,
}

impl Producer {
    /// A producer that finds brokers by `name_servers`; each send gets `limit`.
    pub fn new(api: BrokerApi, name_servers: NameServers, group: &str, limit: Duration) -> Self {
        let (routes, turn) = (Mutex::default(), AtomicUsize::new(0));
        Self { api, name_servers, group: group.to_owned(), limit, routes, turn }
    }

    /// Sends to the next queue in turn.
    pub async fn send(&self, topic: &str, message: &OutgoingMessage) -> Result<Sent, ClientError> {
        let (queue, addr) = self.next_queue(topic).await?;
        self.send_to(&addr, &queue, message).await
    }

    /// Sends to the given queue of the broker at `addr`.
    pub async fn send_to(
        &self,
        addr: &str,
        queue: &MessageQueue,
        message: &OutgoingMessage,
    ) -> Result<Sent, ClientError> {
        let properties = String::from_utf8_lossy(&message.property_text()).into_owned();
        let header = SendMessageRequestHeaderV2 {
            flag: message.flag,
            properties: (!properties.is_empty()).then_some(properties),
            ..self.header(queue)
        };
        self.api.send(addr, &header, message.body.clone(), self.limit).await
    }

    /// Sends all in one request, to the next queue in turn.
    pub async fn send_batch(&self, topic: &str, messages: &[OutgoingMessage]) -> Result<Sent, ClientError> {
        let (queue, addr) = self.next_queue(topic).await?;
        let header = SendMessageRequestHeaderV2 { batch: Some(true), ..self.header(&queue) };
        self.api.send_batch(&addr, &header, encode_batch(messages), self.limit).await
    }

    fn header(&self, queue: &MessageQueue) -> SendMessageRequestHeaderV2 {
        SendMessageRequestHeaderV2 {
            producer_group: self.group.clone(),
            topic: queue.topic.clone(),
            default_topic: AUTO_CREATE.to_owned(),
            default_topic_queue_nums: NEW_TOPIC_QUEUES,
            queue_id: queue.queue_id,
            born_timestamp: now_ms(),
            reconsume_times: Some(0),
            unit_mode: Some(false),
            batch: Some(false),
            bname: Some(queue.broker_name.clone()),
            ..SendMessageRequestHeaderV2::default()
        }
    }

    async fn next_queue(&self, topic: &str) -> Result<(MessageQueue, String), ClientError> {
        let route = self.route(topic).await?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match route.queues.get(turn % route.queues.len().max(1)) {
            Some(queue) => Ok(queue.clone()),
            None => Err(ClientError::nobody(request::SEND_MESSAGE_V2, format!("no writable queue of {topic}"))),
        }
    }

    async fn route(&self, topic: &str) -> Result<Arc<Route>, ClientError> {
        let known = self.routes.lock().get(topic).cloned();
        if let Some(route) = known.filter(|route| route.learned.elapsed() < ROUTE_AGE && !route.queues.is_empty()) {
            return Ok(route);
        }
        let data = match self.name_servers.route(topic).await {
            // A topic that nobody has is made by the first send, from the template.
            Err(error) if error.code() == Some(response::TOPIC_NOT_EXIST) => {
                like_new_topic(self.name_servers.route(AUTO_CREATE).await.map_err(|_| error)?)
            }
            other => other?,
        };
        let route = Arc::new(Route { learned: Instant::now(), queues: writable_queues(topic, &data) });
        self.routes.lock().insert(topic.to_owned(), route.clone());
        Ok(route)
    }
}

/// The route that a topic made from the template will have.
fn like_new_topic(mut template: TopicRouteData) -> TopicRouteData {
    let limit = |queues: &mut QueueData| queues.write_queue_nums = queues.write_queue_nums.min(NEW_TOPIC_QUEUES);
    template.queue_datas.iter_mut().for_each(limit);
    template
}

/// Queues that may be written, with the addresses of their masters; groups without a master have none.
fn writable_queues(topic: &str, route: &TopicRouteData) -> Vec<(MessageQueue, String)> {
    let mut queues = Vec::new();
    for data in route.queue_datas.iter().filter(|data| perm::writeable(data.perm)) {
        let group = |broker: &&BrokerData| broker.broker_name == data.broker_name;
        let master = route.broker_datas.iter().find(group).and_then(|broker| broker.broker_addrs.get(&0));
        let Some(addr) = master else { continue };
        let queue = |id| (MessageQueue::new(topic, data.broker_name.clone(), id), addr.clone());
        queues.extend((0..data.write_queue_nums).map(queue));
    }
    queues
}

/// The body of a SEND_BATCH_MESSAGE request. Source: `MessageDecoder.encodeMessages`; reference remoting 14.2.
pub fn encode_batch(messages: &[OutgoingMessage]) -> Bytes {
    let mut out = BytesMut::new();
    for message in messages {
        let properties = message.property_text();
        out.put_i32((22 + message.body.len() + properties.len()) as i32);
        // Magic and CRC: the broker fills them in.
        out.put_u64(0);
        out.put_i32(message.flag);
        out.put_i32(message.body.len() as i32);
        out.put_slice(&message.body);
        out.put_i16(properties.len() as i16);
        out.put_slice(&properties);
    }
    out.freeze()
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_entry() {
        let message = OutgoingMessage { flag: 7, ..OutgoingMessage::new("body") }.with("KEYS", "k");
        let bytes = encode_batch(&[message]);
        assert_eq!(bytes[..4], 33i32.to_be_bytes());
        assert_eq!(bytes.len(), 33);
        assert_eq!(&bytes[12..24], [0, 0, 0, 7, 0, 0, 0, 4, b'b', b'o', b'd', b'y']);
        assert_eq!(&bytes[24..], b"\0\x07KEYS\x01k\x02");
    }

    #[test]
    fn only_writable_queues_with_a_master() {
        let broker = |name: &str, id: i64| BrokerData {
            broker_name: name.to_owned(),
            broker_addrs: [(id, format!("{name}:1"))].into(),
            ..BrokerData::default()
        };
        let queues = |name: &str, perm, write_queue_nums| QueueData {
            broker_name: name.to_owned(),
            perm,
            write_queue_nums,
            ..QueueData::default()
        };
        let route = TopicRouteData {
            broker_datas: vec![broker("a", 0), broker("b", 1), broker("c", 0)],
            queue_datas: vec![queues("a", 6, 2), queues("b", 6, 2), queues("c", 4, 2), queues("d", 6, 2)],
            ..TopicRouteData::default()
        };
        let found = writable_queues("T", &route);
        assert_eq!(found.len(), 2);
        assert_eq!(found[1], (MessageQueue::new("T", "a", 1), "a:1".to_owned()));
    }
}
