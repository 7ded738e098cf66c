//! The rules that the simulation breaks on purpose, to see that it notices.

/// A rule that is broken on purpose, in the shard or between it and the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// EAGAIN of a full pipe is taken for EAGAIN of an empty socket.
    FullPipeClearsReadable,
    /// POLLERR of a completion is not looked at.
    ErrorMaskIgnored,
    /// POLLRDHUP of a completion is not looked at.
    HangUpIgnored,
    /// A completion's mask is taken for the state.
    MaskIsState,
    /// A short read is taken for the last one: a FIN or more bytes may wait behind it.
    ShortReadDrains,
    /// What a splice says of the end is believed: at a mark of urgent data it is not true.
    SpliceEndBelieved,
    /// A direction whose budget has ended waits for an event.
    RetryDropped,
    /// An error that a write was told is forgotten: a read is expected to tell it again.
    WriteErrorForgotten,
    /// A failed write ends reading from that leg.
    WriteErrorEndsReading,
    /// A FIN is passed on before what is held has left.
    FinBeforeEmpty,
    /// A reset does not wait for the send queue.
    ResetUnflushed,
    /// A pipe goes back with bytes in it.
    DirtyPipeReused,
    /// Timers are judged before events, and without a look at the sockets.
    TimeJudgedFirst,
    /// Timers fire early.
    TimersEarly,
    /// A pipe is filled as far as its slots go.
    PipeFilledUp,
    /// Reads do not shrink as tails fill their budget.
    TailBudgetIgnored,
    /// Sessions that a turn's budget leaves out are not stepped in the next.
    RestForgotten,
    /// A request that the kernel refuses is taken for made.
    RefusedRequestLost,
    /// A session is ended by closing its descriptors under their polls.
    EndedByClose,
    /// Peers are not asked after: one that is gone keeps its session.
    SilenceUnasked,
    /// A peer whose window is closed is taken for one that does not answer.
    ClosedWindowIsSilence,
    /// Of two questions that are unanswered when they are looked at, the answer between them is not seen.
    AnswersForgotten,
}

impl Sabotage {
    pub(super) const ALL: [Self; 22] = [
        Self::FullPipeClearsReadable,
        Self::ErrorMaskIgnored,
        Self::HangUpIgnored,
        Self::MaskIsState,
        Self::ShortReadDrains,
        Self::SpliceEndBelieved,
        Self::RetryDropped,
        Self::WriteErrorForgotten,
        Self::WriteErrorEndsReading,
        Self::FinBeforeEmpty,
        Self::ResetUnflushed,
        Self::DirtyPipeReused,
        Self::TimeJudgedFirst,
        Self::TimersEarly,
        Self::PipeFilledUp,
        Self::TailBudgetIgnored,
        Self::RestForgotten,
        Self::RefusedRequestLost,
        Self::EndedByClose,
        Self::SilenceUnasked,
        Self::ClosedWindowIsSilence,
        Self::AnswersForgotten,
    ];
}
