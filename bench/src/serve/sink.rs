//! `sink`: reads all. If a header asked for it, it checks all bytes and reports at the end what it received; else the kernel throws
//! the bytes away without copying them.

use std::io;

use super::context::{Next, Shared, TURN};
use super::wire::{Read, Wire};
use crate::payload::check::Checker;
use crate::payload::fault::Fault;
use crate::payload::frame::{Complaint, HEADER, Kind, Request, Response, Status};
use crate::payload::pattern::Way;
use crate::settings::Verify;

#[derive(Debug, Default)]
pub(super) struct Sink {
    state: State,
    /// The fault, once that is known.
    fault: Option<Fault>,
}

#[derive(Debug)]
enum State {
    /// The first bytes, which may be a header.
    Header(Vec<u8>),
    /// There was no header: no verdict is wanted.
    Plain,
    /// There was one.
    Asked { request: Request, checker: Checker },
    /// The verdict is sent, or under way.
    Sent,
}

impl Default for State {
    fn default() -> State {
        State::Header(Vec::new())
    }
}

impl Sink {
    pub(super) fn go(&mut self, wire: &mut Wire, shared: &mut Shared) -> io::Result<Next> {
        for _ in 0..TURN {
            let read = match &self.state {
                State::Sent => return Ok(if wire.flush()? { Next::Close } else { Next::Wait }),
                State::Plain => wire.discard(&mut shared.input)?,
                State::Asked { request, .. } if request.verify == Verify::Off => {
                    wire.discard(&mut shared.input)?
                }
                State::Header(_) | State::Asked { .. } => wire.read(shared.piece())?,
            };
            match read {
                Read::Bytes(bytes) => self.take(bytes, shared),
                Read::Nothing => return Ok(Next::Wait),
                Read::End => {
                    if let Some(verdict) = self.verdict(shared) {
                        wire.write(&verdict.encode())?;
                    }
                    self.state = State::Sent;
                }
            }
        }
        Ok(Next::Again)
    }

    /// Takes the first `length` bytes of the thread's input.
    fn take(&mut self, length: usize, shared: &mut Shared) {
        let mut bytes = &shared.input[..length];
        if let State::Header(begun) = &mut self.state {
            let (more, rest) = bytes.split_at(bytes.len().min(HEADER - begun.len()));
            begun.extend_from_slice(more);
            let Some(header) = begun.first_chunk() else { return };
            bytes = rest;
            self.state = match Request::decode(header).filter(|request| request.kind == Kind::StreamUp) {
                Some(request) => {
                    let mut checker = Checker::new(request.connection, Way::Up, request.verify);
                    checker.skip(HEADER);
                    State::Asked { request, checker }
                }
                None => State::Plain,
            };
        }
        let State::Asked { request, checker } = &mut self.state else { return };
        let found = if request.verify == Verify::Off {
            // These bytes were never copied, only counted.
            checker.skip(bytes.len());
            None
        } else {
            checker.take(bytes)
        };
        if let Some(fault) = found {
            shared.fault(&fault);
            self.fault = Some(fault);
        }
    }

    /// The verdict at the end, if it was asked for.
    fn verdict(&mut self, shared: &mut Shared) -> Option<Response> {
        let State::Asked { request, checker } = &mut self.state else { return None };
        if let Some(fault) = checker.finish(None) {
            shared.fault(&fault);
            self.fault = Some(fault);
        }
        let status =
            self.fault.as_ref().map_or(Status::Fine, |fault| Status::Faulty(Complaint::new(&fault.kind)));
        Some(Response { connection: request.connection, length: checker.offset() as u32, status })
    }

    /// The fault in the bytes before the connection broke.
    pub(super) fn broke(&mut self) -> Option<Fault> {
        match &mut self.state {
            State::Asked { checker, .. } => checker.finish(None),
            _ => None,
        }
    }
}
