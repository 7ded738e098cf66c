//! Whole comparisons, tiny: the files, the remains after an interrupt, and that a proxy that spoils bytes is found out.

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::PATIENCE;
use tempfile::TempDir;

const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// The ports of the committed configurations can be had by one comparison at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Weir's program: `WEIR_PROGRAM`, or the one beside the load generator's, which is built if it is not there.
fn weir() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

fn build() -> PathBuf {
    if let Some(given) = std::env::var_os("WEIR_PROGRAM") {
        return given.into();
    }
    let weir = Path::new(env!("CARGO_BIN_EXE_weir-bench")).with_file_name("weir");
    if !weir.is_file() {
        let directory = weir.parent().expect("it stands in TARGET/PROFILE");
        let profile = match directory.file_name().and_then(|name| name.to_str()).expect("profiles have names")
        {
            "debug" => "dev",
            profile => profile,
        };
        let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .current_dir(
                Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("bench/ stands in the workspace"),
            )
            // As the tests from outside build it, with the features of `cargo test`: then no dependency is compiled twice.
            .args(["build", "--quiet", "--workspace", "--bin", "weir", "--test", "accounting"])
            .args(["--profile", profile, "--target-dir"])
            .arg(directory.parent().expect("a profile stands in the target directory"))
            .status()
            .expect("cargo starts");
        assert!(built.success(), "building weir failed: {built}");
    }
    weir
}

/// A comparison with files of its own.
struct Compare {
    scratch: TempDir,
    command: Command,
}

impl Compare {
    fn of(weir: &Path, arguments: &[&str]) -> Compare {
        let scratch = tempfile::tempdir().unwrap();
        let cores: Vec<String> =
            core_affinity::get_core_ids().unwrap().iter().map(|core| core.id.to_string()).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir-bench"));
        command
            .args(["compare", "--warmup", "50ms", "--peers", PEERS])
            .args(["--proxy-core", &cores[0], "--load-core", &cores[cores.len() - 1]])
            .args(arguments)
            .arg("--weir")
            .arg(weir)
            .arg("--out")
            .arg(scratch.path().join("out"))
            .env("TMPDIR", scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Compare { scratch, command }
    }

    fn file(&self, name: &str) -> String {
        let file = self.scratch.path().join("out").join(name);
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// The findings, as JSON; checks that the other files have as many.
    #[track_caller]
    fn found(&self) -> Value {
        let found: Value = serde_json::from_str(&self.file("comparison.json")).unwrap();
        let samples = found["samples"].as_array().unwrap().len();
        assert_eq!(self.file("samples.csv").lines().count(), samples + 1);
        assert!(self.file("report.html").trim_end().ends_with("</html>"));
        assert!(self.file("table.md").contains("### Conditions"));
        found
    }

    /// Processes of this comparison: the directory of its files is in their environment.
    fn left(&self) -> Vec<String> {
        let place = self.scratch.path().display().to_string();
        let has_it = |path: &PathBuf| {
            let environment = fs::read(path.join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(&place)
        };
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
        let command_line = |path: PathBuf| fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        processes.filter(has_it).map(command_line).collect()
    }
}

fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn number(sample: &Value, name: &str) -> f64 {
    sample[name].as_f64().unwrap_or_else(|| panic!("{name} in {sample}"))
}

#[test]
fn every_arm_does_all_work_in_every_round_and_proxies_cost_something() {
    const ROUNDS: usize = 2;
    let _alone = alone();
    let mut compare = Compare::of(
        &weir(),
        &[
            "--arms",
            "direct,floor,weir",
            "--work",
            "rr-64-4,stream-up-2",
            "--rounds",
            "2",
            "--duration",
            "200ms",
        ],
    );
    let output = compare.command.output().unwrap();
    // A gate may fail on a busy machine; bytes and counts may not.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{:?}\n{}", output.status, printed(&output));
    let found = compare.found();
    let samples = found["samples"].as_array().unwrap();
    let is_open = |sample: &&Value| sample["pace"].as_str().unwrap().starts_with("open ");
    assert_eq!(
        samples.iter().filter(is_open).count(),
        3 * ROUNDS,
        "rr of three arms is done in an open loop"
    );
    assert_eq!(samples.len(), 3 * 3 * ROUNDS, "rr in two paces, and a stream");
    for sample in samples {
        let proxied = sample["arm"] != "direct";
        assert_eq!(number(sample, "cost") > 0.0, proxied, "{sample}");
        assert!(number(sample, "rate") > 0.0 && number(sample, "faults") == 0.0, "{sample}");
        let timed = sample["work"] == "rr-64-4";
        assert_eq!(number(sample, "p50") > 0.0, timed, "{sample}");
    }
    let figures: Vec<&str> =
        found["ratios"].as_array().unwrap().iter().map(|ratio| ratio["figure"].as_str().unwrap()).collect();
    for figure in ["rate", "p50"] {
        assert!(figures.contains(&figure), "{figures:?}");
    }
    let to_floor =
        |ratio: &&Value| ratio["ours"] == "weir" && ratio["theirs"] == "floor" && ratio["figure"] == "cost";
    let ratios: Vec<&Value> = found["ratios"].as_array().unwrap().iter().filter(to_floor).collect();
    assert_eq!(ratios.len(), 3, "Weir's cost over the floor's, for each work and pace: {ratios:?}");
    assert_eq!(printed(&output).matches("\n  floor ").count(), 3, "{}", printed(&output));
    assert_eq!(found["interrupted"], false);
    assert!(compare.left().is_empty(), "{:?}", compare.left());
}

#[test]
fn an_interrupt_leaves_the_samples_so_far_and_no_process() {
    let _alone = alone();
    let mut compare = Compare::of(
        &weir(),
        &["--arms", "direct,weir", "--work", "rr-64-4", "--rounds", "1000", "--duration", "200ms"],
    );
    let began = Instant::now();
    let mut child = compare.command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let (mut lines, mut line) = (String::new(), String::new());
    // Two samples are done, and the third is under way.
    while lines.matches("round 1/1000 ").count() < 2 {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended: {lines}");
        lines.push_str(&line);
    }
    // Itself, four back ends and Weir, which are found while they run.
    assert!(compare.left().len() >= 6, "{:?}", compare.left());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    // Its pipe must not fill while it ends.
    let rest = std::thread::spawn(move || stderr.lines().map_while(Result::ok).collect::<Vec<_>>());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{lines}{:?}", rest.join());
    assert!(began.elapsed() < PATIENCE, "it took {:?}", began.elapsed());
    let found = compare.found();
    assert_eq!(found["interrupted"], true);
    assert!(found["samples"].as_array().unwrap().len() >= 2);
    assert!(compare.left().is_empty(), "{:?}", compare.left());
}

/// A relay in Weir's place. It reads the ports from Weir's configuration, and now and then doubles a byte on the way back.
const RELAY: &str = r#"#!/usr/bin/env python3
import re, socket, sys, threading

if "--version" in sys.argv:
    sys.exit(print("relay 1"))
text = open(sys.argv[sys.argv.index("-c") + 1]).read()
routes = zip(re.findall(r'listen = \["([\d.]+):(\d+)"\]', text), re.findall(r'endpoints = \["([\d.]+):(\d+)"\]', text))

def pump(source, sink, every):
    chunks = 0
    while data := bytearray(source.recv(65536)):
        chunks += 1
        if every and chunks % every == 0:
            data += data[-1:]
        sink.sendall(data)

def until_one_ends(source, sink, every):
    try:
        pump(source, sink, every)
    except OSError:
        pass
    for one in (source, sink):
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

def serve(listener, end):
    while True:
        client, _ = listener.accept()
        back = socket.create_connection(end)
        for one in (client, back):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=until_one_ends, args=(client, back, 0), daemon=True).start()
        threading.Thread(target=until_one_ends, args=(back, client, 20), daemon=True).start()

servers = []
for (address, port), (end, end_port) in routes:
    listener = socket.create_server((address, int(port)))
    servers.append(threading.Thread(target=serve, args=(listener, (end, int(end_port))), daemon=True))
[server.start() for server in servers]
[server.join() for server in servers]
"#;

#[test]
fn an_arm_that_spoils_bytes_is_found_out() {
    if Command::new("python3").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI must have python3");
        eprintln!("skipped: python3 is not there");
        return;
    }
    let _alone = alone();
    let place = tempfile::tempdir().unwrap();
    let relay = place.path().join("relay");
    fs::write(&relay, RELAY).unwrap();
    fs::set_permissions(&relay, fs::Permissions::from_mode(0o755)).unwrap();
    let check = |weir: &Path, arms: &str, before: &[&str], spoils: &str| {
        let work = ["--arms", arms, "--work", "rr-64-4", "--rounds", "2", "--duration", "200ms"];
        let mut compare = Compare::of(weir, &[&work, before].concat());
        let output = compare.command.output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{}", printed(&output));
        assert!(printed(&output).contains("FAULTS"), "{}", printed(&output));
        let found = compare.found();
        for sample in found["samples"].as_array().unwrap() {
            assert_eq!(number(sample, "faults") > 0.0, sample["arm"] == spoils, "{sample}");
        }
        found
    };
    check(&relay, "direct,weir", &[], "weir");
    // So the other build is the program that was named, and its faults are compared with this one's.
    let found = check(&weir(), "weir", &["--before", relay.to_str().unwrap()], "weir-before");
    let ratios = found["ratios"].as_array().unwrap();
    let held = |ratio: &&Value| ratio["ours"] == "weir" && ratio["theirs"] == "weir-before";
    assert!(ratios.iter().any(|ratio| held(&ratio)), "{ratios:?}");
    let conditions = found["conditions"].to_string();
    assert!(conditions.contains("relay 1"), "the other build's version: {conditions}");
}
