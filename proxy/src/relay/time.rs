//! The clock of the relay: whole milliseconds of the shard's monotonic clock, which its caller reads and hands in.

use std::time::Duration;

/// A moment, in milliseconds of the shard's monotonic clock, rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// The first moment that is surely `span` later, or `None` where there is no limit.
    ///
    /// Never early: what happened at 7.9 ms was stamped 7, so one millisecond is added, and parts of one count in full.
    pub fn after(self, span: Option<Duration>) -> Option<Self> {
        let millis = span?.as_nanos().div_ceil(1_000_000) + 1;
        Some(Self(self.0.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX))))
    }

    /// This many milliseconds later.
    pub fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// The earlier of two deadlines, where either may be absent.
pub(super) fn earlier(one: Option<Millis>, other: Option<Millis>) -> Option<Millis> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_early() {
        for (at, span, want) in [
            (7, Some(Duration::from_millis(10)), Some(18)),
            (7, Some(Duration::from_micros(10_001)), Some(19)),
            (7, None, None),
            (7, Some(Duration::MAX), Some(u64::MAX)),
        ] {
            assert_eq!(Millis(at).after(span), want.map(Millis), "{at} + {span:?}");
        }
    }
}
