//! Metadata from the master: topics, progress, delay progress, groups, request modes, timer state.
//! Source: `broker/.../slave/SlaveSynchronize.java`; reference replication 4.1.
//!
//! Runs at start, at each role change and then every `slaveSyncInterval`. Each item is independent of the others, is
//! applied as a difference and written only when it differs (W-23, F-34). Asks the master's listener first and its
//! HA host with the same port second (F-07).

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

use client::ClientError;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use wire::{
    body::{ConsumerOffsetSerializeWrapper, DelayOffsetSerializeWrapper, KvTable},
    code::response,
};

use crate::{
    config::BrokerConfig,
    context::Broker,
    deletion::{self, Absent, DeletionError},
    ha::{self, parted::Compared},
    offsets::Own,
    persist::{self, PersistError},
};

/// How long a master has to tell what it has where this log ends, before each round.
const COMPARE_LIMIT: Duration = Duration::from_secs(3);

/// How long the last round before a promotion may take: until it is over nobody serves.
const LAST_ROUND: Duration = Duration::from_secs(5);

/// How long a planned switch takes, at most.
const SWITCH: Duration = Duration::from_secs(3);

/// How often a fault that lasts is told.
const TOLD_EACH: Duration = Duration::from_secs(60);

/// What a slave knows of its master.
#[derive(Default)]
pub struct SyncState {
    state: Mutex<State>,
    bell: Notify,
    /// Held by the round that runs.
    turn: tokio::sync::Mutex<()>,
    /// The round that runs shall end.
    halted: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    master_addr: Option<String>,
    ha_addr: Option<String>,
    last_success: Option<Instant>,
    failing: bool,
    rounds: u64,
    warned: Option<Instant>,
    refusals_told: Option<Instant>,
    /// What is known of topics that the master deleted.
    absent: Absent,
    /// The last role change.
    forgotten: Option<Instant>,
}

impl SyncState {
    /// Takes what a name server answered, at a slave. A configured `haMasterAddress` stays.
    pub fn learned(
        &self,
        config: impl FnOnce() -> Arc<BrokerConfig>,
        master_addr: Option<String>,
        ha_addr: Option<String>,
    ) {
        let mut state = self.state.lock();
        // The configuration in force: that of the question may be from before a promotion.
        let config = config();
        if config.is_master() {
            return;
        }
        let own = config.broker_addr();
        let master_addr = master_addr.filter(|addr| !addr.is_empty() && *addr != own);
        if master_addr.is_none() {
            // The master is not registered at this server; what another one said may still be right.
            return;
        }
        if state.master_addr != master_addr {
            tracing::info!("the master of {} is {}", config.broker_name, master_addr.as_deref().unwrap_or("unknown"));
            state.master_addr = master_addr;
            // What the former one deleted, and this one perhaps not.
            state.absent = Absent::default();
            self.bell.notify_one();
        }
        if config.ha_master_address.len() < 6 && ha_addr.is_some() {
            state.ha_addr = ha_addr;
        }
    }

    /// The next round begins without a pause.
    pub fn go_on(&self) {
        self.bell.notify_one();
    }

    /// Waits until no round runs and lets none begin.
    pub async fn hold(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Forgets the master, at a role change.
    pub fn forget(&self) {
        *self.state.lock() = State { forgotten: Some(Instant::now()), ..State::default() };
    }

    /// True where no master is known yet a moment after a role change: in a planned switch the next one is about to register.
    pub fn expects_master(&self) -> bool {
        let state = self.state.lock();
        state.master_addr.is_none() && state.forgotten.is_some_and(|at| at.elapsed() < SWITCH)
    }

    /// Address of the master's listener.
    pub fn master_addr(&self) -> Option<String> {
        self.state.lock().master_addr.clone()
    }

    /// Address of the master's replication port.
    pub fn ha_addr(&self, config: &BrokerConfig) -> Option<String> {
        if config.ha_master_address.len() >= 6 {
            return Some(config.ha_master_address.clone());
        }
        self.state.lock().ha_addr.clone()
    }

    /// True while the master does not answer, or cannot be followed.
    pub fn is_failing(&self) -> bool {
        self.state.lock().failing
    }

    /// True while a master is known that answers.
    pub fn has_master(&self) -> bool {
        let state = self.state.lock();
        state.master_addr.is_some() && !state.failing
    }

    /// Complete rounds so far.
    pub fn rounds(&self) -> u64 {
        self.state.lock().rounds
    }

    /// What is known of topics that the master deleted.
    pub fn absent<T>(&self, look: impl FnOnce(&mut Absent) -> T) -> T {
        look(&mut self.state.lock().absent)
    }

    fn succeeded(&self) {
        let mut state = self.state.lock();
        state.last_success = Some(Instant::now());
        state.rounds += 1;
        if std::mem::take(&mut state.failing) {
            tracing::info!("metadata sync from the master works again");
        }
        state.warned = None;
    }

    /// Progress that the master does not take. The consumer commits more each moment.
    fn refused(&self, progress: &[String]) {
        let Some(first) = progress.first() else { return };
        let mut state = self.state.lock();
        if is_due(state.refusals_told) {
            let count = progress.len();
            tracing::warn!(
                "what consumers committed at this slave is not taken by the master, {count} queues by now: {first}; told once a minute"
            );
            state.refusals_told = Some(Instant::now());
        }
    }

    fn failed(&self, text: String) {
        let mut state = self.state.lock();
        if is_due(state.warned) {
            let age = state.last_success.map_or("never".to_owned(), |at| format!("{} s ago", at.elapsed().as_secs()));
            tracing::warn!("metadata sync failed ({text}); last success: {age}; it is tried again each round");
            state.warned = Some(Instant::now());
        }
        state.failing = true;
    }
}

/// True when a fault that lasts is to be told, or told again.
fn is_due(told: Option<Instant>) -> bool {
    told.is_none_or(|at| at.elapsed() >= TOLD_EACH)
}

/// Why one item was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The master does not answer, or refuses.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// A table.
    #[error(transparent)]
    Persist(#[from] PersistError),
    /// Queues.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// Queues of a topic that is gone.
    #[error(transparent)]
    Deletion(#[from] DeletionError),
}

/// Syncs while this broker is a slave, until it stops.
pub async fn run(broker: Arc<Broker>) {
    while !broker.is_stopping() {
        if !broker.config().is_master() {
            round(&broker).await;
        }
        let wait = Duration::from_millis(broker.config().slave_sync_interval.max(100));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = broker.sync.bell.notified() => {}
        }
    }
}

/// One round, unless a promotion wants its turn.
pub async fn round(broker: &Arc<Broker>) -> bool {
    let _turn = broker.sync.hold().await;
    let mut halted = broker.sync.halted.subscribe();
    tokio::select! {
        biased;
        _ = halted.wait_for(|halted| *halted) => false,
        complete = all(broker) => complete,
    }
}

/// Ends the round that runs, wherever it waits, does a last one as far as the master still answers, and lets no other begin
/// before the guard is dropped. False when the master did not answer in time.
pub async fn last_round(broker: &Arc<Broker>) -> (tokio::sync::MutexGuard<'_, ()>, bool) {
    broker.sync.halted.send_replace(true);
    let turn = broker.sync.hold().await;
    broker.sync.halted.send_replace(false);
    let is_in_time = tokio::time::timeout(LAST_ROUND, all(broker)).await.is_ok();
    if !is_in_time {
        tracing::warn!(
            "the old master does not tell its tables within {LAST_ROUND:?}: what it told before is what counts now"
        );
    }
    (turn, is_in_time)
}

/// All items, from the address that answers.
async fn all(broker: &Arc<Broker>) -> bool {
    let addresses = addresses(broker);
    if addresses.is_empty() || broker.config().is_master() {
        return false;
    }
    if let Some(reason) = against(broker).await {
        broker.sync.failed(reason);
        return false;
    }
    let mut failure = None;
    for addr in addresses {
        match items(broker, &addr).await {
            Ok(()) => {
                broker.sync.succeeded();
                return true;
            }
            Err(error) => failure = failure.or(Some(format!("{addr}: {error}"))),
        }
    }
    broker.sync.failed(failure.unwrap_or_default());
    false
}

/// What speaks against taking tables: those of a master that lacks what is in this log would take away what belongs to it.
async fn against(broker: &Arc<Broker>) -> Option<String> {
    match ha::parted::compare(broker, COMPARE_LIMIT).await {
        Ok(Compared::One) => None,
        Ok(Compared::Untold(reason)) => Some(reason),
        Err(parted) => {
            // The master may have been too slow to tell when replication began.
            let text = parted.to_string();
            broker.replicas.end_parted(parted);
            Some(text)
        }
    }
}

/// The master's listener as the name server told it, then the HA host with the listener's port: one of the two
/// networks may not lead there. Empty while no master is known.
pub fn addresses(broker: &Broker) -> Vec<String> {
    let Some(master) = broker.sync.master_addr() else { return Vec::new() };
    let mut all = vec![master.clone()];
    let ha = broker.sync.ha_addr(&broker.config());
    if let (Some(ha), Some((_, port))) = (ha, master.rsplit_once(':')) {
        let second = ha.rsplit_once(':').map(|(host, _)| format!("{host}:{port}"));
        all.extend(second.filter(|second| *second != master));
    }
    all
}

/// All items; the first failure is the answer. The others are still tried, unless the master does not answer.
async fn items(broker: &Arc<Broker>, addr: &str) -> Result<(), SyncError> {
    let mut failure = None;
    let mut goes_on = |result: Result<(), SyncError>| {
        let is_gone = matches!(&result, Err(SyncError::Call(error)) if error.is_unreachable());
        failure = failure.take().or(result.err());
        !is_gone
    };
    let _all = goes_on(topics(broker, addr).await)
        && goes_on(offsets(broker, addr).await)
        && goes_on(delays(broker, addr).await)
        && goes_on(groups(broker, addr).await)
        && goes_on(request_modes(broker, addr).await)
        && goes_on(timers(broker, addr).await);
    failure.map_or(Ok(()), Err)
}

async fn topics(broker: &Arc<Broker>, addr: &str) -> Result<(), SyncError> {
    let table = broker.api.get_all_topic_config(addr).await?;
    let version = table.data_version;
    let adopted = broker.topics.adopt(table);
    if adopted.batch_queues {
        broker.store.align_queue_types()?;
    }
    adopted.saved?;
    deletion::follow(broker, addr, &version).await
}

async fn offsets(broker: &Arc<Broker>, addr: &str) -> Result<(), SyncError> {
    let mut table: ConsumerOffsetSerializeWrapper = broker.api.get_all_consumer_offset(addr).await?;
    tell_own_progress(broker, addr, &mut table).await;
    if broker.offsets.adopt(table) {
        persist::apart(|| broker.offsets.save())?;
    }
    Ok(())
}

/// Hands on what consumers committed here while the master was away, as a consumer would (P-3). What the master knows
/// better, or does not take, is the master's. `table` is its answer, made as it is now.
async fn tell_own_progress(broker: &Arc<Broker>, addr: &str, table: &mut ConsumerOffsetSerializeWrapper) {
    let (mut told, mut refused) = (0, Vec::new());
    for own in broker.offsets.own() {
        let Own { topic, group, queue_id, offset } = &own;
        let key = format!("{topic}@{group}");
        let light = table.lmq_offset_table.as_ref().and_then(|table| table.get(&key));
        let known = table.offset_table.get(&key).and_then(|queues| queues.get(queue_id)).or(light);
        if known.is_none_or(|known| known < offset) {
            match broker.api.update_consumer_offset(addr, group, topic, *queue_id, *offset).await {
                Ok(()) => {
                    match table.lmq_offset_table.as_mut().and_then(|table| table.get_mut(&key)) {
                        Some(light) => *light = *offset,
                        None => drop(table.offset_table.entry(key).or_default().insert(*queue_id, *offset)),
                    }
                    told += 1;
                }
                Err(error) if error.is_final() => {
                    refused.push(format!("progress {offset} of {key} queue {queue_id}: {error}"));
                }
                // The next round tells it, and what comes after it.
                Err(_) => break,
            }
        }
        broker.offsets.told(&own);
    }
    broker.sync.refused(&refused);
    if told > 0 {
        tracing::info!("{told} queues' progress that consumers committed at this slave is at the master now");
    }
}

async fn delays(broker: &Arc<Broker>, addr: &str) -> Result<(), SyncError> {
    let table: DelayOffsetSerializeWrapper = broker.api.get_all_delay_offset(addr, broker.store.max_phys()).await?;
    if broker.delays.has(&table) {
        return Ok(());
    }
    // Asked after the table: what that calls delivered lies before this end.
    let end = log_end(broker, addr).await?.unwrap_or(0);
    if broker.delays.adopt(addr, table, end, broker.store.max_phys()) {
        persist::apart(|| broker.delays.save())?;
    }
    Ok(())
}

/// End of the master's log, where it tells it.
pub async fn log_end(broker: &Broker, addr: &str) -> Result<Option<i64>, SyncError> {
    Ok(log_range(broker, addr).await?.map(|range| range.end))
}

/// What the master's log holds, where it tells it.
pub async fn log_range(broker: &Broker, addr: &str) -> Result<Option<Range<i64>>, SyncError> {
    Ok(range_of(&broker.api.runtime_info(addr).await?))
}

/// The same, and the topics that the master knows as deleted while records of theirs are in its log, each with the end of
/// the log at that time.
pub async fn log_and_deleted(
    broker: &Broker,
    addr: &str,
) -> Result<(Option<Range<i64>>, BTreeMap<String, i64>), SyncError> {
    let info = broker.api.runtime_info_for_slave(addr, broker.store.max_phys()).await?;
    let lines = info.table.get(client::DELETED_TOPICS).map_or("", String::as_str).lines();
    let deleted = lines.filter_map(|line| {
        let (end, topic) = line.split_once(' ')?;
        Some((topic.to_owned(), end.parse().ok()?))
    });
    Ok((range_of(&info), deleted.collect()))
}

fn range_of(info: &KvTable) -> Option<Range<i64>> {
    let offset = |key: &str| info.table.get(key).and_then(|offset| offset.parse::<i64>().ok());
    offset("commitLogMaxOffset").map(|end| offset("commitLogMinOffset").unwrap_or(end)..end)
}

async fn groups(broker: &Arc<Broker>, addr: &str) -> Result<(), SyncError> {
    let table = broker.api.get_all_subscription_group(addr).await?;
    Ok(broker.groups.adopt(table)?)
}

/// A master of before 5.0 knows no request modes, and so has none to tell.
pub(crate) async fn request_modes(broker: &Arc<Broker>, addr: &str) -> Result<(), SyncError> {
    match broker.api.get_all_message_request_mode(addr).await {
        Ok(table) => Ok(broker.request_modes.adopt(table)?),
        Err(error) if error.code() == Some(response::REQUEST_CODE_NOT_SUPPORTED) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A master without a timer answers with an error, which is no failure of the sync.
async fn timers(broker: &Arc<Broker>, addr: &str) -> Result<(), SyncError> {
    match broker.api.get_timer_metrics(addr).await {
        Ok(text) => persist::apart(|| broker.timers.adopt_metrics(&text))?,
        Err(error) if error.is_answer() => {}
        Err(error) => return Err(error.into()),
    }
    match broker.api.get_timer_check_point(addr).await {
        Ok(bytes) => {
            // Asked after it: copies of what it calls delivered lie before this end.
            let end = log_end(broker, addr).await?.unwrap_or(0);
            persist::apart(|| broker.timers.adopt_check_point(&broker.store, addr, &bytes, end));
        }
        Err(error) if error.is_answer() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
