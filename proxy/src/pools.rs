//! What sessions of a shard borrow while bytes flow: the hot buffer, tails, pipes. An idle session holds none of it, and what
//! nobody has needed for a while goes back to the system.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags};
use slab::Slab;

use crate::boards::counters::Series;
use crate::boards::counters::ShardCounters;
use crate::clock::Millis;
use crate::os::sys::{self, LastHeard};
use crate::relay::{
    HOT_BUFFER, Hearing, Kernel, PIPE_BYTES, Path, Pipe, Received, Side, TAIL_CLASSES, Tail, read_limit,
    tail_class,
};

/// The memory of the tails of a shard. Past half of it sessions read less at a time, see [`read_limit`].
const TAIL_BYTES_MAX: usize = 64 << 20;
/// The first pipes of a process hold this much in pages: a stream then moves in fewer, larger steps.
const LARGE_PIPE: usize = PIPE_BYTES;
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

/// The memory that the tails of a process may take.
pub fn tail_bytes_max(shards: usize) -> u64 {
    TAIL_BYTES_MAX as u64 * shards as u64
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

/// Buffers for tails, by class.
#[derive(Default)]
struct Tails {
    buffers: Slab<Box<[u8]>>,
    /// By class, as in [`TAIL_CLASSES`].
    idle: [Idle; TAIL_CLASSES.len()],
    in_use: u64,
    /// Of those in use.
    bytes: usize,
}

impl Tails {
    /// Keeps these bytes in a buffer of the smallest class that holds them.
    fn keep(&mut self, bytes: &[u8]) -> u32 {
        let class = tail_class(bytes.len());
        let buffer = match self.idle[class].take() {
            Some(buffer) => buffer,
            None => self.buffers.insert(vec![0; TAIL_CLASSES[class]].into()) as u32,
        };
        self.buffers[buffer as usize][..bytes.len()].copy_from_slice(bytes);
        self.in_use += 1;
        self.bytes += TAIL_CLASSES[class];
        buffer
    }

    fn free(&mut self, buffer: u32) {
        let size = self.buffers[buffer as usize].len();
        self.idle[tail_class(size)].items.push(buffer);
        self.in_use -= 1;
        self.bytes -= size;
    }

    /// Gives back what nobody needed; whether some are left that nobody holds.
    fn trim(&mut self) -> bool {
        for idle in &mut self.idle {
            for buffer in idle.trim() {
                self.buffers.remove(buffer as usize);
            }
        }
        self.idle.iter().any(|idle| !idle.items.is_empty())
    }
}

/// The pools of one shard.
pub struct Pools {
    hot: Box<[u8]>,
    tails: Tails,
    pipes: Slab<PipePair>,
    idle_pipes: Idle,
    pipe_quota: usize,
    large_left: usize,
    trim_at: Option<Millis>,
}

/// A shard's part of what the process may have: the parts add up to it.
fn part(whole: u64, index: usize, shards: usize) -> usize {
    let (index, shards) = (index as u64, shards as u64);
    usize::try_from(whole / shards + u64::from(index < whole % shards)).unwrap_or(usize::MAX)
}

struct PipePair {
    read: OwnedFd,
    write: OwnedFd,
    is_large: bool,
}

impl Pools {
    /// The pools of one of `shards` shards of a process with this descriptor limit.
    pub fn new(index: usize, shards: usize, descriptors: u64) -> Self {
        let part = |whole: u64| part(whole, index, shards);
        Self {
            hot: vec![0; HOT_BUFFER].into(),
            tails: Tails::default(),
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

    /// Tails that sessions hold.
    pub fn tails_in_use(&self) -> u64 {
        self.tails.in_use
    }

    /// The memory of the tails that sessions hold.
    pub fn tail_bytes(&self) -> u64 {
        self.tails.bytes as u64
    }

    /// Gives back to the system what has been idle long enough.
    pub fn trim(&mut self, now: Millis) {
        if self.trim_at.is_none_or(|at| now < at) {
            return;
        }
        for pipe in self.idle_pipes.trim() {
            self.remove_pipe(pipe);
        }
        let has_idle_tails = self.tails.trim();
        let is_idle = has_idle_tails || !self.idle_pipes.items.is_empty();
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
    fn read_limit(&self) -> usize {
        read_limit(self.pools.tails.bytes, TAIL_BYTES_MAX)
    }

    fn recv(&mut self, from: Side, max: usize) -> io::Result<Received> {
        let (bytes, left) = sys::receive(self.socket(from), &mut self.pools.hot[..max])?;
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
        self.send(side, &self.pools.hot[from..to])
    }

    fn keep_tail(&mut self, from: usize, to: usize) -> Tail {
        let pools = &mut *self.pools;
        Tail { buffer: pools.tails.keep(&pools.hot[from..to]), from: 0, to: (to - from) as u32 }
    }

    fn send_tail(&mut self, side: Side, tail: &Tail) -> io::Result<usize> {
        self.send(side, &self.pools.tails.buffers[tail.buffer as usize][tail.from as usize..tail.to as usize])
    }

    fn free_tail(&mut self, tail: Tail) {
        self.pools.tails.free(tail.buffer);
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

    fn lift_unsent_bound(&mut self, side: Side) {
        // It fails only for a socket that is dead, which its poll tells.
        let _ = sys::lift_unsent_bound(self.socket(side));
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
        let LastHeard { age, is_answer_due } = sys::last_heard(self.socket(side))?;
        Some(Hearing { unanswered: is_answer_due, heard: age })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_the_shards_are_the_whole() {
        for (whole, shards) in [(625, 2), (32, 3), (1, 4), (0, 2), (7, 1)] {
            let parts: Vec<usize> = (0..shards).map(|index| part(whole, index, shards)).collect();
            assert_eq!(parts.iter().sum::<usize>() as u64, whole, "{parts:?}");
            assert!(parts.iter().max().unwrap() - parts.iter().min().unwrap() <= 1, "{parts:?}");
        }
    }

    #[test]
    fn a_tail_takes_the_memory_of_its_class() {
        let mut tails = Tails::default();
        let mut held = vec![];
        for (bytes, size) in [(1, 4), (4 << 10, 4), (4097, 16), (16 << 10, 16), (16385, 64), (64 << 10, 64)] {
            let before = tails.bytes;
            held.push(tails.keep(&vec![7; bytes]));
            assert_eq!(tails.bytes - before, size << 10, "{bytes} bytes");
        }
        assert_eq!((tails.in_use, tails.buffers.len()), (6, 6));
        held.drain(..).for_each(|buffer| tails.free(buffer));
        assert_eq!((tails.in_use, tails.bytes, tails.buffers.len()), (0, 0, 6));
        tails.keep(&[1; 5000]);
        tails.keep(&[1; 5000]);
        assert_eq!(tails.buffers.len(), 6, "buffers are used again");
    }
}
