//! What earlier handovers have left.

use super::{Area, Diagnosis, Level, Patient};
use crate::driver::deploy;
use crate::driver::records::Records;
use crate::driver::recover;
use crate::os::clock;
use crate::os::host::{self, Directory};
use crate::os::lock::{self, Activity, Holder};

pub(super) fn findings(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let mut findings = lost(patient);
    let Ok(state) = &patient.state else { return findings };
    let records = Records::of(state);
    match lock::held(state.path()) {
        // Whatever is there belongs to it.
        Some(holder) => findings.push(under_way(&holder)),
        None => {
            findings.extend(interrupted(&records));
            findings.extend(restart(&records));
            findings.extend(deploy(patient));
            findings.extend(files(&records));
        }
    }
    findings.extend(history(patient));
    findings
}

fn finding(level: Level, code: &'static str, what: impl AsRef<str>, why: impl AsRef<str>) -> Diagnosis {
    Diagnosis::new(level, Area::Leftovers, code, what, why)
}

fn under_way(holder: &Holder) -> Diagnosis {
    if let Holder::Guard { pid: Some(pid), activity: Activity::Stopped, .. } = holder {
        let what = format!("the lock is held by {holder}");
        let why =
            "it is stopped in the middle of its work, and every command waits for it in vain (exit code 152)";
        return finding(Level::Error, "guard-stopped", what, why).mend(format!("kill -CONT {pid}"));
    }
    let what = format!("a command is under way: the lock is held by {holder}");
    finding(Level::Note, "under-way", what, "some of what is said here may be of the moment")
}

fn interrupted(records: &Records<'_>) -> Option<Diagnosis> {
    let journal = records.journal()?;
    let what = format!("a handover to generation {} was interrupted", journal.number);
    if journal.boot != clock::boot_id() {
        let why = "it was before the last boot: nobody of it is left";
        return Some(finding(Level::Note, "interrupted", what, why).mend("hareload recover").fixable());
    }
    let why = "neither hareload nor its guard has finished or undone it: the old one may be paused, or two may serve; the next \
               command does it";
    Some(finding(Level::Warning, "interrupted", what, why).mend("hareload recover").fixable())
}

fn restart(records: &Records<'_>) -> Option<Diagnosis> {
    let before_boot = records.restart()?.boot != clock::boot_id();
    let (level, why) = match before_boot {
        true => (Level::Note, "it was before the last boot: it is not wanted any more"),
        false => (Level::Warning, "nobody may serve; the next command finishes it"),
    };
    let what = "a restart was interrupted";
    Some(finding(level, "interrupted", what, why).mend("hareload recover").fixable())
}

fn deploy(patient: &Patient<'_>) -> Option<Diagnosis> {
    let what = format!("{} was interrupted", deploy::interrupted(&patient.request.history_dir)?);
    let why = "file and process may differ; the next command finishes or undoes it";
    Some(finding(Level::Warning, "interrupted", what, why).mend("hareload recover").fixable())
}

/// What was written down and can't be read.
fn lost(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let lost = deploy::lost(&patient.request.history_dir);
    lost.into_iter()
        .map(|lost| finding(Level::Warning, "unread", lost.what, lost.why).mend(lost.mend))
        .collect()
}

fn files(records: &Records<'_>) -> Option<Diagnosis> {
    let under_way = records.journal().map(|journal| journal.number);
    let dead = recover::dead(records).into_iter().filter(|number| Some(*number) != under_way);
    let left: Vec<String> = dead.map(|number| number.to_string()).collect();
    if left.is_empty() {
        return None;
    }
    let what = format!("files of generation {} are left, of which no process lives", left.join(", "));
    let why = "they do no harm, and the next reload removes them";
    Some(finding(Level::Note, "files", what, why).mend("hareload doctor --fix").fixable())
}

fn history(patient: &Patient<'_>) -> Option<Diagnosis> {
    let path = &patient.request.history_dir;
    let first = path.ancestors().find(|path| host::directory(path) != Directory::Missing)?;
    if host::directory(first) == Directory::Writable || patient.blind.is_some() {
        return None;
    }
    let what = format!("the history can't be written to {}", path.display());
    let why = "what was done, and why, can't be looked up later (hareload history)";
    Some(finding(Level::Note, "history", what, why).mend("name another directory with --history-dir"))
}
