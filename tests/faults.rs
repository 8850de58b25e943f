//! What can go wrong with a handover, made to happen to real HAProxies under a light load.
//!
//! After each fault: the exit code, the message, who serves, the pidfile, the admin socket, nobody paused, nothing left
//! over, and nobody lost. Faults of the new HAProxy's start run on every version, the others on one.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::caps::{Caps, Need};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::{self, Haproxy};
use hareload_testkit::hareload::Hareload;
use hareload_testkit::instance::Instance;
use hareload_testkit::libtest_mimic::{self, Arguments, Trial};
use hareload_testkit::load::Load;
use hareload_testkit::netns::run_in_netns;
use hareload_testkit::process::{self, RunResult, Running, lives};
use hareload_testkit::sockets;
use hareload_testkit::stage::{Stage, account, pid_at, timeline};
use hareload_testkit::waiting::until;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when anything that a test waits for has happened.
const DEADLINE: Duration = Duration::from_secs(30);

/// Connections a second: enough to notice every gap of a few milliseconds.
const RATE: u32 = 500;

/// How long a fault that is seen at once may take to be told.
const AT_ONCE: Duration = Duration::from_millis(500);

type Fault = fn(&Haproxy) -> Result<()>;

/// Faults of the new one, on every version.
const STARTS: [(&str, Fault); 19] = [
    ("syntax_error", syntax_error),
    ("configuration_missing", configuration_missing),
    ("chroot_missing", chroot_missing),
    ("usesrc_without_privilege", usesrc_without_privilege),
    ("limits_too_low", limits_too_low),
    ("threads_cannot_be_created", threads_cannot_be_created),
    ("foreign_port::auto", foreign_port_auto),
    ("foreign_port::trial", foreign_port_trial),
    ("foreign_port::overlap", foreign_port_overlap),
    ("foreign_port::pause", foreign_port_pause),
    ("address_not_here", address_not_here),
    ("probe_fails::shared", probe_fails_shared),
    ("probe_fails::trial", probe_fails_trial),
    ("new_killed_when_bound::shared", new_killed_when_bound),
    ("new_killed_when_live::shared", new_killed_when_live),
    ("new_killed_alone::trial", new_killed_alone),
    ("old_killed_while_new_is_proven::shared", old_killed_shared),
    ("old_killed_while_new_is_alone::trial", old_killed_trial),
    ("old_dead", old_dead),
];

/// Faults of everything else, on one version.
const OTHERS: [(&str, Fault); 25] = [
    ("probe_command_fails", probe_command_fails),
    ("health_worse", health_worse),
    ("pidfile::missing", pidfile_missing),
    ("pidfile::empty", pidfile_empty),
    ("pidfile::garbage", pidfile_garbage),
    ("pidfile::huge", pidfile_huge),
    ("pidfile::a_directory", pidfile_directory),
    ("pidfile::a_symlink", pidfile_symlink),
    ("pidfile::stale", pidfile_stale),
    ("pidfile::names_a_stranger", pidfile_stranger),
    ("pidfile::names_several", pidfile_several),
    ("pidfile::names_another_instance", pidfile_another_instance),
    ("two_at_once", two_at_once),
    ("ten_at_once", ten_at_once),
    ("disk_full::state", disk_full),
    ("state_dir::of_another", state_of_another),
    ("state_dir::a_symlink", state_symlink),
    ("haproxy::missing", haproxy_missing),
    ("haproxy::not_executable", haproxy_not_executable),
    ("haproxy::upgraded_in_place", haproxy_upgraded),
    ("interrupted::shared", interrupted_shared),
    ("interrupted::trial", interrupted_trial),
    ("interrupted::pause", interrupted_pause),
    ("master_worker", master_worker),
    ("usage", usage),
];

fn main() -> ExitCode {
    let caps = Caps::find();
    let mut trials = Vec::new();
    for (major, minor) in [(2, 2), (2, 6), (3, 0), (3, 2)] {
        for (name, fault) in STARTS {
            trials.push(trial(&caps, major, minor, name, fault));
        }
    }
    for (name, fault) in OTHERS {
        trials.push(trial(&caps, 2, 6, name, fault));
    }
    let mut arguments = Arguments::from_args();
    // How fast a fault is told is measured, and each has processes and threads of its own.
    arguments.test_threads.get_or_insert(1);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(caps: &Caps, major: u32, minor: u32, name: &str, fault: Fault) -> Trial {
    let haproxy = haproxies::of_branch(major, minor);
    let version =
        haproxy.as_ref().map_or_else(|| format!("{major}.{minor}"), |found| found.version.to_string());
    let needs = [Need::Root, Need::Netns, Need::PidfdGetfd, Need::Branch(major, minor)];
    caps.trial(&format!("{version}::{name}"), &needs, move || {
        let haproxy = haproxy.context("no such HAProxy")?;
        run_in_netns(|_| fault(&haproxy))
    })
}

/// An instance whose first generation serves under a light load.
struct Scene {
    stage: Stage,
    load: Load,
    old: u32,
}

fn plain(marker: &str) -> Config {
    Config::new().frontend(8080).marker(marker)
}

impl Scene {
    fn of(haproxy: &Haproxy, config: Config) -> Result<Scene> {
        let stage = Stage::start(HARELOAD, haproxy, config)?;
        let load = stage.load(RATE, ["g1".to_owned(), "g2".to_owned()])?;
        let old = stage.instance.pid()?;
        Ok(Scene { stage, load, old })
    }

    /// The old one serves `g1`, the configuration says `g2`.
    fn between(haproxy: &Haproxy, change: impl Fn(Config) -> Config) -> Result<Scene> {
        let mut scene = Scene::of(haproxy, plain("g1"))?;
        scene.stage.instance.write_config(change(plain("g2")))?;
        Ok(scene)
    }

    fn hareload(&self) -> Hareload {
        self.stage.hareload().arg("-v")
    }

    /// The old one serves as before, and nobody was lost.
    fn unharmed(self) -> Result<()> {
        self.old_serves()?;
        self.load.stop()?.expect_lossless().map(drop)
    }

    fn old_serves(&self) -> Result<()> {
        self.stage.expect_serving("g1")?;
        let pid = self.stage.instance.pid()?;
        ensure!(pid == self.old, "the pidfile names {pid} instead of {}", self.old);
        self.stage.instance.wait_only(&[self.old], DEADLINE)?;
        self.stage.expect_admin()?;
        self.stage.expect_tidy()
    }

    /// The new one serves, and nobody was lost.
    fn handed_over(self) -> Result<()> {
        self.new_serves()?;
        self.load.stop()?.expect_lossless().map(drop)
    }

    fn new_serves(&self) -> Result<()> {
        self.stage.expect_serving("g2")?;
        let pid = self.stage.instance.pid()?;
        ensure!(pid != self.old, "the pidfile still names the old one");
        self.stage.expect_admin()
    }

    /// The pid in the newest private pidfile, once it is there: HAProxy writes it when it is bound.
    fn bound(&self) -> Result<u32> {
        until(DEADLINE, "the new one to be bound", || {
            let files = fs::read_dir(self.stage.instance.state_dir()).ok()?;
            let names = files.flatten().map(|entry| entry.path());
            let pidfiles = names.filter(|path| path.extension().is_some_and(|kind| kind == "pid"));
            pidfiles
                .filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok())
                .filter(|pid| *pid != self.old && lives(*pid))
                .max()
        })
    }

    /// The same, once it answers on its private admin socket.
    fn live(&self) -> Result<u32> {
        let pid = self.bound()?;
        until(DEADLINE, "the new one to be live", || {
            let files = fs::read_dir(self.stage.instance.state_dir()).ok()?;
            let sockets = files.flatten().map(|entry| entry.path());
            let mut admins = sockets.filter(|path| path.extension().is_some_and(|kind| kind == "sock"));
            admins.any(|path| pid_at(&path).is_ok_and(|answers| answers == pid)).then_some(pid)
        })
    }

    /// The same, once it is the only one that listens.
    fn alone(&self) -> Result<u32> {
        let pid = self.live()?;
        until(DEADLINE, "the old one to be paused", || (self.stage.listening() == [pid]).then_some(pid))
    }
}

fn said(result: RunResult, words: &[&str]) -> Result<RunResult> {
    for word in words {
        ensure!(
            result.stderr.contains(word) || result.stdout.contains(word),
            "not said: {word:?}\nstdout: {}\nstderr: {}",
            result.stdout,
            result.stderr
        );
    }
    Ok(result)
}

// The new one's start.

fn syntax_error(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config.extra_default("nonsense and more"))?;
    let result = scene.hareload().run()?.expect_code(6)?;
    said(result, &["refused, nothing was touched", "nonsense"])?;
    scene.unharmed()
}

fn configuration_missing(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    fs::remove_file(scene.stage.instance.config_path())?;
    said(scene.hareload().run()?.expect_code(6)?, &["haproxy.cfg"])?;
    scene.unharmed()
}

fn chroot_missing(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config.extra_global("chroot /nonexistent/jail"))?;
    let result = scene.hareload().run()?.expect_code(150)?;
    said(result, &["goes on serving", "chroot"])?;
    scene.unharmed()
}

fn usesrc_without_privilege(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| {
        config
            .extra_global("user nobody")
            .append("backend far\n    source 0.0.0.0 usesrc clientip\n    server one 127.0.0.1:9")
    })?;
    let result = scene.hareload().run()?;
    // From 3.0 on HAProxy keeps the one capability that it needs.
    if haproxy.version.at_least(3, 0) && result.code == 0 {
        return scene.handed_over();
    }
    said(result.expect_code(150)?, &["goes on serving"])?;
    scene.unharmed()
}

fn limits_too_low(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config.extra_global("maxconn 50000"))?;
    // Without CAP_SYS_RESOURCE root can't raise the limit either.
    let mut command = Command::new("prlimit");
    command.args(["--nofile=4096:4096", "setpriv", "--bounding-set=-sys_resource"]);
    let result = process::run(wrapped(command, &scene.hareload()), DEADLINE)?;
    // Up to 2.2 it is a warning, and the new one serves with what it got.
    if !haproxy.version.at_least(2, 3) {
        result.expect_code(0)?;
        return scene.handed_over();
    }
    ensure!([6, 150].contains(&result.code), "exit code {}: {}", result.code, result.stderr);
    said(result, &["limit"])?;
    scene.unharmed()
}

/// The command with another one before it.
fn wrapped(mut wrapper: Command, hareload: &Hareload) -> Command {
    let command = hareload.command();
    wrapper.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapper.env(name, value),
            None => wrapper.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        wrapper.current_dir(dir);
    }
    wrapper
}

fn threads_cannot_be_created(haproxy: &Haproxy) -> Result<()> {
    let mut scene = Scene::of(haproxy, plain("g1"))?;
    scene.stage.instance.write_config(plain("g2"))?;
    let text = fs::read_to_string(scene.stage.instance.config_path())?.replace("nbthread 1", "nbthread 32");
    scene.stage.instance.write_config_text(&text)?;
    // 200 MB of address space are not enough for 32 stacks.
    let result =
        scene.hareload().args(["--ready-timeout", "2s", "--", "-m", "200"]).run()?.expect_code(150)?;
    said(result, &["goes on serving"])?;
    scene.unharmed()
}

fn foreign_port(haproxy: &Haproxy, options: &[&str]) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config.frontend_at(([127, 0, 0, 1], 8081).into()))?;
    let stranger = TcpListener::bind(("127.0.0.1", 8081))?;
    let result = scene.hareload().args(options).run()?.expect_code(150)?;
    ensure!(result.took < AT_ONCE, "told after {:?}: {}", result.took, result.stderr);
    let name = fs::read_to_string("/proc/self/comm")?;
    let holder = format!("127.0.0.1:8081 is held by pid {} ({})", std::process::id(), name.trim());
    said(result, &["goes on serving", &holder])?;
    ensure!(
        sockets::listening(std::process::id())?.contains(&stranger.local_addr()?),
        "the stranger was harmed"
    );
    if options.is_empty() || options.contains(&"trial") {
        return scene.unharmed();
    }
    // Beside the old one's, its sockets take clients that it then can't serve.
    scene.old_serves()?;
    few_lost(scene.load, 20)
}

fn foreign_port_auto(haproxy: &Haproxy) -> Result<()> {
    foreign_port(haproxy, &[])
}

fn foreign_port_trial(haproxy: &Haproxy) -> Result<()> {
    foreign_port(haproxy, &["--handover", "trial"])
}

fn foreign_port_overlap(haproxy: &Haproxy) -> Result<()> {
    foreign_port(haproxy, &["--handover", "overlap"])
}

fn foreign_port_pause(haproxy: &Haproxy) -> Result<()> {
    foreign_port(haproxy, &["--handover", "pause"])
}

fn address_not_here(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config.frontend_at(([192, 0, 2, 1], 8081).into()))?;
    said(scene.hareload().run()?.expect_code(150)?, &["goes on serving", "192.0.2.1:8081"])?;
    scene.unharmed()
}

fn probe_fails_shared(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let probe = ["--handover", "shared", "--probe", "http://127.0.0.1:8080/=404"];
    said(scene.hareload().args(probe).run()?.expect_code(150)?, &["goes on serving", "probe", "200"])?;
    scene.unharmed()
}

fn probe_fails_trial(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let probe = ["--handover", "trial", "--probe", "http://127.0.0.1:8080/=404"];
    said(scene.hareload().args(probe).run()?.expect_code(150)?, &["goes on serving", "probe", "200"])?;
    scene.unharmed()
}

fn probe_command_fails(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    said(scene.hareload().args(["--probe", "exec:exit 3"]).run()?.expect_code(150)?, &["exit 3"])?;
    scene.unharmed()
}

fn health_worse(haproxy: &Haproxy) -> Result<()> {
    let server = TcpListener::bind(("127.0.0.1", 9001))?;
    let with = |marker: &str, port: u16| {
        plain(marker)
            .append(&format!("backend app\n    server one 127.0.0.1:{port} check inter 100ms fall 1"))
    };
    let mut scene = Scene::of(haproxy, with("g1", 9001))?;
    scene.stage.instance.write_config(with("g2", 9002))?;
    let result = scene.hareload().args(["--settle", "500ms"]).run()?.expect_code(150)?;
    said(result, &["goes on serving", "backend app"])?;
    drop(server);
    scene.unharmed()
}

// The new one or the old one dies. Whoever is killed takes the connections along that it has accepted.

/// A handover during which `pid` is killed, and what came of it.
fn killing(scene: &Scene, options: &[&str], whom: fn(&Scene) -> Result<u32>) -> Result<RunResult> {
    let running = scene.hareload().args(options).spawn()?;
    let pid = whom(scene)?;
    ensure!(scene.stage.instance.signal(pid, Signal::KILL)?, "{pid} was gone already");
    running.wait(DEADLINE)
}

fn few_lost(load: Load, most: u64) -> Result<()> {
    let report = load.stop()?;
    ensure!(report.losses() <= most, "{report}: {:?}", report.failures);
    Ok(())
}

fn new_killed(haproxy: &Haproxy, options: &[&str], whom: fn(&Scene) -> Result<u32>) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let result = killing(&scene, options, whom)?.expect_code(150)?;
    said(result, &["goes on serving", "signal 9"])?;
    scene.old_serves()?;
    few_lost(scene.load, 60)
}

fn new_killed_when_bound(haproxy: &Haproxy) -> Result<()> {
    new_killed(haproxy, &["--handover", "shared", "--trial", "2s"], Scene::bound)
}

fn new_killed_when_live(haproxy: &Haproxy) -> Result<()> {
    new_killed(haproxy, &["--handover", "shared", "--trial", "2s"], Scene::live)
}

fn new_killed_alone(haproxy: &Haproxy) -> Result<()> {
    new_killed(haproxy, &["--handover", "trial", "--trial", "2s"], Scene::alone)
}

fn old_killed(haproxy: &Haproxy, options: &[&str], when: fn(&Scene) -> Result<u32>) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let running = scene.hareload().args(options).spawn()?;
    when(&scene)?;
    ensure!(scene.stage.instance.signal(scene.old, Signal::KILL)?, "the old one was gone already");
    let result = running.wait(DEADLINE)?;
    // The new one is seen through, proven or not.
    ensure!([0, 154].contains(&result.code), "exit code {}: {}", result.code, result.stderr);
    scene.new_serves()?;
    scene.stage.expect_tidy()?;
    few_lost(scene.load, 60)
}

fn old_killed_shared(haproxy: &Haproxy) -> Result<()> {
    old_killed(haproxy, &["--handover", "shared", "--trial", "500ms"], Scene::live)
}

fn old_killed_trial(haproxy: &Haproxy) -> Result<()> {
    old_killed(haproxy, &["--handover", "trial", "--trial", "500ms"], Scene::alone)
}

fn old_dead(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, plain("g1"))?;
    let before = fs::read(stage.instance.pidfile_path())?;
    stage.instance.kill_all()?;
    stage.instance.write_config(plain("g2"))?;
    said(stage.hareload().run()?.expect_code(7)?, &["which is gone", "start HAProxy first"])?;
    ensure!(stage.instance.haproxies().is_empty(), "one was started");
    ensure!(fs::read(stage.instance.pidfile_path())? == before, "the pidfile was touched");
    stage.expect_tidy()
}

// The pidfile.

/// With this in place of the pidfile, the old one is found all the same.
fn adopted(haproxy: &Haproxy, spoil: impl Fn(&Path) -> Result<()>, words: &[&str]) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    spoil(&scene.stage.instance.pidfile_path())?;
    said(scene.hareload().run()?.expect_code(0)?, words)?;
    scene.handed_over()
}

fn pidfile_missing(haproxy: &Haproxy) -> Result<()> {
    adopted(haproxy, |path| Ok(fs::remove_file(path)?), &["is missing", "adopted pid"])
}

fn pidfile_empty(haproxy: &Haproxy) -> Result<()> {
    adopted(haproxy, |path| Ok(fs::write(path, "")?), &["adopted pid"])
}

fn pidfile_garbage(haproxy: &Haproxy) -> Result<()> {
    adopted(
        haproxy,
        |path| Ok(fs::write(path, b"\x1b[2J\xff\0 -1\n99999999999999999999\n")?),
        &["adopted pid"],
    )
}

fn pidfile_huge(haproxy: &Haproxy) -> Result<()> {
    adopted(haproxy, |path| Ok(fs::write(path, "1\n".repeat(4 << 20))?), &["adopted pid"])
}

fn pidfile_stale(haproxy: &Haproxy) -> Result<()> {
    let gone = Running::start(Command::new("true"))?;
    let pid = gone.pid();
    gone.wait(DEADLINE)?;
    adopted(haproxy, |path| Ok(fs::write(path, format!("{pid}\n"))?), &["which is gone", "adopted pid"])
}

fn pidfile_directory(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let path = scene.stage.instance.pidfile_path();
    fs::remove_file(&path)?;
    fs::create_dir(&path)?;
    said(scene.hareload().run()?.expect_code(2)?, &["a directory"])?;
    fs::remove_dir(&path)?;
    fs::write(&path, format!("{}\n", scene.old))?;
    scene.unharmed()
}

fn pidfile_symlink(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let path = scene.stage.instance.pidfile_path();
    let real = scene.stage.instance.dir().join("own-real.pid");
    fs::rename(&path, &real)?;
    symlink(&real, &path)?;
    scene.hareload().run()?.expect_code(0)?;
    ensure!(fs::symlink_metadata(&path)?.is_symlink(), "the link was replaced");
    ensure!(fs::read(&real)? == fs::read(&path)?, "the link leads elsewhere");
    scene.handed_over()
}

fn pidfile_stranger(haproxy: &Haproxy) -> Result<()> {
    let mut sleep = Command::new("sleep");
    sleep.arg("600");
    let stranger = Running::start(sleep)?;
    let pid = stranger.pid();
    let words = ["which is sleep", "adopted pid"];
    adopted(haproxy, |path| Ok(fs::write(path, format!("{pid}\n"))?), &words)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    ensure!(status.contains("State:\tS"), "the stranger does not sleep any more: {status}");
    Ok(())
}

fn pidfile_several(haproxy: &Haproxy) -> Result<()> {
    let gone = Running::start(Command::new("true"))?;
    let dead = gone.pid();
    gone.wait(DEADLINE)?;
    let mut sleep = Command::new("sleep");
    sleep.arg("600");
    let stranger = Running::start(sleep)?;
    let pid = stranger.pid();
    let scene = Scene::between(haproxy, |config| config)?;
    fs::write(scene.stage.instance.pidfile_path(), format!("{dead}\n{}\n{pid}\n", scene.old))?;
    scene.hareload().run()?.expect_code(0)?;
    ensure!(lives(pid), "the stranger was killed");
    scene.handed_over()
}

fn pidfile_another_instance(haproxy: &Haproxy) -> Result<()> {
    let other = Instance::start(haproxy, Config::new().frontend(8090).marker("other"))?;
    let scene = Scene::between(haproxy, |config| config)?;
    fs::write(scene.stage.instance.pidfile_path(), format!("{}\n", other.pid()?))?;
    said(scene.hareload().run()?.expect_code(0)?, &["another pidfile", "adopted pid"])?;
    ensure!(other.serving_generation()? == "other", "the other instance was harmed");
    scene.handed_over()
}

// Several at once.

fn at_once(haproxy: &Haproxy, calls: usize) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let running = (0..calls).map(|_| scene.stage.json().spawn()).collect::<Result<Vec<_>>>()?;
    let mut generations = std::collections::BTreeSet::new();
    for one in running {
        let result = one.wait(DEADLINE)?.expect_code(0)?;
        let told = account(&result)?;
        let number = told["new"]["generation"].as_u64().with_context(|| timeline(&told))?;
        generations.insert(number);
    }
    let most = calls.min(3);
    ensure!(generations.len() <= most, "{calls} calls made {} generations", generations.len());
    ensure!(generations.last().is_some_and(|last| *last <= 3), "{generations:?} were numbered");
    scene.new_serves()?;
    scene.stage.instance.wait_only(&scene.stage.instance.pidfile()?, DEADLINE)?;
    scene.handed_over()
}

fn two_at_once(haproxy: &Haproxy) -> Result<()> {
    at_once(haproxy, 2)
}

fn ten_at_once(haproxy: &Haproxy) -> Result<()> {
    at_once(haproxy, 10)
}

// The state directory.

fn disk_full(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let state = scene.stage.instance.state_dir();
    fs::create_dir(&state)?;
    let mut codes = Vec::new();
    // A page more each time, so that each of the files is the one that does not fit.
    for pages in 0..6 {
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs -o size=64k,mode=700 none \"$1\" && \
                      head -c $((4096 * (16 - $2))) /dev/zero >\"$1/filling\" && shift 2 && exec \"$@\"";
        command.args(["-m", "sh", "-c", script, "sh"]).arg(&state).arg(pages.to_string());
        let result = process::run(wrapped(command, &scene.hareload()), DEADLINE)?;
        codes.push(result.code);
        match result.code {
            0 => return finish_disk_full(scene, &codes),
            1 | 150 => {
                ensure!(result.stderr.contains("pace"), "no word of the space: {}", result.stderr);
                scene.stage.expect_serving("g1").with_context(|| format!("after {codes:?}"))?;
                scene.stage.expect_admin().with_context(|| result.stderr.clone())?;
            }
            code => hareload_testkit::anyhow::bail!("exit code {code} with {pages} pages: {}", result.stderr),
        }
    }
    finish_disk_full(scene, &codes)
}

fn finish_disk_full(scene: Scene, codes: &[i32]) -> Result<()> {
    ensure!(codes.first() != Some(&0), "a full disk went unnoticed");
    let pids = scene.stage.listening();
    ensure!(pids == scene.stage.instance.pidfile()?, "{pids:?} listen after {codes:?}");
    scene.load.stop()?.expect_lossless().map(drop)
}

fn state_of_another(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let state = scene.stage.instance.state_dir();
    fs::create_dir(&state)?;
    chown(&state, Some(12), Some(12))?;
    said(scene.hareload().run()?.expect_code(4)?, &["belongs to uid 12"])?;
    scene.unharmed()
}

fn state_symlink(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let target = scene.stage.instance.dir().join("own-elsewhere");
    fs::create_dir(&target)?;
    symlink(&target, scene.stage.instance.state_dir())?;
    said(scene.hareload().run()?.expect_code(4)?, &["symbolic link"])?;
    ensure!(fs::read_dir(&target)?.next().is_none(), "something was written through the link");
    scene.unharmed()
}

// The program.

fn haproxy_missing(haproxy: &Haproxy) -> Result<()> {
    let mut scene = Scene::between(haproxy, |config| config)?;
    let path = scene.stage.instance.dir().join("own-nothing");
    scene.stage.instance.set_haproxy(&Haproxy { path: path.clone(), ..haproxy.clone() });
    said(scene.hareload().run()?.expect_code(5)?, &["own-nothing"])?;
    scene.unharmed()
}

fn haproxy_not_executable(haproxy: &Haproxy) -> Result<()> {
    let mut scene = Scene::between(haproxy, |config| config)?;
    let path = scene.stage.instance.dir().join("own-text");
    fs::write(&path, "not a program")?;
    scene.stage.instance.set_haproxy(&Haproxy { path: path.clone(), ..haproxy.clone() });
    said(scene.hareload().run()?.expect_code(5)?, &["own-text"])?;
    scene.unharmed()
}

fn haproxy_upgraded(haproxy: &Haproxy) -> Result<()> {
    let newer = haproxies::all().into_iter().next_back().context("no HAProxy")?;
    let room = hareload_testkit::tempfile::tempdir()?;
    let path = room.path().canonicalize()?.join("haproxy");
    fs::copy(&haproxy.path, &path)?;
    let copied = Haproxy { path: path.clone(), ..haproxy.clone() };
    let mut scene = Scene::of(&copied, plain("g1"))?;
    scene.stage.instance.write_config(plain("g2"))?;
    // As a package manager does it: a new file by another name, then the rename.
    let beside = room.path().join("haproxy.new");
    fs::copy(&newer.path, &beside)?;
    fs::rename(&beside, &path)?;
    let runs = fs::read_link(format!("/proc/{}/exe", scene.old))?;
    ensure!(runs.to_string_lossy().ends_with(" (deleted)"), "{} was not replaced", runs.display());
    // Without --haproxy: what runs is started again, which is the newer one now.
    let instance = &scene.stage.instance;
    let result = Hareload::new(HARELOAD)
        .arg("-p")
        .arg(instance.pidfile_path())
        .arg("--state-dir")
        .arg(instance.state_dir())
        .env("HARELOAD_HISTORY_DIR", instance.dir().join("history"))
        .run()?;
    result.expect_code(0)?;
    let told = instance.ask("show info")?;
    ensure!(told.contains(&format!("Version: {}", newer.version)), "another version: {told}");
    scene.handed_over()
}

fn master_worker(haproxy: &Haproxy) -> Result<()> {
    let instance = Instance::prepare(haproxy, plain("g1"))?;
    instance.run_haproxy(&["-W".to_owned()])?.expect_code(0)?;
    until(DEADLINE, "the worker to serve", || instance.serving_generation().ok())?;
    let before = instance.haproxies();
    let result = Hareload::new(HARELOAD)
        .instance(&instance)
        .env("HARELOAD_HISTORY_DIR", instance.dir().join("history"))
        .run()?
        .expect_code(3)?;
    said(result, &["master-worker"])?;
    ensure!(instance.haproxies() == before, "the processes are others now");
    ensure!(instance.serving_generation()? == "g1", "it does not serve any more");
    Ok(())
}

fn usage(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    scene.hareload().args(["--handover", "sideways"]).run()?.expect_code(2)?;
    scene.hareload().args(["--trial", "5"]).run()?.expect_code(2)?;
    scene.hareload().args(["--probe", "nonsense"]).run()?.expect_code(2)?;
    scene.unharmed()
}

// Signals to hareload.

fn interrupted(haproxy: &Haproxy, options: &[&str], exclusive: fn(Config) -> Config) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, exclusive(plain("g0")))?;
    let rounds: u64 = 24;
    let markers = (0..=rounds).map(|round| format!("g{round}"));
    let load = stage.load(RATE, markers)?;
    let mut serves = "g0".to_owned();
    let (mut through, mut undone) = (0, 0);
    for round in 1..=rounds {
        let marker = format!("g{round}");
        stage.instance.write_config(exclusive(plain(&marker)))?;
        let running = stage.hareload().arg("-v").args(options).spawn()?;
        let signal = if round.is_multiple_of(2) { Signal::INT } else { Signal::TERM };
        // Every 4 ms of a handover's first 100.
        std::thread::park_timeout(Duration::from_millis(round * 4));
        running.signal(signal)?;
        let result = running.wait(DEADLINE)?;
        let context = || {
            format!("round {round}, {signal:?} after {} ms: {}{}", round * 4, result.stdout, result.stderr)
        };
        ensure!(
            result.code == 0 || result.signal == Some(signal.as_raw()),
            "exit code {}: {}",
            result.code,
            context()
        );
        // Whoever the pidfile names is truthful if it is the one that answers.
        let answers = stage.instance.serving_generation().with_context(context)?;
        ensure!(answers == serves || answers == marker, "{answers} answers: {}", context());
        if answers == marker {
            through += 1
        } else {
            undone += 1
        }
        stage.expect_serving(&answers).with_context(context)?;
        stage.expect_admin().with_context(context)?;
        serves = answers;
    }
    eprintln!("{undone} interrupted, {through} through");
    stage.hareload().args(options).arg("--wait").run()?.expect_code(0)?;
    stage.expect_tidy()?;
    let report = load.stop()?;
    if exclusive(plain("g0")).text("s".as_ref(), "l".as_ref()).contains("noreuseport")
        && options.contains(&"pause")
    {
        eprintln!("{report}");
        return Ok(());
    }
    report.expect_lossless().map(drop)
}

fn interrupted_shared(haproxy: &Haproxy) -> Result<()> {
    interrupted(haproxy, &["--handover", "shared"], |config| config)
}

fn interrupted_trial(haproxy: &Haproxy) -> Result<()> {
    interrupted(haproxy, &["--handover", "trial", "--trial", "20ms"], |config| config)
}

fn interrupted_pause(haproxy: &Haproxy) -> Result<()> {
    interrupted(haproxy, &["--handover", "pause"], Config::noreuseport)
}
