//! A completion in the simulated ring's queue.

use crate::os::ring::{Completion, Readiness, SlotId, Watched};
use crate::sim::net::{ERR, HUP};

/// See the file's opening.
#[derive(Clone, Copy, Debug)]
pub(super) enum Posted {
    Polled { watched: Watched, mask: u8, more: bool },
    Connected { id: SlotId, result: Result<(), i32> },
}

impl Posted {
    pub(super) fn is_connect_of(&self, session: SlotId) -> bool {
        matches!(self, Self::Connected { id, .. } if *id == session)
    }

    pub(super) fn is_poll_of(&self, socket: Watched) -> bool {
        matches!(self, Self::Polled { watched, .. } if *watched == socket)
    }

    pub(super) fn id(&self) -> SlotId {
        match self {
            Self::Polled { watched: Watched::Client(id) | Watched::Upstream(id), .. }
            | Self::Connected { id, .. } => *id,
            Self::Polled { watched: Watched::Doorbell, .. } => unreachable!("sessions have no doorbell"),
        }
    }

    /// The same of another session.
    pub(super) fn with_id(self, id: SlotId) -> Self {
        match self {
            Self::Connected { result, .. } => Self::Connected { id, result },
            Self::Polled { watched: Watched::Client(_), mask, more } => {
                Self::Polled { watched: Watched::Client(id), mask, more }
            }
            Self::Polled { mask, more, .. } => Self::Polled { watched: Watched::Upstream(id), mask, more },
        }
    }

    pub(super) fn is_last(&self) -> bool {
        matches!(self, Self::Polled { more: false, .. } | Self::Connected { .. })
    }

    pub(super) fn completion(self) -> Completion {
        match self {
            Self::Polled { watched, mask, more } => Completion::Polled {
                watched,
                readiness: Readiness { error: mask & ERR != 0, hang_up: mask & HUP != 0 },
                more,
            },
            Self::Connected { id, result } => {
                Completion::Connected { id, result: result.map_err(std::io::Error::from_raw_os_error) }
            }
        }
    }
}
