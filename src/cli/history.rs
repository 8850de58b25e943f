//! `history`.

use std::io::ErrorKind;

use clap::ArgMatches;

use crate::core::exit;
use crate::driver::records;
use crate::report::{human, json};

use super::options::{Asked, Form, HistoryArgs, Target};
use super::output;
use super::settings::{self, Purpose};

/// `hareload history`.
pub(super) fn history(args: &HistoryArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    let target = Target { place: args.place.clone(), ..Target::default() };
    let asked = Asked { target, past: args.past.clone(), ..Asked::default() };
    let settings = settings::resolve_leniently(Purpose::Look, &asked, matches)?;
    let directory = &settings.request.history_dir;
    let accounts = match records::history(directory) {
        Ok(accounts) => accounts,
        Err(error) => {
            let denied = error.kind() == ErrorKind::PermissionDenied;
            let mend = if denied { "; run it as root" } else { "" };
            output::aside(&format!(
                "hareload: the history in {} can't be read: {error}{mend}",
                directory.display()
            ))?;
            return Ok(if denied { exit::PRIVILEGE } else { exit::INTERNAL });
        }
    };
    let skip = accounts.len().saturating_sub(args.last);
    if accounts.is_empty() && settings.output == Form::Human {
        output::aside("no handover is on record yet")?;
    }
    for account in accounts.iter().skip(skip) {
        match settings.output {
            Form::Json => output::result(&json::account(account))?,
            Form::Human => output::result(&human::record(account))?,
        }
        if args.verbose && settings.output == Form::Human {
            output::result(&human::timeline(account))?;
        }
    }
    Ok(exit::DONE)
}
