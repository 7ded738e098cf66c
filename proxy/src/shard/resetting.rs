//! Resets every session of a shard, evenly over a time, so that clients do not all reconnect at once.

use std::collections::VecDeque;
use std::time::Duration;

use super::core::Core;
use super::session::Stage;
use super::system::System;
use crate::clock::Millis;
use crate::reason::Reason;

/// The sessions that are still to be reset: the first at once, the last when the time is over.
#[derive(Default)]
pub(super) struct Resetting {
    /// Slots and generations.
    sessions: VecDeque<(u32, u32)>,
    count: u32,
    began: Millis,
    spread: Duration,
}

impl Resetting {
    /// Resets every session that is there now.
    pub(super) fn start<S: System>(&mut self, core: &Core<S>, spread: Duration) {
        let sessions: VecDeque<_> = core
            .sessions
            .iter()
            .filter(|(_, session)| !matches!(session.stage, Stage::Ended))
            .map(|(slot, session)| (slot as u32, session.generation))
            .collect();
        *self = Self { count: sessions.len() as u32, began: core.now, spread, sessions };
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Option<Millis> {
        let done = self.count - self.sessions.len() as u32;
        (!self.sessions.is_empty()).then(|| self.began.after(self.spread * done / self.count))
    }

    /// Resets those that are due.
    pub(super) fn go_on<S: System>(&mut self, core: &mut Core<S>) {
        while self.due().is_some_and(|due| due <= core.now) {
            let Some((slot, generation)) = self.sessions.pop_front() else { break };
            let session = core.sessions.get_mut(slot as usize);
            let Some(session) = session.filter(|session| session.generation == generation) else { continue };
            match &mut session.stage {
                Stage::Relaying(relay) => {
                    relay.end(Reason::Drain);
                    core.queue(slot);
                }
                Stage::Dialling(_) => core.refuse(slot, Reason::Drain),
                Stage::Ended => {}
            }
        }
    }
}
