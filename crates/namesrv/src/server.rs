//! A name server as a whole: its listener, the look for silent brokers, start and stop.
//! Source: `NamesrvController.java`; reference namesrv 1.1. Prints nothing; what is worth telling is traced.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use remoting::{Client, ClientConfig, ClientTls, Server, ServerConfig, ServerTls, TlsError};
use tokio::task::JoinHandle;

use crate::{
    config::NamesrvConfig,
    kv::{KvError, KvStore},
    notify::Notifier,
    service::{NameService, Shared},
};

/// How long open requests have to be answered when the server stops.
const GRACE: Duration = Duration::from_secs(3);

/// How often is looked whether somebody is connected.
const LOOK: Duration = Duration::from_millis(100);

/// Why a name server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The key-value file cannot be used.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// A file of TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be listened on.
    #[error("cannot listen on {addr} (bindAddress, listenPort): {why}")]
    Listen {
        /// The address.
        addr: String,
        /// What the system says.
        why: String,
    },
}

/// A running name server.
pub struct NameServer {
    server: Server,
    service: Arc<NameService>,
    tasks: Vec<JoinHandle<()>>,
}

impl NameServer {
    /// Reads the key-value file and listens.
    pub async fn start(mut config: NamesrvConfig) -> Result<Self, StartError> {
        config.report_keys();
        config.tls.read_file()?.iter().for_each(|warning| tracing::warn!("{warning}"));
        let tls = ServerTls::new(&config.tls)?;
        let calls = ClientConfig { tls: ClientTls::new(&config.tls)?, ..ClientConfig::default() };
        let kv = KvStore::open(Path::new(&config.kv_config_path))?;
        let addr = config.listen_address();
        let idle_timeout = Duration::from_secs(config.server_channel_max_idle_time_seconds);
        let (notifier, sending) = Notifier::new(Arc::new(Client::new(calls, None)));
        let service = Arc::new(NameService::new(config, kv, notifier));
        let limits = ServerConfig { idle_timeout, tls: tls.clone(), ..ServerConfig::default() };
        let server = Server::bind(&addr, limits, Arc::new(Shared(service.clone())))
            .await
            .map_err(|error| StartError::Listen { addr, why: error.to_string() })?;
        let tasks = vec![tokio::spawn(sending), tokio::spawn(scan(service.clone())), tokio::spawn(tls.watch())];
        Ok(Self { server, service, tasks })
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// With `enableShutdownGracefully` sends clients away first. Then takes no further requests, answers those that came,
    /// and closes.
    pub async fn shutdown(self) {
        self.service.stop();
        self.tasks.iter().for_each(JoinHandle::abort);
        let config = self.service.config();
        if config.enable_shutdown_gracefully {
            self.leave(Duration::from_secs(config.shutdown_wait_time_seconds)).await;
        }
        self.server.shutdown(GRACE).await;
    }
}

impl NameServer {
    /// Sends clients away until nobody is connected, at most for `limit`. Routes stay as they are meanwhile, for those that
    /// do not understand it: brokers that go take nothing with them.
    async fn leave(&self, limit: Duration) {
        let seconds = limit.as_secs();
        tracing::info!(
            "clients are sent away for up to {seconds} s (enableShutdownGracefully), then the name server stops"
        );
        self.service.leave(&self.server);
        let begin = Instant::now();
        while begin.elapsed() < limit && !self.server.connections().is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn scan(service: Arc<NameService>) {
    loop {
        let interval_ms = service.config().scan_not_active_broker_interval;
        let before_ms = service.now_ms();
        tokio::time::sleep(Duration::from_millis(interval_ms)).await;
        let slept_ms = service.now_ms() - before_ms;
        match was_paused(slept_ms, interval_ms) {
            true => tracing::warn!("was paused for about {} ms, heartbeats are read first", slept_ms - interval_ms),
            false => service.expire(),
        }
    }
}

/// True when this process stood still, so that heartbeats wait unread and nobody may be called silent. Java takes all
/// brokers out then.
fn was_paused(slept_ms: u64, interval_ms: u64) -> bool {
    slept_ms > interval_ms.saturating_add(interval_ms.max(1000))
}

#[cfg(test)]
mod tests {
    use super::was_paused;

    #[test]
    fn a_late_scan_is_a_pause() {
        assert!(!was_paused(5000, 5000) && !was_paused(10_000, 5000) && was_paused(10_001, 5000));
        assert!(!was_paused(1010, 10) && was_paused(1011, 10) && !was_paused(u64::MAX, u64::MAX));
    }
}
