//! `check`.

use std::io::IsTerminal as _;

use clap::ArgMatches;

use crate::core::exit;
use crate::core::outcome::{Outcome, Rest, Verdict};
use crate::driver::check::CheckError;
use crate::driver::request::Refused;
use crate::driver::subject;
use crate::os::spawn::SpawnError;
use crate::report::findings::{self, Colour};

use super::options::{Asked, CheckArgs, Form};
use super::output;
use super::settings::{self, Purpose};

/// `hareload check`.
pub(super) fn check(args: &CheckArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    let asked = Asked { target: args.target.clone(), extra: args.extra.clone(), ..Asked::default() };
    let settings = settings::resolve(Purpose::Look, &asked, matches)?;
    let subject = match subject::subject(&settings.request) {
        Ok(subject) => subject,
        Err(refused) => {
            output::aside(&format!(
                "hareload: no configuration is named with --config, and that of a running HAProxy can't be had: {refused}"
            ))?;
            return Ok(code(refused));
        }
    };
    let checked = match subject::run(&subject) {
        Ok(checked) => checked,
        Err(error) => {
            output::aside(&format!("hareload: {error}"))?;
            return Ok(match error {
                CheckError::Spawn(SpawnError::NotFound { .. } | SpawnError::NotExecutable { .. }) => {
                    exit::NOT_INSTALLED
                }
                CheckError::Spawn(SpawnError::Other { .. })
                | CheckError::TooSlow { .. }
                | CheckError::Lost { .. } => exit::INTERNAL,
            });
        }
    };
    let passed = checked.passed();
    match settings.output {
        Form::Json => output::result(findings::json(&checked).trim_end())?,
        Form::Human => {
            let colour = if std::io::stderr().is_terminal() { Colour::Styled } else { Colour::Plain };
            let text = findings::human(&checked, colour);
            if !passed {
                output::aside(text.trim_end())?;
            } else if !args.quiet {
                output::result(text.trim_end())?;
            }
        }
    }
    Ok(if passed { exit::DONE } else { exit::CONFIGURATION })
}

/// The exit code of a reload that is refused for the same reason.
fn code(refused: Refused) -> u8 {
    let outcome = Outcome {
        verdict: Verdict::Refused(refused.kind, refused.why),
        way: None,
        tried: Vec::new(),
        cause: None,
        rest: Rest::Gone,
        interrupted: None,
    };
    outcome.exit_code()
}
