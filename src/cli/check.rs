//! `check`.

use clap::ArgMatches;

use super::options::CheckArgs;

/// `hareload check`.
pub(super) fn check(_args: &CheckArgs, _matches: &ArgMatches) -> anyhow::Result<u8> {
    anyhow::bail!("not merged yet")
}
