//! Delay levels: at their time, never early, at least once, whatever happens meanwhile.

mod common;
#[path = "common/gate_disk.rs"]
mod gate_disk;

use std::{collections::HashMap, sync::Arc, time::Duration};

use broker::context::Broker;
use common::{FILES_OF_USE, Node, Pair, api, cpu_ticks, drain, send, topic, until};
use gate_disk::GateDisk;
use store::Batch;
use wire::{
    Command,
    body::DelayOffsetSerializeWrapper,
    code::{request, response},
    header::ConsumerSendMsgBackRequestHeader,
    property,
    record::RecordView,
    record_encode::NewRecord,
    topic::SCHEDULE,
};

/// Puts messages of one level into the log as sends do, without a client.
fn put_delayed(broker: &Arc<Broker>, level: i32, real_topic: Option<&str>, bodies: impl Iterator<Item = Vec<u8>>) {
    let mut properties = Vec::new();
    property::push(&mut properties, property::DELAY, &level.to_string());
    if let Some(real_topic) = real_topic {
        property::push(&mut properties, property::REAL_TOPIC, real_topic);
        property::push(&mut properties, property::REAL_QUEUE_ID, "0");
    }
    let mut batch = Batch::new();
    for body in bodies {
        let host = broker.store_host();
        let record = NewRecord {
            topic: SCHEDULE,
            queue_id: level - 1,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            properties: &properties,
            body: &body,
        };
        batch.push(&record).unwrap();
        if batch.len() == 1000 {
            broker.store.append(&mut batch).unwrap();
            batch.clear();
        }
    }
    broker.store.append(&mut batch).unwrap();
    broker.dispatch_acknowledged();
}

fn numbered(count: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|number| number.to_be_bytes().to_vec())
}

/// Each record of a queue.
fn each(broker: &Broker, topic: &str, queue: i32, mut look: impl FnMut(&RecordView<'_>)) {
    for offset in 0..broker.store.max_offset(topic, queue) {
        let unit = broker.store.queue_unit(topic, queue, offset).unwrap();
        let bytes = broker.store.read_record(unit.physical_offset).unwrap();
        look(&RecordView::layout(&bytes).unwrap());
    }
}

/// Asserts that each message of a level came once, in order, and none before its time.
fn once_and_in_time(broker: &Broker, level: i32, delay_ms: i64, count: u32) {
    let mut stored = HashMap::new();
    each(broker, SCHEDULE, level - 1, |record| {
        stored.insert(record.body().to_vec(), record.store_timestamp());
    });
    let mut got = Vec::new();
    each(broker, "T", 0, |record| {
        let due = stored[record.body()] + delay_ms;
        assert!(record.store_timestamp() >= due, "{} ms early", due - record.store_timestamp());
        got.push(u32::from_be_bytes(record.body().try_into().unwrap()));
    });
    assert_eq!(got.len(), count as usize, "copies");
    assert!(got.iter().copied().eq(0..count), "each once and in order");
}

async fn delivered(node: &Node, count: i64) {
    until("all are delivered", || async { node.broker().store.max_offset("T", 0) >= count }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f22_a_limit_does_not_apply_to_what_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let keys = [("messageDelayLevel", "1s 2s 1s"), ("mappedFileSizeCommitLog", "4194304")];
    let mut master = Node::start(&dir, "m", &keys).await;
    let (api, addr) = (api(), master.addr.clone());
    topic(&api, &addr, "T", 1).await;
    send(&api, &addr, "T", 0, &[("DELAY", "2")], &vec![b'x'; 1 << 20]).await;
    api.update_config(&addr, "maxMessageSize=65536").await.unwrap();
    for _ in 0..5 {
        send(&api, &addr, "T", 0, &[("DELAY", "2")], &[b'y'; 1024]).await;
    }
    // The limit of the store too is the lower one after a restart.
    master.stop().await;
    master.keys.push(("maxMessageSize".into(), "65536".into()));
    master.again().await;
    delivered(&master, 6).await;
    let bodies = drain(&api, &addr, "T", 0, 0).await;
    assert_eq!(bodies.iter().map(Vec::len).collect::<Vec<_>>(), [1 << 20, 1024, 1024, 1024, 1024, 1024]);

    let first = client::Puller::new(api.clone(), &addr, "G").pull("T", 0, 0, 1).await.unwrap();
    let header = ConsumerSendMsgBackRequestHeader {
        offset: first.records().next().unwrap().physical_offset(),
        group: "G".into(),
        delay_level: 1,
        ..ConsumerSendMsgBackRequestHeader::default()
    };
    let command = Command::request_with(request::CONSUMER_SEND_MSG_BACK, &header);
    api.call(&addr, command, Duration::from_secs(5)).await.unwrap();
    until("it comes again", || async { api.max_offset(&addr, "%RETRY%G", 0).await.unwrap() == 1 }).await;
    assert_eq!(drain(&api, &addr, "%RETRY%G", 0, 0).await[0].len(), 1 << 20);
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f22_what_can_never_be_delivered_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut master = Node::start(&dir, "m", &[]).await;
    let broker = master.broker().clone();
    put_delayed(&broker, 1, None, numbered(1));
    put_delayed(&broker, 1, Some("RMQ_SYS_TRANS_HALF_TOPIC"), numbered(1));
    let too_long = "t".repeat(300);
    put_delayed(&broker, 1, Some(&too_long), numbered(1));
    put_delayed(&broker, 1, Some("T"), numbered(3));
    delivered(&master, 3).await;
    until("the progress is that of the copies", || async { broker.delays.next(1) == 6 }).await;
    assert_eq!(broker.store.max_offset("RMQ_SYS_TRANS_HALF_TOPIC", 0), 0);
    drop(broker);
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f23_a_clean_stop_in_the_middle_of_delivery_repeats_nothing() {
    const COUNT: u32 = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let keys = [("mappedFileSizeCommitLog", "16777216"), ("mappedFileSizeConsumeQueue", "600000")];
    let mut master = Node::start(&dir, "m", &keys).await;
    // Each quarter falls due over as long as it took to put: a stop at its first delivery cuts into it. How far delivery
    // gets before the stop is the machine's affair; that a stop came in between is not.
    let mut stopped_in_the_middle = 0;
    for quarter in 0..4 {
        let (begin, end) = (COUNT / 4 * quarter, COUNT / 4 * (quarter + 1));
        put_delayed(master.broker(), 1, Some("T"), numbered(end).skip(begin as usize));
        delivered(&master, i64::from(begin) + 1).await;
        let broker = master.broker().clone();
        master.stop().await;
        stopped_in_the_middle += u32::from(broker.store.max_offset("T", 0) < end.into());
        drop(broker);
        master.again().await;
    }
    assert!(stopped_in_the_middle > 0, "every stop came after the last delivery");
    delivered(&master, COUNT.into()).await;
    until("the level is through", || async { master.broker().delays.next(1) == COUNT.into() }).await;
    once_and_in_time(master.broker(), 1, 1000, COUNT);
    master.stop().await;
}

/// Levels of one and two seconds. Puts messages into both and waits until the second is delivered: then rounds have passed
/// since the first was.
async fn delivered_twice(master: &Node) {
    put_delayed(master.broker(), 1, Some("T"), numbered(3000));
    put_delayed(master.broker(), 2, Some("U"), numbered(1));
    until("both levels are delivered", || async {
        let store = &master.broker().store;
        store.max_offset("T", 0) == 3000 && store.max_offset("U", 0) == 1
    })
    .await;
}

const TWO_LEVELS: (&str, &str) = ("messageDelayLevel", "1s 2s");

/// Peers and file are told what `get` says; delivery goes on at `next`.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn f23_a_slave_is_told_of_a_delivery_when_it_holds_the_copy() {
    let disks = [Arc::new(GateDisk::default()), Arc::new(GateDisk::default())];
    let pair = Pair::start_on(disks.clone(), &[TWO_LEVELS], &[TWO_LEVELS]).await;
    let master = pair.master.broker().clone();
    disks[1].close_writes(true);
    delivered_twice(&pair.master).await;
    let flushing = master.clone();
    tokio::task::spawn_blocking(move || flushing.store.flush()).await.unwrap().unwrap();
    assert_eq!(master.delays.next(1), 3000);
    let told = (master.delays.get(1), master.delays.snapshot().offset_table.get(&1).copied().unwrap_or(0));
    disks[1].close_writes(false);
    assert_eq!(told, (0, 0), "of copies that only the master has");
    until("the slave hears of all", || async {
        let slave = pair.slave.broker();
        let known = slave.delays.get(1);
        slave.dispatch_acknowledged();
        let copies = slave.store.max_offset("T", 0);
        assert!(known <= copies, "the slave takes {known} for delivered and has {copies}");
        known == 3000 && master.delays.get(1) == 3000
    })
    .await;
    drop(master);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn f23_nobody_is_told_of_a_delivery_before_the_device_holds_the_copy() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Arc::new(GateDisk::default()));
    let mut master = Node::start_on(disk.clone(), &dir, "m", &[TWO_LEVELS]).await;
    disk.close_syncs(true);
    delivered_twice(&master).await;
    let told = (master.broker().delays.next(1), master.broker().delays.get(1));
    disk.close_syncs(false);
    assert_eq!(told, (3000, 0));
    until("it is told then", || async { master.broker().delays.get(1) == 3000 }).await;
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f24_progress_beyond_its_queue_is_corrected_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut master = Node::start(&dir, "m", &[("flushDelayOffsetInterval", "100")]).await;
    put_delayed(master.broker(), 2, Some("T"), numbered(4));
    master.stop().await;
    let file = master.root.join("config/delayOffset.json");
    let text = r#"{"dataVersion":{"counter":1,"stateVersion":0,"timestamp":1},"offsetTable":{2:77}}"#;
    std::fs::write(&file, text).unwrap();
    master.again().await;
    assert_eq!(master.broker().delays.get(2), 4);
    until("the file is right", || async { std::fs::read_to_string(&file).unwrap().contains("2:4") }).await;
    put_delayed(master.broker(), 2, Some("T"), numbered(3));
    delivered(&master, 3).await;
    once_and_in_time(master.broker(), 2, 5000, 3);
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f24_progress_beyond_its_queue_is_corrected_at_promotion() {
    let mut pair = Pair::start(&[("messageDelayLevel", "1s 1s")], &[("messageDelayLevel", "1s 1s")]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    put_delayed(pair.master.broker(), 2, Some("T"), numbered(3));
    delivered(&pair.master, 3).await;
    pair.equal().await;
    pair.master.stop().await;
    let ahead = DelayOffsetSerializeWrapper { offset_table: [(2, 77)].into(), ..Default::default() };
    assert!(pair.slave.broker().delays.adopt("m", ahead, 0, 0));
    pair.api.update_config(&pair.slave.addr, "brokerRole=ASYNC_MASTER").await.unwrap();
    assert_eq!(pair.slave.broker().delays.get(2), 3);
    let file = std::fs::read_to_string(pair.slave.root.join("config/delayOffset.json")).unwrap();
    assert!(file.contains("2:3"), "{file}");
    put_delayed(pair.slave.broker(), 2, Some("T"), (3..6u32).map(|number| number.to_be_bytes().to_vec()));
    delivered(&pair.slave, 6).await;
    once_and_in_time(pair.slave.broker(), 2, 1000, 6);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f21_clocks_of_the_pair_differ_and_the_slave_is_promoted() {
    let mut pair = Pair::start(&[], &[]).await;
    pair.slave.broker().clock.begin(-60_000);
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    for _ in 0..20 {
        send(&pair.api, &pair.master.addr, "T", 0, &[], b"from the master").await;
    }
    pair.equal().await;
    until("the topic is at the slave", || async { pair.slave.broker().topics.get("T").is_some() }).await;
    pair.master.stop().await;
    pair.api.update_config(&pair.slave.addr, "brokerRole=ASYNC_MASTER").await.unwrap();
    send(&pair.api, &pair.slave.addr, "T", 0, &[("DELAY", "1")], b"later").await;
    for _ in 0..20 {
        send(&pair.api, &pair.slave.addr, "T", 0, &[], b"from the slave").await;
    }
    delivered(&pair.slave, 41).await;
    let slave = pair.slave.broker();
    let mut times = Vec::new();
    each(slave, "T", 0, |record| times.push(record.store_timestamp()));
    assert!(times.is_sorted(), "store times fall: {times:?}");
    assert!(*times.last().unwrap() <= broker::context::now_ms(), "stored after it was read");
    let mut sent = 0;
    each(slave, SCHEDULE, 0, |record| sent = record.store_timestamp());
    assert!(times[40] >= sent + 1000, "the delayed one came {} ms after its send", times[40] - sent);
    for (offset, time) in times.iter().enumerate() {
        let found = slave.store.offset_by_time("T", 0, *time, store::Boundary::Lower).unwrap();
        assert!(found <= offset as i64, "the record at {offset} is skipped: {found}");
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn w26_no_delayed_message_is_dropped_or_held_up_for_want_of_replicas() {
    let mut pair = Pair::start(&[("slaveTimeout", "1000")], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    // A slave with an empty log would begin with the newest segment.
    send(&pair.api, &pair.master.addr, "U", 0, &[], b"first").await;
    pair.equal().await;
    pair.slave.stop().await;
    put_delayed(pair.master.broker(), 1, Some("T"), numbered(5000));
    // With a wait for replicas at each append the file would be minutes away from this.
    delivered(&pair.master, 5000).await;
    pair.slave.again().await;
    pair.equal().await;
    until("the slave hears of it", || async { pair.slave.broker().delays.get(1) == 5000 }).await;
    once_and_in_time(pair.slave.broker(), 1, 1000, 5000);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_slave_delivers_what_the_dead_master_had_not() {
    let mut pair = Pair::start(&[], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    put_delayed(pair.master.broker(), 1, Some("T"), numbered(2000));
    pair.equal().await;
    // Gone: no last round of metadata can reach it.
    pair.master.stop().await;
    pair.api.update_config(&pair.slave.addr, "brokerRole=ASYNC_MASTER").await.unwrap();
    until("each message is there", || async {
        let mut seen = std::collections::HashSet::new();
        each(pair.slave.broker(), "T", 0, |record| {
            seen.insert(record.body().to_vec());
        });
        seen.len() == 2000
    })
    .await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_master_delivers_no_more() {
    let pair = Pair::start(&[], &[]).await;
    let master = pair.master.broker().clone();
    put_delayed(&master, 1, Some("T"), numbered(100));
    pair.api.update_config(&pair.master.addr, "brokerRole=SLAVE\nbrokerId=3").await.unwrap();
    let end = master.store.max_phys();
    let mut batch = Batch::new();
    let refused = master.store.append(&mut batch);
    assert!(matches!(refused, Err(store::AppendError::Slave)), "{refused:?}");
    let answer = pair.api.send(&pair.master.addr, &common::header("T", 0, &[]), "x", Duration::from_secs(5)).await;
    assert_eq!(answer.unwrap_err().code(), Some(response::SYSTEM_BUSY));
    pair.api.update_config(&pair.slave.addr, "brokerRole=ASYNC_MASTER").await.unwrap();
    delivered(&pair.slave, 100).await;
    assert!(master.store.max_phys() >= end);
    once_and_in_time(pair.slave.broker(), 1, 1000, 100);
    drop(master);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_that_are_no_longer_configured_or_shorter_now_are_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let mut master = Node::start(&dir, "m", &[("messageDelayLevel", "1h 2s 2s")]).await;
    put_delayed(master.broker(), 3, Some("T"), numbered(2));
    put_delayed(master.broker(), 1, Some("U"), numbered(1));
    master.stop().await;
    master.keys.retain(|(key, _)| key != "messageDelayLevel");
    master.keys.push(("messageDelayLevel".into(), "1s".into()));
    master.again().await;
    delivered(&master, 2).await;
    once_and_in_time(master.broker(), 3, 2000, 2);
    until("what waited for an hour comes", || async { master.broker().store.max_offset("U", 0) == 1 }).await;
    master.stop().await;
}

/// A measurement, see docs/bench.md: `cargo test --release -p broker --test delay -- --ignored --nocapture ten_thousand`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures for half a minute"]
async fn ten_thousand_a_second_measured() {
    const TICKS: u32 = 2000;
    const EACH: u32 = 100;
    let dir = tempfile::tempdir().unwrap();
    let mut master = Node::start(&dir, "m", &FILES_OF_USE).await;
    let (before, start) = (cpu_ticks(), tokio::time::Instant::now());
    let mut every = tokio::time::interval(Duration::from_millis(10));
    for tick in 0..TICKS {
        every.tick().await;
        let bodies = (0..EACH).map(|i| [&(tick * EACH + i).to_be_bytes()[..], &[b'x'; 1020]].concat());
        put_delayed(master.broker(), 1 + (tick % 2) as i32, Some("T"), bodies);
    }
    let sent = start.elapsed();
    while master.broker().store.max_offset("T", 0) < (TICKS * EACH).into() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (took, cpu) = (start.elapsed(), cpu_ticks() - before);

    let (mut stored, mut late) = (HashMap::new(), Vec::new());
    for level in 1..=2 {
        each(master.broker(), SCHEDULE, level - 1, |record| {
            stored
                .insert(record.body()[..4].to_vec(), record.store_timestamp() + 1000 * if level == 1 { 1 } else { 5 });
        });
    }
    each(master.broker(), "T", 0, |record| late.push(record.store_timestamp() - stored[&record.body()[..4]]));
    late.sort_unstable();
    let at = |share: usize| late[(late.len() - 1) * share / 1000];
    println!(
        "{} messages of 1 KiB sent in {sent:?}, all delivered after {took:?}; late by p50 {} ms, p99 {} ms, p99.9 {} ms, at most {} ms; \
         CPU {} ms, {:.1} µs a message",
        late.len(),
        at(500),
        at(990),
        at(999),
        at(1000),
        cpu * 10,
        cpu as f64 * 10_000.0 / late.len() as f64
    );
    assert!(late[0] >= 0, "early");
    master.stop().await;
}
