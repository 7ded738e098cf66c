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

/// A page to be rendered, and where its text goes.
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
                // After a panic the channel closes without a page.
                if let Ok(page) = panics::caught(render) {
                    // The client may have gone away.
                    let _ = answer.try_send(page);
                }
            }
        };
        thread::Builder::new().name("pages".into()).spawn(run)?;
        Ok(Self(pages))
    }

    /// The channel by which the text of `render` comes; it closes without one if `render` panics or the thread is gone.
    pub(super) fn render(&self, render: impl FnOnce() -> String + Send + 'static) -> Receiver<String> {
        let (answer, rendered) = async_channel::bounded(1);
        // A page that is not taken is dropped, which closes the channel.
        let _ = self.0.send(Page { render: Box::new(render), answer });
        rendered
    }
}
