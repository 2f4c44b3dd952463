//! The slave's session against masters that fragment, jump, lie and stay silent.
#![allow(missing_docs)]

mod common;

use common::{Log, Message, Rng, seeds};
use replica::check::CheckError;
use replica::frame::TransferHeader;
use replica::{Reconnect, SessionEnd, SlaveAction, SlaveClose, SlaveSession, SlaveSettings};
use wire::record_crc;

const SEGMENT: i64 = 4096;

fn settings() -> SlaveSettings {
    SlaveSettings { segment_size: SEGMENT, max_body_len: 3_000, ..SlaveSettings::default() }
}

fn session(log_end: i64) -> SlaveSession {
    let mut session = SlaveSession::connected(settings(), 0, log_end);
    assert_eq!(drain(&mut session), [SlaveAction::Report { offset: log_end }]);
    session
}

fn frame(offset: i64, body: &[u8]) -> Vec<u8> {
    let mut bytes = TransferHeader { offset, body_len: body.len() as i32 }.encode().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

fn header(offset: i64, body_len: i32) -> [u8; 12] {
    TransferHeader { offset, body_len }.encode()
}

/// Carries out appends at once, as a shell does; what is left are reports and closes.
fn carry_out(session: &mut SlaveSession, log: &mut Vec<u8>, base: i64) -> Vec<SlaveAction> {
    let mut rest = Vec::new();
    while let Some(action) = session.poll() {
        match action {
            SlaveAction::Append { offset, bytes } => {
                assert_eq!(offset, base + log.len() as i64, "appends are without gap or overlap");
                assert!(offset % SEGMENT + bytes.len() as i64 <= SEGMENT, "appends stay in a segment");
                log.extend_from_slice(&bytes);
                session.on_appended(0, base + log.len() as i64);
            }
            other => rest.push(other),
        }
    }
    rest
}

fn drain(session: &mut SlaveSession) -> Vec<SlaveAction> {
    std::iter::from_fn(|| session.poll()).collect()
}

fn refused(log_end: i64, bytes: &[u8]) -> SlaveClose {
    let mut session = session(log_end);
    session.on_bytes(0, bytes);
    match drain(&mut session).as_slice() {
        [SlaveAction::Close { reason }] => reason.clone(),
        other => panic!("expected a close alone, got {other:?}"),
    }
}

/// F-06.
#[test]
fn the_first_report_is_ready_at_once() {
    let mut session = SlaveSession::connected(settings(), 77, 1_234);
    assert_eq!(session.poll(), Some(SlaveAction::Report { offset: 1_234 }));
    assert_eq!(session.poll(), None);
    assert_eq!(session.deadline_ms(), Some(5_077));
}

/// T-07: three frames that cut records and roll a segment, split at every byte.
#[test]
fn frames_are_parsed_over_every_fragmentation() {
    let mut rng = Rng::new(5);
    let mut log = Log::new(0, SEGMENT);
    log.fill(30, 300, &mut rng);
    assert!(log.end() > SEGMENT + 1_500);
    let mut stream = Vec::new();
    for (from, to) in [(0, 1_501), (1_501, 4_000), (4_000, 4_096), (4_096, 5_500)] {
        stream.extend(frame(from, &log.bytes[from as usize..to]));
        stream.extend(header(to as i64, 0));
    }
    let whole = log.whole_at(5_500);
    for cut in 0..=stream.len() {
        let (mut session, mut stored) = (session(0), Vec::new());
        session.on_bytes(0, &stream[..cut]);
        let mut rest = carry_out(&mut session, &mut stored, 0);
        assert_eq!(stored.len() as i64, log.whole_at(stored.len() as i64), "whole records only");
        session.on_bytes(0, &stream[cut..]);
        rest.extend(carry_out(&mut session, &mut stored, 0));
        assert_eq!(rest.last(), Some(&SlaveAction::Report { offset: whole }), "cut {cut}");
        assert_eq!(stored, log.bytes[..whole as usize]);
        assert_eq!(session.held_back() as i64, 5_500 - whole);
    }
    let (mut session, mut stored) = (session(0), Vec::new());
    for byte in &stream {
        session.on_bytes(0, &[*byte]);
        for action in carry_out(&mut session, &mut stored, 0) {
            assert_eq!(action, SlaveAction::Report { offset: stored.len() as i64 });
        }
    }
    assert_eq!(stored, log.bytes[..whole as usize]);
}

/// T-07: the longest body a Java slave takes, and one beyond the limit here.
#[test]
fn body_lengths_are_bounded() {
    let big = SlaveSettings { segment_size: 1 << 30, ..SlaveSettings::default() };
    let mut body = Vec::new();
    while body.len() < 4 * 1024 * 1024 {
        let record = Message::new(&vec![7; 100_000]).encode(body.len() as i64);
        body.extend(record);
    }
    body.truncate(4 * 1024 * 1024 - 12);
    let mut session = SlaveSession::connected(big, 0, 0);
    session.on_bytes(0, &frame(0, &body));
    assert!(session.heard_from_master());
    assert!(matches!(session.poll(), Some(SlaveAction::Append { offset: 0, .. })));
    assert!(session.held_back() < 100_200);

    let too_long = SlaveClose::BodyLength { offset: 0, len: 3_001, limit: 3_000 };
    assert_eq!(refused(0, &header(0, 3_001)), too_long);
    assert!(matches!(refused(0, &header(0, -1)), SlaveClose::BodyLength { len: -1, .. }));
    assert!(matches!(refused(0, &header(0, i32::MIN)), SlaveClose::BodyLength { .. }));
}

/// T-08.
#[test]
fn a_wrong_offset_closes_before_the_body_and_in_heartbeats() {
    for offset in [99, 101, 0, -100, i64::MAX, i64::MIN] {
        let reason = SlaveClose::WrongOffset { master: offset, slave: 100 };
        assert_eq!(refused(100, &header(offset, 5)), reason);
        assert_eq!(refused(100, &header(offset, 0)), reason);
    }
    let mut session = session(0);
    session.on_bytes(0, &frame(0, &Message::new(b"hello").encode(0)));
    session.on_bytes(0, &header(116, 0));
    let actions = drain(&mut session);
    assert!(matches!(&actions[0], SlaveAction::Append { offset: 0, bytes } if bytes.len() == 115));
    let reason = SlaveClose::WrongOffset { master: 116, slave: 115 };
    assert!(reason.needs_operator());
    assert_eq!(actions[1..], [SlaveAction::Close { reason }]);
}

/// T-02.
#[test]
fn an_empty_log_begins_only_at_a_segment_start() {
    for base in [0, SEGMENT, 5 * SEGMENT] {
        for beat in [false, true] {
            let (mut session, mut stored) = (session(0), Vec::new());
            if beat {
                session.on_bytes(0, &header(base, 0));
                assert_eq!(drain(&mut session), []);
            }
            session.on_bytes(0, &frame(base, &Message::new(b"hello").encode(base)));
            let rest = carry_out(&mut session, &mut stored, base);
            assert_eq!(rest, [SlaveAction::Report { offset: base + 115 }]);
        }
    }
    for base in [1, SEGMENT - 1, SEGMENT + 1, -SEGMENT, i64::MIN, i64::MAX, i64::MAX - SEGMENT + 1] {
        let reason = SlaveClose::NotSegmentStart { master: base, segment_size: SEGMENT };
        assert_eq!(refused(0, &header(base, 0)), reason);
    }
}

/// T-12: the master's segments are larger, or smaller.
#[test]
fn different_segment_sizes_are_refused() {
    let reason = refused(SEGMENT - 100, &header(SEGMENT - 100, 101));
    assert_eq!(reason, SlaveClose::CrossesSegment { offset: SEGMENT - 100, len: 101, segment_size: SEGMENT });
    assert!(reason.to_string().contains("mappedFileSizeCommitLog"));
    let (mut rng, mut log) = (Rng::new(6), Log::new(0, SEGMENT / 2));
    log.push(&Message::new(b"hello"), &mut rng);
    log.push_blank(&mut rng);
    let (mut session, mut stored) = (session(0), Vec::new());
    session.on_bytes(0, &frame(0, &log.bytes));
    let rest = carry_out(&mut session, &mut stored, 0);
    assert!(matches!(
        &rest[..],
        [SlaveAction::Close { reason: SlaveClose::Invalid { error: CheckError::Blank { .. } } }]
    ));
    assert_eq!(stored.len(), 115);
}

/// T-15.
#[test]
fn a_corrupt_byte_is_neither_stored_nor_reported() {
    let first = Message::new(b"hello").encode(0);
    let mut body = first.clone();
    body.extend(Message::new(b"world").encode(115));
    body.extend(Message::new(b"third").encode(230));
    body[115 + 90] ^= 1;
    for cut in 0..body.len() + 12 {
        let (mut session, mut stored) = (session(0), Vec::new());
        let bytes = frame(0, &body);
        session.on_bytes(0, &bytes[..cut]);
        let mut rest = carry_out(&mut session, &mut stored, 0);
        session.on_bytes(0, &bytes[cut..]);
        rest.extend(carry_out(&mut session, &mut stored, 0));
        assert_eq!(stored, first, "cut {cut}");
        let reason = match rest.pop() {
            Some(SlaveAction::Close { reason }) => reason,
            other => panic!("cut {cut}: {other:?}"),
        };
        assert!(matches!(reason, SlaveClose::Invalid { error: CheckError::BodyCrc { at: 115, .. } }), "{reason}");
        assert!(reason.to_string().contains("at 115: body CRC"), "{reason}");
        assert!(rest.iter().all(|action| *action == SlaveAction::Report { offset: 115 }));
        assert_eq!(session.held_back(), 0);
        session.on_appended(1, 115);
        session.on_bytes(1, &frame(115, b"x"));
        session.on_tick(100_000);
        assert_eq!(drain(&mut session), [], "closed is closed");
    }
}

/// A byte that no body's CRC covers: only a session that looks at the CRC property sees it.
#[test]
fn the_crc_property_is_looked_at_when_it_is_asked_for() {
    let properties = [&b"A\x01b\x02"[..], &[b'-'; record_crc::CRC_TAIL]].concat();
    let mut record = Message { properties, ..Message::new(b"hello") }.encode(0);
    record_crc::seal(&mut record);
    record[100] ^= 1;
    for verify_prop_crc in [false, true] {
        let mut session = SlaveSession::connected(SlaveSettings { verify_prop_crc, ..settings() }, 0, 0);
        drain(&mut session);
        let mut stored = Vec::new();
        session.on_bytes(0, &frame(0, &record));
        let rest = carry_out(&mut session, &mut stored, 0);
        let is_refused = matches!(
            &rest[..],
            [SlaveAction::Close { reason: SlaveClose::Invalid { error: CheckError::PropCrc { at: 0, .. } } }]
        );
        assert_eq!((is_refused, stored.is_empty()), (verify_prop_crc, verify_prop_crc), "{rest:?}");
    }
}

/// T-11: a slave with another history meets a master that grew past it.
#[test]
fn another_history_is_noticed_at_the_seam() {
    let (mut rng, mut log) = (Rng::new(8), Log::new(0, SEGMENT));
    log.fill(8, 100, &mut rng);
    let divergent = Message::new(b"a tail the master never had").encode(0).len() as i64;
    assert!(!log.ends.contains(&divergent));
    let (mut session, mut stored) = (session(divergent), Vec::new());
    session.on_bytes(0, &frame(divergent, log.read(divergent, 500)));
    let rest = carry_out(&mut session, &mut stored, divergent);
    assert!(matches!(&rest[..], [SlaveAction::Close { reason: SlaveClose::Invalid { .. } }]), "{rest:?}");
    assert!(stored.is_empty());
}

#[test]
fn reports_cover_only_what_the_store_holds() {
    let mut session = session(0);
    let mut body = Message::new(b"hello").encode(0);
    body.extend(Message::new(b"world").encode(115));
    session.on_bytes(0, &frame(0, &body));
    assert!(matches!(drain(&mut session).as_slice(), [SlaveAction::Append { .. }]), "nothing stored, nothing said");
    session.on_appended(1, 115);
    assert_eq!(drain(&mut session), [SlaveAction::Report { offset: 115 }]);
    session.on_appended(2, 40);
    assert_eq!(drain(&mut session), []);
    session.on_appended(3, 230);
    session.on_appended(3, 230);
    assert_eq!(drain(&mut session), [SlaveAction::Report { offset: 230 }]);
}

#[test]
fn another_writer_of_the_log_is_noticed() {
    let mut session = session(100);
    session.on_appended(0, 101);
    let reason = SlaveClose::LogMoved { found: 101, appended: 100 };
    assert_eq!(drain(&mut session), [SlaveAction::Close { reason }]);
}

/// T-04, T-05.
#[test]
fn heartbeats_go_out_and_silence_closes() {
    let mut session = session(100);
    session.on_bytes(4_000, &header(100, 0));
    session.on_tick(4_999);
    assert_eq!(drain(&mut session), []);
    session.on_tick(5_000);
    assert_eq!(drain(&mut session), [SlaveAction::Report { offset: 100 }]);
    assert_eq!(session.deadline_ms(), Some(10_000));
    for now in [10_000, 15_000, 20_000, 23_999] {
        session.on_tick(now);
        assert!(drain(&mut session).iter().all(|action| *action == SlaveAction::Report { offset: 100 }));
    }
    session.on_tick(24_000);
    let reason = SlaveClose::Silent { silent_ms: 20_000 };
    assert_eq!(drain(&mut session), [SlaveAction::Close { reason }]);
    assert_eq!(session.deadline_ms(), None);
}

#[test]
fn memory_is_bounded_by_the_record_limit() {
    let tight = SlaveSettings { record_limit: 200, ..settings() };
    let mut session = SlaveSession::connected(tight, 0, 0);
    session.on_bytes(0, &frame(0, &Message::new(&[1; 300]).encode(0)));
    let actions = drain(&mut session);
    assert!(
        matches!(
            &actions[..],
            [SlaveAction::Close { reason: SlaveClose::Invalid { error: CheckError::TooLong { .. } } }]
        ),
        "{actions:?}"
    );
}

#[test]
fn random_bytes_never_append_nor_panic() {
    for seed in seeds(2000) {
        let mut rng = Rng::new(seed);
        let mut session = session(0);
        let len = 12 + rng.below(400) as usize;
        let mut bytes = rng.bytes(len);
        if rng.chance(60) {
            bytes[..12].copy_from_slice(&header(0, rng.below(3_000) as i32));
        }
        session.on_bytes(0, &bytes);
        assert!(!drain(&mut session).iter().any(|action| matches!(action, SlaveAction::Append { .. })), "seed {seed}");
    }
}

#[test]
fn reconnects_are_quick_after_work_and_slow_after_refusal() {
    let mut reconnect = Reconnect::default();
    let worked = SessionEnd::Cut { heard_from_master: true };
    let failed = SessionEnd::Cut { heard_from_master: false };
    assert_eq!(reconnect.delay_ms(&worked), 100);
    let delays: Vec<u64> = (0..8).map(|_| reconnect.delay_ms(&failed)).collect();
    assert_eq!(delays, [200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
    let silent = SessionEnd::Closed(SlaveClose::Silent { silent_ms: 20_000 });
    assert_eq!(reconnect.delay_ms(&silent), 100);
    let refused = SessionEnd::Closed(SlaveClose::WrongOffset { master: 1, slave: 2 });
    assert_eq!(reconnect.delay_ms(&refused), 5_000);
}
