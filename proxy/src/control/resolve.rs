//! The addresses of host names: asked when a configuration brings a name, and again when an answer's TTL is over, at the latest every
//! `resolve_interval`, in a thread of its own.
//!
//! A and AAAA are asked, used and aged apart. An address leaves after three answers without it; silence, and a server that fails,
//! age nothing. A difference is an event of the control loop, which orders a new table.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use async_channel::Sender;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tracing::{info, warn};
use weir_routing::Resolved;

use super::event::Event;
use super::name_servers::{Answer, Family, NameServers};
use crate::panics;

/// Answers without an address after which it is gone: name servers that rotate a subset do not shake the table.
const ANSWERS_WITHOUT: u32 = 3;

/// When a name that brought no answer is asked again where `resolve_interval` is "0s".
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// Nothing is asked again sooner, whatever its TTL.
const SOONEST: Duration = Duration::from_secs(1);

/// A name that has addresses of one family waits so long for the other before it is used: a resolver that drops AAAA questions
/// must not delay a start.
const OTHER_FAMILY: Duration = Duration::from_millis(50);

/// Most answers come within this. A question that takes longer makes room for the next.
const QUICK: Duration = Duration::from_millis(200);

/// Questions that are asked at the same time: so many for [`QUICK`], and so many that take longer. One slow question too many is
/// given up until its next turn.
const LANE: [usize; 2] = [64, 32];

/// The same for names that had no answer last time: one dead zone, whatever its size, delays no other.
const FAILING_LANE: [usize; 2] = [32, 16];

/// The addresses of names as known, kept up to date by a thread.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Rung after each answer.
    answered: Condvar,
    /// Rung when names or the interval change.
    changed: Notify,
    events: Sender<Event>,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<Arc<str>, Known>,
    /// None: never again.
    interval: Option<Duration>,
}

type Question = (Arc<str>, Family);

/// One name.
#[derive(Clone, Debug, Default)]
struct Known {
    parts: [Part; 2],
    /// When it had its first address.
    first: Option<Instant>,
    /// Whether the configuration in force names it, not only one that may come into force.
    is_kept: bool,
    /// Questions that brought no answer, or that there is no such name.
    failures: u64,
}

/// One name's addresses of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Part {
    /// Each address, and how many answers in a row were without it.
    addresses: BTreeMap<IpAddr, u32>,
    next: Next,
    /// Whether it has been asked, with or without an answer.
    asked: bool,
    /// Whether the last question failed.
    failing: bool,
}

/// When to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Next {
    /// At once.
    #[default]
    Now,
    /// It is being asked.
    UnderWay,
    /// When an answer of this time is so old, or the interval is over.
    After(Instant, Duration),
}

impl Part {
    /// When it is to be asked again; none: not until something changes. A name that brought no answer is asked again also where
    /// the others never are.
    fn due(&self, interval: Option<Duration>) -> Option<Instant> {
        match self.next {
            Next::After(answered, ttl) => {
                let interval = interval.or(self.failing.then_some(AFTER_FAILURE));
                interval.map(|interval| answered + ttl.min(interval))
            }
            Next::Now | Next::UnderWay => None,
        }
    }

    /// Takes the answer to a question; whether it failed.
    fn take(&mut self, answer: &Answer, now: Instant) -> bool {
        let (found, ttl): (&[IpAddr], _) = match answer {
            Answer::Addresses(addresses, ttl) => (addresses, (*ttl).max(SOONEST)),
            _ => (&[], Duration::MAX),
        };
        if !matches!(answer, Answer::Silence(_)) {
            self.addresses.values_mut().for_each(|without| *without += 1);
            self.addresses.extend(found.iter().map(|&address| (address, 0)));
            self.addresses.retain(|_, without| *without < ANSWERS_WITHOUT);
        }
        self.asked = true;
        self.failing = matches!(answer, Answer::Silence(_) | Answer::NoName);
        self.next = Next::After(now, ttl);
        self.failing
    }

    fn is_due(&self, interval: Option<Duration>, now: Instant) -> bool {
        self.next == Next::Now || self.due(interval).is_some_and(|due| due <= now)
    }
}

impl Known {
    fn part(&mut self, family: Family) -> &mut Part {
        &mut self.parts[family as usize]
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.parts.iter().flat_map(|part| part.addresses.keys().copied()).collect()
    }

    /// From when on its addresses may be used; none: not before another answer.
    fn usable(&self, now: Instant) -> Option<Instant> {
        if self.parts.iter().all(|part| part.asked) {
            return Some(now);
        }
        self.first.map(|first| first + OTHER_FAMILY)
    }
}

impl Resolver {
    /// Starts the thread.
    pub(super) fn start(events: Sender<Event>) -> io::Result<Self> {
        let (state, answered, changed) = Default::default();
        let shared = Arc::new(Shared { state, answered, changed, events });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let asking = shared.clone();
        let run = move || panics::kept(|| runtime.block_on(asking.ask_all()));
        thread::Builder::new().name("resolve".into()).spawn(run)?;
        Ok(Self { shared })
    }

    /// The addresses of these names. Those never asked are asked now, and waited for so long; an answer that is later
    /// is an event.
    pub(super) fn addresses(&self, names: &[Arc<str>], wait: Duration) -> Resolved {
        let deadline = Instant::now() + wait;
        let mut state = self.shared.lock();
        for name in names {
            state.names.entry(name.clone()).or_default();
        }
        self.shared.changed.notify_one();
        loop {
            let now = Instant::now();
            let known = names.iter().filter_map(|name| state.names.get(name));
            // The latest that is known of; one that is not known of has an answer to come.
            let usable = known.map(|known| known.usable(now).unwrap_or(deadline));
            let latest = usable.max().unwrap_or(now).min(deadline);
            if latest <= now {
                return state.resolved(names.iter());
            }
            let waited = self.shared.answered.wait_timeout(state, latest - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All addresses that are known now.
    pub(super) fn known(&self) -> Resolved {
        let state = self.shared.lock();
        state.resolved(state.names.keys())
    }

    /// From now on these names, and no others, are asked again, at the latest every `interval`.
    pub(super) fn keep(&self, names: &[Arc<str>], interval: Option<Duration>) {
        let mut state = self.shared.lock();
        state.names.values_mut().for_each(|known| known.is_kept = false);
        for name in names {
            state.names.entry(name.clone()).or_default().is_kept = true;
        }
        state.names.retain(|_, known| known.is_kept);
        state.interval = interval;
        self.shared.changed.notify_one();
    }

    /// Asks no more for names of a configuration that was refused.
    pub(super) fn forget_refused(&self) {
        self.shared.lock().names.retain(|_, known| known.is_kept);
        self.shared.changed.notify_one();
    }

    /// Questions that failed, by name.
    pub(super) fn failures(&self) -> Vec<(Arc<str>, u64)> {
        let state = self.shared.lock();
        state.names.iter().map(|(name, known)| (name.clone(), known.failures)).collect()
    }
}

impl State {
    fn resolved<'n>(&self, names: impl Iterator<Item = &'n Arc<str>>) -> Resolved {
        let known = names.filter_map(|name| Some((name.clone(), self.names.get(name)?.addresses())));
        known.filter(|(_, addresses)| !addresses.is_empty()).collect()
    }

    fn parts(&mut self) -> impl Iterator<Item = (Question, &mut Part)> {
        self.names.iter_mut().flat_map(|(name, known)| {
            let families = Family::ALL.into_iter().map(|family| (name.clone(), family));
            families.zip(&mut known.parts)
        })
    }

    /// The questions that are due, and whether each failed last time.
    fn take_due(&mut self, now: Instant) -> Vec<(Question, bool)> {
        let interval = self.interval;
        let due = self.parts().filter(|(_, part)| part.is_due(interval, now));
        due.map(|(question, part)| {
            part.next = Next::UnderWay;
            (question, part.failing)
        })
        .collect()
    }

    fn next_due(&mut self) -> Option<Instant> {
        let interval = self.interval;
        let times = self.parts().filter_map(|(_, part)| part.due(interval));
        times.min()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // After a panic of a thread it is still a set of names and addresses.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whatever is due, for the life of the process.
    async fn ask_all(&self) {
        let mut servers = Arc::new(NameServers::from_system());
        let lanes = [LANE, FAILING_LANE].map(|room| Arc::new(room.map(Semaphore::new)));
        // After a panic of this task no question is under way any more.
        self.lock().parts().filter(|(_, part)| part.next == Next::UnderWay).for_each(|(_, part)| {
            part.next = Next::Now;
        });
        let mut asking = JoinSet::new();
        let mut under_way: HashMap<Question, AbortHandle> = HashMap::new();
        while !self.events.is_closed() {
            let (due, next) = {
                let mut state = self.lock();
                under_way.retain(|(name, _), handle| {
                    let is_wanted = state.names.contains_key(name);
                    if !is_wanted {
                        handle.abort();
                    }
                    is_wanted
                });
                (state.take_due(Instant::now()), state.next_due())
            };
            if !due.is_empty() && servers.is_outdated() {
                servers = Arc::new(NameServers::from_system());
            }
            for (question, was_failing) in due {
                let lane = lanes[usize::from(was_failing)].clone();
                let asked = ask(servers.clone(), lane, question.clone());
                under_way.insert(question, asking.spawn(asked));
            }
            let day = Instant::now() + Duration::from_secs(86_400);
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(next.unwrap_or(day).into()) => {}
                Some(done) = asking.join_next_with_id() => {
                    let (id, answer) = done.unwrap_or_else(|error| (error.id(), no_answer(error)));
                    // One that was given up, as its name is gone, is not there any more.
                    let question = under_way.iter().find(|(_, handle)| handle.id() == id);
                    if let Some(question) = question.map(|(question, _)| question.clone()) {
                        under_way.remove(&question);
                        self.note(&question, &answer).await;
                    }
                }
            }
        }
    }

    async fn note(&self, (name, family): &Question, answer: &Answer) {
        let differs = {
            let mut state = self.lock();
            let Some(known) = state.names.get_mut(name) else { return };
            let before = known.addresses();
            let part = known.part(*family);
            let was_failing = part.failing;
            let failed = part.take(answer, Instant::now());
            known.failures += u64::from(failed);
            let addresses = known.addresses();
            if !addresses.is_empty() {
                known.first.get_or_insert_with(Instant::now);
            }
            if failed && !was_failing {
                let why = match answer {
                    Answer::Silence(why) => why.as_str(),
                    _ => "there is no such name",
                };
                let kept =
                    if addresses.is_empty() { "it has no endpoint now" } else { "its known addresses stay" };
                warn!(host = &**name, "no address for the host name ({family}): {why}; {kept}");
            }
            if addresses != before {
                let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
                info!(host = &**name, "resolved to {}", addresses.join(", "));
            }
            addresses != before
        };
        self.answered.notify_all();
        if differs {
            let _ = self.events.send(Event::Resolved).await;
        }
    }
}

/// The answer of a task that ended without one: given up, or with a panic, which is counted.
fn no_answer(error: JoinError) -> Answer {
    let ended = panics::caught(|| {
        if error.is_panic() {
            std::panic::resume_unwind(error.into_panic());
        }
    });
    Answer::Silence(ended.map_or_else(|defect| defect.to_string(), |()| "given up".to_owned()))
}

async fn ask(servers: Arc<NameServers>, lane: Arc<[Semaphore; 2]>, (name, family): Question) -> Answer {
    let [quick, slow] = &*lane;
    let mut answer = std::pin::pin!(servers.ask(&name, family));
    let room = quick.acquire().await;
    if let Ok(answer) = tokio::time::timeout(QUICK, &mut answer).await {
        return answer;
    }
    drop(room);
    match slow.try_acquire() {
        Ok(_room) => answer.await,
        Err(_) => Answer::Silence(format!("no answer within {QUICK:?}, as for many others")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Option<Duration> = Some(Duration::from_secs(10));

    fn address(letter: char) -> IpAddr {
        IpAddr::from([10, 0, 0, letter as u8 - b'a'])
    }

    #[test]
    fn an_address_leaves_after_three_answers_without_it_and_silence_keeps_all() {
        /// Answers as words: "ab" holds a and b, "" is silence, "-" no address, "!" no such name.
        #[track_caller]
        fn check(answers: &[&str], expected: &str) {
            let mut part = Part::default();
            for answer in answers {
                let answer = match *answer {
                    "" => Answer::Silence("timed out".to_owned()),
                    "-" => Answer::NoAddress,
                    "!" => Answer::NoName,
                    letters => Answer::Addresses(letters.chars().map(address).collect(), SOONEST),
                };
                part.take(&answer, Instant::now());
            }
            let expected: Vec<IpAddr> = expected.chars().map(address).collect();
            assert!(part.addresses.keys().eq(&expected), "{answers:?}: {part:?}");
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
        check(&["a", "-", "!"], "a");
        check(&["a", "-", "!", "-"], "");
        check(&["a", "!", "", "!", "", "!"], "");
    }

    #[test]
    fn it_is_asked_again_when_its_ttl_is_over_within_bounds() {
        let now = Instant::now();
        let check = |ttl_ms: u64, interval_s: Option<u64>, wanted_ms: Option<u64>| {
            let answer = Answer::Addresses(vec![address('a')], Duration::from_millis(ttl_ms));
            let mut part = Part::default();
            part.take(&answer, now);
            let due = part.due(interval_s.map(Duration::from_secs));
            assert_eq!(due, wanted_ms.map(|ms| now + Duration::from_millis(ms)), "{ttl_ms} {interval_s:?}");
        };
        check(0, Some(10), Some(1_000));
        check(3_000, Some(10), Some(3_000));
        check(60_000, Some(10), Some(10_000));
        check(0, None, None);
    }

    #[test]
    fn a_name_that_brought_no_answer_is_asked_again_whatever_the_interval() {
        let now = Instant::now();
        let check = |answer: Answer, wanted_s: Option<u64>| {
            let mut part = Part::default();
            part.take(&answer, now);
            assert_eq!(
                part.due(None),
                wanted_s.map(|seconds| now + Duration::from_secs(seconds)),
                "{answer:?}"
            );
        };
        check(Answer::Silence("timed out".to_owned()), Some(10));
        check(Answer::NoName, Some(10));
        check(Answer::NoAddress, None);
        check(Answer::Addresses(vec![address('a')], SOONEST), None);
    }

    #[test]
    fn one_family_is_waited_for_and_the_other_only_a_moment() {
        let first = Instant::now();
        let now = first + Duration::from_millis(1);
        let check = |asked: [bool; 2], has_address: bool, wanted: Option<Instant>| {
            let mut known = Known { first: has_address.then_some(first), ..Known::default() };
            known.parts.iter_mut().zip(asked).for_each(|(part, asked)| part.asked = asked);
            assert_eq!(known.usable(now), wanted, "{asked:?} {has_address}");
        };
        check([false, false], false, None);
        check([true, false], false, None);
        check([true, false], true, Some(first + OTHER_FAMILY));
        check([true, true], true, Some(now));
        // It has no address, and nothing more will come.
        check([true, true], false, Some(now));
    }

    #[test]
    fn names_of_a_refused_configuration_are_forgotten() {
        let (events, _received) = async_channel::unbounded();
        let (state, answered, changed) = Default::default();
        let resolver = Resolver { shared: Arc::new(Shared { state, answered, changed, events }) };
        let name = |text: &str| -> Arc<str> { text.into() };
        let names = || resolver.failures().into_iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
        resolver.keep(&[name("a"), name("b")], INTERVAL);
        resolver.addresses(&[name("b"), name("c")], Duration::ZERO);
        assert_eq!(names(), ["a", "b", "c"]);
        resolver.forget_refused();
        assert_eq!(names(), ["a", "b"]);
        resolver.addresses(&[name("c")], Duration::ZERO);
        resolver.keep(&[name("c")], INTERVAL);
        assert_eq!(names(), ["c"]);
    }
}
