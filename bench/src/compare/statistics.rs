//! Ratios of paired samples: both arms of a pair ran in the same round, so what the round did to both falls out.
//!
//! The logarithm of a ratio is symmetric, so half and twice are equally far from one; intervals are Student's t on the mean of
//! the rounds' logarithms. Pure: samples in, ratios out.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::result::{Ratio, Sample};

/// How sure an interval is.
const CONFIDENCE: f64 = 0.95;

/// A mean ratio and the interval that holds the true one with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// exp of the mean logarithm.
    pub middle: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The interval of these ratios; none of fewer than two, for one round says nothing of its noise.
pub fn interval(ratios: &[f64]) -> Option<Interval> {
    let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    let freedom = logs.len().checked_sub(1).filter(|freedom| *freedom > 0)? as f64;
    let count = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / count;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / freedom;
    let student = StudentsT::new(0.0, 1.0, freedom).expect("freedom is positive");
    let half = student.inverse_cdf(0.5 + CONFIDENCE / 2.0) * (variance / count).sqrt();
    Some(Interval { middle: mean.exp(), low: (mean - half).exp(), high: (mean + half).exp() })
}

/// Where a figure is in a sample.
type Take = fn(&Sample) -> f64;

/// What is compared, and where it is in a sample. Memory a connection where connections are held, else of the whole.
const FIGURES: [(&str, Take); 6] = [
    ("cost", |sample| sample.cost),
    ("rate", |sample| sample.rate),
    ("p50", |sample| sample.p50),
    ("p99", |sample| sample.p99),
    ("p999", |sample| sample.p999),
    ("resident", |sample| sample.resident_per_connection.unwrap_or(sample.resident as f64)),
];

/// Every figure of `ours` over that of each arm that `against` wants, for each work and pace, in the order in which they were
/// first measured. A round counts for a figure when both arms have it, above zero; with fewer than two such rounds there is no ratio.
pub fn ratios(samples: &[Sample], ours: &str, against: impl Fn(&str) -> bool) -> Vec<Ratio> {
    let mut keys: Vec<(&str, &str)> = Vec::new();
    let mut arms: Vec<&str> = Vec::new();
    for sample in samples {
        if !keys.contains(&(&sample.work, &sample.pace)) {
            keys.push((&sample.work, &sample.pace));
        }
        if sample.arm != ours && against(&sample.arm) && !arms.contains(&sample.arm.as_str()) {
            arms.push(&sample.arm);
        }
    }
    arms.sort_unstable();
    let mut found = Vec::new();
    for (work, pace) in keys {
        let of = |arm: &str| -> Vec<&Sample> {
            samples.iter().filter(|s| s.arm == arm && s.work == work && s.pace == pace).collect()
        };
        let mine = of(ours);
        for arm in &arms {
            let theirs = of(arm);
            for (figure, take) in FIGURES {
                let paired = paired(&mine, &theirs, take);
                found.extend(interval(&paired).map(|Interval { middle, low, high }| Ratio {
                    work: work.to_owned(),
                    pace: pace.to_owned(),
                    ours: ours.to_owned(),
                    theirs: (*arm).to_owned(),
                    figure: figure.to_owned(),
                    middle,
                    low,
                    high,
                    rounds: paired.len(),
                }));
            }
        }
    }
    found
}

/// The ratios of the rounds that both have.
fn paired(mine: &[&Sample], theirs: &[&Sample], take: Take) -> Vec<f64> {
    let ratio = |mine: &&Sample| {
        let theirs = theirs.iter().find(|theirs| theirs.round == mine.round)?;
        let (over, under) = (take(mine), take(theirs));
        (over > 0.0 && under > 0.0).then(|| over / under)
    };
    mine.iter().filter_map(ratio).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_students_t_of_the_logarithms() {
        fn check(ratios: &[f64], expected: Option<[f64; 3]>) {
            let found = interval(ratios).map(|found| [found.low, found.middle, found.high]);
            let near = |(found, wanted): (f64, f64)| (found / wanted - 1.0).abs() < 1e-3;
            let same = match (found, expected) {
                (Some(found), Some(expected)) => found.into_iter().zip(expected).all(near),
                (found, expected) => found.is_none() && expected.is_none(),
            };
            assert!(same, "{ratios:?}: {found:?}, not {expected:?}");
        }
        check(&[], None);
        check(&[0.5], None);
        check(&[0.5, 0.5, 0.5], Some([0.5, 0.5, 0.5]));
        // Half and twice cancel; t of one degree of freedom is 12.706, and ln 2 is both the deviation and the error of the mean.
        check(&[0.5, 2.0], Some([(-12.706 * 2f64.ln()).exp(), 1.0, (12.706 * 2f64.ln()).exp()]));
        // t of six degrees is 2.447; logarithms -3 to 3 hundredths have a deviation of 0.0216.
        let seven: Vec<f64> = (-3..=3).map(|step| (f64::from(step) / 100.0).exp()).collect();
        let half = 2.447 * 0.021_602 / 7f64.sqrt();
        check(&seven, Some([(-half).exp(), 1.0, half.exp()]));
    }

    fn sample(round: u32, arm: &str, cost: f64) -> Sample {
        Sample {
            round,
            arm: arm.to_owned(),
            work: "rr-64-1".to_owned(),
            pace: "closed".to_owned(),
            operations: 1.0,
            cpu: cost,
            cost,
            rate: 2.0 * cost,
            p50: 0.0,
            p99: 1.0,
            p999: 1.0,
            resident: 1000,
            resident_per_connection: None,
            switches: 0.0,
            calls: None,
            arm_busy: 0.0,
            load_busy: 0.0,
            bad: 0,
            faults: 0,
            gates: Vec::new(),
        }
    }

    #[test]
    fn only_what_both_arms_have_of_a_round_is_paired() {
        fn check(samples: &[Sample], figure: &str, expected: Option<(f64, usize)>) {
            let found = ratios(samples, "weir", |_| true)
                .into_iter()
                .find(|ratio| ratio.figure == figure && ratio.theirs == "nginx")
                .map(|ratio| ((ratio.middle * 1e6).round() / 1e6, ratio.rounds));
            assert_eq!(found, expected, "{figure} of {} samples", samples.len());
        }
        let (weir, nginx) =
            (|round, cost| sample(round, "weir", cost), |round, cost| sample(round, "nginx", cost));
        let whole = [weir(0, 1.0), nginx(0, 2.0), nginx(1, 8.0), weir(1, 4.0)];
        check(&whole, "cost", Some((0.5, 2)));
        check(&whole, "rate", Some((0.5, 2)));
        check(&whole, "resident", Some((1.0, 2)));
        check(&whole, "p50", None);
        check(&[weir(0, 1.0), nginx(0, 2.0), weir(1, 4.0)], "cost", None);
        check(&[weir(0, 1.0), nginx(0, 2.0), weir(1, 4.0), nginx(2, 1.0)], "cost", None);
        check(
            &[weir(0, 1.0), nginx(0, 2.0), weir(1, 4.0), nginx(1, 8.0), weir(2, 9.0), nginx(2, 0.0)],
            "cost",
            Some((0.5, 2)),
        );
    }

    /// The noise of an arm and of a round: lognormal, the round's far larger, as neighbours on a shared machine make it.
    fn lognormal(random: &mut fastrand::Rng, deviation: f64) -> f64 {
        let (radius, angle) = (1.0 - random.f64(), random.f64() * std::f64::consts::TAU);
        ((-2.0 * radius.ln()).sqrt() * angle.cos() * deviation).exp()
    }

    #[test]
    fn intervals_of_equal_arms_hold_one_in_95_of_100_comparisons() {
        const COMPARISONS: u32 = 4000;
        for (seed, rounds) in [(1, 5), (2, 7), (3, 15)] {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut held = 0;
            for _ in 0..COMPARISONS {
                let mut samples = Vec::new();
                for round in 0..rounds {
                    let shared = lognormal(&mut random, 0.5);
                    for arm in ["weir", "weir-again"] {
                        samples.push(sample(round, arm, shared * lognormal(&mut random, 0.1)));
                    }
                }
                let found = ratios(&samples, "weir", |_| true);
                let cost = found.iter().find(|ratio| ratio.figure == "cost").expect("every round has both");
                assert!(
                    cost.high / cost.low < 2.0 || rounds < 7,
                    "what rounds did to both has not fallen out: {cost:?}"
                );
                held += u32::from(cost.low <= 1.0 && 1.0 <= cost.high);
            }
            let share = f64::from(held) / f64::from(COMPARISONS);
            assert!((0.93..=0.97).contains(&share), "seed {seed}, {rounds} rounds: {share}");
        }
    }
}
