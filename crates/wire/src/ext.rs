//! `extFields`: the string map of a remoting header.
//!
//! Kept as one text with spans, in the order of the wire: a header of twenty fields costs two allocations and mostly one
//! copy, and what was decoded encodes again to the same bytes. Holds no meaning of any field.

use std::ops::Range;

/// String map of a remoting header, in wire order. A name appears at most once after [`ExtFields::set`]; a decoded
/// map may hold a name twice, then the last one counts, as in Java.
#[derive(Clone, Default)]
pub struct ExtFields {
    text: String,
    spans: Vec<Span>,
}

#[derive(Clone, Copy)]
struct Span {
    key: Part,
    value: Part,
}

/// Room for values that are kept once more without their escapes, in bytes.
const UNESCAPED: usize = 512;

/// Memory that is used again, in bytes of text.
const TEXT_KEPT: usize = 4096;
/// The same, in entries.
const SPANS_KEPT: usize = 32;

/// Positions in the text.
#[derive(Clone, Copy)]
struct Part {
    from: u32,
    to: u32,
}

impl From<Range<usize>> for Part {
    fn from(range: Range<usize>) -> Self {
        Self { from: range.start as u32, to: range.end as u32 }
    }
}

impl ExtFields {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for `bytes` of names and values.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.text.reserve(bytes);
        self.spans.reserve((bytes / 16).min(16));
    }

    /// An empty map in the memory of this one, unless that is much.
    pub fn emptied(mut self) -> Self {
        if self.text.capacity() > TEXT_KEPT || self.spans.capacity() > SPANS_KEPT {
            return Self::new();
        }
        self.text.clear();
        self.spans.clear();
        self
    }

    /// Number of entries, doubles included.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// True when there is no entry.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Appends without looking for an entry of the same name.
    pub fn push(&mut self, key: &str, value: &str) {
        let (key, value) = (self.keep(key), self.keep(value));
        self.push_kept(key, value);
    }

    /// Begins anew, with entries that [`Self::push_kept`] names and whose names and values lie in `text`: copied at once,
    /// and only the first time, as a header may begin its fields again and again.
    pub(crate) fn begin_within(&mut self, text: &str) {
        self.spans.clear();
        if self.text.is_empty() {
            self.reserve(text.len() + text.len().min(UNESCAPED));
            self.text.push_str(text);
        }
    }

    /// The text, to put a name or a value behind it.
    pub(crate) fn text(&mut self) -> &mut String {
        &mut self.text
    }

    /// Puts a name or a value behind the text; answers where it is.
    pub(crate) fn keep(&mut self, part: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(part);
        start..self.text.len()
    }

    /// Appends an entry whose name and value are in the text, at these bytes.
    pub(crate) fn push_kept(&mut self, key: Range<usize>, value: Range<usize>) {
        self.spans.push(Span { key: key.into(), value: value.into() });
    }

    /// Appends a number.
    pub fn push_number(&mut self, key: &str, value: impl itoa::Integer) {
        self.push(key, itoa::Buffer::new().format(value));
    }

    /// Sets `key`, in place of an earlier entry of that name.
    pub fn set(&mut self, key: &str, value: &str) {
        self.remove(key);
        self.push(key, value);
    }

    /// Removes every entry named `key`.
    pub fn remove(&mut self, key: &str) {
        let text = &self.text;
        self.spans.retain(|span| key_of(text, span) != key);
    }

    /// The value of `key`: the last one where it is there twice.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.spans.iter().rev().find(|span| key_of(&self.text, span) == key).map(|span| value_of(&self.text, span))
    }

    /// All entries in wire order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.spans.iter().map(|span| (key_of(&self.text, span), value_of(&self.text, span)))
    }

    /// The same; names are bytes, as who compares them needs no more.
    pub(crate) fn by_bytes(&self) -> impl Iterator<Item = (&[u8], &str)> {
        let key = |span: &Span| &self.text.as_bytes()[span.key.from as usize..span.key.to as usize];
        self.spans.iter().map(move |span| (key(span), value_of(&self.text, span)))
    }
}

fn key_of<'a>(text: &'a str, span: &Span) -> &'a str {
    &text[span.key.from as usize..span.key.to as usize]
}

fn value_of<'a>(text: &'a str, span: &Span) -> &'a str {
    &text[span.value.from as usize..span.value.to as usize]
}

impl std::fmt::Debug for ExtFields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl PartialEq for ExtFields {
    fn eq(&self, other: &Self) -> bool {
        let sorted = |fields: &Self| {
            let mut all: Vec<_> = fields.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            all.sort();
            all
        };
        sorted(self) == sorted(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_unless_it_is_much() {
        for (bytes, kept) in [(TEXT_KEPT, TEXT_KEPT), (TEXT_KEPT + 1, 0)] {
            let mut fields = ExtFields::new();
            fields.text.reserve_exact(bytes);
            fields.push("a", "b");
            let fields = fields.emptied();
            assert_eq!((fields.is_empty(), fields.get("a"), fields.text.capacity()), (true, None, kept));
        }
        let mut many = ExtFields::new();
        (0..=SPANS_KEPT).for_each(|_| many.push("", ""));
        assert_eq!(many.emptied().spans.capacity(), 0);
    }
}
