//! `weir-bench run` as it is used: its output and exit code, whatever happens.

mod support;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::Backend;

const PROGRAM: &str = env!("CARGO_BIN_EXE_weir-bench");

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("run").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

#[test]
fn an_interrupt_at_any_time_leaves_a_report_that_adds_up() {
    let server = Backend::start("rr", &[]);
    let address = server.address.to_string();
    let mut chance = fastrand::Rng::with_seed(9);
    for round in 0..8 {
        let pace: &[&str] = if round % 2 == 0 { &["--rate", "5k"] } else { &["--depth", "4"] };
        let fixed = ["rr", &address, "-c", "8", "-d", "60s", "-q", "--json", "-"];
        let child = bench(&fixed).args(pace).spawn().expect("the program starts");
        let pid = Pid::from_child(&child);
        // It can be interrupted once it has connections; before that, it has no handler and simply ends.
        let handles = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim();
            u64::from_str_radix(caught, 16).unwrap_or_default() & 0b10 != 0
        };
        while !handles() {
            std::thread::yield_now();
        }
        // The moment of the interrupt is drawn by chance: nothing is waited for.
        let (_never, moment) = mpsc::channel::<()>();
        let _ = moment.recv_timeout(Duration::from_millis(chance.u64(0..500)));
        kill_process(pid, Signal::INT).expect("it runs");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
        let report = json(&output);
        let part = &report["parts"][0];
        let count = |name: &str| part[name].as_u64().unwrap_or_else(|| panic!("no {name}: {part}"));
        let ended = ["ok", "failed", "timeout", "unfinished", "dropped"].map(count).iter().sum::<u64>();
        assert_eq!(count("planned"), ended, "{part}");
        assert_seconds_cover_all(&report);
    }
}

/// The seconds of a report are as long together as the measured time: a judgement by them misses nothing.
#[track_caller]
fn assert_seconds_cover_all(report: &serde_json::Value) {
    let seconds = report["seconds"].as_array().expect("seconds");
    let length = |second: &serde_json::Value| second["length"].as_f64().expect("a length");
    let covered: f64 = seconds.iter().map(length).sum();
    let elapsed = report["elapsed_ns"].as_f64().expect("a time") / 1e9;
    assert!((covered - elapsed).abs() < 1e-6, "{covered} s of {elapsed} s: {seconds:?}");
}

#[test]
fn a_run_that_ends_within_a_second_is_judged_by_all_of_it() {
    let server = Backend::start("rr", &[]);
    let address = server.address.to_string();
    for duration in ["1s", "700ms", "1250ms"] {
        let arguments = ["rr", &address, "-c", "4", "--rate", "500", "-d", duration, "-q", "--json", "-"];
        let report = json(&bench(&arguments).output().expect("it runs"));
        assert_seconds_cover_all(&report);
        let done: u64 = report["seconds"]
            .as_array()
            .expect("seconds")
            .iter()
            .filter_map(|second| second["ok"].as_u64())
            .sum();
        let planned = report["parts"][0]["planned"].as_u64().expect("a count");
        // All but those under way when the time was over, of which four connections have few.
        assert!(done * 10 >= planned * 9, "-d {duration}: {done} of {planned}: {}", report["seconds"]);
    }
}

#[test]
fn a_server_of_another_protocol_is_named_and_no_path_is_blamed() {
    // Longer than a header of ours, and shorter than it.
    for answer in ["HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "-ERR what?\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its number").to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || {
                    let _ = stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(answer.as_bytes()));
                    // Until they have gone: a reset would take the answer away.
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                });
            }
        });
        for (work, needed) in
            [("rr", "rr"), ("crr", "rr"), ("stream up", "sink"), ("stream down", "source"), ("churn", "echo")]
        {
            let mut arguments: Vec<&str> = work.split(' ').collect();
            arguments.extend([&address, "-d", "400ms", "--timeout", "300ms", "-q"]);
            let output = bench(&arguments).output().expect("it runs");
            let printed = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{work}, {answer:?}: {printed}");
            assert!(printed.contains(&format!("at {address} is not a weir-bench peer")), "{work}: {printed}");
            assert!(printed.contains(&format!("`weir-bench serve {needed}`")), "{work}: {printed}");
            assert!(!printed.contains("does not keep its bytes"), "{work}: {printed}");
        }
    }
}

#[test]
fn the_longest_pause_is_that_of_the_server() {
    let server = Backend::start("rr", &[]);
    let address = server.address.to_string();
    let mut child = bench(&["rr", &address, "-c", "4", "--rate", "1k", "-d", "3s", "--json", "-"])
        .spawn()
        .expect("it starts");
    // After the first second the server stands still for a third of one.
    let mut live = BufReader::new(child.stderr.take().expect("piped"));
    live.read_line(&mut String::new()).expect("a line");
    server.signal(Signal::STOP);
    let stopped = Instant::now();
    let (_never, moment) = mpsc::channel::<()>();
    let _ = moment.recv_timeout(Duration::from_millis(300));
    server.signal(Signal::CONT);
    let stopped = stopped.elapsed().as_nanos() as u64;
    live.read_to_string(&mut String::new()).expect("text");
    let report = json(&child.wait_with_output().expect("it ends"));
    let part = &report["parts"][0];
    let pause = part["longest_pause_ns"].as_u64().expect("a pause");
    let at = part["longest_pause_at_ns"].as_u64().expect("its place");
    assert!(pause > stopped * 9 / 10 && pause < stopped * 2, "{pause} ns, stopped for {stopped}");
    assert!((900_000_000..2_900_000_000).contains(&at), "{at}");
}

#[test]
fn a_generator_that_cannot_keep_up_reports_its_figures_as_invalid() {
    let server = Backend::start("rr", &[]);
    let address = server.address.to_string();
    let arguments = ["rr", &address, "-c", "4", "--rate", "2000k", "-d", "1s", "--drain", "100ms", "-q"];
    let output = bench(&arguments).args(["--json", "-"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let report = json(&output);
    let gates = report["gates"].as_array().expect("gates");
    let passed = |name: &str| gates.iter().find(|gate| gate["name"] == name).map(|gate| &gate["passed"]);
    assert_eq!(passed("achieved"), Some(&false.into()), "{gates:?}");
    assert_eq!(passed("conservation"), Some(&true.into()), "{gates:?}");
}

#[test]
fn a_missing_server_is_reported_at_once_with_the_remedy() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number");
    let output = bench(&["rr", &free.to_string()]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(printed.contains(&format!("nothing listens at {free}")), "{printed}");
    assert!(printed.contains("weir-bench serve rr"), "{printed}");
}

fn gate(report: &serde_json::Value, name: &str) -> bool {
    let gates = report["gates"].as_array().expect("gates");
    let gate =
        gates.iter().find(|gate| gate["name"] == name).unwrap_or_else(|| panic!("no {name}: {gates:?}"));
    gate["passed"].as_bool().expect("yes or no")
}

#[test]
fn a_generator_that_stood_still_reports_the_delay_as_its_own() {
    let server = Backend::start("rr", &[]);
    let address = server.address.to_string();
    let mut child = bench(&[
        "rr",
        &address,
        "-c",
        "4",
        "--rate",
        "1k",
        "--arrivals",
        "constant",
        "-d",
        "3s",
        "--json",
        "-",
    ])
    .spawn()
    .expect("the program starts");
    // The live line shows that a second has passed; then it stands still for a third of a second.
    let mut live = BufReader::new(child.stderr.take().expect("piped"));
    live.read_line(&mut String::new()).expect("a line");
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::STOP).expect("it runs");
    let stopped = Instant::now();
    let (_never, moment) = mpsc::channel::<()>();
    let _ = moment.recv_timeout(Duration::from_millis(300));
    kill_process(pid, Signal::CONT).expect("it stands still");
    let stopped = stopped.elapsed().as_nanos() as u64;
    live.read_to_string(&mut String::new()).expect("text");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(3));
    let report = json(&output);
    assert!(!gate(&report, "lag"), "{}", report["gates"]);
    assert!(gate(&report, "conservation"), "{}", report["gates"]);
    let longest = |times: &str| report["parts"][0][times]["max_ns"].as_u64().expect("a maximum");
    let wanted = stopped * 9 / 10;
    assert!(longest("response") > wanted && longest("lag") > wanted, "{}", report["parts"][0]);
}

#[test]
fn a_report_that_nobody_takes_is_an_error_and_no_panic() {
    let server = Backend::start("rr", &[]);
    let address = server.address.to_string();
    let full = File::options().write(true).open("/dev/full").expect("a file");
    let (closed, pipe) = std::io::pipe().expect("a pipe");
    drop(closed);
    for (stdout, why) in [(Stdio::from(full), "No space left"), (Stdio::from(pipe), "Broken pipe")] {
        let output = bench(&["rr", &address, "--operations", "1"]).stdout(stdout).output().expect("it runs");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert!(
            printed.contains("weir-bench: cannot write to standard output") && printed.contains(why),
            "{printed}"
        );
    }
}

#[test]
fn output_goes_to_stdout_or_stderr_as_it_belongs() {
    // Arguments, possible exit codes, and a text of stdout and of stderr; "" stands for no output at all.
    #[track_caller]
    fn check(arguments: &[&str], codes: &[i32], stdout: &str, stderr: &str) {
        let output = bench(arguments).output().expect("it runs");
        for (printed, wanted) in [(&output.stdout, stdout), (&output.stderr, stderr)] {
            let printed = String::from_utf8_lossy(printed);
            assert!(
                printed.contains(wanted) && printed.is_empty() == wanted.is_empty(),
                "{arguments:?}: {printed}"
            );
        }
        let code = output.status.code().expect("it ends by itself");
        assert!(codes.contains(&code), "{arguments:?}: {code}");
    }
    /// A closed loop may fill its core, which fails a gate.
    const DONE: &[i32] = &[0, 3];
    let (rr, echo) = (Backend::start("rr", &[]), Backend::start("echo", &[]));
    let (rr, echo) = (rr.address.to_string(), echo.address.to_string());
    let free =
        TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number").to_string();
    let unwritable = "/nonexistent/report";
    check(&["rr", &rr, "--operations", "1", "-q"], &[3], "", "weir-bench: samples: rr has 1 service time");
    check(&["rr", &rr, "--operations", "1"], &[3], "1 planned = 1 ok + 0 failed", "");
    check(&["rr", &free, "-q"], &[1], "", "nothing listens");
    check(&["rr", &rr, "-d", "0", "-q"], &[2], "", "must be longer than 0");
    // Said at once, and not after the hour.
    for output in ["--json", "--hgrm", "--csv", "--html"] {
        check(
            &["rr", &rr, "-d", "3600s", output, unwritable],
            &[1],
            "",
            "cannot write /nonexistent/report: No such file",
        );
    }
    check(&["stream", "bidir", &echo, "-d", "1s"], DONE, "stream bidir: 1 connection, both ways", " s ");
    check(&["stream", "up", &echo, "-d", "200ms"], &[1], "an echo, no sink", "");
    check(&["stream", "down", &echo, "-d", "200ms"], &[1], "an echo, no source", "");
}

#[test]
fn a_server_that_resets_connections_is_measured_and_not_believed() {
    let server = Backend::start("flaky", &["--refuse", "0.5"]);
    let address = server.address.to_string();
    for pace in [&[][..], &["--rate", "500"]] {
        let arguments = ["crr", &address, "-c", "4", "-d", "500ms", "-q", "--json", "-"];
        let output = bench(&arguments).args(pace).output().expect("it runs");
        assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
        let report = json(&output);
        assert!(!gate(&report, "achieved") && gate(&report, "conservation"), "{}", report["gates"]);
    }
}
