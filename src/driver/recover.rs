//! After a crash: the journal says what was under way, the pidfile says which way to go.
//!
//! Run by the guard, by the next command, and by `hareload recover`; the rules and the code are those of the handover.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::core::account::Account;
use crate::core::machine::{Found, Machine};
use crate::haproxy::runtime::Info;
use crate::os::process::{self, Process, ProcessError};
use crate::os::signals::Interrupts;
use crate::os::{admin, clock, files};

use super::attempt::Attempt;
use super::find::Old;
use super::handover::Handover;
use super::members::Members;
use super::pidfile;
use super::records::{Journal, Records};
use super::request::Request;
use super::timeline::Timeline;
use super::ways::{Chosen, Survey};

/// How long the new one may take to show that it is live.
const INTRODUCTION: Duration = Duration::from_millis(500);

/// Finishes or undoes the handover that the journal tells of, if there is one.
pub(super) async fn leftovers(
    request: &Request,
    records: &Records<'_>,
    timeline: &Timeline,
    interrupts: &mut Interrupts,
) -> Option<Account> {
    let began = clock::wall();
    let journal = records.journal()?;
    let boot = clock::boot_id();
    if journal.boot != boot {
        // Nobody of that boot is left.
        records.end_journal();
        return None;
    }
    if journal.kept.is_empty() {
        // It died before anything was spawned, between making the second names and writing them down.
        journal.unix.iter().for_each(|path| files::forget_all_beside(path));
    }
    timeline.note("hareload", format!("recovers the handover to generation {}", journal.number));
    let paths = records.paths(journal.number);
    let members = Rc::new(Members::marked(paths.pidfile.clone()));
    if members.alive().is_empty() {
        Members::are_gone(&journal.haproxy).await;
    }
    let alive = members.alive();
    let new_alive = match alive.is_empty() {
        true => None,
        false => Some(is_live(&paths.admin, &members).await),
    };
    let named = pidfile::named_in(&journal.pidfile);
    let written = members.written();
    let old = Rc::new(old_of(&journal));
    let committed = !named.is_empty()
        && named.iter().all(|pid| !journal.old.iter().any(|old| old.pid == *pid))
        && named.iter().any(|pid| alive.iter().any(|member| member.pid() == *pid) || written.contains(pid));
    timeline.note("hareload", if committed { "the pidfile names the new one: finish" } else { "undo" });
    let chosen = Chosen {
        way: journal.way,
        source: None,
        steered: journal.steered,
        reason: "taken up after a crash".to_owned(),
    };
    let survey = Survey { chosen: vec![chosen.clone()], admin: None, version: None };
    let found = Found {
        committed,
        old_alive: !old.processes.is_empty(),
        new_alive,
        way: journal.way,
        stage: journal.stage,
        limits: request.limits.clone(),
    };
    let mut handover = Handover::new(
        request,
        records,
        boot,
        timeline.clone(),
        old,
        PathBuf::new(),
        journal.configs.clone(),
        survey,
    );
    if let Some(member) = alive.first() {
        let (member, members) = (Rc::clone(member), Rc::clone(&members));
        let gone = super::watch::new_gone(journal.number, member, members, handover.watcher());
        tokio::task::spawn_local(gone);
    }
    handover.attempt = Some(Attempt {
        number: journal.number,
        paths,
        chosen,
        members,
        output: None,
        herald: None,
        lender: None,
        kept: journal.kept.clone(),
        listening: Vec::new(),
        journal,
    });
    let (machine, actions) = Machine::recover(timeline.now(), found);
    handover.machine = machine;
    let outcome = handover.run(actions, None, interrupts).await;
    Some(handover.conclude("recover", outcome, began))
}

async fn is_live(admin: &std::path::Path, members: &Members) -> bool {
    match admin::ask(admin, "show info", INTRODUCTION).await {
        Ok(reply) => Info::parse(&reply).is_ok_and(|info| members.includes(info.pid)),
        Err(_) => false,
    }
}

/// The old one, as far as it lives.
fn old_of(journal: &Journal) -> Old {
    let processes = process::living(&journal.old);
    Old {
        listening: journal
            .listening
            .iter()
            .filter(|one| processes.iter().any(|process| process.pid() == one.pid))
            .cloned()
            .collect(),
        processes,
        cwd: journal.cwd.clone(),
        unix: journal.unix.clone(),
        number: journal.old_number,
        ..Old::nobody(journal.pidfile.clone())
    }
}

/// Removes what generations have left of which no process lives.
pub(super) fn tidy(records: &Records<'_>) {
    records.forget_half_written();
    dead(records).into_iter().for_each(|number| records.forget_generation(number));
}

/// The generations that have left files, and of which no process lives.
pub(super) fn dead(records: &Records<'_>) -> Vec<u64> {
    let current = records.current().filter(|current| {
        let gone = |known| {
            matches!(Process::find(known), Err(ProcessError::Gone { .. } | ProcessError::Recycled { .. }))
        };
        !current.processes.iter().all(gone)
    });
    let lives = |number: &u64| {
        current.as_ref().is_some_and(|current| current.number == *number)
            || !Members::marked(records.paths(*number).pidfile).alive().is_empty()
    };
    records.numbers().into_iter().filter(|number| !lives(number)).collect()
}
