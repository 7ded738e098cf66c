//! The system that a shard runs on: its ring, its sockets, and the calls of relays. [`System`] says what they are for.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use rustix::pipe::SpliceFlags;
use socket2::{Domain, Protocol, Socket, Type};
use weir_routing::Policy;

use super::pools::Pools;
use super::system::System;
use crate::boards::counters::{Series, ShardCounters};
use crate::clock::Millis;
use crate::os::ring::{Completion, Request, Ring, SlotId, Watched};
use crate::os::sys::{self, LastHeard};
use crate::relay::{Hearing, Kernel, Path, Pipe, Received, Side, Tail};

/// See the file's opening.
pub(super) struct Live {
    /// The shard's ring.
    pub(super) ring: Ring,
    pools: Pools,
    counters: Arc<ShardCounters>,
}

impl Live {
    /// Sets up a ring for the calling thread.
    ///
    /// Errors: those of [`Ring::new`].
    pub(super) fn new(pools: Pools, counters: Arc<ShardCounters>) -> io::Result<Self> {
        Ok(Self { ring: Ring::new()?, pools, counters })
    }

    /// Turns the ring.
    ///
    /// Panics: the ring has failed, without which a shard can serve no connection.
    pub(super) fn turn(&mut self, sleep: Duration, gather: Duration, completions: &mut Vec<Completion>) {
        if let Err(error) = self.ring.turn(sleep, gather, completions) {
            panic!("the ring of this shard failed: {error}");
        }
    }

    /// Gives back what pools have not needed for a while, and publishes what sessions hold of them.
    pub(super) fn trim(&mut self, now: Millis) {
        self.pools.trim(now);
        self.counters.pipes_in_use.set(self.pools.pipes_in_use());
        self.counters.tails_in_use.set(self.pools.tails_in_use());
        self.counters.tail_bytes.set(self.pools.tail_bytes());
    }
}

impl System for Live {
    type Socket = OwnedFd;
    type Calls<'a> = Calls<'a>;

    fn open_upstream(&mut self, address: SocketAddr, policy: &Policy) -> io::Result<OwnedFd> {
        // Blocking: the ring waits for the connect itself, and would give up on a non-blocking one.
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        sys::set_options(socket.as_fd(), policy.keepalive, policy.user_timeout)?;
        Ok(socket.into())
    }

    fn connect(&mut self, socket: &OwnedFd, address: SocketAddr, slot: SlotId) {
        self.ring.connect(socket.as_fd(), address.into(), slot);
    }

    fn poll(&mut self, socket: &OwnedFd, watched: Watched) {
        self.ring.poll(socket.as_fd(), watched);
    }

    fn cancel(&mut self, request: Request) {
        self.ring.cancel(request);
    }

    fn begin_relaying(&mut self, socket: &OwnedFd) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(socket, true)?)
    }

    fn reset(&mut self, socket: &OwnedFd) {
        sys::reset(socket.as_fd());
    }

    fn local(&self, socket: &OwnedFd) -> io::Result<SocketAddr> {
        sys::local(socket.as_fd())
    }

    fn has_source_address(&self, to: SocketAddr) -> bool {
        sys::has_source_address(to)
    }

    fn calls<'a>(
        &'a mut self,
        client: &'a OwnedFd,
        upstream: &'a OwnedFd,
        series: &'a Series,
        now: Millis,
    ) -> Calls<'a> {
        let (client, upstream) = (client.as_fd(), upstream.as_fd());
        Calls { client, upstream, pools: &mut self.pools, counters: &self.counters, series, now }
    }
}

/// The calls of one session's relay.
pub(super) struct Calls<'a> {
    client: BorrowedFd<'a>,
    upstream: BorrowedFd<'a>,
    pools: &'a mut Pools,
    counters: &'a ShardCounters,
    series: &'a Series,
    now: Millis,
}

impl<'a> Calls<'a> {
    fn socket(&self, side: Side) -> BorrowedFd<'a> {
        match side {
            Side::Client => self.client,
            Side::Upstream => self.upstream,
        }
    }

    fn send(&self, side: Side, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(self.socket(side), bytes, SendFlags::NOSIGNAL)?)
    }

    fn splice(from: impl AsFd, to: impl AsFd, max: usize) -> io::Result<usize> {
        Ok(rustix::pipe::splice(from, None, to, None, max, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?)
    }
}

impl Kernel for Calls<'_> {
    fn read_limit(&self) -> usize {
        self.pools.read_limit()
    }

    fn recv(&mut self, from: Side, max: usize) -> io::Result<Received> {
        let (bytes, left) = sys::receive(self.socket(from), self.pools.hot_mut(max))?;
        Ok(Received { bytes, is_drained: left == Some(0) })
    }

    fn peek(&mut self, from: Side) -> io::Result<usize> {
        let mut byte = [0u8];
        let (_, received) = rustix::net::recv(self.socket(from), &mut byte, RecvFlags::PEEK)?;
        Ok(received)
    }

    fn unread(&mut self, from: Side) -> usize {
        rustix::io::ioctl_fionread(self.socket(from)).map_or(0, |bytes| bytes as usize)
    }

    fn send_hot(&mut self, side: Side, from: usize, to: usize) -> io::Result<usize> {
        self.send(side, self.pools.hot(from, to))
    }

    fn keep_tail(&mut self, from: usize, to: usize) -> Tail {
        self.pools.keep_tail(from, to)
    }

    fn send_tail(&mut self, side: Side, tail: &Tail) -> io::Result<usize> {
        self.send(side, self.pools.tail(tail))
    }

    fn free_tail(&mut self, tail: Tail) {
        self.pools.free_tail(tail, self.now);
    }

    fn take_pipe(&mut self) -> Option<Pipe> {
        self.pools.take_pipe()
    }

    fn give_pipe(&mut self, pipe: Pipe) {
        self.pools.give_pipe(pipe, self.now);
    }

    fn close_pipe(&mut self, pipe: Pipe) {
        self.pools.close_pipe(pipe);
    }

    fn splice_in(&mut self, from: Side, pipe: &Pipe, max: usize) -> io::Result<usize> {
        Self::splice(self.socket(from), self.pools.write_end(pipe), max)
    }

    fn splice_out(&mut self, pipe: &Pipe, to: Side, max: usize) -> io::Result<usize> {
        Self::splice(self.pools.read_end(pipe), self.socket(to), max)
    }

    fn lift_unsent_bound(&mut self, side: Side) {
        // It fails only for a socket that is dead, which its poll reports.
        let _ = sys::lift_unsent_bound(self.socket(side));
    }

    fn shutdown_write(&mut self, side: Side) {
        // ENOTCONN: the leg was reset meanwhile, which its poll reports.
        let _ = rustix::net::shutdown(self.socket(side), Shutdown::Write);
    }

    fn reset(&mut self, side: Side) {
        sys::reset(self.socket(side));
    }

    fn unsent(&mut self, side: Side) -> usize {
        sys::unsent(self.socket(side)).unwrap_or(0)
    }

    fn hearing(&mut self, side: Side) -> Option<Hearing> {
        let LastHeard { age, is_answer_due } = sys::last_heard(self.socket(side))?;
        Some(Hearing { unanswered: is_answer_due, heard: age })
    }

    fn take_error(&mut self, side: Side) -> Option<io::Error> {
        let error: Result<Result<(), Errno>, Errno> = rustix::net::sockopt::socket_error(self.socket(side));
        error.ok()?.err().map(io::Error::from)
    }

    fn count(&mut self, to: Side, bytes: usize, path: Path) {
        let bytes = bytes as u64;
        match to {
            Side::Client => self.series.bytes_down.add(bytes),
            Side::Upstream => self.series.bytes_up.add(bytes),
        }
        match path {
            Path::Copied => self.counters.copied_bytes.add(bytes),
            Path::Spliced => self.counters.spliced_bytes.add(bytes),
        }
    }
}
