//! Reads the texts of the configuration in a thread of its own: a file system that does not answer (NFS, FUSE) then holds up a
//! reload, which is refused with that reason, and nothing else.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use async_channel::Sender;
use weir_routing::{Problem, Sources};

use super::event::Event;
use crate::front::load::{Origin, Refused};
use crate::panics::{self, Panicked};

/// A reading that takes longer is given up, and its reload refused.
const PATIENCE: Duration = Duration::from_secs(5);

/// The texts, or why there are none.
pub(super) type Reading = Result<Arc<Sources>, Refused>;

/// The thread that reads, seen from the one that wants the texts.
#[derive(Debug)]
pub(super) struct Reader {
    /// Each reading has a number: one that comes after it was given up is not taken for the next.
    wanted: mpsc::Sender<u64>,
    readings: mpsc::Receiver<(u64, Reading)>,
    last: u64,
    at: Arc<Mutex<PathBuf>>,
}

impl Reader {
    /// Starts the thread.
    pub(super) fn start(origin: Origin, events: Sender<Event>) -> io::Result<Self> {
        let (wanted, numbers) = mpsc::channel::<u64>();
        let (sender, readings) = mpsc::channel();
        let at = Arc::new(Mutex::new(PathBuf::new()));
        let reading_at = at.clone();
        let run = move || {
            while let Ok(first) = numbers.recv() {
                // Of those that were given up meanwhile one answer is enough.
                let number = numbers.try_iter().last().unwrap_or(first);
                let began = Instant::now();
                let begin = |path: &Path| lock(&reading_at).clone_from(&path.to_owned());
                let reading = panics::caught(|| origin.read_settled(&begin));
                let reading = reading.unwrap_or_else(|defect| Err(refused_by(defect)));
                let was_given_up = began.elapsed() >= PATIENCE;
                if sender.send((number, reading)).is_err() {
                    return;
                }
                if was_given_up {
                    // The file system answers again, so its texts can be taken now.
                    let _ = events.send_blocking(Event::Changed);
                }
            }
        };
        thread::Builder::new().name("read".into()).spawn(run)?;
        Ok(Self { wanted, readings, last: 0, at })
    }

    /// Reads the texts as they are now.
    ///
    /// Errors: their problems, or that the file system does not answer.
    pub(super) fn read(&mut self) -> Reading {
        self.last += 1;
        let deadline = Instant::now() + PATIENCE;
        let mut answer = self.wanted.send(self.last).map_err(|_| mpsc::RecvTimeoutError::Disconnected);
        while let Ok(()) = answer {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.readings.recv_timeout(left) {
                Ok((number, reading)) if number == self.last => return reading,
                Ok(_) => {}
                Err(error) => answer = Err(error),
            }
        }
        let path = lock(&self.at).display().to_string();
        Err(match answer {
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let message = format!("the thread that reads the configuration has ended, at {path}");
                Problem::error("unreadable", None, message).help("restart Weir to take a new one")
            }
            _ => Problem::error(
                "unreadable",
                None,
                format!("reading {path} has taken more than {} s", PATIENCE.as_secs()),
            )
            .help("see whether the file system that holds it answers (`stat` it); it is read again once it does"),
        }
        .into())
    }
}

/// A configuration that a defect keeps from being judged.
pub(super) fn refused_by(defect: Panicked) -> Refused {
    let problem = Problem::error("defect", None, format!("this configuration cannot be judged: {defect}"));
    problem.help("please report the line of the log, and the configuration if you may show it").into()
}

fn lock(at: &Mutex<PathBuf>) -> std::sync::MutexGuard<'_, PathBuf> {
    at.lock().unwrap_or_else(PoisonError::into_inner)
}
