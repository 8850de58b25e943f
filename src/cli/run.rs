//! From the command line to the exit code.

use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

use crate::core::exit;
use crate::driver::restart::IfStopped;
use crate::os::signals;

use super::options::{Cli, Command, FormWord};
use super::{
    check, deploy, doctor, gen_, healthy, history, notify, output, reload, service, settings, status, usage,
};

/// Everything that `main` does.
pub fn main() -> ExitCode {
    if let Err(error) = signals::survive_full_files() {
        let _ = output::aside(&format!("hareload: signals can't be handled: {error}"));
        return ExitCode::from(exit::INTERNAL);
    }
    let (line, told) = notify::told(std::env::args_os().collect());
    let matches = match Cli::command().try_get_matches_from(line) {
        Ok(matches) => matches,
        Err(error) => {
            let error = usage::without_secrets(error);
            // clap prints help on stdout and errors on stderr itself.
            let _ = error.print();
            notify::note_usage(&error);
            let usage = if status::is_asked_for() { exit::status::UNKNOWN } else { exit::USAGE };
            return ExitCode::from(if error.use_stderr() { usage } else { exit::DONE });
        }
    };
    let result = Cli::from_arg_matches(&matches).map_err(anyhow::Error::from).and_then(|cli| {
        let (name, options) = matches.subcommand().ok_or_else(|| anyhow::anyhow!("no command"))?;
        has_form(name, options)?;
        match cli.command {
            Command::Start(args) => service::start(&args, options),
            Command::Stop(args) => service::stop(&args, options),
            Command::Restart(args) => service::restart(&args, "restart", IfStopped::Start, options),
            Command::TryRestart(args) => service::restart(&args, "try-restart", IfStopped::Leave, options),
            Command::Deploy(args) => deploy::deploy(&args, options),
            Command::Rollback(args) => deploy::rollback(&args, options),
            Command::Reload(args) | Command::ForceReload(args) => reload::reload(&args, options),
            Command::Settings(args) => reload::settings(&args, options),
            Command::Recover(args) => reload::recover(&args, options),
            Command::Status(args) => status::status(&args, options),
            Command::Healthy(args) => healthy::healthy(&args, options),
            Command::Notify(args) => notify::notify(&args, told, options),
            Command::Check(args) => check::check(&args, options),
            Command::Doctor(args) => doctor::doctor(&args, options),
            Command::History(args) => history::history(&args, options),
            Command::Gen { what } => gen_::generate(&what),
        }
    });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = output::aside(&format!("hareload: {error:#}"));
            ExitCode::from(match () {
                () if status::is_asked_for() => exit::status::UNKNOWN,
                () if error.is::<output::Unprintable>() => exit::INTERNAL,
                () if error.is::<settings::NoPlace>() => exit::PRIVILEGE,
                () => exit::USAGE,
            })
        }
    }
}

/// The commands that pipelines have forms of their own of.
const OF_PIPELINES: [&str; 3] = ["deploy", "rollback", "check"];

/// A form that a command does not have is refused where it was typed; one that a pipeline sets for all of them counts where
/// there is such.
fn has_form(command: &str, options: &ArgMatches) -> anyhow::Result<()> {
    let typed = options.try_get_one::<FormWord>("output").ok().flatten();
    let on_the_line = typed.is_some() && options.value_source("output") == Some(ValueSource::CommandLine);
    let of_pipelines = typed.is_some_and(|word| word.report().is_some());
    if on_the_line && of_pipelines && !OF_PIPELINES.contains(&command) {
        anyhow::bail!(
            "{command} is printed for people or as JSON; {} have other forms",
            OF_PIPELINES.join(", ")
        );
    }
    Ok(())
}
