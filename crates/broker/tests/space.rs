//! Retention and full disks as operators met them: F-16, F-38 and their neighbours.

mod common;
#[path = "common/gate_disk.rs"]
mod gate_disk;
#[path = "../../store/tests/common/small_disk.rs"]
mod small_disk;

use std::{sync::Arc, time::Duration};

use common::lines::Lines;
use common::{Node, Pair, api, drain, header, send, topic, until};
use gate_disk::GateDisk;
use small_disk::SmallDisk;
use wire::{
    Command,
    code::{request, response},
};

const MIB: u64 = 1 << 20;

/// Answer code and remark of a send that may fail.
async fn try_send(api: &client::BrokerApi, addr: &str) -> (i32, String) {
    match api.send(addr, &header("T", 0, &[]), vec![b'x'; 1000], Duration::from_secs(10)).await {
        Ok(sent) => (sent.code, String::new()),
        Err(error) => (error.code().unwrap_or(-1), error.to_string()),
    }
}

/// Sends until `wanted` comes; returns how many were stored, and the remark.
async fn send_until(api: &client::BrokerApi, addr: &str, wanted: i32) -> (usize, String) {
    let mut stored = 0;
    for _ in 0..20_000 {
        let (code, remark) = try_send(api, addr).await;
        stored += usize::from(code != response::SERVICE_NOT_AVAILABLE);
        if code == wanted {
            return (stored, remark);
        }
    }
    panic!("{wanted} never came");
}

async fn resumes(api: &client::BrokerApi, addr: &str) {
    let resumed = async {
        while try_send(api, addr).await.0 != response::SUCCESS {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), resumed).await.expect("writes resume within 15 s");
}

/// Min and max of queues 0 to 3, at a broker.
async fn ends(api: &client::BrokerApi, addr: &str, topic: &str) -> Vec<(i64, i64)> {
    let mut ends = Vec::new();
    for queue in 0..4 {
        ends.push((
            api.min_offset(addr, topic, queue).await.unwrap(),
            api.max_offset(addr, topic, queue).await.unwrap(),
        ));
    }
    ends
}

/// As a broker has it by default.
const DEFAULT_RESERVE: [(&str, &str); 2] = [("diskReservedBytes", "-1"), ("diskSpaceWarningLevelRatio", "90")];

#[tokio::test(flavor = "multi_thread")]
async fn f16_the_min_offset_follows_the_segments() {
    Lines::of_process();
    let common = [("mappedFileSizeCommitLog", "102400"), ("fileReservedTime", "0"), ("cleanResourceInterval", "1000")];
    let hours = (0..24).map(|hour| hour.to_string()).collect::<Vec<_>>().join(";");
    let master_keys = [common.as_slice(), &[("deleteWhen", "")]].concat();
    let slave_keys = [common.as_slice(), &[("deleteWhen", hours.as_str())]].concat();
    let mut pair = Pair::start(&master_keys, &slave_keys).await;
    let (api, addr) = (pair.api.clone(), pair.master.addr.clone());
    for name in ["T1", "T2", "T3"] {
        topic(&api, &addr, name, 4).await;
        for number in 0..1000 {
            send(&api, &addr, name, number % 4, &[], &[b'x'; 60]).await;
        }
    }
    pair.equal().await;
    assert!(pair.master.broker().store.max_phys() > 5 * 102_400);
    api.call(&addr, Command::request(request::DELETE_EXPIRED_COMMITLOG), Duration::from_secs(10)).await.unwrap();
    let left = |node: &Node| {
        let store = &node.broker().store;
        store.max_phys() - store.min_phys()
    };
    assert!(left(&pair.master) <= 102_400, "only the last segment is left");
    until("the slave has cleaned by itself", || async { left(&pair.slave) <= 102_400 }).await;
    until("the slave has the topics", || async { pair.slave.broker().topics.get("T1").is_some() }).await;
    for again in [false, true] {
        if again {
            pair.slave.stop().await;
            pair.master.stop().await;
            pair.master.again().await;
            pair.slave.again().await;
        }
        for addr in [&pair.master.addr, &pair.slave.addr] {
            assert_eq!(ends(&api, addr, "T1").await, [(250, 250); 4], "at {addr}, after a restart: {again}");
            let pulled = client::Puller::new(api.clone(), addr, "G").pull("T1", 0, 0, 32).await.unwrap();
            // A slave sends nobody elsewhere: clients are to ask the master.
            let is_master = *addr == pair.master.addr;
            let code = if is_master { response::PULL_OFFSET_MOVED } else { response::PULL_RETRY_IMMEDIATELY };
            assert_eq!((pulled.code, pulled.header.min_offset), (code, 250), "at {addr}");
            assert!(!is_master || pulled.header.next_begin_offset == 250);
        }
    }
    assert_eq!(send(&api, &addr, "T1", 0, &[], b"x").await.header.queue_offset, 250, "the counter goes on");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f38_a_full_disk_with_queues_behind_needs_no_restart() {
    let lines = Lines::of_process();
    let disks = [Arc::new(SmallDisk::new(64 * MIB)), Arc::new(SmallDisk::new(64 * MIB))];
    let keys = [&[("brokerRole", "ASYNC_MASTER")], DEFAULT_RESERVE.as_slice()].concat();
    let pair = Pair::start_on(disks.clone(), &keys, &DEFAULT_RESERVE).await;
    let (api, addr) = (pair.api.clone(), pair.master.addr.clone());
    topic(&api, &addr, "T", 1).await;
    let mut stored = 0;
    for round in 0..2 {
        // The queues get no space: their units wait in memory. Then the log gets none.
        disks.iter().for_each(|disk| disk.refuse_in(Some("consumequeue")));
        for _ in 0..500 {
            assert_eq!(try_send(&api, &addr).await.0, response::SUCCESS, "round {round}");
        }
        stored += 500;
        disks[0].leave(100_000);
        let (more, remark) = send_until(&api, &addr, response::SERVICE_NOT_AVAILABLE).await;
        stored += more;
        let dir = pair.master.root.display().to_string();
        assert!(remark.contains("the disk of") && remark.contains(&dir), "{remark}");
        assert_eq!(drain(&api, &addr, "T", 0, 0).await.len(), stored, "all can be read meanwhile");
        disks.iter().for_each(|disk| disk.refuse_in(None));
        disks[0].others_use(0);
        resumes(&api, &addr).await;
        stored += 1;
        pair.equal().await;
        for node in [&pair.master, &pair.slave] {
            until("the topic is there", || async { node.broker().topics.get("T").is_some() }).await;
            assert_eq!(drain(&api, &node.addr, "T", 0, 0).await.len(), stored, "at {}", node.addr);
        }
    }
    let dir = pair.master.root.display().to_string();
    // The second time follows so soon that it may be told with the first.
    assert!((1..=2).contains(&lines.with(&["no space:", "messages are refused", &dir])), "one line a time at most");
    assert_eq!(lines.with(&["needs a restart"]), 0);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f38_a_slave_without_space_acknowledges_nothing_and_goes_on_by_itself() {
    let lines = Lines::of_process();
    let disks = [Arc::new(SmallDisk::new(64 * MIB)), Arc::new(SmallDisk::new(64 * MIB))];
    let pair = Pair::start_on(disks.clone(), &[("slaveTimeout", "300")], &DEFAULT_RESERVE).await;
    let (api, addr) = (pair.api.clone(), pair.master.addr.clone());
    topic(&api, &addr, "T", 1).await;
    let mut stored = 1;
    assert_eq!(try_send(&api, &addr).await.0, response::SUCCESS);
    for _ in 0..2 {
        disks[1].refuse_in(Some("consumequeue"));
        disks[1].leave(60_000);
        stored += send_until(&api, &addr, response::FLUSH_SLAVE_TIMEOUT).await.0;
        let held = pair.slave.broker().store.max_phys();
        assert!(held < pair.master.broker().store.max_phys(), "it did not acknowledge what it does not hold");
        assert!(pair.slave.broker().store.no_space().is_some());
        disks[1].refuse_in(None);
        disks[1].others_use(0);
        let resumed = async {
            while try_send(&api, &addr).await.0 != response::SUCCESS {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(15), resumed).await.expect("it acknowledges within 15 s");
        pair.equal().await;
    }
    let store = &pair.slave.broker().store;
    assert_eq!(store.max_offset("T", 0), pair.master.broker().store.max_offset("T", 0));
    assert!(store.max_offset("T", 0) >= stored as i64);
    let dir = pair.slave.root.display().to_string();
    assert!((1..=2).contains(&lines.with(&["no space:", "this replica takes", &dir])), "one line a time at most");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ratio_refuses_sends_with_its_name_and_forced_deletion_makes_room() {
    Lines::of_process();
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(SmallDisk::new(200 * MIB));
    let keys = [("fileReservedTime", "100000"), ("diskSpaceWarningLevelRatio", "90"), ("diskReservedBytes", "0")];
    let mut master = Node::start_on(disk.clone(), &dir, "m", &keys).await;
    let api = api();
    topic(&api, &master.addr, "T", 1).await;
    while master.broker().store.max_phys() < 30 << 20 {
        send(&api, &master.addr, "T", 0, &[], &[b'x'; 50_000]).await;
    }
    disk.leave(19 * MIB);
    let (_, remark) = send_until(&api, &master.addr, response::SERVICE_NOT_AVAILABLE).await;
    assert!(remark.contains("% full, above diskSpaceWarningLevelRatio 90"), "{remark}");
    let info = api.call(&master.addr, Command::request(request::GET_BROKER_RUNTIME_INFO), Duration::from_secs(5)).await;
    assert!(String::from_utf8_lossy(&info.unwrap().body).contains("noSpace"));
    assert!(!drain(&api, &master.addr, "T", 0, 0).await.is_empty(), "reads go on");
    assert_eq!(master.broker().store.min_phys(), 0, "age counts");
    api.update_config(&master.addr, "cleanFileForciblyEnable=true").await.unwrap();
    resumes(&api, &master.addr).await;
    let store = &master.broker().store;
    assert!(store.min_phys() > 0 && store.max_phys() - store.min_phys() > store.segment_size(), "no more than must");
    api.update_config(&master.addr, "diskReservedBytes=209715200").await.unwrap();
    // What is sent until the next look at the disk may fill it above the ratio once more.
    until("the reserve is named", || async {
        let (_, remark) = send_until(&api, &master.addr, response::SERVICE_NOT_AVAILABLE).await;
        remark.contains("less than diskReservedBytes 209715200")
    })
    .await;
    api.update_config(&master.addr, "diskReservedBytes=0").await.unwrap();
    resumes(&api, &master.addr).await;
    master.stop().await;
}

/// Each look at a disk that is too full tries again.
#[tokio::test(flavor = "multi_thread")]
async fn segments_that_cannot_be_deleted_are_told_of_once() {
    let lines = Lines::of_process();
    let (dir, disk) = (tempfile::tempdir().unwrap(), GateDisk::default());
    let mut node = Node::start_on(Arc::new(disk.clone()), &dir, "m", &[]).await;
    let (api, store) = (api(), &node.broker().store);
    topic(&api, &node.addr, "T", 1).await;
    while store.max_phys() < 3 << 20 {
        send(&api, &node.addr, "T", 0, &[], &[b'x'; 50_000]).await;
    }
    disk.refuse_deletions(true);
    let more_than_there_is = "cleanFileForciblyEnable=true\ndiskReservedBytes=4611686018427387904";
    api.update_config(&node.addr, more_than_there_is).await.unwrap();
    until("it was tried three times", || async { disk.refused() >= 3 }).await;
    assert_eq!(lines.with(&["old segments cannot be deleted", "refused for the test"]), 1);
    disk.refuse_deletions(false);
    until("they are gone", || async { store.min_phys() > 0 }).await;
    until("that is told", || async { lines.with(&["old segments are deleted again"]) == 1 }).await;
    node.stop().await;
}
