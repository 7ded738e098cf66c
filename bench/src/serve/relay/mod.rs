//! `relay`: the floor of a comparison, the least that a relay which copies through userspace can do.
//!
//! One thread has one edge-triggered epoll and one buffer, which all connections share. It accepts, connects, receives, sends and closes;
//! it has no timeouts, limits, metrics or routes to choose from. A FIN is passed on as a FIN behind all bytes before it, and the
//! opposite direction lives on. A reset is passed on as a reset once it is received, and discards the bytes before it that are still in the
//! kernel's queue: waiting for those would be more than the least.

mod leg;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, accept_with, connect, ipproto, socket_with, sockopt,
};
use slab::Slab;

use self::leg::{Leg, Progress, pass};
use super::settings::Served;
use super::{host, listen};

/// Bytes received at once.
const BUFFER: usize = 64 << 10;
/// How often it is looked whether the relay should end.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Events taken at once.
const EVENTS: usize = 256;
/// Tokens from here on are listeners'; below, a session's legs have twice its key and one more.
const LISTENERS: u64 = 1 << 32;

/// Where a relay listens, and where its connections lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Pairs of the address to listen on, with port 0 for any free one, and the upstream.
    pub routes: Vec<(SocketAddr, SocketAddr)>,
    /// The core that it is pinned to.
    pub core: Option<usize>,
    /// Connections that may wait to be accepted.
    pub backlog: i32,
}

/// Relays until `stop` is set.
///
/// # Errors
///
/// When an address cannot be listened on, or the host runs out of descriptors or refuses epoll.
pub fn run(settings: &Settings, stop: &AtomicBool) -> anyhow::Result<Served> {
    host::allow_descriptors();
    host::pin(settings.core);
    Relay::new(settings)?.run(stop)
}

/// The two legs of a connection: the client's, the upstream's.
#[derive(Debug)]
struct Session {
    client: Leg,
    upstream: Leg,
    /// The upstream is not connected yet, and nothing is received before it is.
    connecting: bool,
}

#[derive(Debug)]
struct Relay {
    epoll: OwnedFd,
    listeners: Vec<(TcpListener, SocketAddr)>,
    sessions: Slab<Session>,
    buffer: Box<[u8]>,
    /// Sessions that were interrupted for others to have their turn.
    again: Vec<usize>,
    served: Served,
}

impl Relay {
    fn new(settings: &Settings) -> anyhow::Result<Relay> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("epoll")?;
        let mut listeners = Vec::new();
        for ((address, upstream), token) in settings.routes.iter().zip(LISTENERS..) {
            let listener = listen::listen("relay", *address, false, settings.backlog)?;
            epoll::add(&epoll, &listener, EventData::new_u64(token), EventFlags::IN).context("epoll")?;
            listeners.push((listener, *upstream));
        }
        Ok(Relay {
            epoll,
            listeners,
            sessions: Slab::new(),
            buffer: vec![0; BUFFER].into(),
            again: Vec::new(),
            served: Served::default(),
        })
    }

    fn run(mut self, stop: &AtomicBool) -> anyhow::Result<Served> {
        let mut events = Vec::with_capacity(EVENTS);
        let mut accepting = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let wait = if self.again.is_empty() { LOOK_EVERY } else { Duration::ZERO };
            let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll"),
            }
            for event in &events {
                match event.data.u64().checked_sub(LISTENERS) {
                    Some(listener) => accepting.push(listener as usize),
                    None => self.event(event.data.u64(), event.flags),
                }
            }
            for key in std::mem::take(&mut self.again) {
                self.relay(key);
            }
            // After the events, or one for a session that has just ended could meet a new one in its place.
            for listener in accepting.drain(..) {
                self.accept(listener)?;
            }
        }
        Ok(self.served)
    }

    fn event(&mut self, token: u64, flags: EventFlags) {
        let (key, is_upstream) = ((token / 2) as usize, token % 2 == 1);
        let Some(session) = self.sessions.get_mut(key) else { return };
        if is_upstream {
            session.connecting = false;
            session.upstream.note(flags);
        } else {
            session.client.note(flags);
        }
        self.relay(key);
    }

    /// Moves as much as can be moved for a session, and ends it if that was its end.
    fn relay(&mut self, key: usize) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        match session.relay(&self.epoll, &mut self.buffer, &mut self.served) {
            Ok(Progress::More) => self.again.push(key),
            Ok(Progress::Waits) if session.has_ended() => drop(self.sessions.remove(key)),
            Ok(Progress::Waits) => {}
            Err(_) => {
                self.served.broken += 1;
                let Session { client, upstream, .. } = self.sessions.remove(key);
                [client, upstream].iter().filter(|leg| !leg.is_broken()).for_each(Leg::make_reset);
            }
        }
    }

    /// Accepts one connection: where there are more, the listener is reported again in the next round.
    fn accept(&mut self, listener: usize) -> anyhow::Result<()> {
        let (listener, upstream) = &self.listeners[listener];
        let client = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(client) => client,
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                return Err(error).with_context(|| {
                    format!("accepting with {} connections open; raise `ulimit -Hn`", self.sessions.len())
                });
            }
            // There is none, or it was gone before it was accepted.
            Err(_) => return Ok(()),
        };
        self.served.connections += 1;
        let (upstream, connecting) = match dial(*upstream) {
            Ok(dialled) => dialled,
            Err(_) => {
                self.served.broken += 1;
                let _ = sockopt::set_socket_linger(&client, Some(Duration::ZERO));
                return Ok(());
            }
        };
        let entry = self.sessions.vacant_entry();
        let token = 2 * entry.key() as u64;
        let client = Leg::new(&self.epoll, client, token, false).context("epoll")?;
        let upstream = Leg::new(&self.epoll, upstream, token + 1, connecting).context("epoll")?;
        entry.insert(Session { client, upstream, connecting });
        Ok(())
    }
}

impl Session {
    fn relay(&mut self, epoll: &OwnedFd, buffer: &mut [u8], served: &mut Served) -> io::Result<Progress> {
        let Session { client, upstream, connecting } = self;
        if client.is_broken() || upstream.is_broken() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if *connecting {
            return Ok(Progress::Waits);
        }
        let up = pass([client, upstream], epoll, buffer, served)?;
        let down = pass([upstream, client], epoll, buffer, served)?;
        client.fail_behind(upstream);
        upstream.fail_behind(client);
        if client.is_broken() || upstream.is_broken() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(if up == Progress::More { up } else { down })
    }

    fn has_ended(&self) -> bool {
        self.client.has_ended() && self.upstream.has_ended()
    }
}

/// Begins to connect; returns whether that is still under way.
fn dial(upstream: SocketAddr) -> rustix::io::Result<(OwnedFd, bool)> {
    let family = if upstream.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match connect(&socket, &upstream) {
        Ok(()) => Ok((socket, false)),
        Err(Errno::INPROGRESS) => Ok((socket, true)),
        Err(error) => Err(error),
    }
}
