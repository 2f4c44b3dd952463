//! The message store: commit log, consume queues, index and checkpoint in Java's formats, over a [`Disk`].
//!
//! The commit log is the one truth; queues and index are views that [`Store::dispatch`] builds from it. Who must wait
//! waits for a [`Mark`]. The store opens no socket, spawns no task and no thread, and reads no clock but the one it was
//! given. A failed write or fsync is final: [`Store::failed`].

mod append;
mod batch;
mod build;
mod checkpoint;
mod config;
mod convert;
mod deleted;
mod disk;
mod dispatch;
mod error;
mod ext;
mod file_sizes;
mod forecast;
mod gather;
mod get;
mod handles;
mod index;
mod index_chain;
mod index_file;
mod index_format;
pub mod inspect;
mod late;
mod lmq;
mod log;
mod lookup;
mod mark;
mod multi_path;
mod other_log;
mod pieces;
mod progress;
mod queue;
mod queue_ext;
mod queues;
mod read;
mod read_only_file;
mod real_disk;
mod rebuild;
mod recover;
mod refusal;
mod remove;
mod rocksdb;
mod segments;
mod space;
mod store;
mod timer;
mod units;
mod walk;

pub use batch::{Batch, Entry};
pub use build::Arrival;
pub use checkpoint::Checkpoint;
pub use config::{BatchQueueTopics, LocalTime, StoreConfig};
pub use disk::{Clock, DirEntry, Disk, File, FileSystem, LockGuard, Usage};
pub use dispatch::ArrivalListener;
pub use error::{AppendError, StoreError};
pub use forecast::Forecast;
pub use get::{EveryMessage, GetResult, GetStatus, MessageFilter};
pub use lookup::Boundary;
pub use mark::{Mark, MarkWait, Marks};
pub use multi_path::LogDirs;
pub use pieces::ColdReads;
pub use progress::Progress;
pub use queue::Unit;
pub use read::{QueryResult, tags_key};
pub use real_disk::RealDisk;
pub use rebuild::{PassedOver, RebuildError, RebuildOptions, Rebuilt, rebuild};
pub use remove::{Retention, TopicDeletion};
pub use space::{DEFAULT_RESERVE, Deletion, NoSpace, Partition, SpaceLimits, SpaceSeen, Verdict, judge};
pub use store::{Directory, Store};
pub use timer::{
    Delivered, TIMER_CHECK_POINT, Timer, TimerCheckPoint, TimerConfig, TimerError, TimerFacts, TimerStatus, TopicCount,
};
