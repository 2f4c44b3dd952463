//! Clients that ask and do not read the answers: a process that is stopped, a network that takes nothing. What is queued for
//! one of them is bounded, and when it reads again it loses nothing.

mod common;

use std::{collections::BTreeSet, sync::Arc};

use common::{Node, api, send, topic, until};
use remoting::Connection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use wire::{
    Command,
    body::{ConsumerData, HeartbeatData},
    code::{request, response},
    frame,
    header::{PullMessageRequestHeader, PullMessageResponseHeader, ViewMessageRequestHeader},
    json, sys_flag,
};

const BODY: usize = 1 << 20;
const HELD: i32 = 60;
/// The mark of a connection, one answer beyond it, and the heads of the others.
const MOST: usize = (8 << 20) + 2 * BODY;

/// A client that reads when the test says so.
struct Raw {
    stream: TcpStream,
    bytes: bytes::BytesMut,
}

impl Raw {
    /// A consumer of the group `G`, and its connection as the broker has it.
    async fn consumer(node: &Node) -> (Self, Arc<Connection>) {
        let stream = TcpStream::connect(("127.0.0.1", node.port)).await.unwrap();
        let mut raw = Self { stream, bytes: bytes::BytesMut::new() };
        let consumer = ConsumerData { group_name: "G".into(), ..ConsumerData::default() };
        let heartbeat =
            HeartbeatData { client_id: "c".into(), consumer_data_set: vec![consumer], ..HeartbeatData::default() };
        raw.send(Command::request(request::HEART_BEAT).with_body(json::encode(&heartbeat))).await;
        assert_eq!(raw.answer().await.code, response::SUCCESS);
        let conn = node.broker().clients.member("G", "c").unwrap().conn;
        (raw, conn)
    }

    async fn send(&mut self, command: Command) {
        self.send_all(&[command]).await;
    }

    /// In one write.
    async fn send_all(&mut self, commands: &[Command]) {
        let mut bytes = bytes::BytesMut::new();
        commands.iter().for_each(|command| frame::encode(command, &mut bytes));
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next answer; requests of the broker are passed over.
    async fn answer(&mut self) -> Command {
        loop {
            while let Some(found) = frame::split_frame(&mut self.bytes, frame::MAX_FRAME).unwrap() {
                let command = frame::decode(found).unwrap();
                if command.is_response() {
                    return command;
                }
            }
            assert_ne!(self.stream.read_buf(&mut self.bytes).await.unwrap(), 0, "the broker closes");
        }
    }

    async fn pull(&mut self, opaque: i32, offset: i64) {
        let header = PullMessageRequestHeader {
            consumer_group: "G".into(),
            topic: "T".into(),
            queue_id: Some(0),
            queue_offset: Some(offset),
            max_msg_nums: 32,
            sys_flag: sys_flag::PULL_SUSPEND | sys_flag::PULL_SUBSCRIPTION,
            suspend_timeout_millis: 600_000,
            subscription: Some("*".into()),
            ..PullMessageRequestHeader::default()
        };
        let mut command = Command::request_with(request::PULL_MESSAGE, &header);
        command.opaque = opaque;
        self.send(command).await;
    }

    /// Reads until each pull has its message; those that were answered without one ask again from where they are told.
    async fn each_has_its_message(&mut self) {
        let mut waiting: BTreeSet<_> = (0..HELD).collect();
        let mut again = 0;
        while !waiting.is_empty() {
            let answer = self.answer().await;
            let header: PullMessageResponseHeader = answer.header();
            match answer.code {
                response::SUCCESS => assert!(answer.body.len() > BODY && waiting.remove(&answer.opaque)),
                response::PULL_RETRY_IMMEDIATELY => {
                    assert_eq!((header.next_begin_offset, answer.body.len()), (1, 0));
                    again += 1;
                    self.pull(answer.opaque, 1).await;
                }
                code => panic!("{code}: {:?}", answer.remark),
            }
        }
        assert_ne!(again, 0, "all were queued");
    }
}

async fn node(dir: &tempfile::TempDir) -> Node {
    let node = Node::start(dir, "m", &[("mappedFileSizeCommitLog", "16777216")]).await;
    let api = api();
    topic(&api, &node.addr, "T", 1).await;
    send(&api, &node.addr, "T", 0, &[], b"first").await;
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn held_pulls_of_a_client_that_does_not_read_queue_no_messages_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = node(&dir).await;
    let (mut raw, conn) = Raw::consumer(&node).await;
    for opaque in 0..HELD {
        raw.pull(opaque, 1).await;
    }
    until("all are held", || async { conn.unanswered() == HELD as usize }).await;
    send(&api(), &node.addr, "T", 0, &[], &vec![b'x'; BODY]).await;
    until("all are answered", || async { conn.unanswered() == 0 }).await;
    assert!(conn.queued_bytes() < MOST, "{} bytes are queued", conn.queued_bytes());
    raw.each_has_its_message().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_do_other_requests_that_come_together() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = node(&dir).await;
    let sent = send(&api(), &node.addr, "T", 0, &[], &vec![b'x'; BODY]).await;
    let offset = i64::from_str_radix(&sent.header.msg_id[16..], 16).unwrap();
    let view = |opaque| {
        let header = ViewMessageRequestHeader { offset, ..ViewMessageRequestHeader::default() };
        Command { opaque, ..Command::request_with(request::VIEW_MESSAGE_BY_ID, &header) }
    };
    let (mut raw, _) = Raw::consumer(&node).await;
    // As many as the broker reads at once.
    raw.send_all(&(0..16).map(view).collect::<Vec<_>>()).await;
    let (mut waiting, mut again) = (16, 0);
    while waiting > 0 {
        let answer = raw.answer().await;
        match answer.code {
            response::SUCCESS => waiting -= i32::from(answer.body.len() > BODY),
            code => {
                assert_eq!(code, response::SYSTEM_BUSY, "{:?}", answer.remark);
                again += 1;
                raw.send(view(answer.opaque)).await;
            }
        }
    }
    assert_ne!(again, 0, "all were queued");
    node.stop().await;
}
