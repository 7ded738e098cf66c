//! The [`System`] that a simulated shard runs on: each call is checked, noted in the world, and answered from it.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use weir_routing::Policy;

use super::calls::Calls;
use super::sabotage::Sabotage;
use super::table::PERHAPS_ITSELF;
use super::world::{Attempt, Progress, World};
use crate::boards::counters::Series;
use crate::clock::Millis;
use crate::os::ring::{Request, SlotId, Watched};
use crate::reason::Reason;
use crate::shard::system::System;
use crate::sim::net::Poll;

/// An open socket of the simulated kernel.
pub(crate) struct Socket {
    pub(super) index: usize,
    pub(super) world: Rc<RefCell<World>>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.world.borrow_mut().close(self.index);
    }
}

/// The system of a simulated shard.
pub(crate) struct Machine(pub(super) Rc<RefCell<World>>);

impl System for Machine {
    type Socket = Socket;
    type Calls<'a> = Calls<'a>;

    fn open_upstream(&mut self, address: SocketAddr, policy: &Policy) -> io::Result<Socket> {
        let mut world = self.0.borrow_mut();
        world.calls += 1;
        if let Some(Err(errno @ (libc::EMFILE | libc::EADDRNOTAVAIL))) =
            world.answers.get(&address).map(|answers| answers.result())
            && world.net.rng.bool()
        {
            world.seen.count("an attempt failed at once");
            let reason = world.failure(errno);
            world.failed_at_once.push(reason.unwrap_or(Reason::LimitProcess));
            reason.into_iter().for_each(|reason| world.expect_failure(address, reason));
            return Err(io::Error::from_raw_os_error(errno));
        }
        world.connect_timeout = policy.timeouts.connect;
        let index = world.add(policy.keepalive);
        Ok(Socket { index, world: Rc::clone(&self.0) })
    }

    fn connect(&mut self, socket: &Socket, address: SocketAddr, id: SlotId) {
        let mut world = self.0.borrow_mut();
        world.enter(socket.index);
        let result = world.answers.get(&address).map_or(Ok(()), |answers| answers.result());
        let is_local = address == PERHAPS_ITSELF.parse().expect("an address");
        let timeout = world.connect_timeout.map_or(0, |timeout| timeout.as_micros() as u64);
        let rng = &mut world.net.rng;
        let delay = match (result, rng.u8(..)) {
            (Err(libc::ETIMEDOUT), _) => 127_000_000,
            (Err(libc::EADDRNOTAVAIL | libc::EMFILE), _) => 0,
            (_, 0..120) => rng.u64(0..3_000),
            // About when the time-out fires.
            (_, 120..220) => timeout + rng.u64(0..20_000),
            _ => rng.u64(0..4_000_000),
        };
        let meets_itself = is_local && result.is_ok() && rng.u8(..) < 128;
        let now = world.net.now;
        let attempt = Attempt {
            id,
            address,
            since: now,
            due: now + delay,
            result,
            meets_itself,
            progress: Progress::Asked,
            cancels: 0,
            cancelled_at: 0,
            established: false,
            relayed: false,
        };
        let twice = world.attempts.insert(socket.index, attempt).is_some();
        world.net.require(!twice, || format!("socket {} was connected twice", socket.index));
    }

    fn poll(&mut self, socket: &Socket, watched: Watched) {
        let mut world = self.0.borrow_mut();
        world.enter(socket.index);
        if let (Watched::Client(id), None) = (watched, world.watched[socket.index]) {
            let is_held = world.is_slot_held(id.slot);
            world.net.require(!is_held, || format!("slot {} was reused while the ring had it", id.slot));
        }
        let is_free = !world.is_held(socket.index);
        world.net.require(is_free, || format!("socket {} got a second poll", socket.index));
        world.watched[socket.index] = Some(watched);
        world.net.sockets[socket.index].poll = Poll::Disarmed;
    }

    fn cancel(&mut self, request: Request) {
        let mut world = self.0.borrow_mut();
        world.calls += 1;
        world.cancel(request);
    }

    fn begin_relaying(&mut self, socket: &Socket) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        world.enter(socket.index);
        let Some(attempt) = world.attempts.get_mut(&socket.index) else {
            world.net.require(false, || "a socket that never connected is relayed to".into());
            return Ok(());
        };
        attempt.relayed = true;
        let (is_ready, address) =
            (attempt.established && attempt.progress >= Progress::Posted, attempt.address);
        world.expected.entry(address).or_default().connected += 1;
        world.net.require(is_ready, || format!("socket {} is relayed to too early", socket.index));
        Ok(())
    }

    fn reset(&mut self, socket: &Socket) {
        let mut world = self.0.borrow_mut();
        world.enter(socket.index);
        let attempt = world.attempts.get(&socket.index);
        let (connects, is_cancelled) = attempt
            .map_or((false, false), |attempt| (attempt.progress < Progress::Posted, attempt.cancels > 0));
        world.net.require(!connects, || format!("socket {} was reset while it connects", socket.index));
        if !(is_cancelled && world.sabotage == Some(Sabotage::LateAnswerNotReset)) {
            world.net.reset(socket.index);
        }
    }

    fn local(&self, socket: &Socket) -> io::Result<SocketAddr> {
        let world = self.0.borrow();
        let attempt = world.attempts.get(&socket.index);
        let own = attempt.filter(|attempt| attempt.meets_itself).map(|attempt| attempt.address);
        Ok(own.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 1))))
    }

    fn has_source_address(&self, _: SocketAddr) -> bool {
        self.0.borrow().has_source_address
    }

    fn calls<'a>(
        &'a mut self,
        client: &'a Socket,
        upstream: &'a Socket,
        series: &'a Series,
        _: Millis,
    ) -> Calls<'a> {
        let sockets = [client.index, upstream.index];
        let mut world = self.0.borrow_mut();
        world.calls += 1;
        for (from, to) in [(0, 1), (1, 0)] {
            world.net.sockets[sockets[to]].feeds_from = sockets[from];
        }
        drop(world);
        Calls { world: Rc::clone(&self.0), sockets, series }
    }
}
