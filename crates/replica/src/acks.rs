//! Who holds how much of the log: one acknowledged offset for each replica.
//!
//! In classic mode a replica is what the shell can tell of it, such as the address it comes from; one that connects
//! twice counts once, and the newest connection replaces the older (W-2). The table never counts an acknowledgement
//! beyond the master's own end (W-1). It waits for nobody and wakes nobody: [`AckTable::replicated`] is one offset that
//! the caller publishes as a watermark, so acks are matched by offset and none waits behind another (W-19). The offset
//! may step back when a replica leaves; to keep a mark from doing so while a term lasts is the caller's part.
//!
//! Memory is one entry for each open connection; their number is the listener's bound.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

/// A number the shell gives each connection, never used twice.
pub type ConnectionId = u64;

/// One replica of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its newest connection.
    pub connection: ConnectionId,
    /// End of its log; `None` before its first report.
    pub acked_offset: Option<i64>,
}

/// Acknowledged offsets by replica.
#[derive(Clone, Debug, Default)]
pub struct AckTable {
    // Ordered, so that whatever iterates does so in the same order in every run.
    replicas: BTreeMap<String, Replica>,
}

impl AckTable {
    /// A table without replicas: the master alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// `identity` connected. What an older connection acknowledged no longer counts; its id is answered, so that the
    /// shell closes it.
    pub fn connect(&mut self, identity: &str, connection: ConnectionId) -> Option<ConnectionId> {
        let replica = Replica { connection, acked_offset: None };
        self.replicas.insert(identity.to_owned(), replica).map(|older| older.connection)
    }

    /// `connection` ended; a newer one of the same replica is not touched.
    pub fn disconnect(&mut self, identity: &str, connection: ConnectionId) {
        if self.replicas.get(identity).is_some_and(|replica| replica.connection == connection) {
            self.replicas.remove(identity);
        }
    }

    /// The replica holds everything below `offset`. Counted, and true, only if the connection is the replica's newest
    /// and the offset is within `own_max`, the end of the master's log. A lower offset than before is believed.
    pub fn ack(&mut self, identity: &str, connection: ConnectionId, offset: i64, own_max: i64) -> bool {
        if !(0..=own_max).contains(&offset) {
            return false;
        }
        match self.replicas.get_mut(identity) {
            Some(replica) if replica.connection == connection => {
                replica.acked_offset = Some(offset);
                true
            }
            _ => false,
        }
    }

    /// The offset below which at least `n` replicas, the master included, hold everything. With `n` 0 or 1 that is
    /// `own_max`, the master's own end; `None` if there are fewer than `n`.
    pub fn replicated(&self, n: usize, own_max: i64) -> Option<i64> {
        let Some(slaves_wanted) = n.checked_sub(2) else {
            return Some(own_max);
        };
        let mut acked: Vec<i64> = self.acked().map(|offset| offset.min(own_max)).collect();
        acked.sort_unstable_by(|a, b| b.cmp(a));
        acked.get(slaves_wanted).copied()
    }

    /// All replicas with their identities, in order of identity.
    pub fn replicas(&self) -> impl Iterator<Item = (&str, &Replica)> {
        self.replicas.iter().map(|(identity, replica)| (identity.as_str(), replica))
    }

    fn acked(&self) -> impl Iterator<Item = i64> {
        self.replicas.values().filter_map(|replica| replica.acked_offset)
    }
}
