//! The simulated kernel: sockets with the peers at their other ends, pipes, and the poll that each socket has. It behaves as
//! Linux does where a relay can be wrong about it:
//!
//! * a socket's error is told once, to whichever call comes first, and shows in no read that follows a FIN;
//! * a poll reports wake-ups, not states: nothing for what is already there, and a mask of the wake-up only, but for a FIN's;
//! * a pipe is full by slots, and says so with the error that an empty socket gives;
//! * `close` of a socket with unread input resets it, and `close` of one that a poll holds does nothing.

use std::io;
use std::time::Duration;

use super::bytes::{Bytes, Fifo, Run};
use super::shape::{Ending, Shape};
use crate::relay::Hearing;

pub(crate) const IN: u8 = 1;
pub(crate) const OUT: u8 = 2;
pub(crate) const ERR: u8 = 4;
pub(crate) const HUP: u8 = 8;

/// The program and the kernel at the other end of a socket.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) to_send: u64,
    pub(crate) sent: u64,
    pub(crate) ending: Ending,
    pub(crate) ended: bool,
    /// It reads what arrives.
    pub(crate) reads: bool,
    pub(crate) window: usize,
    unread: usize,
    /// How many bytes have arrived, all of them in order.
    pub(crate) arrived: u64,
    pub(crate) has_fin: bool,
    pub(crate) has_reset: bool,
    closed: bool,
}

/// The state of a socket's poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poll {
    Armed,
    /// Its last completion came without MORE.
    Disarmed,
    Cancelled,
    /// Broken on purpose: taken for armed, and never heard of.
    Lost,
    Gone,
}

/// Our end of a connection.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) peer: Peer,
    /// The stream that this socket's peer must receive: the number of the socket at the other end of the session.
    pub(crate) feeds_from: usize,
    pub(crate) rx: Bytes,
    rx_room: usize,
    /// Bytes before a mark of urgent data: a read stops there once, a splice for ever.
    urgent_after: Option<usize>,
    pub(crate) fin_in: bool,
    pub(crate) tx: Bytes,
    tx_room: usize,
    /// What a write may leave unsent, until the bound is lifted.
    pub(crate) unsent_max: usize,
    /// A write was refused; a wake-up follows when a third of the room is free.
    pub(crate) wants_room: bool,
    pub(crate) fin_out: bool,
    /// sk_err: told once.
    error: Option<i32>,
    /// The connection is dead, by a reset or a time-out, since then.
    pub(crate) dead_at: Option<u64>,
    pub(crate) timed_out: bool,
    /// The peer is gone, and the kernel does not know.
    pub(crate) silent: bool,
    /// When the peer was heard last.
    heard_at: u64,
    /// Microseconds that keepalive takes.
    pub(crate) patience: Option<u64>,
    pub(crate) reset_by_us: bool,
    /// Somebody on our side was told of the error.
    pub(crate) told: bool,
    pub(crate) poll: Poll,
    /// Wake-ups that no completion has told yet: the last one's mask, and how many.
    pub(crate) woken: Option<(u8, u32)>,
    segment: usize,
    pub(crate) open: bool,
    /// When a byte was accepted or acknowledged last.
    pub(crate) moved_at: u64,
}

impl Socket {
    /// A write would be accepted, and no wake-up is owed for it.
    pub(crate) fn takes(&self) -> bool {
        self.dead_at.is_none() && !self.wants_room && self.tx.len() < self.room()
    }

    /// Bytes that writes may leave here.
    fn room(&self) -> usize {
        self.tx_room.min(self.unsent_max)
    }

    /// Since when a silent peer may be given up: by then it has left bytes unacknowledged for as long as keepalive takes.
    pub(crate) fn may_be_given_up(&self, now: u64) -> Option<u64> {
        self.silent_since(now).filter(|_| self.unsent() > 0)
    }

    /// Since when a peer has been silent for as long as keepalive takes.
    pub(crate) fn silent_since(&self, now: u64) -> Option<u64> {
        let since = self.heard_at + self.patience?;
        (self.silent && since <= now).then_some(since)
    }

    /// SIOCOUTQ. It does not return to 0 when a reset comes.
    pub(crate) fn unsent(&self) -> usize {
        self.tx.len() + usize::from(self.fin_out && !self.peer.has_fin)
    }

    pub(crate) fn has_event(&self) -> bool {
        self.woken.is_some() || matches!(self.poll, Poll::Disarmed | Poll::Cancelled)
    }

    pub(crate) fn state(&self) -> u8 {
        let dead = self.dead_at.is_some();
        let readable = !self.rx.is_empty() || self.fin_in || dead;
        let writable = dead || self.tx.len() < self.room();
        let error = self.error.is_some();
        let hung_up = self.fin_in || dead;
        IN * u8::from(readable) + OUT * u8::from(writable) + ERR * u8::from(error) + HUP * u8::from(hung_up)
    }

    pub(crate) fn wake(&mut self, mask: u8) {
        if self.poll == Poll::Armed {
            let count = self.woken.map_or(0, |(_, count)| count);
            self.woken = Some((mask, count + 1));
        }
    }

    fn die(&mut self, errno: i32, now: u64) {
        if self.dead_at.is_some() || self.reset_by_us {
            return;
        }
        // tcp_reset: after a FIN the error is EPIPE.
        self.error = Some(if self.fin_in && errno == libc::ECONNRESET { libc::EPIPE } else { errno });
        self.dead_at = Some(now);
        self.timed_out = errno == libc::ETIMEDOUT;
        self.wake(IN | OUT | ERR | HUP);
    }
}

/// A span in the unit of the simulated clock.
pub(crate) fn micros(span: Duration) -> u64 {
    span.as_micros() as u64
}

/// The whole of it.
pub(crate) struct Net {
    pub(crate) rng: fastrand::Rng,
    /// Microseconds.
    pub(crate) now: u64,
    pub(crate) faults: bool,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) pipes: Vec<Fifo>,
    pub(crate) pipe_limit: usize,
    pub(crate) pipe_slots: usize,
    pub(crate) tails: Vec<Option<Bytes>>,
    pub(crate) tail_sizes: Vec<usize>,
    /// Memory of the tails that are held, and their budget.
    pub(crate) tail_bytes: usize,
    pub(crate) tail_budget: usize,
    /// The kernel is short of memory: requests to the ring wait.
    pub(crate) refuses: bool,
    pub(crate) refused: u64,
    /// Broken on purpose: they do not wait, they are lost.
    pub(crate) loses_refused: bool,
    pub(crate) hot: Bytes,
    /// The first rule that was broken.
    pub(crate) broken: Option<String>,
    pub(crate) calls: usize,
}

impl Net {
    pub(crate) fn new(seed: u64, pipe_limit: usize, pipe_slots: usize) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            now: 1_000_000,
            faults: true,
            sockets: vec![],
            pipes: vec![],
            pipe_limit,
            pipe_slots,
            tails: vec![],
            tail_sizes: vec![],
            tail_bytes: 0,
            tail_budget: 64 << 20,
            refuses: false,
            refused: 0,
            loses_refused: false,
            hot: Bytes::default(),
            broken: None,
            calls: 0,
        }
    }

    /// Adds an open socket, whose peer is to receive what the peer of the socket `feeds_from` sends.
    pub(crate) fn add(
        &mut self,
        shape: Shape,
        feeds_from: usize,
        patience: Option<Duration>,
        poll: Poll,
    ) -> usize {
        self.sockets.push(Socket {
            peer: Peer {
                to_send: shape.to_send,
                sent: 0,
                ending: shape.ending,
                ended: false,
                reads: shape.reads,
                window: shape.window,
                unread: 0,
                arrived: 0,
                has_fin: false,
                has_reset: false,
                closed: false,
            },
            feeds_from,
            rx: Bytes::default(),
            urgent_after: None,
            rx_room: shape.rx_room,
            fin_in: false,
            tx: Bytes::default(),
            tx_room: shape.tx_room,
            unsent_max: 256 << 10,
            wants_room: false,
            fin_out: false,
            error: None,
            dead_at: None,
            timed_out: false,
            silent: false,
            heard_at: self.now,
            patience: patience.map(micros),
            reset_by_us: false,
            told: false,
            poll,
            woken: None,
            segment: shape.segment,
            open: true,
            moved_at: self.now,
        });
        self.sockets.len() - 1
    }

    /// Notes that a rule is broken; the first one counts.
    pub(crate) fn require(&mut self, holds: bool, claim: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(claim());
        }
    }

    // What peers and the network do.

    /// Up to `count` bytes of the peer arrive here. True if some did.
    pub(crate) fn peer_sends(&mut self, socket: usize, count: usize) -> bool {
        let it = &mut self.sockets[socket];
        let room = it.rx_room.saturating_sub(it.rx.len());
        let left = (it.peer.to_send - it.peer.sent) as usize;
        let len = count.min(room).min(left);
        let deaf = it.dead_at.is_some() || it.peer.has_reset || it.peer.ended || !it.open;
        if len == 0 || deaf {
            return false;
        }
        if self.faults && self.rng.u8(..) < 4 {
            it.urgent_after = Some(it.rx.len() + self.rng.usize(..len));
        }
        it.rx.push(Run { stream: socket, at: it.peer.sent, len });
        it.peer.sent += len as u64;
        it.heard_at = self.now;
        it.wake(IN);
        true
    }

    /// The peer ends as it is told to, once it has sent all. True if it did.
    pub(crate) fn peer_ends(&mut self, socket: usize) -> bool {
        let now = self.now;
        let it = &mut self.sockets[socket];
        let peer = &mut it.peer;
        let waits = peer.ending == Ending::Answer && !peer.has_fin;
        if peer.ended || peer.has_reset || it.dead_at.is_some() || peer.sent < peer.to_send || waits {
            return false;
        }
        peer.ended = true;
        match peer.ending {
            Ending::Reset => it.die(libc::ECONNRESET, now),
            Ending::Vanish => it.die(libc::ETIMEDOUT, now),
            Ending::Silence => it.silent = true,
            Ending::Close if peer.unread > 0 => it.die(libc::ECONNRESET, now),
            Ending::Fin | Ending::Answer | Ending::Close | Ending::FinReset => {
                peer.closed = peer.ending == Ending::Close;
                it.fin_in = true;
                // A FIN wakes without a mask: the completion has the state.
                it.wake(it.state());
                if it.peer.ending == Ending::FinReset {
                    it.peer.ended = false;
                    it.peer.ending = Ending::Reset;
                }
            }
        }
        true
    }

    /// Up to `count` bytes of ours reach the peer's kernel, and a FIN behind them. True if something did.
    pub(crate) fn flow(&mut self, socket: usize, count: usize) -> bool {
        let now = self.now;
        let it = &mut self.sockets[socket];
        if it.dead_at.is_some() || it.reset_by_us || it.silent {
            return false;
        }
        let bytes = it.tx.take(count.min(it.peer.window - it.peer.unread));
        let moved = !bytes.is_empty();
        if moved && it.peer.closed {
            it.die(libc::ECONNRESET, now);
            return true;
        }
        let (arrived, stream) = (it.peer.arrived, it.feeds_from);
        let mut at = arrived;
        let right = bytes.runs().all(|run| {
            let right = run.stream == stream && run.at == at;
            at += run.len as u64;
            right
        });
        it.peer.arrived = at;
        it.peer.unread += bytes.len();
        if moved {
            it.moved_at = now;
            it.heard_at = now;
        }
        if it.wants_room && it.tx.len() * 3 <= it.room() * 2 {
            it.wants_room = false;
            it.wake(OUT);
        }
        let fin = it.fin_out && it.tx.is_empty() && !it.peer.has_fin;
        it.peer.has_fin |= fin;
        self.require(right, || {
            format!("socket {socket} received other bytes than it should: {bytes:?} at {arrived}")
        });
        moved || fin
    }

    /// The peer's program reads. True if there was something.
    pub(crate) fn peer_reads(&mut self, socket: usize, count: usize) -> bool {
        let peer = &mut self.sockets[socket].peer;
        let count = if peer.reads { count.min(peer.unread) } else { 0 };
        peer.unread -= count;
        count > 0
    }

    /// The kernel has found out that a silent peer is gone, where it does. True if it has.
    pub(crate) fn peer_is_missed(&mut self, socket: usize) -> bool {
        let now = self.now;
        let it = &mut self.sockets[socket];
        let missed = it.silent && (it.unsent() == 0 || it.patience.is_none());
        if missed {
            it.silent = false;
            it.die(libc::ETIMEDOUT, now);
        }
        missed
    }

    // System calls.

    /// Enters a call: it may be interrupted.
    fn enter(&mut self, socket: usize) -> io::Result<()> {
        self.calls += 1;
        let open = self.sockets[socket].open;
        self.require(open, || format!("a call on the closed socket {socket}"));
        if self.faults && self.rng.u8(..) < 8 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    /// With faults a call may do less than it could.
    fn short(&mut self, count: usize) -> usize {
        if self.faults && count > 1 && self.rng.u8(..) < 40 { self.rng.usize(1..=count) } else { count }
    }

    /// What a read finds where there are no bytes.
    fn end_of_input(&mut self, socket: usize) -> io::Result<usize> {
        let it = &mut self.sockets[socket];
        if it.fin_in {
            return Ok(0);
        }
        match it.error.take() {
            Some(errno) => {
                it.told = true;
                Err(io::Error::from_raw_os_error(errno))
            }
            None if it.dead_at.is_some() => Ok(0),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(crate) fn recv(&mut self, socket: usize, max: usize) -> io::Result<usize> {
        self.enter(socket)?;
        if self.sockets[socket].rx.is_empty() {
            return self.end_of_input(socket);
        }
        let it = &mut self.sockets[socket];
        // At the mark itself a read goes past it.
        let visible = it.urgent_after.take_if(|before| *before == 0).map_or(it.urgent_after, |_| None);
        let there = it.rx.len().min(visible.unwrap_or(usize::MAX));
        let count = self.short(max.min(there));
        self.hot = self.take_received(socket, count);
        Ok(count)
    }

    fn take_received(&mut self, socket: usize, count: usize) -> Bytes {
        let it = &mut self.sockets[socket];
        it.urgent_after = it.urgent_after.map(|before| before - count);
        it.rx.take(count)
    }

    /// What TCP_INQ says after a read: neither bytes nor a FIN are left. An error is not in it, and some kernels do not say.
    pub(crate) fn is_drained(&mut self, socket: usize) -> bool {
        let it = &self.sockets[socket];
        it.rx.is_empty() && !it.fin_in && (!self.faults || self.rng.u8(..) >= 32)
    }

    pub(crate) fn peek(&mut self, socket: usize) -> io::Result<usize> {
        self.enter(socket)?;
        if self.sockets[socket].rx.is_empty() { self.end_of_input(socket) } else { Ok(1) }
    }

    /// How much of `count` a write takes.
    fn room(&mut self, socket: usize, count: usize) -> io::Result<usize> {
        self.enter(socket)?;
        let it = &mut self.sockets[socket];
        let finished = it.fin_out;
        if it.dead_at.is_some() || it.reset_by_us || finished {
            it.told = true;
            let errno = it.error.take().unwrap_or(libc::EPIPE);
            self.require(!finished, || format!("a write to socket {socket} after its FIN"));
            return Err(io::Error::from_raw_os_error(errno));
        }
        let room = it.room().saturating_sub(it.tx.len());
        if room == 0 {
            it.wants_room = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        it.moved_at = self.now;
        if !it.silent {
            // A living peer answers what it is sent, if only that its window is closed.
            it.heard_at = self.now;
        }
        Ok(self.short(count.min(room)))
    }

    pub(crate) fn send_hot(&mut self, socket: usize, from: usize, to: usize) -> io::Result<usize> {
        let count = self.room(socket, to - from)?;
        let bytes = self.hot.range(from, from + count);
        self.sockets[socket].tx.append(bytes);
        Ok(count)
    }

    pub(crate) fn send_tail(&mut self, socket: usize, tail: u32, count: usize) -> io::Result<usize> {
        let count = self.room(socket, count)?;
        let Some(bytes) = self.tails[tail as usize].as_mut().map(|tail| tail.take(count)) else {
            self.require(false, || format!("tail {tail} was sent after it was freed"));
            return Err(io::ErrorKind::NotFound.into());
        };
        self.sockets[socket].tx.append(bytes);
        Ok(count)
    }

    /// `Err(StorageFull)` stands for the EAGAIN of a full pipe, so that a caller in the simulation can tell it from the other.
    pub(crate) fn splice_in(&mut self, socket: usize, pipe: u32, max: usize) -> io::Result<usize> {
        self.enter(socket)?;
        let free = self.pipe_slots - self.pipes[pipe as usize].slots_used;
        if free == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let there =
            self.sockets[socket].rx.len().min(self.sockets[socket].urgent_after.unwrap_or(usize::MAX));
        if there == 0 {
            return self.end_of_input(socket);
        }
        let segment = self.sockets[socket].segment;
        let count = self.short(max.min(free * segment).min(there));
        let bytes = self.take_received(socket, count);
        let it = &mut self.pipes[pipe as usize];
        it.bytes.append(bytes);
        it.slots_used += count.div_ceil(segment);
        Ok(count)
    }

    pub(crate) fn splice_out(&mut self, pipe: u32, socket: usize, max: usize) -> io::Result<usize> {
        let held = self.pipes[pipe as usize].bytes.len();
        self.require(held > 0, || format!("a splice out of the empty pipe {pipe}"));
        let count = self.room(socket, max.min(held))?;
        let it = &mut self.pipes[pipe as usize];
        let bytes = it.bytes.take(count);
        it.slots_used = (it.slots_used * it.bytes.len()).div_ceil(held);
        self.sockets[socket].tx.append(bytes);
        Ok(count)
    }

    pub(crate) fn lift_unsent_bound(&mut self, socket: usize) {
        self.sockets[socket].unsent_max = usize::MAX;
    }

    pub(crate) fn shutdown_write(&mut self, socket: usize) {
        let it = &mut self.sockets[socket];
        let twice = std::mem::replace(&mut it.fin_out, true);
        if !it.silent {
            // As for bytes: a living peer acknowledges it.
            it.heard_at = self.now;
        }
        self.require(!twice, || format!("socket {socket} got a second FIN"));
    }

    pub(crate) fn reset(&mut self, socket: usize) {
        let it = &mut self.sockets[socket];
        it.tx.clear();
        it.rx.clear();
        if it.dead_at.is_none() {
            it.reset_by_us = true;
            it.peer.has_reset = true;
        }
    }

    pub(crate) fn take_error(&mut self, socket: usize) -> Option<io::Error> {
        let it = &mut self.sockets[socket];
        it.told |= it.error.is_some();
        it.error.take().map(io::Error::from_raw_os_error)
    }

    /// TCP_INFO. To a living peer something may be under way at this very moment, which it answers; until then it may have been
    /// silent for long, for a closed window is probed rarely.
    pub(crate) fn hearing(&mut self, socket: usize) -> Option<Hearing> {
        let now = self.now;
        let it = &mut self.sockets[socket];
        if it.unsent() == 0 || it.dead_at.is_some() || it.reset_by_us {
            return None;
        }
        let unanswered = it.silent || self.faults && self.rng.bool();
        // Ages are counted in ticks.
        let inexact = if self.faults { self.rng.u64(0..10_000) } else { 0 };
        let heard = Duration::from_micros(now - it.heard_at + inexact);
        if unanswered && !it.silent {
            it.heard_at = now;
        }
        Some(Hearing { unanswered, heard })
    }

    /// `close`. Under a poll nothing happens: the poll holds the socket.
    pub(crate) fn close(&mut self, socket: usize) {
        let it = &mut self.sockets[socket];
        let twice = !std::mem::replace(&mut it.open, false);
        if it.poll == Poll::Gone {
            let unread = !it.rx.is_empty() && it.dead_at.is_none();
            if unread {
                it.reset_by_us = true;
                it.peer.has_reset = true;
                it.tx.clear();
            }
            it.fin_out = true;
        }
        self.require(!twice, || format!("socket {socket} was closed twice"));
    }
}
