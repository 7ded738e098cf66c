//! A child process: its lines as they come, its signals, what it holds and what it uses. Killed, by its id, when dropped.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::wait::wait_for;

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

/// Open descriptors of a process. Pipes stand apart: a pool may keep clean ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Descriptors {
    /// All that are no pipes.
    pub others: usize,
    /// Ends of pipes.
    pub pipes: usize,
}

impl Process {
    /// Starts it, with everything it prints, on either stream, collected line by line.
    pub fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        let lines = Arc::default();
        let stdout = collect(child.stdout.take().expect("a piped stdout"), &lines);
        let stderr = collect(child.stderr.take().expect("a piped stderr"), &lines);
        Self { child, lines, readers: vec![stdout, stderr] }
    }

    /// Starts it with a stderr that only the caller reads.
    pub fn spawn_unread(command: &mut Command) -> (Self, ChildStderr) {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        let stderr = child.stderr.take().expect("a piped stderr");
        (Self { child, lines: Arc::default(), readers: Vec::new() }, stderr)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All it has printed so far.
    pub fn output(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// The first line that has all of these words. Panics if none comes within 10 s, or the process ends without it.
    #[track_caller]
    pub fn line(&mut self, words: &[&str]) -> String {
        let mut found = None;
        wait_for(Duration::from_secs(10), || {
            let ended = self.has_said_all();
            let output = self.output();
            found =
                output.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned);
            found.is_some() || ended
        });
        found.unwrap_or_else(|| panic!("no line with {words:?} in:\n{}", self.output()))
    }

    /// Whether nothing more can come: it has closed both of its streams.
    fn has_said_all(&self) -> bool {
        self.readers.iter().all(JoinHandle::is_finished)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.rustix_pid(), signal).expect("the child can be signalled");
    }

    /// Stops all of its threads, and returns once they stand still.
    #[track_caller]
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.pid());
        let stands = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('T'))
        };
        let still = || std::fs::read_dir(&tasks).expect("the process is there").flatten().all(stands);
        assert!(wait_for(Duration::from_secs(2), still), "SIGSTOP does not stop it");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child can be waited for").is_none()
    }

    /// How it ended, with all that it printed collected; panics if it does not within `deadline`.
    #[track_caller]
    pub fn exit(&mut self, deadline: Duration) -> ExitStatus {
        let mut status = None;
        wait_for(deadline, || {
            status = self.child.try_wait().expect("the child can be waited for");
            status.is_some() && self.has_said_all()
        });
        status.unwrap_or_else(|| panic!("still running after {deadline:?}:\n{}", self.output()))
    }

    /// Waits for its end and returns with no delay after it; panics if it does not end within `deadline`.
    #[track_caller]
    pub fn exit_at_once(&mut self, deadline: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                return status;
            }
            assert!(start.elapsed() < deadline, "still running after {deadline:?}:\n{}", self.output());
            std::thread::yield_now();
        }
    }

    /// The descriptors that it holds.
    pub fn descriptors(&self) -> Descriptors {
        let mut found = Descriptors { others: 0, pipes: 0 };
        let directory = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the process is there");
        for entry in directory.flatten() {
            let pipe =
                std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"));
            if pipe { found.pipes += 1 } else { found.others += 1 }
        }
        found
    }

    /// A limit of descriptors under which it gets no more, and keeps those it has.
    pub fn exhausting_limit(&self) -> u64 {
        let directory = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the process is there");
        let numbers = directory.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
        numbers.max().unwrap_or(0) + 1
    }

    /// Processor time it has used, user and system.
    pub fn cpu_time(&self) -> Duration {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the process is there");
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap_or(0)).sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// Processor time of its whole life, once it has ended; panics if it does not within `deadline`.
    #[track_caller]
    pub fn cpu_time_to_end(&self, deadline: Duration) -> Duration {
        // The kernel keeps the figures of a child that has ended until it is waited for.
        let has_ended = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('Z'))
        };
        assert!(wait_for(deadline, has_ended), "still running after {deadline:?}:\n{}", self.output());
        self.cpu_time()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process is there");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes << 10
    }

    /// Changes its soft limit of descriptors; returns the old one.
    pub fn limit_descriptors(&self, soft: u64) -> u64 {
        let (pid, kind) = (Some(self.rustix_pid()), Resource::Nofile);
        let hard = rustix::process::getrlimit(kind).maximum;
        let limits = Rlimit { current: Some(soft), maximum: hard };
        let old = rustix::process::prlimit(pid, kind, limits).expect("a limit of the own child");
        old.current.unwrap_or(u64::MAX)
    }

    fn rustix_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; either way it is reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- process {} printed:\n{}\n---", self.pid(), self.output());
        }
    }
}

fn collect(stream: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let lines = lines.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    })
}
