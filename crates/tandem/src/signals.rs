//! Signals. SIGINT and SIGTERM end; SIGHUP ends a foreground `up` and is ignored by the parts (F-45), so that closing
//! a terminal does not stop a cluster.

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a hang-up does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum HangUp {
    /// Ends, like SIGTERM.
    Ends,
    /// Is said and ignored.
    Ignored,
}

/// The signals of this process. Made before anything starts, so that none is missed.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Takes the signals over.
    pub fn new() -> Result<Self> {
        let take = |kind| signal(kind).context("cannot take over signals");
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
            hang_up: take(SignalKind::hangup())?,
        })
    }

    /// Waits until the process shall end.
    pub async fn end(&mut self, hang_up: HangUp) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hang_up.recv() => {
                    if hang_up == HangUp::Ends {
                        return;
                    }
                    tracing::info!("the terminal is gone (SIGHUP): this process goes on; SIGTERM stops it");
                }
            }
        }
    }
}
