//! Frames that are encoded once and patched for each use, and a look into answers without decoding them.

use anyhow::{Context, Result};
use bytes::{Buf, Bytes, BytesMut};
use wire::{Command, SerializeType, frame};

/// Nine digits, so that every opaque of a run has as many.
pub(super) const FIRST_OPAQUE: i32 = 100_000_000;

const OPAQUE_MARK: i32 = 987_654_321;

/// Sixteen characters that are patched with a number in hex.
pub(super) const NUMBER_MARK: &str = "F0E1D2C3B4A59687";

/// Nineteen digits that are patched with an offset.
pub(super) const OFFSET_MARK: &str = "7766554433221100998";

/// A whole frame with places to patch.
#[derive(Clone)]
pub(super) struct Template {
    bytes: Vec<u8>,
    serialize: SerializeType,
    opaque_at: usize,
    numbers_at: Vec<usize>,
    offset_at: Option<usize>,
}

impl Template {
    /// Encodes `command` and finds the marks in it.
    pub fn new(mut command: Command) -> Result<Self> {
        command.opaque = OPAQUE_MARK;
        let mut bytes = BytesMut::new();
        frame::encode(&command, &mut bytes);
        let bytes = bytes.to_vec();
        let opaque_at = match command.serialize {
            SerializeType::RocketMq => 13,
            SerializeType::Json => {
                find(&bytes, OPAQUE_MARK.to_string().as_bytes()).context("no opaque in the frame")?
            }
        };
        let numbers_at = find_all(&bytes, NUMBER_MARK.as_bytes());
        let offset_at = find(&bytes, OFFSET_MARK.as_bytes());
        Ok(Self { bytes, serialize: command.serialize, opaque_at, numbers_at, offset_at })
    }

    /// Appends the frame with this opaque; each number mark gets the next `number`, the offset mark gets `offset`.
    pub fn write(&self, out: &mut Vec<u8>, opaque: i32, number: &mut u64, offset: i64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let frame = &mut out[start..];
        match self.serialize {
            SerializeType::RocketMq => frame[13..17].copy_from_slice(&opaque.to_be_bytes()),
            SerializeType::Json => decimal(&mut frame[self.opaque_at..self.opaque_at + 9], opaque as u64),
        }
        for at in &self.numbers_at {
            hex(&mut frame[*at..*at + NUMBER_MARK.len()], *number);
            *number += 1;
        }
        if let Some(at) = self.offset_at {
            decimal(&mut frame[at..at + OFFSET_MARK.len()], offset as u64);
        }
    }
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}

fn find_all(bytes: &[u8], mark: &[u8]) -> Vec<usize> {
    (0..bytes.len().saturating_sub(mark.len() - 1)).filter(|at| bytes[*at..].starts_with(mark)).collect()
}

fn decimal(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn hex(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789ABCDEF"[(number & 15) as usize];
        number >>= 4;
    }
}

/// An answer: which request, how it went, and the frame without its length word.
pub(super) struct Answer {
    pub opaque: i32,
    pub code: i32,
    pub frame: Bytes,
}

/// The next answer in `input`. What comes that is no answer is skipped: a broker may tell its clients something.
pub(super) fn next_answer(input: &mut BytesMut) -> Result<Option<Answer>> {
    while let Some(frame) = frame::split_frame(input, frame::MAX_FRAME)? {
        if let Some((opaque, code)) = glance(&frame) {
            return Ok(Some(Answer { opaque, code, frame }));
        }
        let command = frame::decode(frame.clone())?;
        if command.is_response() {
            return Ok(Some(Answer { opaque: command.opaque, code: command.code, frame }));
        }
    }
    Ok(None)
}

/// Opaque and code of an answer in the shape that brokers write; `None` when it must be decoded to know.
fn glance(frame: &[u8]) -> Option<(i32, i32)> {
    let word = u32::from_be_bytes(*frame.first_chunk()?);
    let header = frame.get(4..4 + (word & 0x00FF_FFFF) as usize)?;
    if word >> 24 == 1 {
        let mut fields = header.get(..21)?;
        let code = fields.get_i16();
        fields.advance(3);
        let (opaque, flag) = (fields.get_i32(), fields.get_i32());
        return (flag & 1 == 1).then_some((opaque, code.into()));
    }
    let code = number_after(header, header.starts_with(b"{\"code\":").then_some(8)?)?;
    let tail = rfind(header, b",\"opaque\":")?;
    let flag = rfind(&header[..tail], b",\"flag\":")?;
    let is_answer = number_after(header, flag + 8)? & 1 == 1;
    is_answer.then_some((number_after(header, tail + 10)?, code))
}

fn rfind(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).rposition(|window| window == mark)
}

fn number_after(bytes: &[u8], at: usize) -> Option<i32> {
    let digits = bytes.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit());
    let mut number: Option<i32> = None;
    for digit in digits {
        number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(i32::from(digit - b'0'))?);
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(serialize: SerializeType) -> Command {
        let mut command = Command::request(310);
        command.serialize = serialize;
        command.ext.push("i", &format!("UNIQ_KEY\u{1}{NUMBER_MARK}\u{2}"));
        command.ext.push("queueOffset", OFFSET_MARK);
        command.with_body(format!("body {NUMBER_MARK}"))
    }

    #[test]
    fn patched_frames_decode() {
        for serialize in [SerializeType::Json, SerializeType::RocketMq] {
            let template = Template::new(request(serialize)).unwrap();
            let (mut out, mut number) = (Vec::new(), 0xAB);
            template.write(&mut out, FIRST_OPAQUE + 7, &mut number, 123);
            template.write(&mut out, FIRST_OPAQUE + 8, &mut number, 124);
            let mut bytes = BytesMut::from(&out[..]);
            let first = frame::decode(frame::split_frame(&mut bytes, 1 << 20).unwrap().unwrap()).unwrap();
            assert_eq!(first.opaque, FIRST_OPAQUE + 7);
            assert_eq!(first.ext.get("i"), Some("UNIQ_KEY\u{1}00000000000000AB\u{2}"));
            assert_eq!(first.ext.get("queueOffset").and_then(|text| text.parse().ok()), Some(123i64));
            assert_eq!(first.body, "body 00000000000000AC");
            let second = frame::decode(frame::split_frame(&mut bytes, 1 << 20).unwrap().unwrap()).unwrap();
            assert_eq!((second.opaque, &second.body[..]), (FIRST_OPAQUE + 8, &b"body 00000000000000AE"[..]));
            assert_eq!(number, 0xAF);
        }
    }

    #[test]
    fn answers_are_seen_without_decoding() {
        for serialize in [SerializeType::Json, SerializeType::RocketMq] {
            let mut request = request(serialize);
            request.opaque = FIRST_OPAQUE + 3;
            let mut bytes = BytesMut::new();
            frame::encode(&request, &mut bytes);
            frame::encode(&request.error(13, "no \"opaque\":5 here"), &mut bytes);
            let answer = next_answer(&mut bytes).unwrap().unwrap();
            assert_eq!((answer.opaque, answer.code), (FIRST_OPAQUE + 3, 13));
            assert!(glance(&answer.frame).is_some());
            assert!(next_answer(&mut bytes).unwrap().is_none());
        }
    }

    #[test]
    fn an_answer_in_another_order_is_decoded() {
        let header = br#"{"opaque":12,"flag":1,"code":2}"#;
        let mut bytes = BytesMut::new();
        bytes.extend_from_slice(&(header.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(&(header.len() as u32).to_be_bytes());
        bytes.extend_from_slice(header);
        let answer = next_answer(&mut bytes).unwrap().unwrap();
        assert_eq!((answer.opaque, answer.code), (12, 2));
    }
}
