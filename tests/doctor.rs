//! `hareload doctor`: what it finds on hosts that were spoilt in one way or another, with real HAProxies; that it touches
//! nothing unless it is asked to; and that what it mends is mended.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

#[path = "doctor/asking.rs"]
mod asking;
#[path = "doctor/host.rs"]
mod host;
#[path = "doctor/keepalived.rs"]
mod keepalived;
#[path = "doctor/mended.rs"]
mod mended;
#[path = "doctor/reloads.rs"]
mod reloads;

use std::process::ExitCode;
use std::time::Duration;

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::{BRANCHES, Haproxy};
use hareload_testkit::serde_json::json;
use hareload_testkit::stage::Stage;
use hareload_testkit::suite::{Suite, Test};

use asking::{doctor, doctor_with, expect, expect_same_way, expect_sound, finding};

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when anything that a test waits for has happened.
const DEADLINE: Duration = Duration::from_secs(20);

const TESTS: [(&str, Test); 22] = [
    ("a_sound_host_has_notes_only", sound),
    ("the_last_lines_are_those_of_a_dry_run", human),
    ("nothing_is_touched_where_nothing_is_to_be_mended", mended::fix_of_nothing),
    ("a_pidfile_that_names_nobody_is_told_and_mended", mended::stale_pidfile),
    ("a_pidfile_that_names_another_haproxy_is_left", mended::other_pidfile),
    ("a_master_is_told_with_what_to_do", reloads::master),
    ("an_admin_socket_that_exposes_nothing_is_told", reloads::unexposed),
    ("an_admin_socket_that_leads_nowhere_is_bound_anew", mended::dead_admin),
    ("abstract_sockets_matter_before_2_8", reloads::abns),
    ("noreuseport_leaves_a_pause", reloads::noreuseport),
    ("listeners_are_told_by_their_lines", reloads::lines),
    ("a_paused_one_is_told_and_resumed", mended::paused),
    ("a_stopped_one_is_told_and_left", mended::stopped_by_a_signal),
    ("what_a_killed_hareload_leaves_is_told_and_mended", mended::interrupted),
    ("others_are_told_what_they_may_not_see", host::nobody),
    ("one_that_does_not_run_is_told", host::not_running),
    ("a_broken_configuration_is_told", reloads::broken),
    ("an_upgrade_is_told", reloads::upgrade),
    ("what_is_not_carried_over_is_told", reloads::not_carried_over),
    ("a_state_directory_of_everybody_is_told", host::state_directory),
    ("one_in_another_network_namespace_is_told", host::elsewhere),
    ("systemd_is_asked_and_not_waited_for", host::systemd),
];

fn main() -> ExitCode {
    Suite::of_this_program().on(&BRANCHES, TESTS).on(&[(2, 6)], keepalived::TESTS).run()
}

fn sound(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let told = doctor(&stage)?;
    expect_sound(&told)?;
    expect_same_way(&stage, &told)?;
    ensure!(told["pids"] == json!([stage.instance.pid()?]), "{told}");
    let version = haproxy.version.to_string();
    for name in ["running", "version"] {
        ensure!(told[name].as_str().is_some_and(|said| said.starts_with(&version)), "{name}: {told}");
    }
    ensure!(!stage.instance.state_dir().exists(), "it has made the state directory");
    // One that hareload has started.
    stage.instance.write_config(Config::plain("g2"))?;
    stage.hareload().run()?.expect_code(0)?;
    stage.instance.wait_only(&[stage.instance.pid()?], DEADLINE)?;
    let told = doctor(&stage)?;
    expect_sound(&told)?;
    expect_same_way(&stage, &told)?;
    for code in ["private-lost", "not-exposed", "files", "draining"] {
        ensure!(finding(&told, code).is_none(), "{code}: {told}");
    }
    let known = expect(&told, "note", "unix-sockets-lost")?;
    ensure!(
        known["area"] == "version" && known["cause"].as_str().is_some_and(|why| why.contains("measured"))
    );
    // A way that can't be had is told with its reason, as the reload would.
    if !haproxy.version.at_least(2, 8) {
        return Ok(());
    }
    let told = doctor_with(&stage, &["--handover", "trial"])?;
    ensure!(told["reload"]["ways"][0]["way"] == "trial", "{told}");
    Ok(())
}

fn human(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let dry = stage.hareload().arg("--dry-run").run()?.expect_code(0)?.stdout;
    let told = stage.hareload().verb("doctor").run()?;
    ensure!(told.stdout.ends_with(&format!("\nreload {dry}")), "{}\n{dry}", told.stdout);
    ensure!(told.stderr.is_empty(), "{}", told.stderr);
    Ok(())
}
