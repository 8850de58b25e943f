//! `hareload healthy` with real HAProxies: red with its reason for whatever does not serve, and never red during handovers.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Result, anyhow, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::{BRANCHES, Haproxy};
use hareload_testkit::hareload::Hareload;
use hareload_testkit::nobody::Nobody;
use hareload_testkit::process::{self, RunResult};
use hareload_testkit::sockets;
use hareload_testkit::stage::Stage;
use hareload_testkit::suite::{Suite, Test};
use hareload_testkit::waiting::until;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when anything that a test waits for has happened.
const DEADLINE: Duration = Duration::from_secs(20);

/// Connections a second during handovers.
const RATE: u32 = 1000;

const TESTS: [(&str, Test); 20] = [
    ("one_that_serves_is_green", serves),
    ("one_that_finishes_its_connections_is_red", leaves),
    ("one_that_is_paused_is_red", paused),
    ("one_that_is_stopped_is_red", stopped),
    ("one_that_is_dead_is_red", dead),
    ("a_stranger_on_its_port_is_no_help", stranger),
    ("a_stranger_beside_it_is_red", shares),
    ("a_stranger_on_a_part_of_its_address_is_red", shares_a_part),
    ("a_pidfile_that_lies_is_no_help", lying_pidfile),
    ("an_edited_configuration_is_not_held_against_it", edited),
    ("a_frontend_that_is_gone_is_missed_whatever_the_file_says", disabled),
    ("addresses_come_and_go_with_a_reload", other_addresses),
    ("others_than_root_are_told_by_the_configuration", of_nobody),
    ("peers_that_are_none_are_not_missed", peers),
    ("what_has_to_work_is_asked", asked),
    ("handovers_are_not_noticed", handovers),
    ("a_new_one_that_begins_slowly_is_waited_for", slow),
    ("one_without_a_port_is_known_by_its_sockets", without_a_port),
    ("one_without_a_pidfile_is_known_by_its_configuration", without_a_pidfile),
    ("another_instance_is_no_help", another_instance),
];

fn main() -> ExitCode {
    Suite::of_this_program().on(&BRANCHES, TESTS).run()
}

fn nobody() -> Result<Nobody> {
    Nobody::with(HARELOAD, "hareload")
}

fn healthy(stage: &Stage) -> Hareload {
    stage.hareload().verb("healthy")
}

/// The same, by a user who may nothing.
fn healthy_by(nobody: &Nobody, stage: &Stage) -> Result<RunResult> {
    // Everybody may read the configuration and the pidfile, as usual.
    fs::set_permissions(stage.instance.dir(), fs::Permissions::from_mode(0o755))?;
    nobody.run(&healthy(stage))
}

/// Red for root and for everybody else, with these words for both.
fn red(stage: &Stage, words: &[&str]) -> Result<()> {
    until(DEADLINE, "it to be red", || {
        let told = healthy(stage).run().ok()?;
        (told.code == 1).then_some(())
    })?;
    let told = healthy(stage).run()?.expect_code(1)?;
    told.expect_said(words)?;
    ensure!(told.stdout.lines().count() == 1 && told.stderr.is_empty(), "{}{}", told.stdout, told.stderr);
    let other = healthy_by(&nobody()?, stage)?.expect_code(1)?;
    ensure!(other.stdout.starts_with("not healthy: "), "{}{}", other.stdout, other.stderr);
    Ok(())
}

fn green(stage: &Stage) -> Result<()> {
    for told in [healthy(stage).run()?, healthy_by(&nobody()?, stage)?] {
        let told = told.expect_code(0)?;
        ensure!(told.stdout.is_empty() && told.stderr.is_empty(), "{}{}", told.stdout, told.stderr);
    }
    Ok(())
}

fn serves(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    let before = stage.files()?;
    green(&stage)?;
    ensure!(stage.files()? == before, "it has made or removed something");
    stage.hareload().run()?.expect_code(0)?;
    stage.expect_serving("g2")?;
    green(&stage)?;
    healthy(&stage).args(["--address", "127.0.0.1:8080"]).run()?.expect_code(0)?;
    let elsewhere = healthy(&stage).args(["--address", "127.0.0.1:8081"]).run()?.expect_code(1)?;
    elsewhere.expect_said(&["does not listen on 127.0.0.1:8081"])
}

fn leaves(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let mut client = TcpStream::connect(stage.instance.address()?)?;
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nhalf: of a request")?;
    let pid = stage.instance.pid()?;
    // Once it has accepted the client it keeps it.
    until(DEADLINE, "the client to be accepted", || {
        let told = stage.json().verb("status").run().ok()?.stdout;
        told.contains("\"connections\":1").then_some(())
    })?;
    stage.instance.signal(pid, Signal::USR1)?;
    red(&stage, &[&format!("pid {pid} finishes its connections")])
}

fn paused(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let pid = stage.instance.pid()?;
    stage.instance.signal(pid, Signal::TTOU)?;
    red(&stage, &[&format!("pid {pid} is paused")])?;
    stage.instance.signal(pid, Signal::TTIN)?;
    until(DEADLINE, "it to listen again", || (stage.listening() == [pid]).then_some(()))?;
    green(&stage)
}

fn stopped(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let pid = stage.instance.pid()?;
    stage.instance.signal(pid, Signal::STOP)?;
    red(&stage, &[&format!("pid {pid} is stopped")])?;
    stage.instance.signal(pid, Signal::CONT)?;
    until(DEADLINE, "it to go on", || healthy(&stage).run().is_ok_and(|told| told.code == 0).then_some(()))?;
    green(&stage)
}

fn kill(stage: &Stage) -> Result<u32> {
    let pid = stage.instance.pid()?;
    stage.instance.signal(pid, Signal::KILL)?;
    stage.instance.wait_only(&[], DEADLINE)?;
    Ok(pid)
}

fn dead(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let pid = kill(&stage)?;
    red(&stage, &[&format!("names pid {pid}, which is gone")])?;
    fs::remove_file(stage.instance.pidfile_path())?;
    red(&stage, &["no HAProxy of this instance runs", "is missing"])
}

/// Whoever listens where it should, it is not the one that is meant.
fn stranger(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1").frontend(8081))?;
    kill(&stage)?;
    // Its sockets are closed a moment after it has ended.
    let _stranger = until(DEADLINE, "the port to be free", || TcpListener::bind(("127.0.0.1", 8080)).ok())?;
    red(&stage, &["no HAProxy of this instance runs"])?;
    // The HAProxy lives, and listens elsewhere only.
    stage.instance.write_config(Config::new().frontend(8081).marker("g1"))?;
    stage.hareload().verb("start").run()?.expect_code(0)?;
    let told = healthy(&stage).args(["--address", "127.0.0.1:8080"]).run()?.expect_code(1)?;
    told.expect_said(&["127.0.0.1:8080 is held by pid", "not by the HAProxy that works"])
}

fn lying_pidfile(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let own = std::process::id();
    let pidfile = stage.instance.pidfile_path();
    let pid = stage.instance.pid()?;
    // It serves, whatever the pidfile says.
    for text in [format!("{own}\n"), "rubbish".to_owned(), String::new()] {
        fs::write(&pidfile, text)?;
        green(&stage)?;
    }
    fs::write(&pidfile, format!("{pid}\n"))?;
    kill(&stage)?;
    fs::write(&pidfile, format!("{own}\n"))?;
    red(&stage, &[&format!("names pid {own}, which is gone, or no HAProxy that may be meant")])
}

/// Whoever edits a file must not lose the address; what he has written counts once it is what runs.
fn edited(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    // What is written in the tick of its start, it may have read; proc_pid_stat(5).
    let serves = std::time::Instant::now();
    let tick = Duration::from_millis(50);
    until(DEADLINE, "the clock of processes to go on", || (serves.elapsed() >= tick).then_some(()))?;
    stage.instance.write_config(Config::plain("g2").frontend(8081))?;
    green(&stage)?;
    stage.instance.write_config_text("rubbish")?;
    green(&stage)?;
    stage.instance.write_config(Config::plain("g2").frontend(8081))?;
    stage.hareload().run()?.expect_code(0)?;
    green(&stage)
}

/// Two frontends, of which one can be disabled.
fn two(marker: &str) -> Config {
    Config::plain(marker)
        .append("frontend other\n    bind 127.0.0.1:8081\n    http-request return status 200")
}

/// What the file says now need not be what runs: where it listened when it was proved, is written down.
fn disabled(haproxy: &Haproxy) -> Result<()> {
    const GONE: [&str; 1] = ["does not listen on 127.0.0.1:8081"];
    let mut stage = Stage::start(HARELOAD, haproxy, two("g1"))?;
    stage.hareload().run()?.expect_code(0)?;
    let turn = |stage: &Stage, how| stage.instance.ask(&format!("{how} frontend other")).map(drop);
    let is_red = |stage: &Stage| -> Result<()> {
        // Whether the configuration is named, or that of the running one is meant.
        let unnamed = Hareload::new(HARELOAD)
            .verb("healthy")
            .option("-p", stage.instance.pidfile_path())
            .option("--haproxy", &stage.instance.haproxy().path)
            .option("--state-dir", stage.instance.state_dir());
        for look in [healthy(stage), unnamed] {
            look.run()?.expect_code(1)?.expect_said(&GONE)?;
        }
        Ok(())
    };
    // Touched, with what it said before.
    stage.instance.write_config(two("g1"))?;
    green(&stage)?;
    turn(&stage, "disable")?;
    is_red(&stage)?;
    turn(&stage, "enable")?;
    green(&stage)?;
    // Edited, and not taken.
    stage.instance.write_config(two("g2").extra_global("chroot /nowhere/at/all"))?;
    ensure!(stage.hareload().run()?.code != 0);
    stage.instance.write_config(two("g2").frontend(8082))?;
    stage.expect_serving("g1")?;
    green(&stage)?;
    turn(&stage, "disable")?;
    is_red(&stage)?;
    fs::remove_file(stage.instance.config_path())?;
    is_red(&stage)?;
    turn(&stage, "enable")?;
    healthy(&stage).run()?.expect_code(0).map(drop)
}

/// What the new one holds counts, and not what the old one has held; also once the file has been touched.
fn other_addresses(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    for config in [two("g2"), Config::plain("g3"), two("g4").frontend(8082), two("g5")] {
        stage.instance.write_config(config.clone())?;
        stage.hareload().run()?.expect_code(0)?;
        green(&stage)?;
        stage.instance.write_config(config)?;
        green(&stage)?;
    }
    Ok(())
}

/// A user who may not look into it is told by what the configuration says, also where that was written since, and never by
/// what else listens on the host.
fn of_nobody(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let (nobody, _other) = (nobody()?, TcpListener::bind(("127.0.0.1", 0))?);
    let pid = stage.instance.pid()?;
    stage.instance.write_config(Config::plain("g2"))?;
    healthy_by(&nobody, &stage)?.expect_code(0)?;
    stage.instance.signal(pid, Signal::TTOU)?;
    until(DEADLINE, "it to be paused", || stage.listening().is_empty().then_some(()))?;
    healthy_by(&nobody, &stage)?.expect_code(1)?;
    stage.instance.signal(pid, Signal::TTIN)?;
    until(DEADLINE, "it to be resumed", || (!stage.listening().is_empty()).then_some(()))?;
    fs::set_permissions(stage.instance.config_path(), fs::Permissions::from_mode(0o600))?;
    stage.hareload().run()?.expect_code(0)?;
    let told = healthy_by(&nobody, &stage)?.expect_code(1)?;
    told.expect_said(&["say --address"])
}

/// A stranger on the very same address, as one of the same user can have it by SO_REUSEPORT, gets some of its clients.
fn shares(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    green(&stage)?;
    let stranger = sockets::listen_beside(stage.instance.address()?)?;
    let told = healthy(&stage).run()?.expect_code(1)?;
    told.expect_said(&["listens on 127.0.0.1:8080 too"])?;
    drop(stranger);
    green(&stage)
}

/// Who has one address of a wildcard's gets all clients of that one. What is asked for elsewhere is no matter of his.
fn shares_a_part(haproxy: &Haproxy) -> Result<()> {
    for (bind, strangers) in [("0.0.0.0:8080", "127.0.0.1:8080"), ("[::]:8080 v4v6", "0.0.0.0:8080")] {
        let config = Config::plain("g1").extra_frontend(&format!("bind {}", bind.replace("8080", "8082")));
        let stage = Stage::start(HARELOAD, haproxy, config)?;
        green(&stage)?;
        let stranger = sockets::listen_beside(strangers.replace("8080", "8082").parse()?)?;
        let told = healthy(&stage).run()?.expect_code(1)?;
        told.expect_said(&[":8082 too, and gets some of its clients"])?;
        healthy(&stage).args(["--address", "127.0.0.1:8080"]).run()?.expect_code(0)?;
        healthy(&stage).args(["--address", "127.0.0.1:8082"]).run()?.expect_code(1)?;
        drop(stranger);
        green(&stage)?;
    }
    Ok(())
}

/// A section of peers that does not name this host is dropped by HAProxy.
fn peers(haproxy: &Haproxy) -> Result<()> {
    let text = "peers others\n bind 127.0.0.1:8099\n server elsewhere 127.0.0.2:8099\n";
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1").append(text))?;
    green(&stage)
}

fn asked(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let admin = stage.instance.admin_socket();
    let url = "http://127.0.0.1:8080/";
    healthy(&stage).arg("--admin-socket").arg(&admin).args(["--probe", url]).run()?.expect_code(0)?;
    let told = healthy(&stage).args(["--probe", &format!("{url}=404")]).run()?.expect_code(1)?;
    told.expect_said(&["it answered 200, expected 404"])?;
    let told = healthy(&stage).arg("--admin-socket").arg("/nowhere/admin.sock").run()?.expect_code(1)?;
    told.expect_said(&["/nowhere/admin.sock"])?;
    let stranger = TcpListener::bind(("127.0.0.1", 0))?;
    let url = format!("tcp://{}", stranger.local_addr()?);
    let accepting = thread::spawn(move || stranger.accept());
    let told = healthy(&stage).args(["--probe", &url]).run()?.expect_code(1)?;
    told.expect_said(&["another process has accepted it"])?;
    drop(accepting);
    let told = healthy(&stage).args(["--probe", "exec:true"]).run()?.expect_code(2)?;
    told.expect_said(&["exec:"])
}

/// What the new one is to listen on is not asked of the old one.
fn slow(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let lua = stage.instance.dir().join("own-slow.lua");
    fs::write(&lua, "os.execute('sleep 0.7')\n")?;
    let slow = format!("lua-load {}", lua.display());
    stage.instance.write_config(Config::plain("g2").frontend(8081).extra_global(&slow))?;
    let reload = stage.hareload().spawn()?;
    let nobody = nobody()?;
    while !stage.listening().is_empty() && stage.instance.serving_generation()? == "g1" {
        healthy(&stage).run()?.expect_code(0)?;
        healthy_by(&nobody, &stage)?.expect_code(0)?;
    }
    reload.wait(DEADLINE)?.expect_code(0)?;
    green(&stage)
}

fn without_a_port(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let socket = stage.instance.dir().join("own-web.sock");
    let bind = format!("bind unix@{}", socket.display());
    stage.instance.write_config(Config::new().marker("g2").extra_frontend(&bind))?;
    stage.hareload().verb("restart").run()?.expect_code(0)?;
    healthy(&stage).run()?.expect_code(0)?;
    kill(&stage)?;
    healthy(&stage).run()?.expect_code(1).map(drop)
}

fn without_a_pidfile(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    kill(&stage)?;
    fs::remove_file(stage.instance.pidfile_path())?;
    let mut command = Command::new(&haproxy.path);
    command.arg("-D").arg("-f").arg(stage.instance.config_path()).current_dir(stage.instance.dir());
    process::run(command, DEADLINE)?.expect_code(0)?;
    healthy(&stage).run()?.expect_code(0).map(drop)
}

fn another_instance(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    kill(&stage)?;
    let other = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    fs::write(stage.instance.pidfile_path(), format!("{}\n", other.instance.pid()?))?;
    healthy(&stage).run()?.expect_code(1)?;
    healthy(&other).run()?.expect_code(0).map(drop)
}

fn rounds() -> usize {
    std::env::var("HARELOAD_TEST_RELOADS").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

/// Whoever looks all the time, as root or as anybody, sees it serve all the time.
fn handovers(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let load = stage.load(RATE, ["g1".to_owned()])?;
    let nobody = nobody()?;
    let over = AtomicBool::new(false);
    let looks = thread::scope(|scope| {
        let watching = scope.spawn(|| -> Result<u32> {
            let mut looks = 0;
            while !over.load(Ordering::Relaxed) {
                healthy(&stage).run()?.expect_code(0)?;
                healthy_by(&nobody, &stage)?.expect_code(0)?;
                looks += 2;
            }
            Ok(looks)
        });
        let reloads = (0..rounds()).try_for_each(|round| {
            let way = if round % 2 == 0 { "shared" } else { "trial" };
            let reload = stage.hareload().args(["--handover", way, "--trial", "20ms", "--wait"]);
            reload.run()?.expect_code(0).map(drop)
        });
        over.store(true, Ordering::Relaxed);
        let looks = watching.join().map_err(|_| anyhow!("the one who looks has panicked"))?;
        reloads.and(looks)
    })?;
    ensure!(looks > 4, "it was looked at {looks} times only");
    load.stop()?.expect_lossless().map(drop)
}
