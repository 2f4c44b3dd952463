//! Batch queues, light queues and compaction topics as clients meet them.

mod common;

use std::time::Duration;

use client::encode_batch;
use common::{Node, Pair, api, drain, header, lines::Lines, message, send, topic, until};
use store::Boundary;
use wire::{
    Command,
    body::TopicConfig,
    code::{request, response},
    header::QueryMessageRequestHeader,
    property,
    record::{Check, check},
    sys_flag,
};

const LIMIT: Duration = Duration::from_secs(10);

async fn batch_topic(api: &client::BrokerApi, addr: &str, name: &str) {
    let config = TopicConfig {
        topic_name: name.into(),
        read_queue_nums: 1,
        write_queue_nums: 1,
        attributes: [("queue.type".to_owned(), "BatchCQ".to_owned())].into(),
        ..TopicConfig::default()
    };
    api.update_topic(addr, &config).await.unwrap();
}

async fn send_batch(api: &client::BrokerApi, addr: &str, topic: &str, id: &[(&str, &str)]) -> client::Sent {
    let body = encode_batch(&[message("one"), message("two"), message("three")]);
    let mut header = header(topic, 0, id);
    header.batch = Some(true);
    api.send_batch(addr, &header, body, LIMIT).await.unwrap()
}

/// One record for a whole batch where the topic has batch queues and the client named the batch; else one each.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_one_record_in_a_batch_queue() {
    let pair = Pair::start(&[], &[]).await;
    let (api, addr) = (&pair.api, &pair.master.addr);
    batch_topic(api, addr, "B").await;
    topic(api, addr, "T", 1).await;
    send(api, addr, "B", 0, &[], b"single").await;
    let sent = send_batch(api, addr, "B", &[("UNIQ_KEY", "ID1")]).await;
    assert_eq!((sent.header.queue_offset, sent.header.batch_uniq_id.as_deref()), (1, Some("ID1")));
    assert!(!sent.header.msg_id.contains(','), "{}", sent.header.msg_id);
    let unnamed = send_batch(api, addr, "B", &[]).await;
    assert_eq!((unnamed.header.queue_offset, unnamed.header.batch_uniq_id), (4, None));
    let plain = send_batch(api, addr, "T", &[("UNIQ_KEY", "ID2")]).await;
    assert_eq!((plain.header.batch_uniq_id, plain.header.msg_id.split(',').count()), (None, 3));
    pair.master.broker().dispatch_acknowledged();
    let store = &pair.master.broker().store;
    let unit = store.queue_unit("B", 0, 2).unwrap();
    assert_eq!((unit.queue_offset, unit.count, store.max_offset("B", 0)), (1, 3, 7));
    let bytes = store.read_record(unit.physical_offset).unwrap();
    let Check::Record(record) = check(&bytes, true) else { panic!("no record") };
    assert_eq!(record.sys_flag(), sys_flag::INNER_BATCH | sys_flag::NEED_UNWRAP);
    assert_eq!((record.property("INNER_NUM"), record.property("INNER_BASE")), (Some("3"), Some("1")));
    assert_eq!(store.offset_by_time("B", 0, 0, Boundary::Lower).unwrap(), 0);
    // The slave has the same, whatever it knew first.
    pair.equal().await;
    let slave = &pair.slave.broker().store;
    until("the slave has batch queues", || async {
        slave.queue_unit("B", 0, 2).is_some_and(|unit| (unit.queue_offset, unit.count) == (1, 3))
    })
    .await;
    until("the slave has the topic", || async { pair.slave.broker().topics.get("B").is_some() }).await;
    assert_eq!(drain(api, &pair.slave.addr, "B", 0, 0).await, drain(api, addr, "B", 0, 0).await);
    until("its plain files are gone", || async { !pair.slave.root.join("consumequeue/B").exists() }).await;
    pair.stop().await;
}

/// Single messages tell a slave nothing of the kind of their queue: the topic table does, when it comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_slave_learns_late_that_a_topic_has_batch_queues() {
    let pair = Pair::start(&[], &[("slaveSyncInterval", "1500")]).await;
    until("the slave's first round is over", || async { pair.slave.broker().sync.rounds() > 0 }).await;
    batch_topic(&pair.api, &pair.master.addr, "B").await;
    for _ in 0..3 {
        send(&pair.api, &pair.master.addr, "B", 0, &[], b"single").await;
    }
    pair.equal().await;
    until("the slave's queue is a batch queue", || async {
        pair.slave.root.join("batchconsumequeue/B").exists() && !pair.slave.root.join("consumequeue/B").exists()
    })
    .await;
    assert_eq!(drain(&pair.api, &pair.slave.addr, "B", 0, 0).await.len(), 3);
    pair.stop().await;
}

/// What Java answers with MESSAGE_ILLEGAL.
#[tokio::test(flavor = "multi_thread")]
async fn inner_batches_where_they_do_not_belong() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "broker", &[]).await;
    let api = api();
    topic(&api, &node.addr, "T", 1).await;
    batch_topic(&api, &node.addr, "B").await;
    let single = |topic: &str, flag: i32, properties: &[(&str, &str)]| {
        let mut header = header(topic, 0, properties);
        header.sys_flag = flag;
        header
    };
    let illegal = [
        single("T", sys_flag::INNER_BATCH, &[("INNER_NUM", "3")]),
        single("T", 0, &[("INNER_NUM", "3")]),
        single("B", sys_flag::INNER_BATCH, &[("INNER_NUM", "40000")]),
        single("B", sys_flag::INNER_BATCH, &[("INNER_NUM", "3"), ("DELAY", "1")]),
    ];
    for header in illegal {
        let error = api.send(&node.addr, &header, b"x".to_vec(), LIMIT).await.unwrap_err();
        assert_eq!(error.code(), Some(response::MESSAGE_ILLEGAL), "{:?}: {error}", header.properties);
    }
    let own = single("B", sys_flag::INNER_BATCH, &[("INNER_NUM", "3")]);
    assert_eq!(api.send(&node.addr, &own, b"x".to_vec(), LIMIT).await.unwrap().header.queue_offset, 0);
    // A flag on a batch of single messages must not change what its queue is.
    let mut flagged = single("T", sys_flag::INNER_BATCH, &[]);
    flagged.batch = Some(true);
    api.send_batch(&node.addr, &flagged, encode_batch(&[message("a"), message("b")]), LIMIT).await.unwrap();
    assert_eq!(drain(&api, &node.addr, "T", 0, 0).await.len(), 2);
    node.broker().store.flush_queues().unwrap();
    assert!(node.root.join("consumequeue/T").exists());
    node.stop().await;
}

/// Light queues need no topic and no group, and their progress has a file of its own.
#[tokio::test(flavor = "multi_thread")]
async fn light_queues_are_pulled_and_committed() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "broker", &[("enableLmq", "true"), ("enableMultiDispatch", "true")]).await;
    let api = api();
    topic(&api, &node.addr, "T", 2).await;
    let to = [(property::INNER_MULTI_DISPATCH, "%LMQ%a,%LMQ%b")];
    for (number, body) in [b"one", b"two"].iter().enumerate() {
        send(&api, &node.addr, "T", number as i32, &to, *body).await;
    }
    assert_eq!(drain(&api, &node.addr, "%LMQ%b", 0, 0).await, [b"one".to_vec(), b"two".to_vec()]);
    api.update_consumer_offset(&node.addr, "%LMQ%g", "%LMQ%a", 0, 1).await.unwrap();
    for names in ["plain", "%LMQ%a,", "a,%LMQ%b"] {
        let bad = header("T", 0, &[(property::INNER_MULTI_DISPATCH, names)]);
        let error = api.send(&node.addr, &bad, b"x".to_vec(), LIMIT).await.unwrap_err();
        assert_eq!(error.code(), Some(response::MESSAGE_ILLEGAL), "{names}: {error}");
    }
    node.stop().await;
    let text = std::fs::read_to_string(node.root.join("config/lmqConsumerOffset.json")).unwrap();
    assert!(text.contains("%LMQ%a@%LMQ%g"), "{text}");
    node.again().await;
    assert_eq!(api.query_consumer_offset(&node.addr, "%LMQ%g", "%LMQ%a", 0).await.unwrap(), Some(1));
    assert_eq!(drain(&api, &node.addr, "%LMQ%a", 0, 1).await, [b"two".to_vec()]);
    node.stop().await;
}

/// One message of a run that the store's additions make too long does not hurt the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_too_many_light_queues_is_refused_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "broker", &[("enableLmq", "true"), ("enableMultiDispatch", "true")]).await;
    let api = api();
    topic(&api, &node.addr, "T", 1).await;
    let names: Vec<String> = (0..3400).map(|number| format!("%LMQ%{number:03}")[..8].to_owned()).collect();
    let names = names.join(",");
    let good = header("T", 0, &[(property::INNER_MULTI_DISPATCH, "%LMQ%a")]);
    let bad = header("T", 0, &[(property::INNER_MULTI_DISPATCH, &names)]);
    let sends = (0..40).map(|number| {
        let header = if number % 2 == 0 { good.clone() } else { bad.clone() };
        let (api, addr) = (api.clone(), node.addr.clone());
        tokio::spawn(async move { (number, api.send(&addr, &header, b"x".to_vec(), LIMIT).await) })
    });
    for send in sends.collect::<Vec<_>>() {
        let (number, answer) = send.await.unwrap();
        match answer {
            Ok(_) => assert_eq!(number % 2, 0),
            Err(error) => assert!(number % 2 == 1 && error.code() == Some(response::MESSAGE_ILLEGAL), "{error}"),
        }
    }
    assert_eq!(drain(&api, &node.addr, "%LMQ%a", 0, 0).await.len(), 20);
    node.stop().await;
}

/// A compaction topic gives its consumers all messages of a key, and the log says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_topic_is_served_uncompacted_with_a_warning() {
    let lines = Lines::of_process();
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "broker", &[]).await;
    let api = api();
    let config = TopicConfig {
        topic_name: "Compacted".into(),
        read_queue_nums: 1,
        write_queue_nums: 1,
        attributes: [("cleanup.policy".to_owned(), "COMPACTION".to_owned())].into(),
        ..TopicConfig::default()
    };
    let warnings = || lines.with(&["WARN", "topic Compacted has cleanup.policy=COMPACTION", "uncompacted"]);
    assert_eq!(warnings(), 0);
    api.update_topic(&node.addr, &config).await.unwrap();
    assert_eq!(warnings(), 1);
    for body in [&b"old"[..], b"new", b""] {
        send(&api, &node.addr, "Compacted", 0, &[("KEYS", "k")], if body.is_empty() { b"x" } else { body }).await;
    }
    assert_eq!(drain(&api, &node.addr, "Compacted", 0, 0).await, [&b"old"[..], b"new", b"x"]);
    node.stop().await;
    node.again().await;
    assert_eq!(warnings(), 2);
    assert_eq!(drain(&api, &node.addr, "Compacted", 0, 0).await.len(), 3);
    node.stop().await;
}

/// `indexType` of 5.4: T asks for tags, K and U for keys; a unique key asked for by its own field is not affected.
#[tokio::test(flavor = "multi_thread")]
async fn queries_by_tag_and_by_key_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "broker", &[("defaultQueryMaxNum", "2"), ("maxMsgsNumBatch", "4")]).await;
    let api = api();
    topic(&api, &node.addr, "T", 1).await;
    let kinds = [[("TAGS", "red"), ("KEYS", "k1")], [("TAGS", "k1"), ("KEYS", "red")]];
    let mut places = [Vec::new(), Vec::new()];
    for number in 0..6 {
        let properties = [&kinds[number % 2][..], &[("UNIQ_KEY", "same")]].concat();
        let sent = send(&api, &node.addr, "T", 0, &properties, b"x").await;
        places[number % 2].push(i64::from_str_radix(&sent.header.msg_id[16..], 16).unwrap());
    }
    let query = async |key: &str, index_type: Option<&str>, unique: bool, max_num: i32| {
        let header = QueryMessageRequestHeader {
            topic: "T".into(),
            key: key.into(),
            max_num,
            end_timestamp: i64::MAX,
            unique_key_query: unique.then_some(true),
            index_type: index_type.map(str::to_owned),
            last_key: Some("0@T@T@red@same@0".into()),
            ..QueryMessageRequestHeader::default()
        };
        let answer = api.call(&node.addr, Command::request_with(request::QUERY_MESSAGE, &header), LIMIT).await;
        let (mut found, body) = (Vec::new(), answer.unwrap().body);
        let mut rest = &body[..];
        while let Some(Check::Record(record)) = (!rest.is_empty()).then(|| check(rest, true)) {
            found.push(record.physical_offset());
            rest = &rest[record.size()..];
        }
        found
    };
    for (key, index_type, want) in [
        ("red", Some("T"), &places[0]),
        ("k1", Some("T"), &places[1]),
        ("red", Some("K"), &places[1]),
        ("k1", None, &places[0]),
        ("red", Some("U"), &places[1]),
    ] {
        assert_eq!(&query(key, index_type, false, 32).await, want, "{key} {index_type:?}");
    }
    let all = [&places[0][..], &places[1]].concat();
    let newest = |count: usize| {
        let mut sorted = all.clone();
        sorted.sort();
        sorted.split_off(6 - count)
    };
    // The newest ones, oldest first.
    assert_eq!(query("same", None, true, 32).await, newest(2));
    assert_eq!(query("same", Some("T"), true, 32).await, newest(2));
    assert_eq!(query("same", Some("U"), false, 32).await, newest(4));
    assert_eq!(query("red", Some("T"), false, 1).await, places[0][2..]);
    node.stop().await;
}
