//! File descriptors: how many of those that the system allows are for connections. A store that gets none for its next file
//! fails, so connections are refused before that.

use rustix::process::{Resource, getrlimit};

/// Descriptors that are left for files, and for connections that this broker opens: queues hold [`Shares::queue_files`], each
/// segment that was read one.
const LEFT: u64 = 3072;

/// Who may have how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Connections at `listenPort`.
    pub connections: usize,
    /// Connections at the fast port.
    pub fast_connections: usize,
    /// Files of consume queues that are held open.
    pub queue_files: usize,
}

/// What the limit of this process (`ulimit -n`) allows.
pub fn shares() -> Shares {
    Shares::of(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

impl Shares {
    fn of(limit: u64) -> Self {
        let connections = limit - (limit / 2).min(LEFT);
        let fast = connections / 8;
        let number = |share: u64, most: usize| usize::try_from(share).map_or(most, |share| share.min(most));
        Self {
            connections: number(connections - fast, 20_000),
            fast_connections: number(fast, 20_000),
            queue_files: number(limit / 4, 1024),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_something_for_files() {
        let of = |limit| {
            let Shares { connections, fast_connections, queue_files } = Shares::of(limit);
            assert!(connections + fast_connections + queue_files < limit as usize, "{limit}");
            (connections, fast_connections, queue_files)
        };
        assert_eq!(of(1024), (448, 64, 256));
        assert_eq!(of(20_000), (14_812, 2116, 1024));
        assert_eq!(of(u64::MAX), (20_000, 20_000, 1024));
    }
}
