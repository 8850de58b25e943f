//! `doctor`.

use clap::ArgMatches;

use crate::driver::doctor::{self, Fixing};
use crate::report::{doctor as report, json};

use super::options::{Asked, DoctorArgs, Form, MannerArgs};
use super::output;
use super::settings::{self, Purpose};

/// `hareload doctor`.
pub(super) fn doctor(args: &DoctorArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    let asked = Asked {
        target: args.target.clone(),
        past: args.past.clone(),
        turn: args.turn.clone(),
        manner: MannerArgs { handover: args.handover, ..MannerArgs::default() },
        ..Asked::default()
    };
    let fixing = if args.fix { Fixing::Mend } else { Fixing::Leave };
    // Where a reload would work; whoever has no such place can still look.
    let settings = match settings::resolve(Purpose::Work, &asked, matches) {
        Err(_) if !args.fix => settings::resolve_leniently(Purpose::Look, &asked, matches)?,
        settings => settings?,
    };
    let examination = doctor::examine(&settings.request, fixing);
    if !args.quiet {
        output::result(&match settings.output {
            Form::Json => json::doctor(&examination),
            Form::Human => report::human(&examination),
        })?;
    }
    Ok(examination.exit_code)
}
