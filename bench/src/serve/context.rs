//! A mode's side of the thread: the buffers, counts and chance that all its connections share, and the answers that a mode may give.

use std::time::Instant;

use super::settings::Served;
use crate::payload::fault::Fault;

/// Bytes read at once.
pub(super) const PIECE: usize = 64 << 10;
/// Bytes of a stream written at once where few or none are checked: 8.9 GB/s against 5.8 with the other.
pub(super) const LARGE_PIECE: usize = 1 << 20;
/// Bytes thrown away at once: they are not copied, so this memory is never touched.
const DISCARDED: usize = 1 << 20;
/// Reads or writes of one connection before the others have their turn.
pub(super) const TURN: usize = 16;

/// Things that connections of a thread share.
#[derive(Debug)]
pub(super) struct Shared {
    /// For reading.
    pub(super) input: Vec<u8>,
    /// For writing.
    pub(super) output: Vec<u8>,
    pub(super) served: Served,
    pub(super) chance: fastrand::Rng,
}

impl Shared {
    pub(super) fn new(seed: u64) -> Shared {
        let (input, output) = (vec![0; DISCARDED], vec![0; LARGE_PIECE]);
        Shared { input, output, served: Served::default(), chance: fastrand::Rng::with_seed(seed) }
    }

    /// The part of `input` for bytes that are looked at.
    pub(super) fn piece(&mut self) -> &mut [u8] {
        &mut self.input[..PIECE]
    }

    /// Counts a fault and prints it.
    pub(super) fn fault(&mut self, fault: &Fault) {
        self.served.faults += 1;
        eprintln!("fault {fault}");
    }
}

/// The next step that a mode wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// To be called when something has changed.
    Wait,
    /// The same, or at this time.
    Until(Instant),
    /// To be called when the others have had their turn.
    Again,
    /// The other end has closed, and all is sent: close.
    Close,
    /// To send a FIN, and to close when the other end does.
    End,
    /// To reset.
    Reset,
}
