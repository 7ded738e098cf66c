//! An end and a start again at once, at fixed addresses: each start serves, and no handshake is completed that no process serves.
//! And an obstacle to a start: the lock of an address.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use weir_tests::client::ask_once;
use weir_tests::metrics::get;
use weir_tests::process::Process;
use weir_tests::wait::ms;
use weir_tests::{Backend, busy, host, program, quiet, wait_for};

use crate::support::{edge, fixed, for_all_users};

/// Connections through each start, which would meet a socket that the last process has left behind.
const ASKED: usize = 5;

/// Ends a Weir with each signal in turn, starts the next one at once, and wants all of them to serve.
fn restarts(ends: &[(Signal, u32)]) {
    let _turn = quiet();
    let backend = Backend::lines("one");
    let (_directory, config, gateway, admin) = fixed(&edge(&[backend.address], ""));
    let mut command = Command::new(program::path("weir"));
    command.args(["run", "-c"]).arg(&config);
    let mut weir = Process::spawn(&mut command);
    let mut broken = Vec::new();
    let mut serve = |weir: &mut Process, start: String| {
        let ready = || get(admin, "/ready", "localhost").is_ok_and(|answer| answer.status == 200);
        if !wait_for(Duration::from_secs(20), || !weir.is_running() || ready()) || !weir.is_running() {
            broken.push(format!("{start}: {}", weir.output()));
            *weir = Process::spawn(&mut command);
            return wait_for(Duration::from_secs(20), ready);
        }
        for at in 0..ASKED {
            match ask_once(gateway, "hello") {
                Ok(answer) => assert_eq!(answer, "one hello"),
                Err(error) => broken.push(format!("{start}: connection {at}: {error}")),
            }
        }
        true
    };
    assert!(serve(&mut weir, "the first".to_owned()));
    for &(signal, rounds) in ends {
        for round in 0..rounds {
            weir.signal(signal);
            weir.exit_at_once(Duration::from_secs(5));
            let mut command = Command::new(program::path("weir"));
            weir = Process::spawn(command.args(["run", "-c"]).arg(&config));
            assert!(serve(&mut weir, format!("{signal:?}, restart {round}")), "no start serves");
        }
    }
    assert!(broken.is_empty(), "{} failures:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn a_start_right_after_an_end_serves() {
    restarts(&[(Signal::TERM, 20), (Signal::KILL, 5)]);
}

#[test]
#[ignore = "long: run by CI"]
fn long_restarts() {
    restarts(&[(Signal::TERM, 130), (Signal::KILL, 30)]);
}

/// Runs Weir as a user who can write nothing under `/run`, where locks are abstract names.
fn as_ordinary_user(directory: &TempDir, config: &Path) -> Process {
    let program = for_all_users(directory.path(), config);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    Process::spawn(command.arg(&program).args(["run", "-c"]).arg(config))
}

#[test]
fn an_abstract_name_that_another_user_holds_is_a_warning_and_never_waited_for() {
    if !(host::has(&["setpriv"]) && host::is_root()) {
        return;
    }
    let _turn = busy();
    let backend = Backend::lines("one");
    for backlog_is_full in [false, true] {
        let (directory, config, gateway, admin) = fixed(&edge(&[backend.address], ""));
        let names = [gateway, admin].map(|address| {
            let name = UnixAddr::from_abstract_name(format!("weir/listen/{address}")).expect("a name");
            let listener = UnixListener::bind_addr(&name).expect("the name is free");
            let clients = if backlog_is_full { fill(&name) } else { Vec::new() };
            (listener, clients)
        });
        let mut weir = as_ordinary_user(&directory, &config);
        weir.line(&["WARN", &gateway.to_string(), "lock"]);
        weir.line(&["listening", &gateway.to_string()]);
        assert_eq!(ask_once(gateway, "hello").expect("served"), "one hello");
        weir.signal(Signal::TERM);
        assert_eq!(weir.exit(ms(5000)).code(), Some(0));
        drop(names);
    }
}

/// Connects until the backlog is full.
fn fill(name: &UnixAddr) -> Vec<socket2::Socket> {
    let address =
        socket2::SockAddr::unix(format!("\0{}", name.as_abstract_name().expect("a name").escape_ascii()));
    let address = address.expect("a name");
    let connect = || {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&address).map(|()| socket)
    };
    let clients: Vec<_> = std::iter::repeat_with(connect).map_while(std::io::Result::ok).collect();
    assert!(clients.len() > 10, "the name is bound, and takes clients until its backlog is full");
    clients
}

#[test]
fn an_ordinary_users_second_weir_is_refused_with_the_pid_of_the_first() {
    if !(host::has(&["setpriv"]) && host::is_root()) {
        return;
    }
    let _turn = busy();
    let backend = Backend::lines("one");
    let (directory, config, gateway, _) = fixed(&edge(&[backend.address], ""));
    let mut first = as_ordinary_user(&directory, &config);
    first.line(&["listening", &gateway.to_string()]);
    let toml = std::fs::read_to_string(&config).expect("the configuration can be read");
    let (directory, config, ..) = fixed(&edge(&[backend.address], ""));
    let admin = toml.lines().find(|line| line.starts_with("admin")).expect("it has one");
    std::fs::write(&config, toml.replace(admin, "admin = \"off\""))
        .expect("the configuration can be written");
    let mut second = as_ordinary_user(&directory, &config);
    assert_eq!(second.exit(ms(5000)).code(), Some(1));
    second.line(&[&format!("pid {}", first.pid()), &gateway.to_string()]);
}

#[test]
fn another_program_that_shares_its_port_is_named_and_not_joined() {
    let _turn = busy();
    let backend = Backend::lines("one");
    let (_directory, config, gateway, _) = fixed(&edge(&[backend.address], ""));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_reuse_port(true).expect("SO_REUSEPORT");
    socket.bind(&gateway.into()).and_then(|()| socket.listen(16)).expect("a free address");
    let mut weir = Process::spawn(Command::new(program::path("weir")).args(["run", "-c"]).arg(&config));
    assert_eq!(weir.exit(ms(5000)).code(), Some(1));
    weir.line(&["error", &gateway.to_string(), "in use"]);
}
