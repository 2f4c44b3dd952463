//! A start that takes long: what the ports say meanwhile (F-18).

mod common;
#[path = "common/gate_disk.rs"]
mod gate_disk;

use std::{net::TcpStream, sync::Arc, time::Duration};

use client::BrokerApi;
use common::{Node, api, header, lines::Lines, name_server, name_server_at, ports, send, topic, until};
use gate_disk::GateDisk;
use wire::{
    Command,
    body::KvTable,
    code::{request, response},
    json,
};

/// What a check for life asks.
async fn runtime(api: &BrokerApi, addr: &str) -> Option<KvTable> {
    let command = Command::request(request::GET_BROKER_RUNTIME_INFO);
    let answer = api.call(addr, command, Duration::from_secs(5)).await.ok()?;
    json::decode(&answer.body).ok()
}

async fn meanwhile(api: &BrokerApi, node_addr: &str, port: u16, namesrv: &str) {
    until("the listener answers how far the start is", || async {
        let table = runtime(api, node_addr).await.unwrap_or_default().table;
        table.get("starting").is_some_and(|text| text.contains("reading the commit log, 32 %"))
    })
    .await;
    let table = runtime(api, node_addr).await.unwrap().table;
    assert_eq!(table["brokerActive"], "false");
    assert!(table.contains_key("bootTimestamp") && table.contains_key("brokerVersionDesc"), "{table:?}");
    let fast = format!("127.0.0.1:{}", port - 2);
    assert!(runtime(api, &fast).await.is_some(), "the fast port, too");

    let refused = api.send(node_addr, &header("T", 0, &[]), "x", Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(refused.code(), Some(response::SERVICE_NOT_AVAILABLE), "{refused}");
    assert!(refused.to_string().contains("is starting") && refused.to_string().contains("32 %"), "{refused}");
    let refused = api.max_offset(node_addr, "T", 0).await.unwrap_err();
    assert_eq!(refused.code(), Some(response::SERVICE_NOT_AVAILABLE), "{refused}");
    let refused = api.query_consumer_offset(node_addr, "TOOLS_CONSUMER", "T", 0).await.unwrap_err();
    assert_eq!(refused.code(), None, "old clients take a code for 'no progress': {refused}");

    assert!(TcpStream::connect(("127.0.0.1", port + 1)).is_err(), "no slave is let in");
    assert!(api.query_route(namesrv, "T").await.is_err(), "the name server does not know of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_the_listeners_answer_while_the_store_is_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let (server, namesrv) = name_server(&dir).await;
    let disk = Arc::new(GateDisk::default());
    let mut master = Node::start_on(disk.clone(), &dir, "m", &[("namesrvAddr", &namesrv)]).await;
    let (api, addr, port) = (api(), master.addr.clone(), master.port);
    topic(&api, &addr, "T", 1).await;
    let mut stored = 0;
    while master.broker().store.max_phys() < 5 << 19 {
        stored = send(&api, &addr, "T", 0, &[], &[b'x'; 20_000]).await.header.queue_offset + 1;
    }
    api.update_consumer_offset(&addr, "TOOLS_CONSUMER", "T", 0, 7).await.unwrap();
    until("progress is taken", || async { master.broker().offsets.get("T", "TOOLS_CONSUMER", 0) == Some(7) }).await;
    master.stop().await;
    // As after a kill that left no checkpoint: all of the log is read again.
    std::fs::write(master.root.join("abort"), "").unwrap();
    std::fs::remove_file(master.root.join("checkpoint")).unwrap();

    let closed = disk.close("00000000000001048576");
    let probe = async {
        let _closed = closed;
        meanwhile(&api, &addr, port, &namesrv).await;
    };
    let ((), ()) = tokio::join!(master.again(), probe);

    assert!(!runtime(&api, &addr).await.unwrap().table.contains_key("starting"));
    assert_eq!(send(&api, &addr, "T", 0, &[], b"x").await.header.queue_offset, stored);
    assert_eq!(api.query_consumer_offset(&addr, "TOOLS_CONSUMER", "T", 0).await.unwrap(), Some(7));
    until("the name server knows of it", || async { api.query_route(&namesrv, "T").await.is_ok() }).await;
    TcpStream::connect(("127.0.0.1", port + 1)).expect("slaves are let in");
    master.stop().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_its_tables_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let lines = Lines::of_process();
    let mut master = Node::start(&dir, "lost-tables", &[]).await;
    let (api, addr) = (api(), master.addr.clone());
    topic(&api, &addr, "T", 1).await;
    send(&api, &addr, "T", 0, &[], b"x").await;
    master.stop().await;
    master.again().await;
    master.stop().await;
    let told = ["WARN", "lost-tables", "this broker begins without"];
    assert_eq!(lines.with(&told), 0, "they are there");

    let progress = master.root.join("config/consumerOffset.json");
    std::fs::write(&progress, "").unwrap();
    let _ = std::fs::remove_file(master.root.join("config/consumerOffset.json.bak"));
    master.again().await;
    assert_eq!(lines.with(&told), 1);
    assert_eq!(lines.with(&[told[2], "no consumerOffset.json:"]), 1, "topics are there");
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_that_comes_later_need_not_wait_for_the_next_period() {
    let dir = tempfile::tempdir().unwrap();
    let port = ports();
    let namesrv = format!("127.0.0.1:{port}");
    // Longer than the test waits.
    let keys = [("namesrvAddr", namesrv.as_str()), ("registerNameServerPeriod", "60000")];
    let mut master = Node::start(&dir, "m", &keys).await;
    let api = api();
    topic(&api, &master.addr, "T", 1).await;
    let (server, _) = name_server_at(&dir, port).await;
    until("it registers", || async { api.query_route(&namesrv, "T").await.is_ok() }).await;
    master.stop().await;
    server.shutdown().await;
}
