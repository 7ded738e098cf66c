//! `weir-bench compare`: its arguments, and where its findings go.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::values;
use crate::compare::arms::Arm;
use crate::compare::job::{DEFAULT, Job, QUICK};
use crate::compare::result::{Comparison, Sample};
use crate::compare::{self, Plan, markdown, table};
use crate::exit::{EXIT_CODES, FAILED, FINE, INTEGRITY, INTERRUPTED, INVALID, USAGE};
use crate::report;

/// Rounds of a short comparison, and how long its samples are.
const QUICK_ROUNDS: u32 = 3;
const QUICK_DURATION: Duration = Duration::from_secs(1);

/// The arguments of `weir-bench compare`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Compare {
    /// Work, by names such as rr-64-512 (bytes, connections), crr-64, crr-fin-64, connect-16, stream-down-4, hold-9000
    /// [default: all that the goals are set in]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    work: Vec<Job>,
    /// Arms; those named do all work [default: all; those that are not installed are left out, and weir-before without --before]
    #[arg(long, value_enum, value_delimiter = ',')]
    arms: Vec<Arm>,
    /// Less work, fewer rounds, shorter samples: to see that it works
    #[arg(long)]
    quick: bool,
    /// How often each arm does each work; intervals need at least two [default: 7]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// How long a sample is measured [default: 2s]
    #[arg(short, long, value_parser = values::time)]
    duration: Option<Duration>,
    /// Time that runs before that
    #[arg(long, default_value = "300ms", value_parser = values::time)]
    warmup: Duration,
    /// The core of the proxies
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    /// The core of client and back ends
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Run proxies in a network namespace of their own, with a veth pair to the rest (wants root)
    #[arg(long)]
    namespaces: bool,
    /// How closely both ends look at the bytes: the less, the more the proxy is the one that is busy
    #[arg(long, value_enum, default_value_t = values::Looks::Stamp)]
    verify: values::Looks,
    /// Weir's program [default: beside this one]
    #[arg(long, value_name = "FILE")]
    weir: Option<PathBuf>,
    /// The program of another build of Weir, such as that of the commit before: it runs as the arm weir-before
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// The directory of the arms' configurations
    #[arg(long, value_name = "DIRECTORY", default_value = "bench/peers")]
    peers: PathBuf,
    /// Write samples.csv, comparison.json, table.md and report.html there
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// Print no line for each sample: only findings and errors
    #[arg(short, long)]
    quiet: bool,
    /// Where chance starts: the order of arms, and the plans of open loops [default: any]
    #[arg(long)]
    seed: Option<u64>,
}

impl Compare {
    pub(super) fn main(self) -> anyhow::Result<u8> {
        let (out, quiet) = (self.out.clone(), self.quiet);
        if let Some(out) = &out {
            std::fs::create_dir_all(out).with_context(|| format!("{}", out.display()))?;
        }
        let plan = match self.plan() {
            Ok(plan) => plan,
            Err(error) => {
                eprintln!("weir-bench: {error:#}");
                return Ok(USAGE);
            }
        };
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        let mut print = |line: &str| {
            if !quiet {
                eprintln!("{line}");
            }
        };
        print(&format!("seed {}", plan.seed));
        let comparison = compare::run(&plan, &stop, &mut print)?;
        print!("{}", table::text(&comparison));
        if let Some(out) = &out {
            write(&comparison, out)?;
        }
        Ok(code(&comparison))
    }

    fn plan(self) -> anyhow::Result<Plan> {
        let names: &[&str] = if self.quick { &QUICK } else { &DEFAULT };
        let jobs = if self.work.is_empty() {
            names.iter().map(|name| name.parse().expect("names of ours")).collect()
        } else {
            self.work
        };
        let weir = match self.weir {
            Some(weir) => weir,
            None => std::env::current_exe().context("our own program")?.with_file_name("weir"),
        };
        let words: Vec<String> = std::env::args().collect();
        let arms = arms(&self.arms, self.before.as_deref())?;
        Ok(Plan {
            command: compare::command(words.iter().map(String::as_str)),
            all_by_all: !self.arms.is_empty(),
            arms,
            jobs,
            rounds: self.rounds.unwrap_or(if self.quick { QUICK_ROUNDS } else { 7 }),
            duration: self.duration.unwrap_or(if self.quick {
                QUICK_DURATION
            } else {
                Duration::from_secs(2)
            }),
            warmup: self.warmup,
            proxy_core: self.proxy_core,
            load_core: self.load_core,
            namespaces: self.namespaces,
            verify: self.verify.into(),
            weir,
            before: self.before,
            peers: self.peers,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
        })
    }
}

/// Those that were named, or all. The other build of Weir is among them exactly if there is one.
///
/// # Errors
///
/// When the other build is named and not given, or is no file.
fn arms(named: &[Arm], before: Option<&Path>) -> anyhow::Result<Vec<Arm>> {
    if let Some(before) = before {
        anyhow::ensure!(
            before.is_file(),
            "--before {}: there is no such file; name the program `weir` of another build",
            before.display()
        );
    }
    let mut arms = if named.is_empty() { Arm::ALL.to_vec() } else { named.to_vec() };
    match (before, arms.contains(&Arm::WeirBefore)) {
        (Some(_), false) => arms.push(Arm::WeirBefore),
        (None, true) if named.is_empty() => arms.retain(|arm| *arm != Arm::WeirBefore),
        (None, true) => {
            anyhow::bail!("the arm weir-before wants --before FILE, the program of another build of Weir")
        }
        _ => {}
    }
    Ok(arms)
}

fn write(comparison: &Comparison, out: &Path) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(comparison)?;
    let files = [
        ("samples.csv", table::csv(comparison)),
        ("comparison.json", json + "\n"),
        ("table.md", markdown::render(comparison)),
        ("report.html", report::html::comparison_page(comparison)),
    ];
    for (name, text) in files {
        let file = out.join(name);
        std::fs::write(&file, text).with_context(|| format!("{}", file.display()))?;
    }
    Ok(())
}

/// A closed loop fills the load's core, as it is meant to; a hold has no samples of times. Any other gate counts.
fn is_valid(sample: &Sample) -> bool {
    let natural = |gate: &String| sample.pace == "closed" && ["own core", "samples"].contains(&gate.as_str());
    sample.gates.iter().all(natural)
}

fn code(comparison: &Comparison) -> u8 {
    let samples = &comparison.samples;
    if samples.iter().any(|sample| sample.faults > 0) {
        INTEGRITY
    } else if comparison.interrupted {
        INTERRUPTED
    } else if samples.iter().all(|sample| sample.operations <= 0.0) {
        FAILED
    } else if samples.iter().all(is_valid) {
        FINE
    } else {
        INVALID
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_build_is_an_arm_exactly_if_it_is_given() {
        fn check(named: &[Arm], before: Option<&str>, expected: Option<&[Arm]>) {
            let found = arms(named, before.map(Path::new));
            assert_eq!(found.as_deref().ok(), expected, "{named:?}, {before:?}: {found:?}");
        }
        let without: Vec<Arm> = Arm::ALL.into_iter().filter(|arm| *arm != Arm::WeirBefore).collect();
        check(&[], None, Some(&without));
        check(&[Arm::Weir], None, Some(&[Arm::Weir]));
        check(&[Arm::Weir, Arm::WeirBefore], None, None);
        check(&[Arm::Weir], Some("/bin/sh"), Some(&[Arm::Weir, Arm::WeirBefore]));
        check(&[Arm::WeirBefore, Arm::Weir], Some("/bin/sh"), Some(&[Arm::WeirBefore, Arm::Weir]));
        check(&[Arm::Weir], Some("/no/such/program"), None);
        let found = arms(&[], Some(Path::new("/bin/sh"))).unwrap();
        assert_eq!(found, Arm::ALL);
    }
}
