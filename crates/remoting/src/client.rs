//! One connection for each address, made on first use and again after it closed. Callers of one address wait for one
//! connect, and share its failure; an address that does not answer delays no other.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use wire::Command;

use crate::{
    ClientConfig, ClientTls, Connection, RemotingError, Service,
    driver::Driver,
    stream::{Replayed, Stream},
};

/// Above this many addresses those without an open connection are forgotten.
const MANY_ADDRESSES: usize = 256;

/// Connections to others by address text `host:port`.
pub struct Client {
    config: ClientConfig,
    service: Option<Arc<dyn Service>>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

#[derive(Default)]
struct Slot {
    current: Mutex<Option<Arc<Connection>>>,
    /// Held while connecting; remembers when the last attempt failed, and how.
    gate: tokio::sync::Mutex<Option<(Instant, RemotingError)>>,
}

impl Slot {
    fn open(&self) -> Option<Arc<Connection>> {
        self.current.lock().as_ref().filter(|conn| conn.is_open()).cloned()
    }
}

impl Client {
    /// `service` answers requests that come over these connections; without it they are dropped.
    pub fn new(config: ClientConfig, service: Option<Arc<dyn Service>>) -> Self {
        Self { config, service, slots: Mutex::default() }
    }

    /// Sends a request and waits for its answer; `limit` covers connecting too.
    pub async fn invoke(&self, addr: &str, request: Command, limit: Duration) -> Result<Command, RemotingError> {
        self.invoke_over(addr, request, limit).await.map(|(answer, _)| answer)
    }

    /// The same; tells which connection it went over.
    pub async fn invoke_over(
        &self,
        addr: &str,
        request: Command,
        limit: Duration,
    ) -> Result<(Command, Arc<Connection>), RemotingError> {
        let started = Instant::now();
        let conn = self.connect_within(addr, limit).await?;
        let answer = conn.invoke(request, limit.saturating_sub(started.elapsed())).await?;
        Ok((answer, conn))
    }

    async fn connect_within(&self, addr: &str, limit: Duration) -> Result<Arc<Connection>, RemotingError> {
        match timeout(limit, self.connect(addr)).await {
            Ok(connected) => connected,
            Err(_) => Err(RemotingError::Timeout { addr: addr.to_owned(), after: limit }),
        }
    }

    /// Sends a request that wants no answer; `limit` is for connecting.
    pub async fn oneway(&self, addr: &str, request: Command, limit: Duration) -> Result<(), RemotingError> {
        let conn = self.connect_within(addr, limit).await?;
        if conn.send_oneway(request) {
            return Ok(());
        }
        Err(RemotingError::Overloaded { addr: addr.to_owned(), queued: conn.queued_bytes(), waiting: 0 })
    }

    /// The open connection to `addr`, or a new one.
    pub async fn connect(&self, addr: &str) -> Result<Arc<Connection>, RemotingError> {
        let slot = self.slot(addr);
        if let Some(conn) = slot.open() {
            return Ok(conn);
        }
        let arrived = Instant::now();
        let mut gate = slot.gate.lock().await;
        if let Some(conn) = slot.open() {
            return Ok(conn);
        }
        if let Some((at, error)) = gate.as_ref()
            && *at > arrived
        {
            return Err(error.clone());
        }
        match self.open(addr).await {
            Ok(conn) => {
                *slot.current.lock() = Some(Arc::clone(&conn));
                Ok(conn)
            }
            Err(error) => {
                *gate = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Closes every connection. The next use of an address opens a new one.
    pub fn close_all(&self) {
        let slots = std::mem::take(&mut *self.slots.lock());
        for slot in slots.into_values() {
            if let Some(conn) = slot.current.lock().take() {
                conn.close("closed by this process");
            }
        }
    }

    fn slot(&self, addr: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(addr) {
            return Arc::clone(slot);
        }
        if slots.len() >= MANY_ADDRESSES {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.open().is_some());
        }
        let slot = Arc::<Slot>::default();
        slots.insert(addr.to_owned(), Arc::clone(&slot));
        slot
    }

    async fn open(&self, addr: &str) -> Result<Arc<Connection>, RemotingError> {
        let failed = |why: String| RemotingError::Connect { addr: addr.to_owned(), why };
        match timeout(self.config.connect_timeout, self.begin(addr)).await {
            Ok(begun) => begun.map_err(|error| failed(error.to_string())),
            Err(_) => Err(failed(format!("no answer within {} ms", self.config.connect_timeout.as_millis()))),
        }
    }

    async fn begin(&self, addr: &str) -> io::Result<Arc<Connection>> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let conn = Connection::new(stream.peer_addr()?, stream.local_addr()?, self.config.outbound_high_water);
        let stream = match &self.config.tls {
            Some(tls) => Box::pin(secured(tls, addr, stream)).await?,
            None => Stream::Plain(stream),
        };
        let limits = (&self.config).into();
        let driver = Driver::new(stream, Arc::clone(&conn), self.service.clone(), limits, None);
        tokio::spawn(driver.run());
        Ok(conn)
    }
}

async fn secured(tls: &ClientTls, addr: &str, stream: TcpStream) -> io::Result<Stream> {
    let stream = tls.shake_hands(addr, Replayed::new(BytesMut::new(), stream)).await?;
    Ok(Stream::Tls(Box::new(stream.into())))
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close_all();
    }
}
