//! Figures that `mqadmin` and exporters ask a broker for, under the names that Java's has.

mod common;

use common::{LIMIT, Node, api, drain, send, topic};
use wire::{
    Command,
    body::{BrokerStatsData, KvTable},
    code::{request, response},
    json, property,
};

fn stats_of(name: &str, key: &str) -> Command {
    let mut command = Command::request(request::VIEW_BROKER_STATS_DATA);
    command.ext.push("statsName", name);
    command.ext.push("statsKey", key);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_and_messages_sent_back_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[]).await;
    let (api, addr) = (api(), node.addr.clone());
    topic(&api, &addr, "T", 1).await;
    let first = node.broker().store.max_phys();
    for _ in 0..3 {
        send(&api, &addr, "T", 0, &[], &[b'x'; 500]).await;
    }
    let bytes = node.broker().store.max_phys() - first;
    assert_eq!(drain(&api, &addr, "T", 0, 0).await.len(), 3);
    for group in ["G", "G", "H"] {
        let mut back = Command::request(request::CONSUMER_SEND_MSG_BACK);
        back.ext.push_number("offset", first);
        back.ext.push("group", group);
        back.ext.push("delayLevel", "3");
        assert_eq!(api.ask(&addr, back, LIMIT).await.unwrap().code, response::SUCCESS);
    }
    let expected = [
        ("TOPIC_PUT_NUMS", "T", 3),
        ("TOPIC_PUT_SIZE", "T", bytes),
        ("GROUP_GET_NUMS", "T@G", 3),
        ("GROUP_GET_SIZE", "T@G", bytes),
        ("SNDBCK_PUT_NUMS", "T@G", 2),
        ("SNDBCK_PUT_NUMS", "T@H", 1),
    ];
    for (name, key, sum) in expected {
        let answer = api.ask(&addr, stats_of(name, key), LIMIT).await.unwrap();
        assert_eq!(answer.code, response::SUCCESS, "{name} {key}: {:?}", answer.remark);
        let data: BrokerStatsData = json::decode(&answer.body).unwrap();
        assert_eq!(data.stats_minute.sum, sum, "{name} {key}");
    }
    let mut delete = Command::request(request::DELETE_SUBSCRIPTIONGROUP);
    delete.ext.push("groupName", "H");
    api.call(&addr, delete, LIMIT).await.unwrap();
    let code = async |name, key| api.ask(&addr, stats_of(name, key), LIMIT).await.unwrap().code;
    assert_eq!(code("SNDBCK_PUT_NUMS", "T@H").await, response::SYSTEM_ERROR, "H is gone");
    assert_eq!(code("SNDBCK_PUT_NUMS", "T@G").await, response::SUCCESS);
    api.delete_topic(&addr, "T").await.unwrap();
    for (name, key, _) in expected {
        assert_eq!(code(name, key).await, response::SYSTEM_ERROR, "{name} {key} of a deleted topic");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_level_is_shown_before_its_first_message_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "m", &[]).await;
    let (api, addr) = (api(), node.addr.clone());
    topic(&api, &addr, "T", 1).await;
    for _ in 0..2 {
        send(&api, &addr, "T", 0, &[(property::DELAY, "18")], b"in two hours").await;
    }
    let info = Command::request(request::GET_BROKER_RUNTIME_INFO);
    let table: KvTable = json::decode(&api.ask(&addr, info, LIMIT).await.unwrap().body).unwrap();
    assert_eq!(table.table["scheduleMessageOffset_18"], "0,2");
    let mut back = Command::request(request::CONSUMER_SEND_MSG_BACK);
    back.ext.push("offset", "0");
    back.ext.push("group", "G");
    back.ext.push("delayLevel", "16");
    assert_eq!(api.ask(&addr, back, LIMIT).await.unwrap().code, response::SUCCESS);
    let answer = api.ask(&addr, stats_of("TOPIC_PUT_NUMS", "SCHEDULE_TOPIC_XXXX"), LIMIT).await.unwrap();
    let data: BrokerStatsData = json::decode(&answer.body).unwrap();
    assert_eq!(data.stats_day.sum, 3, "exportMetrics shows these as what was scheduled");
    assert!(!table.table.contains_key("scheduleMessageOffset_17"));
    node.stop().await;
}
