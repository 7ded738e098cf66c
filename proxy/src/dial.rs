//! Dialling (step 8 of the walk): endpoints of the destination that was drawn, one after the other, until one answers or
//! attempts and time are used up.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use weir_routing::dialled;
use weir_routing::{Arrival, Attempt, DestinationId, EndpointId, Policy};

use crate::boards::in_force::{InForce, Leads};
use crate::clock::{Millis, earlier};
use crate::os::sys;
use crate::reason::Reason;
use crate::relay::{Relay, Side};
use crate::session::Stage;
use crate::shard::{Shard, Tag};

/// With nobody else to ask, the same endpoint is asked again after this long.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// An endpoint that has not answered for this long when its client leaves has failed: a client that is less patient than
/// `connect_timeout` must not hide an endpoint that never answers.
const GIVEN_UP: Duration = Duration::from_secs(1);

/// A dial under way. It holds the table that decided it, so that further attempts stay inside that decision; it ends within
/// `connect_deadline`, so it does not hold it for long.
pub struct Dial {
    /// What it was decided by.
    pub in_force: Arc<InForce>,
    destination: DestinationId,
    source: IpAddr,
    /// The port that the client dialled.
    client_port: u16,
    accepted: Millis,
    attempts_left: u32,
    /// Endpoints that failed, until all have.
    failed: Vec<EndpointId>,
    /// How the last attempt failed, which is what the end will be called.
    failure: Reason,
    outlook: Outlook,
    /// Since when every attempt has failed on this host.
    failing_here: Option<Millis>,
    step: Step,
    /// All attempts together.
    deadline: Option<Millis>,
    /// The client's poll had a hang-up: it will say no more than what waits in its socket.
    pub client_hung_up: bool,
}

/// What a dial waits for.
enum Step {
    /// A connect, until the time-out of this attempt.
    Connecting { endpoint: EndpointId, since: Millis, until: Option<Millis> },
    /// The moment to ask again.
    Pausing { until: Millis },
    /// The completion of a connect that was cancelled: a time-out, or the client has gone.
    Cancelled { endpoint: EndpointId },
}

/// What failed attempts say of those that would follow to the same endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outlook {
    /// This host has no address from which any of them could be dialled.
    None,
    /// This host did not let the last one out: it has no port left, or no route. That may be over soon.
    Here,
    /// It depends on the endpoints.
    There,
}

/// What an attempt that failed with this error is called, and what it says of the next one. `None`: descriptors ran out,
/// which is not about the endpoint.
fn failure(error: &std::io::Error, address: SocketAddr) -> Option<(Reason, Outlook)> {
    Some(match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => return None,
        Some(libc::ECONNREFUSED) => (Reason::ConnectRefused, Outlook::There),
        Some(libc::ETIMEDOUT) => (Reason::ConnectTimeout, Outlook::There),
        // The kernel uses one word for "no port" and for "no address of that family".
        Some(libc::EADDRNOTAVAIL) if sys::has_source_address(address) => {
            (Reason::NoSourcePort, Outlook::Here)
        }
        Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => (Reason::ConnectError, Outlook::None),
        _ => (Reason::ConnectError, Outlook::Here),
    })
}

impl Dial {
    /// A dial that has not begun.
    pub fn new(
        in_force: Arc<InForce>,
        destination: DestinationId,
        arrival: &Arrival,
        accepted: Millis,
    ) -> Self {
        let policy = in_force.table.policy(destination);
        Self {
            attempts_left: policy.connect_attempts,
            deadline: policy.timeouts.connect_deadline.map(|span| accepted.after(span)),
            destination,
            source: arrival.source.ip(),
            client_port: arrival.destination.port(),
            accepted,
            failed: Vec::new(),
            failure: Reason::NoEndpoint,
            outlook: Outlook::None,
            failing_here: None,
            step: Step::Pausing { until: accepted },
            client_hung_up: false,
            in_force,
        }
    }

    /// What is dialled at an endpoint.
    fn address(&self, endpoint: EndpointId) -> SocketAddr {
        dialled(self.in_force.table.address(endpoint), self.client_port)
    }

    /// Where that leads to.
    fn leads(&self, endpoint: EndpointId) -> Leads {
        self.in_force.leads(endpoint, self.client_port)
    }

    fn policy(&self) -> &Policy {
        self.in_force.table.policy(self.destination)
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

    /// An attempt has failed.
    fn note_failure(&mut self, endpoint: EndpointId, reason: Reason, outlook: Outlook, now: Millis) {
        self.in_force.fail(endpoint, reason);
        self.failed.push(endpoint);
        self.failure = reason;
        self.outlook = self.outlook.max(outlook);
        self.failing_here = match outlook {
            Outlook::There => None,
            Outlook::Here | Outlook::None => self.failing_here.or(Some(now)),
        };
    }

    /// All endpoints have failed: when to ask them again. `None`: never, because nothing will have changed, or because the client
    /// would learn later than `connect_timeout` what this host knew at once.
    fn ask_again(&mut self, now: Millis) -> Option<Millis> {
        let at = now.after(ASK_AGAIN);
        let told_by = self.failing_here.and_then(|since| since.limit(self.policy().timeouts.connect));
        if self.outlook == Outlook::None || told_by.is_some_and(|told_by| told_by <= at) {
            return None;
        }
        self.failed.clear();
        self.outlook = Outlook::None;
        Some(at)
    }

    /// The session ends: an attempt that had its time, or that a client has waited for long enough, has failed.
    pub fn abandon(&self, now: Millis) {
        let is_late = self.deadline.is_some_and(|deadline| deadline <= now);
        match self.step {
            Step::Connecting { endpoint, since, .. } if is_late || since.after(GIVEN_UP) <= now => {
                self.in_force.fail(endpoint, Reason::ConnectTimeout);
            }
            Step::Cancelled { endpoint } => self.in_force.fail(endpoint, Reason::ConnectTimeout),
            Step::Connecting { .. } | Step::Pausing { .. } => {}
        }
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
            let Some(until) = dial.ask_again(self.now) else {
                let failure = dial.failure;
                return self.refuse(slot, failure);
            };
            dial.step = Step::Pausing { until };
            return self.sleep_dial(slot);
        };
        if dial.leads(endpoint) == Leads::BackToUs {
            dial.in_force.fail(endpoint, Reason::Loop);
            return self.refuse(slot, Reason::Loop);
        }
        dial.attempts_left -= 1;
        let until = dial.policy().timeouts.connect.map(|span| self.now.after(span));
        dial.step = Step::Connecting { endpoint, since: self.now, until };
        match self.connect(slot, endpoint) {
            Ok(()) => self.sleep_dial(slot),
            Err(error) => self.connect_failed(slot, endpoint, &error),
        }
    }

    fn connect(&mut self, slot: u32, endpoint: EndpointId) -> std::io::Result<()> {
        let session = &mut self.sessions[slot as usize];
        let Stage::Dialling(dial) = &session.stage else { return Ok(()) };
        let address = dial.address(endpoint);
        // Blocking: the ring waits for the connect itself, and would give up on a non-blocking one.
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        sys::set_options(socket.as_fd(), dial.policy().keepalive, dial.policy().user_timeout)?;
        session.endpoint = Some(dial.in_force.connect(endpoint));
        let upstream = session.upstream.insert(OwnedFd::from(socket));
        self.ring.connect(upstream.as_fd(), address.into(), Tag::connect(slot, session.generation).0);
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
            (&(Step::Connecting { endpoint, .. } | Step::Cancelled { endpoint }), Ok(())) => {
                let address = dial.address(endpoint);
                if dial.leads(endpoint) == Leads::PerhapsToItself && session.has_met_itself(address) {
                    return self.attempt_failed(slot, endpoint, Reason::Loop, Outlook::Here);
                }
                self.begin_relay(slot);
            }
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
        self.ring.poll(upstream.as_fd(), Tag::poll(Side::Upstream, slot, session.generation).0);
        session.in_flight.upstream_poll = true;
        session.endpoint.as_ref().inspect(|endpoint| endpoint.connected());
        let Stage::Dialling(dial) = std::mem::replace(&mut session.stage, Stage::Ended) else { return };
        let Policy { timeouts, keepalive, .. } = dial.policy();
        let relay = Relay::new(timeouts, *keepalive, dial.accepted, mode, dial.client_hung_up);
        session.stage = Stage::Relaying(relay);
        self.retire(dial.in_force);
        self.queue(slot);
    }

    fn connect_failed(&mut self, slot: u32, endpoint: EndpointId, error: &std::io::Error) {
        let Stage::Dialling(dial) = &self.sessions[slot as usize].stage else { return };
        let address = dial.address(endpoint);
        let Some((reason, outlook)) = failure(error, address) else {
            self.pause_accepting();
            return self.refuse(slot, Reason::LimitProcess);
        };
        self.attempt_failed(slot, endpoint, reason, outlook);
    }

    fn attempt_failed(&mut self, slot: u32, endpoint: EndpointId, reason: Reason, outlook: Outlook) {
        let session = &mut self.sessions[slot as usize];
        if let Some(upstream) = session.upstream.take() {
            // A cancelled connect may have been answered: it must not look like a client that came and left in order.
            sys::reset(upstream.as_fd());
        }
        session.endpoint = None;
        let Stage::Dialling(dial) = &mut session.stage else { return };
        dial.note_failure(endpoint, reason, outlook, self.now);
        if reason == Reason::NoSourcePort {
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
            Step::Connecting { endpoint, until: Some(until), .. } if until <= now => {
                dial.step = Step::Cancelled { endpoint };
                let tag = Tag::connect(slot, self.sessions[slot as usize].generation);
                self.ring.cancel(tag.0, Tag::IGNORED.0);
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
