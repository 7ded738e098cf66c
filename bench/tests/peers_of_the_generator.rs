//! The generator is no slower than those that people know, on the same path: sockperf, redis-benchmark and iperf3.
//!
//! A matter of speed, so it is not part of CI: `WEIR_BENCH_PROGRAM=target/release/weir-bench cargo test -p weir-bench --test
//! peers_of_the_generator -- --ignored --nocapture`, on a quiet machine with two cores. Servers run on core 0, clients on core 1, and
//! the two generators in turn. To be faster than the other is no failure: the claim is that figures are not the generator's limit.

use std::fmt::Display;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
const SECONDS: &str = "2";
const SERVERS: usize = 0;
const CLIENTS: usize = 1;
/// Of /proc, in a second: the same on all that this runs on.
const TICKS: f64 = 100.0;
/// How much slower than another it may be.
const SLOWER: f64 = 0.10;

/// The program to test, if there is one whose speed means anything.
fn program() -> Option<PathBuf> {
    match std::env::var_os("WEIR_BENCH_PROGRAM") {
        Some(path) => Some(path.into()),
        None if cfg!(debug_assertions) => None,
        None => Some(env!("CARGO_BIN_EXE_weir-bench").into()),
    }
}

fn is_there(tool: &str) -> bool {
    let there =
        Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        eprintln!("skipped: no {tool}");
    }
    there
}

fn on(core: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

/// A server on its core, ended when dropped.
struct Server(Child);

impl Server {
    /// Starts it and waits until it can be connected to.
    fn start(mut command: Command, address: SocketAddr) -> Server {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Server(child.expect("the server starts"));
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "{command:?} does not listen");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

/// CPU of all children that were waited for, in seconds.
fn cpu_of_children() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a process");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    let ticks: f64 =
        fields.split(' ').skip(13).take(2).map(|ticks| ticks.parse::<f64>().expect("ticks")).sum();
    ticks / TICKS
}

/// Its output, and its CPU time.
fn output(mut command: Command) -> (String, f64) {
    let before = cpu_of_children();
    let output = command.output().expect("the client starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // A closed loop that fills its core fails a gate of its own, as it is meant to here.
    let fine = matches!(output.status.code(), Some(0 | 3));
    assert!(fine, "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    (text, cpu_of_children() - before)
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn number(value: &serde_json::Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// The number after this.
fn after(text: &str, what: &str) -> f64 {
    let (_, rest) = text.split_once(what).unwrap_or_else(|| panic!("no {what} in {text}"));
    let digits = rest.trim_start().split(|next: char| !next.is_ascii_digit() && next != '.').next();
    digits.unwrap_or_default().parse().unwrap_or_else(|error| panic!("{what}: {error}: {text}"))
}

/// Ours: the report of a run, and the CPU that took it.
fn ours(arguments: &[&str]) -> (serde_json::Value, f64) {
    let mut command = on(CLIENTS, program().expect("asked before"));
    let core = CLIENTS.to_string();
    command.arg("run").args(arguments).args(["-d", SECONDS, "--cores", &core, "-q", "--json", "-"]);
    let (text, cpu) = output(command);
    (json(&text), cpu)
}

fn serve(mode: &str, address: SocketAddr) -> Server {
    let mut command = on(SERVERS, program().expect("asked before"));
    command.args(["serve", mode, &address.to_string()]);
    Server::start(command, address)
}

fn a_second(report: &serde_json::Value, what: &str) -> f64 {
    number(&report["parts"][0][what]) / (number(&report["elapsed_ns"]) / 1e9)
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Rounds of both in turn; then all figures, and the ratio of medians, ours to theirs.
fn ratio(what: impl Display, mut round: impl FnMut() -> [f64; 2]) -> f64 {
    let rounds: Vec<[f64; 2]> = (0..ROUNDS).map(|_| round()).collect();
    printed_ratio(what, &rounds)
}

fn printed_ratio(what: impl Display, rounds: &[[f64; 2]]) -> f64 {
    let side = |index: usize| rounds.iter().map(|round| round[index]).collect::<Vec<f64>>();
    let medians = [0, 1].map(|index| median(side(index)));
    let ratio = medians[0] / medians[1];
    println!(
        "{what}: ours {:.3?}, theirs {:.3?}: {:.3} to {:.3}, {ratio:.3}",
        side(0),
        side(1),
        medians[0],
        medians[1]
    );
    ratio
}

fn against_sockperf() {
    let (echo, theirs) = (free(), free());
    let mut server = on(SERVERS, "sockperf");
    server.args(["server", "--tcp", "-i", "127.0.0.1", "-p", &theirs.port().to_string()]);
    let (_ours, _theirs) = (serve("rr", echo), Server::start(server, theirs));
    let mut costs = Vec::new();
    let times = ratio("rr 64 B, 1 connection, median us, to sockperf's", || {
        let (report, our_cpu) = ours(&["rr", &echo.to_string()]);
        let mut client = on(CLIENTS, "sockperf");
        client.args(["ping-pong", "--tcp", "--full-rtt", "-m", "64", "-t", SECONDS, "-i", "127.0.0.1", "-p"]);
        client.arg(theirs.port().to_string());
        let (text, their_cpu) = output(client);
        let part = &report["parts"][0];
        let total = text.split_once("[Total Run]").map_or("", |(_, rest)| rest);
        costs
            .push([our_cpu * 1e6 / number(&part["ok"]), their_cpu * 1e6 / after(total, "ReceivedMessages=")]);
        [number(&part["service"]["p50_ns"]) / 1e3, after(&text, "percentile 50.000 =")]
    });
    let cost = printed_ratio("the same, CPU us an operation", &costs);
    assert!(times <= 1.0 + SLOWER, "its median is {times:.3} of sockperf's");
    assert!(cost <= 1.0, "its CPU an operation is {cost:.3} of sockperf's");
}

fn against_redis_benchmark() {
    let address = free();
    let port = address.port().to_string();
    let mut server = on(SERVERS, "redis-server");
    server.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
    let _redis = Server::start(server, address);
    let rates = ratio("PING, 64 connections, a second, to redis-benchmark's", || {
        let (report, _) =
            ours(&["rr", &address.to_string(), "-c", "64", "--send", "PING\\r\\n", "--expect", "7"]);
        let mut client = on(CLIENTS, "redis-benchmark");
        client.args(["-p", &port, "-c", "64", "-n", "200000", "-t", "ping_inline", "--csv"]);
        let (text, _) = output(client);
        [a_second(&report, "ok"), after(&text, "\"PING_INLINE\",\"")]
    });
    assert!(rates >= 1.0 - SLOWER, "its rate is {rates:.3} of redis-benchmark's");
}

fn against_iperf3() {
    let (sink, theirs) = (free(), free());
    let port = theirs.port().to_string();
    let mut server = on(SERVERS, "iperf3");
    server.args(["-s", "-p", &port]);
    let (_ours, _theirs) = (serve("sink", sink), Server::start(server, theirs));
    let rates = ratio("stream up, 4 connections, not verified, GB/s, to iperf3's", || {
        // iperf3 looks at no byte either.
        let (report, _) = ours(&["stream", "up", &sink.to_string(), "-c", "4", "--verify", "off"]);
        let mut client = on(CLIENTS, "iperf3");
        client.args(["-c", "127.0.0.1", "-p", &port, "-P", "4", "-t", SECONDS, "-J"]);
        let (text, _) = output(client);
        let bits = number(&json(&text)["end"]["sum_received"]["bits_per_second"]);
        [a_second(&report, "bytes_up") / 1e9, bits / 8e9]
    });
    assert!(rates >= 1.0 - SLOWER, "its rate is {rates:.3} of iperf3's");
}

#[test]
#[ignore = "a matter of speed: a release build, a quiet machine with two cores and a minute"]
fn long_within_ten_percent_of_other_generators() {
    if program().is_none() {
        eprintln!("skipped: no release build; name one in WEIR_BENCH_PROGRAM");
        return;
    }
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if ![SERVERS, CLIENTS].iter().all(|core| cores.iter().any(|usable| usable.id == *core))
        || !is_there("taskset")
    {
        eprintln!("skipped: cores {SERVERS} and {CLIENTS} cannot be used");
        return;
    }
    let peers: [(&str, fn()); 3] = [
        ("sockperf", against_sockperf),
        ("redis-benchmark", against_redis_benchmark),
        ("iperf3", against_iperf3),
    ];
    for (tool, against) in peers {
        if is_there(tool) {
            against();
        }
    }
}
