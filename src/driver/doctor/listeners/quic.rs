//! QUIC: its connections live in user space, and whether they survive a reload depends on whether each has a socket of
//! its own.
//!
//! With one it goes on in the old process until it is finished. Without, datagrams of old connections arrive at a socket
//! that both read. HAProxy's manual, `tune.quic.fe.sock-per-conn` (3.3) and `tune.quic.socket-owner` (2.7 to 3.2).

use super::{Diagnosis, Level, Patient, finding, first_free_port, lines, quic_port};
use crate::haproxy::config::{Bind, Config};
use crate::haproxy::version::Version;

/// What is set globally, and under which names.
const SHARED: [&str; 2] = ["tune.quic.socket-owner listener", "tune.quic.fe.sock-per-conn force-off"];

const WHY: &str = "its connections share the listener's socket: after a reload their datagrams reach the new one too, which \
                   does not know them, and they break";

pub(super) fn findings(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let version = patient.running.as_ref().or(patient.next.as_ref());
    let quic = |_: &Bind, kind: &_| quic_port(kind).is_some();
    lines(patient, quic)
        .filter_map(|(bind, text)| {
            let (what, mend) = shared(patient, version, bind, text)?;
            Some(finding(Level::Warning, "quic-shared", what, WHY).mend(mend).at(&bind.place, bind.presence))
        })
        .collect()
}

/// Why the connections of this line have no sockets of their own, and what would give them some.
fn shared(
    patient: &Patient<'_>,
    version: Option<&Version>,
    bind: &Bind,
    text: &str,
) -> Option<(String, String)> {
    let config = &patient.config;
    if let Some(version) = version.filter(|version| **version < Version::new(2, 7, 0)) {
        let what = format!("{text}: HAProxy {version} gives QUIC connections no sockets of their own");
        return Some((what, "HAProxy 2.7 or later".to_owned()));
    }
    if let Some(setting) = SHARED.into_iter().find(|setting| !config.occurrences(setting).is_empty()) {
        return Some((format!("{text}: `{setting}` is set"), format!("remove `{setting}`")));
    }
    let at = bind.options.iter().position(|word| word == "quic-socket");
    if at.and_then(|at| bind.options.get(at + 1)).is_some_and(|mode| mode == "listener") {
        return Some((format!("{text} has `quic-socket listener`"), "remove it from that line".to_owned()));
    }
    let port = bind.addresses.iter().find_map(|address| quic_port(&address.kind))?;
    if port < first_free_port() && gives_up_root(config) && config.occurrences("setcap").is_empty() {
        let what = format!("{text}: port {port} can't be bound again by the user that HAProxy becomes");
        let mend = "`setcap cap_net_bind_service` in `global` (HAProxy 2.9), or \
                    net.ipv4.ip_unprivileged_port_start";
        return Some((what, mend.to_owned()));
    }
    None
}

fn gives_up_root(config: &Config) -> bool {
    let user = config.global.user.as_ref().or(config.global.uid.as_ref());
    user.is_some_and(|user| !matches!(user.value(), Some("root" | "0")))
}
