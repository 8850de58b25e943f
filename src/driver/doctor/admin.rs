//! The admin sockets: hareload's private one, and the user's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Area, Diagnosis, Level, Patient, level_beside};
use crate::driver::find::Old;
use crate::driver::texts;
use crate::haproxy::config::{ExposeFd, Presence, StatsSocket};
use crate::haproxy::runtime::Info;
use crate::os::admin::{self, AdminError};

/// How long an admin socket may take to answer.
const ANSWER: Duration = Duration::from_millis(500);

pub(super) fn findings(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let Some(old) = patient.old() else { return Vec::new() };
    // It does not answer then, and that is told as what it is.
    if old.paused || old.processes.iter().any(|process| process.state() == Some('T')) {
        return Vec::new();
    }
    let mut findings = dead(patient, old);
    findings.extend(private(patient, old));
    findings.extend(exposed(patient, old));
    findings
}

fn finding(level: Level, code: &'static str, what: impl AsRef<str>, why: impl AsRef<str>) -> Diagnosis {
    Diagnosis::new(level, Area::AdminSocket, code, what, why)
}

/// The socket that the overlay has given it.
fn private(patient: &Patient<'_>, old: &Old) -> Option<Diagnosis> {
    let number = old.number?;
    if matches!(patient.admin, Some((_, true))) {
        return None;
    }
    let what = format!("the private admin socket of generation {number} does not answer");
    let why =
        "its health can't be compared, its draining not be watched, and its sockets have to be borrowed";
    let level = level_beside(patient, Level::Warning);
    Some(finding(level, "private-lost", what, why).mend("hareload reload: the next generation has one again"))
}

/// Before the first reload by hareload only the user's own can hand sockets over.
fn exposed(patient: &Patient<'_>, old: &Old) -> Option<Diagnosis> {
    if old.number.is_some() {
        return None;
    }
    let sockets = &patient.config.global.stats_sockets;
    if sockets.iter().any(|socket| socket.expose_fd == ExposeFd::Listeners) {
        return None;
    }
    let level = level_beside(patient, Level::Warning);
    let why = "for the first reload the sockets have to be borrowed from the process; every generation that hareload starts \
               has a private admin socket";
    Some(match sockets.iter().find(|socket| socket.path().is_some()) {
        Some(socket) => {
            let what = format!(
                "the admin socket {} does not hand over listeners",
                socket.path().unwrap_or_default()
            );
            let finding = finding(level, "not-exposed", what, why);
            finding.mend("add `expose-fd listeners` to that line").at(&socket.place, Presence::Certain)
        }
        None => {
            let mend =
                "stats socket /run/haproxy/admin.sock mode 660 level admin expose-fd listeners, in `global`";
            finding(level, "no-admin-socket", "it has no admin socket", why).mend(mend)
        }
    })
}

/// A path that leads to nobody, or to somebody else, although the old one listens on the socket that had it.
fn dead(patient: &Patient<'_>, old: &Old) -> Vec<Diagnosis> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let sockets = patient.config.global.stats_sockets.iter();
    let held = sockets.filter_map(|socket| Some((socket, seen(patient, socket)?)));
    held.filter(|(_, path)| old.unix.contains(path))
        .filter_map(|(socket, path)| {
            let reply = runtime.block_on(admin::ask(&path, "show info", ANSWER));
            let what = match reply {
                Ok(reply) => match Info::parse(&reply) {
                    // While it is handed over, old and new share the socket.
                    Ok(info) if !patient.rows.iter().any(|row| row.pid == info.pid) => {
                        format!("{} is answered by pid {}, not by the one that serves", path.display(), info.pid)
                    }
                    Ok(_) | Err(_) => return None,
                },
                Err(AdminError::Missing { .. } | AdminError::Refused { .. }) => {
                    format!("nobody can be reached at {}, though HAProxy listens", path.display())
                }
                Err(_) => return None,
            };
            let why = "a start of HAProxy's own that failed takes the path away; shared, the socket goes on without it";
            let mend = "hareload reload --handover overlap binds it anew";
            let finding = finding(Level::Warning, "admin-dead", what, why);
            Some(finding.mend(mend).at(&socket.place, Presence::Certain))
        })
        .collect()
}

/// The path of an admin socket, seen from here.
fn seen(patient: &Patient<'_>, socket: &StatsSocket) -> Option<PathBuf> {
    let workdir = patient.subject.as_ref().and_then(|subject| subject.workdir.as_deref());
    Some(texts::within(workdir, Path::new(socket.path()?)))
}
