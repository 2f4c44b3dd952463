//! What goes wrong in a store, with the path, the cause and what the operator can do.

use std::{io, path::PathBuf};

use crate::space::NoSpace;

/// Why the store cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the directory.
    #[error("{} is in use by another broker (it holds the lock on {}/lock): stop that broker, or set another storePathRootDir", .root.display(), .root.display())]
    Locked {
        /// Root of the store.
        root: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {what} {}: {source}; check space, permissions and the device, then start again", .path.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// File or directory.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A file is not as long as it must be.
    #[error("{} has {found} bytes, {expected} are configured: set {key} to the size the store was made with, or remove the file if it is foreign", .path.display())]
    SegmentSize {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The size of all such files, in bytes.
        expected: u64,
        /// Configuration key.
        key: &'static str,
    },
    /// Segments do not follow each other.
    #[error("{} is missing but later segments exist: restore it, or move the segments below it away", .path.display())]
    MissingSegment {
        /// The file that should be there.
        path: PathBuf,
    },
    /// A raw append does not continue the log.
    #[error("bytes for offset {offset} do not continue the log, which ends at {end}")]
    NotAtEnd {
        /// Offset of the bytes.
        offset: i64,
        /// End of the log.
        end: i64,
    },
    /// The first bytes of an empty log must begin a segment.
    #[error(
        "an empty log cannot begin at offset {offset}: segments have {segment_size} bytes; both brokers need the same mappedFileSizeCommitLog"
    )]
    Misaligned {
        /// Offset of the bytes.
        offset: i64,
        /// Bytes a segment.
        segment_size: i64,
    },
    /// Durable records lie behind damage.
    #[error(
        "the commit log is damaged at offset {offset}, but whole records that were durable follow (one at {proven}): copy the segment from another replica, or set acceptLogDamage=true to drop everything from {offset} on"
    )]
    Damaged {
        /// First byte that is no record.
        offset: i64,
        /// A durable record behind it.
        proven: i64,
    },
    /// A truncation outside the log.
    #[error("offset {offset} is outside the log, which goes from {min} to {max}")]
    OutsideLog {
        /// Where it was to be cut.
        offset: i64,
        /// First byte.
        min: i64,
        /// End.
        max: i64,
    },
    /// Configuration that cannot work.
    #[error("{key} = {value}: {why}")]
    Config {
        /// Configuration key.
        key: &'static str,
        /// What was set.
        value: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Part of the data is in a RocksDB database.
    #[error("{} is a RocksDB database, made by a broker with {key}; only file stores are served. Nothing was changed: {advice}", .dir.display())]
    RocksDb {
        /// Directory of the database.
        dir: PathBuf,
        /// The key and value that made it.
        key: &'static str,
        /// What the operator can do.
        advice: &'static str,
    },
    /// The log of a DLedger group.
    #[error("{} is the commit log of a DLedger group (enableDLegerCommitLog=true), which is not served. Nothing was changed: serve it with the broker that made it, or move it away if the commit log beside it is the one that counts", .dir.display())]
    DLedger {
        /// Directory of that log.
        dir: PathBuf,
    },
    /// There are consume queues, but not the directory of their log.
    #[error("there are consume queues, but no commit log at {}. Nothing was changed: set storePathCommitLog, or mount its disk; to begin with an empty log, and lose the queues, make that directory", .dir.display())]
    NoLog {
        /// Where the log should be.
        dir: PathBuf,
    },
    /// A directory of this name would be deleted, if it were ours.
    #[error("{} was not made by a rebuild of this store: move it away", .path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// No space for bytes of a master; the store stays usable, and takes them when there is some.
    #[error("{0}; it goes on by itself when there is space")]
    NoSpace(NoSpace),
    /// An earlier write or fsync failed; nothing is acknowledged any more.
    #[error("the store has failed and must be restarted: {0}")]
    Failed(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Why nothing of a batch was stored.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// A record, or a client batch, is longer than allowed.
    #[error("{size} bytes do not fit: a record or client batch may have {limit}")]
    TooLarge {
        /// Bytes.
        size: u64,
        /// Allowed.
        limit: u64,
    },
    /// No space; the store stays usable, and takes messages again when there is some.
    #[error("{0}; writes resume by themselves when there is space")]
    NoSpace(NoSpace),
    /// Raw appended bytes are not dispatched yet, so queue offsets are not known.
    #[error(
        "bytes from {dispatched} to {end} came from a master and are not dispatched: dispatch or truncate them first"
    )]
    NotDispatched {
        /// Dispatched up to here.
        dispatched: i64,
        /// End of the raw bytes.
        end: i64,
    },
    /// This store follows a master: its log takes that one's bytes only.
    #[error("this broker is a slave: send to its master")]
    Slave,
    /// An earlier write or fsync failed; nothing is acknowledged any more.
    #[error("the store has failed and must be restarted: {0}")]
    Failed(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Names path and action where an I/O error is passed on.
pub(crate) trait IoContext<T> {
    fn at(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T, StoreError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io { what, path: path.into(), source })
    }
}

impl StoreError {
    /// True when a file is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// True when a write only lacked space. A failed sync is never harmless, whatever the reason.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::NoSpace(_) => true,
            Self::Io { what, source, .. } => {
                *what != "sync" && matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    /// True when something may be lost that was thought to be on disk: a write or a sync failed, not for want of space.
    pub(crate) fn is_failed_write(&self) -> bool {
        let harmless = ["delete", "list", "open", "read", "read the age of", "read the space of"];
        matches!(self, Self::Io { what, .. } if !harmless.contains(what)) && !self.is_disk_full()
    }
}
