//! `weir-bench run`: its arguments, the settings made of them, and where the report goes.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::values;
use crate::drive::{self, Moment};
use crate::exit::{EXIT_CODES, FAILED, FINE, INTEGRITY, INTERRUPTED, INVALID, USAGE};
use crate::gates::{self, Gate};
use crate::ledger::Outcome;
use crate::payload::frame::HEADER;
use crate::report::{self, live::Live};
use crate::settings::{Arrivals, Close, Direction, Exchange, Pace, Part, Settings, Sizes, Work};

/// The arguments of `weir-bench run`.
#[derive(Debug, Args)]
#[command(override_usage = USAGE_LINES, after_help = EXIT_CODES)]
pub(crate) struct Run {
    /// The work
    workload: Workload,
    /// Where: `127.0.0.1:7000`, `localhost:7000`, `[::1]:7000`; for a stream, which way comes before it: `up` to a sink, `down`
    /// from a source, `bidir` through an echo
    #[arg(value_name = "ADDR", required = true, num_args = 1..=2)]
    place: Vec<String>,
    /// Connections at a time, all threads together
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Operations a second by a plan that no completion moves; without it, the next begins when the last has ended
    #[arg(long, value_parser = values::rate)]
    rate: Option<f64>,
    /// How the planned times fall
    #[arg(long, value_enum, default_value_t = ArrivalsArgument::Poisson)]
    arrivals: ArrivalsArgument,
    /// How long is measured
    #[arg(short, long, default_value = "10s", value_parser = values::time)]
    duration: Duration,
    /// How long operations are carried out before that, and not counted
    #[arg(long, default_value = "0s", value_parser = values::time)]
    warmup: Duration,
    /// How long the last answers are waited for
    #[arg(long, default_value = "2s", value_parser = values::time)]
    drain: Duration,
    /// When an operation is given up, counted from its planned time
    #[arg(long, default_value = "10s", value_parser = values::time)]
    timeout: Duration,
    /// Ends the run after this many operations
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    operations: Option<u64>,
    /// Bytes of a request, its header of 16 included: `64`, `16k`, `100..4k`, `64:90,16k:10` (by weight)
    #[arg(long, default_value = "64", value_parser = values::sizes)]
    request: Sizes,
    /// Bytes of a response, in the same way; an echo answers with the request's own
    #[arg(long, default_value = "64", value_parser = values::sizes)]
    response: Sizes,
    /// rr: requests under way on one connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    depth: u32,
    /// crr: exchanges on one connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    exchanges: u32,
    /// crr, connect: how connections end
    #[arg(long, value_enum, default_value_t = CloseArgument::Fin)]
    close: CloseArgument,
    /// rr, crr: send this instead of frames, for servers of another protocol; \r \n \t \0 \\ \xHH are known
    #[arg(long, value_parser = values::escaped, requires = "expect")]
    send: Option<Sent>,
    /// Bytes of the answer to --send
    #[arg(long, value_parser = values::bytes, requires = "send")]
    expect: Option<u32>,
    /// churn: bytes that a connection would send if nothing ended it sooner
    #[arg(long, default_value = "1..256k", value_parser = values::sizes)]
    bytes: Sizes,
    /// hold: how often each connection sends a request and wants an answer; 0 is never
    #[arg(long, default_value = "5s", value_parser = values::time)]
    heartbeat: Duration,
    /// hold: connections opened a second
    #[arg(long, default_value = "5000", value_parser = values::rate)]
    ramp: f64,
    /// mix: the works, and the share of connections and rate of each; its streams are `stream-up`, `stream-down`, `stream-bidir`
    #[arg(long, value_delimiter = ',', value_parser = values::share, default_value = "rr=80,crr=20")]
    mix: Vec<(String, u32)>,
    /// Cores to run a thread on, each [default: the last]
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// How closely bytes are looked at, by both ends
    #[arg(long, value_enum, default_value_t = values::Looks::Full)]
    verify: values::Looks,
    /// Address that connections are made from; several are taken in turn [default: the host's choice; on loopback, 16 and more for
    /// many connections and for those that leave ports in TIME_WAIT]
    #[arg(long, value_delimiter = ',')]
    source: Vec<IpAddr>,
    /// Planned operations that may wait for a free connection; more are dropped, and counted
    #[arg(long, default_value_t = 100_000)]
    waiting: usize,
    /// Where chance starts: the same seed draws the same plan and sizes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the report as JSON; `-` is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the distribution of times as HdrHistogram prints it; a mix has a file for each part
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
    /// Write the seconds as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print no lines and no text report: only errors, and the gates that fail, on standard error
    #[arg(short, long)]
    quiet: bool,
}

const USAGE_LINES: &str =
    "weir-bench run [OPTIONS] WORKLOAD ADDR\n       weir-bench run [OPTIONS] stream up|down|bidir ADDR";

/// Bytes to send: a type of its own, as clap takes a plain vector for a list of arguments.
type Sent = Vec<u8>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// Requests and responses on connections that stay
    Rr,
    /// Connect, exchange, close
    Crr,
    /// Connect, wait until the server sends something, close
    Connect,
    /// As many bytes as go: `stream up ADDR`, `stream down ADDR`, `stream bidir ADDR`
    Stream,
    /// Open many connections and keep them
    Hold,
    /// Connections that end anyhow, against an echo, verified
    Churn,
    /// Several of these at once
    Mix,
}

/// Work of a part of a run.
#[derive(Clone, Copy, Debug)]
enum Job {
    Rr,
    Crr,
    Connect,
    Stream(Direction),
    Hold,
    Churn,
}

/// The name of a job, the job, and its share of connections and rate.
type Named = (&'static str, Job, f64);

/// Names of jobs in reports; a mix is given them with `-` for the space.
const JOBS: [(&str, Job); 8] = [
    ("rr", Job::Rr),
    ("crr", Job::Crr),
    ("connect", Job::Connect),
    ("stream up", Job::Stream(Direction::Up)),
    ("stream down", Job::Stream(Direction::Down)),
    ("stream bidir", Job::Stream(Direction::Both)),
    ("hold", Job::Hold),
    ("churn", Job::Churn),
];

fn job(name: &str) -> Option<(&'static str, Job)> {
    JOBS.into_iter().find(|(known, _)| *known == name)
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ArrivalsArgument {
    /// Evenly
    Constant,
    /// As if from very many independent users
    Poisson,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CloseArgument {
    /// Orderly; beyond some 14,000 a second from one --source the kernel's search for a free port takes milliseconds
    Fin,
    /// By a reset, which leaves no port in TIME_WAIT
    Rst,
}

impl Run {
    pub(super) fn main(self) -> anyhow::Result<u8> {
        let settings = match self.settings() {
            Ok(settings) => settings,
            Err(error) => {
                let _ = writeln!(io::stderr(), "weir-bench: {error:#}");
                return Ok(USAGE);
            }
        };
        for path in self.files(&settings.parts) {
            writable(&path)?;
        }
        // A first signal ends the run with its report; a second one ends the program at once.
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let code = i32::from(INTERRUPTED);
            signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&stop))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
                .context("cannot wait for signals")?;
        }
        let mut live = (!self.quiet).then(Live::to_stderr);
        let watched = drive::run(&settings, &stop, &mut |moment| {
            if let (Moment::Second(second), Some(live)) = (moment, &mut live) {
                live.second(second);
            }
        });
        if let Some(live) = &mut live {
            live.end();
        }
        let outcome = watched?;
        let gates = gates::judge(&outcome);
        self.report(&outcome, &gates)?;
        if self.quiet {
            // Quiet is not mute: who only sees the exit code would have to run it again to know why.
            for gate in gates.iter().filter(|gate| !gate.passed) {
                let _ = writeln!(io::stderr(), "weir-bench: {}: {}", gate.name, gate.message);
            }
        }
        Ok(code(&outcome, &gates))
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        let (jobs, address) = self.jobs()?;
        let target = resolve(address)?;
        if let Some(source) = self.source.iter().find(|source| source.is_ipv4() != target.is_ipv4()) {
            bail!("--source {source} cannot reach {target}: both must be IPv4, or both IPv6");
        }
        if self.duration.is_zero() || self.timeout.is_zero() {
            bail!("--duration and --timeout must be longer than 0");
        }
        for (name, sizes) in [("--request", &self.request), ("--response", &self.response)] {
            if sizes.smallest() < HEADER as u32 {
                bail!(
                    "{name} {} is too small: a frame begins with a header of {HEADER} bytes, so {HEADER} is the least; --send and \
                     --expect exchange any bytes",
                    sizes.smallest()
                );
            }
        }
        if self.to_stdout() > 1 {
            bail!("only one report can go to standard output: name files for the others");
        }
        if self.workload == Workload::Mix && self.hgrm.as_deref() == Some(Path::new("-")) {
            bail!("--hgrm - cannot hold a mix, which has a distribution for each part: name a file");
        }
        let last = || core_affinity::get_core_ids().and_then(|ids| ids.last().map(|core| core.id));
        let cores = match &self.cores[..] {
            [] => vec![last().context("this host does not report which cores may be used: give --cores")?],
            cores => cores.to_vec(),
        };
        Ok(Settings {
            target,
            parts: jobs.into_iter().map(|(name, job, share)| self.part(name, job, share)).collect(),
            cores,
            warmup: self.warmup,
            duration: self.duration,
            drain: self.drain,
            operations: self.operations,
            timeout: self.timeout,
            verify: self.verify.into(),
            sources: self.source.clone(),
            waiting: self.waiting,
            seed: self.seed,
        })
    }

    /// The work, one job or those of a mix, each with its share of connections and rate; and where.
    fn jobs(&self) -> anyhow::Result<(Vec<Named>, &str)> {
        let one = |(name, job)| vec![(name, job, 1.0)];
        match (self.workload, &self.place[..]) {
            (Workload::Mix, [address]) => Ok((self.mixed()?, address)),
            (Workload::Stream, [way, address]) => {
                let found = job(&format!("stream {way}"));
                let found =
                    found.with_context(|| format!("`{way}` is no way of a stream: up, down and bidir are"));
                Ok((one(found?), address))
            }
            (Workload::Stream, _) => {
                bail!(
                    "a stream wants to know which way: `stream up ADDR`, `stream down ADDR` or `stream bidir ADDR`"
                )
            }
            (workload, [address]) => {
                let named = workload.to_possible_value();
                let found = named.and_then(|value| job(value.get_name()));
                Ok((one(found.context("this workload does nothing")?), address))
            }
            (_, place) => {
                bail!("`{}` is too much: only a stream has a word before its ADDR", place.join(" "))
            }
        }
    }

    fn mixed(&self) -> anyhow::Result<Vec<Named>> {
        let all: u32 = self.mix.iter().map(|(_, weight)| weight).sum();
        let part = |(name, weight): &(String, u32)| {
            let (name, job) = job(&name.replace('-', " ")).with_context(|| {
                let known = JOBS.map(|(name, _)| name.replace(' ', "-")).join(", ");
                format!("--mix: `{name}` is no part of a mix: {known} are")
            })?;
            Ok((name, job, f64::from(*weight) / f64::from(all)))
        };
        self.mix.iter().map(part).collect()
    }

    fn part(&self, name: &str, job: Job, share: f64) -> Part {
        let connections = ((f64::from(self.connections) * share).round() as usize).max(1);
        let close = match self.close {
            CloseArgument::Fin => Close::Fin,
            CloseArgument::Rst => Close::Rst,
        };
        let exchange = self.exchange();
        let work = match job {
            Job::Rr => Work::Rr { connections, exchange, depth: self.depth as usize },
            Job::Crr => Work::Crr { connections, exchange, exchanges: self.exchanges, close },
            Job::Connect => Work::Connect { connections, close },
            Job::Stream(direction) => Work::Stream { connections, direction },
            Job::Hold => {
                let heartbeat = Some(self.heartbeat).filter(|every| !every.is_zero());
                Work::Hold { connections, ramp: self.ramp, heartbeat }
            }
            Job::Churn => Work::Churn { connections, bytes: self.bytes.clone() },
        };
        Part { name: name.to_owned(), pace: self.pace(&work, share), work }
    }

    /// Streams and held connections have no plan but their own: heartbeats are dealt out evenly.
    fn pace(&self, work: &Work, share: f64) -> Pace {
        match work {
            Work::Hold { connections, heartbeat: Some(every), .. } => {
                let rate = *connections as f64 / every.as_secs_f64();
                Pace::Open { rate, arrivals: Arrivals::Constant }
            }
            Work::Hold { .. } | Work::Stream { .. } => Pace::Closed,
            _ => self.rate.map_or(Pace::Closed, |rate| {
                let arrivals = match self.arrivals {
                    ArrivalsArgument::Constant => Arrivals::Constant,
                    ArrivalsArgument::Poisson => Arrivals::Poisson,
                };
                Pace::Open { rate: rate * share, arrivals }
            }),
        }
    }

    fn exchange(&self) -> Exchange {
        match (&self.send, self.expect) {
            (Some(request), Some(response)) => {
                Exchange::Raw { request: request.clone(), response: response as usize }
            }
            _ => Exchange::Framed { request: self.request.clone(), response: self.response.clone() },
        }
    }

    /// The distributions' files, one for each part.
    fn distributions(&self, parts: &[Part]) -> Vec<PathBuf> {
        let named = |path: &PathBuf, part: &Part| {
            if parts.len() == 1 { path.clone() } else { beside(path, &part.name) }
        };
        self.hgrm.iter().flat_map(|path| parts.iter().map(move |part| named(path, part))).collect()
    }

    /// How many reports for programs go to standard output, which then has nothing else.
    fn to_stdout(&self) -> usize {
        let outputs = [&self.json, &self.hgrm, &self.csv, &self.html];
        outputs.into_iter().flatten().filter(|path| *path == Path::new("-")).count()
    }

    /// All files that will be written. One that cannot be is reported before the run, not after it.
    fn files(&self, parts: &[Part]) -> Vec<PathBuf> {
        let mut files = self.distributions(parts);
        files.extend([&self.json, &self.csv, &self.html].into_iter().flatten().cloned());
        files.retain(|path| path != Path::new("-"));
        files
    }

    /// The text comes first: a disk that is full must not cost it too.
    fn report(&self, outcome: &Outcome, gates: &[Gate]) -> anyhow::Result<()> {
        if !self.quiet && self.to_stdout() == 0 {
            let colour = io::stdout().is_terminal() && !report::live::no_color();
            let text = report::text::render(outcome, gates, colour);
            write(Path::new("-"), |out| out.write_all(text.as_bytes()))?;
        }
        if let Some(path) = &self.json {
            let mut text = serde_json::to_string_pretty(&report::json::render(outcome, gates))?;
            text.push('\n');
            write(path, |out| out.write_all(text.as_bytes()))?;
        }
        for (path, part) in self.distributions(&outcome.settings.parts).iter().zip(&outcome.parts) {
            let open = !part.ledger.response.is_empty();
            let times = if open { &part.ledger.response } else { &part.ledger.service };
            write(path, |out| report::hgrm::write(times, out))?;
        }
        if let Some(path) = &self.csv {
            write(path, |out| report::csv::write(outcome, out))?;
        }
        if let Some(path) = &self.html {
            let page = report::html::run_page(outcome, gates, &conditions());
            write(path, |out| out.write_all(page.as_bytes()))?;
        }
        Ok(())
    }
}

/// The exit code of the run: figures not to be believed come before work left undone.
fn code(outcome: &Outcome, gates: &[Gate]) -> u8 {
    let failed = |name: &str| gates.iter().any(|gate| gate.name == name && !gate.passed);
    let did_something = |part: &crate::ledger::PartOutcome| part.ledger.ok > 0 || part.ledger.planned == 0;
    if failed("peer") {
        FAILED
    } else if failed("integrity") || failed("conservation") {
        INTEGRITY
    } else if outcome.interrupted {
        INTERRUPTED
    } else if !outcome.parts.iter().any(did_something) {
        FAILED
    } else if gates.iter().any(|gate| !gate.passed) {
        INVALID
    } else {
        FINE
    }
}

/// The first address that a name has.
fn resolve(address: &str) -> anyhow::Result<SocketAddr> {
    let mut found = address.to_socket_addrs().with_context(|| {
        format!("`{address}` is no address: write host:port, as in `127.0.0.1:7000` or `localhost:7000`")
    })?;
    found.next().with_context(|| format!("`{address}` has no address: the name resolves to nothing"))
}

fn write(path: &Path, fill: impl FnOnce(&mut Box<dyn Write>) -> io::Result<()>) -> anyhow::Result<()> {
    let open = || -> io::Result<Box<dyn Write>> {
        if path == Path::new("-") {
            Ok(Box::new(io::stdout().lock()))
        } else {
            Ok(Box::new(BufWriter::new(File::create(path)?)))
        }
    };
    open().and_then(|mut out| fill(&mut out).and_then(|()| out.flush())).with_context(|| cannot_write(path))
}

/// Whether a file can be written; one that is there keeps its content.
fn writable(path: &Path) -> anyhow::Result<()> {
    let opened = File::options().create(true).append(true).open(path);
    opened.map(drop).with_context(|| cannot_write(path))
}

fn cannot_write(path: &Path) -> String {
    match path.to_str() {
        Some("-") => "cannot write to standard output".to_owned(),
        _ => format!("cannot write {}", path.display()),
    }
}

/// `run.hgrm` for a part of a mix: `run-crr.hgrm`.
fn beside(path: &Path, part: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension =
        path.extension().map_or(String::new(), |extension| format!(".{}", extension.to_string_lossy()));
    path.with_file_name(format!("{stem}-{}{extension}", part.replace(' ', "-")))
}

/// The conditions that a reader of the page needs to make its figures again.
fn conditions() -> Vec<(String, String)> {
    let read =
        |path: &str| std::fs::read_to_string(path).map_or(String::new(), |text| text.trim().to_owned());
    let words: Vec<String> = std::env::args().collect();
    let conditions = [
        ("command", crate::compare::command(words.iter().map(String::as_str))),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("congestion control", read("/proc/sys/net/ipv4/tcp_congestion_control")),
        ("cores of the host", std::thread::available_parallelism().map_or(String::new(), |n| n.to_string())),
    ];
    conditions.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(flatten)]
        run: Run,
    }

    fn read(line: &str) -> Result<Settings, String> {
        let words = std::iter::once("run").chain(line.split_whitespace());
        let arguments = Arguments::try_parse_from(words).map_err(|error| error.to_string())?;
        arguments.run.settings().map_err(|error| format!("{error:#}"))
    }

    #[track_caller]
    fn refused(line: &str, wanted: &str) {
        let error = read(line).expect_err(line);
        assert!(error.contains(wanted), "{line}: {error}\nwanted: {wanted}");
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused_with_what_was_found() {
        refused("rr", "ADDR");
        refused("walk 127.0.0.1:1", "walk");
        refused("rr 127.0.0.1", "`127.0.0.1` is no address: write host:port");
        refused("rr 127.0.0.1:1 --request 4k..1k", "runs backwards");
        refused("rr 127.0.0.1:1 -c 0", "0 is not in");
        refused("rr 127.0.0.1:1 --rate 0", "is no rate");
        refused("rr 127.0.0.1:1 --send PING", "--expect");
        refused("rr 127.0.0.1:1 --expect 5", "--send");
        refused("rr 127.0.0.1:1 --source ::1", "--source ::1 cannot reach 127.0.0.1:1");
        refused("rr 127.0.0.1:1 -d 0", "longer than 0");
        refused("rr 127.0.0.1:1 --request 8", "--request 8 is too small");
        refused("rr 127.0.0.1:1 --request 15..4k", "16 is the least");
        refused("crr 127.0.0.1:1 --response 64:9,15:1", "--response 15 is too small");
        refused("mix 127.0.0.1:1 --mix rr=80,mix=20", "`mix` is no part of a mix");
        refused("mix 127.0.0.1:1 --mix rr=80,stream=20", "stream-bidir, hold");
        refused("rr 127.0.0.1:1 --json - --csv -", "only one report can go to standard output");
        refused("mix 127.0.0.1:1 --hgrm -", "a distribution for each part");
        refused("stream 127.0.0.1:1", "`stream up ADDR`, `stream down ADDR` or");
        refused("stream both 127.0.0.1:1", "`both` is no way of a stream: up, down and bidir are");
        refused("rr up 127.0.0.1:1", "only a stream has a word before its ADDR");
        refused("mix 127.0.0.1:1 --mix rr", "is no share");
    }

    #[test]
    fn a_name_resolves_and_defaults_are_those_of_the_help() {
        let settings = read("rr localhost:7").expect("accepted");
        assert!(settings.target.ip().is_loopback());
        assert_eq!(settings.target.port(), 7);
        assert_eq!(settings.duration, Duration::from_secs(10));
        assert_eq!(settings.verify, crate::settings::Verify::Full);
        assert_eq!(settings.cores.len(), 1);
        assert_eq!(settings.parts[0].pace, Pace::Closed);
    }

    #[test]
    fn a_mix_shares_connections_and_rate_by_weight() {
        let settings = read("mix 127.0.0.1:1 -c 50 --rate 1k --mix rr=80,crr=20").expect("accepted");
        let parts: Vec<(&str, usize, Pace)> =
            settings.parts.iter().map(|part| (&part.name[..], part.work.connections(), part.pace)).collect();
        let open = |rate| Pace::Open { rate, arrivals: Arrivals::Poisson };
        assert_eq!(parts, [("rr", 40, open(800.0)), ("crr", 10, open(200.0))]);
    }

    #[test]
    fn a_stream_has_its_way_before_the_address() {
        for (way, wanted) in [("up", Direction::Up), ("down", Direction::Down), ("bidir", Direction::Both)] {
            let alone = read(&format!("stream {way} 127.0.0.1:7001 -c 4")).expect("accepted");
            let mixed =
                read(&format!("mix 127.0.0.1:7001 -c 5 --mix rr=1,stream-{way}=4")).expect("accepted");
            for part in [&alone.parts[0], &mixed.parts[1]] {
                assert_eq!(part.name, format!("stream {way}"));
                let Work::Stream { connections: 4, direction } = part.work else { panic!("{part:?}") };
                assert_eq!(direction, wanted);
            }
        }
    }

    #[test]
    fn heartbeats_are_an_even_plan_of_their_own() {
        let settings = read("hold 127.0.0.1:1 -c 9000 --heartbeat 3s").expect("accepted");
        assert_eq!(settings.parts[0].pace, Pace::Open { rate: 3000.0, arrivals: Arrivals::Constant });
    }
}
