//! How long an address is without a host, and times that keepalived takes otherwise than they are written.

use std::time::Duration;

use super::{Diagnosis, Level, Sight, at, finding};
use crate::keepalived::config::{Check, Said, Seconds};
use crate::keepalived::failover::{self, Protocol};
use crate::keepalived::instance::Instance;

/// A crash that takes longer than this to be healed is a slow one.
const SLOW: Duration = Duration::from_secs(2);

/// The same of a check: its failures have to be told from a moment in which the host had no time for it.
const SLOW_CHECK: Duration = Duration::from_secs(3);

/// keepalived's default, and what it takes for a time that it rejects.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn findings(sight: &Sight) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    for instance in &sight.config.instances {
        findings.extend(crash(sight, instance));
        findings.extend(rounded(sight, instance));
        findings.extend(ignored(instance));
    }
    for check in &sight.config.checks {
        findings.extend(fractions(sight, check));
        findings.extend(slow_check(sight, check));
    }
    findings
}

/// keepalived takes nothing shorter than a hundredth of a second, nor longer than 255 s (vrrp_parser.c, vrrp_adv_handler).
fn ignored(instance: &Instance) -> Option<Diagnosis> {
    const SHORTEST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(255);
    let advert = instance.advert.as_ref()?;
    if (SHORTEST..=LONGEST).contains(&advert.value.duration) {
        return None;
    }
    let what = format!("{}: advert_int {} is outside of 0.01 to 255", instance.name, advert.value.text);
    let why = "keepalived passes over it with a line in its log, and advertises every second";
    Some(at(finding(Level::Warning, "advert-ignored", what, why), &advert.place).mend("advert_int 0.5"))
}

fn seconds(duration: Duration) -> String {
    let text = format!("{:.2}", duration.as_secs_f64());
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} s")
}

fn crash(sight: &Sight, instance: &Instance) -> Option<Diagnosis> {
    let timing = instance.timing(&sight.config.global);
    let after = timing.after_crash();
    if after < SLOW {
        return None;
    }
    let place = instance.advert.as_ref().map_or(&instance.place, |advert| &advert.place);
    let what =
        format!("{}: this host replaces a master that crashes after up to {}", instance.name, seconds(after));
    let why = format!(
        "it waits for {} advertisements, one every {}, and {} more for its priority of {}; a master that stops says farewell, \
         and is replaced after {}",
        timing.missed,
        seconds(timing.interval()),
        seconds(timing.skew()),
        timing.priority,
        seconds(timing.after_farewell())
    );
    let version = match timing.protocol {
        Protocol::Two => "vrrp_version 3 in global_defs, and here ",
        Protocol::Three => "",
    };
    let without = match (&instance.authentication, timing.protocol) {
        (Some(_), Protocol::Two) => " and no authentication, which VRRPv3 does not have",
        _ => "",
    };
    let mend = format!("{version}advert_int 0.2 (to 0.5){without}; on both hosts, the backup first");
    Some(at(finding(Level::Warning, "slow-failover", what, why), place).mend(mend))
}

fn rounded(sight: &Sight, instance: &Instance) -> Option<Diagnosis> {
    let advert = instance.advert.as_ref()?;
    let timing = instance.timing(&sight.config.global);
    if timing.protocol != Protocol::Two || advert.value.duration.subsec_nanos() == 0 {
        return None;
    }
    let interval = seconds(timing.interval());
    let what = format!("{}: advert_int {} is {interval}", instance.name, advert.value.text);
    let why = "VRRPv2 has whole seconds only, and keepalived rounds";
    let found = finding(Level::Warning, "fractional-advert", what, why);
    Some(at(found, &advert.place).mend("vrrp_version 3 in global_defs, on both hosts"))
}

fn fractions(sight: &Sight, check: &Check) -> Vec<Diagnosis> {
    let Some(version) = sight.version.filter(|version| !version.takes_fractions()) else { return Vec::new() };
    let mut findings = Vec::new();
    for (keyword, said, instead) in
        [("interval", &check.interval, "1 s"), ("timeout", &check.timeout, "the interval")]
    {
        let Some(said) = said.as_ref().filter(|said| said.value.is_fraction()) else { continue };
        let what = format!(
            "the check `{}`: {keyword} {} is not taken, and is {instead}",
            check.name, said.value.text
        );
        let why = format!(
            "keepalived {version} knows whole seconds only, and rejects others with a line in its log; 2.3.2 is \
                           the first that does not"
        );
        findings.push(
            at(finding(Level::Warning, "fractional-interval", what, why), &said.place)
                .mend(format!("{keyword} 1")),
        );
    }
    findings
}

fn slow_check(sight: &Sight, check: &Check) -> Option<Diagnosis> {
    let named = sight.named.iter().find(|named| named.check.as_ref() == Some(&check.name))?;
    let takes = |said: &Said<Seconds>| {
        let whole =
            sight.version.is_some_and(|version| !version.takes_fractions()) && said.value.is_fraction();
        (!whole && !said.value.duration.is_zero()).then_some(said.value.duration)
    };
    let interval = check.interval.as_ref().and_then(takes).unwrap_or(DEFAULT_INTERVAL);
    let noticed = failover::until_noticed(interval, Duration::ZERO, check.fall);
    if noticed <= SLOW_CHECK || !named.is_about_haproxy() {
        return None;
    }
    let what = format!("the check `{}` has failed after up to {}", check.name, seconds(noticed));
    let why = format!(
        "{} failures in a row, one every {}; only then is the address given up",
        check.fall,
        seconds(interval)
    );
    let place = check.interval.as_ref().map_or(&check.place, |interval| &interval.place);
    Some(at(finding(Level::Note, "slow-check", what, why), place).mend("interval 1 and fall 2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_short() {
        let said = [0.2, 3.609, 2.0, 10.0].map(|time| seconds(Duration::from_secs_f64(time)));
        assert_eq!(said, ["0.2 s", "3.61 s", "2 s", "10 s"]);
    }
}
