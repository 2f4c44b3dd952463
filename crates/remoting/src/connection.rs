//! One connection, as both sides see it: requests go out and come in, answers too. Its socket belongs to the
//! connection's task ([`crate::driver`]); this is the handle that everyone else holds.

use std::{
    any::Any,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;
use wire::Command;

use crate::{
    RemotingError,
    outbound::{Outbound, Stage},
    pending::{Pending, Refused, next_opaque},
};

/// Remark of what [`Connection::reply_or_short`] gives in place of a long answer.
pub const NOT_TAKEN: &str = "earlier answers to this client wait to be read: ask again";

/// Bytes of a body that is sent whatever waits.
const LONG_BODY: usize = 4096;

/// While this many requests of a peer have no answer, nothing more is read from it.
pub(crate) const MAX_UNANSWERED: usize = 65_536;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A connection to a peer. Cheap to hold; keeps no socket open by itself.
pub struct Connection {
    id: u64,
    peer: SocketAddr,
    local: SocketAddr,
    /// The source address of a PROXY header.
    proxied: OnceLock<SocketAddr>,
    high_water: usize,
    pub(crate) outbound: Outbound,
    pub(crate) pending: Pending,
    unanswered: AtomicUsize,
    close_reason: OnceLock<String>,
    extension: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Connection {
    pub(crate) fn new(peer: SocketAddr, local: SocketAddr, high_water: usize) -> Arc<Self> {
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            peer,
            local,
            proxied: OnceLock::new(),
            high_water,
            outbound: Outbound::new(),
            pending: Pending::default(),
            unanswered: AtomicUsize::new(0),
            close_reason: OnceLock::new(),
            extension: OnceLock::new(),
        })
    }

    /// Unique in this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The address at the other end of the socket.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The peer for logs and listings: the source address of a PROXY header where one came, else [`Self::peer`].
    pub fn display_peer(&self) -> SocketAddr {
        self.proxied.get().copied().unwrap_or(self.peer)
    }

    /// Our end of the socket.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// False once it is closing.
    pub fn is_open(&self) -> bool {
        self.outbound.stage() == Stage::Open
    }

    /// Closes after one attempt to write what is queued. Requests in flight fail with `why`; the first reason counts.
    pub fn close(&self, why: &str) {
        self.set_close_reason(why);
        self.outbound.advance(Stage::Closing);
    }

    /// Reads nothing more, and closes once everything read is answered and written.
    pub(crate) fn drain(&self, why: &str) {
        self.set_close_reason(why);
        self.outbound.advance(Stage::Draining);
    }

    pub(crate) fn set_close_reason(&self, why: &str) {
        self.close_reason.get_or_init(|| why.to_owned());
    }

    /// Why it closed or is closing.
    pub fn close_reason(&self) -> Option<&str> {
        self.close_reason.get().map(String::as_str)
    }

    pub(crate) fn set_proxied(&self, source: SocketAddr) {
        self.proxied.get_or_init(|| source);
    }

    /// Queues an answer. Its head is encoded at once; the body is written from where it is. Whether the request wants
    /// an answer (one-way) is for the caller to know. Dropped when the connection is gone.
    pub fn reply(&self, mut response: Command) {
        let body = std::mem::take(&mut response.body);
        self.outbound.push(&response, body);
        self.answered(1);
    }

    /// Queues so many answers at once: `write` puts their frames behind each other.
    pub fn reply_written(&self, answers: usize, write: impl FnOnce(&mut BytesMut)) {
        self.outbound.push_written(write);
        self.answered(answers);
    }

    /// Queues an answer, or where its body is long and the peer does not take what waits for it already, `short` in its place:
    /// tables and messages for a client that reads nothing would pile up here.
    pub fn reply_or_short(&self, answer: Command, short: impl FnOnce() -> Command) {
        let is_too_much = answer.body.len() > LONG_BODY && self.is_congested();
        self.reply(if is_too_much { short() } else { answer });
    }

    /// Queues an answer whose body comes in parts; `head.body` is ignored.
    pub fn reply_parts(&self, head: &Command, body: Vec<Bytes>) {
        self.outbound.push_parts(head, body);
        self.answered(1);
    }

    /// Sends a request and waits for its answer. Sets its opaque. Fails at once when the connection closes.
    pub async fn invoke(&self, mut request: Command, limit: Duration) -> Result<Command, RemotingError> {
        if self.is_congested() {
            return Err(self.overloaded());
        }
        let (opaque, answer) = match self.pending.register() {
            Ok(registered) => registered,
            Err(Refused::Closed) => return Err(self.closed()),
            Err(Refused::Full) => return Err(self.overloaded()),
        };
        let _entry = Entry { conn: self, opaque };
        request.opaque = opaque;
        let body = std::mem::take(&mut request.body);
        if !self.outbound.push(&request, body) {
            return Err(self.closed());
        }
        match timeout(limit, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(self.closed()),
            Err(_) => Err(RemotingError::Timeout { addr: self.peer.to_string(), after: limit }),
        }
    }

    /// Sends a request that wants no answer. Sets its opaque and its one-way flag. Dropped, and false, when the
    /// connection is gone or its peer does not take what is queued already.
    pub fn send_oneway(&self, mut request: Command) -> bool {
        if self.is_congested() {
            return false;
        }
        request.opaque = next_opaque();
        request.mark_oneway();
        let body = std::mem::take(&mut request.body);
        self.outbound.push(&request, body)
    }

    /// Bytes queued for the peer that the kernel has not taken.
    pub fn queued_bytes(&self) -> usize {
        self.outbound.queued_bytes()
    }

    /// True while the peer does not take what is queued for it: nothing more is read from it, and who has an answer of any
    /// length for it gives a short one.
    pub fn is_congested(&self) -> bool {
        self.outbound.queued_bytes() > self.high_water
    }

    /// Requests read from the peer that have no answer yet.
    pub fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Acquire)
    }

    /// Stores the service's state for this connection; false when there is one already.
    pub fn set_extension<T: Any + Send + Sync>(&self, state: T) -> bool {
        self.extension.set(Box::new(state)).is_ok()
    }

    /// The service's state for this connection, when it is of this type.
    pub fn extension<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.extension.get().and_then(|state| state.downcast_ref())
    }

    /// The same, made by `make` when there is none; `None` only when state of another type is there.
    pub fn extension_or_init<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.extension.get_or_init(|| Box::new(make())).downcast_ref()
    }

    /// Counts a request as done that gets no answer because this side closes the connection: closing waits for the others
    /// alone.
    pub fn leave_unanswered(&self) {
        self.answered(1);
    }

    pub(crate) fn received(&self, requests: usize) {
        self.unanswered.fetch_add(requests, Ordering::Relaxed);
    }

    /// Counts answers. Never below zero: an answer to a one-way request was not counted when it came.
    fn answered(&self, answers: usize) {
        let fewer = |count: usize| (count > 0).then(|| count.saturating_sub(answers));
        let Ok(before) = self.unanswered.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer) else { return };
        let may_read_again = before >= MAX_UNANSWERED && before < MAX_UNANSWERED.saturating_add(answers);
        if may_read_again || (before <= answers && self.outbound.stage() == Stage::Draining) {
            self.outbound.nudge();
        }
    }

    fn closed(&self) -> RemotingError {
        let why = self.close_reason().unwrap_or("closing").to_owned();
        RemotingError::Closed { addr: self.peer.to_string(), why }
    }

    fn overloaded(&self) -> RemotingError {
        let (queued, waiting) = (self.outbound.queued_bytes(), self.pending.len());
        RemotingError::Overloaded { addr: self.peer.to_string(), queued, waiting }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({} {})", self.id, self.display_peer())
    }
}

/// Takes a request off the table when its caller stops waiting, by time-out or by being dropped.
struct Entry<'a> {
    conn: &'a Connection,
    opaque: i32,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.conn.pending.forget(self.opaque);
    }
}
