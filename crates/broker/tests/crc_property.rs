//! The CRC property is the broker's word. A client that writes one must stop no slave, and make no sound store look damaged.

mod common;

use client::{OutgoingMessage, encode_batch};
use common::{LIMIT, Pair, header, send, topic, until};
use wire::{
    Command,
    code::request,
    property::CRC32,
    record::{Check, Verify, check_as},
};

const MADE_UP: (&str, &str) = (CRC32, "1234567890");

#[tokio::test(flavor = "multi_thread")]
async fn a_made_up_crc_stops_no_slave() {
    let pair = Pair::start(&[("brokerRole", "ASYNC_MASTER")], &[("forceVerifyPropCRC", "true")]).await;
    let (api, addr) = (&pair.api, &pair.master.addr);
    topic(api, addr, "T", 1).await;
    send(api, addr, "T", 0, &[MADE_UP], b"alone").await;
    send(api, addr, "T", 0, &[("x__CRC32#", MADE_UP.1)], b"of another name").await;
    let in_batch = OutgoingMessage::new("in a batch").with(MADE_UP.0, MADE_UP.1);
    let mut batch = header("T", 0, &[]);
    batch.batch = Some(true);
    api.send_batch(addr, &batch, encode_batch(&[in_batch]), LIMIT).await.unwrap();
    send(api, addr, "T", 0, &[("DELAY", "1"), MADE_UP], b"later").await;
    let reply =
        Command::request_with(request::SEND_REPLY_MESSAGE_V2, &header("DefaultCluster_REPLY_TOPIC", 0, &[MADE_UP]));
    api.ask(addr, reply.with_body(b"a reply".to_vec()), LIMIT).await.unwrap();
    until("the delayed one has come", || async { pair.master.broker().store.max_offset("T", 0) == 4 }).await;
    pair.equal().await;
    let store = &pair.slave.broker().store;
    let log = store.read_log(0, 1 << 20).unwrap();
    let (mut at, mut records) = (0, 0);
    while let Check::Record(record) = check_as(&log[at..], Verify::Whole) {
        (at, records) = (at + record.size(), records + 1);
    }
    assert_eq!((at as i64, records), (store.max_phys(), 6));
    pair.stop().await;
}
