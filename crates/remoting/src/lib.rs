//! Async server and client for remoting frames: many requests in flight on one connection, in both directions, with
//! back-pressure, idle close and a graceful stop.
//!
//! This crate knows no request code and no header field. It moves [`wire::Command`]s: what they ask and what is
//! answered is decided by a [`Service`]. It never blocks a thread, never reads the wall clock (but for the dates of
//! certificates), and never holds more for a peer than its configuration says.

mod client;
mod config;
mod connection;
mod driver;
mod error;
mod inbound;
mod leaving;
mod line_limit;
mod outbound;
mod pending;
mod preface;
mod requests;
mod server;
mod stream;
pub mod tls;

use std::sync::Arc;

pub use client::Client;
pub use config::{ClientConfig, ServerConfig};
pub use connection::{Connection, NOT_TAKEN};
pub use error::RemotingError;
pub use leaving::Leaving;
pub use line_limit::{LeftOut, LineLimit};
pub use requests::Requests;
pub use server::Server;
pub use tls::{ClientTls, ServerTls, TlsError, TlsMode, TlsSettings};

/// What answers requests: the broker, the name server, or the part of a client that its server may call.
pub trait Service: Send + Sync + 'static {
    /// The requests of one socket read, perhaps none. Runs on the connection's task and must not block. Answers go through
    /// [`Connection::reply`], now or later, from anywhere; each request that is not one-way must get one. What is left in
    /// `requests` is dropped.
    fn on_requests(&self, conn: &Arc<Connection>, requests: &mut Requests<'_>);

    /// A connection is there. On a server it is called once the first bytes showed what the peer speaks.
    fn on_open(&self, _conn: &Arc<Connection>) {}

    /// A connection is gone; called once for each [`Service::on_open`].
    fn on_close(&self, _conn: &Arc<Connection>) {}
}
