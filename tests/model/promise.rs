//! What must hold whatever happens: DESIGN's invariants, asked at every action and in every state.

use std::time::Duration;

use hareload::core::action::{Action, Order, Who};
use hareload::core::input::Input;
use hareload::core::outcome::{Outcome, Rest, Verdict};
use hareload::core::phase::{Phase, Step};
use hareload::core::plan::Way;

use crate::world::{New, Old, Pidfile, Runner, State, Steering};

type Kept = Result<(), String>;

fn hold(kept: bool, promise: &str) -> Kept {
    if kept { Ok(()) } else { Err(promise.to_owned()) }
}

/// Whether the runner may do this now. `state.todo` holds what comes after it.
pub(crate) fn may(state: &State, action: &Action) -> Kept {
    let world = &state.world;
    match action {
        Action::Start { .. } => {
            hold(!world.new.alive(), "there is at most one new one")?;
            hold(world.pidfile == Pidfile::Old, "nothing is started once the pidfile names the new one")
        }
        Action::Tell(Who::Old, Order::Pause) => {
            let way = world.way;
            hold(
                way.is_some_and(Way::may_pause),
                "the old one is paused only in a way that shares no socket",
            )?;
            hold(!world.past.old_told_to_leave, "one that was told to leave is not paused")
        }
        Action::Tell(Who::Old, Order::Resume) => Ok(()),
        Action::Tell(Who::Old, Order::Retire | Order::Stop | Order::Kill) => {
            hold(
                world.pidfile == Pidfile::New,
                "the old one may leave only when the pidfile names the new one",
            )?;
            hold(!world.past.new_told_to_leave, "old and new are never both told to leave")
        }
        Action::Tell(Who::New, Order::Pause | Order::Resume) => {
            Err("the new one is neither paused nor resumed".to_owned())
        }
        Action::Tell(Who::New, Order::Retire | Order::Stop | Order::Kill) => {
            hold(!world.past.old_told_to_leave, "old and new are never both told to leave")?;
            hold(world.pidfile == Pidfile::Old, "one that the pidfile names is not told to leave")?;
            let harsh = matches!(action, Action::Tell(_, Order::Stop | Order::Kill));
            let kindly = !harsh || world.past.new_told_to_retire || !may_have_accepted(state);
            hold(kindly, "one that may have accepted clients is told to retire first")
        }
        Action::RestorePidfile => {
            let kept = world.past.old_told_to_leave && world.new.alive();
            hold(!kept, "the pidfile goes back only to one that may stay, or when nobody else is left")
        }
        Action::Finish(outcome) => finish(state, outcome),
        Action::LetNewFail
        | Action::Prove(_)
        | Action::WatchOldListens
        | Action::WatchOldRetired
        | Action::WatchNewDeaf
        | Action::Journal(_)
        | Action::SteerBack(_)
        | Action::ReleaseSteering
        | Action::RenamePidfile
        | Action::RestoreSockets
        | Action::ForgetSockets => Ok(()),
    }
}

/// Whether clients may have come to the new one. It runs, and accepts, before anybody can know that it is bound.
fn may_have_accepted(state: &State) -> bool {
    let world = &state.world;
    match world.way {
        Some(Way::Shared | Way::Overlap | Way::Start) => world.new.listens(),
        // Held back until it is known to be live, or part of an outage that is to be short.
        Some(Way::Trial | Way::Pause) => world.new.listens() && world.past.proofs.contains(&Step::Listeners),
        None => false,
    }
}

/// The outcome says what is true. What died a moment ago and was not reported yet is nobody's lie.
fn finish(state: &State, outcome: &Outcome) -> Kept {
    let world = &state.world;
    let past = &world.past;
    hold(state.todo.is_empty(), "the end is the last action, and there is one end")?;
    hold(!past.pause_open || world.old == Old::Gone, "every pause is followed by a resume or a retire")?;
    let old_serves = world.old == Old::Serving || past.old_died;
    let new_serves = (world.new == New::Live || past.new_died) && !past.new_told_to_leave;
    let new_is_out = !world.new.listens() || past.new_told_to_leave;
    match outcome.verdict {
        Verdict::RolledBack => {
            hold(world.way != Some(Way::Start), "rolled back: there is somebody to go back to")?;
            hold(world.pidfile == Pidfile::Old, "rolled back: the pidfile names the old one")?;
            hold(old_serves && !past.old_told_to_leave, "rolled back: the old one serves")?;
            hold(new_is_out, "rolled back: the new one does not listen, or was told so")?;
            hold(world.steering != Steering::ToNew, "rolled back: clients are steered to the old one")?;
            hold(
                outcome.rest != Rest::Gone || !world.new.alive(),
                "rolled back: the new one is gone if that is said",
            )
        }
        Verdict::Reloaded | Verdict::ReloadedStillDraining => {
            hold(world.pidfile == Pidfile::New, "reloaded: the pidfile names the new one")?;
            hold(new_serves, "reloaded: the new one serves")?;
            hold(past.old_told_to_leave || world.old == Old::Gone, "reloaded: the old one is told to leave")?;
            hold(proven(state), "reloaded: the new one was proven")?;
            hold(
                outcome.rest != Rest::Gone || world.old == Old::Gone,
                "reloaded: the old one is gone if that is said",
            )
        }
        Verdict::Unchanged | Verdict::Stopped => Err("a handover does not end so".to_owned()),
        Verdict::Unproven => hold(new_serves, "unproven: the new one serves"),
        Verdict::Nobody => {
            // One that was told to leave can't be counted on, even where it has not heard it yet.
            let unseen = world.old != Old::Serving || past.by_clock || past.old_told_to_leave;
            hold(unseen, "nobody: the old one was not seen to listen")?;
            hold(world.new != New::Live || past.new_told_to_leave, "nobody: the new one does not serve")
        }
        Verdict::Refused(..) => {
            hold(!past.ever_paused && !past.ever_bound, "refused: nothing was touched")?;
            hold(world.pidfile == Pidfile::Old, "refused: the pidfile names the old one")?;
            hold(!past.old_told_to_leave, "refused: the old one was told nothing")
        }
    }
}

/// Whoever takes over was not there when the proofs were given: it takes the commit for them (what `finish` asks for
/// beside this is that the new one serves).
fn proven(state: &State) -> bool {
    let given = |step| state.world.past.proofs.contains(&step);
    if state.world.runner == Runner::Successor {
        return true;
    }
    let alone =
        state.world.way != Some(Way::Trial) || state.world.old == Old::Gone && state.world.past.old_died;
    [Step::Live, Step::Listeners, Step::Health, Step::Probes].into_iter().all(given)
        && (alone || (given(Step::Steer) && given(Step::Alone)))
}

/// What holds in every state.
pub(crate) fn always(state: &State) -> Kept {
    let world = &state.world;
    if let Some(machine) = &state.machine {
        let done = machine.phase() == Phase::Done;
        hold(done == machine.wakes_at().is_none(), "every phase but the last has a deadline")?;
        if done {
            absorbing(state)?;
            let ends = state.todo.iter().filter(|action| matches!(action, Action::Finish(_))).count();
            let due = usize::from(world.runner != Runner::Ended);
            hold(ends == due, "there is exactly one end")?;
        }
        if machine.wakes_at().is_some_and(|at| at > Duration::ZERO) {
            let mut early = machine.clone();
            let answer = early.step(Duration::ZERO, Input::Tick);
            hold(answer.is_empty() && early == *machine, "a tick that comes early means nothing")?;
        }
    }
    hold(held_back(state), "until it is live, nobody is sent to a new one that is tried")?;
    let died = world.past.old_died || world.past.new_died;
    hold(died || somebody_listens(state), "somebody listens as long as nobody dies")
}

/// A client in the queue of one that ends before it accepts is lost.
fn held_back(state: &State) -> bool {
    let world = &state.world;
    let tried = world.way == Some(Way::Trial) && world.new == New::Bound;
    !tried || world.steering == Steering::ToOld || world.old != Old::Serving
}

/// In the way of that name the pause is an outage by design, as long as it is meant to last.
fn somebody_listens(state: &State) -> bool {
    let world = &state.world;
    let old = world.old == Old::Serving;
    let new = world.new == New::Live;
    match world.steering {
        Steering::None => old || new || world.way == Some(Way::Pause) && world.past.ever_paused,
        Steering::ToOld => old,
        Steering::ToNew => new,
    }
}

/// Nothing that is heard after the end has an answer.
fn absorbing(state: &State) -> Kept {
    let Some(machine) = &state.machine else { return Ok(()) };
    for input in [
        Input::Tick,
        Input::OldGone,
        Input::Bound,
        Input::OldListens,
        Input::PidfileRenamed,
        Input::Interrupted(2),
    ] {
        let mut after = machine.clone();
        let answer = after.step(Duration::from_secs(3600), input);
        hold(answer.is_empty() && after == *machine, "the end is the end")?;
    }
    Ok(())
}
