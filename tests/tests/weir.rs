//! Weir from outside, as a user's client and server would see it: one binary for all of it, a module for each subject.
//!
//! Tests named `long_` are ignored by default and run in CI.

mod admin;
mod check;
mod churn;
mod counters;
mod dead_peers;
mod demo;
mod descriptors;
mod dialling;
mod drain;
mod endings;
mod examples;
mod explain;
mod files;
mod late;
mod limits;
mod listeners;
mod names;
mod one_decision;
mod pages;
mod preflight;
mod process_log;
mod reload;
mod restart;
mod routing;
mod semantics;
mod shards;
mod slow_reader;
mod support;
mod threads;
mod tidy;
mod timeouts;
mod upstreams;
