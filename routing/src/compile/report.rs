//! Every problem that checking finds, and whether the thing that is being checked is whole.

use std::sync::Arc;

use crate::config::Config;
use crate::problem::{Problem, Severity};

/// The problems so far, and the state of the check.
#[derive(Default)]
pub(super) struct Report {
    /// The namespace of each text.
    pub(super) namespaces: Vec<Arc<str>>,
    problems: Vec<Problem>,
    /// How many errors there are, those included that are not reported because they follow from others.
    pub(super) errors: usize,
    /// The thing that is being checked lost a part when it was read.
    pub(super) damaged: bool,
    /// So did the configuration as a whole: a name that is not found may have been declared all the same.
    pub(super) incomplete: bool,
}

impl Report {
    /// Begins with the problems of shape.
    pub(super) fn new(config: &Config) -> Self {
        Self {
            problems: config.problems.clone(),
            errors: config.problems.len(),
            incomplete: config.incomplete,
            ..Self::default()
        }
    }

    /// Turns to the next thing. A part that was cut out of it was reported, and is an error of it.
    pub(super) fn turn_to(&mut self, damaged: bool) {
        self.damaged = damaged;
        self.errors += usize::from(damaged);
    }

    /// Reports a key that is missing, or seems wrong because another is, in the thing that is being checked.
    pub(super) fn lack(&mut self, problem: Problem) {
        self.push_unless(self.damaged, problem);
    }

    /// Reports it unless it only follows from a part that was cut out elsewhere; it counts as an error all the same.
    pub(super) fn push_unless(&mut self, follows: bool, problem: Problem) {
        if follows {
            self.errors += 1;
        } else {
            self.push(problem);
        }
    }

    pub(super) fn push(&mut self, problem: Problem) {
        self.errors += usize::from(problem.severity == Severity::Error);
        self.problems.push(problem);
    }

    /// All of them, by place; those without a place first.
    pub(super) fn sorted(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.place);
        self.problems
    }
}
