//! Looking into a store directory from outside: a read-only view, what is in it, and the check of a whole store over it. Takes no lock,
//! writes nothing, and bears that a broker writes meanwhile.

mod facts;
mod index;
mod log;
mod overlay;
mod queues;
mod read_only;
mod recovery;
mod select;
mod verify;
mod view;

use wire::{
    property,
    record::{RecordView, body_crc},
};

pub use facts::{ConfigFacts, ConfigState, Facts, IndexFacts, QueueFacts, inspect};
pub use recovery::{QueueChange, Recovery};
pub use select::{Reader, Selection, read, read_one};
pub use verify::{Finding, FindingKind, Findings, Verified, Watch, verify};
pub use view::{StoreView, ViewError, ViewOptions};

/// Bytes of the CRC property at the end of a record: name, separator, ten digits, separator.
const CRC_PROPERTY: usize = 20;

/// Whether a record is what its CRC property says; `None` without one. The digits stand in reverse order. Source:
/// `MessageDecoder.java` (createCrc32); reference store 5.
pub(crate) fn crc_property(record: &RecordView<'_>) -> Option<bool> {
    let properties = record.properties();
    let tail = &properties[properties.len().checked_sub(CRC_PROPERTY)?..];
    let digits = tail.strip_prefix(property::CRC32.as_bytes())?.strip_prefix(&[property::NAME_END])?;
    let (last, digits) = digits.split_last()?;
    let mut stored = Some(u64::from(*last == property::VALUE_END)).filter(|known| *known == 1).map(|_| 0u64);
    for digit in digits.iter().rev() {
        stored = stored.filter(|_| digit.is_ascii_digit()).map(|number| number * 10 + u64::from(digit - b'0'));
    }
    let covered = &record.bytes()[..record.size() - CRC_PROPERTY];
    Some(stored == Some(body_crc(covered).into()))
}
