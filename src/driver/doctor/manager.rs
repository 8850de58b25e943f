//! Who manages HAProxy: a unit of systemd's, an init script, or nobody; and what that means for a reload.
//!
//! Reads control groups and an init script, and asks `systemctl show`, with a deadline.

use std::path::Path;

use super::{Area, Diagnosis, Patient};
use crate::driver::find::Found;
use crate::driver::unit;
use crate::haproxy::defaults;
use crate::os::cgroup;
use crate::os::files;
use crate::os::systemd::{self, Unit};

mod judgement;

use judgement::{Facts, Mode, Script};

/// The init script that they have for it.
const SCRIPT: &str = "/etc/init.d/haproxy";

pub(super) fn findings(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let group = patient.pids.first().and_then(|pid| cgroup::path_of(*pid).ok());
    let group = group.as_deref().and_then(systemd::unit_of).map(str::to_owned);
    // A service that something else runs in is no less in charge of it.
    let asked: Vec<&str> = match &group {
        Some(group) if group != unit::USUAL && group.ends_with(".service") => vec![group, unit::USUAL],
        _ => vec![unit::USUAL],
    };
    let units: Vec<Unit> = asked.into_iter().filter_map(unit::ask).collect();
    let mode = match (&patient.found, patient.is_master_worker()) {
        (_, true) => Mode::MasterWorker,
        (Ok(Found::Old(_)), _) => Mode::Standalone,
        _ if patient.blind.is_some() => Mode::Hidden,
        _ => Mode::Stopped,
    };
    let facts = Facts {
        mode,
        pids: patient.pids.clone(),
        pidfile: patient.pidfile.clone(),
        hosts_own: unit::is_the_hosts_own(&patient.pidfile),
        group,
        units,
        script: script(Path::new(SCRIPT)),
    };
    judgement::findings(&facts)
}

fn script(path: &Path) -> Option<Script> {
    let text = files::read_bounded(path, defaults::MAX_BYTES).ok()?;
    Some(if unit::calls_hareload(&String::from_utf8_lossy(&text)) { Script::Hareload } else { Script::Other })
}

/// A finding about the manager.
fn finding(
    level: super::Level,
    code: &'static str,
    what: impl AsRef<str>,
    why: impl AsRef<str>,
) -> Diagnosis {
    Diagnosis::new(level, Area::Manager, code, what, why)
}
