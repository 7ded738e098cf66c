//! The relay of one session (step 10 of the walk): relays bytes in both directions between two legs, and passes each leg's ending
//! (FIN or reset) on to the other.
//!
//! Pure: it makes its calls through a [`Kernel`], and time is an argument. So the same code runs over sockets in a shard and
//! over a simulated kernel in tests. It leaves to the shard: polls, descriptors, pools, timers, and the connection's record.
//!
//! * An event makes everything worth trying ([`Relay::on_event`]); [`Relay::step`] tries until nothing moves.
//! * Received bytes are delivered first. Then a FIN becomes a FIN, and a reset a reset.
//! * A session without bytes in transit holds neither a buffer nor a pipe.

mod direction;
mod flush;
mod kernel;
mod leg;
mod silence;
#[cfg(test)]
mod sim;
mod tail;
mod turn;

use std::time::Duration;

use weir_routing::RelayMode;
use weir_routing::{Keepalive, Timeouts};

#[cfg(test)]
pub(crate) use self::direction::BUDGET;
use self::direction::{Direction, Ends, State, persist};
pub(crate) use self::direction::{HOT_BUFFER, PIPE_BYTES};
use self::flush::Flush;
pub(crate) use self::kernel::{Hearing, Kernel, Path, Pipe, Received, Side, Tail};
use self::leg::{Fault, Leg};
use self::silence::Silence;
pub(crate) use self::tail::{TAIL_CLASSES, read_limit, tail_class};
pub(crate) use self::turn::{Moved, TurnBudget};

use crate::clock::{Millis, earlier};
use crate::reason::Reason;

/// The result of a step, by which the shard goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Step {
    /// The byte budget of the turn has ended: step again in the next turn, before it sleeps, for no event will come.
    Again,
    /// Nothing to do before the next event or [`Relay::deadline`].
    Wait,
    /// It has ended. FINs and resets are sent, buffers and pipes are back, both descriptors may be closed.
    Ended(Reason),
}

/// The report of a completion's mask on a leg, beside that everything is worth trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct News {
    /// POLLERR: it is dead.
    pub error: bool,
    /// POLLRDHUP or POLLHUP: its peer will send no more.
    pub hang_up: bool,
}

/// How far a relay has come. It only moves downwards.
#[derive(Debug)]
enum Phase {
    /// Bytes move in both directions, or still in one.
    Open,
    /// Its time is up: no more bytes are taken, each leg gets the bytes that were received for it and a FIN, and a leg that has not
    /// ended at `until` is reset.
    Closing { reason: Reason, until: Millis, answers: [Answer; 2] },
    /// A leg is dead: the other gets the bytes that were received from it, and then a reset.
    Failed { dead: Side, reason: Option<Reason>, flush: Flush },
    /// It is ended from outside: both legs are reset at once.
    Killed(Reason),
    /// It has ended.
    Ended(Reason),
}

/// How a leg has answered since the session's time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing.
    None,
    /// With its FIN: it is due no more than the FIN that it gets.
    Fin,
    /// With bytes, which will not be delivered. After a mere FIN it would take them for delivered, so it will be reset.
    Bytes,
}

/// The relay of one session.
#[derive(Debug)]
pub(crate) struct Relay {
    phase: Phase,
    /// By [`Side`].
    legs: [Leg; 2],
    /// By the [`Side`] that bytes come from.
    directions: [Direction; 2],
    /// When bytes moved last.
    active: Millis,
    idle: Option<Duration>,
    half_close: Option<Duration>,
    flush: Option<Duration>,
    /// The end of `max_duration`.
    expires: Option<Millis>,
    silence: Silence,
}

/// How long a leg may take to answer the FIN behind its last byte, where `flush_timeout` sets no limit: without one here, a time-out
/// would end nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A shard keeps tens of thousands of them; most are idle.
const _: () = assert!(size_of::<Relay>() <= 256, "an idle session is small");

impl Relay {
    /// A relay over two connected legs. `idle` and `max_duration` run from `accepted`. The upstream's poll is armed at the same
    /// time and reports the present state, so nothing is read from it before; the client's poll has reported its state during the
    /// dial, its hang-up (`client_hung_up`) included.
    pub(crate) fn new(
        timeouts: &Timeouts,
        keepalive: Option<Keepalive>,
        accepted: Millis,
        mode: RelayMode,
        client_hung_up: bool,
    ) -> Self {
        let client = Leg { hung_up: client_hung_up, ..Leg::new() };
        Self {
            phase: Phase::Open,
            legs: [client, Leg { readable: false, ..Leg::new() }],
            directions: [Direction::new(mode), Direction::new(mode)],
            active: accepted,
            idle: timeouts.idle,
            half_close: timeouts.half_close,
            flush: timeouts.flush,
            expires: accepted.limit(timeouts.max_duration),
            silence: Silence::new(keepalive),
        }
    }

    /// Takes in a completion of a leg's poll. The rest of its mask is of no use: it names the wake-up, not the state.
    /// A step must follow.
    pub(crate) fn on_event(&mut self, side: Side, news: News) {
        let leg = &mut self.legs[side as usize];
        leg.wake();
        leg.hung_up |= news.hang_up;
        if news.error {
            leg.note_error();
        }
    }

    /// Ends it from outside (drain, kill): the next step resets both legs. Does nothing to one that has ended.
    pub(crate) fn end(&mut self, reason: Reason) {
        if !matches!(self.phase, Phase::Ended(_)) {
            self.phase = Phase::Killed(reason);
        }
    }

    /// The earliest time at which [`Self::step`] must be called without an event. Bytes postpone it: a timer that was set to an
    /// earlier one calls `step`, which finds nothing due, and is set again.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        match &self.phase {
            Phase::Ended(_) => None,
            _ => earlier(self.limit(), self.silence.deadline()),
        }
    }

    /// Bytes go both ways, or still one way.
    #[cfg(test)]
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// The time limit of this phase.
    fn limit(&self) -> Option<Millis> {
        match &self.phase {
            Phase::Open => earlier(self.quiet_until().0, self.expires),
            Phase::Closing { until, .. } => Some(*until),
            Phase::Failed { flush, .. } => flush.deadline(self.flush),
            Phase::Killed(_) => Some(self.active),
            Phase::Ended(_) => None,
        }
    }

    /// Does what can be done now, and then judges the time. Called after [`Self::on_event`], in the turn after
    /// [`Step::Again`], and at [`Self::deadline`].
    pub(crate) fn step(&mut self, kernel: &mut impl Kernel, now: Millis) -> Step {
        let mut more = self.advance(kernel, now);
        if self.has_lost_a_peer(kernel, now) {
            more = self.advance(kernel, now);
        }
        if self.is_overdue(now) {
            // A process that was stopped has not seen all its events: they are served before time is judged.
            self.legs.iter_mut().for_each(Leg::wake);
            more = self.advance(kernel, now);
            if self.is_overdue(now) {
                self.time_is_up(kernel, now);
                more = self.advance(kernel, now);
            }
        }
        match self.phase {
            Phase::Ended(reason) => Step::Ended(reason),
            _ if more => Step::Again,
            _ => Step::Wait,
        }
    }

    /// Checks peers that have bytes to acknowledge, if that is due; true if one is dead.
    fn has_lost_a_peer(&mut self, kernel: &mut impl Kernel, now: Millis) -> bool {
        let is_due = self.silence.deadline().is_some_and(|deadline| deadline <= now);
        if !is_due || matches!(self.phase, Phase::Ended(_)) {
            return false;
        }
        let dead = self.silence.ask(kernel, now);
        for side in Side::BOTH.into_iter().filter(|&side| dead[side as usize]) {
            self.legs[side as usize].give_up();
        }
        dead.contains(&true)
    }

    /// One pass through the phases; true if a budget has ended.
    fn advance(&mut self, kernel: &mut impl Kernel, now: Millis) -> bool {
        let mut more = false;
        if let Phase::Open = self.phase {
            more = self.advance_open(kernel, now);
        }
        if let Phase::Closing { .. } = self.phase {
            more = false;
            self.advance_closing(kernel, now);
        }
        if let Phase::Failed { dead, .. } = self.phase {
            more = self.advance_failed(dead, kernel, now);
        }
        if let Phase::Killed(reason) = self.phase {
            more = false;
            for side in Side::BOTH {
                kernel.reset(side);
            }
            self.finish(reason, kernel);
        }
        more
    }

    fn advance_open(&mut self, kernel: &mut impl Kernel, now: Millis) -> bool {
        let mut more = false;
        for from in Side::BOTH {
            more |= self.run(from, kernel, now).more;
            self.pass_on_fin(from, kernel, now);
        }
        if let Some(dead) = self.dead_leg() {
            self.phase = Phase::Failed { dead, reason: None, flush: Flush::new(now) };
        } else if self.directions.iter().all(|direction| direction.state == State::Finished) {
            self.finish(Reason::Done, kernel);
        }
        more
    }

    fn advance_closing(&mut self, kernel: &mut impl Kernel, now: Millis) {
        for from in Side::BOTH {
            self.run(from, kernel, now);
            self.pass_on_fin(from, kernel, now);
            self.look_for_answer(from, kernel);
        }
        let Phase::Closing { reason, answers, .. } = self.phase else { return };
        if let Some(dead) = self.dead_leg() {
            self.phase = Phase::Failed { dead, reason: Some(reason), flush: Flush::new(now) };
        } else if Side::BOTH.into_iter().all(|side| self.is_settled(side, answers)) {
            self.finish(reason, kernel);
        }
    }

    fn advance_failed(&mut self, dead: Side, kernel: &mut impl Kernel, now: Millis) -> bool {
        let survivor = dead.other();
        self.directions[survivor as usize].discard(kernel);
        let run = self.run(dead, kernel, now);
        let delivered = {
            let direction = &self.directions[dead as usize];
            direction.state != State::Reading && direction.is_empty()
        };
        let survives = !self.legs[survivor as usize].is_dead();
        let limit = self.flush;
        let Phase::Failed { reason, flush, .. } = &mut self.phase else { return false };
        let named = *reason;
        if survives {
            let unsent = kernel.unsent(survivor);
            flush.note(unsent, run.sent, now);
            if !(delivered && unsent == 0 || flush.is_over(limit, now)) {
                return run.more;
            }
            kernel.reset(survivor);
        }
        let reason = named.unwrap_or_else(|| self.legs[dead as usize].reason(dead, kernel));
        self.finish(reason, kernel);
        false
    }

    /// Moves bytes that come from one leg.
    fn run(&mut self, from: Side, kernel: &mut impl Kernel, now: Millis) -> direction::Run {
        let (direction, mut ends) = self.direction(from);
        let run = direction.run(&mut ends, kernel);
        if run.took || run.sent {
            self.active = now;
        }
        if run.sent {
            self.silence.note_sent(from.other(), now);
        }
        run
    }

    /// A direction whose source has ended and which holds nothing ends with a FIN, unless one of its legs is dead.
    fn pass_on_fin(&mut self, from: Side, kernel: &mut impl Kernel, now: Millis) {
        let (direction, ends) = self.direction(from);
        let ended = direction.state == State::Draining && direction.is_empty();
        if ended && !ends.source.is_dead() && !ends.target.is_dead() {
            direction.state = State::Finished;
            kernel.shutdown_write(from.other());
            self.silence.note_sent(from.other(), now);
        }
    }

    /// Looks for the FIN of a leg from which no more bytes are taken.
    fn look_for_answer(&mut self, from: Side, kernel: &mut impl Kernel) {
        let Phase::Closing { answers, .. } = &mut self.phase else { return };
        let (answer, leg) = (&mut answers[from as usize], &mut self.legs[from as usize]);
        if *answer != Answer::None || !leg.readable {
            return;
        }
        match persist(|| kernel.peek(from)) {
            Ok(0) => *answer = Answer::Fin,
            Ok(_) => *answer = Answer::Bytes,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => leg.readable = false,
            Err(error) => leg.fail(&error),
        }
    }

    /// A leg that has sent its FIN and was sent one needs no reset: the kernel delivers the rest by itself.
    fn is_settled(&self, side: Side, answers: [Answer; 2]) -> bool {
        answers[side as usize] == Answer::Fin
            && self.directions[side.other() as usize].state == State::Finished
    }

    /// Until when no byte need move, and the reason for ending if none has.
    fn quiet_until(&self) -> (Option<Millis>, Reason) {
        if self.directions.iter().all(|direction| direction.state == State::Reading) {
            (self.active.limit(self.idle), Reason::IdleTimeout)
        } else {
            (self.active.limit(self.half_close), Reason::HalfCloseTimeout)
        }
    }

    /// A time-out is due. A flush has a limit of its own.
    fn is_overdue(&self, now: Millis) -> bool {
        matches!(self.phase, Phase::Open | Phase::Closing { .. })
            && self.limit().is_some_and(|limit| limit <= now)
    }

    fn time_is_up(&mut self, kernel: &mut impl Kernel, now: Millis) {
        if let Phase::Closing { reason, answers, .. } = self.phase {
            self.cut_off(reason, answers, kernel, now);
            return;
        }
        let patience = self.flush.or(Some(ANSWER_TIMEOUT));
        let (quiet_until, quiet) = self.quiet_until();
        let reason =
            if quiet_until.is_some_and(|deadline| deadline <= now) { quiet } else { Reason::MaxDuration };
        let answers = [0, 1].map(|side| match self.directions[side].state {
            State::Reading => Answer::None,
            State::Draining | State::Finished => Answer::Fin,
        });
        for direction in &mut self.directions {
            if direction.state == State::Reading {
                direction.state = State::Draining;
            }
        }
        self.phase = Phase::Closing { reason, until: now.limit(patience).unwrap_or(now), answers };
    }

    /// The end of [`Phase::Closing`]: legs that have not ended are reset. Where an ending may wait without limit, not before the
    /// received bytes have left.
    fn cut_off(&mut self, reason: Reason, answers: [Answer; 2], kernel: &mut impl Kernel, now: Millis) {
        for side in Side::BOTH {
            let owed = !self.directions[side.other() as usize].is_empty() || kernel.unsent(side) > 0;
            if owed && self.flush.is_none() && !self.is_settled(side, answers) {
                self.phase = Phase::Closing { reason, until: now.plus(flush::LAST_WAIT), answers };
                return;
            }
        }
        for side in Side::BOTH {
            if !self.is_settled(side, answers) {
                kernel.reset(side);
            }
        }
        self.finish(reason, kernel);
    }

    /// The one way out: buffers and pipes go back.
    fn finish(&mut self, reason: Reason, kernel: &mut impl Kernel) {
        for side in Side::BOTH {
            self.directions[side as usize].discard(kernel);
            // The kernel still holds these open.
            if matches!(self.legs[side as usize].fault, Some(Fault::Odd | Fault::Silent)) {
                kernel.reset(side);
            }
        }
        self.phase = Phase::Ended(reason);
    }

    /// The leg that is dead; if both are, the client.
    fn dead_leg(&self) -> Option<Side> {
        Side::BOTH.into_iter().find(|&side| self.legs[side as usize].is_dead())
    }

    fn direction(&mut self, from: Side) -> (&mut Direction, Ends<'_>) {
        let [client, upstream] = &mut self.legs;
        let (source, target) = match from {
            Side::Client => (client, upstream),
            Side::Upstream => (upstream, client),
        };
        (&mut self.directions[from as usize], Ends { from, source, target })
    }
}
