//! A restart that is cut short: between its stop and its start nobody serves, so whatever becomes of hareload, somebody
//! finishes it.
//!
//! A client holds the old one while it is to leave, which keeps hareload in between for as long as a test needs.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::{BRANCHES, Haproxy};
use hareload_testkit::process::{self, Running};
use hareload_testkit::stage::Stage;
use hareload_testkit::suite::{Suite, Test};
use hareload_testkit::waiting::until;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when anything that a test waits for has happened.
const DEADLINE: Duration = Duration::from_secs(20);

/// How long the old one may take to leave, in this test: longer than the test.
const PATIENCE: &str = "50s";

/// How often a command is killed, at instants that are spread over this time.
const KILLS: u32 = 12;
const SPAN: Duration = Duration::from_millis(120);

const TESTS: [(&str, Test); 13] = [
    ("killed_with_its_guard_and_restarted", restarted),
    ("the_new_one_serves_while_the_old_one_finishes", serves_while_the_old_one_finishes),
    ("what_the_old_one_still_holds_is_waited_for", held_by_the_old_one),
    ("killed_and_finished_by_the_guard", killed),
    ("killed_with_its_guard_and_recovered", recovered),
    ("killed_with_its_guard_and_reloaded", reloaded),
    ("killed_with_its_guard_and_stopped", stopped),
    ("killed_with_its_guard_and_started", started),
    ("killed_with_its_guard_and_mended", mended),
    ("told_to_end", told_to_end),
    ("told_to_end_at_any_instant", told_to_end_at_any_instant),
    ("killed_at_any_instant", killed_at_any_instant),
    ("a_start_killed_at_any_instant", start_killed_at_any_instant),
];

fn main() -> ExitCode {
    Suite::of_this_program().on(&BRANCHES, TESTS).run()
}

/// A restart from `g1` to `g2` whose old one is kept by a client, and whose new one does not begin before it may.
struct Scene {
    stage: Stage,
    restart: Running,
    client: TcpStream,
}

impl Scene {
    /// The old one has been told to leave, and has closed its listeners.
    fn between(haproxy: &Haproxy) -> Result<Scene> {
        let stage = Stage::between(HARELOAD, haproxy)?;
        let (go, waiting) = (stage.instance.dir().join("own-go"), stage.instance.dir().join("own-waiting"));
        let script = format!(
            "#!/bin/sh\ncase \" $* \" in *' -sf '*) : >'{}'; until [ -e '{}' ]; do sleep 0.02; done ;; esac\nexec '{}' \"$@\"\n",
            waiting.display(),
            go.display(),
            haproxy.path.display()
        );
        let program = stage.instance.dir().join("own-haproxy");
        process::write_script(&program, &script)?;
        let mut client = TcpStream::connect(stage.instance.address()?)?;
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nhalf: of a request")?;
        let restart = stage.hareload().verb("restart").option("--haproxy", &program);
        let restart = restart.args(["-v", "--drain-timeout", PATIENCE]).spawn()?;
        let pid = stage.instance.pid()?;
        until(DEADLINE, "the new one to wait for the word to begin", || waiting.exists().then_some(()))?;
        ensure!(stage.instance.haproxies() == [pid] && stage.listening().is_empty(), "somebody listens");
        Ok(Scene { stage, restart, client })
    }

    /// The new one may begin.
    fn go(&self) -> Result<()> {
        Ok(fs::write(self.stage.instance.dir().join("own-go"), "")?)
    }

    /// The old one's client goes.
    fn release(&self) {
        drop(self.client.shutdown(std::net::Shutdown::Both));
    }

    /// The new one serves and is the only one, and nothing says that a restart is under way.
    fn is_finished(&self) -> Result<()> {
        self.stage.expect_serving("g2")?;
        let pid = self.stage.instance.pid()?;
        self.stage.instance.wait_only(&[pid], DEADLINE)?;
        self.stage.expect_admin()?;
        self.is_forgotten()
    }

    fn is_forgotten(&self) -> Result<()> {
        for name in ["restart.json", "journal.json"] {
            ensure!(!self.stage.instance.state_dir().join(name).exists(), "{name} is still there");
        }
        Ok(())
    }
}

/// Whoever restarts does not leave his clients to nobody for as long as the slowest of them takes.
fn serves_while_the_old_one_finishes(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy)?;
    scene.go()?;
    scene.stage.expect_serving_beside("g2")?;
    let mut client = scene.client.try_clone()?;
    client.write_all(b"\r\n\r\n")?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    ensure!(answer.contains("g1"), "{answer}");
    let Scene { stage, restart, .. } = scene;
    restart.wait(DEADLINE)?.expect_code(0)?;
    stage.expect_serving("g2")?;
    stage.instance.wait_only(&[stage.instance.pid()?], DEADLINE)
}

/// A port that the old one can't let go of before its end: another socket of it is bound there, and does not listen.
fn held_by_the_old_one(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1").noreuseport())?;
    stage.instance.write_config(Config::plain("g2").noreuseport())?;
    let pid = stage.instance.pid()?;
    stage.instance.signal(pid, Signal::TTOU)?;
    until(DEADLINE, "it to be paused", || stage.listening().is_empty().then_some(()))?;
    stage.hareload().verb("restart").run()?.expect_code(0)?;
    stage.expect_serving("g2")?;
    stage.instance.wait_only(&[stage.instance.pid()?], DEADLINE)?;
    stage.expect_tidy()
}

fn killed(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy)?;
    scene.stage.instance.signal(scene.restart.pid(), Signal::KILL)?;
    // It gives the old one as long as the restart would have.
    scene.go()?;
    scene.stage.expect_serving_beside("g2")?;
    scene.release();
    until(DEADLINE, "the guard to have done its work", || hareloads(&scene.stage).is_empty().then_some(()))?;
    scene.is_finished()?;
    let history = fs::read_to_string(scene.stage.instance.dir().join("history/history.jsonl"))?;
    ensure!(history.contains("finishes a restart"), "{history}");
    Ok(())
}

fn after_all_are_killed(haproxy: &Haproxy, verb: &str, options: &[&str]) -> Result<Scene> {
    let scene = Scene::between(haproxy)?;
    kill_all(&scene.stage, scene.restart.pid())?;
    scene.go()?;
    scene.release();
    let result = scene.stage.hareload().verb(verb).arg("-v").args(options).run()?;
    result.expect_code(0)?;
    Ok(scene)
}

fn recovered(haproxy: &Haproxy) -> Result<()> {
    after_all_are_killed(haproxy, "recover", &[])?.is_finished()
}

fn reloaded(haproxy: &Haproxy) -> Result<()> {
    after_all_are_killed(haproxy, "reload", &["--wait"])?.is_finished()
}

fn restarted(haproxy: &Haproxy) -> Result<()> {
    after_all_are_killed(haproxy, "restart", &[])?.is_finished()?;
    after_all_are_killed(haproxy, "try-restart", &[])?.is_finished()
}

fn started(haproxy: &Haproxy) -> Result<()> {
    after_all_are_killed(haproxy, "start", &[])?.is_finished()
}

fn stopped(haproxy: &Haproxy) -> Result<()> {
    let scene = after_all_are_killed(haproxy, "stop", &["--now"])?;
    scene.stage.instance.wait_only(&[], DEADLINE)?;
    scene.is_forgotten()
}

/// By `doctor --fix`, which has told of it before.
fn mended(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy)?;
    kill_all(&scene.stage, scene.restart.pid())?;
    scene.go()?;
    scene.release();
    let doctor = scene.stage.hareload().verb("doctor");
    doctor.run()?.expect_said(&["a restart was interrupted", "hareload recover"])?;
    doctor.arg("--fix").run()?.expect_said(&["finished the interrupted restart"])?;
    scene.is_finished()
}

/// There is no way back for those who were told to leave: the way on is the shorter one.
fn told_to_end(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy)?;
    scene.stage.instance.signal(scene.restart.pid(), Signal::TERM)?;
    scene.go()?;
    let Scene { stage, restart, client: _client } = scene;
    let result = restart.wait(DEADLINE)?;
    ensure!(result.signal == Some(15), "exit code {}, signal {:?}", result.code, result.signal);
    stage.expect_serving("g2").with_context(|| result.stderr.clone())?;
    let pid = stage.instance.pid()?;
    stage.instance.wait_only(&[pid], DEADLINE)
}

/// Told to end at any instant: before the stop the old one goes on, after it the new one serves.
fn told_to_end_at_any_instant(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g0"))?;
    for part in 0..KILLS {
        let marker = format!("g{}", part + 1);
        stage.instance.write_config(Config::plain(&marker))?;
        let restart = stage.hareload().verb("restart").arg("-v").spawn()?;
        std::thread::park_timeout(SPAN * part / KILLS);
        stage.instance.signal(restart.pid(), Signal::TERM)?;
        let result = restart.wait(DEADLINE)?;
        let context = || format!("told at {part}/{KILLS} of {SPAN:?}: {}{}", result.stdout, result.stderr);
        ensure!(result.code == 0 || result.signal == Some(15), "exit code {}: {}", result.code, context());
        let serves = stage.instance.serving_generation().with_context(context)?;
        stage.expect_serving(&serves).with_context(context)?;
        stage.instance.wait_only(&[stage.instance.pid()?], DEADLINE).with_context(context)?;
    }
    stage.expect_tidy()
}

fn hareloads(stage: &Stage) -> Vec<u32> {
    let all = stage.instance.processes();
    all.iter().filter(|process| process.is("hareload")).map(|process| process.pid).collect()
}

/// Kills this hareload and all that it has started for itself.
fn kill_all(stage: &Stage, hareload: u32) -> Result<()> {
    until(DEADLINE, "all of hareload's processes to be killed", || {
        // The guard must not see its hareload die.
        let mut pids: Vec<u32> = hareloads(stage);
        pids.sort_by_key(|pid| *pid == hareload);
        for pid in &pids {
            let _ = stage.instance.signal(*pid, Signal::KILL);
        }
        pids.is_empty().then_some(())
    })
}

/// Starts this command, and kills it with its guard after a part of [`SPAN`].
fn kill_within(stage: &Stage, verb: &str, part: u32) -> Result<()> {
    let running = stage.hareload().verb(verb).spawn()?;
    // The instant is what is tested: there is no condition to wait for.
    std::thread::park_timeout(SPAN * part / KILLS);
    kill_all(stage, running.pid())?;
    running.wait(DEADLINE).map(drop)
}

fn killed_at_any_instant(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::between(HARELOAD, haproxy)?;
    for part in 0..KILLS {
        let marker = format!("g{}", part + 2);
        stage.instance.write_config(Config::plain(&marker))?;
        let before = stage.instance.serving_generation()?;
        kill_within(&stage, "restart", part)?;
        let recovered = stage.hareload().verb("recover").arg("-v").run()?.expect_code(0)?;
        let context =
            || format!("killed at {part}/{KILLS} of {SPAN:?}: {}{}", recovered.stdout, recovered.stderr);
        let serves = stage.instance.serving_generation().with_context(context)?;
        ensure!(serves == before || serves == marker, "{serves} answers; {}", context());
        stage.expect_serving(&serves).with_context(context)?;
        stage.expect_admin().with_context(context)?;
    }
    stage.expect_tidy()
}

fn start_killed_at_any_instant(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    for part in 0..KILLS {
        stage.hareload().verb("stop").arg("--now").run()?.expect_code(0)?;
        kill_within(&stage, "start", part)?;
        let started = stage.hareload().verb("start").arg("-v").run()?.expect_code(0)?;
        let context =
            || format!("killed at {part}/{KILLS} of {SPAN:?}: {}{}", started.stdout, started.stderr);
        stage.expect_serving("g2").with_context(context)?;
        stage.instance.wait_only(&[stage.instance.pid()?], DEADLINE).with_context(context)?;
        stage.expect_admin().with_context(context)?;
    }
    stage.expect_tidy()
}
