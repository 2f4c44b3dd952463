//! Checks a whole store: each record of the log (framing, place, CRCs), each record against its queue units and index
//! entries, and the other way round. One pass over the log in large reads; beside it one cursor a queue and one over the
//! index, all going forward. Repairs nothing.

mod cursor;
mod entries;
mod findings;
mod queues;

use wire::record::RecordView;

use crate::{
    checkpoint::Checkpoint,
    deleted::Deleted,
    error::StoreError,
    inspect::{
        index,
        log::{Halt, Scanner},
        verify::{cursor::Ground, entries::EntryWalk, queues::QueueWalk},
        view::StoreView,
    },
    rebuild::swap,
};

pub use findings::{Finding, FindingKind, Findings};

/// Rounds of waiting for a unit that a running broker is about to write.
const PATIENCE: u32 = 40;

/// Hears how a long command gets on.
pub trait Watch {
    /// `done` bytes of the log of about `total` were read.
    fn progress(&mut self, done: u64, total: u64);
    /// Lets a running broker go on for a moment.
    fn pause(&mut self);
}

/// Result of a verification.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// First byte of the log.
    pub min: i64,
    /// End of its last record.
    pub end: i64,
    /// Bytes of it that were read.
    pub bytes: u64,
    /// Whole records.
    pub records: u64,
    /// Records with a CRC property.
    pub crc_properties: u64,
    /// Consume queues.
    pub queues: usize,
    /// Units that were compared.
    pub units: u64,
    /// Index entries that were compared.
    pub entries: u64,
    /// A broker had the store.
    pub running: bool,
    /// The last stop was clean.
    pub clean: bool,
    /// What is wrong.
    pub findings: Findings,
    /// What is worth knowing and not wrong.
    pub notes: Vec<String>,
}

/// Checks the store behind `view`.
pub fn verify(view: &StoreView, watch: &mut dyn Watch) -> Result<Verified, StoreError> {
    let mut walk = Walk::new(view, watch)?;
    walk.segments();
    walk.log()?;
    walk.finish()
}

struct Walk<'a> {
    view: &'a StoreView,
    watch: &'a mut dyn Watch,
    out: Verified,
    queues: QueueWalk,
    entries: Option<EntryWalk<'a>>,
    deleted: Deleted,
    /// A running broker had built the views up to here when the walk began.
    built: i64,
    /// Up to here units went to the files in the order of the log; after a kill later ones may lack any.
    in_order_to: i64,
    total: u64,
    error: Option<StoreError>,
    /// Records behind the last one that has its views were met.
    anything_missing: bool,
}

impl<'a> Walk<'a> {
    fn new(view: &'a StoreView, watch: &'a mut dyn Watch) -> Result<Self, StoreError> {
        let (running, clean) = (view.is_running(), view.is_clean());
        let min = view.log.min();
        let queues = QueueWalk::new(view, min)?;
        let options = &view.options;
        let geometry = view.geometry();
        let entries = match options.without_index {
            true => None,
            false => Some(EntryWalk::new(&*view.disk, index::find(&*view.disk, &view.root)?, geometry, !clean)),
        };
        let checkpoint = Checkpoint::load(&*view.disk, &view.root)?;
        let proof = checkpoint.exact_proof();
        let built = match (running, proof) {
            // What is newer waits in memory, of one queue longer than of another.
            (true, Some(proof)) => queues.built.min(proof.saturating_add(1)),
            (true, None) => queues.built,
            (false, _) => i64::MAX,
        };
        let in_order_to = match proof {
            Some(proof) if !clean => proof.saturating_add(1),
            // Killed before anything was flushed.
            None if !clean && checkpoint == Checkpoint::default() => 0,
            _ => i64::MAX,
        };
        view.log.refresh()?;
        let end = if queues.built > 0 { queues.built } else { view.log.files_end() };
        let mut out = Verified { min, running, clean, queues: queues.count(), ..Verified::default() };
        out.notes.extend(swap::unfinished(&*view.disk, &view.root));
        out.notes.extend(view.not_looked_at());
        Ok(Self {
            view,
            watch,
            out,
            queues,
            entries,
            deleted: view.deleted()?,
            built,
            in_order_to,
            total: (end - min).max(0) as u64,
            error: None,
            anything_missing: false,
        })
    }

    /// Sizes and names of the segments.
    fn segments(&mut self) {
        let log = &self.view.log;
        let found = log.segments();
        let last = found.last().map_or(0, |last| last.base);
        for (number, segment) in found.iter().enumerate() {
            let expected = found[0].base + number as i64 * log.size();
            if segment.base != expected && (number == 0 || segment.base != found[number - 1].base + log.size()) {
                self.out.findings.add(FindingKind::Segment, 1, || {
                    format!(
                        "segment {:020} does not follow the one before: segments have {} bytes",
                        segment.base,
                        log.size()
                    )
                });
            }
            let unused = segment.base == last && segment.len == 0;
            if segment.len as i64 != log.size() && !unused && !self.out_of_sight(segment.base) {
                self.out.findings.add(FindingKind::Segment, 1, || {
                    format!("segment {:020} has {} bytes, segments have {}", segment.base, segment.len, log.size())
                });
            }
        }
    }

    /// A running broker may be making the segment.
    fn out_of_sight(&self, base: i64) -> bool {
        self.out.running && base >= self.built
    }

    fn log(&mut self) -> Result<(), StoreError> {
        let mut scanner = Scanner::new(&self.view.log, self.out.min);
        loop {
            let halt = scanner.step(|record| self.record(record))?;
            self.error.take().map_or(Ok(()), Err)?;
            self.out.end = if scanner.after_blank { self.out.end } else { self.out.end.max(scanner.at) };
            self.out.bytes = (scanner.at - self.out.min).max(0) as u64;
            self.watch.progress(self.out.bytes, self.total.max(self.out.bytes));
            let goes_on = match halt {
                Halt::More => true,
                Halt::NoSegment => self.no_segment(&mut scanner)?,
                Halt::Zeros | Halt::Bad(_) if self.out.running && scanner.at >= self.built => false,
                Halt::Zeros => self.zeros(&mut scanner)?,
                Halt::Bad(reason) => self.bad(&mut scanner, &reason)?,
            };
            self.error.take().map_or(Ok(()), Err)?;
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// The segment is missing, was taken by retention, or the log ends with the last one.
    fn no_segment(&mut self, scanner: &mut Scanner<'_>) -> Result<bool, StoreError> {
        self.view.log.refresh()?;
        let next = self.view.log.segments().iter().map(|found| found.base).find(|base| *base >= scanner.at);
        let Some(next) = next else { return Ok(false) };
        if next == scanner.at {
            // Made since the directory was listed, or a file of no bytes.
            return Ok(self.view.log.read(next, &mut [0; 1])? > 0);
        }
        let at = scanner.at;
        if self.out.running && next == self.view.log.min() {
            self.out
                .notes
                .push(format!("retention removed the log up to {next} during the run: not checked from {at} on"));
        } else {
            self.out.findings.add(FindingKind::Segment, 1, || format!("the log from {at} to {next} is missing"));
        }
        scanner.at = next;
        Ok(true)
    }

    fn zeros(&mut self, scanner: &mut Scanner<'_>) -> Result<bool, StoreError> {
        let at = scanner.at;
        if scanner.resync()? {
            self.hole(at, scanner.at, "zeros");
            return Ok(true);
        }
        if let Some(stale) = scanner.first_byte(at)? {
            self.out.notes.push(format!(
                "bytes behind the end of the log ({at}) are not zero from {stale} on: left from before a truncation"
            ));
        }
        Ok(false)
    }

    fn bad(&mut self, scanner: &mut Scanner<'_>, reason: &str) -> Result<bool, StoreError> {
        let at = scanner.at;
        if let Some(size) = self.only_body(at, reason)? {
            scanner.at += size;
            return Ok(true);
        }
        if scanner.resync()? {
            self.hole(at, scanner.at, reason);
            return Ok(true);
        }
        self.out.findings.add(FindingKind::LogTail, 1, || {
            format!("the log ends at {at} in bytes that are no record ({reason}): the next start cuts them off")
        });
        Ok(false)
    }

    fn hole(&mut self, at: i64, next: i64, reason: &str) {
        self.out.findings.add(FindingKind::Record, 1, || {
            format!("bytes {at} to {next} of the log are no records ({reason}); whole records follow")
        });
    }

    /// A record whose lengths fit and whose body does not: its views are still compared. Returns its size.
    fn only_body(&mut self, at: i64, reason: &str) -> Result<Option<i64>, StoreError> {
        let Some(bytes) = self.view.log.layout(at)? else { return Ok(None) };
        let Some(record) = RecordView::layout(&bytes) else { return Ok(None) };
        self.out.findings.add(FindingKind::BodyCrc, 1, || {
            let (topic, queue_id, offset) = (record.topic(), record.queue_id(), record.queue_offset());
            format!("the record at {at} (topic {topic}, queue {queue_id}, offset {offset}) is damaged: {reason}")
        });
        self.record(&record);
        Ok(Some(bytes.len() as i64))
    }

    fn record(&mut self, record: &RecordView<'_>) {
        self.out.records += 1;
        if let Some(whole) = wire::record_crc::holds(record.bytes()) {
            self.out.crc_properties += 1;
            if !whole {
                let at = record.physical_offset();
                self.out.findings.add(FindingKind::PropertyCrc, 1, || {
                    format!(
                        "the record at {at} (topic {}) does not have the CRC of its property __CRC32#",
                        record.topic()
                    )
                });
            }
        }
        if self.error.is_none() && record.physical_offset() < self.built {
            self.error = self.views(record).err();
        }
    }

    /// Compares the views of a record.
    fn views(&mut self, record: &RecordView<'_>) -> Result<(), StoreError> {
        let hidden = self.deleted.hides(record.topic(), record.physical_offset());
        let mut patience = if self.out.running { PATIENCE } else { 0 };
        let findings = &mut self.out.findings;
        let mut ground = Ground { log: &self.view.log, findings, log_min: self.out.min };
        let mut missing = self.queues.take(record, hidden, &mut ground, &mut || wait(&mut patience, self.watch))?;
        if let Some(entries) = &mut self.entries {
            entries.want(record, hidden);
            while entries.take(record, &mut ground)? {
                if !wait(&mut patience, self.watch) {
                    entries.miss(record.physical_offset());
                    missing = true;
                    break;
                }
            }
        }
        if missing {
            self.anything_missing = true;
        } else if self.anything_missing {
            // Views are built in the order of the log: what lacks them before one that has them lacks them for good.
            self.settle_if_built(record);
        }
        Ok(())
    }

    fn settle_if_built(&mut self, record: &RecordView<'_>) {
        if !self.queues.has_unit(record) || record.physical_offset() >= self.in_order_to {
            return;
        }
        if self.entries.as_ref().is_none_or(|entries| entries.missing.is_none() || entries.has_entry()) {
            self.settle();
        } else {
            self.queues.settle(&mut self.out.findings);
        }
    }

    fn settle(&mut self) {
        self.anything_missing = false;
        let mut ground = Ground { log: &self.view.log, findings: &mut self.out.findings, log_min: self.out.min };
        self.queues.settle(ground.findings);
        if let Some(entries) = &mut self.entries {
            entries.settle(&mut ground);
        }
    }

    fn finish(mut self) -> Result<Verified, StoreError> {
        let new_from = if self.out.running { self.built } else { i64::MAX };
        // Only a broker that did not stop cleanly may be behind with its views, and not with all of them.
        let may_lag = !self.out.clean && self.queues.any_unit();
        match self.queues.behind() {
            Some((from, records)) if may_lag => self
                .out
                .notes
                .push(format!("{records} records from {from} on have no units yet: the next start builds them")),
            _ if may_lag => {}
            _ => self.settle(),
        }
        let mut ground = Ground { log: &self.view.log, findings: &mut self.out.findings, log_min: self.out.min };
        self.queues.finish(new_from, &mut ground)?;
        let in_order_to = if may_lag { self.in_order_to } else { i64::MAX };
        self.queues.report(self.view, may_lag, in_order_to, ground.findings, &mut self.out.notes);
        if let Some(entries) = &mut self.entries {
            entries.finish(new_from, &mut ground)?;
            // As with the units: not with all of them.
            if !may_lag || entries.entries == 0 {
                entries.settle(&mut ground);
            } else if let Some(missing) = entries.missing {
                let (from, count) = (missing.first, missing.count);
                self.out.notes.push(format!(
                    "{count} keys of records from {from} on have no index entry yet: the next start makes them"
                ));
            }
            if entries.table_skipped {
                self.out.notes.push("header and slots of the index file that is being filled are not compared: a start after this stop makes them anew".into());
            }
            if entries.sizes_unknown {
                self.out.notes.push("entries of the index file that is being filled are not compared: it does not tell its sizes yet; give maxHashSlotNum and maxIndexNum".into());
            }
            self.out.entries = entries.entries;
        }
        self.out.units = self.queues.units();
        Ok(self.out)
    }
}

fn wait(patience: &mut u32, watch: &mut dyn Watch) -> bool {
    if *patience == 0 {
        return false;
    }
    *patience -= 1;
    watch.pause();
    true
}
