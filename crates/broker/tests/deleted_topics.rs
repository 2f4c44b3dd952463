//! Topics that go, under load and while a slave follows, and come again: F-01, F-17, F-33.

mod common;
#[path = "common/gate_disk.rs"]
mod gate_disk;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use broker::{clock::StoreClock, context::Broker};
use client::BrokerApi;
use common::{BY_HAND, LIMIT, Node, Pair, api, drain, has_queues, header, relay::Between, send, sync, topic, until};
use gate_disk::GateDisk;
use wire::{
    Command,
    code::{request, response},
    header::PullMessageRequestHeader,
    sys_flag,
};

async fn is_new(pair: &Pair, api: &BrokerApi, count: usize) {
    for node in [&pair.master, &pair.slave] {
        let addr = &node.addr;
        assert_eq!(api.min_offset(addr, "T", 0).await.unwrap(), 0, "at {addr}");
        assert_eq!(api.max_offset(addr, "T", 0).await.unwrap(), count as i64, "at {addr}");
        assert_eq!(drain(api, addr, "T", 0, 0).await, vec![b"new".to_vec(); count], "at {addr}");
        let progress = api.query_consumer_offset(addr, "TOOLS_CONSUMER", "T", 0).await.unwrap();
        assert!(progress.is_none_or(|offset| offset == 0), "at {addr}: {progress:?}");
    }
}

async fn deleted_and_created(hears: bool) {
    let mut pair = Pair::start(&[], &[BY_HAND]).await;
    let (api, addr) = (pair.api.clone(), pair.master.addr.clone());
    topic(&api, &addr, "T", 1).await;
    for _ in 0..264 {
        send(&api, &addr, "T", 0, &[], b"old").await;
    }
    api.update_consumer_offset(&addr, "TOOLS_CONSUMER", "T", 0, 264).await.unwrap();
    until("progress is at the master", || async {
        pair.master.broker().offsets.get("T", "TOOLS_CONSUMER", 0) == Some(264)
    })
    .await;
    pair.equal().await;
    sync(&pair.slave).await;
    assert_eq!(pair.slave.broker().offsets.get("T", "TOOLS_CONSUMER", 0), Some(264));

    api.delete_topic(&addr, "T").await.unwrap();
    if hears {
        sync(&pair.slave).await;
        assert!(!has_queues(&pair.slave, "T"));
    }
    topic(&api, &addr, "T", 1).await;
    // A consumer that lives on still says what it has read of the old one.
    api.update_consumer_offset(&addr, "TOOLS_CONSUMER", "T", 0, 264).await.unwrap();
    for _ in 0..10 {
        send(&api, &addr, "T", 0, &[], b"new").await;
    }
    pair.equal().await;
    sync(&pair.slave).await;
    is_new(&pair, &api, 10).await;

    pair.master.stop().await;
    api.update_config(&pair.slave.addr, "brokerRole=ASYNC_MASTER").await.unwrap();
    assert_eq!(send(&api, &pair.slave.addr, "T", 0, &[], b"new").await.header.queue_offset, 10);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f01_a_topic_created_anew_after_the_slave_heard_of_its_deletion() {
    deleted_and_created(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f01_a_topic_created_anew_before_the_slave_heard_of_its_deletion() {
    deleted_and_created(false).await;
}

/// The master tells of its topics as they were, once.
#[tokio::test(flavor = "multi_thread")]
async fn f01_a_topic_created_anew_while_the_slave_hears_of_its_deletion() {
    let pair = Pair::start(&[], &[BY_HAND]).await;
    let (api, addr) = (pair.api.clone(), pair.master.addr.clone());
    topic(&api, &addr, "T", 1).await;
    for _ in 0..264 {
        send(&api, &addr, "T", 0, &[], b"old").await;
    }
    pair.equal().await;
    sync(&pair.slave).await;
    api.delete_topic(&addr, "T").await.unwrap();
    let command = Command::request(request::GET_ALL_TOPIC_CONFIG);
    let without = api.ask(&addr, command, Duration::from_secs(10)).await.unwrap().body;
    topic(&api, &addr, "T", 1).await;
    for _ in 0..10 {
        send(&api, &addr, "T", 0, &[], b"new").await;
    }
    pair.equal().await;

    let stale = Mutex::new(Some(without));
    let between = Between::start(&api, &addr, move |conn, command| {
        let stale = if command.code == request::GET_ALL_TOPIC_CONFIG { stale.lock().unwrap().take() } else { None };
        let Some(body) = stale else { return Some(command) };
        conn.reply(command.ok_body(body));
        None
    })
    .await;
    between.of(pair.slave.broker()).await;
    sync(&pair.slave).await;
    sync(&pair.slave).await;
    is_new(&pair, &api, 10).await;
    between.stop().await;
    pair.stop().await;
}

/// The slave hears of the deletion while its log is behind, and has caught up when the topic is there again, empty.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_created_anew_before_the_slave_has_what_came_before_its_deletion() {
    let mut pair = Pair::start(&[("slaveTimeout", "50")], &[BY_HAND]).await;
    let (api, addr) = (pair.api.clone(), pair.master.addr.clone());
    topic(&api, &addr, "T", 1).await;
    send(&api, &addr, "T", 0, &[], b"old").await;
    pair.equal().await;
    sync(&pair.slave).await;
    let slave = pair.slave.broker().clone();
    slave.replicas.end_following().await;
    for _ in 0..35 {
        send(&api, &addr, "T", 0, &[("WAIT", "false")], b"old").await;
    }
    api.delete_topic(&addr, "T").await.unwrap();
    sync(&pair.slave).await;
    topic(&api, &addr, "T", 1).await;
    slave.replicas.allow_following();
    pair.equal().await;
    sync(&pair.slave).await;
    is_new(&pair, &api, 0).await;
    pair.master.stop().await;
    api.update_config(&pair.slave.addr, "brokerRole=ASYNC_MASTER").await.unwrap();
    assert_eq!(send(&api, &pair.slave.addr, "T", 0, &[], b"new").await.header.queue_offset, 0);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_master_still_has_stays_at_the_slave() {
    let pair = Pair::start(&[], &[BY_HAND]).await;
    let (api, addr) = (pair.api.clone(), pair.master.addr.clone());
    topic(&api, &addr, "T", 1).await;
    send(&api, &addr, "T", 0, &[], b"new").await;
    pair.equal().await;
    sync(&pair.slave).await;
    // As after the loss of topics.json.
    pair.master.broker().topics.remove("T", 1);
    sync(&pair.slave).await;
    assert!(pair.slave.broker().topics.get("T").is_none());
    topic(&api, &addr, "T", 1).await;
    sync(&pair.slave).await;
    is_new(&pair, &api, 1).await;
    pair.stop().await;
}

/// A master that is busy, or about to leave, has not said that it has no message.
#[tokio::test(flavor = "multi_thread")]
async fn no_queue_goes_because_its_master_is_busy() {
    let pair = Pair::start(&[], &[BY_HAND]).await;
    let (api, addr) = (pair.api.clone(), pair.master.addr.clone());
    topic(&api, &addr, "T", 1).await;
    send(&api, &addr, "T", 0, &[], b"new").await;
    pair.equal().await;
    sync(&pair.slave).await;
    let between = Between::start(&api, &addr, |conn, command| {
        if command.code != request::GET_MAX_OFFSET {
            return Some(command);
        }
        conn.reply(command.error(response::SYSTEM_BUSY, "not now"));
        None
    })
    .await;
    let slave = pair.slave.broker();
    between.of(slave).await;
    // As after the loss of topics.json.
    pair.master.broker().topics.remove("T", 1);
    assert!(!broker::sync::round(slave).await, "it is asked again");
    assert_eq!(slave.store.max_offset("T", 0), 1);
    between.stop().await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slave_cleans_no_topic_that_it_has_not_heard_of() {
    let pair = Pair::start(&[], &[BY_HAND]).await;
    let (api, addr) = (pair.api.clone(), pair.master.addr.clone());
    topic(&api, &addr, "T", 1).await;
    send(&api, &addr, "T", 0, &[], b"new").await;
    pair.equal().await;
    for node in [&pair.slave, &pair.master] {
        api.call(&node.addr, Command::request(request::CLEAN_UNUSED_TOPIC), Duration::from_secs(10)).await.unwrap();
    }
    sync(&pair.slave).await;
    is_new(&pair, &api, 1).await;
    pair.stop().await;
}

/// In classic mode nothing tells a returning master where to cut; whoever does it finds no trace of the queue.
#[tokio::test(flavor = "multi_thread")]
async fn f17_a_queue_that_is_cut_away_wholly_begins_at_0_on_both() {
    let mut pair = Pair::start(&[("brokerRole", "ASYNC_MASTER")], &[]).await;
    let api = pair.api.clone();
    topic(&api, &pair.master.addr, "Before", 1).await;
    send(&api, &pair.master.addr, "Before", 0, &[], b"x").await;
    pair.equal().await;
    let end = pair.slave.broker().store.max_phys();
    pair.slave.stop().await;
    topic(&api, &pair.master.addr, "T", 1).await;
    for _ in 0..100 {
        send(&api, &pair.master.addr, "T", 0, &[], b"lost").await;
    }
    pair.master.stop().await;
    pair.slave.again().await;
    api.update_config(&pair.slave.addr, "brokerRole=ASYNC_MASTER").await.unwrap();
    assert_eq!(pair.slave.broker().store.max_phys(), end);

    let config = store::StoreConfig {
        root: pair.master.root.clone(),
        segment_size: 1 << 20,
        queue_segment_size: 6000,
        ..store::StoreConfig::default()
    };
    let cut = store::Store::open(config, pair.master.disk.clone(), Arc::new(StoreClock::default())).unwrap();
    cut.truncate(end).unwrap();
    assert_eq!((cut.min_offset("T", 0), cut.max_offset("T", 0)), (0, 0));
    cut.close().unwrap();
    pair.master.keys.extend([("brokerRole", "SLAVE"), ("brokerId", "2"), ("slaveReadEnable", "true")].map(owned));
    pair.master.again().await;
    assert_eq!(api.min_offset(&pair.master.addr, "T", 0).await.unwrap(), 0);
    assert_eq!(api.max_offset(&pair.master.addr, "T", 0).await.unwrap(), 0);

    topic(&api, &pair.slave.addr, "T", 1).await;
    for number in 0..10 {
        assert_eq!(send(&api, &pair.slave.addr, "T", 0, &[], b"new").await.header.queue_offset, number);
    }
    pair.equal().await;
    until("the topic is at the old master", || async { pair.master.broker().topics.get("T").is_some() }).await;
    until("and its queue", || async { pair.master.broker().store.max_offset("T", 0) == 10 }).await;
    is_new(&pair, &api, 10).await;
    pair.stop().await;
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

/// What the load of F-33 saw.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    stored: AtomicUsize,
}

/// Sends to queues of `T`, which may not be there.
async fn produce(load: Arc<Load>, addr: String, queue: i32) {
    let api = api();
    while !load.stop.load(SeqCst) {
        match api.send(&addr, &header("T", queue, &[]), vec![b'x'; 100], Duration::from_secs(10)).await {
            Ok(sent) => {
                assert_eq!(sent.code, response::SUCCESS);
                load.stored.fetch_add(1, SeqCst);
            }
            Err(error) => assert_eq!(error.code(), Some(response::TOPIC_NOT_EXIST), "{error}"),
        }
    }
}

/// Sends in bursts and waits for nothing: a read of the broker's brings many messages at once.
async fn flood(load: Arc<Load>, addr: String) {
    let api = api();
    let conn = api.client().connect(&addr).await.unwrap();
    while !load.stop.load(SeqCst) {
        for _ in 0..100 {
            let command = Command::request_with(request::SEND_MESSAGE_V2, &header("T", 0, &[]));
            conn.send_oneway(command.with_body(vec![b'x'; 100]));
        }
        // The answer comes when the burst is served.
        let _ = api.max_offset(&addr, "T", 0).await;
    }
}

/// Polls a queue of `T` and goes where the broker sends it.
async fn consume(load: Arc<Load>, addr: String, queue: i32) {
    let api = api();
    let puller = client::Puller::new(api.clone(), &addr, "G");
    let mut offset = 0;
    while !load.stop.load(SeqCst) {
        match puller.pull("T", queue, offset, 32).await {
            Ok(pulled) => offset = pulled.header.next_begin_offset,
            Err(error) => assert_eq!(error.code(), Some(response::TOPIC_NOT_EXIST), "{error}"),
        }
        let _ = api.update_consumer_offset(&addr, "TOOLS_CONSUMER", "T", queue, offset).await;
    }
}

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Until the slave has applied what the master's tables say now.
async fn heard(pair: &Pair) {
    until("the slave has the master's topics", || async {
        pair.slave.broker().topics.version() == pair.master.broker().topics.version()
    })
    .await;
    pair.equal().await;
    let rounds = pair.slave.broker().sync.rounds();
    until("it has looked again", || async { pair.slave.broker().sync.rounds() > rounds + 1 }).await;
}

async fn topics_deleted_under_load(rounds: usize) {
    let keys = [("autoCreateTopicEnable", "false"), ("flushIntervalConsumeQueue", "100")];
    let mut pair = Pair::start(&keys, &[("flushIntervalConsumeQueue", "100")]).await;
    let (api, addr) = (pair.api.clone(), pair.master.addr.clone());
    let load = Arc::new(Load::default());
    let mut tasks = vec![tokio::spawn(flood(load.clone(), addr.clone()))];
    for queue in 0..4 {
        tasks.push(tokio::spawn(produce(load.clone(), addr.clone(), queue)));
        let from = if queue < 2 { &pair.master.addr } else { &pair.slave.addr };
        tasks.push(tokio::spawn(consume(load.clone(), from.clone(), queue)));
    }
    let mut halfway = 0;
    for round in 0..rounds {
        let before = load.stored.load(SeqCst);
        topic(&api, &addr, "T", 4).await;
        until("producers have found the topic", || async {
            assert!(!tasks.iter().any(tokio::task::JoinHandle::is_finished), "a client ended in round {round}");
            load.stored.load(SeqCst) >= before + 40
        })
        .await;
        api.delete_topic(&addr, "T").await.unwrap();
        // What was checked before the deletion must not be stored after it.
        assert_eq!(api.max_offset(&addr, "T", 0).await.unwrap(), 0, "round {round}");
        assert!(!has_queues(&pair.master, "T"), "a queue came back in round {round}");
        if round == rounds / 2 {
            halfway = resident();
        }
    }
    load.stop.store(true, SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    let grown = resident().saturating_sub(halfway);
    assert!(grown < 32 << 10, "memory has grown by {grown} KiB in the second half");

    for again in [false, true] {
        if again {
            pair.slave.stop().await;
            pair.master.stop().await;
            pair.master.again().await;
            pair.slave.again().await;
            until("the slave follows", || async { pair.master.broker().replicas.connections() == 1 }).await;
        }
        heard(&pair).await;
        for node in [&pair.master, &pair.slave] {
            for queue in 0..4 {
                assert_eq!(api.max_offset(&node.addr, "T", queue).await.unwrap(), 0, "at {}", node.addr);
                let _ = api.query_consumer_offset(&node.addr, "TOOLS_CONSUMER", "T", queue).await;
                let _ = client::Puller::new(api.clone(), &node.addr, "G").pull("T", queue, 0, 32).await;
            }
            node.broker().store.flush_queues().unwrap();
            assert!(!has_queues(node, "T"), "a queue came back at {}, after a restart: {again}", node.addr);
            assert!(node.broker().store.failed().is_none());
        }
    }
    topic(&api, &addr, "T", 1).await;
    for _ in 0..20 {
        send(&api, &addr, "T", 0, &[], b"new").await;
    }
    heard(&pair).await;
    is_new(&pair, &api, 20).await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f33_topics_deleted_under_load_stay_away_at_master_and_slave() {
    topics_deleted_under_load(20).await;
}

/// The length of the report; minutes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: cargo test -p broker --test deleted_topics -- --ignored"]
async fn f33_in_full_length() {
    topics_deleted_under_load(200).await;
}

/// Each of T and U has a message that waits in delay level 1 and one that waits by its time; then T is deleted.
async fn two_topics_of_which_one_goes(api: &BrokerApi, addr: &str) {
    for name in ["T", "U"] {
        topic(api, addr, name, 1).await;
        send(api, addr, name, 0, &[("DELAY", "1")], b"level").await;
        send(api, addr, name, 0, &[("TIMER_DELAY_MS", "2000"), ("UNIQ_KEY", name)], b"timer").await;
    }
    api.delete_topic(addr, "T").await.unwrap();
}

/// Waits until `level` messages of the delay level and those of the timer are delivered, or passed over.
async fn all_is_due(broker: &Broker, level: i64) {
    until("the other topic has its messages", || async { broker.store.max_offset("U", 0) == 2 }).await;
    until("the level is through", || async { broker.delays.next(1) == level }).await;
    until("the slot is over", || async { broker.timers.timer().unwrap().status(&broker.store).waiting == 0 }).await;
    broker.dispatch_acknowledged();
}

/// What is due after its topic was deleted is passed over: no queue comes back without a topic. A topic of that name that
/// is made again gets its own messages alone, and everything else goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_deleted_topic_does_not_bring_its_queue_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[("messageDelayLevel", "2s")]).await;
    let (api, addr) = (api(), node.addr.clone());
    two_topics_of_which_one_goes(&api, &addr).await;
    let broker = node.broker().clone();
    all_is_due(&broker, 2).await;
    broker.store.flush_queues().unwrap();
    assert_eq!(broker.store.max_offset("T", 0), 0);
    assert!(!has_queues(&node, "T") && has_queues(&node, "U"));
    let is_counted = || broker.timers.metrics_json().unwrap().contains(r#""T""#);
    until("nothing is counted of it", || async { !is_counted() }).await;
    drop(broker);
    // Neither does a start, which looks at them again.
    node.stop().await;
    node.again().await;
    topic(&api, &addr, "T", 1).await;
    send(&api, &addr, "T", 0, &[("DELAY", "1")], b"new").await;
    until("a new one comes", || async { node.broker().store.max_offset("T", 0) == 1 }).await;
    assert_eq!(drain(&api, &addr, "T", 0, 0).await, [b"new"]);
    node.stop().await;
}

/// Made again before they are due, too: it is another topic.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_deleted_topic_does_not_come_to_its_successor() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[("messageDelayLevel", "2s")]).await;
    let (api, addr) = (api(), node.addr.clone());
    two_topics_of_which_one_goes(&api, &addr).await;
    topic(&api, &addr, "T", 1).await;
    send(&api, &addr, "T", 0, &[("DELAY", "1")], b"new level").await;
    let broker = node.broker().clone();
    all_is_due(&broker, 3).await;
    drop(broker);
    assert_eq!(drain(&api, &addr, "T", 0, 0).await, [b"new level"]);
    node.stop().await;
}

/// A slave that was promoted before it heard of a topic knows of no deletion either: nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_topic_that_is_not_known_here_is_stored() {
    let mut pair = Pair::start(&[], &[BY_HAND]).await;
    let (api, addr) = (pair.api.clone(), pair.master.addr.clone());
    topic(&api, &addr, "T", 1).await;
    send(&api, &addr, "T", 0, &[("DELAY", "1")], b"level").await;
    send(&api, &addr, "T", 0, &[("TIMER_DELAY_MS", "1500"), ("UNIQ_KEY", "u")], b"timer").await;
    pair.equal().await;
    pair.master.stop().await;
    // Its first look at the master's tables may have come late.
    pair.slave.broker().topics.remove("T", 1);
    api.update_config(&pair.slave.addr, "brokerRole=ASYNC_MASTER").await.unwrap();
    until("both have come", || async { pair.slave.broker().store.max_offset("T", 0) >= 2 }).await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_waits_on_a_topic_hears_of_its_deletion_and_leaves_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[]).await;
    topic(&api(), &node.addr, "T", 1).await;
    let header = PullMessageRequestHeader {
        consumer_group: "TOOLS_CONSUMER".into(),
        topic: "T".into(),
        queue_id: Some(0),
        queue_offset: Some(0),
        max_msg_nums: 1,
        sys_flag: sys_flag::PULL_SUSPEND | sys_flag::PULL_SUBSCRIPTION,
        suspend_timeout_millis: 600_000,
        subscription: Some("*".into()),
        ..PullMessageRequestHeader::default()
    };
    let command = Command::request_with(request::PULL_MESSAGE, &header);
    let addr = node.addr.clone();
    let pull = tokio::spawn(async move { api().ask(&addr, command, LIMIT).await.unwrap() });
    let broker = node.broker().clone();
    until("it waits", || async { !broker.holds.is_empty() }).await;
    api().delete_topic(&node.addr, "T").await.unwrap();
    broker.holds.wake_all(&broker);
    assert_eq!(pull.await.unwrap().code, response::TOPIC_NOT_EXIST);
    assert_eq!(broker.offsets.pull_offset("T", "TOOLS_CONSUMER", 0), None);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_of_a_topic_that_was_made_again_unheard_are_empty_at_the_slave() {
    let pair = Pair::start(&[], &[BY_HAND]).await;
    let (api, addr) = (pair.api.clone(), pair.master.addr.clone());
    topic(&api, &addr, "T", 2).await;
    for queue in [0, 1, 1] {
        send(&api, &addr, "T", queue, &[], b"old").await;
    }
    pair.equal().await;
    sync(&pair.slave).await;
    api.delete_topic(&addr, "T").await.unwrap();
    topic(&api, &addr, "T", 2).await;
    send(&api, &addr, "T", 0, &[], b"new").await;
    pair.equal().await;
    sync(&pair.slave).await;
    is_new(&pair, &api, 1).await;
    for node in [&pair.master, &pair.slave] {
        assert_eq!(api.max_offset(&node.addr, "T", 1).await.unwrap(), 0, "nothing came for it: {}", node.addr);
        assert!(drain(&api, &node.addr, "T", 1, 0).await.is_empty());
    }
    pair.stop().await;
}

/// Nothing is dispatched while the files of a topic go, which may take long. Whoever asks for the end of a queue meanwhile
/// waits a while; the only worker does not wait with him.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_asks_while_the_files_of_a_topic_go_holds_up_nobody_else() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), GateDisk::default());
    let mut node = Node::start_on(Arc::new(disk.clone()), &dir, "m", &[]).await;
    let (api, addr) = (api(), node.addr.clone());
    for name in ["T", "U"] {
        topic(&api, &addr, name, 1).await;
        send(&api, &addr, name, 0, &[], b"x").await;
    }
    api.max_offset(&addr, "T", 0).await.unwrap();
    node.broker().store.flush_queues().unwrap();
    let closed = disk.close_deletions();
    let deletion = tokio::spawn({
        let addr = addr.clone();
        async move { common::api().delete_topic(&addr, "T").await }
    });
    until("only the files are left", || async { node.broker().topics.get("T").is_none() }).await;
    let sent_while_one_asks = async || {
        send(&api, &addr, "U", 0, &[], b"not dispatched").await;
        let asks = common::api();
        let addr_asked = addr.clone();
        let asked = tokio::spawn(async move { asks.max_offset(&addr_asked, "U", 0).await.unwrap() });
        let mut sent = 0;
        while !asked.is_finished() {
            send(&api, &addr, "U", 0, &[], b"x").await;
            sent += 1;
        }
        sent
    };
    let mut rounds = 0;
    while sent_while_one_asks().await < 10 {
        rounds += 1;
        assert!(rounds < 5, "sends wait for whoever asks");
    }
    drop(closed);
    deletion.await.unwrap().unwrap();
    assert!(!has_queues(&node, "T"));
    node.stop().await;
}
