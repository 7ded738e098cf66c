//! Waits until a send queue is empty, so that the reset which follows throws no byte away. No event reports that: SIOCOUTQ has to
//! be read again and again.

use std::time::Duration;

use crate::clock::{Millis, earlier};

/// Milliseconds between two reads of SIOCOUTQ: at first as fast as a near peer acknowledges, in the end as seldom as a reset may be
/// late. The last one repeats. Each is rounded up to a tick of the wheel that wakes for it.
const WAITS: [u64; 7] = [1, 2, 4, 8, 16, 32, 50];

/// The longest of them.
pub(super) const LAST_WAIT: u64 = WAITS[WAITS.len() - 1];

const _: () = assert!(LAST_WAIT < 100, "a reset is passed on within 100 ms of the last byte leaving");

/// The state of one such wait.
#[derive(Debug)]
pub(super) struct Flush {
    /// When the last byte is known to have left.
    left_at: Millis,
    unsent: usize,
    ask_at: Millis,
    asked: u8,
}

impl Flush {
    pub(super) fn new(now: Millis) -> Self {
        Self { left_at: now, unsent: 0, ask_at: now, asked: 0 }
    }

    /// Notes how many bytes are unsent. `sent`: more was sent just now, which counts as movement, too.
    pub(super) fn note(&mut self, unsent: usize, sent: bool, now: Millis) {
        if sent || unsent < self.unsent {
            self.left_at = now;
        }
        self.unsent = unsent;
        if sent {
            self.asked = 0;
            self.ask_at = now;
        }
        if self.ask_at <= now {
            self.ask_at = now.plus(WAITS[usize::from(self.asked)]);
            self.asked = (self.asked + 1).min(WAITS.len() as u8 - 1);
        }
    }

    /// No byte has left for as long as an ending may wait.
    pub(super) fn is_over(&self, limit: Option<Duration>, now: Millis) -> bool {
        self.left_at.limit(limit).is_some_and(|end| end <= now)
    }

    /// When to read SIOCOUTQ again.
    pub(super) fn deadline(&self, limit: Option<Duration>) -> Option<Millis> {
        earlier(Some(self.ask_at), self.left_at.limit(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Option<Duration> = Some(Duration::from_millis(500));

    #[test]
    fn questions_thin_out() {
        let mut flush = Flush::new(Millis(100));
        let mut asked = vec![];
        let mut now = Millis(100);
        while asked.len() < 10 {
            flush.note(9, false, now);
            asked.push(now.0 - 100);
            now = flush.deadline(LIMIT).expect("it is not over");
        }
        assert_eq!(asked, [0, 1, 3, 7, 15, 31, 63, 113, 163, 213]);
    }

    #[test]
    fn what_leaves_extends_the_wait() {
        let mut flush = Flush::new(Millis(0));
        flush.note(9, false, Millis(0));
        assert!(!flush.is_over(LIMIT, Millis(500)));
        assert!(flush.is_over(LIMIT, Millis(501)));
        flush.note(8, false, Millis(400));
        flush.note(8, false, Millis(450));
        assert!(!flush.is_over(LIMIT, Millis(900)));
        assert!(flush.is_over(LIMIT, Millis(901)));
        assert!(!flush.is_over(None, Millis(u64::MAX)));
    }
}
