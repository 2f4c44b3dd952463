//! A graceful stop (`enableShutdownGracefully`): for `shutdownWaitTimeSeconds` clients that understand it are told to go
//! away, others are served as ever. Source: `NettyRemotingAbstract.java`, `NettyRemotingServer.java`; reference remoting 6.
//!
//! Unlike upstream's, requests that want no answer are carried out (nobody would repeat them), slaves get the tables to the
//! end, and it is over when nobody is connected any more.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use remoting::{Connection, Server};
use tokio::time::Instant;
use wire::{Command, code::request};

use crate::{context::Broker, register};

const LOOK: Duration = Duration::from_millis(100);

/// Answers what shall go elsewhere; false for what is to be served.
pub fn send_away(conn: &Connection, command: &Command) -> bool {
    match command.go_away().filter(|_| !is_of_a_slave(command.code)) {
        Some(answer) => {
            conn.reply(answer);
            true
        }
        None => false,
    }
}

fn is_of_a_slave(code: i32) -> bool {
    matches!(
        code,
        request::GET_ALL_TOPIC_CONFIG
            | request::GET_ALL_CONSUMER_OFFSET
            | request::GET_ALL_DELAY_OFFSET
            | request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG
            | request::GET_ALL_MESSAGE_REQUEST_MODE
            | request::GET_TIMER_METRICS
            | request::GET_TIMER_CHECK_POINT
            | request::GET_BROKER_RUNTIME_INFO
            | request::GET_MAX_OFFSET
    )
}

/// Sends clients away until nobody is connected, or for as long as is configured.
pub async fn leave(broker: &Arc<Broker>, servers: &[Server]) {
    let limit = Duration::from_secs(broker.config().shutdown_wait_time_seconds);
    tracing::info!(
        "clients are sent away for up to {} s (enableShutdownGracefully), then the broker stops",
        limit.as_secs()
    );
    broker.leaving.store(true, Ordering::Release);
    register::unregister_all(broker).await;
    broker.holds.wake_all(broker);
    let end = Instant::now() + limit;
    while Instant::now() < end && servers.iter().any(|server| !server.connections().is_empty()) {
        tokio::time::sleep(LOOK).await;
    }
}
