//! The deed: what is in place is remembered, the candidate is put in place and handed over to, watched, and done; or undone.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::PathBuf;
use std::rc::Rc;

use crate::core::account::Account;
use crate::core::deployment::{Deployment, Fate};
use crate::core::input::Refusal;
use crate::core::outcome::Verdict;
use crate::driver::held::{self, Held};
use crate::driver::members::Members;
use crate::driver::readings::{Kind, Readings};
use crate::driver::reload::Teacher;
use crate::driver::request::Refused;
use crate::driver::ways;
use crate::os::files::FileError;
use crate::os::process::{self, Identity, Process};
use crate::os::signals::Interrupts;

use super::examining::{self, Examined, Rehearsing};
use super::kept::{Contents, Part, State, Store};
use super::leading_back::{AGAIN, not_put_back, why};
use super::opening::Opened;
use super::place::{self, Content};
use super::probation::{Before, End, Watched};
use super::transaction::{Stage, Transaction};
use super::{Deploy, readings_of};

/// How much of the files that a configuration refers to is kept, in bytes.
const MOST_KEPT: usize = 512 << 20;

/// Why what was in place comes back where the candidate had taken over, and is gone.
const ENDED: &str = "it has ended right after the handover";

/// A deploy whose beginning is known.
pub(super) struct Conducting<'a> {
    pub(super) held: &'a Held<'a>,
    pub(super) deploy: &'a Deploy,
    /// Whether the one that serves runs what is in place.
    pub(super) runs: bool,
}

/// How a deploy went on from the handover.
enum Turn {
    /// The candidate serves, and has passed.
    Done,
    /// What was in place has to come back; the candidate may serve.
    Back { why: String },
}

impl Conducting<'_> {
    pub(super) async fn conduct(
        &self,
        opened: Opened,
        rehearsing: Rehearsing,
        deployment: &mut Deployment,
        interrupts: &mut Interrupts,
    ) -> Result<(), Refused> {
        let checked = examining::unless_interrupted(rehearsing.result(), interrupts, deployment).await?;
        if !self.is_valid(checked, deployment) {
            return Ok(());
        }
        let is_checked = deployment.hash_after.is_some();
        let history_dir = &self.held.request.history_dir;
        let store = Store::of(history_dir);
        store.open().map_err(|error| held::state_refused(&error))?;
        // For the way back, and for what is written down at the end; a small disk may have no more than that needs.
        let room = self.held.room(&opened.old.pidfile, Some(history_dir)).ok();
        let mut transaction = self.remember(&store, &opened, deployment)?;
        let internal = |why: String| Refused::new(Refusal::Internal, why);
        let begun = transaction.write(history_dir).and_then(|()| {
            opened.plan.reserve_the_way_back();
            opened.plan.install()
        });
        if let Err(error) = begun {
            return match self.put_back(&store, &transaction, deployment, None) {
                Ok(()) => Err(internal(format!("{error}; what was in place is as it was"))),
                Err(fate) => {
                    deployment.fate = fate;
                    Ok(())
                }
            };
        }
        if !is_checked {
            let request = self.held.request;
            let workdir = opened.old.start_directory();
            let examining = async { Ok(examining::examine(request, &opened.plan, workdir.as_deref()).await) };
            let examined = examining::unless_interrupted(examining, interrupts, deployment).await?;
            if !self.is_valid(examined, deployment) {
                let why = deployment.fate.why().map(str::to_owned);
                if let Err(fate) = self.put_back(&store, &transaction, deployment, why.as_deref()) {
                    deployment.fate = fate;
                }
                return Ok(());
            }
        }
        self.stage(&mut transaction, Stage::Installed, deployment);
        let (admin, ..) = ways::introduce(&opened.old, &self.held.records).await;
        let before = match self.deploy.probation.is_zero() {
            true => Before::default(),
            false => Before::of(admin.as_deref(), &opened.old.processes).await,
        };
        let recovered = opened.recovered.as_ref();
        let account = match opened.old.processes.is_empty() {
            true => self.held.start_if_stopped(recovered, interrupts).await,
            false => self.held.hand_over(Teacher::WaitedFor, recovered, interrupts).await,
        };
        let account =
            held::remember(self.held.request, account.unwrap_or_else(|refused| self.held.refused(refused)));
        deployment.serving.clone_from(&account.serving);
        deployment.interrupted = account.outcome.interrupted;
        let turn = match &account.outcome.verdict {
            Verdict::Reloaded | Verdict::ReloadedStillDraining => {
                deployment.handover = Some(account.clone());
                self.watch(&mut transaction, &account, before, deployment, interrupts).await
            }
            // The old one is gone: there is only the way back to what it ran.
            Verdict::Unproven => {
                transaction.candidate = self.serving(&account);
                Turn::Back { why: why(&account) }
            }
            // It has ended by itself meanwhile: whoever serves has to be started from what was in place.
            Verdict::Refused(_, why) if is_gone(&opened.old.processes) => Turn::Back { why: why.clone() },
            Verdict::Refused(kind, why) => {
                let (kind, why) = (*kind, why.clone());
                deployment.handover = Some(account);
                let back = self.put_back(&store, &transaction, deployment, Some(&why));
                deployment.fate = back.err().unwrap_or(Fate::Refused(kind, why));
                return Ok(());
            }
            Verdict::RolledBack | Verdict::Nobody | Verdict::Unchanged | Verdict::Stopped => {
                Turn::Back { why: why(&account) }
            }
        };
        deployment.handover = Some(account);
        drop(room);
        match turn {
            Turn::Done => {
                self.complete(&store, &transaction, &opened, deployment);
                // To keep much takes its time.
                if has_ended(&transaction) {
                    self.undo(&store, transaction, ENDED.to_owned(), deployment).await;
                    return Ok(());
                }
                self.finish(&store, &transaction, deployment);
                if has_ended(&transaction) {
                    let why = "it was deployed, and has ended since; `hareload start` starts it again";
                    deployment.fate = Fate::Nobody(why.to_owned());
                    deployment.serving = None;
                }
            }
            Turn::Back { why } => self.undo(&store, transaction, why, deployment).await,
        }
        Ok(())
    }

    /// Takes in what a check has come to; whether to go on.
    fn is_valid(&self, examined: Examined, deployment: &mut Deployment) -> bool {
        match examined {
            Examined::Passed { findings, hash } => {
                deployment.findings = findings;
                deployment.hash_after = Some(hash);
                true
            }
            Examined::Failed { findings, why } => {
                deployment.findings = findings;
                deployment.fate = Fate::Refused(Refusal::Configuration, why);
                deployment.hash_after.clone_from(&deployment.hash_before);
                false
            }
            Examined::Refused { kind, why } => {
                deployment.fate = Fate::Refused(kind, why);
                false
            }
            Examined::Unavailable(why) => {
                deployment.hash_after = None;
                self.held.timeline.note("hareload", format!("no rehearsal: {why}"));
                true
            }
        }
    }

    /// Keeps what is in place, with all that it refers to, and the candidate; and draws up what is to be written down.
    fn remember(
        &self,
        store: &Store,
        opened: &Opened,
        deployment: &mut Deployment,
    ) -> Result<Transaction, Refused> {
        let internal = |why: String| Refused::new(Refusal::Internal, format!("{why}; nothing was touched"));
        let sides = |side: fn(&place::Change) -> &Option<Content>| -> Vec<Part> {
            let part = |change: &place::Change| {
                Some(Part {
                    path: change.target.clone(),
                    content: side(change).clone()?,
                    referred: false,
                    added: change.before.is_none(),
                })
            };
            opened.plan.changes.iter().filter_map(part).collect()
        };
        let (mut files, left_out) = gather(&opened.readings);
        // What is replaced comes back by a rollback too, whether HAProxy is known to read it or not.
        let replaced = sides(|change| &change.before).into_iter();
        let known: HashSet<PathBuf> = files.iter().map(|part| part.path.clone()).collect();
        files.extend(replaced.filter(|part| !known.contains(&part.path)));
        let contents = |state, hash, files, left_out, previous| Contents {
            by: &self.deploy.by,
            command: self.held.command,
            configs: &opened.configs,
            hash,
            state,
            files,
            left_out,
            previous,
        };
        let state = if self.runs { State::Found } else { State::Unproven };
        let hash = Some(opened.readings.config.clone());
        let before = store.number_in_place().ok().flatten();
        let previous = store
            .keep(contents(state, hash, files, left_out, before))
            .map_err(|error| internal(error.to_string()))?;
        let number = match opened.kept {
            Some(number) => number,
            None => store
                .keep(contents(State::Trying, None, sides(|change| &change.after), 0, Some(previous)))
                .map_err(|error| internal(error.to_string()))?,
        };
        store.set_aside(&sides(|change| &change.before)).map_err(|error| {
            if opened.kept.is_none() {
                store.forget(number);
            }
            internal(error.to_string())
        })?;
        deployment.previous = Some(previous);
        deployment.kept = Some(number);
        Ok(Transaction {
            boot: self.held.boot.clone(),
            command: self.held.command.to_owned(),
            previous,
            number,
            configs: opened.configs.clone(),
            pidfile: opened.old.pidfile.clone(),
            files: opened.plan.replaced(),
            directories: opened.plan.directories.clone(),
            old: opened.old.processes.iter().map(|process| process.identity().clone()).collect(),
            started: opened.old.started(&self.held.records),
            candidate: Vec::new(),
            watched: !self.deploy.probation.is_zero(),
            stage: Stage::Installing,
        })
    }

    /// A stage that can't be written down is told, and not waited for.
    fn stage(&self, transaction: &mut Transaction, stage: Stage, deployment: &mut Deployment) {
        transaction.stage = stage;
        if let Err(error) = transaction.write(&self.held.request.history_dir) {
            deployment.notes.push(format!("how far it has come can't be written down: {error}"));
        }
    }

    /// Who runs the candidate: as it is written down, if that could be, else by its own pidfile.
    fn serving(&self, account: &Account) -> Vec<Identity> {
        let generation = account.new.as_ref().and_then(|new| new.generation);
        let current = self.held.records.current();
        match generation {
            Some(number) if current.as_ref().is_none_or(|current| current.number != number) => {
                self.members_of(number)
            }
            _ => current.map(|current| current.processes).unwrap_or_default(),
        }
    }

    fn members_of(&self, generation: u64) -> Vec<Identity> {
        let members = Members::marked(self.held.records.paths(generation).pidfile);
        members.alive().iter().map(|process| process.identity().clone()).collect()
    }

    /// Watches the candidate, if that was asked for.
    async fn watch(
        &self,
        transaction: &mut Transaction,
        account: &Account,
        before: Before,
        deployment: &mut Deployment,
        interrupts: &mut Interrupts,
    ) -> Turn {
        transaction.candidate = self.serving(account);
        if has_ended(transaction) {
            return Turn::Back { why: ENDED.to_owned() };
        }
        if self.deploy.probation.is_zero() {
            return Turn::Done;
        }
        self.stage(transaction, Stage::Probation, deployment);
        if let Some(signal) = account.outcome.interrupted {
            return Turn::Back { why: format!("interrupted by signal {signal} before its probation") };
        }
        let Some(number) = account.new.as_ref().and_then(|new| new.generation) else { return Turn::Done };
        let paths = self.held.records.paths(number);
        let watched = Watched {
            members: Rc::new(Members::marked(paths.pidfile)),
            processes: process::living(&transaction.candidate),
            admin: paths.admin,
            probes: self.held.request.probes.clone(),
            before,
            timeline: self.held.timeline.clone(),
            unserved: RefCell::default(),
        };
        let began = self.held.timeline.now();
        let end = watched.watch(self.deploy.probation, interrupts).await;
        let took = self.held.timeline.now().saturating_sub(began);
        deployment.watched_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        match end {
            End::Passed => {
                deployment.notes.extend(watched.remark());
                Turn::Done
            }
            End::Failed(why) => Turn::Back { why: format!("it failed in its probation: {why}") },
            End::Interrupted(signal) => {
                deployment.interrupted = Some(signal);
                Turn::Back { why: format!("interrupted by signal {signal} in its probation") }
            }
        }
    }

    /// Keeps what is in place now as good, with all that it refers to.
    fn complete(
        &self,
        store: &Store,
        transaction: &Transaction,
        opened: &Opened,
        deployment: &mut Deployment,
    ) {
        let mut readings =
            readings_of(&opened.configs, &opened.old, self.held.request, Some(&opened.readings));
        for path in transaction.changed_since() {
            deployment.notes.push(format!(
                "{} was changed by somebody else since it was put in place: what serves is the candidate, and a reload would \
                 take what is there now",
                path.display()
            ));
            // What was checked is what serves.
            if let Some(checked) = &deployment.hash_after {
                readings.config.clone_from(checked);
            }
        }
        deployment.hash_after = Some(readings.config.clone());
        let number = deployment.kept.unwrap_or_default();
        let kept = match opened.kept {
            Some(_) => Ok(0),
            None => complete(store, number, &readings)
                .or_else(|_| store.settle(number, State::Good, None).map(|()| readings.files.len())),
        };
        match kept {
            Ok(0) => {}
            Ok(left_out) => deployment
                .notes
                .push(format!("{left_out} files that it refers to are not kept for a rollback")),
            Err(error) => deployment.notes.push(not_kept(&error)),
        }
    }

    /// File and process match, and that is the end of it.
    fn finish(&self, store: &Store, transaction: &Transaction, deployment: &mut Deployment) {
        deployment.fate = Fate::Deployed;
        let kept = store.put_in_place(deployment.kept.unwrap_or_default());
        deployment.notes.extend(kept.err().map(|error| not_kept(&error)));
        let ended = transaction.end(&self.held.request.history_dir, store);
        deployment
            .notes
            .extend(ended.err().map(|error| format!("that it is over can't be written down: {error}")));
        let but = [deployment.previous, deployment.kept].into_iter().flatten().collect::<Vec<_>>();
        store.limit(self.deploy.keep, &but);
    }

    /// Puts the files back where nobody runs the candidate; it is over then. Else what has become of it instead.
    fn put_back(
        &self,
        store: &Store,
        transaction: &Transaction,
        deployment: &mut Deployment,
        why: Option<&str>,
    ) -> Result<(), Fate> {
        let failed = transaction.put_back(store);
        if !failed.is_empty() {
            deployment.notes.push(AGAIN.to_owned());
            return Err(Fate::Stuck(not_put_back(why.unwrap_or("it could not be put in place"), &failed)));
        }
        deployment.hash_after.clone_from(&deployment.hash_before);
        self.close(store, transaction, why, deployment);
        Ok(())
    }

    /// It is over, and the candidate has failed.
    fn close(
        &self,
        store: &Store,
        transaction: &Transaction,
        why: Option<&str>,
        deployment: &mut Deployment,
    ) {
        let number = transaction.number;
        match why {
            // It was good once, and may be again.
            _ if deployment.command == "rollback" => {}
            Some(why) => {
                fail(store, number, why, deployment);
                deployment.notes.push(format!("the candidate is kept in {}", store.place(number).display()));
            }
            None => {
                store.forget(number);
                deployment.kept = None;
            }
        }
        let ended = transaction.end(&self.held.request.history_dir, store);
        deployment.notes.extend(ended.err().map(|error| error.to_string()));
        let but = [deployment.previous, Some(number)].into_iter().flatten().collect::<Vec<_>>();
        store.limit(self.deploy.keep, &but);
    }

    /// Leads back: files first, and then, if the candidate serves or nobody does, to a generation that runs them.
    async fn undo(
        &self,
        store: &Store,
        mut transaction: Transaction,
        why: String,
        deployment: &mut Deployment,
    ) {
        self.held.timeline.note("hareload", format!("leads back: {why}"));
        self.stage(&mut transaction, Stage::Undoing, deployment);
        let (back, fate) = self.held.lead_back(store, &transaction, &why).await;
        deployment.notes.extend(back.notes);
        if let Some(undo) = back.undo {
            let undo = held::remember(self.held.request, undo);
            deployment.serving.clone_from(&undo.serving);
            deployment.undo = Some(undo);
        }
        deployment.fate = fate;
        let stuck = matches!(deployment.fate, Fate::Stuck(_));
        if stuck {
            let kept = store.put_in_place(transaction.number);
            deployment.notes.extend(kept.err().map(|error| error.to_string()));
        } else {
            deployment.hash_after.clone_from(&deployment.hash_before);
        }
        if !back.over {
            if deployment.command == "deploy" {
                fail(store, transaction.number, &why, deployment);
            }
            deployment.notes.push(AGAIN.to_owned());
            return;
        }
        self.close(store, &transaction, Some(&why), deployment);
    }
}

/// Writes down that a candidate has failed.
fn fail(store: &Store, number: u64, why: &str, deployment: &mut Deployment) {
    let settled = store.settle(number, State::Failed, Some(why));
    deployment.notes.extend(settled.err().map(|error| error.to_string()));
}

fn not_kept(error: &FileError) -> String {
    format!("it can't be kept for a rollback: {error}")
}

/// Whether it is known who runs the candidate, and nobody of it is left.
fn has_ended(transaction: &Transaction) -> bool {
    !transaction.candidate.is_empty() && process::living(&transaction.candidate).is_empty()
}

/// Whether somebody served, and nobody of it is left.
pub(super) fn is_gone(served: &[Rc<Process>]) -> bool {
    !served.is_empty() && !served.iter().any(|process| process.is_alive())
}

/// Adds to a configuration that serves all that it refers to; how many files could not be kept.
pub(super) fn complete(store: &Store, number: u64, readings: &Readings) -> Result<usize, FileError> {
    let (files, left_out) = gather(readings);
    store.complete(number, Some(readings.config.clone()), files, left_out).map(|()| left_out)
}

/// The files that were read, as far as they can be kept, and how many can't be.
fn gather(readings: &Readings) -> (Vec<Part>, usize) {
    let (mut found, mut known) = (Vec::new(), HashSet::new());
    let (mut left, mut left_out) = (MOST_KEPT, readings.left_out);
    let files = readings
        .files
        .iter()
        .filter(|reading| matches!(reading.kind, Kind::File | Kind::Certificate) && reading.look.is_some());
    for reading in files {
        let Ok(path) = reading.path.canonicalize() else { continue };
        if !known.insert(path.clone()) {
            continue;
        }
        match place::current(&path) {
            Ok(Some(content)) if content.bytes.len() <= left => {
                left -= content.bytes.len();
                found.push(Part { path, content, referred: true, added: false });
            }
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => left_out += 1,
        }
    }
    (found, left_out)
}
