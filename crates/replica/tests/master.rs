//! The master's session against slaves that are slow, fragmented, wrong and hostile.
#![allow(missing_docs)]

mod common;

use common::{Rng, seeds};
use replica::frame::encode_report;
use replica::{MasterAction, MasterClose, MasterSession, MasterSettings};

const SEGMENT: i64 = 1000;

fn settings() -> MasterSettings {
    MasterSettings { segment_size: SEGMENT, batch_size: 300, window_bytes: 700, ..MasterSettings::default() }
}

fn session(min: i64, max: i64) -> MasterSession {
    MasterSession::new(settings(), 0, min, max)
}

/// What a session tells its shell.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Ack(i64),
    Act(MasterAction),
}

/// All that it tells now: an acknowledgement first.
fn drain(session: &mut MasterSession) -> Vec<Told> {
    let ack = session.take_ack(|_| true).map(Told::Ack);
    ack.into_iter().chain(std::iter::from_fn(|| session.poll()).map(Told::Act)).collect()
}

fn report(session: &mut MasterSession, offset: i64) -> Vec<Told> {
    session.on_bytes(0, &encode_report(offset));
    drain(session)
}

fn send(offset: i64, len: u32) -> Told {
    Told::Act(MasterAction::Send { offset, len })
}

fn ack(offset: i64) -> Told {
    Told::Ack(offset)
}

fn heartbeat(offset: i64) -> Told {
    Told::Act(MasterAction::Heartbeat { offset })
}

fn close(reason: MasterClose) -> Vec<Told> {
    vec![Told::Act(MasterAction::Close { reason })]
}

#[test]
fn nothing_is_sent_before_the_first_report() {
    let mut session = session(0, 500);
    session.on_marks(10, 0, 600);
    session.on_tick(6_000);
    session.on_bytes(6_000, &[0; 7]);
    assert_eq!(drain(&mut session), []);
    assert_eq!(session.next_offset(), None);
    session.on_bytes(6_001, &[0]);
    assert_eq!(drain(&mut session), [ack(0), send(0, 300), send(300, 300)]);
}

/// T-06.
#[test]
fn reports_are_aligned_over_every_fragmentation() {
    let stream: Vec<u8> = [100i64, 100, 350].iter().flat_map(|offset| encode_report(*offset)).collect();
    for first in 1..stream.len() {
        for second in first..stream.len() {
            let mut session = session(0, 400);
            let mut acks = Vec::new();
            for piece in [&stream[..first], &stream[first..second], &stream[second..]] {
                session.on_bytes(0, piece);
                acks.extend(drain(&mut session).into_iter().filter(|told| matches!(told, Told::Ack(_))));
            }
            assert_eq!(acks.last(), Some(&ack(350)), "cuts {first} {second}");
            assert_eq!(session.next_offset(), Some(400));
        }
    }
}

/// T-06: as upstream, the last whole report of one read counts, also as the start.
#[test]
fn the_last_whole_report_of_a_read_counts() {
    let mut session = session(0, 400);
    let mut bytes: Vec<u8> = [10i64, 20, 30].iter().flat_map(|offset| encode_report(*offset)).collect();
    bytes.extend_from_slice(&[0; 5]);
    session.on_bytes(0, &bytes);
    assert_eq!(drain(&mut session), [ack(30), send(30, 300), send(330, 70)]);
}

/// What a slave reports first is where its log ends; whether that is a log like this one, only the boundary tells.
#[test]
fn a_slave_that_ends_within_a_record_gets_nothing() {
    let mut session = session(0, 400);
    session.on_bytes(0, &encode_report(100));
    assert_eq!(session.take_ack(|offset| offset == 100), Some(100));
    assert_eq!(session.began_at(), None);
    assert_eq!(session.take_ack(|_| false), None, "it is not asked twice");
    assert_eq!(drain(&mut session), [send(100, 300)]);
    session.on_bytes(0, &encode_report(250));
    assert_eq!(session.take_ack(|_| false), Some(250), "what it has from here counts");

    let mut session = self::session(0, 400);
    session.on_bytes(0, &encode_report(100));
    assert_eq!(session.take_ack(|offset| offset != 100), None);
    assert_eq!(drain(&mut session), close(MasterClose::WithinRecord { report: 100 }));
}

/// A frame ends with a record: a shorter one is followed by the next record, a longer one takes of the window.
#[test]
fn a_frame_that_is_resized_moves_what_comes_next() {
    let mut session = session(0, 999);
    session.on_bytes(0, &encode_report(0));
    assert_eq!(session.take_ack(|_| true), Some(0));
    assert_eq!(session.poll(), Some(MasterAction::Send { offset: 0, len: 300 }));
    session.resize(300, 250);
    assert_eq!((session.next_offset(), session.bytes_under_way()), (Some(250), 262));
    session.on_sent(0, 250);
    assert_eq!((session.poll(), session.bytes_under_way()), (Some(MasterAction::Send { offset: 250, len: 300 }), 312));
    session.resize(300, 700);
    session.on_sent(0, 700);
    assert_eq!((session.next_offset(), session.bytes_under_way()), (Some(950), 0));
    assert_eq!(session.poll(), Some(MasterAction::Send { offset: 950, len: 49 }));
}

#[test]
fn where_an_empty_slave_began_is_told() {
    let mut session = session(0, 5_432);
    session.on_bytes(0, &encode_report(0));
    assert_eq!((session.take_ack(|_| true), session.began_at()), (Some(0), Some(5_000)));
    session.on_marks(0, 0, 5_500);
    session.on_bytes(0, &encode_report(0));
    assert_eq!(session.began_at(), Some(5_000));
}

#[test]
fn an_empty_slave_starts_at_the_base_of_the_newest_segment() {
    for (max, start) in [(0, 0), (999, 0), (1000, 1000), (5_432, 5_000)] {
        let actions = report(&mut session(0, max), 0);
        assert_eq!(actions[0], ack(0));
        match max - start {
            0 => assert_eq!(actions.len(), 1),
            rest => assert_eq!(actions[1], send(start, rest.min(300) as u32)),
        }
    }
}

#[test]
fn a_slave_within_the_log_goes_on_where_it_is() {
    let mut session = session(200, 5_432);
    assert_eq!(report(&mut session, 5_400), [ack(5_400), send(5_400, 32)]);
    assert_eq!(report(&mut self::session(200, 5_432), 200), [ack(200), send(200, 300), send(500, 300)]);
    assert_eq!(report(&mut self::session(200, 5_432), 5_432), [ack(5_432)]);
}

/// T-09, W-1.
#[test]
fn impossible_reports_close_and_are_never_acks() {
    for offset in [501, i64::MAX] {
        let reason = MasterClose::BeyondEnd { report: offset, max: 500 };
        assert_eq!(report(&mut session(0, 500), offset), close(reason));
    }
    for offset in [-1, i64::MIN] {
        let reason = MasterClose::NegativeReport { report: offset };
        assert_eq!(report(&mut session(0, 500), offset), close(reason));
    }
    let mut streaming = session(0, 500);
    report(&mut streaming, 500);
    assert_eq!(report(&mut streaming, 501), close(MasterClose::BeyondEnd { report: 501, max: 500 }));
}

#[test]
fn an_impossible_report_is_not_hidden_by_a_good_one_behind_it() {
    let mut session = session(0, 500);
    let bytes: Vec<u8> = [9_999i64, 500].iter().flat_map(|offset| encode_report(*offset)).collect();
    session.on_bytes(0, &bytes);
    assert_eq!(drain(&mut session), close(MasterClose::BeyondEnd { report: 9_999, max: 500 }));
}

#[test]
fn what_was_never_sent_cannot_be_acknowledged() {
    let mut session = session(0, 900);
    assert_eq!(report(&mut session, 100), [ack(100), send(100, 300), send(400, 300)]);
    assert_eq!(report(&mut session, 700), [ack(700)]);
    assert_eq!(report(&mut session, 701), close(MasterClose::BeyondSent { report: 701, sent: 700 }));
}

/// T-09.
#[test]
fn random_bytes_are_never_an_ack_beyond_the_end() {
    for seed in seeds(2000) {
        let mut rng = Rng::new(seed);
        let mut session = session(0, 500);
        for _ in 0..4 {
            let len = 1 + rng.below(20) as usize;
            let bytes = rng.bytes(len);
            session.on_bytes(0, &bytes);
            for action in drain(&mut session) {
                assert!(!matches!(action, Told::Ack(offset) if !(0..=500).contains(&offset)), "seed {seed}");
            }
        }
    }
}

/// T-10.
#[test]
fn a_slave_below_the_minimum_is_told_what_to_do() {
    let mut session = session(2_000, 5_000);
    let actions = report(&mut session, 1_999);
    let reason = MasterClose::BelowMin { slave: 1_999, min: 2_000 };
    let text = reason.to_string();
    assert!(text.starts_with("slave at 1999 is below this master's minimum 2000"), "{text}");
    assert!(text.contains("Empty the slave's store directory"));
    assert!(reason.needs_operator());
    assert_eq!(actions, close(reason));
    session.on_bytes(1, &encode_report(3_000));
    session.on_tick(1_000_000);
    assert_eq!(drain(&mut session), [], "closed is closed");
    assert_eq!(session.deadline_ms(), None);
}

/// T-18: retention overtakes a slave that is still copying.
#[test]
fn retention_that_overtakes_a_slave_closes() {
    let mut session = session(0, 5_000);
    report(&mut session, 100);
    session.on_marks(1, 700, 5_000);
    assert_eq!(drain(&mut session), []);
    session.on_marks(2, 1_000, 5_000);
    assert_eq!(drain(&mut session), close(MasterClose::BelowMin { slave: 700, min: 1_000 }));
}

#[test]
fn a_master_that_was_cut_starts_the_connection_over() {
    let mut session = session(0, 500);
    report(&mut session, 500);
    session.on_marks(1, 0, 499);
    assert_eq!(drain(&mut session), close(MasterClose::Truncated { sent: 500, max: 499 }));
}

#[test]
fn sends_keep_to_batch_segment_and_window() {
    let mut session = session(0, 2_500);
    assert_eq!(report(&mut session, 500), [ack(500), send(500, 300), send(800, 200)]);
    assert_eq!(session.bytes_under_way(), 524);
    session.on_sent(1, 300);
    assert_eq!(drain(&mut session), [send(1_000, 300)]);
    session.on_sent(1, 200);
    session.on_sent(1, 300);
    assert_eq!(session.bytes_under_way(), 0);
    assert_eq!(drain(&mut session), [send(1_300, 300), send(1_600, 300)]);
}

#[test]
fn one_frame_goes_even_if_the_window_is_smaller() {
    let mut session = MasterSession::new(MasterSettings { window_bytes: 0, ..settings() }, 0, 0, 1_000);
    assert_eq!(report(&mut session, 1), [ack(1), send(1, 300)]);
    session.on_sent(0, 300);
    assert_eq!(drain(&mut session), [send(301, 300)]);
}

#[test]
fn settings_out_of_bounds_are_moved_to_them() {
    let wide = MasterSettings { batch_size: u32::MAX, segment_size: 1 << 30, window_bytes: 0, ..settings() };
    let mut session = MasterSession::new(wide, 0, 0, 1 << 29);
    assert_eq!(report(&mut session, 1), [ack(1), send(1, 4 * 1024 * 1024 - 12)]);
    let narrow = MasterSettings { batch_size: 0, segment_size: 0, window_bytes: 0, ..settings() };
    assert_eq!(report(&mut MasterSession::new(narrow, 0, 0, 10), 1), [ack(1), send(1, 1)]);
}

/// A write that is stuck is not polled behind: whoever else watches the connection hears why it ends.
#[test]
fn a_close_is_told_ahead_of_what_waits_to_be_sent() {
    let mut session = session(0, 2_500);
    session.on_bytes(0, &encode_report(500));
    session.on_tick(19_999);
    assert_eq!(session.take_close(), None);
    session.on_tick(20_000);
    assert_eq!(session.take_close(), Some(MasterClose::Silent { silent_ms: 20_000 }));
    assert_eq!((drain(&mut session), session.take_close()), (vec![], None), "nothing follows");
}

/// W-18: an append is sent at once, without a tick.
#[test]
fn an_append_wakes_the_sender() {
    let mut session = session(0, 100);
    report(&mut session, 100);
    session.on_marks(3, 0, 140);
    assert_eq!(drain(&mut session), [send(100, 40)]);
}

/// T-04.
#[test]
fn an_idle_connection_gets_heartbeats_and_none_is_closed() {
    let mut session = session(0, 100);
    report(&mut session, 100);
    let mut beats = Vec::new();
    for now in (0..=60_000).step_by(100) {
        if now % 5_000 == 0 {
            session.on_bytes(now, &encode_report(100));
        }
        session.on_tick(now);
        for action in drain(&mut session) {
            assert_eq!(action, heartbeat(100));
            beats.push(now);
            session.on_sent(now, 0);
        }
    }
    assert_eq!(beats, (1..=12).map(|i| i * 5_000).collect::<Vec<_>>());
}

#[test]
fn a_stuck_write_gets_no_heartbeats() {
    let mut session = session(0, 200);
    assert_eq!(report(&mut session, 100), [ack(100), send(100, 100)]);
    session.on_tick(6_000);
    assert_eq!(drain(&mut session), []);
    session.on_sent(6_000, 100);
    assert_eq!(session.deadline_ms(), Some(11_000));
    session.on_tick(11_000);
    assert_eq!(drain(&mut session), [heartbeat(200)]);
    session.on_tick(17_000);
    assert_eq!(drain(&mut session), [], "the heartbeat itself is stuck");
}

/// T-05.
#[test]
fn a_silent_slave_is_closed() {
    let mut session = session(0, 100);
    session.on_tick(19_999);
    assert_eq!(drain(&mut session), []);
    assert_eq!(session.deadline_ms(), Some(20_000));
    session.on_tick(20_000);
    let reason = MasterClose::Silent { silent_ms: 20_000 };
    assert!(!reason.needs_operator());
    assert_eq!(drain(&mut session), close(reason));
}

#[test]
fn repeated_reports_are_one_ack() {
    let mut session = session(0, 100);
    assert_eq!(report(&mut session, 100), [ack(100)]);
    assert_eq!(report(&mut session, 100), []);
    assert_eq!(report(&mut session, 60), [ack(60)], "a slave that holds less says the truth");
}

/// What a frame took beyond its plan is paid before the next one.
#[test]
fn a_frame_that_was_made_longer_is_paid_for() {
    let limited = MasterSettings { max_bytes_per_second: 1000, ..settings() };
    let mut session = MasterSession::new(limited, 0, 0, 999);
    session.on_bytes(0, &encode_report(0));
    assert_eq!(drain(&mut session), [ack(0)]);
    session.on_tick(312);
    assert_eq!(drain(&mut session), [send(0, 300)]);
    session.resize(300, 700);
    session.on_sent(312, 700);
    assert!(session.is_paced());
    assert_eq!(session.deadline_ms(), Some(312 + 400 + 299 + 12));
    session.on_tick(312 + 400 + 299 + 12);
    assert_eq!(drain(&mut session), [send(700, 299)]);
}

/// T-16.
#[test]
fn flow_control_bounds_the_rate_and_does_not_spin() {
    let limited = MasterSettings {
        segment_size: 1 << 30,
        batch_size: 32 * 1024,
        max_bytes_per_second: 1024 * 1024,
        ..MasterSettings::default()
    };
    let mut session = MasterSession::new(limited, 0, 0, 50 << 20);
    session.on_bytes(0, &encode_report(1));
    let (mut now, mut sent, mut wakes) = (0, 0u64, 0);
    while now < 10_000 {
        wakes += 1;
        for action in drain(&mut session) {
            if let Told::Act(MasterAction::Send { len, .. }) = action {
                assert_eq!(len, 32 * 1024);
                sent += u64::from(len) + 12;
                session.on_sent(now, len);
            }
        }
        let deadline = session.deadline_ms().unwrap();
        assert!(deadline > now, "no spin");
        now = deadline;
        session.on_bytes(now, &[]);
        session.on_tick(now);
    }
    let bound = 11 * 1024 * 1024;
    assert!(sent <= bound && sent > bound / 2, "{sent}");
    assert!(wakes < 400, "{wakes}");
}
