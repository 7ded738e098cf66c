//! Renders long answers of the admin server in a thread of their own: the metrics of ten thousand routes take longer than the
//! control loop may.

use std::io;
use std::sync::mpsc;
use std::thread;

use async_channel::{Receiver, Sender};

use crate::panics;

/// The thread, made at the start.
#[derive(Clone, Debug)]
pub(super) struct Pages(mpsc::Sender<Page>);

/// What is to be rendered, and who waits for it.
struct Page {
    render: Box<dyn FnOnce() -> String + Send>,
    answer: Sender<String>,
}

impl Pages {
    /// Starts the thread.
    ///
    /// Errors: the system refuses one.
    pub(super) fn start() -> io::Result<Self> {
        let (pages, wanted) = mpsc::channel::<Page>();
        let run = move || {
            for Page { render, answer } in wanted {
                // Where that panics, whoever waits finds that nobody answers.
                if let Ok(page) = panics::caught(render) {
                    // Whoever asked may have gone away.
                    let _ = answer.try_send(page);
                }
            }
        };
        thread::Builder::new().name("pages".into()).spawn(run)?;
        Ok(Self(pages))
    }

    /// Where what `render` returns will come from; closed without it if it panics or the thread is gone.
    pub(super) fn render(&self, render: impl FnOnce() -> String + Send + 'static) -> Receiver<String> {
        let (answer, rendered) = async_channel::bounded(1);
        // A page that is not taken is dropped, which closes the channel.
        let _ = self.0.send(Page { render: Box::new(render), answer });
        rendered
    }
}
