//! A graceful stop: clients that understand it are sent away, nobody else notices.

mod common;

use std::{sync::atomic::Ordering, time::Duration};

use client::{BrokerApi, Puller};
use common::{LIMIT, Node, Pair, api, header, lines::Lines, name_server, send, topic, until};
use wire::{
    Command,
    body::{ConsumerData, HeartbeatData},
    code::{request, response},
    header::UpdateConsumerOffsetRequestHeader,
};

const NEW: i32 = 476;
const OLD: i32 = 475;

/// A stop that waits for the answer of a pull nobody answers holds up whatever follows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_pull_does_not_hold_up_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[]).await;
    let (api, addr, broker) = (api(), node.addr.clone(), node.broker().clone());
    topic(&api, &addr, "T", 1).await;
    let consumer = ConsumerData { group_name: "TOOLS_CONSUMER".into(), ..ConsumerData::default() };
    let beat = HeartbeatData { client_id: "c".into(), consumer_data_set: vec![consumer], ..HeartbeatData::default() };
    api.heartbeat(&addr, &beat).await.unwrap();
    let puller = Puller::new(api.clone(), &addr, "TOOLS_CONSUMER");
    let held = tokio::spawn(async move { puller.wait("T", 0, 0, 1, LIMIT).await.map(|_| ()) });
    until("it is held", || async { !broker.holds.is_empty() }).await;
    let conn = broker.clients.member("TOOLS_CONSUMER", "c").unwrap().conn;
    assert_eq!(conn.unanswered(), 1);

    broker.stopping.store(true, Ordering::Release);
    broker.holds.wake_all(&broker);
    assert_eq!(conn.unanswered(), 0, "the connection may close");
    node.stop().await;
    held.await.unwrap().expect_err("its client goes elsewhere");
}

/// Clients that do not understand it are served, and their messages are copied.
#[tokio::test(flavor = "multi_thread")]
async fn a_slave_follows_to_the_end_and_does_not_hold_it_up() {
    let lines = Lines::of_process();
    // Longer than any clock goes.
    let limit = u64::MAX.to_string();
    let keys = [("enableShutdownGracefully", "true"), ("shutdownWaitTimeSeconds", limit.as_str())];
    let mut pair = Pair::start(&keys, &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"before").await;
    pair.equal().await;
    let (master, slave) = (pair.master.broker().clone(), pair.slave.broker().clone());
    let stop = tokio::spawn(pair.master.running.take().unwrap().shutdown());
    until("it is leaving", || async { master.is_leaving() }).await;
    let rounds = slave.sync.rounds();
    until("the slave gets tables", || async { slave.sync.rounds() > rounds + 2 }).await;
    let command = Command::request_with(request::SEND_MESSAGE_V2, &header("T", 0, &[])).with_body("x");
    let sent = pair.api.client().invoke(&pair.master.addr, Command { version: OLD, ..command }, LIMIT).await.unwrap();
    assert_eq!(sent.code, response::SUCCESS, "{:?}", sent.remark);
    assert_eq!(master.store.max_phys(), slave.store.max_phys());
    pair.api.client().close_all();
    tokio::time::timeout(LIMIT, stop).await.expect("it stops when no client is connected").unwrap().unwrap();
    assert_eq!(lines.with(&["parted"]), 0);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_sent_away_before_the_broker_stops() {
    let dir = tempfile::tempdir().unwrap();
    let (server, namesrv) = name_server(&dir).await;
    // Longer than the test: it ends because the clients go.
    let keys =
        [("namesrvAddr", namesrv.as_str()), ("enableShutdownGracefully", "true"), ("shutdownWaitTimeSeconds", "600")];
    let mut node = Node::start(&dir, "m", &keys).await;
    let (api, addr) = (api(), node.addr.clone());
    topic(&api, &addr, "T", 1).await;
    send(&api, &addr, "T", 0, &[], b"before").await;
    until("the route is known", || async { api.query_route(&namesrv, "T").await.is_ok() }).await;
    let slave = common::api();
    let table = async |api: &BrokerApi| {
        let command = Command { version: NEW, ..Command::request(request::GET_ALL_CONSUMER_OFFSET) };
        api.client().invoke(&addr, command, LIMIT).await.unwrap().code
    };
    assert_eq!(table(&slave).await, response::SUCCESS);
    let broker = node.broker().clone();
    let stop = tokio::spawn(node.running.take().unwrap().shutdown());
    until("the route is gone", || async { api.query_route(&namesrv, "T").await.is_err() }).await;

    let client = api.client();
    let ask = async |version: i32, code: i32| {
        let command = match code {
            request::SEND_MESSAGE_V2 => Command::request_with(code, &header("T", 0, &[])).with_body("x"),
            _ => Command::request(code),
        };
        client.invoke(&addr, Command { version, ..command }, LIMIT).await.unwrap()
    };
    let away = ask(NEW, request::SEND_MESSAGE_V2).await;
    assert_eq!((away.code, away.remark.as_deref()), (response::GO_AWAY, Some("please go away")));
    assert_eq!(table(&slave).await, response::SUCCESS);
    assert_eq!(ask(OLD, request::SEND_MESSAGE_V2).await.code, response::SUCCESS);
    broker.dispatch_acknowledged();
    assert_eq!(broker.store.max_offset("T", 0), 2, "what was sent away is not stored");
    let commit = UpdateConsumerOffsetRequestHeader {
        consumer_group: "TOOLS_CONSUMER".into(),
        topic: "T".into(),
        queue_id: Some(0),
        commit_offset: Some(1),
        ..UpdateConsumerOffsetRequestHeader::default()
    };
    let commit = Command { version: NEW, ..Command::request_with(request::UPDATE_CONSUMER_OFFSET, &commit) };
    client.oneway(&addr, commit.clone(), LIMIT).await.unwrap();
    until("a commit is taken", || async { broker.offsets.get("T", "TOOLS_CONSUMER", 0) == Some(1) }).await;
    // More than one look of the stop: who commits progress is a client nevertheless, until it goes.
    let looks = tokio::time::Instant::now() + Duration::from_millis(500);
    while tokio::time::Instant::now() < looks {
        assert_eq!(client.invoke(&addr, commit.clone(), LIMIT).await.unwrap().code, response::SUCCESS);
        assert!(!stop.is_finished());
    }
    // A client of our own connects anew and asks once more. Who came since is served: Java clients of 5.5.0 that are sent
    // away from a new connection, too, lose a call now and then.
    api.send(&addr, &header("T", 0, &[]), "x", LIMIT).await.unwrap();
    assert_eq!(ask(NEW, request::SEND_MESSAGE_V2).await.code, response::SUCCESS);
    assert!(!stop.is_finished());
    assert!(api.query_route(&namesrv, "T").await.is_err(), "it does not register again");

    // The slave stays.
    client.close_all();
    tokio::time::timeout(LIMIT, stop).await.expect("it stops when no client is connected").unwrap().unwrap();
    assert!(!node.root.join("abort").exists(), "a clean stop");
    drop(broker);
    node.again().await;
    assert_eq!(node.broker().offsets.get("T", "TOOLS_CONSUMER", 0), Some(1));
    node.stop().await;
    server.shutdown().await;
}
