//! F-20, in a process of its own: the steps move the wall clock of everything in it.

mod common;

use std::time::Duration;

use common::{Pair, send, topic, until};
use tokio::time::Instant;
use wire::code::response;

#[tokio::test(flavor = "multi_thread")]
async fn f20_clock_steps_refuse_no_send_and_end_no_connection() {
    let pair = Pair::start(&[("haHousekeepingInterval", "3000"), ("channelExpiredTimeout", "3000")], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    let links = || pair.master.broker().replicas.ha_status(pair.master.broker()).ha_connection_info;
    let before: Vec<_> = links().into_iter().map(|link| link.addr).collect();
    for step in [5_000, -5_000, 3_600_000, -3_600_000] {
        let puller = client::Puller::new(pair.api.clone(), &pair.master.addr, "G");
        let next = pair.api.max_offset(&pair.master.addr, "T", 0).await.unwrap();
        let held = tokio::spawn(async move {
            let start = Instant::now();
            let pulled = puller.wait("T", 0, next + 200, 1, Duration::from_millis(700)).await.unwrap();
            (pulled.code, start.elapsed())
        });
        broker::context::step_clock(step);
        for _ in 0..50 {
            let answer = send(&pair.api, &pair.master.addr, "T", 0, &[], b"x").await;
            assert_eq!(answer.code, response::SUCCESS, "after a step of {step} ms");
        }
        let (code, _) = held.await.unwrap();
        assert_eq!(code, response::PULL_OFFSET_MOVED, "beyond the end, answered as ever");
    }
    let after: Vec<_> = links().into_iter().map(|link| link.addr).collect();
    assert_eq!(after, before, "the replication connection is the same");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f20_a_long_poll_keeps_its_length_over_a_clock_step() {
    let pair = Pair::start(&[], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"x").await;
    until("the message is queued", || async { pair.master.broker().store.max_offset("T", 0) == 1 }).await;
    let puller = client::Puller::new(pair.api.clone(), &pair.master.addr, "G");
    let start = Instant::now();
    let held = tokio::spawn(async move { puller.wait("T", 0, 1, 1, Duration::from_secs(1)).await.unwrap().code });
    while pair.master.broker().holds.is_empty() {
        assert!(!held.is_finished(), "the pull was not held");
        tokio::task::yield_now().await;
    }
    broker::context::step_clock(3_600_000);
    assert_eq!(held.await.unwrap(), response::PULL_NOT_FOUND);
    assert!(start.elapsed() >= Duration::from_secs(1), "the hold was cut short");
    pair.stop().await;
}
