//! Consumers go on at the slave while the master is away: what they commit there is not lost when it returns (P-3).

mod common;

use std::time::Duration;

use common::{LIMIT, Node, Pair, lines::Lines, send, topic, until};
use rustix::fs::{FileType, Mode};
use wire::{Command, code::request, header::ResetOffsetRequestHeader};

const GROUP: &str = "TOOLS_CONSUMER";

async fn commit(pair: &Pair, node: &Node, offset: i64) {
    pair.api.update_consumer_offset(&node.addr, GROUP, "T", 0, offset).await.unwrap();
}

fn progress(node: &Node) -> Option<i64> {
    node.broker().offsets.get("T", GROUP, 0)
}

async fn rounds(pair: &Pair) {
    let rounds = pair.slave.broker().sync.rounds();
    until("two rounds are over", || async { pair.slave.broker().sync.rounds() > rounds + 1 }).await;
}

/// 100 messages and progress 10 at both.
async fn pair_at_10() -> Pair {
    let pair = Pair::start(&[], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    for _ in 0..100 {
        send(&pair.api, &pair.master.addr, "T", 0, &[], b"x").await;
    }
    pair.equal().await;
    commit(&pair, &pair.master, 10).await;
    until("the slave has the progress", || async { progress(&pair.slave) == Some(10) }).await;
    pair
}

async fn reset(pair: &Pair, offset: i64) {
    let header = ResetOffsetRequestHeader {
        topic: "T".into(),
        group: GROUP.into(),
        timestamp: 0,
        queue_id: 0,
        offset: Some(offset),
        ..ResetOffsetRequestHeader::default()
    };
    let command = Command::request_with(request::INVOKE_BROKER_TO_RESET_OFFSET, &header);
    pair.api.call(&pair.master.addr, command, Duration::from_secs(5)).await.unwrap();
}

async fn a_returning_master_learns(slave_restarts: bool) {
    let mut pair = pair_at_10().await;
    pair.master.stop().await;
    commit(&pair, &pair.slave, 60).await;
    assert_eq!(progress(&pair.slave), Some(60));
    if slave_restarts {
        pair.slave.stop().await;
        pair.slave.again().await;
        assert_eq!(progress(&pair.slave), Some(60));
    }
    pair.master.again().await;
    until("the master knows it", || async {
        assert_eq!(progress(&pair.slave), Some(60), "the slave never forgets it");
        progress(&pair.master) == Some(60)
    })
    .await;
    rounds(&pair).await;
    assert_eq!((progress(&pair.slave), pair.slave.broker().offsets.own()), (Some(60), vec![]));

    // A reset to an earlier offset travels, and stays.
    reset(&pair, 20).await;
    until("the slave has been reset", || async { progress(&pair.slave) == Some(20) }).await;
    rounds(&pair).await;
    assert_eq!((progress(&pair.master), progress(&pair.slave)), (Some(20), Some(20)));
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_returning_master_learns_what_consumers_committed_at_the_slave() {
    a_returning_master_learns(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_it_learns_it_from_a_slave_that_was_restarted_meanwhile() {
    a_returning_master_learns(true).await;
}

/// Later, as a slave again, it would tell a master progress from before a reset.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_at_a_slave_is_forgotten_when_it_starts_as_master() {
    let mut pair = pair_at_10().await;
    pair.master.stop().await;
    commit(&pair, &pair.slave, 60).await;
    pair.slave.stop().await;
    pair.slave.keys.push(("brokerRole".into(), "ASYNC_MASTER".into()));
    pair.slave.again().await;
    assert_eq!((progress(&pair.slave), pair.slave.broker().offsets.own()), (Some(60), vec![]));
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_master_knows_better_is_the_masters() {
    let mut pair = pair_at_10().await;
    pair.master.stop().await;
    commit(&pair, &pair.slave, 5).await;
    pair.master.again().await;
    until("the slave has the master's progress again", || async { progress(&pair.slave) == Some(10) }).await;
    assert_eq!(progress(&pair.master), Some(10));

    pair.master.stop().await;
    commit(&pair, &pair.slave, 60).await;
    pair.slave.stop().await;
    pair.master.again().await;
    pair.api.delete_topic(&pair.master.addr, "T").await.unwrap();
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    pair.slave.again().await;
    rounds(&pair).await;
    assert_eq!((progress(&pair.master), progress(&pair.slave)), (None, None), "progress of a topic that was deleted");
    pair.stop().await;
}

/// Progress of a light queue stands in a table of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_returning_master_learns_the_progress_of_light_queues() {
    let light = [("enableLmq", "true"), ("enableMultiDispatch", "true")];
    let mut pair = Pair::start(&light, &light).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    for _ in 0..100 {
        send(&pair.api, &pair.master.addr, "T", 0, &[("INNER_MULTI_DISPATCH", "%LMQ%q")], b"x").await;
    }
    pair.equal().await;
    let (group, slave_addr) = ("%LMQ%g", pair.slave.addr.clone());
    let commit = |addr: String, offset| {
        let api = pair.api.clone();
        async move { api.update_consumer_offset(&addr, group, "%LMQ%q", 0, offset).await.unwrap() }
    };
    let at = |node: &Node| node.broker().offsets.get("%LMQ%q", group, 0);
    commit(pair.master.addr.clone(), 10).await;
    until("the slave has the progress", || async { at(&pair.slave) == Some(10) }).await;
    pair.master.stop().await;
    commit(slave_addr, 60).await;
    pair.master.again().await;
    until("the master knows it", || async {
        assert_eq!(at(&pair.slave), Some(60), "the slave never forgets it");
        at(&pair.master) == Some(60)
    })
    .await;
    rounds(&pair).await;
    assert_eq!((at(&pair.slave), pair.slave.broker().offsets.own()), (Some(60), vec![]));
    pair.stop().await;
}

/// A consumer of a group that the master does not know commits each moment: that is no line for each commit.
#[tokio::test(flavor = "multi_thread")]
async fn progress_that_the_master_does_not_take_is_told_once_a_minute() {
    let pair = Pair::start(&[], &[("slaveSyncInterval", "3600000")]).await;
    topic(&pair.api, &pair.master.addr, "Unknown", 4).await;
    assert!(broker::sync::round(pair.slave.broker()).await, "the master answers");
    for offset in 1..4 {
        for queue in 0..4 {
            pair.api.update_consumer_offset(&pair.slave.addr, "Nobody", "Unknown", queue, offset).await.unwrap();
        }
        assert!(broker::sync::round(pair.slave.broker()).await, "the master answers");
        assert_eq!(pair.slave.broker().offsets.own(), []);
    }
    let lines = Lines::of_process();
    assert_eq!(lines.with(&["WARN", "Unknown@Nobody"]), 1);
    assert_eq!(lines.with(&["4 queues' progress that consumers committed"]), 0, "nothing is at the master");
    pair.stop().await;
}

/// The disk may take its time for a slave's tables; the only worker of both brokers does not wait with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn messages_do_not_wait_while_a_slave_writes_its_masters_progress() {
    let by_hand = [("slaveSyncInterval", "3600000"), ("flushConsumerOffsetInterval", "3600000")];
    let pair = Pair::start(&[], &by_hand).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"x").await;
    // Rounds by themselves, those that beginning to follow asks for, have nothing to write from now on but the progress.
    assert!(broker::sync::round(pair.slave.broker()).await, "the master answers");
    // What opens it to write waits for somebody who reads.
    let lines = Lines::of_process();
    let aside = pair.slave.root.join("config/consumerOffset.json.tmp");
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &aside, FileType::Fifo, mode, 0).unwrap();
    let (release, released) = std::sync::mpsc::channel();
    let pipe = aside.clone();
    let reader = std::thread::spawn(move || {
        let is_released = released.recv_timeout(LIMIT).is_ok();
        std::fs::read(&pipe).unwrap();
        is_released
    });
    commit(&pair, &pair.master, 1).await;
    let slave = pair.slave.broker().clone();
    let round = tokio::spawn(async move { broker::sync::round(&slave).await });
    until("the slave has the progress, and writes it", || async { progress(&pair.slave) == Some(1) }).await;
    for _ in 0..20 {
        send(&pair.api, &pair.master.addr, "T", 0, &[], b"x").await;
    }
    release.send(()).unwrap();
    assert!(reader.join().unwrap(), "they have waited");
    round.await.unwrap();
    // Whichever round met it.
    assert_eq!(lines.with(&["metadata sync failed", &aside.display().to_string()]), 1, "a pipe cannot be made durable");
    pair.stop().await;
}
