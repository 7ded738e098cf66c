//! The thread that accepts for the admin server, and does nothing else. An accept of the executor's io_uring would hold the
//! listening socket for some milliseconds beyond the end of the process, and the next Weir would find its address taken.

use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use tracing::warn;

use crate::panics;

/// From accept to the last byte of the answer. Nothing here takes a second; a scraper far away may.
const DEADLINE: Duration = Duration::from_secs(10);

/// The same where the connection holds the last descriptor.
const DEADLINE_WITHOUT_DESCRIPTORS: Duration = Duration::from_secs(1);

/// Connections that have been accepted and wait for the control thread. Others wait in the kernel.
const MAX_ACCEPTED: usize = 16;

/// How long accepting rests after it failed.
const REST: Duration = Duration::from_millis(100);

/// How long it rests while the connection that got the last descriptor is served.
const SHORT_REST: Duration = Duration::from_millis(10);

/// A connection, and how long it may last.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) deadline: Duration,
}

/// Accepts on this listener for the life of the process.
///
/// Errors: the system makes no thread.
pub(super) fn start(listener: TcpListener) -> io::Result<Receiver<Accepted>> {
    let (sender, accepted) = async_channel::bounded(MAX_ACCEPTED);
    thread::Builder::new().name("admin".into()).spawn(move || panics::kept(|| accept(&listener, &sender)))?;
    Ok(accepted)
}

/// Accepts for ever. A descriptor is kept aside for when there are no others: given up for the connection that waits, and taken
/// back when that one has been served.
fn accept(listener: &TcpListener, accepted: &Sender<Accepted>) {
    let mut spare = spare();
    let mut deadline = DEADLINE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                if accepted.send_blocking(Accepted { stream, deadline }).is_err() {
                    return;
                }
                deadline = DEADLINE;
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                if spare.take().is_some() {
                    deadline = DEADLINE_WITHOUT_DESCRIPTORS;
                } else {
                    thread::sleep(SHORT_REST);
                    spare = self::spare();
                }
                continue;
            }
            Err(error) => {
                warn!("admin: cannot accept: {error}");
                thread::sleep(REST);
            }
        }
        if spare.is_none() {
            spare = self::spare();
        }
    }
}

/// A descriptor to give up when there are no others.
fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}
