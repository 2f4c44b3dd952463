//! Requests of different connections that meet: one looks, another changes what was seen, the first goes on.

mod common;
#[path = "common/gate_disk.rs"]
mod gate_disk;

use std::{
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
};

use broker::consumer_offset;
use client::BrokerApi;
use common::{LIMIT, Node, api, node_with_three, pull_at_three, send, topic, until};
use gate_disk::{Closed, GateDisk};
use wire::{
    Command,
    code::{request, response},
    header::{DeleteSubscriptionGroupRequestHeader, DeleteTopicRequestHeader, QueryMessageRequestHeader},
    sys_flag,
};

/// A broker whose consumer G, made by use, has committed 3.
async fn node_with_progress(dir: &tempfile::TempDir) -> (Node, BrokerApi) {
    let (node, api) = node_with_three(dir).await;
    client::Puller::new(api.clone(), &node.addr, "G").pull("T", 0, 0, 1).await.unwrap();
    consumer_offset::store(node.broker(), "T", "G", 0, 3);
    assert_eq!(node.broker().offsets.get("T", "G", 0), Some(3));
    (node, api)
}

/// A gate that opens in the end, too: what hangs would else hang for ever, as the timers of a runtime have no thread of their own.
struct Gate {
    open: Sender<()>,
    opening: JoinHandle<bool>,
}

impl Gate {
    fn new(closed: Closed) -> Self {
        let (open, opened) = channel();
        let opening = std::thread::spawn(move || {
            let is_in_time = opened.recv_timeout(LIMIT).is_ok();
            drop(closed);
            is_in_time
        });
        Self { open, opening }
    }

    /// False where it had to open before.
    fn opens(self) -> bool {
        let _too_late = self.open.send(());
        self.opening.join().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_checked_before_a_reset_does_not_undo_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, _) = node_with_progress(&dir).await;
    let broker = node.broker();
    broker.offsets.reset("T", "G", 0, 1, 1);
    consumer_offset::store(broker, "T", "G", 0, 3);
    assert_eq!(broker.offsets.get("T", "G", 0), Some(1));
    assert_eq!(broker.offsets.take_reset("T", "G", 0), Some(1));
    consumer_offset::store(broker, "T", "G", 0, 2);
    assert_eq!(broker.offsets.get("T", "G", 0), Some(2), "it has heard of it");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_checked_before_its_groups_deletion_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, api) = node_with_progress(&dir).await;
    let broker = node.broker();
    let header =
        DeleteSubscriptionGroupRequestHeader { group_name: "G".into(), clean_offset: true, ..Default::default() };
    let command = Command::request_with(request::DELETE_SUBSCRIPTIONGROUP, &header);
    api.call(&node.addr, command, LIMIT).await.unwrap();
    consumer_offset::store(broker, "T", "G", 0, 3);
    assert_eq!(broker.offsets.get("T", "G", 0), None);
    node.stop().await;
}

/// It has looked already, and is not held yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_hears_of_a_reset_that_comes_while_it_begins_to_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, api) = node_with_three(&dir).await;
    let (addr, broker) = (node.addr.clone(), node.broker().clone());
    // Its commit waits for this, between the two.
    let alone = broker.topics.alone();
    let pull = Command::request_with(request::PULL_MESSAGE, &pull_at_three(sys_flag::PULL_SUSPEND));
    let waits = tokio::spawn(async move { api.ask(&addr, pull, LIMIT).await.unwrap() });
    until("it has looked", || async { broker.offsets.pull_offset("T", "G", 0) == Some(3) }).await;
    broker.offsets.reset("T", "G", 0, 1, 1);
    broker.holds.wake(&broker, "T", 0);
    drop(alone);
    assert_eq!(waits.await.unwrap().code, response::PULL_OFFSET_MOVED);
    assert_eq!(broker.offsets.get("T", "G", 0), Some(1));
    node.stop().await;
}

/// Messages that wait for a time are read of the log when it has come, which takes as long as the disk likes.
#[tokio::test(flavor = "multi_thread")]
async fn sends_do_not_wait_for_a_deletion_that_waits_for_the_disk() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), GateDisk::default());
    let mut node = Node::start_on(Arc::new(disk.clone()), &dir, "m", &[("messageDelayLevel", "1h")]).await;
    let (api, addr) = (api(), node.addr.clone());
    for name in ["T", "U"] {
        topic(&api, &addr, name, 1).await;
    }
    send(&api, &addr, "T", 0, &[("DELAY", "1")], &[7; 200_000]).await;
    api.max_offset(&addr, "T", 0).await.unwrap();
    let closed = disk.close("00000000000000000000");
    node.broker().clock.step(3_700_000);
    until("the delayed message is being read", || async { disk.reading() == 1 }).await;
    let deletion = tokio::spawn({
        let addr = addr.clone();
        async move { common::api().delete_topic(&addr, "U").await }
    });
    for _ in 0..200 {
        send(&api, &addr, "T", 0, &[], b"x").await;
    }
    drop(closed);
    deletion.await.unwrap().unwrap();
    until("it is delivered", || async { node.broker().store.max_offset("T", 0) == 201 }).await;
    node.stop().await;
}

/// A look-up by key reads as much as there is. The only worker serves others meanwhile, where it may take long.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_looks_a_key_up_holds_up_nobody_else() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), GateDisk::default());
    let mut node = Node::start_on(Arc::new(disk.clone()), &dir, "m", &[("maxMsgsNumBatch", "400")]).await;
    let (api, addr) = (api(), node.addr.clone());
    topic(&api, &addr, "T", 1).await;
    send(&api, &addr, "T", 0, &[("KEYS", "k")], &[7; 100_000]).await;
    for _ in 0..300 {
        send(&api, &addr, "T", 0, &[("KEYS", "k")], b"x").await;
    }
    api.max_offset(&addr, "T", 0).await.unwrap();
    let gate = Gate::new(disk.close("00000000000000000000"));
    let header = QueryMessageRequestHeader {
        topic: "T".into(),
        key: "k".into(),
        max_num: 400,
        end_timestamp: i64::MAX,
        ..QueryMessageRequestHeader::default()
    };
    let command = Command::request_with(request::QUERY_MESSAGE, &header);
    let asks = addr.clone();
    let asked = tokio::spawn(async move { common::api().call(&asks, command, 2 * LIMIT).await });
    until("it is being read", || async { disk.reading() == 1 }).await;
    for _ in 0..20 {
        send(&api, &addr, "T", 0, &[], b"x").await;
    }
    assert!(gate.opens(), "they have waited");
    assert!(asked.await.unwrap().unwrap().body.len() > 100_000);
    node.stop().await;
}

/// Sends wait while a deletion is written down, which takes as long as the disk likes; the only worker does not wait with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sends_that_wait_for_a_deletion_hold_up_nobody_else() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), GateDisk::default());
    let mut node = Node::start_on(Arc::new(disk.clone()), &dir, "m", &[]).await;
    let (api, addr) = (api(), node.addr.clone());
    for name in ["T", "U"] {
        topic(&api, &addr, name, 1).await;
    }
    let gate = Gate::new(disk.close_renames());
    let of_others = |work: Command| {
        let addr = addr.clone();
        tokio::spawn(async move { common::api().call(&addr, work, 2 * LIMIT).await.unwrap() })
    };
    let header = DeleteTopicRequestHeader { topic: "U".into(), ..DeleteTopicRequestHeader::default() };
    let deletion = of_others(Command::request_with(request::DELETE_TOPIC_IN_BROKER, &header));
    until("the deletion is being written", || async { disk.renaming() == 1 }).await;
    let sent = of_others(Command::request_with(request::SEND_MESSAGE_V2, &common::header("T", 0, &[])).with_body("x"));
    for _ in 0..200 {
        api.min_offset(&addr, "T", 0).await.unwrap();
    }
    assert!(gate.opens(), "they have waited");
    deletion.await.unwrap();
    sent.await.unwrap();
    node.stop().await;
}
