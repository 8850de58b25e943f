//! What a deploy knows before it touches anything: who serves, what is in place, and what would change.
//!
//! Reads; what a hareload that died has left is recovered first. Called by [`super`].

use std::path::{Path, PathBuf};

use crate::core::account::Account;
use crate::core::input::Refusal;
use crate::driver::find::{self, DEFAULT_INSTANCE, Found, Old};
use crate::driver::readings::Readings;
use crate::driver::request::Refused;
use crate::driver::{pidfile, reload, start};

use super::kept::{self, Configuration, Newest, State, Store};
use super::place::{Manner, Plan, Wanted};
use super::transaction::Transaction;
use super::{Deploying, Source, allowed, assigning, readings_of, unfinished};

/// What is known before anything is touched.
pub(super) struct Opened {
    pub(super) old: Old,
    pub(super) recovered: Option<Account>,
    pub(super) configs: Vec<PathBuf>,
    pub(super) plan: Plan,
    /// What the one that serves has read, if that is known.
    pub(super) read: Option<Readings>,
    /// What another one would read now.
    pub(super) readings: Readings,
    /// The kept configuration that is gone back to.
    pub(super) kept: Option<u64>,
    /// Newer ones that can't be gone back to, and why.
    pub(super) passed_over: Vec<String>,
}

impl Deploying<'_> {
    /// Who serves, and what would change. What a hareload that died has left is recovered first.
    pub(super) fn open(&self) -> Result<Opened, Refused> {
        let held = self.held;
        if let Err(unread) = Transaction::unfinished(&held.request.history_dir) {
            return Err(unfinished::lost(&held.request.history_dir, &unread));
        }
        let (old, recovered) = held.within(async |interrupts| {
            let recovered = match self.deploy.foretell {
                true => None,
                false => held.leftovers(interrupts).await,
            };
            let found = find::find(held.request, &held.records)?;
            match found {
                Found::Nobody(_) if self.deploy.start => Ok((self.nobody(), recovered)),
                found if self.deploy.foretell => Ok((found.old()?, recovered)),
                _ => Ok((held.listening().await?, recovered)),
            }
        })?;
        old.processes.iter().try_for_each(|process| reload::may_be_told(process))?;
        // What the handover would find, once the candidate is in place.
        pidfile::replaceable(&old.pidfile)?;
        held.overlay()?;
        if !old.processes.is_empty() {
            held.haproxy(&old)?;
        }
        let configs = held.config_paths(&old)?;
        configs.iter().try_for_each(|config| has_directory(config))?;
        let mut passed_over = Vec::new();
        let (wanted, pruned, kept) = match &self.deploy.source {
            Source::Candidate(candidate) => {
                let (wanted, pruned) = assigning::assign(candidate.clone(), &configs)?;
                (wanted, pruned, None)
            }
            Source::Kept(number) => {
                let (wanted, pruned, number) = self.kept(*number, &configs, &mut passed_over)?;
                (wanted, pruned, Some(number))
            }
        };
        let plan = Plan::make(wanted, &pruned)?;
        allowed::check(&plan)?;
        let read = old.number.and_then(|number| held.records.readings(number));
        let readings = readings_of(&configs, &old, held.request, read.as_ref());
        Ok(Opened { old, recovered, configs, plan, read, readings, kept, passed_over })
    }

    /// What is started from where nobody serves.
    fn nobody(&self) -> Old {
        let request = self.held.request;
        let usual = request.instance == DEFAULT_INSTANCE;
        let configs = if usual { vec![PathBuf::from(start::DEFAULT_CONFIG)] } else { Vec::new() };
        Old { configs, ..Old::nobody(find::pidfile_of(request)) }
    }

    /// The files of a kept configuration, and what was passed over on the way to it.
    fn kept(
        &self,
        number: Option<u64>,
        configs: &[PathBuf],
        passed_over: &mut Vec<String>,
    ) -> Result<(Vec<Wanted>, Vec<PathBuf>, u64), Refused> {
        let store = Store::of(&self.held.request.history_dir);
        let refuse = |why: String| Err(Refused::new(Refusal::Usage, why));
        let (configuration, wanted) = match number {
            Some(number) => {
                let configuration = match store.read(number) {
                    Ok(Some(configuration)) => configuration,
                    Ok(None) => {
                        return refuse(format!(
                            "no configuration is kept under {number}; see `hareload history --configurations`"
                        ));
                    }
                    Err(unread) => return Err(damaged(number, unread.refusal(), &unread.to_string())),
                };
                if matches!(configuration.state, State::Failed | State::Trying) {
                    return refuse(format!(
                        "configuration {number} is kept because it failed ({}); what is in it can be deployed from {}",
                        configuration.why.as_deref().unwrap_or("the cause is not known"),
                        store.place(number).display()
                    ));
                }
                let wanted =
                    wanted(&store, &configuration).map_err(|why| damaged(number, Refusal::Internal, &why))?;
                (configuration, wanted)
            }
            None => last_good(&store, passed_over)?,
        };
        if configuration.configs != configs {
            let given = |configs: &[PathBuf]| {
                configs.iter().map(|path| format!("-f {}", path.display())).collect::<Vec<_>>().join(" ")
            };
            return refuse(format!(
                "configuration {} was kept of {}, and HAProxy is given {} now; name the former with --config",
                configuration.number,
                given(&configuration.configs),
                given(configs)
            ));
        }
        let mut pruned: Vec<PathBuf> = configs.iter().filter(|config| config.is_dir()).cloned().collect();
        // What deploys since have added was not there then.
        let since = configuration.number..=store.in_place().map_or(0, |one| one.number);
        let later =
            store.all().into_iter().filter(|one| since.contains(&one.number) && one.number != *since.start());
        let wants = |path: &Path| wanted.iter().any(|one| one.path == path);
        let added = later.flat_map(|one| one.files).filter(|file| file.added && !wants(&file.path));
        pruned.extend(added.map(|file| file.path));
        Ok((wanted, pruned, configuration.number))
    }
}

/// A directory that is missing was not meant: HAProxy would run what is in place from then on, and nobody would look there.
fn has_directory(config: &Path) -> Result<(), Refused> {
    match config.parent().filter(|directory| !directory.exists()) {
        None => Ok(()),
        Some(missing) => {
            let why = format!(
                "configuration {}: there is no directory {}; make it, or correct --config; nothing was touched",
                config.display(),
                missing.display()
            );
            Err(Refused::new(Refusal::Usage, why))
        }
    }
}

/// The good configuration that was in place before, which is not always the one of the number before; where somebody has changed
/// the one in place, that one. One of which a copy is missing or was changed is passed over.
fn last_good(store: &Store, passed_over: &mut Vec<String>) -> Result<(Configuration, Vec<Wanted>), Refused> {
    let newest = match (store.number_in_place(), store.in_place()) {
        (_, Some(one)) if one.changes().is_empty() => Newest::Before(one.number, one.previous),
        // Somebody has changed it.
        (_, Some(one)) => Newest::Is(one.number),
        // What is younger is no way back from it.
        (Ok(Some(number)), None) => Newest::Before(number, None),
        (Ok(None) | Err(_), None) => Newest::Unknown,
    };
    let (backwards, _) = store.backwards(newest);
    for configuration in backwards.into_iter().filter(Configuration::is_good) {
        if configuration.changes().is_empty() {
            continue;
        }
        match wanted(store, &configuration) {
            Ok(wanted) => return Ok((configuration, wanted)),
            Err(why) => {
                passed_over.push(format!("configuration {} was passed over: {why}", configuration.number));
            }
        }
    }
    let why = match passed_over.is_empty() {
        true => "no good configuration is kept that is older than the one in place".to_owned(),
        false => format!(
            "no good configuration that is older than the one in place is whole: {}",
            passed_over.join("; ")
        ),
    };
    let mend = "`hareload history --configurations` lists those that are kept, and --to names one";
    Err(Refused::new(Refusal::Usage, format!("{why}; {mend}")))
}

/// What is said of a kept configuration that was asked for and is not whole.
fn damaged(number: u64, kind: Refusal, why: &str) -> Refused {
    let others = "`hareload history --configurations` lists the others, and --to names one";
    Refused::new(kind, format!("configuration {number} can't be gone back to: {why}; {others}"))
}

/// The files that a kept configuration brings back; or which of its copies is not whole.
fn wanted(store: &Store, configuration: &Configuration) -> Result<Vec<Wanted>, String> {
    let of_file = |file: &kept::KeptFile| {
        let content = store.content(configuration.number, file)?;
        Ok(Wanted {
            path: file.path.clone(),
            origin: file.path.display().to_string(),
            bytes: content.bytes,
            manner: Manner::Exactly(content.attributes),
        })
    };
    configuration.files.iter().map(of_file).collect()
}
