//! Panics, each of them a defect of Weir. A shard's ends the process: a shard that died alone would leave its accept queue
//! unserved. On any other thread a panic is caught where the work began, so that it refuses that work and nothing else.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tracing::error;

use crate::log::Log;

/// How long a thread rests before it begins again after a panic: a defect that comes back at once must not fill the log.
const REST: Duration = Duration::from_secs(1);

/// Panics that were caught in this process.
static CAUGHT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Set on a shard's thread: names the session that is being served.
    static SHARD: Cell<Option<fn() -> String>> = const { Cell::new(None) };
}

/// Work that panicked. The log has the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a defect of Weir, which the log describes")
    }
}

/// From now on panics are lines of the log, and a shard's ends the process.
pub(crate) fn start(log: &Log) {
    let log = log.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = thread::current();
        let (thread, message) = (thread.name().unwrap_or("?"), message(panic));
        match SHARD.get() {
            None => error!(thread, "a defect of Weir: {message}"),
            Some(session) => {
                error!(thread, session = session(), "a defect of Weir; the process ends: {message}");
                log.flush();
                std::process::abort();
            }
        }
    }));
}

/// From now on a panic of this thread ends the process. `session` names the session that it is serving.
pub(crate) fn end_the_process(session: fn() -> String) {
    SHARD.set(Some(session));
}

/// Does this work, and counts it if it panics.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    // The caller drops or remakes whatever the work was given.
    catch_unwind(AssertUnwindSafe(work)).map_err(|_: Box<dyn Any + Send>| {
        CAUGHT.fetch_add(1, Ordering::Relaxed);
        Panicked
    })
}

/// Does a thread's work to its end, and begins it again after each panic.
pub(crate) fn kept(mut work: impl FnMut()) {
    while caught(&mut work).is_err() {
        thread::sleep(REST);
    }
}

/// How many panics were caught.
pub(crate) fn total() -> u64 {
    CAUGHT.load(Ordering::Relaxed)
}

/// "src/x.rs:1:2: message", with a backtrace where `RUST_BACKTRACE` asks for one.
fn message(panic: &PanicHookInfo<'_>) -> String {
    let words = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(|place| format!("{place}: ")).unwrap_or_default();
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => format!("{place}{words}\n{backtrace}"),
        _ => format!("{place}{words}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_refuses_its_work_is_counted_and_the_next_work_is_done() {
        let before = total();
        assert_eq!(caught(|| 1), Ok(1));
        assert_eq!(caught(|| -> u8 { panic!("a test's own") }), Err(Panicked));
        assert_eq!(caught(|| 2), Ok(2));
        assert!(total() > before);
    }

    /// Names the thread that is to panic, for the process that this test starts.
    const CHILD: &str = "WEIR_TEST_PANIC";

    #[test]
    fn only_a_shards_panic_ends_the_process_and_each_is_logged() {
        const NAME: &str = "panics::tests::only_a_shards_panic_ends_the_process_and_each_is_logged";
        if let Some(kind) = std::env::var_os(CHILD) {
            return panic_in_a_thread(kind == "shard");
        }
        #[track_caller]
        fn check(kind: &str, ends: bool, words: &str) {
            let program = std::env::current_exe().expect("a test knows its own path");
            let mut command = std::process::Command::new(program);
            let output = command.args(["--exact", NAME]).env(CHILD, kind).output().expect("it starts");
            let log = String::from_utf8_lossy(&output.stderr);
            assert_eq!(!output.status.success(), ends, "{kind}: {}\n{log}", output.status);
            assert!(log.contains(words) && log.contains("a test's own"), "{kind}: {log}");
        }
        check("shard", true, "session=\"7.1 of shard 0, relaying\"");
        check("other", false, "a defect of Weir: ");
    }

    fn panic_in_a_thread(is_shard: bool) {
        let log = Log::start(weir_routing::LogLevel::Info).expect("a thread");
        start(&log);
        let thread = thread::spawn(move || {
            if is_shard {
                end_the_process(|| "7.1 of shard 0, relaying".to_owned());
            }
            panic!("a test's own");
        });
        assert!(thread.join().is_err());
        log.flush();
    }

    #[test]
    fn a_thread_begins_again_after_a_panic_and_ends_when_its_work_has() {
        let mut runs = 0;
        kept(|| {
            runs += 1;
            assert!(runs > 1, "a test's own");
        });
        assert_eq!(runs, 2);
    }
}
