//! Whether there is room for two generations at once: descriptors, memory, threads.
//!
//! The next one has the limits and the control group of the hareload that starts it, not those of the old one.

use super::{Area, Diagnosis, Level, Patient};
use crate::os::{cgroup, host, process, usage};

/// What runs besides HAProxy's threads while it is handed over: the spawned process beside its daemon, hareload's guard and
/// its herald.
const HELPERS: u64 = 3;

pub(super) fn findings(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    findings.extend(descriptors(patient));
    findings.extend(memory(patient));
    findings.extend(threads(patient));
    findings
}

fn finding(level: Level, code: &'static str, what: impl AsRef<str>, why: impl AsRef<str>) -> Diagnosis {
    Diagnosis::new(level, Area::Limits, code, what, why)
}

/// Without `maxconn` HAProxy takes as many connections as its hard limit of descriptors lets it (compute_ideal_maxconn).
fn descriptors(patient: &Patient<'_>) -> Option<Diagnosis> {
    let global = &patient.config.global;
    if global.maxconn.is_some() || global.ulimit_n.is_some() {
        return None;
    }
    let pid = patient.old()?.processes.first()?.pid();
    let (_, theirs) = host::descriptors_of(pid)?;
    let (_, ours) = host::descriptors_of(process::myself())?;
    if ours >= theirs {
        return None;
    }
    let what = format!("pid {pid} may have {theirs} descriptors, and one that is started from here {ours}");
    let why = "without `maxconn` the limit on connections follows from that: the next one would take fewer";
    let mend =
        format!("set `maxconn`, or start hareload with ulimit -Hn {theirs} (LimitNOFILE= of its service)");
    Some(finding(Level::Warning, "fewer-descriptors", what, why).mend(mend))
}

fn memory(patient: &Patient<'_>) -> Option<Diagnosis> {
    let pids = patient.old()?.named().pids;
    let theirs: u64 = pids.iter().filter_map(|pid| usage::of(*pid)).map(|usage| usage.memory).sum();
    let free = usage::available_memory()?;
    if theirs == 0 || free >= theirs {
        return None;
    }
    let (theirs, free) = (theirs >> 20, free >> 20);
    let what = format!("HAProxy has {theirs} MB of memory, and {free} MB are left for the next one");
    let why =
        "both are there until the old one has finished its connections; the kernel may end either of them";
    let mend = "more memory, MemoryMax= of the service that calls hareload, or `hard-stop-after` for those that drain";
    Some(finding(Level::Warning, "memory", what, why).mend(mend))
}

fn threads(patient: &Patient<'_>) -> Option<Diagnosis> {
    let processes = &patient.old()?.processes;
    let needed: u64 = processes.iter().filter_map(|process| process.threads().ok()).sum();
    let room = cgroup::room_for_threads(processes.first()?.pid())?;
    if room >= needed + HELPERS {
        return None;
    }
    let what = format!("the control group has room for {room} more threads, and HAProxy has {needed}");
    let why = "a new one that can't create its threads never answers: the reload is rolled back";
    let mend = "raise TasksMax= of the service, or the pids limit of the container";
    Some(finding(Level::Error, "threads", what, why).mend(mend))
}
