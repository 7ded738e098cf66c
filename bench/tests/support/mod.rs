//! The common parts of tests of the whole program: a back end as a child, and a proxy that spoils bytes on purpose.
#![allow(dead_code, reason = "each test file uses its own part of this")]

pub(crate) mod spoiler;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use weir_bench::drive;
use weir_bench::ledger::{Ledger, Outcome};
use weir_bench::settings::{Pace, Part, Settings, Verify, Work};

/// How long anything may take that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A `weir-bench serve`, ended when dropped.
pub(crate) struct Backend {
    child: Child,
    stderr: BufReader<ChildStderr>,
    pub(crate) address: SocketAddr,
}

impl Backend {
    /// Starts `weir-bench serve MODE 127.0.0.1:0 ARGUMENTS` and waits until it listens.
    pub(crate) fn start(mode: &str, arguments: &[&str]) -> Backend {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir-bench"));
        command.args(["serve", mode, "127.0.0.1:0"]).args(arguments);
        Backend::of(command)
    }

    /// Waits until this one listens.
    pub(crate) fn of(mut command: Command) -> Backend {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("it prints a line");
        let (_, address) =
            line.trim().split_once("address=").unwrap_or_else(|| panic!("not listening: {line}"));
        let address = address.parse().unwrap_or_else(|_| panic!("no address: {line}"));
        Backend { child, stderr, address }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is there");
    }

    /// Ends it as an operator would; returns its status and its output since it listened.
    pub(crate) fn stop(mut self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        let mut printed = String::new();
        self.stderr.read_to_string(&mut printed).expect("text");
        (self.child.wait().expect("it ends"), printed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A closed loop of one kind of work, short, verified in full.
pub(crate) fn settings(target: SocketAddr, work: Work) -> Settings {
    Settings {
        target,
        parts: vec![Part { name: "test".to_owned(), work, pace: Pace::Closed }],
        cores: vec![core_affinity::get_core_ids().expect("a core")[0].id],
        warmup: Duration::ZERO,
        duration: Duration::from_millis(400),
        drain: Duration::from_secs(10),
        operations: None,
        timeout: Duration::from_secs(5),
        verify: Verify::Full,
        sources: Vec::new(),
        waiting: 1000,
        seed: 1,
    }
}

/// Carries it out.
pub(crate) fn run(settings: &Settings) -> Outcome {
    drive::run(settings, &AtomicBool::new(false), &mut |_| {}).expect("it can be run")
}

/// The ledger of its only part, which has to add up.
#[track_caller]
pub(crate) fn ledger(outcome: &Outcome) -> &Ledger {
    let ledger = &outcome.parts[0].ledger;
    let Ledger { planned, ok, failed, timeout, unfinished, dropped, .. } = ledger;
    assert_eq!(*planned, ok + failed + timeout + unfinished + dropped);
    ledger
}
