//! Relays under a simulated kernel, seed by seed: first with faults, then without, when every session has to end.
//!
//! `WEIR_SIM_SEEDS=50000 cargo test -p weir relay::sim` runs more seeds, `WEIR_SIM_SEED=17` one of them again. For each rule of
//! the kernel that a relay can get wrong, [`Sabotage`] breaks it on purpose, and some seed must notice.

mod calls;
mod checks;
mod endings;
mod paths;
mod polls;
mod sabotage;
mod shard;

use std::collections::BTreeSet;

use weir_routing::RelayMode;

use self::calls::Seen;
use self::sabotage::Sabotage;
use self::shard::{Shard, keepalive, timeouts};
use crate::reason::Reason;
use crate::sim::net::Net;
use crate::sim::seeds;
use crate::sim::shape::{Ending, Shape};

/// Seeds of every run.
const SEEDS: u64 = 2_000;

/// Seeds within which a broken rule must show.
const SEEDS_TO_NOTICE: u64 = 2_000;

/// Budgets of every other world, which sessions meet all the time.
const SMALL_TAIL_BUDGET: usize = 128 << 10;
const SMALL_TURN: u64 = 32 << 10;

/// Turns without faults after which everything must have ended.
const TURNS_TO_END: usize = 20_000;

/// One world.
struct Sim {
    shard: Shard,
    rng: fastrand::Rng,
}

impl Sim {
    fn new(seed: u64, sabotage: Option<Sabotage>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let slots = if rng.bool() { 16 } else { 256 };
        let mut net = Net::new(rng.u64(..), rng.usize(0..5), slots);
        net.loses_refused = sabotage == Some(Sabotage::RefusedRequestLost);
        let mut shard = Shard::new(net, sabotage);
        if rng.bool() {
            shard.net.tail_budget = SMALL_TAIL_BUDGET;
            shard.turn_bytes = SMALL_TURN;
        }
        Self { shard, rng }
    }

    /// `Err`: the rule that was broken.
    fn run(&mut self) -> Result<(), String> {
        let sessions = self.rng.usize(1..4);
        let turns = self.rng.usize(20..200);
        for turn in 0..turns {
            if turn * sessions % turns < sessions {
                self.open();
            }
            self.peers_act();
            self.shard.turn();
            if self.rng.u8(..) == 0 && turn > 20 {
                let index = self.rng.usize(0..self.opened());
                self.shard.kill(index, Reason::Drain);
            }
            self.sleep();
            self.verdict()?;
        }
        self.shard.net.faults = false;
        self.relent();
        self.end()
    }

    fn opened(&self) -> usize {
        self.shard.net.sockets.len() / 2
    }

    fn open(&mut self) {
        let shapes = [self.shape(), self.shape()];
        let rng = &mut self.rng;
        let mut span = |never: u8| if rng.u8(..) < never { 0 } else { rng.u64(20..3_000) };
        let timeouts = timeouts(span(60), span(60), span(10), span(200));
        let keepalive = keepalive(span(60));
        let mode =
            [RelayMode::Auto, RelayMode::Auto, RelayMode::Copy, RelayMode::Splice][self.rng.usize(0..4)];
        self.shard.open(shapes, timeouts, keepalive, mode);
    }

    fn shape(&mut self) -> Shape {
        let rng = &mut self.rng;
        let endings = [
            Ending::Fin,
            Ending::Close,
            Ending::Reset,
            Ending::FinReset,
            Ending::Answer,
            Ending::Vanish,
            Ending::Silence,
        ];
        let most = [1, 200, 64 << 10, 8 << 20][rng.usize(0..4)];
        let mut room = || 1 << rng.u32(12..21);
        let (window, rx_room, tx_room) = (room(), room(), room());
        Shape {
            to_send: rng.u64(0..most),
            ending: endings[rng.usize(0..endings.len())],
            reads: rng.u8(..) > 20,
            window,
            rx_room,
            tx_room,
            segment: [100, 1448, 4096, 32768][rng.usize(0..4)],
        }
    }

    /// Each peer may send, end, receive and read.
    fn peers_act(&mut self) {
        for socket in 0..self.shard.net.sockets.len() {
            let rng = &mut self.rng;
            let dice = rng.u8(..);
            let count = 1 << rng.u32(0..21);
            let net = &mut self.shard.net;
            if dice & 1 != 0 {
                net.peer_sends(socket, count);
            }
            if dice & 6 == 6 {
                net.peer_ends(socket);
            }
            if dice & 8 != 0 {
                net.flow(socket, count);
            }
            if dice & 16 != 0 {
                net.peer_reads(socket, count);
            }
        }
    }

    /// Mostly a moment; sometimes long, sometimes the process is stopped while its peers go on.
    fn sleep(&mut self) {
        if self.shard.needs_no_sleep() {
            self.shard.net.now += self.rng.u64(0..300);
            return;
        }
        let pause = match self.rng.u8(..) {
            0..4 => {
                self.shard.net.now += self.rng.u64(0..30_000_000);
                (0..5).for_each(|_| self.peers_act());
                0
            }
            4..20 => self.rng.u64(0..100_000),
            _ => self.rng.u64(0..3_000),
        };
        self.shard.net.now += pause;
    }

    /// Before the second phase: everybody reads, and of two peers that wait for each other's end one ends.
    fn relent(&mut self) {
        for (index, socket) in self.shard.net.sockets.iter_mut().enumerate() {
            socket.peer.reads = true;
            if index % 2 == 0 && socket.peer.ending == Ending::Answer {
                socket.peer.ending = Ending::Fin;
            }
        }
    }

    /// The second phase.
    fn end(&mut self) -> Result<(), String> {
        for _ in 0..TURNS_TO_END {
            let mut busy = self.peers_finish();
            busy |= self.shard.turn();
            self.verdict()?;
            if busy {
                self.shard.net.now += 200;
            } else if self.shard.all_closed() {
                self.shard.check_delivery();
                return self.verdict();
            } else if let Some(timer) = self.shard.next_timer() {
                self.shard.net.now = self.shard.net.now.max(timer);
            } else {
                return Err(format!("nothing will ever happen again\n{}", self.shard.describe()));
            }
        }
        Err(format!("it has not ended after {TURNS_TO_END} turns\n{}", self.shard.describe()))
    }

    fn peers_finish(&mut self) -> bool {
        let mut busy = false;
        for socket in 0..self.shard.net.sockets.len() {
            let net = &mut self.shard.net;
            busy |= net.flow(socket, usize::MAX);
            busy |= net.peer_reads(socket, usize::MAX);
            busy |= net.peer_sends(socket, usize::MAX);
            busy |= net.peer_ends(socket);
            busy |= net.peer_is_missed(socket);
        }
        busy
    }

    fn verdict(&self) -> Result<(), String> {
        match &self.shard.net.broken {
            Some(broken) => Err(format!("{broken}\n{}", self.shard.describe())),
            None => Ok(()),
        }
    }
}

#[test]
fn whatever_happens_bytes_arrive_and_ends_are_told() {
    for seed in seeds(SEEDS) {
        if let Err(broken) = Sim::new(seed, None).run() {
            panic!("seed {seed} (WEIR_SIM_SEED={seed} runs it again): {broken}");
        }
    }
}

#[test]
fn every_broken_rule_is_noticed() {
    for sabotage in Sabotage::ALL {
        let noticed = (0..SEEDS_TO_NOTICE).any(|seed| Sim::new(seed, Some(sabotage)).run().is_err());
        assert!(noticed, "no seed notices {sabotage:?}");
    }
}

#[test]
fn the_simulation_gets_everywhere() {
    let mut reasons = BTreeSet::new();
    let mut counts = [0; 10];
    for seed in 0..SEEDS_TO_NOTICE {
        let mut sim = Sim::new(seed, None);
        sim.run().expect("it holds");
        let Seen {
            copied,
            spliced,
            tails,
            full_pipes,
            dirty_pipes,
            missing_pipes,
            retries,
            given_up,
            left_out,
            ..
        } = sim.shard.seen;
        let refused = sim.shard.net.refused;
        let pipes = [full_pipes, dirty_pipes, missing_pipes];
        let seen = [copied, spliced, tails, retries, given_up, left_out, refused];
        let seen: Vec<u64> = seen.into_iter().chain(pipes).collect();
        (0..seen.len()).for_each(|index| counts[index] += seen[index]);
        reasons.append(&mut sim.shard.seen.reasons);
    }
    let wanted = [
        Reason::Done,
        Reason::ClientReset,
        Reason::ClientTimeout,
        Reason::UpstreamReset,
        Reason::UpstreamTimeout,
        Reason::IdleTimeout,
        Reason::HalfCloseTimeout,
        Reason::MaxDuration,
        Reason::Drain,
    ];
    assert_eq!(reasons, wanted.map(Reason::as_str).into());
    assert!(counts.iter().all(|&count| count > 50), "some of these hardly happened: {counts:?}");
}
