//! Descriptors run out, by a limit that is lowered and by using them all: running transfers go on, nothing spins, the admin
//! server answers, and accepting goes on within a second after there is room.

use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use weir_tests::client::{ask, ask_once, connect, try_ask, try_connect};
use weir_tests::wait::ms;
use weir_tests::{Backend, Launch, Weir, holds_for, host, quiet, wait_for};

use crate::support::edge;

/// While no descriptor is left: sessions go on, nothing spins, and the admin server answers.
fn check_starved(weir: &Weir, running: &TcpStream) {
    let cpu = weir.cpu_time();
    let start = Instant::now();
    assert!(holds_for(ms(1000), || try_ask(running, "still").is_ok_and(|answer| answer == "one still")));
    let share = (weir.cpu_time() - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    // The one running connection and the waits between its lines cost some; a spin costs a whole core.
    assert!(share < 0.2, "{:.0} % of a core while descriptors are out", share * 100.0);
    assert_eq!(weir.get("/live").status, 200);
    assert!(weir.metrics().has("weir_connections_opened_total"));
}

/// Within a second after there is room.
fn check_recovered(address: SocketAddr) {
    let room = Instant::now();
    let served = wait_for(ms(3000), || {
        try_connect(address).is_ok_and(|stream| {
            stream.set_read_timeout(Some(ms(250))).is_ok() && try_ask(&stream, "hello").is_ok()
        })
    });
    assert!(served && room.elapsed() <= ms(1000), "served again: {served}, after {:?}", room.elapsed());
}

#[test]
fn a_lowered_limit_stops_accepting_and_a_raised_one_starts_it_again() {
    let _turn = quiet();
    let backend = Backend::lines("one");
    let mut weir = Weir::start(&edge(&[backend.address], ""));
    let address = weir.address("edge");
    let running = connect(address);
    assert_eq!(ask(&running, "hello"), "one hello");
    for _ in 0..3 {
        let old = weir.limit_descriptors(weir.exhausting_limit());
        // An armed accept keeps the limit under which it was armed: some of these may still be accepted, and reset.
        let waiting: Vec<TcpStream> = (0..16).filter_map(|_| try_connect(address).ok()).collect();
        check_starved(&weir, &running);
        drop(waiting);
        weir.limit_descriptors(old);
        check_recovered(address);
    }
    assert_eq!(ask(&running, "after"), "one after");
    drop(running);
    weir.clean();
}

#[test]
fn all_descriptors_in_use_stop_accepting_and_freed_ones_start_it_again() {
    if !host::has(&["prlimit"]) {
        return;
    }
    let _turn = quiet();
    let backend = Backend::lines("one");
    // The limit is high on purpose: here descriptors are to run out first, not connections.
    let toml = crate::support::edge_with("max_connections = 100000", &[backend.address], "");
    let mut weir = Launch::new(&toml).under(&["prlimit", "--nofile=1100:1100"]).start();
    let address = weir.address("edge");
    let running = connect(address);
    assert_eq!(ask(&running, "hello"), "one hello");
    for _ in 0..3 {
        let mut held = Vec::new();
        while held.len() < 700 {
            let Ok(stream) = try_connect(address) else { break };
            stream.set_read_timeout(Some(ms(300))).expect("a socket takes a timeout");
            let served = try_ask(&stream, "hello").is_ok();
            held.push(stream);
            if !served {
                break;
            }
        }
        assert!((300..700).contains(&held.len()), "descriptors ran out after {} connections", held.len());
        check_starved(&weir, &running);
        held.truncate(held.len() / 2);
        check_recovered(address);
        drop(held);
    }
    drop(running);
    weir.clean();
}

#[test]
fn sessions_that_are_idle_hold_two_descriptors_and_no_pipe() {
    let _turn = quiet();
    let backend = Backend::lines("one");
    let mut weir = Weir::start(&edge(&[backend.address], ""));
    let address = weir.address("edge");
    let before = weir.descriptors();
    let held: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
    for stream in &held {
        assert_eq!(ask(stream, "hello"), "one hello");
    }
    let two_each =
        || weir.descriptors().others <= before.others + 200 && weir.metric("weir_pipes_in_use", &[]) == 0.0;
    assert!(wait_for(ms(2000), two_each), "{before:?} became {:?}", weir.descriptors());
    drop(held);
    weir.clean();
    assert!(ask_once(address, "hello").is_ok());
}
