//! `history`.

use clap::ArgMatches;

use crate::core::exit;
use crate::driver::records;
use crate::report::{human, json};

use super::options::{Form, HistoryArgs};
use super::{output, reload, settings};

/// `hareload history`.
pub(super) fn history(args: &HistoryArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    let settings = settings::resolve(&reload::only(&args.shared), matches)?;
    let accounts = records::history(&settings.request.history_dir)?;
    let skip = accounts.len().saturating_sub(args.last);
    if accounts.is_empty() && settings.output == Form::Human {
        output::aside("no handover is on record yet")?;
    }
    for account in accounts.iter().skip(skip) {
        match settings.output {
            Form::Json => output::result(&json::account(account))?,
            Form::Human => output::result(&human::record(account))?,
        }
        if args.shared.verbose && settings.output == Form::Human {
            output::result(&human::timeline(account))?;
        }
    }
    Ok(exit::DONE)
}
