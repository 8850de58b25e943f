//! Why a new one failed: by what it printed, how it exited, and who holds what it lacked.

use std::net::SocketAddr;

use crate::core::input::Failure;
use crate::haproxy::alerts::{self, About, Alert, BindAddress, Level};
use crate::os::process::{Exit, by_whom};
use crate::os::{host, sockets};

use super::find::Old;
use super::members::Members;

/// How many addresses are named that could not be bound; there may be thousands.
const NAMED: usize = 5;

/// What sort of failure it is; another way may help against some.
pub(super) fn classify(
    alerts: &[Alert],
    said: &[String],
    old: &Old,
    exit: Option<Exit>,
    new: &Members,
) -> Failure {
    let absent: Vec<String> = alerts::maybe_absent(alerts).into_iter().filter_map(absent).collect();
    if !absent.is_empty() {
        return Failure::PortsOfOthers(first_of(absent));
    }
    let conflicts = alerts::bind_conflicts(alerts);
    if !conflicts.is_empty() {
        return conflict(&conflicts, alerts, old, new);
    }
    let main = alerts.iter().find(|alert| alert.level == Level::Alert).map(|alert| alert.text.clone());
    let ended = exit.map_or_else(|| "it ended".to_owned(), |exit| exit.to_string());
    let why = match (exit, main.or_else(|| said.last().cloned())) {
        // What it has said before was not the reason.
        (Some(Exit::Signal(signal)), _) => {
            return Failure::Other(format!("HAProxy {ended}, {}", by_whom(signal)));
        }
        (_, Some(text)) => text,
        (_, None) => format!("HAProxy {ended} without a word"),
    };
    let is = |wanted: fn(&About) -> bool| alerts.iter().any(|alert| wanted(&alert.about));
    if is(|about| matches!(about, About::Transfer)) {
        return Failure::Transfer(why);
    }
    let host = |about: &About| {
        matches!(
            about,
            About::Chroot { .. }
                | About::Identity
                | About::FdLimit
                | About::Transparent
                | About::Threads
                | About::Limits
        )
    };
    if is(host) {
        let told = alerts.iter().find(|alert| host(&alert.about)).map_or(why, |alert| alert.text.clone());
        return Failure::Other(told);
    }
    if is(|about| matches!(about, About::Configuration | About::NoListener | About::MissingFile)) {
        return Failure::Configuration(why);
    }
    Failure::Other(why)
}

/// What is said of an address that this host does not have, and its kernel lets nobody bind.
fn absent(address: SocketAddr) -> Option<String> {
    let ip = address.ip();
    if host::can_bind(ip) {
        return None;
    }
    let (family, switch) = if ip.is_ipv4() { ("IPv4", "ipv4") } else { ("IPv6", "ipv6") };
    Some(format!(
        "{address} can't be bound: this host does not have the {family} address {ip}, and net.{switch}.ip_nonlocal_bind is off; \
         set net.{switch}.ip_nonlocal_bind=1 where a virtual address comes and goes"
    ))
}

/// Addresses that it could not bind: whoever holds them decides whether another way may help.
fn conflict(conflicts: &[BindAddress], alerts: &[Alert], old: &Old, new: &Members) -> Failure {
    let mut by_old = Vec::new();
    let mut by_others = Vec::new();
    let wanted: Vec<SocketAddr> = conflicts
        .iter()
        .filter_map(|address| match address {
            BindAddress::Inet(address) => Some(*address),
            BindAddress::Unix(_) | BindAddress::Other(_) => None,
        })
        .collect();
    let mut holders = sockets::holders_of(&wanted).into_iter();
    let new: Vec<u32> = new.alive().iter().map(|member| member.pid()).collect();
    for address in conflicts {
        match address {
            BindAddress::Inet(address) => {
                let holders = holders.next().unwrap_or_default();
                let strangers: Vec<String> = holders
                    .iter()
                    .filter(|holder| !old.is_member(holder.pid) && !new.contains(&holder.pid))
                    .map(|holder| {
                        format!("pid {} ({})", holder.pid, alerts::sanitise(holder.comm.as_bytes(), 32))
                    })
                    .collect();
                let held_by_old = holders.iter().any(|holder| old.is_member(holder.pid));
                match (strangers.is_empty(), held_by_old) {
                    (false, _) => by_others.push(format!("{address} is held by {}", strangers.join(", "))),
                    (true, true) => by_old.push(format!("{address} is held by the old one")),
                    (true, false) => by_others.push(match because(alerts, *address) {
                        Some(why) => format!("{address} can't be bound: {}", why.to_lowercase()),
                        None => format!("{address} can't be bound, and no holder can be seen"),
                    }),
                }
            }
            BindAddress::Unix(path) => by_others.push(format!("unix socket {path} can't be bound")),
            // Abstract sockets are printed without a name by most versions.
            BindAddress::Other(what) => {
                let said = alerts.iter().find(
                    |alert| matches!(&alert.about, About::CannotBind { address, .. } if address == what),
                );
                let why = said.map_or_else(|| format!("{what} can't be bound"), |alert| alert.text.clone());
                if old.abstract_sockets { by_old.push(why) } else { by_others.push(why) }
            }
        }
    }
    if by_others.is_empty() {
        Failure::PortsOfOld(first_of(by_old))
    } else {
        Failure::PortsOfOthers(first_of(by_others))
    }
}

/// The first few, and how many more there are.
fn first_of(mut all: Vec<String>) -> String {
    let more = all.len().saturating_sub(NAMED);
    all.truncate(NAMED);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    all.join("; ")
}

fn because(alerts: &[Alert], wanted: std::net::SocketAddr) -> Option<String> {
    alerts.iter().find_map(|alert| match &alert.about {
        About::CannotBind { address, because } if BindAddress::read(address) == BindAddress::Inet(wanted) => {
            because.clone()
        }
        _ => None,
    })
}
