//! The record cursor: every cut of the stream, every kind of damage, and what the format cannot show.
#![allow(missing_docs)]

mod common;

use common::{Log, Message, Rng};
use replica::check::{CheckError, MAGIC_V2, RecordCursor};
use wire::record_crc::{self, CRC_TAIL};

const SEGMENT: i64 = 4096;
const LIMIT: i64 = 1 << 20;

fn cursor() -> RecordCursor {
    RecordCursor::new(0, SEGMENT, LIMIT)
}

fn first_error(bytes: &[u8]) -> CheckError {
    let whole = cursor().feed(bytes).expect_err("must not pass");
    let mut trickle = cursor();
    let cut = bytes.iter().find_map(|byte| trickle.feed(&[*byte]).err()).expect("must not pass byte by byte");
    assert_eq!(whole, cut);
    whole
}

fn hello() -> Vec<u8> {
    Message::new(b"hello").encode(0)
}

fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut record = hello();
    record[at..at + bytes.len()].copy_from_slice(bytes);
    record
}

#[test]
fn the_documented_test_vector_passes() {
    let hex = "00000073daa320a73610a6860000000100000000000000000000000700000000000003e8000000000000018bcfe568000a000005\
               0000c3500000018bcfe5687b7f00000100002a9f0000000000000000000000000000000568656c6c6f09546f7069635465737400\
               0a54414753015461674102";
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
    let mut cursor = RecordCursor::new(1000, SEGMENT, LIMIT);
    assert_eq!(cursor.feed(&bytes), Ok(1115));
}

#[test]
fn valid_to_moves_with_whole_records_at_every_cut() {
    let mut rng = Rng::new(1);
    let mut log = Log::new(0, SEGMENT);
    log.fill(40, 400, &mut rng);
    assert!(log.end() > 2 * SEGMENT);
    for cut in 0..=log.bytes.len() {
        let mut cursor = cursor();
        assert_eq!(cursor.feed(&log.bytes[..cut]), Ok(log.whole_at(cut as i64)));
        assert_eq!(cursor.feed(&log.bytes[cut..]), Ok(log.end()));
    }
    let mut trickle = cursor();
    for (at, byte) in log.bytes.iter().enumerate() {
        assert_eq!(trickle.feed(&[*byte]), Ok(log.whole_at(at as i64 + 1)));
    }
}

#[test]
fn a_cursor_starts_at_any_record_boundary() {
    let mut rng = Rng::new(2);
    let mut log = Log::new(7 * SEGMENT, SEGMENT);
    log.fill(60, 300, &mut rng);
    for start in &log.ends {
        let mut cursor = RecordCursor::new(*start, SEGMENT, LIMIT);
        assert_eq!(cursor.feed(log.read(*start, (log.end() - start) as usize)), Ok(log.end()));
    }
}

#[test]
fn blanks_of_every_size_roll_the_segment() {
    for rest in [8, 9, 12, 90, 91, 1000] {
        let mut rng = Rng::new(rest);
        let mut log = Log::new(0, SEGMENT);
        let mut message = Message::new(b"");
        let empty = message.encode(0).len();
        message.body = rng.bytes(SEGMENT as usize - empty - rest as usize);
        log.push(&message, &mut rng);
        assert_eq!(log.end(), SEGMENT - rest as i64);
        log.push_blank(&mut rng);
        log.push(&Message::new(b"next"), &mut rng);
        let mut cursor = cursor();
        for byte in &log.bytes[..SEGMENT as usize - 1] {
            cursor.feed(&[*byte]).unwrap();
        }
        assert_eq!(cursor.valid_to(), SEGMENT - rest as i64);
        assert_eq!(cursor.feed(&log.bytes[SEGMENT as usize - 1..]), Ok(log.end()));
    }
}

#[test]
fn each_damage_is_named() {
    assert_eq!(first_error(&with(4, &[0; 4])), CheckError::Magic { at: 0, magic: 0 });
    assert_eq!(first_error(&with(28, &9i64.to_be_bytes())), CheckError::PhysicalOffset { at: 0, embedded: 9 });
    assert_eq!(first_error(&with(0, &90i32.to_be_bytes())), CheckError::TooShort { at: 0, total: 90 });
    assert_eq!(first_error(&with(0, &(-1i32).to_be_bytes())), CheckError::TooShort { at: 0, total: -1 });
    let crosses = CheckError::CrossesSegment { at: 0, total: 4097, rest: 4096 };
    assert_eq!(first_error(&with(0, &4097i32.to_be_bytes())), crosses);
    assert_eq!(
        first_error(&with(0, &116i32.to_be_bytes())),
        CheckError::Total { at: 0, total: 116, computed: 115 },
        "a total size that does not match the fields"
    );
    let body = CheckError::FieldLength { at: 0, field: "body", len: -1, total: 115 };
    assert_eq!(first_error(&with(84, &(-1i32).to_be_bytes())), body);
    assert!(matches!(first_error(&with(84, &i32::MAX.to_be_bytes())), CheckError::FieldLength { .. }));
    let topic = CheckError::FieldLength { at: 0, field: "topic", len: -1, total: 115 };
    assert_eq!(first_error(&with(93, &[0xFF])), topic);
    let properties = CheckError::FieldLength { at: 0, field: "properties", len: -2, total: 115 };
    assert_eq!(first_error(&with(103, &(-2i16).to_be_bytes())), properties);
    assert!(matches!(first_error(&with(88, b"j")), CheckError::BodyCrc { at: 0, .. }));
    assert!(matches!(first_error(&with(4, &MAGIC_V2.to_be_bytes())), CheckError::FieldLength { .. }));
}

#[test]
fn a_record_above_the_limit_is_refused() {
    let mut cursor = RecordCursor::new(0, SEGMENT, 114);
    assert_eq!(cursor.feed(&hello()), Err(CheckError::TooLong { at: 0, total: 115, limit: 114 }));
}

#[test]
fn a_blank_must_fill_its_segment() {
    let mut rng = Rng::new(3);
    let mut log = Log::new(0, SEGMENT);
    log.push(&Message::new(b"hello"), &mut rng);
    log.push_blank(&mut rng);
    let mut other = RecordCursor::new(0, 2 * SEGMENT, LIMIT);
    let error = other.feed(&log.bytes).unwrap_err();
    assert_eq!(error, CheckError::Blank { at: 115, total: SEGMENT - 115, rest: 2 * SEGMENT - 115 });
    assert!(error.to_string().contains("mappedFileSizeCommitLog"));
    assert_eq!(other.valid_to(), 115);
    let tiny = [&4i32.to_be_bytes()[..], &replica::check::MAGIC_BLANK.to_be_bytes()].concat();
    let mut at_end = RecordCursor::new(SEGMENT - 4, SEGMENT, LIMIT);
    assert!(matches!(at_end.feed(&tiny), Err(CheckError::Blank { .. })));
}

#[test]
fn an_error_keeps_what_was_valid_and_stays() {
    let mut bytes = hello();
    bytes.extend_from_slice(&Message::new(b"hello").encode(0));
    let mut cursor = cursor();
    let error = CheckError::PhysicalOffset { at: 115, embedded: 0 };
    assert_eq!(cursor.feed(&bytes), Err(error.clone()));
    assert_eq!(cursor.valid_to(), 115);
    assert_eq!(cursor.feed(&Message::new(b"good").encode(115)), Err(error));
    assert_eq!(cursor.valid_to(), 115);
}

/// T-15. Every byte that the format covers, flipped bit by bit. Not covered: queue id, flag, queue offset, times,
/// hosts, reconsume times, prepared offset, topic and properties bytes, and those bits of the system flag that say
/// nothing of the layout.
#[test]
fn every_flipped_bit_in_a_covered_byte_is_seen() {
    let record = hello();
    let mut next = Message::new(b"next").encode(record.len() as i64);
    next.extend(Message::new(b"last").encode((record.len() + next.len()) as i64));
    let covered = |at: usize| matches!(at, 0..12 | 28..36 | 84..94 | 103..105);
    for at in (0..record.len()).filter(|at| covered(*at)) {
        for bit in 0..8 {
            let mut damaged = record.clone();
            damaged[at] ^= 1 << bit;
            damaged.extend_from_slice(&next);
            let mut cursor = cursor();
            assert!(cursor.feed(&damaged).is_err(), "byte {at} bit {bit}");
            assert_eq!(cursor.valid_to(), 0, "byte {at} bit {bit}");
        }
    }
}

#[test]
fn random_bytes_never_pass_nor_panic() {
    for seed in common::seeds(2000) {
        let mut rng = Rng::new(seed);
        let len = 8 + rng.below(300) as usize;
        let mut bytes = rng.bytes(len);
        if rng.chance(70) {
            bytes[4..8].copy_from_slice(&[0xDA, 0xA3, 0x20, 0xA7]);
            bytes[..4].copy_from_slice(&(rng.below(5000) as i32).to_be_bytes());
        }
        if rng.chance(50) && len >= 36 {
            bytes[28..36].copy_from_slice(&[0; 8]);
        }
        let mut cursor = cursor();
        let _ = cursor.feed(&bytes);
        assert_eq!(cursor.valid_to(), 0, "seed {seed}");
    }
}

/// A record that ends with the CRC property.
fn sealed(offset: i64, properties: &[u8]) -> Vec<u8> {
    let properties = [properties, &[b'-'; CRC_TAIL]].concat();
    let mut record = Message { properties, ..Message::new(b"hello") }.encode(offset);
    record_crc::seal(&mut record);
    record
}

#[test]
fn the_crc_property_covers_every_byte_where_it_is_looked_at() {
    let second = sealed(sealed(0, b"A\x01b\x02").len() as i64, b"");
    let whole = [sealed(0, b"A\x01b\x02"), second].concat();
    let plain = Message::new(b"plain").encode(whole.len() as i64);
    let all = [whole.clone(), plain].concat();
    let verifying = || cursor().verifying_prop_crc(true);
    assert_eq!(verifying().feed(&all), Ok(all.len() as i64));
    // Topic, properties, hosts and times: nothing else in the format covers them.
    let silent = |at: usize, bytes: &[u8]| cursor().feed(bytes).is_ok() && at < sealed(0, b"A\x01b\x02").len();
    let mut caught = 0;
    for at in 0..whole.len() {
        let mut bytes = all.clone();
        bytes[at] ^= 0x08;
        let found = verifying().feed(&bytes);
        let in_property = |start: usize, len: usize| (start + len - CRC_TAIL..start + len).contains(&at);
        let first = sealed(0, b"A\x01b\x02").len();
        // A property that is none any more leaves the record to its body's CRC.
        if in_property(0, first) || in_property(first, whole.len() - first) {
            continue;
        }
        assert!(found.is_err(), "byte {at} of {}", whole.len());
        caught += usize::from(silent(at, &bytes) && matches!(found, Err(CheckError::PropCrc { at: 0, .. })));
    }
    assert!(caught > 40, "{caught}");
    for cut in 1..all.len() {
        let mut cursor = verifying();
        cursor.feed(&all[..cut]).unwrap();
        assert_eq!(cursor.feed(&all[cut..]), Ok(all.len() as i64), "{cut}");
    }
}
