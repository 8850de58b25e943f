//! What we may do: look into HAProxy, borrow its sockets, signal it, keep state.

use std::path::Path;

use super::{Area, Diagnosis, Level, Patient, level_beside};
use crate::haproxy::config::{AddressKind, Presence};
use crate::os::host::{self, Capability, Directory};
use crate::os::{privilege, sysctl};

pub(super) fn findings(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    findings.extend(blind(patient));
    findings.extend(ptrace(patient));
    findings.extend(borrowing(patient));
    findings.extend(signals(patient));
    findings.extend(state(patient));
    findings.extend(ports(patient));
    findings
}

fn finding(level: Level, code: &'static str, what: impl AsRef<str>, why: impl AsRef<str>) -> Diagnosis {
    Diagnosis::new(level, Area::Privileges, code, what, why)
}

/// How to get at what we lack.
fn mend_rights() -> &'static str {
    if privilege::euid() == 0 {
        "--cap-add SYS_PTRACE for the container, or CapabilityBoundingSet= of the service with CAP_SYS_PTRACE"
    } else {
        "run it as root, or as the user that started HAProxy"
    }
}

fn blind(patient: &Patient<'_>) -> Option<Diagnosis> {
    let refused = patient.blind.as_ref()?;
    let why = "a reload is refused (exit code 4), and most of what follows can't be judged from here";
    Some(finding(Level::Error, "hidden", &refused.why, why).mend(mend_rights()))
}

/// A HAProxy that has changed its user is a closed book without CAP_SYS_PTRACE; one that has not yet been started will be.
fn ptrace(patient: &Patient<'_>) -> Option<Diagnosis> {
    let global = &patient.config.global;
    let user = global.user.as_ref().or(global.uid.as_ref())?;
    let same = matches!(user.value(), Some("root" | "0"));
    if privilege::euid() != 0 || privilege::can_trace() || same || patient.blind.is_some() {
        return None;
    }
    let what = "root has no CAP_SYS_PTRACE here, and HAProxy is to become another user";
    let why = "hareload has to ask HAProxy itself for its sockets: a reload of one without an admin socket that exposes them \
               is refused (exit code 4), and http: and tcp: probes can't be told apart in `shared`";
    let finding = finding(Level::Warning, "no-ptrace", what, why).mend(mend_rights());
    Some(finding.at(&user.place, user.presence))
}

fn borrowing(patient: &Patient<'_>) -> Option<Diagnosis> {
    let (process, error) = patient
        .old()?
        .samples
        .iter()
        .find_map(|(process, fd)| process.borrow_fd(*fd).err().map(|error| (process, error)))?;
    let what = format!("the sockets of pid {} can't be borrowed: {error}", process.pid());
    let why = "without an admin socket with `expose-fd listeners` a reload takes a worse way than `shared`";
    let level = level_beside(patient, Level::Warning);
    Some(finding(level, "not-borrowed", what, why).mend(mend_rights()))
}

fn signals(patient: &Patient<'_>) -> Option<Diagnosis> {
    let process = patient.old()?.processes.iter().find(|process| !process.may_be_signalled())?;
    let uid = process.euid().map_or_else(|_| "another user".to_owned(), |uid| format!("uid {uid}"));
    let what = format!("pid {} ({uid}) can't be told anything: signals to it are refused", process.pid());
    let why = "the old one would never hear that it is to leave: after a reload both would serve";
    Some(
        finding(Level::Error, "no-signals", what, why)
            .mend("run it as root with CAP_KILL, or as HAProxy's own user"),
    )
}

fn state(patient: &Patient<'_>) -> Option<Diagnosis> {
    let why = "every command that changes something is refused";
    match &patient.state {
        Err(error) => {
            let mend = "let it be a directory of root's own, mode 0700, or name another with --state-dir";
            Some(
                finding(Level::Error, "state-directory", format!("state directory: {error}"), why).mend(mend),
            )
        }
        Ok(state) => {
            let path = state.path();
            if usable(path) {
                return None;
            }
            let what = format!(
                "state directory {} can't be written to by uid {}",
                path.display(),
                privilege::euid()
            );
            Some(
                finding(Level::Error, "state-directory", what, why)
                    .mend("run it as root, or name another with --state-dir"),
            )
        }
    }
}

/// Whether it can be written to, or made.
fn usable(path: &Path) -> bool {
    let first = path.ancestors().find(|path| host::directory(path) != Directory::Missing);
    first.is_some_and(|path| host::directory(path) == Directory::Writable)
}

fn ports(patient: &Patient<'_>) -> Option<Diagnosis> {
    let first = sysctl::unprivileged_port_start()?;
    if host::may(Capability::BindService) {
        return None;
    }
    let (bind, port) = patient.config.listening().find_map(|bind| {
        let port = bind.addresses.iter().find_map(|address| match &address.kind {
            AddressKind::Inet { ports, .. } if *ports.start() < first => Some(*ports.start()),
            _ => None,
        });
        port.map(|port| (bind, port))
    })?;
    let what = format!("port {port} can't be bound by uid {}", privilege::euid());
    let why = "a new one that can't share this socket does not start";
    let level = level_beside(patient, Level::Error);
    let mend =
        format!("setcap cap_net_bind_service=+ep on HAProxy, or net.ipv4.ip_unprivileged_port_start={port}");
    let presence = if level == Level::Error { bind.presence } else { Presence::Certain };
    Some(finding(level, "port-not-permitted", what, why).mend(mend).at(&bind.place, presence))
}
