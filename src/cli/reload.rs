//! `reload`, `recover` and `settings`.

use std::io::IsTerminal as _;
use std::rc::Rc;

use clap::ArgMatches;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::core::account::Account;
use crate::core::exit;
use crate::driver;
use crate::driver::drain::Draining;
use crate::os::signals;
use crate::report::{human, json};

use super::options::{Form, ReloadArgs, Shared};
use super::output;
use super::settings::{self, Settings};

/// `hareload reload`.
pub(super) fn reload(args: &ReloadArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    let mut settings = settings::resolve(args, matches)?;
    if args.dry_run {
        let intended = driver::reload::intend(&settings.request);
        return match intended {
            Ok(intention) => {
                output::result(&match settings.output {
                    Form::Json => json::intention(&intention),
                    Form::Human => human::intention(&intention),
                })?;
                Ok(exit::DONE)
            }
            Err(account) => say(&account, &args.shared, settings.output),
        };
    }
    let bar = (!args.shared.quiet).then(progress);
    if let Some(bar) = bar.clone() {
        settings.request.on_drain = Some(Rc::new(move |draining| bar.show(draining)));
    }
    let account = if args.start {
        driver::reload::reload_or_start(&settings.request)
    } else {
        driver::reload::reload(&settings.request)
    };
    if let Some(bar) = bar {
        bar.end();
    }
    say(&account, &args.shared, settings.output)
}

/// `hareload recover`.
pub(super) fn recover(shared: &Shared, matches: &ArgMatches) -> anyhow::Result<u8> {
    let settings = settings::resolve(&only(shared), matches)?;
    match driver::reload::recover(&settings.request) {
        Some(account) => say(&account, shared, settings.output),
        None => {
            if !shared.quiet {
                output::aside("nothing to recover: no handover was interrupted")?;
            }
            Ok(exit::DONE)
        }
    }
}

/// `hareload settings`.
pub(super) fn settings(args: &ReloadArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    let Settings { listed, output, .. } = settings::resolve(args, matches)?;
    match output {
        Form::Json => {
            for setting in listed {
                output::result(&serde_json::to_string(&setting)?)?;
            }
        }
        Form::Human => {
            let width = listed.iter().map(|setting| setting.name.len()).max().unwrap_or(0);
            for setting in listed {
                output::result(&format!("{:width$}  {}  ({})", setting.name, setting.value, setting.origin))?;
            }
        }
    }
    Ok(exit::DONE)
}

/// The options of a command that has only the shared ones.
pub(super) fn only(shared: &Shared) -> ReloadArgs {
    ReloadArgs {
        shared: shared.clone(),
        handover: None,
        trial: None,
        probe: Vec::new(),
        settle: None,
        ready_timeout: None,
        wait: false,
        drain_timeout: None,
        hard_stop_after: None,
        dry_run: false,
        start: false,
        extra: Vec::new(),
    }
}

/// Says what happened. The exit code is that of the handover, also when nobody can read what is said about it.
pub(super) fn say(account: &Account, shared: &Shared, form: Form) -> anyhow::Result<u8> {
    let said = print(account, shared, form);
    if let Err(error) = said {
        let _ = output::aside(&format!("hareload: the result can't be printed: {error:#}"));
    }
    match account.outcome.interrupted {
        // The undo is done and said: now the signal does what it was sent for.
        Some(signal) => signals::die_of(signal),
        None => Ok(account.exit_code),
    }
}

fn print(account: &Account, shared: &Shared, form: Form) -> anyhow::Result<()> {
    match form {
        Form::Json => output::result(&json::account(account)),
        Form::Human => {
            if shared.verbose {
                output::aside(&human::timeline(account))?;
            }
            let text = human::account(account);
            if account.exit_code != exit::DONE {
                output::aside(&text)
            } else if shared.quiet {
                Ok(())
            } else {
                output::result(&text)
            }
        }
    }
}

/// How the draining is shown: a bar on a terminal, lines elsewhere.
#[derive(Clone)]
pub(super) struct Progress(Option<ProgressBar>);

pub(super) fn progress() -> Progress {
    if !std::io::stderr().is_terminal() {
        return Progress(None);
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::default_spinner());
    Progress(Some(bar))
}

impl Progress {
    pub(super) fn show(&self, draining: &Draining) {
        let text = human::draining(draining.pid, draining.connections, draining.age, draining.memory);
        match &self.0 {
            Some(bar) => {
                bar.set_message(text);
                bar.tick();
            }
            None => {
                let _ = output::aside(&text);
            }
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
