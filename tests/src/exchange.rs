//! One end of a verified connection: sends its pattern and checks the other's at the same time, through one non-blocking
//! socket, with writes and reads of random size, until both streams have ended.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::client::{End, is_reset, reset};
use crate::pattern::Pattern;

/// No progress for this long is a fault.
const STUCK: Duration = Duration::from_secs(20);

/// The largest single read or write.
const CHUNK: usize = 64 << 10;

/// What one end sends, and how it ends.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    /// The bytes.
    pub pattern: Pattern,
    /// How many.
    pub length: u64,
    /// Only once the other side's end has come.
    pub after_end: bool,
    /// With a FIN, or with a reset that throws away what is queued.
    pub end: End,
}

/// What one end received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Verified bytes.
    pub bytes: u64,
    /// Their end; none if this side reset the connection before one came.
    pub end: Option<End>,
}

struct Exchange<'r> {
    stream: TcpStream,
    sending: Sending,
    expected: Pattern,
    sent: u64,
    received: u64,
    end: Option<End>,
    finished: bool,
    rng: &'r mut fastrand::Rng,
    buffer: Vec<u8>,
}

/// Runs one end to its end. Errors: wrong bytes, named; no progress; errors that are neither a reset nor a full buffer.
pub fn exchange(
    stream: TcpStream,
    sending: Sending,
    expected: Pattern,
    rng: &mut fastrand::Rng,
) -> Result<Received, String> {
    stream.set_nonblocking(true).map_err(|error| error.to_string())?;
    let (sent, received, end, finished) = (0, 0, None, false);
    let mut this =
        Exchange { stream, sending, expected, sent, received, end, finished, rng, buffer: vec![0; CHUNK] };
    this.run().map_err(|fault| {
        format!(
            "{fault} (sent {} of {:?}, received {}, end {:?})",
            this.sent, this.sending, this.received, this.end
        )
    })?;
    let received = Received { bytes: this.received, end: this.end };
    if this.sending.end == End::Reset && this.end != Some(End::Reset) {
        reset(this.stream);
    }
    Ok(received)
}

impl Exchange<'_> {
    fn run(&mut self) -> Result<(), String> {
        while !self.is_over() {
            let sends = self.may_send();
            let flags = if sends { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            if self.end.is_none() || sends {
                self.wait(if self.end.is_none() { flags } else { PollFlags::OUT })?;
            }
            if self.end.is_none() {
                self.receive()?;
            }
            if self.may_send() {
                self.send()?;
            }
        }
        Ok(())
    }

    /// Both streams have ended; or the other's was a reset; or this side is to reset, and has sent its part.
    fn is_over(&self) -> bool {
        let sent = self.sent == self.sending.length;
        let resets =
            self.sending.end == End::Reset && sent && (!self.sending.after_end || self.end.is_some());
        self.end == Some(End::Reset) || resets || (self.end.is_some() && self.finished)
    }

    fn may_send(&self) -> bool {
        !self.finished && self.end != Some(End::Reset) && (!self.sending.after_end || self.end.is_some())
    }

    fn wait(&self, flags: PollFlags) -> Result<(), String> {
        let timeout = Timespec { tv_sec: STUCK.as_secs() as i64, tv_nsec: 0 };
        match poll(&mut [PollFd::new(&self.stream, flags)], Some(&timeout)) {
            Ok(0) => Err("stuck".to_owned()),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn receive(&mut self) -> Result<(), String> {
        let most = self.chunk();
        match self.stream.read(&mut self.buffer[..most]) {
            Ok(0) => self.end = Some(End::Fin),
            Ok(count) => {
                self.expected.check(self.received, &self.buffer[..count])?;
                self.received += count as u64;
            }
            Err(error) => self.failed(&error)?,
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), String> {
        let left = self.sending.length - self.sent;
        if left == 0 {
            if self.sending.end == End::Fin {
                // A reset that arrives first makes this fail, and is told by the next read.
                let _ = self.stream.shutdown(Shutdown::Write);
                self.finished = true;
            }
            return Ok(());
        }
        let most = self.chunk().min(left.try_into().unwrap_or(CHUNK));
        self.sending.pattern.fill(self.sent, &mut self.buffer[..most]);
        match self.stream.write(&self.buffer[..most]) {
            Ok(count) => self.sent += count as u64,
            Err(error) => self.failed(&error)?,
        }
        Ok(())
    }

    /// A reset is told once, to whichever call comes first: what is readable is still read, then it is the end.
    fn failed(&mut self, error: &std::io::Error) -> Result<(), String> {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::Interrupted => return Ok(()),
            _ if !is_reset(error) => return Err(error.to_string()),
            _ => {}
        }
        while let Ok(count @ 1..) = self.stream.read(&mut self.buffer) {
            self.expected.check(self.received, &self.buffer[..count])?;
            self.received += count as u64;
        }
        self.end = Some(End::Reset);
        Ok(())
    }

    /// Mostly large, sometimes a byte.
    fn chunk(&mut self) -> usize {
        1 << self.rng.u32(0..=CHUNK.ilog2())
    }
}
