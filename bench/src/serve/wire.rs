//! A connection as the modes see it: reading, and writing that keeps the bytes that the kernel did not take.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// A connection, and the rest of our answer.
#[derive(Debug)]
pub(super) struct Wire {
    socket: OwnedFd,
    /// Bytes that the kernel did not take. Modes read no more while there are any, so they are the answer to one read.
    pending: Vec<u8>,
    sent: usize,
    /// Nothing more to read until the next event. A read that gave less than asked for shows that, and saves the read that would
    /// show it again; epoll is edge triggered and reports whatever comes after.
    drained: bool,
    /// The other end has closed its side or is gone: then only reading to the end shows which.
    hung_up: bool,
    bytes_in: u64,
    bytes_out: u64,
}

/// Result of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// This many bytes.
    Bytes(usize),
    /// None now.
    Nothing,
    /// None ever again.
    End,
}

impl Wire {
    pub(super) fn new(socket: OwnedFd) -> Wire {
        let pending = Vec::new();
        Wire { socket, pending, sent: 0, drained: true, hung_up: false, bytes_in: 0, bytes_out: 0 }
    }

    /// Bytes that came and that went.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.bytes_in, self.bytes_out)
    }

    /// An event has come.
    pub(super) fn stirred(&mut self, readable: bool, hung_up: bool) {
        self.drained &= !(readable || hung_up);
        self.hung_up |= hung_up;
    }

    /// The other end has closed its side or is gone, though there may be bytes to read before that.
    pub(super) fn hung_up(&self) -> bool {
        self.hung_up
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        self.receive(buffer, RecvFlags::empty())
    }

    /// Reads up to as many bytes as the buffer has, and has the kernel throw them away.
    pub(super) fn discard(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        self.receive(buffer, RecvFlags::TRUNC)
    }

    fn receive(&mut self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<Read> {
        if self.drained {
            return Ok(Read::Nothing);
        }
        let wanted = buffer.len();
        match recv(&self.socket, buffer, flags) {
            Ok((_, 0)) => Ok(Read::End),
            Ok((_, bytes)) => {
                self.drained = bytes < wanted && !self.hung_up;
                self.bytes_in += bytes as u64;
                Ok(Read::Bytes(bytes))
            }
            Err(Errno::AGAIN) => {
                self.drained = true;
                Ok(Read::Nothing)
            }
            Err(Errno::INTR) => Ok(Read::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends the kept bytes; returns whether all have gone.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        if self.pending.is_empty() {
            return Ok(true);
        }
        let taken = self.send(self.sent)?;
        self.sent += taken;
        let done = self.sent == self.pending.len();
        if done {
            // The memory goes too: idle connections, of which there may be many, keep none.
            self.pending = Vec::new();
            self.sent = 0;
        }
        Ok(done)
    }

    fn send(&mut self, from: usize) -> io::Result<usize> {
        let taken = offer(&self.socket, &self.pending[from..])?;
        self.bytes_out += taken as u64;
        Ok(taken)
    }

    /// Sends, and keeps the bytes that were not taken; returns whether all have gone.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if !self.flush()? {
            self.pending.extend_from_slice(bytes);
            return Ok(false);
        }
        let taken = offer(&self.socket, bytes)?;
        self.bytes_out += taken as u64;
        self.pending.extend_from_slice(&bytes[taken..]);
        Ok(taken == bytes.len())
    }

    /// Sends as much as the kernel takes now and keeps nothing: for bytes that can be made again. Returns how many have gone.
    pub(super) fn offer(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = offer(&self.socket, bytes)?;
        self.bytes_out += taken as u64;
        Ok(taken)
    }

    /// Sends a FIN.
    pub(super) fn shut(&self) {
        // It fails when the other end is gone, which reading shows as well.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
    }

    /// Makes the close that follows a reset.
    pub(super) fn make_reset(&self) {
        // It fails on no socket that is open.
        let _ = rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }
}

/// Sends as much as the kernel takes now. Less than all means that it takes no more until the next event, as epoll(7) has it.
fn offer(socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    match send(socket, bytes, SendFlags::NOSIGNAL) {
        Ok(taken) => Ok(taken),
        Err(Errno::AGAIN) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
