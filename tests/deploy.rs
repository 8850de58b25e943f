//! `hareload deploy` and `hareload rollback`, of a real HAProxy under load: file and process always match.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

#[path = "deploy/candidates.rs"]
mod candidates;
#[path = "deploy/crash.rs"]
mod crash;
#[path = "deploy/faults.rs"]
mod faults;
#[path = "deploy/interrupted.rs"]
mod interrupted;
#[path = "deploy/outputs.rs"]
mod outputs;
#[path = "deploy/plain.rs"]
mod plain;
#[path = "deploy/probation.rs"]
mod probation;
#[path = "deploy/refused.rs"]
mod refused;
#[path = "deploy/rollback.rs"]
mod rollback;
#[path = "deploy/site.rs"]
mod site;
#[path = "deploy/together.rs"]
mod together;

use std::process::ExitCode;
use std::time::Duration;

use hareload_testkit::haproxies::BRANCHES;
use hareload_testkit::suite::{Suite, Test};

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when anything that a test waits for has happened.
const DEADLINE: Duration = Duration::from_secs(30);

/// Those that depend on what HAProxy does.
const OF_HAPROXY: [(&str, Test); 10] = [
    ("plain::is_done", plain::is_done),
    ("faults::before_the_commit", faults::before_the_commit),
    ("faults::in_the_check", faults::in_the_check),
    ("probation::is_passed", probation::is_passed),
    ("probation::of_one_that_ends", probation::of_one_that_ends),
    ("probation::of_one_that_answers_500", probation::of_one_that_answers_500),
    ("probation::of_one_that_fails_a_probe", probation::of_one_that_fails_a_probe),
    ("probation::that_is_interrupted", probation::that_is_interrupted),
    ("rollback::goes_back", rollback::goes_back),
    ("rollback::from_a_broken_one", rollback::from_a_broken_one),
];

/// Those that depend on hareload and the host alone.
const OF_HARELOAD: [(&str, Test); 43] = [
    ("plain::that_changes_nothing", plain::that_changes_nothing),
    ("plain::that_may_change_something", plain::that_may_change_something),
    ("plain::foretold", plain::foretold),
    ("plain::keeps_only_so_many", plain::keeps_only_so_many),
    ("plain::shows_drift", plain::shows_drift),
    ("candidates::a_directory", candidates::a_directory),
    ("candidates::an_archive", candidates::an_archive),
    ("candidates::with_relative_paths", candidates::with_relative_paths),
    ("candidates::keep_owner_and_mode", candidates::keep_owner_and_mode),
    ("probation::without_a_way_back", probation::without_a_way_back),
    ("probation::on_a_disk_that_fills_up", probation::on_a_disk_that_fills_up),
    ("probation::of_one_that_ends_on_a_full_disk", probation::of_one_that_ends_on_a_full_disk),
    ("probation::of_one_that_ends_at_once", probation::of_one_that_ends_at_once),
    ("probation::of_one_that_ends_elsewhere", probation::of_one_that_ends_elsewhere),
    ("probation::of_one_with_other_settings", probation::of_one_with_other_settings),
    ("probation::of_one_that_hangs", probation::of_one_that_hangs),
    ("probation::of_one_that_hangs_in_a_trial", probation::of_one_that_hangs_in_a_trial),
    ("probation::of_a_new_backend_that_is_down", probation::of_a_new_backend_that_is_down),
    ("probation::of_one_that_is_not_written_down", probation::of_one_that_is_not_written_down),
    ("probation::of_a_file_that_is_changed", probation::of_a_file_that_is_changed),
    ("rollback::past_what_was_left", rollback::past_what_was_left),
    ("rollback::the_way_that_was_gone", rollback::the_way_that_was_gone),
    ("probation::of_a_changed_file_that_fails", probation::of_a_changed_file_that_fails),
    ("rollback::where_nobody_serves", rollback::where_nobody_serves),
    ("rollback::past_what_is_damaged", rollback::past_what_is_damaged),
    ("rollback::not_over_a_lost_record", rollback::not_over_a_lost_record),
    ("interrupted::while_it_reads", interrupted::while_it_reads),
    ("interrupted::while_it_waits", interrupted::while_it_waits),
    ("interrupted::at_any_instant", interrupted::at_any_instant),
    ("outputs::of_github", outputs::of_github),
    ("outputs::of_gitlab_and_junit", outputs::of_gitlab_and_junit),
    ("outputs::without_the_secrets_of_probes", outputs::without_the_secrets_of_probes),
    ("outputs::without_the_secrets_that_haproxy_quotes", outputs::without_the_secrets_that_haproxy_quotes),
    ("refused::candidates", refused::candidates),
    ("refused::places", refused::places),
    ("refused::where_the_check_is_killed", refused::where_the_check_is_killed),
    ("refused::what_we_may_not", refused::what_we_may_not),
    ("refused::where_haproxy_ends_by_itself", refused::where_haproxy_ends_by_itself),
    ("refused::full_disks", refused::full_disks),
    ("together::two_pipelines", together::two_pipelines),
    ("together::with_reloads", together::with_reloads),
    ("crash::of_hareload", crash::of_hareload),
    ("crash::of_hareload_and_guard", crash::of_hareload_and_guard),
];

fn main() -> ExitCode {
    Suite::of_this_program().on(&BRANCHES, OF_HAPROXY).on(&[(2, 6)], OF_HARELOAD).one_at_a_time().run()
}
