//! What all handlers need: required header fields, and the answer to a request that cannot be served.

use wire::{Command, code::response};

/// An answer other than success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Response code.
    pub code: i32,
    /// Text for people.
    pub remark: String,
}

impl Refusal {
    /// Code and text.
    pub fn new(code: i32, remark: impl Into<String>) -> Self {
        Self { code, remark: remark.into() }
    }

    /// SYSTEM_ERROR, which is what Java answers for all it cannot read.
    pub fn system(remark: impl Into<String>) -> Self {
        Self::new(response::SYSTEM_ERROR, remark)
    }
}

/// Checks that `fields` are there. Source: `@CFNotNull`, `RemotingCommand.decodeCommandCustomHeader`.
pub fn require(request: &Command, fields: &[&str]) -> Result<(), Refusal> {
    match fields.iter().find(|field| request.ext.get(field).is_none()) {
        Some(missing) => Err(Refusal::system(format!("the custom field <{missing}> is null"))),
        None => Ok(()),
    }
}

/// Checks that `field` is there and a whole number; a garbled id would read as 0, the master.
pub fn require_number(request: &Command, field: &str) -> Result<(), Refusal> {
    require(request, &[field])?;
    let text = request.ext.get(field).unwrap_or_default();
    match text.parse::<i64>() {
        Ok(_) => Ok(()),
        Err(_) => Err(Refusal::system(format!("the custom field <{field}> is not a number: {text}"))),
    }
}
