//! `status`.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::ArgMatches;
use console::{Term, truncate_str};

use crate::driver::status::{self, Looker};
use crate::os::clock;
use crate::report::{json, status as report};

use super::options::{Asked, Form, StatusArgs};
use super::output;
use super::settings::{self, Purpose, Settings};

/// How often `--watch` looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// To the upper left corner; from there to the end of the line, and of the screen, everything is cleared. ECMA-48.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K\n";
const CLEAR_BELOW: &str = "\x1b[J";

/// Whether `status` was typed, whatever else is wrong with it: its exit codes are others.
pub(super) fn is_asked_for() -> bool {
    std::env::args_os().nth(1).is_some_and(|verb| verb == "status")
}

/// `hareload status`.
pub(super) fn status(args: &StatusArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    let asked = Asked { target: args.target.clone(), past: args.past.clone(), ..Asked::default() };
    let settings = settings::resolve_leniently(Purpose::Look, &asked, matches)?;
    if args.quiet {
        return Ok(status::standing(&settings.request).exit_code());
    }
    let mut looker = Looker::default();
    if args.watch {
        return watch(&settings, &mut looker);
    }
    let status = looker.look(&settings.request);
    output::result(&match settings.output {
        Form::Json => json::status(&status),
        Form::Human => report::human(&status),
    })?;
    Ok(status.exit_code)
}

/// Shows it again and again, until nobody reads it any more.
fn watch(settings: &Settings, looker: &mut Looker) -> anyhow::Result<u8> {
    let redraws = io::stdout().is_terminal() && settings.output == Form::Human;
    loop {
        let status = looker.look(&settings.request);
        let text = match settings.output {
            Form::Json => format!("{}\n", json::status(&status)),
            Form::Human if redraws => {
                let (height, width) = Term::stdout().size();
                let text = report::human(&status);
                // The last line is the cursor's.
                let shown = text.lines().take(usize::from(height).saturating_sub(1));
                let lines = shown.map(|line| truncate_str(line, width.into(), "…").into_owned() + CLEAR_LINE);
                format!("{HOME}{}{CLEAR_BELOW}", lines.collect::<String>())
            }
            Form::Human => format!("{}\n\n", report::human(&status)),
        };
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(status.exit_code),
            result => result?,
        }
        clock::pass(INTERVAL);
    }
}
