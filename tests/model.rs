//! The core against a model of the world, explored to the end: every order of everything that can happen.
//!
//! `world` is what the two HAProxies, the pidfile and hareload itself are, `events` what they can do; `promise` is what
//! must hold whatever they do; `explore` goes through every state that can be reached. Nothing is sampled. A broken
//! promise is reported with the shortest story that leads to it.

#[path = "model/events.rs"]
mod events;
#[path = "model/explore.rs"]
mod explore;
#[path = "model/promise.rs"]
mod promise;
#[path = "model/world.rs"]
mod world;

use std::io::{self, Write as _};
use std::time::Duration;

use hareload::core::plan::{AfterDrain, Drain, Limits, Plan, Way};

/// One unit of the model's time: how often a word is repeated.
const BEAT: Duration = Duration::from_secs(1);

/// Every limit is two beats: long enough for one repetition, and the space of states stays small.
fn limits() -> Limits {
    let two = 2 * BEAT;
    Limits {
        bound: two,
        live: two,
        proof: two,
        health: two,
        probes: two,
        alone: two,
        pause: BEAT,
        last_words: BEAT,
        listen_again: two,
        leave: two,
        linger: two,
        retire: two,
        again: BEAT,
    }
}

/// One way, with every policy for the drain, with and without a dwell.
fn explored(way: Way) {
    let drains = [
        Drain::Return,
        Drain::Wait { limit: BEAT, then: AfterDrain::Leave },
        Drain::Wait { limit: BEAT, then: AfterDrain::Stop },
    ];
    for drain in drains {
        for dwell in [Duration::ZERO, BEAT] {
            explore_plan(&[way], dwell, drain.clone());
        }
    }
}

/// Ways one after the other: what the last one does after the commit is what it does alone, so that one policy is
/// enough, the longest.
fn explored_in_turn(ways: &[Way]) {
    explore_plan(ways, Duration::ZERO, Drain::Wait { limit: BEAT, then: AfterDrain::Stop });
}

fn explore_plan(ways: &[Way], dwell: Duration, drain: Drain) {
    let title = format!("{}, dwell {dwell:?}, {drain:?}", names(ways));
    let plan = Plan { ways: ways.to_vec(), dwell, drain, patient: false, limits: limits() };
    explore(&title, &plan);
}

fn explore(title: &str, plan: &Plan) {
    match explore::everything(plan) {
        // Past the capture of the test harness: how much was explored is part of the result.
        Ok(size) => writeln!(
            io::stderr(),
            "{title}: {} states, {} transitions, at most {} ticks of silence to the end",
            size.states,
            size.transitions,
            size.ticks
        )
        .expect("stderr is open"),
        Err(story) => panic!("{title}: {story}"),
    }
}

fn names(ways: &[Way]) -> String {
    ways.iter().map(|way| way.name()).collect::<Vec<_>>().join(", then ")
}

#[test]
fn shared_keeps_the_promise() {
    explored(Way::Shared);
}

#[test]
fn trial_keeps_the_promise() {
    explored(Way::Trial);
}

#[test]
fn overlap_keeps_the_promise() {
    explored(Way::Overlap);
}

#[test]
fn pause_keeps_the_promise() {
    explored(Way::Pause);
}

#[test]
fn start_keeps_the_promise() {
    explored(Way::Start);
}

#[test]
fn the_start_of_a_restart_keeps_the_promise() {
    let drain = Drain::Return;
    let plan = Plan { ways: vec![Way::Start], dwell: BEAT, drain, patient: true, limits: limits() };
    explore("start of a restart", &plan);
}

#[test]
fn shared_then_trial_keeps_the_promise() {
    explored_in_turn(&[Way::Shared, Way::Trial]);
}

#[test]
fn shared_then_overlap_then_pause_keeps_the_promise() {
    explored_in_turn(&[Way::Shared, Way::Overlap, Way::Pause]);
}

#[test]
fn trial_then_pause_keeps_the_promise() {
    explored_in_turn(&[Way::Trial, Way::Pause]);
}

#[test]
fn overlap_then_pause_keeps_the_promise() {
    explored_in_turn(&[Way::Overlap, Way::Pause]);
}
