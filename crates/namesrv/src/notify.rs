//! Tells brokers that the smallest id of their group changed (NOTIFY_MIN_BROKER_ID_CHANGE, one-way).
//! Source: `RouteInfoManager.notifyMinBrokerIdChanged`; reference namesrv 1.8.
//!
//! Notices go out in their order, each to all its recipients at a time. Never makes a request wait: a broker that does
//! not answer delays later notices by [`TIMEOUT`], and brokers ask for their group every second anyway.

use std::{sync::Arc, time::Duration};

use remoting::Client;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinSet,
};
use wire::{Command, code::request};

use crate::routes::Notice;

/// How long sending to one broker may take, connecting included.
pub const TIMEOUT: Duration = Duration::from_millis(300);

/// Notices that may wait; further ones are dropped.
const MAX_WAITING: usize = 1024;

/// Takes notices.
#[derive(Clone, Debug)]
pub struct Notifier {
    queue: mpsc::Sender<Notice>,
}

impl Notifier {
    /// A notifier, and what sends its notices until it is dropped.
    pub fn new(client: Arc<Client>) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        (Self { queue }, send_all(client, waiting))
    }

    /// Queues a notice.
    pub fn tell(&self, notice: Notice) {
        if let Err(TrySendError::Full(notice)) = self.queue.try_send(notice) {
            tracing::warn!("too many notices are waiting, one for {:?} is dropped", notice.recipients);
        }
    }
}

async fn send_all(client: Arc<Client>, mut waiting: mpsc::Receiver<Notice>) {
    while let Some(notice) = waiting.recv().await {
        let smallest = notice.header.min_broker_addr.as_deref().unwrap_or_default();
        tracing::info!("the smallest id is at {smallest} now, telling {:?}", notice.recipients);
        let command = Command::request_with(request::NOTIFY_MIN_BROKER_ID_CHANGE, &notice.header);
        let mut sends = JoinSet::new();
        for addr in notice.recipients {
            sends.spawn(send(client.clone(), addr, command.clone()));
        }
        sends.join_all().await;
    }
}

async fn send(client: Arc<Client>, addr: String, command: Command) {
    if let Err(error) = client.oneway(&addr, command, TIMEOUT).await {
        tracing::warn!("cannot tell {addr} of its new smallest id: {error}");
    }
}
