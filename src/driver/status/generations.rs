//! The processes of an instance, one row each.

use std::collections::HashMap;
use std::time::Duration;

use crate::driver::find::{self, Old, Posture};
use crate::driver::records::Records;
use crate::driver::request::Request;
use crate::haproxy::runtime::Info;
use crate::os::process::{Process, ProcessError};
use crate::os::{admin, clock, usage};

use super::{Role, Row};

/// How long a HAProxy may take to say how many connections it has: one that is well answers within a millisecond.
const ANSWER: Duration = Duration::from_millis(200);

/// The rows: of those that serve, and of everybody else who was started for this instance; and the number of the
/// generation to which a handover is under way.
pub(super) fn rows(
    request: &Request,
    records: &Records<'_>,
    old: Option<&Old>,
    before: &mut HashMap<u32, (Duration, Duration)>,
) -> (Vec<Row>, Option<u64>) {
    let mut found: Vec<(Role, Option<u64>, u32)> = Vec::new();
    if let Some(old) = old {
        let role = match (&old.unseen, old.paused) {
            (Some(_), _) => Role::Unknown,
            (None, true) => Role::Paused,
            (None, false) => Role::Serving,
        };
        let role_of = |process: &Process| match process.state() {
            Some('T' | 't') if role == Role::Serving => Role::Stopped,
            _ => role,
        };
        found.extend(old.processes.iter().map(|process| (role_of(process), old.number, process.pid())));
    }
    let belonging: Vec<_> = find::belonging(request).collect();
    // Read after the processes were listed: the journal was there before the new one that it tells of.
    let under_way = records.journal().map(|journal| journal.number);
    let mut others: Vec<(Role, Option<u64>, u32)> = Vec::new();
    for (pid, number) in belonging {
        if found.iter().chain(&others).any(|(.., known)| *known == pid) {
            continue;
        }
        let role = match Process::open(pid) {
            Ok(process) if !find::may_be_ours(&process) => continue,
            Ok(_) if number.is_some() && number == under_way => Role::Starting,
            Ok(process) if process.is_veiled() => Role::Unknown,
            Ok(process) => match find::posture(&process) {
                Posture::Listens if old.is_some() => Role::Beside,
                Posture::Listens => Role::Serving,
                Posture::Master => Role::Master,
                Posture::Paused => Role::Paused,
                Posture::Deaf => Role::Draining,
            },
            Err(ProcessError::NoAccess { .. }) => Role::Unknown,
            Err(_) => continue,
        };
        others.push((role, number, pid));
    }
    others.sort_by_key(|(_, number, pid)| (std::cmp::Reverse(*number), *pid));
    found.extend(others);
    let connections = old.map_or_else(HashMap::new, |old| connections(old, records));
    let now = clock::since_boot();
    let mut seen = HashMap::new();
    let row = |(role, generation, pid): (Role, Option<u64>, u32)| {
        let usage = usage::of(pid);
        let age = usage.and_then(|usage| usage.age);
        seen.extend(usage.map(|usage| (pid, (usage.cpu, now))));
        let readings = generation.and_then(|number| records.readings(number));
        // Of one that drains nobody wants to know.
        let compared = readings.as_ref().filter(|_| role != Role::Draining);
        Row {
            role,
            generation,
            pid,
            age_s: age.map(|age| age.as_secs()),
            connections: connections.get(&pid).copied(),
            memory: usage.map(|usage| usage.memory),
            cpu_percent: usage.and_then(|usage| share(usage.cpu, age, now, before.get(&pid))),
            changed: compared.map(|readings| readings.changes()),
            config: readings.map(|readings| readings.config),
        }
    };
    let rows = found.into_iter().map(row).collect();
    *before = seen;
    (rows, under_way)
}

/// The share of one processor since the last look, or since the start.
fn share(
    cpu: Duration,
    age: Option<Duration>,
    now: Duration,
    before: Option<&(Duration, Duration)>,
) -> Option<f64> {
    let (used, time) = match before {
        Some((before, at)) => (cpu.saturating_sub(*before), now.saturating_sub(*at)),
        None => (cpu, age?),
    };
    let percent = used.as_secs_f64() / time.as_secs_f64() * 100.0;
    percent.is_finite().then(|| (percent * 10.0).round() / 10.0)
}

/// The connections of those that can be asked.
fn connections(old: &Old, records: &Records<'_>) -> HashMap<u32, u64> {
    let mut found = HashMap::new();
    let stopped = old.processes.iter().any(|process| process.state() == Some('T'));
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return found;
    };
    let private = old.number.map(|number| records.paths(number).admin);
    for path in private.iter().chain(&old.unix).filter(|_| !stopped) {
        let reply = runtime.block_on(admin::ask(path, "show info", ANSWER));
        let info = reply.ok().and_then(|reply| Info::parse(&reply).ok());
        if let Some((pid, count)) = info.and_then(|info| Some((info.pid, info.curr_conns?)))
            && old.is_member(pid)
        {
            found.insert(pid, count);
        }
        if found.len() == old.processes.len() {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_that_of_the_time_since_the_last_look() {
        let seconds = Duration::from_secs;
        assert_eq!(share(seconds(1), Some(seconds(100)), seconds(7), None), Some(1.0));
        assert_eq!(
            share(seconds(2), Some(seconds(100)), seconds(7), Some(&(seconds(1), seconds(5)))),
            Some(50.0)
        );
        assert_eq!(share(seconds(1), None, seconds(7), None), None);
        assert_eq!(share(seconds(1), None, seconds(7), Some(&(seconds(1), seconds(7)))), None);
    }
}
