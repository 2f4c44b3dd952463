//! Tables that come in pages, from masters of all kinds.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};

use support::*;
use wire::{
    Command,
    body::{
        DataVersion, SubscriptionGroupConfig, SubscriptionGroupWrapper, TopicConfig,
        TopicConfigAndMappingSerializeWrapper,
    },
    code::request,
    header::{
        GetAllSubscriptionGroupRequestHeader, GetAllSubscriptionGroupResponseHeader, GetAllTopicConfigRequestHeader,
        GetAllTopicConfigResponseHeader,
    },
    json,
};

fn name(at: usize) -> String {
    format!("topic-{at:05}")
}

fn version(counter: i64) -> DataVersion {
    DataVersion { counter, timestamp: 7, state_version: 0 }
}

/// Topics `from..to` at a version.
fn table(from: usize, to: usize, counter: i64) -> TopicConfigAndMappingSerializeWrapper {
    let topic = |at| (name(at), TopicConfig { topic_name: name(at), ..TopicConfig::default() });
    TopicConfigAndMappingSerializeWrapper {
        data_version: version(counter),
        topic_config_table: (from..to).map(topic).collect(),
        ..TopicConfigAndMappingSerializeWrapper::default()
    }
}

fn answer(request: &Command, total: usize, page: &TopicConfigAndMappingSerializeWrapper) -> Option<Command> {
    let header = GetAllTopicConfigResponseHeader { total_topic_num: Some(total as i32) };
    Some(request.ok_body(json::encode(page)).with_header(&header))
}

/// What a master since 5.4 does.
fn page(request: &Command, total: usize, counter: i64) -> Option<Command> {
    assert_eq!(request.code, request::GET_ALL_TOPIC_CONFIG);
    let header: GetAllTopicConfigRequestHeader = request.header();
    let asked = header.data_version.unwrap_or_default();
    let is_known = json::decode::<DataVersion>(asked.as_bytes()).is_ok_and(|asked| asked == version(counter));
    let from = if is_known { header.topic_seq.unwrap_or(0) as usize } else { 0 };
    let to = total.min(from + header.max_topic_num.unwrap_or(0) as usize);
    answer(request, total, &table(from.min(to), to, counter))
}

#[tokio::test]
async fn every_entry_comes_whatever_their_number() {
    for total in [0, 1, 1999, 2000, 2001, 4001] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let (_server, addr) = serve(move |request| {
            count.fetch_add(1, Ordering::SeqCst);
            page(request, total, 1)
        })
        .await;
        let found = api().get_all_topic_config(&addr).await.unwrap();
        assert_eq!(found, table(0, total, 1));
        assert_eq!(asked.load(Ordering::SeqCst), total.div_ceil(2000).max(1), "{total}");
    }
}

#[tokio::test]
async fn an_old_master_answers_everything_at_once() {
    let (_server, addr) = serve(|request| Some(request.ok_body(json::encode(&table(0, 5000, 3))))).await;
    assert_eq!(api().get_all_topic_config(&addr).await.unwrap(), table(0, 5000, 3));
}

#[tokio::test]
async fn a_table_that_changes_is_read_again() {
    let asked = Arc::new(AtomicI64::new(0));
    let (_server, addr) = serve(move |request| {
        // Changes once, after the second page.
        let counter = if asked.fetch_add(1, Ordering::SeqCst) < 2 { 1 } else { 2 };
        page(request, if counter == 1 { 5000 } else { 4500 }, counter)
    })
    .await;
    assert_eq!(api().get_all_topic_config(&addr).await.unwrap(), table(0, 4500, 2));
}

#[tokio::test]
async fn a_master_that_gives_nothing_more_is_an_error() {
    let (_server, addr) = serve(|request| {
        let from = request.header::<GetAllTopicConfigRequestHeader>().topic_seq.unwrap_or(0) as usize;
        answer(request, 20, &table(from.min(10), 10, 1))
    })
    .await;
    let error = api().get_all_topic_config(&addr).await.unwrap_err().to_string();
    assert!(error.contains("GET_ALL_TOPIC_CONFIG") && error.contains(&addr) && error.contains("10 of 20"), "{error}");
}

#[tokio::test]
async fn groups_come_in_pages_too() {
    let (_server, addr) = serve(|request| {
        let header: GetAllSubscriptionGroupRequestHeader = request.header();
        let from = header.group_seq.unwrap_or(0);
        let group = |at| (name(at), SubscriptionGroupConfig { group_name: name(at), ..Default::default() });
        let to = 7.min(from + 3) as usize;
        let page = SubscriptionGroupWrapper {
            subscription_group_table: (from as usize..to).map(group).collect(),
            forbidden_table: [(name(to), [("T".to_owned(), 1)].into())].into(),
            ..SubscriptionGroupWrapper::default()
        };
        let total = GetAllSubscriptionGroupResponseHeader { total_group_num: Some(7) };
        Some(request.ok_body(json::encode(&page)).with_header(&total))
    })
    .await;
    let found = api().get_all_subscription_group(&addr).await.unwrap();
    assert_eq!((found.subscription_group_table.len(), found.forbidden_table.len()), (7, 3));
}
