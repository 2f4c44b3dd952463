//! Bytes that nobody honest sends: an error each time, never a panic, never memory beyond a multiple of the input.

mod support;

use bytes::{Bytes, BytesMut};
use support::{Random, captured, json_frame};
use wire::{
    Command, SerializeType,
    body::*,
    frame::{self, FrameError, MAX_FRAME},
    json::{self, Json},
};

fn some_frames() -> Vec<Bytes> {
    let all = captured();
    all.iter().filter(|frame| frame.bytes.len() < 2000).step_by(7).map(|frame| frame.bytes.clone()).collect()
}

#[test]
fn every_truncation_of_a_frame() {
    for bytes in some_frames() {
        for length in 0..bytes.len() {
            let mut buffer = BytesMut::from(&bytes[..length]);
            assert_eq!(frame::split_frame(&mut buffer, MAX_FRAME), Ok(None));
            assert_eq!(buffer.len(), length, "nothing is taken");
            // And as if the frame ended there.
            let _ = frame::decode(bytes.slice(4.min(length)..length));
        }
    }
}

#[test]
fn every_truncation_of_a_header_inside_its_frame() {
    for bytes in some_frames() {
        let header = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) & 0xFF_FFFF;
        for length in 0..header {
            let mut cut = bytes[4..].to_vec();
            cut[..4].copy_from_slice(&(u32::from(bytes[4]) << 24 | length).to_be_bytes());
            let decoded = frame::decode(cut.into());
            assert!(decoded.is_err(), "a header of {length} of {header} bytes: {decoded:?}");
        }
    }
}

#[test]
fn flipped_bytes() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for bytes in some_frames() {
        for _ in 0..200 {
            let mut broken = bytes[4..].to_vec();
            for _ in 0..=random.below(3) {
                let at = random.below(broken.len());
                broken[at] = random.number() as u8;
            }
            let Ok(command) = frame::decode(broken.into()) else { continue };
            let mut again = BytesMut::new();
            frame::encode(&command, &mut again);
            read_as_everything(&command.body);
        }
    }
}

#[test]
fn noise() {
    let mut random = Random(42);
    for round in 0..20_000 {
        let length = random.below(80);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.number() as u8).collect();
        if round % 2 == 0 {
            const LIKELY: &[u8] = br#"{}[]",:'\u0129-.eE tfn"#;
            bytes.iter_mut().for_each(|byte| *byte = LIKELY[usize::from(*byte) % LIKELY.len()]);
        }
        read_as_everything(&bytes);
        for first in [0, 1] {
            let mut framed = vec![first, 0, 0, length as u8];
            framed.extend(&bytes);
            let _ = frame::decode(framed.into());
        }
    }
}

fn read_as_everything(bytes: &[u8]) {
    if let Ok(json) = Json::parse(bytes) {
        let text = json.to_text();
        assert!(Json::parse(text.as_bytes()).is_ok(), "{text}");
        let _ = (json::encode_standard(&json), json::pretty(&json), json.to_i64(), json.to_bool(), json.to_f64());
    }
    let _ = json::decode::<HeartbeatData>(bytes);
    let _ = json::decode::<RegisterBrokerBody>(bytes);
    let _ = json::decode::<ConsumeStats>(bytes);
    let _ = json::decode::<TopicRouteData>(bytes);
}

#[test]
fn deep_json() {
    for opening in ["[", "{\"a\":", "{", "[{'a':", "{{"] {
        let text = opening.repeat(100_000);
        assert!(Json::parse(text.as_bytes()).is_err(), "{opening}");
        assert!(frame::decode(json_frame(text.as_bytes(), b"").slice(4..)).is_err(), "{opening}");
        let nested = format!("{{\"code\":1,\"x\":{text}");
        assert!(frame::decode(json_frame(nested.as_bytes(), b"").slice(4..)).is_err(), "{opening}");
    }
    let deep = |depth: usize| Json::parse(format!("{}{}", "[".repeat(depth), "]".repeat(depth)).as_bytes());
    assert!(deep(json::MAX_DEPTH).is_ok());
    assert_eq!(deep(json::MAX_DEPTH + 1).unwrap_err().text, "nested too deep");
}

#[test]
fn lengths_that_lie() {
    let split = |word: u32| frame::split_frame(&mut BytesMut::from(&word.to_be_bytes()[..]), MAX_FRAME);
    assert!(matches!(split(u32::MAX), Err(FrameError::Length(-1, _))));
    assert!(matches!(split(3), Err(FrameError::Length(3, _))));
    assert!(split(MAX_FRAME as u32 - 3).is_err());
    assert_eq!(split(MAX_FRAME as u32 - 4), Ok(None));
    // First bytes of other protocols.
    for text in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0"] {
        assert!(frame::split_frame(&mut BytesMut::from(text), MAX_FRAME).is_err());
    }
    for word in [0x00FF_FFFF_u32, 0x0100_0001, 0x0200_0000, 0xFF00_0000] {
        assert!(frame::decode(word.to_be_bytes().to_vec().into()).is_err(), "{word:08x}");
    }
}

#[test]
fn binary_lengths_that_lie() {
    let mut command =
        Command { serialize: SerializeType::RocketMq, remark: Some("why".into()), ..Command::request(11) };
    command.ext.push("topic", "T");
    let mut bytes = BytesMut::new();
    frame::encode(&command, &mut bytes);
    let bytes = bytes.freeze().slice(4..);
    for at in 4..bytes.len() - 3 {
        for lie in [i32::MAX, i32::MIN, -1, 1000] {
            let mut broken = bytes.to_vec();
            broken[at..at + 4].copy_from_slice(&lie.to_be_bytes());
            let _ = frame::decode(broken.into());
        }
    }
    assert!(frame::decode(bytes).is_ok());
}
