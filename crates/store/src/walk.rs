//! Record after record through a stretch of the log. It decides nothing: it says why it stopped.

use wire::{
    property::{INNER_MULTI_QUEUE_OFFSET, VALUE_END},
    record::{BLANK_HEAD, Check, Invalid, MAGIC_BLANK, MAGIC_V1, MAGIC_V2, MIN_RECORD, RecordView, Verify, check_as},
    record_crc::CRC_TAIL,
};

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
        let behind = &bytes[at + record.size()..];
        if verify != Verify::Layout && looks_torn(&record, behind) {
            let stop = match behind.len() {
                0..BLANK_HEAD => Stop::Short(record.size() + BLANK_HEAD),
                _ => Stop::Invalid("the end of the record was lost".into()),
            };
            return (here, stop);
        }
        each(&record);
        at += record.size();
    }
}

/// Unit in which a disk loses what was written.
const SECTOR: usize = 512;

/// The CRC covers the body only. A record whose end, or a sector of whose properties, reads as zeros fits together all
/// the same, but no broker writes a NUL into a topic. Within properties they may be somebody's: what is lost there is a
/// whole sector, as a write begins with a record and is torn once. At their end they are somebody's (of a Java broker
/// that puts no separator behind the last property) when `behind`, what follows the record in the log, is in the same
/// sector and was written.
pub(crate) fn looks_torn(record: &RecordView<'_>, behind: &[u8]) -> bool {
    let properties = record.properties();
    if !properties.contains(&0) {
        return record.topic_bytes().contains(&0);
    }
    let from = record.physical_offset() as usize + record.bytes().len() - properties.len();
    let written = if is_head(behind) { in_last_sector(from + properties.len()) } else { 0 };
    let properties = &properties[..properties.len().saturating_sub(spare(record).max(written))];
    let (first, rest) = properties.split_at(properties.len().min(SECTOR - from % SECTOR));
    let lost = |part: &[u8]| !part.is_empty() && part.iter().all(|byte| *byte == 0);
    let end_lost = written == 0 && properties.last() == Some(&0);
    end_lost || record.topic_bytes().contains(&0) || lost(first) || rest.chunks(SECTOR).any(lost)
}

/// Bytes before `end` that are in one sector with the head behind it; 0 when that is in two.
fn in_last_sector(end: usize) -> usize {
    Some(end % SECTOR).filter(|taken| taken + BLANK_HEAD <= SECTOR).unwrap_or(0)
}

/// A record or a filler begins here.
fn is_head(bytes: &[u8]) -> bool {
    bytes
        .get(4..BLANK_HEAD)
        .is_some_and(|magic| [MAGIC_V1, MAGIC_V2, MAGIC_BLANK].map(u32::to_be_bytes).iter().any(|it| it == magic))
}

/// Bytes at the end of the properties that say nothing. Java 5.2 leaves room for the CRC property behind those of a
/// message to light queues, whether it writes one or not, and what is there is left from an earlier message or never
/// written (seen: 5.2.0; none in 5.1.4 and 5.4.0).
fn spare(record: &RecordView<'_>) -> usize {
    let properties = record.properties();
    let is_spare = properties.len() > CRC_TAIL
        && properties[properties.len() - CRC_TAIL..].contains(&0)
        && properties[properties.len() - CRC_TAIL - 1] == VALUE_END
        && record.property(INNER_MULTI_QUEUE_OFFSET).is_some();
    if is_spare { CRC_TAIL } else { 0 }
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
        let torn = |at, lost| looks_torn(&RecordView::layout(&record(at, &properties, lost)).unwrap(), &[0; 8]);
        assert!(!torn(0, 0..0) && !torn(0, 100..110) && !torn(4096, 417..900));
        assert!(torn(0, 416..928) && torn(0, 928..1200), "a whole sector, and the end of the record in one");
        assert!(torn(512 - 97, 0..511), "a sector that begins within the length of the properties");
        assert!(!torn(0, 400..416) && !torn(0, 416..420) && !torn(0, 415..417), "at an edge, but no sector");
        assert!(!torn(512 - 96 - 10, 3..10) && torn(0, 1190..1200));
    }

    #[test]
    fn zeros_at_the_end_are_somebodys_when_the_same_sector_tells_of_what_came_then() {
        let torn = |at: i64, lost: usize, behind: &[u8]| {
            looks_torn(&RecordView::layout(&record(at, &[b'x'; 404], 404 - lost..404)).unwrap(), behind)
        };
        let (next, filler) =
            ([&[0, 0, 1, 0], &MAGIC_V1.to_be_bytes()[..]].concat(), [[0; 4], MAGIC_BLANK.to_be_bytes()].concat());
        for at in 0..512 {
            // The record has 500 bytes; a head behind it shares the sector of its end, unless a sector begins there or within the head.
            let shared = (1..=504).contains(&((at + 500) % 512));
            assert_eq!((torn(at, 1, &next), torn(at, 1, &filler)), (!shared, !shared), "{at}");
            assert!(torn(at, 1, &[]) && torn(at, 1, &[0; 8]), "{at}");
        }
        assert!(torn(100, 404, &next) && !torn(100, 403, &next), "all that is in the sector before the one of the end");
    }

    #[test]
    fn room_that_java_left_behind_the_properties_of_a_light_message_is_not_lost() {
        let torn = |at, text: &[u8], lost: usize| {
            let properties = [text, &[b'x'; CRC_TAIL]].concat();
            let lost = properties.len() - lost..properties.len();
            looks_torn(&RecordView::layout(&record(at, &properties, lost)).unwrap(), &[])
        };
        let text = b"INNER_MULTI_QUEUE_OFFSET\x0173\x02INNER_MULTI_DISPATCH\x01%LMQ%b\x02";
        for at in 0..512 {
            assert!((1..=CRC_TAIL).all(|lost| !torn(at, text, lost)), "{at}");
            assert!(torn(at, text, CRC_TAIL + 1) && torn(at, b"INNER_MULTI_DISPATCH\x01%LMQ%b\x02", CRC_TAIL), "{at}");
        }
    }
}
