//! What is carried over from one HAProxy to the next: states of servers by a file, stick tables by `peers`; with real
//! HAProxies of every version.
#![expect(clippy::disallowed_methods, reason = "a test reads the clock, to make a file old")]

#[path = "state/servers.rs"]
mod servers;
#[path = "state/tables.rs"]
mod tables;

use std::process::ExitCode;
use std::time::Duration;

use hareload_testkit::haproxies::BRANCHES;
use hareload_testkit::serde_json::Value;
use hareload_testkit::suite::{Suite, Test};

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when anything that a test waits for has happened.
const DEADLINE: Duration = Duration::from_secs(30);

const TESTS: [(&str, Test); 10] = [
    ("what_is_set_by_hand_stays_where_it_is_asked_for", servers::by_hand),
    ("backends_have_files_of_their_own", servers::local),
    ("a_trial_carries_them_over", servers::trial),
    ("a_restart_and_a_stop_keep_them", servers::restarted),
    ("what_is_old_is_set_aside_at_a_start", servers::stale),
    ("a_file_that_cannot_be_written_is_noted", servers::unwritable),
    ("one_that_cannot_be_asked_is_noted", servers::unasked),
    ("a_link_of_another_users_is_not_followed", servers::linked),
    ("a_stick_table_is_taught", tables::taught),
    ("a_stick_table_is_taught_by_a_young_one", tables::taught_by_a_young_one),
];

fn main() -> ExitCode {
    Suite::of_this_program().on(&BRANCHES, TESTS).run()
}

/// What the reader of an outcome is told besides.
fn notes(account: &Value) -> Vec<String> {
    let notes = account["notes"].as_array().into_iter().flatten();
    notes.map(|note| note.as_str().unwrap_or_default().to_owned()).collect()
}
