//! What a simulated socket and its peer are like, as a simulation asks for them.

/// What a peer does when it has sent all it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// `shutdown`: it goes on reading.
    Fin,
    /// `close`: it does not; what arrives afterwards is answered by a reset, and unread input makes this one.
    Close,
    /// A reset, right behind the data.
    Reset,
    /// A FIN and then a reset.
    FinReset,
    /// It waits for our FIN.
    Answer,
    /// It is gone without a word; the kernel finds out.
    Vanish,
    /// It is gone without a word. The kernel finds out only if nothing waits to be acknowledged, or where keepalive is off.
    Silence,
}

/// A socket and its peer, as asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) to_send: u64,
    pub(crate) ending: Ending,
    pub(crate) reads: bool,
    pub(crate) window: usize,
    pub(crate) rx_room: usize,
    pub(crate) tx_room: usize,
    pub(crate) segment: usize,
}
