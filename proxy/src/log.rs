//! The process log: events of the process, on stderr. Lines about single connections belong to an access log, not here.
//!
//! One thread writes, behind a bounded queue, so that no other thread ever waits for the reader of stderr: a terminal that is
//! stopped, a pipe that is full. Lines that do not fit are dropped and counted, and a line reports their number once there is room.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};
use weir_routing::LogLevel;

use crate::front::report::coloured;

/// Texts that may wait to be written.
const MAX_TEXTS: usize = 1024;

/// Bytes that may wait. Problems of a configuration are one text, and so are the lines of all its listeners.
const MAX_BYTES: usize = 4 << 20;

/// How long the end of the process waits for a reader that takes nothing.
const STALLED: Duration = Duration::from_millis(200);

/// How often the end of the process looks at what has been written.
const LOOK: Duration = Duration::from_millis(1);

thread_local! {
    /// Whether this thread is the one that writes: its own lines do not go through the queue that it empties.
    static WRITES: Cell<bool> = const { Cell::new(false) };
}

/// The process log: texts go in here, and a reload changes its level.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    queue: Arc<Queue>,
    level: reload::Handle<LevelFilter, Registry>,
}

impl Log {
    /// Starts the process log and its thread. Only the first of a process gets the lines of `tracing`.
    ///
    /// Errors: there is no thread for it.
    pub(crate) fn start(level: LogLevel) -> io::Result<Self> {
        let (queue, texts) = Queue::new();
        let writing = queue.clone();
        thread::Builder::new().name("log".into()).spawn(move || {
            WRITES.set(true);
            writing.write(texts, write_to_stderr);
        })?;
        let (filter, level) = reload::Layer::new(filter(level));
        let lines = queue.clone();
        let lines = fmt::layer()
            .with_writer(move || Line(lines.clone()))
            .with_ansi(coloured(&io::stderr()))
            .with_target(false);
        // A second log of one process can only be a test's: it keeps the first.
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        Ok(Self { queue, level })
    }

    /// From now on this level.
    pub(crate) fn set_level(&self, level: LogLevel) {
        // Fails only if the subscriber is gone, and the log with it.
        let _ = self.level.reload(filter(level));
    }

    /// Queues a text of whole lines.
    pub(crate) fn print(&self, text: String) {
        if !text.is_empty() {
            self.queue.push(text.into_bytes());
        }
    }

    /// Texts that were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.queue.dropped.load(Ordering::Relaxed)
    }

    /// Waits, before the process ends, until everything so far is written or the reader takes nothing more.
    pub(crate) fn flush(&self) {
        let wanted = self.queue.pushed.load(Ordering::Acquire);
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let written = self.queue.written.load(Ordering::Acquire);
            if written != last {
                (last, since) = (written, Instant::now());
            }
            if written >= wanted || since.elapsed() >= STALLED {
                return;
            }
            thread::sleep(LOOK);
        }
    }
}

/// Texts that wait to be written.
#[derive(Debug)]
struct Queue {
    texts: SyncSender<Vec<u8>>,
    /// Bytes that wait.
    bytes: AtomicUsize,
    /// Texts that were queued, and those that were written.
    pushed: AtomicU64,
    written: AtomicU64,
    /// Texts that reached no reader, ever.
    dropped: AtomicU64,
    /// Those that did not fit since the last line that reported them.
    unreported: AtomicU64,
}

impl Queue {
    fn new() -> (Arc<Self>, Receiver<Vec<u8>>) {
        let (texts, received) = sync_channel(MAX_TEXTS);
        let queue = Self {
            texts,
            bytes: AtomicUsize::default(),
            pushed: AtomicU64::default(),
            written: AtomicU64::default(),
            dropped: AtomicU64::default(),
            unreported: AtomicU64::default(),
        };
        (Arc::new(queue), received)
    }

    /// Queues a text, or drops it. Never waits.
    fn push(&self, text: Vec<u8>) {
        let length = text.len();
        let before = self.bytes.fetch_add(length, Ordering::Relaxed);
        // A text that is longer than all that may wait is taken by an empty queue.
        let has_room = before == 0 || before + length <= MAX_BYTES;
        if has_room && self.texts.try_send(text).is_ok() {
            self.pushed.fetch_add(1, Ordering::Release);
        } else {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.unreported.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes texts as they come, for ever.
    fn write(&self, texts: impl IntoIterator<Item = Vec<u8>>, mut sink: impl FnMut(&[u8]) -> io::Result<()>) {
        for text in texts {
            let result = sink(&text);
            self.bytes.fetch_sub(text.len(), Ordering::Relaxed);
            self.written.fetch_add(1, Ordering::Release);
            if result.is_err() {
                // Without stderr the process goes on.
                self.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            match self.unreported.swap(0, Ordering::Relaxed) {
                0 => {}
                count => tracing::warn!("{count} lines of this log were dropped: stderr was not read"),
            }
        }
    }
}

/// One line of `tracing`, which comes in one piece.
struct Line(Arc<Queue>);

impl io::Write for Line {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if WRITES.get() {
            let _ = write_to_stderr(text);
        } else {
            self.0.push(text.to_vec());
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes all of it, and waits for a reader as long as it takes.
fn write_to_stderr(mut text: &[u8]) -> io::Result<()> {
    let stderr = io::stderr();
    while !text.is_empty() {
        match rustix::io::write(&stderr, text) {
            Ok(written) => text = &text[written..],
            Err(rustix::io::Errno::INTR) => {}
            // Another process has made this pipe or terminal non-blocking.
            Err(rustix::io::Errno::AGAIN) => {
                poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_do_not_fit_are_dropped_and_counted() {
        #[track_caller]
        fn check(pushed: &[usize], dropped: u64) {
            let (queue, _texts) = Queue::new();
            pushed.iter().for_each(|&length| queue.push(vec![b'x'; length]));
            assert_eq!(queue.dropped.load(Ordering::Relaxed), dropped);
            assert_eq!(queue.unreported.load(Ordering::Relaxed), dropped);
            assert_eq!(queue.pushed.load(Ordering::Relaxed), pushed.len() as u64 - dropped);
        }
        check(&[1; MAX_TEXTS], 0);
        check(&[1; MAX_TEXTS + 3], 3);
        check(&[MAX_BYTES + 1], 0);
        check(&[MAX_BYTES, 1], 1);
        check(&[1, MAX_BYTES, 1], 1);
        check(&[1, MAX_BYTES - 1, 1], 1);
    }

    #[test]
    fn texts_are_written_in_order_and_a_sink_that_is_gone_ends_nothing() {
        let (queue, texts) = Queue::new();
        for text in ["a", "b", "c"] {
            queue.push(text.into());
        }
        let mut written = Vec::new();
        queue.write(texts.try_iter(), |text| {
            written.extend_from_slice(text);
            if text == b"b" { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
        });
        assert_eq!(written, b"abc");
        assert_eq!(queue.written.load(Ordering::Relaxed), 3);
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 1);
        assert_eq!(queue.bytes.load(Ordering::Relaxed), 0);
    }
}
