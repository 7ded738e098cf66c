//! Resources that processes have used: CPU of all their threads, memory, context switches, sockets.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::sys::process_cpu;

/// A process and all that it started, itself first.
#[derive(Clone, Debug)]
pub struct Family(Vec<u32>);

/// Resources that a family had used at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// When.
    pub at: Instant,
    /// CPU time, user and system, of all threads that there are and were.
    pub cpu: Duration,
    /// Resident bytes. Shared memory counts once for each member.
    pub resident: u64,
    /// Context switches of all threads that there are, wanted or not.
    pub switches: u64,
}

impl Family {
    /// The process and its children, and theirs, as of now.
    pub fn of(pid: u32) -> Self {
        let parents = parents();
        let mut members = vec![pid];
        let mut next = 0;
        while let Some(parent) = members.get(next).copied() {
            members.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
            next += 1;
        }
        Self(members)
    }

    /// This process without its children.
    pub fn alone(pid: u32) -> Self {
        Self(vec![pid])
    }

    /// Several families together.
    pub fn together(families: impl IntoIterator<Item = Self>) -> Self {
        Self(families.into_iter().flat_map(|family| family.0).collect())
    }

    /// Its members' process ids.
    pub fn pids(&self) -> &[u32] {
        &self.0
    }

    /// Resources that they have used so far.
    ///
    /// # Errors
    ///
    /// When one of them is gone, for its use would be missing.
    pub fn read(&self) -> anyhow::Result<Reading> {
        let at = Instant::now();
        let mut reading = Reading { at, cpu: Duration::ZERO, resident: 0, switches: 0 };
        for pid in &self.0 {
            reading.cpu += process_cpu(*pid).with_context(|| format!("the CPU clock of process {pid}"))?;
        }
        for pid in &self.0 {
            let process = Path::new("/proc").join(pid.to_string());
            let status = read(&process.join("status"))?;
            reading.resident += field(&status, "VmRSS:") << 10;
            // A thread that ends while we look takes its switches with it.
            for task in entries(&process.join("task")) {
                let status = fs::read_to_string(task.join("status")).unwrap_or_default();
                reading.switches += field(&status, "voluntary_ctxt_switches:");
                reading.switches += field(&status, "nonvoluntary_ctxt_switches:");
            }
        }
        Ok(reading)
    }

    /// Sockets they have open. Pipes are not counted: a proxy may keep those for later.
    pub fn sockets(&self) -> usize {
        let is_socket = |path: &std::path::PathBuf| {
            fs::read_link(path).is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
        };
        self.0
            .iter()
            .flat_map(|pid| entries(&Path::new("/proc").join(format!("{pid}/fd"))))
            .filter(is_socket)
            .count()
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("{}", path.display()))
}

fn entries(directory: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The number after a field's name, without its unit; 0 where there is none, as of a process that has ended.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Every process and its parent.
fn parents() -> Vec<(u32, u32)> {
    let parent = |path: &std::path::PathBuf| {
        let pid = path.file_name()?.to_str()?.parse().ok()?;
        let stat = fs::read_to_string(path.join("stat")).ok()?;
        // A name may hold anything, brackets too: behind the last one stand the state and the parent.
        let (_, after) = stat.rsplit_once(')')?;
        Some((pid, after.split_whitespace().nth(1)?.parse().ok()?))
    };
    entries(Path::new("/proc")).iter().filter_map(parent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_the_number_after_its_name() {
        fn check(status: &str, name: &str, expected: u64) {
            assert_eq!(field(status, name), expected, "{name} in {status:?}");
        }
        let status = "VmHWM:\t    9000 kB\nVmRSS:\t    1234 kB\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t7\n";
        check(status, "VmRSS:", 1234);
        check(status, "voluntary_ctxt_switches:", 5);
        check(status, "nonvoluntary_ctxt_switches:", 7);
        check("", "VmRSS:", 0);
    }

    #[test]
    fn sockets_are_counted_and_other_descriptors_are_not() {
        let own = Family::of(std::process::id());
        let listeners: Vec<_> =
            (0..50).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests of this process open some at the same time, but not another fifty.
        let found = own.sockets();
        assert!((50..100).contains(&found), "{found} sockets, of which {} listeners", listeners.len());
        drop(files);
    }
}
