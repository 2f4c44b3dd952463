//! Remoting frames: `length | type and header length | header | body`, both header encodings.
//! Source: `remoting/.../netty/NettyDecoder.java`, `protocol/RemotingCommand.java`, `RocketMQSerializable.java`;
//! reference remoting 1 and 2. Never guesses: what Java cannot decode is an error here too.

use std::borrow::Cow;

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    Command, ExtFields, Language, SerializeType,
    head::{Head, HeadWriter},
    json::{self, Json},
};

/// Java's default limit of a whole frame, its length word included, in bytes.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;

const BINARY_FIXED: usize = 21;

/// Why bytes are no frame. Java closes the connection without an answer in each case.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum FrameError {
    /// The length word is negative, too small or above the limit.
    #[error("frame length {0} is outside 4..={1}")]
    Length(i64, usize),
    /// The header does not fit the frame.
    #[error("header length {0} does not fit a frame of {1} bytes")]
    HeaderLength(usize, usize),
    /// Neither JSON nor binary.
    #[error("serialize type {0} is unknown (0 is JSON, 1 is ROCKETMQ)")]
    SerializeType(u8),
    /// The JSON header cannot be read.
    #[error("JSON header: {0}")]
    Json(#[from] json::JsonError),
    /// The JSON header is not an object, or a member has the wrong kind.
    #[error("JSON header: {0}")]
    Shape(&'static str),
    /// The binary header ends early or a length in it is wrong.
    #[error("binary header: {0}")]
    Binary(&'static str),
}

/// Takes the next whole frame off `buffer`, without its length word; `None` when more bytes are needed.
/// Reserves no memory for a frame that has not arrived.
pub fn split_frame(buffer: &mut BytesMut, max_frame: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(length) = whole(buffer, max_frame)? else { return Ok(None) };
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// Takes the next command off `buffer`; `None` when more bytes are needed. Its fields get the memory of `fields`, which is
/// empty afterwards. The body is a part of the buffer, not a copy. After an error nothing is taken.
pub fn next(buffer: &mut BytesMut, max_frame: usize, fields: &mut ExtFields) -> Result<Option<Command>, FrameError> {
    let Some(length) = whole(buffer, max_frame)? else { return Ok(None) };
    let (mut command, head) = decode_head(&buffer[4..4 + length], std::mem::take(fields))?;
    buffer.advance(4 + head);
    if length > head {
        command.body = buffer.split_to(length - head).freeze();
    }
    Ok(Some(command))
}

/// Length of the frame that `buffer` begins with, without its length word, once all of it is there.
fn whole(buffer: &[u8], max_frame: usize) -> Result<Option<usize>, FrameError> {
    let Some(word) = buffer.first_chunk() else { return Ok(None) };
    let length = i32::from_be_bytes(*word);
    if length < 4 || length as usize > max_frame.saturating_sub(4) {
        return Err(FrameError::Length(length.into(), max_frame));
    }
    Ok((buffer.len() >= 4 + length as usize).then_some(length as usize))
}

/// Decodes a frame without its length word. The body is a slice of `frame`, not a copy.
pub fn decode(frame: Bytes) -> Result<Command, FrameError> {
    let (mut command, head) = decode_head(&frame, ExtFields::new())?;
    command.body = frame.slice(head..);
    Ok(command)
}

/// The command without its body, and where that begins.
fn decode_head(frame: &[u8], fields: ExtFields) -> Result<(Command, usize), FrameError> {
    let Some(word) = frame.first_chunk() else { return Err(FrameError::Length(frame.len() as i64, MAX_FRAME)) };
    let word = u32::from_be_bytes(*word);
    let header_length = (word & 0x00FF_FFFF) as usize;
    if header_length > frame.len() - 4 {
        return Err(FrameError::HeaderLength(header_length, frame.len()));
    }
    let header = &frame[4..4 + header_length];
    let mut command = Command { ext: fields.emptied(), ..Command::default() };
    match (word >> 24) as u8 {
        0 => decode_json(header, &mut command)?,
        1 => decode_binary(header, &mut command)?,
        other => return Err(FrameError::SerializeType(other)),
    }
    Ok((command, 4 + header_length))
}

/// Writes everything of `command` but its body, with a length word that counts the body.
pub fn encode_head(command: &Command, out: &mut BytesMut) {
    encode_head_for(command, command.body.len(), out);
}

/// Same, for a body of `body_length` bytes that the caller sends itself.
pub fn encode_head_for(command: &Command, body_length: usize, out: &mut BytesMut) {
    let has_fields = command.has_ext || !command.ext.is_empty();
    let mut head = HeadWriter::begin(Head::of(command), has_fields, out);
    command.ext.iter().for_each(|(name, value)| head.field(name, value));
    head.end(body_length);
}

/// Writes the whole frame.
pub fn encode(command: &Command, out: &mut BytesMut) {
    encode_head(command, out);
    out.extend_from_slice(&command.body);
}

fn decode_json(header: &[u8], command: &mut Command) -> Result<(), FrameError> {
    let mut reader = json::Reader::new(header);
    if !reader.begin_object()? {
        return Err(FrameError::Shape("not an object"));
    }
    while let Some(name) = member(&mut reader)? {
        match canonical(&name) {
            "code" => command.code = integer(&mut reader)?,
            "language" => command.language = language(&mut reader)?,
            "version" => command.version = integer(&mut reader)?,
            "opaque" => command.opaque = integer(&mut reader)?,
            "flag" => command.flag = integer(&mut reader)?,
            "remark" => command.remark = text(reader.value()?),
            "extFields" => command.has_ext = ext_fields(&mut reader, &mut command.ext)?,
            _ => reader.skip_value()?,
        }
    }
    Ok(reader.end()?)
}

fn member<'a>(reader: &mut json::Reader<'a>) -> Result<Option<Cow<'a, str>>, json::JsonError> {
    if let Some(text) = reader.utf8()
        && let Some(name) = reader.plain_name()
    {
        return Ok(Some(text[name].into()));
    }
    reader.next_name()
}

/// Java matches member names whatever their case and with `_` or `-` inside; only our few matter here.
fn canonical(name: &str) -> &str {
    const NAMES: [&str; 7] = ["code", "language", "version", "opaque", "flag", "remark", "extFields"];
    if let "code" | "language" | "version" | "opaque" | "flag" | "remark" | "extFields" = name {
        return name;
    }
    let plain = || name.bytes().filter(|b| !matches!(b, b'_' | b'-')).map(|b| b.to_ascii_lowercase());
    NAMES.into_iter().find(|known| known.bytes().map(|b| b.to_ascii_lowercase()).eq(plain())).unwrap_or(name)
}

fn integer(reader: &mut json::Reader<'_>) -> Result<i32, FrameError> {
    if let Some(number) = reader.plain_integer() {
        return Ok(number as i32);
    }
    let number = match reader.plain_number()? {
        Some(text) => json::integer(text),
        None => match reader.value()? {
            Json::Null => Some(0),
            other => other.to_i64(),
        },
    };
    number.map(|number| number as i32).ok_or(FrameError::Shape("a number was expected"))
}

fn language(reader: &mut json::Reader<'_>) -> Result<Language, FrameError> {
    if let Some(name) = reader.plain_string()? {
        return Ok(Language::from_name(&name));
    }
    let value = reader.value()?;
    match &value {
        Json::Num(_) => match value.to_i64() {
            Some(number @ 0..=13) => Ok(Language::from_number(number as i32)),
            _ => Err(FrameError::Shape("language number is out of range")),
        },
        _ => Ok(Language::Other),
    }
}

fn text(value: Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::Str(text) => Some(text),
        other => Some(other.to_text()),
    }
}

/// Whether they are there.
fn ext_fields(reader: &mut json::Reader<'_>, ext: &mut ExtFields) -> Result<bool, FrameError> {
    ext.begin_within(reader.utf8().unwrap_or_default());
    if !reader.begin_object()? {
        return match reader.value()? {
            Json::Null => Ok(false),
            _ => Err(FrameError::Shape("extFields is not an object")),
        };
    }
    loop {
        let name = match reader.plain_name() {
            Some(name) => name,
            None => match reader.next_name()? {
                Some(name) => ext.keep(&name),
                None => return Ok(true),
            },
        };
        let value = match reader.plain_value() {
            Some(value) => value,
            None => {
                let start = ext.text().len();
                match reader.string_into(ext.text())? {
                    true => start..ext.text().len(),
                    false => match reader.value()? {
                        Json::Null => continue,
                        other => ext.keep(&other.to_text()),
                    },
                }
            }
        };
        ext.push_kept(name, value);
    }
}

fn decode_binary(mut header: &[u8], command: &mut Command) -> Result<(), FrameError> {
    if header.len() < BINARY_FIXED {
        return Err(FrameError::Binary("shorter than its fixed part of 21 bytes"));
    }
    command.serialize = SerializeType::RocketMq;
    command.code = header.get_i16().into();
    command.language = Language::from_number(header.get_i8().into());
    command.version = header.get_i16().into();
    command.opaque = header.get_i32();
    command.flag = header.get_i32();
    let remark = take_block(&mut header, "remark is longer than the header")?;
    command.remark = (!remark.is_empty()).then(|| String::from_utf8_lossy(remark).into_owned());
    let mut ext = take_block(&mut header, "extFields are longer than the header")?;
    command.has_ext = !ext.is_empty();
    command.ext.reserve(ext.len());
    while !ext.is_empty() {
        let key = take_short(&mut ext)?;
        let value = take_block(&mut ext, "a value is longer than extFields")?;
        // Java reads an empty string as null, and a null value counts as absent.
        if !key.is_empty() && !value.is_empty() {
            command.ext.push(&String::from_utf8_lossy(key), &String::from_utf8_lossy(value));
        }
    }
    Ok(())
}

fn take_block<'a>(bytes: &mut &'a [u8], what: &'static str) -> Result<&'a [u8], FrameError> {
    if bytes.len() < 4 {
        return Err(FrameError::Binary("it ends inside a length"));
    }
    let length = bytes.get_i32().max(0) as usize;
    if length > bytes.len() {
        return Err(FrameError::Binary(what));
    }
    let (block, rest) = bytes.split_at(length);
    *bytes = rest;
    Ok(block)
}

fn take_short<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], FrameError> {
    if bytes.len() < 2 {
        return Err(FrameError::Binary("it ends inside a key length"));
    }
    let length = bytes.get_i16();
    if length < 0 || length as usize > bytes.len() {
        return Err(FrameError::Binary("a key is longer than extFields"));
    }
    let (block, rest) = bytes.split_at(length as usize);
    *bytes = rest;
    Ok(block)
}
