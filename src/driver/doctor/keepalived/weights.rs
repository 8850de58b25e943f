//! Weights: a check that fails changes a priority, and perhaps nothing else.

use super::script::Named;
use super::{Diagnosis, Level, Sight, at, finding};
use crate::keepalived::instance::{Instance, Tracked};
use crate::keepalived::statement::Place;

/// What keepalived lets a priority become by weights; that of the address's owner stays as it is
/// (vrrp_set_effective_priority).
const MOST: i32 = 254;
const OWNER: i32 = 255;

pub(super) fn findings(sight: &Sight) -> Vec<Diagnosis> {
    sight.config.instances.iter().flat_map(|instance| of_instance(sight, instance)).collect()
}

/// A check or a process with a weight that counts.
struct Weighted<'a> {
    name: &'a str,
    weight: i32,
    place: &'a Place,
}

fn of_instance(sight: &Sight, instance: &Instance) -> Vec<Diagnosis> {
    let config = &sight.config;
    let named =
        |tracked: &Tracked| sight.named.iter().find(|named| named.check.as_ref() == Some(&tracked.name));
    let about_haproxy = |tracked: &Tracked| named(tracked).is_some_and(Named::is_about_haproxy);
    // Where no check says what it is about, each may be about HAProxy.
    let none_is = !instance.scripts.iter().any(about_haproxy);
    let checks = instance.scripts.iter().filter(|tracked| tracked.is_defined).filter_map(|tracked| {
        let check = config.checks.iter().find(|check| check.name == tracked.name)?;
        (none_is || about_haproxy(tracked)).then_some(())?;
        weighted(tracked, check.weight.as_ref().map(|weight| (weight.value, &weight.place)))
    });
    let processes = instance.processes.iter().filter_map(|tracked| {
        let process = config.processes.iter().find(|process| process.name == tracked.name)?;
        process.process.contains("haproxy").then_some(())?;
        weighted(tracked, process.weight.as_ref().map(|weight| (weight.value, &weight.place)))
    });
    checks.chain(processes).map(|weighted| judged(instance, &weighted)).collect()
}

fn weighted<'a>(tracked: &'a Tracked, own: Option<(i32, &'a Place)>) -> Option<Weighted<'a>> {
    let (weight, place) = tracked.weight.map(|weight| (weight, &tracked.place)).or(own)?;
    (weight != 0).then_some(Weighted { name: &tracked.name, weight, place })
}

fn judged(instance: &Instance, weighted: &Weighted<'_>) -> Diagnosis {
    let base = i32::from(instance.priority());
    let with = |weight: i32| (base + weight).clamp(1, MOST);
    let (healthy, failed) = match weighted.weight {
        weight @ 1.. => (with(weight), base),
        weight => (base, with(weight)),
    };
    let (name, check) = (&instance.name, weighted.name);
    if base == OWNER {
        let what = format!("{name}: {check} has a weight, and priority 255 does not change");
        let why = "255 is for the owner of the addresses, of whom nothing is taken away: the address stays with a dead HAProxy";
        let mend = "no weight, and a priority of 254 or less";
        return at(finding(Level::Warning, "weight", what, why), weighted.place).mend(mend);
    }
    let what = format!(
        "{name}: when {check} fails, the priority falls from {healthy} to {failed}, and nothing else happens"
    );
    let mend = format!(
        "no weight, here and on the other host: one whose check fails gives up the address at once. Else see that the \
         priority of the other host, with its own weight, is above {failed}"
    );
    let (level, why) = match (&instance.nopreempt, weighted.weight) {
        (Some(_), _) => (
            Level::Warning,
            "with nopreempt, a backup does not take the address from a master that lives, whatever its priority: the address \
             stays with a dead HAProxy"
                .to_owned(),
        ),
        (None, 1..) => (
            Level::Warning,
            format!(
                "the address moves only to a host of a priority above {failed}, which the other one has only if the weight is \
                 more than the priorities differ by; else it stays with a dead HAProxy"
            ),
        ),
        (None, _) => (
            Level::Note,
            format!(
                "the address moves only to a host of a priority above {failed}, and some seconds later than without a weight"
            ),
        ),
    };
    at(finding(level, "weight", what, why), weighted.place).mend(mend)
}
