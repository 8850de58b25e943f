//! The machine's table: what every phase does about every input.
//!
//! `table.txt` is the expectation, one row a phase and an input; rows in which nothing happens are left out, so that
//! what is not there is ignored by the machine. When the machine changes on purpose, look at the difference, then
//! accept it with `HARELOAD_ACCEPT_TABLE=1 cargo test --test table`.

#[path = "table/handover.rs"]
mod handover;
#[path = "table/stories.rs"]
mod stories;

use std::fmt::Write as _;
use std::time::Duration;

use hareload::core::action::Action;
use hareload::core::input::{Failure, Input, Refusal};
use hareload::core::machine::Machine;
use hareload::core::outcome::{Outcome, Verdict};
use hareload::core::phase::{Back, Phase, Step, Told};
use hareload::core::plan::Way;

use handover::{Handover, STEPS, other, plan, why};

/// Where the committed table stands.
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/table.txt");

/// Every phase, with the shortest way to it.
fn phases() -> Vec<(&'static str, Handover)> {
    let trial = || Handover::by(&[Way::Trial]);
    let mut phases = vec![
        ("probing", Handover { machine: Machine::new(Duration::ZERO), now: Duration::ZERO }),
        ("starting (shared, then pause)", Handover::by(&[Way::Shared, Way::Pause])),
        ("starting (pause)", Handover::by(&[Way::Pause])),
        ("starting (pause), old paused", Handover::by(&[Way::Pause]).after([Input::AsksPause])),
    ];
    let names = [
        "proving live",
        "proving listeners",
        "proving health",
        "proving steer",
        "proving alone",
        "proving probes",
        "proving dwell",
        "proving confirm",
    ];
    for (at, name) in names.into_iter().enumerate() {
        let mut there = trial().proved(&STEPS[..at.min(6)]);
        if at == 7 {
            there = there.late();
        }
        phases.push((name, there));
    }
    let committing = || Handover::by(&[Way::Shared]).proved(&STEPS[..3]).after([Input::Proved(Step::Probes)]);
    let committing = || committing().late().after([Input::Proved(Step::Confirm), Input::Proved(Step::Steer)]);
    let committed = || committing().after([Input::PidfileRenamed]);
    let draining = || committed().after([Input::OldRetired]);
    let old_first = || trial().proved(&STEPS[..5]).after([Input::Disproved(Step::Probes, why())]);
    let aside = || trial().proved(&STEPS[..4]).after([Input::Interrupted(15)]);
    let steer = || old_first().after([Input::OldListens]);
    let leaves = || steer().after([Input::SteeredBack]);
    let again = || leaves().after([Input::NewDeaf]);
    let kept = || old_first().after([Input::OldGone]);
    phases.extend([
        ("committing", committing()),
        ("committing (kept, old gone)", kept()),
        ("committed", committed()),
        ("draining", draining()),
        ("draining, old stopped", draining().late()),
        ("draining, old killed", draining().late().late()),
        ("undoing aside", aside()),
        ("undoing old-first", old_first()),
        ("undoing steer", steer()),
        ("undoing new-leaves, retired", leaves()),
        ("undoing new-leaves, stopped", leaves().late()),
        ("undoing new-leaves, killed", leaves().late().late()),
        ("undoing old-again", again()),
        ("undoing linger", again().after([Input::OldListens])),
        ("done", again().after([Input::OldListens, Input::NewGone(other())])),
    ]);
    phases
}

/// Every input. A proof that is not under way stands for all that come late.
fn inputs(phase: Phase) -> Vec<(&'static str, Input)> {
    let step = match phase {
        Phase::Proving(step) => step,
        _ => Step::Live,
    };
    let late = if step == Step::Health { Step::Probes } else { Step::Health };
    vec![
        ("planned", Input::Planned(plan(&[Way::Shared]))),
        ("refused", Input::Refused(Refusal::NotRunning, why())),
        ("spawn failed", Input::SpawnFailed(Refusal::NotInstalled, why())),
        ("asks pause", Input::AsksPause),
        ("gave up", Input::GaveUp),
        ("bound", Input::Bound),
        ("new gone: configuration", Input::NewGone(Failure::Configuration(why()))),
        ("new gone: ports of old", Input::NewGone(Failure::PortsOfOld(why()))),
        ("new gone: ports of others", Input::NewGone(Failure::PortsOfOthers(why()))),
        ("new gone: transfer", Input::NewGone(Failure::Transfer(why()))),
        ("new gone: other", Input::NewGone(other())),
        ("new deaf", Input::NewDeaf),
        ("proved", Input::Proved(step)),
        ("disproved", Input::Disproved(step, why())),
        ("proved, another", Input::Proved(late)),
        ("disproved, another", Input::Disproved(late, why())),
        ("old listens", Input::OldListens),
        ("old retired", Input::OldRetired),
        ("old gone", Input::OldGone),
        ("steered back", Input::SteeredBack),
        ("pidfile renamed", Input::PidfileRenamed),
        ("pidfile failed", Input::PidfileFailed(why())),
        ("interrupted", Input::Interrupted(15)),
    ]
}

fn printed() -> String {
    let mut table = String::new();
    for (name, there) in phases() {
        let _ = writeln!(table, "{name}");
        let phase = there.machine.phase();
        let mut rows = inputs(phase)
            .into_iter()
            .map(|(heard, input)| {
                let mut after = there.clone();
                let actions = after.hear(input);
                (heard, after, actions)
            })
            .collect::<Vec<_>>();
        let mut woken = there.clone();
        let actions = woken.wake();
        rows.push(("wakes", woken, actions));
        let mut late = there.clone();
        let actions = late.deadline();
        rows.push(("deadline", late, actions));
        for (heard, after, actions) in rows {
            let to = if after.machine.phase() == phase { String::new() } else { word(after.machine.phase()) };
            if to.is_empty() && actions.is_empty() {
                continue;
            }
            let actions = actions.iter().map(said).collect::<Vec<_>>().join(", ");
            let row = format!("  {heard:<26} {to:<20} {actions}");
            let _ = writeln!(table, "{}", row.trim_end());
        }
        table.push('\n');
    }
    table
}

fn word(phase: Phase) -> String {
    match phase {
        Phase::Proving(step) => format!("-> proving {step}"),
        Phase::Undoing(back) => format!("-> undoing {back:?}"),
        Phase::Draining(Told::Nothing) => "-> draining".to_owned(),
        Phase::Draining(told) => format!("-> draining {told:?}"),
        Phase::Probing | Phase::Starting | Phase::Committing | Phase::Committed | Phase::Done => {
            format!("-> {}", phase.name())
        }
    }
}

fn said(action: &Action) -> String {
    match action {
        Action::Start { way, attempt } => format!("start {way} ({attempt})"),
        Action::Tell(who, order) => format!("{order:?} {who:?}").to_lowercase(),
        Action::Prove(step) => format!("prove {step}"),
        Action::Journal(stage) => format!("journal {stage:?}").to_lowercase(),
        Action::SteerBack(stands) => format!("steer back, old {stands:?}").to_lowercase(),
        Action::Finish(outcome) => format!("finish: {}", ended(outcome)),
        Action::LetNewFail
        | Action::WatchOldListens
        | Action::WatchOldRetired
        | Action::WatchNewDeaf
        | Action::ReleaseSteering
        | Action::RenamePidfile
        | Action::RestorePidfile
        | Action::RestoreSockets
        | Action::ForgetSockets => format!("{action:?}"),
    }
}

fn ended(outcome: &Outcome) -> String {
    let verdict = match &outcome.verdict {
        Verdict::Refused(refusal, _) => format!("Refused {refusal:?}"),
        verdict => format!("{verdict:?}"),
    };
    format!("{verdict}, the other {:?}", outcome.rest)
}

#[test]
fn every_phase_does_with_every_input_what_the_table_says() {
    let now = printed();
    if std::env::var_os("HARELOAD_ACCEPT_TABLE").is_some() {
        std::fs::write(TABLE, &now).unwrap_or_else(|error| panic!("can't write {TABLE}: {error}"));
        return;
    }
    let committed = std::fs::read_to_string(TABLE).unwrap_or_default();
    let mut phase = "";
    let mut differs = String::new();
    let (old, new) = (committed.lines().collect::<Vec<_>>(), now.lines().collect::<Vec<_>>());
    for at in 0..old.len().max(new.len()) {
        let (was, is) = (old.get(at).copied().unwrap_or(""), new.get(at).copied().unwrap_or(""));
        if !is.starts_with(' ') && !is.is_empty() {
            phase = is;
        }
        if was != is {
            let _ = writeln!(differs, "{phase}:\n  - {was}\n  + {is}");
        }
    }
    assert!(
        differs.is_empty(),
        "the machine does not do what tests/table.txt says; if that is meant, accept it with \
         HARELOAD_ACCEPT_TABLE=1 cargo test --test table\n{differs}"
    );
}

/// The rows are of the phases that they name.
#[test]
fn the_table_has_every_phase() {
    let reached = phases().into_iter().map(|(_, there)| there.machine.phase()).collect::<Vec<_>>();
    let backs = [Back::OldFirst, Back::Steer, Back::NewLeaves, Back::OldAgain, Back::Linger];
    let all = STEPS.into_iter().map(Phase::Proving).chain(backs.into_iter().map(Phase::Undoing)).chain([
        Phase::Probing,
        Phase::Starting,
        Phase::Committing,
        Phase::Committed,
        Phase::Draining(Told::Nothing),
        Phase::Draining(Told::Stop),
        Phase::Draining(Told::Kill),
        Phase::Done,
    ]);
    for phase in all {
        assert!(reached.contains(&phase), "{phase:?} has no rows");
    }
}
