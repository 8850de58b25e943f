//! keepalived's own service: whether it ends HAProxy with itself, and what is started first.

use super::{Diagnosis, Level, Patient, Sight, finding};
use crate::driver::unit::{self as units, USUAL as HAPROXY};
use crate::keepalived::deed::Deed;
use crate::os::cgroup;
use crate::os::systemd::{self, Unit};

/// The unit that distributions have.
const UNIT: &str = "keepalived.service";

/// The drop-in that mends both.
const DROP_IN: &str = "keepalived.service.d/50-hareload.conf";

pub(super) fn findings(sight: &Sight, patient: &Patient<'_>) -> Vec<Diagnosis> {
    let group_of = |pid: u32| Some(systemd::unit_of(&cgroup::path_of(pid).ok()?)?.to_owned());
    let own = sight.daemon.pid.and_then(group_of).filter(|unit| unit.ends_with(".service"));
    let Some(unit) = units::ask(own.as_deref().unwrap_or(UNIT)) else { return Vec::new() };
    let inside =
        patient.pids.iter().copied().find(|pid| group_of(*pid).is_some_and(|group| group == unit.id));
    let mut findings: Vec<Diagnosis> = kill_mode(sight, &unit, inside).into_iter().collect();
    if units::is_the_hosts_own(&patient.pidfile)
        && !unit.after.iter().any(|one| one == HAPROXY)
        && units::ask(HAPROXY).is_some()
    {
        findings.extend(order(sight, &unit));
    }
    findings
}

/// What of a drop-in mends it.
fn mend(unit: &Unit, lines: &str) -> String {
    format!("{lines} in a drop-in (systemctl edit {}); the package has it: {DROP_IN}", unit.id)
}

pub(super) fn kill_mode(sight: &Sight, unit: &Unit, inside: Option<u32>) -> Option<Diagnosis> {
    if ["process", "none"].contains(&unit.kill_mode.as_str()) || unit.kill_mode.is_empty() {
        return None;
    }
    let starts = |named: &&super::Named| {
        named.check.is_none() && (named.does(Deed::StartsHaproxy) || named.does(Deed::HandsToHareload))
    };
    let what = match (inside, sight.named.iter().find(starts)) {
        (Some(pid), _) => {
            format!("HAProxy (pid {pid}) runs in {}, which has KillMode={}", unit.id, unit.kill_mode)
        }
        (None, Some(hook)) => {
            format!(
                "{} starts HAProxy within {}, which has KillMode={}",
                hook.described(),
                unit.id,
                unit.kill_mode
            )
        }
        (None, None) => return None,
    };
    let why = format!("systemctl restart {} kills HAProxy with it, and every connection", unit.id);
    Some(finding(Level::Warning, "kill-mode", what, why).mend(mend(unit, "KillMode=process under [Service]")))
}

pub(super) fn order(sight: &Sight, unit: &Unit) -> Option<Diagnosis> {
    if !["enabled", "generated"].contains(&unit.unit_file_state.as_str()) {
        return None;
    }
    let what = format!("{} is not started after {HAPROXY}", unit.id);
    // One that has not been found healthy yet does not take an address.
    let checked = |instance: &crate::keepalived::instance::Instance| {
        instance.scripts.iter().any(|tracked| {
            let check = sight.config.checks.iter().find(|check| check.name == tracked.name);
            let own = check.and_then(|check| check.weight.as_ref()).map_or(0, |weight| weight.value);
            check.is_some() && tracked.weight.unwrap_or(own) == 0
        })
    };
    let (level, why) = match sight.config.instances.iter().all(checked) {
        true => (
            Level::Note,
            "at a boot both start at once, and HAProxy's end comes first when the host goes down; its check keeps the address \
             away until HAProxy serves",
        ),
        false => (
            Level::Warning,
            "at a boot the address may come before HAProxy serves, and when the host goes down HAProxy may go before the address",
        ),
    };
    let lines = "Wants=haproxy.service and After=haproxy.service under [Unit]";
    Some(finding(level, "boot-order", what, why).mend(mend(unit, lines)))
}
