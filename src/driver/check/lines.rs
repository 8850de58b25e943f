//! The lines of a configuration that make HAProxy listen: `bind` and its kin, `stats socket`, and this host's `peer`.
//!
//! Asks `os` for the host name; changes nothing. Called by [`super::check`], read by [`super::listening`] and
//! [`super::twice`].

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{CheckRequest, Subject};
use crate::haproxy::config::{
    AddressKind, Bind, BindAddress, Config, Peer, PeerName, Place, Presence, Setting, Transport,
};
use crate::haproxy::version::Version;
use crate::os::{host, sysctl};

/// A line that makes HAProxy listen.
pub(super) struct Line<'a> {
    pub(super) what: &'static str,
    pub(super) addresses: &'a [BindAddress],
    pub(super) options: &'a [String],
    pub(super) place: &'a Place,
    pub(super) presence: Presence,
}

impl Line<'_> {
    pub(super) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|word| word == option)
    }

    /// The word after this one.
    pub(super) fn operand(&self, option: &str) -> Option<&str> {
        let at = self.options.iter().position(|word| word == option)?;
        self.options.get(at + 1).map(String::as_str)
    }

    /// Whether its IPv6 wildcards leave IPv4 alone.
    pub(super) fn is_six_only(&self) -> bool {
        self.has("v6only") || !self.has("v4v6") && sysctl::bind_v6_only() == Some(true)
    }

    /// Its IP addresses that are known without HAProxy.
    pub(super) fn inet(&self) -> impl Iterator<Item = (Transport, IpAddr, RangeInclusive<u16>)> {
        // another network namespace has its own addresses and ports
        let here = !self.has("namespace");
        self.addresses.iter().filter(move |_| here).filter_map(|address| match &address.kind {
            AddressKind::Inet { transport, host, ports } => Some((*transport, *host, ports.clone())),
            _ => None,
        })
    }
}

/// Those that are or may be in effect.
pub(super) fn of<'a>(subject: &Subject<'a>) -> Vec<Line<'a>> {
    let config = subject.config;
    let sockets = config.global.stats_sockets.iter().map(|socket| Line {
        what: "stats socket",
        addresses: &socket.addresses,
        options: &socket.options,
        place: &socket.place,
        presence: socket.presence,
    });
    let names = local_names(subject.request, config, subject.version);
    let binds = config.listening().filter_map(|bind| {
        let presence = both(bind.presence, with_local_peer(&config.peers, bind, &names)?);
        let (addresses, options) = (&bind.addresses, &bind.options);
        Some(Line { what: "unix socket", addresses, options, place: &bind.place, presence })
    });
    let peers = config.peers.iter().filter(|peer| peer.presence != Presence::Disabled).filter_map(|peer| {
        // whose an unknown name is would be guessed
        let local = is_local(&peer.name, &names).filter(|_| peer.name != PeerName::Unknown)?;
        let (addresses, options) = (&peer.addresses, &peer.options);
        let presence = both(peer.presence, local);
        Some(Line { what: "unix socket", addresses, options, place: &peer.place, presence })
    });
    sockets.chain(binds).chain(peers).collect()
}

/// The names that this host has or may have among peers, as HAProxy finds them: `-L`, `localpeer`, the host name.
pub(super) fn local_names(
    request: &CheckRequest,
    config: &Config,
    version: Option<&Version>,
) -> Vec<(String, Presence)> {
    let words: Vec<_> = request.kept.iter().chain(&request.extra).collect();
    if let Some(name) = words.iter().rposition(|word| *word == "-L").and_then(|at| words.get(at + 1)) {
        return name.to_str().map(|name| (name.to_owned(), Presence::Certain)).into_iter().collect();
    }
    let global = &config.global;
    // 3.1 reads `global` before all else
    let all = version.is_some_and(|version| *version >= Version::new(3, 1, 0));
    let setting = if all { &global.localpeer } else { &global.localpeer_before_peers }.as_ref();
    let named = setting.and_then(Setting::value).map(str::to_owned);
    let names = match setting.map(|setting| (setting.presence, named.is_some())) {
        Some((Presence::Certain, true)) => {
            return named.map(|it| (it, Presence::Certain)).into_iter().collect();
        }
        // its value isn't known, and it isn't the host's name
        Some((Presence::Certain, false)) => return Vec::new(),
        Some(_) => named.into_iter().chain(host::host_name()).map(|it| (it, Presence::Conditional)),
        None => return host::host_name().map(|it| (it, Presence::Certain)).into_iter().collect(),
    };
    names.collect()
}

/// Whether it is this host's; `None` if it isn't.
pub(super) fn is_local(name: &PeerName, names: &[(String, Presence)]) -> Option<Presence> {
    match name {
        PeerName::Local => Some(Presence::Certain),
        PeerName::Unknown => Some(Presence::Conditional),
        PeerName::Is(name) => names.iter().find(|(local, _)| local == name).map(|(_, presence)| *presence),
    }
}

/// Whether a `bind` counts: one in `peers` needs a peer there that is this host's.
fn with_local_peer(peers: &[Peer], bind: &Bind, names: &[(String, Presence)]) -> Option<Presence> {
    if bind.section.kind != "peers" {
        return Some(Presence::Certain);
    }
    let section = peers.iter().filter(|peer| Arc::ptr_eq(&peer.section, &bind.section));
    let local = section.filter_map(|peer| Some(both(peer.presence, is_local(&peer.name, names)?)));
    local.min_by_key(|presence| *presence != Presence::Certain)
}

/// What depends on both.
pub(super) fn both(one: Presence, other: Presence) -> Presence {
    if one == Presence::Certain { other } else { one }
}
