//! The machine's table: what every phase does about every input.
//!
//! `table.txt` is the expectation, one row a phase and an input; rows in which nothing happens are left out, so that
//! what is not there is ignored by the machine. When the machine changes on purpose, look at the difference, then
//! accept it with `HARELOAD_ACCEPT_TABLE=1 cargo test --test table`.

use std::fmt::Write as _;
use std::time::Duration;

use hareload::core::action::{Action, Order, Stage, Who};
use hareload::core::input::{Failure, Input, Refusal};
use hareload::core::machine::{Found, Machine};
use hareload::core::outcome::{Cause, Outcome, Rest, Verdict};
use hareload::core::phase::{Back, Phase, Step, Told};
use hareload::core::plan::{AfterDrain, Drain, Limits, Plan, Way};

/// Where the committed table stands.
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/table.txt");

fn why() -> String {
    "why".to_owned()
}

fn plan(ways: &[Way]) -> Plan {
    let drain = Drain::Wait { limit: Duration::from_secs(30), then: AfterDrain::Stop };
    Plan { ways: ways.to_vec(), dwell: Duration::from_secs(5), drain, limits: Limits::default() }
}

fn other() -> Failure {
    Failure::Other(why())
}

/// A handover on its way, led by what it hears.
#[derive(Clone)]
struct Handover {
    machine: Machine,
    now: Duration,
}

impl Handover {
    fn of(plan: Plan) -> Handover {
        let mut handover = Handover { machine: Machine::new(Duration::ZERO), now: Duration::ZERO };
        let _ = handover.hear(Input::Planned(plan));
        handover
    }

    fn by(ways: &[Way]) -> Handover {
        Handover::of(plan(ways))
    }

    fn hear(&mut self, input: Input) -> Vec<Action> {
        self.machine.step(self.now, input)
    }

    /// The next time that the machine has named comes.
    fn wake(&mut self) -> Vec<Action> {
        self.now = self.machine.wakes_at().unwrap_or(self.now);
        self.hear(Input::Tick)
    }

    /// The phase's deadline comes; what is repeated until then is left out. A harder word within the phase is one too.
    fn deadline(&mut self) -> Vec<Action> {
        let phase = self.machine.phase();
        let first = self.wake();
        let mut actions = first.clone();
        while phase != Phase::Done && self.machine.phase() == phase && actions == first {
            actions = self.wake();
        }
        actions
    }

    fn after(mut self, inputs: impl IntoIterator<Item = Input>) -> Handover {
        for input in inputs {
            let _ = self.hear(input);
        }
        self
    }

    fn late(mut self) -> Handover {
        let _ = self.deadline();
        self
    }

    fn proved(self, steps: &[Step]) -> Handover {
        let proofs = steps.iter().copied().map(Input::Proved);
        self.after([Input::Bound]).after(proofs)
    }
}

const STEPS: [Step; 8] = [
    Step::Live,
    Step::Listeners,
    Step::Health,
    Step::Steer,
    Step::Alone,
    Step::Probes,
    Step::Dwell,
    Step::Confirm,
];

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
    let committing = || committing().late().after([Input::Proved(Step::Confirm)]);
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
        ("spawn failed", Input::SpawnFailed(why())),
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
