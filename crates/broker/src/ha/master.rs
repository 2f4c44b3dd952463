//! The master's shell: accepts slaves at the replication port and moves bytes between them, the session and the store.
//! Every rule of the protocol is in `replica::master`.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use remoting::LineLimit;
use replica::{MasterAction, MasterClose, MasterSession, MasterSettings, frame::TransferHeader};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream, lookup_host,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
    task::JoinHandle,
};
use wire::address;

use super::{Replicas, frames::Frames, ticks};
use crate::{config::BrokerConfig, context::Broker, tasks};

const MAX_SLAVES: usize = 64;
const BACKLOG: u32 = 64;
const READ_BUFFER: usize = 4096;
/// How often an idle writer, and who watches over the connection, looks at the clock.
const TICK: Duration = Duration::from_millis(500);

/// Connections that could not be taken.
static NOT_ACCEPTED: LineLimit = LineLimit::new(5);

/// The replication port while the store is recovered: taken, but nobody can connect.
pub struct Port(TcpSocket);

impl Port {
    /// Takes `haListenPort`.
    pub async fn take(config: &BrokerConfig) -> io::Result<Self> {
        let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
        for addr in lookup_host((address::host(config.bind_host()), config.ha_listen_port)).await? {
            let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            match socket.bind(addr) {
                Ok(()) => return Ok(Self(socket)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Lets slaves in.
    pub fn listen(self, broker: &Arc<Broker>) -> io::Result<Listener> {
        let listener = self.0.listen(BACKLOG)?;
        let addr = listener.local_addr()?;
        Ok(Listener { accepting: tasks::spawn("replication port", accept(broker.clone(), listener)), addr })
    }
}

/// The replication port.
pub struct Listener {
    accepting: JoinHandle<()>,
    addr: SocketAddr,
}

impl Listener {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Accepts no more. Connections end with the term.
    pub async fn shutdown(self) {
        self.accepting.abort();
        let _ = self.accepting.await;
    }
}

async fn accept(broker: Arc<Broker>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) if broker.replicas.connections() < MAX_SLAVES => {
                tokio::spawn(serve(broker.clone(), stream, address::peer(peer)));
            }
            Ok((_, peer)) => {
                if let Some(left_out) = NOT_ACCEPTED.take() {
                    tracing::warn!("replication to {peer} is refused: {MAX_SLAVES} connections are open{left_out}");
                }
            }
            Err(error) => {
                if let Some(left_out) = NOT_ACCEPTED.take() {
                    tracing::warn!("accepting at the replication port failed: {error}{left_out}");
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Protocol(#[from] MasterClose),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the peer closed it")]
    Eof,
    #[error("the log at offset {0} cannot be read")]
    Unreadable(i64),
    #[error("the role changed or this broker stops")]
    Term,
}

struct Link {
    broker: Arc<Broker>,
    id: u64,
    peer: SocketAddr,
    session: Mutex<MasterSession>,
    heard: Notify,
}

/// A connection among the replicas. It goes when its task ends, however that ends: one that stayed would hold up whatever waits
/// for the slowest slave.
struct Place<'a> {
    replicas: &'a Replicas,
    id: u64,
    slave: IpAddr,
}

impl<'a> Place<'a> {
    fn take(replicas: &'a Replicas, peer: SocketAddr) -> Self {
        let id = replicas.next_connection.fetch_add(1, Ordering::Relaxed);
        replicas.connected(id, peer.to_string());
        Self { replicas, id, slave: peer.ip() }
    }

    /// True where it was a slave's. To be asked once.
    fn leave(&self) -> bool {
        self.replicas.disconnected(self.id, self.slave)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

async fn serve(broker: Arc<Broker>, stream: TcpStream, peer: SocketAddr) {
    let mut term = broker.replicas.term.subscribe();
    let place = Place::take(&broker.replicas, peer);
    tracing::info!("replication connection from {peer}");
    let session = Mutex::new(session(&broker));
    let link = Link { broker: broker.clone(), id: place.id, peer, session, heard: Notify::new() };
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    let ended = tokio::select! {
        ended = link.read(reader) => ended,
        ended = link.write(writer) => ended,
        ended = link.watch() => ended,
        _ = term.changed() => Err(Ended::Term),
    };
    let was_slave = place.leave();
    match ended {
        Err(Ended::Protocol(close)) if close.needs_operator() => tracing::error!("replication to {peer}: {close}"),
        Err(Ended::Protocol(close)) => tracing::warn!("replication to {peer}: {close}"),
        Err(other) => tracing::info!("replication to {peer} ended: {other}"),
        Ok(()) => {}
    }
    if was_slave {
        say_copies(&broker, format_args!("replication to {peer} is over"));
    }
}

/// What an acknowledgement stands on has changed (F-37). A broker that stops acknowledges nothing more: that its slaves go
/// then is no news.
fn say_copies(broker: &Broker, what: std::fmt::Arguments<'_>) {
    match (broker.is_stopping(), copies(&broker.config(), broker.replicas.slaves())) {
        (false, Err(too_few)) => tracing::warn!("{what}: {too_few}"),
        (_, Ok(text)) => tracing::info!("{what}: {text}"),
        (true, Err(_)) => tracing::info!("{what}: this broker stops"),
    }
}

/// What that many slaves are to acknowledgements, in words; an error where they are too few.
fn copies(config: &BrokerConfig, slaves: usize) -> Result<String, String> {
    let connected =
        if slaves == 1 { "1 slave is connected".to_owned() } else { format!("{slaves} slaves are connected") };
    match config.waits_for_replicas() && slaves + 1 < config.in_sync_replicas as usize {
        true => Err(format!(
            "{connected}, inSyncReplicas={} cannot be met: sends are answered FLUSH_SLAVE_TIMEOUT until enough are back",
            config.in_sync_replicas
        )),
        false => Ok(connected),
    }
}

fn session(broker: &Broker) -> MasterSession {
    let config = broker.config();
    let settings = MasterSettings {
        segment_size: broker.store.segment_size(),
        batch_size: config.ha_transfer_batch_size.min(4 << 20) as u32,
        heartbeat_interval_ms: config.ha_send_heartbeat_interval,
        housekeeping_interval_ms: config.ha_housekeeping_interval,
        max_bytes_per_second: if config.ha_flow_control_enable { config.max_ha_transfer_byte_in_second } else { 0 },
        ..MasterSettings::default()
    };
    MasterSession::new(settings, ticks(broker), broker.store.min_phys(), broker.store.max_phys())
}

impl Link {
    /// Tells the session how far the log reaches, and the time.
    fn told(&self) -> MutexGuard<'_, MasterSession> {
        let mut session = self.session.lock();
        session.on_marks(ticks(&self.broker), self.broker.store.min_phys(), self.broker.store.max_phys());
        session.on_tick(ticks(&self.broker));
        session
    }

    /// Ends the connection when it is time. The writer does not while a peer that is frozen, or out of reach, takes nothing:
    /// its write waits for room in the socket for ever.
    async fn watch(&self) -> Result<(), Ended> {
        loop {
            if let Some(reason) = self.told().take_close() {
                return Err(reason.into());
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn read(&self, mut reader: OwnedReadHalf) -> Result<(), Ended> {
        let mut buffer = vec![0; READ_BUFFER];
        loop {
            let count = reader.read(&mut buffer).await?;
            if count == 0 {
                return Err(Ended::Eof);
            }
            {
                let mut session = self.session.lock();
                let (min, max) = (self.broker.store.min_phys(), self.broker.store.max_phys());
                session.on_marks(ticks(&self.broker), min, max);
                session.on_bytes(ticks(&self.broker), &buffer[..count]);
                // An acknowledgement is counted here, at once: the writer may be busy with a long write.
                self.take_ack(&mut session, max);
                if let Some(reason) = session.take_close() {
                    return Err(reason.into());
                }
            }
            self.heard.notify_one();
        }
    }

    fn take_ack(&self, session: &mut MasterSession, own_end: i64) {
        let Broker { store, replicas, .. } = &*self.broker;
        let is_ours = |offset| store.is_boundary(offset) || replicas.has_sent(self.peer.ip(), offset);
        let acked = session.take_ack(is_ours);
        if let Some(offset) = acked.filter(|_| self.broker.config().is_master()) {
            replicas.began_at(session.began_at());
            if replicas.acknowledged(self.id, self.peer.ip(), offset, own_end) {
                say_copies(&self.broker, format_args!("replication to {} has begun at {offset}", self.peer));
            }
        }
    }

    async fn write(&self, mut writer: OwnedWriteHalf) -> Result<(), Ended> {
        let mut frames = self.broker.replicas.frames(self.peer.ip());
        loop {
            let next = self.told().poll();
            match next {
                Some(MasterAction::Send { offset, len }) => self.send(&mut writer, &mut frames, offset, len).await?,
                Some(MasterAction::Heartbeat { offset }) => {
                    writer.write_all(&TransferHeader::heartbeat(offset).encode()).await?;
                    self.session.lock().on_sent(ticks(&self.broker), 0);
                }
                Some(MasterAction::Close { reason }) => return Err(reason.into()),
                None => self.wait().await,
            }
        }
    }

    async fn send(
        &self,
        writer: &mut OwnedWriteHalf,
        frames: &mut Frames,
        offset: i64,
        planned: u32,
    ) -> Result<(), Ended> {
        let bytes = frames.next(&self.broker.store, offset, planned as usize).ok_or(Ended::Unreadable(offset))?;
        let len = bytes.len() as u32;
        self.session.lock().resize(planned, len);
        let head = TransferHeader { offset, body_len: len as i32 }.encode();
        let mut parts = [io::IoSlice::new(&head), io::IoSlice::new(&bytes)];
        let mut parts = &mut parts[..];
        while !parts.is_empty() {
            let count = writer.write_vectored(parts).await?;
            if count == 0 {
                return Err(Ended::Eof);
            }
            io::IoSlice::advance_slices(&mut parts, count);
        }
        self.session.lock().on_sent(ticks(&self.broker), len);
        self.broker.replicas.sent(self.id, self.peer.ip(), offset + i64::from(len), len as usize, frames);
        Ok(())
    }

    /// Until something is appended (W-18), something was heard, or the session's next deadline.
    async fn wait(&self) {
        let (next, deadline) = {
            let session = self.session.lock();
            // What has been appended already waits for its time.
            (session.next_offset().filter(|_| !session.is_paced()), session.deadline_ms())
        };
        let now = ticks(&self.broker);
        let pause = deadline.map_or(TICK, |at| Duration::from_millis(at.saturating_sub(now).max(1))).min(TICK);
        let appended = async {
            match next {
                Some(next) => self.broker.store.marks().appended.wait(next + 1).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = appended => {}
            () = self.heard.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_panics_leaves_no_slave_behind() {
        let replicas = Replicas::default();
        let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let place = Place::take(&replicas, "10.0.0.1:1".parse().unwrap());
            replicas.acknowledged(place.id, place.slave, 10, 20);
            assert_eq!((replicas.slowest(), replicas.replicated(2, 20)), (Some(10), 10));
            panic!("for the test");
        }));
        assert!(served.is_err());
        assert_eq!((replicas.connections(), replicas.slowest(), replicas.replicated(2, 20)), (0, None, -1));
    }
}
