//! What pipelines read.

use std::fs;
use std::path::Path;

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::hareload::Hareload;
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
    // One that HAProxy finds once all is read, and tells without a line.
    let candidate = site.candidate(&Config::plain("g2").extra_frontend("use_backend nowhere if TRUE"))?;
    let text = fs::read_to_string(&candidate)?;
    let line = text.lines().position(|line| line.contains("nowhere")).context("no error")? + 1;
    let told = site.stage.hareload().verb("deploy").arg(&candidate).args(["--output", "github"]).run()?;
    let annotation = format!("::error file={},line={line},", file.display());
    ensure!(told.code == 6 && told.stdout.contains(&annotation), "no {annotation}: {told:?}");
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

/// Every form that a deploy is told in.
const FORMS: [&str; 5] = ["human", "json", "github", "gitlab", "junit"];

/// Runs it; nothing that it says has the secret.
fn quiet(command: &Hareload, code: i32) -> Result<RunResult> {
    let told = command.run()?;
    ensure!(!format!("{}{}", told.stdout, told.stderr).contains(SECRET), "a secret: {told:?}");
    told.expect_code(code)
}

/// No file in it, at whatever depth, has the secret.
fn expect_none_in(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            expect_none_in(&path)?;
        } else if path.is_file() {
            let text = fs::read(&path)?;
            let held = text.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
            ensure!(!held, "a secret in {}: {}", path.display(), String::from_utf8_lossy(&text));
        }
    }
    Ok(())
}

/// Whatever is remembered is told without the secret, and holds none.
fn expect_forgotten(site: &Site) -> Result<()> {
    for options in [["-v", "-n9"], ["-c", "-n9"]] {
        for form in ["human", "json"] {
            let history = site.stage.hareload().verb("history").args(options).args(["--output", form]);
            quiet(&history, 0)?;
        }
    }
    expect_none_in(&site.stage.instance.state_dir())?;
    expect_none_in(&site.history(""))
}

pub(crate) fn without_the_secrets_of_probes(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let candidate = site.candidate(&Config::plain("g2"))?;
    let address = site.stage.instance.address()?;
    let failing = [
        (format!("http://{address}/?token={SECRET}&a={SECRET}=404"), "?token=***&a=***"),
        (format!("exec:FOO_TOKEN={SECRET}; echo it was $FOO_TOKEN; exit 3"), "exec:FOO_TOKEN=***"),
        (format!("exec:curl -u me:{SECRET} file:///nowhere; false"), "exec:curl -u ***"),
    ];
    for form in FORMS {
        for (probe, told) in &failing {
            let deploy = site.stage.hareload().verb("deploy").arg(&candidate).args(["--output", form, "-v"]);
            let deploy =
                deploy.args(["--probe", probe]).env("GITHUB_STEP_SUMMARY", site.checkout("summary.md"));
            let result = quiet(&deploy, 150)?;
            let all = format!("{}{}", result.stdout, result.stderr).replace("%3D", "=");
            ensure!(all.contains(told), "no {told}: {result:?}");
        }
    }
    let summary = fs::read_to_string(site.checkout("summary.md"))?;
    ensure!(!summary.contains(SECRET), "a secret: {summary}");
    expect_forgotten(&site)?;
    // One that passes is told too.
    let passing = format!("http://{address}/?token={SECRET}=200");
    let deploy = site.deploy(&candidate).args(["--probe", &passing, "--probation", "1s"]);
    quiet(&deploy, 0)?;
    quiet(&site.stage.hareload().arg("-v").args(["--probe", &passing]), 0)?;
    expect_forgotten(&site)?;
    // And what makes no sense, wherever it was written.
    let wrong = format!("http://me:{SECRET}@127.0.0.1/");
    for verb in ["deploy", "reload", "start", "settings", "notify"] {
        quiet(&site.stage.hareload().verb(verb).args(["--probe", &wrong]), 2)?.expect_said(&["me:***@"])?;
    }
    quiet(&site.stage.hareload().arg(&wrong), 2)?;
    let settings = site.checkout("hareload.toml");
    for (line, code) in [
        (format!("probe = [\"{wrong}\"]"), 2),
        (format!("probe = \"{wrong}\""), 2),
        (format!("prob = [\"{wrong}\"]"), 2),
        (format!("probe = [\"{wrong}"), 2),
        (format!("probe = [\"{passing}\", \"exec:A_KEY={SECRET} x\"]"), 0),
    ] {
        fs::write(&settings, format!("{line}\n"))?;
        for form in ["human", "json"] {
            let told = site.stage.hareload().verb("settings").args(["--output", form]).arg("--settings");
            quiet(&told.arg(&settings), code)?;
        }
        quiet(&site.stage.hareload().verb("status").arg("--settings").arg(&settings), 0)?;
    }
    site.expect_matching("g2")
}

pub(crate) fn without_the_secrets_that_haproxy_quotes(haproxy: &Haproxy) -> Result<()> {
    let mut site = Site::new(haproxy)?;
    for wrong in [
        format!("userlist u\n  user a insecure-password \\\n    {SECRET}\n"),
        format!("userlist u\n  user a insecure-password x {SECRET} groups g\n"),
        format!("userlist u\n  user a insecure-password \"x {SECRET}\n"),
        format!("userlist u\n  insecure-password {SECRET}\n"),
        format!(
            "listen s\n  mode http\n  stats auth a:{SECRET} {SECRET}\n  stats auht a:{SECRET} {SECRET}\n"
        ),
    ] {
        let broken = Config::plain("g2").append(&wrong);
        let candidate = site.candidate(&broken)?;
        for form in FORMS {
            let deploy =
                site.stage.hareload().verb("deploy").arg(&candidate).args(["--output", form, "--diff"]);
            quiet(&deploy, 6)?;
        }
        for form in ["human", "json"] {
            let check = site.stage.hareload().verb("check").args(["--output", form]);
            site.stage.instance.write_config(broken.clone())?;
            quiet(&check, 6)?;
            quiet(&site.stage.hareload().args(["-v", "--output", form]), 6)?;
            site.stage.instance.write_config(Config::plain("g1"))?;
        }
        expect_none_in(&site.history(""))?;
        expect_none_in(&site.stage.instance.state_dir())?;
    }
    site.expect_matching("g1")
}
