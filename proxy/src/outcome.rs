//! How a connection is recorded (step 11 of the walk): opened once, and ended with one [`Reason`].

use std::sync::Arc;

use crate::boards::counters::Series;
use crate::reason::Reason;

/// The record of one connection, consumed by its end. Dropped without one, it counts [`Reason::Internal`].
#[derive(Debug)]
pub(crate) struct Record {
    series: Arc<Series>,
    is_ended: bool,
}

impl Record {
    /// Counts a connection as opened: its route was decided, or it will not get one.
    pub(crate) fn open(series: Arc<Series>) -> Self {
        series.opened.add(1);
        Self { series, is_ended: false }
    }

    /// The counters that it moves.
    pub(crate) fn series(&self) -> &Arc<Series> {
        &self.series
    }

    /// Counts the end.
    pub(crate) fn end(mut self, reason: Reason) {
        self.is_ended = true;
        self.series.close(reason);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_ended {
            self.series.close(Reason::Internal);
        }
    }
}
