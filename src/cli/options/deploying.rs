//! The options of `deploy` and `rollback`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{MannerArgs, Work, duration};

/// How a configuration is deployed.
#[derive(Clone, Debug, Default, Args)]
pub struct CareArgs {
    /// How long the candidate is watched once it serves; if it fails, what was there before comes back [default: 0s]
    #[arg(long, value_name = "DURATION", env = "HARELOAD_PROBATION", value_parser = duration)]
    pub probation: Option<Duration>,
    /// How many good configurations are kept, and as many of those that failed [default: 10]
    #[arg(long, value_name = "N", env = "HARELOAD_KEEP", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub keep: Option<u32>,
}

/// What `deploy` and `rollback` have in common.
#[derive(Clone, Debug, Args)]
pub struct DeployWork {
    /// The HAProxy that is meant, and who works on it.
    #[command(flatten)]
    pub work: Work,
    /// How it is handed over.
    #[command(flatten)]
    pub manner: MannerArgs,
    /// How it is deployed.
    #[command(flatten)]
    pub care: CareArgs,
    /// Refuse if the configuration in place has not this SHA-256, or one that begins so; see `hareload status`
    #[arg(long, value_name = "HASH", value_parser = super::words::hash)]
    pub expect_hash: Option<String>,
    /// Start HAProxy if it does not run, instead of refusing
    #[arg(long)]
    pub start: bool,
    /// Check it where it will live, say what would be done, and touch nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Show what changes in the files, without secrets
    #[arg(long)]
    pub diff: bool,
}

/// The options of `deploy`.
#[derive(Clone, Debug, Args)]
pub struct DeployArgs {
    /// The configuration: a file, several, a directory, or - for a tar archive or a file on the standard input
    #[arg(required = true, value_name = "CANDIDATE")]
    pub candidate: Vec<PathBuf>,
    /// What is asked for.
    #[command(flatten)]
    pub deploy: DeployWork,
    /// What the candidate is called in reports: the path of the file or directory in a checkout
    #[arg(long, value_name = "PATH")]
    pub origin: Option<PathBuf>,
    /// Do nothing if nothing has changed of all that HAProxy reads
    #[arg(long)]
    pub if_changed: bool,
}

/// The options of `rollback`.
#[derive(Clone, Debug, Args)]
pub struct RollbackArgs {
    /// The number of the configuration [default: the last good one that is not in place]
    #[arg(long, value_name = "N")]
    pub to: Option<u64>,
    /// What is asked for.
    #[command(flatten)]
    pub deploy: DeployWork,
}
