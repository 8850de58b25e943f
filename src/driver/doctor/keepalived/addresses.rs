//! The virtual addresses, against what HAProxy binds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Diagnosis, Level, Patient, Sight, at, finding};
use crate::haproxy::config::{AddressKind, Bind};
use crate::keepalived::instance::Instance;
use crate::os::{host, sysctl};

/// The file with the sysctls that a pair needs.
const SYSCTLS: &str = "60-hareload.conf";

pub(super) fn findings(sight: &Sight, patient: &Patient<'_>) -> Vec<Diagnosis> {
    // Its addresses are another network's.
    if sight.config.global.net_namespace.is_some() {
        return Vec::new();
    }
    let mut findings = other_family(sight);
    findings.extend(nonlocal(sight, patient));
    findings.extend(unbound(sight, patient));
    findings
}

/// The addresses of the network that HAProxy runs in.
fn bound<'a>(patient: &'a Patient<'_>) -> impl Iterator<Item = (&'a Bind, IpAddr)> {
    let binds =
        patient.config.listening().filter(|bind| !bind.options.iter().any(|word| word == "namespace"));
    binds.flat_map(|bind| {
        bind.addresses.iter().filter_map(move |address| match &address.kind {
            AddressKind::Inet { host, .. } => Some((bind, *host)),
            _ => None,
        })
    })
}

/// An instance advertises addresses of one family, that of its first.
pub(super) fn other_family(sight: &Sight) -> Vec<Diagnosis> {
    let of_instance = |instance: &Instance| {
        let stray = instance.of_another_family.first()?;
        let what =
            format!("{}: {} is of another family than the address before it", instance.name, stray.value);
        let why = "keepalived drops it with a line in its log: no host ever gets it";
        let mend = "virtual_ipaddress_excluded, which is put on and taken off together with the others";
        Some(at(finding(Level::Error, "address-dropped", what, why), &stray.place).mend(mend))
    };
    sight.config.instances.iter().filter_map(of_instance).collect()
}

/// Addresses that come and go can be bound only with the sysctl of their family.
fn nonlocal(sight: &Sight, patient: &Patient<'_>) -> Vec<Diagnosis> {
    let virtuals = sight.config.addresses();
    let families = [
        ("ipv4", sysctl::nonlocal_bind_v4(), IpAddr::is_ipv4 as fn(&IpAddr) -> bool),
        ("ipv6", sysctl::nonlocal_bind_v6(), IpAddr::is_ipv6),
    ];
    let mut findings = Vec::new();
    for (family, _, is_of) in families.into_iter().filter(|(_, on, _)| *on == Some(false)) {
        let mut wanting = bound(patient).filter(|(bind, address)| {
            let transparent = bind.options.iter().any(|word| word == "transparent");
            is_of(address) && virtuals.contains_key(address) && !transparent
        });
        let Some((bind, address)) = wanting.next() else { continue };
        let here = host::can_bind(address);
        let what =
            format!("net.{family}.ip_nonlocal_bind is 0, and HAProxy binds the virtual address {address}");
        let (level, why) = match here {
            true => (
                Level::Warning,
                "the address is here now; while the other host has it, HAProxy does not start here, and a reload is rolled back",
            ),
            false => (
                Level::Error,
                "while the other host has the address, HAProxy does not start here, and a reload is rolled back; any other \
                 reload leaves every port deaf for 2 s first",
            ),
        };
        let mend = format!(
            "sysctl -w net.{family}.ip_nonlocal_bind=1; the package's sysctl.d/{SYSCTLS} sets it at every boot"
        );
        findings.push(finding(level, "nonlocal-bind", what, why).at(&bind.place, bind.presence).mend(mend));
    }
    findings
}

/// Addresses that nothing of HAProxy's listens on.
fn unbound(sight: &Sight, patient: &Patient<'_>) -> Vec<Diagnosis> {
    let known = |bind: &Bind| {
        bind.addresses
            .iter()
            .all(|address| matches!(address.kind, AddressKind::Inet { .. } | AddressKind::Unix(_)))
    };
    let addresses: Vec<IpAddr> = bound(patient).map(|(_, address)| address).collect();
    // Of what is not known, anything may be.
    if addresses.is_empty() || !patient.config.listening().all(known) {
        return Vec::new();
    }
    let wild = |address: &IpAddr| {
        let v6 = addresses.contains(&IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        v6 || address.is_ipv4() && addresses.contains(&IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    };
    let mut findings = Vec::new();
    for (address, place) in sight.config.addresses() {
        let mapped =
            matches!(address, IpAddr::V4(v4) if addresses.contains(&IpAddr::V6(v4.to_ipv6_mapped())));
        if !wild(&address) && !mapped && !addresses.contains(&address) {
            let what = format!("HAProxy does not bind the virtual address {address}");
            let why = "who asks it is refused, unless something else listens there";
            findings.push(at(finding(Level::Note, "address-not-bound", what, why), place));
        }
    }
    findings
}
