//! Timer messages as clients see them: what is refused, when they come, taking back, and change of roles.

mod common;

use std::{collections::BTreeMap, time::Duration};

use broker::context::now_ms;
use client::BrokerApi;
use common::{FILES_OF_USE, Node, Pair, api, cpu_ticks, drain, header, topic, until};
use store::Batch;
use wire::{
    Command,
    code::{request, response},
    header::{RecallMessageRequestHeader, RecallMessageResponseHeader, SendMessageResponseHeader},
    recall_handle::RecallHandle,
    record::RecordView,
    record_encode::NewRecord,
};

const LIMIT: Duration = Duration::from_secs(10);

async fn ask(api: &BrokerApi, addr: &str, name: &str, properties: &[(&str, &str)], body: &[u8]) -> Command {
    let request = Command::request_with(request::SEND_MESSAGE_V2, &header(name, 0, properties));
    api.ask(addr, request.with_body(body.to_vec()), LIMIT).await.unwrap()
}

/// Sends a message that is due at a time; answers its recall handle.
async fn send_at(api: &BrokerApi, addr: &str, due_ms: i64, unique: &str) -> Option<String> {
    let due = due_ms.to_string();
    let properties = [("TIMER_DELIVER_MS", due.as_str()), ("UNIQ_KEY", unique)];
    let answer = ask(api, addr, "T", &properties, unique.as_bytes()).await;
    assert_eq!(answer.code, response::SUCCESS, "{:?}", answer.remark);
    answer.header::<SendMessageResponseHeader>().recall_handle
}

async fn bodies(api: &BrokerApi, addr: &str) -> Vec<String> {
    let all = drain(api, addr, "T", 0, 0).await;
    all.into_iter().map(|body| String::from_utf8(body).unwrap()).collect()
}

async fn recall(api: &BrokerApi, addr: &str, name: &str, handle: &str) -> Command {
    let header = RecallMessageRequestHeader {
        producer_group: Some("P".into()),
        topic: name.into(),
        recall_handle: handle.into(),
        ..Default::default()
    };
    api.ask(addr, Command::request_with(request::RECALL_MESSAGE, &header), LIMIT).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_wait_is_refused_as_java_refuses_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "a", &[("timerMaxDelaySec", "100")]).await;
    let api = api();
    topic(&api, &node.addr, "T", 1).await;
    let soon = (now_ms() + 50_000).to_string();
    let past = (now_ms() - 1000).to_string();
    type Case<'a> = (&'a [(&'a str, &'a str)], i32, &'a str);
    let cases: [Case<'_>; 6] = [
        (&[("TIMER_DELAY_SEC", "101")], response::MESSAGE_ILLEGAL, "bigger than the max delay 100000ms"),
        (&[("TIMER_DELAY_MS", "later")], response::MESSAGE_ILLEGAL, "timer message illegal"),
        // The first of the three counts, even if another one is good.
        (&[("TIMER_DELAY_SEC", "x"), ("TIMER_DELIVER_MS", &soon)], response::MESSAGE_ILLEGAL, "timer message illegal"),
        (&[("TIMER_DELIVER_MS", &past), ("TIMER_DEL_UNIQKEY", "T+a")], response::MESSAGE_ILLEGAL, "set del msg"),
        (&[("TIMER_DELIVER_MS", &past)], response::SUCCESS, ""),
        (&[("TIMER_DELAY_SEC", "50")], response::SUCCESS, ""),
    ];
    for (properties, code, remark) in cases {
        let answer = ask(&api, &node.addr, "T", properties, b"x").await;
        assert_eq!(answer.code, code, "{properties:?} {:?}", answer.remark);
        assert!(answer.remark.unwrap_or_default().contains(remark), "{properties:?}");
    }
    assert_eq!(bodies(&api, &node.addr).await, ["x"], "only what was due");
    node.broker().dispatch_acknowledged();
    assert_eq!(node.broker().store.max_offset("rmq_sys_wheel_timer", 0), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_wheel_nothing_waits() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "a", &[("timerWheelEnable", "false")]).await;
    let api = api();
    topic(&api, &node.addr, "T", 1).await;
    let answer = ask(&api, &node.addr, "T", &[("TIMER_DELAY_SEC", "5")], b"x").await;
    assert_eq!(answer.code, response::SYSTEM_ERROR);
    assert_eq!(answer.remark.unwrap(), "accurate timer message is not enabled, timerWheelEnable is false");
    for code in [request::GET_TIMER_METRICS, request::GET_TIMER_CHECK_POINT] {
        let answer = api.ask(&node.addr, Command::request(code), LIMIT).await.unwrap();
        assert!(answer.remark.unwrap().contains("is null"));
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_slot_takes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "a", &[("timerCongestNumEachSlot", "5")]).await;
    let api = api();
    topic(&api, &node.addr, "T", 1).await;
    let due = now_ms() + 60_000;
    let mut refused = None;
    for number in 0..1000 {
        let due = due.to_string();
        let answer = ask(&api, &node.addr, "T", &[("TIMER_DELIVER_MS", &due)], b"x").await;
        if answer.code != response::SUCCESS {
            refused = Some((number, answer));
            break;
        }
    }
    let (accepted, answer) = refused.unwrap();
    assert!(accepted > 5 && answer.code == response::SYSTEM_ERROR);
    let remark = "timer message is under flow control, max num limit is 10 or the current value is greater than 5 and less than 10, trigger random flow control";
    assert_eq!(answer.remark.unwrap(), remark);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_at_their_time_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "a", &[]).await;
    let api = api();
    topic(&api, &node.addr, "T", 1).await;
    let now = now_ms();
    let mut due = BTreeMap::new();
    for number in 0..40 {
        let unique = format!("u{number}");
        due.insert(unique.clone(), now + 300 + number * 60);
        send_at(&api, &node.addr, now + 300 + number * 60, &unique).await.unwrap();
    }
    send_at(&api, &node.addr, now + 3_600_000, "later").await.unwrap();
    until("all have come", || async { node.broker().store.max_offset("T", 0) == 40 }).await;
    for offset in 0..40 {
        let store = &node.broker().store;
        let bytes = store.read_record(store.queue_unit("T", 0, offset).unwrap().physical_offset).unwrap();
        let record = RecordView::layout(&bytes).unwrap();
        let asked = due[std::str::from_utf8(record.body()).unwrap()];
        assert!(record.store_timestamp() >= asked, "{} ms early", asked - record.store_timestamp());
    }
    until("the last slot is over", || async {
        let broker = node.broker();
        broker.timers.timer().unwrap().status(&broker.store).waiting == 1
    })
    .await;
    let metrics = api.get_timer_metrics(&node.addr).await.unwrap();
    assert!(metrics.contains(r#""T":{"count":1,"#), "{metrics}");
    let info = api.ask(&node.addr, Command::request(request::GET_BROKER_RUNTIME_INFO), LIMIT).await.unwrap();
    let info = String::from_utf8(info.body.to_vec()).unwrap();
    for part in [r#""timerCongestNum":"1""#, r#""timerOffsetBehind":"0""#, r#""timerReadBehind":"0""#] {
        assert!(info.contains(part), "{part} {info}");
    }
    // A stop and a start forget nothing; deleting the topic forgets its count.
    node.stop().await;
    node.again().await;
    assert!(api.get_timer_metrics(&node.addr).await.unwrap().contains(r#""T":{"count":1,"#));
    api.delete_topic(&node.addr, "T").await.unwrap();
    let metrics = api.get_timer_metrics(&node.addr).await.unwrap();
    assert!(!metrics.contains(r#""T""#), "{metrics}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "a", &[("recallMessageEnable", "true")]).await;
    let api = api();
    topic(&api, &node.addr, "T", 1).await;
    topic(&api, &node.addr, "U", 1).await;
    let due = now_ms() + 2500;
    let handle = send_at(&api, &node.addr, due, "gone").await.unwrap();
    let decoded = RecallHandle::decode(&handle).unwrap();
    assert_eq!((decoded.topic.as_str(), decoded.broker_name.as_str()), ("T", "broker-a"));
    assert_eq!(decoded.unique_id, "gone");
    send_at(&api, &node.addr, due, "stays").await.unwrap();

    let other = RecallHandle { broker_name: "b".into(), ..decoded.clone() }.encode();
    let over = RecallHandle { time_ms: "5".into(), ..decoded }.encode();
    let refusals = [
        ("Nowhere", handle.as_str(), response::TOPIC_NOT_EXIST, "recall failed, the topic[Nowhere] not exist"),
        ("T", "*", response::ILLEGAL_OPERATION, "recall handle is invalid"),
        ("U", &handle, response::ILLEGAL_OPERATION, "recall failed, topic not match"),
        ("T", &other, response::ILLEGAL_OPERATION, "recall failed, broker service not available"),
        ("T", &over, response::ILLEGAL_OPERATION, "recall failed, timestamp invalid"),
    ];
    for (name, handle, code, remark) in refusals {
        let answer = recall(&api, &node.addr, name, handle).await;
        assert_eq!((answer.code, answer.remark.as_deref()), (code, Some(remark)));
    }
    let answer = recall(&api, &node.addr, "T", &handle).await;
    assert_eq!(answer.code, response::SUCCESS, "{:?}", answer.remark);
    assert_eq!(answer.header::<RecallMessageResponseHeader>().msg_id, "gone");
    until("the slot is over", || async {
        let status = node.broker().timers.timer().unwrap().status(&node.broker().store);
        status.read_ms > due
    })
    .await;
    node.broker().dispatch_acknowledged();
    assert_eq!(bodies(&api, &node.addr).await, ["stays"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_back_is_off_by_default() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "a", &[]).await;
    let answer = recall(&api(), &node.addr, "T", "*").await;
    assert_eq!(answer.code, response::NO_PERMISSION);
    assert_eq!(answer.remark.as_deref(), Some("recall failed, operation is forbidden"));
    node.stop().await;
}

/// The master goes away with messages that wait; the slave, promoted, delivers each of them once, and what the old
/// master has delivered stays delivered. Then it becomes a slave and delivers nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_slave_goes_on_with_what_waits() {
    let mut pair = Pair::start(&[], &[]).await;
    let api = pair.api.clone();
    topic(&api, &pair.master.addr, "T", 1).await;
    let now = now_ms();
    send_at(&api, &pair.master.addr, now + 200, "before").await;
    send_at(&api, &pair.master.addr, now + 4000, "after").await;
    until("the first has come", || async { pair.master.broker().store.max_offset("T", 0) == 1 }).await;
    until("the slave has taken up what waits", || async {
        let broker = pair.slave.broker();
        broker.timers.timer().unwrap().status(&broker.store).queue_offset == 2
    })
    .await;
    pair.equal().await;
    until("the slave carries the counts", || async {
        let metrics = pair.slave.broker().timers.metrics_json();
        metrics.unwrap().contains(r#""T":{"count":1,"#)
    })
    .await;
    pair.master.stop().await;
    pair.slave.broker().dispatch_acknowledged();
    assert_eq!(pair.slave.broker().store.max_offset("T", 0), 1);
    change_role(&pair.slave, "ASYNC_MASTER", "0").await;
    until("the second has come", || async { pair.slave.broker().store.max_offset("T", 0) >= 2 }).await;
    assert!(now_ms() >= now + 4000, "early");
    assert_eq!(bodies(&api, &pair.slave.addr).await, ["before", "after"]);
    until("nothing waits", || async { pair.slave.broker().timers.metrics_json().unwrap().contains(r#""count":0"#) })
        .await;
    send_at(&api, &pair.slave.addr, now_ms() + 1500, "third").await;
    change_role(&pair.slave, "SLAVE", "1").await;
    let broker = pair.slave.broker();
    let end = broker.store.max_phys();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(broker.store.max_phys(), end, "a slave delivers nothing");
    change_role(&pair.slave, "ASYNC_MASTER", "0").await;
    until("the third has come", || async { pair.slave.broker().store.max_offset("T", 0) >= 3 }).await;
    assert_eq!(bodies(&api, &pair.slave.addr).await, ["before", "after", "third"]);
    pair.slave.stop().await;
    pair.name_server.shutdown().await;
}

async fn change_role(node: &Node, role: &str, id: &str) {
    let mut config = (*node.broker().config()).clone();
    config.set("brokerRole", role).unwrap();
    config.set("brokerId", id).unwrap();
    broker::role::change(node.broker(), config, async {}).await.unwrap();
}

/// W-26: a message that is due while no slave confirms is stored once and comes as soon as anything is served.
#[tokio::test(flavor = "multi_thread")]
async fn w26_want_of_replicas_drops_and_doubles_nothing() {
    let mut pair = Pair::start(&[("slaveTimeout", "200")], &[]).await;
    let api = pair.api.clone();
    topic(&api, &pair.master.addr, "T", 1).await;
    for number in 0..20 {
        send_at(&api, &pair.master.addr, now_ms() + 1500 + number * 10, &format!("u{number}")).await;
    }
    let waiting = pair.master.broker().timers.check_point(pair.master.broker()).unwrap().last_read_ms;
    pair.slave.stop().await;
    until("all have come", || async { pair.master.broker().store.max_offset("T", 0) >= 20 }).await;
    assert!(waiting > 0);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(bodies(&api, &pair.master.addr).await.len(), 20);
    pair.slave.again().await;
    pair.equal().await;
    pair.slave.broker().dispatch_acknowledged();
    assert_eq!(pair.slave.broker().store.max_offset("T", 0), 20);
    pair.stop().await;
}

/// Puts timer messages of 1 KiB into the log as sends do, without a client; each for the time that `due_ms` gives it.
fn put_timed(broker: &broker::context::Broker, count: i64, due_ms: impl Fn(i64) -> i64) {
    let (mut batch, host) = (Batch::new(), broker.store_host());
    for number in 0..count {
        let due_ms = due_ms(number);
        let mut properties = Vec::new();
        for (name, value) in [
            ("UNIQ_KEY", format!("{number}-{due_ms}")),
            ("TIMER_DELIVER_MS", due_ms.to_string()),
            ("TIMER_OUT_MS", ((due_ms - 1) / 1000 * 1000).to_string()),
            ("REAL_TOPIC", "T".to_owned()),
            ("REAL_QID", "0".to_owned()),
        ] {
            wire::property::push(&mut properties, name, &value);
        }
        let record = NewRecord {
            topic: wire::topic::TIMER,
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            properties: &properties,
            body: &[b'x'; 1024],
        };
        batch.push(&record).unwrap();
        if batch.len() == 1000 {
            broker.store.append(&mut batch).unwrap();
            batch.clear();
        }
    }
    if !batch.is_empty() {
        broker.store.append(&mut batch).unwrap();
    }
    broker.dispatch_acknowledged();
    broker.timers.ring();
}

/// How late the copies from `from` to `to` were stored, ms, in ascending order.
fn lateness(broker: &broker::context::Broker, from: i64, to: i64) -> Vec<i64> {
    let late = (from..to).map(|offset| {
        let bytes = broker.store.read_record(broker.store.queue_unit("T", 0, offset).unwrap().physical_offset).unwrap();
        let record = RecordView::layout(&bytes).unwrap();
        record.store_timestamp() - record.property("TIMER_DELIVER_MS").unwrap().parse::<i64>().unwrap()
    });
    let mut late: Vec<i64> = late.collect();
    late.sort_unstable();
    late
}

fn tell(what: &str, late: &[i64], cpu: u64) {
    let at = |share: usize| late[(late.len() - 1) * share / 1000];
    println!(
        "{what}: {} messages; late by p50 {} ms, p99 {} ms, p99.9 {} ms, at most {} ms; CPU {} ms, {:.1} µs a message",
        late.len(),
        at(500),
        at(990),
        at(999),
        at(1000),
        cpu * 10,
        cpu as f64 * 10_000.0 / late.len() as f64
    );
    assert!(late[0] >= 0, "early");
}

/// A measurement, see docs/bench.md: `cargo test --release -p broker --test timer -- --ignored --nocapture measured`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures for a minute"]
async fn ten_thousand_a_second_and_a_million_in_one_measured() {
    const TICKS: i64 = 2000;
    const MANY: i64 = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &FILES_OF_USE).await;
    let (broker, before) = (node.broker().clone(), cpu_ticks());
    let mut every = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..TICKS {
        every.tick().await;
        let now = now_ms();
        put_timed(&broker, 100, |number| now + 2000 + number * 37 % 1000);
    }
    while broker.store.max_offset("T", 0) < TICKS * 100 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tell("10,000 a second for 20 s", &lateness(&broker, 0, TICKS * 100), cpu_ticks() - before);

    let (before, second) = (cpu_ticks(), now_ms() / 1000 + 30);
    put_timed(&broker, MANY, |number| second * 1000 + 1 + number * 37 % 999);
    while broker.store.max_offset("T", 0) < TICKS * 100 + MANY {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let status = broker.timers.timer().unwrap().status(&broker.store);
        assert!(status.in_memory <= 65_536 + 512, "{status:?}");
    }
    tell("1,000,000 in one second", &lateness(&broker, TICKS * 100, TICKS * 100 + MANY), cpu_ticks() - before);
    drop(broker);
    node.stop().await;
}
