//! SYNC_FLUSH: one sync for all that came meanwhile, one at depth 1; what producers hear when a sync takes too long.

mod common;
#[path = "common/gate_disk.rs"]
mod gate_disk;

use std::{sync::Arc, time::Duration};

use common::{LIMIT, Node, api, drain, header, send, topic, until};
use gate_disk::GateDisk;
use wire::{
    Command,
    code::{request, response},
    header::ConsumerSendMsgBackRequestHeader,
};

/// A broker with SYNC_FLUSH whose views are flushed seldom, so that only sends sync the log.
async fn start(dir: &tempfile::TempDir, limit_ms: &str) -> (GateDisk, Node) {
    let disk = GateDisk::default();
    let keys = [
        ("flushDiskType", "SYNC_FLUSH"),
        ("syncFlushTimeout", limit_ms),
        ("flushIntervalConsumeQueue", "3600000"),
        ("autoCreateTopicEnable", "true"),
    ];
    let node = Node::start_on(Arc::new(disk.clone()), dir, "m", &keys).await;
    topic(&api(), &node.addr, "T", 4).await;
    (disk, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sync_at_depth_1_and_one_for_all_that_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, mut node) = start(&dir, "20000").await;
    let (api, addr) = (api(), node.addr.clone());
    send(&api, &addr, "T", 0, &[], b"first").await;
    let before = disk.syncs();
    for _ in 0..5 {
        assert!(send(&api, &addr, "T", 0, &[], b"alone").await.is_complete());
    }
    assert_eq!(disk.syncs() - before, 5);
    disk.close_syncs(true);
    let before = (disk.syncs(), node.broker().store.max_phys());
    let sends: Vec<_> = (0..200)
        .map(|number: i32| {
            let (api, addr) = (api.clone(), addr.clone());
            tokio::spawn(async move { send(&api, &addr, "T", number % 4, &[], &[7; 1000]).await })
        })
        .collect();
    until("all are in the log", || async { node.broker().store.max_phys() >= before.1 + 200 * 1100 }).await;
    disk.close_syncs(false);
    for sent in sends {
        assert!(sent.await.unwrap().is_complete());
    }
    // The one that was held back, and one for all that came meanwhile.
    let syncs = disk.syncs() - before.0;
    assert!(syncs <= 3, "{syncs} syncs for 200 messages");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_the_sync_of_what_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, mut node) = start(&dir, "20000").await;
    let broker = node.broker().clone();
    disk.close_syncs(true);
    let (mut sends, begun) = (Vec::new(), disk.begun());
    // The first is in the sync that is held back, the second waits for the next one.
    for _ in 0..2 {
        let (api, addr, before) = (api(), node.addr.clone(), broker.store.max_phys());
        sends.push(tokio::spawn(async move { send(&api, &addr, "T", 0, &[], &[7; 1000]).await }));
        until("it is in the log, its sync held back", || async {
            broker.store.max_phys() > before && disk.begun() > begun
        })
        .await;
    }
    let stop = tokio::spawn(node.running.take().unwrap().shutdown());
    until("it stops", || async { broker.is_stopping() }).await;
    disk.close_syncs(false);
    for sent in sends {
        assert!(sent.await.unwrap().is_complete());
    }
    stop.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_takes_too_long_is_told_and_the_message_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, mut node) = start(&dir, "100").await;
    let (api, addr) = (api(), node.addr.clone());
    assert!(send(&api, &addr, "T", 0, &[], b"one").await.is_complete());
    disk.close_syncs(true);
    let late = send(&api, &addr, "T", 0, &[], b"two").await;
    assert_eq!((late.code, late.header.queue_offset), (response::FLUSH_DISK_TIMEOUT, 1));
    // Who does not wait hears nothing of it.
    let hasty = header("T", 0, &[("WAIT", "false")]);
    let unwaited = api.send(&addr, &hasty, b"three".to_vec(), Duration::from_secs(10));
    assert!(unwaited.await.unwrap().is_complete());
    // Nothing is readable before it is durable.
    assert_eq!(drain(&api, &addr, "T", 0, 0).await, [b"one"]);
    disk.close_syncs(false);
    assert!(send(&api, &addr, "T", 0, &[], b"four").await.is_complete());
    let want: [&[u8]; 4] = [b"one", b"two", b"three", b"four"];
    until("all are readable", || async { drain(&api, &addr, "T", 0, 0).await == want }).await;
    node.stop().await;
}

/// Nothing bounds how many of these a client sends.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_the_sync_of_a_message_that_is_sent_back_one_way() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, mut node) = start(&dir, "20000").await;
    let (api, addr, broker) = (api(), node.addr.clone(), node.broker().clone());
    send(&api, &addr, "T", 0, &[], b"x").await;
    let header = ConsumerSendMsgBackRequestHeader {
        group: "TOOLS_CONSUMER".into(),
        delay_level: 1,
        ..ConsumerSendMsgBackRequestHeader::default()
    };
    let back = Command::request_with(request::CONSUMER_SEND_MSG_BACK, &header);
    disk.close_syncs(true);
    for _ in 0..20 {
        api.client().oneway(&addr, back.clone(), LIMIT).await.unwrap();
    }
    let (asks, asked) = (api.clone(), addr.clone());
    let one = tokio::spawn(async move { asks.call(&asked, back, LIMIT).await.unwrap() });
    let delayed = || broker.store.queue_unit(wire::topic::SCHEDULE, 0, 20).is_some();
    let flushed = broker.store.marks().flushed.clone();
    until("the one that wants an answer waits", || async { flushed.waiting() > 0 }).await;
    for _ in 0..200 {
        api.min_offset(&addr, "T", 0).await.unwrap();
    }
    assert_eq!(flushed.waiting(), 1);
    disk.close_syncs(false);
    one.await.unwrap();
    until("all are there", || async { delayed() }).await;
    drop(broker);
    node.stop().await;
}
