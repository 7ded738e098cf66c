//! Bytes without the bytes: runs of (stream, offset, length). A byte that is lost, doubled, out of order or in the wrong session
//! shows at once, and a mebibyte costs as little as one byte.

use std::collections::VecDeque;

/// Consecutive bytes of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) stream: usize,
    pub(crate) at: u64,
    pub(crate) len: usize,
}

/// A queue of bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bytes {
    runs: VecDeque<Run>,
    len: usize,
}

impl Bytes {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn push(&mut self, run: Run) {
        self.len += run.len;
        if let Some(last) = self.runs.back_mut()
            && last.stream == run.stream
            && last.at + last.len as u64 == run.at
        {
            last.len += run.len;
        } else if run.len > 0 {
            self.runs.push_back(run);
        }
    }

    /// Takes the first `count` bytes.
    pub(crate) fn take(&mut self, mut count: usize) -> Self {
        let mut taken = Self::default();
        while count > 0 {
            let Some(first) = self.runs.front_mut() else { break };
            let len = first.len.min(count);
            taken.push(Run { len, ..*first });
            first.at += len as u64;
            first.len -= len;
            if first.len == 0 {
                self.runs.pop_front();
            }
            self.len -= len;
            count -= len;
        }
        taken
    }

    pub(crate) fn append(&mut self, other: Self) {
        for run in other.runs {
            self.push(run);
        }
    }

    /// A copy of the bytes `from..to`.
    pub(crate) fn range(&self, from: usize, to: usize) -> Self {
        let mut all = self.clone();
        all.take(from);
        all.take(to - from)
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter()
    }
}

/// A pipe.
#[derive(Debug, Default)]
pub(crate) struct Fifo {
    pub(crate) bytes: Bytes,
    pub(crate) slots_used: usize,
    pub(crate) lent: bool,
}
