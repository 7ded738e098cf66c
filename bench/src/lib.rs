//! The load generator that cannot lie: it can show each claim about a TCP path, and reports where it cannot.
//!
//! The walk of a run:
//!
//! | step | file |
//! | --- | --- |
//! | arguments become [`settings::Settings`] | `cli/` |
//! | intended times are drawn, independent of completions | `plan` |
//! | one thread a core drives connections by epoll | `drive/` |
//! | bytes are made and checked: connection, direction and offset are in each word | `payload/` |
//! | every operation ends in one count of the [`ledger::Ledger`] | `ledger`, and when: `activity` |
//! | the run is judged: may its figures be believed? | `gates` |
//! | text, JSON, `.hgrm`, CSV, HTML | `report/` |
//!
//! `human` writes figures as people read them, `exit` has the exit codes. `serve/` is the other end of such a path. `compare/` starts proxies as children and runs the same work through each in turn.
//! Nothing here knows Weir's insides: it speaks TCP to anything.

pub mod activity;
pub mod cli;
pub mod compare;
pub mod drive;
pub mod exit;
pub mod gates;
pub mod human;
pub mod ledger;
pub mod payload;
pub mod plan;
pub mod report;
pub mod serve;
pub mod settings;
pub mod sys;
