//! Connections recorded between official Java brokers: our codec gives their bytes, our slave takes their stream, our
//! master sends what theirs sent.
#![allow(missing_docs)]

use replica::frame::{ReportReader, TransferHeader, encode_report};
use replica::{MasterAction, MasterSession, MasterSettings, SlaveAction, SlaveSession, SlaveSettings};
use serde_json::Value;

const SEGMENT: i64 = 2 * 1024 * 1024;

const ACTING_MASTER: &str = include_str!("data/acting-master.jsonl");
const LATE_JOIN: &str = include_str!("data/late-join.jsonl");
const FEED_START: &str = include_str!("data/feed-binary-start.jsonl");

struct Row {
    at_ms: u64,
    kind: String,
    offset: i64,
    len: i32,
    /// The whole frame, or its header if the body was left out.
    bytes: Vec<u8>,
    whole: bool,
}

fn rows(text: &str) -> Vec<Row> {
    text.lines().map(row).collect()
}

fn row(line: &str) -> Row {
    let value: Value = serde_json::from_str(line).unwrap();
    let number = |name: &str| value[name].as_i64().unwrap_or(0);
    let hex = value["frame"].as_str().or(value["head"].as_str()).unwrap();
    Row {
        at_ms: number("atMs") as u64,
        kind: value["kind"].as_str().unwrap().to_owned(),
        offset: number("offset"),
        len: number("length") as i32,
        bytes: (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect(),
        whole: value.get("frame").is_some(),
    }
}

#[test]
fn every_recorded_frame_decodes_and_encodes_to_the_same_bytes() {
    for row in [ACTING_MASTER, LATE_JOIN, FEED_START].into_iter().flat_map(rows) {
        if row.kind == "report" {
            assert_eq!(row.bytes, encode_report(row.offset));
            assert_eq!(ReportReader::new().next(&mut row.bytes.as_slice()), Some(row.offset));
            continue;
        }
        let header = TransferHeader::decode(row.bytes[..12].try_into().unwrap());
        assert_eq!(header, TransferHeader { offset: row.offset, body_len: row.len });
        assert_eq!(header.encode(), row.bytes[..12]);
        assert_eq!(row.kind == "heartbeat", header.body_len == 0);
        assert!(!row.whole || row.bytes.len() == 12 + row.len as usize);
    }
}

/// Plays a Java master's frames to our slave; the ends it reported.
fn slave_reports(rows: &[Row]) -> (Vec<i64>, SlaveSession) {
    let settings = SlaveSettings { segment_size: SEGMENT, ..SlaveSettings::default() };
    let mut session = SlaveSession::connected(settings, 0, 0);
    let mut reports = Vec::new();
    for row in rows.iter().filter(|row| row.whole) {
        session.on_tick(row.at_ms);
        if row.kind != "report" {
            session.on_bytes(row.at_ms, &row.bytes);
        }
        while let Some(action) = session.poll() {
            match action {
                SlaveAction::Report { offset } => reports.push(offset),
                SlaveAction::Append { offset, bytes } => session.on_appended(row.at_ms, offset + bytes.len() as i64),
                SlaveAction::Close { reason } => panic!("{reason}"),
            }
        }
    }
    (reports, session)
}

#[test]
fn our_slave_takes_a_java_masters_stream() {
    for text in [ACTING_MASTER, FEED_START] {
        let rows = rows(text);
        let (mut ours, session) = slave_reports(&rows);
        let mut theirs: Vec<i64> = rows.iter().filter(|row| row.kind == "report").map(|row| row.offset).collect();
        ours.dedup();
        theirs.dedup();
        assert!(ours.len() > 1);
        assert_eq!(ours, theirs, "frames of an unhurried Java master end where records end");
        assert_eq!(session.held_back(), 0);
    }
}

/// Every frame a Java master sends, ours sends with the same header, given the same log ends and the same reports.
#[test]
fn our_master_sends_what_a_java_master_sent() {
    for text in [ACTING_MASTER, LATE_JOIN, FEED_START] {
        let rows = rows(text);
        let settings = MasterSettings { segment_size: SEGMENT, ..MasterSettings::default() };
        let burst_end = |from: usize| {
            let sent = rows[from..].iter().take_while(|row| row.kind == "transfer");
            sent.map(|row| row.offset + i64::from(row.len)).last()
        };
        let mut session = MasterSession::new(settings, 0, 0, burst_end(1).unwrap_or(0));
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for (i, row) in rows.iter().enumerate() {
            if row.kind == "report" {
                session.on_bytes(row.at_ms, &row.bytes);
            } else if let Some(end) = burst_end(i) {
                session.on_marks(row.at_ms, 0, end);
                theirs.push((row.offset, row.len as u32));
            }
            while let Some(action) = session.poll() {
                if let MasterAction::Send { offset, len } = action {
                    ours.push((offset, len));
                    session.on_sent(row.at_ms, len);
                }
                assert!(!matches!(action, MasterAction::Close { .. }), "{action:?}");
            }
        }
        assert_eq!(ours, theirs);
    }
}
