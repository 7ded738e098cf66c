//! The argument that names a configuration, the same for every command.

use std::path::PathBuf;

use clap::Args;

use super::load::Origin;

/// Where the configuration is.
#[derive(Args, Debug)]
pub struct Configuration {
    /// A file, or a directory whose *.toml files count as one; may be repeated [default: /etc/weir]
    #[arg(short = 'c', long = "config", value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
}

impl From<Configuration> for Origin {
    fn from(configuration: Configuration) -> Self {
        Self::from_arguments(configuration.paths)
    }
}
