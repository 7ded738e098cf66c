//! Dialling (step 8 of the walk): endpoints of the destination that was drawn, one after the other, until one answers or
//! attempts and time are used up.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use weir_routing::{Attempt, DestinationId, EndpointId, Policy};

use crate::clock::{Millis, earlier};
use crate::in_force::InForce;
use crate::outcome::Reason;
use crate::relay::{Relay, Side};
use crate::session::Stage;
use crate::shard::{RING_TAKES, Shard, Tag};
use crate::sys;

/// With nobody else to ask, the same endpoint is asked again after this long.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A dial under way. It holds the table that decided it, so that further attempts stay inside that decision; it ends within
/// `connect_deadline`, so it does not hold it for long.
pub struct Dial {
    /// What it was decided by.
    pub in_force: Arc<InForce>,
    destination: DestinationId,
    source: IpAddr,
    accepted: Millis,
    attempts_left: u32,
    /// Endpoints that failed, until all have.
    failed: Vec<EndpointId>,
    /// How the last attempt failed, which is what the end will be called.
    failure: Reason,
    step: Step,
    /// All attempts together.
    deadline: Option<Millis>,
    /// The client's poll had a hang-up: it will say no more than what waits in its socket.
    pub client_hung_up: bool,
}

/// What a dial waits for.
enum Step {
    /// A connect, until the time-out of this attempt.
    Connecting { endpoint: EndpointId, until: Option<Millis> },
    /// The moment to ask again.
    Pausing { until: Millis },
    /// The completion of a connect that was cancelled: a time-out, or the client has gone.
    Cancelled { endpoint: EndpointId },
}

impl Dial {
    /// A dial that has not begun.
    pub fn new(in_force: Arc<InForce>, destination: DestinationId, source: IpAddr, accepted: Millis) -> Self {
        let policy = &in_force.table.destinations[destination.index()].policy;
        Self {
            attempts_left: policy.connect_attempts,
            deadline: policy.timeouts.connect_deadline.map(|span| accepted.after(span)),
            destination,
            source,
            accepted,
            failed: Vec::new(),
            failure: Reason::NoEndpoint,
            step: Step::Pausing { until: accepted },
            client_hung_up: false,
            in_force,
        }
    }

    fn policy(&self) -> &Policy {
        &self.in_force.table.destinations[self.destination.index()].policy
    }

    fn next_attempt(&self) -> Attempt<'_> {
        if self.attempts_left == self.policy().connect_attempts {
            Attempt::First
        } else {
            Attempt::Retry(&self.failed)
        }
    }

    /// When to look again, whatever happens.
    fn wake_at(&self) -> Option<Millis> {
        let step = match self.step {
            Step::Connecting { until, .. } => until,
            Step::Pausing { until } => Some(until),
            Step::Cancelled { .. } => None,
        };
        [self.deadline, self.lifetime().map(|(at, _)| at)].into_iter().fold(step, earlier)
    }

    /// The limits that run from accept, whatever the session does, and what their end is called.
    fn lifetime(&self) -> Option<(Millis, Reason)> {
        let timeouts = self.policy().timeouts;
        [(timeouts.idle, Reason::IdleTimeout), (timeouts.max_duration, Reason::MaxDuration)]
            .into_iter()
            .filter_map(|(span, reason)| Some((self.accepted.after(span?), reason)))
            .min_by_key(|&(at, _)| at)
    }
}

impl Shard {
    /// Begins the next attempt of a session's dial, or ends the session.
    pub fn attempt(&mut self, slot: u32) {
        let Stage::Dialling(dial) = &mut self.sessions[slot as usize].stage else { return };
        if dial.attempts_left == 0 {
            let failure = dial.failure;
            return self.refuse(slot, failure);
        }
        let attempt = dial.next_attempt();
        let table = &dial.in_force.table;
        let Some(endpoint) =
            table.pick(dial.destination, dial.source, &*dial.in_force, attempt, &mut self.rng)
        else {
            if dial.failed.is_empty() {
                return self.refuse(slot, Reason::NoEndpoint);
            }
            dial.failed.clear();
            dial.step = Step::Pausing { until: self.now.after(ASK_AGAIN) };
            return self.sleep_dial(slot);
        };
        if dial.in_force.is_loop(endpoint) {
            return self.refuse(slot, Reason::Loop);
        }
        dial.attempts_left -= 1;
        let until = dial.policy().timeouts.connect.map(|span| self.now.after(span));
        dial.step = Step::Connecting { endpoint, until };
        match self.connect(slot, endpoint) {
            Ok(()) => self.sleep_dial(slot),
            Err(error) => self.connect_failed(slot, endpoint, &error),
        }
    }

    fn connect(&mut self, slot: u32, endpoint: EndpointId) -> std::io::Result<()> {
        let session = &mut self.sessions[slot as usize];
        let Stage::Dialling(dial) = &session.stage else { return Ok(()) };
        let address = dial.in_force.table.endpoints[endpoint.index()].address;
        // Blocking: the ring waits for the connect itself, and would give up on a non-blocking one.
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        sys::set_options(socket.as_fd(), dial.policy().keepalive, dial.policy().user_timeout)?;
        session.endpoint = Some(dial.in_force.connect(endpoint));
        let upstream = session.upstream.insert(OwnedFd::from(socket));
        self.ring.connect(upstream.as_fd(), address.into(), Tag::connect(slot, session.generation).0)?;
        session.in_flight.connect = true;
        Ok(())
    }

    /// The connect's completion has come.
    pub fn connected(&mut self, slot: u32, result: std::io::Result<()>) {
        let session = &mut self.sessions[slot as usize];
        session.in_flight.connect = false;
        let Stage::Dialling(dial) = &session.stage else {
            // Ended while the connect was under way. An upstream that answered after all, even behind the back of a connect that
            // was cancelled, learns it at once.
            if let Some(upstream) = &session.upstream {
                sys::reset(upstream.as_fd());
            }
            return self.release(slot);
        };
        match (&dial.step, result) {
            // One that answers at the last moment has answered.
            (Step::Connecting { .. } | Step::Cancelled { .. }, Ok(_)) => self.begin_relay(slot),
            (&Step::Connecting { endpoint, .. }, Err(error)) => self.connect_failed(slot, endpoint, &error),
            (&Step::Cancelled { endpoint }, Err(error)) if error.raw_os_error() == Some(libc::ECANCELED) => {
                self.connect_failed(slot, endpoint, &Errno::TIMEDOUT.into());
            }
            (&Step::Cancelled { endpoint }, Err(error)) => self.connect_failed(slot, endpoint, &error),
            // A connect ended that had not begun: a defect of ours.
            (Step::Pausing { .. }, _) => self.refuse(slot, Reason::Internal),
        }
    }

    fn begin_relay(&mut self, slot: u32) {
        let mode = self.relay_mode;
        let session = &mut self.sessions[slot as usize];
        let Some(upstream) = &session.upstream else { return };
        if rustix::io::ioctl_fionbio(upstream, true).is_err() {
            return self.refuse(slot, Reason::Internal);
        }
        self.ring
            .poll(upstream.as_fd(), Tag::poll(Side::Upstream, slot, session.generation).0)
            .expect(RING_TAKES);
        session.in_flight.upstream_poll = true;
        let Stage::Dialling(dial) = std::mem::replace(&mut session.stage, Stage::Ended) else { return };
        session.stage =
            Stage::Relaying(Relay::new(&dial.policy().timeouts, dial.accepted, mode, dial.client_hung_up));
        self.retire(dial.in_force);
        self.queue(slot);
    }

    fn connect_failed(&mut self, slot: u32, endpoint: EndpointId, error: &std::io::Error) {
        let session = &mut self.sessions[slot as usize];
        if let Some(upstream) = session.upstream.take() {
            // A cancelled connect may have been answered: it must not look like a client that came and left in order.
            sys::reset(upstream.as_fd());
        }
        session.endpoint = None;
        let Stage::Dialling(dial) = &mut session.stage else { return };
        dial.failed.push(endpoint);
        dial.failure = match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Reason::ConnectRefused,
            Some(libc::ETIMEDOUT) => Reason::ConnectTimeout,
            Some(libc::EADDRNOTAVAIL) => Reason::NoSourcePort,
            Some(libc::EMFILE | libc::ENFILE) => {
                self.pause_accepting();
                return self.refuse(slot, Reason::LimitProcess);
            }
            _ => Reason::ConnectError,
        };
        if dial.failure == Reason::NoSourcePort {
            self.counters.source_ports_exhausted.add(1);
        }
        self.attempt(slot);
    }

    /// A timer of a dialling session fired.
    pub fn dial_timer(&mut self, slot: u32) {
        let now = self.now;
        let Stage::Dialling(dial) = &mut self.sessions[slot as usize].stage else { return };
        if let Some((_, reason)) = dial.lifetime().filter(|&(at, _)| at <= now) {
            return self.refuse(slot, reason);
        }
        if dial.deadline.is_some_and(|at| at <= now) {
            let reason = match dial.failure {
                Reason::NoEndpoint => Reason::ConnectTimeout,
                failure => failure,
            };
            return self.refuse(slot, reason);
        }
        match dial.step {
            Step::Connecting { endpoint, until: Some(until) } if until <= now => {
                dial.step = Step::Cancelled { endpoint };
                let tag = Tag::connect(slot, self.sessions[slot as usize].generation);
                self.ring.cancel(tag.0, Tag::IGNORED.0).expect(RING_TAKES);
                self.sleep_dial(slot);
            }
            Step::Pausing { until } if until <= now => self.attempt(slot),
            _ => self.sleep_dial(slot),
        }
    }

    fn sleep_dial(&mut self, slot: u32) {
        if let Stage::Dialling(dial) = &self.sessions[slot as usize].stage
            && let Some(at) = dial.wake_at()
        {
            self.wheel.set(slot, at);
        }
    }
}
