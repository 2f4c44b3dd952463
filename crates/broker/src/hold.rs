//! Held pulls: requests that wait for a message. Source: `broker/.../longpolling/PullRequestHoldService.java`;
//! reference broker 4.5. Bounded by what the connections may have in flight; ends with the connection.

use std::{collections::HashMap, sync::Arc};

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

/// All held pulls, by topic and queue.
#[derive(Default)]
pub struct Holds {
    queues: Mutex<HashMap<(String, i32), Vec<Held>>>,
}

impl Holds {
    /// Holds a pull.
    pub fn add(&self, held: Held) {
        let key = (held.pull.header.topic.clone(), held.pull.queue_id);
        self.queues.lock().entry(key).or_default().push(held);
    }

    /// True when nobody waits.
    pub fn is_empty(&self) -> bool {
        self.queues.lock().is_empty()
    }

    /// Answers those that wait for one of these messages.
    pub fn arrived(&self, broker: &Arc<Broker>, arrivals: &[Arrival]) {
        if self.is_empty() {
            return;
        }
        let mut woken = Vec::new();
        {
            let mut queues = self.queues.lock();
            for arrival in arrivals {
                let key = (arrival.topic.to_string(), arrival.queue_id);
                let wanted = |held: &Held| {
                    arrival.next_offset > held.pull.offset
                        && held.pull.filter.matches_tags_code(Some(arrival.tags_code))
                };
                take(&mut queues, &key, wanted, &mut woken);
            }
        }
        answer(broker, woken);
    }

    /// Answers all that wait on a queue.
    pub fn wake(&self, broker: &Arc<Broker>, topic: &str, queue_id: i32) {
        let mut woken = Vec::new();
        take(&mut self.queues.lock(), &(topic.to_owned(), queue_id), |_| true, &mut woken);
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
        self.queues.lock().retain(|_, held| {
            woken.extend(held.extract_if(.., |held| wanted(held)));
            !held.is_empty()
        });
        answer(broker, woken);
    }

    /// Forgets what a closed connection waits for.
    pub fn connection_closed(&self, conn: u64) {
        self.queues.lock().retain(|_, held| {
            held.retain(|held| held.pull.conn.id() != conn);
            !held.is_empty()
        });
    }
}

fn take(
    queues: &mut HashMap<(String, i32), Vec<Held>>,
    key: &(String, i32),
    wanted: impl Fn(&Held) -> bool,
    woken: &mut Vec<Held>,
) {
    let Some(held) = queues.get_mut(key) else { return };
    woken.extend(held.extract_if(.., |held| wanted(held)));
    if held.is_empty() {
        queues.remove(key);
    }
}

fn answer(broker: &Arc<Broker>, woken: Vec<Held>) {
    for held in woken {
        pull::again(broker, &held.pull);
    }
}
