//! Requests and responses on one connection: requests are made and sent, answers are recognised, checked and separated.

use std::collections::VecDeque;

use fastrand::Rng;
use rustix::io::Errno;

use super::account::{Account, Operation};
use super::clock;
use super::context::{Context, Next, Output};
use crate::payload::check::Checker;
use crate::payload::fault::Fault;
use crate::payload::frame::{HEADER, Kind, Request, Response, Status};
use crate::payload::pattern::{self, Way};
use crate::settings::{Exchange, Sizes, Verify};

impl Sizes {
    /// One of them.
    pub(super) fn draw(&self, chance: &mut Rng) -> u32 {
        match self {
            Sizes::Fixed(size) => *size,
            Sizes::Uniform(low, high) => chance.u32(*low..=*high),
            Sizes::Weighted(choices) => {
                let all: u64 = choices.iter().map(|(_, weight)| u64::from(*weight)).sum();
                let mut place = chance.u64(0..all.max(1));
                for (size, weight) in choices {
                    match place.checked_sub(u64::from(*weight)) {
                        None => return *size,
                        Some(rest) => place = rest,
                    }
                }
                choices.last().map_or(0, |(size, _)| *size)
            }
        }
    }
}

/// Content of a received piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// All of it was used, and no answer is complete.
    More,
    /// An answer is complete; the rest of the piece comes after it.
    Answer,
    /// It was wrong; see the account's faults.
    Wrong,
}

/// An answer that is waited for.
#[derive(Clone, Copy, Debug)]
struct Want {
    request: u32,
    answer: u32,
}

/// Both directions of a connection that exchanges.
#[derive(Debug)]
pub(super) struct Wire {
    connection: u32,
    verify: Verify,
    /// Bytes of the stream up that have been made.
    made: u64,
    /// Bytes that the kernel did not take yet.
    unsent: VecDeque<u8>,
    wants: VecDeque<Want>,
    checker: Checker,
    peer: Peer,
    header: [u8; HEADER],
    have: usize,
    /// Something came since the last tick.
    stirred: bool,
    /// Bytes of the answer after its header that are not here yet; 0 between answers.
    left: usize,
}

/// The kind of the other end, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Unknown,
    /// Answers with responses.
    Server,
    /// Sends back all bytes.
    Echo,
}

impl Wire {
    pub(super) fn new(connection: u32, verify: Verify) -> Wire {
        Wire {
            connection,
            verify,
            made: 0,
            unsent: VecDeque::new(),
            wants: VecDeque::new(),
            checker: Checker::new(connection, Way::Down, verify),
            peer: Peer::Unknown,
            header: [0; HEADER],
            have: 0,
            stirred: false,
            left: 0,
        }
    }

    /// Adds the next request to the output.
    pub(super) fn ask(&mut self, exchange: &Exchange, output: &mut Output, chance: &mut Rng) {
        match exchange {
            Exchange::Raw { request, response } => {
                output.room(request.len()).copy_from_slice(request);
                self.wants.push_back(Want { request: request.len() as u32, answer: *response as u32 });
            }
            Exchange::Framed { request, response } => {
                let want = Want {
                    request: request.draw(chance).max(HEADER as u32),
                    answer: response.draw(chance).max(HEADER as u32),
                };
                let room = output.room(want.request as usize);
                let (header, body) = room.split_at_mut(HEADER);
                header.copy_from_slice(&self.header_up(want));
                pattern::fill_for(self.verify, body, self.connection, Way::Up, self.made + HEADER as u64);
                self.made += u64::from(want.request);
                self.wants.push_back(want);
            }
        }
    }

    fn header_up(&self, want: Want) -> [u8; HEADER] {
        let Want { request: length, answer } = want;
        let (connection, verify) = (self.connection, self.verify);
        Request { connection, length, answer, verify, kind: Kind::Exchange }.encode()
    }

    fn header_down(&self, want: Want) -> [u8; HEADER] {
        let (connection, length) = (self.connection, want.answer);
        Response { connection, length, status: Status::Fine }.encode()
    }

    /// Sends the output, after the unsent bytes; those that the kernel does not take now are kept until it does.
    pub(super) fn send(&mut self, cx: &mut Context<'_>) -> Result<(), Errno> {
        if !self.unsent.is_empty() {
            self.unsent.extend(cx.kit.output.bytes());
            return self.resume(cx);
        }
        let sent = cx.send_output()?;
        self.unsent.extend(&cx.kit.output.bytes()[sent..]);
        Ok(())
    }

    /// The kernel may take more: sends the unsent bytes.
    pub(super) fn resume(&mut self, cx: &mut Context<'_>) -> Result<(), Errno> {
        while !self.unsent.is_empty() {
            let sent = cx.send(self.unsent.as_slices().0)?;
            if sent == 0 {
                break;
            }
            self.unsent.drain(..sent);
        }
        Ok(())
    }

    /// Whether answers are waited for.
    pub(super) fn is_waiting(&self) -> bool {
        !self.wants.is_empty()
    }

    /// Answers are waited for and nothing is left to be sent.
    pub(super) fn only_waits(&self) -> bool {
        self.is_waiting() && self.unsent.is_empty()
    }

    /// Something wrong came, and the bytes behind it are looked at to name it.
    pub(super) fn is_suspicious(&self) -> bool {
        self.checker.is_gathering()
    }

    /// Takes received bytes until an answer is complete.
    pub(super) fn take(&mut self, exchange: &Exchange, bytes: &mut &[u8], account: &mut Account) -> Taken {
        self.stirred = true;
        match exchange {
            Exchange::Raw { .. } => self.take_raw(bytes),
            Exchange::Framed { .. } => self.take_framed(bytes, account),
        }
    }

    fn take_raw(&mut self, bytes: &mut &[u8]) -> Taken {
        let Some(want) = self.wants.front() else {
            return if bytes.is_empty() { Taken::More } else { Taken::Wrong };
        };
        let missing = want.answer as usize - self.left;
        let (now, later) = bytes.split_at(missing.min(bytes.len()));
        *bytes = later;
        // Here `left` counts received bytes: all answers are as long.
        self.left += now.len();
        if now.len() < missing {
            return Taken::More;
        }
        self.left = 0;
        self.wants.pop_front();
        Taken::Answer
    }

    fn take_framed(&mut self, bytes: &mut &[u8], account: &mut Account) -> Taken {
        while !bytes.is_empty() {
            if self.checker.is_gathering() {
                let fault = self.checker.take(bytes);
                *bytes = &[];
                return fault.map_or(Taken::More, |fault| wrong(fault, account));
            }
            if self.have < HEADER {
                let (now, later) = bytes.split_at((HEADER - self.have).min(bytes.len()));
                self.header[self.have..self.have + now.len()].copy_from_slice(now);
                self.have += now.len();
                *bytes = later;
                if self.have < HEADER {
                    return Taken::More;
                }
                if let Some(fault) = self.begin_answer() {
                    return wrong(fault, account);
                }
                if self.checker.is_gathering() {
                    continue;
                }
            }
            let (now, later) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= now.len();
            *bytes = later;
            if let Some(fault) = self.checker.take(now) {
                return wrong(fault, account);
            }
            if self.left == 0 && !self.checker.is_gathering() {
                self.have = 0;
                self.wants.pop_front();
                return Taken::Answer;
            }
        }
        Taken::More
    }

    /// A header is complete: is it that of the next answer?
    fn begin_answer(&mut self) -> Option<Fault> {
        let Some(want) = self.wants.front().copied() else {
            self.checker.misfit(&self.header, None);
            return None;
        };
        if self.peer == Peer::Unknown {
            let echo = Request::decode(&self.header).is_some();
            self.peer = if echo { Peer::Echo } else { Peer::Server };
            if echo {
                self.checker = Checker::new(self.connection, Way::Up, self.verify);
            }
        }
        let (expected, length) = match self.peer {
            Peer::Echo => (self.header_up(want), want.request),
            _ => (self.header_down(want), want.answer),
        };
        if self.header == expected {
            self.checker.skip(HEADER);
            self.left = length as usize - HEADER;
            return None;
        }
        match Response::decode(&self.header) {
            Some(Response { connection, status: Status::Faulty(complaint), .. })
                if connection == self.connection =>
            {
                // The server does not report where in our stream it saw the fault: somewhere before this.
                Some(Fault { connection, direction: "up", offset: self.made, kind: complaint.kind() })
            }
            _ => {
                self.checker.misfit(&self.header, Some(expected));
                None
            }
        }
    }

    /// Some time has passed. A fault that is being gathered is named once nothing more came for a whole tick, as bytes that are still
    /// on their way may show its kind; or when its operation is late anyway.
    pub(super) fn tick(&mut self, account: &mut Account, oldest: Option<&Operation>, now: u64) -> Next {
        let is_quiet = !std::mem::take(&mut self.stirred);
        let is_late = oldest.is_some_and(|oldest| account.is_late(oldest, now));
        match (is_quiet || is_late) && self.settle(account) {
            true => Next::Broken("wrong bytes"),
            false if is_late => Next::Late,
            false => Next::Stay,
        }
    }

    /// Nothing more comes, or not soon: a fault that is being gathered is named now. Returns whether there was one.
    pub(super) fn settle(&mut self, account: &mut Account) -> bool {
        let unasked = self.wants.is_empty() && (1..HEADER).contains(&self.have);
        if unasked && !self.checker.is_gathering() {
            let _ = self.checker.take(&self.header[..self.have]);
        }
        account.settle(&mut self.checker)
    }
}

fn wrong(fault: Fault, account: &mut Account) -> Taken {
    account.fault(fault);
    Taken::Wrong
}

impl Context<'_> {
    /// Sends the output; returns how much of it was taken, which is nothing when the kernel has no room.
    pub(super) fn send_output(&mut self) -> Result<usize, Errno> {
        let output = std::mem::take(&mut self.kit.output);
        let sent = self.send(output.bytes());
        self.kit.output = output;
        sent
    }

    /// The stamp of a receive that has just ended.
    pub(super) fn stamp(&mut self, bytes: usize) -> u64 {
        self.lane.account.received(bytes);
        clock::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::account::Loop;
    use crate::payload::fault::FaultKind;

    const SIZE: u32 = 4096;
    const CUT: usize = 1000;
    const GONE: usize = 40;

    /// A wire that waits for an answer, and that answer, from which bytes are gone.
    fn robbed() -> (Wire, Exchange, Vec<u8>) {
        let exchange = Exchange::Framed { request: Sizes::Fixed(SIZE), response: Sizes::Fixed(SIZE) };
        let mut wire = Wire::new(7, Verify::Full);
        let mut output = Output::default();
        wire.ask(&exchange, &mut output, &mut Rng::with_seed(1));
        let mut answer = vec![0; SIZE as usize];
        let header = Response { connection: 7, length: SIZE, status: Status::Fine }.encode();
        answer[..HEADER].copy_from_slice(&header);
        pattern::fill(&mut answer[HEADER..], 7, Way::Down, HEADER as u64);
        answer.drain(CUT..CUT + GONE);
        (wire, exchange, answer)
    }

    #[test]
    fn a_fault_is_named_when_its_rest_has_come_and_not_in_the_middle_of_it() {
        let (mut wire, exchange, answer) = robbed();
        let mut account = Account::new(Loop::Closed, u64::MAX);
        // A tick falls between the first wrong bytes, too few to name a fault, and those that name it.
        let (first, rest) = answer.split_at(CUT + 3);
        assert_eq!(wire.take(&exchange, &mut &*first, &mut account), Taken::More);
        assert!(wire.is_suspicious());
        assert_eq!(wire.tick(&mut account, None, 0), Next::Stay);
        assert_eq!(wire.take(&exchange, &mut &*rest, &mut account), Taken::More);
        assert_eq!(wire.tick(&mut account, None, 0), Next::Stay);
        assert_eq!(wire.tick(&mut account, None, 0), Next::Broken("wrong bytes"));
        let named: Vec<FaultKind> = account.close(0).faults.into_iter().map(|fault| fault.kind).collect();
        assert_eq!(named, [FaultKind::Missing(GONE as u64)]);
    }

    #[test]
    fn a_fault_is_named_though_its_operation_is_late() {
        let (mut wire, exchange, answer) = robbed();
        let mut account = Account::new(Loop::Closed, 10);
        let operation = account.plan(0, 0);
        assert_eq!(wire.take(&exchange, &mut &*answer, &mut account), Taken::More);
        assert_eq!(wire.tick(&mut account, Some(&operation), 1000), Next::Broken("wrong bytes"));
        assert_eq!(Wire::new(7, Verify::Full).tick(&mut account, Some(&operation), 1000), Next::Late);
    }
}
