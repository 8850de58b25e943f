//! The ready-made steps, here and over ssh, with a candidate that is good and with one that is not, and with inputs that a shell
//! would take for its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::process::{self, RunResult};
use hareload_testkit::serde_json::{self, Value};
use hareload_testkit::tempfile::NamedTempFile;

use crate::REPOSITORY;
use crate::house::DEADLINE;
use crate::pipeline::Pipeline;

const ACTION: &str = "packaging/ci/github/deploy.sh";

/// Here, and over ssh.
const HOSTS: [&str; 2] = ["", "root@lb1.example.com"];

/// Probes that work, if each is one word for hareload; and nothing else is run.
const PROBES: &str = "http://127.0.0.1:8080/=200\nexec:test 'a  b' = \"a  b\"\n";

/// One word, and an option that needs it.
const EXTRA: &str = "--if-changed\n--trial\n1ms\n";

/// What the job's variables are, whoever runs it.
fn variables<'a>(prefix: &str, host: &'a str, expected: &'a str) -> Vec<(String, &'a str)> {
    let of = [
        ("CANDIDATE", "haproxy"),
        ("HOST", host),
        ("CONFIG", "/etc/haproxy/haproxy.cfg"),
        ("PROBATION", "100ms"),
        ("PROBES", PROBES),
        ("EXPECT_HASH", expected),
        ("EXTRA", EXTRA),
    ];
    of.map(|(name, value)| (format!("{prefix}{name}"), value)).to_vec()
}

/// The same with the file alone.
fn of_the_file(mut variables: Vec<(String, &str)>) -> Vec<(String, &str)> {
    let candidate = variables.iter_mut().find(|(name, _)| name.ends_with("CANDIDATE"));
    candidate.into_iter().for_each(|(_, value)| *value = "haproxy/haproxy.cfg");
    variables
}

fn file(name: &str) -> Result<String> {
    let path = Path::new(REPOSITORY).join(name);
    fs::read_to_string(&path).with_context(|| format!("{}", path.display()))
}

/// The script of GitLab's job.
fn of_template() -> Result<String> {
    let text = file("packaging/ci/gitlab/hareload.gitlab-ci.yml")?;
    let (_, script) = text.split_once("  script:\n    - |\n").context("no script")?;
    let lines = script.lines().take_while(|line| line.is_empty() || line.starts_with("      "));
    Ok(lines.map(|line| line.strip_prefix("      ").unwrap_or(line)).collect::<Vec<_>>().join("\n"))
}

/// As the shell of Debian and of Alpine have it.
pub(crate) fn are_posix() -> Result<()> {
    for text in [file(ACTION)?, of_template()?] {
        let draft = NamedTempFile::new()?;
        fs::write(draft.path(), text)?;
        let mut command = Command::new("sh");
        command.arg("-n").arg(draft.path());
        process::run(command, DEADLINE)?.expect_code(0)?;
    }
    let action = file("packaging/ci/github/action.yml")?;
    let (_, run) = action.split_once("      run: ").context("no run")?;
    ensure!(!run.contains("${{"), "an input becomes part of a script: {run}");
    Ok(())
}

pub(crate) fn of_github(pipeline: &Pipeline) -> Result<()> {
    let script = file(ACTION)?;
    fs::write(pipeline.path("deploy.sh"), script)?;
    for host in HOSTS {
        let run = |variables: Vec<(String, &str)>| -> Result<(RunResult, String)> {
            let _ = fs::remove_file(pipeline.path("summary"));
            let _ = fs::remove_file(pipeline.path("output"));
            let mut all = variables;
            all.extend(
                [
                    ("GITHUB_STEP_SUMMARY", "summary"),
                    ("GITHUB_OUTPUT", "output"),
                    ("GITHUB_ACTOR", "al 'ice"),
                ]
                .map(|(name, value)| (name.to_owned(), value)),
            );
            let all: Vec<_> = all.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            let told = pipeline.shell_with(&all, "exec sh deploy.sh")?;
            let summary = fs::read_to_string(pipeline.path("summary")).unwrap_or_default();
            let output = fs::read_to_string(pipeline.path("output"))?;
            ensure!(output == format!("exit-code={}\n", told.code), "{output}, {told:?}");
            Ok((told, summary))
        };
        let marker = if host.is_empty() { "second" } else { "third" };
        pipeline.commit(marker, "")?;
        let (told, summary) = run(variables("", host, ""))?;
        told.expect_code(0)?;
        ensure!(!summary.is_empty() && !summary.contains("hareload-summary"), "{host}: {summary}");
        pipeline.serves(marker)?;
        let (told, _) = run(variables("", host, "0123456789ab; touch pwned"))?;
        ensure!(matches!(told.code, 2 | 155), "{told:?}");
        pipeline.commit("broken", "binnd")?;
        for variables in [variables("", host, ""), of_the_file(variables("", host, ""))] {
            let (told, summary) = run(variables)?;
            let told = told.expect_code(6)?;
            let annotated =
                |line: &str| line.starts_with("::error ") && line.contains("file=haproxy/haproxy.cfg,");
            ensure!(told.stdout.lines().any(annotated) && !summary.is_empty(), "{host}: {told:?}");
            pipeline.serves(marker)?;
        }
    }
    let told = pipeline.shell("hareload history --configurations")?.expect_code(0)?.stdout;
    ensure!(
        told.contains("by al 'ice,")
            && !pipeline.path("pwned").exists()
            && !pipeline.path("../pwned").exists(),
        "{told}"
    );
    Ok(())
}

pub(crate) fn of_gitlab(pipeline: &Pipeline) -> Result<()> {
    fs::write(pipeline.path("job.sh"), of_template()?)?;
    for host in HOSTS {
        let run = |dry_run| -> Result<(RunResult, Value, Option<String>)> {
            let _ = fs::remove_file(pipeline.path("hareload.xml"));
            let mut all = match host {
                "" => variables("DEPLOY_", host, ""),
                _ => of_the_file(variables("DEPLOY_", host, "")),
            };
            all.push(("DEPLOY_DRY_RUN".to_owned(), dry_run));
            let all: Vec<_> = all.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            let told = pipeline.shell_with(&all, "exec sh job.sh")?;
            let report: Value =
                serde_json::from_str(&fs::read_to_string(pipeline.path("gl-code-quality-report.json"))?)?;
            Ok((told, report, fs::read_to_string(pipeline.path("hareload.xml")).ok()))
        };
        let (before, marker) = if host.is_empty() { ("first", "second") } else { ("second", "third") };
        pipeline.commit(marker, "")?;
        let (told, _, tests) = run("yes")?;
        told.expect_code(0)?;
        ensure!(tests.is_none(), "{tests:?}");
        pipeline.serves(before)?;
        let (told, report, tests) = run("")?;
        told.expect_code(0)?;
        ensure!(report.is_array() && tests.is_some_and(|tests| tests.contains("<testsuite")), "{report}");
        pipeline.serves(marker)?;
        pipeline.commit("broken", "binnd")?;
        let (told, report, tests) = run("")?;
        told.expect_code(6)?;
        let path = report[0]["location"]["path"].as_str();
        ensure!(path == Some("haproxy/haproxy.cfg") && tests.is_none(), "{host}: {report}");
        pipeline.serves(marker)?;
    }
    Ok(())
}
