//! Replication between the brokers of a group, as state machines without I/O.
//!
//! What is here speaks the *classic* HA protocol byte for byte: a slave reports where its commit log ends, the master
//! streams raw commit log bytes from there, and later reports are acknowledgements. A session is driven by bytes,
//! ticks and store marks; it answers with actions (send this range, append these bytes, close and say why). A thin
//! socket shell carries them out, and a simulation may carry them out in memory: the same inputs in the same order
//! always give the same actions.
//!
//! This crate never opens a socket or a file, never reads a clock (time is a monotonic `now_ms` handed in) and never
//! draws a random number.
//!
//! | module | holds |
//! |---|---|
//! | [`frame`] | the bytes on the wire |
//! | [`master`] | one connection from a slave, on the master |
//! | [`slave`] | one connection to a master, on the slave |
//! | [`check`] | validation of received log bytes before they are stored and acknowledged |
//! | [`acks`] | who holds how much, counted once per replica |
//! | [`role`] | what an acknowledgement means under a configuration, in words |
//!
//! Offsets are physical offsets (byte positions in the commit log), `i64` as on the wire and never negative once
//! accepted. Controller mode speaks another protocol on the same port; its sessions will stand beside [`master`] and
//! [`slave`] and share [`check`] and [`acks`].

pub mod acks;
pub mod check;
pub mod frame;
pub mod master;
mod pacer;
pub mod role;
pub mod slave;

pub use acks::AckTable;
pub use check::{CheckError, RecordCursor};
pub use master::{MasterAction, MasterClose, MasterSession, MasterSettings};
pub use role::{AckPolicy, AckWarning, FlushType, Role};
pub use slave::{Reconnect, SessionEnd, SlaveAction, SlaveClose, SlaveSession, SlaveSettings};

/// Upstream's default of `mappedFileSizeCommitLog`: bytes in one commit log segment.
pub const DEFAULT_SEGMENT_SIZE: i64 = 1 << 30;
/// Upstream's default of `haSendHeartbeatInterval`, both sides.
pub const DEFAULT_HEARTBEAT_INTERVAL_MS: u64 = 5_000;
/// Upstream's default of `haHousekeepingInterval`, both sides.
pub const DEFAULT_HOUSEKEEPING_INTERVAL_MS: u64 = 20_000;
