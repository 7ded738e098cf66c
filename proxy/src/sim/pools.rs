//! What the simulated kernel lends: pipes, and buffers for tails.

use super::bytes::Fifo;
use super::net::Net;
use crate::relay::{TAIL_CLASSES, read_limit, tail_class};

impl Net {
    pub(crate) fn read_limit(&self) -> usize {
        read_limit(self.tail_bytes, self.tail_budget)
    }

    pub(crate) fn keep_tail(&mut self, from: usize, to: usize) -> u32 {
        self.tail_bytes += TAIL_CLASSES[tail_class(to - from)];
        self.tail_sizes.push(TAIL_CLASSES[tail_class(to - from)]);
        self.tails.push(Some(self.hot.range(from, to)));
        self.tails.len() as u32 - 1
    }

    pub(crate) fn free_tail(&mut self, tail: u32) {
        let freed = self.tails[tail as usize].take().is_some();
        self.tail_bytes -= self.tail_sizes[tail as usize];
        self.require(freed, || format!("tail {tail} was freed twice"));
    }

    pub(crate) fn take_pipe(&mut self) -> Option<u32> {
        let free = self.pipes.iter().position(|pipe| !pipe.lent);
        let index = free.or_else(|| {
            (self.pipes.len() < self.pipe_limit).then(|| {
                self.pipes.push(Fifo::default());
                self.pipes.len() - 1
            })
        })?;
        self.pipes[index].lent = true;
        Some(index as u32)
    }

    /// The pipe goes back; `closed`: what it holds goes with it.
    pub(crate) fn return_pipe(&mut self, pipe: u32, closed: bool) {
        let it = &mut self.pipes[pipe as usize];
        let (lent, empty) = (std::mem::replace(&mut it.lent, false), it.bytes.is_empty());
        if closed {
            it.bytes.clear();
            it.slots_used = 0;
        }
        self.require(lent, || format!("pipe {pipe} was returned twice"));
        self.require(empty || closed, || format!("the dirty pipe {pipe} went back to the pool"));
    }

    /// Breaks the rule on purpose: a dirty pipe goes back with its bytes, and nobody notices.
    pub(crate) fn return_dirty(&mut self, pipe: u32) {
        self.pipes[pipe as usize].lent = false;
    }

    /// Everything that was lent is back.
    pub(crate) fn check_returned(&mut self) {
        let tails = self.tails.iter().flatten().count();
        let pipes = self.pipes.iter().filter(|pipe| pipe.lent).count();
        let open = self.sockets.iter().filter(|socket| socket.open).count();
        self.require(tails + pipes + open == 0, || {
            format!("{tails} tails, {pipes} pipes, {open} sockets are left")
        });
    }
}
