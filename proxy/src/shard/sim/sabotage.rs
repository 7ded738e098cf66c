//! The rules that the simulation breaks on purpose, to see that it notices.

/// A rule that is broken on purpose, in the driver, in the system, or by a hook of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// A slot is freed while the ring has requests of its session.
    SlotFreedEarly,
    /// A session that has ended is ended again.
    EndedTwice,
    /// An end is recorded twice.
    RecordedTwice,
    /// The list of sessions to be stepped is emptied.
    ReadyForgotten,
    /// A hang-up that comes during the dial is not passed on.
    HangUpIgnored,
    /// A reset that comes during the dial is not passed on.
    ErrorIgnored,
    /// The completion of an earlier session is taken for one of the present session's.
    StaleTaken,
    /// The connect's completion is dropped after the session's end.
    ConnectIgnoredAfterEnd,
    /// An upstream that answered a cancelled connect is not reset.
    LateAnswerNotReset,
    /// The timer of a dial is lost.
    DialTimerLost,
    /// Timers fire early.
    TimersEarly,
    /// The count at an endpoint is not given back.
    EndpointUseLeaked,
    /// A place is not given back.
    PlacesLeaked,
    /// A table is held after the dial that needed it.
    TableKept,
    /// A failure is counted that was not one.
    FailureCountedTwice,
    /// A poll's last completion is taken for one that more follow.
    LastTakenForMore,
    /// A poll that the kernel refuses is taken for made.
    RefusedRequestLost,
}

impl Sabotage {
    pub(super) const ALL: [Self; 17] = [
        Self::SlotFreedEarly,
        Self::EndedTwice,
        Self::RecordedTwice,
        Self::ReadyForgotten,
        Self::HangUpIgnored,
        Self::ErrorIgnored,
        Self::StaleTaken,
        Self::ConnectIgnoredAfterEnd,
        Self::LateAnswerNotReset,
        Self::DialTimerLost,
        Self::TimersEarly,
        Self::EndpointUseLeaked,
        Self::PlacesLeaked,
        Self::TableKept,
        Self::FailureCountedTwice,
        Self::LastTakenForMore,
        Self::RefusedRequestLost,
    ];
}
