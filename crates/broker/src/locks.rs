//! Queue locks of orderly consumers, in memory only. Source: `broker/.../rebalance/RebalanceLockManager.java`;
//! reference broker 6.6. Checks neither topic nor queue, as upstream.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use wire::body::MessageQueue;

/// A lock that is not renewed ends after this time.
pub const LOCK_TIME: Duration = Duration::from_secs(60);

/// All locks: group, queue, holder.
#[derive(Default)]
pub struct QueueLocks {
    groups: Mutex<HashMap<String, HashMap<MessageQueue, Held>>>,
}

struct Held {
    client_id: String,
    renewed: Instant,
}

impl QueueLocks {
    /// Locks or renews what is free, ended or held by the same client; answers what is held now.
    pub fn lock(
        &self,
        group: &str,
        client_id: &str,
        queues: &BTreeSet<MessageQueue>,
        now: Instant,
    ) -> BTreeSet<MessageQueue> {
        let mut groups = self.groups.lock();
        let held = groups.entry(group.to_owned()).or_default();
        let mut locked = BTreeSet::new();
        for queue in queues {
            let free = held
                .get(queue)
                .is_none_or(|lock| lock.client_id == client_id || now.duration_since(lock.renewed) > LOCK_TIME);
            if free {
                held.insert(queue.clone(), Held { client_id: client_id.to_owned(), renewed: now });
                locked.insert(queue.clone());
            }
        }
        locked
    }

    /// Gives back what this client holds.
    pub fn unlock(&self, group: &str, client_id: &str, queues: &BTreeSet<MessageQueue>) {
        let mut groups = self.groups.lock();
        let Some(held) = groups.get_mut(group) else { return };
        held.retain(|queue, lock| lock.client_id != client_id || !queues.contains(queue));
        if held.is_empty() {
            groups.remove(group);
        }
    }

    /// Forgets locks that ended. Consumers that die give nothing back, and groups come and go.
    pub fn expire(&self, now: Instant) {
        self.groups.lock().retain(|_, held| {
            held.retain(|_, lock| now.duration_since(lock.renewed) <= LOCK_TIME);
            !held.is_empty()
        });
    }

    /// True while any queue of the group is locked: its consumer is an orderly one.
    pub fn any(&self, group: &str, now: Instant) -> bool {
        let groups = self.groups.lock();
        groups.get(group).is_some_and(|held| held.values().any(|lock| now.duration_since(lock.renewed) <= LOCK_TIME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_a_queue_until_its_lock_ends() {
        let locks = QueueLocks::default();
        let queue = |queue_id| MessageQueue { broker_name: "b".into(), queue_id, topic: "T".into() };
        let (both, one) = (BTreeSet::from([queue(0), queue(1)]), BTreeSet::from([queue(0)]));
        let start = Instant::now();
        assert_eq!(locks.lock("G", "a", &one, start), one);
        assert_eq!(locks.lock("G", "b", &both, start), BTreeSet::from([queue(1)]));
        assert!(locks.any("G", start));
        assert_eq!(locks.lock("G", "b", &both, start + LOCK_TIME + Duration::from_millis(1)), both);
        locks.unlock("G", "b", &both);
        assert!(!locks.any("G", start));
    }

    #[test]
    fn a_lock_that_nobody_gives_back_is_forgotten() {
        let locks = QueueLocks::default();
        let queue = BTreeSet::from([MessageQueue { broker_name: "b".into(), queue_id: 0, topic: "T".into() }]);
        let start = Instant::now();
        locks.lock("G", "a", &queue, start);
        locks.expire(start + LOCK_TIME);
        assert!(locks.any("G", start + LOCK_TIME));
        locks.expire(start + LOCK_TIME + Duration::from_millis(1));
        assert!(locks.groups.lock().is_empty());
    }
}
