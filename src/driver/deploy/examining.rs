//! The check of a candidate where it will live: in a rehearsal, in which it is in place already and nobody notices.
//!
//! So certificates, maps, included files and relative paths are what they will be. Where no rehearsal can be had, the candidate
//! is checked once it is in place, and put back if it is not valid. Called by [`super`].

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::deployment::{Deployment, Remark};
use crate::core::input::Refusal;
use crate::driver::check::{self, Finding};
use crate::driver::inheritance;
use crate::driver::readings::Readings;
use crate::driver::reload::standalone;
use crate::driver::request::{Refused, Request};
use crate::driver::subject;
use crate::driver::texts::{self, Texts};
use crate::haproxy::alerts;
use crate::os::rehearsal::{Rehearsal, Rehearsed};
use crate::os::signals::Interrupts;

use super::place::Plan;

/// How many errors are told in one line; all of them are listed.
const MOST_TOLD: usize = 3;

/// What a check has come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Examined {
    /// It is valid; SHA-256 of its configuration files.
    Passed { findings: Vec<Remark>, hash: String },
    /// It is not.
    Failed { findings: Vec<Remark>, why: String },
    /// It could not be checked, and would be refused anyway.
    Refused { kind: Refusal, why: String },
    /// No rehearsal can be had.
    Unavailable(String),
}

/// A rehearsal under way.
pub(super) struct Rehearsing(Result<Rehearsal, Examined>);

impl Rehearsing {
    /// Starts it, with what is to be in place.
    pub(super) fn start(request: &Request, plan: &Plan, workdir: Option<&Path>) -> Rehearsing {
        let scenes = plan.scenes();
        // Its own mount hides what is there, which is nothing that a check looks at.
        let scratch = scratch(request, &scenes);
        let play = || {
            let examined = match plan.install() {
                Ok(()) => examine_in_runtime(request, plan, workdir),
                Err(error) => Examined::Refused { kind: Refusal::Internal, why: error.to_string() },
            };
            serde_json::to_vec(&examined).unwrap_or_default()
        };
        Rehearsing(match scratch {
            Some(scratch) => Rehearsal::start(&scratch, &scenes, play)
                .map_err(|error| Examined::Unavailable(error.to_string())),
            None => Err(Examined::Unavailable("no directory to work in".to_owned())),
        })
    }

    /// Waits for its result.
    pub(super) async fn result(self) -> Result<Examined, Refused> {
        let mut rehearsal = match self.0 {
            Ok(rehearsal) => rehearsal,
            Err(examined) => return Ok(examined),
        };
        match rehearsal.result().await {
            Ok(Rehearsed::Done(said)) => serde_json::from_slice(&said)
                .map_err(|error| Refused::new(Refusal::Internal, format!("the rehearsal: {error}"))),
            Ok(Rehearsed::Unavailable(why)) => Ok(Examined::Unavailable(why)),
            Err(error) => {
                let why = format!("{error}; nothing is known about the configuration; try again");
                Err(Refused::new(Refusal::Internal, why))
            }
        }
    }
}

/// What a check comes to, if nothing interrupts it.
pub(super) async fn unless_interrupted(
    examining: impl Future<Output = Result<Examined, Refused>>,
    interrupts: &mut Interrupts,
    deployment: &mut Deployment,
) -> Result<Examined, Refused> {
    tokio::select! {
        biased;
        interrupt = interrupts.next() => {
            deployment.interrupted = Some(interrupt.signal);
            let why = format!("interrupted by {} while it was checked", interrupt.name);
            Ok(Examined::Refused { kind: Refusal::Internal, why })
        }
        examined = examining => examined,
    }
}

/// A directory of ours in which nothing is changed.
fn scratch(request: &Request, scenes: &[PathBuf]) -> Option<PathBuf> {
    let outside =
        |path: &PathBuf| !scenes.iter().any(|scene| path.starts_with(scene) || scene.starts_with(path));
    [&request.history_dir, &request.state_dir]
        .into_iter()
        .filter_map(|path| path.canonicalize().ok())
        .chain([PathBuf::from("/mnt"), PathBuf::from("/tmp")])
        .find(|path| path.is_dir() && outside(path))
}

fn examine_in_runtime(request: &Request, plan: &Plan, workdir: Option<&Path>) -> Examined {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Examined::Refused { kind: Refusal::Internal, why: error.to_string() },
    };
    tokio::task::LocalSet::new().block_on(&runtime, examine(request, plan, workdir))
}

/// Checks what is in place.
pub(super) async fn examine(request: &Request, plan: &Plan, workdir: Option<&Path>) -> Examined {
    let refused = |refused: Refused| Examined::Refused { kind: refused.kind, why: refused.why };
    let texts = Texts::read(&request.configs, workdir);
    if let Err(error) = standalone(&texts) {
        return refused(error);
    }
    let subject = match subject::subject(request) {
        Ok(subject) => subject,
        Err(error) => return refused(error),
    };
    let environment = inheritance::environment(&subject.inherited);
    let checked = match check::check(&subject).await {
        Ok(checked) => checked,
        Err(error) => return Examined::Refused { kind: error.refusal(), why: error.to_string() },
    };
    let findings: Vec<Remark> =
        checked.findings.iter().map(|finding| remark(finding, plan, workdir)).collect();
    match checked.passed() {
        true => {
            let hash = Readings::take(&request.configs, workdir, environment, None).0.config;
            Examined::Passed { findings, hash }
        }
        false => Examined::Failed { why: gist(&findings, &checked.haproxy_exit), findings },
    }
}

/// The errors, in one line.
fn gist(findings: &[Remark], haproxy_exit: &str) -> String {
    let errors = || findings.iter().filter(|finding| finding.level == "error");
    let place = |finding: &Remark| match (&finding.file, finding.line) {
        (Some(file), Some(line)) => format!("{file}:{line}: "),
        (Some(file), None) => format!("{file}: "),
        (None, _) => String::new(),
    };
    let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    let mut told: Vec<String> = errors()
        .take(MOST_TOLD)
        .map(|finding| format!("{}{}", place(finding), first(&finding.message)))
        .collect();
    let more = errors().count().saturating_sub(MOST_TOLD);
    told.extend((more > 0).then(|| format!("and {more} more")));
    match told.is_empty() {
        true => format!("haproxy -c {haproxy_exit}"),
        false => told.join("; "),
    }
}

/// A finding, with the file as the caller calls it: the one that is wrong, if he has handed over that.
fn remark(finding: &Finding, plan: &Plan, workdir: Option<&Path>) -> Remark {
    let mut remark = Remark::from(finding);
    let within = alerts::place_within(&finding.message)
        .and_then(|(file, line)| Some((plan.origin_of(&texts::within(workdir, Path::new(file)))?, line)));
    if let Some((origin, line)) = within {
        (remark.file, remark.line, remark.text) = (Some(origin.to_owned()), Some(line), None);
        return remark;
    }
    let origin = remark.file.as_deref().and_then(|file| plan.origin_of(Path::new(file)));
    if let Some(origin) = origin {
        remark.file = Some(origin.to_owned());
    }
    remark
}
