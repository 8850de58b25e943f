//! Hooks that do to HAProxy what hareload is there to prevent.

use super::{Diagnosis, Level, Named, Sight, at, finding};
use crate::keepalived::deed::Deed;

pub(super) fn findings(sight: &Sight) -> Vec<Diagnosis> {
    sight.named.iter().filter(|named| named.check.is_none()).flat_map(of_hook).collect()
}

fn of_hook(named: &Named) -> Vec<Diagnosis> {
    let mend = format!("notify_master \"{} notify\"", super::hareload());
    let mut findings = Vec::new();
    if named.does(Deed::StartsHaproxy) {
        let what = format!("{} starts HAProxy itself", named.described());
        let why = "keepalived waits for no hook: two that run at once read one pidfile and leave two HAProxies, which listen on \
                   for ever; what does not start, or can't bind, leaves the old one deaf for 2 s";
        findings
            .push(at(finding(Level::Warning, "naive-reload", what, why), &named.script.place).mend(&mend));
    }
    if named.does(Deed::Restarts) {
        let what = format!("{} stops or restarts HAProxy", named.described());
        let why = "every connection is cut, also those to the addresses that stay; and on two hosts that each stop HAProxy as a \
                   backup, a check finds none";
        findings.push(at(finding(Level::Warning, "naive-reload", what, why), &named.script.place).mend(mend));
    }
    findings
}
