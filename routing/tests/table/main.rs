//! The table from outside: what decides, what picks, what explains, each against a model that is too simple to be wrong.

mod decide;
mod explain;
mod picking;
mod support;
