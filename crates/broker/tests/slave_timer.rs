//! What a slave believes of its master's timer while it does not have its master's log.

mod common;

use broker::{context::now_ms, sync};
use common::{LIMIT, Node, api, header, name_server, topic, until};

/// The timer delivers before this time no more, ms.
fn read_ms(node: &Node) -> i64 {
    let broker = node.broker();
    broker.timers.timer().unwrap().status(&broker.store).read_ms
}

fn replicate_from(slave: &Node, addr: &str) {
    let mut config = (*slave.broker().config()).clone();
    config.set("haMasterAddress", addr).unwrap();
    slave.broker().set_config(config);
}

/// A master does not wait for a slave that is not connected. What that takes for delivered it would never deliver.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_point_counts_once_the_log_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (name_server, names) = name_server(&dir).await;
    let mut master =
        Node::start(&dir, "master", &[("brokerRole", "ASYNC_MASTER"), ("namesrvAddr", names.as_str())]).await;
    let keys = [
        ("brokerRole", "SLAVE"),
        ("brokerId", "1"),
        ("namesrvAddr", names.as_str()),
        // Nobody is there, and no round comes by itself.
        ("haMasterAddress", "127.0.0.1:1"),
        ("slaveSyncInterval", "3600000"),
    ];
    let mut slave = Node::start(&dir, "slave", &keys).await;
    let api = api();
    topic(&api, &master.addr, "T", 1).await;
    let before = read_ms(&slave);
    let due = (now_ms() + 1500).to_string();
    let timed = header("T", 0, &[("TIMER_DELIVER_MS", due.as_str()), ("UNIQ_KEY", "u")]);
    api.send(&master.addr, &timed, "x", LIMIT).await.unwrap();
    until("it is delivered, and its second over", || async {
        let point = master.broker().timers.check_point(master.broker()).unwrap();
        master.broker().store.max_offset("T", 0) == 1 && point.last_read_ms > before + 1000
    })
    .await;
    until("the slave knows its master", || async { slave.broker().sync.has_master() }).await;
    assert!(sync::round(slave.broker()).await);
    assert_eq!((slave.broker().store.max_phys(), read_ms(&slave)), (0, before));
    replicate_from(&slave, &format!("127.0.0.1:{}", master.port + 1));
    until("the logs are equal", || async { slave.broker().store.max_phys() == master.broker().store.max_phys() }).await;
    assert!(sync::round(slave.broker()).await);
    assert!(read_ms(&slave) > before, "{} {before}", read_ms(&slave));
    slave.stop().await;
    master.stop().await;
    name_server.shutdown().await;
}
