//! The slave's shell: connects to the master's replication port and appends what the session hands on.
//! Every rule of the protocol is in `replica::slave`.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use remoting::LineLimit;
use replica::{Reconnect, SessionEnd, SlaveAction, SlaveClose, SlaveSession, SlaveSettings, frame};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::{Instant, MissedTickBehavior},
};

use super::{
    parted::{self, Compared},
    ticks, wall_ms,
};
use crate::{context::Broker, tasks};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long a slave with `haMasterAddress` waits for a name server to tell of its master's listener.
const LEARN_LIMIT: Duration = Duration::from_secs(5);
/// How long a master has to tell what it has where this log ends.
const COMPARE_LIMIT: Duration = Duration::from_secs(1);
/// How often it is asked again once it is followed. Rounds of tables ask as well, where a name server tells of its listener.
const COMPARE_EACH: Duration = Duration::from_secs(5);
/// How often it is looked whether the master is elsewhere.
const LOOK_EACH: Duration = Duration::from_secs(1);
/// Connections to a master that does not tell.
static UNTOLD: LineLimit = LineLimit::new(5);
const READ_BUFFER: usize = 512 * 1024;
/// How often a broker that follows nobody looks whether it shall.
const IDLE: Duration = Duration::from_millis(100);

/// Starts the follower. It works while this broker is a slave.
pub fn start(broker: &Arc<Broker>) {
    tasks::spawn("follower", run(broker.clone()));
}

async fn run(broker: Arc<Broker>) {
    let mut reconnect = Reconnect::default();
    let mut said: Option<(String, Instant)> = None;
    let mut alone_since = Instant::now();
    while !broker.is_stopping() {
        let config = broker.config();
        let paused = broker.replicas.paused.load(Ordering::Acquire);
        let Some(master) = broker.sync.ha_addr(&config).filter(|_| !config.is_master() && !paused) else {
            alone_since = Instant::now();
            tokio::time::sleep(IDLE).await;
            continue;
        };
        // The store has said why. Without a connection this copy counts for no acknowledgement.
        let lacks_space = broker.store.no_space().is_some();
        if lacks_space || (may_learn(&broker) && alone_since.elapsed() < LEARN_LIMIT) {
            tokio::time::sleep(IDLE).await;
            continue;
        }
        let (ended, heard_from_master) = follow_once(&broker, &master).await;
        say(&mut said, &master, &ended);
        let end = match ended {
            Ended::Protocol(reason) => SessionEnd::Closed(reason),
            _ => SessionEnd::Cut { heard_from_master },
        };
        tokio::time::sleep(Duration::from_millis(reconnect.delay_ms(&end))).await;
    }
}

/// With `haMasterAddress` the address of the master's listener may come later: before that nobody tells whether its log and
/// this one are the same.
fn may_learn(broker: &Broker) -> bool {
    broker.sync.master_addr().is_none() && !broker.registrar.namesrv_list().is_empty()
}

/// The same reason is said once in ten seconds.
fn say(said: &mut Option<(String, Instant)>, master: &str, ended: &Ended) {
    let text = ended.to_string();
    let repeated = said.as_ref().is_some_and(|(last, at)| *last == text && at.elapsed() < Duration::from_secs(10));
    if repeated {
        return;
    }
    match ended {
        // The store has said so.
        Ended::Store(error) if error.is_disk_full() => return,
        Ended::Term | Ended::Moved(_) => tracing::info!("replication from {master} ended: {text}"),
        Ended::Io(_) | Ended::Eof | Ended::Connect(_) | Ended::Protocol(SlaveClose::Silent { .. }) => {
            tracing::info!("replication from {master} ended: {text}; it is tried again");
        }
        _ => tracing::error!("replication from {master} is stopped: {text}"),
    }
    *said = Some((text, Instant::now()));
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error(transparent)]
    Protocol(#[from] SlaveClose),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the master closed it")]
    Eof,
    #[error("the store refuses the bytes: {0}")]
    Store(#[from] store::StoreError),
    #[error("{0}")]
    Unreadable(String),
    #[error("the master replicates from {0} now")]
    Moved(String),
    #[error("the role changed or this broker stops")]
    Term,
}

/// One connection: how it ended, and whether the master was heard on it.
async fn follow_once(broker: &Arc<Broker>, master: &str) -> (Ended, bool) {
    let mut term = broker.replicas.term.subscribe();
    let _following = broker.replicas.following.lock().await;
    if broker.replicas.paused.load(Ordering::Acquire) || broker.config().is_master() {
        return (Ended::Term, false);
    }
    // A promotion or a stop does not wait for a master that answers nothing.
    let connected = tokio::select! {
        connected = connect(broker, master) => connected,
        ended = end_of(&mut term) => Err(ended),
    };
    let stream = match connected {
        Ok(stream) => stream,
        Err(ended) => return (ended, false),
    };
    let log_end = broker.store.max_phys();
    let mut session = SlaveSession::connected(settings(broker), ticks(broker), log_end);
    tracing::info!("replication from {master} starts at offset {log_end}");
    broker.replicas.followed(|info| info.master_addr = Some(master.to_owned()));
    let ended = tokio::select! {
        ended = transfer(broker, stream, &mut session) => match ended {
            Ok(()) => Ended::Eof,
            Err(ended) => ended,
        },
        ended = compare_later(broker) => ended,
        ended = moved(broker, master) => ended,
        ended = end_of(&mut term) => ended,
    };
    (ended, session.heard_from_master())
}

/// Why this broker's own following ends, when it does.
async fn end_of(term: &mut watch::Receiver<Option<SlaveClose>>) -> Ended {
    let _ = term.changed().await;
    term.borrow().clone().map_or(Ended::Term, Ended::Protocol)
}

/// Finds nothing against the master, and connects.
async fn connect(broker: &Arc<Broker>, master: &str) -> Result<TcpStream, Ended> {
    // It is to be compared later where the master does not tell now.
    let last = parted::last_place(broker).map_err(Ended::Unreadable)?;
    let compared = parted::compare_up_to(broker, COMPARE_LIMIT, last).await?;
    let connected = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(master)).await;
    let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(Ended::Connect)?;
    if let (Compared::Untold(reason), Some(last)) = (compared, last) {
        follow_untold(broker, master, last, &reason);
    }
    Ok(stream)
}

/// A master that does not tell what it has where this log ends is followed all the same: a listener that is slow, or a name
/// server that is away, must not cost copies. The record at `last` is compared as soon as somebody tells.
fn follow_untold(broker: &Broker, master: &str, last: i64, reason: &str) {
    broker.seams.add(last);
    // Before the first byte behind it.
    broker.seams.save();
    if let Some(left_out) = UNTOLD.take() {
        tracing::warn!(
            "replication from {master} begins although nobody tells whether its log is this one up to the record at \
             {last}: {reason}. It is asked again; should it be another log, replication ends then{left_out}"
        );
    }
}

/// Ends the connection when the master tells at last, and has another log.
async fn compare_later(broker: &Arc<Broker>) -> Ended {
    while !broker.seams.is_empty() {
        tokio::time::sleep(COMPARE_EACH).await;
        if let Err(reason) = parted::compare(broker, COMPARE_LIMIT).await {
            return reason.into();
        }
    }
    std::future::pending().await
}

/// Ends the connection to a broker that is not the master any more, once the new address can be reached: a name server that
/// still names a master that is gone must not take this one away.
async fn moved(broker: &Broker, master: &str) -> Ended {
    loop {
        tokio::time::sleep(LOOK_EACH).await;
        let Some(now) = broker.sync.ha_addr(&broker.config()).filter(|addr| addr != master) else { continue };
        if matches!(tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(&now)).await, Ok(Ok(_))) {
            return Ended::Moved(now);
        }
    }
}

async fn transfer(broker: &Arc<Broker>, mut stream: TcpStream, session: &mut SlaveSession) -> Result<(), Ended> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; READ_BUFFER];
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    carry_out(broker, session, &mut stream).await?;
    loop {
        tokio::select! {
            count = stream.read(&mut buffer) => match count? {
                0 => return Ok(()),
                count => {
                    session.on_bytes(ticks(broker), &buffer[..count]);
                    broker.replicas.followed(|info| info.last_read_timestamp = wall_ms());
                }
            },
            _ = tick.tick() => session.on_tick(ticks(broker)),
        }
        carry_out(broker, session, &mut stream).await?;
    }
}

fn settings(broker: &Broker) -> SlaveSettings {
    let config = broker.config();
    SlaveSettings {
        segment_size: broker.store.segment_size(),
        verify_prop_crc: config.force_verify_prop_crc,
        heartbeat_interval_ms: config.ha_send_heartbeat_interval,
        housekeeping_interval_ms: config.ha_housekeeping_interval,
        record_limit: (i64::from(config.max_message_size) + (128 << 10)).max(64 << 20),
        ..SlaveSettings::default()
    }
}

/// Does what the session says: appends first, one report for all of them.
async fn carry_out(broker: &Arc<Broker>, session: &mut SlaveSession, stream: &mut TcpStream) -> Result<(), Ended> {
    let mut appended = false;
    while let Some(action) = session.poll() {
        match action {
            SlaveAction::Append { offset, bytes } => {
                let end = broker.store.append_raw(offset, &bytes)?;
                session.on_appended(ticks(broker), end);
                appended = true;
            }
            SlaveAction::Report { offset } => {
                // A master that takes no report is not heard meanwhile either: nobody else looks at the clock.
                let limit = Duration::from_millis(broker.config().ha_housekeeping_interval);
                let written = tokio::time::timeout(limit, stream.write_all(&frame::encode_report(offset))).await;
                written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
                broker.replicas.followed(|info| info.last_write_timestamp = wall_ms());
            }
            SlaveAction::Close { reason } => return Err(reason.into()),
        }
    }
    // The report is on its way before the queues are built.
    if appended {
        broker.dispatch_soon();
    }
    Ok(())
}
