//! Pull parser. It never looks back and never holds more than one value.

use std::borrow::Cow;

use super::{Json, JsonError};

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

    /// The next member where it is written as Java writes it, `"name":"value"` without blanks and escapes. `None`, and
    /// nothing read, otherwise: also at the end. What most members of most headers are, in a fifth of the time.
    pub fn plain_member(&mut self) -> Option<(&'a str, &'a str)> {
        let text = self.utf8?;
        let mut at = self.at;
        if self.after_value {
            at = self.expect(at, b',')?;
        }
        let name = self.expect(at, b'"')?;
        let name_end = self.plain_end(name)?;
        let value = self.expect(self.expect(name_end + 1, b':')?, b'"')?;
        let value_end = self.plain_end(value)?;
        let found = (text.get(name..name_end)?, text.get(value..value_end)?);
        self.at = value_end + 1;
        self.after_value = true;
        Some(found)
    }

    /// Behind `byte`, when it stands at `at`.
    fn expect(&self, at: usize, byte: u8) -> Option<usize> {
        (self.text.get(at) == Some(&byte)).then_some(at + 1)
    }

    /// Where the string that began before `from` ends; `None` when it holds an escape. Eight bytes at a time: most are
    /// short.
    fn plain_end(&self, from: usize) -> Option<usize> {
        const ONES: u64 = 0x0101_0101_0101_0101;
        // Marks the lowest zero byte, and perhaps some above it.
        let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
        let mut at = from;
        while let Some(word) = self.text.get(at..)?.first_chunk() {
            let word = u64::from_le_bytes(*word);
            let found = zeros(word ^ (ONES * b'"' as u64)) | zeros(word ^ (ONES * b'\\' as u64));
            if found != 0 {
                at += found.trailing_zeros() as usize / 8;
                break;
            }
            at += 8;
        }
        at += self.text[at..].iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        (self.text[at] == b'"').then_some(at)
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
    fn since(&self, start: usize) -> Cow<'a, str> {
        match self.utf8.and_then(|text| text.get(start..self.at)) {
            Some(text) => Cow::Borrowed(text),
            None => String::from_utf8_lossy(&self.text[start..self.at]),
        }
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
        while self.text.get(self.at) == Some(&b'\\') {
            self.at += 1;
            text.push(self.escape()?);
            text.push_str(&self.plain(quote));
        }
        if self.at == self.text.len() {
            return self.fail("the text ends inside a string");
        }
        self.at += 1;
        Ok(Cow::Owned(text))
    }

    /// The part of a string up to its end or to an escape.
    fn plain(&mut self, quote: u8) -> Cow<'a, str> {
        let start = self.at;
        let rest = &self.text[start..];
        self.at += memchr::memchr2(quote, b'\\', rest).unwrap_or(rest.len());
        self.since(start)
    }

    #[inline]
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
            let digit = match self.text.get(place) {
                Some(byte @ b'0'..=b'9') => byte - b'0',
                Some(byte @ (b'a'..=b'f' | b'A'..=b'F')) => (byte | 0x20) - b'a' + 10,
                _ => {
                    self.at = place;
                    return self.fail("a hexadecimal digit is missing");
                }
            };
            number = number << 4 | u32::from(digit);
        }
        self.at += digits;
        Ok(number)
    }
}
