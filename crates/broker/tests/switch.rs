//! Role changes at run time: what they wait for, and what of the former role is gone after them.

mod common;
#[path = "common/gate_disk.rs"]
mod gate_disk;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use broker::RunningBroker;
use client::BrokerApi;
use common::{LIMIT, Node, Pair, api, header, lines::Lines, relay::Between, send, topic, until};
use gate_disk::GateDisk;
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinHandle};
use wire::{Command, code::request, header::ResetOffsetRequestHeader};

const GROUP: &str = "TOOLS_CONSUMER";
const ASYNC: [(&str, &str); 1] = [("brokerRole", "ASYNC_MASTER")];

/// A log that takes no writes until this is dropped.
struct Slow(Arc<GateDisk>);

impl Drop for Slow {
    fn drop(&mut self) {
        self.0.close_writes(false);
    }
}

/// A pair of which the slave writes nothing to its log, ten megabytes behind: more than sockets hold.
async fn pair_with_a_slow_slave() -> (Pair, Slow) {
    let disks = [(); 2].map(|()| Arc::new(GateDisk::default()));
    let slow = Slow(disks[1].clone());
    let pair = Pair::start_on(disks, &ASYNC, &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"first").await;
    pair.equal().await;
    slow.0.close_writes(true);
    for _ in 0..500 {
        send(&pair.api, &pair.master.addr, "T", 0, &[], &[7; 20_000]).await;
    }
    (pair, slow)
}

fn change(api: &BrokerApi, addr: &str, keys: &'static str) -> JoinHandle<()> {
    let (api, addr) = (api.clone().with_limit(LIMIT), addr.to_owned());
    tokio::spawn(async move { api.update_config(&addr, keys).await.unwrap() })
}

fn ends(pair: &Pair) -> (i64, i64) {
    (pair.master.broker().store.max_phys(), pair.slave.broker().store.max_phys())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demotion_waits_until_the_slaves_have_everything() {
    let (pair, slow) = pair_with_a_slow_slave().await;
    let demotion = change(&pair.api, &pair.master.addr, "brokerRole=SLAVE\nbrokerId=2");
    until("no message is taken any more", || async {
        pair.api.send(&pair.master.addr, &header("T", 0, &[]), "more", LIMIT).await.is_err()
    })
    .await;
    drop(slow);
    demotion.await.unwrap();
    let (master, slave) = ends(&pair);
    assert_eq!(master, slave);
    pair.stop().await;
}

/// Java's slaves report for the first time 5 s after they have connected.
#[tokio::test(flavor = "multi_thread")]
async fn a_demotion_waits_for_a_slave_that_has_just_connected() {
    let mut pair = Pair::start(&ASYNC, &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    pair.slave.stop().await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"x").await;
    let mut slave = TcpStream::connect(("127.0.0.1", pair.master.port + 1)).await.unwrap();
    let master = pair.master.broker();
    until("it is connected", || async { master.replicas.connections() == 1 }).await;
    let demotion = change(&pair.api, &pair.master.addr, "brokerRole=SLAVE\nbrokerId=2");
    until("no message is taken any more", || async {
        pair.api.send(&pair.master.addr, &header("T", 0, &[]), "more", LIMIT).await.is_err()
    })
    .await;
    for _ in 0..100 {
        pair.api.max_offset(&pair.master.addr, "T", 0).await.unwrap();
        assert!(master.config().is_master(), "it waits");
    }
    slave.write_all(&master.store.max_phys().to_be_bytes()).await.unwrap();
    demotion.await.unwrap();
    assert!(!master.config().is_master());
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_waits_for_what_the_old_master_has() {
    let (pair, slow) = pair_with_a_slow_slave().await;
    let promotion = change(&pair.api, &pair.slave.addr, "brokerRole=ASYNC_MASTER");
    let appended = pair.slave.broker().store.marks().appended.clone();
    until("it waits for the rest", || async { appended.waiting() > 0 }).await;
    drop(slow);
    promotion.await.unwrap();
    let (master, slave) = ends(&pair);
    assert_eq!(master, slave);
    pair.stop().await;
}

/// Between the slave and its master, which answers all but requests of `code`; and how many of these there were.
async fn swallowing(pair: &Pair, code: i32) -> (Between, Arc<AtomicUsize>) {
    let swallowed = Arc::new(AtomicUsize::new(0));
    let count = swallowed.clone();
    let between = Between::start(&pair.api, &pair.master.addr, move |_, command| {
        let is_swallowed = command.code == code;
        count.fetch_add(is_swallowed.into(), SeqCst);
        (!is_swallowed).then_some(command)
    })
    .await;
    between.of(pair.slave.broker()).await;
    (between, swallowed)
}

/// A master that vanishes in the middle of a round.
#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_waits_for_no_round_of_a_master_that_is_gone() {
    let pair = Pair::start(&ASYNC, &[("slaveSyncInterval", "100")]).await;
    let (between, swallowed) = swallowing(&pair, request::GET_ALL_CONSUMER_OFFSET).await;
    let slave = pair.slave.broker();
    until("a round waits for an answer", || async { swallowed.load(SeqCst) > 0 }).await;
    change(&pair.api, &pair.slave.addr, "brokerRole=ASYNC_MASTER").await.unwrap();
    assert!(slave.config().is_master());
    // What a name server answers to a question from before teaches a master nothing.
    slave.sync.learned(|| slave.config(), Some(pair.master.addr.clone()), None);
    assert_eq!(slave.sync.master_addr(), None);
    between.stop().await;
    pair.stop().await;
}

/// One that is about to follow a master that does not tell whether its log is this one.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_waits_for_its_master_is_not_waited_for() {
    let lines = Lines::of_process();
    let pair = Pair::start(&ASYNC, &[("slaveSyncInterval", "3600000")]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"x").await;
    pair.equal().await;
    let (between, asked) = swallowing(&pair, request::VIEW_MESSAGE_BY_ID).await;
    let slave = pair.slave.broker();
    until("the round that it hears of its master by is over", || async { slave.sync.is_failing() }).await;
    let ha_addr = pair.master.broker().config().ha_addr();
    let starts = || lines.with(&[&format!("replication from {ha_addr} starts")]);
    let (before, asked_before) = (starts(), asked.load(SeqCst));
    pair.master.broker().replicas.disconnect_all();
    until("the follower asks", || async { asked.load(SeqCst) > asked_before }).await;
    slave.replicas.end_following().await;
    assert_eq!(starts(), before, "it does not even begin");
    between.stop().await;
    pair.stop().await;
}

/// Each table would cost the time that a call may take.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_asks_a_master_that_is_gone_for_one_table_only() {
    let pair = Pair::start(&ASYNC, &[("slaveSyncInterval", "3600000")]).await;
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let noted = asked.clone();
    let between = Between::start(&pair.api, &pair.master.addr, move |conn, command| {
        let is_table = matches!(
            command.code,
            request::GET_ALL_TOPIC_CONFIG
                | request::GET_ALL_CONSUMER_OFFSET
                | request::GET_ALL_DELAY_OFFSET
                | request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG
        );
        if is_table {
            noted.lock().unwrap().insert(command.code);
            conn.close("a master that is gone");
        }
        (!is_table).then_some(command)
    })
    .await;
    let slave = pair.slave.broker();
    between.of(slave).await;
    assert!(!broker::sync::round(slave).await, "nobody answers");
    assert_eq!(*asked.lock().unwrap(), BTreeSet::from([request::GET_ALL_TOPIC_CONFIG]));
    between.stop().await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_progress_is_lowered_while_the_queues_are_behind_the_log() {
    let lines = Lines::of_process();
    let pair = Pair::start(&ASYNC, &[]).await;
    let (api, addr) = (&pair.api, &pair.master.addr);
    topic(api, addr, "T", 1).await;
    let slave = pair.slave.broker();
    until("the slave has the topic", || async { slave.topics.get("T").is_some() }).await;
    let deletion = slave.store.begin_deletion("X").unwrap();
    for _ in 0..20 {
        send(api, addr, "T", 0, &[], b"x").await;
    }
    let end = pair.master.broker().store.max_phys();
    until("the slave has all, but not in its queue", || async { slave.store.max_phys() == end }).await;
    assert!(slave.store.max_offset("T", 0) < 20);
    slave.offsets.commit("T", GROUP, 0, 20, 1);
    let prepared = tokio::task::spawn_blocking({
        let slave = slave.clone();
        move || broker::role::prepare_master(&slave)
    });
    until("it says that it lowers nothing", || async { lines.with(&["progress stay as they are"]) == 1 }).await;
    deletion.finish().unwrap();
    prepared.await.unwrap();
    assert_eq!(slave.offsets.get("T", GROUP, 0), Some(20));
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_in_force_and_not_in_the_file_is_told_as_that() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[]).await;
    node.stop().await;
    let file = Some(dir.path().join("gone.conf"));
    node.running = Some(RunningBroker::start(node.config(), file).await.unwrap());
    let error = api().update_config(&node.addr, "brokerRole=SLAVE\nbrokerId=1").await.unwrap_err().to_string();
    assert!(error.contains("the role has changed") && error.contains("gone.conf"), "{error}");
    assert!(!node.broker().config().is_master());
    node.stop().await;
}

/// The table has what was reset; a consumer goes on from what the master says since.
#[tokio::test(flavor = "multi_thread")]
async fn a_slave_knows_no_reset_of_its_time_as_master() {
    let pair = Pair::start(&ASYNC, &[]).await;
    let (api, addr) = (&pair.api, &pair.master.addr);
    topic(api, addr, "T", 1).await;
    send(api, addr, "T", 0, &[], b"x").await;
    api.update_consumer_offset(addr, GROUP, "T", 0, 1).await.unwrap();
    let reset = ResetOffsetRequestHeader {
        topic: "T".into(),
        group: GROUP.into(),
        queue_id: 0,
        offset: Some(0),
        ..ResetOffsetRequestHeader::default()
    };
    let command = Command::request_with(request::INVOKE_BROKER_TO_RESET_OFFSET, &reset);
    api.call(addr, command, LIMIT).await.unwrap();
    let offsets = &pair.master.broker().offsets;
    assert_eq!(offsets.pending_reset("T", GROUP, 0), Some(0));
    api.update_config(addr, "brokerRole=SLAVE\nbrokerId=2").await.unwrap();
    assert_eq!(offsets.pending_reset("T", GROUP, 0), None);
    pair.stop().await;
}

/// F-02 in the moment between: progress that was made to fit, and a consumer that commits again what the old master had.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_during_a_promotion_fits_too() {
    let pair = Pair::start(&ASYNC, &[]).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"x").await;
    pair.equal().await;
    let slave = pair.slave.broker();
    until("the slave knows the topic", || async { slave.topics.get("T").is_some() }).await;
    // As in a promotion.
    let no_round = slave.sync.hold().await;
    let commit = || pair.api.update_consumer_offset(&pair.slave.addr, GROUP, "T", 0, 5);
    commit().await.unwrap();
    assert_eq!(slave.offsets.get("T", GROUP, 0), Some(5), "a slave may be behind");
    broker::role::prepare_master(slave);
    assert_eq!(slave.offsets.get("T", GROUP, 0), Some(1));
    commit().await.unwrap();
    assert_eq!(slave.offsets.get("T", GROUP, 0), Some(1));
    assert_eq!(slave.offsets.own(), []);
    drop(no_round);
    pair.stop().await;
}

/// A crash between the two must not bring a slave back that has acknowledged as a master.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_kept_before_it_is_in_force() {
    let pair = Pair::start(&ASYNC, &[]).await;
    for (node, role, id) in [(&pair.master, "SLAVE", "2"), (&pair.slave, "ASYNC_MASTER", "0")] {
        let broker = node.broker();
        let mut new = (*broker.config()).clone();
        new.set("brokerRole", role).unwrap();
        new.set("brokerId", id).unwrap();
        let takes = || async { pair.api.send(&node.addr, &header("T", 0, &[]), "x", LIMIT).await.is_ok() };
        let kept = async { (broker.config().is_master(), takes().await) };
        let was_master = broker.config().is_master();
        let (is_master, took) = broker::role::change(broker, new, kept).await.unwrap();
        assert_eq!((is_master, took), (was_master, false), "to {role}");
        assert_ne!(broker.config().is_master(), was_master);
    }
    assert!(pair.api.send(&pair.slave.addr, &header("T", 0, &[]), "x", LIMIT).await.is_ok());
    pair.stop().await;
}
