//! Where values write themselves: knows the three forms Java writes and nothing of what is written.

use std::fmt::Write;

use super::{
    ToJson,
    writer::{escape_ascii, escape_java},
};

/// A form of JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Compact, integer keys bare.
    Java,
    /// Compact, readable by strict parsers and browsers.
    Standard,
    /// Java's config files.
    Pretty,
}

/// Largest whole number that every JSON reader keeps exactly.
const MAX_SAFE: u64 = (1 << 53) - 1;

/// JSON text under construction.
pub struct Out {
    text: String,
    style: Style,
    depth: usize,
}

impl Out {
    /// Nothing yet.
    pub fn new(style: Style) -> Self {
        Self { text: String::new(), style, depth: 0 }
    }

    /// A part of a config file that stands `depth` objects deep, behind other members.
    pub(super) fn within(depth: usize) -> Self {
        Self { depth, ..Self::new(Style::Pretty) }
    }

    /// Makes room for so many bytes.
    pub fn reserve(&mut self, bytes: usize) {
        self.text.reserve(bytes);
    }

    /// The form that is written.
    pub fn style(&self) -> Style {
        self.style
    }

    /// What was written.
    pub fn into_text(self) -> String {
        self.text
    }

    /// Text as it is.
    pub fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// A whole number.
    pub fn integer(&mut self, number: i64) {
        let quote = if self.style == Style::Standard && number.unsigned_abs() > MAX_SAFE { "\"" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{quote}{number}{quote}");
    }

    /// A double as `Double.toString` writes it; what is no number is `null`.
    pub fn float(&mut self, number: f64) {
        if !number.is_finite() {
            return self.raw("null");
        }
        let plain = number == 0.0 || (1e-3..1e7).contains(&number.abs());
        if plain {
            let _ = write!(self.text, "{number:?}");
            return;
        }
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let point = if digits.contains('.') { "" } else { ".0" };
        let _ = write!(self.text, "{digits}{point}E{exponent}");
    }

    /// A string in quotes.
    pub fn string(&mut self, text: &str) {
        self.text.push('"');
        let sink = |part: &str| self.text.push_str(part);
        match self.style {
            Style::Standard => escape_ascii(text, sink),
            Style::Java | Style::Pretty => escape_java(text, sink),
        }
        self.text.push('"');
    }

    /// Opens an object.
    pub fn begin_object(&mut self) {
        self.text.push('{');
        self.depth += 1;
    }

    /// Closes it.
    pub fn end_object(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if !self.text.ends_with('{') {
            self.new_line();
        }
        self.text.push('}');
    }

    /// A member's name and its colon.
    pub fn text_key(&mut self, name: &str) {
        self.comma();
        self.new_line();
        self.string(name);
        self.text.push(':');
    }

    /// A key that Java writes without quotes, a number or a boolean, and its colon.
    pub fn bare_key(&mut self, key: &str) {
        self.comma();
        let quote = if self.style == Style::Standard { "\"" } else { "" };
        let _ = write!(self.text, "{quote}{key}{quote}:");
    }

    /// A key that is an object itself, and its colon.
    pub fn object_key(&mut self, key: &impl ToJson) {
        self.comma();
        let mut text = Self::new(Style::Java);
        key.write_json(&mut text);
        match self.style {
            Style::Standard => self.string(&text.text),
            Style::Java | Style::Pretty => self.raw(&text.text),
        }
        self.text.push(':');
    }

    /// A list: config files have one item a line.
    pub fn list<'a, T: ToJson + 'a>(&mut self, items: impl IntoIterator<Item = &'a T>) {
        self.text.push('[');
        self.depth += 1;
        for item in items {
            self.comma();
            self.new_line();
            item.write_json(self);
        }
        self.depth = self.depth.saturating_sub(1);
        if !self.text.ends_with('[') {
            self.new_line();
        }
        self.text.push(']');
    }

    /// A set: on one line even in config files.
    pub fn set<'a, T: ToJson + 'a>(&mut self, items: impl IntoIterator<Item = &'a T>) {
        self.text.push('[');
        for item in items {
            self.comma();
            item.write_json(self);
        }
        self.text.push(']');
    }

    /// A comma unless an object or array has just been opened.
    fn comma(&mut self) {
        if !self.text.ends_with(['{', '[']) {
            self.text.push(',');
        }
    }

    fn new_line(&mut self) {
        if self.style == Style::Pretty {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n('\t', self.depth));
        }
    }
}
