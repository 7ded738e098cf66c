//! The conditions of a comparison, which someone needs to make it again. No name of the host and no paths of it.

use std::fs;
use std::path::Path;

use super::children::answer;
use super::plan::Plan;
use super::stage::Stage;
use crate::settings::Verify;

const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// Name and value, in the order to show them.
pub(super) fn of(plan: &Plan, stage: &Stage) -> Vec<(String, String)> {
    let ask = |program: &str, arguments: &[&str]| answer(Path::new(program), arguments).unwrap_or_default();
    let mut found: Vec<(&str, String)> = vec![
        ("command", plan.command.clone()),
        ("date", ask("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("kernel", ask("uname", &["-srm"])),
        ("processor", processor(&read("/proc/cpuinfo"))),
        ("memory", memory(&read("/proc/meminfo"))),
        ("congestion control", read(CONGESTION_CONTROL)),
        ("layout", stage.layout.describe()),
        ("rounds", format!("{}, {:?} measured after {:?}", plan.rounds, plan.duration, plan.warmup)),
        ("verified", verified(plan.verify).to_owned()),
        ("seed", plan.seed.to_string()),
        ("weir-bench", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    // Two arms of one program are listed once.
    for (arm, output) in &stage.versions {
        let version = version(output);
        if !found.iter().any(|(_, known)| *known == version) {
            found.push((arm, version));
        }
    }
    found.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Settings of the host with which a comparison should not be started.
pub(super) fn warnings() -> Vec<String> {
    let advice = "BBR paces its sending, on loopback too: `sysctl -w net.ipv4.tcp_congestion_control=cubic` before comparing";
    if read(CONGESTION_CONTROL) == "bbr" { vec![advice.to_owned()] } else { Vec::new() }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn processor(cpuinfo: &str) -> String {
    let name =
        cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    format!("{count} x {}", name.map_or("unknown", |(_, name)| name))
}

fn memory(meminfo: &str) -> String {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or_else(|| "unknown".to_owned(), |kib| format!("{:.1} GiB", kib as f64 / f64::from(1 << 20)))
}

/// The first line; of Envoy's, which begins with its own path, the part behind it.
fn version(output: &str) -> String {
    let line = output.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let line = match line.split_once(" version: ") {
        Some((path, rest)) if path.starts_with('/') => rest,
        _ => line,
    };
    line.trim().to_owned()
}

/// A command line whose absolute paths are cut down to the names of files.
pub fn command<'a>(arguments: impl IntoIterator<Item = &'a str>) -> String {
    let short = |word: &'a str| {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (Some(option), value),
            _ => (None, word),
        };
        let name = if value.starts_with('/') {
            value.rsplit('/').find(|part| !part.is_empty()).unwrap_or("/")
        } else {
            value
        };
        option.map_or_else(|| name.to_owned(), |option| format!("{option}={name}"))
    };
    arguments.into_iter().map(short).collect::<Vec<_>>().join(" ")
}

/// The bytes that both ends looked at.
fn verified(verify: Verify) -> &'static str {
    match verify {
        Verify::Off => "headers",
        Verify::Stamp => "headers and 16 bytes of each 4 KiB",
        Verify::Full => "every byte",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_one_line_without_a_path() {
        fn check(output: &str, expected: &str) {
            assert_eq!(version(output), expected);
        }
        check(
            "HAProxy version 2.6.12-1 2025/10/03 - https://haproxy.org/\nStatus: long-term",
            "HAProxy version 2.6.12-1 2025/10/03 - https://haproxy.org/",
        );
        check("nginx version: nginx/1.22.1", "nginx version: nginx/1.22.1");
        check("\n/opt/bin/envoy  version: 9e55/1.40.0/Clean", "9e55/1.40.0/Clean");
        check("", "");
    }

    #[test]
    fn a_command_has_no_paths() {
        fn check(words: &[&str], expected: &str) {
            assert_eq!(command(words.iter().copied()), expected);
        }
        check(
            &["/opt/bin/weir-bench", "compare", "--weir", "/home/someone/weir"],
            "weir-bench compare --weir weir",
        );
        check(&["weir-bench", "--out=/tmp/x/", "--rounds=7"], "weir-bench --out=x --rounds=7");
        check(&["/"], "/");
    }

    #[test]
    fn the_machine_is_described_in_a_line() {
        assert_eq!(
            processor("processor\t: 0\nmodel name\t: Some CPU\n\nprocessor\t: 1\nmodel name\t: Some CPU\n"),
            "2 x Some CPU"
        );
        assert_eq!(processor(""), "0 x unknown");
        assert_eq!(memory("MemTotal:       8388608 kB\n"), "8.0 GiB");
        assert_eq!(memory(""), "unknown");
    }
}
