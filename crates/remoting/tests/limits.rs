//! What a peer can take up is bounded: connections, bytes queued for one that does not read, buffers.

mod support;

use std::time::Duration;

use remoting::{Client, ClientConfig, RemotingError, Server, ServerConfig};
use support::*;
use tokio::io::AsyncWriteExt;
use wire::Command;

#[tokio::test]
async fn a_flood_of_connections_is_refused_above_the_limit() {
    let config = ServerConfig { max_connections: 5, ..ServerConfig::default() };
    let (server, work, addr) = serve(config).await;
    let mut kept = Vec::new();
    for n in 0..5 {
        let mut raw = Raw::connect(&addr).await;
        assert!(raw.ask(numbered(ECHO, n)).await.is_some());
        kept.push(raw);
    }
    for n in 0..20 {
        assert!(Raw::connect(&addr).await.ask(numbered(ECHO, n)).await.is_none());
    }
    assert_eq!((server.connections().len(), work.opened()), (5, 5));
    assert!(kept[0].ask(numbered(ECHO, 9)).await.is_some());
    kept.pop();
    until("a place is free", || server.connections().len() == 4).await;
    assert!(Raw::connect(&addr).await.ask(numbered(ECHO, 9)).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_read_is_not_read() {
    const HIGH_WATER: usize = 2 << 20;
    const MOST: usize = HIGH_WATER + 129 * ((1 << 20) + 1024);
    let config = ServerConfig { outbound_high_water: HIGH_WATER, ..ServerConfig::default() };
    let (server, work, addr) = serve(config).await;
    let mut raw = Raw::connect(&addr).await;
    let many: Vec<_> = (0..20_000).map(|n| numbered(BIG, n)).collect();
    let bytes = bytes_of(&many);
    let conn = {
        until("accepted", || server.connections().len() == 1).await;
        server.connections().pop().unwrap()
    };
    // Fills every buffer between the two; what is left over cannot be sent.
    let _ = tokio::time::timeout(Duration::from_millis(500), raw.stream.write_all(&bytes)).await;
    until("the high-water mark is passed", || conn.queued_bytes() > HIGH_WATER).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let seen = work.seen();
    assert!(seen < 1000, "{seen} of 20000 were read");
    assert!(conn.queued_bytes() > HIGH_WATER && conn.queued_bytes() < MOST, "{}", conn.queued_bytes());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(work.seen(), seen);
    // Once it reads, it is served again.
    for n in 0..seen as i32 {
        assert_eq!(raw.next().await.unwrap().opaque, n);
    }
    until("more is read", || work.seen() > seen).await;
}

#[tokio::test]
async fn a_peer_that_never_reads_is_closed_when_idle() {
    let config = ServerConfig {
        outbound_high_water: 1 << 20,
        idle_timeout: Duration::from_millis(200),
        ..ServerConfig::default()
    };
    let (server, _work, addr) = serve(config).await;
    let mut raw = Raw::connect(&addr).await;
    let many: Vec<_> = (0..40).map(|n| numbered(BIG, n)).collect();
    raw.send(&many).await;
    until("it is gone", || server.connections().is_empty()).await;
}

#[tokio::test]
async fn a_client_refuses_more_than_its_peer_takes() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let client = Client::new(ClientConfig { outbound_high_water: 1 << 20, ..ClientConfig::default() }, None);
    let conn = client.connect(&addr).await.unwrap();
    let (_peer, _) = listener.accept().await.unwrap();
    let mut sent = 0;
    while conn.send_oneway(Command::request(ECHO).with_body(vec![1; 1 << 20])) {
        sent += 1;
        assert!(sent < 1000);
        tokio::task::yield_now().await;
    }
    let error = client.invoke(&addr, Command::request(ECHO), LONG).await.unwrap_err();
    assert!(matches!(error, RemotingError::Overloaded { .. }), "{error}");
    assert!(error.to_string().contains(&addr), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (server, _work, _addr) = serve(ServerConfig::default()).await;
    let taken = server.local_addr();
    let error = Server::bind(taken, ServerConfig::default(), Work::new()).await.err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&format!("port {} is in use", taken.port())), "{error}");
}
