//! What is said beforehand, and what the host does not give: directories, permissions, room for files.
//!
//! In every case the old one serves afterwards as it did before, or the new one does; nothing in between.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

use std::fs;
use std::process::{Command, ExitCode};
use std::time::Duration;

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::caps::{Caps, Need};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::{self, Haproxy};
use hareload_testkit::libtest_mimic::{self, Arguments};
use hareload_testkit::netns::run_in_netns;
use hareload_testkit::process;
use hareload_testkit::stage::{Stage, account};
use serde_json::json;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when anything that a test waits for has happened.
const DEADLINE: Duration = Duration::from_secs(30);

type Test = fn(&Haproxy) -> Result<()>;

const TESTS: [(&str, Test); 4] = [
    ("dry_run::json", dry_run_json),
    ("dry_run::human", dry_run_human),
    ("file_size::limited", file_size_limited),
    ("file_size::haproxy_has_the_default", haproxy_dispositions),
];

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
    fs::remove_file(stage.instance.config_path())?;
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

// RLIMIT_FSIZE, with its SIGXFSZ.

fn file_size_limited(haproxy: &Haproxy) -> Result<()> {
    let stage = between(haproxy)?;
    let old = stage.instance.pid()?;
    let hareload = stage.hareload().command();
    let mut codes = Vec::new();
    // More each time, so that each of the files is the one that may not grow.
    for limit in [0, 100, 200, 300, 400, 450, 500, 600, 1000, 2000] {
        let mut command = Command::new("/bin/sh");
        // What is printed goes through a pipe, which is no file.
        let script = "{ prlimit --fsize=$1 -- \"$0\" $2; echo code=$?; } 2>&1 | cat";
        let options: Vec<_> = hareload.get_args().map(|word| word.to_string_lossy()).collect();
        command.args(["-c", script, HARELOAD, &limit.to_string(), &options.join(" ")]);
        for (name, value) in hareload.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let printed = process::run(command, DEADLINE)?.stdout;
        let code = printed.lines().find_map(|line| line.strip_prefix("code=")).context("no code")?.to_owned();
        if code == "0" {
            ensure!(!codes.is_empty(), "a limit of 0 went unnoticed: {printed}");
            return stage.expect_serving("g2").with_context(|| format!("limit {limit}: {printed}"));
        }
        ensure!(code == "1" || code == "150", "limit {limit}: {printed}");
        ensure!(
            printed.contains("File too large") || printed.contains("rolled back"),
            "limit {limit}: {printed}"
        );
        untouched(&stage, old).with_context(|| format!("limit {limit}: {printed}"))?;
        codes.push(code);
    }
    Ok(())
}

/// SIGPIPE and SIGXFSZ are not ignored by who is started, whatever hareload and its caller do with them.
fn haproxy_dispositions(haproxy: &Haproxy) -> Result<()> {
    const XFSZ: u64 = 1 << 24;
    const PIPE: u64 = 1 << 12;
    let ignored = |pid: u32| -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).context("no SigIgn")?;
        Ok(u64::from_str_radix(line.trim(), 16)?)
    };
    let stage = between(haproxy)?;
    // HAProxy ignores SIGPIPE itself.
    let by_itself = ignored(stage.instance.pid()?)? & !PIPE;
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "trap '' XFSZ PIPE; exec \"$0\" \"$@\"", HARELOAD])
        .args(stage.hareload().command().get_args());
    command
        .args(["--probe", "exec:grep SigIgn /proc/self/status >own-ignored"])
        .current_dir(stage.instance.dir());
    command.env("HARELOAD_HISTORY_DIR", stage.instance.dir().join("history"));
    process::run(command, DEADLINE)?.expect_code(0)?;
    let text = fs::read_to_string(stage.instance.dir().join("own-ignored"))?;
    let of_probe = u64::from_str_radix(text.trim_start_matches("SigIgn:").trim(), 16)?;
    ensure!(of_probe & (XFSZ | PIPE) == 0, "a probe ignores {of_probe:x}");
    let new = ignored(stage.instance.pid()?)? & !PIPE;
    ensure!(new & XFSZ == 0 && new == by_itself, "HAProxy ignores {new:x} instead of {by_itself:x}");
    Ok(())
}
