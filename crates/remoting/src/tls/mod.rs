//! TLS on both sides of a connection: what the settings come to, and the handshake.
//!
//! One provider of cryptography (ring), TLS 1.2 and 1.3, no ALPN, no SNI: as Java's peers do. Knows nothing of frames.
//! The only clock it reads is the one that tells whether a certificate is in its time, within rustls.
//! Source: `TlsHelper.java`, `TlsSystemConfig.java`; reference remoting 5.2.

mod files;
mod settings;
mod verify;
mod version_1;
mod watch;

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use rustls::{
    ClientConfig, ServerConfig,
    client::ResolvesClientCert,
    crypto::{CryptoProvider, ring},
    pki_types::ServerName,
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

pub use settings::{ClientAuth, TlsMode, TlsSettings};

/// A handshake that takes longer is given up, as by Java.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why TLS cannot be used as it is set. Each text says which key and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A value that cannot be understood.
    #[error("configuration key {key} has the value '{value}', expected {expected}")]
    Value {
        /// Key.
        key: String,
        /// As given.
        value: String,
        /// What would do.
        expected: &'static str,
    },
    /// A key that is needed beside others.
    #[error("{key} is not set, {why}")]
    Missing {
        /// Key.
        key: &'static str,
        /// What needs it.
        why: &'static str,
    },
    /// A file that cannot be read or holds something else.
    #[error("{key}: {path}: {why}")]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        why: String,
    },
    /// What rustls says of the whole.
    #[error("TLS cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
    /// The certificate of test mode.
    #[error("the certificate of tls.test.mode.enable cannot be made: {0}")]
    SelfSigned(#[from] rcgen::Error),
}

/// What a server does with the first bytes of a connection.
#[derive(Clone, Default)]
pub struct ServerTls {
    mode: TlsMode,
    /// Replaced as a whole when its files change; connections that are open keep what they began with.
    current: Option<Arc<RwLock<Arc<ServerConfig>>>>,
    settings: Arc<TlsSettings>,
}

impl ServerTls {
    /// TLS is closed at its first byte.
    pub fn disabled() -> Self {
        Self { mode: TlsMode::Disabled, ..Self::default() }
    }

    /// Reads the files that the settings name.
    pub fn new(settings: &TlsSettings) -> Result<Self, TlsError> {
        if settings.server_mode == TlsMode::Disabled {
            return Ok(Self::disabled());
        }
        let current = Some(Arc::new(RwLock::new(server_config(settings)?)));
        Ok(Self { mode: settings.server_mode, current, settings: Arc::new(settings.clone()) })
    }

    /// What may begin a connection here.
    pub fn mode(&self) -> TlsMode {
        self.mode
    }

    /// Looks at the files of certificate, key and trust again, for ever, and serves new connections with what is in
    /// them. A set that cannot be used is told, and the last good one stays. Ends at once where there are no files.
    pub async fn watch(self) {
        if let Some(current) = &self.current
            && !self.settings.test_mode
        {
            watch::watch(&self.settings, current).await;
        }
    }

    pub(crate) async fn accept<S>(&self, stream: S) -> io::Result<server::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(current) = &self.current else { return Err(io::ErrorKind::Unsupported.into()) };
        let config = current.read().clone();
        within(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerTls({})", self.mode)
    }
}

/// How a client speaks TLS.
#[derive(Clone)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// What the settings come to; `None` when the client speaks plain.
    pub fn new(settings: &TlsSettings) -> Result<Option<Self>, TlsError> {
        match settings.is_client_enabled() {
            true => client_config(settings).map(|config| Some(Self(config))),
            false => Ok(None),
        }
    }

    /// Shakes hands over `stream`, for those who read and write bytes themselves. `addr` is not checked against the
    /// certificate, as by Java.
    pub async fn connect<S>(&self, addr: &str, stream: S) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + use<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.shake_hands(addr, stream).await
    }

    pub(crate) async fn shake_hands<S>(&self, addr: &str, stream: S) -> io::Result<client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        within(HANDSHAKE_TIMEOUT, TlsConnector::from(self.0.clone()).connect(server_name(addr), stream)).await
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

async fn within<T>(limit: Duration, handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(limit, handshake).await {
        Ok(done) => done.map_err(|error| io::Error::new(error.kind(), format!("TLS handshake: {error}"))),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("TLS handshake: not done within {} ms", limit.as_millis()),
        )),
    }
}

/// Only a key for rustls' session cache: no name goes over the wire, and none is verified.
fn server_name(addr: &str) -> ServerName<'static> {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    let nobody = ServerName::from(IpAddr::from(Ipv4Addr::UNSPECIFIED));
    ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).unwrap_or(nobody)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn server_config(settings: &TlsSettings) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let (key, auth) = match settings.test_mode {
        true => (files::self_signed(&provider)?, ClientAuth::Optional),
        false => (files::server_key(settings, &provider)?, settings.server_need_client_auth),
    };
    let trusted = match settings.server_auth_client && !settings.test_mode {
        true => Some(files::trusted("tls.server.trustCertPath", &settings.server_trust_cert_path)?),
        false => None,
    };
    let verifier = verify::Clients::new(auth, trusted, &provider);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(Identity(Arc::new(key))));
    Ok(Arc::new(config))
}

fn client_config(settings: &TlsSettings) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let trusted = match settings.client_auth_server && !settings.test_mode {
        true => Some(files::trusted("tls.client.trustCertPath", &settings.client_trust_cert_path)?),
        false => None,
    };
    let key = if settings.test_mode { None } else { files::client_key(settings, &provider)? };
    let verifier = verify::Servers::new(trusted, &provider);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match key {
        Some(key) => builder.with_client_cert_resolver(Arc::new(Identity(Arc::new(key)))),
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// The one certificate of a process, whoever asks.
#[derive(Debug)]
struct Identity(Arc<CertifiedKey>);

impl rustls::server::ResolvesServerCert for Identity {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
