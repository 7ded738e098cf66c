//! The intended times of an open loop, drawn without looking at completions.
//!
//! Each thread has its own share of one plan. Even arrivals are dealt out in turn, so that the shares together are exactly the
//! plan of one thread. Poisson arrivals are independent streams of a part of the rate, whose union is Poisson again.

use fastrand::Rng;

use crate::settings::Arrivals;

/// Which share of a plan: the `index`-th of `of`.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// From 0.
    pub index: usize,
    /// How many shares there are.
    pub of: usize,
}

impl Share {
    /// This share of so many things: shares differ by one at most and add up to all of them.
    pub fn part(self, all: usize) -> usize {
        all / self.of + usize::from(self.index < all % self.of)
    }
}

/// Intended times, in nanoseconds since the plan began.
#[derive(Debug)]
pub struct Plan {
    next: f64,
    spacing: Spacing,
}

#[derive(Debug)]
enum Spacing {
    /// Multiples of the period, made from their number, so that no rounding adds up.
    Even { period: f64, number: u64, step: u64 },
    /// Exponential gaps of this mean.
    Random { mean: f64, chance: Rng },
}

impl Plan {
    /// A share of a plan of `rate` operations a second.
    pub fn new(rate: f64, arrivals: Arrivals, share: Share, seed: u64) -> Plan {
        let period = 1e9 / rate;
        let mut plan = match arrivals {
            Arrivals::Constant => {
                let (number, step) = (share.index as u64, share.of as u64);
                Plan { next: 0.0, spacing: Spacing::Even { period, number, step } }
            }
            Arrivals::Poisson => {
                // Streams of neighbouring seeds must not resemble each other: the generator mixes its seed.
                let chance = Rng::with_seed(seed.wrapping_add(share.index as u64));
                Plan { next: 0.0, spacing: Spacing::Random { mean: period * share.of as f64, chance } }
            }
        };
        plan.draw();
        plan
    }

    /// The next intended time.
    pub fn peek(&self) -> u64 {
        self.next as u64
    }

    /// Takes the next intended time out of the plan.
    pub fn take(&mut self) -> u64 {
        let time = self.peek();
        self.draw();
        time
    }

    fn draw(&mut self) {
        match &mut self.spacing {
            Spacing::Even { period, number, step } => {
                self.next = *number as f64 * *period;
                *number += *step;
            }
            // 1 - f64() is in (0, 1]: its logarithm is finite.
            Spacing::Random { mean, chance } => self.next -= *mean * (1.0 - chance.f64()).ln(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn times(rate: f64, arrivals: Arrivals, share: Share, seed: u64, until: u64) -> Vec<u64> {
        let mut plan = Plan::new(rate, arrivals, share, seed);
        std::iter::from_fn(|| (plan.peek() < until).then(|| plan.take())).collect()
    }

    #[test]
    fn shares_of_an_even_plan_are_together_the_plan_of_one_thread() {
        for (rate, of) in [(1000.0, 1), (1000.0, 3), (7.0, 4), (333.3, 2), (1_000_000.0, 7)] {
            let whole = times(rate, Arrivals::Constant, Share { index: 0, of: 1 }, 0, SECOND);
            let mut dealt: Vec<u64> = (0..of)
                .flat_map(|index| times(rate, Arrivals::Constant, Share { index, of }, 0, SECOND))
                .collect();
            dealt.sort_unstable();
            assert_eq!(dealt, whole, "{rate}/s over {of}");
            assert_eq!(whole.len() as f64, rate.ceil(), "{rate}/s");
        }
    }

    #[test]
    fn shares_of_connections_add_up() {
        for (all, of) in [(1, 1), (1, 4), (9000, 7), (64, 2), (0, 3)] {
            let parts: Vec<usize> = (0..of).map(|index| Share { index, of }.part(all)).collect();
            assert_eq!(parts.iter().sum::<usize>(), all);
            assert!(parts.iter().max().unwrap() - parts.iter().min().unwrap() <= 1, "{parts:?}");
        }
    }

    #[test]
    fn random_arrivals_have_the_rate_and_vary_as_poisson_does() {
        // Counts in 10 ms of a rate of 10,000/s: mean and variance are both 100. Over 4,000 windows the mean's standard error is
        // 0.16, the variance's 2.2: the bars are six of them.
        for of in [1, 3] {
            let mut counts = vec![0u64; 4000];
            for index in 0..of {
                let share = Share { index, of };
                for time in times(10_000.0, Arrivals::Poisson, share, 11, 40 * SECOND) {
                    counts[(time / 10_000_000) as usize] += 1;
                }
            }
            let mean = counts.iter().sum::<u64>() as f64 / 4000.0;
            let variance = counts.iter().map(|count| (*count as f64 - mean).powi(2)).sum::<f64>() / 3999.0;
            assert!((mean - 100.0).abs() < 1.0, "mean {mean} over {of}");
            assert!((variance - 100.0).abs() < 13.5, "variance {variance} over {of}");
        }
    }

    #[test]
    fn the_seed_alone_decides_random_arrivals() {
        let share = Share { index: 1, of: 2 };
        let draw = |seed| times(1000.0, Arrivals::Poisson, share, seed, SECOND);
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }
}
