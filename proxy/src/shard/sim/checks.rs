//! What must hold after each turn, and in the end.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use super::driver::{Account, Driver};
use super::table::{BACK_TO_US, SERVICES};
use super::world::{Attempt, Expected, Progress};
use crate::boards::health::FAILURES;
use crate::clock::Millis;
use crate::reason::Reason;
use crate::shard::session::Stage;
use crate::sim::net::Poll;

/// The wheel's tick in milliseconds; deadlines are rounded up to it.
const TICK: u64 = 10;

/// How long an attempt may have taken when its client leaves, before it counts as failed.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(1);

impl Driver {
    /// Notes that a rule is broken.
    fn require(&self, holds: bool, claim: impl FnOnce() -> String) {
        self.world.borrow_mut().net.require(holds, claim);
    }

    pub(super) fn check_turn(&mut self) {
        let now = self.core.now;
        for index in 0..self.accounts.len() {
            if !self.accounts[index].is_released {
                self.check_session(index, now);
            }
        }
        self.check_counts();
        self.check_tables();
        self.check_endpoints();
    }

    /// A session ends once, for a reason that is true, and not later than its limits.
    fn check_session(&mut self, index: usize, now: Millis) {
        let account = &self.accounts[index];
        let reading = account.series.read();
        let ends: Vec<Reason> = Reason::ALL
            .iter()
            .copied()
            .flat_map(|reason| std::iter::repeat_n(reason, reading.closed[reason as usize] as usize))
            .collect();
        let session = self.session(account.id);
        let is_there = session.is_some();
        let stage = session.map_or("ended", |session| session.stage.name());
        let id = account.id;
        let wanted = usize::from(stage == "ended");
        self.require(reading.opened == 1 && ends.len() == wanted, || {
            format!("{id:?} is {stage}: opened {} times, ended {ends:?}", reading.opened)
        });
        match stage {
            "dialling" => self.check_dialling(account, now),
            "relaying" => self.check_relaying(account),
            _ if account.reason.is_none() => {
                if let Some(&reason) = ends.first() {
                    self.accounts[index].reason = Some(reason);
                    self.world.borrow_mut().seen.reason(reason);
                    self.check_end(&self.accounts[index], reason, now);
                }
            }
            _ => {}
        }
        self.check_begun(&self.accounts[index], now);
        let account = &self.accounts[index];
        if let (Some(by), None, Some(session)) = (account.drained_by, account.reason, self.session(id)) {
            let is_late = by.0 + TICK <= now.0 && !session.is_queued;
            self.require(!is_late, || format!("{id:?} outlives a drain that was over at {by:?}"));
        }
        self.accounts[index].is_released = !is_there;
    }

    /// The last attempt of a session.
    fn attempt(&self, account: &Account) -> Option<Attempt> {
        self.world.borrow().attempts.values().rfind(|attempt| attempt.id == account.id).cloned()
    }

    /// No attempt begins when the time of the dial is over.
    fn check_begun(&self, account: &Account, now: Millis) {
        let begins = self.attempt(account).filter(|it| it.since == self.world.borrow().net.now);
        let timeouts = &account.policy.timeouts;
        let spans = [timeouts.connect_deadline, timeouts.idle, timeouts.max_duration];
        let is_over = spans.into_iter().any(|span| is_past(account, span, now));
        self.require(begins.is_none() || !is_over, || format!("{:?} dials too late: {begins:?}", account.id));
    }

    /// Time limits of a dial hold within a tick, never early; a client's reset ends it.
    fn check_dialling(&self, account: &Account, now: Millis) {
        let id = account.id;
        let timeouts = &account.policy.timeouts;
        for span in [timeouts.connect_deadline, timeouts.idle, timeouts.max_duration].into_iter().flatten() {
            let is_late = account.stamp.after(span).0 + TICK < now.0;
            self.require(!is_late, || format!("{id:?} still dials, {span:?} after {:?}", account.stamp));
        }
        let attempts = self.world.borrow().attempts.values().filter(|attempt| attempt.id == id).count();
        let most = account.policy.connect_attempts as usize;
        self.require(attempts <= most, || format!("{id:?} has made {attempts} attempts of {most}"));
        let is_dead = self.world.borrow().net.sockets[account.client].dead_at.is_some();
        let is_heard = !is_dead || self.has_event(id, account.client);
        self.require(is_heard, || format!("{id:?} dials for a client that has reset"));
        let Some(attempt) = self.attempt(account).filter(|attempt| attempt.progress < Progress::Served)
        else {
            return;
        };
        let micros = self.world.borrow().net.now;
        if let Some(span) = timeouts.connect {
            let is_late = Millis(attempt.since / 1000).after(span).0 + TICK < now.0 && attempt.cancels == 0;
            self.require(!is_late, || format!("{id:?} waits longer than {span:?}: {attempt:?}"));
        }
        if attempt.cancels > 0 && attempt.cancelled_at == micros {
            let due = timeouts.connect.map(|span| attempt.since + span.as_micros() as u64);
            let is_due = due.is_some_and(|due| due <= micros);
            self.require(is_due, || format!("{id:?} was cancelled at {micros}, due {due:?}"));
        }
    }

    /// Nothing that could move stands still: there is an event, or a place on the ready list.
    fn check_relaying(&self, account: &Account) {
        let Some(session) = self.session(account.id) else { return };
        let (Stage::Relaying(relay), Some(upstream)) = (&session.stage, account.upstream) else { return };
        let sockets = [account.client, upstream];
        let has_event = sockets.into_iter().any(|socket| self.has_event(account.id, socket));
        if session.is_queued && !self.core.has_ready() {
            self.require(false, || format!("{:?} waits on a list where it is not", account.id));
        }
        if session.is_queued || has_event || !relay.is_open() {
            return;
        }
        let world = self.world.borrow();
        let is_stalled = [(0, 1), (1, 0)].into_iter().any(|(from, to)| {
            let [source, target] = [from, to].map(|side| &world.net.sockets[sockets[side]]);
            let [taken, given] = [from, to].map(|side| world.tallies[sockets[side]]);
            let more = !source.rx.is_empty() || source.fin_in && !taken.fin_read || taken.read > given.sent;
            target.takes() && more
        });
        drop(world);
        self.require(!is_stalled, || format!("{:?} stands still: {relay:?}", account.id));
    }

    /// The reason is true, and an attempt that the end cut short is judged.
    fn check_end(&self, account: &Account, reason: Reason, now: Millis) {
        let attempt = self.attempt(account);
        let is_relayed = attempt.as_ref().is_some_and(|attempt| attempt.relayed);
        let is_true = match is_relayed {
            true => self.is_true_of_relay(account, reason),
            false => self.is_true_of_dial(account, reason, now),
        };
        let is_true = is_true && (reason != Reason::LimitProcess || self.has_to_pause);
        self.require(is_true, || format!("{:?} ended by {reason:?}: {attempt:?}", account.id));
        if is_relayed {
            return;
        }
        let is_told = self.world.borrow().net.sockets[account.client].reset_by_us
            || self.world.borrow().net.sockets[account.client].dead_at.is_some();
        self.require(is_told, || format!("{:?} ended by {reason:?}, its client was not reset", account.id));
        let mut world = self.world.borrow_mut();
        if reason == Reason::Loop && account.last_failure != Some(Reason::Loop) {
            world.seen.count("a dial led back to us");
            world.expect_failure(BACK_TO_US.parse().expect("an address"), Reason::Loop);
        }
        let Some(attempt) = attempt.filter(|attempt| attempt.progress < Progress::Served) else { return };
        let had_its_time = attempt.cancels > 1
            || Millis(attempt.since / 1000).after(GIVEN_UP_AFTER) <= now
            || is_past(account, account.policy.timeouts.connect_deadline, now);
        world.seen.count_if(had_its_time, "an end cut off an attempt that had its time");
        world.seen.count_if(!had_its_time, "an end cut off an attempt that had time left");
        if had_its_time {
            world.expect_failure(attempt.address, Reason::ConnectTimeout);
        }
    }

    fn is_true_of_dial(&self, account: &Account, reason: Reason, now: Millis) -> bool {
        let world = self.world.borrow();
        let failed_at_once = |reason| world.failed_at_once.contains(&reason);
        let timeouts = &account.policy.timeouts;
        match reason {
            Reason::ClientGone => world.net.sockets[account.client].dead_at.is_some(),
            Reason::IdleTimeout => is_past(account, timeouts.idle, now),
            Reason::MaxDuration => is_past(account, timeouts.max_duration, now),
            Reason::ConnectTimeout => {
                account.last_failure == Some(reason) || is_past(account, timeouts.connect_deadline, now)
            }
            Reason::ConnectRefused | Reason::ConnectError | Reason::NoSourcePort => {
                account.last_failure == Some(reason) || failed_at_once(reason)
            }
            Reason::Loop => account.last_failure == Some(reason) || account.service == "back",
            Reason::LimitProcess => account.lacked_descriptors || failed_at_once(reason),
            Reason::NoEndpoint => account.service == "none",
            Reason::Drain => account.is_ordered,
            _ => false,
        }
    }

    fn is_true_of_relay(&self, account: &Account, reason: Reason) -> bool {
        let Some(upstream) = account.upstream else { return false };
        let world = self.world.borrow();
        let timeouts = &account.policy.timeouts;
        let sockets = [account.client, upstream];
        let is_dead = |side: usize, timed_out: bool| {
            let it = &world.net.sockets[sockets[side]];
            // Its reset has emptied the send queue.
            let is_silent = it.silent_since(world.net.now).is_some();
            it.dead_at.is_some() && it.timed_out == timed_out || timed_out && is_silent
        };
        let waited = |span: Option<Duration>| {
            span.is_some_and(|span| account.accepted + span.as_micros() as u64 <= world.net.now)
        };
        match reason {
            Reason::Done => sockets.iter().all(|&socket| world.tallies[socket].fin_read),
            Reason::ClientReset => is_dead(0, false),
            Reason::UpstreamReset => is_dead(1, false),
            Reason::ClientTimeout => is_dead(0, true),
            Reason::UpstreamTimeout => is_dead(1, true),
            Reason::IdleTimeout => waited(timeouts.idle),
            Reason::HalfCloseTimeout => waited(timeouts.half_close),
            Reason::MaxDuration => waited(timeouts.max_duration),
            Reason::Drain => account.is_ordered,
            _ => false,
        }
    }

    /// Places are reserved for the sessions that have a slot, and for no others.
    fn check_counts(&self) {
        let sessions = self.core.sessions.len() as u64;
        let (process, shard) = (self.limits.process.used(), self.load.total());
        self.require(process == sessions && shard == sessions, || {
            format!("{sessions} sessions, {process} places of the process, {shard} of the shard")
        });
    }

    /// A table is held by the dials that were decided by it, and by the shard while it is in force.
    fn check_tables(&self) {
        for (generation, table) in &self.tables {
            let dials = self.core.sessions.iter().filter(|(_, session)| match &session.stage {
                Stage::Dialling(dialling) => dialling.in_force.generation == *generation,
                _ => false,
            });
            let in_force = self.in_force.as_ref().is_some_and(|it| it.generation == *generation);
            let wanted = dials.count() + usize::from(in_force);
            let held = Weak::strong_count(table);
            self.require(held == wanted, || format!("table {generation} is held {held} times, not {wanted}"));
        }
    }

    /// Endpoints show the dials that failed and connected, and the sockets that are open to them.
    fn check_endpoints(&self) {
        let readings = self.health.read();
        let without_port = self.counters.source_ports_exhausted.get();
        let failures = |reason: Reason| {
            let index = FAILURES.iter().position(|&it| it == reason).expect("a failure");
            readings.iter().map(|reading| reading.failed[index]).sum::<u64>()
        };
        let is_equal = without_port == failures(Reason::NoSourcePort);
        self.require(is_equal, || format!("{without_port} dials are counted that found no source port"));
        let mut world = self.world.borrow_mut();
        for reading in readings {
            let address = reading.address;
            let failed: BTreeMap<&str, u64> = FAILURES
                .iter()
                .zip(reading.failed)
                .filter(|&(_, count)| count > 0)
                .map(|(reason, count)| (reason.as_str(), count))
                .collect();
            let shown = Expected { connected: reading.connected, failed };
            let expected = world.expected.get(&address).cloned().unwrap_or_default();
            let is_open =
                |(socket, it): &(&usize, &Attempt)| it.address == address && world.net.sockets[**socket].open;
            let open = world.attempts.iter().filter(is_open).count() as u64;
            let active = reading.active;
            world.net.require(shown == expected, || format!("{address} shows {shown:?}, not {expected:?}"));
            world.net.require(active == open, || format!("{address} counts {active} of {open} connections"));
        }
    }

    /// When everything has ended and every peer has received what was on its way.
    pub(super) fn check_the_end(&mut self) {
        if let Some(last) = self.in_force.take() {
            self.core.retire(last);
        }
        let timer = self.core.next_timer();
        self.require(timer.is_none(), || format!("a timer is left: {timer:?}"));
        let (tables, retired) = (self.tables.len(), self.retired.try_iter().count());
        self.require(tables == retired, || format!("{retired} of {tables} tables are back"));
        for (service, _) in SERVICES {
            let used = self.limits.limit(&service.into(), None, None).used();
            self.require(used == 0, || format!("{used} places of {service} are left"));
        }
        for account in &self.accounts {
            let active = account.series.read().active();
            self.require(active == 0, || format!("{:?} counts {active} active", account.id));
            self.check_delivery(account);
        }
        let mut world = self.world.borrow_mut();
        world.net.check_returned();
        let polls = world.net.sockets.iter().filter(|socket| socket.poll != Poll::Gone).count();
        world.net.require(polls == 0, || format!("{polls} polls are left"));
        for (socket, attempt) in world.attempts.clone() {
            let it = &world.net.sockets[socket];
            let is_told = it.peer.has_fin || it.peer.has_reset || it.dead_at.is_some() || it.silent;
            let is_told = is_told || !attempt.established;
            world.net.require(is_told, || format!("upstream {socket} does not know the end: {attempt:?}"));
        }
    }

    /// What each peer has and knows in the end.
    fn check_delivery(&self, account: &Account) {
        let mut world = self.world.borrow_mut();
        let Some(upstream) = account.upstream else { return };
        let reading = account.series.read();
        let counted = [reading.bytes_down, reading.bytes_up];
        let sent = [account.client, upstream].map(|socket| world.tallies[socket].sent);
        world.net.require(counted == sent, || format!("{:?} counts {counted:?} of {sent:?}", account.id));
        if account.has_hung_up && account.reason == Some(Reason::Done) {
            let what = if world.net.sockets[account.client].peer.sent > 0 { "data" } else { "nothing" };
            world
                .seen
                .count(&format!("all was done for a client that sent {what} and hung up during the dial"));
        }
        for (to, from) in [(account.client, upstream), (upstream, account.client)] {
            let [target, source] = [to, from].map(|socket| &world.net.sockets[socket]);
            let deaf = target.dead_at.is_some() || target.silent || !target.peer.reads;
            let is_told = target.peer.has_fin || target.peer.has_reset || deaf;
            let (arrived, sent) = (target.peer.arrived, source.peer.sent);
            let is_whole = arrived == sent && target.peer.has_fin;
            let holds = is_told && (account.reason != Some(Reason::Done) || deaf || is_whole);
            world.net.require(holds, || {
                format!("{:?}: socket {to} has {arrived} of {sent}, told: {is_told}", account.reason)
            });
        }
    }
}

/// A span since the accept is over.
fn is_past(account: &Account, span: Option<Duration>, now: Millis) -> bool {
    span.is_some_and(|span| account.stamp.after(span) <= now)
}
