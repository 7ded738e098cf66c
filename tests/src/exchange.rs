//! One end of a verified connection: sends the load generator's pattern and checks the other end's at the same time, through one
//! non-blocking socket, with writes and reads of random size, until both streams have ended.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use weir_bench::payload::check::Checker;
use weir_bench::payload::pattern::{self, Way};
use weir_bench::settings::Verify;

use crate::client::{End, is_reset, reset};

/// No progress for this long is a fault.
const STUCK: Duration = Duration::from_secs(20);

/// The largest single read or write.
const CHUNK: usize = 64 << 10;

/// The stream that one end sends, and how it ends. It receives the other stream of the same connection.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    /// Number of the connection, which is in each of its bytes.
    pub connection: u32,
    /// Direction of the stream that is sent.
    pub way: Way,
    /// How many bytes.
    pub length: u64,
    /// Only once the other side's end has come.
    pub after_end: bool,
    /// With a FIN, or with a reset that throws away what is queued.
    pub end: End,
}

/// The bytes that one end received, and how they ended.
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
    checker: Checker,
    sent: u64,
    end: Option<End>,
    finished: bool,
    rng: &'r mut fastrand::Rng,
    buffer: Vec<u8>,
}

/// Runs one end to its end. Errors: wrong bytes, named; no progress; errors that are neither a reset nor a full buffer.
pub fn exchange(stream: TcpStream, sending: Sending, rng: &mut fastrand::Rng) -> Result<Received, String> {
    stream.set_nonblocking(true).map_err(|error| error.to_string())?;
    let checker = Checker::new(sending.connection, sending.way.opposite(), Verify::Full);
    let (sent, end, finished) = (0, None, false);
    let mut this = Exchange { stream, sending, checker, sent, end, finished, rng, buffer: vec![0; CHUNK] };
    let run = this.run();
    // Wrong bytes are named once enough has followed them, which may be only now; they matter more than whatever else went wrong.
    let run = this.checker.finish(None).map_or(run, |fault| Err(fault.to_string()));
    let received = Received { bytes: this.checker.offset(), end: this.end };
    run.map_err(|fault| format!("{fault} (sent {} of {:?}, {received:?})", this.sent, this.sending))?;
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
            Ok(count) => self.check(count)?,
            Err(error) => self.failed(&error)?,
        }
        Ok(())
    }

    /// Checks the bytes that were just received.
    fn check(&mut self, count: usize) -> Result<(), String> {
        self.checker.take(&self.buffer[..count]).map_or(Ok(()), |fault| Err(fault.to_string()))
    }

    fn send(&mut self) -> Result<(), String> {
        let left = self.sending.length - self.sent;
        if left == 0 {
            if self.sending.end == End::Fin {
                // A reset that arrives first makes this fail, and shows in the next read.
                let _ = self.stream.shutdown(Shutdown::Write);
                self.finished = true;
            }
            return Ok(());
        }
        let most = self.chunk().min(left.try_into().unwrap_or(CHUNK));
        pattern::fill(&mut self.buffer[..most], self.sending.connection, self.sending.way, self.sent);
        match self.stream.write(&self.buffer[..most]) {
            Ok(count) => self.sent += count as u64,
            Err(error) => self.failed(&error)?,
        }
        Ok(())
    }

    /// A reset shows once, in whichever call comes first: readable bytes are still read, then it is the end.
    fn failed(&mut self, error: &std::io::Error) -> Result<(), String> {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::Interrupted => return Ok(()),
            _ if !is_reset(error) => return Err(error.to_string()),
            _ => {}
        }
        while let Ok(count @ 1..) = self.stream.read(&mut self.buffer) {
            self.check(count)?;
        }
        self.end = Some(End::Reset);
        Ok(())
    }

    /// Mostly large, sometimes a byte.
    fn chunk(&mut self) -> usize {
        1 << self.rng.u32(0..=CHUNK.ilog2())
    }
}
