//! What `kill -9` leaves: nothing lost, and no more twice than said.

mod support;

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use client::BrokerApi;
use store::{Clock, RealDisk, Store, StoreConfig};
use support::{LIMIT, Running, broker_with, port};
use wire::{header::SendMessageRequestHeaderV2, property, record::RecordView, topic::AUTO_CREATE};

/// Messages of one batch of delivery.
const MOST_AT_ONCE: usize = 1024;

struct NoClock;

impl Clock for NoClock {
    fn now_ms(&self) -> i64 {
        0
    }
}

fn open(dir: &Path) -> Store {
    let config = StoreConfig { root: dir.join("store"), ..StoreConfig::default() };
    Store::open(config, Arc::new(RealDisk), Arc::new(NoClock)).unwrap()
}

fn api() -> BrokerApi {
    let client = remoting::Client::new(remoting::ClientConfig::default(), None);
    BrokerApi::new(Arc::new(client)).with_limit(Duration::from_secs(10))
}

fn header(properties: &[(&str, &str)]) -> SendMessageRequestHeaderV2 {
    let mut text = Vec::new();
    for (name, value) in properties {
        property::push(&mut text, name, value);
    }
    SendMessageRequestHeaderV2 {
        producer_group: "P".into(),
        topic: "T".into(),
        default_topic: AUTO_CREATE.into(),
        default_topic_queue_nums: 1,
        queue_id: 0,
        properties: Some(String::from_utf8(text).unwrap()),
        ..SendMessageRequestHeaderV2::default()
    }
}

/// Waits until a queue has that many messages.
async fn reaches(api: &BrokerApi, addr: &str, count: i64) {
    let end = tokio::time::Instant::now() + LIMIT;
    while api.max_offset(addr, "T", 0).await.unwrap() < count {
        assert!(tokio::time::Instant::now() < end, "not in time");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Sends messages with the numbers of `0..count` as bodies, many at a time.
async fn send(api: &BrokerApi, addr: &str, count: u32, properties: fn(u32) -> Vec<(&'static str, String)>) {
    let senders = (0..32).map(|first| {
        let (api, addr) = (api.clone(), addr.to_owned());
        tokio::spawn(async move {
            for number in (first..count).step_by(32) {
                let properties = properties(number);
                let pairs: Vec<_> = properties.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let body = number.to_be_bytes().to_vec();
                api.send(&addr, &header(&pairs), body, Duration::from_secs(10)).await.unwrap();
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f23_a_kill_in_the_middle_of_delivery_loses_nothing_and_repeats_what_was_on_its_way() {
    const COUNT: u32 = 20_000;
    let (dir, at) = (tempfile::tempdir().unwrap(), port());
    let (api, addr) = (api(), format!("127.0.0.1:{at}"));
    let levels = "messageDelayLevel=5s\n";
    let mut running = Running::start(broker_with(dir.path(), at, levels));
    send(&api, &addr, COUNT, |_| vec![("DELAY", "1".into())]).await;
    let mut killed_at = Vec::new();
    for _ in 0..3 {
        let now = api.max_offset(&addr, "T", 0).await.unwrap();
        reaches(&api, &addr, (now + 2000).min(COUNT.into())).await;
        running.0.kill().unwrap();
        assert!(running.ended());
        running = Running::start(broker_with(dir.path(), at, levels));
        killed_at.push(api.max_offset(&addr, "T", 0).await.unwrap());
    }
    assert!(killed_at[0] < COUNT.into(), "not killed in the middle");
    reaches(&api, &addr, COUNT.into()).await;
    // Nothing is left to come when the copies of a later message are there.
    send(&api, &addr, 1, |_| vec![("DELAY", "1".into()), ("KEYS", "last".into())]).await;
    while !has_last(&api, &addr).await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.signal("TERM");
    assert!(running.ended());
    let store = open(dir.path());
    let mut copies: HashMap<Vec<u8>, Vec<i64>> = HashMap::new();
    for offset in 0..store.max_offset("T", 0) - 1 {
        let unit = store.queue_unit("T", 0, offset).unwrap();
        let bytes = store.read_record(unit.physical_offset).unwrap();
        let record = RecordView::layout(&bytes).unwrap();
        copies.entry(record.body().to_vec()).or_default().push(offset);
    }
    assert_eq!(copies.len(), COUNT as usize, "a message is lost");
    for places in copies.values().filter(|places| places.len() > 1) {
        assert!(killed_at.iter().any(|end| *end > places[0]), "twice without a kill");
    }
    // How far delivery is gets written after each batch: a kill repeats no more than the one that was on its way.
    let repeated: usize = copies.values().map(|places| places.len() - 1).sum();
    assert!(repeated <= killed_at.len() * MOST_AT_ONCE, "{repeated} came twice");
}

async fn has_last(api: &BrokerApi, addr: &str) -> bool {
    let end = api.max_offset(addr, "T", 0).await.unwrap();
    let puller = client::Puller::new(api.clone(), addr, "G");
    let pulled = puller.pull("T", 0, end - 1, 1).await.unwrap();
    pulled.records().any(|record| record.property(property::KEYS) == Some("last"))
}

const KEYED: u32 = 10_000;
const SMALL_INDEX: &str = "maxHashSlotNum=500\nmaxIndexNum=2000\n";

async fn send_keyed(api: &BrokerApi, addr: &str) {
    send(api, addr, KEYED, |number| vec![("KEYS", format!("k{number}")), ("UNIQ_KEY", format!("u{number}"))]).await;
}

async fn finds_keys(api: &BrokerApi, addr: &str) {
    for number in [0, 1, 1999, 2000, KEYED / 2, KEYED - 2, KEYED - 1] {
        for (key, unique) in [(format!("k{number}"), false), (format!("u{number}"), true)] {
            let found = query(api, addr, &key, unique).await;
            assert!(found.contains(&number.to_be_bytes().to_vec()), "{key} is not found: {found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f44_keys_are_found_after_a_kill() {
    let (dir, at) = (tempfile::tempdir().unwrap(), port());
    let (api, addr) = (api(), format!("127.0.0.1:{at}"));
    let mut running = Running::start(broker_with(dir.path(), at, SMALL_INDEX));
    send_keyed(&api, &addr).await;
    running.0.kill().unwrap();
    assert!(running.ended());
    let running = Running::start(broker_with(dir.path(), at, SMALL_INDEX));
    finds_keys(&api, &addr).await;
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn f44_keys_are_found_at_a_slave_after_kills_and_promotion() {
    let (dirs, ports) = ([tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()], [port(), port()]);
    let (api, addrs) = (api(), ports.map(|port| format!("127.0.0.1:{port}")));
    let slave_keys = format!("{SMALL_INDEX}brokerRole=SLAVE\nbrokerId=1\nhaMasterAddress=127.0.0.1:{}\n", ports[0] + 1);
    let start_slave = || Running::start(broker_with(dirs[1].path(), ports[1], &slave_keys));
    let mut master = Running::start(broker_with(dirs[0].path(), ports[0], SMALL_INDEX));
    let mut slave = start_slave();
    let sender = tokio::spawn({
        let (api, addr) = (api.clone(), addrs[0].clone());
        async move { send_keyed(&api, &addr).await }
    });
    for part in 1..=3 {
        reaches(&api, &addrs[1], i64::from(KEYED) * part / 4).await;
        slave.0.kill().unwrap();
        assert!(slave.ended());
        slave = start_slave();
    }
    sender.await.unwrap();
    reaches(&api, &addrs[1], KEYED.into()).await;
    finds_keys(&api, &addrs[1]).await;
    master.0.kill().unwrap();
    slave.0.kill().unwrap();
    assert!(master.ended() && slave.ended());
    slave = start_slave();
    finds_keys(&api, &addrs[1]).await;
    api.update_config(&addrs[1], "brokerRole=ASYNC_MASTER").await.unwrap();
    finds_keys(&api, &addrs[1]).await;
    drop(slave);
}

/// Bodies of the messages with a key.
async fn query(api: &BrokerApi, addr: &str, key: &str, unique: bool) -> Vec<Vec<u8>> {
    let header = wire::header::QueryMessageRequestHeader {
        topic: "T".into(),
        key: key.into(),
        max_num: 32,
        begin_timestamp: 0,
        end_timestamp: i64::MAX,
        unique_key_query: unique.then_some(true),
        ..Default::default()
    };
    let command = wire::Command::request_with(wire::code::request::QUERY_MESSAGE, &header);
    let Ok(answer) = api.call(addr, command, Duration::from_secs(10)).await else { return Vec::new() };
    let mut rest = &answer.body[..];
    let mut bodies = Vec::new();
    while let wire::record::Check::Record(record) = wire::record::check(rest, true) {
        bodies.push(record.body().to_vec());
        rest = &rest[record.size()..];
    }
    bodies
}
