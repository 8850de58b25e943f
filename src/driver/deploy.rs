//! `deploy` and `rollback`: a configuration and the process that runs it are one transaction.
//!
//! A candidate is checked where it will live, put in place, handed over to, watched, and kept; or file and process are as they
//! were. Called by the command line. In order: [`candidate`] (what is handed over), `opening` (who serves, and what would change),
//! `place` (where it goes), `allowed` (whether we may), `comparing` (whether anything changes), `examining` (the check, in a
//! rehearsal), [`kept`] (what can be gone back to), `transaction` (what is written down), `conduct` (the deed), `probation`,
//! `leading_back`, `unfinished` (after a crash).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::core::account::Account;
use crate::core::deployment::{Deployment, Fate, SCHEMA};
use crate::core::input::Refusal;
use crate::core::outcome::Verdict;
use crate::os::process::Process;
use crate::os::state::StateDir;
use crate::os::{clock, signals};

use super::find::{self, Found, Old};
use super::held::{self, Held, under_lock};
use super::inheritance;
use super::readings::Readings;
use super::request::{Refused, Request};

mod allowed;
mod assigning;
pub mod candidate;
mod comparing;
mod conduct;
mod examining;
pub mod kept;
mod leading_back;
mod opening;
mod place;
mod probation;
mod transaction;
mod unfinished;
mod written;

pub use written::Lost;

use candidate::Candidate;
use examining::{Examined, Rehearsing};
use kept::{Configuration, Store};

/// Characters of a hash that are enough to name it.
pub const SHORTEST_HASH: usize = 12;

/// What is to be put in place.
#[derive(Clone, Debug)]
pub enum Source {
    /// What a pipeline hands over.
    Candidate(Candidate),
    /// A kept configuration: this one, or the last good one that is not in place.
    Kept(Option<u64>),
}

/// What a deploy is asked to do, beyond its handover.
#[derive(Clone, Debug)]
pub struct Deploy {
    /// What is to be put in place.
    pub source: Source,
    /// How long the candidate is watched before it counts as deployed.
    pub probation: Duration,
    /// Do nothing if nothing has changed of what HAProxy reads.
    pub if_changed: bool,
    /// The hash of the configuration that is expected to be in place, or its beginning of at least [`SHORTEST_HASH`]
    /// digits; in small letters.
    pub expected: Option<String>,
    /// Start HAProxy if it does not run.
    pub start: bool,
    /// Only say what would be done.
    pub foretell: bool,
    /// How many configurations are kept.
    pub keep: usize,
    /// Who deploys.
    pub by: String,
}

impl Deploy {
    fn command(&self) -> &'static str {
        match self.source {
            Source::Candidate(_) => "deploy",
            Source::Kept(_) => "rollback",
        }
    }
}

/// The difference of a file, as it is to be shown: its name, what it held and what it is to hold.
pub type Shown<'a> = &'a dyn Fn(&str, Option<&[u8]>, Option<&[u8]>) -> String;

/// Deploys. Must be called from a process that has one thread only. `shown` makes the diffs, if they are wanted.
pub fn deploy(request: &Request, deploy: &Deploy, shown: Option<Shown<'_>>) -> Deployment {
    // Others are handed over to the drain of the old one, which a deploy does not wait for.
    let request = Request { drain: crate::core::plan::Drain::Return, ..request.clone() };
    let command = deploy.command();
    if deploy.foretell {
        return foretell(&request, deploy, shown);
    }
    under_lock(command, &request, |held| Deploying { held, deploy, shown }.run())
        .unwrap_or_else(|refused| blank(&request, command, refused.began, fate_of(&refused)))
}

/// Whether a hareload that died has left a deploy half done; also one of an earlier boot.
pub(super) fn is_unfinished(request: &Request) -> bool {
    transaction::Transaction::is_unfinished(&request.history_dir)
}

/// Whether one that was killed has left something that it was keeping.
pub(super) fn has_half_kept(request: &Request) -> bool {
    !Store::of(&request.history_dir).half_kept().is_empty()
}

/// What of deploys and of kept configurations is written down and can't be read.
#[must_use]
pub fn lost(history_dir: &Path) -> Vec<Lost> {
    let unread = transaction::Transaction::unfinished(history_dir).err().filter(|unread| !unread.is_denied());
    let lost = unread.map(|unread| transaction::Transaction::lost(history_dir, &unread));
    lost.into_iter().chain(Store::of(history_dir).lost()).collect()
}

/// The deploy that was interrupted, in words, if there is one that can be read.
pub(super) fn interrupted(history_dir: &Path) -> Option<String> {
    let transaction = transaction::Transaction::unfinished(history_dir).ok()??;
    Some(format!("the {} of configuration {}", transaction.command, transaction.number))
}

/// The configuration of the deploy that is under way, or was interrupted.
pub(super) fn under_way(history_dir: &Path) -> Option<u64> {
    Some(transaction::Transaction::unfinished(history_dir).ok()??.number)
}

/// A deploy that could not begin.
#[must_use]
pub fn refused(request: &Request, command: &str, refused: Refused) -> Deployment {
    blank(request, command, clock::wall(), Fate::Refused(refused.kind, refused.why))
}

/// What a deploy would do; nothing is touched, and the lock is not taken.
fn foretell(request: &Request, deploy: &Deploy, shown: Option<Shown<'_>>) -> Deployment {
    let command = deploy.command();
    let began = clock::wall();
    let refused = |kind, why: String| blank(request, command, began, Fate::Refused(kind, why));
    let scratch = match tempfile::tempdir() {
        Ok(scratch) => scratch,
        Err(error) => return refused(Refusal::Internal, format!("temporary directory: {error}")),
    };
    let directory = if request.state_dir.exists() { &request.state_dir } else { scratch.path() };
    let state = match StateDir::open(directory) {
        Ok(state) => state,
        Err(error) => {
            let why = held::state_refused(&error);
            return refused(why.kind, why.why);
        }
    };
    let held = Held::of(command, request, &state);
    Deploying { held: &held, deploy, shown }.run()
}

/// Why a command that could not begin could not.
fn fate_of(refused: &Account) -> Fate {
    match &refused.outcome.verdict {
        Verdict::Refused(kind, why) => Fate::Refused(*kind, why.clone()),
        other => Fate::Refused(Refusal::Internal, format!("{other:?}")),
    }
}

fn blank(request: &Request, command: &str, began: jiff::Timestamp, fate: Fate) -> Deployment {
    Deployment {
        schema: SCHEMA.to_owned(),
        command: command.to_owned(),
        instance: request.instance.clone(),
        began,
        took_us: 0,
        exit_code: fate.exit_code(),
        fate,
        serving: None,
        configs: request.configs.iter().map(|path| path.display().to_string()).collect(),
        hash_before: None,
        hash_after: None,
        files: Vec::new(),
        findings: Vec::new(),
        previous: None,
        kept: None,
        handover: None,
        undo: None,
        watched_us: 0,
        notes: Vec::new(),
        interrupted: signals::noted(),
    }
}

/// A deploy under the lock.
struct Deploying<'a> {
    held: &'a Held<'a>,
    deploy: &'a Deploy,
    shown: Option<Shown<'a>>,
}

impl Deploying<'_> {
    fn run(&self) -> Deployment {
        let mut deployment = blank(self.held.request, self.held.command, self.held.began, Fate::Deployed);
        let mut served = Vec::new();
        if let Err(refused) = self.go(&mut deployment, &mut served) {
            deployment.fate = Fate::Refused(refused.kind, refused.why);
        }
        self.see_who_is_left(&served, &mut deployment);
        // To read all of them takes longer than to see that nothing has changed.
        if deployment.fate != Fate::Unchanged {
            let lost = Store::of(&self.held.request.history_dir).lost();
            deployment.notes.extend(lost.iter().map(ToString::to_string));
        }
        // Whatever came where nobody could be interrupted.
        deployment.interrupted = deployment.interrupted.or_else(signals::noted);
        deployment.exit_code = deployment.fate.exit_code();
        deployment.took_us = u64::try_from(self.held.timeline.now().as_micros()).unwrap_or(u64::MAX);
        deployment
    }

    /// One that ends by itself while a deploy comes to nothing is not as it was, though nobody has touched it.
    fn see_who_is_left(&self, served: &[Rc<Process>], deployment: &mut Deployment) {
        let Fate::Refused(_, why) = &deployment.fate else { return };
        let Some(first) = served.first().filter(|_| conduct::is_gone(served)) else { return };
        let why = format!("{why}; and pid {}, which served, has ended by itself meanwhile", first.pid());
        let found = find::find(self.held.request, &self.held.records).and_then(Found::old);
        deployment.serving = found.ok().map(|old| old.named());
        deployment.fate = match deployment.serving {
            Some(_) => Fate::Undone(why),
            None => Fate::Nobody(why),
        };
    }

    fn go(&self, deployment: &mut Deployment, served: &mut Vec<Rc<Process>>) -> Result<(), Refused> {
        let opened = self.open()?;
        served.clone_from(&opened.old.processes);
        deployment.serving = Some(opened.old.named()).filter(|named| !named.pids.is_empty());
        deployment.configs = opened.configs.iter().map(|path| path.display().to_string()).collect();
        deployment.hash_before = Some(opened.readings.config.clone());
        deployment.hash_after.clone_from(&deployment.hash_before);
        deployment.files =
            opened.plan.changes.iter().map(|change| self.described(change, &opened.configs)).collect();
        deployment.notes.extend(opened.passed_over.iter().cloned());
        deployment.notes.extend(opened.old.remarks.iter().cloned());
        deployment.notes.extend(opened.recovered.iter().flat_map(|account| account.notes.iter().cloned()));
        let change = self.deploy.if_changed.then(|| self.change(&opened));
        // Whoever finds what he brings replaces nothing.
        if change == Some(None) {
            self.settle(&opened);
            deployment.fate = Fate::Unchanged;
            return Ok(());
        }
        if let Some(expected) = &self.deploy.expected
            && !opened.readings.config.starts_with(expected)
        {
            deployment.fate = Fate::Stale(format!(
                "the configuration in place has the hash {}, and {expected} was expected: somebody else has changed it; look \
                 at it, and deploy again on top of it",
                opened.readings.config
            ));
            return Ok(());
        }
        if let Some(what) = change.flatten() {
            self.held.timeline.note("hareload", format!("not left as it is: {what}"));
        }
        let request = Request { configs: opened.configs.clone(), ..self.held.request.clone() };
        let rehearsing = Rehearsing::start(&request, &opened.plan, opened.old.start_directory().as_deref());
        if self.deploy.foretell {
            return self.foretell(rehearsing, deployment);
        }
        let held = Held { request: &request, ..self.held.clone() };
        let conducting = conduct::Conducting {
            held: &held,
            deploy: self.deploy,
            runs: self.runs_what_is_in_place(&opened),
        };
        held.within(async |interrupts| conducting.conduct(opened, rehearsing, deployment, interrupts).await)
    }

    fn described(&self, change: &place::Change, configs: &[PathBuf]) -> crate::core::deployment::Changed {
        let mut described = change.described();
        // What else HAProxy reads may be secret from its first to its last line: a map of keys, say.
        described.diff = self.shown.filter(|_| is_config(&change.path, configs)).map(|shown| {
            let side =
                |content: &Option<place::Content>| content.as_ref().map(|content| content.bytes.clone());
            shown(&described.path, side(&change.before).as_deref(), side(&change.after).as_deref())
        });
        described
    }

    fn foretell(&self, rehearsing: Rehearsing, deployment: &mut Deployment) -> Result<(), Refused> {
        let examined = self.held.within(async |interrupts| {
            examining::unless_interrupted(rehearsing.result(), interrupts, deployment).await
        })?;
        match examined {
            Examined::Passed { findings, hash } => {
                deployment.findings = findings;
                deployment.hash_after = Some(hash);
                deployment.fate = Fate::Foretold;
            }
            Examined::Failed { findings, why } => {
                deployment.findings = findings;
                deployment.fate = Fate::Refused(Refusal::Configuration, why);
            }
            Examined::Refused { kind, why } => deployment.fate = Fate::Refused(kind, why),
            Examined::Unavailable(why) => {
                deployment.fate = Fate::Foretold;
                deployment.hash_after = None;
                deployment.notes.push(format!(
                    "it was not checked: that needs file systems of its own, which can't be had here ({why}); a deploy checks \
                     it once it is in place, and puts everything back if it is not valid"
                ));
            }
        }
        Ok(())
    }
}

/// Whether HAProxy is given this file with `-f`, by itself or with its directory.
fn is_config(path: &Path, configs: &[PathBuf]) -> bool {
    configs.iter().any(|config| path == config || path.parent() == Some(config))
}

/// What a HAProxy would read that is started now in the place of this one.
fn readings_of(configs: &[PathBuf], old: &Old, request: &Request, earlier: Option<&Readings>) -> Readings {
    let inherited = inheritance::with(old.inherited(), &request.exported);
    Readings::take(configs, old.start_directory().as_deref(), inheritance::environment(&inherited), earlier).0
}

/// The configurations that are kept of an instance, the oldest first.
///
/// # Errors
/// What the kernel said, where they may not be looked at.
pub fn kept_of(history_dir: &Path) -> std::io::Result<Vec<Configuration>> {
    match std::fs::read_dir(history_dir.join("configurations")) {
        Ok(_) => Ok(Store::of(history_dir).all()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
