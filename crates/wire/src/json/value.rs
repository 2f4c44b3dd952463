//! A JSON value as a tree. Numbers keep their literal, so that nothing is rounded on the way through.

use super::{FromJson, JsonError, Out, Reader, Style, ToJson};

/// Any JSON value. Keys of objects are values too: Java writes integer keys bare and beans as keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Json {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it was written.
    Num(String),
    /// A string.
    Str(String),
    /// An array.
    Arr(Vec<Json>),
    /// An object, in the order of the text; a name that comes twice is there twice.
    Obj(Vec<(Json, Json)>),
}

impl Json {
    /// Reads a whole text.
    pub fn parse(text: &[u8]) -> Result<Self, JsonError> {
        let mut reader = Reader::new(text);
        let value = reader.value()?;
        reader.end()?;
        Ok(value)
    }

    /// A whole number: a number, a number in a string, or a boolean as 0 or 1. Fractions are cut off.
    pub fn to_i64(&self) -> Option<i64> {
        match self {
            Self::Bool(value) => Some((*value).into()),
            Self::Num(text) => integer(text),
            Self::Str(text) => integer(text.trim()),
            _ => None,
        }
    }

    /// A number, also in a string.
    pub fn to_f64(&self) -> Option<f64> {
        match self {
            Self::Num(text) => text.parse().ok(),
            Self::Str(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// A boolean: `true`, `"true"`, `"1"`, 1 and their opposites.
    pub fn to_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Num(_) => self.to_i64().map(|number| number == 1),
            Self::Str(text) if text.eq_ignore_ascii_case("true") || text == "1" => Some(true),
            Self::Str(text) if text.eq_ignore_ascii_case("false") || text == "0" => Some(false),
            _ => None,
        }
    }

    /// The text in a string, without quotes.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// True for `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Compact JSON text in Java's default form.
    pub fn to_text(&self) -> String {
        let mut out = Out::new(Style::Java);
        self.write_json(&mut out);
        out.into_text()
    }

    /// The last member named `name`; else one whose name differs only in case, `_` and `-`, which fastjson accepts.
    pub fn get(&self, name: &str) -> Option<&Json> {
        let Self::Obj(members) = self else { return None };
        let named = |wanted: &dyn Fn(&str) -> bool| {
            members.iter().rev().find(|(key, _)| key.as_str().is_some_and(wanted)).map(|(_, value)| value)
        };
        named(&|key| key == name).or_else(|| named(&|key| loosely_equal(key, name)))
    }
}

/// Equal but for case, `_` and `-`.
pub(super) fn loosely_equal(left: &str, right: &str) -> bool {
    fn plain(text: &str) -> impl Iterator<Item = u8> {
        text.bytes().filter(|byte| !matches!(byte, b'_' | b'-')).map(|byte| byte.to_ascii_lowercase())
    }
    plain(left).eq(plain(right))
}

/// A whole number; a fraction is cut off.
pub(crate) fn integer(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let number: f64 = text.parse().ok()?;
    (-9.2e18..9.2e18).contains(&number).then_some(number as i64)
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl From<i64> for Json {
    fn from(number: i64) -> Self {
        Self::Num(number.to_string())
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl FromJson for Json {
    fn from_json(json: &Json) -> Option<Self> {
        Some(json.clone())
    }
}

impl ToJson for Json {
    fn write_json(&self, out: &mut Out) {
        match self {
            Self::Null => out.raw("null"),
            Self::Bool(value) => value.write_json(out),
            Self::Num(text) => match text.parse::<i64>() {
                Ok(number) if out.style() == Style::Standard => out.integer(number),
                _ => out.raw(text),
            },
            Self::Str(text) => out.string(text),
            Self::Arr(items) => items.write_json(out),
            Self::Obj(members) => write_members(members, out),
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

fn write_members(members: &[(Json, Json)], out: &mut Out) {
    let mut members: Vec<_> = members.iter().collect();
    if out.style() == Style::Standard {
        let number = |key: &Json| if let Json::Num(_) = key { key.to_i64() } else { None };
        members.sort_by_cached_key(|(key, _)| (number(key), key.to_text()));
    }
    out.begin_object();
    for (key, value) in members {
        match key {
            Json::Str(name) => out.text_key(name),
            Json::Obj(_) | Json::Arr(_) => out.object_key(key),
            other => out.bare_key(&other.to_text()),
        }
        value.write_json(out);
    }
    out.end_object();
}
