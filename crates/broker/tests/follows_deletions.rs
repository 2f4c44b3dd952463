//! Deletions of topics that a slave follows in rounds, many at once and while more are made.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use common::{BY_HAND, Pair, has_queues, relay::Between, send, sync, topic, until};
use wire::{body::TopicConfig, code::request};

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_made_all_the_time_keep_no_deletion_from_the_slave() {
    let pair = Pair::start(&[], &[BY_HAND]).await;
    let (api, addr) = (pair.api.clone(), pair.master.addr.clone());
    topic(&api, &addr, "T", 1).await;
    send(&api, &addr, "T", 0, &[], b"old").await;
    pair.equal().await;
    sync(&pair.slave).await;
    api.delete_topic(&addr, "T").await.unwrap();
    let (master, made) = (pair.master.broker().clone(), AtomicUsize::new(0));
    let between = Between::start(&api, &addr, move |_, command| {
        if command.code == request::GET_ALL_TOPIC_CONFIG {
            let topic_name = format!("N{}", made.fetch_add(1, SeqCst));
            master.topics.put(TopicConfig { topic_name, ..TopicConfig::default() }, 1).unwrap();
        }
        Some(command)
    })
    .await;
    between.of(pair.slave.broker()).await;
    sync(&pair.slave).await;
    assert!(!has_queues(&pair.slave, "T"));
    between.stop().await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slave_removes_the_queues_of_many_topics_a_round_each() {
    let pair = Pair::start(&[], &[BY_HAND]).await;
    let names: Vec<_> = (0..100).map(|number| format!("T{number}")).collect();
    made(&pair, &names).await;
    pair.equal().await;
    sync(&pair.slave).await;
    deleted(&pair, &names);
    let rounds = || pair.slave.broker().sync.rounds();
    let before = rounds();
    sync(&pair.slave).await;
    until("further rounds follow by themselves", || async { are_gone(&pair, &names) }).await;
    until("the others had their turn between", || async { rounds() >= before + 2 }).await;
    pair.stop().await;
}

fn are_gone(pair: &Pair, names: &[String]) -> bool {
    names.iter().all(|name| !has_queues(&pair.slave, name))
}

async fn made(pair: &Pair, names: &[String]) {
    for name in names {
        let topic = TopicConfig { topic_name: name.clone(), ..TopicConfig::default() };
        pair.master.broker().topics.put(topic, 1).unwrap();
        send(&pair.api, &pair.master.addr, name, 0, &[("WAIT", "false")], b"old").await;
    }
}

fn deleted(pair: &Pair, names: &[String]) {
    names.iter().for_each(|name| broker::deletion::delete(pair.master.broker(), name).unwrap());
}

/// What a table tells says nothing of topics that were made and deleted since: they must not take its turn, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn topics_that_came_and_went_since_hold_up_no_earlier_deletion() {
    let pair = Pair::start(&[], &[BY_HAND]).await;
    let [first, second] = ["B", "A"].map(|letter| (0..100).map(|n| format!("{letter}{n}")).collect::<Vec<_>>());
    made(&pair, &first[..1]).await;
    pair.equal().await;
    sync(&pair.slave).await;
    let slave = pair.slave.broker().clone();
    slave.replicas.end_following().await;
    made(&pair, &first[1..]).await;
    for names in [&first, &second] {
        made(&pair, names).await;
        deleted(&pair, names);
        sync(&pair.slave).await;
    }
    slave.replicas.allow_following();
    pair.equal().await;
    sync(&pair.slave).await;
    until("all are gone", || async { are_gone(&pair, &first) && are_gone(&pair, &second) }).await;
    pair.stop().await;
}
