//! The CRC property: the last 20 bytes of a record of a broker with `enabledAppendPropCRC=true` hold a CRC of all bytes
//! before them. Source: `CommitLog.java` (doAppend), `MessageDecoder.createCrc32`; reference store 5.

use crate::property::{CRC32, NAME_END, VALUE_END};

/// Bytes of the property: name, separator, ten digits, separator.
pub const CRC_TAIL: usize = CRC32.len() + 1 + DIGITS + 1;

const DIGITS: usize = 10;

/// Computes the CRC of a record whose last [`CRC_TAIL`] bytes are kept free for it, and writes it there. The least
/// significant digit comes first.
pub fn seal(record: &mut [u8]) {
    let (content, tail) = record.split_at_mut(record.len() - CRC_TAIL);
    let mut left = crc32fast::hash(content) & 0x7FFF_FFFF;
    tail[..CRC32.len()].copy_from_slice(CRC32.as_bytes());
    tail[CRC32.len()] = NAME_END;
    for digit in &mut tail[CRC32.len() + 1..CRC_TAIL - 1] {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    tail[CRC_TAIL - 1] = VALUE_END;
}

/// The CRC that the tail of a record claims; `None` for a record without one. It is found by its place: a property of
/// that name elsewhere was copied from another record and says nothing.
pub fn claimed(record: &[u8]) -> Option<u32> {
    let tail = &record[record.len().checked_sub(CRC_TAIL)?..];
    let (name, value) = tail.split_at(CRC32.len() + 1);
    let (digits, end) = value.split_at(DIGITS);
    if &name[..CRC32.len()] != CRC32.as_bytes() || name[CRC32.len()] != NAME_END || end != [VALUE_END] {
        return None;
    }
    let number = digits
        .iter()
        .rev()
        .try_fold(0u64, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')));
    number.and_then(|number| u32::try_from(number).ok())
}

/// CRC of what a record's tail stands for.
pub(crate) fn computed(record: &[u8]) -> u32 {
    crc32fast::hash(&record[..record.len() - CRC_TAIL]) & 0x7FFF_FFFF
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{Check, Invalid, Verify, check_as},
        record_encode::{NewRecord, encode, patch},
    };

    /// The record of reference store 3.3, which a Java broker wrote.
    fn javas() -> Vec<u8> {
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
            properties: b"TAGS\x01TagA\x02--------------------",
            body: b"hello",
        };
        let mut out = Vec::new();
        encode(&message, &mut out).unwrap();
        patch(&mut out, 7, 1000, 1_700_000_000_123);
        seal(&mut out);
        out
    }

    #[test]
    fn the_reference_vector() {
        let record = javas();
        assert_eq!((record.len(), record[3]), (135, 0x87));
        assert_eq!(&record[115..], b"__CRC32#\x019022407620\x02");
        assert_eq!(claimed(&record), Some(267_042_209));
    }

    #[test]
    fn every_byte_counts() {
        let good = javas();
        assert!(matches!(check_as(&good, Verify::Whole), Check::Record(_)));
        for at in (12..115).chain(124..134) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(!matches!(check_as(&bad, Verify::Whole), Check::Record(_)), "{at}");
        }
        let mut bad = good.clone();
        bad[20] ^= 1;
        assert!(matches!(check_as(&bad, Verify::Whole), Check::Invalid(Invalid::RecordCrc { .. })));
        assert!(matches!(check_as(&bad, Verify::Body), Check::Record(_)));
    }

    #[test]
    fn a_record_without_it_counts_by_its_body() {
        let mut record = javas();
        record[116] = b'x';
        assert_eq!(claimed(&record), None);
        assert!(matches!(check_as(&record, Verify::Whole), Check::Record(_)));
        record[89] ^= 1;
        assert!(matches!(check_as(&record, Verify::Whole), Check::Invalid(Invalid::BodyCrc { .. })));
    }
}
