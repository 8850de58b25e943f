//! Probes by command: they come to an end, whatever they do and whatever becomes of the handover, and the message says
//! which one it was.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::process::{RunResult, lives};
use hareload_testkit::stage::Stage;
use hareload_testkit::suite::{Suite, Test};
use hareload_testkit::waiting::until;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when anything that a test waits for has happened.
const DEADLINE: Duration = Duration::from_secs(30);

/// Starts a child that does not end by itself, and writes down both pids.
const FAMILY: &str = "sleep 600 & echo $$ $! >own-family; ";

const TESTS: [(&str, Test); 6] = [
    ("one_that_hangs_is_named_and_killed", one_that_hangs),
    ("the_last_of_several_has_what_is_left", the_last_of_several),
    ("an_interrupted_handover_leaves_none_behind", interrupted),
    ("what_a_probe_leaves_running_is_killed", leaves_running),
    ("one_that_prints_much_is_not_blocked", prints_much),
    ("one_that_fails_is_quoted", fails),
];

fn main() -> ExitCode {
    Suite::of_this_program().on(&[(2, 6)], TESTS).run()
}

fn probing(stage: &Stage, command: &str) -> Result<RunResult> {
    stage.hareload().args(["--probe", &format!("exec:{command}")]).run()
}

fn family_of(stage: &Stage) -> PathBuf {
    stage.instance.dir().join("own-family")
}

/// The probe's shell and its child.
fn family(stage: &Stage) -> Result<Vec<u32>> {
    until(DEADLINE, "the probe to run", || {
        let text = fs::read_to_string(family_of(stage)).ok().filter(|text| text.ends_with('\n'))?;
        text.split_ascii_whitespace().map(|pid| pid.parse().ok()).collect()
    })
}

fn gone(stage: &Stage) -> Result<()> {
    let family = family(stage)?;
    ensure!(family.len() == 2, "{family:?} are no shell and its child");
    until(DEADLINE, "the probe to be gone", || family.iter().all(|pid| !lives(*pid)).then_some(()))
}

fn one_that_hangs(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    let result = probing(&stage, &format!("{FAMILY}echo waits; sleep 600"))?.expect_code(150)?;
    result.expect_said(&["goes on serving"])?;
    result.expect_said(&["sleep 600 failed: it did not end in 9s: waits"])?;
    gone(&stage)?;
    stage.expect_serving("g1")?;
    stage.expect_tidy()
}

fn the_last_of_several(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    let result = stage
        .hareload()
        .args(["--probe", "exec:sleep 3", "--probe", "exec:sleep 600"])
        .run()?
        .expect_code(150)?;
    result.expect_said(&["probe exec:sleep 600 failed: it did not end in "])?;
    result.expect_said(&["which were left of 9s for all probes"])?;
    stage.expect_serving("g1")
}

fn interrupted(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    let running = stage.hareload().args(["--probe", &format!("exec:{FAMILY}sleep 600")]).spawn()?;
    family(&stage)?;
    running.signal(Signal::TERM)?;
    let result = running.wait(DEADLINE)?;
    ensure!(result.signal == Some(Signal::TERM.as_raw()), "exit code {}: {}", result.code, result.stderr);
    ensure!(result.took < Duration::from_secs(8), "it waited for the probe: {:?}", result.took);
    gone(&stage)?;
    stage.expect_serving("g1")?;
    stage.expect_tidy()
}

fn leaves_running(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    probing(&stage, &format!("{FAMILY}exit 0"))?.expect_code(0)?;
    gone(&stage)?;
    stage.expect_serving("g2")
}

fn prints_much(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    probing(&stage, "yes | head -c 1000000")?.expect_code(0)?;
    stage.expect_serving("g2")
}

fn fails(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    let result = probing(&stage, "echo no luck >&2; exit 3")?.expect_code(150)?;
    result.expect_said(&["failed: it exited with status 3: no luck"])?;
    probing(&stage, "false")?
        .expect_code(150)?
        .expect_said(&["probe exec:false failed: it exited with status 1\n"])?;
    stage.expect_serving("g1")
}
