//! A server that is about to stop: which connections were there when that began. What their peers are told, and who is
//! served nevertheless, is decided by the [`Service`](crate::Service).
//!
//! Only those connections are told, never one that came later. Java clients of 5.5.0 that are sent away from a new
//! connection, too, lose a call now and then: while one call waits for the new connection the next opens a third one,
//! and the first is written to that before it is open, where no error reaches its caller (`NettyRemotingClient.java`,
//! `invokeImpl`).

use std::{collections::HashSet, sync::OnceLock};

use crate::{Connection, Server};

/// Has not begun until [`Leaving::begin`].
#[derive(Debug, Default)]
pub struct Leaving(OnceLock<HashSet<u64>>);

impl Leaving {
    /// From now on the present connections of `servers` are to be told. Without effect when it has begun.
    pub fn begin<'a>(&self, servers: impl IntoIterator<Item = &'a Server>) {
        self.0.get_or_init(|| servers.into_iter().flat_map(Server::connections).map(|conn| conn.id()).collect());
    }

    /// True since [`Leaving::begin`].
    pub fn has_begun(&self) -> bool {
        self.0.get().is_some()
    }

    /// True for a connection that is to be told.
    pub fn concerns(&self, conn: &Connection) -> bool {
        self.0.get().is_some_and(|present| present.contains(&conn.id()))
    }
}
