//! The calls of a simulated session's relay. `relay::sim` looks closely at relays; what is checked here is that a session's
//! bytes stay its own: that they are counted, and that a FIN does not overtake them.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use super::world::World;
use crate::boards::counters::Series;
use crate::relay::{Hearing, Kernel, Path, Pipe, Received, Side, Tail};

/// See the file's opening.
pub(crate) struct Calls<'a> {
    pub(super) world: Rc<RefCell<World>>,
    /// By side.
    pub(super) sockets: [usize; 2],
    pub(super) series: &'a Series,
}

impl Calls<'_> {
    fn socket(&self, side: Side) -> usize {
        self.sockets[side as usize]
    }

    fn note_read(&self, from: Side, result: io::Result<usize>) -> io::Result<usize> {
        let tally = &mut self.world.borrow_mut().tallies[self.socket(from)];
        match result {
            Ok(0) => tally.fin_read = true,
            Ok(count) => tally.read += count as u64,
            Err(_) => {}
        }
        result
    }

    fn note_write(&self, to: Side, result: io::Result<usize>) -> io::Result<usize> {
        if let Ok(count) = &result {
            self.world.borrow_mut().tallies[self.socket(to)].sent += *count as u64;
        }
        result
    }
}

impl Kernel for Calls<'_> {
    fn read_limit(&self) -> usize {
        self.world.borrow().net.read_limit()
    }

    fn recv(&mut self, from: Side, max: usize) -> io::Result<Received> {
        let socket = self.socket(from);
        let result = self.world.borrow_mut().net.recv(socket, max);
        let bytes = self.note_read(from, result)?;
        Ok(Received { bytes, is_drained: self.world.borrow_mut().net.is_drained(socket) })
    }

    fn peek(&mut self, from: Side) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        let socket = self.socket(from);
        let result = world.net.peek(socket);
        world.tallies[socket].fin_read |= matches!(result, Ok(0));
        result
    }

    fn unread(&mut self, from: Side) -> usize {
        self.world.borrow().net.sockets[self.socket(from)].rx.len()
    }

    fn send_hot(&mut self, side: Side, from: usize, to: usize) -> io::Result<usize> {
        let result = self.world.borrow_mut().net.send_hot(self.socket(side), from, to);
        self.note_write(side, result)
    }

    fn keep_tail(&mut self, from: usize, to: usize) -> Tail {
        let buffer = self.world.borrow_mut().net.keep_tail(from, to);
        Tail { buffer, from: 0, to: (to - from) as u32 }
    }

    fn send_tail(&mut self, side: Side, tail: &Tail) -> io::Result<usize> {
        let count = (tail.to - tail.from) as usize;
        let result = self.world.borrow_mut().net.send_tail(self.socket(side), tail.buffer, count);
        self.note_write(side, result)
    }

    fn free_tail(&mut self, tail: Tail) {
        self.world.borrow_mut().net.free_tail(tail.buffer);
    }

    fn take_pipe(&mut self) -> Option<Pipe> {
        self.world.borrow_mut().net.take_pipe().map(Pipe)
    }

    fn give_pipe(&mut self, pipe: Pipe) {
        self.world.borrow_mut().net.return_pipe(pipe.0, false);
    }

    fn close_pipe(&mut self, pipe: Pipe) {
        self.world.borrow_mut().net.return_pipe(pipe.0, true);
    }

    fn splice_in(&mut self, from: Side, pipe: &Pipe, max: usize) -> io::Result<usize> {
        let result = self.world.borrow_mut().net.splice_in(self.socket(from), pipe.0, max);
        let result = result.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => io::ErrorKind::WouldBlock.into(),
            _ => error,
        });
        // Of a splice 0 is no FIN yet: at a mark of urgent data it says so, too.
        if matches!(result, Ok(0)) { result } else { self.note_read(from, result) }
    }

    fn splice_out(&mut self, pipe: &Pipe, to: Side, max: usize) -> io::Result<usize> {
        let result = self.world.borrow_mut().net.splice_out(pipe.0, self.socket(to), max);
        self.note_write(to, result)
    }

    fn lift_unsent_bound(&mut self, side: Side) {
        self.world.borrow_mut().net.lift_unsent_bound(self.socket(side));
    }

    fn shutdown_write(&mut self, side: Side) {
        let mut world = self.world.borrow_mut();
        let (to, from) = (self.socket(side), self.socket(side.other()));
        let (read, sent) = (world.tallies[from].read, world.tallies[to].sent);
        world.net.require(read == sent, || format!("FIN to socket {to} after {sent} of {read} bytes"));
        world.net.shutdown_write(to);
    }

    fn reset(&mut self, side: Side) {
        self.world.borrow_mut().net.reset(self.socket(side));
    }

    fn unsent(&mut self, side: Side) -> usize {
        self.world.borrow().net.sockets[self.socket(side)].unsent()
    }

    fn hearing(&mut self, side: Side) -> Option<Hearing> {
        self.world.borrow_mut().net.hearing(self.socket(side))
    }

    fn take_error(&mut self, side: Side) -> Option<io::Error> {
        self.world.borrow_mut().net.take_error(self.socket(side))
    }

    fn count(&mut self, to: Side, bytes: usize, path: Path) {
        let bytes = bytes as u64;
        let counters = &self.world.borrow().counters;
        match to {
            Side::Client => self.series.bytes_down.add(bytes),
            Side::Upstream => self.series.bytes_up.add(bytes),
        }
        match path {
            Path::Copied => counters.copied_bytes.add(bytes),
            Path::Spliced => counters.spliced_bytes.add(bytes),
        }
    }
}
