//! HAProxy's version, and what is known to go wrong with its reloads.

use std::collections::BTreeSet;

use super::{Area, Diagnosis, Level, Patient};
use crate::haproxy::argv::Mode;
use crate::haproxy::bugs::{self, Bug, Condition};
use crate::haproxy::config::AddressKind;
use crate::haproxy::version::Version;
use crate::os::host;

pub(super) fn findings(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    findings.extend(program(patient));
    findings.extend(replaced(patient));
    // The one that runs has to leave well, and the next one to start well.
    let mut seen = BTreeSet::new();
    for version in patient.running.iter().chain(&patient.next) {
        for bug in bugs::of(version).filter(|bug| bites(patient, bug.condition)) {
            if seen.insert(bug.name) {
                findings.push(of_bug(bug, version));
            }
        }
    }
    findings
}

fn finding(level: Level, code: &'static str, what: impl AsRef<str>, why: impl AsRef<str>) -> Diagnosis {
    Diagnosis::new(level, Area::Version, code, what, why)
}

fn program(patient: &Patient<'_>) -> Option<Diagnosis> {
    let why = "nothing could be started, so a reload is refused (exit code 5)";
    match (&patient.program, &patient.next) {
        (Some(_), Some(_)) => None,
        (Some(path), None) => {
            let what = format!("{} does not say that it is HAProxy (-v)", path.display());
            let mend = "install HAProxy, or name the right program with --haproxy";
            Some(finding(Level::Error, "no-program", what, why).mend(mend))
        }
        (None, _) => {
            let gone = patient.old().and_then(|old| old.executable());
            let what = gone.map_or_else(
                || "there is no HAProxy on this host where it usually is".to_owned(),
                |path| format!("the program that runs is gone: {}", path.display()),
            );
            Some(
                finding(Level::Error, "no-program", what, why)
                    .mend("install HAProxy, or name it with --haproxy"),
            )
        }
    }
}

fn replaced(patient: &Patient<'_>) -> Option<Diagnosis> {
    let (running, next) = (patient.running.as_ref()?, patient.next.as_ref()?);
    if running == next {
        return None;
    }
    let what = format!("HAProxy {running} runs, and {next} would be started");
    let why = "the next reload is an upgrade as well; sockets are handed over between versions too";
    Some(finding(Level::Note, "version-changes", what, why))
}

fn of_bug(bug: &Bug, version: &Version) -> Diagnosis {
    let what = format!("HAProxy {version}: {}", bug.what);
    let (level, why) = match bug.guarded {
        Some(guard) => (
            Level::Note,
            format!("by hareload: {guard}; any other reload has to reckon with it ({})", bug.source),
        ),
        None => (Level::Warning, format!("hareload can't prevent it ({})", bug.source)),
    };
    let finding = finding(level, bug.name, what, why);
    match (bug.guarded, bug.repaired_after(version)) {
        (None, Some(repaired)) => finding.mend(format!("HAProxy {repaired} or later")),
        _ => finding,
    }
}

/// Whether what a bug needs is so here.
fn bites(patient: &Patient<'_>, condition: Condition) -> bool {
    let config = &patient.config;
    let global = &config.global;
    let listens = |wanted: fn(&AddressKind) -> bool| {
        config.listening().flat_map(|bind| &bind.addresses).any(|address| wanted(&address.kind))
    };
    match condition {
        Condition::Always => true,
        Condition::AbstractSockets => {
            patient.old().is_some_and(|old| old.abstract_sockets)
                || listens(|kind| matches!(kind, AddressKind::Abstract(_)))
        }
        Condition::InheritedSockets => listens(|kind| matches!(kind, AddressKind::Fd(_))),
        Condition::Threads => match global.nbthread.as_ref().map(|setting| setting.number()) {
            Some(number) => number != Some(1),
            // 1.9 and earlier had one thread by default.
            None => host::processors() > 1,
        },
        Condition::Foreground => patient.old().is_some_and(|old| old.command.mode == Mode::Foreground),
        Condition::MasterWorker => patient.is_master_worker(),
        Condition::ChangesIdentity => {
            [&global.user, &global.uid, &global.group, &global.gid].iter().any(|setting| setting.is_some())
        }
    }
}
