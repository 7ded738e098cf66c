//! Programs that run beside us, and that end when we do, whichever way that is.
//!
//! A [`Child`] that is dropped is ended. Where nothing is dropped (a panic that aborts, SIGKILL) the kernel ends it, by the signal
//! asked for with `setpriv --pdeathsig`. Each is the leader of a process group of its own, so that a terminal's Ctrl-C reaches
//! us alone, and the measurement can be brought to an end first.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::account::Family;

/// A proxy or back end that does not listen after this long never will.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a child may take to end once it was asked to.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// How often is looked whether something has come true.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Last lines of a child's output that are shown when it ended by itself.
const LAST_LINES: usize = 8;

/// A program with its arguments, to be started by [`Child::start`].
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name in messages.
    pub name: String,
    /// Its executable.
    pub executable: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// The core that it is pinned to.
    pub core: Option<usize>,
    /// The process whose network namespace it runs in, where that is not ours.
    pub network_of: Option<u32>,
}

impl Program {
    /// Each of these programs becomes the next, so the process that is started is in the end the last.
    fn command(&self) -> Command {
        let mut words: Vec<OsString> = ["setpriv", "--pdeathsig", "TERM"].map(OsString::from).to_vec();
        if let Some(pid) = self.network_of {
            words.extend(["nsenter".into(), format!("--net=/proc/{pid}/ns/net").into()]);
        }
        if let Some(core) = self.core {
            words.extend(["taskset".into(), "-c".into(), core.to_string().into()]);
        }
        words.push(self.executable.clone().into());
        words.extend(self.arguments.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).process_group(0);
        command
    }
}

/// A program that was started. Dropping it ends it and all that it started.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: std::process::Child,
    output: PathBuf,
}

impl Child {
    /// Starts it. Its output goes to a file in `scratch`.
    ///
    /// # Errors
    ///
    /// When the host refuses, or one of `setpriv`, `taskset` and `nsenter` is not there.
    pub fn start(program: &Program, scratch: &Path) -> anyhow::Result<Self> {
        let output = scratch.join(format!("{}.log", program.name));
        let file = File::create(&output).with_context(|| format!("{}", output.display()))?;
        let process =
            program
                .command()
                .stdin(Stdio::null())
                .stdout(file.try_clone()?)
                .stderr(file)
                .spawn()
                .with_context(|| format!("{}: setpriv (of util-linux) cannot be started", program.name))?;
        Ok(Self { name: program.name.clone(), process, output })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// It and all that it started.
    pub fn family(&self) -> Family {
        Family::of(self.pid())
    }

    /// Waits until all of these can be connected to.
    ///
    /// # Errors
    ///
    /// When it ends instead, or does not listen in time; with its last lines.
    pub fn wait_until_it_listens(&mut self, addresses: &[SocketAddr]) -> anyhow::Result<()> {
        let mut missing = None;
        let listens = wait_until(START_TIMEOUT, || {
            missing =
                addresses.iter().find(|address| TcpStream::connect_timeout(address, START_TIMEOUT).is_err());
            Ok(missing.is_none()).and_then(|listens| self.still_runs().map(|()| listens))
        })?;
        match missing {
            Some(address) if !listens => {
                bail!(
                    "{} does not listen at {address} after {START_TIMEOUT:?}{}",
                    self.name,
                    self.last_lines()
                )
            }
            _ => Ok(()),
        }
    }

    /// Waits until its output has this.
    ///
    /// # Errors
    ///
    /// When it ends instead, or does not print it in time; with its last lines.
    pub fn wait_for_output(&mut self, wanted: &str) -> anyhow::Result<()> {
        let printed = wait_until(START_TIMEOUT, || {
            self.still_runs()?;
            Ok(fs::read_to_string(&self.output)?.contains(wanted))
        })?;
        anyhow::ensure!(
            printed,
            "{} has not printed {wanted:?} after {START_TIMEOUT:?}{}",
            self.name,
            self.last_lines()
        );
        Ok(())
    }

    /// Whether it has not ended.
    ///
    /// # Errors
    ///
    /// When it has: its status and its last lines.
    pub fn still_runs(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended by itself ({status}){}", self.name, self.last_lines()),
        }
    }

    fn last_lines(&self) -> String {
        let output = fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
        match &lines[lines.len().saturating_sub(LAST_LINES)..] {
            [] => "; it printed nothing".to_owned(),
            last => format!("; its last lines:\n  {}", last.join("\n  ")),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let family = self.family();
        if let Ok(Some(_)) = self.process.try_wait() {
            return;
        }
        signal(self.pid(), Signal::TERM);
        let ended = wait_until(END_TIMEOUT, || Ok(self.process.try_wait()?.is_some()));
        if !ended.is_ok_and(|ended| ended) {
            // Its children first: without their parent they could not be found.
            family.pids().iter().rev().for_each(|pid| signal(*pid, Signal::KILL));
            // It cannot refuse, so this does not wait for long.
            let _ = self.process.wait();
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    // One that is gone need not be signalled.
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Looks until it is so, or the time is over; returns which.
///
/// # Errors
///
/// Those of looking.
pub fn wait_until(timeout: Duration, mut look: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<bool> {
    let deadline = Instant::now() + timeout;
    loop {
        if look()? {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Where a program is: itself when it is a path, else in PATH or where Debian puts daemons.
pub fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(daemons).map(|place| place.join(program)).find(|place| place.is_file())
}

/// The output of a program that is run to its end, stdout and stderr.
///
/// # Errors
///
/// When it cannot be run, or fails.
pub fn answer(program: &Path, arguments: &[impl AsRef<OsStr>]) -> anyhow::Result<String> {
    let name = program.display();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{name} cannot be started"))?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).trim().to_owned();
    if output.status.success() { Ok(printed) } else { bail!("{name} failed ({}): {printed}", output.status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program {
            name: "script".to_owned(),
            executable: "sh".into(),
            arguments: vec!["-c".into(), script.into()],
            core: None,
            network_of: None,
        }
    }

    /// A process that has ended and was not waited for has no memory any more, so it is gone here.
    fn is_gone(pid: u32) -> bool {
        fs::read_to_string(format!("/proc/{pid}/statm")).is_ok_and(|memory| memory.starts_with("0 "))
            || !Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_child_is_ended_with_all_it_started_even_when_it_will_not() {
        fn check(script: &str, processes: usize) {
            let scratch = tempfile::tempdir().unwrap();
            let child = Child::start(&shell(script), scratch.path()).unwrap();
            let ready = || Ok(fs::read_to_string(scratch.path().join("script.log"))?.contains("ready"));
            assert!(wait_until(START_TIMEOUT, ready).unwrap(), "{script}");
            let pids = child.family().pids().to_vec();
            assert_eq!(pids.len(), processes, "{script}");
            drop(child);
            let gone = || Ok(pids.iter().all(|pid| is_gone(*pid)));
            assert!(wait_until(END_TIMEOUT, gone).unwrap(), "{script}: {pids:?}");
        }
        check("echo ready; exec cat /dev/zero >/dev/null", 1);
        check("trap '' TERM; cat /dev/zero >/dev/null & echo ready; wait", 2);
    }

    #[test]
    fn a_child_that_ends_at_once_is_reported_with_its_status_and_output() {
        fn check(script: &str, expected: &[&str]) {
            let scratch = tempfile::tempdir().unwrap();
            let mut child = Child::start(&shell(script), scratch.path()).unwrap();
            let closed = SocketAddr::from(([127, 0, 0, 1], 9));
            let error = child.wait_until_it_listens(&[closed]).unwrap_err().to_string();
            expected.iter().for_each(|part| assert!(error.contains(part), "{script}: {error}"));
        }
        check(
            "echo first; echo the port is taken >&2; exit 7",
            &["script", "exit status: 7", "first", "the port is taken"],
        );
        check("exit 0", &["exit status: 0", "printed nothing"]);
        check("kill -9 $$", &["signal: 9"]);
    }

    #[test]
    fn a_program_is_found_by_name_or_path() {
        fn check(program: &str, found: bool) {
            assert_eq!(find(Path::new(program)).is_some(), found, "{program}");
        }
        check("sh", true);
        check("/bin/sh", true);
        check("/bin/no-such-program", false);
        check("no-such-program", false);
    }
}
