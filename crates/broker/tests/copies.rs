//! What counts as a copy: a slave that has not got a message must not be what its acknowledgement stands on.

mod common;

use std::os::unix::fs::FileExt;

use common::{LIMIT, Node, Pair, drain, header, relay::Between, send, topic, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use wire::code::{request, response};

/// Sends without waiting for the answer.
fn sending(pair: &Pair, body: Vec<u8>) -> tokio::task::JoinHandle<i32> {
    let (api, addr) = (pair.api.clone(), pair.master.addr.clone());
    tokio::spawn(async move { api.send(&addr, &header("T", 0, &[]), body, LIMIT).await.unwrap().code })
}

async fn stored(pair: &Pair, count: i64) {
    until("the message is in the log", || async {
        pair.api.max_offset(&pair.master.addr, "T", 0).await.unwrap() == count
    })
    .await;
}

/// The keys of a slave of this pair.
fn as_slave(pair: &Pair) -> [(&str, &str); 4] {
    [("brokerRole", "SLAVE"), ("brokerId", "2"), ("slaveReadEnable", "true"), ("namesrvAddr", &pair.namesrv_addr)]
}

/// A slave that begins with the newest segment has nothing of what waits in the one before.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_slave_confirms_nothing_that_lies_before_its_first_segment() {
    let mut pair = Pair::start(&[("slaveTimeout", "20000")], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    pair.slave.stop().await;
    let before = sending(&pair, vec![b'x'; 1000]);
    stored(&pair, 1).await;
    // The next one does not fit into the segment of 1 MiB any more.
    let filler = sending(&pair, vec![b'x'; 1_000_000]);
    stored(&pair, 2).await;
    let after = sending(&pair, vec![b'x'; 100_000]);
    stored(&pair, 3).await;
    let mut empty = Node::start(&pair.dir, "empty", &as_slave(&pair)).await;
    assert_eq!(after.await.unwrap(), response::SUCCESS);
    assert_eq!(empty.broker().store.min_phys(), 1 << 20, "it begins with the second segment");
    assert_eq!(before.await.unwrap(), response::FLUSH_SLAVE_TIMEOUT, "the only slave does not have it");
    assert_eq!(filler.await.unwrap(), response::FLUSH_SLAVE_TIMEOUT, "the only slave does not have it");
    let answer = send(&pair.api, &pair.master.addr, "T", 0, &[], b"next").await;
    assert_eq!(answer.code, response::SUCCESS);
    empty.stop().await;
    pair.stop().await;
}

/// `haFlowControlEnable`: a slave that comes back must not take the network from the clients.
#[tokio::test(flavor = "multi_thread")]
async fn a_slave_gets_no_more_a_second_than_is_allowed() {
    let paced =
        [("haFlowControlEnable", "true"), ("maxHaTransferByteInSecond", "2097152"), ("brokerRole", "ASYNC_MASTER")];
    let mut pair = Pair::start(&paced, &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"first").await;
    pair.equal().await;
    pair.slave.stop().await;
    for _ in 0..5 {
        send(&pair.api, &pair.master.addr, "T", 0, &[], &[7; 1_000_000]).await;
    }
    let begin = std::time::Instant::now();
    pair.slave.again().await;
    pair.equal().await;
    // A tenth of a second may be saved up, and the last record is paid for after it was sent.
    assert!(begin.elapsed().as_millis() >= 4_000_000 / 2098 - 100, "{:?}", begin.elapsed());
    pair.stop().await;
}

/// Whoever opens a connection to the replication port and says nothing is no broker of the group.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_says_nothing_is_no_member() {
    let pair = Pair::start(&[("inSyncReplicas", "3"), ("slaveTimeout", "100")], &[]).await;
    let silent = TcpStream::connect(("127.0.0.1", pair.master.port + 1)).await.unwrap();
    let master = pair.master.broker();
    until("both are connected, and one is a slave", || async {
        (master.replicas.connections(), master.replicas.slaves()) == (2, 1)
    })
    .await;
    let meaning = broker::role::ack_meaning(master);
    assert!(meaning.contains("inSyncReplicas=3 but only 2 of the group's brokers known"), "{meaning}");
    drop(silent);
    pair.stop().await;
}

/// A log that ends within a record of this one is another log, or has a part of a record that a master that is gone began:
/// what it reports first proves nothing, and what it got behind it would not belong to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_slave_that_ends_within_a_record_gets_and_confirms_nothing() {
    let mut pair = Pair::start(&[("slaveTimeout", "500")], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    pair.slave.stop().await;
    let start = pair.master.broker().store.max_phys();
    let waiting = sending(&pair, vec![b'x'; 1000]);
    stored(&pair, 1).await;
    let middle = pair.master.broker().store.max_phys();
    let last = sending(&pair, vec![b'x'; 1000]);
    stored(&pair, 2).await;
    assert!(start < middle);
    let mut other = TcpStream::connect(("127.0.0.1", pair.master.port + 1)).await.unwrap();
    other.write_all(&(middle + 100).to_be_bytes()).await.unwrap();
    let mut got = Vec::new();
    other.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"", "it is closed");
    assert_eq!(waiting.await.unwrap(), response::FLUSH_SLAVE_TIMEOUT);
    assert_eq!(last.await.unwrap(), response::FLUSH_SLAVE_TIMEOUT);
    pair.stop().await;
}

/// A Java slave stores whole frames: wherever its connection breaks, its log ends with a record, but within one that no frame
/// can hold. There it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn frames_end_with_records() {
    let large =
        [("maxMessageSize", "5000000"), ("mappedFileSizeCommitLog", "16777216"), ("brokerRole", "ASYNC_MASTER")];
    let mut pair = Pair::start(&large, &large[..2]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    pair.slave.stop().await;
    for size in [10, 20_000, 100, 40_000, 300_000, 10, 10, 4_300_000, 7, 31_000, 2000] {
        send(&pair.api, &pair.master.addr, "T", 0, &[], &vec![b'x'; size]).await;
    }
    let store = &pair.master.broker().store;
    let (mut at, end) = (0, store.max_phys());
    let mut within = Vec::new();
    while at < end {
        let mut slave = TcpStream::connect(("127.0.0.1", pair.master.port + 1)).await.unwrap();
        slave.write_all(&i64::to_be_bytes(at)).await.unwrap();
        // One frame of each connection.
        assert_eq!(slave.read_i64().await.unwrap(), at);
        let mut body = vec![0; slave.read_i32().await.unwrap() as usize];
        slave.read_exact(&mut body).await.unwrap();
        assert_eq!(store.read_log(at, body.len()).unwrap(), body);
        at += body.len() as i64;
        if !store.is_boundary(at) {
            within.push(body.len());
        }
        let master = pair.master.broker();
        until("the master knows that it has sent that", || async {
            let status = master.replicas.ha_status(master);
            status.ha_connection_info.iter().any(|slave| slave.transfer_from_where >= at)
        })
        .await;
    }
    assert_eq!(within, [(4 << 20) - 12], "of the one record that no frame can hold");
    pair.stop().await;
}

/// An old master and a new one, `master` and `slave` of the pair, that have parted, and where the old one ends. Messages of
/// one length: its own tail ends where a record of the new one ends. The new one's replication port is so far behind its
/// listener.
async fn two_masters(ha_port: u16) -> (Pair, i64) {
    let mut pair = Pair::start(&[], &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"both").await;
    pair.equal().await;
    until("the topic is at the slave", || async { pair.slave.broker().topics.get("T").is_some() }).await;
    pair.slave.stop().await;
    pair.master.stop().await;
    let ha_port = (pair.slave.port + ha_port).to_string();
    let new_master = format!("127.0.0.1:{ha_port}");
    set(&mut pair.master, &[("brokerRole", "ASYNC_MASTER"), ("haMasterAddress", &new_master)]);
    pair.master.again().await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"mine").await;
    let end = pair.master.broker().store.max_phys();
    set(&mut pair.slave, &[("brokerRole", "ASYNC_MASTER"), ("brokerId", "0"), ("haListenPort", &ha_port)]);
    pair.slave.again().await;
    send(&pair.api, &pair.slave.addr, "T", 0, &[], b"true").await;
    assert_eq!(pair.slave.broker().store.max_phys(), end, "the records end alike");
    send(&pair.api, &pair.slave.addr, "T", 0, &[], b"more").await;
    (pair, end)
}

/// The old master starts as slave, and with other keys.
async fn return_as_slave(pair: &mut Pair, keys: &[(&str, &str)]) {
    pair.master.stop().await;
    set(&mut pair.master, &[("brokerRole", "SLAVE"), ("brokerId", "2")]);
    set(&mut pair.master, keys);
    pair.master.again().await;
}

async fn an_old_master_returns(is_demoted: bool) {
    let (mut pair, end) = two_masters(1).await;
    let lines = common::lines::Lines::of_process();
    let told = lines.with(&["have parted"]);
    if is_demoted {
        pair.api.update_config(&pair.master.addr, "brokerRole=SLAVE\nbrokerId=2").await.unwrap();
    } else {
        return_as_slave(&mut pair, &[]).await;
    }
    until("the two logs are told to have parted", || async { lines.with(&["have parted"]) > told }).await;
    assert_eq!(pair.master.broker().store.max_phys(), end, "nothing is appended to a log that has parted");
    assert_eq!(pair.slave.broker().replicas.connections(), 0, "it is no slave of this master");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_master_with_a_tail_of_its_own_is_found_out_when_it_starts_as_slave() {
    an_old_master_returns(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_master_with_a_tail_of_its_own_is_found_out_when_it_becomes_slave() {
    an_old_master_returns(true).await;
}

/// Nobody tells of the master's listener, but it is where both brokers have it as a rule.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_master_with_a_tail_of_its_own_is_found_out_without_a_name_server() {
    let (mut pair, end) = two_masters(1).await;
    let lines = common::lines::Lines::of_process();
    let parted = ["replication from", &format!("127.0.0.1:{} ", pair.slave.port + 1), "have parted"];
    return_as_slave(&mut pair, &[("namesrvAddr", "")]).await;
    until("the two logs are told to have parted", || async { lines.with(&parted) > 0 }).await;
    assert_eq!(pair.master.broker().store.max_phys(), end, "nothing is appended to a log that has parted");
    pair.stop().await;
}

/// Replication begins before the master tells what it has. Its own records, that are copied then, hide nothing.
async fn an_old_master_is_told_late(again: bool) {
    let (mut pair, _) = two_masters(2).await;
    let lines = common::lines::Lines::of_process();
    let parted = ["replication from", &format!("127.0.0.1:{} ", pair.slave.port + 2), "have parted"];
    let new_end = pair.slave.broker().store.max_phys();
    return_as_slave(&mut pair, &[("namesrvAddr", "")]).await;
    until("a record is copied", || async { pair.master.broker().store.max_phys() == new_end }).await;
    if again {
        pair.master.stop().await;
        pair.master.again().await;
        until("it follows again", || async { pair.slave.broker().replicas.slowest() == Some(new_end) }).await;
    }
    assert_eq!(lines.with(&parted), 0, "nobody has told yet");
    let namesrv = format!("namesrvAddr={}", pair.namesrv_addr);
    pair.api.update_config(&pair.master.addr, &namesrv).await.unwrap();
    until("the two logs are told to have parted", || async { lines.with(&parted) > 0 }).await;
    until("it is no slave any more", || async { pair.slave.broker().replicas.connections() == 0 }).await;
    send(&pair.api, &pair.slave.addr, "T", 0, &[], b"then").await;
    assert!(!broker::sync::round(pair.master.broker()).await, "it takes no tables either");
    assert_eq!(pair.master.broker().store.max_phys(), new_end);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_master_that_is_compared_late_is_found_out() {
    an_old_master_is_told_late(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_master_that_is_compared_after_a_restart_is_found_out() {
    an_old_master_is_told_late(true).await;
}

fn set(node: &mut Node, keys: &[(&str, &str)]) {
    node.keys.extend(keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
}

/// A master that has lost its disk and starts empty must not empty its slave: that one has everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_starts_empty_takes_nothing_away_from_its_slave() {
    let mut pair = Pair::start(&[("slaveTimeout", "50")], &[]).await;
    let lines = common::lines::Lines::of_process();
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    for _ in 0..10 {
        send(&pair.api, &pair.master.addr, "T", 0, &[], b"kept").await;
    }
    pair.api.update_consumer_offset(&pair.master.addr, "TOOLS_CONSUMER", "T", 0, 7).await.unwrap();
    pair.equal().await;
    until("topic and progress are at the slave", || async {
        let slave = pair.slave.broker();
        slave.topics.get("T").is_some() && slave.offsets.get("T", "TOOLS_CONSUMER", 0) == Some(7)
    })
    .await;
    pair.master.stop().await;
    std::fs::remove_dir_all(&pair.master.root).unwrap();
    let told = lines.with(&["replication from", "beyond the master's end"]);
    pair.master.again().await;
    topic(&pair.api, &pair.master.addr, "U", 1).await;
    send(&pair.api, &pair.master.addr, "U", 0, &[], b"other").await;
    until("the slave says that it follows no such master", || async {
        lines.with(&["replication from", "beyond the master's end"]) > told
    })
    .await;
    assert!(!broker::sync::round(pair.slave.broker()).await, "it takes no tables either");
    pair.master.stop().await;
    pair.api.update_config(&pair.slave.addr, "brokerRole=ASYNC_MASTER").await.unwrap();
    let slave = pair.slave.broker();
    assert!(slave.topics.get("T").is_some() && slave.topics.get("U").is_none());
    assert_eq!(slave.offsets.get("T", "TOOLS_CONSUMER", 0), Some(7));
    assert_eq!(drain(&pair.api, &pair.slave.addr, "T", 0, 0).await, vec![b"kept".to_vec(); 10]);
    pair.stop().await;
}

/// What is copied behind a record that cannot be compared could hide that the two logs have parted.
#[tokio::test(flavor = "multi_thread")]
async fn a_slave_that_cannot_read_its_last_record_copies_nothing_behind_it() {
    let mut pair = Pair::start(&[("slaveTimeout", "50")], &[]).await;
    let lines = common::lines::Lines::of_process();
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"last").await;
    pair.equal().await;
    pair.master.stop().await;
    let end = pair.slave.broker().store.max_phys();
    let segment = pair.slave.root.join("commitlog").join(format!("{:020}", 0));
    let log = std::fs::OpenOptions::new().read(true).write(true).open(segment).unwrap();
    let mut head = [0; 8];
    log.read_exact_at(&mut head, 0).unwrap();
    log.write_all_at(&[0; 8], 0).unwrap();
    pair.master.again().await;
    let ha_addr = format!("127.0.0.1:{} is stopped", pair.master.port + 1);
    let unread = [ha_addr.as_str(), "the last record of this log"];
    until("it says that it cannot be compared", || async { lines.with(&unread) > 0 }).await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"next").await;
    assert!(!broker::sync::round(pair.slave.broker()).await, "it takes no tables");
    assert_eq!((pair.slave.broker().store.max_phys(), pair.master.broker().replicas.connections()), (end, 0));
    log.write_all_at(&head, 0).unwrap();
    pair.equal().await;
    pair.stop().await;
}

/// A master that has just started may be slow to answer; its tables may be those of an empty one.
#[tokio::test(flavor = "multi_thread")]
async fn no_table_is_taken_of_a_master_that_does_not_tell_what_is_in_its_log() {
    let pair = Pair::start(&[], &[("slaveSyncInterval", "3600000")]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"body").await;
    pair.equal().await;
    let slave = pair.slave.broker();
    assert!(broker::sync::round(slave).await);
    let between = Between::start(&pair.api, &pair.master.addr, |_, command| {
        (command.code != request::VIEW_MESSAGE_BY_ID).then_some(command)
    })
    .await;
    between.of(slave).await;
    topic(&pair.api, &pair.master.addr, "U", 1).await;
    assert!(!broker::sync::round(slave).await);
    assert!(slave.topics.get("T").is_some() && slave.topics.get("U").is_none());
    between.stop().await;
    pair.stop().await;
}

/// The master's replication port is elsewhere, as a name server tells: the stream that is open leads to the old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_slave_goes_to_the_masters_new_replication_address_once_that_can_be_reached() {
    let dir = tempfile::tempdir().unwrap();
    let mut master = Node::start(&dir, "master", &[("brokerRole", "ASYNC_MASTER")]).await;
    let mut slave = Node::start(&dir, "slave", &[("brokerRole", "SLAVE"), ("brokerId", "1")]).await;
    let (api, lines) = (common::api(), common::lines::Lines::of_process());
    topic(&api, &master.addr, "T", 1).await;
    send(&api, &master.addr, "T", 0, &[], b"body").await;
    let end = master.broker().store.max_phys();
    let learned = |ha_port: u16| {
        let ha_addr = Some(format!("127.0.0.1:{ha_port}"));
        slave.broker().sync.learned(|| slave.broker().config(), Some(master.addr.clone()), ha_addr);
    };
    learned(master.port + 1);
    until("the slave follows", || async { master.broker().replicas.slowest() == Some(end) }).await;
    let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    learned(port);
    let report = async {
        loop {
            let (mut stream, _) = elsewhere.accept().await.unwrap();
            // Whether it can be reached is tried first.
            if let Ok(report) = stream.read_i64().await {
                return report;
            }
        }
    };
    assert_eq!(tokio::time::timeout(LIMIT, report).await.unwrap(), end);
    assert_eq!(lines.with(&[&format!("replicates from 127.0.0.1:{port} now")]), 1);
    slave.stop().await;
    master.stop().await;
}

/// Whoever looks for open ports is no slave: nothing waits for what it does not copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_reports_nothing_is_no_slave() {
    let dir = tempfile::tempdir().unwrap();
    let mut master = Node::start(&dir, "master", &[("brokerRole", "ASYNC_MASTER")]).await;
    let lines = common::lines::Lines::of_process();
    let mut other = TcpStream::connect(("127.0.0.1", master.port + 1)).await.unwrap();
    let addr = other.local_addr().unwrap().to_string();
    until("it is connected", || async { lines.with(&["replication connection", &addr]) == 1 }).await;
    let replicas = &master.broker().replicas;
    assert_eq!((replicas.connections(), replicas.slaves(), replicas.slowest()), (1, 0, None));
    assert_eq!(master.broker().safe_end(), master.broker().store.marks().flushed.get());
    assert_eq!(lines.with(&["is connected", &addr]), 0, "no slave is");
    other.write_all(&0_i64.to_be_bytes()).await.unwrap();
    until("it is one now", || async { lines.with(&["1 slave is connected", &addr]) == 1 }).await;
    assert_eq!((replicas.slaves(), replicas.slowest()), (1, Some(0)));
    drop(other);
    master.stop().await;
}

/// A slave that is frozen, or that the network has swallowed: it takes nothing, and its connection is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_slave_that_stops_reading_is_closed_while_there_is_something_to_send() {
    let dir = tempfile::tempdir().unwrap();
    let keys = [("brokerRole", "ASYNC_MASTER"), ("haHousekeepingInterval", "500")];
    let mut master = Node::start(&dir, "master", &keys).await;
    let api = common::api();
    topic(&api, &master.addr, "T", 1).await;
    send(&api, &master.addr, "T", 0, &[], b"first").await;
    let first_end = master.broker().store.max_phys();
    // More than the buffers of both sockets take.
    for _ in 0..40 {
        send(&api, &master.addr, "T", 0, &[], &vec![b'x'; 500_000]).await;
    }
    let mut frozen = TcpStream::connect(("127.0.0.1", master.port + 1)).await.unwrap();
    frozen.write_all(&first_end.to_be_bytes()).await.unwrap();
    let silent = format!("replication to {}: nothing heard", frozen.local_addr().unwrap());
    let lines = common::lines::Lines::of_process();
    until("the connection is closed", || async { lines.with(&[&silent]) == 1 }).await;
    assert_eq!(master.broker().replicas.connections(), 0);
    drop(frozen);
    master.stop().await;
}
