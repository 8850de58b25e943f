//! `reload`, `recover` and `settings`.

use std::io::IsTerminal as _;
use std::rc::Rc;

use clap::ArgMatches;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::core::account::Account;
use crate::core::exit;
use crate::driver;
use crate::driver::deploy::kept::Store;
use crate::driver::drain::Draining;
use crate::os::signals;
use crate::report::{human, json};

use super::options::{Asked, Form, RecoverArgs, ReloadArgs, SettingsArgs, Target, Voice};
use super::output;
use super::settings::{self, Purpose, Settings};

/// `hareload reload`.
pub(super) fn reload(args: &ReloadArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    let purpose = if args.dry_run { Purpose::Foretell } else { Purpose::Work };
    let mut settings = settings::resolve(purpose, &args.asked, matches)?;
    if args.dry_run {
        let intended = driver::reload::intend(&settings.request);
        return match intended {
            Ok(mut intention) => {
                let refused = settings.no_place.map(|why| format!("it would be refused: {why}"));
                intention.notes.extend(refused);
                output::result(&match settings.output {
                    Form::Json => json::intention(&intention),
                    Form::Human => human::intention(&intention),
                })?;
                Ok(exit::DONE)
            }
            Err(account) => say(&account, args.voice, settings.output),
        };
    }
    let bar = (!args.voice.quiet).then(progress);
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
    say(&account, args.voice, settings.output)
}

/// `hareload recover`.
pub(super) fn recover(args: &RecoverArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    let target = Target { state: args.state.clone(), place: args.place.clone(), ..Target::default() };
    let asked = Asked { target, past: args.past.clone(), turn: args.turn.clone(), ..Asked::default() };
    let settings = settings::resolve(Purpose::Work, &asked, matches)?;
    let recovered = driver::reload::recover(&settings.request);
    // What was written down of a deploy, the account says.
    for lost in Store::of(&settings.request.history_dir).lost() {
        output::aside(&format!("hareload: {lost}"))?;
    }
    match recovered {
        Some(account) => say(&account, args.voice, settings.output),
        None => {
            if !args.voice.quiet {
                output::aside("nothing to recover: no handover was interrupted")?;
            }
            Ok(exit::DONE)
        }
    }
}

/// `hareload settings`.
pub(super) fn settings(args: &SettingsArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    let asked = Asked { hook: args.hook.clone(), care: args.care.clone(), ..args.asked.clone() };
    let Settings { listed, output, .. } = settings::resolve(Purpose::Foretell, &asked, matches)?;
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

/// Says what happened. The exit code is that of the handover, also when nobody can read what is said about it.
pub(super) fn say(account: &Account, voice: Voice, form: Form) -> anyhow::Result<u8> {
    let said = print(account, voice, form);
    if let Err(error) = said {
        let _ = output::aside(&format!("hareload: {error:#}"));
    }
    match account.outcome.interrupted {
        // The undo is done and said: now the signal does what it was sent for.
        Some(signal) => signals::die_of(signal),
        None => Ok(account.exit_code),
    }
}

fn print(account: &Account, voice: Voice, form: Form) -> anyhow::Result<()> {
    match form {
        Form::Json => output::result(&json::account(account)),
        Form::Human => {
            if voice.verbose {
                output::aside(&human::timeline(account))?;
            }
            let text = human::account(account);
            if account.exit_code != exit::DONE {
                output::aside(&text)
            } else if voice.quiet {
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
