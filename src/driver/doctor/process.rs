//! Who serves, and who else is there.

use std::ffi::OsStr;
use std::time::Duration;

use super::{Area, Diagnosis, Level, Patient};
use crate::core::input::Refusal;
use crate::driver::find::{self, Found, is_here};
use crate::driver::pidfile::named_in;
use crate::driver::status::{Role, Row};
use crate::haproxy::argv::Mode;
use crate::os::process::{self, Process};

/// An old generation that drains for longer is worth a warning: its connections live longer than a working day.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// The first process of a system or of a container: with its end everything ends.
const INIT: u32 = 1;

/// How many strangers are named.
const MOST_NAMED: usize = 10;

pub(super) fn findings(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    match &patient.found {
        Ok(Found::Old(_)) => {}
        // Areas of their own say these.
        _ if patient.blind.is_some() || patient.is_master_worker() => {}
        Ok(Found::Nobody(why)) => findings.extend(nobody(patient, why)),
        Err(refused) if refused.kind == Refusal::NotRunning => findings.push(
            error("ambiguous", &refused.why, "a reload is refused as long as it is not certain who is meant")
                .mend(format!("write the pid of the right one into {}", patient.pidfile.display())),
        ),
        Err(refused) => {
            findings.push(error("refused", &refused.why, "a reload is refused for the same reason"))
        }
    }
    findings.extend(of_the_old(patient));
    findings.extend(beside(patient));
    findings.extend(draining(patient));
    findings
}

fn error(code: &'static str, what: &str, why: &str) -> Diagnosis {
    Diagnosis::new(Level::Error, Area::Process, code, what, why)
}

fn nobody(patient: &Patient<'_>, why: &str) -> Vec<Diagnosis> {
    let what = format!("HAProxy does not run: {why}");
    let cause = "a reload is refused (exit code 7): there is nobody to hand over from";
    let not_running = error("not-running", &what, cause).mend("hareload start");
    let elsewhere = if why.contains(find::ELSEWHERE) { named_elsewhere(patient) } else { others_elsewhere() };
    std::iter::once(not_running).chain(elsewhere).collect()
}

/// The one that the pidfile names.
fn named_elsewhere(patient: &Patient<'_>) -> Option<Diagnosis> {
    let pid = named_in(&patient.pidfile)
        .into_iter()
        .find(|pid| Process::open(*pid).is_ok_and(|process| !is_here(&process)))?;
    let what = format!("pid {pid} serves in another network or pid namespace than this shell's");
    let why = "its listeners can't be seen or handed over from here: a reload is refused";
    let mend = format!("nsenter -t {pid} -n hareload doctor, and the same for a reload; or in its container");
    Some(error("other-network", &what, why).mend(mend))
}

/// Those of containers, and of other users of the host: one of them may be meant.
fn others_elsewhere() -> Option<Diagnosis> {
    let pids: Vec<String> = process::called(OsStr::new("haproxy"))
        .filter_map(|(pid, _)| Process::open(pid).ok())
        .filter(|process| !is_here(process))
        .map(|process| process.pid().to_string())
        .take(MOST_NAMED)
        .collect();
    let first = pids.first()?;
    let what = format!(
        "in another network or pid namespace than this shell's there are HAProxies: pid {}",
        pids.join(", ")
    );
    let why = "their listeners can't be seen or handed over from here";
    let mend =
        format!("nsenter -t {first} -n hareload doctor, and the same for a reload; or in its container");
    Some(Diagnosis::new(Level::Note, Area::Process, "other-network", what, why).mend(mend))
}

fn of_the_old(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let Some(old) = patient.old() else { return Vec::new() };
    let mut findings = Vec::new();
    if old.paused {
        let pids: Vec<String> = patient.pids.iter().map(u32::to_string).collect();
        let what = format!("pid {} is paused, and nobody serves", pids.join(", "));
        let why = "a reload of HAProxy's own that failed can leave it so; it listens again at a word, and a reload resumes it \
                   first";
        findings.push(error("paused", &what, why).mend("hareload start").fixable());
    }
    for process in &old.processes {
        let pid = process.pid();
        if process.state() == Some('T') {
            let what = format!("pid {pid} is stopped (SIGSTOP, or a debugger)");
            let why = "it hears nothing, and after a reload it leaves only once it is continued";
            let stopped = Diagnosis::new(Level::Warning, Area::Process, "stopped", what, why);
            findings.push(stopped.mend(format!("kill -CONT {pid}")));
        }
        findings.extend(supervised(patient, process));
    }
    findings
}

/// One in the foreground belongs to whoever waits for its end, and the next one will be another process.
fn supervised(patient: &Patient<'_>, process: &Process) -> Option<Diagnosis> {
    let mode = patient.old()?.command.mode;
    let (pid, parent) = (process.pid(), process.parent().ok()?);
    if pid == INIT {
        let what = "HAProxy is the first process of its container";
        let why = "when it leaves after a reload the container ends, with the new one in it";
        let mend = "give the container an init (docker run --init), and start HAProxy with -D";
        return Some(error("first-process", what, why).mend(mend));
    }
    // A unit is the manager's to judge.
    if mode != Mode::Foreground || parent <= INIT {
        return None;
    }
    let comm = Process::open(parent).ok().and_then(|parent| parent.comm().ok());
    let comm = comm.map_or_else(String::new, |comm| format!(" ({comm})"));
    let what = format!("pid {pid} runs in the foreground (-db), as a child of pid {parent}{comm}");
    let why = "who waits for it takes its end after a reload for the end of the service: the new one runs in the background";
    let finding = Diagnosis::new(Level::Warning, Area::Process, "foreground", what, why);
    Some(finding.mend("start HAProxy with -D, by `hareload start`"))
}

fn beside(patient: &Patient<'_>) -> Option<Diagnosis> {
    let pids = pids_of(patient, |row| row.role == Role::Beside);
    if pids.is_empty() {
        return None;
    }
    let what = format!("pid {} listens beside the one that serves", pids.join(", "));
    let why = "clients get the one or the other by chance, maybe with another configuration; a reload replaces one of them";
    let mend = format!("kill -USR1 {}: it finishes its connections and leaves", pids.join(" "));
    Some(Diagnosis::new(Level::Warning, Area::Process, "beside", what, why).mend(mend))
}

fn draining(patient: &Patient<'_>) -> Option<Diagnosis> {
    let drains = |row: &Row| row.role == Role::Draining;
    let pids = pids_of(patient, drains);
    let oldest = patient.rows.iter().filter(|row| drains(row)).filter_map(|row| row.age_s).max();
    let longest = Duration::from_secs(oldest.unwrap_or(0));
    let (level, since) = match longest {
        long if long > LONG => (Level::Warning, format!(", started {} days ago", long.as_secs() / 86_400)),
        _ => (Level::Note, String::new()),
    };
    if pids.is_empty() {
        return None;
    }
    let what = format!("pid {} finishes its connections{since}", pids.join(", "));
    let why = "each has its memory and its descriptors until its last client has gone";
    let finding = Diagnosis::new(level, Area::Process, "draining", what, why);
    Some(match patient.config.global.hard_stop_after {
        Some(_) => finding,
        None => finding.mend("`hard-stop-after` in `global`, or --hard-stop-after, limits it"),
    })
}

fn pids_of(patient: &Patient<'_>, which: impl Fn(&Row) -> bool) -> Vec<String> {
    patient.rows.iter().filter(|row| which(row)).map(|row| row.pid.to_string()).collect()
}
