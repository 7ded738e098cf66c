//! The control thread is never late, however large the configuration that is being loaded.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use weir_tests::metrics::get;
use weir_tests::wait::ms;
use weir_tests::{Weir, quiet, wait_for};

const LISTENERS: usize = 200;
const ROUTES: usize = 10_000;
const WARNINGS: usize = 4_000;
const ROUNDS: usize = 5;

/// How long `/live` may take on an idle machine.
const LIVE: Duration = Duration::from_millis(50);

/// How long after TERM its line in the log may come.
const TAKEN: Duration = Duration::from_millis(100);

/// A gateway with this many listeners, and routes of which the first ones are warned of: host bits in a network.
fn large(listeners: usize, routes: usize, warnings: usize) -> String {
    let listen = vec!["\"127.0.0.1:0\""; listeners].join(", ");
    let mut toml = format!("[gateway.edge]\nlisten = [{listen}]\nto = [{{ service = \"db\" }}]\n");
    toml += "[service.db]\nendpoints = [\"127.0.0.1:9\"]\n";
    for route in 0..routes {
        let (high, low, host) = (route / 250, route % 250, u8::from(route < warnings));
        toml += &format!(
            "[[route]]\nname = \"r{route}\"\nmatch = [{{ source_subnets = [\"10.{high}.{low}.{host}/24\"] }}]\n\
             to = [{{ service = \"db\" }}]\n"
        );
    }
    toml
}

/// A server of this process that answers at once: how late it is shows how late this machine makes any server.
fn reference() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nlive\n");
        }
    });
    address
}

/// How long a server took to answer at worst, until `stop`.
fn worst(address: SocketAddr, stop: &AtomicBool) -> Duration {
    let mut worst = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let answer = get(address, "/live", "localhost").unwrap_or_else(|error| panic!("GET /live: {error}"));
        assert_eq!(answer.status, 200);
        worst = worst.max(start.elapsed());
    }
    worst
}

/// The result of `work`, and the longest delay of each server during it.
fn worst_while<T, const N: usize>(servers: &[SocketAddr; N], work: impl FnOnce() -> T) -> (T, [Duration; N]) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        let asking = servers.map(|server| scope.spawn(move || worst(server, stop)));
        let done = work();
        stop.store(true, Ordering::Relaxed);
        (done, asking.map(|asking| asking.join().expect("it asked")))
    })
}

#[test]
fn live_answers_within_50_ms_while_10_000_routes_with_4_000_warnings_come_into_force() {
    let _turn = quiet();
    let weir = Weir::start(&large(1, 10, 0));
    let mut in_time = 0;
    for round in 0..ROUNDS {
        // By the same lines as below: a shard may take a table after the line, and its generation is counted only then.
        let lines = || weir.output().matches("configuration in force").count();
        let before = lines();
        let took = Instant::now();
        let ((), [live, machine]) = worst_while(&[weir.admin(), reference()], || {
            weir.rename_over(&large(LISTENERS + round, ROUTES, WARNINGS));
            assert!(
                wait_for(Duration::from_secs(120), || lines() > before),
                "not in force:\n{}",
                weir.output()
            );
        });
        println!(
            "round {round}: /live took {live:?} at worst, the reference {machine:?}, the reload {:?}",
            took.elapsed()
        );
        // Weir's threads compete with the same processes as the reference, on the same cores and at the same time, but wake
        // more often for an answer (accept, hand over, request, end).
        in_time += usize::from(live <= LIVE + 2 * machine);
    }
    // A loop that does the work itself is late in each round. A machine with more work than cores is in some: it may stop the
    // loader while that holds a lock of the allocator or of the address space.
    assert!(in_time > ROUNDS / 2, "/live was in time in {in_time} of {ROUNDS} rounds");
    assert_eq!(
        weir.output().matches("warning[host-bits]").count(),
        ROUNDS * 20,
        "20 warnings a reload are printed"
    );
    assert_eq!(weir.output().matches("and 3,980 more warnings").count(), ROUNDS);
}

#[test]
fn term_is_taken_at_once_wherever_the_loading_of_a_large_configuration_is() {
    let _turn = quiet();
    // So much CPU after the HUP: reading, compiling, printing, binding.
    for used in [10, 100, 200, 300].map(ms) {
        let mut weir = Weir::start(&large(1, 10, 0));
        weir.write(&large(LISTENERS, ROUTES, WARNINGS));
        let idle = weir.cpu_time();
        weir.signal(Signal::HUP);
        let in_force = || weir.output().matches("configuration in force").count() > 1;
        let is_there = || weir.cpu_time() >= idle + used || in_force();
        assert!(wait_for(Duration::from_secs(20), is_there), "HUP starts no loading");
        let start = Instant::now();
        weir.signal(Signal::TERM);
        let (taken, [machine]) = worst_while(&[reference()], || {
            let taken = wait_for(Duration::from_secs(20), || weir.output().contains("draining"));
            taken.then(|| start.elapsed()).expect("TERM is taken")
        });
        println!("{used:?} of CPU after HUP: TERM taken after {taken:?}, the reference took {machine:?}");
        // The signal's thread, the control loop, the one that prints and the one that collects wake in turn.
        assert!(taken <= TAKEN + 4 * machine, "taken after {taken:?}, the reference took {machine:?}");
        assert!(weir.exit(Duration::from_secs(20)).success());
    }
}
