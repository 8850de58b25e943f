//! What the next one does not learn of the one that serves, and could: the states of servers, and stick tables.

use super::{Area, Diagnosis, Level, Patient};
use crate::driver::check;
use crate::haproxy::config::{Place, Presence};

pub(super) fn findings(patient: &Patient<'_>) -> Vec<Diagnosis> {
    [states(patient), tables(patient), taught(patient)].into_iter().flatten().collect()
}

fn finding(code: &'static str, what: &str, why: &str, place: &Place, mend: &str) -> Diagnosis {
    let finding = Diagnosis::new(Level::Note, Area::Configuration, code, what, why);
    // A line that may not count is no worse.
    finding.mend(mend).at(place, Presence::Certain)
}

/// Servers that are checked, whose states nobody keeps.
fn states(patient: &Patient<'_>) -> Option<Diagnosis> {
    let place = patient.config.carried.unkept_server.as_ref()?;
    let known = patient.config.global.server_state_file.is_some();
    let file = if known {
        ""
    } else {
        "`server-state-file /var/lib/haproxy/server-state` in `global`, where that directory exists, and "
    };
    Some(finding(
        "server-states-not-kept",
        "what is known of servers is not handed over",
        "one that is down, drained or in maintenance by hand is up again after every reload, until a check fails",
        place,
        &format!(
            "{file}`load-server-state-from-file global` in `defaults`: hareload writes the file before each handover"
        ),
    ))
}

/// Stick tables that begin empty.
fn tables(patient: &Patient<'_>) -> Option<Diagnosis> {
    let place = patient.config.carried.unkept_table.as_ref()?;
    Some(finding(
        "stick-table-not-kept",
        "a stick table is not handed over",
        "it is empty after every reload: who was limited or sent to one server by it is not any more",
        place,
        &format!(
            "a section `peers mine` with `peer {} 127.0.0.1:10000`, and `peers mine` at the end of that line: the old one \
             teaches the new one",
            check::own_peer_name(patient.subject.as_ref()).unwrap_or_else(|| "HOSTNAME".to_owned())
        ),
    ))
}

/// Stick tables of a `peers` section that this host is not a part of.
fn taught(patient: &Patient<'_>) -> Option<Diagnosis> {
    let subject = patient.subject.as_ref()?;
    let config = &patient.config;
    let (name, place) = config.carried.taught.iter().find(|(name, _)| {
        config.peers.iter().any(|peer| peer.section.name == **name)
            && !check::has_local_peer(subject, config, patient.next.as_ref(), name)
    })?;
    let own = check::own_peer_name(Some(subject)).unwrap_or_else(|| "HOSTNAME".to_owned());
    Some(finding(
        "peers-without-this-host",
        &format!("no peer of `peers {name}` is this host"),
        "HAProxy drops the section, with a warning, and the stick table is empty after every reload",
        place,
        &format!(
            "`peer {own} ADDRESS:PORT` in that section, or `localpeer NAME` in `global` with the name that it has there"
        ),
    ))
}
