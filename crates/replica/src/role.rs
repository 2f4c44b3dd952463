//! What an acknowledgement to a producer means under a configuration, in one English line.
//!
//! Operators guess it otherwise (F-37). The line is written at start and again whenever a number in it changes. Pure
//! text: it decides nothing and changes no setting.

#[cfg(test)]
mod tests;

use std::fmt;

use thiserror::Error;

/// `brokerRole`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Acknowledges without waiting for slaves.
    AsyncMaster,
    /// Acknowledges when `inSyncReplicas` brokers hold the message.
    SyncMaster,
    /// Follows a master and takes no sends.
    Slave,
}

/// `flushDiskType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushType {
    /// Acknowledge when written to the file.
    Async,
    /// Acknowledge when fsynced.
    Sync,
}

/// What decides the meaning of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckPolicy {
    /// `brokerRole`.
    pub role: Role,
    /// `flushDiskType`.
    pub flush: FlushType,
    /// `inSyncReplicas`: copies before an acknowledgement, the master's included.
    pub in_sync_replicas: usize,
    /// `slaveTimeout`: how long a send waits for them.
    pub slave_timeout_ms: u64,
    /// Brokers of the group known now, this one included.
    pub known_members: usize,
}

/// The send timeout of a Java producer with defaults.
pub const CLIENT_SEND_TIMEOUT_MS: u64 = 3_000;

/// Something in a policy that does not do what its owner may think.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AckWarning {
    /// SYNC_MASTER with `inSyncReplicas` 0 or 1, upstream's default (W-20, T-21).
    #[error(
        "SYNC_MASTER with inSyncReplicas={in_sync_replicas} waits for no slave, because the master counts itself: \
         set inSyncReplicas=2 to have each acknowledged message on a slave too"
    )]
    WaitsForNobody {
        /// The setting.
        in_sync_replicas: usize,
    },
    /// More copies wanted than there are brokers.
    #[error(
        "inSyncReplicas={in_sync_replicas} but only {known_members} of the group's brokers known, this one included: \
         no send can succeed until {missing} more join(s)", missing = in_sync_replicas.saturating_sub(*known_members)
    )]
    TooFewMembers {
        /// The setting.
        in_sync_replicas: usize,
        /// Brokers known; less than the setting.
        known_members: usize,
    },
    /// The broker's answer comes after the client gave up (F-05).
    #[error(
        "slaveTimeout={slave_timeout_ms} ms is not below {CLIENT_SEND_TIMEOUT_MS} ms, where Java clients give up first \
         and send again: set slaveTimeout lower so that they see FLUSH_SLAVE_TIMEOUT"
    )]
    ClientGivesUpFirst {
        /// The setting.
        slave_timeout_ms: u64,
    },
}

impl AckPolicy {
    /// On how many copies, the master's included, an acknowledgement stands; 0 on a slave, which gives none.
    pub fn copies(&self) -> usize {
        match self.role {
            Role::Slave => 0,
            Role::AsyncMaster => 1,
            Role::SyncMaster => self.in_sync_replicas.max(1),
        }
    }

    /// What its owner should know, the worst first.
    pub fn warnings(&self) -> Vec<AckWarning> {
        let AckPolicy { in_sync_replicas, slave_timeout_ms, known_members, .. } = *self;
        if self.role != Role::SyncMaster {
            return Vec::new();
        }
        if in_sync_replicas <= 1 {
            return vec![AckWarning::WaitsForNobody { in_sync_replicas }];
        }
        let mut warnings = Vec::new();
        if in_sync_replicas > known_members {
            warnings.push(AckWarning::TooFewMembers { in_sync_replicas, known_members });
        }
        if slave_timeout_ms >= CLIENT_SEND_TIMEOUT_MS {
            warnings.push(AckWarning::ClientGivesUpFirst { slave_timeout_ms });
        }
        warnings
    }

    fn local_copy(&self) -> &'static str {
        match self.flush {
            FlushType::Async => {
                "ASYNC_FLUSH: SEND_OK means written to this broker's file, which survives a crash of the process but \
                 not of the machine"
            }
            FlushType::Sync => {
                "SYNC_FLUSH: SEND_OK means fsynced on this broker, which survives a crash of the machine"
            }
        }
    }
}

/// The line for the log, with its warnings.
impl fmt::Display for AckPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Role::Slave => f.write_str(
                "SLAVE: takes no sends; tells its master only of records that were checked and written here",
            )?,
            Role::AsyncMaster => {
                write!(f, "ASYNC_MASTER, {}; 1 copy, slaves follow without being waited for", self.local_copy())?;
            }
            Role::SyncMaster if self.copies() == 1 => write!(f, "SYNC_MASTER, {}; 1 copy", self.local_copy())?,
            Role::SyncMaster => write!(
                f,
                "SYNC_MASTER, {}, and held by {} brokers, this one included; FLUSH_SLAVE_TIMEOUT after {} ms otherwise",
                self.local_copy(),
                self.copies(),
                self.slave_timeout_ms
            )?,
        }
        self.warnings().iter().try_for_each(|warning| write!(f, ". WARNING: {warning}"))
    }
}
