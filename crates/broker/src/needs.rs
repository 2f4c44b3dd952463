//! What a request's header must have. Java only says so in annotations and fails later, on a null; here a field that is
//! missing or that is no number is named, and nothing is done under a number that nobody gave.

use wire::{Command, header::ExtHeader};

/// Fields of a header.
#[derive(Default)]
pub struct Needs {
    /// Fields that must be there.
    pub fields: &'static [&'static str],
    /// Fields that are 32 bit numbers where they are there.
    pub ints: &'static [&'static str],
    /// Fields that are 64 bit numbers where they are there.
    pub longs: &'static [&'static str],
}

impl Needs {
    /// Fields that must be there, of any text.
    pub const fn fields(fields: &'static [&'static str]) -> Self {
        Self { fields, ints: &[], longs: &[] }
    }

    /// Reads the header, or says which field is missing or unreadable: a remark for an answer with code SYSTEM_ERROR, as
    /// Java's.
    pub fn read<H: ExtHeader>(&self, command: &Command) -> Result<H, String> {
        if let Some(name) = self.fields.iter().find(|name| command.ext.get(name).is_none()) {
            return Err(format!("the custom field <{name}> is null"));
        }
        let bad = |name: &&&str, fits: fn(&str) -> bool| command.ext.get(name).is_some_and(|text| !fits(text));
        let int = self.ints.iter().find(|name| bad(name, |text| text.parse::<i32>().is_ok()));
        let long = self.longs.iter().find(|name| bad(name, |text| text.parse::<i64>().is_ok()));
        match int.or(long) {
            Some(name) => {
                let text = command.ext.get(name).unwrap_or_default();
                Err(format!("the custom field <{name}> is '{text}', expected a whole number"))
            }
            None => Ok(command.header()),
        }
    }
}
