//! `weir demo`: a newcomer's first two minutes.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use weir_tests::{Process, client, host, program, quiet};

/// The demo, moved to ports that nothing else of the tests uses.
fn demo(port: u16, arguments: &[&str]) -> Process {
    let mut command = Command::new(program::path("weir"));
    Process::spawn(command.args(["demo", "--port", &port.to_string()]).args(arguments))
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Asks the demo through `nc`, by the command that it prints.
fn nc(port: u16, flags: &str) -> String {
    let script = format!("echo hello | nc {flags} 127.0.0.1 {port}");
    program::run_command(Command::new("sh").args(["-c", &script])).stdout
}

#[test]
fn twenty_echoes_come_from_both_backends() {
    if !host::has(&["nc"]) {
        return;
    }
    let _turn = quiet();
    let mut demo = demo(32400, &[]);
    demo.line(&["listening", "gateway=tcp-echo-gateway"]);
    for flags in ["-N", "-w 1"] {
        let mut counts = [0, 0];
        let rounds = if flags == "-N" { 200 } else { 5 };
        for _ in 0..rounds {
            match nc(32400, flags).as_str() {
                "one hello\n" => counts[0] += 1,
                "two hello\n" => counts[1] += 1,
                other => panic!("nc {flags} printed {other:?}"),
            }
        }
        if rounds == 200 {
            // 20 % of 200 within 4 sigma (23): one way or the other, but not even.
            let least = *counts.iter().min().unwrap();
            assert!((17..=63).contains(&least), "80 to 20 came out as {counts:?}");
        }
    }
    demo.signal(Signal::TERM);
    assert!(demo.exit(Duration::from_secs(5)).success());
}

#[test]
fn it_prints_its_configuration_and_what_to_type() {
    let _turn = quiet();
    let mut demo = demo(32410, &[]);
    demo.line(&["listening", "gateway=tcp-echo-gateway"]);
    for words in
        [&["[gateway.tcp-echo-gateway]"][..], &["weight = 80"][..], &["nc", "127.0.0.1", "32410"][..]]
    {
        demo.line(words);
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_a_way_out() {
    let _turn = quiet();
    let taken = std::net::TcpListener::bind(local(32421)).expect("the port is free");
    let mut demo = demo(32420, &[]);
    assert_eq!(demo.exit(Duration::from_secs(5)).code(), Some(1));
    demo.line(&["127.0.0.1:32421"]);
    demo.line(&["--port"]);
    drop(taken);
}

#[test]
fn a_written_configuration_is_served_and_an_edit_of_it_is_a_reload() {
    let _turn = quiet();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("demo.toml");
    let path = file.to_str().unwrap();
    let mut demo_process = demo(32430, &["--config-out", path]);
    demo_process.line(&["listening", "gateway=tcp-echo-gateway"]);
    let text = std::fs::read_to_string(&file).expect("the demo has written its configuration");
    assert_eq!(program::run("weir", &["check", "-c", path]).code, 0);

    let only_two = text.replace("weight = 80", "weight = 0").replace("weight = 20", "weight = 100");
    let only_two = if only_two == text { panic!("no weights in {text}") } else { only_two };
    std::fs::write(&file, only_two).unwrap();
    let same = |answers: &mut Vec<String>| {
        answers.clear();
        answers.extend((0..20).map(|_| client::ask_once(local(32430), "hello").expect("an answer")));
        answers.iter().all(|answer| answer == &answers[0])
    };
    let mut answers = Vec::new();
    assert!(weir_tests::wait_for(Duration::from_secs(2), || same(&mut answers)), "still {answers:?}");

    let mut second = demo(32440, &["--config-out", path]);
    assert_eq!(
        second.exit(Duration::from_secs(5)).code(),
        Some(1),
        "a file that exists is never written over"
    );
    second.line(&[path]);
}

#[test]
fn the_backends_run_alone() {
    let _turn = quiet();
    let mut backends = demo(32450, &["--backends"]);
    for (port, name) in [(32451, "one"), (32452, "two")] {
        let mut answer = String::new();
        weir_tests::wait_for(Duration::from_secs(5), || {
            client::ask_once(local(port), "hello").is_ok_and(|line| {
                answer = line;
                true
            })
        });
        assert_eq!(answer, format!("{name} hello"));
    }
    assert!(client::try_connect(local(32450)).is_err(), "no gateway among them");
    assert!(backends.is_running());
}
