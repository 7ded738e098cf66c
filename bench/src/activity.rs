//! When something was done: one bit a millisecond of the measured time, so that the longest pause is known and costs a bit an
//! operation. Threads have their own, which are laid over each other at the end: a pause is one of all of them.

use std::time::Duration;

const MILLISECOND: u64 = 1_000_000;

/// The milliseconds, counted from when measuring began, in which an operation was done.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    words: Vec<u64>,
}

/// The longest time in which nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// When it began, counted from when measuring began.
    pub at: Duration,
    /// Whole milliseconds without an operation; the pause itself is up to 2 ms longer.
    pub length: Duration,
}

impl Activity {
    /// An operation was done, so many nanoseconds after measuring began.
    pub fn note(&mut self, nanoseconds: u64) {
        let millisecond = nanoseconds / MILLISECOND;
        let word = (millisecond / 64) as usize;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (millisecond % 64);
    }

    /// An operation that was done there was done.
    pub fn add(&mut self, other: &Activity) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        self.words.iter_mut().zip(&other.words).for_each(|(sum, own)| *sum |= own);
    }

    /// The longest pause of a measured time that is so long; of equals the first. None where nothing was done at all, which is
    /// no pause of anything.
    pub fn longest_pause(&self, measured: Duration) -> Option<Pause> {
        let end = measured.as_millis() as u64;
        let done = (0..).zip(&self.words).flat_map(|(index, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 64 + bit)
        });
        let mut longest: Option<(u64, u64)> = None;
        let mut from = 0;
        for at in done.filter(|at| *at < end) {
            let length = at - from;
            if longest.is_none_or(|(_, before)| length > before) {
                longest = Some((from, length));
            }
            from = at + 1;
        }
        let (from, length) = match (longest, end.saturating_sub(from)) {
            (Some((_, before)), last) if last > before => (from, last),
            (longest, _) => longest?,
        };
        Some(Pause { at: Duration::from_millis(from), length: Duration::from_millis(length) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(milliseconds: &[u64]) -> Activity {
        let mut activity = Activity::default();
        milliseconds.iter().for_each(|at| activity.note(at * MILLISECOND + 1));
        activity
    }

    #[test]
    fn the_longest_pause_is_between_operations_before_the_first_or_after_the_last() {
        #[track_caller]
        fn check(done: &[u64], measured: u64, expected: Option<(u64, u64)>) {
            let found = of(done).longest_pause(Duration::from_millis(measured));
            let found = found.map(|pause| (pause.at.as_millis() as u64, pause.length.as_millis() as u64));
            assert_eq!(found, expected, "{done:?} of {measured} ms");
        }
        check(&[], 100, None);
        check(&[0, 1, 2], 3, Some((0, 0)));
        check(&[0, 10, 11], 12, Some((1, 9)));
        check(&[7, 10], 11, Some((0, 7)));
        check(&[0, 10], 100, Some((11, 89)));
        check(&[0, 5, 10], 11, Some((1, 4)));
        check(&[63, 64, 128], 129, Some((0, 63)));
        // The last answers come after the measured time.
        check(&[0, 10, 500], 20, Some((1, 9)));
    }

    #[test]
    fn a_pause_is_one_of_all_threads() {
        let mut sum = of(&[0, 1, 2, 50]);
        sum.add(&of(&[20, 21, 100]));
        let expected = Pause { at: Duration::from_millis(51), length: Duration::from_millis(49) };
        assert_eq!(sum.longest_pause(Duration::from_millis(101)), Some(expected));
    }

    #[test]
    fn it_is_what_a_list_of_flags_says() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let length = random.u64(1..400);
            let done: Vec<u64> = (0..length).filter(|_| random.u8(0..8) == 0).collect();
            let mut model: Vec<(u64, u64)> = Vec::new();
            let mut run = 0;
            for at in 0..=length {
                if at == length || done.contains(&at) {
                    model.push((run, at - run));
                    run = at + 1;
                }
            }
            let longest = model.into_iter().reduce(|best, next| if next.1 > best.1 { next } else { best });
            let found = of(&done).longest_pause(Duration::from_millis(length));
            let found = found.map(|pause| (pause.at.as_millis() as u64, pause.length.as_millis() as u64));
            assert_eq!(found, longest.filter(|_| !done.is_empty()), "seed {seed}: {done:?}");
        }
    }
}
