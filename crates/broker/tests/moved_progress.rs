//! Progress that an operator moves while consumers pull, as Java's push consumers do: each pull carries where they stand.

mod common;

use client::BrokerApi;
use common::{LIMIT, node_with_three, pull_at_three};
use wire::{
    Command,
    code::{request, response},
    header::ResetOffsetRequestHeader,
};

/// A pull at 3 of a consumer that has committed 3.
async fn pull(api: &BrokerApi, addr: &str) -> client::Pulled {
    api.pull(addr, &pull_at_three(0), LIMIT).await.unwrap()
}

/// A consumer that ends before it has followed (clients of 4.x wait 10 s) must not take the operator's word back.
#[tokio::test(flavor = "multi_thread")]
async fn the_pull_that_is_told_of_a_reset_does_not_undo_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, api) = node_with_three(&dir).await;
    let addr = node.addr.clone();
    assert_eq!(pull(&api, &addr).await.code, response::PULL_NOT_FOUND);
    assert_eq!(node.broker().offsets.get("T", "G", 0), Some(3));
    let reset = ResetOffsetRequestHeader {
        topic: "T".into(),
        group: "G".into(),
        queue_id: 0,
        offset: Some(1),
        ..ResetOffsetRequestHeader::default()
    };
    let command = Command::request_with(request::INVOKE_BROKER_TO_RESET_OFFSET, &reset);
    api.call(&addr, command, LIMIT).await.unwrap();
    let told = pull(&api, &addr).await;
    assert_eq!((told.code, told.header.next_begin_offset), (response::PULL_OFFSET_MOVED, 1));
    assert_eq!(node.broker().offsets.get("T", "G", 0), Some(1));
    node.stop().await;
}
