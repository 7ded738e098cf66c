//! The usual `process_*` series, from procfs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use crate::boards::prometheus::families;

/// The part of `/proc/self/stat` that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    /// User and system time, in clock ticks.
    cpu_ticks: u64,
    /// Since boot, in clock ticks.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

/// Reads the process's own numbers.
pub(super) struct ProcessMetrics {
    /// Kept open: it must be readable when descriptors have run out.
    stat: Option<File>,
    boot: SystemTime,
}

impl ProcessMetrics {
    pub(super) fn new() -> Self {
        let boot = fs::read_to_string("/proc/stat")
            .ok()
            .and_then(|stat| stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()));
        Self {
            stat: File::open("/proc/self/stat").ok(),
            boot: UNIX_EPOCH + Duration::from_secs(boot.unwrap_or_default()),
        }
    }

    pub(super) fn render(&self, out: &mut String) {
        if let Some(stat) = self.stat() {
            render_stat(out, stat, self.boot);
        }
        if let Some(open) = open_descriptors() {
            families::PROCESS_OPEN.single(out, open);
        }
        let max = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        families::PROCESS_MAX.single(out, max);
    }

    fn stat(&self) -> Option<Stat> {
        let mut buffer = [0; 1024];
        let length = self.stat.as_ref()?.read_at(&mut buffer, 0).ok()?;
        parse(std::str::from_utf8(&buffer[..length]).ok()?)
    }
}

fn render_stat(out: &mut String, stat: Stat, boot: SystemTime) {
    let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
    let start = boot.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() + seconds(stat.start_ticks);
    families::PROCESS_CPU.single(out, seconds(stat.cpu_ticks));
    families::PROCESS_RESIDENT.single(out, stat.resident_pages * page_size() as u64);
    families::PROCESS_VIRTUAL.single(out, stat.virtual_bytes);
    families::PROCESS_START.single(out, format_args!("{start:.2}"));
}

/// Since Linux 6.2 the size of the directory is their number; reading it, as before that, needs a descriptor.
fn open_descriptors() -> Option<u64> {
    const DIRECTORY: &str = "/proc/self/fd";
    match fs::metadata(DIRECTORY).ok()?.len() {
        0 => Some(fs::read_dir(DIRECTORY).ok()?.count() as u64 - 1),
        length => Some(length),
    }
}

/// proc_pid_stat(5). The second field, the name, may hold spaces and brackets: fields are counted from its end.
fn parse(stat: &str) -> Option<Stat> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // The first of them is field 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        cpu_ticks: field(14)? + field(15)?,
        start_ticks: field(22)?,
        virtual_bytes: field(23)?,
        resident_pages: field(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat =
            "7 (we) ir) R 1 7 7 0 -1 4194304 90 0 0 0 12 30 0 0 20 0 1 0 555 4096000 77 18446744073709551615";
        let expected = Stat { cpu_ticks: 42, start_ticks: 555, virtual_bytes: 4_096_000, resident_pages: 77 };
        assert_eq!(parse(stat), Some(expected));
        assert_eq!(parse("7 (weir"), None);
        assert_eq!(parse("7 (weir) R 1"), None);
    }

    #[test]
    fn the_usual_series_are_there() {
        let mut out = String::new();
        ProcessMetrics::new().render(&mut out);
        for name in
            ["cpu_seconds_total", "open_fds", "max_fds", "resident_memory_bytes", "start_time_seconds"]
        {
            assert!(out.contains(&format!("\nprocess_{name} ")), "{out}");
        }
    }
}
