//! Buffers and pipes that sessions of a shard borrow while bytes flow: the hot buffer, tails, pipes. An idle session holds none of
//! them, and those that have not been needed for a while go back to the system.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::pipe::PipeFlags;
use slab::Slab;

use crate::clock::Millis;
use crate::descriptors::pipes_max;
use crate::relay::{HOT_BUFFER, PIPE_BYTES, Pipe, TAIL_CLASSES, Tail, read_limit, tail_class};

/// The memory of the tails of a shard. Past half of it sessions read less at a time, see [`read_limit`].
const TAIL_BYTES_MAX: usize = 64 << 20;
/// The first pipes of a process hold this much in pages: a stream then moves in fewer, larger steps.
const LARGE_PIPE: usize = PIPE_BYTES;
/// Large pipes in a process. They are the only ones that could meet `pipe-user-pages-soft` (64 MiB), past which an ordinary
/// user's new pipes shrink to two pages.
const LARGE_PIPES: u64 = 32;
/// Every so often the items that were not needed since the last time are given back to the system; with the next turn, for no timer
/// wakes a shard for it.
const KEEP_IDLE: Duration = Duration::from_millis(500);

const _: () =
    assert!(LARGE_PIPES as usize * LARGE_PIPE <= 64 << 20, "large pipes alone stay under the soft limit");

/// The memory that the tails of a process may take.
pub(crate) fn tail_bytes_max(shards: usize) -> u64 {
    TAIL_BYTES_MAX as u64 * shards as u64
}

/// Items that no session holds at the moment.
#[derive(Default)]
struct Idle {
    items: Vec<u32>,
    /// Low-water mark since the last trim: that many items went unused and can be freed.
    unneeded: usize,
}

impl Idle {
    fn take(&mut self) -> Option<u32> {
        let item = self.items.pop();
        self.unneeded = self.unneeded.min(self.items.len());
        item
    }

    /// Takes out those that went unused since the last time, longest unused first.
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

    /// Gives back those that went unused; whether some are left that no session holds.
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
pub(super) struct Pools {
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
    pub(super) fn new(index: usize, shards: usize, descriptors: u64) -> Self {
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
    pub(super) fn pipes_in_use(&self) -> u64 {
        (self.pipes.len() - self.idle_pipes.items.len()) as u64
    }

    /// Tails that sessions hold.
    pub(super) fn tails_in_use(&self) -> u64 {
        self.tails.in_use
    }

    /// The memory of the tails that sessions hold.
    pub(super) fn tail_bytes(&self) -> u64 {
        self.tails.bytes as u64
    }

    /// Gives back to the system what has been idle long enough.
    pub(super) fn trim(&mut self, now: Millis) {
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

    /// The first bytes of the hot buffer, to be read into.
    pub(super) fn hot_mut(&mut self, bytes: usize) -> &mut [u8] {
        &mut self.hot[..bytes]
    }

    /// Bytes of the hot buffer.
    pub(super) fn hot(&self, from: usize, to: usize) -> &[u8] {
        &self.hot[from..to]
    }

    /// Bytes that a read may take, so that a tail for all of them stays within the budget.
    pub(super) fn read_limit(&self) -> usize {
        read_limit(self.tails.bytes, TAIL_BYTES_MAX)
    }

    /// Keeps bytes of the hot buffer in a tail.
    pub(super) fn keep_tail(&mut self, from: usize, to: usize) -> Tail {
        Tail { buffer: self.tails.keep(&self.hot[from..to]), from: 0, to: (to - from) as u32 }
    }

    /// The unsent bytes of a tail.
    pub(super) fn tail(&self, tail: &Tail) -> &[u8] {
        &self.tails.buffers[tail.buffer as usize][tail.from as usize..tail.to as usize]
    }

    /// Takes a tail's buffer back.
    pub(super) fn free_tail(&mut self, tail: Tail, now: Millis) {
        self.tails.free(tail.buffer);
        self.note_idle(now);
    }

    /// The end of a pipe that is written to.
    pub(super) fn write_end(&self, pipe: &Pipe) -> &OwnedFd {
        &self.pipes[pipe.0 as usize].write
    }

    /// The end of a pipe that is read from.
    pub(super) fn read_end(&self, pipe: &Pipe) -> &OwnedFd {
        &self.pipes[pipe.0 as usize].read
    }

    /// Takes an empty pipe back.
    pub(super) fn give_pipe(&mut self, pipe: Pipe, now: Millis) {
        self.idle_pipes.items.push(pipe.0);
        self.note_idle(now);
    }

    /// Closes a pipe that may hold bytes.
    pub(super) fn close_pipe(&mut self, pipe: Pipe) {
        self.remove_pipe(pipe.0);
    }

    fn note_idle(&mut self, now: Millis) {
        self.trim_at.get_or_insert(now.after(KEEP_IDLE));
    }

    fn remove_pipe(&mut self, pipe: u32) {
        self.large_left += usize::from(self.pipes.remove(pipe as usize).is_large);
    }

    /// A pipe for a direction that moves bulk; `None`: the shard has lent all that it may have.
    pub(super) fn take_pipe(&mut self) -> Option<Pipe> {
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
