//! What operators and strangers do around a handover: other programs, other names, other places, others at the same time.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::hareload::Hareload;
use hareload_testkit::process;
use hareload_testkit::stage::Stage;
use hareload_testkit::waiting::until;

use crate::agreeing::{Look, expect_agreeing, expect_as_before, start};
use crate::scene::{DEADLINE, Scene, few_lost};
use crate::{HARELOAD, VERB, by};

/// A process of nobody's that carries the next private pidfile on its command line is neither killed nor waited for.
pub(crate) fn bystander(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| by::unseen_global(config, "chroot /nonexistent/jail"))?;
    let mark = scene.stage.instance.state_dir().join("gen-1.pid");
    // Named as HAProxy's own option, and ignores what it is told.
    let script = "trap '' TERM USR1 TTOU TTIN; while :; do read line; done";
    let mut command = Command::new("bash");
    command.args(["-c", script, "haproxy", "-p"]).arg(&mark);
    command.uid(65534).gid(65534).stdin(std::process::Stdio::piped());
    let mut bystander = command.spawn()?;
    let result = scene.hareload().run()?;
    let ended = bystander.try_wait()?;
    bystander.kill()?;
    bystander.wait()?;
    ensure!(ended.is_none(), "the bystander was told to end: {ended:?}");
    result.expect_code(150)?.expect_said(&[by::goes_on(), "chroot"])?;
    scene.unharmed()
}

/// Somebody reloads by hand while hareload proves its own: the pidfile goes on naming who serves.
pub(crate) fn reloaded_by_hand_meanwhile(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let go = scene.stage.instance.dir().join("own-go");
    let probe = format!("exec:while [ ! -e {} ]; do sleep 0.05; done", go.display());
    let running = scene.hareload().args(["--probe", &probe]).spawn()?;
    scene.live()?;
    let config = scene.stage.instance.dir().join("own-by-hand.cfg");
    fs::write(
        &config,
        "global\n  stats timeout 1s\nfrontend f\n  mode http\n  timeout client 5s\n  bind 127.0.0.1:8080\n",
    )?;
    let pidfile = scene.stage.instance.pidfile_path();
    let mut by_hand = Command::new(&haproxy.path);
    // What lies in place is the candidate then.
    let config = if by::deploys() { scene.stage.instance.config_path() } else { config };
    by_hand.arg("-D").arg("-f").arg(&config).arg("-p").arg(&pidfile).arg("-sf").arg(scene.old.to_string());
    process::run(by_hand, DEADLINE)?.expect_code(0)?;
    let named = scene.stage.instance.pid()?;
    fs::write(&go, "")?;
    let result = running.wait(DEADLINE)?;
    if by::deploys() {
        // Somebody else's new one runs the candidate, and a generation of what was in place takes over from it.
        let result = result.expect_code(150)?;
        result.expect_said(&["somebody else has started", by::goes_on()])?;
        scene.stage.expect_serving("g1").with_context(|| result.stderr.clone())?;
        scene.stage.instance.wait_only(&[scene.stage.instance.pid()?], DEADLINE)?;
        scene.stage.expect_admin()?;
        expect_agreeing(&scene.stage, "g1")?;
        scene.expect_file_as_before()?;
        return few_lost(scene.load, 60);
    }
    let now = scene.stage.instance.pid()?;
    scene.stage.instance.signal(named, Signal::TERM)?;
    ensure!(result.code != 0, "it says that all is well: {}", result.stdout);
    ensure!(now == named, "the pidfile named {named}, and names {now}");
    result.expect_said(&["names pid", "somebody else has started"])
}

/// The clients of a unix socket find the old one again before the new one closes its own.
pub(crate) fn unix_socket_after_a_trial(haproxy: &Haproxy) -> Result<()> {
    let mut scene = Scene::of(haproxy, Config::plain("g1"))?;
    let path = scene.stage.instance.dir().join("own-front.sock");
    let bind = format!("bind unix@{}", path.display());
    scene.write_next(Config::plain("g1").extra_frontend(&bind))?;
    scene.hareload().run()?.expect_code(0)?;
    scene.old = scene.stage.instance.pid()?;
    scene.write_next(Config::plain("g2").extra_frontend(&bind))?;
    let options = ["--handover", "trial", "--probe", "exec:false"];
    let result = scene.hareload().args(options).run()?.expect_code(150)?;
    let at = |what: &str| result.stderr.find(what).with_context(|| format!("{what}: {}", result.stderr));
    ensure!(at("put back")? < at("tells the new one to retire")?, "too late: {}", result.stderr);
    std::os::unix::net::UnixStream::connect(&path)?;
    scene.stage.expect_serving("g1")?;
    expect_agreeing(&scene.stage, "g1")?;
    scene.load.stop()?.expect_lossless().map(drop)
}

/// A relative `-f` can't be seen from a chroot: a file of that name in there is not what was read.
pub(crate) fn relative_configuration_in_a_jail(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    by::write_next(&mut stage, Config::plain("g2"))?;
    let dir = stage.instance.dir();
    let jail = dir.join("jail");
    fs::create_dir(&jail)?;
    let config = format!(
        "global\n  chroot {}\nfrontend f\n  mode http\n  timeout client 5s\n  bind 127.0.0.1:8081\n",
        jail.display()
    );
    fs::write(dir.join("rel.cfg"), &config)?;
    fs::write(jail.join("rel.cfg"), "rubbish\n")?;
    let candidate = dir.join("own-candidate.cfg");
    fs::write(&candidate, format!("{config}# changed\n"))?;
    let (state, pidfile) = (dir.join("rel-state"), dir.join("rel.pid"));
    let mut start = Command::new(&haproxy.path);
    start.args(["-D", "-f", "rel.cfg", "-p"]).arg(&pidfile).current_dir(dir);
    process::run(start, DEADLINE)?.expect_code(0)?;
    let hareload = |more: &[&str]| {
        let mut command = Command::new(HARELOAD);
        command.arg(VERB).arg("-p").arg(&pidfile).arg("--state-dir").arg(&state).args(more);
        command.env("HARELOAD_HISTORY_DIR", dir.join("rel-history")).current_dir("/");
        if by::deploys() {
            command.arg(&candidate);
        }
        process::run(command, DEADLINE)
    };
    let refused = hareload(&[])?.expect_code(2)?;
    let named = dir.join("rel.cfg");
    let named = hareload(&["-f", &named.to_string_lossy()]);
    let pid: u32 = fs::read_to_string(&pidfile)?.trim().parse()?;
    // By now it is known where the first one was.
    let again = hareload(&[]);
    let last: u32 = fs::read_to_string(&pidfile)?.trim().parse()?;
    for pid in [pid, last] {
        let _ = process::signal_in(dir, pid, Signal::TERM);
    }
    refused.expect_said(&["rel.cfg", "chroot", "--config"])?;
    named?.expect_code(0)?;
    again?.expect_code(0)?;
    let changed = fs::read_to_string(dir.join("rel.cfg"))?.contains("# changed");
    ensure!(changed == by::deploys() && fs::read_to_string(jail.join("rel.cfg"))? == "rubbish\n");
    Ok(())
}

/// It hears nothing, and its own sockets would keep whoever is sent to them.
pub(crate) fn stopped(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    scene.stage.instance.signal(scene.old, Signal::STOP)?;
    let refused = ["trial", "overlap"].map(|way| scene.hareload().args(["--handover", way]).run());
    let shared = scene.hareload().run();
    let serves = scene.stage.instance.serving_generation();
    scene.stage.instance.signal(scene.old, Signal::CONT)?;
    for refused in refused {
        refused?.expect_code(3)?.expect_said(&["is stopped", "kill -CONT"])?;
    }
    shared?.expect_code(0)?.expect_said(&["is stopped", &by::handed_over("shared")])?;
    ensure!(serves? == "g2", "the new one does not serve");
    scene.new_serves()
}

/// Many ports are held: told at once, and in few words.
pub(crate) fn many_foreign_ports(haproxy: &Haproxy) -> Result<()> {
    const PORTS: u16 = 200;
    let strangers: Vec<TcpListener> = (0..PORTS)
        .map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, 20_000 + port)))
        .collect::<Result<_, _>>()?;
    let many = "127.0.0.1:20000-20199";
    Scene::found_by_check(
        haproxy,
        |config| config.extra_frontend(&format!("bind {many}")),
        &["is held by pid"],
    )?;
    let scene = Scene::between(haproxy, |config| {
        by::unseen_bind(config, many, |it| it.append(&format!("listen many\n    bind {many}")))
    })?;
    let result = by::hareload(&scene.stage).run()?.expect_code(150)?;
    drop(strangers);
    ensure!(result.stderr.len() < 4096, "{} bytes: {}", result.stderr.len(), result.stderr);
    result.expect_said(&["is held by pid", "and 195 more"])?;
    scene.unharmed()
}

/// Distributions and operators keep several of them, with their versions in their names.
pub(crate) fn another_name(haproxy: &Haproxy) -> Result<()> {
    let dir = hareload_testkit::tempfile::tempdir()?;
    let program = dir.path().join("haproxy-next");
    let mut copy = Command::new("cp");
    copy.arg(&haproxy.path).arg(&program);
    process::run(copy, DEADLINE)?.expect_code(0)?;
    let link = dir.path().join("current");
    std::os::unix::fs::symlink(&program, &link)?;
    let named = Haproxy { path: link, ..haproxy.clone() };
    let mut stage = Stage::start(HARELOAD, &named, Config::plain("g1"))?;
    by::write_next(&mut stage, Config::plain("g2"))?;
    let result = by::hareload(&stage).run()?.expect_code(0)?;
    ensure!(stage.instance.serving_generation()? == "g2", "{}", result.stdout);
    expect_agreeing(&stage, "g2")
}

/// A pipe can be read only once, and to open it would wait for a writer.
pub(crate) fn configuration_is_a_fifo(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let path: PathBuf = scene.stage.instance.dir().join("fifo.cfg");
    let mut make = Command::new("mkfifo");
    make.arg(&path);
    process::run(make, DEADLINE)?.expect_code(0)?;
    let named = path.to_string_lossy();
    let run = |command: Hareload| command.deadline(Duration::from_secs(10)).run();
    match by::deploys() {
        true => {
            let onto = run(scene.hareload().option("-f", &path))?;
            onto.expect_code(2)?.expect_said(&["fifo.cfg", "it is no file"])?;
            let candidate = run(scene.stage.hareload().verb(VERB).arg(&path))?;
            candidate.expect_code(2)?.expect_said(&["fifo.cfg", "FIFO"])?;
        }
        false => {
            let result = run(scene.hareload().args(["-f", &named]))?;
            result.expect_code(6)?.expect_said(&["fifo.cfg", "only once"])?;
        }
    }
    fs::remove_file(&path)?;
    scene.unharmed()
}

/// Deploy tools remove the release that HAProxy was started from.
pub(crate) fn directory_gone(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let instance = &stage.instance;
    let release = instance.dir().join("release");
    fs::create_dir(&release)?;
    let pid = instance.pid()?;
    instance.signal(pid, Signal::TERM)?;
    until(DEADLINE, "the first one to end", || (!process::lives(pid)).then_some(()))?;
    let mut start = Command::new(&haproxy.path);
    start.arg("-D").arg("-f").arg(instance.config_path()).arg("-p").arg(instance.pidfile_path());
    start.current_dir(&release);
    process::run(start, DEADLINE)?.expect_code(0)?;
    fs::remove_dir(&release)?;
    by::write_next(&mut stage, Config::plain("g2"))?;
    by::hareload(&stage).run()?.expect_code(0)?;
    stage.expect_serving("g2")?;
    expect_agreeing(&stage, "g2")
}

/// What was asked for behind another handover is not told to have been done by it.
pub(crate) fn asked_for_more(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let first = by::json(&scene.stage).args(["--probe", "exec:sleep 0.5"]).spawn()?;
    scene.bound()?;
    let second = by::json(&scene.stage).args(["--hard-stop-after", "77s"]).run()?.expect_code(0)?;
    first.wait(DEADLINE)?.expect_code(0)?;
    ensure!(second.stdout.contains("\"coalesced\":false"), "{}", second.stdout);
    let overlays = fs::read_dir(scene.stage.instance.state_dir())?.flatten();
    let limited = overlays
        .filter(|entry| entry.path().extension().is_some_and(|kind| kind == "cfg"))
        .any(|entry| fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("hard-stop-after")));
    ensure!(limited, "no overlay has the limit");
    scene.handed_over()
}

/// What listens in another network namespace can't be handed over from here.
pub(crate) fn another_network(haproxy: &Haproxy) -> Result<()> {
    let mut stage = start(haproxy, Config::plain("g1"))?;
    let look = Look::of(&stage.instance)?;
    by::write_next(&mut stage, Config::plain("g2"))?;
    let command = by::hareload(&stage).command();
    let mut elsewhere = Command::new("unshare");
    elsewhere.arg("-n").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        elsewhere.env(name, value.unwrap_or_default());
    }
    let result = process::run(elsewhere, DEADLINE)?.expect_code(7)?;
    result.expect_said(&["another network"])?;
    stage.expect_serving("g1")?;
    expect_agreeing(&stage, "g1")?;
    expect_as_before(&stage, &look)
}
