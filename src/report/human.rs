//! The form for people: one line that says what serves now, and what comes next if it is not what was asked for.

use std::fmt::Write as _;
use std::time::Duration;

use crate::core::account::{Account, Named};
use crate::core::outcome::{Cause, Outcome, Rest, Verdict};
use crate::core::plan::Way;
use crate::driver::intention::Intention;

/// The result, in one line or a few.
pub fn account(account: &Account) -> String {
    let outcome = &account.outcome;
    let took = duration(Duration::from_micros(account.took_us));
    let mut text = match &outcome.verdict {
        Verdict::Reloaded if outcome.way == Some(Way::Start) => {
            format!("started: {} serves, after {took}", named(account.serving.as_ref()))
        }
        Verdict::Reloaded | Verdict::ReloadedStillDraining => {
            let mut text =
                format!("reloaded: {} serves, {} in {took}", named(account.serving.as_ref()), way(account));
            match (account.old.as_ref(), outcome.rest) {
                (Some(old), Rest::Draining) => {
                    let _ = write!(text, "; {} finishes its connections", named(Some(old)));
                }
                (Some(old), Rest::Unclear) => {
                    let _ =
                        write!(text, "; {} was told to finish and has not been seen to", named(Some(old)));
                }
                _ => {}
            }
            if outcome.verdict == Verdict::ReloadedStillDraining {
                text.push_str(", and has not in the time it was given");
            }
            text
        }
        Verdict::Refused(_, why) => format!("refused, nothing was touched: {why}"),
        Verdict::RolledBack => {
            let serves = named(account.serving.as_ref());
            format!("rolled back after {took}: {serves} goes on serving; {}", cause(outcome))
        }
        Verdict::Unproven => format!(
            "the new one serves unproven ({}): the old one is gone or did not come back, and {}; mend that, and \
             reload again",
            named(account.serving.as_ref()),
            cause(outcome)
        ),
        Verdict::Unchanged => match &account.serving {
            Some(serving) => format!("already running: {} serves", named(Some(serving))),
            None => "not running: nothing to do".to_owned(),
        },
        Verdict::Stopped => {
            let old = named(account.old.as_ref());
            match outcome.rest {
                Rest::Gone => format!("stopped: {old} has left, after {took}"),
                Rest::Draining => {
                    format!("interrupted: {old} was told to leave and finishes its connections")
                }
                Rest::Unclear => {
                    format!("not stopped: {old} does not leave, though it was killed; see its state in ps")
                }
            }
        }
        Verdict::Nobody if outcome.way == Some(Way::Start) => {
            format!("not started: {}; nobody serves", cause(outcome))
        }
        Verdict::Nobody => format!(
            "nobody can be shown to serve: {}; start HAProxy now, then see `hareload history -v`",
            cause(outcome)
        ),
    };
    if account.coalesced {
        text.push_str(" (the handover of another call that began after this one had asked)");
    }
    for tried in &outcome.tried {
        let _ = write!(text, "\n  {} was tried first: {}", tried.way, tried.why.why());
    }
    for note in &account.notes {
        let _ = write!(text, "\n  note: {note}");
    }
    if account.exit_code != 0 {
        for line in
            account.said.iter().filter(|line| !text.contains(line.as_str())).cloned().collect::<Vec<_>>()
        {
            let _ = write!(text, "\n  HAProxy: {line}");
        }
    }
    text
}

/// What a reload would do, line by line.
pub fn intention(intention: &Intention) -> String {
    let stranger = if intention.from.generation.is_none() { ", which hareload did not start" } else { "" };
    let mut text = format!("would hand over from {}{stranger}", named(Some(&intention.from)));
    let _ = write!(text, "\nto {}", intention.haproxy);
    for config in &intention.configs {
        let _ = write!(text, " -f {config}");
    }
    for (index, intended) in intention.ways.iter().enumerate() {
        let when = if index == 0 { "by" } else { "else" };
        let _ = write!(text, "\n{when} {}: {}", intended.way, intended.reason);
    }
    for note in &intention.notes {
        let _ = write!(text, "\nnote: {note}");
    }
    text
}

/// One line of the history.
pub fn record(account: &Account) -> String {
    let first = self::account(account);
    let first = first.lines().next().unwrap_or_default();
    let began = account.began.strftime("%Y-%m-%d %H:%M:%SZ");
    format!("{began}  {}  exit {}  {first}", account.command, account.exit_code)
}

/// Who said what, at which millisecond.
pub fn timeline(account: &Account) -> String {
    let mut text = String::new();
    for moment in &account.timeline {
        let ms = Duration::from_micros(moment.at_us).as_secs_f64() * 1000.0;
        let separator = if text.is_empty() { "" } else { "\n" };
        let _ = write!(text, "{separator}{ms:10.3} ms  {:8}  {}", moment.who, moment.what);
    }
    text
}

/// How the old one drains.
pub fn draining(pid: u32, connections: Option<u64>, age: Option<Duration>, memory: Option<u64>) -> String {
    let mut text = format!("pid {pid} drains");
    match connections {
        Some(1) => text.push_str(": 1 connection left"),
        Some(left) => {
            let _ = write!(text, ": {left} connections left");
        }
        None => {}
    }
    if let Some(age) = age {
        let _ = write!(text, ", {} old", age_of(age));
    }
    if let Some(memory) = memory {
        let _ = write!(text, ", {} MB", memory >> 20);
    }
    text
}

fn way(account: &Account) -> String {
    match (account.outcome.way, &account.reason) {
        (Some(way), Some(reason)) => format!("handed over {way} ({reason})"),
        (Some(way), None) => format!("handed over {way}"),
        (None, _) => "handed over".to_owned(),
    }
}

pub(super) fn named(named: Option<&Named>) -> String {
    let Some(named) = named else { return "nobody".to_owned() };
    let pids: Vec<String> = named.pids.iter().map(u32::to_string).collect();
    match named.generation {
        Some(generation) => format!("generation {generation} (pid {})", pids.join(", ")),
        None => format!("pid {}", pids.join(", ")),
    }
}

fn cause(outcome: &Outcome) -> String {
    match &outcome.cause {
        None => "the cause is not known".to_owned(),
        // It may have been proven, and ended after that.
        Some(Cause::Died(failure)) if outcome.verdict == Verdict::Nobody => {
            format!("the new one ended: {}", failure.why())
        }
        Some(cause) => cause.why(),
    }
}

/// In the largest unit of which there are two; a process tells its age in whole seconds.
pub(super) fn age_of(age: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match age.as_secs() {
        seconds if seconds < 2 * MINUTE => format!("{seconds} s"),
        seconds if seconds < 2 * HOUR => format!("{} min", seconds / MINUTE),
        seconds if seconds < 2 * DAY => format!("{} h", seconds / HOUR),
        seconds => format!("{} days", seconds / DAY),
    }
}

pub(super) fn duration(duration: Duration) -> String {
    match duration {
        short if short < Duration::from_secs(1) => format!("{} ms", short.as_millis()),
        short if short < Duration::from_secs(60) => format!("{:.1} s", short.as_secs_f64()),
        long => format!("{} min", long.as_secs() / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draining_one_is_shown_with_what_is_known() {
        let old = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(
            draining(7, Some(1), old(12), Some(50 << 20)),
            "pid 7 drains: 1 connection left, 12 s old, 50 MB"
        );
        assert_eq!(draining(7, Some(0), old(119), None), "pid 7 drains: 0 connections left, 119 s old");
        assert_eq!(draining(7, Some(3), old(7199), None), "pid 7 drains: 3 connections left, 119 min old");
        assert_eq!(draining(7, None, old(50 * 3600), None), "pid 7 drains, 2 days old");
        assert_eq!(draining(7, None, old(47 * 3600), None), "pid 7 drains, 47 h old");
        assert_eq!(draining(7, None, None, None), "pid 7 drains");
    }
}
