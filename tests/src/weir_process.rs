//! Weir itself: started with a configuration, asked over its admin address, changed by its file, and found clean at the end.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::metrics::{Answer, Metrics, get};
use crate::process::{Descriptors, Process};
use crate::program;
use crate::wait::wait_for;

/// How long Weir may take to be ready, on a busy machine.
const START: Duration = Duration::from_secs(20);

/// How a Weir is to be started.
#[derive(Clone, Debug)]
pub struct Launch {
    toml: String,
    admin: SocketAddr,
    prefix: Vec<String>,
    arguments: Vec<String>,
}

/// A running Weir.
#[derive(Debug)]
pub struct Weir {
    process: Process,
    directory: TempDir,
    admin: SocketAddr,
    baseline: Descriptors,
}

impl Launch {
    /// With this configuration; its admin address is added.
    pub fn new(toml: &str) -> Self {
        let admin = free_admin();
        Self { toml: with_admin(toml, admin), admin, prefix: Vec::new(), arguments: Vec::new() }
    }

    /// Under a program that becomes it: `["taskset", "-c", "0"]`.
    #[must_use]
    pub fn under(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(ToString::to_string).collect();
        self
    }

    /// With a further argument of `weir run`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Its configuration.
    pub fn text(&self) -> &str {
        &self.toml
    }

    /// The command that runs it from `config`.
    fn command(&self, config: &Path) -> Command {
        let program = program::path("weir");
        let mut command = match self.prefix.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.args(["run", "-c"]).arg(config).args(&self.arguments);
        command
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Weir {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = directory.path().join("weir.toml");
        std::fs::write(&config, &self.toml).expect("the configuration can be written");
        Weir::ready(Process::spawn(&mut self.command(&config)), directory, self.admin)
    }

    /// Starts it from `config`, as that file is, inside a directory that the test has filled itself, with its admin server at this
    /// address, and waits until it is ready.
    #[track_caller]
    pub fn start_in(self, directory: TempDir, config: &Path, admin: SocketAddr) -> Weir {
        Weir::ready(Process::spawn(&mut self.command(config)), directory, admin)
    }

    /// Starts it where it should not start, and returns its output.
    pub fn fail(self) -> program::Output {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = directory.path().join("weir.toml");
        std::fs::write(&config, &self.toml).expect("the configuration can be written");
        let mut process = Process::spawn(&mut self.command(&config));
        let code = process.exit(START).code().unwrap_or(-1);
        program::Output { code, stdout: String::new(), stderr: process.output() }
    }
}

impl Weir {
    /// Starts one with this configuration and waits until it is ready.
    #[track_caller]
    pub fn start(toml: &str) -> Self {
        Launch::new(toml).start()
    }

    /// Starts one whose configuration `-c` names, inside a directory that the test has filled itself, with its admin server
    /// at this address.
    #[track_caller]
    pub fn start_in(directory: TempDir, config: &Path, admin: SocketAddr) -> Self {
        Launch::new("").start_in(directory, config, admin)
    }

    /// Waits until it is ready, and looks at what it holds then.
    #[track_caller]
    fn ready(mut process: Process, directory: TempDir, admin: SocketAddr) -> Self {
        let ready = || get(admin, "/ready", "localhost").is_ok_and(|answer| answer.status == 200);
        let settled = wait_for(START, || !process.is_running() || ready());
        assert!(settled && process.is_running(), "not ready:\n{}", process.output());
        let mut weir = Self { process, directory, admin, baseline: Descriptors { others: 0, pipes: 0 } };
        weir.rebase();
        weir
    }

    /// Takes what it holds now as what it should come back to: after a reload that changed its listeners.
    pub fn rebase(&mut self) {
        // The connection that asked whether it is ready may still be closing: the least of some looks counts.
        let mut least = self.process.descriptors();
        wait_for(Duration::from_millis(50), || {
            least = least.min(self.process.descriptors());
            false
        });
        self.baseline = least;
    }

    /// Where a gateway listens: the first of its addresses.
    #[track_caller]
    pub fn address(&mut self, gateway: &str) -> SocketAddr {
        let plain = format!("gateway={gateway} ");
        address_in(&self.process.line(&["listening", &plain, "address="]))
    }

    /// Where the admin server listens.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The file of its configuration.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("weir.toml")
    }

    /// Asks the admin server.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        get(self.admin, path, "localhost").unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// Its metrics now.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        Metrics::parse(&answer.body)
    }

    /// The sum of the series of a name that have these labels.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().sum(name, labels)
    }

    /// Connections that ended with this reason.
    #[track_caller]
    pub fn closed(&self, reason: &str) -> f64 {
        self.metric("weir_connections_closed_total", &[("reason", reason)])
    }

    /// Waits until exactly `count` connections have ended with this reason.
    #[track_caller]
    pub fn expect_closed(&self, reason: &str, count: usize) {
        let held = wait_for(Duration::from_secs(5), || self.closed(reason) == count as f64);
        let by_reason = self.metrics().by_label("weir_connections_closed_total", "reason");
        assert!(held, "wanted {count} {reason}, found {by_reason:?}");
    }

    /// Connections that are open.
    #[track_caller]
    pub fn active(&self) -> f64 {
        self.metric("weir_connections_active", &[])
    }

    /// Writes its configuration anew, in place.
    pub fn write(&self, toml: &str) {
        std::fs::write(self.config(), with_admin(toml, self.admin))
            .expect("the configuration can be written");
    }

    /// Puts another file in its configuration's place.
    pub fn rename_over(&self, toml: &str) {
        let new = self.directory.path().join(".weir.toml.new");
        std::fs::write(&new, with_admin(toml, self.admin)).expect("the configuration can be written");
        std::fs::rename(&new, self.config()).expect("the configuration can be replaced");
    }

    /// Generation of the table in force.
    #[track_caller]
    pub fn generation(&self) -> f64 {
        self.metric("weir_config_generation", &[])
    }

    /// Replaces the configuration and waits until it is in force.
    #[track_caller]
    pub fn reload(&self, toml: &str) {
        let before = self.generation();
        self.rename_over(toml);
        let after = || self.generation() > before;
        assert!(wait_for(Duration::from_secs(5), after), "no new table:\n{}", self.process.output());
    }

    /// Panics unless, within 2 s, everything is back where it was at the start: no session, no pipe in use, no descriptor
    /// more, and as many connections closed as opened.
    #[track_caller]
    pub fn clean(&self) {
        let mut state = String::new();
        let clean = wait_for(Duration::from_secs(2), || {
            let (metrics, now) = (self.metrics(), self.process.descriptors());
            let sum = |name: &str| metrics.sum(name, &[]);
            let (opened, closed) =
                (sum("weir_connections_opened_total"), sum("weir_connections_closed_total"));
            let (active, sharded) = (sum("weir_connections_active"), sum("weir_shard_connections_active"));
            let (pipes, tails) =
                (sum("weir_pipes_in_use"), sum("weir_tails_in_use") + sum("weir_tail_bytes"));
            state = format!(
                "opened {opened}, closed {closed}, active {active}, on shards {sharded}, pipes in use {pipes}, tails {tails}, {now:?}, \
                 at the start {:?}",
                self.baseline
            );
            opened == closed
                && active == 0.0
                && sharded == 0.0
                && pipes == 0.0
                && tails == 0.0
                && now.others <= self.baseline.others
        });
        assert!(clean, "not clean: {state}");
        assert_eq!(self.closed("internal"), 0.0, "a connection ended without saying why");
    }
}

impl Deref for Weir {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Weir {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// An address for an admin server that no other of this test run has: below the range that the kernel draws ports from.
pub fn free_admin() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let candidates = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed)).take(10_000);
    let mut addresses = candidates.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    addresses.find(|address| TcpListener::bind(address).is_ok()).expect("a free port between 20000 and 30000")
}

/// The configuration with its admin server at this address, unless it has an `admin` of its own.
pub fn with_admin(toml: &str, admin: SocketAddr) -> String {
    let line = format!("admin = \"{admin}\"\n");
    if toml.contains("admin =") {
        toml.to_owned()
    } else if let Some((before, after)) = toml.split_once("[proxy]\n") {
        format!("{before}[proxy]\n{line}{after}")
    } else {
        format!("{toml}\n[proxy]\n{line}")
    }
}

/// The address at the end of `listening gateway=NAME address=ADDR`.
#[track_caller]
fn address_in(line: &str) -> SocketAddr {
    let words = line.split(['=', ' ', '"']);
    words.rev().find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("no address in {line:?}"))
}
