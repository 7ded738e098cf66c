//! Shards beside each other: sockets handed over, a shard that spins before it sleeps, and one that stalls.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use weir_bench::payload::pattern::Way;
use weir_tests::client::{End, ask, connect, is_readable, read_exactly, write_all};
use weir_tests::exchange::{Received, Sending, exchange};
use weir_tests::wait::ms;
use weir_tests::{Backend, Weir, busy, holds_for, host, quiet, wait_for};

use crate::support::edge_with;

const TWO_SHARDS: &str = "shards = 2";

/// Sessions of each shard.
fn sessions(weir: &Weir) -> BTreeMap<String, f64> {
    weir.metrics().by_label("weir_shard_connections_active", "shard")
}

/// Connections that are open at the same time, each with a line answered.
fn open(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let open = |at| {
        let stream = connect(address);
        assert_eq!(ask(&stream, "hello"), "one hello", "connection {at}");
        stream
    };
    (0..count).map(open).collect()
}

#[test]
fn sockets_are_handed_to_the_shard_that_has_clearly_fewer_sessions() {
    const OPEN: usize = 200;
    let _turn = busy();
    let backend = Backend::lines("one");
    let mut weir = Weir::start(&edge_with(TWO_SHARDS, &[backend.address], ""));
    let streams = open(weir.address("edge"), OPEN);
    let shards = sessions(&weir);
    let counts = || shards.values().copied();
    assert_eq!((shards.len(), counts().sum::<f64>()), (2, OPEN as f64), "{shards:?}");
    let (least, most) = (counts().fold(f64::MAX, f64::min), counts().fold(0.0, f64::max));
    // A shard hands a socket over once it has two, and a quarter, more sessions than the least; one more came before that.
    assert!(most <= f64::max(least + 2.0, least * 1.25) + 1.0, "{shards:?}");
    // The kernel spreads connections by chance, so one shard is two ahead soon, and that often.
    let handed_over = weir.metric("weir_handovers_total", &[]);
    assert!((1.0..OPEN as f64).contains(&handed_over), "{handed_over} of {OPEN} were handed over");
    for (at, stream) in streams.iter().enumerate() {
        assert_eq!(ask(stream, "still"), "one still", "connection {at}");
    }
    drop(streams);
    weir.expect_closed("done", OPEN);
    weir.clean();
}

/// One end of connection `number`: it sends this many bytes one way and checks those that come the other way.
fn end(stream: TcpStream, number: u32, way: Way, length: u64) -> Result<Received, String> {
    let mut rng = fastrand::Rng::with_seed(number.into());
    let sending = Sending { connection: number, way, length, after_end: false, end: End::Fin };
    exchange(stream, sending, &mut rng)
}

#[test]
fn no_byte_is_lost_when_a_socket_is_handed_over_with_bytes_in_it() {
    const AT_ONCE: u32 = 32;
    const LENGTH: u64 = 300_000;
    let _turn = busy();
    let (backend, upstreams) = Backend::manual();
    let mut weir = Weir::start(&edge_with(TWO_SHARDS, &[backend.address], ""));
    let address = weir.address("edge");
    let expected = Ok(Received { bytes: LENGTH, end: Some(End::Fin) });
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..AT_ONCE)
            .map(|number| {
                scope.spawn(move || {
                    let stream = connect(address);
                    // They are in the socket when it is accepted, or handed over.
                    write_all(&stream, &number.to_le_bytes());
                    end(stream, number, Way::Up, LENGTH)
                })
            })
            .collect();
        let servers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let stream = upstreams.next();
                scope.spawn(move || {
                    let header = read_exactly(&stream, 4).try_into().expect("four bytes");
                    end(stream, u32::from_le_bytes(header), Way::Down, LENGTH)
                })
            })
            .collect();
        for thread in clients.into_iter().chain(servers) {
            assert_eq!(thread.join().expect("no panic"), expected);
        }
    });
    assert!(weir.metric("weir_handovers_total", &[]) >= 1.0);
    weir.clean();
}

/// The share of a core that Weir uses while a client asks it, every few milliseconds, for a line.
fn share_while_asked(weir: &Weir, stream: &TcpStream) -> f64 {
    let (start, used) = (Instant::now(), weir.cpu_time());
    assert!(holds_for(ms(600), || ask(stream, "hello") == "one hello"));
    (weir.cpu_time() - used).as_secs_f64() / start.elapsed().as_secs_f64()
}

#[test]
fn busy_poll_spins_between_events_and_not_without_it() {
    let _turn = quiet();
    let backend = Backend::lines("one");
    let toml = |busy_poll: &str| {
        edge_with(&format!("shards = 1\nbusy_poll = \"{busy_poll}\""), &[backend.address], "")
    };
    let mut weir = Weir::start(&toml("0s"));
    let stream = connect(weir.address("edge"));
    let sleeps = share_while_asked(&weir, &stream);
    weir.reload(&toml("100ms"));
    let spins = share_while_asked(&weir, &stream);
    // The figures are of a machine on which others may run: a shard that spins takes all that it gets, an answer takes some 100 us.
    assert!(spins > 0.25 && spins > 3.0 * sleeps, "{spins:.2} of a core with, {sleeps:.2} without");
    // Without events it sleeps after that time. The first 100 ms still spin.
    assert!(holds_for(ms(150), || true));
    let (start, used) = (Instant::now(), weir.cpu_time());
    assert!(holds_for(ms(400), || true));
    let idle = (weir.cpu_time() - used).as_secs_f64() / start.elapsed().as_secs_f64();
    assert!(idle < 0.25, "{idle:.2} of a core with nothing to do");
    weir.reload(&toml("0s"));
    let again = share_while_asked(&weir, &stream);
    assert!(spins > 3.0 * again, "{spins:.2} of a core with, {again:.2} once it is off again");
    drop(stream);
    weir.clean();
}

#[test]
fn a_process_that_was_stopped_serves_its_sockets_before_it_judges_its_timers() {
    let _turn = quiet();
    let backend = Backend::lines("one");
    let idle = "idle_timeout = \"1500ms\"\nflush_timeout = \"200ms\"";
    let mut weir = Weir::start(&edge_with(TWO_SHARDS, &[backend.address], idle));
    let address = weir.address("edge");
    let (asking, silent) = (open(address, 20), open(address, 20));
    weir.pause();
    // Sent while it stands still, and long idle by its clock when it goes on; connections are completed by the kernel.
    asking.iter().for_each(|stream| write_all(stream, b"late\n"));
    let queued: Vec<TcpStream> = (0..20).map(|_| connect(address)).collect();
    queued.iter().for_each(|stream| write_all(stream, b"new\n"));
    assert!(holds_for(ms(2000), || true));
    weir.resume();
    for stream in &asking {
        assert_eq!(read_exactly(stream, 9), b"one late\n");
        assert_eq!(ask(stream, "still"), "one still", "its time began anew");
    }
    for stream in &queued {
        assert_eq!(read_exactly(stream, 8), b"one new\n");
    }
    drop((asking, queued));
    weir.expect_closed("idle_timeout", silent.len());
    drop(silent);
    weir.clean();
}

/// A shard's thread that stands still for as long as this lives.
struct Stalled(Child);

impl Stalled {
    #[track_caller]
    fn new(weir: &Weir, shard: usize) -> Stalled {
        // The executor appends a number of its own, and has a second thread that waits for no completions.
        let name = format!("weir-shard-{shard}-");
        let tasks = std::fs::read_dir(format!("/proc/{}/task", weir.pid())).expect("the process is there");
        let has_name = |task: &PathBuf| {
            std::fs::read_to_string(task.join("comm")).is_ok_and(|found| found.starts_with(&name))
        };
        let tasks: Vec<PathBuf> = tasks.flatten().map(|task| task.path()).filter(has_name).collect();
        // The shard is held where it next waits for completions, until strace ends.
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-o", "/dev/null", "-e", "inject=io_uring_enter:delay_enter=600s"]);
        for task in &tasks {
            strace.arg("-p").arg(task.file_name().expect("its number"));
        }
        let stalled = Stalled(strace.stdin(Stdio::null()).spawn().expect("strace starts"));
        let is_held = |task: &PathBuf| {
            let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('t'))
        };
        let is_held = || tasks.iter().any(is_held);
        assert!(wait_for(ms(5000), || is_held() && holds_for(ms(50), is_held)), "{tasks:?}: none is held");
        stalled
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        // The kernel resumes a traced thread whose tracer has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn while_a_shard_stalls_others_serve_and_its_connections_wait_unharmed() {
    if !host::has(&["strace"]) {
        return;
    }
    let _turn = busy();
    let backend = Backend::lines("one");
    let mut weir = Weir::start(&edge_with(TWO_SHARDS, &[backend.address], ""));
    let address = weir.address("edge");
    let streams = open(address, 40);
    let of_others = sessions(&weir)["1"] as usize;
    assert!((10..=30).contains(&of_others), "{of_others} of 40 are on the second shard");

    let stalled = Stalled::new(&weir, 0);
    streams.iter().for_each(|stream| write_all(stream, b"during\n"));
    let answered = || streams.iter().filter(|stream| is_readable(stream, ms(0))).count();
    assert!(wait_for(ms(5000), || answered() == of_others), "{} of {of_others} are answered", answered());
    // A new connection waits if the kernel, or the other shard, gives it to the one that stalls.
    let new: Vec<TcpStream> = (0..20).map(|_| connect(address)).collect();
    new.iter().for_each(|stream| write_all(stream, b"new\n"));
    assert_eq!(weir.get("/live").status, 200);
    assert_eq!(answered(), of_others);
    drop(stalled);

    for stream in &streams {
        assert_eq!(read_exactly(stream, 11), b"one during\n");
    }
    for stream in &new {
        assert_eq!(read_exactly(stream, 8), b"one new\n");
    }
    drop((streams, new));
    weir.expect_closed("done", 60);
    weir.clean();
}
