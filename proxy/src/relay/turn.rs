//! The byte budget of a shard's turn. However many sessions are ready, timers, new connections and messages wait no longer than
//! one turn lasts; sessions that the budget leaves out stay ready, in front.

use super::direction::SPLICED_FOR_ONE;

/// Bytes that the sessions of a shard move in one turn: 4 to 5 ms of work, whether they are copied or four times as many are spliced.
pub(super) const BYTES_A_TURN: u64 = 16 << 20;

/// The least that a session takes off it: 1,024 small requests take about 7 ms.
const LEAST_COST: u64 = 16 << 10;

/// Counts of moved bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved {
    /// Through a pipe.
    pub spliced: u64,
    /// Through the hot buffer.
    pub copied: u64,
}

impl Moved {
    /// The bytes moved since an earlier count.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { spliced: self.spliced - earlier.spliced, copied: self.copied - earlier.copied }
    }
}

/// The rest of a turn's budget.
#[derive(Debug)]
pub(crate) struct TurnBudget {
    left: u64,
}

impl TurnBudget {
    /// A whole turn.
    pub(crate) fn whole() -> Self {
        Self::of(BYTES_A_TURN)
    }

    /// A turn of so many bytes.
    pub(crate) fn of(bytes: u64) -> Self {
        Self { left: bytes }
    }

    /// The sessions that have not been stepped wait for the next turn.
    pub(crate) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Takes off the bytes that a session has moved.
    pub(crate) fn spend(&mut self, moved: Moved) {
        let cost = moved.copied + moved.spliced / SPLICED_FOR_ONE as u64;
        self.left = self.left.saturating_sub(cost.max(LEAST_COST));
    }
}
