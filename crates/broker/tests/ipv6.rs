//! A pair that knows itself by IPv6 addresses: records, message ids, batches, what comes back, and replication.

mod common;

use std::net::SocketAddr;

use client::encode_batch;
use common::{LIMIT, Pair, drain, header, message, send, topic, until};
use wire::{
    Command,
    code::request,
    header::{ConsumerSendMsgBackRequestHeader, QueryMessageRequestHeader, ViewMessageRequestHeader},
    message_id,
    record::{Check, check},
    sys_flag,
};

const BOTH: i32 = sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6;

/// The record at a message id, as a client that was given the id asks for it: at the broker that the id names.
async fn by_id(pair: &Pair, id: &str) -> (SocketAddr, Vec<u8>) {
    let (host, offset) = message_id::parse_offset_id(id).unwrap_or_else(|| panic!("no message id: {id}"));
    let header = ViewMessageRequestHeader { offset, ..ViewMessageRequestHeader::default() };
    let request = Command::request_with(request::VIEW_MESSAGE_BY_ID, &header);
    (host, pair.api.call(&host.to_string(), request, LIMIT).await.unwrap().body.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_with_ipv6_addresses() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("this machine has no IPv6: nothing is tested");
        return;
    }
    let in_brackets = [("brokerIP1", "[::1]"), ("brokerIP2", "[::1]"), ("bindAddress", "[::]")];
    let bare = [("brokerIP1", "::1"), ("brokerIP2", "::1"), ("bindAddress", "::1")];
    let pair = Pair::start(&in_brackets, &bare).await;
    let (api, addr) = (&pair.api, &pair.master.addr);
    assert_eq!(*addr, format!("[::1]:{}", pair.master.port));
    topic(api, addr, "T", 1).await;

    let sent = send(api, addr, "T", 0, &[("KEYS", "k"), ("UNIQ_KEY", "u")], b"one").await;
    let id = &sent.header.msg_id;
    assert_eq!((id.len(), &id[..32]), (56, "00000000000000000000000000000001"));
    let (host, bytes) = by_id(&pair, id).await;
    assert_eq!(host.to_string(), *addr);
    let Check::Record(record) = check(&bytes, true) else { panic!("no record") };
    assert_eq!((record.sys_flag() & BOTH, record.store_host(), record.body()), (BOTH, host, &b"one"[..]));
    assert!(record.born_host().ip().is_loopback() && record.born_host().is_ipv6());

    let batch = encode_batch(&[message("two"), message("three")]);
    let mut batch_header = header("T", 0, &[]);
    batch_header.batch = Some(true);
    let sent = api.send_batch(addr, &batch_header, batch, LIMIT).await.unwrap();
    for (id, body) in sent.header.msg_id.split(',').zip([&b"two"[..], b"three"]) {
        let (_, bytes) = by_id(&pair, id).await;
        let Check::Record(record) = check(&bytes, true) else { panic!("no record") };
        assert_eq!((record.body(), record.sys_flag() & BOTH), (body, BOTH));
    }

    let back = ConsumerSendMsgBackRequestHeader {
        offset: record.physical_offset(),
        group: "G".into(),
        delay_level: 1,
        origin_msg_id: Some(id.clone()),
        origin_topic: Some("T".into()),
        ..ConsumerSendMsgBackRequestHeader::default()
    };
    api.call(addr, Command::request_with(request::CONSUMER_SEND_MSG_BACK, &back), LIMIT).await.unwrap();
    until("what was sent back comes again", || async { drain(api, addr, "%RETRY%G", 0, 0).await == [b"one"] }).await;
    pair.master.broker().dispatch_acknowledged();
    let again = pair.master.broker().store.queue_unit("%RETRY%G", 0, 0).unwrap();
    let bytes = pair.master.broker().store.read_record(again.physical_offset).unwrap();
    let Check::Record(copy) = check(&bytes, true) else { panic!("no record") };
    assert_eq!((copy.born_host(), copy.store_host()), (record.born_host(), host));

    let query = QueryMessageRequestHeader {
        topic: "T".into(),
        key: "k".into(),
        max_num: 32,
        end_timestamp: i64::MAX,
        ..QueryMessageRequestHeader::default()
    };
    let found = api.call(addr, Command::request_with(request::QUERY_MESSAGE, &query), LIMIT).await.unwrap().body;
    let Check::Record(found) = check(&found, true) else { panic!("no record") };
    assert_eq!(found.physical_offset(), record.physical_offset());

    // A client that comes over IPv4 to a socket for both has its IPv4 address.
    let over_v4 = format!("127.0.0.1:{}", pair.master.port);
    let sent = send(api, &over_v4, "T", 0, &[], b"four").await;
    let (_, bytes) = by_id(&pair, &sent.header.msg_id).await;
    let Check::Record(record) = check(&bytes, true) else { panic!("no record") };
    assert_eq!((record.sys_flag() & BOTH, record.born_host().ip()), (sys_flag::STORE_HOST_V6, [127, 0, 0, 1].into()));

    // The slave found its master by these addresses, and holds the same.
    assert_eq!(pair.slave.addr, format!("[::1]:{}", pair.slave.port));
    pair.equal().await;
    until("the slave has the topic", || async { pair.slave.broker().topics.get("T").is_some() }).await;
    assert_eq!(drain(api, &pair.slave.addr, "T", 0, 0).await, drain(api, addr, "T", 0, 0).await);
    pair.stop().await;
}

/// A Java broker's wildcard takes both kinds of connections, and so it may have been configured.
#[tokio::test(flavor = "multi_thread")]
async fn who_tells_an_ipv6_address_listens_there() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("this machine has no IPv6: nothing is tested");
        return;
    }
    let told = [("brokerIP1", "::1"), ("brokerIP2", "::1"), ("bindAddress", "0.0.0.0")];
    let pair = Pair::start(&told, &told).await;
    topic(&pair.api, &pair.master.addr, "T", 1).await;
    send(&pair.api, &pair.master.addr, "T", 0, &[], b"one").await;
    pair.equal().await;
    let v4 = format!("127.0.0.1:{}", pair.master.port);
    send(&pair.api, &v4, "T", 0, &[], b"two").await;
    pair.equal().await;
    pair.stop().await;
}
