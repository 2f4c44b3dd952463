//! Request and reply: what a responder sends reaches the client that asked, and is stored.

mod common;

use std::sync::Arc;

use client::BrokerApi;
use common::{Node, api, header, topic};
use parking_lot::Mutex;
use remoting::{Client, ClientConfig, Connection, Requests, Service};
use wire::{
    Command,
    body::{HeartbeatData, ProducerData},
    code::{request, response},
    header::{ReplyMessageRequestHeader, SendMessageResponseHeader},
    property,
};

/// A client that asked, with what was pushed to it.
struct Asker {
    api: BrokerApi,
    pushed: Arc<Pushed>,
}

#[derive(Default)]
struct Pushed {
    got: Mutex<Vec<Command>>,
    refuses: bool,
}

impl Service for Pushed {
    fn on_requests(&self, conn: &Arc<Connection>, requests: &mut Requests<'_>) {
        for command in requests {
            let answer = if self.refuses { command.error(response::SYSTEM_ERROR, "no") } else { command.ok() };
            self.got.lock().push(command);
            conn.reply(answer);
        }
    }
}

async fn asker(node: &Node, client_id: &str, refuses: bool) -> Asker {
    let pushed = Arc::new(Pushed { refuses, ..Pushed::default() });
    let api = BrokerApi::new(Arc::new(Client::new(ClientConfig::default(), Some(pushed.clone()))));
    let producer = ProducerData { group_name: "Askers".into() };
    let beat =
        HeartbeatData { client_id: client_id.into(), producer_data_set: vec![producer], ..HeartbeatData::default() };
    api.heartbeat(&node.addr, &beat).await.unwrap();
    Asker { api, pushed }
}

async fn reply(node: &Node, properties: &[(&str, &str)], body: &str) -> Command {
    let header = header("DefaultCluster_REPLY_TOPIC", 0, properties);
    let command = Command::request_with(request::SEND_REPLY_MESSAGE_V2, &header).with_body(body.as_bytes().to_vec());
    api().ask(&node.addr, command, common::LIMIT).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_reaches_the_client_that_asked_and_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "b", &[]).await;
    topic(&api(), &node.addr, "T", 1).await;
    let (one, other) = (asker(&node, "c@1", false).await, asker(&node, "c@2", false).await);
    for number in 0..2i64 {
        let answer =
            reply(&node, &[("REPLY_TO_CLIENT", "c@1"), ("CORRELATION_ID", "7")], &format!("yes {number}")).await;
        assert_eq!(answer.code, response::SUCCESS, "{:?}", answer.remark);
        let place: SendMessageResponseHeader = answer.header();
        assert_eq!((place.queue_id, place.queue_offset, place.msg_id.len()), (0, number, 32));
    }
    let got = std::mem::take(&mut *one.pushed.got.lock());
    assert_eq!(got.iter().map(|c| &c.body[..]).collect::<Vec<_>>(), [b"yes 0", b"yes 1"]);
    assert!(got.iter().all(|command| command.code == request::PUSH_REPLY_MESSAGE_TO_CLIENT));
    let header: ReplyMessageRequestHeader = got[0].header();
    let properties = header.properties.unwrap();
    assert_eq!(property::find(properties.as_bytes(), "CORRELATION_ID"), Some("7"));
    assert!(property::find(properties.as_bytes(), "PUSH_REPLY_TIME").is_some());
    assert_eq!((header.topic.as_str(), header.store_host.as_str()), ("DefaultCluster_REPLY_TOPIC", node.addr.as_str()));
    assert!(other.pushed.got.lock().is_empty());
    let stored = common::drain(&api(), &node.addr, "DefaultCluster_REPLY_TOPIC", 0, 0).await;
    assert_eq!(stored, [b"yes 0", b"yes 1"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_nobody_takes_is_told_to_the_responder() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "b", &[("storeReplyMessageEnable", "false")]).await;
    let remark = |answer: Command| {
        assert_eq!(answer.code, response::SYSTEM_ERROR);
        answer.remark.unwrap()
    };
    assert_eq!(remark(reply(&node, &[], "x").await), "reply message properties[REPLY_TO_CLIENT] is null");
    let to = [("REPLY_TO_CLIENT", "c@1")];
    assert_eq!(remark(reply(&node, &to, "x").await), "push reply message fail, channel of <c@1> not found.");
    let refusing = asker(&node, "c@1", true).await;
    assert_eq!(remark(reply(&node, &to, "x").await), "push reply message to c@1fail.");
    refusing.api.client().close_all();
    common::until("the asker is gone", || async { node.broker().clients.producer_channel("c@1").is_none() }).await;
    let _back = asker(&node, "c@1", false).await;
    let answer = reply(&node, &to, "x").await;
    let place: SendMessageResponseHeader = answer.header();
    assert_eq!((answer.code, place.msg_id.as_str()), (response::SUCCESS, "0"), "handed over, not stored");
    assert_eq!(node.broker().store.max_offset("DefaultCluster_REPLY_TOPIC", 0), 0);
    node.stop().await;
}
