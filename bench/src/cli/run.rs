//! `weir-bench run`: its arguments.

use clap::Args;

/// The arguments of `weir-bench run`.
#[derive(Debug, Args)]
pub(crate) struct Run {}

impl Run {
    pub(super) fn main(self) -> anyhow::Result<u8> {
        anyhow::bail!("not yet")
    }
}
