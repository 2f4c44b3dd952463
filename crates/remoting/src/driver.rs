//! The task of one connection: it alone reads and writes the socket. Reads what is there, hands the requests on,
//! writes what was answered meanwhile in one call, and sleeps until bytes, answers or the idle timer come.
//!
//! It never closes on a request it has read: the idle timer looks for unanswered requests and for bytes that the
//! kernel holds already.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_rustls::TlsStream;
use tracing::{debug, warn};
use wire::frame::FrameError;

use crate::{
    Connection, LineLimit, ServerTls, Service, TlsMode,
    config::Limits,
    connection::MAX_UNANSWERED,
    inbound::Inbound,
    outbound::{self, Stage},
    preface::{self, Preface},
    requests::{End, Requests},
    stream::{Replayed, Stream},
};

/// A request without an answer keeps an idle connection open for this long, or for the idle time-out if that is more:
/// longer than any long poll, short enough to be rid of peers that vanished.
const ABANDONED: Duration = Duration::from_secs(600);

/// How long a drained connection waits for its peer to close too, so that the last answers are not reset away.
const LINGER: Duration = Duration::from_millis(200);

/// Connections that end loudly; each that some scanner opens would be one.
static LOUD: LineLimit = LineLimit::new(20);

/// Which first bytes are possible.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// A PROXY header, TLS or frames.
    Anything,
    /// TLS or frames.
    AfterProxy,
    /// The rest of a TLS handshake that began.
    Handshake,
    /// Frames.
    Frames,
}

pub(crate) struct Driver {
    stream: Stream,
    conn: Arc<Connection>,
    service: Option<Arc<dyn Service>>,
    limits: Limits,
    tls: ServerTls,
    expect: Expect,
    opened: bool,
    inbound: Inbound,
    /// Bytes are left that may hold whole frames.
    has_backlog: bool,
    writing: VecDeque<Bytes>,
    /// TLS holds bytes that the socket did not take yet.
    is_unflushed: bool,
    last_activity: Instant,
    idle: Pin<Box<Sleep>>,
}

enum Event {
    Read(usize),
    Backlog,
    IdleCheck,
    Finished,
    Failed(io::Error),
}

/// Why the task ends.
struct Ending {
    why: String,
    loud: bool,
}

impl Ending {
    fn quiet(why: impl Into<String>) -> Self {
        Self { why: why.into(), loud: false }
    }

    fn loud(why: impl Into<String>) -> Self {
        Self { why: why.into(), loud: true }
    }
}

impl From<FrameError> for Ending {
    fn from(error: FrameError) -> Self {
        Self::loud(format!("bad frame: {error}"))
    }
}

impl Driver {
    /// `tls` is what an accepted connection may begin with; without it frames begin at once.
    pub fn new(
        stream: Stream,
        conn: Arc<Connection>,
        service: Option<Arc<dyn Service>>,
        limits: Limits,
        tls: Option<ServerTls>,
    ) -> Self {
        let now = Instant::now();
        Self {
            stream,
            conn,
            service,
            limits,
            expect: if tls.is_some() { Expect::Anything } else { Expect::Frames },
            tls: tls.unwrap_or_else(ServerTls::disabled),
            opened: false,
            inbound: Inbound::new(limits.max_frame, limits.read_buffer),
            has_backlog: false,
            writing: VecDeque::new(),
            is_unflushed: false,
            last_activity: now,
            idle: Box::pin(sleep_until(now + limits.idle_timeout)),
        }
    }

    /// Runs until the connection is gone.
    pub async fn run(mut self) {
        if self.expect == Expect::Frames {
            self.open();
        }
        let ending = loop {
            let event = poll_fn(|cx| self.poll_event(cx)).await;
            self.conn.outbound.awake();
            if let Err(ending) = self.on_event(event) {
                break ending;
            }
            if self.expect == Expect::Handshake
                && let Err(ending) = self.shake_hands().await
            {
                break ending;
            }
        };
        self.finish(ending).await;
    }

    fn open(&mut self) {
        self.opened = true;
        if let Some(service) = &self.service {
            service.on_open(&self.conn);
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            // Before the queue is looked at: an answer is queued first and counted then.
            let unanswered = self.conn.unanswered();
            let stage = match self.poll_write(cx) {
                Ok(stage) => stage,
                Err(error) => return Poll::Ready(Event::Failed(error)),
            };
            if self.is_finished(stage, unanswered == 0) {
                return Poll::Ready(Event::Finished);
            }
            if self.may_read(stage, unanswered)
                && let Poll::Ready(event) = self.poll_input(cx)
            {
                return Poll::Ready(event);
            }
            if self.idle.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::IdleCheck);
            }
            // Looked at once more: whoever counted an answer before this task sleeps has woken nobody.
            let waits_for_answers = stage == Stage::Draining || unanswered >= MAX_UNANSWERED;
            if self.conn.outbound.sleep(cx.waker(), stage)
                && !(waits_for_answers && self.conn.unanswered() < unanswered)
            {
                self.inbound.relax();
                return Poll::Pending;
            }
        }
    }

    fn is_finished(&self, stage: Stage, all_answered: bool) -> bool {
        match stage {
            Stage::Open => false,
            Stage::Draining => all_answered && self.writing.is_empty() && !self.is_unflushed,
            Stage::Closing | Stage::Closed => true,
        }
    }

    fn may_read(&self, stage: Stage, unanswered: usize) -> bool {
        stage == Stage::Open && !self.conn.is_congested() && unanswered < MAX_UNANSWERED
    }

    /// Writes until nothing is left or the socket is full.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<Stage> {
        loop {
            let stage = self.conn.outbound.take(&mut self.writing);
            if self.writing.is_empty() {
                return self.poll_flush(cx).map(|()| stage);
            }
            let mut slices = outbound::empty_slices();
            let count = outbound::slices(&self.writing, &mut slices);
            match Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count]) {
                Poll::Pending => return Ok(stage),
                Poll::Ready(written) => self.wrote(written?)?,
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.is_unflushed = flushed.is_pending();
        match flushed {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }

    fn wrote(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        outbound::consume(&mut self.writing, written);
        self.conn.outbound.written(written);
        self.last_activity = Instant::now();
        Ok(())
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.has_backlog { Poll::Ready(Event::Backlog) } else { self.poll_read(cx) }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        // Asked first, so that a connection without bytes needs no buffer.
        match self.stream.poll_read_ready(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Event::Failed(error)),
            Poll::Ready(Ok(())) => {}
        }
        let mut room = bytes::BufMut::limit(&mut *self.inbound.room(), self.limits.read_buffer);
        let read = pin!(self.stream.read_buf(&mut room)).poll(cx);
        read.map(|read| read.map_or_else(Event::Failed, Event::Read))
    }

    fn on_event(&mut self, event: Event) -> Result<(), Ending> {
        match event {
            Event::Read(0) => Err(Ending::quiet("closed by the peer")),
            Event::Read(count) => self.on_read(count),
            Event::Backlog => self.process(),
            Event::IdleCheck => self.on_idle_check(),
            Event::Finished => Err(Ending::quiet("closed here")),
            Event::Failed(error) => Err(Ending::quiet(error.to_string())),
        }
    }

    fn on_read(&mut self, count: usize) -> Result<(), Ending> {
        self.last_activity = Instant::now();
        self.inbound.adapt(count);
        while self.expect != Expect::Frames {
            if !self.pass_preface()? {
                return Ok(());
            }
        }
        self.process()
    }

    /// What was read before a bad frame is served all the same.
    fn process(&mut self) -> Result<(), Ending> {
        let mut requests = Requests::new(&mut self.inbound, &self.conn);
        match &self.service {
            Some(service) => service.on_requests(&self.conn, &mut requests),
            // Nobody will answer: that must not keep the connection open.
            None => requests.by_ref().filter(|one| !one.is_oneway()).for_each(|_| self.conn.leave_unanswered()),
        }
        let end = requests.finish();
        self.has_backlog = matches!(end, End::Part);
        match end {
            End::Bad(error) => Err(error.into()),
            End::Read | End::Part => Ok(()),
        }
    }

    /// Takes one step through the first bytes; false when more are needed.
    fn pass_preface(&mut self) -> Result<bool, Ending> {
        let bytes = self.inbound.bytes();
        let found = if self.expect == Expect::Anything { preface::look(bytes) } else { preface::after_proxy(bytes) };
        match found {
            Preface::More => return Ok(false),
            Preface::Tls if self.tls.mode() == TlsMode::Disabled => {
                return Err(Ending::loud("TLS, and tls.server.mode=disabled serves plain connections only"));
            }
            Preface::Tls => {
                self.expect = Expect::Handshake;
                return Ok(false);
            }
            Preface::Bad(why) => return Err(Ending::loud(why)),
            Preface::Proxy { length, source } => {
                self.inbound.skip(length);
                self.expect = Expect::AfterProxy;
                source.into_iter().for_each(|source| self.conn.set_proxied(source));
            }
            Preface::Plain if self.tls.mode() == TlsMode::Enforcing => {
                return Err(Ending::loud("no TLS, and tls.server.mode=enforcing serves nothing else"));
            }
            Preface::Plain => {
                self.expect = Expect::Frames;
                self.open();
            }
        }
        Ok(true)
    }

    /// The handshake that the first byte announced; given up when the connection is to close.
    async fn shake_hands(&mut self) -> Result<(), Ending> {
        let Some(socket) = self.stream.take_plain() else { return Err(Ending::quiet("no socket")) };
        let begun = Replayed::new(self.inbound.take(), socket);
        let tls = self.tls.clone();
        // In a box, so that plain connections keep their small task.
        let mut handshake = Box::pin(async move { tls.accept(begun).await });
        let done = poll_fn(|cx| match handshake.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.conn.outbound.sleep(cx.waker(), Stage::Open) => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
        });
        match done.await {
            Some(Ok(stream)) => self.stream = Stream::Tls(Box::new(TlsStream::Server(stream))),
            Some(Err(error)) => return Err(Ending::loud(error.to_string())),
            None => return Err(Ending::quiet("closed here")),
        }
        self.conn.outbound.awake();
        self.last_activity = Instant::now();
        self.expect = Expect::Frames;
        self.open();
        Ok(())
    }

    fn on_idle_check(&mut self) -> Result<(), Ending> {
        let now = Instant::now();
        let due = self.last_activity + self.limits.idle_timeout;
        if now < due {
            self.idle.as_mut().reset(due);
            return Ok(());
        }
        self.inbound.rest();
        if !self.writing.is_empty() || self.is_unflushed {
            return Err(Ending::loud(format!("takes no bytes, {} are queued", self.conn.queued_bytes())));
        }
        let is_busy = self.conn.unanswered() > 0 || self.conn.pending.len() > 0;
        let is_abandoned = now >= self.last_activity + ABANDONED.max(self.limits.idle_timeout);
        if (is_busy && !is_abandoned) || self.stream.holds_unread_bytes() {
            self.idle.as_mut().reset(now + self.limits.idle_timeout);
            return Ok(());
        }
        Err(Ending::quiet("idle"))
    }

    async fn finish(mut self, ending: Ending) {
        self.conn.set_close_reason(&ending.why);
        let peer = self.conn.display_peer();
        match ending.loud.then(|| LOUD.take()).flatten() {
            Some(left_out) => warn!(%peer, "closing the connection: {}{left_out}", ending.why),
            None => debug!(%peer, "closing the connection: {}", self.conn.close_reason().unwrap_or_default()),
        }
        let is_drained = self.conn.outbound.stage() == Stage::Draining;
        self.conn.outbound.advance(Stage::Closing);
        let _ = poll_fn(|cx| Poll::Ready(self.poll_write(cx))).await;
        if is_drained {
            self.linger().await;
        } else {
            // Within TLS this says goodbye, as far as the socket takes it at once.
            let _ = poll_fn(|cx| Poll::Ready(Pin::new(&mut self.stream).poll_shutdown(cx))).await;
        }
    }

    /// Says that nothing more comes, and lets the peer close first.
    async fn linger(&mut self) {
        let until_closed = async {
            let mut waste = [0; 4096];
            let mut is_open = self.stream.shutdown().await.is_ok();
            while is_open {
                is_open = matches!(self.stream.read(&mut waste).await, Ok(1..));
            }
        };
        let _ = timeout(LINGER, until_closed).await;
    }
}

/// Also when the service panicked: whoever waits must hear of it.
impl Drop for Driver {
    fn drop(&mut self) {
        self.conn.set_close_reason("the connection's task ended");
        self.conn.outbound.advance(Stage::Closed);
        self.conn.pending.close();
        if self.opened
            && let Some(service) = &self.service
        {
            service.on_close(&self.conn);
        }
    }
}
