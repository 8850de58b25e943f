//! Hooks that do to HAProxy what hareload is there to prevent.

use super::{Diagnosis, Level, Named, Sight, at, finding};
use crate::keepalived::deed::Deed;

pub(super) fn findings(sight: &Sight) -> Vec<Diagnosis> {
    let hooks = || sight.named.iter().filter(|named| named.check.is_none());
    let mut findings: Vec<Diagnosis> = hooks().flat_map(of_hook).collect();
    findings.extend(hooks().find_map(|hook| stops_a_backup(sight, hook)));
    findings
}

/// A backup whose HAProxy is stopped, and whose check wants it to serve, never becomes the master: not where both are so.
fn stops_a_backup(sight: &Sight, hook: &Named) -> Option<Diagnosis> {
    let words: Vec<&str> = hook.script.args.iter().flat_map(|word| word.split_whitespace()).collect();
    let stops =
        words.windows(2).any(|two| two == ["--on-backup", "stop"]) || words.contains(&"--on-backup=stop");
    let wants = |named: &&Named| named.check.is_some() && named.does(Deed::AsksHareload);
    let check = sight.named.iter().find(wants).filter(|_| stops)?.check.as_deref()?;
    let what = format!(
        "{} stops HAProxy on a backup, and the check `{check}` wants it to serve there",
        hook.described()
    );
    let why =
        "a host whose check fails does not become master: where both hosts are so, nobody serves in the end";
    let mend = "leave out --on-backup stop: a HAProxy that serves nobody on a backup harms nobody";
    Some(at(finding(Level::Error, "backup-stops", what, why), &hook.script.place).mend(mend))
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
