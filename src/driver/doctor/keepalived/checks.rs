//! Checks that stay green while nobody serves, or are never green.

use super::{Diagnosis, Level, Sight, at, finding};
use crate::keepalived::deed::Deed;
use crate::keepalived::instance::Tracked;
use crate::os::kernel;

pub(super) fn findings(sight: &Sight) -> Vec<Diagnosis> {
    let mut findings = by_process(sight);
    findings.extend(by_address(sight));
    findings.extend(tracked(sight, kernel::process_events()));
    findings.extend(undefined(sight));
    findings.extend(untracked(sight));
    findings
}

/// What tracks scripts, and what it tracks.
fn trackers(sight: &Sight) -> impl Iterator<Item = (&str, &Tracked)> {
    let instances = sight.config.instances.iter().map(|instance| (instance.name.as_str(), &instance.scripts));
    let groups = sight.config.groups.iter().map(|group| (group.name.as_str(), &group.scripts));
    instances.chain(groups).flat_map(|(name, scripts)| scripts.iter().map(move |script| (name, script)))
}

/// Checks that are named before they are defined, or never are.
fn undefined(sight: &Sight) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    for (name, tracked) in trackers(sight).filter(|(_, tracked)| !tracked.is_defined) {
        let check = &tracked.name;
        let later = sight.config.checks.iter().find(|known| known.name == *check);
        let (what, mend) = match later {
            Some(later) => (
                format!("{name} tracks the check `{check}`, which is defined only later ({})", later.place),
                format!("vrrp_script {check} before {name}"),
            ),
            None => (
                format!("{name} tracks the check `{check}`, and there is none of this name"),
                "correct the name".to_owned(),
            ),
        };
        let why = "keepalived passes over it with a line in its log: whatever the check says, the host keeps the address";
        findings.push(at(finding(Level::Error, "not-tracked", what, why), &tracked.place).mend(mend));
    }
    findings
}

/// Checks of HAProxy that nothing tracks.
fn untracked(sight: &Sight) -> Vec<Diagnosis> {
    // What is included and could not be read may track it.
    if sight.config.instances.is_empty() || !sight.unread.is_empty() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for named in sight.named.iter().filter(|named| named.is_about_haproxy()) {
        let Some(check) =
            named.check.as_ref().filter(|check| !trackers(sight).any(|(_, one)| one.name == **check))
        else {
            continue;
        };
        let what = format!("the check `{check}` is not tracked by any instance");
        let why = "whatever it says, the host keeps the address";
        let mend = format!("track_script {{ {check} }} in the vrrp_instance");
        findings.push(at(finding(Level::Warning, "not-tracked", what, why), &named.script.place).mend(mend));
    }
    findings
}

/// The line that asks hareload instead.
fn healthy() -> String {
    format!("script \"{} healthy --quiet\"", super::hareload())
}

fn by_process(sight: &Sight) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    for named in sight.named.iter().filter(|named| named.check.is_some()) {
        if named.does(Deed::LooksForProcess) && !named.does(Deed::AsksHareload) {
            let what =
                format!("{} sees whether there is a process, not whether it serves", named.described());
            let why = "one that is paused, is frozen or finishes its last connections counts as healthy; and under another user \
                       than root, `kill -0` and an unreadable pidfile make one that serves look dead";
            findings.push(
                at(finding(Level::Warning, "check-by-process", what, why), &named.script.place)
                    .mend(healthy()),
            );
        }
    }
    findings
}

fn by_address(sight: &Sight) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    let addresses = sight.config.addresses();
    for named in sight.named.iter().filter(|named| named.check.is_some()) {
        let Some(address) = addresses.keys().map(ToString::to_string).find(|address| named.names(address))
        else {
            continue;
        };
        let what = format!("{} asks the virtual address {address}", named.described());
        let why = "on the host that does not have the address, the other host answers: the check is green while the HAProxy \
                   here is dead, and red on both where nobody has the address yet";
        findings.push(
            at(finding(Level::Warning, "check-by-address", what, why), &named.script.place).mend(healthy()),
        );
    }
    findings
}

/// `track_process`: works where the kernel tells about processes only.
pub(super) fn tracked(sight: &Sight, events: bool) -> Vec<Diagnosis> {
    let config = &sight.config;
    let instances = config.instances.iter().flat_map(|instance| &instance.processes);
    let groups = config.groups.iter().flat_map(|group| &group.processes);
    let mut findings = Vec::new();
    for tracked in instances.chain(groups) {
        let Some(process) = config.processes.iter().find(|process| process.name == tracked.name) else {
            continue;
        };
        if !tracked.is_defined {
            let what =
                format!("track_process {} is named before it is defined ({})", tracked.name, process.place);
            let why =
                "keepalived passes over it: whatever becomes of the process, the host keeps the address";
            let mend = "the vrrp_track_process above what tracks it";
            findings.push(at(finding(Level::Error, "not-tracked", what, why), &tracked.place).mend(mend));
            continue;
        }
        let mend = "a vrrp_script with ".to_owned() + &healthy() + ", in track_script";
        if !events {
            let what = format!("track_process {} does not work here", tracked.name);
            let why = "the kernel tells about processes in the first network and pid namespaces only: in a container or a \
                       network namespace the instance stays in FAULT, and never takes its addresses";
            findings.push(at(finding(Level::Error, "track-process", what, why), &tracked.place).mend(mend));
        } else if process.process.contains("haproxy") {
            let what = format!(
                "track_process {} sees whether there is a process, not whether it serves",
                tracked.name
            );
            let why = "it is the fastest to see one die, and sees nothing else: one that is paused, is frozen or finishes its \
                       last connections counts as healthy, and so does any other of this name";
            findings.push(at(finding(Level::Note, "check-by-process", what, why), &tracked.place).mend(mend));
        }
    }
    findings
}
