//! The addresses of host names: asked at start, whenever a configuration brings a new name, and again every `resolve_interval`,
//! in threads of their own, since getaddrinfo blocks for as long as a name server is silent.
//!
//! An address leaves after three answers without it; no answer keeps the last one. What differs is told to the control loop,
//! which makes a new table of it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use async_channel::Sender;
use tracing::{info, warn};
use weir_routing::Resolved;

use super::Event;
use crate::panics;

/// Answers without an address after which it is gone: name servers that rotate a subset do not shake the table.
const ANSWERS_WITHOUT: u32 = 3;

/// Names that are asked at the same time, so that one that times out does not hold up the others.
const ASKED_AT_ONCE: usize = 16;

/// What is known of the names, and the threads that keep it so.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Rung when the names or the interval change, and after each answer.
    changed: Condvar,
    events: Sender<Event>,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<Arc<str>, Known>,
    /// None: never again.
    interval: Option<Duration>,
}

/// What is known of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    /// Each address, and how many answers in a row were without it.
    addresses: BTreeMap<IpAddr, u32>,
    /// Whether someone is asking it for the first time.
    asking: bool,
    /// Whether it has been asked, with or without an answer.
    asked: bool,
    /// Questions without an answer, ever.
    failures: u64,
    /// Whether the last question had none.
    failing: bool,
}

impl Known {
    /// Takes an answer.
    fn answered(&mut self, answer: &[IpAddr]) {
        self.addresses.values_mut().for_each(|without| *without += 1);
        self.addresses.extend(answer.iter().map(|&address| (address, 0)));
        self.addresses.retain(|_, without| *without < ANSWERS_WITHOUT);
        self.asked = true;
        self.failing = false;
    }

    /// Takes the lack of one.
    fn unanswered(&mut self) {
        self.asked = true;
        self.failures += 1;
        self.failing = true;
    }
}

impl Resolver {
    /// Starts the thread that asks again.
    pub(super) fn start(events: Sender<Event>) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), events });
        let asking = shared.clone();
        thread::Builder::new().name("resolve".into()).spawn(move || panics::kept(|| asking.ask_again()))?;
        Ok(Self { shared })
    }

    /// The addresses of these names. Those never asked are asked now, and waited for so long; an answer that is later
    /// is an event.
    pub(super) fn addresses(&self, names: &[Arc<str>], wait: Duration) -> Resolved {
        let mut state = self.shared.lock();
        for name in names {
            state.names.entry(name.clone()).or_default();
        }
        self.shared.ask_new(&mut state);
        let unasked = |state: &mut State| {
            names.iter().any(|name| state.names.get(name).is_some_and(|known| !known.asked))
        };
        let waited = self.shared.changed.wait_timeout_while(state, wait, unasked);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.resolved(names.iter())
    }

    /// All addresses that are known now.
    pub(super) fn known(&self) -> Resolved {
        let state = self.shared.lock();
        state.resolved(state.names.keys())
    }

    /// From now on these names, and no others, are asked again every `interval`.
    pub(super) fn keep(&self, names: &[Arc<str>], interval: Option<Duration>) {
        let mut state = self.shared.lock();
        state.names.retain(|name, _| names.contains(name));
        for name in names {
            state.names.entry(name.clone()).or_default();
        }
        self.shared.ask_new(&mut state);
        state.interval = interval;
        self.shared.changed.notify_all();
    }

    /// Questions without an answer, by name.
    pub(super) fn failures(&self) -> Vec<(Arc<str>, u64)> {
        let state = self.shared.lock();
        state.names.iter().map(|(name, known)| (name.clone(), known.failures)).collect()
    }
}

impl State {
    /// Whether there are names that nobody has asked yet.
    fn is_new(&self) -> bool {
        self.names.values().any(|known| !known.asking)
    }

    /// These names, which the caller asks now.
    fn take_new(&mut self) -> Vec<Arc<str>> {
        let new = self.names.iter_mut().filter(|(_, known)| !known.asking);
        let taken = new.map(|(name, known)| {
            known.asking = true;
            name.clone()
        });
        taken.collect()
    }

    fn resolved<'n>(&self, names: impl Iterator<Item = &'n Arc<str>>) -> Resolved {
        let known = names.filter_map(|name| Some((name, self.names.get(name)?)));
        let answered = known.filter(|(_, known)| !known.addresses.is_empty());
        answered.map(|(name, known)| (name.clone(), known.addresses.keys().copied().collect())).collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What a thread that panicked left is still a set of names and addresses.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the names that nobody has asked yet, in a thread.
    fn ask_new(self: &Arc<Self>, state: &mut State) {
        let new = state.take_new();
        if new.is_empty() {
            return;
        }
        let asking = self.clone();
        let names = new.clone();
        if let Err(error) = thread::Builder::new().name("resolve".into()).spawn(move || asking.ask(&names)) {
            warn!("there is no thread to ask for new host names ({error}): they are asked one by one");
            for name in &new {
                state.names.entry(name.clone()).and_modify(|known| known.asking = false);
            }
            self.changed.notify_all();
        }
    }

    fn ask_again(&self) {
        let mut last = Instant::now();
        loop {
            let mut state = self.lock();
            loop {
                if state.is_new() {
                    break;
                }
                let left = match state.interval {
                    Some(interval) if !state.names.is_empty() => interval.saturating_sub(last.elapsed()),
                    _ => Duration::MAX,
                };
                if left.is_zero() {
                    break;
                }
                // A day stands for "until something changes": a condition variable wants an end.
                let left = left.min(Duration::from_secs(86_400));
                state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            let names: Vec<_> = if state.is_new() {
                state.take_new()
            } else {
                last = Instant::now();
                state.names.keys().cloned().collect()
            };
            drop(state);
            self.ask(&names);
            if self.events.is_closed() {
                return;
            }
        }
    }

    /// Asks all of these once, some at a time, and notes each answer as it comes.
    fn ask(&self, names: &[Arc<str>]) {
        for group in names.chunks(ASKED_AT_ONCE) {
            thread::scope(|scope| {
                for name in group {
                    let ask = move || {
                        let answer = panics::caught(|| question(name));
                        self.note(
                            name,
                            answer.unwrap_or_else(|defect| Err(io::Error::other(defect.to_string()))),
                        );
                    };
                    if thread::Builder::new().name("resolve".into()).spawn_scoped(scope, ask).is_err() {
                        // The others wait for this one, which is better than no answer.
                        ask();
                    }
                }
            });
        }
    }

    fn note(&self, name: &Arc<str>, answer: io::Result<Vec<IpAddr>>) {
        let mut state = self.lock();
        // A reload may have taken the name away meanwhile.
        let Some(known) = state.names.get_mut(name) else { return };
        let before: Vec<IpAddr> = known.addresses.keys().copied().collect();
        match answer {
            Ok(answer) => known.answered(&answer),
            Err(error) => {
                if !known.failing {
                    let kept =
                        if before.is_empty() { "it has no endpoint yet" } else { "the last answer stays" };
                    warn!(host = &**name, "no address for the host name: {error}; {kept}");
                }
                known.unanswered();
            }
        }
        let differs = !known.addresses.keys().eq(&before);
        if differs {
            let addresses: Vec<String> = known.addresses.keys().map(IpAddr::to_string).collect();
            info!(host = &**name, "resolved to {}", addresses.join(", "));
        }
        drop(state);
        self.changed.notify_all();
        if differs {
            let _ = self.events.send_blocking(Event::Resolved);
        }
    }
}

fn question(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> =
        (name, 0).to_socket_addrs()?.map(|address| address.ip().to_canonical()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() { Err(io::Error::other("the answer holds no address")) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leaves_after_three_answers_without_it_and_no_answer_keeps_all() {
        /// Answers as words: "ab" holds a and b, "" is none.
        #[track_caller]
        fn check(answers: &[&str], expected: &str) {
            let address = |letter: char| IpAddr::from([10, 0, 0, letter as u8 - b'a']);
            let mut known = Known::default();
            for answer in answers {
                match answer {
                    &"" => known.unanswered(),
                    answer => known.answered(&answer.chars().map(address).collect::<Vec<_>>()),
                }
            }
            let expected: Vec<IpAddr> = expected.chars().map(address).collect();
            assert!(known.addresses.keys().eq(&expected), "{answers:?}: {known:?}");
        }
        check(&[], "");
        check(&[""], "");
        check(&["ab"], "ab");
        check(&["ab", "a", "a"], "ab");
        check(&["ab", "a", "a", "a"], "a");
        check(&["ab", "a", "a", "ab", "a", "a"], "ab");
        check(&["ab", "", "", "", "", "a", "", "a"], "ab");
        check(&["a", "b", "c"], "abc");
        check(&["a", "b", "c", "d"], "bcd");
    }

    #[test]
    fn a_new_name_is_asked_and_waited_for() {
        let (events, received) = async_channel::unbounded();
        let resolver = Resolver::start(events).unwrap();
        let names: Vec<Arc<str>> = vec!["127.0.0.1".into(), "::1".into()];
        let resolved = resolver.addresses(&names, Duration::from_secs(10));
        assert_eq!(resolved["127.0.0.1"], ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(resolved["::1"], ["::1".parse::<IpAddr>().unwrap()]);
        assert!(matches!(received.recv_blocking(), Ok(Event::Resolved)));
        assert_eq!(resolver.failures().iter().map(|(_, count)| count).sum::<u64>(), 0);
    }
}
