//! TLS and plain connections on one port, certificates on both sides, their renewal, and peers that do it wrong.

mod support;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::BytesMut;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use remoting::{Client, ClientConfig, ClientTls, RemotingError, Server, ServerConfig, ServerTls, TlsMode, TlsSettings};
use rustls::{
    SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};
use support::*;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};
use wire::Command;

/// A directory with a certificate authority `NAME-ca.pem`, and what it signed.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        let aside = self.dir.path().join(format!("{name}.new"));
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(aside, PathBuf::from(self.path(name))).unwrap();
    }

    fn authority(&self, name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        self.write(&format!("{name}-ca.pem"), &issuer.pem());
        issuer
    }

    /// Writes `name.pem` and `name.key`.
    fn sign(&self, name: &str, issuer: &CertifiedIssuer<'static, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![format!("{name}.example")]).unwrap().signed_by(&key, issuer).unwrap();
        self.write(&format!("{name}.pem"), &cert.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn settings(&self, keys: &[(&str, &str)]) -> TlsSettings {
        let mut settings = TlsSettings::default();
        settings.set("tls.test.mode.enable", "false").unwrap();
        for (key, value) in keys {
            let is_path = key.ends_with("Path");
            let value = if is_path { self.path(value) } else { (*value).to_owned() };
            assert!(settings.set(key, &value).unwrap(), "{key}");
        }
        settings
    }
}

const SERVER: [(&str, &str); 2] = [("tls.server.certPath", "server.pem"), ("tls.server.keyPath", "server.key")];
const VERIFYING: [(&str, &str); 3] =
    [("tls.enable", "true"), ("tls.client.authServer", "true"), ("tls.client.trustCertPath", "good-ca.pem")];

fn with_mode(mode: &str) -> ServerConfig {
    let mut settings = TlsSettings::default();
    settings.set("tls.server.mode", mode).unwrap();
    server(&settings)
}

fn server(settings: &TlsSettings) -> ServerConfig {
    ServerConfig { tls: ServerTls::new(settings).unwrap(), ..ServerConfig::default() }
}

fn client(settings: &TlsSettings) -> Client {
    let mut settings = settings.clone();
    settings.set("tls.enable", "true").unwrap();
    let tls = ClientTls::new(&settings).unwrap();
    Client::new(ClientConfig { tls, ..ClientConfig::default() }, None)
}

fn trusting() -> Client {
    client(&TlsSettings::default())
}

async fn echo(client: &Client, addr: &str, bytes: usize) -> Result<usize, RemotingError> {
    let request = Command::request(ECHO).with_body(vec![7; bytes]);
    client.invoke(addr, request, LONG).await.map(|answer| answer.body.len())
}

async fn plain_is_served(addr: &str) -> bool {
    Raw::connect(addr).await.ask(numbered(ECHO, 1)).await.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mode_decides_what_is_served() {
    for (mode, plain, tls) in [("disabled", true, false), ("permissive", true, true), ("enforcing", false, true)] {
        let (_server, work, addr) = serve(with_mode(mode)).await;
        assert_eq!(plain_is_served(&addr).await, plain, "plain at {mode}");
        assert_eq!(echo(&trusting(), &addr, 100).await.is_ok(), tls, "TLS at {mode}");
        let opened = usize::from(plain) + usize::from(tls);
        until("all is closed", || (work.opened(), work.closed()) == (opened, opened)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_all_sizes_go_both_ways() {
    let (_server, work, addr) = serve(with_mode("permissive")).await;
    let client = Arc::new(trusting());
    for bytes in [0, 1, 1000, 16 * 1024, 100_000, 3 << 20] {
        assert_eq!(echo(&client, &addr, bytes).await.unwrap(), bytes);
    }
    let many = (0..100).map(|at| {
        let (client, addr) = (client.clone(), addr.clone());
        tokio::spawn(async move { echo(&client, &addr, at * 499).await.unwrap() == at * 499 })
    });
    for one in many.collect::<Vec<_>>() {
        assert!(one.await.unwrap());
    }
    let big = client.invoke(&addr, Command::request(BIG), LONG).await.unwrap();
    assert_eq!(big.body.len(), 1 << 20);
    assert_eq!(work.opened(), 1);
}

/// Asks for `answers` of 32 KiB over a connection with a small window, and reads only once the server has handed all
/// of them to the socket or to TLS, if it can.
async fn reads_late(server: &Server, addr: &str, answers: i32) {
    let mut settings = TlsSettings::default();
    settings.set("tls.enable", "true").unwrap();
    let tls = ClientTls::new(&settings).unwrap().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8192).unwrap();
    let socket = socket.connect(addr.parse().unwrap()).await.unwrap();
    let mut stream = tls.connect(addr, socket).await.unwrap();
    let asked: Vec<_> = (0..answers).map(|at| numbered(ECHO, at).with_body(vec![1; 32 << 10])).collect();
    stream.write_all(&bytes_of(&asked)).await.unwrap();
    stream.flush().await.unwrap();
    for _ in 0..20 {
        if server.connections().iter().all(|conn| conn.unanswered() == 0 && conn.queued_bytes() == 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut got = BytesMut::new();
    for opaque in 0..answers {
        let frame = loop {
            match wire::frame::split_frame(&mut got, wire::frame::MAX_FRAME).unwrap() {
                Some(frame) => break frame,
                None => assert!(timeout(LONG, stream.read_buf(&mut got)).await.expect("the rest").unwrap() > 0),
            }
        };
        assert_eq!(wire::frame::decode(frame).unwrap().opaque, opaque);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stalls_gets_everything_once_it_reads() {
    let (server, _work, addr) = serve(with_mode("permissive")).await;
    // Somewhere on the way the socket is full and the last bytes wait within TLS.
    for answers in 1..100 {
        reads_late(&server, &addr, answers).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_is_answered_when_the_server_stops() {
    let (server, _work, addr) = serve(with_mode("enforcing")).await;
    let client = Arc::new(trusting());
    let slow = { (client.clone(), addr.clone()) };
    let asked = tokio::spawn(async move { slow.0.invoke(&slow.1, later(200), LONG).await });
    until("it is there", || server.connections().iter().any(|conn| conn.unanswered() > 0)).await;
    server.shutdown(LONG).await;
    asked.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_verifies_takes_only_what_its_authority_signed() {
    let files = Files::new();
    let (good, bad) = (files.authority("good"), files.authority("bad"));
    files.sign("server", &good);
    let (_server, _work, addr) = serve(server(&files.settings(&SERVER))).await;
    assert!(echo(&client(&files.settings(&VERIFYING)), &addr, 10).await.is_ok());
    assert!(echo(&trusting(), &addr, 10).await.is_ok());

    files.sign("server", &bad);
    let (_other, _work, addr) = serve(server(&files.settings(&SERVER))).await;
    let refused = echo(&client(&files.settings(&VERIFYING)), &addr, 10).await.unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    assert!(echo(&trusting(), &addr, 10).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_trusted_itself_is_good() {
    let files = Files::new();
    let own = files.authority("good");
    files.write("server.pem", &own.pem());
    files.write("server.key", &own.key().serialize_pem());
    let (_server, _work, addr) = serve(server(&files.settings(&SERVER))).await;
    echo(&client(&files.settings(&VERIFYING)), &addr, 10).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_show_certificates_where_they_must() {
    let files = Files::new();
    let (good, bad) = (files.authority("good"), files.authority("bad"));
    files.sign("server", &good);
    files.sign("client", &good);
    files.sign("stranger", &bad);
    let with = |name: &str| {
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        client(&files.settings(&[("tls.client.certPath", &cert), ("tls.client.keyPath", &key)]))
    };
    let without = client(&files.settings(&[]));
    // How the server asks, whether it verifies; who is served: without a certificate, a stranger, a client.
    for (auth, verifies, served) in [
        ("none", "true", [true, true, true]),
        ("optional", "false", [true, true, true]),
        ("optional", "true", [true, false, true]),
        ("require", "false", [false, true, true]),
        ("require", "true", [false, false, true]),
    ] {
        let mut settings = files.settings(&SERVER);
        settings.set("tls.server.need.client.auth", auth).unwrap();
        settings.set("tls.server.authClient", verifies).unwrap();
        settings.set("tls.server.trustCertPath", &files.path("good-ca.pem")).unwrap();
        let (_server, _work, addr) = serve(server(&settings)).await;
        let clients = [&without, &with("stranger"), &with("client")];
        for (at, client) in clients.into_iter().enumerate() {
            assert_eq!(echo(client, &addr, 10).await.is_ok(), served[at], "{auth}, verified {verifies}, client {at}");
        }
    }
}

#[tokio::test]
async fn renewed_files_are_served_and_broken_ones_are_not() {
    let files = Files::new();
    let (good, bad) = (files.authority("good"), files.authority("bad"));
    files.sign("server", &bad);
    let config = server(&files.settings(&SERVER));
    let watch = tokio::spawn(config.tls.clone().watch());
    let (_server, _work, addr) = serve(config).await;
    let before = trusting();
    assert!(echo(&before, &addr, 10).await.is_ok());

    // The first renewal is broken, the second holds.
    files.write("server.key", "nonsense");
    // Time that passes for timers only.
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(10)).await;
    tokio::time::resume();
    assert!(echo(&trusting(), &addr, 10).await.is_ok(), "the last good pair stays in force");
    files.sign("server", &good);
    let verifying = files.settings(&VERIFYING);
    for attempt in 0.. {
        match echo(&client(&verifying), &addr, 10).await {
            Ok(_) => break,
            Err(error) => assert!(attempt < 200, "never served: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(echo(&before, &addr, 10).await.is_ok(), "what is open stays open");
    watch.abort();
}

#[test]
fn bad_files_are_told_in_one_line_that_names_key_and_file() {
    let files = Files::new();
    let good = files.authority("good");
    files.sign("server", &good);
    files.sign("other", &good);
    files.write("empty.pem", "");
    files.write("bad.pem", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    files.write("bad.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let cases = [
        (vec![], "tls.server.certPath is not set"),
        (vec![("tls.server.certPath", "server.pem")], "tls.server.keyPath is not set"),
        (vec![SERVER[1], ("tls.server.certPath", "nowhere.pem")], "nowhere.pem: cannot be read"),
        (vec![SERVER[1], ("tls.server.certPath", "empty.pem")], "empty.pem: holds no certificate"),
        (vec![SERVER[1], ("tls.server.certPath", "bad.pem")], "bad.pem: is no PEM"),
        (vec![SERVER[0], ("tls.server.keyPath", "empty.pem")], "empty.pem: holds no key"),
        (vec![SERVER[0], ("tls.server.keyPath", "bad.key")], "bad.key: this kind of key cannot be used"),
        (vec![SERVER[0], ("tls.server.keyPath", "other.key")], "is not the key of the certificate"),
        (vec![SERVER[0], SERVER[1], ("tls.server.authClient", "true")], "tls.server.trustCertPath is not set"),
    ];
    for (keys, expected) in cases {
        let error = ServerTls::new(&files.settings(&keys)).unwrap_err().to_string();
        assert!(error.contains(expected) && error.starts_with("tls.") && !error.contains('\n'), "{error}");
    }
    let error = ClientTls::new(&files.settings(&[("tls.enable", "true"), ("tls.client.authServer", "true")]));
    assert!(error.unwrap_err().to_string().contains("tls.client.trustCertPath is not set"));
}

/// What OpenSSL writes for `openssl pkcs8 -topk8 -v2 aes-256-cbc`, password `tandem`.
const ENCRYPTED: &str = include_str!("encrypted.key");
const ENCRYPTED_CERT: &str = include_str!("encrypted.pem");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_under_a_password_need_it() {
    let files = Files::new();
    files.write("server.key", ENCRYPTED);
    files.write("server.pem", ENCRYPTED_CERT);
    let mut settings = files.settings(&SERVER);
    let error = ServerTls::new(&settings).unwrap_err().to_string();
    assert!(error.contains("tls.server.keyPassword is not set"), "{error}");
    settings.set("tls.server.keyPassword", "wrong").unwrap();
    let error = ServerTls::new(&settings).unwrap_err().to_string();
    assert!(error.contains("is the password right?"), "{error}");
    settings.set("tls.server.keyPassword", "tandem").unwrap();
    let (_server, _work, addr) = serve(server(&settings)).await;
    echo(&trusting(), &addr, 10).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_begins_like_tls_is_closed() {
    let (server, work, addr) = serve(with_mode("permissive")).await;
    let record = |kind: u8, length: u16, body: &[u8]| [&[kind, 3, 1][..], &length.to_be_bytes(), body].concat();
    let cases = [
        vec![0x16; 64],
        record(0x16, 5, b"hello"),
        // A handshake message of 16 MB, an empty record after the other, and a record that is too long.
        record(0x16, 4, &[1, 0xFF, 0xFF, 0xFF]),
        record(0x16, 0, &[]).repeat(1000),
        record(0x16, 0xFFFF, &[1; 70_000]),
        [b"PROXY UNKNOWN\r\n".to_vec(), record(0x16, 5, b"hello")].concat(),
    ];
    for bytes in cases {
        let mut raw = Raw::connect(&addr).await;
        let _ = raw.stream.write_all(&bytes).await;
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(LONG, raw.stream.read_to_end(&mut rest)).await.expect("it is closed");
    }
    until("all are gone", || server.connections().is_empty()).await;
    assert_eq!(work.opened(), 0);
    assert!(plain_is_served(&addr).await && echo(&trusting(), &addr, 1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_an_end() {
    let (server, work, addr) = serve(with_mode("enforcing")).await;
    let mut raw = Raw::connect(&addr).await;
    raw.write(&[0x16, 3, 1, 2, 0]).await;
    // Time stands still but for what waits: nothing waits longer than the handshake may take.
    let mut byte = [0];
    assert!(matches!(raw.stream.read(&mut byte).await, Ok(0) | Err(_)));
    until("it is gone", || server.connections().is_empty()).await;
    assert_eq!(work.opened(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_handshake() {
    let (server, _work, addr) = serve(with_mode("enforcing")).await;
    let mut raw = Raw::connect(&addr).await;
    raw.write(&[0x16, 3, 1, 2, 0]).await;
    until("it is there", || server.connections().len() == 1).await;
    tokio::time::timeout(Duration::from_secs(5), server.shutdown(Duration::from_secs(60))).await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_server_is_named_to_a_tls_client() {
    let (_server, _work, addr) = serve(with_mode("disabled")).await;
    let error = echo(&trusting(), &addr, 1).await.unwrap_err().to_string();
    assert!(error.contains(&addr) && error.contains("TLS handshake"), "{error}");
    assert_eq!(ServerTls::disabled().mode(), TlsMode::Disabled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_after_the_first_hurt_nobody() {
    let (server, _work, addr) = serve(with_mode("permissive")).await;
    let seed: u64 = std::env::var("TLS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand_seed);
    println!("TLS_SEED={seed}");
    let mut state = seed | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    for _ in 0..200 {
        let length = 1 + usize::from(random());
        let mut bytes: Vec<u8> = (0..length).map(|_| random()).collect();
        bytes[0] = 0x16;
        if random() % 2 == 0 && length > 5 {
            bytes[1..5].copy_from_slice(&[3, 1, 0, (length - 5) as u8]);
        }
        let mut raw = Raw::connect(&addr).await;
        let _ = raw.stream.write_all(&bytes).await;
    }
    assert!(echo(&trusting(), &addr, 1).await.is_ok());
    until("all are gone", || server.connections().len() <= 1).await;
}

fn rand_seed() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// What `openssl x509 -req` and `openssl ca` write without extensions: certificates of X.509 version 1, in `data/tls`.
fn of_version_1(name: &str, files: &Files) {
    for suffix in [".pem", ".key"] {
        let source = format!("{}/tests/data/tls/{name}{suffix}", env!("CARGO_MANIFEST_DIR"));
        files.write(&format!("server{suffix}"), &std::fs::read_to_string(source).unwrap());
    }
    for authority in ["rsa-ca.pem", "ec-ca.pem"] {
        let source = format!("{}/tests/data/tls/{authority}", env!("CARGO_MANIFEST_DIR"));
        files.write(authority, &std::fs::read_to_string(source).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_version_1_are_taken_as_java_takes_them() {
    for (name, trusted, good) in [
        ("rsa", "", true),
        ("ec", "", true),
        ("rsa-expired", "", true),
        ("rsa", "rsa-ca.pem", true),
        ("ec", "ec-ca.pem", true),
        ("rsa", "ec-ca.pem", false),
        ("rsa-expired", "rsa-ca.pem", false),
        ("ec-expired", "ec-ca.pem", false),
    ] {
        let files = Files::new();
        of_version_1(name, &files);
        let trust = [("tls.client.authServer", "true"), ("tls.client.trustCertPath", trusted)];
        let verifying = files.settings(if trusted.is_empty() { &[] } else { &trust });
        let (_server, _, addr) = serve(server(&files.settings(&SERVER))).await;
        assert_eq!(echo(&client(&verifying), &addr, 100).await.is_ok(), good, "{name}'s server, {trusted} trusted");

        // The other way round: the server looks at the client's.
        let ours = [("tls.client.certPath", "server.pem"), ("tls.client.keyPath", "server.key")];
        let auth = [("tls.server.need.client.auth", "require"), ("tls.server.authClient", "true")];
        let own = [("tls.server.certPath", "own.pem"), ("tls.server.keyPath", "own.key")];
        files.sign("own", &files.authority("own"));
        let trust = [("tls.server.trustCertPath", trusted)];
        let keys = if trusted.is_empty() { own.to_vec() } else { [&own[..], &auth, &trust].concat() };
        let (_server, _, addr) = serve(server(&files.settings(&keys))).await;
        assert_eq!(echo(&client(&files.settings(&ours)), &addr, 100).await.is_ok(), good, "{name}'s client, {trusted}");
    }
}

/// Whether our client shakes hands with a server that shows one certificate and signs with a key that may be another's.
async fn shakes_hands(cert: &str, key: &str, version: &'static SupportedProtocolVersion) -> bool {
    let path = |name: &str| format!("{}/tests/data/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_file(path(cert)).unwrap()];
    let private = PrivateKeyDer::from_pem_file(path(key)).unwrap();
    let signer = provider.key_provider.load_private_key(private).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(chain, signer));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(socket).await.is_ok()
    });
    let mut settings = TlsSettings::default();
    settings.set("tls.enable", "true").unwrap();
    let client = ClientTls::new(&settings).unwrap().unwrap();
    let socket = TcpStream::connect(&addr).await.unwrap();
    let is_good = client.connect(&addr, socket).await.is_ok();
    assert!(!is_good || server.await.unwrap());
    is_good
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_must_hold_the_key_of_its_certificate_of_version_1() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for name in ["rsa", "ec"] {
            let (cert, key, other) = (format!("{name}.pem"), format!("{name}.key"), format!("{name}-other.key"));
            assert!(shakes_hands(&cert, &key, version).await, "{name} {version:?}");
            assert!(!shakes_hands(&cert, &other, version).await, "{name} {version:?}, another's key");
        }
    }
}
