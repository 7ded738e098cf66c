//! How a connection is recorded (step 11 of the walk): opened once, and ended with one [`Reason`].

use std::sync::Arc;

use crate::boards::counters::Series;
use crate::reason::Reason;

/// The record of one connection, which takes one end. Dropped without one, it counts [`Reason::Internal`].
#[derive(Debug)]
pub(crate) struct Record {
    /// Until the end.
    series: Option<Arc<Series>>,
}

/// Every session has one.
const _: () = assert!(size_of::<Record>() == size_of::<usize>(), "a record is one word");

impl Record {
    /// Counts a connection as opened: its route was decided, or it will not get one.
    pub(crate) fn open(series: Arc<Series>) -> Self {
        series.opened.add(1);
        Self { series: Some(series) }
    }

    /// The counters that the connection moves; none after its end.
    pub(crate) fn series(&self) -> Option<&Series> {
        self.series.as_deref()
    }

    /// Counts the end, once.
    pub(crate) fn end(&mut self, reason: Reason) {
        if let Some(series) = self.series.take() {
            series.close(reason);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.end(Reason::Internal);
    }
}
