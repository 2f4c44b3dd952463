//! Writing the head of a frame, field by field: who answers very often needs no [`Command`] and no map for it.
//! Source: `RemotingCommand.java`, `RocketMQSerializable.java`; reference remoting 1 and 2. Its bytes: [`crate::frame`].

use bytes::{BufMut, BytesMut};

use crate::{
    Command, Language, SerializeType,
    command::{CURRENT_VERSION, FLAG_RESPONSE},
    json,
};

/// What a head says besides its fields.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Request or response code.
    pub code: i32,
    /// Language of the sender.
    pub language: Language,
    /// Version of the sender, an ordinal of `MQVersion`.
    pub version: i32,
    /// Correlates a response with its request on one connection.
    pub opaque: i32,
    /// Bit 0: response; bit 1: one-way.
    pub flag: i32,
    /// Text for people.
    pub remark: Option<&'a str>,
    /// How it is written.
    pub serialize: SerializeType,
}

impl<'a> Head<'a> {
    /// That of a response without a remark, to the request that had this opaque and was written this way.
    pub fn response(code: i32, opaque: i32, serialize: SerializeType) -> Self {
        Self {
            code,
            language: Language::default(),
            version: CURRENT_VERSION,
            opaque,
            flag: FLAG_RESPONSE,
            remark: None,
            serialize,
        }
    }

    /// That of a command.
    pub fn of(command: &'a Command) -> Self {
        Self {
            code: command.code,
            language: command.language,
            version: command.version,
            opaque: command.opaque,
            flag: command.flag,
            remark: command.remark.as_deref(),
            serialize: command.serialize,
        }
    }
}

/// A head that is being written at the end of a buffer: [`HeadWriter::begin`], its fields, [`HeadWriter::end`].
pub struct HeadWriter<'a> {
    out: &'a mut BytesMut,
    head: Head<'a>,
    /// Where the frame begins.
    start: usize,
    /// Where the first field is or would be.
    fields: usize,
    has_fields: bool,
}

impl<'a> HeadWriter<'a> {
    /// Begins a frame. `has_fields`: JSON has `extFields`, if only empty ones.
    pub fn begin(head: Head<'a>, has_fields: bool, out: &'a mut BytesMut) -> Self {
        let start = out.len();
        out.put_u64(0);
        match head.serialize {
            SerializeType::Json => {
                let mut text = json::Writer::over(out);
                text.raw("{\"code\":");
                text.integer(head.code.into());
                text.raw(if has_fields { ",\"extFields\":{" } else { "" });
            }
            SerializeType::RocketMq => binary_head(&head, out),
        }
        let fields = out.len();
        Self { out, head, start, fields, has_fields }
    }

    /// Appends a field.
    #[inline]
    pub fn field(&mut self, name: &str, value: &str) {
        match self.head.serialize {
            SerializeType::Json => {
                let is_first = self.out.len() == self.fields;
                let mut text = json::Writer::over(self.out);
                text.raw(if is_first { "" } else { "," });
                text.string(name);
                text.raw(":");
                text.string(value);
            }
            SerializeType::RocketMq => self.binary_field(name, value),
        }
    }

    /// Appends a field that is a number.
    #[inline]
    pub fn number(&mut self, name: &str, value: i64) {
        self.field(name, itoa::Buffer::new().format(value));
    }

    fn binary_field(&mut self, name: &str, value: &str) {
        self.out.put_i16(name.len() as i16);
        self.out.put_slice(name.as_bytes());
        self.out.put_i32(value.len() as i32);
        self.out.put_slice(value.as_bytes());
    }

    /// Ends the head. `body_length` bytes follow it, which the caller sends itself.
    pub fn end(self, body_length: usize) {
        let Self { out, head, start, fields, has_fields } = self;
        match head.serialize {
            SerializeType::Json => json_tail(&head, has_fields, out),
            SerializeType::RocketMq => {
                let length = (out.len() - fields) as i32;
                out[fields - 4..fields].copy_from_slice(&length.to_be_bytes());
            }
        }
        let header_length = out.len() - start - 8;
        let length = (4 + header_length + body_length) as u32;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        let word = (head.serialize as u32) << 24 | header_length as u32;
        out[start + 4..start + 8].copy_from_slice(&word.to_be_bytes());
    }
}

fn json_tail(head: &Head<'_>, has_fields: bool, out: &mut BytesMut) {
    let mut text = json::Writer::over(out);
    text.raw(if has_fields { "},\"flag\":" } else { ",\"flag\":" });
    text.integer(head.flag.into());
    text.raw(",\"language\":\"");
    text.raw(head.language.name());
    text.raw("\",\"opaque\":");
    text.integer(head.opaque.into());
    if let Some(remark) = head.remark {
        text.raw(",\"remark\":");
        text.string(remark);
    }
    text.raw(",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
    text.integer(head.version.into());
    text.raw("}");
}

/// Up to the length of the fields, which comes last.
fn binary_head(head: &Head<'_>, out: &mut BytesMut) {
    out.put_i16(head.code as i16);
    out.put_i8(head.language as i8);
    out.put_i16(head.version as i16);
    out.put_i32(head.opaque);
    out.put_i32(head.flag);
    let remark = head.remark.unwrap_or_default();
    out.put_i32(remark.len() as i32);
    out.put_slice(remark.as_bytes());
    out.put_i32(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;

    /// Field by field as from a command, in both forms.
    #[test]
    fn the_same_as_of_a_command() {
        for (serialize, has_fields) in
            [SerializeType::Json, SerializeType::RocketMq].map(|form| [(form, true), (form, false)]).as_flattened()
        {
            let asked = Command { serialize: *serialize, opaque: -7, ..Command::default() };
            let mut command = asked.error(13, "no \"room\"");
            command.has_ext = *has_fields;
            let (mut expected, mut out) = (BytesMut::new(), BytesMut::from("before"));
            let head = Head { remark: Some("no \"room\""), ..Head::response(13, -7, *serialize) };
            let mut writer = HeadWriter::begin(head, *has_fields, &mut out);
            if *has_fields {
                for (name, value) in [("msgId", "7F\u{e4}\n\\ \u{7f}01234567"), ("empty", ""), ("number", "-12")] {
                    command.ext.push(name, value);
                }
                writer.field("msgId", "7F\u{e4}\n\\ \u{7f}01234567");
                writer.field("empty", "");
                writer.number("number", -12);
            }
            writer.end(5);
            frame::encode_head_for(&command, 5, &mut expected);
            assert_eq!(out[6..], expected[..]);
        }
    }
}
