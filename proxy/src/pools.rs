//! What sessions of a shard borrow while bytes flow: the hot buffer, tails, pipes. An idle session holds none of it, and what
//! nobody has needed for a while goes back to the system.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags};
use slab::Slab;

use crate::clock::Millis;
use crate::metrics::{Series, ShardCounters};
use crate::relay::{HOT_BUFFER, Hearing, Kernel, Path, Pipe, Received, Side, Tail};
use crate::sys;

/// The first pipes of a process hold this much: a stream then moves in fewer, larger steps.
const LARGE_PIPE: usize = 1 << 20;
/// Large pipes in a process. They are the only ones that could meet `pipe-user-pages-soft` (64 MiB), past which an ordinary
/// user's new pipes shrink to two pages.
const LARGE_PIPES: u64 = 32;
/// All pipes in a process: this part of the descriptor limit (two descriptors each).
const DESCRIPTORS_A_PIPE: u64 = 32;
/// Every so often what nobody needed since the last time is given back to the system; with the next turn, nothing wakes for it.
const KEEP_IDLE: Duration = Duration::from_millis(500);

const _: () =
    assert!(LARGE_PIPES as usize * LARGE_PIPE <= 64 << 20, "large pipes alone stay under the soft limit");

/// Pipes that the sessions of a process may hold under this descriptor limit.
pub fn pipes_max(descriptors: u64) -> u64 {
    descriptors / DESCRIPTORS_A_PIPE
}

/// What nobody holds at the moment.
#[derive(Default)]
struct Idle {
    items: Vec<u32>,
    /// The fewest there were since the last trim: so many nobody needed.
    unneeded: usize,
}

impl Idle {
    fn take(&mut self) -> Option<u32> {
        let item = self.items.pop();
        self.unneeded = self.unneeded.min(self.items.len());
        item
    }

    /// Takes out what nobody needed since the last time, longest unused first.
    fn trim(&mut self) -> Vec<u32> {
        let unneeded: Vec<u32> = self.items.drain(..self.unneeded).collect();
        self.unneeded = self.items.len();
        unneeded
    }
}

/// The pools of one shard.
pub struct Pools {
    hot: Box<[u8]>,
    tails: Slab<Box<[u8]>>,
    idle_tails: Idle,
    pipes: Slab<PipePair>,
    idle_pipes: Idle,
    pipe_quota: usize,
    large_left: usize,
    trim_at: Option<Millis>,
}

struct PipePair {
    read: OwnedFd,
    write: OwnedFd,
    is_large: bool,
}

impl Pools {
    /// The pools of one of `shards` shards of a process with this descriptor limit.
    pub fn new(shards: usize, descriptors: u64) -> Self {
        let part = |whole: u64| usize::try_from(whole.div_ceil(shards as u64)).unwrap_or(usize::MAX);
        Self {
            hot: vec![0; HOT_BUFFER].into(),
            tails: Slab::new(),
            idle_tails: Idle::default(),
            pipes: Slab::new(),
            idle_pipes: Idle::default(),
            pipe_quota: part(pipes_max(descriptors)),
            large_left: part(LARGE_PIPES),
            trim_at: None,
        }
    }

    /// Pipes that sessions hold.
    pub fn pipes_in_use(&self) -> u64 {
        (self.pipes.len() - self.idle_pipes.items.len()) as u64
    }

    /// Gives back to the system what has been idle long enough.
    pub fn trim(&mut self, now: Millis) {
        if self.trim_at.is_none_or(|at| now < at) {
            return;
        }
        for pipe in self.idle_pipes.trim() {
            self.remove_pipe(pipe);
        }
        for tail in self.idle_tails.trim() {
            self.tails.remove(tail as usize);
        }
        let is_idle = !self.idle_pipes.items.is_empty() || !self.idle_tails.items.is_empty();
        self.trim_at = is_idle.then(|| now.after(KEEP_IDLE));
    }

    fn remove_pipe(&mut self, pipe: u32) {
        self.large_left += usize::from(self.pipes.remove(pipe as usize).is_large);
    }

    fn take_pipe(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.idle_pipes.take() {
            return Some(Pipe(pipe));
        }
        if self.pipes.len() >= self.pipe_quota {
            return None;
        }
        // No descriptor left: the direction stays in copy.
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let is_large = self.large_left > 0 && rustix::pipe::fcntl_setpipe_size(&write, LARGE_PIPE).is_ok();
        // One that is refused (`pipe-max-size`, the user's pages) would be refused again.
        self.large_left = if is_large { self.large_left - 1 } else { 0 };
        Some(Pipe(self.pipes.insert(PipePair { read, write, is_large }) as u32))
    }
}

/// The calls of one session's relay, done.
pub struct Wires<'a> {
    /// The accepted socket.
    pub client: BorrowedFd<'a>,
    /// The dialled socket.
    pub upstream: BorrowedFd<'a>,
    /// What is borrowed.
    pub pools: &'a mut Pools,
    /// The shard's counters.
    pub counters: &'a ShardCounters,
    /// The session's counters.
    pub series: &'a Series,
    /// Now.
    pub now: Millis,
}

impl<'a> Wires<'a> {
    fn socket(&self, side: Side) -> BorrowedFd<'a> {
        match side {
            Side::Client => self.client,
            Side::Upstream => self.upstream,
        }
    }

    fn note_idle(&mut self) {
        self.pools.trim_at.get_or_insert(self.now.after(KEEP_IDLE));
    }

    fn send(&self, side: Side, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(self.socket(side), bytes, SendFlags::NOSIGNAL)?)
    }

    fn splice(from: impl AsFd, to: impl AsFd, max: usize) -> io::Result<usize> {
        Ok(rustix::pipe::splice(from, None, to, None, max, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?)
    }
}

impl Kernel for Wires<'_> {
    fn recv(&mut self, from: Side) -> io::Result<Received> {
        sys::receive(self.socket(from), &mut self.pools.hot)
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
        self.send(side, &self.pools.hot[from..to])
    }

    fn keep_tail(&mut self, from: usize, to: usize) -> Tail {
        let pools = &mut *self.pools;
        let buffer = match pools.idle_tails.take() {
            Some(buffer) => buffer,
            None => pools.tails.insert(vec![0; HOT_BUFFER].into()) as u32,
        };
        pools.tails[buffer as usize][..to - from].copy_from_slice(&pools.hot[from..to]);
        Tail { buffer, from: 0, to: (to - from) as u32 }
    }

    fn send_tail(&mut self, side: Side, tail: &Tail) -> io::Result<usize> {
        self.send(side, &self.pools.tails[tail.buffer as usize][tail.from as usize..tail.to as usize])
    }

    fn free_tail(&mut self, tail: Tail) {
        self.pools.idle_tails.items.push(tail.buffer);
        self.note_idle();
    }

    fn take_pipe(&mut self) -> Option<Pipe> {
        self.pools.take_pipe()
    }

    fn give_pipe(&mut self, pipe: Pipe) {
        self.pools.idle_pipes.items.push(pipe.0);
        self.note_idle();
    }

    fn close_pipe(&mut self, pipe: Pipe) {
        self.pools.remove_pipe(pipe.0);
    }

    fn splice_in(&mut self, from: Side, pipe: &Pipe, max: usize) -> io::Result<usize> {
        Self::splice(self.socket(from), &self.pools.pipes[pipe.0 as usize].write, max)
    }

    fn splice_out(&mut self, pipe: &Pipe, to: Side, max: usize) -> io::Result<usize> {
        Self::splice(&self.pools.pipes[pipe.0 as usize].read, self.socket(to), max)
    }

    fn shutdown_write(&mut self, side: Side) {
        // ENOTCONN: the leg was reset meanwhile, which its poll tells.
        let _ = rustix::net::shutdown(self.socket(side), Shutdown::Write);
    }

    fn reset(&mut self, side: Side) {
        sys::reset(self.socket(side));
    }

    fn unsent(&mut self, side: Side) -> usize {
        sys::unsent(self.socket(side)).unwrap_or(0)
    }

    fn hearing(&mut self, side: Side) -> Option<Hearing> {
        sys::hearing(self.socket(side))
    }

    fn take_error(&mut self, side: Side) -> Option<io::Error> {
        let told: Result<Result<(), Errno>, Errno> = rustix::net::sockopt::socket_error(self.socket(side));
        told.ok()?.err().map(io::Error::from)
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
