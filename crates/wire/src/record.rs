//! The commit log record, read side: views over bytes and the check that recovery, dispatch and replication share.
//! Source: `store/.../CommitLog.java` (checkMessageAndReturnSize), `MessageDecoder.java`; reference store 3.
//! Owns no bytes and never trusts a length in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{record_crc, sys_flag};

/// Magic of a record with a topic length of one byte.
pub const MAGIC_V1: u32 = 0xDAA3_20A7;
/// Magic of a record with a topic length of two bytes.
pub const MAGIC_V2: u32 = 0xDAA3_20AB;
/// Magic of the filler that ends a full segment.
pub const MAGIC_BLANK: u32 = 0xCBD4_3194;
/// Bytes that always stay free at the end of a segment for the filler's head.
pub const BLANK_HEAD: usize = 8;
/// Position of the queue offset in a record.
pub const AT_QUEUE_OFFSET: usize = 20;
/// Position of the physical offset in a record.
pub const AT_PHYSICAL_OFFSET: usize = 28;
/// Smallest record: IPv4 hosts, V1, nothing else.
pub const MIN_RECORD: usize = 91;

/// CRC-32 as records hold it: the sign bit cleared.
pub fn body_crc(body: &[u8]) -> u32 {
    crc32fast::hash(body) & 0x7FFF_FFFF
}

/// A record in place. Every slice is within the record; lengths were checked when the view was made.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    bytes: &'a [u8],
    body_at: usize,
    topic_at: usize,
    topic_len: usize,
    properties_at: usize,
}

/// What stands at a position of the log.
#[derive(Debug)]
pub enum Check<'a> {
    /// A whole valid record.
    Record(RecordView<'a>),
    /// The filler: go to the next segment.
    Blank,
    /// The bytes end before the record does.
    Incomplete,
    /// No record, and why.
    Invalid(Invalid),
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Neither record nor filler.
    #[error("magic 0x{0:08x} is no record")]
    Magic(u32),
    /// Too small to be a record.
    #[error("total size {0} is impossible")]
    TotalSize(i32),
    /// The lengths inside do not add up to the total size.
    #[error("the lengths inside do not add up to the total size {0}")]
    Lengths(i32),
    /// The body is not what was written.
    #[error("body CRC is {found:08x}, the record says {stored:08x}")]
    BodyCrc {
        /// In the record.
        stored: u32,
        /// Of the body.
        found: u32,
    },
    /// The record is not what was written.
    #[error("CRC of the record is {found:08x}, its property says {stored:08x}")]
    RecordCrc {
        /// In the property.
        stored: u32,
        /// Of the record.
        found: u32,
    },
}

/// How much of a record is read to tell whether it is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Lengths and magic.
    Layout,
    /// And the CRC of the body.
    #[default]
    Body,
    /// And the CRC property of the whole record, where it has one (`forceVerifyPropCRC`). Java takes a record without
    /// it for damage, and cuts the log there when the key is set over an older store; here its body's CRC counts.
    Whole,
}

/// Looks at the start of `bytes`. `verify_crc` reads the whole body.
pub fn check(bytes: &[u8], verify_crc: bool) -> Check<'_> {
    check_as(bytes, if verify_crc { Verify::Body } else { Verify::Layout })
}

/// Looks at the start of `bytes`.
pub fn check_as(bytes: &[u8], verify: Verify) -> Check<'_> {
    if bytes.len() < 8 {
        return Check::Incomplete;
    }
    let total = get_i32(bytes, 0);
    match get_i32(bytes, 4) as u32 {
        MAGIC_BLANK => return Check::Blank,
        MAGIC_V1 | MAGIC_V2 => {}
        other => return Check::Invalid(Invalid::Magic(other)),
    }
    if total < MIN_RECORD as i32 {
        return Check::Invalid(Invalid::TotalSize(total));
    }
    if bytes.len() < total as usize {
        return Check::Incomplete;
    }
    let Some(view) = RecordView::layout(&bytes[..total as usize]) else {
        return Check::Invalid(Invalid::Lengths(total));
    };
    match crc_mismatch(&view, verify) {
        Some(reason) => Check::Invalid(reason),
        None => Check::Record(view),
    }
}

fn crc_mismatch(view: &RecordView<'_>, verify: Verify) -> Option<Invalid> {
    if verify == Verify::Whole
        && let Some(stored) = record_crc::claimed(view.bytes)
    {
        let found = record_crc::computed(view.bytes);
        return (stored != found).then_some(Invalid::RecordCrc { stored, found });
    }
    if verify == Verify::Layout || view.body().is_empty() {
        return None;
    }
    let (stored, found) = (view.stored_body_crc(), body_crc(view.body()));
    (stored != found).then_some(Invalid::BodyCrc { stored, found })
}

impl<'a> RecordView<'a> {
    /// A view of exactly one whole record, or `None` where its lengths do not add up.
    pub fn layout(bytes: &'a [u8]) -> Option<Self> {
        let flag = i32::from_be_bytes(bytes.get(36..40)?.try_into().ok()?);
        let body_len_at = 84 + host_extra(flag);
        let body_len = length(bytes, body_len_at)?;
        let topic_len_at = body_len_at + 4 + body_len;
        let (topic_len, topic_at) = match get_u32(bytes, 4)? {
            MAGIC_V1 => (usize::from(i8::from_be_bytes([*bytes.get(topic_len_at)?]).max(0) as u8), topic_len_at + 1),
            MAGIC_V2 => (short_length(bytes, topic_len_at)?, topic_len_at + 2),
            _ => return None,
        };
        let properties_len_at = topic_at + topic_len;
        let properties_len = short_length(bytes, properties_len_at)?;
        let properties_at = properties_len_at + 2;
        let whole = properties_at + properties_len == bytes.len() && get_u32(bytes, 0)? as usize == bytes.len();
        whole.then_some(Self { bytes, body_at: body_len_at + 4, topic_at, topic_len, properties_at })
    }

    /// The record's bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Total size in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// CRC of the body as stored.
    pub fn stored_body_crc(&self) -> u32 {
        get_i32(self.bytes, 8) as u32
    }

    /// Queue id.
    pub fn queue_id(&self) -> i32 {
        get_i32(self.bytes, 12)
    }

    /// User flag.
    pub fn flag(&self) -> i32 {
        get_i32(self.bytes, 16)
    }

    /// The message's number in its queue.
    pub fn queue_offset(&self) -> i64 {
        get_i64(self.bytes, AT_QUEUE_OFFSET)
    }

    /// Byte position in the commit log, as the record says it.
    pub fn physical_offset(&self) -> i64 {
        get_i64(self.bytes, AT_PHYSICAL_OFFSET)
    }

    /// Bits of [`crate::sys_flag`].
    pub fn sys_flag(&self) -> i32 {
        get_i32(self.bytes, 36)
    }

    /// Milliseconds since the epoch at the producer.
    pub fn born_timestamp(&self) -> i64 {
        get_i64(self.bytes, 40)
    }

    /// Address of the producer.
    pub fn born_host(&self) -> SocketAddr {
        self.host(48, sys_flag::BORN_HOST_V6)
    }

    /// Milliseconds since the epoch when it was stored.
    pub fn store_timestamp(&self) -> i64 {
        get_i64(self.bytes, store_timestamp_at(self.sys_flag()))
    }

    /// Address of the broker that stored it.
    pub fn store_host(&self) -> SocketAddr {
        self.host(store_timestamp_at(self.sys_flag()) + 8, sys_flag::STORE_HOST_V6)
    }

    /// How often it was consumed before.
    pub fn reconsume_times(&self) -> i32 {
        get_i32(self.bytes, 72 + host_extra(self.sys_flag()))
    }

    /// Offset of the half message.
    pub fn prepared_transaction_offset(&self) -> i64 {
        get_i64(self.bytes, 76 + host_extra(self.sys_flag()))
    }

    /// Body as stored.
    pub fn body(&self) -> &'a [u8] {
        let end = self.topic_at - if self.is_v2() { 2 } else { 1 };
        &self.bytes[self.body_at..end]
    }

    /// Topic bytes (UTF-8 in every record a broker wrote).
    pub fn topic_bytes(&self) -> &'a [u8] {
        &self.bytes[self.topic_at..self.topic_at + self.topic_len]
    }

    /// Topic; empty when it is no UTF-8.
    pub fn topic(&self) -> &'a str {
        std::str::from_utf8(self.topic_bytes()).unwrap_or("")
    }

    /// Where the topic stands in the record.
    pub fn topic_at(&self) -> usize {
        self.topic_at
    }

    /// Where the property text stands in the record; its length is in the two bytes before.
    pub fn properties_at(&self) -> usize {
        self.properties_at
    }

    /// Property text, see [`crate::property`].
    pub fn properties(&self) -> &'a [u8] {
        &self.bytes[self.properties_at..]
    }

    /// The value of one property.
    pub fn property(&self, name: &str) -> Option<&'a str> {
        crate::property::find(self.properties(), name)
    }

    fn is_v2(&self) -> bool {
        get_i32(self.bytes, 4) as u32 == MAGIC_V2
    }

    fn host(&self, at: usize, v6_bit: i32) -> SocketAddr {
        let (ip, port_at): (IpAddr, usize) = if self.sys_flag() & v6_bit != 0 {
            let mut octets = [0u8; 16];
            octets.copy_from_slice(&self.bytes[at..at + 16]);
            (Ipv6Addr::from(octets).into(), at + 16)
        } else {
            let mut octets = [0u8; 4];
            octets.copy_from_slice(&self.bytes[at..at + 4]);
            (Ipv4Addr::from(octets).into(), at + 4)
        };
        SocketAddr::new(ip, get_i32(self.bytes, port_at) as u16)
    }
}

/// Where the store timestamp stands in a record of this flag.
pub fn store_timestamp_at(sys_flag: i32) -> usize {
    if sys_flag & sys_flag::BORN_HOST_V6 != 0 { 68 } else { 56 }
}

/// Bytes that IPv6 hosts add.
pub fn host_extra(flag: i32) -> usize {
    let extra = |bit| if flag & bit != 0 { 12 } else { 0 };
    extra(sys_flag::BORN_HOST_V6) + extra(sys_flag::STORE_HOST_V6)
}

fn get_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn length(bytes: &[u8], at: usize) -> Option<usize> {
    let length = get_u32(bytes, at)? as i32;
    usize::try_from(length).ok().filter(|length| *length <= bytes.len())
}

fn short_length(bytes: &[u8], at: usize) -> Option<usize> {
    let length = i16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?);
    usize::try_from(length).ok()
}

fn get_i32(bytes: &[u8], at: usize) -> i32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    i32::from_be_bytes(word)
}

fn get_i64(bytes: &[u8], at: usize) -> i64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    i64::from_be_bytes(word)
}
