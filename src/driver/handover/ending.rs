//! The end: who serves is written down, what is left is tidied up, and the account is drawn.

use std::path::Path;
use std::rc::Rc;

use crate::core::account::{Account, Named, SCHEMA};
use crate::core::exit;
use crate::core::outcome::{Cause, Outcome, Rest, Verdict};
use crate::core::phase::Step;
use crate::driver::attempt::Attempt;
use crate::driver::records::{Generation, Given};
use crate::driver::recover;
use crate::driver::request::{Probe, Refused, Request};
use crate::driver::texts::Texts;
use crate::driver::timeline::Timeline;
use crate::driver::ways::Chosen;
use crate::os::files;
use crate::os::process::Process;

use super::Handover;

impl Handover<'_> {
    /// The record of the new generation, once it serves.
    fn generation(&self) -> Option<Generation> {
        let attempt = self.attempt.as_ref()?;
        let processes: Vec<Rc<Process>> = attempt.members.alive();
        Some(Generation {
            number: attempt.number,
            processes: processes.iter().map(|process| process.identity().clone()).collect(),
            configs: self.configs.clone(),
            cwd: self.old.cwd.clone(),
            words: attempt.journal.words.clone(),
            boot: self.boot.clone(),
            pidfile: Some(self.old.pidfile.clone()),
            listening: attempt.listening.clone(),
            given: Given::of(self.request),
        })
    }

    /// Tidies up after the end, and writes the account.
    pub(in crate::driver) fn conclude(
        mut self,
        command: &str,
        mut outcome: Outcome,
        began: jiff::Timestamp,
    ) -> Account {
        let new = self.attempt.as_ref().map(Attempt::named);
        if outcome.verdict.new_serves() && new.as_ref().is_some_and(|new| new.pids.is_empty()) {
            self.notes.push("the new one has ended right after the handover".to_owned());
            outcome.verdict = Verdict::Nobody;
        }
        let new_serves = outcome.verdict.new_serves();
        if new_serves
            && let Some(generation) = self.generation()
            && let Err(error) = self.records.set_current(&generation)
        {
            self.notes.push(format!("the record of the new generation can't be written: {error}"));
        }
        self.forget_sockets();
        self.records.end_journal();
        recover::tidy(self.records);
        let mut unix = self.old.unix.clone();
        if !new_serves {
            // It may have been killed while it bound.
            let workdir = self.old.command.workdir.as_ref().map(Path::new);
            unix.extend(Texts::read(&self.configs, workdir).config().unix_paths().map(Path::to_owned));
        }
        for path in &unix {
            files::forget_half_bound(path, |pid| Process::open(pid).is_ok());
        }
        // Perhaps not ours: that of one before us, which was killed while it committed.
        files::forget_half_written(&self.old.pidfile);
        if outcome.cause == Some(Cause::NotProven(Step::Probes)) {
            let asked: Vec<String> = self.request.probes.iter().map(Probe::to_string).collect();
            self.notes.push(format!("the probes were {}", asked.join(", ")));
        }
        if let Some(worse) = self.worse.take()
            && !new_serves
        {
            self.notes.push(worse);
        }
        let old = self.old.named();
        let serving: Option<Named> = match &outcome.verdict {
            Verdict::Nobody => None,
            _ if new_serves => new.clone(),
            _ => self.old.processes.iter().any(|process| process.is_alive()).then(|| old.clone()),
        };
        let reason = outcome.tried.len();
        let chosen: Option<&Chosen> = self.survey.chosen.get(reason).filter(|_| outcome.way.is_some());
        Account {
            schema: SCHEMA.to_owned(),
            command: command.to_owned(),
            instance: self.request.instance.clone(),
            began,
            took_us: u64::try_from(self.timeline.now().as_micros()).unwrap_or(u64::MAX),
            exit_code: match &outcome.verdict {
                // To lead back is what `recover` is for.
                Verdict::RolledBack if command == "recover" => exit::DONE,
                _ => outcome.exit_code(),
            },
            serving,
            old: (!old.pids.is_empty()).then_some(old),
            new,
            reason: chosen.map(|chosen| chosen.reason.clone()),
            notes: self.notes,
            said: self.said,
            timeline: self.timeline.moments(),
            coalesced: false,
            configs: self.configs.iter().map(|path| path.display().to_string()).collect(),
            pidfile: self.old.pidfile.display().to_string(),
            outcome,
        }
    }
}

/// An account of a command that made no handover.
pub(in crate::driver) fn without_handover(
    request: &Request,
    command: &str,
    timeline: &Timeline,
    began: jiff::Timestamp,
    verdict: Verdict,
) -> Account {
    let outcome =
        Outcome { verdict, way: None, tried: Vec::new(), cause: None, rest: Rest::Gone, interrupted: None };
    Account {
        schema: SCHEMA.to_owned(),
        command: command.to_owned(),
        instance: request.instance.clone(),
        began,
        took_us: u64::try_from(timeline.now().as_micros()).unwrap_or(u64::MAX),
        exit_code: outcome.exit_code(),
        serving: None,
        old: None,
        new: None,
        reason: None,
        notes: Vec::new(),
        said: Vec::new(),
        timeline: timeline.moments(),
        coalesced: false,
        configs: request.configs.iter().map(|path| path.display().to_string()).collect(),
        pidfile: request.pidfile.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        outcome,
    }
}

/// The same of one that was refused.
pub(in crate::driver) fn refused(
    request: &Request,
    command: &str,
    timeline: &Timeline,
    began: jiff::Timestamp,
    refusal: Refused,
) -> Account {
    without_handover(request, command, timeline, began, Verdict::Refused(refusal.kind, refusal.why))
}
