//! Validation of received commit log bytes, record by record, before anything is stored or acknowledged (W-5).
//!
//! Frames cut records anywhere, so [`RecordCursor`] is fed slices of any size and keeps only the fixed fields of the
//! record it stands in; the body passes through an incremental CRC. [`RecordCursor::valid_to`] is the end of the last
//! whole valid record. It stores nothing, repairs nothing and never skips: after an error it stays at that record.
//!
//! What is checked: the magic code, the total size against the segment and against the lengths inside, the physical
//! offset that the record carries, the CRC of the body, and that a blank fills its segment. A byte changed in the topic,
//! the properties or the host fields is seen only where the record ends with the CRC property, and only by a cursor that
//! was told to look ([`RecordCursor::verifying_prop_crc`]).
//!
//! Upstream checks none of this on a slave; the layout is that of `CommitLog.checkMessageAndReturnSize` in
//! `store/src/main/java/org/apache/rocketmq/store/CommitLog.java` (store reference, section 3).

use crc32fast::Hasher;
use thiserror::Error;
use wire::record_crc::{self, CRC_TAIL};

/// Magic code of a record whose topic length is one byte.
pub const MAGIC_V1: u32 = 0xDAA3_20A7;
/// Magic code of a record whose topic length is two bytes.
pub const MAGIC_V2: u32 = 0xDAA3_20AB;
/// Magic code of the blank that fills the rest of a segment.
pub const MAGIC_BLANK: u32 = 0xCBD4_3194;

/// Bytes that tell a record's size and kind.
const SIZE_AND_MAGIC_LEN: usize = 8;
/// Bytes up to and including the body length, with IPv4 hosts.
const HEAD_LEN: usize = 88;
/// What an IPv6 host adds to the head.
const IPV6_EXTRA: usize = 12;
const HEAD_LEN_MAX: usize = HEAD_LEN + 2 * IPV6_EXTRA;
const BORN_HOST_IPV6: u32 = 0x10;
const STORE_HOST_IPV6: u32 = 0x20;
/// Smallest record: head, one byte of topic length, two of properties length.
const RECORD_LEN_MIN: i64 = HEAD_LEN as i64 + 3;
/// A blank is its size, its magic code and filler.
const BLANK_LEN_MIN: i64 = 8;
/// The CRC in a record lacks the sign bit.
const CRC_MASK: u32 = 0x7FFF_FFFF;

/// Why received bytes are not a valid log. `at` is the physical offset at which the bad record begins.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CheckError {
    /// Neither a record nor a blank stands here.
    #[error("at {at}: magic code {magic:#010x} is neither a record (0xdaa320a7, 0xdaa320ab) nor a blank (0xcbd43194)")]
    Magic {
        /// Start of the record.
        at: i64,
        /// What stands in place of the magic code.
        magic: u32,
    },
    /// The total size is below that of an empty record.
    #[error("at {at}: total size {total} is smaller than any record")]
    TooShort {
        /// Start of the record.
        at: i64,
        /// The size in the record.
        total: i64,
    },
    /// The total size is above the limit of this broker.
    #[error("at {at}: total size {total} is above the limit of {limit} bytes; is maxMessageSize larger on the master?")]
    TooLong {
        /// Start of the record.
        at: i64,
        /// The size in the record.
        total: i64,
        /// Longest record accepted here.
        limit: i64,
    },
    /// The record would reach beyond its segment.
    #[error(
        "at {at}: total size {total} crosses the end of the segment, {rest} bytes away; is \
         mappedFileSizeCommitLog the same on both brokers?"
    )]
    CrossesSegment {
        /// Start of the record.
        at: i64,
        /// The size in the record.
        total: i64,
        /// Bytes from `at` to the end of the segment.
        rest: i64,
    },
    /// The blank does not end where the segment ends.
    #[error(
        "at {at}: a blank of {total} bytes, but the segment ends after {rest}; is mappedFileSizeCommitLog the same on \
         both brokers?"
    )]
    Blank {
        /// Start of the blank.
        at: i64,
        /// The size in the blank.
        total: i64,
        /// Bytes from `at` to the end of the segment.
        rest: i64,
    },
    /// The record was written for another place: other history, or bytes lost on the way.
    #[error("at {at}: the record says it stands at physical offset {embedded}")]
    PhysicalOffset {
        /// Start of the record.
        at: i64,
        /// The offset in the record.
        embedded: i64,
    },
    /// A length inside the record is negative or too large for its total size.
    #[error("at {at}: {field} length {len} does not fit a record of {total} bytes")]
    FieldLength {
        /// Start of the record.
        at: i64,
        /// Which length.
        field: &'static str,
        /// The length in the record.
        len: i64,
        /// Total size of the record.
        total: i64,
    },
    /// The lengths inside do not add up to the total size.
    #[error("at {at}: total size is {total}, but the fields add up to {computed}")]
    Total {
        /// Start of the record.
        at: i64,
        /// The size in the record.
        total: i64,
        /// Sum of the fields.
        computed: i64,
    },
    /// The body is not what the producer's broker stored.
    #[error("at {at}: body CRC is {stored:#010x} in the record, but {computed:#010x} over the bytes received")]
    BodyCrc {
        /// Start of the record.
        at: i64,
        /// The CRC in the record.
        stored: u32,
        /// The CRC of the body.
        computed: u32,
    },
    /// The record is not what the broker stored that appended its CRC property.
    #[error("at {at}: the CRC property says {stored:#010x}, but the bytes received have {computed:#010x}")]
    PropCrc {
        /// Start of the record.
        at: i64,
        /// The CRC in the property.
        stored: u32,
        /// The CRC of all bytes before it.
        computed: u32,
    },
}

/// Fields that decide how to go on; each is judged as soon as its last byte is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    SizeAndMagic,
    PhysicalOffset,
    SysFlag,
    BodyLen,
    TopicLen,
    PropertiesLen,
}

/// Stretches that are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Span {
    Body,
    Topic,
    Properties,
    Filler,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Field(Field),
    Span(Span, i64),
}

/// What is known of the record under the cursor.
#[derive(Clone, Debug, Default)]
struct Record {
    total: i64,
    magic: u32,
    head_len: usize,
    stored_crc: u32,
    body_crc: Hasher,
    /// Length of the fields known so far.
    computed: i64,
}

/// The CRC of a record as far as it was received, and its last bytes, where the CRC property may stand.
#[derive(Clone, Debug, Default)]
struct Whole {
    crc: Hasher,
    seen: i64,
    tail: Vec<u8>,
}

impl Whole {
    /// Takes the next bytes of a record of `total` bytes; these are known once its first ones are there.
    fn take(&mut self, bytes: &[u8], total: i64) {
        let covered = match self.seen < SIZE_AND_MAGIC_LEN as i64 {
            true => bytes.len(),
            false => (total - CRC_TAIL as i64 - self.seen).clamp(0, bytes.len() as i64) as usize,
        };
        self.seen += bytes.len() as i64;
        self.crc.update(&bytes[..covered]);
        self.tail.extend_from_slice(&bytes[covered..]);
    }

    fn check(self, at: i64) -> Result<(), CheckError> {
        let computed = self.crc.finalize() & CRC_MASK;
        match record_crc::claimed(&self.tail) {
            Some(stored) if stored != computed => Err(CheckError::PropCrc { at, stored, computed }),
            _ => Ok(()),
        }
    }
}

/// A trailing cursor over a stream of commit log bytes.
#[derive(Clone, Debug)]
pub struct RecordCursor {
    segment_size: i64,
    record_limit: i64,
    valid_to: i64,
    record: Record,
    part: Part,
    scratch: [u8; HEAD_LEN_MAX],
    filled: usize,
    /// Only where the CRC property is looked at.
    whole: Option<Whole>,
    failed: Option<CheckError>,
}

impl RecordCursor {
    /// A cursor at `offset`, which must be a record boundary: a store recovers to whole records, and a slave session
    /// appends only those. `segment_size` is `mappedFileSizeCommitLog`; `record_limit` is the longest record or blank
    /// accepted, in bytes.
    pub fn new(offset: i64, segment_size: i64, record_limit: i64) -> Self {
        RecordCursor {
            segment_size: segment_size.max(1),
            record_limit,
            valid_to: offset,
            record: Record::default(),
            part: Part::Field(Field::SizeAndMagic),
            scratch: [0; HEAD_LEN_MAX],
            filled: 0,
            whole: None,
            failed: None,
        }
    }

    /// Checks the CRC property of records that have it as well (`forceVerifyPropCRC`). To be called before bytes are fed.
    pub fn verifying_prop_crc(mut self, verify: bool) -> Self {
        self.whole = verify.then(Whole::default);
        self
    }

    /// End of the last whole valid record.
    pub fn valid_to(&self) -> i64 {
        self.valid_to
    }

    /// Takes the bytes that follow those fed before and answers [`RecordCursor::valid_to`]. Whole records before an
    /// error still count; after an error every call answers that error.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<i64, CheckError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        while !bytes.is_empty() {
            if let Err(error) = self.step(&mut bytes) {
                self.failed = Some(error.clone());
                return Err(error);
            }
        }
        Ok(self.valid_to)
    }

    fn step(&mut self, bytes: &mut &[u8]) -> Result<(), CheckError> {
        match self.part {
            Part::Field(field) => {
                if self.gather(self.wanted(field), bytes) {
                    self.judge(field)?;
                }
                Ok(())
            }
            Part::Span(span, left) => {
                let taken = take(bytes, left);
                if span == Span::Body {
                    self.record.body_crc.update(taken);
                }
                self.count(taken);
                self.pass(span, left - taken.len() as i64)
            }
        }
    }

    /// Fills the scratch buffer up to `wanted` bytes; whether it is full.
    fn gather(&mut self, wanted: usize, bytes: &mut &[u8]) -> bool {
        let taken = take(bytes, (wanted - self.filled) as i64);
        self.scratch[self.filled..self.filled + taken.len()].copy_from_slice(taken);
        self.filled += taken.len();
        self.count(taken);
        self.filled == wanted
    }

    fn count(&mut self, taken: &[u8]) {
        if let Some(whole) = &mut self.whole {
            whole.take(taken, self.record.total);
        }
    }

    /// How much of the scratch buffer must be filled to judge `field`.
    fn wanted(&self, field: Field) -> usize {
        match field {
            Field::SizeAndMagic => SIZE_AND_MAGIC_LEN,
            Field::PhysicalOffset => 36,
            Field::SysFlag => 40,
            Field::BodyLen => self.record.head_len,
            Field::TopicLen if self.record.magic == MAGIC_V1 => 1,
            Field::TopicLen | Field::PropertiesLen => 2,
        }
    }

    fn judge(&mut self, field: Field) -> Result<(), CheckError> {
        match field {
            Field::SizeAndMagic => self.judge_start(),
            Field::PhysicalOffset => self.judge_offset(),
            Field::SysFlag => self.judge_sys_flag(),
            Field::BodyLen => self.judge_body_len(),
            Field::TopicLen => self.judge_topic_len(),
            Field::PropertiesLen => self.judge_properties_len(),
        }
    }

    fn judge_start(&mut self) -> Result<(), CheckError> {
        let (at, total, magic) = (self.valid_to, i64::from(self.i32_at(0)), self.i32_at(4) as u32);
        let rest = self.segment_size - at % self.segment_size;
        let blank = magic == MAGIC_BLANK;
        if !blank && magic != MAGIC_V1 && magic != MAGIC_V2 {
            return Err(CheckError::Magic { at, magic });
        }
        if blank && (total != rest || total < BLANK_LEN_MIN) {
            return Err(CheckError::Blank { at, total, rest });
        }
        if !blank && total < RECORD_LEN_MIN {
            return Err(CheckError::TooShort { at, total });
        }
        if total > rest {
            return Err(CheckError::CrossesSegment { at, total, rest });
        }
        if total > self.record_limit {
            return Err(CheckError::TooLong { at, total, limit: self.record_limit });
        }
        self.record = Record { total, magic, ..Record::default() };
        if blank {
            return self.enter(Span::Filler, total - BLANK_LEN_MIN);
        }
        self.part = Part::Field(Field::PhysicalOffset);
        Ok(())
    }

    fn judge_offset(&mut self) -> Result<(), CheckError> {
        let (at, embedded) = (self.valid_to, self.i64_at(28));
        if embedded != at {
            return Err(CheckError::PhysicalOffset { at, embedded });
        }
        self.part = Part::Field(Field::SysFlag);
        Ok(())
    }

    fn judge_sys_flag(&mut self) -> Result<(), CheckError> {
        let sys_flag = self.i32_at(36) as u32;
        let ipv6_hosts = [BORN_HOST_IPV6, STORE_HOST_IPV6].iter().filter(|flag| sys_flag & *flag != 0).count();
        self.record.head_len = HEAD_LEN + ipv6_hosts * IPV6_EXTRA;
        self.part = Part::Field(Field::BodyLen);
        Ok(())
    }

    fn judge_body_len(&mut self) -> Result<(), CheckError> {
        let body_len = self.i32_at(self.record.head_len - 4);
        self.record.stored_crc = self.i32_at(8) as u32;
        self.record.computed = self.record.head_len as i64;
        self.add("body", i64::from(body_len))?;
        self.enter(Span::Body, i64::from(body_len))
    }

    fn judge_topic_len(&mut self) -> Result<(), CheckError> {
        let topic_len = match self.record.magic {
            MAGIC_V1 => i64::from(self.scratch[0] as i8),
            _ => i64::from(self.i16_at(0)),
        };
        self.record.computed += self.filled as i64;
        self.add("topic", topic_len)?;
        self.enter(Span::Topic, topic_len)
    }

    fn judge_properties_len(&mut self) -> Result<(), CheckError> {
        let properties_len = i64::from(self.i16_at(0));
        self.record.computed += 2;
        self.add("properties", properties_len)?;
        let (at, total, computed) = (self.valid_to, self.record.total, self.record.computed);
        if computed != total {
            return Err(CheckError::Total { at, total, computed });
        }
        self.enter(Span::Properties, properties_len)
    }

    /// Counts a field of variable length; it must leave the record within its total size.
    fn add(&mut self, field: &'static str, len: i64) -> Result<(), CheckError> {
        let total = self.record.total;
        if len < 0 || self.record.computed + len > total {
            return Err(CheckError::FieldLength { at: self.valid_to, field, len, total });
        }
        self.record.computed += len;
        Ok(())
    }

    fn enter(&mut self, span: Span, len: i64) -> Result<(), CheckError> {
        self.filled = 0;
        self.pass(span, len)
    }

    /// `left` bytes of `span` remain; at 0 the next part begins.
    fn pass(&mut self, span: Span, left: i64) -> Result<(), CheckError> {
        if left > 0 {
            self.part = Part::Span(span, left);
            return Ok(());
        }
        self.part = Part::Field(match span {
            Span::Body => self.check_body().map(|()| Field::TopicLen)?,
            Span::Topic => Field::PropertiesLen,
            Span::Properties | Span::Filler => {
                if let Some(whole) = &mut self.whole {
                    let whole = std::mem::take(whole);
                    if span == Span::Properties {
                        whole.check(self.valid_to)?;
                    }
                }
                self.valid_to += self.record.total;
                Field::SizeAndMagic
            }
        });
        Ok(())
    }

    /// As upstream, an empty body has no CRC to check.
    fn check_body(&mut self) -> Result<(), CheckError> {
        let (at, stored) = (self.valid_to, self.record.stored_crc);
        let computed = std::mem::take(&mut self.record.body_crc).finalize() & CRC_MASK;
        let empty = self.record.computed == self.record.head_len as i64;
        if !empty && stored != computed {
            return Err(CheckError::BodyCrc { at, stored, computed });
        }
        Ok(())
    }

    fn i16_at(&self, at: usize) -> i16 {
        i16::from_be_bytes(self.bytes_at(at))
    }

    fn i32_at(&self, at: usize) -> i32 {
        i32::from_be_bytes(self.bytes_at(at))
    }

    fn i64_at(&self, at: usize) -> i64 {
        i64::from_be_bytes(self.bytes_at(at))
    }

    fn bytes_at<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|i| self.scratch[at + i])
    }
}

/// At most `len` bytes from the front of `bytes`, which is advanced past them.
fn take<'a>(bytes: &mut &'a [u8], len: i64) -> &'a [u8] {
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(bytes.len());
    let (taken, rest) = bytes.split_at(len);
    *bytes = rest;
    taken
}
