//! Escaping, and a writer for headers that are written member by member.

use bytes::BytesMut;

use crate::scan::is_printable;

/// Writes JSON text at the end of a buffer. Punctuation is the caller's.
pub struct Writer<'a> {
    out: &'a mut BytesMut,
}

impl<'a> Writer<'a> {
    /// Appends to `out`.
    pub fn over(out: &'a mut BytesMut) -> Self {
        Self { out }
    }

    /// Text as it is.
    #[inline]
    pub fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// A number.
    pub fn integer(&mut self, number: i64) {
        self.raw(itoa::Buffer::new().format(number));
    }

    /// A string in quotes, escaped as Java does.
    pub fn string(&mut self, text: &str) {
        self.raw("\"");
        match is_plain(text.as_bytes()) {
            true => self.raw(text),
            false => escape_java(text, |part| self.out.extend_from_slice(part.as_bytes())),
        }
        self.raw("\"");
    }
}

/// True when nothing of `text` is escaped. What is not ASCII is not looked at here.
fn is_plain(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks();
    words.iter().all(|word| is_printable(word, [b'"', b'\\'])) && rest.iter().all(|byte| PLAIN[*byte as usize])
}

/// Hands `text` on in parts, what fastjson escapes by default escaped.
pub(super) fn escape_java(text: &str, mut sink: impl FnMut(&str)) {
    let bytes = text.as_bytes();
    let (mut from, mut at) = (0, 0);
    while at < bytes.len() {
        if PLAIN[bytes[at] as usize] {
            at += 1;
            continue;
        }
        // Only first bytes of a character are not plain, hence this is a boundary.
        let Some(char) = text[at..].chars().next() else { break };
        let next = at + char.len_utf8();
        if escaped_by_java(char) {
            sink(&text[from..at]);
            escape(char, &mut sink);
            from = next;
        }
        at = next;
    }
    sink(&text[from..]);
}

/// Same in the "browser compatible" way: `/` and everything beyond ASCII escaped too.
pub(super) fn escape_ascii(text: &str, mut sink: impl FnMut(&str)) {
    let mut from = 0;
    for (at, char) in text.char_indices() {
        if (' '..'\u{7F}').contains(&char) && !matches!(char, '"' | '\\' | '/') {
            continue;
        }
        sink(&text[from..at]);
        escape(char, &mut sink);
        from = at + char.len_utf8();
    }
    sink(&text[from..]);
}

/// Bytes that begin no character of [`escaped_by_java`].
static PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut at = 0;
    while at < 0x20 {
        plain[at] = false;
        at += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain[0x7F] = false;
    plain[0xC2] = false;
    plain[0xE2] = false;
    plain
};

fn escaped_by_java(char: char) -> bool {
    matches!(char, '\0'..='\u{1F}' | '"' | '\\' | '\u{7F}'..='\u{9F}' | '\u{2028}' | '\u{2029}')
}

fn escape(char: char, sink: &mut impl FnMut(&str)) {
    match char {
        '"' => sink("\\\""),
        '\\' => sink("\\\\"),
        '/' => sink("\\/"),
        '\u{8}' => sink("\\b"),
        '\u{C}' => sink("\\f"),
        '\n' => sink("\\n"),
        '\r' => sink("\\r"),
        '\t' => sink("\\t"),
        other => other.encode_utf16(&mut [0; 2]).iter().for_each(|unit| escape_unit(*unit, sink)),
    }
}

fn escape_unit(unit: u16, sink: &mut impl FnMut(&str)) {
    const DIGITS: &str = "0123456789ABCDEF";
    sink("\\u");
    for shift in [12, 8, 4, 0] {
        let digit = usize::from(unit >> shift & 15);
        sink(&DIGITS[digit..=digit]);
    }
}
