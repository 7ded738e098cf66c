//! A thread's events in time: the ramp, the beginning and the end of the measured time, its seconds, and late operations.

use super::Shard;
use crate::drive::account::{Tally, Window};
use crate::drive::clock::{self, SECOND};
use crate::drive::context::Next;
use crate::drive::lane::{Lane, Life, Phase};
use crate::drive::stage::Report;

impl Shard<'_> {
    pub(super) fn advance(&mut self, now: u64) {
        if self.phase == Phase::Ramp {
            self.report_up();
            if let Some(times) = self.stage.times().filter(|times| now >= times.start) {
                self.start(times.start, times.window, times.last);
            }
        }
        while now >= self.next_cut && self.next_cut <= self.window.end {
            self.cut(SECOND);
        }
        if self.phase == Phase::Running {
            self.measure(now);
            let end = self.window.end.min(self.stage.stopped());
            let used_up = self.left.get() == 0 && self.outstanding() == 0;
            if now >= end || used_up {
                self.stop_planning(now, if used_up { now } else { end });
            }
        }
        if now >= self.next_tick {
            self.next_tick = now + self.tick_every;
            self.tick(now);
        }
    }

    fn report_up(&mut self) {
        let standing = |lane: &Lane| lane.life == Life::Standing;
        let up = self.lanes.iter().filter(|lane| standing(lane)).all(|lane| lane.up == lane.wanted);
        if up && !self.reported_up {
            self.reported_up = true;
            let _ = self.reports.send(Report::Up);
        }
    }

    fn start(&mut self, start: u64, window: Window, last: u64) {
        (self.phase, self.window, self.last) = (Phase::Running, window, last);
        let whole = (self.warmup / SECOND) as i64;
        // The part of the warm-up before its first whole second belongs to no second, and is cut off first.
        self.second = -whole - 1;
        self.next_cut = window.begin - whole as u64 * SECOND;
        self.measure(start);
        for index in 0..self.lanes.len() {
            self.lanes[index].start(start, window);
            if self.lanes[index].is_closed() {
                while let Some(token) = self.take_free(index) {
                    self.begin(token, None);
                }
            }
        }
    }

    /// Begins to count once the warm-up is over.
    fn measure(&mut self, now: u64) {
        if !self.measuring && now >= self.window.begin {
            self.measuring = true;
            self.cpu.0 = clock::thread_cpu();
            self.count_bytes(true);
        }
    }

    /// Tells of a second that has ended, which was so long.
    fn cut(&mut self, length: u64) {
        let mut all = Tally::new();
        all.length = length;
        for lane in &mut self.lanes {
            all.add(&lane.account.cut());
        }
        if self.second >= -((self.warmup / SECOND) as i64) {
            let _ = self.reports.send(Report::Second(self.second, Box::new(all)));
        }
        self.second += 1;
        self.next_cut += SECOND;
    }

    fn stop_planning(&mut self, now: u64, end: u64) {
        // The run may end in the middle of a second.
        let left = end.saturating_sub(self.next_cut.saturating_sub(SECOND));
        if (1..SECOND).contains(&left) {
            self.cut(left);
        }
        self.window.end = end;
        self.arrivals(now);
        if self.measuring {
            self.cpu.1 = clock::thread_cpu();
        }
        self.count_bytes(false);
        self.until = end;
        self.phase = Phase::Draining;
        for lane in &mut self.lanes {
            lane.phase = Phase::Draining;
        }
        let places: Vec<usize> = self.connections.iter().map(|(place, _)| place).collect();
        for place in places {
            self.with_session(place, |session, cx| session.wind_down(cx));
        }
    }

    fn count_bytes(&mut self, counting: bool) {
        for lane in &mut self.lanes {
            lane.account.count_bytes(counting);
        }
    }

    fn outstanding(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.account.outstanding()).sum()
    }

    pub(super) fn is_done(&self, now: u64) -> bool {
        match self.phase {
            Phase::Ramp => now >= self.stage.stopped(),
            Phase::Running => false,
            Phase::Draining => now >= self.last.min(self.stage.stopped()) || self.outstanding() == 0,
        }
    }

    /// Gives up late operations.
    fn tick(&mut self, now: u64) {
        for lane in &mut self.lanes {
            lane.expire(now);
        }
        let timeout = self.stage.timeout;
        // Closing a connection frees its place: the places are taken down first.
        for place in 0..self.connections.capacity().min(u32::MAX as usize) {
            let Some(connection) = self.connections.get(place) else { continue };
            match connection.asked {
                Some(asked) if now.saturating_sub(asked) >= timeout => self.apply(place, Next::Late),
                Some(_) => {}
                None => self.with_session(place, |session, cx| session.tick(cx, now)),
            }
        }
    }
}
