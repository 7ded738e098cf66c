//! The listening sockets of a shard (step 4 of the walk): arms, pauses, empties and closes them, and keeps the sockets that they
//! accepted until they are admitted. It admits none itself.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use weir_routing::GatewayId;

use super::message::ListenerContext;
use crate::boards::counters::ShardCounters;
use crate::boards::in_force::InForce;
use crate::clock::{Millis, earlier};
use crate::listener::{BACKLOG, ListenerId};
use crate::os::ring::{Request, Ring};
use crate::os::sys;

/// Accepting pauses for so long when descriptors have run out. It never resumes at once, for no event reports that there are some again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that are admitted in one turn, which takes about 3 ms: sessions and timers wait for no longer queue than that.
pub(super) const ACCEPTS_A_TURN: usize = 128;
/// So many sockets may wait to be admitted before accepting pauses: further clients wait in the kernel's queue, which holds as many.
const ARRIVED_MAX: usize = BACKLOG as usize;
/// How long a closing listener, which gets no new SYNs already, waits for handshakes in progress.
const HANDSHAKES_END: Duration = Duration::from_millis(5);

/// This shard's socket of a listener.
struct Listening {
    socket: Arc<OwnedFd>,
    context: ListenerContext,
    is_armed: bool,
    closing: Closing,
}

/// How far a listener's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// It is emptied at this time.
    At(Millis),
    /// The accept was cancelled; its last completion empties the listener.
    Cancelled,
}

/// A socket that was accepted and waits to be admitted.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) listener: ListenerId,
    pub(super) socket: OwnedFd,
    pub(super) at: Millis,
}

/// The listeners of a shard.
#[derive(Default)]
pub(super) struct Listeners {
    all: HashMap<ListenerId, Listening>,
    /// When the next closing listener is to be emptied.
    close_at: Option<Millis>,
    arrived: VecDeque<Arrived>,
    /// Accepting pauses until then: descriptors ran out, or the kernel is short of memory, or too many sockets have arrived.
    paused_until: Option<Millis>,
}

impl Listeners {
    /// How many there are, closing ones included.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether sockets wait to be admitted.
    pub(super) fn has_arrived(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// The next socket to be admitted.
    pub(super) fn next_arrived(&mut self) -> Option<Arrived> {
        self.arrived.pop_front()
    }

    /// How connections of a listener are decided, and whether it is closing.
    pub(super) fn context(&self, id: ListenerId) -> Option<(&ListenerContext, bool)> {
        self.all.get(&id).map(|listening| (&listening.context, listening.closing != Closing::No))
    }

    /// When [`Self::keep_up`] has something to do.
    pub(super) fn due(&self) -> Option<Millis> {
        earlier(self.paused_until, self.close_at)
    }

    /// A completion of a listener's accept.
    pub(super) fn accepted(
        &mut self,
        id: ListenerId,
        result: io::Result<OwnedFd>,
        more: bool,
        ring: &mut Ring,
        counters: &ShardCounters,
        now: Millis,
    ) {
        let Some(listening) = self.all.get_mut(&id) else {
            counters.stale_completions.add(1);
            return;
        };
        listening.is_armed = more;
        match result {
            Ok(socket) => {
                self.arrived.push_back(Arrived { listener: id, socket, at: now });
                if self.arrived.len() >= ARRIVED_MAX {
                    self.pause(ring, now);
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => {}
            Err(error) => {
                counters.accept_failed(&error);
                // One that was given up while it waited is no reason to pause; anything else would come again at once.
                if error.raw_os_error() != Some(libc::ECONNABORTED) {
                    self.pause(ring, now);
                }
            }
        }
        let Some(listening) = self.all.get(&id).filter(|listening| !listening.is_armed) else { return };
        match listening.closing {
            Closing::Cancelled => self.empty_at(id, now),
            Closing::No | Closing::At(_) if self.paused_until.is_none() => self.arm(id, ring),
            Closing::No | Closing::At(_) => {}
        }
    }

    /// Takes over the listeners of a new table: those that stay belong to it from now on, new ones are opened, the others close.
    /// Returns the tables that they belonged to.
    pub(super) fn take_table(
        &mut self,
        in_force: &Arc<InForce>,
        gateways: &HashMap<ListenerId, GatewayId>,
        opened: Vec<(ListenerId, SocketAddr, Arc<OwnedFd>)>,
        ring: &mut Ring,
        now: Millis,
    ) -> Vec<Arc<InForce>> {
        let mut retired = Vec::new();
        for id in self.ids(|_| true) {
            match (gateways.get(&id), self.all.get_mut(&id)) {
                (Some(&gateway), Some(listening)) => {
                    listening.context.gateway = gateway;
                    retired.push(std::mem::replace(&mut listening.context.in_force, Arc::clone(in_force)));
                }
                _ => self.close(id, now),
            }
        }
        for (id, address, socket) in opened {
            let Some(&gateway) = gateways.get(&id) else { continue };
            let context = ListenerContext { address, gateway, in_force: Arc::clone(in_force) };
            self.all.insert(id, Listening { socket, context, is_armed: false, closing: Closing::No });
            // During a pause, its end arms the listener.
            if self.paused_until.is_none() {
                self.arm(id, ring);
            }
        }
        retired
    }

    /// Pauses accepting: descriptors ran out, or something else that time mends. An armed accept would take the next descriptor
    /// that comes free, and keeps the limit under which it was armed.
    pub(super) fn pause(&mut self, ring: &mut Ring, now: Millis) {
        if self.paused_until.replace(now.after(ACCEPT_PAUSE)).is_some() {
            return;
        }
        for id in self.ids(|listening| listening.is_armed && listening.closing == Closing::No) {
            ring.cancel(Request::Accept(id.0));
        }
    }

    /// Closes every listener.
    pub(super) fn close_all(&mut self, now: Millis) {
        self.ids(|_| true).into_iter().for_each(|id| self.close(id, now));
    }

    /// Resumes accepting after a pause, and empties and closes listeners whose time has come. Returns the tables that closed ones
    /// belonged to.
    pub(super) fn keep_up(&mut self, ring: &mut Ring, now: Millis) -> Vec<Arc<InForce>> {
        if self.paused_until.is_some_and(|at| at <= now) {
            self.paused_until = None;
            let is_resting = |it: &Listening| !it.is_armed && it.closing != Closing::Cancelled;
            self.ids(is_resting).into_iter().for_each(|id| self.arm(id, ring));
        }
        if self.close_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.close_at = None;
        let closing = self.ids(|listening| matches!(listening.closing, Closing::At(_)));
        closing.into_iter().filter_map(|id| self.go_on_closing(id, ring, now)).collect()
    }

    /// Resets the sockets that wait, where the process ends.
    pub(super) fn reset_arrived(&self) {
        self.arrived.iter().for_each(|arrived| sys::reset(arrived.socket.as_fd()));
    }

    fn ids(&self, wanted: impl Fn(&Listening) -> bool) -> Vec<ListenerId> {
        self.all.iter().filter(|(_, listening)| wanted(listening)).map(|(&id, _)| id).collect()
    }

    fn arm(&mut self, id: ListenerId, ring: &mut Ring) {
        if let Some(listening) = self.all.get_mut(&id) {
            ring.accept(listening.socket.as_fd(), id.0);
            listening.is_armed = true;
        }
    }

    /// The first step of closing: closing at once would reset what waits in the queue.
    fn close(&mut self, id: ListenerId, now: Millis) {
        if self.all.get(&id).is_some_and(|listening| listening.closing == Closing::No) {
            self.empty_at(id, now.after(HANDSHAKES_END));
        }
    }

    /// A closing listener is emptied then.
    fn empty_at(&mut self, id: ListenerId, at: Millis) {
        if let Some(listening) = self.all.get_mut(&id) {
            listening.closing = Closing::At(at);
            self.close_at = earlier(self.close_at, Some(at));
        }
    }

    /// The next step of closing. Returns the listener's table with the last one.
    fn go_on_closing(&mut self, id: ListenerId, ring: &mut Ring, now: Millis) -> Option<Arc<InForce>> {
        let listening = self.all.get_mut(&id)?;
        match listening.closing {
            Closing::At(at) if at > now => self.empty_at(id, at),
            Closing::At(_) if listening.is_armed => {
                listening.closing = Closing::Cancelled;
                ring.cancel(Request::Accept(id.0));
            }
            Closing::At(_) => {
                let again = self.empty(id, now);
                // Sockets that wait to be admitted are decided by the listener's context.
                if again.is_none() && !self.arrived.iter().any(|arrived| arrived.listener == id) {
                    return self.all.remove(&id).map(|listening| listening.context.in_force);
                }
                self.empty_at(id, again.unwrap_or(now));
            }
            Closing::No | Closing::Cancelled => {}
        }
        None
    }

    /// Accepts the connections that still wait for a listener that gets no new SYNs. Returns when to go on; `None`: none was left.
    /// A turn accepts as many as it has room for, the next one goes on, and without descriptors the rest is accepted later.
    fn empty(&mut self, id: ListenerId, now: Millis) -> Option<Millis> {
        let listening = self.all.get(&id)?;
        let _ = rustix::io::ioctl_fionbio(&listening.socket, true);
        for _ in 0..ACCEPTS_A_TURN {
            match accept_with(&listening.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => self.arrived.push_back(Arrived { listener: id, socket, at: now }),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {
                    return Some(now.after(ACCEPT_PAUSE));
                }
                Err(_) => return None,
            }
        }
        Some(now)
    }
}
