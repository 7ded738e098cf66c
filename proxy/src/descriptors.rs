//! Descriptors: how many a configuration takes before the first connection, and how many connections the rest is enough for.

/// Of the whole process: files, the loop of the control thread, the admin server and its clients, questions to name servers.
const PROCESS: u64 = 256;
/// Of a shard: its ring, its doorbell and those of its executor.
const SHARD: u64 = 8;
/// Of a listener beside its sockets, one a shard: its lock.
const LOCK: u64 = 1;
/// Of a connection: its two sockets.
const CONNECTION: u64 = 2;
/// Of a pipe: its two ends.
const PIPE: u64 = 2;
/// All pipes of a process together: this part of the descriptor limit is their number.
const LIMIT_A_PIPE: u64 = 32;
/// With fewer connections a process is not worth starting.
const FEW_CONNECTIONS: u64 = 64;

/// Pipes that the sessions of a process may hold under this descriptor limit.
pub(crate) fn pipes_max(descriptors: u64) -> u64 {
    descriptors / LIMIT_A_PIPE
}

/// Listeners and shards, which take descriptors for as long as a configuration is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Addresses that are listened on.
    pub listeners: usize,
    /// Shards.
    pub shards: usize,
}

impl Standing {
    fn others(self) -> u64 {
        let (listeners, shards) = (self.listeners as u64, self.shards as u64);
        PROCESS + shards * SHARD + listeners * (shards + LOCK)
    }

    /// The lowest limit that leaves room for a few connections.
    pub(crate) fn least_limit(self) -> u64 {
        let wanted = self.others() + FEW_CONNECTIONS * CONNECTION;
        // Pipes get a share of the limit itself.
        let mut limit = wanted;
        while limit - pipes_max(limit) * PIPE < wanted {
            limit = wanted + pipes_max(limit) * PIPE;
        }
        limit
    }

    /// How many connections a limit leaves room for; one at least.
    pub(crate) fn connections(self, limit: u64) -> u64 {
        let others = self.others() + pipes_max(limit) * PIPE;
        (limit.saturating_sub(others) / CONNECTION).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_is_enough_and_one_less_is_not() {
        for (listeners, shards) in [(0, 1), (1, 2), (200, 4), (9_001, 2), (9_001, 64)] {
            let standing = Standing { listeners, shards };
            let least = standing.least_limit();
            assert!(standing.connections(least) >= FEW_CONNECTIONS, "{standing:?} under {least}");
            assert!(standing.connections(least - 2) < FEW_CONNECTIONS, "{standing:?} under {least} - 2");
        }
    }

    #[test]
    fn more_listeners_and_shards_leave_fewer_connections() {
        let connections = |listeners, shards| Standing { listeners, shards }.connections(65_536);
        assert!(connections(1, 2) > connections(1_000, 2));
        assert!(connections(1_000, 2) > connections(1_000, 4));
        assert_eq!(connections(40_000, 2), 1);
    }
}
