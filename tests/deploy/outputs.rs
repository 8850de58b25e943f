//! What pipelines read.

use std::fs;

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::process::RunResult;
use hareload_testkit::serde_json::{self, Value};

use crate::site::Site;

const SECRET: &str = "sesame-open-7";

/// A candidate with a secret in it, and an error if that is wanted; deployed in this form.
fn deployed(site: &Site, marker: &str, form: &str, broken: bool) -> Result<RunResult> {
    let mut config = Config::plain(marker).extra_frontend(&format!("stats auth admin:{SECRET}"));
    if broken {
        config = config.extra_frontend(&format!("stats auht admin:{SECRET}"));
    }
    let candidate = site.candidate(&config)?;
    let command = site.stage.hareload().verb("deploy").arg(&candidate).args(["--output", form]);
    let told = command.env("GITHUB_STEP_SUMMARY", site.checkout("summary.md")).run()?;
    ensure!(told.code == if broken { 6 } else { 0 }, "{told:?}");
    ensure!(!format!("{}{}", told.stdout, told.stderr).contains(SECRET), "a secret: {told:?}");
    Ok(told)
}

/// The line of the error in the candidate.
fn line(site: &Site) -> Result<usize> {
    let text = fs::read_to_string(site.checkout("candidate.cfg"))?;
    Ok(text.lines().position(|line| line.contains("auht")).context("no error")? + 1)
}

pub(crate) fn of_github(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let told = deployed(&site, "g2", "github", true)?;
    let file = site.checkout("candidate.cfg");
    let annotation = format!("::error file={},line={},", file.display(), line(&site)?);
    ensure!(told.stdout.starts_with(&annotation), "no {annotation}: {}", told.stdout);
    let told = deployed(&site, "g2", "github", false)?;
    ensure!(told.stdout.starts_with("::notice title=hareload deploy::deployed"), "{}", told.stdout);
    let summary = fs::read_to_string(site.checkout("summary.md"))?;
    for word in
        ["### ❌ hareload deploy", "### ✅ hareload deploy", "```diff", "+    stats auth ***", "commit: "]
    {
        ensure!(summary.contains(word), "no {word:?}: {summary}");
    }
    ensure!(!summary.contains(SECRET), "a secret: {summary}");
    // One that a handover undoes has no line.
    let candidate = site.candidate(&Config::plain("g3"))?;
    let command = site.stage.hareload().verb("deploy").arg(&candidate);
    let told =
        command.args(["--output", "github", "--probe", "tcp://127.0.0.1:9"]).run()?.expect_code(150)?;
    ensure!(
        told.stdout.contains("::error file=")
            && told.stdout.contains("tcp%3A//") | told.stdout.contains("tcp://"),
        "{}",
        told.stdout
    );
    site.expect_matching("g2")
}

pub(crate) fn of_gitlab_and_junit(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let told = deployed(&site, "g2", "gitlab", true)?;
    let issues: Value = serde_json::from_str(&told.stdout)?;
    let location = &issues[0]["location"];
    ensure!(location["path"] == site.checkout("candidate.cfg").display().to_string().as_str(), "{issues}");
    ensure!(location["lines"]["begin"].as_u64() == Some(line(&site)? as u64), "{issues}");
    let again: Value = serde_json::from_str(&deployed(&site, "g2", "gitlab", true)?.stdout)?;
    ensure!(again[0]["fingerprint"] == issues[0]["fingerprint"], "it is another one: {again}");
    let told = deployed(&site, "g2", "junit", true)?;
    ensure!(
        told.stdout.contains("<failure message=") && told.stdout.contains("failures=\"2\""),
        "{}",
        told.stdout
    );
    let told = deployed(&site, "g2", "junit", false)?;
    ensure!(told.stdout.contains("failures=\"0\"") && told.stderr.contains("deployed"), "{told:?}");
    let told = deployed(&site, "g3", "gitlab", false)?;
    ensure!(told.stdout.trim() == "[]", "{told:?}");
    // A command that has none of these says so.
    site.stage
        .hareload()
        .verb("status")
        .args(["--output", "junit"])
        .run()?
        .expect_said(&["deploy, rollback, check"])?;
    site.stage.hareload().verb("status").env("HARELOAD_OUTPUT", "junit").run()?.expect_code(0)?;
    site.expect_matching("g3")
}
