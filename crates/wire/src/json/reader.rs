//! Pull parser. It never looks back and never holds more than one value.

use std::{borrow::Cow, ops::Range};

use super::{Json, JsonError};
use crate::scan::find;

/// Deepest nesting that is read; fastjson has no limit and overflows its stack.
pub const MAX_DEPTH: usize = 128;

/// Reads members one at a time, without a tree. Lenient like fastjson: single quotes, bare names, integer and object
/// keys, surplus commas; missing commas are errors.
pub struct Reader<'a> {
    text: &'a [u8],
    /// The same, when all of it is UTF-8: checked once instead of string by string.
    utf8: Option<&'a str>,
    at: usize,
    depth: usize,
    after_value: bool,
}

impl<'a> Reader<'a> {
    /// Starts before the first value of `text`.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, utf8: std::str::from_utf8(text).ok(), at: 0, depth: 0, after_value: false }
    }

    /// Enters an object. False, and nothing read, when the next value is no object.
    pub fn begin_object(&mut self) -> Result<bool, JsonError> {
        if self.peek() != Some(b'{') {
            return Ok(false);
        }
        self.open()?;
        Ok(true)
    }

    /// The next member's name, its colon read too; `None` once the object has ended.
    pub fn next_name(&mut self) -> Result<Option<Cow<'a, str>>, JsonError> {
        if self.closes(b'}')? {
            return Ok(None);
        }
        let name = match self.peek() {
            Some(b'"' | b'\'') => self.quoted()?,
            _ => match self.key()? {
                Json::Str(name) | Json::Num(name) => name.into(),
                other => other.to_text().into(),
            },
        };
        self.colon()?;
        Ok(Some(name))
    }

    /// The text, when all of it is UTF-8: what the ranges of the plain forms lie in.
    pub fn utf8(&self) -> Option<&'a str> {
        self.utf8
    }

    /// Where the next member's name is, its colon read too, if it is written as Java writes it: `"name":` without blanks
    /// and escapes. `None`, and nothing read, otherwise: also at the end.
    #[inline]
    pub fn plain_name(&mut self) -> Option<Range<usize>> {
        if self.after_value && self.text.get(self.at) != Some(&b',') {
            return None;
        }
        let name = self.plain_quoted(self.at + usize::from(self.after_value))?;
        if self.text.get(name.end + 1) != Some(&b':') {
            return None;
        }
        self.at = name.end + 2;
        Some(name)
    }

    /// Where the next value is, if it is a string without escapes right here. `None`, and nothing read, otherwise.
    #[inline]
    pub fn plain_value(&mut self) -> Option<Range<usize>> {
        let value = self.plain_quoted(self.at)?;
        self.at = value.end + 1;
        self.after_value = true;
        Some(value)
    }

    /// The next value, if it is a number of at most 18 digits right here. `None`, and nothing read, otherwise.
    pub fn plain_integer(&mut self) -> Option<i64> {
        let rest = self.text.get(self.at..)?;
        let negative = rest.first() == Some(&b'-');
        let digits = &rest[usize::from(negative)..];
        let mut number = 0;
        for (count, byte) in digits.iter().take(19).enumerate() {
            match byte {
                b'0'..=b'9' if count < 18 => number = number * 10 + i64::from(byte - b'0'),
                b',' | b'}' if count > 0 => {
                    self.at += usize::from(negative) + count;
                    self.after_value = true;
                    return Some(if negative { -number } else { number });
                }
                _ => return None,
            }
        }
        None
    }

    /// What the double quote at `at` begins, without quotes, unless it holds an escape.
    #[inline]
    fn plain_quoted(&self, at: usize) -> Option<Range<usize>> {
        self.utf8?;
        if self.text.get(at) != Some(&b'"') {
            return None;
        }
        let end = find(self.text, at + 1, [b'"', b'\\']);
        (self.text.get(end) == Some(&b'"')).then_some(at + 1..end)
    }

    /// The next value, whole.
    pub fn value(&mut self) -> Result<Json, JsonError> {
        let value = match self.peek() {
            Some(b'{') => self.object()?,
            Some(b'[') => self.array()?,
            Some(b'"' | b'\'') => Json::Str(self.quoted()?.into_owned()),
            Some(b'-' | b'+' | b'.' | b'0'..=b'9') => Json::Num(self.number()?.to_owned()),
            Some(_) => self.word()?,
            None => return self.fail("a value is missing"),
        };
        self.after_value = true;
        Ok(value)
    }

    /// Passes the next value by and keeps nothing of it.
    pub fn skip_value(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'{') => {
                self.open()?;
                while !self.closes(b'}')? {
                    self.skip_key()?;
                    self.colon()?;
                    self.skip_value()?;
                }
            }
            Some(b'[') => {
                self.open()?;
                while !self.closes(b']')? {
                    self.skip_value()?;
                }
            }
            _ if self.plain_string()?.is_some() => {}
            _ => drop(self.value()?),
        }
        self.after_value = true;
        Ok(())
    }

    /// The next value when it is a string, borrowed when it holds no escape. `None`, and nothing read, otherwise.
    pub fn plain_string(&mut self) -> Result<Option<Cow<'a, str>>, JsonError> {
        if !matches!(self.peek(), Some(b'"' | b'\'')) {
            return Ok(None);
        }
        let text = self.quoted()?;
        self.after_value = true;
        Ok(Some(text))
    }

    /// Puts the next value behind `out` when it is a string, escapes resolved. False, and nothing read, otherwise. After an
    /// error `out` ends in a part of it.
    pub fn string_into(&mut self, out: &mut String) -> Result<bool, JsonError> {
        let Some(quote @ (b'"' | b'\'')) = self.peek() else { return Ok(false) };
        self.at += 1;
        self.rest_of_string(quote, out)?;
        self.after_value = true;
        Ok(true)
    }

    /// The next value when it is a number, as it is written. `None`, and nothing read, otherwise.
    pub fn plain_number(&mut self) -> Result<Option<&'a str>, JsonError> {
        if !matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'0'..=b'9')) {
            return Ok(None);
        }
        let text = self.number()?;
        self.after_value = true;
        Ok(Some(text))
    }

    /// Checks that nothing follows but white space and NUL bytes.
    pub fn end(&mut self) -> Result<(), JsonError> {
        while self.peek() == Some(0) {
            self.at += 1;
        }
        if self.at < self.text.len() { self.fail("text after the end") } else { Ok(()) }
    }

    fn fail<T>(&self, text: &'static str) -> Result<T, JsonError> {
        Err(JsonError { position: self.at, text })
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r' | 8 | 11 | 12) => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    fn open(&mut self) -> Result<(), JsonError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("nested too deep");
        }
        self.at += 1;
        self.after_value = false;
        Ok(())
    }

    /// Reads the commas before the next item, or `end`.
    fn closes(&mut self, end: u8) -> Result<bool, JsonError> {
        let mut separated = !self.after_value;
        loop {
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    separated = true;
                }
                Some(byte) if byte == end => {
                    self.at += 1;
                    self.depth = self.depth.saturating_sub(1);
                    self.after_value = true;
                    return Ok(true);
                }
                Some(_) if separated => return Ok(false),
                Some(_) => return self.fail("a comma is missing"),
                None => return self.fail("the text ends inside an object or array"),
            }
        }
    }

    fn colon(&mut self) -> Result<(), JsonError> {
        if self.peek() != Some(b':') {
            return self.fail("a colon is missing");
        }
        self.at += 1;
        Ok(())
    }

    fn object(&mut self) -> Result<Json, JsonError> {
        let mut members = Vec::new();
        self.open()?;
        while !self.closes(b'}')? {
            let key = self.key()?;
            self.colon()?;
            members.push((key, self.value()?));
        }
        Ok(Json::Obj(members))
    }

    fn array(&mut self) -> Result<Json, JsonError> {
        let mut items = Vec::new();
        self.open()?;
        while !self.closes(b']')? {
            items.push(self.value()?);
        }
        Ok(Json::Arr(items))
    }

    fn key(&mut self) -> Result<Json, JsonError> {
        match self.peek() {
            Some(b'"' | b'\'') => Ok(Json::Str(self.quoted()?.into_owned())),
            Some(b'-' | b'+' | b'.' | b'0'..=b'9') => Ok(Json::Num(self.number()?.to_owned())),
            Some(b'{' | b'[') => self.value(),
            _ => match self.bare() {
                "" => self.fail("a name is missing"),
                name => Ok(Json::Str(name.to_owned())),
            },
        }
    }

    fn skip_key(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'{' | b'[') => self.skip_value(),
            _ => self.key().map(drop),
        }
    }

    fn word(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        match self.bare() {
            "true" => Ok(Json::Bool(true)),
            "false" => Ok(Json::Bool(false)),
            "null" | "undefined" | "NaN" => Ok(Json::Null),
            _ => Err(JsonError { position: start, text: "not a value" }),
        }
    }

    /// Letters, digits, `_` and `$`: a name or a word without quotes.
    fn bare(&mut self) -> &'a str {
        let text = self.take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$'));
        std::str::from_utf8(text).unwrap_or("")
    }

    fn number(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        let text = self.take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
        let text = std::str::from_utf8(text).unwrap_or("");
        if text.bytes().all(|byte| byte.is_ascii_digit()) || text.parse::<f64>().is_ok() {
            return Ok(text);
        }
        Err(JsonError { position: start, text: "not a number" })
    }

    /// Text from `start` to here. Bytes that are no UTF-8 become U+FFFD, as in Java.
    #[inline]
    fn since(&self, start: usize) -> Cow<'a, str> {
        match self.utf8.and_then(|text| text.get(start..self.at)) {
            Some(text) => Cow::Borrowed(text),
            None => self.replaced_since(start),
        }
    }

    #[cold]
    fn replaced_since(&self, start: usize) -> Cow<'a, str> {
        String::from_utf8_lossy(&self.text[start..self.at])
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|byte| !wanted(*byte)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// A string whose opening quote is the next byte.
    fn quoted(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let quote = self.text[self.at];
        self.at += 1;
        let plain = self.plain(quote);
        if self.text.get(self.at) == Some(&quote) {
            self.at += 1;
            return Ok(plain);
        }
        let mut text = String::with_capacity(plain.len().saturating_mul(2).max(256).min(self.text.len()));
        text.push_str(&plain);
        self.rest_of_string(quote, &mut text)?;
        Ok(Cow::Owned(text))
    }

    /// Up to the quote that ends it.
    fn rest_of_string(&mut self, quote: u8, out: &mut String) -> Result<(), JsonError> {
        loop {
            let start = self.at;
            self.at = find(self.text, start, [quote, b'\\']);
            match self.utf8 {
                Some(text) => out.push_str(&text[start..self.at]),
                None => out.push_str(&self.replaced_since(start)),
            }
            let rest = &self.text[self.at..];
            // What separates properties is written this way.
            if let [b'\\', b'u', b'0', b'0', high @ b'0'..=b'7', low @ b'0'..=b'9', ..] = rest {
                out.push(char::from((high - b'0') << 4 | (low - b'0')));
                self.at += 6;
                continue;
            }
            let Some(byte) = rest.first() else { return self.fail("the text ends inside a string") };
            self.at += 1;
            if *byte == quote {
                return Ok(());
            }
            out.push(self.escape()?);
        }
    }

    /// The part of a string up to its end or to an escape.
    #[inline]
    fn plain(&mut self, quote: u8) -> Cow<'a, str> {
        let start = self.at;
        self.at = find(self.text, start, [quote, b'\\']);
        self.since(start)
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let Some(byte) = self.text.get(self.at) else { return self.fail("the text ends inside a string") };
        self.at += 1;
        Ok(match byte {
            b'"' | b'\'' | b'\\' | b'/' => char::from(*byte),
            b'b' => '\u{8}',
            b'f' => '\u{C}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'v' => '\u{B}',
            b'0'..=b'7' => char::from(byte - b'0'),
            b'x' => char::from_u32(self.hex(2)?).unwrap_or(char::REPLACEMENT_CHARACTER),
            b'u' => self.unicode()?,
            _ => return self.fail("unknown escape"),
        })
    }

    /// One UTF-16 unit, or two that belong together; half a pair becomes U+FFFD.
    fn unicode(&mut self) -> Result<char, JsonError> {
        let unit = self.hex(4)?;
        let is_high = (0xD800..0xDC00).contains(&unit);
        if is_high && self.text[self.at..].starts_with(b"\\u") {
            let back = self.at;
            self.at += 2;
            let low = self.hex(4)?;
            if (0xDC00..0xE000).contains(&low) {
                let point = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                return Ok(char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&mut self, digits: usize) -> Result<u32, JsonError> {
        let mut number = 0;
        for place in self.at..self.at + digits {
            let digit = self.text.get(place).and_then(|byte| char::from(*byte).to_digit(16));
            let Some(digit) = digit else {
                self.at = place;
                return self.fail("a hexadecimal digit is missing");
            };
            number = number << 4 | digit;
        }
        self.at += digits;
        Ok(number)
    }
}
