//! What a reload would meet.

use std::fs;

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::{Admin, Config};
use hareload_testkit::haproxies::{self, BRANCHES, Haproxy};
use hareload_testkit::serde_json::json;
use hareload_testkit::stage::Stage;
use hareload_testkit::waiting::until;

use crate::asking::{doctor, doctor_with, expect, expect_same_way, expect_sound, finding, fix, levels};
use crate::{DEADLINE, HARELOAD};

pub(crate) fn abns(haproxy: &Haproxy) -> Result<()> {
    let stage =
        Stage::start(HARELOAD, haproxy, Config::plain("g1").extra_frontend("bind abns@hareload-doctor"))?;
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

pub(crate) fn noreuseport(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1").noreuseport())?;
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
pub(crate) fn lines(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
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

pub(crate) fn unexposed(haproxy: &Haproxy) -> Result<()> {
    for (admin, code) in [(Admin::Plain, "not-exposed"), (Admin::None, "no-admin-socket")] {
        let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1").admin(admin))?;
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

pub(crate) fn master(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
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

pub(crate) fn broken(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
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

pub(crate) fn upgrade(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
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

/// What the next one could learn of the one that serves, and does not.
pub(crate) fn not_carried_over(haproxy: &Haproxy) -> Result<()> {
    let with = |servers: &str, table: &str| {
        Config::plain("g1")
            .append(&format!("backend app\n    {servers}\n    server one 127.0.0.1:9001 check"))
            .append(&format!("backend counted\n    stick-table type ip size 1k expire 1m {table}"))
    };
    let mut stage = Stage::start(HARELOAD, haproxy, with("", ""))?;
    let told = doctor(&stage)?;
    expect_sound(&told)?;
    let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
    for (code, text, mend) in [
        ("server-states-not-kept", "server one", "load-server-state-from-file global"),
        ("stick-table-not-kept", "stick-table", host.trim()),
    ] {
        let found = expect(&told, "note", code)?;
        let line = fs::read_to_string(stage.instance.config_path())?;
        let at = usize::try_from(found["line"].as_u64().unwrap_or_default())?;
        let line = line.lines().nth(at.saturating_sub(1)).unwrap_or_default().trim().to_owned();
        ensure!(found["area"] == "configuration" && line.starts_with(text), "{line}: {found}");
        ensure!(found["mend"].as_str().is_some_and(|said| said.contains(mend)), "{found}");
    }
    // What it says mends it.
    let kept =
        with("load-server-state-from-file global", "peers mine").extra_global("server-state-file own-states");
    stage.instance.write_config(
        kept.clone().append(&format!("peers mine\n    peer {} 127.0.0.1:10000", host.trim())),
    )?;
    let told = doctor(&stage)?;
    for code in ["server-states-not-kept", "stick-table-not-kept", "peers-without-this-host"] {
        ensure!(finding(&told, code).is_none(), "{code}: {told}");
    }
    // A section that this host is no part of is none.
    stage.instance.write_config(kept.append("peers mine\n    peer somebody-else 127.0.0.1:10000"))?;
    let found = doctor(&stage)?;
    let found = expect(&found, "note", "peers-without-this-host")?;
    ensure!(found["message"] == "no peer of `peers mine` is this host", "{found}");
    Ok(())
}
