//! Record after record through a stretch of the log. It decides nothing: it says why it stopped.

use wire::record::{Check, Invalid, MIN_RECORD, RecordView, Verify, check_as};

/// Why a walk ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// No whole record is left in the bytes; this many would be needed to see the next one.
    Short(usize),
    /// A filler: the next record begins the next segment.
    Blank,
    /// No record, and why.
    Invalid(String),
}

/// Calls `each` for the records that begin at `offset` and lie in `bytes`; returns where the walk ended. A record that
/// does not carry its own place is none: it is left from another time.
pub(crate) fn walk<'a>(
    bytes: &'a [u8],
    offset: i64,
    verify: Verify,
    mut each: impl FnMut(&RecordView<'a>),
) -> (i64, Stop) {
    let mut at = 0;
    loop {
        let here = offset + at as i64;
        let record = match check_as(&bytes[at..], verify) {
            Check::Record(record) => record,
            Check::Blank => return (here, Stop::Blank),
            Check::Incomplete => return (here, incomplete(&bytes[at..])),
            Check::Invalid(reason) => return (here, Stop::Invalid(reason.to_string())),
        };
        if record.physical_offset() != here {
            let claimed = record.physical_offset();
            return (here, Stop::Invalid(format!("the record says it is at {claimed}")));
        }
        if verify != Verify::Layout && looks_torn(&record) {
            return (here, Stop::Invalid("the end of the record was lost".into()));
        }
        each(&record);
        at += record.size();
    }
}

/// The CRC covers the body only. A record whose end reads as zeros fits together all the same, but no broker writes a
/// NUL into a topic or at the end of the properties.
pub(crate) fn looks_torn(record: &RecordView<'_>) -> bool {
    record.properties().last() == Some(&0) || record.topic_bytes().contains(&0)
}

fn incomplete(bytes: &[u8]) -> Stop {
    let Some(head) = bytes.get(..4) else { return Stop::Short(MIN_RECORD) };
    let total = i32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    match usize::try_from(total) {
        Ok(total) if total > bytes.len() => Stop::Short(total),
        _ if bytes.len() < 8 => Stop::Short(MIN_RECORD),
        _ => Stop::Invalid(Invalid::TotalSize(total).to_string()),
    }
}
