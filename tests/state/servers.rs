//! States of servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::{Admin, Config};
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::serde_json::Value;
use hareload_testkit::stage::{Stage, account};

use crate::{DEADLINE, HARELOAD, notes};

/// Seen from where HAProxy is started.
const FILE: &str = "own-states";

/// Nobody sends them anything.
const SERVERS: &str = "backend app\n    server one 127.0.0.1:9001\n    server two 127.0.0.1:9002\n    server three 127.0.0.1:9003";

const RATE: u32 = 1000;

fn unasked_for(marker: &str) -> Config {
    Config::plain(marker).append(SERVERS)
}

fn asked_for(marker: &str) -> Config {
    let file = format!("server-state-file {FILE}");
    unasked_for(marker).extra_global(&file).extra_default("load-server-state-from-file global")
}

/// Its `status` in `show stat`.
fn status(stage: &Stage, backend: &str, server: &str) -> Result<String> {
    let told = stage.instance.ask("show stat")?;
    let columns: Vec<&str> = told.lines().next().unwrap_or_default().split(',').collect();
    let at = columns.iter().position(|name| *name == "status").context("no status in show stat")?;
    let begins = format!("{backend},{server},");
    let row = told.lines().find(|line| line.starts_with(&begins)).context("no such server")?;
    Ok(row.split(',').nth(at).unwrap_or_default().to_owned())
}

fn set(stage: &Stage, server: &str, state: &str) -> Result<()> {
    let said = stage.instance.ask(&format!("set server {server} state {state}"))?;
    ensure!(said.trim().is_empty(), "{said}");
    Ok(())
}

/// What was set by hand is so.
fn expect_kept(stage: &Stage) -> Result<()> {
    let all = ["one", "two", "three"].map(|server| status(stage, "app", server));
    let [one, two, three] = all;
    let (one, two, three) = (one?, two?, three?);
    ensure!(one == "no check" && two == "MAINT" && three.starts_with("DRAIN"), "{one} {two} {three}");
    Ok(())
}

fn expect_forgotten(stage: &Stage) -> Result<()> {
    for server in ["one", "two", "three"] {
        let status = status(stage, "app", server)?;
        ensure!(status == "no check", "{server} is {status}");
    }
    Ok(())
}

fn by_hand_set(stage: &Stage) -> Result<()> {
    set(stage, "app/two", "maint")?;
    set(stage, "app/three", "drain")
}

/// Reloads, until only the new one is left: both may answer at the admin socket before.
fn reload(stage: &Stage, args: &[&str]) -> Result<Value> {
    let told = account(&stage.json().args(args).run()?.expect_code(0)?)?;
    stage.instance.wait_only(&[stage.instance.pid()?], DEADLINE)?;
    Ok(told)
}

pub(crate) fn by_hand(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, asked_for("g0"))?;
    let path = stage.instance.dir().join(FILE);
    by_hand_set(&stage)?;
    stage.hareload().arg("--dry-run").run()?.expect_code(0)?;
    ensure!(!path.exists(), "a dry run has written it");
    let load = stage.load(RATE, (0..=3).map(|generation| format!("g{generation}")))?;
    // First by its own admin socket, then by the private one.
    for marker in ["g1", "g2"] {
        stage.instance.write_config(asked_for(marker))?;
        let told = reload(&stage, &[])?;
        ensure!(notes(&told).is_empty(), "{told}");
        stage.expect_serving(marker)?;
        expect_kept(&stage).with_context(|| format!("{marker}: {told}"))?;
        let mode = fs::metadata(&path)?.permissions().mode() & 0o7777;
        ensure!(mode == if marker == "g1" { 0o644 } else { 0o600 }, "{marker}: {mode:o}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    }
    // Where it is not asked for, they are up again, and nothing is written.
    let before = (fs::read(&path)?, fs::metadata(&path)?.modified()?);
    stage.instance.write_config(unasked_for("g3"))?;
    reload(&stage, &[])?;
    expect_forgotten(&stage)?;
    ensure!((fs::read(&path)?, fs::metadata(&path)?.modified()?) == before, "the file was written");
    load.stop()?.expect_lossless()?;
    stage.expect_tidy()
}

pub(crate) fn local(haproxy: &Haproxy) -> Result<()> {
    let config = |marker: &str| {
        Config::plain(marker)
            .extra_global("server-state-base own-base")
            .extra_default("load-server-state-from-file local")
            .append(SERVERS)
            .append("backend web\n    server-state-file-name web-states\n    server one 127.0.0.1:9004")
    };
    let mut stage = Stage::start(HARELOAD, haproxy, config("g0"))?;
    let base = stage.instance.dir().join("own-base");
    fs::create_dir(&base)?;
    by_hand_set(&stage)?;
    set(&stage, "web/one", "maint")?;
    stage.instance.write_config(config("g1"))?;
    let told = reload(&stage, &[])?;
    ensure!(notes(&told).is_empty(), "{told}");
    expect_kept(&stage)?;
    ensure!(status(&stage, "web", "one")? == "MAINT");
    let [app, web] = ["app", "web-states"].map(|name| fs::read_to_string(base.join(name)));
    let (app, web) = (app?, web?);
    ensure!(app.contains(" app 2 two ") && !app.contains(" web "), "{app}");
    ensure!(web.contains(" web 1 one ") && !web.contains(" app "), "{web}");
    stage.expect_tidy()
}

pub(crate) fn trial(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, asked_for("g0"))?;
    by_hand_set(&stage)?;
    let load = stage.load(RATE, ["g0", "g1", "g2"].map(str::to_owned))?;
    for marker in ["g1", "g2"] {
        stage.instance.write_config(asked_for(marker))?;
        let told = reload(&stage, &["--handover", "trial"])?;
        ensure!(told["outcome"]["way"] == "trial" && notes(&told).is_empty(), "{told}");
        expect_kept(&stage)?;
    }
    load.stop()?.expect_lossless().map(drop)
}

pub(crate) fn restarted(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, asked_for("g1"))?;
    by_hand_set(&stage)?;
    let restart = stage.json().verb("restart").run()?.expect_code(0)?;
    ensure!(notes(&account(&restart)?).is_empty(), "{}", restart.stdout);
    expect_kept(&stage)?;
    // What has changed since the last handover is told by a stop.
    set(&stage, "app/one", "maint")?;
    stage.hareload().verb("stop").run()?.expect_code(0)?;
    stage.hareload().verb("start").run()?.expect_code(0)?;
    ensure!(status(&stage, "app", "one")? == "MAINT", "a stop has not told it");
    stage.expect_tidy()
}

pub(crate) fn stale(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, asked_for("g1"))?;
    let path = stage.instance.dir().join(FILE);
    by_hand_set(&stage)?;
    let states = stage.instance.ask("show servers state")?;
    let start_after = |age: Duration, args: &[&str]| -> Result<Value> {
        stage.instance.kill_all()?;
        fs::write(&path, &states)?;
        fs::File::options().write(true).open(&path)?.set_modified(SystemTime::now() - age)?;
        account(&stage.json().verb("start").args(args).run()?.expect_code(0)?)
    };
    let (half, two) = (Duration::from_secs(30 * 60), Duration::from_secs(2 * 60 * 60));
    let told = start_after(half, &[])?;
    ensure!(notes(&told).is_empty(), "{told}");
    expect_kept(&stage)?;
    let told = start_after(two, &["--state-age", "3h"])?;
    ensure!(notes(&told).is_empty(), "{told}");
    expect_kept(&stage)?;

    let told = start_after(two, &[])?;
    let beside = stage.instance.dir().join(format!("{FILE}.stale"));
    let said = notes(&told);
    ensure!(said.len() == 1 && said[0].contains(&format!("set aside as {}", beside.display())), "{told}");
    expect_forgotten(&stage)?;
    ensure!(fs::read_to_string(&beside)? == states && fs::read(&path)? == b"1\n", "it is not kept beside");
    // HAProxy has nothing to say against what is there instead, not even as an error.
    stage.instance.kill_all()?;
    stage.instance.run_haproxy(&["-dW".to_owned()])?.expect_code(0)?;
    stage.instance.wait_listening()
}

pub(crate) fn unwritable(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, asked_for("g0"))?;
    by_hand_set(&stage)?;
    let load = stage.load(RATE, ["g0", "g1", "g2"].map(str::to_owned))?;
    // It is a directory.
    fs::create_dir(stage.instance.dir().join(FILE))?;
    stage.instance.write_config(asked_for("g1"))?;
    let told = reload(&stage, &[])?;
    let expected = "own-states: ";
    let said = notes(&told);
    ensure!(said.len() == 1 && said[0].starts_with("server states can't be written to"), "{told}");
    ensure!(said[0].contains(expected) && said[0].contains("is a directory"), "{told}");
    stage.expect_serving("g1")?;
    expect_forgotten(&stage)?;
    // Its directory is missing.
    fs::remove_dir(stage.instance.dir().join(FILE))?;
    let elsewhere = unasked_for("g2").extra_global("server-state-file own-none/states");
    stage.instance.write_config(elsewhere.extra_default("load-server-state-from-file global"))?;
    let told = reload(&stage, &[])?;
    ensure!(notes(&told).len() == 1 && notes(&told)[0].contains("does not exist"), "{told}");
    stage.expect_serving("g2")?;
    load.stop()?.expect_lossless()?;
    stage.expect_tidy()
}

pub(crate) fn unasked(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, asked_for("g0").admin(Admin::None))?;
    let load = stage.load(RATE, ["g0", "g1"].map(str::to_owned))?;
    stage.instance.write_config(asked_for("g1"))?;
    let told = reload(&stage, &[])?;
    let said = notes(&told);
    ensure!(said.len() == 1 && said[0].contains("answers at no admin socket"), "{told}");
    ensure!(!stage.instance.dir().join(FILE).exists(), "something was written");
    stage.expect_serving("g1")?;
    load.stop()?.expect_lossless().map(drop)
}

pub(crate) fn linked(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, asked_for("g0"))?;
    by_hand_set(&stage)?;
    let (link, treasure) = (stage.instance.dir().join(FILE), stage.instance.dir().join("own-treasure"));
    fs::write(&treasure, "mine")?;
    std::os::unix::fs::symlink(&treasure, &link)?;
    std::os::unix::fs::lchown(&link, Some(12), Some(13))?;
    stage.instance.write_config(asked_for("g1"))?;
    let told = reload(&stage, &[])?;
    let said = notes(&told);
    ensure!(said.len() == 1 && said[0].contains("is a link of another user's"), "{told}");
    ensure!(fs::read_to_string(&treasure)? == "mine", "it was followed");
    // Our own is.
    std::os::unix::fs::lchown(&link, Some(0), Some(0))?;
    by_hand_set(&stage)?;
    let told = reload(&stage, &[])?;
    ensure!(notes(&told).is_empty() && fs::read_to_string(&treasure)?.starts_with("1\n"), "{told}");
    expect_kept(&stage)
}
