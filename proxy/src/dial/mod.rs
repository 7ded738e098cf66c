//! The dial of one session (step 9 of the walk): endpoints of the destination that was drawn, one after the other, until one
//! answers or attempts and time are used up.
//!
//! Pure: the machine is fed with what happened and answers with what to do next. Picking is an argument, and so is time.
//! `shard/dialling.rs` makes the calls; the simulation drives the same machine.

mod failure;

use std::time::Duration;

use weir_routing::{Attempt, EndpointId, Timeouts};

pub(crate) use self::failure::{Failure, Outlook};
use crate::clock::{Millis, earlier};
use crate::reason::Reason;

/// Pause before the endpoints that have all failed are tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An endpoint that has not answered for this long when its client leaves has failed: a client that is less patient than
/// `connect_timeout` must not hide an endpoint that never answers.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(1);

/// An event of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The session begins to dial.
    Begin,
    /// The endpoint has answered.
    Connected,
    /// The attempt has failed.
    Failed(Failure),
    /// It cannot be made, and no other one would do: the session ends with this reason.
    Impossible(Reason),
    /// The timer has fired.
    Timer,
}

/// The next action of the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Action {
    /// Connect to this endpoint.
    Connect(EndpointId),
    /// Cancel the connect; its completion is awaited.
    Cancel,
    /// Nothing before the next event or [`Dial::wake_at`].
    Wait,
    /// Relay to the endpoint that has answered.
    Established,
    /// Reset the client and end the session.
    Fail(Reason),
}

/// A dial under way.
#[derive(Debug)]
pub(crate) struct Dial {
    attempts: u32,
    attempts_left: u32,
    /// How long one attempt may take.
    connect_timeout: Option<Duration>,
    /// When all attempts together must have succeeded.
    deadline: Option<Millis>,
    /// The limit that runs from accept whatever the session does, and the reason it ends with.
    expires: Option<(Millis, Reason)>,
    /// Endpoints that have failed since all of them were last tried again.
    failed: Vec<EndpointId>,
    /// How the last attempt failed, which is the reason the session would end with.
    failure: Reason,
    /// The best outlook of the endpoints in `failed`.
    outlook: Outlook,
    /// Since when every attempt has failed on this host.
    failing_here: Option<Millis>,
    step: Step,
}

/// The event that a dial waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A connect, until the time-out of this attempt.
    Connecting { endpoint: EndpointId, since: Millis, until: Option<Millis> },
    /// The moment to try again.
    Pausing { until: Millis },
    /// The completion of a connect that was cancelled after its time-out.
    Cancelled { endpoint: EndpointId },
}

impl Dial {
    /// A dial that has not begun, of a connection that was accepted at `accepted`. It makes so many attempts at most.
    pub(crate) fn new(attempts: u32, timeouts: &Timeouts, accepted: Millis) -> Self {
        let limits = [(timeouts.idle, Reason::IdleTimeout), (timeouts.max_duration, Reason::MaxDuration)];
        let limits = limits.into_iter().filter_map(|(span, reason)| Some((accepted.after(span?), reason)));
        Self {
            attempts,
            attempts_left: attempts,
            connect_timeout: timeouts.connect,
            deadline: accepted.limit(timeouts.connect_deadline),
            expires: limits.min_by_key(|&(at, _)| at),
            failed: Vec::new(),
            failure: Reason::NoEndpoint,
            outlook: Outlook::Hopeless,
            failing_here: None,
            step: Step::Pausing { until: accepted },
        }
    }

    /// Takes in an event. `pick` draws an endpoint for the next attempt.
    pub(crate) fn on(
        &mut self,
        event: Event,
        now: Millis,
        pick: impl FnOnce(Attempt<'_>) -> Option<EndpointId>,
    ) -> Action {
        match (event, self.step) {
            (Event::Begin, _) => self.attempt(now, pick),
            (Event::Connected, Step::Connecting { .. } | Step::Cancelled { .. }) => Action::Established,
            (Event::Failed(failure), Step::Connecting { endpoint, .. } | Step::Cancelled { endpoint }) => {
                self.note_failure(endpoint, failure, now);
                self.attempt(now, pick)
            }
            (Event::Impossible(reason), _) => {
                self.step = Step::Pausing { until: now };
                Action::Fail(reason)
            }
            // A connect ended that had not begun: a defect of ours.
            (Event::Connected | Event::Failed(_), Step::Pausing { .. }) => Action::Fail(Reason::Internal),
            (Event::Timer, step) => self.judge_time(step, now, pick),
        }
    }

    /// The endpoint of the attempt under way.
    pub(crate) fn endpoint(&self) -> Option<EndpointId> {
        match self.step {
            Step::Connecting { endpoint, .. } | Step::Cancelled { endpoint } => Some(endpoint),
            Step::Pausing { .. } => None,
        }
    }

    /// When [`Event::Timer`] is due.
    pub(crate) fn wake_at(&self) -> Option<Millis> {
        let step = match self.step {
            Step::Connecting { until, .. } => until,
            Step::Pausing { until } => Some(until),
            Step::Cancelled { .. } => None,
        };
        [self.deadline, self.expires.map(|(at, _)| at)].into_iter().fold(step, earlier)
    }

    /// How a connect that ended with this error has failed. `None`: this process has no descriptor left, which is not about the
    /// endpoint. `has_source_address`: whether this host has an address to dial the endpoint from.
    pub(crate) fn failure(&self, errno: i32, has_source_address: impl FnOnce() -> bool) -> Option<Failure> {
        let timed_out = matches!(self.step, Step::Cancelled { .. }) && errno == libc::ECANCELED;
        Failure::of(if timed_out { libc::ETIMEDOUT } else { errno }, has_source_address)
    }

    /// The session ends before the dial has: the endpoint of an attempt that had its time, or that the client has waited for
    /// long enough, counts as failed.
    pub(crate) fn abandon(&self, now: Millis) -> Option<EndpointId> {
        let is_late = self.deadline.is_some_and(|deadline| deadline <= now);
        match self.step {
            Step::Connecting { endpoint, since, .. } if is_late || since.after(GIVEN_UP_AFTER) <= now => {
                Some(endpoint)
            }
            Step::Cancelled { endpoint } => Some(endpoint),
            Step::Connecting { .. } | Step::Pausing { .. } => None,
        }
    }

    fn attempt(&mut self, now: Millis, pick: impl FnOnce(Attempt<'_>) -> Option<EndpointId>) -> Action {
        if self.attempts_left == 0 {
            return Action::Fail(self.failure);
        }
        // The completion that led here may be late. An attempt that begins now would only be cut off, and counted as failed.
        if let Some(reason) = self.time_is_up(now) {
            return Action::Fail(reason);
        }
        let is_first = self.attempts_left == self.attempts;
        let attempt = if is_first { Attempt::First } else { Attempt::Retry(&self.failed) };
        if let Some(endpoint) = pick(attempt) {
            self.attempts_left -= 1;
            self.step = Step::Connecting { endpoint, since: now, until: now.limit(self.connect_timeout) };
            return Action::Connect(endpoint);
        }
        if self.failed.is_empty() {
            return Action::Fail(Reason::NoEndpoint);
        }
        match self.retry_at(now) {
            Some(until) => {
                self.failed.clear();
                self.outlook = Outlook::Hopeless;
                self.step = Step::Pausing { until };
                Action::Wait
            }
            None => Action::Fail(self.failure),
        }
    }

    fn note_failure(&mut self, endpoint: EndpointId, failure: Failure, now: Millis) {
        // The attempt is over: an end that follows must not count it again.
        self.step = Step::Pausing { until: now };
        self.failed.push(endpoint);
        self.failure = failure.reason;
        self.outlook = self.outlook.max(failure.outlook);
        self.failing_here = match failure.outlook {
            Outlook::EndpointMayAnswer => None,
            Outlook::HostMayRecover | Outlook::Hopeless => self.failing_here.or(Some(now)),
        };
    }

    /// All endpoints have failed: when to try them again. `None`: never, because nothing will have changed, or because the client
    /// would learn later than `connect_timeout` what this host knew at once.
    fn retry_at(&self, now: Millis) -> Option<Millis> {
        let at = now.after(RETRY_AFTER);
        let is_late = self
            .failing_here
            .and_then(|since| since.limit(self.connect_timeout))
            .is_some_and(|limit| limit <= at);
        (self.outlook != Outlook::Hopeless && !is_late).then_some(at)
    }

    /// The reason that the session ends with because the time of all attempts together is over.
    fn time_is_up(&self, now: Millis) -> Option<Reason> {
        if let Some((_, reason)) = self.expires.filter(|&(at, _)| at <= now) {
            return Some(reason);
        }
        let has_failed = self.failure != Reason::NoEndpoint;
        let reason = if has_failed { self.failure } else { Reason::ConnectTimeout };
        self.deadline.filter(|&at| at <= now).map(|_| reason)
    }

    fn judge_time(
        &mut self,
        step: Step,
        now: Millis,
        pick: impl FnOnce(Attempt<'_>) -> Option<EndpointId>,
    ) -> Action {
        if let Some(reason) = self.time_is_up(now) {
            return Action::Fail(reason);
        }
        match step {
            Step::Connecting { endpoint, until: Some(until), .. } if until <= now => {
                self.step = Step::Cancelled { endpoint };
                Action::Cancel
            }
            Step::Pausing { until } if until <= now => self.attempt(now, pick),
            _ => Action::Wait,
        }
    }
}

#[cfg(test)]
mod tests;
