//! Who looks, from where, and who manages HAProxy on this host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::hareload::Hareload;
use hareload_testkit::nobody::Nobody;
use hareload_testkit::process::{self, RunResult};
use hareload_testkit::serde_json::{Value, json};
use hareload_testkit::stage::Stage;
use hareload_testkit::tempfile::TempDir;

use crate::asking::{doctor, expect, expect_sound, finding, fix, levels, of_result};
use crate::{DEADLINE, HARELOAD};

pub(crate) fn nobody(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    stage.instance.write_config(Config::plain("g2"))?;
    stage.hareload().run()?.expect_code(0)?;
    stage.instance.wait_only(&[stage.instance.pid()?], DEADLINE)?;
    let nobody = Nobody::with(HARELOAD, "hareload")?;
    let before = stage.files()?;
    let run = |more: &[&str]| of_result(&nobody.run(&stage.json().verb("doctor").args(more))?);
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
    ensure!(stage.files()? == before, "it has made something");
    stage.expect_serving("g2")
}

pub(crate) fn not_running(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
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

pub(crate) fn state_directory(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
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

pub(crate) fn elsewhere(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
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
pub(crate) fn stand_in(dir: &Path, says: &str) -> Result<()> {
    let path = dir.join("systemctl");
    let text =
        format!("#!/bin/sh\nfor unit; do :; done\n[ \"$unit\" = haproxy.service ] || exit 0\n{says}\n");
    process::write_script(path, &text)
}

pub(crate) fn systemd(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
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
