//! Listens, accepts, and keeps the connections it accepted until it is shut down.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs, lookup_host},
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};
use tracing::warn;
use wire::address;

use crate::{Connection, ServerConfig, Service, driver::Driver, stream::Stream};

const BACKLOG: u32 = 1024;

/// Pauses after a failed accept: the descriptors or the memory it lacks come back, if at all, not by asking at once.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Refused connections are logged once in this time.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What closed connections get to end their tasks after the grace is over.
const LAST_MOMENTS: Duration = Duration::from_millis(300);

/// A listening server. Dropping it closes everything at once.
pub struct Server {
    local: SocketAddr,
    inner: Arc<Inner>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    config: ServerConfig,
    service: Arc<dyn Service>,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    /// Told when a connection left.
    left: Notify,
    refused: AtomicU64,
    refusal_logged: Mutex<Option<Instant>>,
}

impl Server {
    /// Listens on `addr`, an address or `host:port` (port 0: any free port), and serves from now on.
    pub async fn bind<A>(addr: A, config: ServerConfig, service: Arc<dyn Service>) -> io::Result<Self>
    where
        A: ToSocketAddrs + std::fmt::Display,
    {
        let listener = listen_any(&addr).await?;
        let local = listener.local_addr()?;
        let inner = Arc::new(Inner {
            config,
            service,
            connections: Mutex::default(),
            left: Notify::new(),
            refused: AtomicU64::new(0),
            refusal_logged: Mutex::new(None),
        });
        let accepting = tokio::spawn(accept_all(listener, Arc::clone(&inner)));
        Ok(Self { local, inner, accepting: Mutex::new(Some(accepting)) })
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Connections at this moment.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        self.inner.connections.lock().values().cloned().collect()
    }

    /// Stops accepting and reading, lets what was read be answered and written for up to `grace`, then closes.
    pub async fn shutdown(&self, grace: Duration) {
        self.stop_accepting().await;
        self.connections().iter().for_each(|conn| conn.drain("the server stops"));
        self.wait_until_empty(grace).await;
        self.connections().iter().for_each(|conn| conn.close("the server stops"));
        self.wait_until_empty(LAST_MOMENTS).await;
    }

    /// Returns when the port is free.
    async fn stop_accepting(&self) {
        let accepting = self.accepting.lock().take();
        if let Some(accepting) = accepting {
            accepting.abort();
            let _ = accepting.await;
        }
    }

    async fn wait_until_empty(&self, limit: Duration) {
        let end = Instant::now() + limit;
        loop {
            let left = self.inner.left.notified();
            if self.inner.connections.lock().is_empty() || timeout_at(end, left).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.lock().take() {
            accepting.abort();
        }
        self.connections().iter().for_each(|conn| conn.close("the server is gone"));
    }
}

/// Listens on the first address of `addr` where that works.
async fn listen_any<A: ToSocketAddrs + std::fmt::Display>(addr: &A) -> io::Result<TcpListener> {
    let unknown = |error| io::Error::new(io::ErrorKind::InvalidInput, format!("cannot listen on {addr}: {error}"));
    let mut failure = None;
    for addr in lookup_host(addr).await.map_err(|error| unknown(error.to_string()))? {
        match listen(addr) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = failure.or(Some(explain(addr, error))),
        }
    }
    Err(failure.unwrap_or_else(|| unknown("the name has no address".to_owned())))
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

fn explain(addr: SocketAddr, error: io::Error) -> io::Error {
    let text = match error.kind() {
        io::ErrorKind::AddrInUse => format!("port {} is in use already (listening on {addr})", addr.port()),
        io::ErrorKind::PermissionDenied => format!("no permission for port {} (listening on {addr})", addr.port()),
        _ => format!("cannot listen on {addr}: {error}"),
    };
    io::Error::new(error.kind(), text)
}

async fn accept_all(listener: TcpListener, inner: Arc<Inner>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                pause = FIRST_PAUSE;
                inner.admit(stream, address::peer(peer));
            }
            Err(error) => {
                warn!("cannot accept a connection: {error}; next attempt in {} ms", pause.as_millis());
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

impl Inner {
    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        // Both fail only when the peer is gone already.
        let (Ok(local), Ok(())) = (stream.local_addr(), stream.set_nodelay(true)) else { return };
        let conn = Connection::new(peer, local, self.config.outbound_high_water);
        let mut connections = self.connections.lock();
        if connections.len() >= self.config.max_connections {
            drop(connections);
            return self.refuse(peer);
        }
        connections.insert(conn.id(), Arc::clone(&conn));
        drop(connections);
        let place = Place { inner: Arc::clone(self), id: conn.id() };
        let service = Some(Arc::clone(&self.service));
        let (limits, tls) = ((&self.config).into(), Some(self.config.tls.clone()));
        let driver = Driver::new(Stream::Plain(stream), conn, service, limits, tls);
        tokio::spawn(async move {
            let _place = place;
            driver.run().await;
        });
    }

    fn refuse(&self, peer: SocketAddr) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let now = Instant::now();
        let mut logged = self.refusal_logged.lock();
        if logged.is_none_or(|at| now >= at + REFUSAL_LOG_INTERVAL) {
            *logged = Some(now);
            let most = self.config.max_connections;
            warn!("refused the connection of {peer}: {most} are open, the most allowed; {refused} refused so far");
        }
    }
}

/// A connection's entry in the table; it goes when the task ends, however it ends.
struct Place {
    inner: Arc<Inner>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inner.connections.lock().remove(&self.id);
        self.inner.left.notify_waiters();
    }
}
