//! `slow`: an echo that keeps bytes for a while, or reads only so many bytes a second.

use std::io;
use std::time::{Duration, Instant};

use super::context::{Next, PIECE, Shared};
use super::wire::{Read, Wire};

/// How often a limited rate lets something be read.
const TICK: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Slow {
    delay: Duration,
    /// Bytes that may be read at once, and the time each takes.
    pace: Option<(usize, Duration)>,
    /// Received bytes, and when they are sent back.
    held: Option<(Instant, Vec<u8>)>,
    /// Nothing is read before this.
    read_from: Instant,
    ended: bool,
}

impl Slow {
    pub(super) fn new(delay: Duration, rate: Option<u64>) -> Slow {
        let pace = rate.map(|rate| {
            let rate = rate.max(1) as f64;
            let piece = (rate * TICK.as_secs_f64()).clamp(1.0, PIECE as f64) as usize;
            (piece, Duration::from_secs_f64(1.0 / rate))
        });
        Slow { delay, pace, held: None, read_from: Instant::now(), ended: false }
    }

    pub(super) fn go(&mut self, wire: &mut Wire, shared: &mut Shared) -> io::Result<Next> {
        loop {
            let now = Instant::now();
            if let Some((due, bytes)) = self.held.take() {
                if now < due {
                    self.held = Some((due, bytes));
                    return Ok(Next::Until(due));
                }
                wire.write(&bytes)?;
            }
            if !wire.flush()? {
                return Ok(Next::Wait);
            }
            if self.ended {
                return Ok(Next::Close);
            }
            if now < self.read_from {
                return Ok(Next::Until(self.read_from));
            }
            let (piece, each) = self.pace.unwrap_or((PIECE, Duration::ZERO));
            match wire.read(&mut shared.input[..piece])? {
                Read::Bytes(bytes) => {
                    self.held = Some((now + self.delay, shared.input[..bytes].to_vec()));
                    self.read_from = now + each * bytes as u32;
                }
                Read::Nothing => return Ok(Next::Wait),
                Read::End => self.ended = true,
            }
        }
    }
}
