//! What is said beforehand, and what the host does not give: directories, permissions, room for files.
//!
//! In every case the old one serves afterwards as it did before, or the new one does; nothing in between.

use std::process::ExitCode;

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::caps::{Caps, Need};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::{self, Haproxy};
use hareload_testkit::libtest_mimic::{self, Arguments};
use hareload_testkit::netns::run_in_netns;
use hareload_testkit::stage::{Stage, account};
use serde_json::json;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

type Test = fn(&Haproxy) -> Result<()>;

const TESTS: [(&str, Test); 2] = [("dry_run::json", dry_run_json), ("dry_run::human", dry_run_human)];

fn main() -> ExitCode {
    let caps = Caps::find();
    let haproxy = haproxies::of_branch(2, 6);
    let needs = [Need::Root, Need::Netns, Need::PidfdGetfd, Need::Branch(2, 6)];
    let trial = |(name, test): (&str, Test)| {
        let haproxy = haproxy.clone();
        caps.trial(name, &needs, move || {
            let haproxy = haproxy.context("no such HAProxy")?;
            run_in_netns(|_| test(&haproxy))
        })
    };
    let trials = TESTS.into_iter().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// The old one serves `g1`, the configuration says `g2`.
fn between(haproxy: &Haproxy) -> Result<Stage> {
    let plain = |marker: &str| Config::new().frontend(8080).marker(marker);
    let mut stage = Stage::start(HARELOAD, haproxy, plain("g1"))?;
    stage.instance.write_config(plain("g2"))?;
    Ok(stage)
}

/// The old one serves as before, and nothing was made.
fn untouched(stage: &Stage, old: u32) -> Result<()> {
    stage.expect_serving("g1")?;
    ensure!(stage.instance.pid()? == old, "the pidfile names another");
    stage.expect_admin()?;
    stage.expect_tidy()
}

// Without touching anything.

fn dry_run_json(haproxy: &Haproxy) -> Result<()> {
    let stage = between(haproxy)?;
    let old = stage.instance.pid()?;
    let result = stage.json().arg("--dry-run").run()?.expect_code(0)?;
    ensure!(result.stdout.lines().count() == 1, "more than a line: {}", result.stdout);
    let told = account(&result)?;
    ensure!(told["schema"] == "hareload.intention/1", "{told}");
    let would = &told["would"];
    ensure!(would["from"]["pids"] == json!([old]) && would["from"]["generation"].is_null(), "{would}");
    ensure!(would["haproxy"] == haproxy.path.display().to_string(), "{would}");
    ensure!(would["configs"] == json!([stage.instance.config_path().display().to_string()]), "{would}");
    let ways: Vec<_> = would["ways"].as_array().into_iter().flatten().map(|way| &way["way"]).collect();
    ensure!(ways.first().is_some_and(|first| *first == "shared"), "{would}");
    ensure!(would["notes"].as_array().is_some_and(Vec::is_empty), "{would}");
    untouched(&stage, old)?;
    // What would be refused is told in the form of a refusal.
    std::fs::remove_file(stage.instance.config_path())?;
    let told = account(&stage.json().arg("--dry-run").run()?.expect_code(6)?)?;
    ensure!(told["schema"] == "hareload.handover/1" && told["exit_code"] == 6, "{told}");
    untouched(&stage, old)
}

fn dry_run_human(haproxy: &Haproxy) -> Result<()> {
    let stage = between(haproxy)?;
    let old = stage.instance.pid()?;
    let stdout = stage.hareload().arg("--dry-run").run()?.expect_code(0)?.stdout;
    let lines: Vec<&str> = stdout.lines().collect();
    ensure!(lines[0] == format!("would hand over from pid {old}, which hareload did not start"), "{stdout}");
    ensure!(lines[2].starts_with("by shared: ") && lines[3].starts_with("else "), "{stdout}");
    untouched(&stage, old)
}
