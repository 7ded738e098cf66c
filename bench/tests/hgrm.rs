//! Files for tools that know HdrHistogram are read by one that is not ours: PyPI's `hdrhistogram`.
//!
//! `WEIR_BENCH_PYTHON` names an interpreter that has it (default `python3`). Where there is none the test prints that and passes,
//! but not under `CI=true`.

use std::fs;
use std::process::Command;

use weir_bench::ledger::{LONGEST, times};
use weir_bench::report::hgrm;

const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hgrm.py");

/// An interpreter that has the package, if there is one.
fn python() -> Option<String> {
    let python = std::env::var("WEIR_BENCH_PYTHON").unwrap_or("python3".to_owned());
    let has_it = Command::new(&python).args(["-c", "import hdrh.histogram"]).output();
    if has_it.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    let message =
        format!("{python} has no hdrhistogram: pip install hdrhistogram, and name it in WEIR_BENCH_PYTHON");
    assert!(!is_ci, "{message}");
    eprintln!("skipped: {message}");
    None
}

#[track_caller]
fn check(samples: &[u64]) {
    let Some(python) = python() else { return };
    let mut histogram = times();
    for sample in samples {
        histogram.saturating_record(*sample);
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let mut written = Vec::new();
    hgrm::write(&histogram, &mut written).expect("a vector takes everything");
    fs::write(path("times.hgrm"), written).expect("written");
    fs::write(path("encoded"), hgrm::encoded(&histogram)).expect("written");
    let raw: Vec<String> = samples.iter().map(u64::to_string).collect();
    fs::write(path("raw"), raw.join("\n")).expect("written");
    let output = Command::new(python)
        .arg(READER)
        .args([path("times.hgrm"), path("encoded"), path("raw")])
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_foreign_histogram_reads_times_as_a_network_has_them() {
    let mut random = fastrand::Rng::with_seed(3);
    let samples: Vec<u64> = (0..20_000)
        .map(|_| {
            let slow = if random.f64() < 0.01 { 40.0 } else { 1.0 };
            (60_000.0 * slow * (1.0 + random.f64() - random.f64().ln())) as u64
        })
        .collect();
    check(&samples);
}

#[test]
fn a_foreign_histogram_reads_from_a_nanosecond_to_the_longest() {
    let longest = LONGEST.as_nanos() as u64;
    let samples: Vec<u64> =
        (0..4000).map(|step| 1 + (longest as f64).powf(f64::from(step) / 3999.0) as u64).collect();
    check(&samples.iter().map(|sample| (*sample).min(longest)).collect::<Vec<_>>());
}
