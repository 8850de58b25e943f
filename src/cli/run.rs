//! From the command line to the exit code.

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::core::exit;
use crate::os::signals;

use super::options::{Cli, Command};
use super::{check, gen_, history, output, reload};

/// Everything that `main` does.
pub fn main() -> ExitCode {
    if let Err(error) = signals::survive_full_files() {
        let _ = output::aside(&format!("hareload: signals can't be handled: {error}"));
        return ExitCode::from(exit::INTERNAL);
    }
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // clap prints help on stdout and errors on stderr itself.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::DONE });
        }
    };
    let result = Cli::from_arg_matches(&matches).map_err(anyhow::Error::from).and_then(|cli| {
        let (_, options) = matches.subcommand().ok_or_else(|| anyhow::anyhow!("no command"))?;
        match cli.command {
            Command::Reload(args) => reload::reload(&args, options),
            Command::Settings(args) => reload::settings(&args, options),
            Command::Recover(args) => reload::recover(&args, options),
            Command::Check(args) => check::check(&args, options),
            Command::History(args) => history::history(&args, options),
            Command::Gen { what } => gen_::generate(&what),
        }
    });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = output::aside(&format!("hareload: {error:#}"));
            let printing = error.downcast_ref::<output::Unprintable>().is_some();
            ExitCode::from(if printing { exit::INTERNAL } else { exit::USAGE })
        }
    }
}
