//! Roles: what a broker does on becoming master or slave, and what its acknowledgement means.
//! Reference replication 4.6; upstream has no role change in classic mode.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    config::{BrokerConfig, BrokerRole, FlushDiskType},
    context::{Broker, now_ms},
    schedule, sync, tasks,
};
use replica::{AckPolicy, FlushType, Role};

/// How long an old master that answers may take to hand on the rest of its log at its slave's promotion, and slaves to take it
/// at a demotion; more than a Java slave takes to report for the first time.
const HAND_OVER: Duration = Duration::from_secs(7);

/// How long the queues may take to have what was replicated, before a promotion goes on without.
const DISPATCH: Duration = Duration::from_secs(30);

/// Makes progress fit the log before this broker serves as master: progress beyond a queue's end would skip what
/// comes next (P-6, P-7), delay progress outside its queue would lose or repeat (F-24).
/// Nothing is stored with an earlier time than what is there (F-21).
pub fn prepare_master(broker: &Arc<Broker>) {
    let store = &broker.store;
    // First: what comes from now on has to fit.
    broker.offsets.lead();
    if broker.is_dispatched() {
        for (key, queue_id, was, end) in broker.offsets.clamp(|topic, queue| store.max_offset(topic, queue)) {
            tracing::warn!(
                "progress of {key} queue {queue_id} was {was}, beyond the end of the queue: it is {end} now"
            );
        }
    } else {
        tracing::error!(
            "the queues end before the log does: consumer and delay progress stay as they are, though some may lie beyond the end of their queue"
        );
    }
    schedule::lead(broker);
    broker.clock.not_before(store.last_store_time());
    broker.timers.set_delivering(store, true);
}

/// Changes role or id at run time. `keep` writes the new configuration where the next start finds it: it runs before the new role
/// is in force, so that a crash brings no former role back to what was stored and acknowledged in the new one. What it answers
/// is handed on; the change goes on whatever that is.
///
/// # Errors
/// The text says why the change is refused; nothing has changed then.
pub async fn change<K>(
    broker: &Arc<Broker>,
    mut new: BrokerConfig,
    keep: impl Future<Output = K>,
) -> Result<K, String> {
    new.finish().map_err(|error| error.to_string())?;
    let old = broker.config();
    let becomes_master = !old.is_master() && new.is_master();
    let becomes_slave = old.is_master() && !new.is_master();
    let kept = if becomes_master {
        become_master(broker, new, keep).await
    } else if becomes_slave {
        become_slave(broker, new, keep).await
    } else {
        let kept = keep.await;
        broker.set_config(new);
        kept
    };
    tracing::info!(
        "role is {:?}, brokerId {}. {}",
        broker.config().broker_role,
        broker.config().broker_id,
        ack_meaning(broker)
    );
    // Also begins to ask often for a master that is not known yet.
    broker.registrar.changed();
    Ok(kept)
}

/// A last round and the rest of the log from the old master where it still answers, then no more bytes from it, then progress
/// is made to fit.
async fn become_master<K>(broker: &Arc<Broker>, new: BrokerConfig, keep: impl Future<Output = K>) -> K {
    // No round that is on its way brings the old master's tables later.
    let (_no_round, answers) = sync::last_round(broker).await;
    if answers {
        catch_up(broker).await;
    }
    // Before the first append: the old master must not write into this log any more.
    broker.replicas.end_following().await;
    // The store takes no append before what was replicated is in the queues, with SYNC_FLUSH after it is on the device.
    if let Err(error) = broker.store.flush() {
        tracing::error!("{error}");
    }
    broker.dispatch();
    // Another thread may be at it.
    let dispatched = broker.store.marks().dispatched.wait(broker.store.dispatch_limit());
    let _too_long = tokio::time::timeout(DISPATCH, dispatched).await;
    let kept = keep.await;
    broker.replicas.new_term();
    prepare_master(broker);
    broker.store.set_slave(false);
    broker.set_config(new);
    // Not before: until the configuration says master, name servers teach a master, and a follower that may run would append
    // the old master's bytes.
    broker.sync.forget();
    broker.replicas.allow_following();
    if let Err(error) = broker.topics.lead(&broker.config(), now_ms()) {
        tracing::error!("{error}");
    }
    tasks::save_all(broker);
    broker.holds.wake_all(broker);
    kept
}

/// In a planned switch the old master stores nothing any more and still answers: what it acknowledged is waited for.
async fn catch_up(broker: &Arc<Broker>) {
    let Some(addr) = sync::addresses(broker).into_iter().next() else { return };
    let Ok(Ok(Some(end))) = tokio::time::timeout(HAND_OVER, sync::log_end(broker, &addr)).await else { return };
    if tokio::time::timeout(HAND_OVER, broker.store.marks().appended.wait(end)).await.is_err() {
        tracing::error!(
            "the log of {addr} goes on for {} bytes that are not here after {HAND_OVER:?}: this broker becomes master without them",
            end - broker.store.max_phys()
        );
    }
}

/// No more sends, held requests answered, slaves have everything and are disconnected; then it follows the new master once a
/// name server tells of it.
async fn become_slave<K>(broker: &Arc<Broker>, new: BrokerConfig, keep: impl Future<Output = K>) -> K {
    broker.replicas.pause_following();
    // Returns when no delivery is under way.
    broker.timers.set_delivering(&broker.store, false);
    broker.store.set_slave(true);
    hand_over(broker).await;
    let kept = keep.await;
    broker.sync.forget();
    broker.offsets.follow();
    broker.set_config(new);
    schedule::follow(broker);
    broker.holds.wake_all(broker);
    broker.replicas.disconnect_all();
    broker.replicas.new_term();
    broker.offsets.forget_resets();
    tasks::save_all(broker);
    broker.replicas.allow_following();
    kept
}

/// Nothing is stored any more: what was goes to the slaves that are connected, as one of them is to be the master.
async fn hand_over(broker: &Broker) {
    let (begin, end) = (Instant::now(), broker.store.max_phys());
    while let Some(slowest) = broker.replicas.slowest_successor().filter(|slowest| *slowest < end) {
        if begin.elapsed() > HAND_OVER {
            tracing::error!(
                "a slave has {} bytes of the log not yet, {HAND_OVER:?} after the last message was stored: do not make it the master before it has them",
                end - slowest.max(0)
            );
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What an acknowledgement means under this configuration, in one line.
pub fn ack_meaning(broker: &Broker) -> String {
    let config = broker.config();
    let policy = AckPolicy {
        role: match config.broker_role {
            BrokerRole::AsyncMaster => Role::AsyncMaster,
            BrokerRole::SyncMaster => Role::SyncMaster,
            BrokerRole::Slave => Role::Slave,
        },
        flush: match config.flush_disk_type {
            FlushDiskType::AsyncFlush => FlushType::Async,
            FlushDiskType::SyncFlush => FlushType::Sync,
        },
        in_sync_replicas: config.in_sync_replicas as usize,
        slave_timeout_ms: config.slave_timeout,
        known_members: known_members(broker, &config),
    };
    let reads = match (config.broker_role, config.slave_read_enable) {
        (BrokerRole::Slave, false) => {
            ". Serves no reads (slaveReadEnable=false): consumers stop while the master is away"
        }
        (BrokerRole::Slave, true) => ". Serves reads (slaveReadEnable=true)",
        _ => "",
    };
    format!("{policy}{reads}")
}

/// Brokers of the group as the configuration and the connections tell: slaves join after a start, so nobody is
/// missed before `totalReplicas` says how many there shall be.
fn known_members(broker: &Broker, config: &BrokerConfig) -> usize {
    let expected = if config.total_replicas > 1 {
        config.total_replicas as usize
    } else {
        config.in_sync_replicas.min(2) as usize
    };
    expected.max(1 + broker.replicas.slaves())
}
