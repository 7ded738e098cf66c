//! What must hold after each step, after each turn, and in the end.

use super::sabotage::Sabotage;
use super::shard::Shard;
use crate::reason::Reason;
use crate::relay::direction::SPLICED_FOR_ONE;
use crate::relay::direction::{Held, State};
use crate::relay::leg::Fault;
use crate::relay::{BUDGET, HOT_BUFFER, PIPE_BYTES, Phase, Side, Step, TAIL_CLASSES};

/// Calls that a step may make: each read costs at least 4 KiB of the budget, each write frees what was read, and there are two
/// directions, two passes, and interruptions.
const MOST_CALLS: usize = 4 * 2 * 2 * (BUDGET >> 12) * 4;

impl Shard {
    pub(super) fn check_step(&mut self, index: usize, step: Step, read: [u64; 2]) {
        let session = &self.sessions[index];
        let (ledger, relay, net) = (&session.ledger, &session.relay, &mut self.net);
        let calls = net.calls;
        net.require(calls <= MOST_CALLS, || format!("{calls} calls in a step"));
        for side in [0, 1] {
            let held = ledger.read[side] - ledger.sent[1 - side];
            let dropped = relay.directions[side].state == State::Finished;
            let flows = ledger.sent[1 - side] >= 1 << 20;
            let limit = if ledger.pipes > 0 && flows { PIPE_BYTES } else { HOT_BUFFER };
            net.require(dropped || held <= limit as u64, || format!("{held} bytes held, {limit} may be"));
            net.require(ledger.counted[side] == ledger.sent[side], || "bytes are miscounted".into());
            // Two passes at most, each a budget and a buffer.
            let most = 2 * (SPLICED_FOR_ONE * BUDGET + HOT_BUFFER) as u64;
            net.require(read[side] <= most, || format!("a step read {read:?}"));
        }
        let [small, medium, large] = TAIL_CLASSES;
        let most =
            net.tail_budget.max(net.tail_budget / 2 + large + medium) + 2 * small * self.sessions.len();
        net.require(net.tail_bytes <= most, || format!("tails take more than {most}"));
        let held =
            relay.directions.iter().filter(|direction| !matches!(direction.held, Held::Nothing)).count();
        net.require(ledger.tails + ledger.pipes == held, || {
            "a direction that holds nothing has a buffer".into()
        });
        match step {
            Step::Again => {
                net.require(read.iter().any(|&read| read > 0), || "again, without any progress".into());
            }
            Step::Wait => {
                let late = relay.deadline().is_some_and(|deadline| deadline.0 * 1000 <= net.now);
                net.require(!late, || format!("a deadline that has passed: {:?}", relay.phase));
            }
            Step::Ended(_) => {}
        }
    }

    /// A peer is given up only if it is gone and has left bytes unacknowledged for as long as keepalive takes. `lost`: which ones
    /// were, before the step.
    pub(super) fn check_given_up(&mut self, index: usize, lost: [Option<u64>; 2]) {
        let session = &mut self.sessions[index];
        for side in [0, 1] {
            let is_silent = session.relay.legs[side].fault == Some(Fault::Silent);
            if is_silent && !std::mem::replace(&mut session.given_up[side], true) {
                self.seen.given_up += 1;
                let right = lost[side].is_some();
                self.net.require(right, || format!("the peer of leg {side} was given up while it lived"));
            }
        }
    }

    /// A FIN tells that the other side has ended in order, or that time is up.
    pub(super) fn check_fins(&mut self, index: usize) {
        let session = &self.sessions[index];
        let time_is_up = match session.relay.phase {
            Phase::Closing { .. } | Phase::Failed { reason: Some(_), .. } => true,
            Phase::Ended(reason) => is_time(reason),
            _ => false,
        };
        for side in &session.ledger.fins {
            let ended = session.ledger.fin_read[side.other() as usize];
            self.net.require(ended || time_is_up, || format!("a FIN to {side:?} that nobody sent"));
        }
    }

    /// Time is never judged early, nor before what is there has been served.
    pub(super) fn check_time(&mut self, index: usize, active: u64) {
        let session = &mut self.sessions[index];
        let reason = match session.relay.phase {
            Phase::Closing { reason, .. } => reason,
            Phase::Failed { reason: Some(reason), .. } | Phase::Ended(reason) if is_time(reason) => reason,
            _ => return,
        };
        session.ledger.closing_since = Some(self.net.now);
        let (since, limit) = match reason {
            Reason::IdleTimeout => (active, session.timeouts.idle),
            Reason::HalfCloseTimeout => (active, session.timeouts.half_close),
            _ => (session.accepted, session.timeouts.max_duration),
        };
        let due = limit.map(|limit| since + limit.as_micros() as u64);
        let now = self.net.now;
        let on_time = due.is_some_and(|due| due <= now);
        self.net.require(on_time, || format!("{reason:?} at {now}, due {due:?}"));
        if reason == Reason::MaxDuration {
            return;
        }
        let [client, upstream] = session.sockets.map(|socket| &self.net.sockets[socket]);
        let unserved = [(client, upstream), (upstream, client)]
            .into_iter()
            .any(|(source, target)| source.dead_at.is_none() && !source.rx.is_empty() && target.takes());
        self.net.require(!unserved, || format!("{reason:?} was judged before what was there was served"));
    }

    pub(super) fn check_end(&mut self, index: usize, reason: Reason) {
        let session = &self.sessions[index];
        let (ledger, net) = (&session.ledger, &mut self.net);
        net.require(ledger.tails + ledger.pipes == 0, || "the session ended with a tail or a pipe".into());
        let told = session.sockets.map(|socket| net.sockets[socket].told);
        let timed_out = session.sockets.map(|socket| net.sockets[socket].timed_out);
        let given_up = session.given_up;
        let truth = match reason {
            Reason::Done => ledger.fin_read == [true; 2] && told == [false; 2],
            Reason::ClientReset => told[0] && !timed_out[0],
            Reason::UpstreamReset => told[1] && !timed_out[1],
            Reason::ClientTimeout => told[0] && timed_out[0] || given_up[0],
            Reason::UpstreamTimeout => told[1] && timed_out[1] || given_up[1],
            Reason::Drain => ledger.killed,
            reason => is_time(reason) && ledger.closing_since.is_some(),
        };
        net.require(truth, || format!("the reason {reason:?} is not true: {ledger:?}, told {told:?}"));
        for side in Side::BOTH {
            let socket = &net.sockets[session.sockets[side as usize]];
            let in_order = socket.fin_out && ledger.fin_read[side as usize] && socket.rx.is_empty();
            let told = socket.reset_by_us || socket.dead_at.is_some() || in_order;
            let expected = told || self.sabotage == Some(Sabotage::EndedByClose);
            net.require(expected, || format!("{reason:?}: {side:?} was not told of the end"));
        }
    }

    /// Nothing that could move stands still: for every direction that could go on there is an event, a retry, or neither is
    /// needed.
    pub(super) fn check_stalls(&mut self) {
        for session in &self.sessions {
            let pending = session.is_ready
                || session.ended.is_some()
                || session.sockets.iter().any(|&socket| self.net.sockets[socket].has_event());
            if pending {
                continue;
            }
            for from in Side::BOTH {
                let source = &self.net.sockets[session.sockets[from as usize]];
                let target = &self.net.sockets[session.sockets[from.other() as usize]];
                let ledger = &session.ledger;
                // What was held for a peer that was given up has been dropped.
                let is_dropped = session.relay.directions[from as usize].state == State::Finished;
                let held = !is_dropped && ledger.read[from as usize] > ledger.sent[from.other() as usize];
                let reads = match session.relay.phase {
                    Phase::Open => true,
                    Phase::Failed { dead, reason: None, .. } => dead == from,
                    _ => false,
                };
                let unread_end = source.fin_in && !ledger.fin_read[from as usize];
                let more = reads && (!source.rx.is_empty() || unread_end);
                let unheard = source.dead_at.is_some()
                    && !source.told
                    && session.relay.legs[from as usize].fault.is_none();
                let stalled = target.takes() && (held || more) || unheard;
                if stalled && self.net.broken.is_none() {
                    self.net.broken =
                        Some(format!("{from:?} stands still: held {held}, more {more}, unheard {unheard}"));
                }
            }
        }
    }

    /// After the last flow: what each peer has and knows.
    pub(super) fn check_delivery(&mut self) {
        self.net.check_returned();
        for session in &self.sessions {
            for side in Side::BOTH {
                let [to, from] =
                    [side, side.other()].map(|side| &self.net.sockets[session.sockets[side as usize]].peer);
                let socket = &self.net.sockets[session.sockets[side as usize]];
                let deaf = socket.dead_at.is_some() || socket.silent || !to.reads;
                let told = to.has_fin || to.has_reset || deaf;
                let complete =
                    session.ended != Some(Reason::Done) || deaf || to.arrived == from.sent && to.has_fin;
                let (arrived, sent) = (to.arrived, from.sent);
                if !(told && complete) && self.net.broken.is_none() {
                    self.net.broken = Some(format!(
                        "{:?}: {side:?} has {arrived} of {sent}, knows the end: {told}",
                        session.ended
                    ));
                }
            }
        }
    }
}

/// A reason that is a time-out of ours.
pub(super) fn is_time(reason: Reason) -> bool {
    matches!(reason, Reason::IdleTimeout | Reason::HalfCloseTimeout | Reason::MaxDuration)
}
