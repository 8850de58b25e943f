//! `hareload doctor`: what it finds on hosts that were spoilt in one way or another, with real HAProxies; that it touches
//! nothing unless it is asked to; and that what it mends is mended.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context, Result, bail, ensure};
use hareload_testkit::caps::Caps;
use hareload_testkit::config::{Admin, Config};
use hareload_testkit::haproxies::{self, BRANCHES, Haproxy};
use hareload_testkit::hareload::Hareload;
use hareload_testkit::libtest_mimic::{self, Arguments};
use hareload_testkit::process::{self, RunResult, Running};
use hareload_testkit::serde_json::{self, Value, json};
use hareload_testkit::stage::Stage;
use hareload_testkit::tempfile::TempDir;
use hareload_testkit::waiting::until;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when anything that a test waits for has happened.
const DEADLINE: Duration = Duration::from_secs(20);

/// The user who may nothing; setpriv(1).
const NOBODY: [&str; 5] = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];

type Test = fn(&Haproxy) -> Result<()>;

const TESTS: [(&str, Test); 21] = [
    ("a_sound_host_has_notes_only", sound),
    ("the_last_lines_are_those_of_a_dry_run", human),
    ("nothing_is_touched_where_nothing_is_to_be_mended", fix_of_nothing),
    ("a_pidfile_that_names_nobody_is_told_and_mended", stale_pidfile),
    ("a_pidfile_that_names_another_haproxy_is_left", other_pidfile),
    ("a_master_is_told_with_what_to_do", master),
    ("an_admin_socket_that_exposes_nothing_is_told", unexposed),
    ("an_admin_socket_that_leads_nowhere_is_bound_anew", dead_admin),
    ("abstract_sockets_matter_before_2_8", abns),
    ("noreuseport_leaves_a_pause", noreuseport),
    ("listeners_are_told_by_their_lines", lines),
    ("a_paused_one_is_told_and_resumed", paused),
    ("a_stopped_one_is_told_and_left", stopped_by_a_signal),
    ("what_a_killed_hareload_leaves_is_told_and_mended", interrupted),
    ("others_are_told_what_they_may_not_see", nobody),
    ("one_that_does_not_run_is_told", not_running),
    ("a_broken_configuration_is_told", broken),
    ("an_upgrade_is_told", upgrade),
    ("a_state_directory_of_everybody_is_told", state_directory),
    ("one_in_another_network_namespace_is_told", elsewhere),
    ("systemd_is_asked_and_not_waited_for", systemd),
];

fn main() -> ExitCode {
    let caps = Caps::find();
    let mut trials = Vec::new();
    for branch in BRANCHES {
        trials.extend(TESTS.map(|(name, test)| caps.on_branch(branch, name, test)));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn config(marker: &str) -> Config {
    Config::new().frontend(8080).marker(marker)
}

/// Every file in a directory and in those in it.
fn names(dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        found.push(path.display().to_string());
        if path.is_dir() {
            found.extend(names(&path)?);
        }
    }
    found.sort();
    Ok(found)
}

/// The exit code that the worst of the findings asks for.
fn code_of(told: &Value) -> i32 {
    let has = |level| levels(told).iter().any(|(one, ..)| one == level);
    if has("error") {
        20
    } else if has("warning") {
        10
    } else {
        0
    }
}

/// Level, area and code of each finding.
fn levels(told: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = told["findings"].as_array().into_iter().flatten();
    findings.map(|one| (text(&one["level"]), text(&one["area"]), text(&one["code"]))).collect()
}

fn of_result(result: &RunResult) -> Result<Value> {
    let told: Value = serde_json::from_str(&result.stdout)
        .with_context(|| format!("{}{}", result.stdout, result.stderr))?;
    ensure!(told["schema"] == "hareload.doctor/1", "{told}");
    ensure!(result.code == code_of(&told) && told["exit_code"] == result.code, "{}: {told}", result.code);
    ensure!(result.stderr.is_empty(), "{}", result.stderr);
    let levels: Vec<_> = levels(&told).into_iter().map(|(level, ..)| level).collect();
    let rank = |level: &String| ["error", "warning", "note"].iter().position(|one| one == level);
    ensure!(levels.is_sorted_by_key(rank), "{levels:?}");
    Ok(told)
}

/// What it says, which is the same in both forms, while nothing is touched.
fn doctor_with(stage: &Stage, args: &[&str]) -> Result<Value> {
    let before = names(stage.instance.dir())?;
    let told = of_result(&stage.json().verb("doctor").args(args).run()?)?;
    let code = code_of(&told);
    let human = stage.hareload().verb("doctor").args(args).run()?.expect_code(code)?;
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = plain(&human.stdout);
    for one in told["findings"].as_array().into_iter().flatten() {
        let message = one["message"].as_str().unwrap_or_default();
        // Memory, and who runs elsewhere, may have changed meanwhile.
        let passing = ["memory", "other-network"].iter().any(|code| one["code"] == *code);
        ensure!(shown.contains(&plain(message)) || passing, "{message}\n{}", human.stdout);
    }
    let quiet = stage.hareload().verb("doctor").args(args).arg("-q").run()?.expect_code(code)?;
    ensure!(quiet.stdout.is_empty() && quiet.stderr.is_empty(), "{}{}", quiet.stdout, quiet.stderr);
    ensure!(names(stage.instance.dir())? == before, "it has made or removed something");
    Ok(told)
}

fn doctor(stage: &Stage) -> Result<Value> {
    doctor_with(stage, &[])
}

/// What `--fix` has mended, and what is true then.
fn fix(stage: &Stage) -> Result<(Vec<String>, Value)> {
    let told = of_result(&stage.json().verb("doctor").arg("--fix").run()?)?;
    let fixed = told["fixed"].as_array().into_iter().flatten();
    let fixed = fixed.map(|one| one.as_str().unwrap_or_default().to_owned()).collect();
    ensure!(told["not_fixed"].as_array().is_some_and(Vec::is_empty), "{told}");
    Ok((fixed, told))
}

fn finding<'a>(told: &'a Value, code: &str) -> Option<&'a Value> {
    told["findings"].as_array()?.iter().find(|one| one["code"] == code)
}

/// There is such a finding, of this level.
fn expect<'a>(told: &'a Value, level: &str, code: &str) -> Result<&'a Value> {
    match finding(told, code) {
        Some(found) if found["level"] == level => Ok(found),
        Some(found) => bail!("{code} is no {level}: {found}"),
        None => bail!("no {code} in {told}"),
    }
}

/// Nothing worse than a note, but what the machine that the test runs on has of its own: who manages what, and limits.
fn expect_sound(told: &Value) -> Result<()> {
    let own = |area: &String| ["manager", "limits"].contains(&area.as_str());
    let worse: Vec<_> =
        levels(told).into_iter().filter(|(level, area, _)| level != "note" && !own(area)).collect();
    ensure!(worse.is_empty(), "{worse:?} {told}");
    Ok(())
}

/// What a reload would do is what `--dry-run` says.
fn expect_same_way(stage: &Stage, told: &Value) -> Result<()> {
    let dry = stage.json().arg("--dry-run").run()?;
    let dry: Value = serde_json::from_str(&dry.stdout)?;
    ensure!(dry["would"].is_object() && told["reload"] == dry["would"], "{}\n{}", told["reload"], dry);
    Ok(())
}

fn sound(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
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
    stage.instance.write_config(config("g2"))?;
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
    let stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    let dry = stage.hareload().arg("--dry-run").run()?.expect_code(0)?.stdout;
    let told = stage.hareload().verb("doctor").run()?;
    ensure!(told.stdout.ends_with(&format!("\nreload {dry}")), "{}\n{dry}", told.stdout);
    ensure!(told.stderr.is_empty(), "{}", told.stderr);
    Ok(())
}

fn fix_of_nothing(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    let pid = stage.instance.pid()?;
    let before = names(stage.instance.dir())?;
    let (fixed, told) = fix(&stage)?;
    ensure!(fixed.is_empty(), "{fixed:?}");
    expect_sound(&told)?;
    ensure!(names(stage.instance.dir())? == before, "it has made or removed something");
    ensure!(stage.instance.pid()? == pid);
    stage.expect_serving("g1")
}

fn stale_pidfile(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    let (pid, pidfile) = (stage.instance.pid()?, stage.instance.pidfile_path());
    let gone = Running::start(Command::new("true"))?;
    let dead = gone.pid();
    gone.wait(DEADLINE)?;
    let stranger = std::process::id();
    for (text, code, said) in [
        (Some(format!("{dead}\n")), "pidfile-false", "which is gone"),
        (Some(String::new()), "pidfile-false", "empty"),
        (Some(format!("{stranger}\n")), "pidfile-false", "not HAProxy"),
        (None, "pidfile-missing", "missing"),
    ] {
        match &text {
            Some(text) => fs::write(&pidfile, text)?,
            None => fs::remove_file(&pidfile)?,
        }
        let told = doctor(&stage)?;
        let found = expect(&told, "warning", code)?;
        ensure!(found["fixable"] == true, "{found}");
        ensure!(found["message"].as_str().is_some_and(|what| what.contains(said)), "{said}: {found}");
        ensure!(told["pids"] == json!([pid]), "{told}");
        expect_same_way(&stage, &told)?;
        let (fixed, told) = fix(&stage)?;
        ensure!(fixed.len() == 1 && fixed[0].contains("was written anew"), "{fixed:?}");
        ensure!(finding(&told, code).is_none(), "{told}");
        ensure!(stage.instance.pidfile()? == [pid]);
    }
    stage.expect_serving("g1")?;
    stage.expect_tidy()
}

fn other_pidfile(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    let other = Stage::start(HARELOAD, haproxy, Config::new().frontend(8081).marker("o1"))?;
    let named = other.instance.pid()?;
    fs::write(stage.instance.pidfile_path(), format!("{named}\n"))?;
    let told = doctor(&stage)?;
    let found = expect(&told, "warning", "pidfile-false")?;
    ensure!(found["fixable"] == false && found["message"].to_string().contains("another HAProxy"), "{found}");
    let (fixed, _) = fix(&stage)?;
    ensure!(fixed.is_empty() && stage.instance.pidfile()? == [named], "{fixed:?}");
    Ok(())
}

fn master(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    stage.instance.kill_all()?;
    stage.instance.run_haproxy(&["-W".to_owned()])?.expect_code(0)?;
    until(DEADLINE, "master and worker to be there", || {
        let told = doctor(&stage).ok()?;
        (told["pids"].as_array().is_some_and(|pids| pids.len() == 2)).then_some(())
    })?;
    let told = doctor(&stage)?;
    let found = expect(&told, "error", "master-worker")?;
    ensure!(found["area"] == "manager", "{found}");
    ensure!(found["mend"].as_str().is_some_and(|mend| mend.contains("SIGUSR2")), "{found}");
    ensure!(found["message"].to_string().contains(&stage.instance.pid()?.to_string()), "{found}");
    ensure!(told["reload"].is_null() && told["refused"].to_string().contains("master-worker"), "{told}");
    let worker = finding(&told, "worker-takes-all-down").is_some();
    ensure!(worker != haproxy.version.at_least(3, 1), "{told}");
    let (fixed, _) = fix(&stage)?;
    ensure!(fixed.is_empty(), "{fixed:?}");
    Ok(())
}

fn unexposed(haproxy: &Haproxy) -> Result<()> {
    for (admin, code) in [(Admin::Plain, "not-exposed"), (Admin::None, "no-admin-socket")] {
        let stage = Stage::start(HARELOAD, haproxy, config("g1").admin(admin))?;
        let told = doctor(&stage)?;
        let found = expect(&told, "note", code)?;
        ensure!(found["area"] == "admin-socket", "{found}");
        ensure!(found["mend"].as_str().is_some_and(|mend| mend.contains("expose-fd listeners")), "{found}");
        if admin == Admin::Plain {
            let line = fs::read_to_string(stage.instance.config_path())?;
            let line = line.lines().position(|line| line.contains("stats socket")).context("no line")?;
            ensure!(found["line"] == json!(line + 1), "{found}");
        }
        ensure!(told["reload"]["ways"][0]["reason"] == "sockets borrowed from the running process", "{told}");
        expect_same_way(&stage, &told)?;
        stage.instance.kill_all()?;
    }
    Ok(())
}

fn dead_admin(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    let path = stage.instance.admin_socket();
    fs::remove_file(&path)?;
    // As after a start that failed: somebody else's socket, and nobody behind it.
    drop(std::os::unix::net::UnixListener::bind(&path)?);
    let told = doctor(&stage)?;
    expect(&told, "warning", "admin-dead")?;
    // What it says mends it.
    stage.hareload().args(["--handover", "overlap"]).run()?.expect_code(0)?;
    let told = doctor(&stage)?;
    ensure!(finding(&told, "admin-dead").is_none(), "{told}");
    stage.expect_admin()
}

fn abns(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, config("g1").extra_frontend("bind abns@hareload-doctor"))?;
    let told = doctor(&stage)?;
    expect_sound(&told)?;
    if haproxy.version.at_least(2, 8) {
        ensure!(finding(&told, "abns").is_none() && finding(&told, "pause-breaks-abns").is_none(), "{told}");
        return Ok(());
    }
    let found = expect(&told, "note", "abns")?;
    ensure!(found["area"] == "listeners" && found["line"].is_u64(), "{found}");
    expect(&told, "note", "pause-breaks-abns")?;
    let told = doctor_with(&stage, &["--handover", "trial"])?;
    expect(&told, "error", "way-not-possible")?;
    expect(&told, "warning", "abns")?;
    stage.hareload().args(["--handover", "trial"]).run()?.expect_code(3)?;
    Ok(())
}

fn noreuseport(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, config("g1").noreuseport())?;
    let told = doctor(&stage)?;
    expect_sound(&told)?;
    let found = expect(&told, "note", "noreuseport")?;
    ensure!(
        found["line"].is_u64() && found["mend"] == "remove it; it is meant for a kernel before 3.9",
        "{found}"
    );
    let told = doctor_with(&stage, &["--handover", "pause"])?;
    expect(&told, "warning", "noreuseport")?;
    // The configuration has lost it, the sockets have not.
    let text = fs::read_to_string(stage.instance.config_path())?;
    stage.instance.write_config_text(&text.replace("noreuseport", ""))?;
    let told = doctor(&stage)?;
    let found = expect(&told, "note", "noreuseport")?;
    ensure!(found["message"].to_string().contains("127.0.0.1:8080"), "{found}");
    Ok(())
}

/// Lines that are added to the configuration of one that runs.
fn lines(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    let text = fs::read_to_string(stage.instance.config_path())?;
    let added = "    bind fd@9\n    bind ::1:8081\n    bind ::1:8082 v6only\n    bind quic4@127.0.0.1:8443 ssl crt x quic-socket listener\n    \
                 bind 127.0.0.1:8083 namespace blue\n";
    let with = text.replacen("frontend test\n", &format!("frontend test\n{added}"), 1);
    stage.instance.write_config_text(&with)?;
    let told = doctor(&stage)?;
    let first = with.lines().position(|line| line.contains("fd@9")).context("no line")? + 1;
    let specific = haproxy.version.at_least(2, 3);
    for (level, code, line) in [
        ("error", "inherited", 0),
        ("warning", "specific-ipv6", 1),
        ("warning", "quic-shared", 3),
        ("warning", "namespace", 4),
    ] {
        if code == "specific-ipv6" && !specific {
            ensure!(finding(&told, code).is_none(), "{told}");
            continue;
        }
        let found = expect(&told, level, code)?;
        ensure!(found["area"] == "listeners" && found["line"] == json!(first + line), "{first}: {found}");
    }
    let ipv6 = levels(&told).into_iter().filter(|(_, _, code)| code == "specific-ipv6").count();
    ensure!(ipv6 == usize::from(specific), "{told}");
    // What it says mends it.
    let mended = text.replacen("frontend test\n", "frontend test\n    bind ::1:8081 v6only\n", 1);
    stage.instance.write_config_text(&mended)?;
    expect_sound(&doctor(&stage)?)
}

fn paused(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    let pid = stage.instance.pid()?;
    stage.instance.signal(pid, Signal::TTOU)?;
    let told = until(DEADLINE, "the pause to be seen", || {
        doctor(&stage).ok().filter(|told| finding(told, "paused").is_some())
    })?;
    let found = expect(&told, "error", "paused")?;
    ensure!(found["fixable"] == true && told["pids"] == json!([pid]), "{told}");
    ensure!(told["reload"]["ways"] == json!([]), "{told}");
    let (fixed, told) = fix(&stage)?;
    ensure!(fixed == [format!("resumed pid {pid}, which listens again")], "{fixed:?}");
    expect_sound(&told)?;
    ensure!(stage.instance.pid()? == pid);
    stage.expect_serving("g1")?;
    stage.expect_tidy()
}

fn stopped_by_a_signal(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    let pid = stage.instance.pid()?;
    stage.instance.signal(pid, Signal::STOP)?;
    let stat = format!("/proc/{pid}/stat");
    until(DEADLINE, "it to be stopped", || {
        fs::read_to_string(&stat).ok().filter(|stat| stat.contains(") T ")).map(drop)
    })?;
    let told = doctor(&stage)?;
    let found = expect(&told, "warning", "stopped")?;
    ensure!(found["mend"] == format!("kill -CONT {pid}") && found["fixable"] == false, "{found}");
    let (fixed, _) = fix(&stage)?;
    ensure!(fixed.is_empty() && fs::read_to_string(&stat)?.contains(") T "), "{fixed:?}");
    stage.instance.signal(pid, Signal::CONT)?;
    stage.expect_serving("g1")
}

fn interrupted(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    let old = stage.instance.pid()?;
    stage.instance.write_config(config("g2"))?;
    // Longer than the test lasts.
    let running: Running = stage.hareload().args(["--trial", "10m"]).spawn()?;
    // It is proving, and everybody who looks sees that.
    until(DEADLINE, "the handover to be under way", || {
        let told = stage.json().verb("doctor").run().ok()?;
        let told: Value = serde_json::from_str(&told.stdout).ok()?;
        let proving =
            stage.instance.haproxies().len() == 2 && stage.instance.state_dir().join("gen-1.sock").exists();
        finding(&told, "under-way").filter(|_| proving).map(drop)
    })?;
    let told = doctor(&stage)?;
    ensure!(finding(&told, "interrupted").is_none(), "{told}");
    until(DEADLINE, "every hareload to be killed", || {
        let ours: Vec<_> =
            stage.instance.processes().into_iter().filter(|process| process.is("hareload")).collect();
        for process in &ours {
            let _ = stage.instance.signal(process.pid, Signal::KILL);
        }
        ours.is_empty().then_some(())
    })?;
    drop(running);
    let told = doctor(&stage)?;
    let found = expect(&told, "warning", "interrupted")?;
    ensure!(found["fixable"] == true && found["mend"] == "hareload recover", "{found}");
    // Files of a generation that is long dead.
    fs::write(stage.instance.state_dir().join("gen-90.cfg"), "global\n")?;
    let told = doctor(&stage)?;
    expect(&told, "note", "files")?;
    let (fixed, told) = fix(&stage)?;
    ensure!(
        fixed.iter().any(|one| one.contains("recovered the interrupted handover to generation 1")),
        "{fixed:?}"
    );
    ensure!(
        fixed.iter().any(|one| one.contains("removed the files of generation") && one.contains("90")),
        "{fixed:?}"
    );
    for code in ["interrupted", "files"] {
        ensure!(finding(&told, code).is_none(), "{told}");
    }
    ensure!(stage.instance.pid()? == old);
    stage.expect_serving("g1")?;
    stage.expect_tidy()?;
    let history = stage.json().verb("history").run()?.expect_code(0)?.stdout;
    ensure!(history.lines().last().is_some_and(|line| line.contains("\"recover\"")), "{history}");
    Ok(())
}

fn nobody(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    stage.instance.write_config(config("g2"))?;
    stage.hareload().run()?.expect_code(0)?;
    stage.instance.wait_only(&[stage.instance.pid()?], DEADLINE)?;
    let room = TempDir::new()?;
    fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755))?;
    let program = room.path().join("hareload");
    fs::copy(HARELOAD, &program)?;
    let before = names(stage.instance.dir())?;
    let run = |more: &[&str]| -> Result<Value> {
        let command = stage.json().verb("doctor").args(more).command();
        let mut nobody = Command::new("setpriv");
        nobody.args(NOBODY).arg(&program).args(command.get_args()).current_dir("/");
        nobody
            .env("HARELOAD_HISTORY_DIR", stage.instance.dir().join("history"))
            .env("HARELOAD_OUTPUT", "json");
        of_result(&process::run(nobody, DEADLINE)?)
    };
    let told = run(&[])?;
    let found = expect(&told, "error", "hidden")?;
    ensure!(found["area"] == "privileges" && told["exit_code"] == 20, "{told}");
    ensure!(told["reload"].is_null() && told["refused"].is_string(), "{told}");
    ensure!(told["hidden"].as_array().is_some_and(|hidden| hidden.len() >= 2), "{told}");
    ensure!(!levels(&told).iter().any(|(_, area, _)| area == "configuration"), "{told}");
    expect(&told, "error", "state-directory")?;
    run(&["--fix"])?;
    // Without a pidfile too.
    let pidfile = fs::read(stage.instance.pidfile_path())?;
    fs::remove_file(stage.instance.pidfile_path())?;
    expect(&run(&[])?, "error", "hidden")?;
    fs::write(stage.instance.pidfile_path(), pidfile)?;
    ensure!(names(stage.instance.dir())? == before, "it has made something");
    stage.expect_serving("g2")
}

fn not_running(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    stage.instance.kill_all()?;
    let told = doctor(&stage)?;
    let found = expect(&told, "error", "not-running")?;
    ensure!(found["mend"] == "hareload start" && told["pids"] == json!([]), "{told}");
    ensure!(told["running"].is_null() && told["version"].is_string() && told["reload"].is_null(), "{told}");
    let others: Vec<_> = levels(&told)
        .into_iter()
        .filter(|(level, area, _)| level != "note" && !["manager", "process"].contains(&area.as_str()))
        .collect();
    ensure!(others.is_empty(), "{others:?}");
    // What would keep it from starting is told too, and nothing is started.
    let text = fs::read_to_string(stage.instance.config_path())?;
    stage.instance.write_config_text(&text.replacen("global\n", "global\n    chroot /nonexistent\n", 1))?;
    expect(&doctor(&stage)?, "error", "chroot-missing")?;
    let (fixed, _) = fix(&stage)?;
    ensure!(fixed.is_empty() && stage.instance.haproxies().is_empty(), "{fixed:?}");
    // Nor is what mends it anything but the truth.
    stage.instance.write_config_text(&text)?;
    stage.hareload().verb("start").run()?.expect_code(0)?;
    stage.expect_serving("g1")
}

fn broken(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    let text = fs::read_to_string(stage.instance.config_path())?;
    stage.instance.write_config_text(&text.replace("bind 127.0.0.1:8080", "binnd 127.0.0.1:8080"))?;
    let told = doctor(&stage)?;
    let found = expect(&told, "error", "syntax")?;
    ensure!(found["area"] == "configuration" && found["text"].to_string().contains("binnd"), "{found}");
    stage.instance.write_config_text(&text.replacen("global\n", "global\n    chroot /nonexistent\n", 1))?;
    expect(&doctor(&stage)?, "error", "chroot-missing")?;
    stage.hareload().run()?.expect_code(150)?;
    stage.instance.write_config_text(&text.replacen("global\n", "global\n    master-worker\n", 1))?;
    let told = doctor(&stage)?;
    expect(&told, "error", "unsupported")?;
    stage.hareload().run()?.expect_code(3)?;
    fs::remove_file(stage.instance.config_path())?;
    let told = doctor(&stage)?;
    expect(&told, "error", "unreadable")?;
    stage.hareload().run()?.expect_code(6)?;
    stage.expect_serving("g1")
}

fn upgrade(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    let other = BRANCHES.into_iter().filter_map(|(major, minor)| haproxies::of_branch(major, minor));
    let other = other.into_iter().find(|other| other.version != haproxy.version);
    let Some(other) = other else { return Ok(()) };
    stage.instance.set_haproxy(&other);
    let told = doctor(&stage)?;
    expect_sound(&told)?;
    expect(&told, "note", "version-changes")?;
    ensure!(
        told["running"].as_str().is_some_and(|said| said.starts_with(&haproxy.version.to_string())),
        "{told}"
    );
    ensure!(
        told["version"].as_str().is_some_and(|said| said.starts_with(&other.version.to_string())),
        "{told}"
    );
    Ok(())
}

fn state_directory(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    let state = stage.instance.state_dir();
    fs::create_dir(&state)?;
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777))?;
    let told = doctor(&stage)?;
    let found = expect(&told, "error", "state-directory")?;
    ensure!(found["message"].to_string().contains("others can write to it"), "{found}");
    stage.hareload().run()?.expect_code(4)?;
    fs::remove_dir(&state)?;
    expect_sound(&doctor(&stage)?)
}

fn elsewhere(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    let pid = stage.instance.pid()?;
    let command = stage.json().verb("doctor").command();
    let mut outside = Command::new("unshare");
    outside.arg("--net").arg(HARELOAD).args(command.get_args()).env("HARELOAD_OUTPUT", "json");
    outside.env("HARELOAD_HISTORY_DIR", stage.instance.dir().join("history"));
    outside.env("HARELOAD_DEFAULTS_FILE", "/dev/null");
    let told = of_result(&process::run(outside, DEADLINE)?)?;
    let found = expect(&told, "error", "other-network")?;
    let mend = format!("nsenter -t {pid} -n hareload doctor");
    ensure!(found["mend"].as_str().is_some_and(|said| said.starts_with(&mend)), "{found}");
    let mut inside = Command::new("nsenter");
    inside.args(["-t", &pid.to_string(), "-n", HARELOAD]).args(command.get_args());
    inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let told = of_result(&process::run(inside, DEADLINE)?)?;
    ensure!(finding(&told, "other-network").is_none(), "{told}");
    Ok(())
}

/// A `systemctl` that says this of haproxy.service, and nothing of any other unit.
fn stand_in(dir: &Path, says: &str) -> Result<()> {
    let path = dir.join("systemctl");
    let text =
        format!("#!/bin/sh\nfor unit; do :; done\n[ \"$unit\" = haproxy.service ] || exit 0\n{says}\n");
    // Written by another process: what writes a program must not be open in one that a test beside this one forks.
    let mut command = Command::new("sh");
    command.args(["-c", "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"", "sh"]).arg(text).arg(path);
    process::run(command, DEADLINE)?.expect_code(0).map(drop)
}

fn systemd(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    let (pid, pidfile) = (stage.instance.pid()?, stage.instance.pidfile_path());
    let bin = TempDir::new()?;
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").unwrap_or_default());
    let ask = |more: &[&str]| -> Result<(Value, RunResult)> {
        let command: Hareload = stage.json().verb("doctor").args(more).env("PATH", &path);
        let result = command.run()?;
        Ok((of_result(&result)?, result))
    };
    let unit = |kind: &str, main: u32, reload: &str| {
        format!(
            "cat <<'END'\nId=haproxy.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\nType={kind}\n\
             MainPID={main}\nPIDFile={}\nKillMode=mixed\nRestart=always\n\
             ExecStart={{ path=/usr/sbin/haproxy ; argv[]=/usr/sbin/haproxy -D -f x ; ignore_errors=no ; pid=0 }}\n\
             ExecReload={{ path=/bin/x ; argv[]={reload} ; ignore_errors=no ; pid=0 }}\nEND",
            pidfile.display()
        )
    };
    let managed = |told: &Value| -> Vec<(String, String)> {
        let of_manager = levels(told).into_iter().filter(|(_, area, _)| area == "manager");
        // Where the tests run, they may be in a session or a service themselves.
        let own = |code: &String| ["session", "foreign-service"].contains(&code.as_str());
        of_manager.map(|(level, _, code)| (level, code)).filter(|(_, code)| !own(code)).collect()
    };
    let pair = |level: &str, code: &str| (level.to_owned(), code.to_owned());
    stand_in(bin.path(), &unit("forking", pid, "/usr/sbin/hareload reload"))?;
    ensure!(managed(&ask(&[])?.0) == [pair("note", "unit")], "{:?}", managed(&ask(&[])?.0));
    stand_in(bin.path(), &unit("notify", pid, "/bin/kill -USR2 $MAINPID"))?;
    let (told, _) = ask(&[])?;
    let expected = [
        pair("error", "unit-follows-process"),
        pair("warning", "unit-reloads-otherwise"),
        pair("note", "unit"),
    ];
    ensure!(managed(&told) == expected, "{:?}", managed(&told));
    ensure!(
        finding(&told, "unit-follows-process").is_some_and(|it| it.to_string().contains("KillMode=mixed"))
    );
    stand_in(bin.path(), &unit("forking", 1, "/usr/sbin/hareload reload"))?;
    ensure!(managed(&ask(&[])?.0) == [pair("warning", "unit-not-in-charge")], "{:?}", managed(&ask(&[])?.0));
    stand_in(bin.path(), "echo Id=haproxy.service; echo LoadState=not-found")?;
    ensure!(managed(&ask(&[])?.0) == [pair("note", "unmanaged")], "{:?}", managed(&ask(&[])?.0));
    stand_in(
        bin.path(),
        "echo 'System has not been booted with systemd as init system (PID 1).' >&2; exit 1",
    )?;
    ensure!(managed(&ask(&[])?.0) == [pair("note", "unmanaged")], "{:?}", managed(&ask(&[])?.0));
    // A bus that hangs: it is given up, with all that it has started.
    let left = stage.instance.dir().join("own-hangs");
    stand_in(bin.path(), &format!("echo Id=haproxy.service; sleep 300 & echo $! >{}; wait", left.display()))?;
    let (told, result) = ask(&[])?;
    ensure!(managed(&told) == [pair("note", "unmanaged")], "{:?}", managed(&told));
    ensure!(result.took < DEADLINE, "{:?}", result.took);
    let left: u32 = fs::read_to_string(left)?.trim().parse()?;
    ensure!(!process::lives(left), "{left} still lives");
    Ok(())
}
