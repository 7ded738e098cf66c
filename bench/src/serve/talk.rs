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
/// which may overtake our last words.
const LINGERS: Duration = Duration::from_secs(1);

/// One connection's part in a mode.
#[derive(Debug)]
pub(super) enum Talk {
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

impl Talk {
    pub(super) fn new(mode: &Mode, shared: &mut Shared) -> Talk {
        match mode {
            Mode::Echo => Talk::Echo(Echo),
            Mode::Sink => Talk::Sink(Sink::default()),
            Mode::Source => Talk::Source(Source::new(shared.served.connections)),
            Mode::Lines { prefix } => Talk::Lines(Lines::new(prefix)),
            Mode::Rr => Talk::Rr(Box::default()),
            Mode::Banner { text } => Talk::Banner(Banner::new(text)),
            Mode::Slow { delay, rate } => Talk::Slow(Slow::new(*delay, *rate)),
            Mode::Flaky(fates) => Talk::Flaky(Flaky::new(fates, &mut shared.chance)),
        }
    }

    pub(super) fn lingering() -> Talk {
        Talk::Lingering(Linger { until: Instant::now() + LINGERS, shut: false })
    }

    /// Does what can be done now. Called when the connection is new, when something has changed, and when a time has come;
    /// being called for nothing does no harm.
    pub(super) fn go(&mut self, wire: &mut Wire, shared: &mut Shared) -> io::Result<Next> {
        match self {
            Talk::Echo(echo) => echo.go(wire, shared),
            Talk::Sink(sink) => sink.go(wire, shared),
            Talk::Source(source) => source.go(wire, shared),
            Talk::Lines(lines) => lines.go(wire, shared),
            Talk::Rr(rr) => rr.go(wire, shared),
            Talk::Banner(banner) => banner.go(wire, shared),
            Talk::Slow(slow) => slow.go(wire, shared),
            Talk::Flaky(flaky) => flaky.go(wire, shared),
            Talk::Lingering(linger) => linger.go(wire, shared),
        }
    }

    /// The connection broke: says what is known to be wrong with what came before that.
    pub(super) fn broke(&mut self, shared: &mut Shared) {
        let fault = match self {
            Talk::Rr(rr) => rr.broke(),
            Talk::Sink(sink) => sink.broke(),
            _ => None,
        };
        if let Some(fault) = fault {
            shared.fault(&fault);
        }
    }
}

/// All is said. What still comes is thrown away until a time.
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
