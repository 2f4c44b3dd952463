//! Calls, their errors, and several name servers as one.

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use client::{NameServers, OutgoingMessage, Producer, Puller, Registration};
use support::*;
use wire::{
    Command,
    body::{BrokerData, QueueData, RegisterBrokerBody, TopicRouteData},
    code::{request, response},
    header::{
        PullMessageRequestHeader, PullMessageResponseHeader, QueryConsumerOffsetResponseHeader,
        RegisterBrokerRequestHeader, RegisterBrokerResponseHeader, SendMessageResponseHeader, SendRequest,
    },
    json,
    record::body_crc,
};

#[tokio::test]
async fn errors_say_who_was_asked_for_what() {
    let (_server, addr) = serve(|request| Some(request.error(response::SYSTEM_ERROR, "no disk"))).await;
    let error = api().max_offset(&addr, "T", 0).await.unwrap_err();
    assert_eq!(error.to_string(), format!("GET_MAX_OFFSET at {addr} answered 1 SYSTEM_ERROR: no disk"));
    assert!(error.is_answer() && error.is_final() && !error.is_unreachable());
    for passing in [response::SYSTEM_BUSY, response::SERVICE_NOT_AVAILABLE, response::FLOW_CONTROL, response::GO_AWAY] {
        let (_server, addr) = serve(move |request| Some(request.error(passing, "not now"))).await;
        let error = api().max_offset(&addr, "T", 0).await.unwrap_err();
        assert!(error.is_answer() && !error.is_final(), "{error}");
    }

    let (server, addr) = serve(|_| None).await;
    server.shutdown(Duration::ZERO).await;
    let error = api().min_offset(&addr, "T", 0).await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert!(error.to_string().starts_with(&format!("GET_MIN_OFFSET at {addr}: cannot connect")), "{error}");

    let (_server, addr) = serve(|_| None).await;
    let api = api().with_limit(Duration::from_millis(50));
    let error = api.runtime_info(&addr).await.unwrap_err().to_string();
    assert!(error.contains("GET_BROKER_RUNTIME_INFO") && error.contains(&addr) && error.contains("within"), "{error}");
}

#[tokio::test]
async fn a_body_that_is_no_json_is_an_error() {
    let (_server, addr) = serve(|request| Some(request.ok_body("[1"))).await;
    let error = api().get_all_consumer_offset(&addr).await.unwrap_err().to_string();
    assert!(error.contains("GET_ALL_CONSUMER_OFFSET") && error.contains("cannot be used"), "{error}");
}

#[tokio::test]
async fn a_peer_that_goes_away_is_asked_again_over_a_new_connection() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let (server, addr) = serve(move |request| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Some(request.error(response::GO_AWAY, "please go away")),
        _ => Some(request.ok().with_header(&QueryConsumerOffsetResponseHeader { offset: 5 })),
    })
    .await;
    assert_eq!(api().query_consumer_offset(&addr, "G", "T", 0).await.unwrap(), Some(5));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    drop(server);
}

#[tokio::test]
async fn no_progress_is_none() {
    let (_server, addr) = serve(|request| Some(request.error(response::QUERY_NOT_FOUND, "none"))).await;
    assert_eq!(api().query_consumer_offset(&addr, "G", "T", 0).await.unwrap(), None);
}

fn registration() -> Registration {
    Registration {
        cluster_name: "C".into(),
        broker_name: "b".into(),
        broker_id: 1,
        broker_addr: "10.0.0.1:10911".into(),
        ha_server_addr: "10.0.0.1:10912".into(),
        body: RegisterBrokerBody::default(),
    }
}

fn register(request: &Command) -> Option<Command> {
    let header: RegisterBrokerRequestHeader = request.header();
    assert_eq!(request.code, request::REGISTER_BROKER);
    assert_eq!(header.body_crc32 as u32, body_crc(&request.body));
    assert_eq!((header.broker_id, header.enable_acting_master, header.compressed), (1, Some(false), false));
    let master = RegisterBrokerResponseHeader { master_addr: Some("m:1".into()), ha_server_addr: Some("m:2".into()) };
    Some(request.ok_body(r#"{"table":{"T":"b:4"}}"#).with_header(&master))
}

/// F-10: one dead name server of several delays nothing.
#[tokio::test]
async fn f_10_a_dead_name_server_delays_no_other() {
    let (_one, first) = serve(register).await;
    let (_two, second) = serve(register).await;
    let servers = NameServers::new(api(), &format!("{first};{NOWHERE};{second}"));
    let started = Instant::now();
    let mut answers = servers.register_all(&registration(), LONG);
    for _ in 0..2 {
        let (addr, answer) = answers.recv().await.unwrap();
        let registered = answer.unwrap();
        assert!(addr == first || addr == second);
        assert_eq!(registered.master_addr.as_deref(), Some("m:1"));
        assert_eq!(registered.order_topics.table["T"], "b:4");
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let (addr, answer) = answers.recv().await.unwrap();
    assert!(answer.unwrap_err().is_unreachable() && addr == NOWHERE);
    assert!(answers.recv().await.is_none());
}

/// F-10: a route comes from the server that lives.
#[tokio::test]
async fn f_10_a_route_comes_from_the_server_that_lives() {
    let (_one, alive) = serve(|request| Some(request.ok_body(json::encode(&route("b:1"))))).await;
    let servers = NameServers::new(api(), &format!("{NOWHERE};{alive}"));
    let started = Instant::now();
    assert_eq!(servers.route("T").await.unwrap(), route("b:1"));
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let error = NameServers::new(api(), "").route("T").await.unwrap_err();
    assert_eq!(error.to_string(), "GET_ROUTEINFO_BY_TOPIC: no name server is configured");
}

fn route(addr: &str) -> TopicRouteData {
    TopicRouteData {
        broker_datas: vec![BrokerData {
            broker_name: "b".into(),
            broker_addrs: [(0, addr.to_owned())].into(),
            ..BrokerData::default()
        }],
        queue_datas: vec![QueueData {
            broker_name: "b".into(),
            perm: 6,
            read_queue_nums: 3,
            write_queue_nums: 3,
            ..QueueData::default()
        }],
        ..TopicRouteData::default()
    }
}

#[tokio::test]
async fn a_producer_takes_the_queues_in_turn() {
    let sends: Arc<Mutex<BTreeMap<i32, usize>>> = Arc::default();
    let seen = sends.clone();
    let (_broker, broker) = serve(move |request| {
        let header = SendRequest::of(request);
        assert_eq!((header.producer_group, header.topic), ("P", "T"));
        let queue_id = header.queue_id.unwrap();
        *seen.lock().unwrap().entry(queue_id).or_default() += 1;
        let sent = SendMessageResponseHeader { queue_id, queue_offset: 9, ..Default::default() };
        let code = if request.code == request::SEND_BATCH_MESSAGE { response::FLUSH_SLAVE_TIMEOUT } else { 0 };
        Some(request.response(code).with_header(&sent))
    })
    .await;
    let (_ns, name_server) = serve(move |request| Some(request.ok_body(json::encode(&route(&broker))))).await;
    let producer = Producer::new(api(), NameServers::new(api(), &name_server), "P", LONG);
    for _ in 0..5 {
        let sent = producer.send("T", &OutgoingMessage::new("hello").with("KEYS", "k")).await.unwrap();
        assert!(sent.is_complete());
        assert_eq!(sent.header.queue_offset, 9);
    }
    let sent = producer.send_batch("T", &[OutgoingMessage::new("a"), OutgoingMessage::new("b")]).await.unwrap();
    assert!(!sent.is_complete());
    assert_eq!(*sends.lock().unwrap(), BTreeMap::from([(0, 2), (1, 2), (2, 2)]));
}

#[tokio::test]
async fn a_puller_hands_on_what_comes() {
    let (_server, addr) = serve(|request| {
        let header: PullMessageRequestHeader = request.header();
        let next = PullMessageResponseHeader { next_begin_offset: 7, max_offset: 9, ..Default::default() };
        let is_held = header.sys_flag & 2 != 0;
        assert_eq!(header.suspend_timeout_millis, if is_held { 1500 } else { 0 });
        Some(request.response(response::PULL_NOT_FOUND).with_header(&next))
    })
    .await;
    let puller = Puller::new(api(), &addr, "G").with_tags("A || B");
    let pulled = puller.pull("T", 0, 3, 32).await.unwrap();
    assert_eq!((pulled.code, pulled.header.next_begin_offset), (response::PULL_NOT_FOUND, 7));
    assert_eq!(pulled.records().count(), 0);
    puller.wait("T", 0, 3, 32, Duration::from_millis(1500)).await.unwrap();
}
