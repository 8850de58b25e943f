//! What matters most about the machine, recovery too, one short story each.

use std::time::Duration;

use hareload::core::action::{Action, Order, Stage, Stands, Who};
use hareload::core::input::{Failure, Input, Refusal};
use hareload::core::machine::{Found, Machine};
use hareload::core::outcome::{Cause, Rest, Verdict};
use hareload::core::phase::{Back, Phase, Step};
use hareload::core::plan::{Limits, Plan, Way};

use crate::handover::{Handover, STEPS, other, why};

fn verdict(actions: &[Action]) -> Option<&Verdict> {
    actions.iter().find_map(|action| match action {
        Action::Finish(outcome) => Some(&outcome.verdict),
        _ => None,
    })
}

const RESUME: Action = Action::Tell(Who::Old, Order::Resume);
const PAUSE: Action = Action::Tell(Who::Old, Order::Pause);
const RETIRE: Action = Action::Tell(Who::Old, Order::Retire);

#[test]
fn the_old_one_retires_only_after_the_pidfile_names_the_new_one() {
    let mut handover = Handover::by(&[Way::Overlap]).proved(&STEPS[..3]).after([Input::Proved(Step::Probes)]);
    let _ = handover.deadline();
    let asked = handover.hear(Input::Proved(Step::Confirm));
    assert_eq!(asked, [Action::RenamePidfile]);
    let committed = handover.hear(Input::PidfileRenamed);
    assert_eq!(committed, [Action::ForgetSockets, RETIRE, Action::WatchOldRetired]);
}

#[test]
fn shared_sockets_are_never_paused_whatever_the_new_one_asks() {
    let mut handover = Handover::by(&[Way::Shared, Way::Pause]);
    assert_eq!(handover.hear(Input::AsksPause), [Action::LetNewFail]);
}

#[test]
fn a_pause_that_does_not_help_is_taken_back() {
    let mut handover = Handover::by(&[Way::Pause]);
    assert_eq!(handover.hear(Input::AsksPause), [Action::Journal(Stage::Pausing), PAUSE]);
    let actions = handover.deadline();
    let stop = Action::Tell(Who::New, Order::Stop);
    assert_eq!(actions, [RESUME, stop, Action::WatchNewDeaf]);
    assert_eq!(handover.now, Limits::default().pause);
}

#[test]
fn the_next_way_is_taken_once_the_old_one_listens() {
    let mut handover = Handover::by(&[Way::Shared, Way::Overlap]);
    let undone = handover.hear(Input::NewGone(Failure::Transfer(why())));
    assert!(undone.contains(&RESUME));
    let next = handover.hear(Input::OldListens);
    assert_eq!(next.last(), Some(&Action::Start { way: Way::Overlap, attempt: 1 }));
}

#[test]
fn a_refused_configuration_touches_nothing_and_tries_no_other_way() {
    let mut handover = Handover::by(&[Way::Shared, Way::Overlap]);
    let _ = handover.hear(Input::NewGone(Failure::Configuration(why())));
    let actions = handover.hear(Input::OldListens);
    assert_eq!(verdict(&actions), Some(&Verdict::Refused(Refusal::Configuration, why())));
}

#[test]
fn a_commit_that_fails_with_no_way_back_ends_with_the_new_one() {
    let mut handover = Handover::by(&[Way::Trial])
        .proved(&STEPS[..5])
        .after([Input::Disproved(Step::Probes, why()), Input::OldGone]);
    assert_eq!(handover.machine.phase(), Phase::Committing);
    let actions = handover.hear(Input::PidfileFailed(why()));
    assert_eq!(verdict(&actions), Some(&Verdict::Unproven));
}

#[test]
fn a_new_one_that_dies_in_the_commit_gives_the_pidfile_back_first() {
    let proven = Handover::by(&[Way::Overlap]).proved(&STEPS[..3]).after([Input::Proved(Step::Probes)]);
    let mut handover = proven.late().after([Input::Proved(Step::Confirm)]);
    let actions = handover.hear(Input::NewGone(other()));
    assert_eq!(actions[..2], [Action::RestorePidfile, RESUME]);
}

fn found(committed: bool, old_alive: bool, new_alive: Option<bool>) -> (Machine, Vec<Action>) {
    let found = Found {
        committed,
        old_alive,
        new_alive,
        way: Way::Overlap,
        stage: Stage::Forward,
        limits: Limits::default(),
    };
    Machine::recover(Duration::ZERO, found)
}

#[test]
fn recovery_finishes_after_the_commit_and_undoes_before_it() {
    let (machine, actions) = found(true, true, Some(true));
    assert_eq!(machine.phase(), Phase::Committed);
    assert!(actions.contains(&RETIRE));
    let (machine, actions) = found(false, true, Some(true));
    assert_eq!(machine.phase(), Phase::Undoing(Back::NewLeaves));
    assert!(actions.contains(&RESUME) && !actions.contains(&RETIRE));
}

#[test]
fn recovery_does_not_retire_the_old_one_for_a_new_one_that_is_gone() {
    let (machine, actions) = found(true, true, None);
    assert_eq!(machine.phase(), Phase::Undoing(Back::OldAgain));
    assert_eq!(actions.first(), Some(&Action::RestorePidfile));
    assert!(actions.contains(&RESUME) && !actions.contains(&RETIRE));
}

#[test]
fn recovery_sees_a_pause_through_before_it_steers_back() {
    let crashed = |stage| {
        let way = Way::Trial;
        let limits = Limits::default();
        Machine::recover(
            Duration::ZERO,
            Found { committed: false, old_alive: true, new_alive: Some(true), way, stage, limits },
        )
    };
    let (_, actions) = crashed(Stage::Forward);
    assert_eq!(actions, [RESUME, Action::SteerBack(Stands::First)]);
    let (mut machine, actions) = crashed(Stage::Pausing);
    assert_eq!(actions, [PAUSE, Action::Prove(Step::Alone)]);
    let actions = machine.step(Duration::ZERO, Input::Proved(Step::Alone));
    assert_eq!(actions, [Action::Journal(Stage::Returning), RESUME, Action::WatchOldListens]);
    let actions = machine.step(Duration::ZERO, Input::OldListens);
    assert_eq!(actions, [Action::SteerBack(Stands::Behind)]);
}

#[test]
fn recovery_of_two_that_are_gone_says_that_nobody_serves() {
    let (_, actions) = found(true, false, None);
    assert_eq!(verdict(&actions), Some(&Verdict::Nobody));
}

#[test]
fn how_a_handover_ends_says_why() {
    let (mut machine, _) = found(false, true, None);
    let actions = machine.step(Duration::ZERO, Input::OldListens);
    let Some(Action::Finish(outcome)) = actions.last() else { panic!("no end in {actions:?}") };
    assert_eq!((&outcome.cause, outcome.rest), (&Some(Cause::Crashed), Rest::Gone));
}

#[test]
fn the_start_of_a_restart_keeps_one_that_lives_unproven_as_it_is() {
    let mut machine = Machine::new(Duration::ZERO);
    let plan = Plan { patient: true, ..crate::handover::plan(&[Way::Start]) };
    for input in [Input::Planned(plan), Input::Bound, Input::Proved(Step::Live)] {
        let _ = machine.step(Duration::ZERO, input);
    }
    let actions = machine.step(Duration::ZERO, Input::Disproved(Step::Listeners, "why".to_owned()));
    assert!(actions.contains(&Action::RenamePidfile), "{actions:?}");
    let actions = machine.step(Duration::ZERO, Input::PidfileRenamed);
    let Some(Action::Finish(outcome)) = actions.last() else { panic!("no end in {actions:?}") };
    assert_eq!(outcome.verdict, Verdict::Unproven);
}

#[test]
fn the_start_of_a_restart_is_seen_through_whoever_interrupts_it() {
    let mut machine = Machine::new(Duration::ZERO);
    let plan = Plan { patient: true, ..crate::handover::plan(&[Way::Start]) };
    let _ = machine.step(Duration::ZERO, Input::Planned(plan));
    assert_eq!(machine.step(Duration::ZERO, Input::Interrupted(15)), []);
    let _ = machine.step(Duration::ZERO, Input::Bound);
    assert_eq!(machine.step(Duration::ZERO, Input::Interrupted(2)), []);
    assert_eq!(machine.phase(), Phase::Proving(Step::Live));
}
