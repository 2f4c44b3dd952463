//! Walks one consume queue beside the log. Units and records of a queue come in the same order, so the next unit must
//! be the one of the next record; what is left on either side is a finding. Holds a small piece of the queue at a time.

use std::ops::Range;

use wire::{record::RecordView, topic};

use crate::{
    error::StoreError,
    inspect::{
        log::LogFiles,
        queues::QueueFiles,
        verify::findings::{FindingKind, Findings, Run},
    },
    queue::{Kind, Unit, decode},
};

/// What the cursors need of the rest.
pub(crate) struct Ground<'a> {
    pub(crate) log: &'a LogFiles,
    pub(crate) findings: &'a mut Findings,
    /// First byte of the log when the walk began.
    pub(crate) log_min: i64,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has a unit, right or wrong.
    Found,
    /// It has none, and the queue ends here: it may not have been built yet.
    AtEnd,
    /// Its number belongs to another record.
    Taken,
}

/// Records at the end of a queue that have no units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) physical: i64,
    pub(crate) last_physical: i64,
    pub(crate) count: u64,
}

impl Missing {
    /// Nothing yet, but beginning with the record `number` at `physical`.
    pub(crate) fn from(number: i64, physical: i64) -> Self {
        Self { first: number, last: number, physical, last_physical: physical, count: 0 }
    }

    /// Adds `count`, the last one of the record `number` at `physical`.
    pub(crate) fn add(&mut self, number: i64, physical: i64, count: u64) {
        (self.last, self.last_physical) = (number, physical);
        self.count += count;
    }
}

/// One queue and how far it was compared.
pub(crate) struct Cursor {
    pub(crate) queue: QueueFiles,
    pub(crate) name: String,
    next: i64,
    buf: Vec<u8>,
    buffered: Range<i64>,
    at_once: usize,
    /// Records before this place of the log have numbers that a later life of the queue uses again.
    taken_until: i64,
    pub(crate) taken: u64,
    pub(crate) missing: Option<Missing>,
    run: Run,
    /// Delay of the queue's level, learned from its first unit where the configuration is not known.
    pub(crate) delay_ms: Option<i64>,
    pub(crate) units: u64,
}

impl Cursor {
    /// Begins at the first unit whose record is still in a log that begins at `log_min`.
    pub(crate) fn new(queue: QueueFiles, log_min: i64, at_once: usize) -> Result<Self, StoreError> {
        let next = queue.first_at(log_min, queue.end()?)?;
        Ok(Self {
            name: queue.name(),
            queue,
            next,
            buf: Vec::new(),
            buffered: 0..0,
            at_once,
            taken_until: 0,
            taken: 0,
            missing: None,
            run: Run::default(),
            delay_ms: None,
            units: 0,
        })
    }

    /// The unit at the cursor: `None` where zeros are or the files end.
    fn peek(&mut self) -> Result<Option<Unit>, StoreError> {
        if !self.buffered.contains(&self.next) {
            self.fill()?;
        }
        let Some(bytes) = self.bytes() else { return Ok(None) };
        if bytes.iter().all(|byte| *byte == 0) {
            // Perhaps it was written meanwhile: look again the next time.
            let at = self.next;
            self.buffered.end = at;
            return Ok(None);
        }
        Ok(Some(decode(self.queue.kind, self.next, bytes)))
    }

    fn fill(&mut self) -> Result<(), StoreError> {
        // A queue that is hardly used shall not cost a whole piece.
        let count = if self.buffered.end == self.next { self.at_once } else { self.at_once.min(64) };
        let read = self.queue.read(self.next, count, &mut self.buf)?;
        self.buffered = self.next..self.next + read as i64;
        Ok(())
    }

    fn bytes(&self) -> Option<&[u8]> {
        let size = self.queue.kind.unit_size();
        let at = usize::try_from(self.next - self.buffered.start).ok()? * size;
        self.buffered.contains(&self.next).then(|| self.buf.get(at..at + size))?
    }

    /// The unit at the cursor leads to this place.
    pub(crate) fn is_at(&mut self, physical: i64) -> Result<bool, StoreError> {
        Ok(self.peek()?.is_some_and(|unit| unit.physical_offset == physical))
    }

    /// Compares the unit `want`, encoded in `bytes`, which a record of the log calls for.
    pub(crate) fn take(&mut self, want: &Unit, bytes: &[u8], ground: &mut Ground<'_>) -> Result<Outcome, StoreError> {
        loop {
            let Some(have) = self.peek()? else {
                if self.skip_hole(want)? {
                    continue;
                }
                let taken = self.queue.kind == Kind::Simple && want.queue_offset < self.next;
                return Ok(if taken { Outcome::Taken } else { Outcome::AtEnd });
            };
            if have.is_filler() && self.queue.kind == Kind::Simple && want.queue_offset > self.next {
                if have.tags_code != 0 {
                    self.differs(&Unit { tags_code: 0, ..have }, ground);
                }
                self.next += 1;
                continue;
            }
            if have.physical_offset == want.physical_offset {
                self.compare(&have, want, bytes, ground)?;
                return Ok(Outcome::Found);
            }
            if let Some(outcome) = self.elsewhere(&have, want, ground)? {
                return Ok(outcome);
            }
        }
    }

    /// Zeros at the cursor, but the unit that is called for lies behind them.
    fn skip_hole(&mut self, want: &Unit) -> Result<bool, StoreError> {
        let skip = self.queue.kind == Kind::Simple
            && want.queue_offset > self.next
            && self.queue.unit_at(want.queue_offset)?.is_some();
        if skip {
            self.next = want.queue_offset;
            self.buffered = 0..0;
        }
        Ok(skip)
    }

    fn compare(&mut self, have: &Unit, want: &Unit, bytes: &[u8], ground: &mut Ground<'_>) -> Result<(), StoreError> {
        self.units += 1;
        // A simple unit does not say its offset: its place is it.
        let elsewhere = self.queue.kind == Kind::Simple && want.queue_offset != self.next;
        if elsewhere || (self.bytes() != Some(bytes) && !self.is_extended(have, want)?) {
            self.differs(want, ground);
        }
        self.next += 1;
        Ok(())
    }

    /// The unit holds an address, and what is there says the same.
    fn is_extended(&self, have: &Unit, want: &Unit) -> Result<bool, StoreError> {
        let same = (have.physical_offset, have.size) == (want.physical_offset, want.size);
        let code = self.queue.tags_code(have)?;
        Ok(same && self.queue.kind == Kind::Simple && code == Some(want.tags_code))
    }

    fn differs(&mut self, want: &Unit, ground: &mut Ground<'_>) {
        self.run.end(&self.name, ground.findings);
        let have = self.bytes().map(|bytes| decode(self.queue.kind, self.next, bytes));
        let (name, place) = (&self.name, self.next);
        ground.findings.add(FindingKind::UnitDiffers, 1, || {
            let Some(have) = have else { return format!("queue {name}: unit {place} cannot be read") };
            format!(
                "queue {name}: unit {place} says offset {} count {} at {} size {} code {}, its record says offset {} count {} at {} size {} code {}",
                have.queue_offset, have.count, have.physical_offset, have.size, have.tags_code,
                want.queue_offset, want.count, want.physical_offset, want.size, want.tags_code,
            )
        });
    }

    /// The unit at the cursor points elsewhere than to the record that calls for `want`.
    fn elsewhere(&mut self, have: &Unit, want: &Unit, ground: &mut Ground<'_>) -> Result<Option<Outcome>, StoreError> {
        if want.physical_offset < self.taken_until || self.lived_before(have, want, ground.log)? {
            return Ok(Some(Outcome::Taken));
        }
        let behind = match self.queue.kind {
            Kind::Simple if want.queue_offset < self.next => return Ok(Some(Outcome::Taken)),
            Kind::Simple => want.queue_offset > self.next,
            Kind::Batch => have.physical_offset < want.physical_offset,
        };
        if behind {
            self.without_record(have, ground);
            return Ok(None);
        }
        if self.holds(have, ground.log)? {
            return Ok(Some(Outcome::Taken));
        }
        self.differs(want, ground);
        self.next += 1;
        Ok(Some(Outcome::Found))
    }

    /// The number of the record comes again, or one before it does, further on in the log: the topic was deleted and made
    /// again in between. A Java broker leaves no other word of that.
    fn lived_before(&mut self, have: &Unit, want: &Unit, log: &LogFiles) -> Result<bool, StoreError> {
        let number = if self.queue.kind == Kind::Simple { self.next } else { want.queue_offset };
        let later = have.physical_offset > want.physical_offset && number <= want.queue_offset;
        if !later || !self.holds(have, log)? {
            return Ok(false);
        }
        self.taken_until = have.physical_offset;
        Ok(true)
    }

    fn without_record(&mut self, have: &Unit, ground: &mut Ground<'_>) {
        // Retention took it during the walk.
        let gone = (ground.log_min..ground.log.min()).contains(&have.physical_offset);
        if !gone && !have.is_filler() {
            self.run.add(FindingKind::UnitWithoutRecord, self.next, have.physical_offset, &self.name, ground.findings);
        }
        self.next += 1;
    }

    /// True when the log has a record of this queue and number where the unit points to.
    fn holds(&self, unit: &Unit, log: &LogFiles) -> Result<bool, StoreError> {
        let Some(bytes) = log.record(unit.physical_offset)? else { return Ok(false) };
        let Some(record) = RecordView::layout(&bytes) else { return Ok(false) };
        let foreign = self.queue.topic.starts_with(topic::LMQ_PREFIX);
        let same = record.topic() == &*self.queue.topic && record.queue_id() == self.queue.queue_id;
        let numbered = foreign || self.queue.kind == Kind::Batch || record.queue_offset() == unit.queue_offset;
        Ok((foreign || same) && numbered)
    }

    /// The record has no unit and the queue goes on behind it.
    pub(crate) fn record_without_unit(&mut self, number: i64, physical: i64, findings: &mut Findings) {
        self.run.add(FindingKind::RecordWithoutUnit, number, physical, &self.name, findings);
    }

    /// Numbers of records before this place belong to a later life of the queue.
    pub(crate) fn taken_until(&self) -> i64 {
        self.taken_until
    }

    /// Remembers a record at the end of the queue.
    pub(crate) fn miss(&mut self, number: i64, physical: i64) {
        self.missing.get_or_insert(Missing::from(number, physical)).add(number, physical, 1);
    }

    /// What was missing at the end is damage after all.
    pub(crate) fn settle(&mut self, findings: &mut Findings) {
        let Some(missing) = self.missing.take() else { return };
        let name = &self.name;
        findings.add(FindingKind::RecordWithoutUnit, missing.count, || {
            let Missing { first, last, physical, count, .. } = missing;
            format!("queue {name}: {count} records ({first} to {last}) have no units; the first is at {physical}")
        });
    }

    /// The log was read to `log_end`: what is left in the queue has no record. Units beyond `new_from` came meanwhile.
    pub(crate) fn finish(&mut self, new_from: i64, ground: &mut Ground<'_>) -> Result<(), StoreError> {
        let end = self.queue.end()?;
        loop {
            match self.peek()? {
                Some(unit) if unit.physical_offset >= new_from && !unit.is_filler() => break,
                Some(unit) => self.without_record(&unit, ground),
                None if self.next < end => self.next += 1,
                None => break,
            }
        }
        self.run.end(&self.name, ground.findings);
        Ok(())
    }
}
