//! What operators met in practice, each by its id.

mod common;
#[path = "common/gate_disk.rs"]
mod gate_disk;

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{LIMIT, Node, Pair, api, header, message, name_server, send, topic, until};
use gate_disk::GateDisk;
use tokio::time::Instant;
use wire::{
    Command,
    body::HeartbeatData,
    code::{request, response},
};

#[tokio::test(flavor = "multi_thread")]
async fn f03_a_slave_stopped_while_dispatch_is_behind_has_every_message_readable() {
    let mut pair = Pair::start(&[("brokerRole", "ASYNC_MASTER")], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 4).await;
    let sender = tokio::spawn({
        let (api, addr) = (pair.api.clone(), pair.master.addr.clone());
        async move {
            for number in 0..4000 {
                send(&api, &addr, "T", number % 4, &[], &[b'x'; 100]).await;
            }
        }
    });
    for _ in 0..6 {
        let before = pair.slave.broker().store.max_phys();
        until("the slave has received more", || async {
            sender.is_finished() || pair.slave.broker().store.max_phys() > before
        })
        .await;
        let start = Instant::now();
        pair.slave.stop().await;
        assert!(start.elapsed() < Duration::from_secs(5), "the stop took {:?}", start.elapsed());
        pair.slave.again().await;
    }
    sender.await.unwrap();
    pair.equal().await;
    for queue in 0..4 {
        let unit =
            |node: &Node, offset| node.broker().store.queue_unit("T", queue, offset).map(|unit| unit.physical_offset);
        for offset in 0..1000 {
            let at_master = unit(&pair.master, offset);
            assert!(at_master.is_some());
            assert_eq!(unit(&pair.slave, offset), at_master, "queue {queue} offset {offset}");
        }
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f05_a_missing_slave_is_answered_before_a_java_producer_gives_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut master = Node::start(&dir, "m", &[("brokerRole", "SYNC_MASTER"), ("inSyncReplicas", "2")]).await;
    let api = api();
    topic(&api, &master.addr, "T", 1).await;
    // A producer waits 3 s; a later answer would fail the send here.
    let sends = (0..20).map(|_| {
        let (api, addr) = (api.clone(), master.addr.clone());
        tokio::spawn(
            async move { api.send(&addr, &header("T", 0, &[]), "x", Duration::from_secs(3)).await.unwrap().code },
        )
    });
    for sent in sends.collect::<Vec<_>>() {
        assert_eq!(sent.await.unwrap(), response::FLUSH_SLAVE_TIMEOUT);
    }
    assert_eq!(api.max_offset(&master.addr, "T", 0).await.unwrap(), 20, "one stored copy each");
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f06_a_lost_replication_connection_fails_no_send() {
    let pair = Pair::start(&[], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    for round in 0..5 {
        pair.master.broker().replicas.disconnect_all();
        for _ in 0..10 {
            let answer = send(&pair.api, &pair.master.addr, "T", 0, &[], b"x").await;
            assert_eq!(answer.code, response::SUCCESS, "round {round}");
        }
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f07_metadata_comes_over_the_replication_host_when_the_listener_is_unreachable() {
    // 127.0.0.0/8 is all local, but nothing listens at this address: the connect is refused at once.
    let pair = Pair::start(&[("brokerIP1", "127.0.0.77"), ("brokerIP2", "127.0.0.1")], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    for _ in 0..100 {
        send(&pair.api, &pair.master.addr, "T", 0, &[], b"x").await;
    }
    pair.api.update_consumer_offset(&pair.master.addr, "TOOLS_CONSUMER", "T", 0, 60).await.unwrap();
    until("topic and progress are at the slave", || async {
        let slave = pair.slave.broker();
        slave.topics.get("T").is_some() && slave.offsets.get("T", "TOOLS_CONSUMER", 0) == Some(60)
    })
    .await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_a_name_server_that_never_answers_delays_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (server, live) = name_server(&dir).await;
    // Accepts at the kernel's backlog and never answers, like a host that drops packets.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let list = format!("{};{}", silent.local_addr().unwrap(), live);
    let mut master = Node::start(&dir, "m", &[("namesrvAddr", &list)]).await;
    // Less than any wait for the silent server would take.
    let api = api().with_limit(Duration::from_millis(2900));
    let heartbeat = HeartbeatData { client_id: "c".into(), ..HeartbeatData::default() };
    api.heartbeat(&master.addr, &heartbeat).await.unwrap();
    topic(&api, &master.addr, "T", 1).await;
    until("the route is at the live server", || async { api.query_route(&live, "T").await.is_ok() }).await;
    master.stop().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f25_a_batch_with_a_broken_entry_is_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut master = Node::start(&dir, "m", &[]).await;
    let api = api();
    topic(&api, &master.addr, "T", 1).await;
    let batch = client::encode_batch(&[message("one"), message("two"), message("three")]).to_vec();
    let second = u32::from_be_bytes(batch[..4].try_into().unwrap()) as usize;
    for length in [0x8001u16, 0x7FFF] {
        let mut bad = batch.clone();
        let at = second + 20 + 3;
        bad[at..at + 2].copy_from_slice(&length.to_be_bytes());
        bad.extend_from_slice(&[b'x'; 100]);
        let header = wire::header::SendMessageRequestHeaderV2 { batch: Some(true), ..header("T", 0, &[]) };
        let error = api.send_batch(&master.addr, &header, bad, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.code(), Some(response::MESSAGE_ILLEGAL), "{error}");
        assert_eq!(api.max_offset(&master.addr, "T", 0).await.unwrap(), 0);
    }
    let header = wire::header::SendMessageRequestHeaderV2 { batch: Some(true), ..header("T", 0, &[]) };
    api.send_batch(&master.addr, &header, batch, Duration::from_secs(5)).await.unwrap();
    assert_eq!(api.max_offset(&master.addr, "T", 0).await.unwrap(), 3);
    master.stop().await;
}

/// A consumer that stands beyond the end of a slave, or before its beginning, and has no master to go to is not told to ask
/// again at once: it would, as fast as it can.
#[tokio::test(flavor = "multi_thread")]
async fn f02_a_consumer_that_a_slave_has_nothing_for_waits_while_the_master_is_dead() {
    let mut pair = Pair::start(&[], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    for _ in 0..30 {
        send(&pair.api, &pair.master.addr, "T", 0, &[], &[0; 100_000]).await;
    }
    pair.equal().await;
    let slave = pair.slave.broker().clone();
    until("the slave has the topic", || async { slave.topics.get("T").is_some() }).await;
    let oldest = store::Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments: 1 };
    slave.store.flush().unwrap();
    assert_eq!(slave.store.delete_expired(oldest).unwrap(), 1);
    let min = slave.store.min_offset("T", 0);
    let ask = |offset| {
        let puller = client::Puller::new(pair.api.clone(), &pair.slave.addr, "G");
        tokio::spawn(async move { puller.wait("T", 0, offset, 32, LIMIT * 10).await.unwrap() })
    };
    assert_eq!(ask(40).await.unwrap().code, response::PULL_RETRY_IMMEDIATELY, "the master may have it");
    pair.master.stop().await;
    until("the master does not answer", || async { slave.sync.is_failing() }).await;
    for offset in [min - 1, 40] {
        let asked = ask(offset);
        until("it waits", || async {
            assert!(!asked.is_finished(), "the consumer at {offset} is to ask again at once");
            !slave.holds.is_empty()
        })
        .await;
        slave.holds.wake_all(&slave);
        let pulled = asked.await.unwrap();
        assert_eq!((pulled.code, pulled.header.next_begin_offset), (response::PULL_RETRY_IMMEDIATELY, offset));
    }
    let asked = ask(40);
    until("it waits", || async { !slave.holds.is_empty() }).await;
    pair.api.update_config(&pair.slave.addr, "brokerRole=ASYNC_MASTER").await.unwrap();
    let pulled = asked.await.unwrap();
    assert_eq!((pulled.code, pulled.header.next_begin_offset), (response::PULL_OFFSET_MOVED, 30));
    drop(slave);
    pair.stop().await;
}

/// Nor one that reads what a slave's device does not give: a consumer waits after an error.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_slave_cannot_read_is_an_error_while_the_master_is_dead() {
    let disk = GateDisk::default();
    let disks = [Arc::new(GateDisk::default()), Arc::new(disk.clone())];
    let mut pair = Pair::start_on(disks, &[], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"x").await;
    pair.equal().await;
    let slave = pair.slave.broker().clone();
    until("the slave has the topic", || async { slave.topics.get("T").is_some() }).await;
    let puller = client::Puller::new(pair.api.clone(), &pair.slave.addr, "G");
    disk.break_reads(true);
    assert_eq!(puller.pull("T", 0, 0, 1).await.unwrap().code, response::PULL_RETRY_IMMEDIATELY, "of the master");
    pair.master.stop().await;
    until("the master does not answer", || async { slave.sync.is_failing() }).await;
    let refused = puller.pull("T", 0, 0, 1).await.map(|pulled| pulled.code);
    assert_eq!(refused.unwrap_err().code(), Some(response::SYSTEM_ERROR));
    disk.break_reads(false);
    assert_eq!(puller.pull("T", 0, 0, 1).await.unwrap().code, response::SUCCESS);
    drop(slave);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f28_a_slave_that_serves_no_reads_says_so() {
    let pair = Pair::start(&[], &[("slaveReadEnable", "false")]).await;
    let puller = client::Puller::new(pair.api.clone(), &pair.slave.addr, "G");
    let error = puller.pull("TBW102", 0, 0, 1).await.unwrap_err();
    assert_eq!(error.code(), Some(response::SYSTEM_BUSY));
    assert!(error.to_string().contains("slaveReadEnable=false"), "{error}");
    assert!(pair.slave.running.as_ref().unwrap().ack_meaning().contains("slaveReadEnable=false"));
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f30_a_tag_with_the_same_hash_is_another_tag() {
    let pair = Pair::start(&[], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    for _ in 0..100 {
        send(&pair.api, &pair.master.addr, "T", 0, &[("TAGS", "BBBB")], b"x").await;
    }
    pair.equal().await;
    until("the slave has the topic", || async { pair.slave.broker().topics.get("T").is_some() }).await;
    for addr in [&pair.master.addr, &pair.slave.addr] {
        let puller = client::Puller::new(pair.api.clone(), addr, "G").with_tags("AaAa");
        let mut offset = 0;
        while offset < 100 {
            let pulled = puller.pull("T", 0, offset, 32).await.unwrap();
            assert_eq!(pulled.code, response::PULL_RETRY_IMMEDIATELY);
            assert!(pulled.body.is_empty() && pulled.header.next_begin_offset > offset);
            offset = pulled.header.next_begin_offset;
        }
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f34_an_idle_slave_writes_nothing() {
    let often = [("flushConsumerOffsetInterval", "100"), ("flushDelayOffsetInterval", "100")];
    let pair = Pair::start(&[], &often).await;
    for number in 0..50 {
        topic(&pair.api, &pair.master.addr, &format!("T{number}"), 1).await;
    }
    until("all topics are at the slave", || async {
        pair.slave.broker().topics.version() == pair.master.broker().topics.version()
    })
    .await;
    let state = || {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(pair.slave.root.join("config")).unwrap().flatten() {
            let data = entry.metadata().unwrap();
            files.insert(entry.file_name(), (data.modified().unwrap(), data.len()));
        }
        files
    };
    until("each table has been written once", || async {
        ["consumerOffset.json", "delayOffset.json"]
            .iter()
            .all(|name| pair.slave.root.join("config").join(name).exists())
    })
    .await;
    let rounds = pair.slave.broker().sync.rounds();
    until("a round is over", || async { pair.slave.broker().sync.rounds() > rounds + 1 }).await;
    let before = state();
    let rounds = pair.slave.broker().sync.rounds();
    until("ten rounds are over", || async { pair.slave.broker().sync.rounds() > rounds + 10 }).await;
    assert_eq!(state(), before);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f36_sends_that_do_not_wait_delay_none_that_do() {
    let pair = Pair::start(&[], &[]).await;
    topic(&pair.api, &pair.master.addr, "A", 1).await;
    topic(&pair.api, &pair.master.addr, "B", 1).await;
    let conn = pair.api.client().connect(&pair.master.addr).await.unwrap();
    let flood = tokio::spawn(async move {
        for _ in 0..20_000 {
            let command = Command::request_with(request::SEND_MESSAGE_V2, &header("A", 0, &[("WAIT", "false")]));
            conn.send_oneway(command.with_body(vec![b'x'; 512]));
            if conn.queued_bytes() > 1 << 20 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let other = api();
    for _ in 0..100 {
        let answer = send(&other, &pair.master.addr, "B", 0, &[], b"y").await;
        assert_eq!(answer.code, response::SUCCESS);
    }
    flood.await.unwrap();
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f37_no_send_is_acknowledged_before_the_slave_holds_it() {
    let mut pair = Pair::start(&[("slaveTimeout", "300")], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    for _ in 0..20 {
        send(&pair.api, &pair.master.addr, "T", 0, &[], &[b'x'; 4000]).await;
        assert_eq!(pair.slave.broker().store.max_phys(), pair.master.broker().store.max_phys());
    }
    pair.slave.stop().await;
    let answer = send(&pair.api, &pair.master.addr, "T", 0, &[], b"alone").await;
    assert_eq!(answer.code, response::FLUSH_SLAVE_TIMEOUT);
    pair.slave.again().await;
    until("the slave is back", || async {
        send(&pair.api, &pair.master.addr, "T", 0, &[], b"again").await.code == response::SUCCESS
    })
    .await;
    pair.api.update_config(&pair.master.addr, "inSyncReplicas=3").await.unwrap();
    let line = pair.master.running.as_ref().unwrap().ack_meaning();
    assert!(line.contains("no send can succeed"), "{line}");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f33_topics_deleted_while_they_are_written_and_flushed_break_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut master =
        Node::start(&dir, "m", &[("flushIntervalCommitLog", "10"), ("flushIntervalConsumeQueue", "100")]).await;
    let api = api();
    let done = Arc::new(AtomicBool::new(false));
    let flushing = tokio::task::spawn_blocking({
        let (broker, done) = (master.broker().clone(), done.clone());
        move || {
            while !done.load(Ordering::Relaxed) {
                broker.store.flush_queues().unwrap();
            }
        }
    });
    for round in 0..80 {
        topic(&api, &master.addr, "T", 4).await;
        for queue in 0..4 {
            send(&api, &master.addr, "T", queue, &[], b"x").await;
        }
        api.delete_topic(&master.addr, "T").await.unwrap();
        assert_eq!(api.max_offset(&master.addr, "T", 0).await.unwrap(), 0, "round {round}");
    }
    done.store(true, Ordering::Relaxed);
    flushing.await.unwrap();
    assert!(master.broker().store.failed().is_none());
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_sql_subscription_is_refused_even_when_the_pull_says_tag() {
    use wire::{
        body::{ConsumerData, SubscriptionData},
        header::PullMessageRequestHeader,
    };
    let dir = tempfile::tempdir().unwrap();
    let mut master = Node::start(&dir, "m", &[]).await;
    let api = api();
    topic(&api, &master.addr, "T", 1).await;
    send(&api, &master.addr, "T", 0, &[("n", "1")], b"x").await;
    let subscription = SubscriptionData {
        topic: "T".into(),
        sub_string: "n > 14".into(),
        expression_type: "SQL92".into(),
        ..SubscriptionData::default()
    };
    let consumer =
        ConsumerData { group_name: "S".into(), subscription_data_set: vec![subscription], ..ConsumerData::default() };
    let heartbeat =
        HeartbeatData { client_id: "c".into(), consumer_data_set: vec![consumer], ..HeartbeatData::default() };
    api.heartbeat(&master.addr, &heartbeat).await.unwrap();
    let header = PullMessageRequestHeader {
        consumer_group: "S".into(),
        topic: "T".into(),
        queue_id: Some(0),
        queue_offset: Some(0),
        max_msg_nums: 32,
        subscription: Some("*".into()),
        expression_type: Some("TAG".into()),
        ..PullMessageRequestHeader::default()
    };
    let error = api.pull(&master.addr, &header, Duration::from_secs(5)).await.unwrap_err();
    assert!(error.to_string().contains("SQL92"), "{error}");
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slave_that_started_before_its_master_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let (server, addr) = name_server(&dir).await;
    let keys = [("brokerRole", "SLAVE"), ("brokerId", "1"), ("namesrvAddr", addr.as_str())];
    let mut slave = Node::start(&dir, "s", &keys).await;
    let mut master = Node::start(&dir, "m", &[("namesrvAddr", &addr)]).await;
    until("the slave follows", || async { master.broker().replicas.connections() == 1 }).await;
    slave.stop().await;
    master.stop().await;
    server.shutdown().await;
}
