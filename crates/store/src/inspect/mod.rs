//! Looking into a store directory from outside: a read-only view, what is in it, the check of a whole store and the
//! comparison of two over it. Takes no lock, writes nothing, and bears that a broker writes meanwhile.

mod by_key;
mod diff;
mod facts;
pub(crate) mod fit;
pub(crate) mod index;
pub(crate) mod log;
pub(crate) mod overlay;
mod places;
pub(crate) mod queues;
mod read_only;
mod recovery;
mod select;
pub(crate) mod verify;
pub(crate) mod view;

pub(crate) use log::{LogFiles, Scanner};

pub use diff::{Compared, LogDifference, Part, Row, SideFacts, Weight, diff};
pub use facts::{ConfigFacts, ConfigState, Facts, IndexFacts, QueueFacts, inspect};
pub use places::{LogContent, LogPlace, RecordName};
pub use recovery::{QueueChange, Recovery};
pub use select::{Found, Reader, Selection, read, read_one};
pub use verify::{Finding, FindingKind, Findings, Verified, Watch, verify};
pub use view::{StoreView, ViewError, ViewOptions};
