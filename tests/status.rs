//! `hareload status`: what it says in every state, held against what was done to real HAProxies.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::{BRANCHES, Haproxy};
use hareload_testkit::nobody::Nobody;
use hareload_testkit::process::{self, Running};
use hareload_testkit::serde_json::{self, Value};
use hareload_testkit::stage::Stage;
use hareload_testkit::suite::{Suite, Test};
use hareload_testkit::tempfile::TempDir;
use hareload_testkit::waiting::until;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when anything that a test waits for has happened.
const DEADLINE: Duration = Duration::from_secs(20);

const TESTS: [(&str, Test); 11] = [
    ("one_that_hareload_did_not_start_is_shown", stranger),
    ("generations_are_told_apart", generations),
    ("changed_files_are_named", changes),
    ("a_paused_one_runs_and_does_not_serve", paused),
    ("one_that_does_not_run_is_told_by_its_pidfile", stopped),
    ("one_with_a_master_runs", master),
    ("one_that_is_stopped_runs_and_does_not_serve", held),
    ("others_see_what_they_may", nobody),
    ("a_handover_under_way_is_looked_at", under_way),
    ("it_is_shown_again_until_nobody_reads", watch),
    ("a_thousand_listeners_are_no_matter", thousand),
];

fn main() -> ExitCode {
    Suite::of_this_program().on(&BRANCHES, TESTS).run()
}

/// What `status` says, with this exit code; `--quiet` says the same with nothing else.
fn status(stage: &Stage, code: i32) -> Result<Value> {
    let before = stage.files()?;
    let told = stage.json().verb("status").run()?.expect_code(code)?;
    ensure!(told.stderr.is_empty(), "{}", told.stderr);
    let human = stage.hareload().verb("status").run()?.expect_code(code)?;
    ensure!(human.stderr.is_empty() && human.stdout.lines().count() >= 1, "{}{}", human.stdout, human.stderr);
    let quiet = stage.hareload().verb("status").arg("--quiet").run()?.expect_code(code)?;
    ensure!(quiet.stdout.is_empty() && quiet.stderr.is_empty(), "{}{}", quiet.stdout, quiet.stderr);
    ensure!(stage.files()? == before, "it has made or removed something");
    Ok(serde_json::from_str(&told.stdout)?)
}

/// Role, generation and pid of each row.
fn rows(status: &Value) -> Vec<(String, Option<u64>, u64)> {
    let rows = status["generations"].as_array().into_iter().flatten();
    rows.map(|row| {
        let role = row["role"].as_str().unwrap_or_default().to_owned();
        (role, row["generation"].as_u64(), row["pid"].as_u64().unwrap_or_default())
    })
    .collect()
}

fn row(role: &str, generation: Option<u64>, pid: u32) -> (String, Option<u64>, u64) {
    (role.to_owned(), generation, u64::from(pid))
}

/// A client whose request is only begun: who drains waits for it.
fn client(stage: &Stage) -> Result<TcpStream> {
    let mut client = TcpStream::connect(stage.instance.address()?)?;
    client.write_all(b"GET / HTTP/1.1\r\n")?;
    Ok(client)
}

fn stranger(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let _client = client(&stage)?;
    until(DEADLINE, "the client to be counted", || {
        let told = status(&stage, 0).ok()?;
        (told["generations"][0]["connections"] == 1).then_some(())
    })?;
    let told = status(&stage, 0)?;
    ensure!(rows(&told) == [row("serving", None, stage.instance.pid()?)], "{told}");
    let shown = &told["generations"][0];
    ensure!(shown["memory"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{told}");
    ensure!(shown["config"].is_null() && shown["changed"].is_null() && told["last"].is_null(), "{told}");
    ensure!(told["next"]["ways"][0]["way"] == "shared" && told["schema"] == "hareload.status/1", "{told}");
    ensure!(!stage.instance.state_dir().exists(), "it has made the state directory");
    Ok(())
}

fn generations(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let first = stage.instance.pid()?;
    let one = client(&stage)?;
    stage.instance.write_config(Config::plain("g2"))?;
    stage.hareload().run()?.expect_code(0)?;
    let second = stage.instance.pid()?;
    let two = client(&stage)?;
    stage.instance.write_config(Config::plain("g3"))?;
    stage.hareload().run()?.expect_code(0)?;
    let third = stage.instance.pid()?;
    let expected =
        [row("serving", Some(2), third), row("draining", Some(1), second), row("draining", None, first)];
    // The last one may not have closed its listeners yet.
    let told = until(DEADLINE, "the three to be told apart", || {
        status(&stage, 0).ok().filter(|told| rows(told) == expected)
    })?;
    let shown = told["generations"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(shown[0]["connections"] == 0 && shown[1]["connections"].is_null(), "{told}");
    ensure!(shown[0]["config"] != shown[1]["config"] && shown[1]["config"].is_string(), "{told}");
    ensure!(
        shown[0]["changed"].as_array().is_some_and(Vec::is_empty) && shown[1]["changed"].is_null(),
        "{told}"
    );
    ensure!(told["last"]["command"] == "reload" && told["last"]["serving"]["generation"] == 2, "{told}");
    // What is shown is what everybody can compute.
    let mut sum = Command::new("sha256sum");
    sum.arg(stage.instance.config_path());
    let sum = process::run(sum, DEADLINE)?.expect_code(0)?.stdout;
    ensure!(sum.split(' ').next() == shown[0]["config"].as_str(), "{sum} {told}");
    drop((one, two));
    stage.instance.wait_only(&[third], DEADLINE)?;
    ensure!(rows(&status(&stage, 0)?) == [row("serving", Some(2), third)]);
    stage.expect_tidy()
}

fn changes(haproxy: &Haproxy) -> Result<()> {
    let files = TempDir::new()?;
    let at = |name: &str| files.path().join(name);
    let key = at("a.pem");
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test", "-keyout",
    ]);
    openssl.arg(at("key.pem")).arg("-out").arg(at("cert.pem"));
    process::run(openssl, DEADLINE)?.expect_code(0)?;
    let pem = [fs::read(at("key.pem"))?, fs::read(at("cert.pem"))?].concat();
    fs::write(&key, &pem)?;
    fs::write(at("hosts.map"), "a b\n")?;
    fs::write(at("bad.lst"), "192.0.2.1\n")?;
    let config = Config::plain("g2")
        .extra_frontend(&format!("bind 127.0.0.1:8443 ssl crt {}", key.display()))
        .extra_frontend(&format!("http-request set-header x %[path,map({},none)]", at("hosts.map").display()))
        .extra_frontend(&format!("http-request deny if {{ src -f {} }}", at("bad.lst").display()));
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    stage.instance.write_config(config)?;
    stage.hareload().run()?.expect_code(0)?;
    let changed = |code| -> Result<Vec<(String, String)>> {
        let told = status(&stage, code)?;
        let changed = told["generations"][0]["changed"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(changed.iter().map(|one| (text(&one["path"]), text(&one["how"]))).collect())
    };
    let expected = |path: &Path, how: &str| (path.display().to_string(), how.to_owned());
    ensure!(changed(0)?.is_empty(), "{:?}", changed(0)?);
    // Written again as it was.
    fs::write(&key, &pem)?;
    ensure!(changed(0)?.is_empty(), "{:?}", changed(0)?);
    fs::write(&key, [&pem[..], b"\n"].concat())?;
    ensure!(changed(0)? == [expected(&key, "changed")], "{:?}", changed(0)?);
    fs::remove_file(at("hosts.map"))?;
    fs::write(at("bad.lst"), "192.0.2.2\n")?;
    let config = stage.instance.config_path();
    fs::write(&config, fs::read_to_string(&config)? + "# more\n")?;
    let all = changed(0)?;
    for one in [
        expected(&config, "changed"),
        expected(&key, "changed"),
        expected(&at("hosts.map"), "gone"),
        expected(&at("bad.lst"), "changed"),
    ] {
        ensure!(all.contains(&one), "{one:?} is not in {all:?}");
    }
    ensure!(all.len() == 4, "{all:?}");
    fs::write(at("hosts.map"), "a b\n")?;
    stage.hareload().run()?.expect_code(0)?;
    ensure!(changed(0)?.is_empty(), "{:?}", changed(0)?);
    stage.expect_tidy()
}

fn held(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let pid = stage.instance.pid()?;
    stage.instance.signal(pid, Signal::STOP)?;
    until(DEADLINE, "it to be seen that it is stopped", || {
        status(&stage, 0).ok().filter(|told| rows(told) == [row("stopped", None, pid)])
    })?;
    let human = stage.hareload().verb("status").run()?.expect_code(0)?;
    human.expect_said(&["running, but nobody serves", &format!("pid {pid} is stopped; `kill -CONT`")])?;
    stage.instance.signal(pid, Signal::CONT)?;
    stage.expect_serving("g1")
}

fn paused(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let pid = stage.instance.pid()?;
    stage.instance.signal(pid, Signal::TTOU)?;
    let told = until(DEADLINE, "the pause to be seen", || {
        status(&stage, 0).ok().filter(|told| rows(told) == [row("paused", None, pid)])
    })?;
    ensure!(told["standing"] == "running", "{told}");
    let human = stage.hareload().verb("status").run()?.expect_code(0)?.stdout;
    ensure!(human.starts_with(&format!("running, but nobody serves: pid {pid} is paused")), "{human}");
    stage.instance.signal(pid, Signal::TTIN)?;
    until(DEADLINE, "it to serve again", || {
        status(&stage, 0).ok().filter(|told| rows(told) == [row("serving", None, pid)])
    })?;
    Ok(())
}

fn stopped(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let pid = stage.instance.pid()?;
    // The pidfile is lost: who runs with it is found nevertheless.
    let pidfile = stage.instance.pidfile_path();
    fs::remove_file(&pidfile)?;
    let told = status(&stage, 0)?;
    ensure!(
        rows(&told) == [row("serving", None, pid)] && told["notes"].to_string().contains("missing"),
        "{told}"
    );
    fs::write(&pidfile, format!("{pid}\n"))?;
    stage.instance.signal(pid, Signal::KILL)?;
    stage.instance.wait_only(&[], DEADLINE)?;
    let told = status(&stage, 1)?;
    ensure!(told["standing"] == "dead" && rows(&told).is_empty(), "{told}");
    ensure!(told["why"].as_str().is_some_and(|why| why.contains("which is gone")), "{told}");
    fs::write(&pidfile, "")?;
    ensure!(status(&stage, 1)?["standing"] == "dead");
    // A process of somebody else's is not HAProxy.
    fs::write(&pidfile, format!("{}\n", std::process::id()))?;
    ensure!(status(&stage, 1)?["why"].as_str().is_some_and(|why| why.contains("not HAProxy")));
    fs::remove_file(&pidfile)?;
    ensure!(status(&stage, 3)?["standing"] == "not-running");
    let wrong = stage.hareload().verb("status").arg("--no-such-option").run()?.expect_code(4)?;
    ensure!(wrong.stdout.is_empty(), "{}", wrong.stdout);
    fs::create_dir(&pidfile)?;
    ensure!(status(&stage, 4)?["standing"] == "unknown");
    fs::remove_dir(&pidfile)?;
    Ok(())
}

fn master(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    stage.instance.signal(stage.instance.pid()?, Signal::KILL)?;
    stage.instance.wait_only(&[], DEADLINE)?;
    stage.instance.run_haproxy(&["-W".to_owned()])?.expect_code(0)?;
    let told = until(DEADLINE, "master and worker to be seen", || {
        status(&stage, 0).ok().filter(|told| rows(told).len() == 2)
    })?;
    let pid = stage.instance.pid()?;
    ensure!(rows(&told).contains(&row("master", None, pid)), "{told}");
    ensure!(rows(&told).iter().any(|(role, ..)| role == "serving"), "{told}");
    ensure!(told["why"].as_str().is_some_and(|why| why.contains("master-worker")), "{told}");
    Ok(())
}

fn nobody(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    stage.instance.write_config(Config::plain("g2"))?;
    stage.hareload().run()?.expect_code(0)?;
    let pid = stage.instance.pid()?;
    stage.instance.wait_only(&[pid], DEADLINE)?;
    let nobody = Nobody::with(HARELOAD, "hareload")?;
    let before = stage.files()?;
    let told = nobody.run(&stage.json().verb("status"))?.expect_code(0)?;
    let told: Value = serde_json::from_str(&told.stdout)?;
    ensure!(told["standing"] == "running" && rows(&told) == [row("unknown", Some(1), pid)], "{told}");
    ensure!(
        told["generations"][0]["memory"].is_u64() && told["generations"][0]["config"].is_null(),
        "{told}"
    );
    let hidden = told["hidden"].to_string();
    ensure!(hidden.contains("the last handover") && hidden.contains("may not be read"), "{told}");
    ensure!(told["why"].as_str().is_some_and(|why| why.contains("can't be seen")), "{told}");
    let quiet = stage.hareload().verb("status").arg("--quiet");
    ensure!(nobody.run(&quiet)?.expect_code(0)?.stdout.is_empty());
    // Without a pidfile nothing is certain: a HAProxy that can't be looked into may be the one.
    fs::remove_file(stage.instance.pidfile_path())?;
    nobody.run(&quiet)?.expect_code(4)?;
    fs::write(stage.instance.pidfile_path(), format!("{pid}\n"))?;
    ensure!(stage.files()? == before, "it has made something");
    Ok(())
}

fn under_way(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let old = stage.instance.pid()?;
    stage.instance.write_config(Config::plain("g2"))?;
    let go = stage.instance.dir().join("own-go");
    let probe = format!("exec:until [ -e {} ]; do sleep 0.02; done", go.display());
    let running: Running = stage.hareload().args(["--probe", &probe]).spawn()?;
    let told = until(DEADLINE, "the new one to be seen", || {
        let told = stage.json().verb("status").run().ok()?;
        let told: Value = serde_json::from_str(&told.stdout).ok()?;
        let rows = rows(&told);
        let new = rows.len() == 2 && rows[1].0 == "starting" && rows[1].1 == Some(1);
        (new && rows[0] == row("serving", None, old)).then_some(told)
    })?;
    ensure!(told["notes"].to_string().contains("a handover to generation 1 is under way"), "{told}");
    // It has waited for nobody, and nobody for it.
    fs::write(&go, "")?;
    running.wait(DEADLINE)?.expect_code(0)?;
    stage.expect_serving("g2")
}

fn watch(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let mut command = stage.json().verb("status").arg("--watch").command();
    let mut child = command.stdout(std::process::Stdio::piped()).spawn()?;
    let mut read = child.stdout.take().expect("a pipe");
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while text.iter().filter(|byte| **byte == b'\n').count() < 2 {
        let length = read.read(&mut piece)?;
        ensure!(length > 0, "it has ended");
        text.extend_from_slice(&piece[..length]);
    }
    drop(read);
    let ended = until(DEADLINE, "it to end", || child.try_wait().ok().flatten())?;
    ensure!(ended.code() == Some(0), "{ended}");
    for line in String::from_utf8(text)?.lines().take(2) {
        let told: Value = serde_json::from_str(line)?;
        ensure!(rows(&told) == [row("serving", None, stage.instance.pid()?)], "{told}");
    }
    Ok(())
}

fn thousand(haproxy: &Haproxy) -> Result<()> {
    let many = |marker: &str| (10_000..11_000).fold(Config::new().marker(marker), Config::frontend);
    let mut stage = Stage::start(HARELOAD, haproxy, many("g1"))?;
    stage.instance.write_config(many("g2"))?;
    stage.hareload().run()?.expect_code(0)?;
    let told = status(&stage, 0)?;
    ensure!(rows(&told)[0] == row("serving", Some(1), stage.instance.pid()?), "{told}");
    ensure!(told["next"]["ways"][0]["way"] == "shared", "{told}");
    Ok(())
}
