//! The health thread: work on endpoints beside the data path. It logs the dials that failed, from the counts
//! that shards leave on the health board, and sleeps while every endpoint connects.

mod outages;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use tracing::{info, warn};

use self::outages::{Line, Outages};
use crate::boards::health::HealthBoard;
use crate::panics;

/// Starts the thread. It lives as long as the process.
///
/// Errors: the system gives no thread.
pub(crate) fn start(board: Arc<HealthBoard>) -> io::Result<()> {
    thread::Builder::new().name("weir-health".into()).spawn(move || panics::kept(|| watch(&board))).map(drop)
}

fn watch(board: &HealthBoard) {
    let mut outages = Outages::default();
    board.bell().listen();
    loop {
        // Before looking: a dial that fails meanwhile rings again.
        if !outages.are_open() {
            board.bell().silence();
        }
        let now = Instant::now();
        for line in outages.look(now, &board.read()) {
            log(line);
        }
        match outages.next_look() {
            Some(pause) => thread::sleep(pause),
            // A failure after `silence` has left a token, and then this returns at once.
            None => {
                while !board.bell().is_rung() {
                    thread::park();
                }
            }
        }
    }
}

fn log(line: Line) {
    match line {
        Line::Failing { service, failed, connected, reasons, endpoints } => {
            warn!(%service, failed, connected, %reasons, %endpoints, "dials fail");
        }
        Line::Over { service, failed, lasted } => {
            info!(%service, failed, seconds = lasted.as_secs(), "every endpoint connects again");
        }
    }
}
