//! What is not as it should be, and can be mended.

use std::fs;
use std::process::Command;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::process::Running;
use hareload_testkit::serde_json::{self, Value, json};
use hareload_testkit::stage::Stage;
use hareload_testkit::waiting::until;

use crate::asking::{doctor, expect, expect_same_way, expect_sound, finding, fix};
use crate::{DEADLINE, HARELOAD};

pub(crate) fn fix_of_nothing(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let pid = stage.instance.pid()?;
    let before = stage.files()?;
    let (fixed, told) = fix(&stage)?;
    ensure!(fixed.is_empty(), "{fixed:?}");
    expect_sound(&told)?;
    ensure!(stage.files()? == before, "it has made or removed something");
    ensure!(stage.instance.pid()? == pid);
    stage.expect_serving("g1")
}

pub(crate) fn stale_pidfile(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
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

pub(crate) fn other_pidfile(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
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

pub(crate) fn dead_admin(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
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

pub(crate) fn paused(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
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

pub(crate) fn stopped_by_a_signal(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
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

pub(crate) fn interrupted(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let old = stage.instance.pid()?;
    stage.instance.write_config(Config::plain("g2"))?;
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
