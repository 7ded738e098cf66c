//! A shard's clock: whole milliseconds of the monotonic clock, read once a turn; everything that decides gets it as an argument.

use std::time::Duration;

/// A moment, in milliseconds of the monotonic clock, rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Millis(pub u64);

impl Millis {
    /// Now.
    pub(crate) fn now() -> Self {
        Self::of(monotonic())
    }

    /// The moment at which the monotonic clock shows this.
    pub(crate) fn of(monotonic: Duration) -> Self {
        Self(u64::try_from(monotonic.as_millis()).unwrap_or(u64::MAX))
    }

    /// The first moment that is surely `span` later. Never early: an event at 7.9 ms was stamped 7, so one millisecond is
    /// added, and a part of one counts in full.
    pub(crate) fn after(self, span: Duration) -> Self {
        let millis = span.as_nanos().div_ceil(1_000_000) + 1;
        Self(self.0.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX)))
    }

    /// [`Self::after`], where there may be no limit.
    pub(crate) fn limit(self, span: Option<Duration>) -> Option<Self> {
        span.map(|span| self.after(span))
    }

    /// This many milliseconds later.
    pub(crate) fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// The monotonic clock, to the nanosecond.
pub(crate) fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The earlier of two deadlines, where either may be absent.
pub(crate) fn earlier(one: Option<Millis>, other: Option<Millis>) -> Option<Millis> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_early() {
        for (at, span, wanted) in [
            (7, Duration::from_millis(10), 18),
            (7, Duration::from_micros(10_001), 19),
            (7, Duration::ZERO, 8),
            (7, Duration::MAX, u64::MAX),
        ] {
            assert_eq!(Millis(at).after(span), Millis(wanted), "{at} + {span:?}");
        }
    }
}
