//! `check`.

use std::io::IsTerminal as _;

use clap::ArgMatches;

use crate::core::exit;
use crate::driver::subject;
use crate::report::findings::{self, Colour};
use crate::report::pipeline;

use super::options::{Asked, CheckArgs, Form, MannerArgs};
use super::output;
use super::settings::{self, Purpose};

/// `hareload check`.
pub(super) fn check(args: &CheckArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    let manner = MannerArgs { extra: args.extra.clone(), ..MannerArgs::default() };
    let asked = Asked { target: args.target.clone(), manner, ..Asked::default() };
    let settings = settings::resolve(Purpose::Look, &asked, matches)?;
    let subject = match subject::subject(&settings.request) {
        Ok(subject) => subject,
        Err(refused) => {
            output::aside(&format!(
                "hareload: no configuration is named with --config, and that of a running HAProxy can't be had: {refused}"
            ))?;
            return Ok(exit::of_refusal(refused.kind));
        }
    };
    let checked = match subject::run(&subject) {
        Ok(checked) => checked,
        Err(error) => {
            output::aside(&format!("hareload: {error}"))?;
            return Ok(exit::of_refusal(error.refusal()));
        }
    };
    let passed = checked.passed();
    if let Some(report) = settings.report {
        output::report(report, &pipeline::Subject::of_check(&checked))?;
        output::aside(findings::human(&checked, Colour::Plain).trim_end())?;
        return Ok(if passed { exit::DONE } else { exit::CONFIGURATION });
    }
    match settings.output {
        Form::Json => output::result(findings::json(&checked).trim_end())?,
        Form::Human => {
            let coloured = std::io::stderr().is_terminal() && console::colors_enabled_stderr();
            let colour = if coloured { Colour::Styled } else { Colour::Plain };
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
