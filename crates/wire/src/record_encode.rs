//! The commit log record, write side: a message becomes the bytes that the log, the replicas and the consumers get.
//! Source: `store/.../MessageExtEncoder.java`; reference store 3 and 9.2. What is known only under the append lock
//! (queue offset, physical offset, store time) is patched in there by [`patch`].

use std::net::{IpAddr, SocketAddr};

use bytes::BufMut;

use crate::{
    record::{self, MAGIC_V1, MAGIC_V2, RecordView, body_crc, store_timestamp_at},
    sys_flag,
};

/// Longest property text, in bytes.
pub const MAX_PROPERTIES: usize = i16::MAX as usize;

/// A message before it has a place in the log. Borrowed: encoding is the only copy.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// Topic it is stored under.
    pub topic: &'a str,
    /// Queue id.
    pub queue_id: i32,
    /// User flag.
    pub flag: i32,
    /// Bits of [`crate::sys_flag`]; the host bits are set by the encoder.
    pub sys_flag: i32,
    /// Milliseconds since the epoch at the producer.
    pub born_timestamp: i64,
    /// Address of the producer.
    pub born_host: SocketAddr,
    /// Address that this broker announces.
    pub store_host: SocketAddr,
    /// How often it was consumed before.
    pub reconsume_times: i32,
    /// Offset of the half message.
    pub prepared_transaction_offset: i64,
    /// Property text, see [`crate::property`].
    pub properties: &'a [u8],
    /// Body as received.
    pub body: &'a [u8],
}

impl<'a> NewRecord<'a> {
    /// A stored message once more, under another topic and queue; `store_host` is the broker that stores it now.
    pub fn again(old: &RecordView<'a>, topic: &'a str, queue_id: i32, store_host: SocketAddr) -> Self {
        Self {
            topic,
            queue_id,
            flag: old.flag(),
            sys_flag: old.sys_flag(),
            born_timestamp: old.born_timestamp(),
            born_host: old.born_host(),
            store_host,
            reconsume_times: old.reconsume_times(),
            prepared_transaction_offset: 0,
            properties: old.properties(),
            body: old.body(),
        }
    }
}

/// Why a message has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// More than [`MAX_PROPERTIES`].
    #[error("properties have {0} bytes, the limit is 32767")]
    Properties(usize),
    /// Does not fit its length field.
    #[error("the topic has {0} bytes, the limit is 32767")]
    Topic(usize),
    /// Does not fit its length field.
    #[error("the body has {0} bytes, more than a record holds")]
    Body(usize),
}

/// Appends the record to `out` and returns its size. Queue offset, physical offset and store time are 0.
pub fn encode(message: &NewRecord<'_>, out: &mut Vec<u8>) -> Result<usize, EncodeError> {
    if message.properties.len() > MAX_PROPERTIES {
        return Err(EncodeError::Properties(message.properties.len()));
    }
    if message.topic.len() > i16::MAX as usize {
        return Err(EncodeError::Topic(message.topic.len()));
    }
    if message.body.len() > (i32::MAX / 2) as usize {
        return Err(EncodeError::Body(message.body.len()));
    }
    // Java decides by the number of characters; topics are ASCII, so bytes are the same.
    let v2 = message.topic.len() > i8::MAX as usize;
    let flag = with_host_bits(message);
    let size = 88
        + record::host_extra(flag)
        + message.body.len()
        + usize::from(v2)
        + 1
        + message.topic.len()
        + 2
        + message.properties.len();
    out.reserve(size);
    put_head(message, size, flag, v2, out);
    put_tail(message, v2, out);
    Ok(size)
}

fn with_host_bits(message: &NewRecord<'_>) -> i32 {
    let mut flag = message.sys_flag & !(sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6);
    if message.born_host.is_ipv6() {
        flag |= sys_flag::BORN_HOST_V6;
    }
    if message.store_host.is_ipv6() {
        flag |= sys_flag::STORE_HOST_V6;
    }
    flag
}

fn put_head(message: &NewRecord<'_>, size: usize, flag: i32, v2: bool, out: &mut Vec<u8>) {
    out.put_i32(size as i32);
    out.put_u32(if v2 { MAGIC_V2 } else { MAGIC_V1 });
    out.put_u32(body_crc(message.body));
    out.put_i32(message.queue_id);
    out.put_i32(message.flag);
    out.put_i64(0);
    out.put_i64(0);
    out.put_i32(flag);
    out.put_i64(message.born_timestamp);
    put_host(message.born_host, out);
    out.put_i64(0);
    put_host(message.store_host, out);
    out.put_i32(message.reconsume_times);
    out.put_i64(message.prepared_transaction_offset);
}

fn put_tail(message: &NewRecord<'_>, v2: bool, out: &mut Vec<u8>) {
    out.put_i32(message.body.len() as i32);
    out.put_slice(message.body);
    if v2 {
        out.put_i16(message.topic.len() as i16);
    } else {
        out.put_u8(message.topic.len() as u8);
    }
    out.put_slice(message.topic.as_bytes());
    out.put_i16(message.properties.len() as i16);
    out.put_slice(message.properties);
}

fn put_host(host: SocketAddr, out: &mut Vec<u8>) {
    match host.ip() {
        IpAddr::V4(ip) => out.put_slice(&ip.octets()),
        IpAddr::V6(ip) => out.put_slice(&ip.octets()),
    }
    out.put_i32(host.port().into());
}

/// Sets what only the append lock knows, in a record that [`encode`] made.
pub fn patch(record: &mut [u8], queue_offset: i64, physical_offset: i64, store_timestamp: i64) {
    let mut flag = [0; 4];
    flag.copy_from_slice(&record[36..40]);
    let at = store_timestamp_at(i32::from_be_bytes(flag));
    record[record::AT_QUEUE_OFFSET..record::AT_QUEUE_OFFSET + 8].copy_from_slice(&queue_offset.to_be_bytes());
    record[record::AT_PHYSICAL_OFFSET..record::AT_PHYSICAL_OFFSET + 8].copy_from_slice(&physical_offset.to_be_bytes());
    record[at..at + 8].copy_from_slice(&store_timestamp.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Check, check};

    #[test]
    fn the_reference_vector() {
        let message = NewRecord {
            topic: "TopicTest",
            queue_id: 1,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1_700_000_000_000,
            born_host: "10.0.0.5:50000".parse().unwrap(),
            store_host: "127.0.0.1:10911".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            properties: b"TAGS\x01TagA\x02",
            body: b"hello",
        };
        let mut out = Vec::new();
        assert_eq!(encode(&message, &mut out).unwrap(), 115);
        patch(&mut out, 7, 1000, 1_700_000_000_123);
        let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "00000073daa320a73610a6860000000100000000000000000000000700000000000003e8000000000000018bcfe568000a0000050000c350\
             0000018bcfe5687b7f00000100002a9f0000000000000000000000000000000568656c6c6f09546f70696354657374000a54414753015461674102"
        );
        let Check::Record(view) = check(&out, true) else { panic!("not a record") };
        assert_eq!((view.topic(), view.body(), view.property("TAGS")), ("TopicTest", &b"hello"[..], Some("TagA")));
        assert_eq!((view.queue_offset(), view.physical_offset()), (7, 1000));
        assert_eq!(view.born_host(), message.born_host);
    }

    #[test]
    fn hosts_v6_and_long_topic() {
        let topic = format!("%RETRY%{}", "g".repeat(140));
        let message = NewRecord {
            topic: &topic,
            queue_id: 0,
            flag: 3,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: "[::1]:5".parse().unwrap(),
            store_host: "[fe80::1]:6".parse().unwrap(),
            reconsume_times: 2,
            prepared_transaction_offset: 9,
            properties: b"",
            body: b"",
        };
        let mut out = Vec::new();
        encode(&message, &mut out).unwrap();
        patch(&mut out, 1, 2, 3);
        let Check::Record(view) = check(&out, true) else { panic!("not a record") };
        assert_eq!((view.topic(), view.store_timestamp(), view.reconsume_times()), (&topic[..], 3, 2));
        assert_eq!((view.born_host(), view.store_host()), (message.born_host, message.store_host));
        for cut in 0..out.len() {
            assert!(!matches!(check(&out[..cut], true), Check::Record(_)), "{cut}");
        }
    }
}
