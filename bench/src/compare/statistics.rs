//! Ratios of paired samples: both arms of a pair ran in the same round, so the effect of the round on both cancels.
//!
//! The logarithm of a ratio is symmetric, so half and twice are equally far from one; intervals are Student's t on the mean of
//! the rounds' logarithms. A run has some hundred ratios, of which one in twenty would show a difference by chance: so the
//! probabilities are corrected for all of them, by Holm's method ("A simple sequentially rejective multiple test procedure", 1979).
//! Pure: samples in, ratios out.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::result::{Ratio, Sample};

/// Confidence of an interval.
const CONFIDENCE: f64 = 0.95;

/// How probable it may be that any ratio of a run shows a difference where there is none.
const SIGNIFICANCE: f64 = 0.05;

/// A mean ratio and the interval that holds the true one with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// exp of the mean logarithm.
    pub middle: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Probability of a mean at least this far from one if the true one is one.
    pub p: f64,
}

/// The interval of these ratios; none of fewer than two, for one round shows nothing of its noise.
pub fn interval(ratios: &[f64]) -> Option<Interval> {
    let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    let freedom = logs.len().checked_sub(1).filter(|freedom| *freedom > 0)? as f64;
    let count = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / count;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / freedom;
    let student = StudentsT::new(0.0, 1.0, freedom).expect("freedom is positive");
    let error = (variance / count).sqrt();
    let half = student.inverse_cdf(0.5 + CONFIDENCE / 2.0) * error;
    // Rounds that are all equal have no error: then any mean but 0 is certain.
    let p = if mean == 0.0 { 1.0 } else { 2.0 * student.sf((mean / error).abs()) };
    Some(Interval { middle: mean.exp(), low: (mean - half).exp(), high: (mean + half).exp(), p })
}

/// Holm's correction: if values below a level are taken for differences, the probability that any of them is none is at most that
/// level, however they depend on each other.
pub fn holm(probabilities: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_unstable_by(|one, other| probabilities[*one].total_cmp(&probabilities[*other]));
    let mut corrected = vec![1.0; probabilities.len()];
    let mut highest: f64 = 0.0;
    for (rank, at) in order.into_iter().enumerate() {
        let hypotheses_left = (probabilities.len() - rank) as f64;
        highest = highest.max((probabilities[at] * hypotheses_left).min(1.0));
        corrected[at] = highest;
    }
    corrected
}

/// Decides which ratios of a whole run show a difference; `is_noise` are those of an arm to itself.
pub fn judge(ratios: &mut [Ratio], is_noise: impl Fn(&Ratio) -> bool) {
    let (noise, family): (Vec<usize>, Vec<usize>) =
        (0..ratios.len()).filter(|at| ratios[*at].is_comparison()).partition(|at| is_noise(&ratios[*at]));
    // Noise has no direction: as far as its interval reaches on one side, it could have on the other.
    let reach = |ratio: &Ratio| ratio.low.ln().abs().max(ratio.high.ln().abs());
    let band = |of: &Ratio| {
        let same =
            |ratio: &&Ratio| (&ratio.work, &ratio.pace, &ratio.figure) == (&of.work, &of.pace, &of.figure);
        noise.iter().map(|at| &ratios[*at]).filter(same).map(reach).fold(0.0, f64::max)
    };
    let corrected = holm(&family.iter().map(|at| ratios[*at].p).collect::<Vec<_>>());
    let bands: Vec<f64> = family.iter().map(|at| band(&ratios[*at])).collect();
    for ((at, p), band) in family.into_iter().zip(corrected).zip(bands) {
        ratios[at].holm = Some(p);
        ratios[at].differs = p < SIGNIFICANCE && ratios[at].middle.ln().abs() > band;
    }
}

/// Where a figure is in a sample.
type Take = fn(&Sample) -> f64;

/// The figures that are compared, and where each is in a sample. Memory a connection where connections are held, else of the whole.
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
                found.extend(interval(&paired).map(|Interval { middle, low, high, p }| Ratio {
                    work: work.to_owned(),
                    pace: pace.to_owned(),
                    ours: ours.to_owned(),
                    theirs: (*arm).to_owned(),
                    figure: figure.to_owned(),
                    middle,
                    low,
                    high,
                    rounds: paired.len(),
                    p,
                    holm: None,
                    differs: false,
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

    #[test]
    fn a_probability_is_students_t_on_both_sides() {
        fn check(logs: &[f64], expected: f64) {
            let ratios: Vec<f64> = logs.iter().map(|log| log.exp()).collect();
            let p = interval(&ratios).unwrap().p;
            assert!((p - expected).abs() < 1e-9, "{logs:?}: {p}, not {expected}");
        }
        // With one degree of freedom it is Cauchy's distribution, with two it has a closed form; here t is 2 and the root of 12.
        check(&[1.0, 3.0], 1.0 - 2.0 / std::f64::consts::PI * 2f64.atan());
        check(&[-1.0, -3.0], 1.0 - 2.0 / std::f64::consts::PI * 2f64.atan());
        check(&[1.0, 2.0, 3.0], 1.0 - (12f64 / 14.0).sqrt());
        check(&[-1.0, 0.0, 1.0], 1.0);
        check(&[0.0, 0.0, 0.0], 1.0);
        check(&[1.0, 1.0, 1.0], 0.0);
    }

    #[test]
    fn holm_multiplies_each_probability_by_the_hypotheses_left() {
        fn check(probabilities: &[f64], expected: &[f64]) {
            let found = holm(probabilities);
            let near = |(found, wanted): (&f64, &f64)| (found - wanted).abs() < 1e-12;
            assert!(
                found.len() == expected.len() && found.iter().zip(expected).all(near),
                "{probabilities:?}: {found:?}, not {expected:?}"
            );
        }
        check(&[], &[]);
        check(&[0.03], &[0.03]);
        check(&[0.01, 0.04, 0.03, 0.005], &[0.03, 0.06, 0.06, 0.02]);
        check(&[0.5, 0.6, 0.02], &[1.0, 1.0, 0.06]);
        check(&[0.02, 0.02], &[0.04, 0.04]);
    }

    /// A ratio whose interval is as wide on both sides, with this probability.
    fn ratio(theirs: &str, figure: &str, middle: f64, half: f64, p: f64) -> Ratio {
        Ratio {
            work: "rr-64-1".to_owned(),
            pace: "closed".to_owned(),
            ours: "weir".to_owned(),
            theirs: theirs.to_owned(),
            figure: figure.to_owned(),
            middle,
            low: middle / (1.0 + half),
            high: middle * (1.0 + half),
            rounds: 7,
            p,
            holm: None,
            differs: false,
        }
    }

    #[test]
    fn only_what_is_significant_among_all_and_beyond_the_noise_differs() {
        fn check(mut ratios: Vec<Ratio>, expected: &[bool]) {
            judge(&mut ratios, |ratio| ratio.theirs == "weir-again");
            let found: Vec<bool> = ratios.iter().map(|ratio| ratio.differs).collect();
            assert_eq!(found, expected, "{ratios:#?}");
        }
        let nginx = |middle, p| ratio("nginx", "cost", middle, 0.01, p);
        let noise = |middle, half| ratio("weir-again", "cost", middle, half, 1e-9);
        check(vec![nginx(0.9, 0.04)], &[true]);
        check(vec![nginx(0.9, 0.06)], &[false]);
        // Of two, the better one has to be twice as good.
        check(vec![nginx(0.9, 0.04), nginx(0.9, 0.5)], &[false, false]);
        check(vec![nginx(0.9, 0.02), nginx(0.9, 0.04)], &[true, true]);
        // The noise reaches as far up as down, is no comparison itself, and holds for its own figure alone.
        check(vec![noise(1.0, 0.15), nginx(0.9, 1e-9), nginx(0.8, 1e-9)], &[false, false, true]);
        check(vec![noise(1.1, 0.05), nginx(0.9, 1e-9)], &[false, false]);
        check(vec![noise(1.0, 0.15), ratio("nginx", "p50", 0.9, 0.01, 1e-9)], &[false, true]);
        // Memory of the whole process is no comparison, so it neither shows a difference nor costs others theirs.
        check(vec![nginx(0.9, 0.04), ratio("nginx", "resident", 0.1, 0.01, 1e-9)], &[true, false]);
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
                    "the effect of rounds on both has not cancelled: {cost:?}"
                );
                held += u32::from(cost.low <= 1.0 && 1.0 <= cost.high);
            }
            let share = f64::from(held) / f64::from(COMPARISONS);
            assert!((0.93..=0.97).contains(&share), "seed {seed}, {rounds} rounds: {share}");
        }
    }

    #[test]
    fn a_run_of_equal_arms_shows_no_difference_anywhere_in_95_of_100_runs() {
        const RUNS: u32 = 400;
        const ROWS: usize = 20;
        let arms = ["weir", "haproxy", "nginx", "envoy"];
        let mut random = fastrand::Rng::with_seed(4);
        let (mut wrong, mut uncorrected) = (0, 0);
        for _ in 0..RUNS {
            let mut found = Vec::new();
            for row in 0..ROWS {
                let mut samples = Vec::new();
                for round in 0..7 {
                    let shared = lognormal(&mut random, 0.5);
                    samples.extend(arms.map(|arm| Sample {
                        work: format!("rr-64-{row}"),
                        ..sample(round, arm, shared * lognormal(&mut random, 0.1))
                    }));
                }
                found.extend(
                    ratios(&samples, "weir", |_| true).into_iter().filter(|one| one.figure == "cost"),
                );
            }
            judge(&mut found, |_| false);
            assert_eq!(found.len(), ROWS * (arms.len() - 1));
            wrong += u32::from(found.iter().any(|ratio| ratio.differs));
            uncorrected += u32::from(found.iter().any(|ratio| ratio.p < SIGNIFICANCE));
        }
        let share = |count: u32| f64::from(count) / f64::from(RUNS);
        assert!(share(wrong) < 0.08, "{} of the runs show a difference", share(wrong));
        assert!(
            share(uncorrected) > 0.8,
            "{}: the runs are too small to need a correction",
            share(uncorrected)
        );
    }
}
