//! A name server over real sockets: what its peers see, request by request.

mod common;

use std::{
    fs,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use common::{Broker, LIMIT, Rig, client, config, listen};
use namesrv::{NameServer, StartError};
use remoting::{Connection, Requests};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use wire::{
    Command,
    body::{DataVersion, GetBrokerMemberGroupResponseBody, KvTable, TopicRouteData},
    code::{request, response},
    frame,
    header::{
        BrokerHeartbeatRequestHeader, DeleteKVConfigRequestHeader, GetBrokerMemberGroupRequestHeader,
        GetKVConfigRequestHeader, GetKVConfigResponseHeader, GetKVListByNamespaceRequestHeader,
        GetRouteInfoRequestHeader, NotifyMinBrokerIdChangeRequestHeader, PutKVConfigRequestHeader,
        QueryDataVersionRequestHeader, QueryDataVersionResponseHeader, RegisterBrokerResponseHeader,
        UnRegisterBrokerRequestHeader,
    },
    json,
};

fn remark(answer: &Command) -> &str {
    answer.remark.as_deref().unwrap_or_default()
}

fn text(answer: &Command) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

fn unregister(broker: &Broker) -> Command {
    let header = UnRegisterBrokerRequestHeader {
        broker_name: broker.header.broker_name.clone(),
        broker_addr: broker.header.broker_addr.clone(),
        cluster_name: broker.header.cluster_name.clone(),
        broker_id: broker.header.broker_id,
    };
    Command::request_with(request::UNREGISTER_BROKER, &header)
}

fn heartbeat(broker: &Broker) -> Command {
    let header = BrokerHeartbeatRequestHeader {
        cluster_name: broker.header.cluster_name.clone(),
        broker_addr: broker.header.broker_addr.clone(),
        broker_name: broker.header.broker_name.clone(),
        ..Default::default()
    };
    Command::request_with(request::BROKER_HEARTBEAT, &header)
}

async fn put_kv(rig: &Rig, key: &str, value: &str) -> Command {
    let header = PutKVConfigRequestHeader {
        namespace: Some("ORDER_TOPIC_CONFIG".into()),
        key: Some(key.into()),
        value: Some(value.into()),
    };
    rig.ask(Command::request_with(request::PUT_KV_CONFIG, &header)).await
}

async fn get_kv(rig: &Rig, key: &str) -> Command {
    let header = GetKVConfigRequestHeader { namespace: "ORDER_TOPIC_CONFIG".into(), key: key.into() };
    rig.ask(Command::request_with(request::GET_KV_CONFIG, &header)).await
}

#[tokio::test]
async fn a_pair_registers_is_found_and_leaves() {
    let rig = Rig::start("").await;
    let (master, slave) = (Broker::new(0, "10.0.0.1:10911"), Broker::new(1, "10.0.0.2:10911"));
    assert_eq!(rig.route("T1").await.code, response::TOPIC_NOT_EXIST);
    let answer = rig.ask(master.request()).await;
    assert_eq!((answer.code, answer.header()), (response::SUCCESS, RegisterBrokerResponseHeader::default()));
    let answer: RegisterBrokerResponseHeader = rig.ask(slave.request()).await.header();
    assert_eq!(answer.master_addr.as_deref(), Some("10.0.0.1:10911"));
    assert_eq!(answer.ha_server_addr.as_deref(), Some("10.0.0.1:109111"));
    let route: TopicRouteData = json::decode(&rig.route("T1").await.body).unwrap();
    assert_eq!(route.broker_datas[0].broker_addrs.len(), 2);
    assert_eq!(rig.ask(unregister(&master)).await.code, response::SUCCESS);
    assert_eq!(rig.ask(unregister(&slave)).await.code, response::SUCCESS);
    assert_eq!(rig.route("T1").await.code, response::TOPIC_NOT_EXIST);
    rig.stop().await;
}

#[tokio::test]
async fn f26_bare_ids_unless_the_client_is_new_or_asks_otherwise() {
    let rig = Rig::start("").await;
    rig.ask(Broker::new(0, "10.0.0.1:10911").request()).await;
    rig.ask(Broker::new(1, "10.0.0.2:10911").request()).await;
    let ask = async |version, accept_standard_json_only| {
        let header = GetRouteInfoRequestHeader { topic: "T1".into(), accept_standard_json_only, ..Default::default() };
        let request = Command::request_with(request::GET_ROUTEINFO_BY_TOPIC, &header);
        text(&rig.ask(Command { version, ..request }).await)
    };
    let rest = r#"},"brokerName":"broker-a","cluster":"c1","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":16,"topicSysFlag":0,"writeQueueNums":16}]}"#;
    let bare = r#"{"brokerDatas":[{"brokerAddrs":{0:"10.0.0.1:10911",1:"10.0.0.2:10911""#;
    let quoted = r#"{"brokerDatas":[{"brokerAddrs":{"0":"10.0.0.1:10911","1":"10.0.0.2:10911""#;
    for (version, accept, start) in [
        (317, None, bare),
        (400, Some(false), bare),
        (400, Some(true), quoted),
        (401, None, quoted),
        (479, Some(false), quoted),
    ] {
        assert_eq!(ask(version, accept).await, format!("{start}{rest}"), "{version} {accept:?}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn brokers_leave_with_their_connection() {
    let rig = Rig::start("").await;
    let broker_side = client();
    broker_side.invoke(&rig.addr, Broker::new(0, "10.0.0.1:10911").request(), LIMIT).await.unwrap();
    assert_eq!(rig.route("T1").await.code, response::SUCCESS);
    broker_side.close_all();
    rig.wait_for_route("T1", response::TOPIC_NOT_EXIST).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_silent_broker_goes_and_its_connection_is_closed() {
    let rig = Rig::start("scanNotActiveBrokerInterval=20").await;
    let mut broker = Broker::new(0, "10.0.0.1:10911");
    broker.header.heartbeat_timeout_millis = Some(500);
    let broker_side = client();
    let connection = broker_side.connect(&rig.addr).await.unwrap();
    connection.invoke(broker.request(), LIMIT).await.unwrap();
    let registered = Instant::now();
    while registered.elapsed() < Duration::from_millis(1200) {
        assert!(connection.send_oneway(heartbeat(&broker)));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(rig.route("T1").await.code, response::SUCCESS, "heartbeats keep it");
    rig.wait_for_route("T1", response::TOPIC_NOT_EXIST).await;
    for _ in 0..100 {
        if !connection.is_open() {
            return drop(rig.stop().await);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the connection is still open");
}

#[tokio::test]
async fn query_data_version_tells_changes() {
    let rig = Rig::start("").await;
    let broker = Broker::new(0, "10.0.0.1:10911");
    let header = QueryDataVersionRequestHeader {
        broker_name: "broker-a".into(),
        broker_addr: "10.0.0.1:10911".into(),
        cluster_name: "c1".into(),
        broker_id: 0,
    };
    let ask = async |counter| {
        let body = json::encode(&DataVersion { counter, ..Default::default() });
        let request = Command::request_with(request::QUERY_DATA_VERSION, &header).with_body(body);
        let answer = rig.ask(request).await;
        (answer.header::<QueryDataVersionResponseHeader>().changed, text(&answer))
    };
    assert_eq!(ask(1).await, (true, String::new()));
    rig.ask(broker.request()).await;
    let known = r#"{"counter":1,"stateVersion":0,"timestamp":0}"#.to_owned();
    assert_eq!(ask(1).await, (false, known.clone()));
    assert_eq!(ask(2).await, (true, known));
    rig.stop().await;
}

/// Keeps the requests it gets.
#[derive(Default)]
struct Listener(Mutex<Vec<Command>>);

impl remoting::Service for Listener {
    fn on_requests(&self, _: &Arc<Connection>, requests: &mut Requests<'_>) {
        self.0.lock().unwrap().extend(requests);
    }
}

#[tokio::test]
async fn members_are_told_of_a_new_smallest_id() {
    let rig = Rig::start("notifyMinBrokerIdChanged=true").await;
    let listener = Arc::new(Listener::default());
    let slave_side = listen(listener.clone()).await;
    let slave_addr = slave_side.local_addr().to_string();
    let (mut slave, mut master) = (Broker::new(1, &slave_addr), Broker::new(0, "10.0.0.1:10911"));
    (slave.header.enable_acting_master, master.header.enable_acting_master) = (Some(true), Some(true));
    rig.ask(slave.request()).await;
    rig.ask(master.request()).await;
    rig.ask(unregister(&master)).await;
    for _ in 0..100 {
        if listener.0.lock().unwrap().len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let notices = std::mem::take(&mut *listener.0.lock().unwrap());
    assert!(notices.iter().all(|n| n.code == request::NOTIFY_MIN_BROKER_ID_CHANGE && n.is_oneway()));
    let headers: Vec<NotifyMinBrokerIdChangeRequestHeader> = notices.iter().map(Command::header).collect();
    let came = NotifyMinBrokerIdChangeRequestHeader {
        min_broker_id: Some(0),
        min_broker_addr: Some("10.0.0.1:10911".into()),
        ha_broker_addr: Some("10.0.0.1:109111".into()),
        ..Default::default()
    };
    let went = NotifyMinBrokerIdChangeRequestHeader {
        min_broker_id: Some(1),
        min_broker_addr: Some(slave_addr.clone()),
        offline_broker_addr: Some("10.0.0.1:10911".into()),
        ..Default::default()
    };
    assert_eq!(headers, [came, went]);
    slave_side.shutdown(Duration::ZERO).await;
    rig.stop().await;
}

/// The name server's part of F-10: a peer that drops packets holds up nobody, and a change is in the route as soon as
/// it is answered.
#[tokio::test]
async fn f10_a_dead_peer_delays_neither_registrations_nor_routes() {
    let rig = Rig::start("notifyMinBrokerIdChanged=true").await;
    for id in (0..8).rev() {
        let mut broker = Broker::new(id, &format!("192.0.2.{id}:10911"));
        broker.header.enable_acting_master = Some(true);
        let before = Instant::now();
        assert_eq!(rig.ask(broker.request()).await.code, response::SUCCESS);
        assert!(before.elapsed() < Duration::from_millis(250), "{:?}", before.elapsed());
    }
    let mut changed = Broker::new(0, "192.0.2.0:10911").with_topics(&["%RETRY%G"]);
    changed.set_version(2);
    let before = Instant::now();
    rig.ask(changed.request()).await;
    assert_eq!(rig.route("%RETRY%G").await.code, response::SUCCESS);
    assert!(before.elapsed() < Duration::from_millis(250), "{:?}", before.elapsed());
    rig.stop().await;
}

#[tokio::test]
async fn f08_a_second_cluster_is_refused_by_name_and_changes_nothing() {
    let rig = Rig::start("").await;
    rig.ask(Broker::new(0, "10.0.0.1:10911").request()).await;
    let mut foreign = Broker::new(1, "10.0.0.3:10921");
    foreign.header.cluster_name = "c2".into();
    let answer = rig.ask(foreign.request()).await;
    assert_eq!(answer.code, response::SYSTEM_ERROR);
    assert!(["broker-a", "c1", "c2"].iter().all(|name| remark(&answer).contains(name)), "{}", remark(&answer));
    assert_eq!(answer.header::<RegisterBrokerResponseHeader>().master_addr, None);
    for (cluster, members) in [("c1", 1), ("c2", 0)] {
        let header = GetBrokerMemberGroupRequestHeader { cluster_name: cluster.into(), broker_name: "broker-a".into() };
        let answer = rig.ask(Command::request_with(request::GET_BROKER_MEMBER_GROUP, &header)).await;
        let body: GetBrokerMemberGroupResponseBody = json::decode(&answer.body).unwrap();
        assert_eq!(body.broker_member_group.unwrap().broker_addrs.len(), members, "{cluster}");
    }
    assert!(text(&rig.route("T1").await).contains("10.0.0.1:10911"));
    rig.stop().await;
}

#[tokio::test]
async fn order_configuration_survives_a_restart_and_goes_to_brokers_and_routes() {
    let settings = "orderMessageEnable=true";
    let rig = Rig::start(settings).await;
    assert_eq!(get_kv(&rig, "T1").await.code, response::QUERY_NOT_FOUND);
    assert_eq!(put_kv(&rig, "T1", "broker-a:4").await.code, response::SUCCESS);
    let rig = Rig::start_in(rig.stop().await, settings).await;
    let value: GetKVConfigResponseHeader = get_kv(&rig, "T1").await.header();
    assert_eq!(value.value.as_deref(), Some("broker-a:4"));
    let answer = rig.ask(Broker::new(0, "10.0.0.1:10911").request()).await;
    assert_eq!(text(&answer), r#"{"table":{"T1":"broker-a:4"}}"#);
    let route: TopicRouteData = json::decode(&rig.route("T1").await.body).unwrap();
    assert_eq!(route.order_topic_conf.as_deref(), Some("broker-a:4"));
    let header = DeleteKVConfigRequestHeader { namespace: "ORDER_TOPIC_CONFIG".into(), key: "T1".into() };
    rig.ask(Command::request_with(request::DELETE_KV_CONFIG, &header)).await;
    let header = GetKVListByNamespaceRequestHeader { namespace: "ORDER_TOPIC_CONFIG".into() };
    let list = rig.ask(Command::request_with(request::GET_KVLIST_BY_NAMESPACE, &header)).await;
    assert_eq!(json::decode::<KvTable>(&list.body).unwrap(), KvTable::default());
    rig.stop().await;
}

#[tokio::test]
async fn the_configuration_is_updated_alive_and_on_disk() {
    let rig = Rig::start("kept=1").await;
    let file = rig.root.path().join("namesrv.properties");
    let mine = "# mine\nenableTopicList = true\ntls.server.mode=enforcing\ntls.server.keyPassword=secret\nkept=1\n";
    fs::write(&file, mine).unwrap();
    rig.ask(Broker::new(0, "10.0.0.1:10911").request()).await;
    let update = |text: &str| Command::request(request::UPDATE_NAMESRV_CONFIG).with_body(text.to_owned());
    assert_eq!(rig.ask(Command::request(request::GET_ALL_TOPIC_LIST_FROM_NAMESERVER)).await.code, response::SUCCESS);
    assert_eq!(rig.ask(update("enableAllTopicList=false\nenableTopicList=false\n")).await.code, response::SUCCESS);
    for code in [206, 311, 312, 313] {
        let answer = rig.ask(Command::request(code)).await;
        assert_eq!((answer.code, remark(&answer)), (response::SYSTEM_ERROR, "disable"), "{code}");
    }
    let refused = rig.ask(update("kvConfigPath=/elsewhere\n")).await;
    assert_eq!((refused.code, remark(&refused)), (response::NO_PERMISSION, "Can not update config in black list."));
    let wrong = rig.ask(update("enableTopicList=true\nwaitSecondsForService=soon\n")).await;
    assert!(wrong.code == response::SYSTEM_ERROR && remark(&wrong).contains("waitSecondsForService=soon"));
    assert_eq!(rig.ask(Command::request(311)).await.code, response::SYSTEM_ERROR, "nothing of it is applied");
    let shown = text(&rig.ask(Command::request(request::GET_NAMESRV_CONFIG)).await);
    assert!(shown.contains("enableTopicList=false\n") && shown.contains("kept=1\n"), "{shown}");
    let changed = mine.replace("enableTopicList = true", "enableTopicList=false") + "enableAllTopicList=false\n";
    assert_eq!(fs::read_to_string(&file).unwrap(), changed, "the keys of the request, and nothing else (F-39)");
    fs::remove_file(&file).unwrap();
    assert_eq!(rig.ask(update("enableTopicList=true\n")).await.code, response::SUCCESS);
    assert_eq!(fs::read_to_string(&file).unwrap(), "enableTopicList=true\n");
    rig.stop().await;
}

#[tokio::test]
async fn routes_wait_after_the_start_when_that_is_wanted() {
    let rig = Rig::start("needWaitForService=true\nwaitSecondsForService=1").await;
    rig.ask(Broker::new(0, "10.0.0.1:10911").request()).await;
    let answer = rig.route("T1").await;
    assert_eq!((answer.code, remark(&answer)), (response::SYSTEM_ERROR, "name server not ready"));
    rig.wait_for_route("T1", response::SUCCESS).await;
    rig.stop().await;
}

#[tokio::test]
async fn garbage_gets_an_answer_with_a_reason_and_harms_nobody() {
    let rig = Rig::start("").await;
    let broker = Broker::new(0, "10.0.0.1:10911");
    rig.ask(broker.request()).await;
    let mut topic = Command::request(request::REGISTER_TOPIC_IN_NAMESRV);
    topic.ext.push("topic", "T");
    let mut version = Command { code: request::QUERY_DATA_VERSION, ..unregister(&broker) };
    version.body = b"{".as_slice().into();
    let mut id = unregister(&broker);
    id.ext.set("brokerId", "zero");
    let bad = [
        broker.request().with_body(&b"{{{{"[..]),
        broker.request().with_body(&[0xff; 1000][..]),
        topic.with_body(&b"[1"[..]),
        version,
        id,
        Command::request(request::UPDATE_NAMESRV_CONFIG).with_body(&[0xff, 0xfe][..]),
    ];
    for request in bad {
        let answer = rig.ask(request.clone()).await;
        assert_eq!(answer.code, response::SYSTEM_ERROR, "{request:?}");
        assert!(!remark(&answer).is_empty(), "{request:?}");
    }
    assert_eq!(rig.route("T1").await.code, response::SUCCESS);
    rig.stop().await;
}

#[tokio::test]
async fn a_missing_field_is_named() {
    let rig = Rig::start("").await;
    let fields = [
        (100, "value"),
        (101, "namespace"),
        (102, "namespace"),
        (103, "brokerName"),
        (104, "brokerName"),
        (105, "topic"),
        (205, "brokerName"),
        (216, "topic"),
        (217, "topic"),
        (219, "namespace"),
        (224, "cluster"),
        (322, "brokerName"),
        (327, "brokerName"),
        (901, "clusterName"),
        (904, "clusterName"),
    ];
    for (code, field) in fields {
        let mut request = Command::request(code);
        if code == 100 {
            request.ext.push("namespace", "N");
            request.ext.push("key", "k");
        }
        let answer = rig.ask(request).await;
        let expected = format!("the custom field <{field}> is null");
        assert_eq!((answer.code, remark(&answer)), (response::SYSTEM_ERROR, expected.as_str()), "{code}");
    }
    let answer = rig.ask(Command::request(100)).await;
    assert_eq!(remark(&answer), "namespace or key is null");
    let answer = rig.ask(Command::request(310)).await;
    assert_eq!((answer.code, remark(&answer)), (3, " request type 310 not supported"));
    rig.stop().await;
}

#[tokio::test]
async fn a_start_that_cannot_be_says_why() {
    let root = tempfile::tempdir().unwrap();
    let first = NameServer::start(config(&root, "")).await.unwrap();
    let taken = config(&root, &format!("listenPort={}", first.local_addr().port()));
    let error = NameServer::start(taken).await.err().unwrap();
    assert!(error.to_string().contains(&first.local_addr().to_string()), "{error}");
    first.shutdown().await;
    fs::write(root.path().join("kvConfig.json"), "{\"configTable\":{").unwrap();
    let error = NameServer::start(config(&root, "")).await.err().unwrap();
    assert!(matches!(error, StartError::Kv(_)) && error.to_string().contains("kvConfig.json"), "{error}");
}

/// `V5_3_1` and the version after it.
const VERSIONS: [i32; 2] = [475, 476];

#[tokio::test]
async fn a_graceful_stop_sends_clients_away() {
    // Longer than the test: it ends because the clients go.
    let rig = Rig::start("enableShutdownGracefully=true\nshutdownWaitTimeSeconds=600").await;
    let broker = client();
    broker.invoke(&rig.addr, Broker::new(0, "10.0.0.1:10911").request(), LIMIT).await.unwrap();
    let Rig { server, addr, client, .. } = rig;
    let route = async |version: i32| {
        let header = GetRouteInfoRequestHeader { topic: "T1".into(), ..Default::default() };
        let request = Command { version, ..Command::request_with(request::GET_ROUTEINFO_BY_TOPIC, &header) };
        client.invoke(&addr, request, LIMIT).await.unwrap()
    };
    let [old, new] = VERSIONS;
    assert_eq!((route(old).await.code, route(new).await.code), (response::SUCCESS, response::SUCCESS));
    let stop = tokio::spawn(server.shutdown());
    let sent_away = async { while route(new).await.code != response::GO_AWAY {} };
    tokio::time::timeout(LIMIT, sent_away).await.expect("it sends clients away");
    assert_eq!(remark(&route(new).await), "please go away");
    let again = Command { version: new, ..Broker::new(0, "10.0.0.1:10911").request() };
    assert_eq!(broker.invoke(&addr, again, LIMIT).await.unwrap().code, response::GO_AWAY);
    // Whoever comes anew is served.
    let late = common::client();
    let again = Command { version: new, ..Broker::new(0, "10.0.0.1:10911").request() };
    assert_eq!(late.invoke(&addr, again, LIMIT).await.unwrap().code, response::SUCCESS);
    late.close_all();
    // A broker that goes takes no route from clients that stay.
    broker.close_all();
    for _ in 0..20 {
        assert_eq!(route(old).await.code, response::SUCCESS);
    }
    assert!(!stop.is_finished());
    client.close_all();
    tokio::time::timeout(LIMIT, stop).await.expect("it stops when nobody is connected").unwrap();
}

/// Names that make a list of 250 KB.
const LONG_LIST: usize = 1000;
const ASKED: usize = 200;

#[tokio::test]
async fn tables_do_not_pile_up_for_a_client_that_reads_none() {
    let rig = Rig::start("").await;
    let names: Vec<String> = (0..LONG_LIST).map(|number| format!("{number:0>250}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    rig.ask(Broker::new(0, "10.0.0.1:10911").with_topics(&names).request()).await;
    let mut stream = TcpStream::connect(&rig.addr).await.unwrap();
    let mut bytes = bytes::BytesMut::new();
    for opaque in 0..ASKED as i32 {
        let request = Command::request(request::GET_ALL_TOPIC_LIST_FROM_NAMESERVER);
        frame::encode(&Command { opaque, ..request }, &mut bytes);
    }
    stream.write_all(&bytes).await.unwrap();
    let (mut answers, mut longest, mut busy) = (0, 0, 0);
    bytes.clear();
    while answers < ASKED {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "the name server closes");
        while let Some(found) = frame::split_frame(&mut bytes, frame::MAX_FRAME).unwrap() {
            let answer = frame::decode(found).unwrap();
            answers += 1;
            longest = longest.max(answer.body.len());
            busy += usize::from(answer.code == response::SYSTEM_BUSY && remark(&answer).contains("ask again"));
        }
    }
    assert!(longest > 250 * LONG_LIST, "{longest}");
    assert!(busy > ASKED / 4, "{busy} of {ASKED} are told to ask again");
}
