//! What `haproxy -c` misses: a TCP address that the configuration binds twice, where SO_REUSEPORT is off.
//!
//! Pure, but for the kernel's default of `v6only`. Called by [`super::check`]. Datagram sockets can share an address
//! without it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::lines::{Line, both};
use super::{Finding, Level, Subject};
use crate::haproxy::config::{Presence, Transport};
use crate::os::sockets;

/// An address of a line.
struct Claim<'a> {
    line: &'a Line<'a>,
    /// The place of the line among the lines.
    order: usize,
    host: IpAddr,
    ports: RangeInclusive<u16>,
}

impl Claim<'_> {
    fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.host, port)
    }

    /// The first port that both want, if one excludes the other from it.
    fn meets(&self, other: &Claim<'_>) -> Option<u16> {
        let port = *self.ports.start().max(other.ports.start());
        let common = self.ports.contains(&port) && other.ports.contains(&port);
        if !common || !sockets::overlap(self.at(port), None, other.at(port)) {
            return None;
        }
        let interfaces = (self.line.operand("interface"), other.line.operand("interface"));
        let apart = matches!(interfaces, (Some(one), Some(another)) if one != another);
        // either may be the IPv6 one
        let six_only = self.host.is_ipv6() != other.host.is_ipv6()
            && [self, other].iter().any(|it| it.host.is_ipv6() && it.line.is_six_only());
        (!apart && !six_only).then_some(port)
    }
}

pub(super) fn findings(subject: &Subject<'_>, lines: &[Line<'_>]) -> Vec<Finding> {
    let Some((why, presence)) = exclusive(subject) else { return Vec::new() };
    let mut claims: Vec<Claim<'_>> = Vec::new();
    for (order, line) in lines.iter().enumerate() {
        let tcp = line.inet().filter(|(transport, ..)| *transport == Transport::Tcp);
        claims.extend(tcp.map(|(_, host, ports)| Claim { line, order, host, ports }));
    }
    claims.sort_by_key(|claim| (*claim.ports.start(), claim.order));
    // one a line, the worst: two ranges have many ports in common, and a wildcard many neighbours
    let mut findings: BTreeMap<usize, Finding> = BTreeMap::new();
    for (at, claim) in claims.iter().enumerate() {
        let rivals = claims[at + 1..].iter().take_while(|it| it.ports.start() <= claim.ports.end());
        for rival in rivals {
            let (first, second) = if claim.order <= rival.order { (claim, rival) } else { (rival, claim) };
            if findings.get(&second.order).is_some_and(|known| known.level == Level::Error) {
                continue;
            }
            let doubt = match (first.line.presence, second.line.presence) {
                (Presence::Certain, doubt) | (doubt, Presence::Certain) => both(doubt, presence),
                // they may be the two sides of one .if
                _ => continue,
            };
            if let Some(port) = claim.meets(rival) {
                let finding = bound_twice(first, second, port, &why).if_in_effect(doubt);
                findings.insert(second.order, finding);
            }
        }
    }
    findings.into_values().collect()
}

/// Whether HAProxy does without SO_REUSEPORT, and what makes it.
fn exclusive(subject: &Subject<'_>) -> Option<(String, Presence)> {
    let request = subject.request;
    if request.kept.iter().chain(&request.extra).any(|word| word == "-dR") {
        return Some(("-dR".to_owned(), Presence::Certain));
    }
    let setting = subject.config.global.noreuseport.as_ref()?;
    Some((format!("`noreuseport`, {}", setting.place), setting.presence))
}

fn bound_twice(first: &Claim<'_>, second: &Claim<'_>, port: u16, why: &str) -> Finding {
    let (there, here) = (first.at(port), second.at(port));
    let also = if there == here { String::new() } else { format!(", as {there}") };
    let elsewhere = if first.order == second.order {
        " on one line".to_owned()
    } else {
        format!(", also at {}", first.line.place)
    };
    let message = format!("{here} is bound twice{elsewhere}{also}");
    let cause = format!("without SO_REUSEPORT ({why}) HAProxy can't bind it again");
    let mend = "remove one of the two, or let HAProxy use SO_REUSEPORT";
    Finding::new(Level::Error, "address-twice", message, cause).at(second.line.place).mend(mend)
}
