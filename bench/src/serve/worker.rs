//! A thread: an epoll, its listeners and its connections.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use slab::Slab;

use super::context::{Next, Shared};
use super::host;
use super::protocol::Protocol;
use super::settings::{Mode, Served, Settings};
use super::wire::Wire;

/// How often a thread looks whether it should end, and for how long it accepts nothing when descriptors have run out.
const NAP: Duration = Duration::from_millis(100);
/// Connections accepted before those that there are have their turn.
const ACCEPTS: usize = 64;
/// Events taken at once.
const EVENTS: usize = 256;
/// Tokens from here on are listeners'.
const LISTENERS: u64 = 1 << 32;

#[derive(Debug)]
struct Session {
    wire: Wire,
    protocol: Protocol,
    /// When it wants to be called, if nothing happens sooner.
    deadline: Option<Instant>,
}

/// All that a thread has.
#[derive(Debug)]
pub(super) struct Worker {
    epoll: OwnedFd,
    listeners: Vec<TcpListener>,
    core: Option<usize>,
    mode: Mode,
    shared: Shared,
    sessions: Slab<Session>,
    /// Those that were interrupted for others to have their turn.
    again: Vec<usize>,
    /// Deadlines, also such as sessions no longer have: a session's own is asked before it is called.
    deadlines: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Descriptors have run out, and listeners are left alone until this.
    paused: Option<Instant>,
}

impl Worker {
    pub(super) fn new(
        settings: &Settings,
        number: usize,
        listeners: Vec<TcpListener>,
    ) -> anyhow::Result<Worker> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("epoll")?;
        let seed = match &settings.mode {
            Mode::Flaky(fates) => fates.seed.wrapping_add(number as u64),
            _ => number as u64,
        };
        let worker = Worker {
            epoll,
            listeners,
            core: settings.core.map(|first| first + number),
            mode: settings.mode.clone(),
            shared: Shared::new(seed),
            sessions: Slab::new(),
            again: Vec::new(),
            deadlines: BinaryHeap::new(),
            paused: None,
        };
        worker.listen().context("epoll")?;
        Ok(worker)
    }

    fn listen(&self) -> io::Result<()> {
        for (token, listener) in (LISTENERS..).zip(&self.listeners) {
            epoll::add(&self.epoll, listener, EventData::new_u64(token), EventFlags::IN)?;
        }
        Ok(())
    }

    /// Serves until `stop` is set.
    pub(super) fn run(mut self, stop: &AtomicBool) -> io::Result<Served> {
        host::pin(self.core);
        let mut events = Vec::with_capacity(EVENTS);
        while !stop.load(Ordering::Relaxed) {
            let timeout = self.timeout();
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for &event in &events {
                self.event(event)?;
            }
            for key in std::mem::take(&mut self.again) {
                self.go(key);
            }
            if !self.deadlines.is_empty() || self.paused.is_some() {
                self.clock()?;
            }
        }
        for (_, session) in self.sessions {
            count(&mut self.shared.served, &session.wire);
        }
        Ok(self.shared.served)
    }

    /// How long to wait for events.
    fn timeout(&self) -> Timespec {
        let wait = if !self.again.is_empty() {
            Duration::ZERO
        } else if let Some(Reverse((deadline, _))) = self.deadlines.peek() {
            deadline.saturating_duration_since(Instant::now()).min(NAP)
        } else {
            NAP
        };
        Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() }
    }

    fn event(&mut self, event: Event) -> io::Result<()> {
        let token = event.data.u64();
        if token >= LISTENERS {
            return self.accept((token - LISTENERS) as usize);
        }
        let flags = event.flags;
        if let Some(session) = self.sessions.get_mut(token as usize) {
            let hung_up = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            session.wire.stirred(flags.contains(EventFlags::IN), hung_up);
            self.go(token as usize);
        }
        Ok(())
    }

    fn accept(&mut self, listener: usize) -> io::Result<()> {
        for _ in 0..ACCEPTS {
            match accept_with(&self.listeners[listener], SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => self.admit(socket)?,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    return self.pause(error);
                }
                // The connection was gone before it was accepted.
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn admit(&mut self, socket: OwnedFd) -> io::Result<()> {
        self.shared.served.connections += 1;
        let protocol = Protocol::new(&self.mode, &mut self.shared);
        let entry = self.sessions.vacant_entry();
        let key = entry.key();
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &socket, EventData::new_u64(key as u64), interest)?;
        entry.insert(Session { wire: Wire::new(socket), protocol, deadline: None });
        if !self.mode.waits_for_client() {
            self.go(key);
        }
        Ok(())
    }

    fn pause(&mut self, error: Errno) -> io::Result<()> {
        let open = self.sessions.len();
        eprintln!(
            "weir-bench: no more connections accepted for now, with {open} open: {error}; raise `ulimit -Hn`, or fs.file-max"
        );
        for listener in &self.listeners {
            epoll::delete(&self.epoll, listener)?;
        }
        self.paused = Some(Instant::now() + NAP);
        Ok(())
    }

    /// Does the things that are due.
    fn clock(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if self.paused.is_some_and(|until| now >= until) {
            self.paused = None;
            self.listen()?;
        }
        while let Some(&Reverse((deadline, key))) = self.deadlines.peek()
            && deadline <= now
        {
            self.deadlines.pop();
            if self.sessions.get(key).is_some_and(|session| session.deadline == Some(deadline)) {
                self.go(key);
            }
        }
        Ok(())
    }

    /// Has a session do as much as it can.
    fn go(&mut self, key: usize) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        match session.protocol.go(&mut session.wire, &mut self.shared) {
            Ok(Next::Wait) => session.deadline = None,
            Ok(Next::Until(deadline)) => {
                if session.deadline != Some(deadline) {
                    session.deadline = Some(deadline);
                    self.deadlines.push(Reverse((deadline, key)));
                }
            }
            Ok(Next::Again) => self.again.push(key),
            Ok(Next::End) => {
                session.protocol = Protocol::lingering();
                self.again.push(key);
            }
            Ok(Next::Close) => self.close(key),
            Ok(Next::Reset) => {
                session.wire.make_reset();
                self.close(key);
            }
            Err(_) => {
                session.protocol.broke(&mut self.shared);
                self.shared.served.broken += 1;
                self.close(key);
            }
        }
    }

    fn close(&mut self, key: usize) {
        let session = self.sessions.remove(key);
        count(&mut self.shared.served, &session.wire);
    }
}

fn count(served: &mut Served, wire: &Wire) {
    let (bytes_in, bytes_out) = wire.bytes();
    served.bytes_in += bytes_in;
    served.bytes_out += bytes_out;
}
