//! The log as a row of places: records, damaged records, the filler of a segment, and what is none of these. Names the
//! place that holds a byte; goes forward only. Judges nothing.

use std::collections::VecDeque;

use wire::record::RecordView;

use crate::{
    error::StoreError,
    inspect::log::{Halt, LogFiles, Scanner},
};

/// Places that one look keeps at hand at most, but for those of one piece of the log.
const AHEAD: usize = 1 << 16;

/// A stretch of the log and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// First byte.
    pub from: i64,
    /// First byte behind it.
    pub to: i64,
    /// What it holds.
    pub what: LogContent,
}

/// What a stretch of the log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogContent {
    /// A whole record.
    Record(RecordName),
    /// A record whose lengths fit, but not its body's CRC.
    Damaged(RecordName),
    /// What is left of a segment behind its last record.
    Filler,
    /// No record, and why.
    Nothing(String),
}

/// What tells a record from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordName {
    /// Topic.
    pub topic: String,
    /// Queue.
    pub queue_id: i32,
    /// Number in the queue.
    pub queue_offset: i64,
    /// Store time, milliseconds.
    pub store_timestamp: i64,
}

impl RecordName {
    fn of(record: &RecordView<'_>) -> Self {
        Self {
            topic: record.topic().to_owned(),
            queue_id: record.queue_id(),
            queue_offset: record.queue_offset(),
            store_timestamp: record.store_timestamp(),
        }
    }
}

impl LogPlace {
    fn record(record: &RecordView<'_>, what: fn(RecordName) -> LogContent) -> Self {
        let from = record.physical_offset();
        Self { from, to: from + record.size() as i64, what: what(RecordName::of(record)) }
    }
}

/// Walks over the places.
pub(crate) struct Places<'a> {
    log: &'a LogFiles,
    scanner: Scanner<'a>,
    ahead: VecDeque<LogPlace>,
    /// Where the log ends for the reader.
    end: i64,
}

impl<'a> Places<'a> {
    /// Places of a log that ends at `end`.
    pub(crate) fn new(log: &'a LogFiles, end: i64) -> Self {
        Self { log, scanner: Scanner::new(log, log.min()), ahead: VecDeque::new(), end }
    }

    /// The place that holds the byte at `offset`, which must not be smaller than at the call before.
    pub(crate) fn at(&mut self, offset: i64) -> Result<LogPlace, StoreError> {
        let base = offset - offset % self.log.size();
        let reached = self.ahead.back().map_or(self.scanner.at, |last| last.to);
        if reached < base {
            // Each segment begins with a record.
            self.ahead.clear();
            self.scanner = Scanner::new(self.log, base);
        }
        loop {
            while let Some(place) = self.ahead.front() {
                if place.to > offset {
                    return Ok(place.clone());
                }
                self.ahead.pop_front();
            }
            self.look(offset)?;
        }
    }

    /// Takes in one more piece of the log.
    fn look(&mut self, offset: i64) -> Result<(), StoreError> {
        let (log, from) = (self.log, self.scanner.at);
        let (ahead, mut to) = (&mut self.ahead, from);
        let halt = self.scanner.step(|record| {
            to = record.physical_offset() + record.size() as i64;
            if to > offset && ahead.len() < AHEAD {
                ahead.push_back(LogPlace::record(record, LogContent::Record));
            }
        })?;
        if ahead.len() >= AHEAD {
            // Goes on from here the next time.
            self.scanner.at = ahead.back().map_or(to, |last| last.to);
            return Ok(());
        }
        let why = match halt {
            Halt::More if self.scanner.after_blank => {
                self.ahead.push_back(LogPlace { from: to, to: self.scanner.at, what: LogContent::Filler });
                return Ok(());
            }
            Halt::More => return Ok(()),
            Halt::NoSegment => "the segment is missing".to_owned(),
            Halt::Zeros => "zeros".to_owned(),
            Halt::Bad(why) => why,
        };
        let at = self.scanner.at;
        if let Some(bytes) = log.layout(at)?
            && let Some(record) = RecordView::layout(&bytes)
        {
            self.ahead.push_back(LogPlace::record(&record, LogContent::Damaged));
            self.scanner.at = at + bytes.len() as i64;
            return Ok(());
        }
        if !self.scanner.resync()? {
            self.scanner.at = self.end.max(offset + 1);
        }
        self.ahead.push_back(LogPlace { from: at, to: self.scanner.at, what: LogContent::Nothing(why) });
        Ok(())
    }
}
