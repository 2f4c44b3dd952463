//! Hostile bytes on any port, broken files, a directory in use: one clear line, nothing lost, the broker lives.

mod common;

use std::time::Duration;

use broker::RunningBroker;
use common::{Node, Pair, api, drain, lines::Lines, send, topic, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use wire::code::response;

async fn closed_by_peer(port: u16, bytes: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "the connection stays open");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_frames_end_their_own_connection_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut master = Node::start(&dir, "m", &[]).await;
    let api = api();
    topic(&api, &master.addr, "T", 1).await;
    let deep = [b"\0\0\x40\x04\0\0\x40\0".as_slice(), &[b'['; 0x4000]].concat();
    let frames: [&[u8]; 6] = [
        b"\xff\xff\xff\xff\0\0\0\0",
        b"\x7f\xff\xff\xff\0\0\0\0",
        b"\0\0\0\x08\0\0\xff\xff{}  ",
        b"\0\0\0\x08\x09\0\0\x04{}  ",
        b"\0\0\0\x02ab",
        &deep,
    ];
    for frame in frames {
        closed_by_peer(master.port, frame).await;
        closed_by_peer(master.port - 2, frame).await;
    }
    send(&api, &master.addr, "T", 0, &[], b"alive").await;
    assert_eq!(drain(&api, &master.addr, "T", 0, 0).await, [b"alive"]);
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scanner_fills_no_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut master = Node::start(&dir, "m", &[]).await;
    for _ in 0..100 {
        closed_by_peer(master.port, b"GET / HTTP/1.1\r\n\r\n").await;
    }
    assert!((1..=40).contains(&Lines::of_process().with(&["WARN", "closing the connection"])));
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_at_the_replication_port_are_no_acknowledgement() {
    let dir = tempfile::tempdir().unwrap();
    let keys = [("brokerRole", "SYNC_MASTER"), ("inSyncReplicas", "2"), ("slaveTimeout", "300")];
    let mut master = Node::start(&dir, "m", &keys).await;
    let api = api();
    topic(&api, &master.addr, "T", 1).await;
    for report in [i64::MAX, -1, 0x1234_5678_9abc_def0, 1 << 40] {
        closed_by_peer(master.port + 1, &report.to_be_bytes()).await;
        let answer = send(&api, &master.addr, "T", 0, &[], b"x").await;
        assert_eq!(answer.code, response::FLUSH_SLAVE_TIMEOUT);
    }
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slave_beyond_its_master_is_refused_and_keeps_what_it_has() {
    let mut pair = Pair::start(&[("slaveTimeout", "300")], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    for _ in 0..5 {
        send(&pair.api, &pair.master.addr, "T", 0, &[], b"x").await;
    }
    pair.equal().await;
    let end = pair.slave.broker().store.max_phys();
    pair.master.stop().await;
    std::fs::remove_dir_all(&pair.master.root).unwrap();
    pair.master.again().await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    let answer = send(&pair.api, &pair.master.addr, "T", 0, &[], b"y").await;
    assert_eq!(answer.code, response::FLUSH_SLAVE_TIMEOUT, "the surplus is no copy");
    assert_eq!(pair.slave.broker().store.max_phys(), end);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_tables_fall_back_and_two_broken_ones_refuse_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut master = Node::start(&dir, "m", &[]).await;
    let api = api();
    topic(&api, &master.addr, "T", 1).await;
    topic(&api, &master.addr, "U", 1).await;
    master.stop().await;
    let file = master.root.join("config/topics.json");
    std::fs::write(&file, "{\"topicConfigTable\":{\"T\":").unwrap();
    master.again().await;
    assert!(master.broker().topics.get("T").is_some());
    master.stop().await;
    for name in ["topics.json", "topics.json.bak"] {
        std::fs::write(master.root.join("config").join(name), "no JSON").unwrap();
    }
    let error = RunningBroker::start(master.config(), None).await.err().expect("it must not start empty").to_string();
    assert!(error.contains("topics.json"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_and_a_broken_key_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut master = Node::start(&dir, "m", &[]).await;
    let mut second = master.config();
    second.set("storePathRootDir", &dir.path().join("other").display().to_string()).unwrap();
    let error = RunningBroker::start(second, None).await.err().expect("the port is taken").to_string();
    assert!(error.contains(&master.port.to_string()) || error.contains("haListenPort"), "{error}");
    let api = api();
    let error = api.update_config(&master.addr, "slaveTimeout=soon").await.unwrap_err().to_string();
    assert!(error.contains("slaveTimeout") && error.contains("soon"), "{error}");
    until("it serves on", || async { api.runtime_info(&master.addr).await.is_ok() }).await;
    master.stop().await;
}
