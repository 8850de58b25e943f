//! Listeners that only some ways can hand over.
//!
//! What the configuration says of them, and what the sockets that run say themselves.

use std::collections::HashSet;
use std::net::IpAddr;
use std::os::fd::AsFd as _;

use super::{Area, Diagnosis, Level, Patient, level_beside};
use crate::core::plan::Way;
use crate::driver::ways;
use crate::haproxy::config::{AddressKind, Bind, Transport};
use crate::haproxy::version::Version;
use crate::os::{privilege, sockets, sysctl};

mod quic;

pub(super) fn findings(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let mut findings = inherited(patient);
    findings.extend(abstract_names(patient));
    findings.extend(no_reuseport(patient));
    findings.extend(specific_ipv6(patient));
    findings.extend(namespaces(patient));
    findings.extend(shards(patient));
    findings.extend(of_another_user(patient));
    findings.extend(quic::findings(patient));
    findings
}

fn finding(level: Level, code: &'static str, what: impl AsRef<str>, why: impl AsRef<str>) -> Diagnosis {
    Diagnosis::new(level, Area::Listeners, code, what, why)
}

/// The lines with such an address, each once.
fn lines<'a>(
    patient: &'a Patient<'_>,
    wanted: impl Fn(&Bind, &AddressKind) -> bool,
) -> impl Iterator<Item = (&'a Bind, &'a str)> {
    patient.config.listening().filter_map(move |bind| {
        let address = bind.addresses.iter().find(|address| wanted(bind, &address.kind))?;
        Some((bind, address.text.as_str()))
    })
}

/// The new one is started by hareload, which has none of the descriptors that the old one was started with.
fn inherited(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let wanted = |_: &Bind, kind: &AddressKind| matches!(kind, AddressKind::Fd(_) | AddressKind::Sockpair(_));
    lines(patient, wanted)
        .map(|(bind, text)| {
            let what = format!("{text} is inherited from whoever started HAProxy");
            let why = "hareload can't give it to the new one, which refuses its configuration";
            let mend = "bind the address itself; hareload shares its socket without that";
            finding(Level::Error, "inherited", what, why).mend(mend).at(&bind.place, bind.presence)
        })
        .collect()
}

fn abstract_names(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let version = patient.running.as_ref().or(patient.next.as_ref());
    if version.is_some_and(|version| !version.pause_breaks_abns()) {
        return Vec::new();
    }
    let whose =
        version.map_or_else(|| "a HAProxy before 2.8".to_owned(), |version| format!("HAProxy {version}"));
    let level = level_beside(patient, Level::Warning);
    let why = format!("{whose} may not survive a pause with it: neither `trial` nor `pause` can be had");
    let wanted = |_: &Bind, kind: &AddressKind| matches!(kind, AddressKind::Abstract(_));
    let mut findings: Vec<Diagnosis> = lines(patient, wanted)
        .map(|(bind, text)| {
            let what = format!("{text} is an abstract socket");
            let mend = "HAProxy 2.8 or later, or a path instead of the abstract name";
            finding(level, "abns", what, &why).mend(mend).at(&bind.place, bind.presence)
        })
        .collect();
    if findings.is_empty() && patient.old().is_some_and(|old| old.abstract_sockets) {
        findings.push(finding(level, "abns", "the one that serves has abstract sockets", why));
    }
    findings
}

fn no_reuseport(patient: &Patient<'_>) -> Option<Diagnosis> {
    let level = level_beside(patient, Level::Warning);
    let why = "two can't have their own sockets at one address: where sharing can't be had only `pause` is left, which refuses \
               clients for a while";
    let mend = "remove it; it is meant for a kernel before 3.9";
    if let Some(set) = &patient.config.global.noreuseport {
        let what = "`noreuseport` is set";
        return Some(finding(level, "noreuseport", what, why).mend(mend).at(&set.place, set.presence));
    }
    let old = patient.old()?;
    let alone = old.listening.iter().find(|one| {
        let process = old.processes.iter().find(|process| process.pid() == one.pid);
        let duplicate = process.and_then(|process| process.borrow_fd(one.fd).ok());
        let shape = duplicate.and_then(|duplicate| sockets::inspect(duplicate.as_fd()).ok());
        shape.is_some_and(|shape| !shape.reuseport)
    })?;
    let what = format!("{} is bound without SO_REUSEPORT by the one that serves", alone.address);
    Some(
        finding(level, "noreuseport", what, why)
            .mend("the next one may have it: -dR, or an earlier `noreuseport`"),
    )
}

/// A receiver of sockets from 2.3 on compares the keyword with what the kernel has forced on the socket.
fn specific_ipv6(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let Some(next) = patient.next.as_ref().or(patient.running.as_ref()) else { return Vec::new() };
    if !Version::leaves_specific_ipv6_behind(next) {
        return Vec::new();
    }
    let wanted = |bind: &Bind, kind: &AddressKind| match kind {
        AddressKind::Inet { host: IpAddr::V6(host), .. } => {
            !host.is_unspecified() && !bind.options.iter().any(|word| word == "v6only")
        }
        _ => false,
    };
    let (level, why) = match patient.first_way() {
        Some(Way::Trial) => (
            Level::Note,
            "HAProxy does not take over the socket of one IPv6 address: a reload goes by `trial`, which loses nobody there, \
             and not by `shared`",
        ),
        _ if patient.config.global.noreuseport.is_some() => (
            Level::Warning,
            "HAProxy does not take over the socket of one IPv6 address, and with `noreuseport` it can't bind another beside \
             it: a reload has to pause the old one",
        ),
        _ => (
            Level::Warning,
            "HAProxy does not take over the socket of one IPv6 address: it is bound anew beside the old one, and a few \
             clients may be reset there",
        ),
    };
    let findings = lines(patient, wanted).map(|(bind, text)| {
        let what = format!("{text} is one IPv6 address, without `v6only`");
        let mend = format!("add `v6only` to that line: bind {text} v6only");
        finding(level, "specific-ipv6", what, why).mend(mend).at(&bind.place, bind.presence)
    });
    findings.collect()
}

fn namespaces(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let wanted = |bind: &Bind, _: &AddressKind| bind.options.iter().any(|word| word == "namespace");
    let why = "hareload can't lend a socket of another network namespace: it is bound anew beside the old one, and a few \
               clients may be reset there";
    let findings = lines(patient, wanted).map(|(bind, text)| {
        let what = format!("{text} is in another network namespace");
        let mend = "an admin socket with `expose-fd listeners` hands it over";
        finding(Level::Warning, "namespace", what, why).mend(mend).at(&bind.place, bind.presence)
    });
    findings.collect()
}

/// Of several sockets at one address HAProxy's own transfer may leave some behind; hareload steers clients around that.
fn shards(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let Some(error) = patient.old().and_then(|old| ways::steerable(old).err()) else { return Vec::new() };
    let several = |bind: &Bind, _: &AddressKind| {
        let at = bind.options.iter().position(|word| word == "shards");
        at.and_then(|at| bind.options.get(at + 1)).is_some_and(|count| count != "1")
    };
    let why = format!(
        "old and new may have different numbers of sockets, and clients that wait at one that is closed are reset: they can't \
         be steered around it ({error})"
    );
    let findings = lines(patient, several).map(|(bind, text)| {
        let what = format!("{text} has several sockets (`shards`)");
        finding(Level::Warning, "shards", what, &why).at(&bind.place, bind.presence)
    });
    findings.collect()
}

/// The kernel lets sockets of one user only share an address.
fn of_another_user(patient: &Patient<'_>) -> Option<Diagnosis> {
    let old = patient.old()?;
    let ours: HashSet<u64> = old.listening.iter().map(|one| one.inode).collect();
    let listeners = sockets::tcp_listeners().ok()?;
    let other = listeners
        .iter()
        .filter(|listener| ours.contains(&listener.inode) && listener.uid != sockets::UNKNOWN_UID)
        .find(|listener| listener.uid != privilege::euid())?;
    let what = format!("the listeners were made by uid {}, and this is uid {}", other.uid, privilege::euid());
    let why =
        "the kernel lets only one user's sockets share an address: neither `trial` nor `overlap` can be had";
    let level = level_beside(patient, Level::Warning);
    Some(finding(level, "other-user", what, why).mend("run hareload as the user that starts HAProxy"))
}

/// Whether a line speaks QUIC, and at which port.
fn quic_port(kind: &AddressKind) -> Option<u16> {
    match kind {
        AddressKind::Inet { transport: Transport::Quic, ports, .. } => Some(*ports.start()),
        _ => None,
    }
}

/// Ports from here on need no privilege.
fn first_free_port() -> u16 {
    // What Linux has by default; ip-sysctl.rst.
    sysctl::unprivileged_port_start().unwrap_or(1024)
}
