//! Churn: connections of all sizes and endings, many at once, each byte verified at both ends. Nothing is lost, doubled or
//! crossed, each end is passed on as it was, and afterwards Weir holds nothing.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weir_bench::payload::pattern::Way;
use weir_tests::client::{End, PATIENCE, connect, is_reset, write_all};
use weir_tests::exchange::{Received, Sending, exchange};
use weir_tests::{Backend, Weir, quiet, wait_for};

use crate::support::edge_with;

/// Connections at once.
const LANES: u32 = 32;

/// How a connection is to go: both of its ends make it from (seed, number), so that they need to exchange nothing else.
#[derive(Clone, Copy, Debug)]
struct Plan {
    up: u64,
    down: u64,
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    /// Each side sends what it has, and a FIN.
    Orderly,
    /// The upstream answers after the client's FIN.
    AnswerAfterFin,
    /// The client speaks after the upstream's FIN.
    SpeakAfterFin,
    /// The client resets after `up` bytes.
    ClientResets,
    /// The upstream resets after `down` bytes.
    UpstreamResets,
}

impl Plan {
    fn of(seed: u64, number: u32) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ u64::from(number) << 32);
        // Most connections are small, some fill every buffer on the way; 1 MiB is the most.
        let mut size = || match rng.u32(0..100) {
            0..10 => 0,
            10..80 => rng.u64(1..4 << 10),
            80..98 => rng.u64(1..64 << 10),
            _ => rng.u64(64 << 10..=1 << 20),
        };
        let (up, down) = (size(), size());
        let ending = match rng.u32(0..10) {
            0..4 => Ending::Orderly,
            4..6 => Ending::AnswerAfterFin,
            6 => Ending::SpeakAfterFin,
            7..9 => Ending::ClientResets,
            _ => Ending::UpstreamResets,
        };
        Self { up, down, ending }
    }

    /// The bytes that one side sends, and how.
    fn sending(self, number: u32, way: Way) -> Sending {
        let (length, after, resets) = match way {
            Way::Up => (self.up, Ending::SpeakAfterFin, Ending::ClientResets),
            Way::Down => (self.down, Ending::AnswerAfterFin, Ending::UpstreamResets),
        };
        let end = if self.ending == resets { End::Reset } else { End::Fin };
        Sending { connection: number, way, length, after_end: self.ending == after, end }
    }

    /// Whether one side received the bytes of the plan. `way` is the stream it received.
    fn judge(self, way: Way, received: Received) -> Result<(), String> {
        let (length, resets) = match way {
            Way::Up => (self.up, self.ending == Ending::ClientResets),
            Way::Down => (self.down, self.ending == Ending::UpstreamResets),
        };
        let broken_by_this_side = matches!(
            (way, self.ending),
            (Way::Up, Ending::UpstreamResets) | (Way::Down, Ending::ClientResets)
        );
        let right = match received.end {
            _ if broken_by_this_side => received.bytes <= length,
            Some(End::Fin) => !resets && received.bytes == length,
            Some(End::Reset) => resets && received.bytes <= length,
            None => false,
        };
        if right { Ok(()) } else { Err(format!("{way:?} of {self:?} came out as {received:?}")) }
    }
}

/// Violations, by connection.
type Faults = Arc<Mutex<BTreeMap<u32, String>>>;

fn note(faults: &Faults, number: u32, verdict: Result<(), String>) {
    if let Err(fault) = verdict {
        faults.lock().unwrap_or_else(PoisonError::into_inner).insert(number, fault);
    }
}

/// The upstream's end: a header of four bytes names the connection.
fn serve(mut stream: TcpStream, seed: u64, faults: &Faults) {
    let mut header = [0; 4];
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    match stream.read_exact(&mut header) {
        Ok(()) => {}
        // A client that resets may take its header with it.
        Err(error) if is_reset(&error) => return,
        Err(error) => return note(faults, u32::MAX, Err(format!("no header: {error}"))),
    }
    let number = u32::from_le_bytes(header);
    let plan = Plan::of(seed, number);
    let mut rng = fastrand::Rng::with_seed(seed ^ !u64::from(number));
    let received = exchange(stream, plan.sending(number, Way::Down), &mut rng);
    note(faults, number, received.and_then(|received| plan.judge(Way::Up, received)));
}

fn call(address: SocketAddr, seed: u64, number: u32) -> Result<(), String> {
    let plan = Plan::of(seed, number);
    let mut rng = fastrand::Rng::with_seed(seed ^ u64::from(number));
    let stream = connect(address);
    write_all(&stream, &number.to_le_bytes());
    let received = exchange(stream, plan.sending(number, Way::Up), &mut rng)?;
    plan.judge(Way::Down, received)
}

/// The proxy between clients and upstreams, or none.
enum Between {
    /// Weir, with this `relay`.
    Weir(&'static str),
    /// Nothing: shows that what is found wrong is Weir's doing, not the checker's.
    Nothing,
}

fn churn(connections: u32, between: Between) {
    let _turn = quiet();
    let seed = std::env::var("WEIR_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    eprintln!("WEIR_SEED={seed}");
    let faults = Faults::default();
    let backends: Vec<Backend> = (0..4)
        .map(|_| {
            let faults = faults.clone();
            Backend::start(move |stream| serve(stream, seed, &faults))
        })
        .collect();
    let endpoints: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    let mut weir = match between {
        Between::Weir(relay) => {
            Some(Weir::start(&edge_with(&format!("relay = \"{relay}\""), &endpoints, "")))
        }
        Between::Nothing => None,
    };
    let address = weir.as_mut().map_or(endpoints[0], |weir| weir.address("edge"));
    rush(connections, |number| note(&faults, number, call(address, seed, number)));
    if let Some(weir) = weir {
        let opened = || weir.metric("weir_connections_opened_total", &[]);
        assert!(
            wait_for(Duration::from_secs(2), || opened() == f64::from(connections)),
            "{} opened",
            opened()
        );
        weir.clean();
    }
    let faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
    let some: Vec<_> = faults.iter().take(10).collect();
    assert!(
        faults.is_empty(),
        "{} of {connections} connections went wrong, seed {seed}: {some:#?}",
        faults.len()
    );
}

/// Runs `call` for each number, `LANES` at once.
fn rush(connections: u32, call: impl Fn(u32) + Sync) {
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= connections {
                        return;
                    }
                    call(number);
                }
            });
        }
    });
}

#[test]
fn twenty_thousand_connections_lose_double_and_cross_nothing() {
    churn(20_000, Between::Weir("auto"));
}

#[test]
fn two_thousand_connections_in_splice_alone() {
    churn(2_000, Between::Weir("splice"));
}

#[test]
fn two_thousand_connections_without_weir_are_right_as_well() {
    churn(2_000, Between::Nothing);
}

#[test]
#[ignore = "long: run by CI"]
fn long_churn_of_a_hundred_thousand_connections() {
    churn(100_000, Between::Weir("auto"));
}

#[test]
fn plans_have_every_ending_and_size() {
    let plans: Vec<Plan> = (0..1000).map(|number| Plan::of(7, number)).collect();
    for ending in [
        Ending::Orderly,
        Ending::AnswerAfterFin,
        Ending::SpeakAfterFin,
        Ending::ClientResets,
        Ending::UpstreamResets,
    ] {
        assert!(plans.iter().filter(|plan| plan.ending == ending).count() > 50, "{ending:?}");
    }
    assert!(plans.iter().any(|plan| plan.up > 256 << 10) && plans.iter().any(|plan| plan.down == 0));
}
