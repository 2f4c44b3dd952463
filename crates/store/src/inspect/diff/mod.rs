//! Compares two store directories that should hold the same: replicas of one broker. Log by bytes, consume queues by
//! units, progress and configuration by entries. Up to the ends that are seen when it begins, so both brokers may go on
//! meanwhile. What one side merely has less of is told as being behind, not as another content.
//!
//! The index and the timer's files are views that `verify` compares with the log; they are not compared with each other.

mod extent;
mod log;
mod queues;
mod tables;

use std::collections::BTreeMap;

use crate::{
    error::StoreError,
    inspect::{
        places::{LogContent, LogPlace, Places},
        verify::Watch,
        view::StoreView,
    },
};
use extent::Extent;

/// Rows of a part that are told one by one.
const TOLD: u64 = 100;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Which bytes of the log are there.
    Range,
    /// The bytes of the log that both have.
    Log,
    /// Consume queues.
    Queue,
    /// Progress of consumers.
    Progress,
    /// Progress of the delay levels.
    Delay,
    /// Check point of the timer.
    Timer,
    /// Topics.
    Topic,
    /// Consumer groups.
    Group,
    /// Request modes of pop.
    RequestMode,
    /// Data versions of the tables.
    Version,
}

impl Part {
    /// A word for scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::Log => "log",
            Self::Queue => "queue",
            Self::Progress => "progress",
            Self::Delay => "delay",
            Self::Timer => "timer",
            Self::Topic => "topic",
            Self::Group => "group",
            Self::RequestMode => "requestMode",
            Self::Version => "dataVersion",
        }
    }
}

/// What a row means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Worth knowing; no difference of what should be equal.
    Note,
    /// One side has less of the same.
    Behind,
    /// The sides contradict each other.
    Different,
}

impl Weight {
    /// A word for scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Behind => "behind",
            Self::Different => "different",
        }
    }
}

/// One thing that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What was compared.
    pub part: Part,
    /// What it means.
    pub weight: Weight,
    /// Which one of its part.
    pub name: String,
    /// What the first store has.
    pub a: String,
    /// What the second one has.
    pub b: String,
}

/// Bytes of the log that both have and that are not equal, from the start of a place to where both agree again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDifference {
    /// The first byte that differs.
    pub first: i64,
    /// Where the records around it begin to be compared again.
    pub to: i64,
    /// Where that byte lies in the first store.
    pub a: LogPlace,
    /// Where it lies in the second store.
    pub b: LogPlace,
}

/// What one side is.
#[derive(Clone, Debug, Default)]
pub struct SideFacts {
    /// A broker had the store.
    pub running: bool,
    /// The last stop was clean.
    pub clean: bool,
    /// First byte of the log.
    pub min: i64,
    /// End of its last record.
    pub end: i64,
    /// Bytes of a log segment.
    pub segment_size: i64,
}

/// Result of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// The two stores.
    pub sides: [SideFacts; 2],
    /// Stretches of the log that both have.
    pub common: Vec<(i64, i64)>,
    /// Bytes of them that were compared.
    pub bytes: u64,
    /// Stretches of the log whose bytes differ, the first ones.
    pub log: Vec<LogDifference>,
    /// Queues that are in both.
    pub queues: u64,
    /// Units that were compared.
    pub units: u64,
    /// All that is not the same, a bounded number of each part.
    pub rows: Vec<Row>,
    /// How many there are of each part and weight.
    pub counts: BTreeMap<(Part, Weight), u64>,
}

impl Compared {
    /// The heaviest weight of all rows; [`Weight::Note`] for equal stores.
    pub fn verdict(&self) -> Weight {
        self.counts.keys().map(|(_, weight)| *weight).max().unwrap_or(Weight::Note)
    }

    /// Some rows are counted, but not in the list.
    pub fn is_cut(&self) -> bool {
        self.counts.values().sum::<u64>() > self.rows.len() as u64
    }

    /// One of the brokers runs: what is ahead on one side may arrive at the other one at any moment.
    fn any_running(&self) -> bool {
        self.sides.iter().any(|side| side.running)
    }

    fn add(&mut self, part: Part, weight: Weight, name: impl Into<String>, [a, b]: [String; 2]) {
        let count = self.counts.entry((part, weight)).or_default();
        *count += 1;
        if *count <= TOLD {
            self.rows.push(Row { part, weight, name: name.into(), a, b });
        }
    }
}

/// Compares the stores behind `a` and `b`.
pub fn diff(a: &StoreView, b: &StoreView, watch: &mut dyn Watch) -> Result<Compared, StoreError> {
    let views = [a, b];
    let extents = [Extent::of(a)?, Extent::of(b)?];
    let mut out = Compared::default();
    for (side, (view, extent)) in out.sides.iter_mut().zip(views.iter().zip(&extents)) {
        *side = SideFacts {
            running: view.is_running(),
            clean: view.is_clean(),
            min: extent.min,
            end: extent.end,
            segment_size: view.log.size(),
        };
    }
    extent::compare(&extents, &mut out);
    log::compare(views, watch, &mut out)?;
    queues::compare(views, &extents, watch, &mut out)?;
    tables::compare(views, &mut out)?;
    Ok(out)
}
