//! What is in place, compared with what the one that serves was started with.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use crate::driver::find::Old;
use crate::driver::texts::Texts;
use crate::haproxy::argv::CommandLine;
use crate::os::{clock, files};

use super::kept::{State, Store};
use super::{Deploying, Opened};

/// By how much a process may seem to be older than it is: its start is told in hundredths of a second; proc(5).
const TICK: Duration = Duration::from_millis(10);

impl Deploying<'_> {
    /// Whether nobody has changed what is in place since the one that serves has read it, as far as that can be told.
    pub(super) fn runs_what_is_in_place(&self, old: &Old) -> bool {
        if old.processes.is_empty() {
            return false;
        }
        match old.number.and_then(|number| self.held.records.readings(number)) {
            Some(read) => read.changes().is_empty(),
            None => {
                let started =
                    old.processes.iter().map(|process| clock::wall_at(process.started() + TICK)).max();
                let texts = Texts::read(&old.configs, old.start_directory().as_deref());
                let untouched = |path: &Path| files::modified(path).is_some_and(|at| started >= Some(at));
                texts.paths().all(untouched) || started.is_some_and(|at| self.was_found_since(at))
            }
        }
    }

    /// Whether a deploy has found what is in place, and that it ran, since then: one that was undone has put it back, as files
    /// that are newer.
    fn was_found_since(&self, at: jiff::Timestamp) -> bool {
        let kept = Store::of(&self.held.request.history_dir).all();
        kept.iter().any(|one| one.state == State::Found && one.at >= at && one.changes().is_empty())
    }

    /// What differs, or may: of the candidate from what is in place, of that from what the one that serves has read, or of what
    /// it would be started with.
    pub(super) fn change(&self, opened: &Opened) -> Option<String> {
        let old = &opened.old;
        if !opened.plan.is_empty() {
            return Some("the candidate is not what is in place".to_owned());
        }
        if opened.recovered.is_some() {
            return Some("something was interrupted".to_owned());
        }
        let Some(read) = old.number.and_then(|number| self.held.records.readings(number)) else {
            return Some("what the one that serves has read is not known".to_owned());
        };
        read.may_differ(&opened.readings).or_else(|| self.other_start(old))
    }

    /// What another one would be started with that the one that serves was not.
    fn other_start(&self, old: &Old) -> Option<String> {
        let request = self.held.request;
        let process = old.processes.first()?;
        let words = self.held.records.words_of(process).unwrap_or_default();
        let had = CommandLine::parse(&words).map(|line| line.kept).unwrap_or_default();
        let same = match &request.options {
            Some(options) => had.iter().eq(options.iter().chain(&request.extra)),
            None => had.ends_with(&request.extra),
        };
        if !same {
            return Some("HAProxy is given other options".to_owned());
        }
        let environment = process.environment().unwrap_or_default();
        let has = |variable: &(OsString, OsString)| environment.contains(variable);
        if let Some((name, _)) = request.exported.iter().find(|variable| !has(variable)) {
            return Some(format!("the variable {} has another value", name.display()));
        }
        let runs = process.identity();
        let asked = request.haproxy.as_ref().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()));
        let other = runs.deleted || asked.is_some_and(|asked| asked != runs.exe);
        other.then(|| format!("{} was replaced, or another HAProxy is asked for", runs.exe.display()))
    }
}
