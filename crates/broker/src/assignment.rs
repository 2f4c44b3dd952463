//! QUERY_ASSIGNMENT: the queues that one consumer reads, shared out by the broker and not by the clients.
//! Source: `broker/.../processor/QueryAssignmentProcessor.java`, `AllocateMessageQueueAveragely.java`,
//! `AllocateMessageQueueAveragelyByCircle.java`; reference broker 10.11.
//!
//! Remembers no share: each answer is made of the route and of the group's members at that moment. An answer without a
//! list makes the client keep what it has. A known route is refreshed behind the answer, so that a name server that is
//! away delays nobody who was served before. Shares out no queue for pop, and says so.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use remoting::Connection;
use tokio::time::{Duration, Instant};
use wire::{
    Command,
    body::{
        MessageModel, MessageQueue, MessageQueueAssignment, MessageRequestMode, QueryAssignmentRequestBody,
        QueryAssignmentResponseBody, TopicRouteData,
    },
    code::response,
    json, topic,
};

use crate::{config::BrokerConfig, context::Broker, service::answer_unless_oneway};

/// How long name servers may take.
const ROUTE_LIMIT: Duration = Duration::from_secs(3);
/// Routes that nobody asked for are forgotten after that many refreshes.
const UNUSED_AFTER: u32 = 20;

/// Readable queues of the topics that consumers asked for, on all brokers.
#[derive(Default)]
pub struct Routes(Mutex<HashMap<String, Route>>);

struct Route {
    queues: Arc<[MessageQueue]>,
    asked: Instant,
}

impl Routes {
    /// What is known, and whether it is time to ask again; whoever is told so asks.
    fn known(&self, topic: &str, interval: Duration) -> Option<(Arc<[MessageQueue]>, bool)> {
        let mut table = self.0.lock();
        let route = table.get_mut(topic)?;
        let old = route.asked.elapsed() >= interval;
        if old {
            route.asked = Instant::now();
        }
        Some((route.queues.clone(), old))
    }

    fn put(&self, topic: &str, queues: Arc<[MessageQueue]>, interval: Duration) {
        let mut table = self.0.lock();
        table.retain(|_, route| route.asked.elapsed() < interval * UNUSED_AFTER);
        table.insert(topic.to_owned(), Route { queues, asked: Instant::now() });
    }

    fn remove(&self, topic: &str) {
        self.0.lock().remove(topic);
    }
}

/// Answers as soon as the topic's route is known. Nothing is done for who wants no answer: nothing would bound how many of these
/// wait for name servers.
pub fn handle(broker: &Arc<Broker>, conn: &Arc<Connection>, command: Command) {
    if command.is_oneway() {
        return;
    }
    let (broker, conn) = (broker.clone(), conn.clone());
    tokio::spawn(async move {
        let answer = query(&broker, &command).await;
        answer_unless_oneway(&conn, &command, answer);
    });
}

async fn query(broker: &Arc<Broker>, command: &Command) -> Command {
    let asked: QueryAssignmentRequestBody = match json::decode(&command.body) {
        Ok(asked) => asked,
        Err(error) => {
            let remark = format!("the body of QUERY_ASSIGNMENT cannot be read: {error}");
            return command.error(response::SYSTEM_ERROR, remark);
        }
    };
    let config = broker.config();
    if mode(broker, &config, &asked) == MessageRequestMode::Pop {
        let remark = format!(
            "group {} shall read topic {} in POP mode, which this broker does not serve; set its mode to PULL \
             (mqadmin setConsumeMode -m PULL)",
            asked.consumer_group, asked.topic
        );
        return command.error(response::REQUEST_CODE_NOT_SUPPORTED, remark);
    }
    let queues = match route(broker, &config, &asked.topic).await {
        Some(queues) => share(broker, &config, &asked, &queues),
        None => None,
    };
    let assigned = |queue| MessageQueueAssignment {
        message_queue: Some(queue),
        mode: MessageRequestMode::Pull,
        ..MessageQueueAssignment::default()
    };
    let body = QueryAssignmentResponseBody {
        message_queue_assignments: queues.map(|queues| queues.into_iter().map(assigned).collect()),
    };
    command.ok_body(json::encode(&body))
}

/// What SET_MESSAGE_REQUEST_MODE set, else the default; retry topics are never popped.
fn mode(broker: &Broker, config: &BrokerConfig, asked: &QueryAssignmentRequestBody) -> MessageRequestMode {
    match broker.request_modes.get(&asked.topic, &asked.consumer_group) {
        Some(set) => set.mode,
        None if topic::is_retry(&asked.topic) => MessageRequestMode::Pull,
        None => config.default_message_request_mode,
    }
}

/// Readable queues of a topic on all brokers, sorted; `None` when no name server knows any.
async fn route(broker: &Arc<Broker>, config: &BrokerConfig, topic: &str) -> Option<Arc<[MessageQueue]>> {
    let interval = Duration::from_millis(config.load_balance_poll_name_server_interval.max(1));
    match broker.routes.known(topic, interval) {
        Some((queues, false)) => Some(queues),
        Some((queues, true)) => {
            let (broker, topic) = (broker.clone(), topic.to_owned());
            tokio::spawn(async move { ask(&broker, &topic, interval).await });
            Some(queues)
        }
        None => ask(broker, topic, interval).await,
    }
}

async fn ask(broker: &Broker, topic: &str, interval: Duration) -> Option<Arc<[MessageQueue]>> {
    let list = broker.registrar.namesrv_list().join(";");
    let servers = client::NameServers::new(broker.api.with_limit(ROUTE_LIMIT), &list);
    match servers.route(topic).await {
        Ok(route) => {
            let queues: Arc<[MessageQueue]> = readable(topic, &route).into();
            if queues.is_empty() {
                broker.routes.remove(topic);
                return None;
            }
            broker.routes.put(topic, queues.clone(), interval);
            Some(queues)
        }
        Err(error) => {
            if error.code() == Some(response::TOPIC_NOT_EXIST) {
                broker.routes.remove(topic);
            }
            tracing::debug!("the route of {topic} is not known, its consumers keep the queues they have: {error}");
            None
        }
    }
}

fn readable(topic: &str, route: &TopicRouteData) -> Vec<MessageQueue> {
    let all = route.queue_datas.iter().filter(|queues| topic::perm::readable(queues.perm)).flat_map(|queues| {
        (0..queues.read_queue_nums).map(|queue_id| MessageQueue::new(topic, queues.broker_name.as_str(), queue_id))
    });
    let mut all: Vec<_> = all.collect();
    all.sort_by(|a, b| (&a.broker_name, a.queue_id).cmp(&(&b.broker_name, b.queue_id)));
    all
}

/// The share of one client; `None` when it cannot be told and the client shall keep what it has.
fn share(
    broker: &Broker,
    config: &BrokerConfig,
    asked: &QueryAssignmentRequestBody,
    queues: &[MessageQueue],
) -> Option<Vec<MessageQueue>> {
    if asked.message_model == MessageModel::Broadcasting || !config.server_load_balancer_enable {
        return Some(queues.to_vec());
    }
    // A client that comes back may be here on two connections for a while. It is one client: upstream counts it twice
    // and leaves the second share unread.
    let members = broker.clients.with_group(&asked.consumer_group, |group| {
        group.members.values().map(|member| member.client_id.clone()).collect::<BTreeSet<_>>()
    })?;
    let allocate = strategy(asked.strategy_name.as_deref().unwrap_or_default()).or_else(|| {
        tracing::warn!(
            "group {} asks to share {} by strategy {:?}; known are AVG and AVG_BY_CIRCLE",
            asked.consumer_group,
            asked.topic,
            asked.strategy_name
        );
        None
    })?;
    let share = members.iter().position(|member| *member == asked.client_id);
    Some(share.map_or_else(Vec::new, |index| allocate(queues, index, members.len())))
}

type Strategy = fn(&[MessageQueue], usize, usize) -> Vec<MessageQueue>;

fn strategy(name: &str) -> Option<Strategy> {
    match name {
        "AVG" => Some(averagely),
        "AVG_BY_CIRCLE" => Some(by_circle),
        _ => None,
    }
}

/// Neighbouring queues; the first clients take one more where it does not divide.
fn averagely(queues: &[MessageQueue], index: usize, clients: usize) -> Vec<MessageQueue> {
    let (each, rest) = (queues.len() / clients, queues.len() % clients);
    let begin = index * each + index.min(rest);
    let end = begin + each + usize::from(index < rest);
    queues[begin..end].to_vec()
}

/// Dealt like cards.
fn by_circle(queues: &[MessageQueue], index: usize, clients: usize) -> Vec<MessageQueue> {
    queues.iter().skip(index).step_by(clients).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(allocate: Strategy, queues: i32, clients: usize) -> Vec<Vec<i32>> {
        let all: Vec<_> = (0..queues).map(|queue| MessageQueue::new("T", "b", queue)).collect();
        let share = |index| allocate(&all, index, clients).iter().map(|queue| queue.queue_id).collect();
        (0..clients).map(share).collect()
    }

    #[test]
    fn the_strategies_share_as_javas() {
        assert_eq!(ids(averagely, 8, 3), [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]);
        assert_eq!(ids(averagely, 2, 3), [vec![0], vec![1], vec![]]);
        assert_eq!(ids(averagely, 4, 2), [vec![0, 1], vec![2, 3]]);
        assert_eq!(ids(by_circle, 5, 2), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(ids(by_circle, 1, 2), [vec![0], vec![]]);
    }

    #[test]
    fn only_readable_queues_are_shared_in_the_order_that_all_brokers_see() {
        let queue = |name: &str, perm| wire::body::QueueData {
            broker_name: name.into(),
            perm,
            read_queue_nums: 2,
            ..Default::default()
        };
        let route =
            TopicRouteData { queue_datas: vec![queue("b", 6), queue("c", 2), queue("a", 4)], ..Default::default() };
        let found: Vec<_> = readable("T", &route).into_iter().map(|q| (q.broker_name, q.queue_id)).collect();
        assert_eq!(found, [("a".into(), 0), ("a".into(), 1), ("b".into(), 0), ("b".into(), 1)]);
    }
}
