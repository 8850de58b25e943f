//! `history`.

use std::io::ErrorKind;

use clap::ArgMatches;

use crate::core::exit;
use crate::driver::deploy::kept::Configuration;
use crate::driver::{deploy, records};
use crate::report::{deployment, human, json};

use super::options::{Asked, Form, HistoryArgs, Target};
use super::output;
use super::settings::{self, Purpose};

/// `hareload history`.
pub(super) fn history(args: &HistoryArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    let target = Target { place: args.place.clone(), ..Target::default() };
    let asked = Asked { target, past: args.past.clone(), ..Asked::default() };
    let settings = settings::resolve_leniently(Purpose::Look, &asked, matches)?;
    let directory = &settings.request.history_dir;
    let unread = |error: std::io::Error| {
        let denied = error.kind() == ErrorKind::PermissionDenied;
        let mend = if denied { "; run it as root" } else { "" };
        let directory = directory.display();
        output::aside(&format!("hareload: the history in {directory} can't be read: {error}{mend}"))?;
        Ok(if denied { exit::PRIVILEGE } else { exit::INTERNAL })
    };
    if args.configurations {
        let kept = match deploy::kept_of(directory) {
            Ok(kept) => kept,
            Err(error) => return unread(error),
        };
        for lost in deploy::lost(directory) {
            output::aside(&format!("hareload: {lost}"))?;
        }
        return configurations(&kept, args.last, settings.output);
    }
    let accounts = match records::history(directory) {
        Ok(accounts) => accounts,
        Err(error) => return unread(error),
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

/// What is kept for a rollback.
fn configurations(kept: &[Configuration], last: usize, form: Form) -> anyhow::Result<u8> {
    if kept.is_empty() && form == Form::Human {
        output::aside("no configuration is kept yet: a deploy keeps them")?;
    }
    for configuration in kept.iter().skip(kept.len().saturating_sub(last)) {
        output::result(&match form {
            Form::Json => deployment::kept_json(configuration),
            Form::Human => deployment::kept(configuration),
        })?;
    }
    Ok(exit::DONE)
}
