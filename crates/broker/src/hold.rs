//! Held pulls: requests that wait for a message. Source: `broker/.../longpolling/PullRequestHoldService.java`;
//! reference broker 4.5. Bounded by what the connections may have in flight; ends with the connection.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use store::{Arrival, MessageFilter};
use tokio::time::Instant;

use crate::{context::Broker, pull};

/// A pull that waits.
pub struct Held {
    /// The pull.
    pub pull: pull::Pull,
    /// When it is answered whatever there is.
    pub until: Instant,
}

/// By topic and queue; none is empty.
type OfTopics = HashMap<String, BTreeMap<i32, Vec<Held>>, RandomState>;

/// All held pulls.
#[derive(Default)]
pub struct Holds {
    topics: Mutex<OfTopics>,
}

impl Holds {
    /// Holds a pull.
    pub fn add(&self, held: Held) {
        let topic = held.pull.header.topic.clone();
        self.topics.lock().entry(topic).or_default().entry(held.pull.queue_id).or_default().push(held);
    }

    /// True when nobody waits.
    pub fn is_empty(&self) -> bool {
        self.topics.lock().is_empty()
    }

    /// Answers those that wait for one of these messages.
    pub fn arrived(&self, broker: &Arc<Broker>, arrivals: &[Arrival]) {
        if self.is_empty() {
            return;
        }
        let mut woken = Vec::new();
        {
            let mut topics = self.topics.lock();
            for arrival in arrivals {
                let wanted = |held: &Held| {
                    arrival.next_offset > held.pull.offset
                        && held.pull.filter.matches_tags_code(Some(arrival.tags_code))
                };
                take(&mut topics, &arrival.topic, arrival.queue_id, wanted, &mut woken);
            }
        }
        answer(broker, woken);
    }

    /// Answers all that wait on a queue.
    pub fn wake(&self, broker: &Arc<Broker>, topic: &str, queue_id: i32) {
        let mut woken = Vec::new();
        take(&mut self.topics.lock(), topic, queue_id, |_| true, &mut woken);
        answer(broker, woken);
    }

    /// Answers all whose time is over.
    pub fn expire(&self, broker: &Arc<Broker>, now: Instant) {
        self.wake_where(broker, |held| held.until <= now);
    }

    /// Answers all, when the broker stops or changes its role.
    pub fn wake_all(&self, broker: &Arc<Broker>) {
        self.wake_where(broker, |_| true);
    }

    fn wake_where(&self, broker: &Arc<Broker>, wanted: impl Fn(&Held) -> bool) {
        let mut woken = Vec::new();
        for_each(&mut self.topics.lock(), |held| woken.extend(held.extract_if(.., |held| wanted(held))));
        answer(broker, woken);
    }

    /// Forgets what a closed connection waits for.
    pub fn connection_closed(&self, conn: u64) {
        for_each(&mut self.topics.lock(), |held| held.retain(|held| held.pull.conn.id() != conn));
    }
}

fn for_each(topics: &mut OfTopics, mut change: impl FnMut(&mut Vec<Held>)) {
    topics.retain(|_, queues| {
        queues.retain(|_, held| {
            change(held);
            !held.is_empty()
        });
        !queues.is_empty()
    });
}

fn take(topics: &mut OfTopics, topic: &str, queue_id: i32, wanted: impl Fn(&Held) -> bool, woken: &mut Vec<Held>) {
    let Some(queues) = topics.get_mut(topic) else { return };
    let Some(held) = queues.get_mut(&queue_id) else { return };
    woken.extend(held.extract_if(.., |held| wanted(held)));
    if held.is_empty() {
        queues.remove(&queue_id);
    }
    if queues.is_empty() {
        topics.remove(topic);
    }
}

fn answer(broker: &Arc<Broker>, woken: Vec<Held>) {
    for held in woken {
        pull::again(broker, &held.pull);
    }
}
