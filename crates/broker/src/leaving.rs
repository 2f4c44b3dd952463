//! A graceful stop (`enableShutdownGracefully`): for `shutdownWaitTimeSeconds` clients that understand it are told to go
//! away, others are served as ever. Source: `NettyRemotingAbstract.java`, `NettyRemotingServer.java`; reference remoting 6.
//!
//! Unlike upstream's, each connection of before is sent away and none that came later ([`remoting::Leaving`] says why),
//! requests that want no answer are carried out (nobody would repeat them), slaves get bytes and tables to the end, and it
//! is over when no client is connected any more.

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use remoting::{Connection, Server};
use tokio::time::Instant;
use wire::{Command, code::request};

use crate::{context::Broker, register};

const LOOK: Duration = Duration::from_millis(100);

/// Whether a graceful stop has begun, and who asks for nothing but what slaves ask for.
#[derive(Default)]
pub struct Leaving {
    present: remoting::Leaving,
    slaves: Mutex<HashSet<u64>>,
}

impl Leaving {
    /// True once a graceful stop has begun.
    pub fn has_begun(&self) -> bool {
        self.present.has_begun()
    }

    fn heard(&self, conn: &Connection, code: i32) {
        let mut slaves = self.slaves.lock();
        match (is_of_slaves_alone(code), is_of_a_slave(code)) {
            (true, _) => slaves.insert(conn.id()),
            (false, true) => false,
            (false, false) => slaves.remove(&conn.id()),
        };
    }

    /// True while a client is connected.
    fn serves(&self, servers: &[Server]) -> bool {
        let slaves = self.slaves.lock();
        servers.iter().flat_map(Server::connections).any(|conn| !slaves.contains(&conn.id()))
    }
}

/// Answers what shall go elsewhere; false for what is to be served.
pub fn send_away(broker: &Broker, conn: &Connection, command: &Command) -> bool {
    broker.leaving.heard(conn, command.code);
    match command.go_away().filter(|_| !is_of_a_slave(command.code) && broker.leaving.present.concerns(conn)) {
        Some(answer) => {
            conn.reply(answer);
            true
        }
        None => false,
    }
}

/// Tables that clients do not ask for.
fn is_of_slaves_alone(code: i32) -> bool {
    matches!(
        code,
        request::GET_ALL_TOPIC_CONFIG
            | request::GET_ALL_CONSUMER_OFFSET
            | request::GET_ALL_DELAY_OFFSET
            | request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG
            | request::GET_ALL_MESSAGE_REQUEST_MODE
            | request::GET_TIMER_METRICS
            | request::GET_TIMER_CHECK_POINT
    )
}

/// What slaves ask for, some of which clients ask for, too.
fn is_of_a_slave(code: i32) -> bool {
    let is_shared = matches!(
        code,
        request::GET_BROKER_RUNTIME_INFO
            | request::GET_MAX_OFFSET
            | request::VIEW_MESSAGE_BY_ID
            | request::UPDATE_CONSUMER_OFFSET
    );
    is_shared || is_of_slaves_alone(code)
}

/// Sends clients away until none is connected, or for as long as is configured.
pub async fn leave(broker: &Arc<Broker>, servers: &[Server]) {
    let limit = Duration::from_secs(broker.config().shutdown_wait_time_seconds);
    tracing::info!(
        "clients are sent away for up to {} s (enableShutdownGracefully), then the broker stops",
        limit.as_secs()
    );
    broker.leaving.present.begin(servers);
    register::unregister_all(broker).await;
    broker.holds.wake_all(broker);
    let begin = Instant::now();
    while begin.elapsed() < limit && broker.leaving.serves(servers) {
        tokio::time::sleep(LOOK).await;
    }
}
