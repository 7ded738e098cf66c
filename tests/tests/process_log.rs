//! The process log when its reader takes nothing, comes back, or is gone: the process goes on as if it had none.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{ChildStderr, Command};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use weir_tests::client::{ask, ask_once, connect, read_end};
use weir_tests::metrics::{Metrics, get};
use weir_tests::process::Process;
use weir_tests::wait::ms;
use weir_tests::weir_process::with_admin;
use weir_tests::{Backend, program, quiet, wait_for};

use crate::support::{edge, fixed};

/// The capacity that a pipe is given, so that few lines fill it.
const PIPE_BYTES: usize = 4096;

/// Lines that a log without a reader may still take: those in the pipe and those that wait.
const MORE_THAN_FIT: usize = 1500;

fn dropped(admin: SocketAddr) -> f64 {
    let answer = get(admin, "/metrics", "localhost").expect("an answer");
    Metrics::parse(&answer.body).sum("weir_log_dropped_total", &[])
}

/// A Weir that is ready and whose stderr is not read.
fn start_unread(config: &std::path::Path, admin: SocketAddr) -> (Process, ChildStderr) {
    let mut command = Command::new(program::path("weir"));
    let (weir, stderr) = Process::spawn_unread(command.args(["run", "-c"]).arg(config));
    rustix::pipe::fcntl_setpipe_size(&stderr, PIPE_BYTES).expect("a pipe can be made small");
    let ready = || get(admin, "/ready", "localhost").is_ok_and(|answer| answer.status == 200);
    assert!(wait_for(Duration::from_secs(20), ready), "not ready");
    (weir, stderr)
}

/// Makes it print more than its log can hold. USR2 is answered with a line.
fn talk(weir: &Process, admin: SocketAddr) {
    for at in 0..MORE_THAN_FIT * 2 {
        weir.signal(Signal::USR2);
        // A signal that is still pending swallows the next one.
        let sent = Instant::now();
        while sent.elapsed() < Duration::from_micros(300) {
            std::thread::yield_now();
        }
        if at % 100 == 0 {
            let asked = Instant::now();
            assert_eq!(get(admin, "/live", "localhost").expect("an answer").status, 200);
            assert!(asked.elapsed() <= ms(100), "/live after {at} lines: {:?}", asked.elapsed());
        }
    }
    assert!(wait_for(ms(2000), || dropped(admin) > 0.0), "all lines fit: this shows nothing");
}

#[test]
fn a_log_that_is_not_read_holds_nothing_up_and_a_signal_still_ends_the_process() {
    let _turn = quiet();
    let (one, two) = (Backend::lines("one"), Backend::lines("two"));
    for sessions_stay in [false, true] {
        let (_directory, config, gateway, admin) = fixed(&edge(&[one.address], ""));
        let (mut weir, stderr) = start_unread(&config, admin);
        let session = connect(gateway);
        assert_eq!(ask(&session, "hello"), "one hello");
        talk(&weir, admin);
        assert_eq!(ask(&session, "still"), "one still");
        let other = with_admin(&edge(&[two.address], ""), admin).replace("127.0.0.1:0", &gateway.to_string());
        std::fs::write(&config, other).expect("the configuration can be written");
        let taken = || ask_once(gateway, "hello").is_ok_and(|answer| answer == "two hello");
        assert!(wait_for(ms(2000), taken), "a reload is not taken");
        weir.signal(Signal::TERM);
        if sessions_stay {
            assert!(wait_for(ms(500), || get(admin, "/ready", "localhost")
                .is_ok_and(|answer| answer.status == 503)));
            assert_eq!(ask(&session, "draining"), "one draining");
            assert!(weir_tests::holds_for(ms(100), || weir.is_running()));
            weir.signal(Signal::TERM);
            read_end(&session);
        }
        drop(session);
        let status = weir.exit_at_once(Duration::from_secs(2));
        assert_eq!(status.code(), Some(0));
        drop(stderr);
    }
}

#[test]
fn a_reader_that_comes_back_hears_how_many_lines_are_missing() {
    let _turn = quiet();
    let backend = Backend::lines("one");
    let (_directory, config, _, admin) = fixed(&edge(&[backend.address], ""));
    let (mut weir, stderr) = start_unread(&config, admin);
    talk(&weir, admin);
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(stderr).lines().map_while(Result::ok);
        lines.filter(|line| line.contains("lines of this log were dropped")).count()
    });
    weir.signal(Signal::TERM);
    assert_eq!(weir.exit_at_once(Duration::from_secs(5)).code(), Some(0));
    assert!(reader.join().expect("no panic") >= 1, "no line reports what is missing");
}

#[test]
fn a_process_whose_stderr_is_gone_goes_on() {
    let _turn = quiet();
    let backend = Backend::lines("one");
    let (_directory, config, gateway, admin) = fixed(&edge(&[backend.address], ""));
    let (mut weir, stderr) = start_unread(&config, admin);
    drop(stderr);
    for _ in 0..10 {
        weir.signal(Signal::USR2);
        assert_eq!(ask_once(gateway, "hello").expect("served"), "one hello");
    }
    assert!(wait_for(ms(2000), || dropped(admin) > 0.0), "a line that reached no reader is not counted");
    weir.signal(Signal::TERM);
    assert_eq!(weir.exit_at_once(Duration::from_secs(2)).code(), Some(0));
}
