//! Requests and answers: pipelined, out of order, one-way, in both encodings and both directions.

mod support;

use std::{sync::Arc, time::Duration};

use remoting::{Client, ClientConfig, RemotingError, ServerConfig};
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::Instant,
};
use wire::{Command, SerializeType};

fn client() -> Client {
    Client::new(ClientConfig::default(), None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order_and_come_in_batches() {
    let (_server, work, addr) = serve(ServerConfig::default()).await;
    let mut raw = Raw::connect(&addr).await;
    let requests: Vec<_> = (0..1000).map(|n| numbered(ECHO, n).with_body(format!("body {n}"))).collect();
    raw.send(&requests).await;
    for request in &requests {
        let answer = raw.next().await.unwrap();
        assert!(answer.is_response());
        assert_eq!((answer.opaque, &answer.body), (request.opaque, &request.body));
    }
    let batches = work.batches.lock().clone();
    assert_eq!(batches.iter().sum::<usize>(), 1000);
    assert!(batches.len() < 200, "{batches:?}");
}

#[tokio::test]
async fn answers_come_in_the_order_of_their_making() {
    let (_server, _work, addr) = serve(ServerConfig::default()).await;
    let mut raw = Raw::connect(&addr).await;
    raw.send(&[Command { opaque: 1, ..later(200) }, numbered(ECHO, 2), Command { opaque: 3, ..later(50) }]).await;
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(raw.next().await.unwrap().opaque);
    }
    assert_eq!(order, [2, 3, 1]);
}

#[tokio::test]
async fn many_calls_share_a_connection() {
    let (server, work, addr) = serve(ServerConfig::default()).await;
    let client = Arc::new(client());
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..200u64 {
        let (client, addr) = (client.clone(), addr.clone());
        calls.spawn(async move {
            let request = later(n % 7).with_body(format!("{n}"));
            let answer = client.invoke(&addr, request, LONG).await.unwrap();
            assert_eq!(answer.body, format!("{n}"));
        });
    }
    calls.join_all().await;
    assert_eq!((work.opened(), server.connections().len()), (1, 1));
    assert_eq!(server.connections()[0].unanswered(), 0);
}

#[tokio::test]
async fn one_way_requests_get_no_answer() {
    let (server, work, addr) = serve(ServerConfig::default()).await;
    let client = client();
    client.oneway(&addr, Command::request(ECHO).with_body("x"), LONG).await.unwrap();
    until("the request came", || work.seen() == 1).await;
    assert!(work.seen.lock()[0].is_oneway());
    assert_eq!(server.connections()[0].unanswered(), 0);
    assert_eq!(client.invoke(&addr, Command::request(ECHO).with_body("y"), LONG).await.unwrap().body, "y");
}

#[tokio::test]
async fn both_encodings_on_one_connection() {
    let (_server, _work, addr) = serve(ServerConfig::default()).await;
    let mut raw = Raw::connect(&addr).await;
    let types = [SerializeType::Json, SerializeType::RocketMq, SerializeType::Json, SerializeType::RocketMq];
    for (opaque, serialize) in (1..).zip(types) {
        let answer = raw.ask(Command { serialize, ..numbered(ECHO, opaque) }.with_body("b")).await.unwrap();
        assert_eq!((answer.opaque, answer.serialize, &answer.body[..]), (opaque, serialize, &b"b"[..]));
    }
}

#[tokio::test]
async fn a_server_asks_its_client() {
    let (_server, _work, addr) = serve(ServerConfig::default()).await;
    let client = Client::new(ClientConfig::default(), Some(Work::new()));
    let answer = client.invoke(&addr, Command::request(ASK_BACK), LONG).await.unwrap();
    assert_eq!(answer.body, "to you");
}

#[tokio::test]
async fn frames_may_arrive_byte_by_byte() {
    let (_server, _work, addr) = serve(ServerConfig::default()).await;
    let mut raw = Raw::connect(&addr).await;
    for byte in bytes_of(&[numbered(ECHO, 5).with_body("slow")]) {
        raw.write(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(raw.next().await.unwrap().body, "slow");
}

#[tokio::test]
async fn big_bodies_go_both_ways() {
    let (_server, _work, addr) = serve(ServerConfig::default()).await;
    let client = client();
    let body: Vec<u8> = (0..12 << 20).map(|n: u32| (n / 3) as u8).collect();
    let answer = client.invoke(&addr, Command::request(ECHO).with_body(body.clone()), LONG).await.unwrap();
    assert!(answer.body == body);
    let answer = client.invoke(&addr, Command::request(BIG), LONG).await.unwrap();
    assert!(answer.body == vec![7; 1 << 20]);
}

#[tokio::test]
async fn a_call_times_out_and_its_late_answer_hurts_nobody() {
    let (_server, _work, addr) = serve(ServerConfig::default()).await;
    let client = client();
    let limit = Duration::from_millis(50);
    let error = client.invoke(&addr, later(150), limit).await.unwrap_err();
    assert_eq!(error, RemotingError::Timeout { addr: addr.clone(), after: timeout_of(&error) });
    assert!(timeout_of(&error) <= limit);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(client.invoke(&addr, Command::request(ECHO).with_body("z"), LONG).await.unwrap().body, "z");
}

fn timeout_of(error: &RemotingError) -> Duration {
    match error {
        RemotingError::Timeout { after, .. } => *after,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_closed_connection_fails_its_calls_at_once() {
    let (server, work, addr) = serve(ServerConfig::default()).await;
    let client = Arc::new(client());
    let call = {
        let (client, addr) = (client.clone(), addr.clone());
        tokio::spawn(async move { client.invoke(&addr, Command::request(NEVER), LONG).await })
    };
    until("the request came", || work.seen() == 1).await;
    let started = Instant::now();
    server.connections()[0].close("for the test");
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(&error, RemotingError::Closed { addr: at, .. } if *at == addr), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(client.invoke(&addr, Command::request(ECHO), LONG).await.unwrap().code, 0);
    until("two connections opened, one closed", || (work.opened(), work.closed()) == (2, 1)).await;
}

#[tokio::test]
async fn a_panic_in_the_service_closes_only_its_connection() {
    let (server, work, addr) = serve(ServerConfig::default()).await;
    let (client, other) = (client(), client());
    assert!(other.invoke(&addr, Command::request(ECHO), LONG).await.is_ok());
    let error = client.invoke(&addr, Command::request(PANIC), LONG).await.unwrap_err();
    assert!(matches!(error, RemotingError::Closed { .. }), "{error}");
    assert!(other.invoke(&addr, Command::request(ECHO), LONG).await.is_ok());
    until("the table holds the other one", || server.connections().len() == 1).await;
    assert_eq!(work.closed(), 1);
}

#[tokio::test]
async fn a_dead_address_delays_no_other_and_waiters_share_one_connect() {
    let (_server, work, addr) = serve(ServerConfig::default()).await;
    let config = ClientConfig { connect_timeout: Duration::from_millis(300), ..ClientConfig::default() };
    let client = Arc::new(Client::new(config, None));
    let started = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let client = client.clone();
        // A network that leads nowhere, or to a refusal at once: either is dead.
        calls.spawn(async move { client.invoke("192.0.2.9:9876", Command::request(ECHO), LONG).await });
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(client.invoke(&addr, Command::request(ECHO), Duration::from_millis(250)).await.is_ok());
    for result in calls.join_all().await {
        let error = result.unwrap_err();
        assert!(error.to_string().contains("192.0.2.9:9876"), "{error}");
    }
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());

    let mut connects = tokio::task::JoinSet::new();
    client.close_all();
    for _ in 0..20 {
        let (client, addr) = (client.clone(), addr.clone());
        connects.spawn(async move { client.connect(&addr).await.unwrap().id() });
    }
    let ids: std::collections::BTreeSet<u64> = connects.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 1);
    assert!(work.opened() <= 2);
}

#[tokio::test]
async fn extensions_belong_to_a_connection() {
    let (_server, _work, addr) = serve(ServerConfig::default()).await;
    let conn = client().connect(&addr).await.unwrap();
    assert_eq!(conn.extension::<u32>(), None);
    assert_eq!(conn.extension_or_init(|| 7u32), Some(&7));
    assert!(!conn.set_extension(8u32));
    assert_eq!((conn.extension::<u32>(), conn.extension::<String>()), (Some(&7), None));
    assert_eq!(conn.peer().to_string(), addr);
}

#[tokio::test]
async fn a_request_to_a_client_that_serves_nothing_keeps_no_connection_open() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = ClientConfig { idle_timeout: Duration::from_millis(200), ..ClientConfig::default() };
    let client = Client::new(config, None);
    client.oneway(&listener.local_addr().unwrap().to_string(), Command::request(ECHO), LONG).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(&bytes_of(&[Command::request(ECHO)])).await.unwrap();
    let mut came = Vec::new();
    tokio::time::timeout(LONG, stream.read_to_end(&mut came)).await.expect("it is closed when it is idle").unwrap();
}
