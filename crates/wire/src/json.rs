//! JSON as fastjson reads and writes it: lenient in, byte for byte Java out.
//!
//! Java's maps may have integer keys, which it writes without quotes, and even objects as keys, so this is not quite
//! JSON and no JSON library reads it. Reading never recurses deeper than [`MAX_DEPTH`], never keeps more than a small
//! multiple of its input, and never resolves `$ref` nor obeys `@type`.
//! Source: fastjson 1.2.83; reference remoting 12, store 23.

use bytes::Bytes;

mod convert;
mod object;
mod out;
mod reader;
mod value;
mod writer;

pub use convert::{FromJson, JsonKey, ToJson, read_into};
pub use object::{known_name, sorted};
pub use out::{Out, Style};
pub use reader::{MAX_DEPTH, Reader};
pub use value::Json;
pub(crate) use value::integer;
pub use writer::Writer;

/// Why a text is not JSON, not even to fastjson.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} at byte {position}")]
pub struct JsonError {
    /// Offset in the text where reading stopped.
    pub position: usize,
    /// What is wrong there.
    pub text: &'static str,
}

/// Reads a body. No bytes and `null` give the default, as do absent members and members of the wrong kind; a text of
/// the wrong kind altogether (an array where an object belongs) is an error.
pub fn decode<T: FromJson + Default>(text: &[u8]) -> Result<T, JsonError> {
    if text.is_empty() {
        return Ok(T::default());
    }
    match Json::parse(text)? {
        Json::Null => Ok(T::default()),
        json => T::from_json(&json).ok_or(JsonError { position: 0, text: "value of another kind" }),
    }
}

/// Writes the compact form that Java writes by default: integer keys bare, non-ASCII raw.
pub fn encode<T: ToJson + ?Sized>(value: &T) -> Bytes {
    written(value, Style::Java).into()
}

/// Writes Java's "standard JSON" form: every key quoted, maps sorted, ASCII only, longs beyond 2^53-1 as strings.
/// Only the answer to a route request has it, and only for peers that ask for it or are new enough.
pub fn encode_standard<T: ToJson + ?Sized>(value: &T) -> Bytes {
    written(value, Style::Standard).into()
}

/// Writes the form of Java's config files: one member a line, indented by tabs; entries with integer keys stay on one
/// line.
pub fn pretty<T: ToJson + ?Sized>(value: &T) -> String {
    written(value, Style::Pretty)
}

/// A member of an object as [`pretty`] writes it `depth` objects deep, with the comma before it.
pub fn pretty_member<T: ToJson + ?Sized>(depth: usize, name: &str, value: &T) -> String {
    let mut out = Out::within(depth);
    out.text_key(name);
    value.write_json(&mut out);
    out.into_text()
}

fn written<T: ToJson + ?Sized>(value: &T, style: Style) -> String {
    let mut out = Out::new(style);
    value.write_json(&mut out);
    out.into_text()
}
