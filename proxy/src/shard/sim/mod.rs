//! Sessions (dial, relay, end) under a simulated kernel, driven by the core that serves connections: first with faults, then without,
//! when every session has to end.
//!
//! `WEIR_SIM_SEEDS=50000 cargo test -p weir shard::sim` runs more seeds, `WEIR_SIM_SEED=17` one of them again. Each [`Sabotage`]
//! breaks a rule on purpose, and some seed must notice.

mod calls;
mod checks;
mod driver;
mod machine;
mod posted;
mod ring;
mod sabotage;
mod seen;
mod table;
mod world;

use std::time::Duration;

use self::driver::Driver;
use self::sabotage::Sabotage;
use self::seen::{REASONS, SITUATIONS, Seen};
use self::table::SERVICES;
use self::world::Answers;
use crate::sim::net::Net;
use crate::sim::seeds;
use crate::sim::shape::Ending;

/// Seeds of every run.
const SEEDS: u64 = 10_000;

/// Seeds within which a broken rule must show.
const SEEDS_TO_NOTICE: u64 = 2_000;

/// Turns without faults after which everything must have ended.
const TURNS_TO_END: usize = 20_000;

/// One world.
struct Sim {
    driver: Driver,
    rng: fastrand::Rng,
}

impl Sim {
    fn new(seed: u64, sabotage: Option<Sabotage>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let slots = if rng.bool() { 16 } else { 256 };
        let net = Net::new(rng.u64(..), rng.usize(0..5), slots);
        Self { driver: Driver::new(net, &mut rng, sabotage), rng }
    }

    /// `Err`: the rule that was broken.
    fn run(&mut self) -> Result<(), String> {
        let sessions = self.rng.usize(1..12);
        let turns = self.rng.usize(20..200);
        for turn in 0..turns {
            if turn * sessions % turns < sessions {
                self.driver.accept();
            }
            self.listeners_change();
            self.peers_act();
            self.driver.turn();
            match self.rng.u8(..) {
                0 => self.driver.drain(Duration::from_millis(self.rng.u64(0..400))),
                1..8 => self.driver.refuses_one = true,
                8..14 => self.driver.change_table(),
                _ => {}
            }
            self.sleep();
            self.verdict()?;
        }
        self.relent();
        self.end()
    }

    /// Listeners come and go, and so do routes of this host.
    fn listeners_change(&mut self) {
        let rng = &mut self.rng;
        let mut world = self.driver.world.borrow_mut();
        if rng.u8(..) < 90 {
            let endpoints = SERVICES[rng.usize(0..3)].1;
            let address = endpoints[rng.usize(0..endpoints.len())].parse().expect("an address");
            let answers = if rng.u8(..) < 100 { Answers::Accepts } else { Answers::ALL[rng.usize(0..6)] };
            world.answers.insert(address, answers);
        }
        if rng.u8(..) < 8 {
            world.has_source_address = rng.bool();
        }
    }

    /// Whether the peer of a socket can act: a client, or an upstream that has a connection.
    fn has_peer(&self, socket: usize) -> bool {
        self.driver.world.borrow().attempts.get(&socket).is_none_or(|attempt| attempt.established)
    }

    /// Each peer may send, end, receive and read.
    fn peers_act(&mut self) {
        let sockets = self.driver.world.borrow().net.sockets.len();
        for socket in 0..sockets {
            let rng = &mut self.rng;
            let dice = rng.u8(..);
            let count = 1 << rng.u32(0..21);
            if !self.has_peer(socket) {
                continue;
            }
            let net = &mut self.driver.world.borrow_mut().net;
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
        let pause = match self.rng.u8(..) {
            0..4 => {
                self.driver.world.borrow_mut().net.now += self.rng.u64(0..10_000_000);
                (0..5).for_each(|_| self.peers_act());
                0
            }
            4..40 => self.rng.u64(0..400_000),
            40..120 => self.rng.u64(0..20_000),
            _ => self.rng.u64(0..3_000),
        };
        self.driver.world.borrow_mut().net.now += pause;
    }

    /// Before the second phase: no faults, every peer reads, and of two peers that wait for each other's end one ends.
    fn relent(&mut self) {
        let mut world = self.driver.world.borrow_mut();
        world.net.faults = false;
        for socket in 0..world.net.sockets.len() {
            let is_client = !world.attempts.contains_key(&socket);
            let peer = &mut world.net.sockets[socket].peer;
            peer.reads = true;
            if is_client && peer.ending == Ending::Answer {
                peer.ending = Ending::Fin;
            }
        }
    }

    /// The second phase.
    fn end(&mut self) -> Result<(), String> {
        for _ in 0..TURNS_TO_END {
            let mut busy = self.peers_finish();
            busy |= self.driver.turn();
            self.verdict()?;
            let next = self.driver.next_event();
            let now = self.driver.world.borrow().net.now;
            self.driver.world.borrow_mut().net.now = match next {
                _ if busy => now + 200,
                _ if self.driver.is_idle() => break,
                Some(next) => next.max(now),
                None => return self.fail("nothing will ever happen again"),
            }
        }
        if !self.driver.is_idle() {
            return self.fail("it has not ended");
        }
        self.driver.check_the_end();
        self.verdict()
    }

    fn peers_finish(&mut self) -> bool {
        let mut busy = false;
        let sockets = self.driver.world.borrow().net.sockets.len();
        for socket in (0..sockets).filter(|&socket| self.has_peer(socket)).collect::<Vec<_>>() {
            let net = &mut self.driver.world.borrow_mut().net;
            busy |= net.flow(socket, usize::MAX);
            busy |= net.peer_reads(socket, usize::MAX);
            busy |= net.peer_sends(socket, usize::MAX);
            busy |= net.peer_ends(socket);
            busy |= net.peer_is_missed(socket);
        }
        busy
    }

    fn fail(&self, claim: &str) -> Result<(), String> {
        Err(format!("{claim}\n{}", self.driver.describe()))
    }

    fn verdict(&self) -> Result<(), String> {
        match &self.driver.world.borrow().net.broken {
            Some(broken) => Err(format!("{broken}\n{}", self.driver.describe())),
            None => Ok(()),
        }
    }
}

#[test]
fn whatever_happens_sessions_end_once_and_leave_nothing() {
    for seed in seeds(SEEDS) {
        if let Err(broken) = Sim::new(seed, None).run() {
            panic!("seed {seed} (WEIR_SIM_SEED={seed} runs it again): {broken}");
        }
    }
}

#[test]
fn every_broken_rule_is_noticed() {
    for sabotage in Sabotage::ALL {
        let noticed = (0..SEEDS_TO_NOTICE).find(|&seed| Sim::new(seed, Some(sabotage)).run().is_err());
        eprintln!("{sabotage:?}: seed {noticed:?}");
        assert!(noticed.is_some(), "no seed notices {sabotage:?}");
    }
}

#[test]
fn the_simulation_gets_everywhere() {
    let mut seen = Seen::default();
    for seed in 0..SEEDS_TO_NOTICE {
        let mut sim = Sim::new(seed, None);
        sim.run().expect("it holds");
        for (what, count) in &sim.driver.world.borrow().seen.0 {
            *seen.0.entry(what.clone()).or_default() += count;
        }
    }
    let reasons = REASONS.map(|reason| format!("reason {}", reason.as_str()));
    for what in reasons.into_iter().chain(SITUATIONS.map(str::to_owned)) {
        let count = seen.0.remove(&what).unwrap_or(0);
        assert!(count >= 25, "this happened {count} times: {what}");
    }
    assert_eq!(seen.0.into_keys().collect::<Vec<_>>(), ["reason limit_service"]);
}
