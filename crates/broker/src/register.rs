//! Registration at the name servers: at start, periodically, and soon after a topic changed.
//! Source: `broker/.../BrokerController.java`, `out/BrokerOuterAPI.java`; reference broker 13.1.
//!
//! No request waits for a name server (F-10): a change only rings here. Each server is served on its own, so a dead
//! one delays nobody.

use std::{collections::HashMap, sync::Arc, time::Duration};

use client::Registration;
use parking_lot::{Mutex, RwLock};
use tokio::{sync::Notify, time::Instant};
use wire::{
    body::{RegisterBrokerBody, TopicConfig},
    topic::perm,
};

use crate::{config::BrokerConfig, context::Broker};

const FIRST_LIMIT: Duration = Duration::from_secs(3);
/// How often it is looked whether a registration is due.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is said of a name server that it does not answer: a slave without a master asks each second.
const SAY: Duration = Duration::from_secs(60);
/// How often a name server that did not answer is asked again: back and empty, it leads nobody anywhere.
const AGAIN: Duration = Duration::from_secs(5);

/// The name servers of this broker.
pub struct Registrar {
    list: RwLock<Vec<String>>,
    bell: Notify,
    /// Name servers that did not answer the last registration, and when that was said.
    silent: Mutex<HashMap<String, Instant>>,
}

impl Registrar {
    /// From `namesrvAddr`.
    pub fn new(config: &BrokerConfig) -> Self {
        Self { list: RwLock::new(split(&config.namesrv_addr)), bell: Notify::new(), silent: Mutex::default() }
    }

    /// Addresses of the name servers.
    pub fn namesrv_list(&self) -> Vec<String> {
        self.list.read().clone()
    }

    /// Takes a new list; answers the servers that are no longer in it.
    pub fn set_list(&self, namesrv_addr: &str) -> Vec<String> {
        let new = split(namesrv_addr);
        let old = std::mem::replace(&mut *self.list.write(), new.clone());
        self.silent.lock().retain(|server, _| new.contains(server));
        self.changed();
        old.into_iter().filter(|server| !new.contains(server)).collect()
    }

    /// Name servers that did not answer when they were asked last.
    fn silent(&self) -> Vec<String> {
        let list = self.list.read();
        self.silent.lock().keys().filter(|server| list.contains(server)).cloned().collect()
    }

    /// A name server answered; true when it had not before.
    fn answered(&self, server: &str) -> bool {
        self.silent.lock().remove(server).is_some()
    }

    /// A name server did not answer; true when it is time to say so.
    fn failed(&self, server: &str, now: Instant) -> bool {
        let mut silent = self.silent.lock();
        let is_due = silent.get(server).is_none_or(|said| now.duration_since(*said) >= SAY);
        if is_due {
            silent.insert(server.to_owned(), now);
        }
        is_due
    }

    /// Something that clients or other brokers see has changed: register soon.
    pub fn changed(&self) {
        self.bell.notify_one();
    }
}

fn split(list: &str) -> Vec<String> {
    list.split(';').map(str::trim).filter(|server| !server.is_empty()).map(str::to_owned).collect()
}

/// Registers until the broker stops.
pub async fn run(broker: Arc<Broker>) {
    let (mut last, mut last_silent) = (Instant::now(), Instant::now());
    while !broker.is_stopping() {
        let is_called = tokio::select! {
            // The period may become shorter meanwhile.
            () = tokio::time::sleep(LOOK) => false,
            () = broker.registrar.bell.notified() => true,
        };
        if is_called || last.elapsed() >= period(&broker) {
            (last, last_silent) = (Instant::now(), Instant::now());
            register_at_each(&broker, broker.registrar.namesrv_list());
        } else if last_silent.elapsed() >= AGAIN {
            last_silent = Instant::now();
            register_at_each(&broker, broker.registrar.silent());
        }
    }
}

/// A slave that does not know its master asks each second: the master may have started after it. One whose master does
/// not answer asks every few seconds: another broker may be it now.
fn period(broker: &Broker) -> Duration {
    let config = broker.config();
    if !config.is_master() && broker.sync.master_addr().is_none() {
        return LOOK;
    }
    if !config.is_master() && broker.sync.is_failing() {
        return Duration::from_secs(5);
    }
    Duration::from_millis(config.register_name_server_period.clamp(10_000, 60_000))
}

/// Starts one registration at each of these name servers and waits for none. None, once the broker leaves.
fn register_at_each(broker: &Arc<Broker>, servers: Vec<String>) {
    if broker.is_leaving() {
        return;
    }
    for server in servers {
        let broker = broker.clone();
        tokio::spawn(async move {
            let limit = Duration::from_millis(broker.config().register_broker_timeout_mills);
            register_at(&broker, &server, limit).await;
        });
    }
}

/// The registration at start: waits until one server answered, or for 3 s.
pub async fn register_first(broker: &Arc<Broker>) {
    let servers = broker.registrar.namesrv_list();
    if servers.is_empty() {
        tracing::warn!("no name server is configured (namesrvAddr): clients will not find this broker");
        return;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for server in servers {
        let broker = broker.clone();
        tasks.spawn(async move { register_at(&broker, &server, FIRST_LIMIT).await });
    }
    while let Some(done) = tasks.join_next().await {
        if done.unwrap_or(false) {
            break;
        }
    }
    tasks.detach_all();
}

async fn register_at(broker: &Arc<Broker>, server: &str, limit: Duration) -> bool {
    let config = broker.config();
    let registration = registration(broker, &config);
    match broker.api.register_broker(server, &registration, limit).await {
        Ok(answer) => {
            if broker.registrar.answered(server) {
                tracing::info!("registration at name server {server} works again");
            }
            if !config.is_master() {
                broker.sync.learned(&config, answer.master_addr, answer.ha_server_addr);
            }
            true
        }
        Err(error) => {
            if broker.registrar.failed(server, Instant::now()) {
                tracing::warn!("registration at name server {server} failed, it is tried again: {error}");
            }
            false
        }
    }
}

fn registration(broker: &Broker, config: &BrokerConfig) -> Registration {
    let mut wrapper = broker.topics.snapshot();
    let restricted = config.broker_permission & perm::READ_WRITE != perm::READ_WRITE;
    if restricted {
        let limit = |topic: &mut TopicConfig| topic.perm &= config.broker_permission;
        wrapper.topic_config_table.values_mut().for_each(limit);
    }
    Registration {
        cluster_name: config.broker_cluster_name.clone(),
        broker_name: config.broker_name.clone(),
        broker_id: config.broker_id,
        broker_addr: config.broker_addr(),
        ha_server_addr: config.ha_addr(),
        body: RegisterBrokerBody { topic_config_serialize_wrapper: wrapper, ..RegisterBrokerBody::default() },
    }
}

/// Tells every name server that this broker goes.
pub async fn unregister_all(broker: &Arc<Broker>) {
    unregister(broker, broker.registrar.namesrv_list()).await;
}

/// Tells some name servers that this broker goes.
pub async fn unregister(broker: &Arc<Broker>, servers: Vec<String>) {
    let config = broker.config();
    let mut tasks = tokio::task::JoinSet::new();
    for server in servers {
        let (broker, config) = (broker.clone(), config.clone());
        tasks.spawn(async move {
            let registration = registration(&broker, &config);
            if let Err(error) = broker.api.unregister_broker(&server, &registration, FIRST_LIMIT).await {
                tracing::warn!("name server {server} was not told that this broker goes: {error}");
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_that_stays_silent_is_told_of_once_a_minute() {
        let registrar = Registrar::new(&BrokerConfig::default());
        let start = Instant::now();
        let said = (0..121).filter(|second| registrar.failed("a:1", start + Duration::from_secs(*second))).count();
        assert_eq!(said, 3, "a slave without a master asks each second");
        assert!(registrar.failed("b:1", start), "another one");
        assert!(registrar.answered("a:1") && !registrar.answered("a:1"));
        assert!(registrar.failed("a:1", start), "it was there meanwhile");
    }
}
