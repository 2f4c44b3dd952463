//! Keys that change while the broker runs: what they promise counts from then on.

mod common;
#[path = "common/gate_disk.rs"]
mod gate_disk;

use std::{sync::Arc, time::Duration};

use common::{Node, api, drain, header, lines::Lines, send, topic, until};
use gate_disk::GateDisk;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_readable_follows_flush_disk_type() {
    let (dir, disk, api) = (tempfile::tempdir().unwrap(), GateDisk::default(), api());
    let keys = [("flushIntervalConsumeQueue", "3600000")];
    let mut node = Node::start_on(Arc::new(disk.clone()), &dir, "m", &keys).await;
    let addr = node.addr.clone();
    topic(&api, &addr, "T", 1).await;
    api.update_config(&addr, "flushDiskType=SYNC_FLUSH").await.unwrap();
    disk.close_syncs(true);
    let hasty = header("T", 0, &[("WAIT", "false")]);
    let sent = api.send(&addr, &hasty, b"one".to_vec(), Duration::from_secs(10)).await.unwrap();
    assert!(sent.is_complete());
    assert!(drain(&api, &addr, "T", 0, 0).await.is_empty(), "nothing is readable before it is durable");
    disk.close_syncs(false);
    until("it is readable", || async { drain(&api, &addr, "T", 0, 0).await == [b"one"] }).await;
    api.update_config(&addr, "flushDiskType=ASYNC_FLUSH").await.unwrap();
    disk.close_syncs(true);
    assert!(send(&api, &addr, "T", 0, &[], b"two").await.is_complete());
    assert_eq!(drain(&api, &addr, "T", 0, 1).await, [b"two"], "what is acknowledged is readable");
    disk.close_syncs(false);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_becomes_sync_flush_does_not_sleep_out_its_interval() {
    let (dir, api) = (tempfile::tempdir().unwrap(), api());
    let seldom = ("flushIntervalConsumeQueue", "3600000");
    let keys = [("flushIntervalCommitLog", "10000"), ("syncFlushTimeout", "5000"), seldom];
    let mut node = Node::start(&dir, "m", &keys).await;
    topic(&api, &node.addr, "T", 1).await;
    api.update_config(&node.addr, "flushDiskType=SYNC_FLUSH").await.unwrap();
    assert!(send(&api, &node.addr, "T", 0, &[], b"one").await.is_complete());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_a_key_brings_are_there_when_it_is_turned_on() {
    let (dir, api) = (tempfile::tempdir().unwrap(), api());
    let mut node = Node::start(&dir, "m", &[("autoCreateTopicEnable", "false")]).await;
    let refused = api.send(&node.addr, &header("New", 0, &[]), b"x".to_vec(), Duration::from_secs(10)).await;
    assert!(refused.is_err());
    let version = node.broker().topics.version();
    api.update_config(&node.addr, "autoCreateTopicEnable=true\ntraceTopicEnable=true").await.unwrap();
    assert_ne!(node.broker().topics.version(), version, "name servers and slaves hear of it");
    assert!(send(&api, &node.addr, "New", 0, &[], b"x").await.is_complete());
    let trace = "RMQ_SYS_TRACE_TOPIC";
    assert!(node.broker().topics.get(trace).is_some() && node.broker().topics.is_system(trace));
    let version = node.broker().topics.version();
    api.update_config(&node.addr, "traceTopicEnable=true").await.unwrap();
    assert_eq!(node.broker().topics.version(), version, "nothing is missing");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_turns_on_what_is_not_there_is_told() {
    let (dir, api) = (tempfile::tempdir().unwrap(), api());
    let mut node = Node::start(&dir, "m", &[]).await;
    api.update_config(&node.addr, "metricsExporterType=PROM\nlockInStrictMode=false").await.unwrap();
    let lines = Lines::of_process();
    assert_eq!(lines.with(&["WARN", "metricsExporterType=PROM", "not there"]), 1);
    assert_eq!(lines.with(&["WARN", "lockInStrictMode"]), 0, "that is how it is");
    node.stop().await;
}
