//! No thread can be made: work that needs one is done without it or later, and the process goes on.

use std::process::Command;

use weir_tests::client::{ask, ask_once, connect};
use weir_tests::metrics::{Metrics, get};
use weir_tests::process::Process;
use weir_tests::wait::ms;
use weir_tests::{Backend, busy, host, program, wait_for};

use crate::support::{edge, fixed, for_all_users};

#[test]
fn without_threads_names_are_still_asked_and_reloads_taken() {
    if !(host::has(&["setpriv", "prlimit"]) && host::is_root()) {
        return;
    }
    let _turn = busy();
    let backend = Backend::lines("one");
    let (directory, config, gateway, admin) = fixed(&edge(&[backend.address], ""));
    let program = for_all_users(directory.path(), &config);
    // A user of its own, for the limit counts all threads of a user.
    let user = fastrand::u32(100_000..1_000_000).to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
        .arg(&program)
        .args(["run", "-c"])
        .arg(&config);
    let mut weir = Process::spawn(&mut command);
    weir.line(&["listening", &gateway.to_string()]);
    let session = connect(gateway);
    assert_eq!(ask(&session, "hello"), "one hello");
    let mut limit = Command::new("setpriv");
    limit.args(["--reuid", &user, "--regid", &user, "--clear-groups", "prlimit", "--nproc=1:1", "--pid"]);
    let output = program::run_command(limit.arg(weir.pid().to_string()));
    assert_eq!(output.code, 0, "{}", output.stderr);

    let generation = || {
        let answer = get(admin, "/metrics", "localhost").expect("an answer");
        Metrics::parse(&answer.body).sum("weir_config_generation", &[])
    };
    let by_name = |name: &str| format!("\"{name}:{}\"", backend.address.port());
    let toml = std::fs::read_to_string(&config).expect("the configuration can be read");
    for round in 0..20 {
        let before = generation();
        let names = [by_name("localhost"), by_name(&format!("host-{round}.localhost"))].join(", ");
        std::fs::write(&config, toml.replace(&format!("\"{}\"", backend.address), &names))
            .expect("it can be written");
        let taken = wait_for(ms(5000), || !weir.is_running() || generation() > before);
        assert!(taken && weir.is_running(), "round {round}:\n{}", weir.output());
        let answered =
            wait_for(ms(5000), || ask_once(gateway, "hello").is_ok_and(|answer| answer == "one hello"));
        assert!(answered, "round {round}: the name has no address:\n{}", weir.output());
        assert_eq!(ask(&session, "still"), "one still");
    }
}
