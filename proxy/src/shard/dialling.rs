//! Dialling (step 9 of the walk): the calls that a [`Dial`](crate::dial::Dial) asks for, and what it learns of them.

use std::io;

use rustix::io::Errno;
use weir_routing::EndpointId;

use super::core::Core;
use super::session::{Dialling, Stage};
use super::system::System;
use crate::boards::in_force::Leads;
use crate::dial::{Action, Event, Failure};
use crate::os::ring::{Request, SlotId, Watched};
use crate::reason::Reason;
use crate::relay::Relay;

impl<S: System> Core<S> {
    /// Begins a session's dial.
    pub(super) fn begin_dial(&mut self, slot: u32) {
        self.dial(slot, Event::Begin);
    }

    /// The timer of a dialling session has fired.
    pub(super) fn dial_timer(&mut self, slot: u32) {
        self.dial(slot, Event::Timer);
    }

    /// The connect's completion has come.
    pub(super) fn connected(&mut self, slot: u32, result: io::Result<()>) {
        let session = &mut self.sessions[slot as usize];
        session.in_flight.connect = false;
        let Stage::Dialling(dialling) = &session.stage else {
            // The session ended while the connect was under way. An upstream that answered all the same, even after the connect
            // was cancelled, is reset at once.
            if let Some(upstream) = &session.upstream {
                self.system.reset(upstream);
            }
            return self.release(slot);
        };
        let event = match (result, dialling.dial.endpoint()) {
            // One that answers at the last moment has answered.
            (Ok(()), Some(endpoint)) if self.has_met_itself(slot, endpoint) => {
                self.attempt_failed(slot, Failure::LOOP)
            }
            (Ok(()), _) => Event::Connected,
            (Err(error), endpoint) => self.connect_failed(slot, endpoint, &error),
        };
        self.dial(slot, event);
    }

    /// Feeds the dial with an event, and does what it asks for until it waits.
    fn dial(&mut self, slot: u32, event: Event) {
        let mut event = event;
        loop {
            let Some(session) = self.sessions.get_mut(slot as usize) else { return };
            let Stage::Dialling(dialling) = &mut session.stage else { return };
            let Dialling { dial, in_force, destination, source, .. } = dialling;
            let rng = &mut self.rng;
            let pick = |attempt: weir_routing::Attempt<'_>| {
                in_force.table.pick(*destination, *source, &**in_force, attempt, rng)
            };
            match dial.on(event, self.now, pick) {
                Action::Connect(endpoint) if dialling.leads(endpoint) == Leads::BackToUs => {
                    dialling.in_force.fail(endpoint, Reason::Loop);
                    event = Event::Impossible(Reason::Loop);
                }
                Action::Connect(endpoint) => match self.connect(slot, endpoint) {
                    Ok(()) => break,
                    Err(error) => event = self.connect_failed(slot, Some(endpoint), &error),
                },
                Action::Cancel => {
                    self.system.cancel(Request::Connect(SlotId { slot, generation: session.generation }));
                    break;
                }
                Action::Wait => break,
                Action::Established => return self.begin_relay(slot),
                Action::Fail(reason) => return self.refuse(slot, reason),
            }
        }
        if let Stage::Dialling(Dialling { dial, .. }) = &self.sessions[slot as usize].stage {
            self.wake_at(slot, dial.wake_at());
        }
    }

    fn connect(&mut self, slot: u32, endpoint: EndpointId) -> io::Result<()> {
        let session = &mut self.sessions[slot as usize];
        let Stage::Dialling(dialling) = &session.stage else { return Ok(()) };
        let address = dialling.address(endpoint);
        let socket = self.system.open_upstream(address, dialling.policy())?;
        session.endpoint = Some(dialling.in_force.connect(endpoint));
        let upstream = session.upstream.insert(socket);
        self.system.connect(upstream, address, SlotId { slot, generation: session.generation });
        session.in_flight.connect = true;
        Ok(())
    }

    /// Whether the upstream's socket was given the very address that it was to connect to.
    fn has_met_itself(&self, slot: u32, endpoint: EndpointId) -> bool {
        let session = &self.sessions[slot as usize];
        let Stage::Dialling(dialling) = &session.stage else { return false };
        let Some(upstream) = &session.upstream else { return false };
        dialling.leads(endpoint) == Leads::PerhapsToItself
            && self.system.local(upstream).is_ok_and(|own| own == dialling.address(endpoint))
    }

    /// Judges the error of a connect.
    fn connect_failed(&mut self, slot: u32, endpoint: Option<EndpointId>, error: &io::Error) -> Event {
        let Stage::Dialling(dialling) = &self.sessions[slot as usize].stage else {
            return Event::Impossible(Reason::Internal);
        };
        let address = endpoint.map(|endpoint| dialling.address(endpoint));
        let has_source = || address.is_some_and(|address| self.system.has_source_address(address));
        let errno = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
        match dialling.dial.failure(errno, has_source) {
            Some(failure) => self.attempt_failed(slot, failure),
            // No descriptor is left: that is not about the endpoint.
            None => {
                self.lacks_descriptors = true;
                Event::Impossible(Reason::LimitProcess)
            }
        }
    }

    /// Puts away the socket of an attempt that failed, and counts the failure.
    fn attempt_failed(&mut self, slot: u32, failure: Failure) -> Event {
        let session = &mut self.sessions[slot as usize];
        if let Some(upstream) = session.upstream.take() {
            // A cancelled connect may have been answered: it must not look like a client that came and left in order.
            self.system.reset(&upstream);
        }
        session.endpoint = None;
        if let Stage::Dialling(dialling) = &session.stage
            && let Some(endpoint) = dialling.dial.endpoint()
        {
            dialling.in_force.fail(endpoint, failure.reason);
        }
        if failure.reason == Reason::NoSourcePort {
            self.counters.source_ports_exhausted.add(1);
        }
        Event::Failed(failure)
    }

    fn begin_relay(&mut self, slot: u32) {
        let session = &mut self.sessions[slot as usize];
        let Some(upstream) = &session.upstream else { return self.refuse(slot, Reason::Internal) };
        if self.system.begin_relaying(upstream).is_err() {
            return self.refuse(slot, Reason::Internal);
        }
        self.system.poll(upstream, Watched::Upstream(SlotId { slot, generation: session.generation }));
        session.in_flight.upstream_poll = true;
        session.endpoint.as_ref().inspect(|endpoint| endpoint.connected());
        let Stage::Dialling(dialling) = std::mem::replace(&mut session.stage, Stage::Ended) else { return };
        let policy = dialling.policy();
        let relay = Relay::new(
            &policy.timeouts,
            policy.keepalive,
            dialling.accepted,
            self.relay_mode,
            dialling.client_hung_up,
        );
        session.stage = Stage::Relaying(relay);
        self.retire(dialling.in_force);
        self.queue(slot);
    }
}
