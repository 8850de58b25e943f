//! `start`, `stop`, `restart` and `try-restart`.

use std::rc::Rc;
use std::time::Duration;

use clap::ArgMatches;

use crate::core::stopping::Manner;
use crate::driver::restart::IfStopped;
use crate::driver::{restart, start, stop};

use super::options::{
    Asked, LeaveArgs, MannerArgs, ProofArgs, RestartArgs, StartArgs, StopArgs, Voice, Work,
};
use super::reload::{progress, say};
use super::settings::{self, Purpose, Settings};

/// How long connections may take to finish if nobody says otherwise: short of what service managers wait before they
/// kill.
const FINISH: Duration = Duration::from_secs(10);

/// `hareload start`.
pub(super) fn start(args: &StartArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    let settings = resolve(&args.work, &args.proof, &LeaveArgs::default(), matches)?;
    say(&start::start(&settings.request), args.work.voice, settings.output)
}

/// `hareload stop`.
pub(super) fn stop(args: &StopArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    let asked = asked(&args.work, &ProofArgs::default(), &args.leave);
    let mut settings = settings::resolve_leniently(Purpose::Work, &asked, matches)?;
    let manner = manner(&settings, &args.leave);
    showing(&mut settings, args.work.voice, |settings| stop::stop(&settings.request, manner))
}

/// `hareload restart`, and `try-restart`.
pub(super) fn restart(
    args: &RestartArgs,
    command: &'static str,
    if_stopped: IfStopped,
    matches: &ArgMatches,
) -> anyhow::Result<u8> {
    let mut settings = resolve(&args.work, &args.proof, &args.leave, matches)?;
    let manner = manner(&settings, &args.leave);
    showing(&mut settings, args.work.voice, |settings| {
        restart::restart(&settings.request, command, manner, if_stopped)
    })
}

/// Runs it while those that drain are shown, and says what happened.
fn showing(
    settings: &mut Settings,
    voice: Voice,
    work: impl FnOnce(&Settings) -> crate::core::account::Account,
) -> anyhow::Result<u8> {
    let bar = (!voice.quiet).then(progress);
    if let Some(bar) = bar.clone() {
        settings.request.on_drain = Some(Rc::new(move |draining| bar.show(draining)));
    }
    let account = work(settings);
    if let Some(bar) = bar {
        bar.end();
    }
    say(&account, voice, settings.output)
}

fn manner(settings: &Settings, leave: &LeaveArgs) -> Manner {
    if leave.now { Manner::Now } else { Manner::Finish(settings.drain_timeout.unwrap_or(FINISH)) }
}

/// The settings of a command that has some of the options of `reload`.
fn resolve(
    work: &Work,
    proof: &ProofArgs,
    leave: &LeaveArgs,
    matches: &ArgMatches,
) -> anyhow::Result<Settings> {
    settings::resolve(Purpose::Work, &asked(work, proof, leave), matches)
}

fn asked(work: &Work, proof: &ProofArgs, leave: &LeaveArgs) -> Asked {
    Asked {
        target: work.target.clone(),
        past: work.past.clone(),
        turn: work.turn.clone(),
        manner: MannerArgs {
            trial: proof.trial,
            probe: proof.probe.clone(),
            ready_timeout: proof.ready_timeout,
            hard_stop_after: proof.hard_stop_after,
            extra: proof.extra.clone(),
            state_age: proof.state_age,
            ..MannerArgs::default()
        },
        drain_timeout: leave.drain_timeout,
        ..Asked::default()
    }
}
