//! The check of the host before anything is bound. It reports everything that is missing at once, each with the command that mends
//! it. [`Host::read`] reads the host, [`findings`] judges the readings. Failures of a later moment (a port in use, a file that
//! cannot be read) are reported where they happen.

use std::fmt;
use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use weir_routing::Cores;

use crate::descriptors::Standing;
use crate::os::ring::{self, Features};

/// The limits that are judged are hard ones (the soft ones were raised to them): only root can raise those.
const MORE_LOCKED: &str = "as root `ulimit -l unlimited`, or for a shell that is open `prlimit --pid PID --memlock=unlimited` \
     (systemd: LimitMEMLOCK=infinity)";
fn more_descriptors(limit: u64) -> String {
    format!(
        "as root `ulimit -n {limit}`, or for a shell that is open `prlimit --pid PID --nofile={limit}` (systemd: LimitNOFILE={limit})"
    )
}

/// Memory that glommio locks for the ring of an executor.
const MIN_LOCKED_BYTES: u64 = 512 << 10;

/// Below this a process runs out of descriptors at some hundred connections, which is hardly intended.
const MIN_DESCRIPTORS: u64 = 1024;

/// The limit that a command sets where no more is needed.
const COMMON_DESCRIPTORS: u64 = 65_536;

/// CAP_NET_BIND_SERVICE, its bit in a capability set (linux/capability.h).
const CAP_NET_BIND_SERVICE: u32 = 10;

/// The readings of a host.
#[derive(Debug)]
pub(crate) struct Host {
    /// The features of its io_uring, or why it has none.
    pub ring: io::Result<Features>,
    /// `kernel.io_uring_disabled`: 0 allows every process, 1 the privileged ones, 2 none. Linux has it since 6.6.
    pub io_uring_disabled: Option<u32>,
    /// Soft limit of locked memory, in bytes; none: no limit.
    pub locked_bytes: Option<u64>,
    /// Soft limit of descriptors, already raised to the hard one; none: no limit.
    pub descriptors: Option<u64>,
    /// The first port that needs no privilege.
    pub unprivileged_port_start: u16,
    /// Whether this process holds CAP_NET_BIND_SERVICE.
    pub may_bind_privileged: bool,
    /// The cores it may use.
    pub cores: Vec<usize>,
    /// Why the layout of the cores cannot be read from `/sys`, if it cannot.
    pub topology: Option<String>,
    /// `net.ipv4.tcp_tw_reuse`.
    pub tw_reuse: Option<u32>,
}

/// The demands of a configuration on a host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Each listener (a gateway, admin) with its lowest port other than 0.
    pub ports: Vec<(String, u16)>,
    /// The cores it names.
    pub cores: Cores,
    /// Listeners and shards, which take descriptors for as long as it runs.
    pub standing: Standing,
}

/// One thing a host does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The present state.
    pub found: String,
    /// The state that is needed, and its purpose.
    pub wanted: String,
    /// The command that mends it.
    pub command: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, wanted, command } = self;
        write!(f, "{found}\n    wanted: {wanted}\n    mend:   {command}")
    }
}

impl Finding {
    fn new(found: impl Into<String>, wanted: impl Into<String>, command: impl Into<String>) -> Self {
        Self { found: found.into(), wanted: wanted.into(), command: command.into() }
    }
}

/// Everything that keeps Weir from running here.
pub(crate) fn findings(host: &Host, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &host.ring {
        Ok(features) => findings.extend(missing_features(*features)),
        Err(error) => findings.push(no_ring(error, host.io_uring_disabled)),
    }
    findings.extend(limits(host));
    findings.extend(few_descriptors(host.descriptors, wanted.standing));
    findings.extend(privileged_ports(host, wanted));
    findings.extend(forbidden_cores(host, wanted));
    findings.extend(hidden_topology(host));
    findings
}

fn missing_features(features: Features) -> Option<Finding> {
    let known = [
        (features.defer_taskrun, "IORING_SETUP_DEFER_TASKRUN"),
        (features.multishot_accept, "multishot accept"),
        (features.multishot_poll, "multishot poll"),
    ];
    let missing: Vec<_> = known.into_iter().filter(|(there, _)| !there).map(|(_, name)| name).collect();
    (!missing.is_empty()).then(|| {
        Finding::new(
            format!("the io_uring of this kernel lacks {}", missing.join(", ")),
            "a kernel that has them: Linux 6.1 or later",
            "install a newer kernel and boot it (`uname -r` prints the one that runs)",
        )
    })
}

fn no_ring(error: &io::Error, disabled: Option<u32>) -> Finding {
    const WANTED: &str = "io_uring, which Weir accepts, connects and sleeps with";
    match (error.raw_os_error(), disabled) {
        (Some(libc::EPERM), Some(value @ 1..)) => Finding::new(
            format!("io_uring is disabled: kernel.io_uring_disabled is {value}"),
            WANTED,
            "sysctl -w kernel.io_uring_disabled=0",
        ),
        (Some(libc::EPERM | libc::EACCES), _) => Finding::new(
            format!(
                "io_uring is forbidden to this process ({error}): most likely by a container's seccomp profile"
            ),
            WANTED,
            "allow io_uring_setup, io_uring_enter and io_uring_register in the profile, and start the container with it: \
             `docker run --security-opt seccomp=PROFILE.json ...`",
        ),
        (Some(libc::ENOSYS), _) => Finding::new(
            format!("this kernel has no io_uring ({error})"),
            WANTED,
            "boot Linux 6.1 or later, built with CONFIG_IO_URING=y; gVisor and WSL 1 have none",
        ),
        (Some(libc::ENOMEM), _) => {
            Finding::new(format!("io_uring gets no memory ({error})"), WANTED, MORE_LOCKED)
        }
        (Some(libc::EMFILE | libc::ENFILE), _) => Finding::new(
            format!("io_uring gets no descriptor ({error})"),
            WANTED,
            more_descriptors(COMMON_DESCRIPTORS),
        ),
        _ => Finding::new(
            format!("io_uring does not work here: {error}"),
            WANTED,
            "boot Linux 6.1 or later (`uname -r` prints the one that runs)",
        ),
    }
}

fn limits(host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(bytes) = host.locked_bytes.filter(|&bytes| bytes < MIN_LOCKED_BYTES) {
        findings.push(Finding::new(
            format!("this process may lock {} KiB of memory (RLIMIT_MEMLOCK)", bytes >> 10),
            format!("at least {} KiB, for the rings of its executors", MIN_LOCKED_BYTES >> 10),
            MORE_LOCKED,
        ));
    }
    findings
}

/// The finding for a descriptor limit that is too low for these listeners and shards.
pub(crate) fn few_descriptors(limit: Option<u64>, standing: Standing) -> Option<Finding> {
    let limit = limit?;
    let least = standing.least_limit();
    let found = format!("this process may open {limit} descriptors (RLIMIT_NOFILE)");
    // A round number, for the command.
    let command = more_descriptors(COMMON_DESCRIPTORS.max(least.next_multiple_of(1024)));
    if limit < least && least > MIN_DESCRIPTORS {
        let Standing { listeners, shards } = standing;
        let wanted = format!("at least {least}, for {listeners} addresses to listen on with {shards} shards");
        Some(Finding::new(found, wanted, command))
    } else if limit < MIN_DESCRIPTORS {
        let wanted = format!("at least {MIN_DESCRIPTORS}; each connection takes two");
        Some(Finding::new(found, wanted, command))
    } else {
        None
    }
}

/// The hard limit of descriptors; none: no limit.
pub(crate) fn descriptor_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

fn privileged_ports(host: &Host, wanted: &Wanted) -> Vec<Finding> {
    if host.may_bind_privileged {
        return Vec::new();
    }
    let start = host.unprivileged_port_start;
    let privileged = wanted.ports.iter().filter(|(_, port)| *port < start);
    let finding = |(who, port): &(String, u16)| {
        Finding::new(
            format!("{who} listens on port {port}, and this process has no CAP_NET_BIND_SERVICE"),
            format!("that capability, or a port from {start} on (net.ipv4.ip_unprivileged_port_start)"),
            format!(
                "setcap cap_net_bind_service=+ep {} (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE)",
                std::env::current_exe().map_or_else(|_| "weir".into(), |path| path.display().to_string())
            ),
        )
    };
    privileged.map(finding).collect()
}

fn hidden_topology(host: &Host) -> Option<Finding> {
    let error = host.topology.as_ref()?;
    Some(Finding::new(
        format!("the layout of this host's cores cannot be read from /sys: {error}"),
        "/sys/devices/system/cpu, by which each shard is bound to its core",
        "mount -t sysfs sysfs /sys (for a chroot: `mount --rbind /sys DIRECTORY/sys` before it is entered)",
    ))
}

fn forbidden_cores(host: &Host, wanted: &Wanted) -> Option<Finding> {
    let may_use = list(&host.cores);
    match &wanted.cores {
        Cores::All => host.cores.is_empty().then(|| {
            Finding::new(
                "the affinity mask of this process cannot be read",
                "at least one core",
                "taskset -p $$",
            )
        }),
        Cores::List(cores) => {
            let forbidden: Vec<usize> =
                cores.iter().copied().filter(|core| !host.cores.contains(core)).collect();
            (!forbidden.is_empty()).then(|| {
                Finding::new(
                    format!("`cores` names {}, which this process may not use", list(&forbidden)),
                    format!("cores among {may_use}"),
                    format!(
                        "write cores = \"{may_use}\" in [proxy], or, if this host has them, start Weir under `taskset -c {}`",
                        list(cores)
                    ),
                )
            })
        }
    }
}

/// "0-3,8", as taskset writes it.
fn list(cores: &[usize]) -> String {
    let mut sorted = cores.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let runs = sorted.chunk_by(|low, high| low + 1 == *high);
    let text = runs.map(|run| match run {
        [one] => one.to_string(),
        run => format!("{}-{}", run[0], run[run.len() - 1]),
    });
    text.collect::<Vec<_>>().join(",")
}

/// A hint for the log about a setting that limits only under load.
pub(crate) fn hint(host: &Host) -> Option<&'static str> {
    (host.tw_reuse.is_some_and(|value| value != 1)).then_some(
        "net.ipv4.tcp_tw_reuse is not 1: about 470 connections a second that clients end first are all that one upstream \
         address takes; `sysctl -w net.ipv4.tcp_tw_reuse=1` lifts that",
    )
}

impl Host {
    /// Reads this host, and raises the soft limits of descriptors and locked memory to the hard ones.
    pub(crate) fn read() -> Self {
        Self {
            locked_bytes: raised(Resource::Memlock),
            descriptors: raised(Resource::Nofile),
            ring: ring::probe(),
            io_uring_disabled: sysctl("kernel/io_uring_disabled"),
            unprivileged_port_start: sysctl("net/ipv4/ip_unprivileged_port_start").unwrap_or(1024),
            may_bind_privileged: fs::read_to_string("/proc/self/status")
                .is_ok_and(|status| holds_capability(&status, CAP_NET_BIND_SERVICE)),
            cores: crate::cores::usable(),
            topology: glommio::CpuSet::online().err().map(|error| error.to_string()),
            tw_reuse: sysctl("net/ipv4/tcp_tw_reuse"),
        }
    }
}

/// The soft limit after it has been raised to the hard one.
fn raised(resource: Resource) -> Option<u64> {
    let limit = getrlimit(resource);
    match setrlimit(resource, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

fn sysctl<T: std::str::FromStr>(name: &str) -> Option<T> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}

/// Whether the effective set in a `/proc/PID/status` has a capability.
fn holds_capability(status: &str, capability: u32) -> bool {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set >> capability & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Features = Features { defer_taskrun: true, multishot_accept: true, multishot_poll: true };

    fn good() -> Host {
        Host {
            ring: Ok(ALL),
            io_uring_disabled: Some(0),
            locked_bytes: Some(8 << 20),
            descriptors: Some(1024),
            unprivileged_port_start: 1024,
            may_bind_privileged: false,
            cores: vec![0, 1],
            topology: None,
            tw_reuse: Some(1),
        }
    }

    fn errno(number: i32) -> io::Result<Features> {
        Err(io::Error::from_raw_os_error(number))
    }

    #[test]
    fn each_thing_that_is_missing_is_found() {
        #[track_caller]
        fn check(host: Host, wanted: &Wanted, expected: &[&str]) {
            let findings = findings(&host, wanted);
            assert_eq!(findings.len(), expected.len(), "{findings:#?}");
            for (finding, words) in findings.iter().zip(expected) {
                assert!(finding.to_string().contains(words), "no {words:?} in {finding}");
            }
        }
        let nothing = Wanted::default();
        let port = |port| Wanted { ports: vec![("gateway edge".into(), port)], ..Wanted::default() };
        let cores = |cores: &[usize]| Wanted { cores: Cores::List(cores.into()), ..Wanted::default() };

        check(good(), &nothing, &[]);
        check(Host { locked_bytes: None, descriptors: None, ..good() }, &nothing, &[]);
        check(Host { locked_bytes: Some(512 << 10), ..good() }, &nothing, &[]);
        check(Host { locked_bytes: Some((512 << 10) - 1), ..good() }, &nothing, &["ulimit -l unlimited"]);
        check(Host { descriptors: Some(1023), ..good() }, &nothing, &["may open 1023"]);
        let listeners =
            |listeners| Wanted { standing: Standing { listeners, shards: 2 }, ..Wanted::default() };
        check(good(), &listeners(150), &[]);
        check(good(), &listeners(9_001), &["9001 addresses to listen on with 2 shards"]);
        check(Host { descriptors: Some(40_000), ..good() }, &listeners(9_001), &[]);
        check(Host { descriptors: Some(20_000), ..good() }, &listeners(9_001), &["ulimit -n 65536"]);
        check(Host { descriptors: Some(65_536), ..good() }, &listeners(30_000), &["ulimit -n 97280"]);

        check(Host { ring: errno(libc::ENOSYS), ..good() }, &nothing, &["no io_uring"]);
        check(Host { ring: errno(libc::EPERM), ..good() }, &nothing, &["seccomp"]);
        check(Host { ring: errno(libc::EPERM), io_uring_disabled: None, ..good() }, &nothing, &["seccomp"]);
        let disabled = Host { ring: errno(libc::EPERM), io_uring_disabled: Some(2), ..good() };
        check(disabled, &nothing, &["sysctl -w kernel.io_uring_disabled=0"]);
        let ring = Ok(Features { multishot_accept: false, ..ALL });
        check(Host { ring, ..good() }, &nothing, &["lacks multishot accept\n"]);
        let ring = Ok(Features { multishot_poll: false, defer_taskrun: false, ..ALL });
        check(Host { ring, ..good() }, &nothing, &["lacks IORING_SETUP_DEFER_TASKRUN, multishot poll\n"]);

        check(good(), &port(1024), &[]);
        check(good(), &port(1023), &["gateway edge listens on port 1023"]);
        check(Host { may_bind_privileged: true, ..good() }, &port(80), &[]);
        check(Host { unprivileged_port_start: 80, ..good() }, &port(80), &[]);

        check(good(), &cores(&[1, 0]), &[]);
        check(good(), &cores(&[0, 2, 3]), &["names 2-3,"]);
        check(Host { cores: Vec::new(), ..good() }, &nothing, &["affinity"]);
        check(Host { topology: Some("no such file".into()), ..good() }, &nothing, &["mount -t sysfs"]);
    }

    #[test]
    fn all_findings_come_at_once() {
        let host = Host { ring: errno(libc::ENOSYS), locked_bytes: Some(0), descriptors: Some(10), ..good() };
        let wanted = Wanted {
            ports: vec![("gateway edge".into(), 80)],
            cores: Cores::List(vec![9]),
            standing: Standing::default(),
        };
        assert_eq!(findings(&host, &wanted).len(), 5);
    }

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        #[track_caller]
        fn check(status: &str, expected: bool) {
            assert_eq!(holds_capability(status, CAP_NET_BIND_SERVICE), expected, "{status}");
        }
        check("Name:\tweir\nCapEff:\t0000000000000400\n", true);
        check("CapEff:\t000001ffffffffff\n", true);
        check("CapEff:\t0000000000000000\n", false);
        check("CapPrm:\t0000000000000400\nCapEff:\t0000000000000200\n", false);
        check("", false);
    }
}
