//! What a verification found: counted all, told in detail up to a bound.

use std::collections::BTreeMap;

/// Findings of a kind that are told in detail.
const TOLD: u64 = 100;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// A log segment is missing, short, or misnamed.
    Segment,
    /// Bytes of the log that are no record, with records behind them.
    Record,
    /// A body is not what was stored.
    BodyCrc,
    /// A record is not what was stored: its CRC property says so.
    PropertyCrc,
    /// The log ends in bytes that are no record.
    LogTail,
    /// A queue file is missing, short, or misnamed.
    QueueFile,
    /// A unit does not say what its record says.
    UnitDiffers,
    /// A unit points to no record.
    UnitWithoutRecord,
    /// A record has no unit: consumers do not get it.
    RecordWithoutUnit,
    /// Header, slots or size of an index file do not fit its entries.
    IndexFile,
    /// An index entry does not say what its record says.
    EntryDiffers,
    /// An index entry points to no record.
    EntryWithoutRecord,
    /// A record has no index entry: queries by key do not find it.
    RecordWithoutEntry,
}

impl FindingKind {
    /// A word for scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Record => "record",
            Self::BodyCrc => "bodyCrc",
            Self::PropertyCrc => "propertyCrc",
            Self::LogTail => "logTail",
            Self::QueueFile => "queueFile",
            Self::UnitDiffers => "unitDiffers",
            Self::UnitWithoutRecord => "unitWithoutRecord",
            Self::RecordWithoutUnit => "recordWithoutUnit",
            Self::IndexFile => "indexFile",
            Self::EntryDiffers => "entryDiffers",
            Self::EntryWithoutRecord => "entryWithoutRecord",
            Self::RecordWithoutEntry => "recordWithoutEntry",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Kind.
    pub kind: FindingKind,
    /// Where and what.
    pub text: String,
}

/// All that is wrong.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    counts: BTreeMap<FindingKind, u64>,
    told: BTreeMap<FindingKind, u64>,
}

impl Findings {
    /// Adds one that stands for `count` places.
    pub(crate) fn add(&mut self, kind: FindingKind, count: u64, text: impl FnOnce() -> String) {
        *self.counts.entry(kind).or_default() += count;
        let told = self.told.entry(kind).or_default();
        *told += 1;
        if *told <= TOLD {
            self.list.push(Finding { kind, text: text() });
        }
    }

    /// True when nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The first of each kind, in the order they were found.
    pub fn list(&self) -> &[Finding] {
        &self.list
    }

    /// How many places are wrong, by kind.
    pub fn counts(&self) -> &BTreeMap<FindingKind, u64> {
        &self.counts
    }

    /// True when some are only counted.
    pub fn is_cut(&self) -> bool {
        self.told.values().any(|told| *told > TOLD)
    }
}

/// Places of one kind that follow each other make one finding.
#[derive(Default)]
pub(crate) struct Run {
    kind: Option<FindingKind>,
    first: i64,
    last: i64,
    at: i64,
}

impl Run {
    /// Adds a place of a row whose record is at `physical`.
    pub(crate) fn add(&mut self, kind: FindingKind, place: i64, physical: i64, row: &str, out: &mut Findings) {
        if self.kind == Some(kind) && place == self.last + 1 {
            self.last = place;
            return;
        }
        self.end(row, out);
        (self.kind, self.first, self.last, self.at) = (Some(kind), place, place, physical);
    }

    /// Tells what was gathered.
    pub(crate) fn end(&mut self, row: &str, out: &mut Findings) {
        let Some(kind) = self.kind.take() else { return };
        let (first, last, at) = (self.first, self.last, self.at);
        out.add(kind, (last - first + 1) as u64, || match (kind, first == last) {
            (FindingKind::UnitWithoutRecord, true) => {
                format!("queue {row}: unit {first} points to {at}, where no record of the queue is")
            }
            (FindingKind::UnitWithoutRecord, false) => {
                format!("queue {row}: units {first} to {last} have no record; the first points to {at}")
            }
            (_, true) => format!("queue {row}: the record at {at} has no unit {first}"),
            (_, false) => format!("queue {row}: records {first} to {last} have no units; the first is at {at}"),
        });
    }
}
