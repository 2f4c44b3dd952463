//! Why a call to a peer failed. Each text names the peer.

use std::time::Duration;

/// Why a request got no answer.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RemotingError {
    /// No connection could be made; nothing was sent.
    #[error("cannot connect to {addr}: {why}")]
    Connect {
        /// The address asked for.
        addr: String,
        /// What the system said.
        why: String,
    },
    /// The connection closed before the answer came; the peer may have served the request.
    #[error("connection to {addr} closed before the answer: {why}")]
    Closed {
        /// The peer.
        addr: String,
        /// Why it closed.
        why: String,
    },
    /// No answer in time; the peer may have served the request.
    #[error("no answer from {addr} within {} ms", after.as_millis())]
    Timeout {
        /// The peer.
        addr: String,
        /// How long the caller waited.
        after: Duration,
    },
    /// The peer does not take what is queued for it already; nothing was sent.
    #[error("{addr} is too slow: {queued} bytes and {waiting} requests are waiting already")]
    Overloaded {
        /// The peer.
        addr: String,
        /// Outbound bytes queued.
        queued: usize,
        /// Requests without an answer.
        waiting: usize,
    },
}
