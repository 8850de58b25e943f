//! What can go wrong with a handover, through `hareload deploy`: the faults of `tests/faults.rs`, one by one.
//!
//! After each fault, beside all that is looked at there: the file in place and the kept ones agree with the process. What a
//! deploy finds before it starts anything, it has to refuse; then it is kept from seeing it, and fails as a reload does.
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
const VERB: &str = "deploy";

fn main() -> ExitCode {
    let newest = BRANCHES.into_iter().max().into_iter().collect::<Vec<_>>();
    Suite::of_this_program()
        .on(&[(2, 6)], STARTS)
        .on(&newest, STARTS)
        .on(&[(2, 6)], OF_SHARDS)
        .on(&[(2, 6)], OTHERS)
        .and(|caps| caps.on_branch_with((2, 6), "pidfile::recycled", &[Need::ChosenPids], pidfile::recycled))
        .one_at_a_time()
        .run()
}
