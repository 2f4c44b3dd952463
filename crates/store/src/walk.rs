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

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short(_) => f.write_str("nothing"),
            Self::Blank => f.write_str("a filler"),
            // A segment that was not written to its end reads as zeros.
            Self::Invalid(why) if why.starts_with("magic 0x00000000") => f.write_str("nothing was written"),
            Self::Invalid(why) => f.write_str(why),
        }
    }
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

/// Unit in which a disk loses what was written.
const SECTOR: usize = 512;

/// The CRC covers the body only. A record whose end, or a sector of whose properties, reads as zeros fits together all
/// the same, but no broker writes a NUL into a topic or at the end of the properties. Other zeros within them are
/// somebody's property: what is lost there is a whole sector, as a write begins with a record and is torn once.
pub(crate) fn looks_torn(record: &RecordView<'_>) -> bool {
    let (bytes, properties) = (record.bytes(), record.properties());
    let from = record.physical_offset() as usize + bytes.len() - properties.len();
    let (first, rest) = properties.split_at(properties.len().min(SECTOR - from % SECTOR));
    let lost = |part: &[u8]| !part.is_empty() && part.iter().all(|byte| *byte == 0);
    let sector_lost = || lost(first) || rest.chunks(SECTOR).any(lost);
    properties.last() == Some(&0) || record.topic_bytes().contains(&0) || (properties.contains(&0) && sector_lost())
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

#[cfg(test)]
mod tests {
    use wire::record_encode::{NewRecord, encode, patch};

    use super::*;

    /// A record at `at` whose properties hold `NUL`s where `lost` says.
    fn record(at: i64, properties: &[u8], lost: std::ops::Range<usize>) -> Vec<u8> {
        let record = NewRecord {
            topic: "T",
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: ([10, 0, 0, 1], 5000).into(),
            store_host: ([10, 0, 0, 2], 10911).into(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            properties,
            body: b"body",
        };
        let mut bytes = Vec::new();
        let size = encode(&record, &mut bytes).unwrap();
        patch(&mut bytes, 0, at, 1);
        bytes[size - properties.len()..][lost].fill(0);
        bytes
    }

    #[test]
    fn lost_sectors_of_the_properties_are_told_from_somebodys_zeros() {
        // Properties begin 96 bytes into the record.
        let properties = [b'x'; 1200];
        let torn = |at, lost| looks_torn(&RecordView::layout(&record(at, &properties, lost)).unwrap());
        assert!(!torn(0, 0..0) && !torn(0, 100..110) && !torn(4096, 417..900));
        assert!(torn(0, 416..928) && torn(0, 928..1200), "a whole sector, and the end of the record in one");
        assert!(torn(512 - 97, 0..511), "a sector that begins within the length of the properties");
        assert!(!torn(0, 400..416) && !torn(0, 416..420) && !torn(0, 415..417), "at an edge, but no sector");
        assert!(!torn(512 - 96 - 10, 3..10) && torn(0, 1190..1200));
    }
}
