//! Keys that change while the broker runs: what they promise counts from then on.

mod common;
#[path = "common/gate_disk.rs"]
mod gate_disk;

use std::{sync::Arc, time::Duration};

use common::{Node, api, drain, header, send, topic, until};
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
