//! `weir-bench serve`: its arguments.

use clap::Args;

/// The arguments of `weir-bench serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {}

impl Serve {
    pub(super) fn main(self) -> anyhow::Result<u8> {
        anyhow::bail!("not yet")
    }
}
