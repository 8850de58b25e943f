//! What can go wrong with a handover, made to happen to real HAProxies under a light load.
//!
//! After each fault: the exit code, the message, who serves, the pidfile, the admin socket, nobody paused, nothing left
//! over, and nobody lost. Faults of the new HAProxy's start run on every version, the others on one.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

#[path = "faults/all.rs"]
mod all;

use std::process::ExitCode;

use hareload_testkit::caps::Need;
use hareload_testkit::haproxies::BRANCHES;
use hareload_testkit::suite::Suite;

// The faults find each other here.
use all::*;
use list::{OF_SHARDS, OTHERS, STARTS};

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// What hands over.
const VERB: &str = "reload";

fn main() -> ExitCode {
    let shards = BRANCHES.into_iter().filter(|branch| *branch >= (2, 5));
    let shards: Vec<_> = shards.collect();
    Suite::of_this_program()
        .on(&BRANCHES, STARTS)
        .on(&shards, OF_SHARDS)
        .on(&[(2, 6)], OTHERS)
        .and(|caps| caps.on_branch_with((2, 6), "pidfile::recycled", &[Need::ChosenPids], pidfile::recycled))
        // How fast a fault is told is measured, and each has processes and threads of its own.
        .one_at_a_time()
        .run()
}
