//! `deploy` and `rollback`.

use std::env;
use std::io::{self, IsTerminal as _};

use clap::ArgMatches;

use crate::core::account::Account;
use crate::core::deployment::{Changed, Deployment};
use crate::core::exit;
use crate::driver::deploy::candidate::Candidate;
use crate::driver::deploy::{self, Deploy, Source};
use crate::os::privilege;
use crate::os::signals::{self, UntilInterrupted};
use crate::report::findings::Colour;
use crate::report::{deployment, diff, human, pipeline};

use super::options::{Asked, DeployArgs, DeployWork, Form, Report, RollbackArgs};
use super::output;
use super::settings::{self, Purpose, Settings};

/// Who is said to have deployed, in this order: pipelines name who began them.
const WHO: [&str; 4] = ["GITHUB_ACTOR", "GITLAB_USER_LOGIN", "SUDO_USER", "USER"];

/// The longest name of somebody.
const LONGEST: usize = 100;

/// `hareload deploy`.
pub(super) fn deploy(args: &DeployArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    signals::note_interrupts()?;
    let settings = resolve(&args.deploy, matches)?;
    let origin = args.origin.as_deref();
    let mut stream = UntilInterrupted(io::stdin().lock());
    let candidate = match Candidate::read(&args.candidate, &mut stream, origin) {
        Ok(candidate) => candidate,
        Err(refused) => {
            let deployment = deploy::refused(&settings.request, "deploy", refused);
            return say(&deployment, &args.deploy, &settings);
        }
    };
    work(&args.deploy, &settings, Source::Candidate(candidate), args.if_changed)
}

/// `hareload rollback`.
pub(super) fn rollback(args: &RollbackArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    signals::note_interrupts()?;
    let settings = resolve(&args.deploy, matches)?;
    work(&args.deploy, &settings, Source::Kept(args.to), false)
}

fn resolve(args: &DeployWork, matches: &ArgMatches) -> anyhow::Result<Settings> {
    let asked = Asked {
        target: args.work.target.clone(),
        past: args.work.past.clone(),
        turn: args.work.turn.clone(),
        manner: args.manner.clone(),
        care: args.care.clone(),
        ..Asked::default()
    };
    let purpose = if args.dry_run { Purpose::Foretell } else { Purpose::Work };
    settings::resolve(purpose, &asked, matches)
}

fn work(args: &DeployWork, settings: &Settings, source: Source, if_changed: bool) -> anyhow::Result<u8> {
    let asked = Deploy {
        source,
        probation: settings.probation,
        if_changed,
        expected: args.expect_hash.clone(),
        start: args.start,
        foretell: args.dry_run,
        keep: usize::try_from(settings.keep).unwrap_or(usize::MAX),
        by: who(),
    };
    let wanted = args.diff || args.dry_run || settings.report == Some(Report::Github);
    let colour = match settings.output {
        Form::Human if io::stdout().is_terminal() && console::colors_enabled() => Colour::Styled,
        Form::Human | Form::Json => Colour::Plain,
    };
    let shown: deploy::Shown<'_> = &|name, before, after| diff::unified_in(name, before, after, colour);
    let deployment = deploy::deploy(&settings.request, &asked, wanted.then_some(shown));
    say(&deployment, args, settings)
}

/// Who deploys, as far as the environment tells: it is no proof, and is only shown.
fn who() -> String {
    let named = WHO.iter().find_map(|name| env::var(name).ok().filter(|name| !name.trim().is_empty()));
    let named = named.unwrap_or_else(|| format!("uid {}", privilege::euid()));
    crate::haproxy::alerts::sanitise(named.as_bytes(), LONGEST)
}

/// Says what happened. The exit code is that of the deploy, also when nobody can read what is said about it.
fn say(deployment: &Deployment, args: &DeployWork, settings: &Settings) -> anyhow::Result<u8> {
    if let Err(error) = print(deployment, args, settings) {
        let _ = output::aside(&format!("hareload: {error:#}"));
    }
    match deployment.interrupted {
        Some(signal) => signals::die_of(signal),
        None => Ok(deployment.exit_code),
    }
}

fn print(deployment: &Deployment, args: &DeployWork, settings: &Settings) -> anyhow::Result<()> {
    if let Some(report) = settings.report {
        output::report(report, &pipeline::Subject::of_deployment(deployment))?;
        // The diff is in the summary.
        let files = deployment.files.iter().map(|file| Changed { diff: None, ..file.clone() }).collect();
        let text = deployment::human(&Deployment { files, ..deployment.clone() });
        return output::aside(&text);
    }
    match settings.output {
        Form::Json => output::result(&deployment::json(deployment)),
        Form::Human => {
            if args.work.voice.verbose {
                for account in accounts(deployment) {
                    output::aside(&human::timeline(account))?;
                }
            }
            let text = deployment::human(deployment);
            if deployment.exit_code != exit::DONE {
                output::aside(&text)
            } else if args.work.voice.quiet {
                Ok(())
            } else {
                output::result(&text)
            }
        }
    }
}

fn accounts(deployment: &Deployment) -> impl Iterator<Item = &Account> {
    deployment.handover.iter().chain(&deployment.undo)
}
