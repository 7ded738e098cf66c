//! `rr`: answers framed requests with framed responses of the size they ask for, having checked the request as closely as it
//! asks. A wrong request is answered with its fault, and then the connection is ended: where the
//! next frame begins is not known any more.

use std::io;
use std::time::{Duration, Instant};

use super::context::{Next, PIECE, Shared, TURN};
use super::wire::{Read, Wire};
use crate::payload::check::Checker;
use crate::payload::fault::Fault;
use crate::payload::frame::{self, Complaint, HEADER, Kind, Request, Response, Status};
use crate::payload::pattern::{self, Way};
use crate::settings::Verify;

/// After a wrong byte, this long a silence means that nothing follows that would show more.
const SILENCE: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub(super) struct Rr {
    /// Follows the requests; there once the first header has named their connection.
    checker: Option<Checker>,
    hearing: Hearing,
    answer: Answer,
    /// Bytes that were read and not handled, because an answer had to go first.
    unhandled: Vec<u8>,
    silent_from: Option<Instant>,
    /// A fault was answered, or the client has sent its FIN.
    over: Option<Next>,
}

/// Where in a request we are.
#[derive(Debug)]
enum Hearing {
    Header {
        begun: [u8; HEADER],
        length: usize,
    },
    Body {
        request: Request,
        left: u32,
        ends: u64,
    },
    /// After a wrong byte nothing is known but what follows, and where the request had to end if it was inside one.
    Lost {
        ends: Option<u64>,
    },
}

impl Default for Hearing {
    fn default() -> Hearing {
        Hearing::Header { begun: [0; HEADER], length: 0 }
    }
}

/// How far the answers are.
#[derive(Debug, Default)]
struct Answer {
    connection: u32,
    verify: Option<Verify>,
    /// Bytes of pattern that have yet to be made.
    left: u32,
    /// Stream offset of the next byte.
    offset: u64,
}

/// A part of the thread's output, which answers are put into one after the other.
struct Out<'a> {
    bytes: &'a mut [u8],
    used: usize,
}

impl Out<'_> {
    fn room(&self) -> usize {
        self.bytes.len() - self.used
    }

    fn next(&mut self, length: usize) -> &mut [u8] {
        self.used += length;
        &mut self.bytes[self.used - length..self.used]
    }
}

impl Answer {
    fn begin(&mut self, request: &Request, out: &mut Out<'_>) {
        let Request { connection, answer: length, verify, .. } = *request;
        let header = Response { connection, length, status: Status::Fine };
        out.next(HEADER).copy_from_slice(&header.encode());
        (self.connection, self.verify, self.left) = (connection, Some(verify), length - HEADER as u32);
        self.offset += HEADER as u64;
        self.go_on(out);
    }

    fn go_on(&mut self, out: &mut Out<'_>) {
        let length = out.room().min(self.left as usize);
        let bytes = out.next(length);
        pattern::fill_for(self.verify.unwrap_or(Verify::Off), bytes, self.connection, Way::Down, self.offset);
        self.left -= length as u32;
        self.offset += length as u64;
    }
}

impl Rr {
    pub(super) fn go(&mut self, wire: &mut Wire, shared: &mut Shared) -> io::Result<Next> {
        for _ in 0..TURN {
            if !self.answered(wire, shared)? {
                return Ok(Next::Wait);
            }
            if let Some(next) = self.over {
                return Ok(next);
            }
            if !self.unhandled.is_empty() {
                let bytes = std::mem::take(&mut self.unhandled);
                self.answer_to(&bytes, wire, shared)?;
                continue;
            }
            match wire.read(shared.piece())? {
                Read::Bytes(length) => {
                    let input = std::mem::take(&mut shared.input);
                    let done = self.answer_to(&input[..length], wire, shared);
                    shared.input = input;
                    done?;
                }
                Read::Nothing => match self.silence() {
                    Some(until) if Instant::now() >= until => self.end(Next::End, wire, shared)?,
                    Some(until) => return Ok(Next::Until(until)),
                    None => return Ok(Next::Wait),
                },
                Read::End => self.end(Next::Close, wire, shared)?,
            }
        }
        Ok(Next::Again)
    }

    /// Whether all answers so far are with the kernel.
    fn answered(&mut self, wire: &mut Wire, shared: &mut Shared) -> io::Result<bool> {
        while wire.flush()? {
            if self.answer.left == 0 {
                return Ok(true);
            }
            let mut out = Out { bytes: &mut shared.output, used: 0 };
            self.answer.go_on(&mut out);
            let used = out.used;
            wire.write(&shared.output[..used])?;
        }
        Ok(false)
    }

    fn answer_to(&mut self, bytes: &[u8], wire: &mut Wire, shared: &mut Shared) -> io::Result<()> {
        let mut out = Out { bytes: &mut shared.output, used: 0 };
        let (taken, fault) = self.take(bytes, &mut out);
        let used = out.used;
        self.unhandled.extend_from_slice(&bytes[taken..]);
        if used > 0 {
            wire.write(&shared.output[..used])?;
        }
        match fault {
            Some(fault) => self.complain(&fault, wire, shared),
            None => Ok(()),
        }
    }

    /// Takes bytes, and puts answers to whole requests into `out`. Says how many bytes it took: not all when an answer is larger
    /// than `out`. At a fault it takes all.
    fn take(&mut self, bytes: &[u8], out: &mut Out<'_>) -> (usize, Option<Fault>) {
        let mut rest = bytes;
        while !rest.is_empty() && self.answer.left == 0 && out.room() >= HEADER {
            match &mut self.hearing {
                Hearing::Header { begun, length } => {
                    let (more, after) = rest.split_at(rest.len().min(HEADER - *length));
                    begun[*length..*length + more.len()].copy_from_slice(more);
                    *length += more.len();
                    rest = after;
                    if *length == HEADER {
                        let header = *begun;
                        self.begin(&header);
                    }
                }
                Hearing::Body { left, ends, .. } => {
                    let (more, after) = rest.split_at(rest.len().min(*left as usize));
                    *left -= more.len() as u32;
                    rest = after;
                    let checker = self.checker.as_mut().expect("made with the header");
                    let fault = checker.take(more);
                    if checker.is_gathering() || fault.is_some() {
                        self.hearing = Hearing::Lost { ends: Some(*ends) };
                        self.silent_from = Some(Instant::now());
                    }
                    if fault.is_some() {
                        return (bytes.len(), fault);
                    }
                }
                Hearing::Lost { .. } => {
                    self.silent_from = Some(Instant::now());
                    let checker = self.checker.as_mut().expect("made with the header");
                    return (bytes.len(), checker.take(rest));
                }
            }
            if let Hearing::Body { request, left: 0, .. } = self.hearing {
                self.hearing = Hearing::default();
                self.answer.begin(&request, out);
            }
        }
        (bytes.len() - rest.len(), None)
    }

    fn begin(&mut self, header: &[u8; HEADER]) {
        let request = Request::decode(header).filter(|request| request.kind == Kind::Exchange);
        let whose = || frame::repaired(header).as_ref().and_then(frame::owner).unwrap_or(0);
        let connection = request.map_or_else(whose, |request| request.connection);
        let verify = request.map_or(Verify::Full, |request| request.verify);
        let checker = self.checker.get_or_insert_with(|| Checker::new(connection, Way::Up, verify));
        let ours = self.answer.verify.is_none() || self.answer.connection == connection;
        match request.filter(|_| ours) {
            Some(request) => {
                checker.skip(HEADER);
                let left = request.length - HEADER as u32;
                let ends = checker.offset() + u64::from(left);
                self.hearing = Hearing::Body { request, left, ends };
            }
            None => {
                checker.misfit(header, None);
                self.hearing = Hearing::Lost { ends: None };
                self.silent_from = Some(Instant::now());
            }
        }
    }

    /// Until when bytes behind a wrong one are waited for.
    fn silence(&self) -> Option<Instant> {
        Some(self.silent_from? + SILENCE)
    }

    /// Nothing more comes, or not soon.
    fn end(&mut self, next: Next, wire: &mut Wire, shared: &mut Shared) -> io::Result<()> {
        self.over = Some(next);
        match self.finish() {
            Some(fault) => self.complain(&fault, wire, shared),
            None => Ok(()),
        }
    }

    /// The fault if nothing more comes.
    fn finish(&mut self) -> Option<Fault> {
        let checker = self.checker.as_mut()?;
        let expected = match self.hearing {
            Hearing::Header { length, .. } => {
                // Of a header that was cut short at least its own bytes are missing.
                checker.skip(length);
                (length > 0).then(|| checker.offset() - length as u64 + HEADER as u64)
            }
            Hearing::Body { ends, .. } => Some(ends),
            Hearing::Lost { ends } => ends,
        };
        checker.finish(expected)
    }

    /// Answers with the fault; nothing is sent after that.
    fn complain(&mut self, fault: &Fault, wire: &mut Wire, shared: &mut Shared) -> io::Result<()> {
        shared.fault(fault);
        let status = Status::Faulty(Complaint::new(&fault.kind));
        let response = Response { connection: fault.connection, length: HEADER as u32, status };
        self.over.get_or_insert(Next::End);
        self.silent_from = None;
        self.answer.left = 0;
        self.unhandled.clear();
        wire.write(&response.encode())?;
        Ok(())
    }

    /// The fault in the bytes before the connection broke. A request cut short is then no news.
    pub(super) fn broke(&mut self) -> Option<Fault> {
        self.checker.as_mut()?.finish(None)
    }
}

const _: () = assert!(PIECE >= HEADER);
