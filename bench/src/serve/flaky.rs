//! `flaky`: an echo of which a connection may be refused, reset, closed or forgotten, as chance has it.

use std::io;

use super::context::{Next, PIECE, Shared, TURN};
use super::settings::Fates;
use super::wire::{Read, Wire};

/// A connection that ends badly does so within this many bytes.
const WITHIN: u64 = 64 << 10;

#[derive(Debug)]
pub(super) struct Flaky {
    fate: Fate,
    /// Bytes that are echoed before it strikes.
    left: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// None: an echo to the end.
    Fine,
    Refused,
    Reset,
    Closed,
    Stalled,
}

impl Flaky {
    pub(super) fn new(fates: &Fates, chance: &mut fastrand::Rng) -> Flaky {
        let mut drawn = chance.f64();
        let left = chance.u64(0..WITHIN);
        let ends = [
            (fates.refuse, Fate::Refused),
            (fates.reset, Fate::Reset),
            (fates.close, Fate::Closed),
            (fates.stall, Fate::Stalled),
        ];
        for (fraction, fate) in ends {
            if drawn < fraction {
                return Flaky { fate, left };
            }
            drawn -= fraction;
        }
        Flaky { fate: Fate::Fine, left: u64::MAX }
    }

    pub(super) fn go(&mut self, wire: &mut Wire, shared: &mut Shared) -> io::Result<Next> {
        for _ in 0..TURN {
            match self.fate {
                Fate::Refused => return Ok(Next::Reset),
                Fate::Reset if self.left == 0 => return Ok(Next::Reset),
                Fate::Closed if self.left == 0 => return Ok(Next::End),
                Fate::Stalled if self.left == 0 => {
                    return Ok(if wire.hung_up() { Next::Close } else { Next::Wait });
                }
                _ => {}
            }
            if !wire.flush()? {
                return Ok(Next::Wait);
            }
            let piece = self.left.min(PIECE as u64) as usize;
            match wire.read(&mut shared.input[..piece])? {
                Read::Bytes(bytes) => {
                    wire.write(&shared.input[..bytes])?;
                    self.left -= bytes as u64;
                }
                Read::Nothing => return Ok(Next::Wait),
                Read::End => return Ok(Next::Close),
            }
        }
        Ok(Next::Again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fates_fall_as_often_as_asked_and_the_same_for_a_seed() {
        let fates = Fates { refuse: 0.1, reset: 0.2, close: 0.3, stall: 0.15, seed: 7 };
        let draw = || {
            let mut chance = fastrand::Rng::with_seed(fates.seed);
            (0..10_000).map(|_| Flaky::new(&fates, &mut chance).fate).collect::<Vec<_>>()
        };
        let drawn = draw();
        assert_eq!(drawn, draw(), "a seed gives the same fates again");
        let expected = [
            (Fate::Refused, 0.1),
            (Fate::Reset, 0.2),
            (Fate::Closed, 0.3),
            (Fate::Stalled, 0.15),
            (Fate::Fine, 0.25),
        ];
        for (fate, fraction) in expected {
            let found = drawn.iter().filter(|&&drawn| drawn == fate).count() as f64 / 10_000.0;
            assert!((found - fraction).abs() < 0.03, "{fate:?}: {found}, wanted {fraction}");
        }
    }
}
