//! What official Java name servers answered is what we answer, in meaning everywhere and in bytes for routes.

mod common;

use std::{collections::HashMap, time::Duration};

use bytes::{Bytes, BytesMut};
use common::Rig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use wire::{
    Command,
    code::{request, response},
    frame,
    json::{Json, decode},
};

/// First client version that reads standard JSON.
const STANDARD_JSON: i32 = 401;

wire::json_object! {
    /// One line of a data file.
    pub struct Exchange {
        "about" about: String,
        "answer" answer: Option<String>,
        "connection" connection: String,
        "request" request: Option<String>,
    }
}

fn exchanges(text: &str) -> Vec<Exchange> {
    text.lines().map(|line| decode(line.as_bytes()).unwrap()).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn command(frame: &[u8]) -> Command {
    frame::decode(Bytes::copy_from_slice(&frame[4..])).unwrap()
}

/// The same value for the same meaning: order in objects and in arrays of names does not count.
fn meaning(json: Json) -> Json {
    match json {
        Json::Obj(members) => {
            let key = |key: Json| Json::Str(key.as_str().map_or_else(|| key.to_text(), str::to_owned));
            let mut members: Vec<_> = members.into_iter().map(|(k, v)| (key(k), meaning(v))).collect();
            members.sort_by_key(|(key, _)| key.to_text());
            Json::Obj(members)
        }
        Json::Arr(items) => {
            let mut items: Vec<Json> = items.into_iter().map(meaning).collect();
            items.sort_by_key(Json::to_text);
            Json::Arr(items)
        }
        other => other,
    }
}

/// The list of system topics names the address of some broker, whichever comes first in a hash map.
fn without_any_broker(asked: &Command, mut json: Json) -> Json {
    if let (request::GET_SYSTEM_TOPIC_LIST_FROM_NS, Json::Obj(members)) = (asked.code, &mut json) {
        members.retain(|(name, _)| name.as_str() != Some("brokerAddr"));
    }
    json
}

fn assert_same(about: &str, asked: &Command, ours: &Command, java: &Command) {
    let about = format!("{about}, code {}, version {}", asked.code, asked.version);
    assert_eq!(ours.code, java.code, "{about}: {:?}", ours.remark);
    // Java forgets to clear the text that stands for "not answered".
    let remark = java.remark.clone().filter(|text| text != "not set any response code");
    assert_eq!(ours.remark, remark, "{about}");
    assert_eq!((&ours.ext, ours.opaque, ours.serialize), (&java.ext, java.opaque, java.serialize), "{about}");
    // Java narrows a route to a zone by writing it anew, in the old form whoever asked.
    let is_zone_of_new = asked.version >= STANDARD_JSON && asked.ext.get("__ZONE_MODE").is_some();
    if asked.code == request::GET_ROUTEINFO_BY_TOPIC && !is_zone_of_new {
        assert_eq!(String::from_utf8_lossy(&ours.body), String::from_utf8_lossy(&java.body), "{about}");
        return;
    }
    let parsed =
        |body: &[u8]| (!body.is_empty()).then(|| meaning(without_any_broker(asked, Json::parse(body).unwrap())));
    assert_eq!(parsed(&ours.body), parsed(&java.body), "{about}");
}

struct Peer {
    stream: TcpStream,
    groups: Vec<(String, String)>,
}

impl Peer {
    async fn ask(&mut self, frame: &[u8]) -> Command {
        self.stream.write_all(frame).await.unwrap();
        let length = self.stream.read_u32().await.unwrap() as usize;
        let mut body = BytesMut::zeroed(length);
        self.stream.read_exact(&mut body).await.unwrap();
        frame::decode(body.freeze()).unwrap()
    }

    /// Notes which group registers over this connection.
    fn note(&mut self, asked: &Command) {
        let field = |name: &str| asked.ext.get(name).unwrap_or_default().to_owned();
        if asked.code == request::REGISTER_BROKER {
            self.groups.push((field("clusterName"), field("brokerName")));
        }
    }
}

async fn until_gone(rig: &Rig, (cluster, broker): (String, String)) {
    let mut ask = Command::request(request::GET_BROKER_MEMBER_GROUP);
    ask.ext.push("clusterName", &cluster);
    ask.ext.push("brokerName", &broker);
    for _ in 0..100 {
        if String::from_utf8_lossy(&rig.ask(ask.clone()).await.body).contains(r#""brokerAddrs":{}"#) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{broker} is still there");
}

async fn replay(text: &str) -> usize {
    let rig = Rig::start("").await;
    let mut peers: HashMap<String, Peer> = HashMap::new();
    let mut compared = 0;
    for exchange in exchanges(text) {
        let Some(frame) = exchange.request.as_deref().map(unhex) else {
            let peer = peers.remove(&exchange.connection).unwrap();
            drop(peer.stream);
            for group in peer.groups {
                until_gone(&rig, group).await;
            }
            continue;
        };
        if !peers.contains_key(&exchange.connection) {
            let stream = TcpStream::connect(&rig.addr).await.unwrap();
            peers.insert(exchange.connection.clone(), Peer { stream, groups: Vec::new() });
        }
        let peer = peers.get_mut(&exchange.connection).unwrap();
        let (asked, java) = (command(&frame), command(&unhex(&exchange.answer.unwrap())));
        peer.note(&asked);
        let ours = peer.ask(&frame).await;
        assert_same(&exchange.about, &asked, &ours, &java);
        compared += 1;
    }
    rig.stop().await;
    compared
}

#[tokio::test]
async fn f26_a_session_with_a_java_name_server() {
    assert_eq!(replay(include_str!("data/java-namesrv-session.jsonl")).await, 112);
}

#[tokio::test]
async fn brokers_and_admin_with_json_headers() {
    assert_eq!(replay(include_str!("data/captured-json.jsonl")).await, 8);
}

#[tokio::test]
async fn brokers_with_binary_headers() {
    assert_eq!(replay(include_str!("data/captured-binary.jsonl")).await, 5);
}

#[tokio::test]
async fn brokers_of_5_5_0() {
    assert_eq!(replay(include_str!("data/captured-5.5.0.jsonl")).await, 4);
}

#[test]
fn the_session_holds_what_it_should() {
    let text = include_str!("data/java-namesrv-session.jsonl");
    let frames = exchanges(text).into_iter().filter_map(|exchange| Some((exchange.request?, exchange.answer?)));
    let all: Vec<(Command, Command)> =
        frames.map(|(asked, java)| (command(&unhex(&asked)), command(&unhex(&java)))).collect();
    let is_bare = |body: &Bytes| String::from_utf8_lossy(body).contains(r#""brokerAddrs":{0:""#);
    let routes = || all.iter().filter(|(asked, java)| asked.code == 105 && java.code == response::SUCCESS);
    assert!(routes().any(|(asked, java)| asked.version == 317 && is_bare(&java.body)));
    assert!(routes().any(|(asked, java)| asked.version == 479 && !is_bare(&java.body)));
    for code in
        [100, 101, 102, 103, 104, 105, 106, 205, 206, 216, 217, 219, 224, 304, 311, 312, 313, 318, 322, 327, 901]
    {
        assert!(all.iter().any(|(asked, _)| asked.code == code), "{code}");
    }
}
