//! The limits of servers, clients and their connections.

use std::time::Duration;

use crate::{ClientTls, ServerTls};

const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// A time that does not come, and that no clock overflows by: ten years.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

const OUTBOUND_HIGH_WATER: usize = 8 * 1024 * 1024;
const READ_BUFFER: usize = 128 * 1024;

/// Limits of a [`crate::Server`].
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Longest frame, its length word included, in bytes.
    pub max_frame: usize,
    /// A connection without a read and a write for this long is closed; zero: none is, as with Java's key.
    pub idle_timeout: Duration,
    /// Further connections are closed as soon as they are accepted.
    pub max_connections: usize,
    /// While more outbound bytes than this are queued, nothing is read from the peer.
    pub outbound_high_water: usize,
    /// The most that one socket read takes, in bytes.
    pub read_buffer: usize,
    /// What a connection may begin with; by default nothing but frames.
    pub tls: ServerTls,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            max_frame: wire::frame::MAX_FRAME,
            idle_timeout: IDLE_TIMEOUT,
            max_connections: 20_000,
            outbound_high_water: OUTBOUND_HIGH_WATER,
            read_buffer: READ_BUFFER,
            tls: ServerTls::disabled(),
        }
    }
}

/// Limits of a [`crate::Client`].
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// How long name resolution, TCP connect and TLS handshake may take together.
    pub connect_timeout: Duration,
    /// Longest frame, its length word included, in bytes.
    pub max_frame: usize,
    /// A connection without a read and a write for this long is closed, and the next use opens another; zero: none is.
    pub idle_timeout: Duration,
    /// While more outbound bytes than this are queued, nothing is read, and new requests are refused.
    pub outbound_high_water: usize,
    /// The most that one socket read takes, in bytes.
    pub read_buffer: usize,
    /// How to speak TLS; plain without it.
    pub tls: Option<ClientTls>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            max_frame: wire::frame::MAX_FRAME,
            idle_timeout: IDLE_TIMEOUT,
            outbound_high_water: OUTBOUND_HIGH_WATER,
            read_buffer: READ_BUFFER,
            tls: None,
        }
    }
}

/// What a single connection must know of either.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub max_frame: usize,
    pub idle_timeout: Duration,
    pub read_buffer: usize,
}

impl Limits {
    fn new(max_frame: usize, idle_timeout: Duration, read_buffer: usize) -> Self {
        let idle_timeout = if idle_timeout.is_zero() { NEVER } else { idle_timeout.min(NEVER) };
        Self { max_frame, idle_timeout, read_buffer }
    }
}

impl From<&ServerConfig> for Limits {
    fn from(config: &ServerConfig) -> Self {
        Self::new(config.max_frame, config.idle_timeout, config.read_buffer)
    }
}

impl From<&ClientConfig> for Limits {
    fn from(config: &ClientConfig) -> Self {
        Self::new(config.max_frame, config.idle_timeout, config.read_buffer)
    }
}
