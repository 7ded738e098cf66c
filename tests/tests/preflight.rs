//! Refusals before anything is bound: a host that does not allow Weir (3), an address that is taken (1).

use std::path::PathBuf;
use std::process::Command;

use weir_tests::process::Process;
use weir_tests::wait::ms;
use weir_tests::weir_process::{free_admin, with_admin};
use weir_tests::{Backend, Launch, Weir, busy, host, program};

use crate::support::{edge, edge_with, for_all_users};

/// An address that is never dialled: these Weirs do not get that far.
fn nowhere() -> [std::net::SocketAddr; 1] {
    ["127.0.0.1:1".parse().unwrap()]
}

#[track_caller]
fn refused(launch: Launch, words: &[&str]) {
    let output = launch.fail();
    assert_eq!(output.code, 3, "{}", output.stderr);
    for word in words {
        assert!(output.stderr.contains(word), "no {word:?} in\n{}", output.stderr);
    }
    assert!(!output.stderr.contains("listening"), "it binds before it looks:\n{}", output.stderr);
}

#[test]
fn few_descriptors_are_a_finding() {
    if host::has(&["prlimit"]) {
        let _turn = busy();
        refused(
            Launch::new(&edge(&nowhere(), "")).under(&["prlimit", "--nofile=512:512"]),
            &["512", "1024", "ulimit -n"],
        );
    }
}

#[test]
fn more_ports_than_descriptors_are_a_finding_of_run_and_a_warning_of_check() {
    if host::has(&["prlimit"]) {
        let _turn = busy();
        let toml = edge(&nowhere(), "").replace("127.0.0.1:0", "127.0.0.1:10000-19000");
        let limit = ["prlimit", "--nofile=8192:8192"];
        let words = ["8192", "9001 addresses", "ulimit -n 65536", "LimitNOFILE"];
        refused(Launch::new(&toml).under(&limit), &words);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("weir.toml");
        std::fs::write(&file, &toml).unwrap();
        let mut command = Command::new(limit[0]);
        command.arg(limit[1]).arg(program::path("weir")).args(["check", "-c"]).arg(&file);
        let output = program::run_command(&mut command);
        assert_eq!(output.code, 0, "{}", output.stderr);
        for word in words.into_iter().chain(["1 warning"]) {
            assert!(output.stderr.contains(word), "no {word:?} in\n{}", output.stderr);
        }
    }
}

#[test]
fn a_demo_that_is_not_allowed_writes_no_file_and_prints_no_commands() {
    if host::has(&["prlimit"]) {
        let _turn = busy();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("demo.toml");
        let mut command = Command::new("prlimit");
        command.arg("--nofile=512:512").arg(program::path("weir"));
        let output =
            program::run_command(command.args(["demo", "--port", "32710", "--config-out"]).arg(&file));
        assert_eq!(output.code, 3, "{}", output.stderr);
        assert!(output.stderr.contains("RLIMIT_NOFILE"), "{}", output.stderr);
        assert_eq!(output.stdout, "");
        assert!(!file.exists(), "a second attempt would be refused");
    }
}

#[test]
fn little_locked_memory_is_a_finding_and_all_findings_come_at_once() {
    if host::has(&["prlimit"]) {
        let _turn = busy();
        let prefix = ["prlimit", "--memlock=65536:65536", "--nofile=512:512"];
        refused(Launch::new(&edge(&nowhere(), "")).under(&prefix), &["64", "512", "ulimit -l", "ulimit -n"]);
    }
}

#[test]
fn a_core_that_this_process_may_not_use_is_a_finding() {
    if host::has(&["taskset"]) && host::has_cores(2) {
        let _turn = busy();
        let toml = edge_with("cores = \"0-1\"", &nowhere(), "");
        refused(Launch::new(&toml).under(&["taskset", "-c", "0"]), &["core", "1", "taskset"]);
        let toml = edge_with("cores = \"4000\"", &nowhere(), "");
        refused(Launch::new(&toml), &["4000"]);
    }
}

#[test]
fn a_privileged_port_without_the_capability_is_a_finding() {
    if !(host::has(&["setpriv", "sysctl"]) && host::is_root()) {
        return;
    }
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if start.trim() == "0" {
        eprintln!("skipped: here every port is unprivileged");
        return;
    }
    let _turn = busy();
    let toml = edge(&nowhere(), "").replace("127.0.0.1:0", "127.0.0.1:443");
    let prefix = ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"];
    refused(Launch::new(&toml).under(&prefix), &["443", "CAP_NET_BIND_SERVICE"]);
}

#[test]
fn a_forbidden_io_uring_is_a_finding() {
    let switch = PathBuf::from("/proc/sys/kernel/io_uring_disabled");
    if !(host::is_root() && switch.exists()) {
        eprintln!("skipped: needs kernel.io_uring_disabled");
        return;
    }
    let _turn = weir_tests::quiet();
    let before = std::fs::read_to_string(&switch).unwrap();
    if std::fs::write(&switch, "2").is_err() {
        eprintln!("skipped: kernel.io_uring_disabled cannot be written here");
        return;
    }
    let output = Launch::new(&edge(&nowhere(), "")).fail();
    std::fs::write(&switch, before).expect("what was written can be written back");
    assert_eq!(output.code, 3, "{}", output.stderr);
    assert!(output.stderr.contains("kernel.io_uring_disabled=0"), "{}", output.stderr);
}

#[test]
fn a_root_without_sys_is_a_finding() {
    if !(host::has(&["chroot", "ldd"]) && host::is_root()) {
        return;
    }
    let _turn = busy();
    let directory = tempfile::tempdir().unwrap();
    let place = |path: &str| directory.path().join(path.trim_start_matches('/'));
    let program = program::path("weir");
    let libraries = program::run_command(Command::new("ldd").arg(&program)).stdout;
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        std::fs::create_dir_all(place(library).parent().unwrap()).unwrap();
        std::fs::copy(library, place(library)).unwrap();
    }
    std::fs::copy(&program, place("weir")).unwrap();
    std::fs::write(place("weir.toml"), with_admin(&edge(&nowhere(), ""), free_admin())).unwrap();
    let mut command = Command::new("chroot");
    let output =
        program::run_command(command.arg(directory.path()).args(["/weir", "run", "-c", "/weir.toml"]));
    assert_eq!(output.code, 3, "{}", output.stderr);
    assert!(output.stderr.contains("mount -t sysfs"), "{}", output.stderr);
}

#[test]
fn a_second_weir_is_refused_with_the_pid_of_the_first() {
    let _turn = busy();
    let backend = Backend::lines("one");
    let toml = edge(&[backend.address], "").replace("127.0.0.1:0", "127.0.0.1:32701");
    let first = Weir::start(&toml);
    let output = Launch::new(&toml).fail();
    assert_eq!(output.code, 1, "{}", output.stderr);
    for word in ["127.0.0.1:32701", &first.pid().to_string()] {
        assert!(output.stderr.contains(word), "no {word:?} in\n{}", output.stderr);
    }
}

#[test]
fn a_second_weir_on_the_same_admin_address_is_refused() {
    let _turn = busy();
    let backend = Backend::lines("one");
    let toml = edge_with("admin = \"127.0.0.1:32702\"", &[backend.address], "");
    let admin = "127.0.0.1:32702".parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("weir.toml");
    std::fs::write(&config, &toml).unwrap();
    let _first = Weir::start_in(directory, &config, admin);
    let output = Launch::new(&toml).fail();
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(output.stderr.contains("127.0.0.1:32702"), "{}", output.stderr);
}

#[test]
fn an_address_of_another_program_is_named() {
    let _turn = busy();
    let other = Backend::lines("other");
    let toml = edge(&nowhere(), "").replace("127.0.0.1:0", &other.address.to_string());
    let output = Launch::new(&toml).fail();
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(output.stderr.contains(&other.address.to_string()), "{}", output.stderr);
}

#[test]
fn an_unreadable_or_broken_file_is_1() {
    let _turn = busy();
    assert_eq!(program::run("weir", &["run", "-c", "/nonexistent/weir.toml"]).code, 1);
    let output = Launch::new("[gateway.edge]\nlistne = []\n").fail();
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("listen"), "{}", output.stderr);
}

#[test]
fn an_endpoint_that_is_the_proxy_itself_never_runs_in_circles() {
    let _turn = busy();
    let toml = edge(&["127.0.0.1:32703".parse().unwrap()], "").replace("127.0.0.1:0", "127.0.0.1:32703");
    let output = Launch::new(&toml).fail();
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(output.stderr.contains("127.0.0.1:32703"), "{}", output.stderr);
}

#[test]
fn an_ordinary_user_may_run_it() {
    if !(host::has(&["setpriv"]) && host::is_root()) {
        return;
    }
    let _turn = busy();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("weir.toml");
    std::fs::write(&config, with_admin(&edge(&nowhere(), ""), free_admin())).unwrap();
    let program = for_all_users(directory.path(), &config);
    let user = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut command = Command::new("setpriv");
    command.args(user).arg(&program).args(["run", "-c"]).arg(&config);
    let mut process = Process::spawn(&mut command);
    process.line(&["listening", "gateway=edge"]);
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.exit(ms(5000)).code(), Some(0));
}
