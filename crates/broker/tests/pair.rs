//! A master and a slave together: what is sent is on both, metadata follows, roles change without loss.

mod common;

use std::time::Duration;

use common::{Node, Pair, drain, send, topic, until};
use wire::{
    Command,
    code::{request, response},
    header::ConsumerSendMsgBackRequestHeader,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_on_both_and_metadata_follows() {
    let pair = Pair::start(&[], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 2).await;
    let mut sent = Vec::new();
    for number in 0..300 {
        let body = vec![b'a' + (number % 26) as u8; 1 + number * 37];
        let answer = send(&pair.api, &pair.master.addr, "T", (number % 2) as i32, &[("TAGS", "x")], &body).await;
        assert_eq!(answer.code, response::SUCCESS);
        let end = answer.header.queue_offset;
        assert_eq!(end, (number / 2) as i64);
        sent.push(body);
    }
    pair.equal().await;
    let (master, slave) = (&pair.master.broker().store, &pair.slave.broker().store);
    let mut offset = 0;
    while offset < master.max_phys() {
        let bytes = master.read_log(offset, 1 << 20).unwrap();
        assert_eq!(slave.read_log(offset, bytes.len()).unwrap(), bytes, "at {offset}");
        offset += bytes.len() as i64;
    }
    pair.api.update_consumer_offset(&pair.master.addr, "TOOLS_CONSUMER", "T", 0, 77).await.unwrap();
    until("the topic and the progress are at the slave", || async {
        let at_slave = pair.api.query_consumer_offset(&pair.slave.addr, "TOOLS_CONSUMER", "T", 0).await;
        at_slave.unwrap() == Some(77)
    })
    .await;
    for queue in 0..2 {
        let got = drain(&pair.api, &pair.slave.addr, "T", queue, 0).await;
        let wanted: Vec<_> = sent.iter().skip(queue as usize).step_by(2).cloned().collect();
        assert_eq!(got, wanted, "queue {queue}");
    }
    assert_eq!(pair.master.broker().topics.version(), pair.slave.broker().topics.version());
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_goes_at_the_slave_too_and_begins_anew() {
    let pair = Pair::start(&[], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    for _ in 0..20 {
        send(&pair.api, &pair.master.addr, "T", 0, &[], b"old").await;
    }
    pair.equal().await;
    pair.api.delete_topic(&pair.master.addr, "T").await.unwrap();
    until("the slave has heard of it", || async { pair.slave.broker().topics.get("T").is_none() }).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    for _ in 0..10 {
        send(&pair.api, &pair.master.addr, "T", 0, &[], b"new").await;
    }
    pair.equal().await;
    until("the slave has the new topic", || async { pair.slave.broker().topics.get("T").is_some() }).await;
    for addr in [&pair.master.addr, &pair.slave.addr] {
        assert_eq!(pair.api.min_offset(addr, "T", 0).await.unwrap(), 0);
        assert_eq!(pair.api.max_offset(addr, "T", 0).await.unwrap(), 10);
        assert_eq!(drain(&pair.api, addr, "T", 0, 0).await, vec![b"new".to_vec(); 10]);
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_change_at_run_time_and_nothing_is_lost() {
    let mut pair = Pair::start(&[], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    for number in 0..50 {
        send(&pair.api, &pair.master.addr, "T", 0, &[], format!("{number}").as_bytes()).await;
    }
    pair.equal().await;
    until("the topic is at the slave", || async { pair.slave.broker().topics.get("T").is_some() }).await;
    pair.master.stop().await;
    pair.api.update_config(&pair.slave.addr, "brokerRole=ASYNC_MASTER").await.unwrap();
    assert!(pair.slave.broker().config().is_master());
    for number in 50..100 {
        let answer = send(&pair.api, &pair.slave.addr, "T", 0, &[], format!("{number}").as_bytes()).await;
        assert_eq!(answer.header.queue_offset, number);
    }
    pair.master.keys.extend([("brokerRole".into(), "SLAVE".into()), ("brokerId".into(), "2".into())]);
    pair.master.keys.push(("slaveReadEnable".into(), "true".into()));
    pair.master.again().await;
    until("the old master has followed", || async {
        pair.master.broker().store.max_phys() == pair.slave.broker().store.max_phys()
    })
    .await;
    let wanted: Vec<_> = (0..100).map(|number| format!("{number}").into_bytes()).collect();
    assert_eq!(drain(&pair.api, &pair.slave.addr, "T", 0, 0).await, wanted);
    until("the queues of the old master are built", || async { pair.master.broker().store.max_offset("T", 0) == 100 })
        .await;
    assert_eq!(drain(&pair.api, &pair.master.addr, "T", 0, 0).await, wanted);
    pair.stop().await;
}

/// The old master steps down first: when it asks, nobody is master yet.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_planned_switch_the_old_master_soon_knows_the_new_one() {
    let seldom = ("registerNameServerPeriod", "60000");
    let pair = Pair::start(&[seldom], &[seldom, ("inSyncReplicas", "2")]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"before").await;
    pair.equal().await;
    until("the topic is at the slave", || async { pair.slave.broker().topics.get("T").is_some() }).await;
    pair.api.update_config(&pair.master.addr, "brokerRole=SLAVE\nbrokerId=2").await.unwrap();
    pair.api.update_config(&pair.slave.addr, "brokerRole=SYNC_MASTER\nbrokerId=0").await.unwrap();
    until("the old master follows", || async { pair.slave.broker().replicas.connections() == 1 }).await;
    let answer = send(&pair.api, &pair.slave.addr, "T", 0, &[], b"after").await;
    assert_eq!((answer.code, answer.header.queue_offset), (response::SUCCESS, 1));
    pair.stop().await;
}

/// The other slave of a group knows of a promotion before its next registration would be due.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_the_other_slave_soon_follows_the_new_master() {
    let seldom = ("registerNameServerPeriod", "60000");
    let mut pair = Pair::start(&[seldom], &[seldom]).await;
    let keys = [("brokerRole", "SLAVE"), ("brokerId", "2"), ("namesrvAddr", &*pair.namesrv_addr), seldom];
    let mut other = Node::start(&pair.dir, "other", &keys).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"before").await;
    pair.equal().await;
    until("the topic is at the slave", || async { pair.slave.broker().topics.get("T").is_some() }).await;
    until("the other slave follows", || async {
        other.broker().store.max_phys() == pair.master.broker().store.max_phys()
    })
    .await;
    pair.master.stop().await;
    pair.api.update_config(&pair.slave.addr, "brokerRole=ASYNC_MASTER\nbrokerId=0").await.unwrap();
    send(&pair.api, &pair.slave.addr, "T", 0, &[], b"after").await;
    until("the other slave follows the new master", || async {
        other.broker().store.max_phys() == pair.slave.broker().store.max_phys()
    })
    .await;
    other.stop().await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delayed_messages_come_at_their_time_with_what_they_were_sent_with() {
    let pair = Pair::start(&[("messageDelayLevel", "1s 2s")], &[("messageDelayLevel", "1s 2s")]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    let answer = send(&pair.api, &pair.master.addr, "T", 0, &[("DELAY", "1"), ("TAGS", "x")], b"later").await;
    assert_eq!(answer.code, response::SUCCESS);
    assert_eq!(pair.api.max_offset(&pair.master.addr, "T", 0).await.unwrap(), 0);
    let puller = client::Puller::new(pair.api.clone(), &pair.master.addr, "G");
    let pulled = puller.wait("T", 0, 0, 32, Duration::from_secs(10)).await.unwrap();
    let record = pulled.records().next().expect("it is delivered");
    assert_eq!(
        (record.body(), record.property("TAGS"), record.property("REAL_TOPIC")),
        (&b"later"[..], Some("x"), Some("T"))
    );
    until("the slave knows how far the level is", || async { pair.slave.broker().delays.get(1) == 1 }).await;
    pair.stop().await;
}

/// Nothing counts as safe before the switch, for nothing is flushed and no round of metadata comes before the last one.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_master_has_delivered_comes_once_after_a_planned_switch() {
    let keys =
        [("messageDelayLevel", "1s 2s"), ("flushIntervalCommitLog", "3600000"), ("slaveSyncInterval", "3600000")];
    let pair = Pair::start(&keys, &keys).await;
    let (api, old, new) = (&pair.api, &pair.master.addr, &pair.slave.addr);
    topic(api, old, "T", 1).await;
    for _ in 0..20 {
        send(api, old, "T", 0, &[("DELAY", "1")], b"once").await;
    }
    until("all are delivered", || async { api.max_offset(old, "T", 0).await.unwrap() == 20 }).await;
    assert!(broker::sync::round(pair.slave.broker()).await, "the slave knows the topic");
    api.update_config(old, "brokerRole=SLAVE\nbrokerId=2").await.unwrap();
    pair.equal().await;
    api.update_config(new, "brokerRole=ASYNC_MASTER\nbrokerId=0").await.unwrap();
    send(api, new, "T", 0, &[("DELAY", "1")], b"last").await;
    until("the last one is delivered", || async {
        drain(api, new, "T", 0, 0).await.last().is_some_and(|body| body == b"last")
    })
    .await;
    let mut wanted = vec![b"once".to_vec(); 20];
    wanted.push(b"last".to_vec());
    assert_eq!(drain(api, new, "T", 0, 0).await, wanted);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_sent_back_comes_again_and_then_is_a_dead_letter() {
    let pair = Pair::start(&[("messageDelayLevel", "1s 1s 1s 1s")], &[]).await;
    let (api, addr) = (&pair.api, &pair.master.addr);
    topic(api, addr, "T", 1).await;
    send(api, addr, "T", 0, &[("KEYS", "k")], b"bad").await;
    let mut offset = drain_first(api, addr, "T").await;
    for round in 0..2 {
        send_back(api, addr, offset).await;
        let wanted = if round == 0 { "%RETRY%G" } else { "%DLQ%G" };
        until("it is in the next topic", || async { api.max_offset(addr, wanted, 0).await.unwrap() == 1 }).await;
        offset = drain_first(api, addr, wanted).await;
    }
    pair.stop().await;
}

async fn send_back(api: &client::BrokerApi, addr: &str, offset: i64) {
    let header = ConsumerSendMsgBackRequestHeader {
        offset,
        group: "G".into(),
        delay_level: 1,
        max_reconsume_times: Some(1),
        ..ConsumerSendMsgBackRequestHeader::default()
    };
    let command = Command::request_with(request::CONSUMER_SEND_MSG_BACK, &header);
    api.call(addr, command, Duration::from_secs(5)).await.unwrap();
}

async fn drain_first(api: &client::BrokerApi, addr: &str, topic: &str) -> i64 {
    let pulled = client::Puller::new(api.clone(), addr, "G").pull(topic, 0, 0, 1).await.unwrap();
    pulled.records().next().expect("a message").physical_offset()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slave_serves_a_system_group_that_it_does_not_know_and_creates_none() {
    let pair = Pair::start(&[], &[("slaveSyncInterval", "3600000"), ("autoCreateSubscriptionGroup", "false")]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"x").await;
    pair.equal().await;
    assert!(broker::sync::round(pair.slave.broker()).await, "the master answers");
    let before = pair.slave.broker().groups.snapshot();
    let puller = client::Puller::new(pair.api.clone(), &pair.slave.addr, "CID_RMQ_SYS_X");
    assert_eq!(puller.pull("T", 0, 0, 1).await.unwrap().records().count(), 1);
    assert_eq!(pair.slave.broker().groups.snapshot(), before);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_term_does_not_let_the_follower_back_in() {
    let pair = Pair::start(&[], &[]).await;
    let (master, slave) = (pair.master.broker(), pair.slave.broker());
    // What a promotion does before the configuration says master.
    slave.replicas.end_following().await;
    slave.replicas.new_term();
    until("the master has noticed", || async { master.replicas.connections() == 0 }).await;
    let rounds = slave.sync.rounds();
    until("ten rounds of metadata are over", || async {
        assert_eq!(master.replicas.connections(), 0, "the follower is back before the role has changed");
        slave.sync.rounds() > rounds + 10
    })
    .await;
    slave.replicas.allow_following();
    until("it follows again when it may", || async { master.replicas.connections() == 1 }).await;
    pair.stop().await;
}
