//! `weir-bench compare`: its arguments.

use clap::Args;

/// The arguments of `weir-bench compare`.
#[derive(Debug, Args)]
pub(crate) struct Compare {}

impl Compare {
    pub(super) fn main(self) -> anyhow::Result<u8> {
        anyhow::bail!("not yet")
    }
}
