//! One connection's part in a mode: when it is called, and how it ends.

use std::io;
use std::time::{Duration, Instant};

use super::banner::Banner;
use super::context::{Next, Shared, TURN};
use super::echo::Echo;
use super::flaky::Flaky;
use super::lines::Lines;
use super::rr::Rr;
use super::settings::Mode;
use super::sink::Sink;
use super::slow::Slow;
use super::source::Source;
use super::wire::{Read, Wire};

/// How long a connection that we ended may go on sending. Closed sooner, its unread bytes would make the kernel send a reset,
/// which may overtake our last bytes.
const LINGERS: Duration = Duration::from_secs(1);

/// One connection's part in a mode.
#[derive(Debug)]
pub(super) enum Protocol {
    Echo(Echo),
    Sink(Sink),
    Source(Source),
    Lines(Lines),
    Rr(Box<Rr>),
    Banner(Banner),
    Slow(Slow),
    Flaky(Flaky),
    Lingering(Linger),
}

impl Protocol {
    pub(super) fn new(mode: &Mode, shared: &mut Shared) -> Protocol {
        match mode {
            Mode::Echo => Protocol::Echo(Echo),
            Mode::Sink => Protocol::Sink(Sink::default()),
            Mode::Source => Protocol::Source(Source::new(shared.served.connections)),
            Mode::Lines { prefix } => Protocol::Lines(Lines::new(prefix)),
            Mode::Rr => Protocol::Rr(Box::default()),
            Mode::Banner { text } => Protocol::Banner(Banner::new(text)),
            Mode::Slow { delay, rate } => Protocol::Slow(Slow::new(*delay, *rate)),
            Mode::Flaky(fates) => Protocol::Flaky(Flaky::new(fates, &mut shared.chance)),
        }
    }

    pub(super) fn lingering() -> Protocol {
        Protocol::Lingering(Linger { until: Instant::now() + LINGERS, shut: false })
    }

    /// Does as much as can be done now. Called when the connection is new, when something has changed, and when a time has come;
    /// being called for nothing does no harm.
    pub(super) fn go(&mut self, wire: &mut Wire, shared: &mut Shared) -> io::Result<Next> {
        match self {
            Protocol::Echo(echo) => echo.go(wire, shared),
            Protocol::Sink(sink) => sink.go(wire, shared),
            Protocol::Source(source) => source.go(wire, shared),
            Protocol::Lines(lines) => lines.go(wire, shared),
            Protocol::Rr(rr) => rr.go(wire, shared),
            Protocol::Banner(banner) => banner.go(wire, shared),
            Protocol::Slow(slow) => slow.go(wire, shared),
            Protocol::Flaky(flaky) => flaky.go(wire, shared),
            Protocol::Lingering(linger) => linger.go(wire, shared),
        }
    }

    /// The connection broke: prints the fault, if one is known, in the bytes before that.
    pub(super) fn broke(&mut self, shared: &mut Shared) {
        let fault = match self {
            Protocol::Rr(rr) => rr.broke(),
            Protocol::Sink(sink) => sink.broke(),
            _ => None,
        };
        if let Some(fault) = fault {
            shared.fault(&fault);
        }
    }
}

/// All is sent. Bytes that still come are thrown away until a time.
#[derive(Debug)]
pub(super) struct Linger {
    until: Instant,
    shut: bool,
}

impl Linger {
    fn go(&mut self, wire: &mut Wire, shared: &mut Shared) -> io::Result<Next> {
        if Instant::now() >= self.until {
            return Ok(Next::Close);
        }
        if !self.shut && wire.flush()? {
            wire.shut();
            self.shut = true;
        }
        for _ in 0..TURN {
            match wire.discard(&mut shared.input)? {
                Read::Bytes(_) => {}
                Read::Nothing => return Ok(Next::Until(self.until)),
                Read::End => return Ok(Next::Close),
            }
        }
        Ok(Next::Again)
    }
}
