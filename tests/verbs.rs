//! What can go wrong with `start`, `restart` and their kin, made to happen to real HAProxies.
//!
//! A start that can't be leaves nothing behind and says why. A restart that can't be is refused before anybody is
//! stopped, wherever that can be told beforehand: the old one goes on as if nothing had been asked.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::{BRANCHES, Haproxy};
use hareload_testkit::hareload::Hareload;
use hareload_testkit::instance::Instance;
use hareload_testkit::process::{self, Running};
use hareload_testkit::stage::{Stage, account};
use hareload_testkit::suite::{Suite, Test};
use hareload_testkit::waiting::until;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when anything that a test waits for has happened.
const DEADLINE: Duration = Duration::from_secs(30);

/// Ways to begin where nobody runs.
const BEGINNINGS: [&[&str]; 3] = [&["start"], &["restart"], &["reload", "--start"]];

/// Ways to end one and begin another.
const RESTARTS: [&str; 2] = ["restart", "try-restart"];

/// On every version.
const STARTS: [(&str, Test); 11] = [
    ("start::syntax_error", start_syntax_error),
    ("start::no_listener", start_no_listener),
    ("start::master_worker", start_master_worker),
    ("start::chroot_missing", start_chroot_missing),
    ("start::foreign_port", start_foreign_port),
    ("start::threads_cannot_be_created", start_threads),
    ("start::probe_fails", start_probe_fails),
    ("restart::configuration", restart_configuration),
    ("restart::threads_cannot_be_created", restart_threads),
    ("restart::environment", restart_environment),
    ("restart::probe_fails", restart_probe_fails),
];

/// On one version.
const OTHERS: [(&str, Test); 19] = [
    ("start::instance_without_configuration", start_instance_without_configuration),
    ("start::exported_variables", start_exported),
    ("reload::state_dir_in_two_spellings", reload_state_dir_spelled),
    ("stop::one_in_a_container", stop_beside_a_container),
    ("start::pidfile_of_another", start_pidfile_of_another),
    ("start::pidfile_of_one_that_drains", start_pidfile_of_one_that_drains),
    ("start::two_instances_by_name", start_two_instances),
    ("restart::state_dir_too_long", restart_state_dir),
    ("restart::pidfile_read_only", restart_pidfile_read_only),
    ("start::relative_paths", start_relative_paths),
    ("reload::withdrawn_defaults", reload_withdrawn),
    ("reload::ends_at_once", reload_ends_at_once),
    ("restart::program_is_no_haproxy", restart_program),
    ("restart::disk_full", restart_disk_full),
    ("restart::in_vain", restart_in_vain),
    ("reload::another_beside", reload_with_another_beside),
    ("stop::stopped", stop_stopped),
    ("stop::odd_defaults_file", stop_with_an_odd_defaults_file),
    ("stop::interrupted", stop_interrupted),
];

fn main() -> ExitCode {
    Suite::of_this_program().on(&BRANCHES, STARTS).on(&[(2, 6)], OTHERS).run()
}

/// Nobody runs; the configuration is this one.
fn stopped(haproxy: &Haproxy, config: Config) -> Result<Stage> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    stage.hareload().verb("stop").run()?.expect_code(0)?;
    stage.instance.write_config(config)?;
    Ok(stage)
}

/// `g1` runs; the configuration is this one.
fn running(haproxy: &Haproxy, config: Config) -> Result<(Stage, u32)> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    stage.instance.write_config(config)?;
    let pid = stage.instance.pid()?;
    Ok((stage, pid))
}

fn begin(stage: &Stage, words: &[&str]) -> Hareload {
    let (verb, options) = words.split_first().unwrap_or((&"start", &[]));
    stage.hareload().verb(verb).args(options)
}

fn nobody(stage: &Stage) -> Result<()> {
    stage.instance.wait_only(&[], DEADLINE)?;
    ensure!(!stage.instance.pidfile_path().exists(), "a pidfile is left");
    stage.expect_tidy()
}

/// Every way to begin with this configuration fails with this code and these words, and nobody is left.
fn cannot_begin(
    haproxy: &Haproxy,
    config: Config,
    options: &[&str],
    codes: &[i32],
    words: &[&str],
) -> Result<()> {
    let stage = stopped(haproxy, config)?;
    for beginning in BEGINNINGS {
        let result = begin(&stage, beginning).args(options).run()?;
        let context = || format!("{beginning:?}: {}{}", result.stdout, result.stderr);
        ensure!(codes.contains(&result.code), "exit code {}: {}", result.code, context());
        result.expect_said(words).with_context(context)?;
        nobody(&stage).with_context(context)?;
    }
    Ok(())
}

fn start_syntax_error(haproxy: &Haproxy) -> Result<()> {
    cannot_begin(haproxy, Config::plain("g2").extra_default("nonsense and more"), &[], &[6], &["nonsense"])
}

fn start_no_listener(haproxy: &Haproxy) -> Result<()> {
    let stage = stopped(haproxy, Config::plain("g2"))?;
    for text in ["", "global\n    maxconn 100\ndefaults\n    mode http\n    timeout client 1s\n"] {
        stage.instance.write_config_text(text)?;
        for beginning in BEGINNINGS {
            let result = begin(&stage, beginning).run()?.expect_code(6)?;
            result.expect_said(&["names nothing to listen on"])?;
            nobody(&stage)?;
        }
    }
    // The word is there, and nothing that listens: only a start can tell.
    stage.instance.write_config_text("# bind nothing\nglobal\n    maxconn 100\n")?;
    let result = begin(&stage, &["start"]).run()?.expect_code(151)?;
    result.expect_said(&["holds no listening socket"])?;
    nobody(&stage)
}

fn start_master_worker(haproxy: &Haproxy) -> Result<()> {
    let config = Config::plain("g2").extra_global("master-worker");
    cannot_begin(haproxy, config.clone(), &[], &[3], &["master-worker", "remove that line"])?;
    let (stage, old) = running(haproxy, config)?;
    stage.hareload().verb("check").run()?.expect_code(6)?.expect_said(&["error[master-worker]"])?;
    for verb in RESTARTS {
        stage.hareload().verb(verb).run()?.expect_code(3)?.expect_said(&["master-worker"])?;
        stage.expect_unharmed(old)?;
    }
    Ok(())
}

fn start_chroot_missing(haproxy: &Haproxy) -> Result<()> {
    // A restart checks first.
    let config = Config::plain("g2").extra_global("chroot /nonexistent/jail");
    cannot_begin(haproxy, config, &[], &[6, 151], &["chroot"])
}

fn start_foreign_port(haproxy: &Haproxy) -> Result<()> {
    let _stranger = TcpListener::bind(("127.0.0.1", 8081))?;
    let holder = format!("127.0.0.1:8081 is held by pid {}", std::process::id());
    let config = Config::plain("g2").frontend_at(([127, 0, 0, 1], 8081).into());
    cannot_begin(haproxy, config, &[], &[6, 151], &[&holder])
}

fn start_threads(haproxy: &Haproxy) -> Result<()> {
    let stage = stopped(haproxy, Config::plain("g2"))?;
    let text = fs::read_to_string(stage.instance.config_path())?.replace("nbthread 1", "nbthread 32");
    stage.instance.write_config_text(&text)?;
    // 200 MB of address space are not enough for 32 stacks.
    let options = ["--ready-timeout", "2s", "--", "-m", "200"];
    let result = begin(&stage, &["start"]).args(options).run()?.expect_code(151)?;
    result.expect_said(&["nobody serves"])?;
    nobody(&stage)
}

fn start_probe_fails(haproxy: &Haproxy) -> Result<()> {
    let stage = stopped(haproxy, Config::plain("g2"))?;
    for beginning in [&["start"][..], &["reload", "--start"]] {
        let options = ["--probe", "http://127.0.0.1:8080/=404"];
        let result = begin(&stage, beginning).args(options).run()?.expect_code(151)?;
        result.expect_said(&["probe", "200"])?;
        nobody(&stage)?;
    }
    Ok(())
}

/// What a check finds, and what the start of one that runs as this one does would be refused for.
fn restart_configuration(haproxy: &Haproxy) -> Result<()> {
    let _stranger = TcpListener::bind(("127.0.0.1", 8081))?;
    let broken = [
        (Config::plain("g2").extra_default("nonsense and more"), "nonsense"),
        (Config::plain("g2").extra_global("chroot /nonexistent/jail"), "chroot"),
        (Config::plain("g2").frontend_at(([127, 0, 0, 1], 8081).into()), "127.0.0.1:8081"),
    ];
    let (mut stage, old) = running(haproxy, Config::plain("g2"))?;
    for (config, word) in broken {
        stage.instance.write_config(config)?;
        for verb in RESTARTS {
            stage.hareload().verb(verb).run()?.expect_code(6)?.expect_said(&["nothing was touched", word])?;
            stage.expect_unharmed(old)?;
        }
    }
    stage.instance.write_config_text("")?;
    stage.hareload().verb("restart").run()?.expect_code(6)?.expect_said(&["nothing to listen on"])?;
    stage.expect_unharmed(old)
}

fn restart_threads(haproxy: &Haproxy) -> Result<()> {
    let (stage, old) = running(haproxy, Config::plain("g2"))?;
    let text = fs::read_to_string(stage.instance.config_path())?.replace("nbthread 1", "nbthread 32");
    stage.instance.write_config_text(&text)?;
    let result = stage.hareload().verb("restart").args(["--", "-m", "200"]).run()?.expect_code(6)?;
    result.expect_said(&["nothing was touched", "-m 200"])?;
    stage.expect_unharmed(old)
}

/// What only a start can tell leaves nobody, and is said so.
fn restart_in_vain(haproxy: &Haproxy) -> Result<()> {
    let twice = "    bind abns@hareload-test-twice\n";
    let config = Config::plain("g2").append(&format!("frontend one\n{twice}frontend two\n{twice}"));
    let (stage, _) = running(haproxy, config)?;
    let result = stage.hareload().verb("restart").run()?.expect_code(151)?;
    result.expect_said(&["nobody serves", "already in use"])?;
    nobody(&stage)
}

/// The next one gets the variables that the stopped one was started with.
fn restart_environment(haproxy: &Haproxy) -> Result<()> {
    let stage = stopped(haproxy, Config::plain("g1"))?;
    let plain = Config::plain("g1").text(&stage.instance.admin_socket(), Path::new("/dev/null"));
    stage.instance.write_config_text(&plain.replace("127.0.0.1:8080", "\"127.0.0.1:$OWN_PORT\""))?;
    stage.hareload().env("OWN_PORT", "8080").verb("start").run()?.expect_code(0)?;
    for verb in RESTARTS {
        stage.hareload().verb(verb).run()?.expect_code(0)?;
        stage.expect_serving("g1")?;
    }
    Ok(())
}

/// Nobody else is left who could serve: the new one is kept, and the exit code says that it is not proven.
fn restart_probe_fails(haproxy: &Haproxy) -> Result<()> {
    let (stage, _) = running(haproxy, Config::plain("g2"))?;
    let restart = stage.hareload().verb("restart").args(["--probe", "tcp://127.0.0.1:9"]);
    let result = restart.run()?.expect_code(154)?;
    result.expect_said(&["tcp://127.0.0.1:9"])?;
    stage.expect_serving("g2")?;
    stage.expect_admin()?;
    stage.expect_tidy()
}

fn start_instance_without_configuration(haproxy: &Haproxy) -> Result<()> {
    let stage = stopped(haproxy, Config::plain("g1"))?;
    let bare =
        Hareload::new(HARELOAD).verb("start").args(["--instance", "web", "--haproxy"]).arg(&haproxy.path);
    let bare = bare.option("--state-dir", stage.instance.state_dir());
    bare.run()?.expect_code(2)?.expect_said(&["instance web", "--config"])?;
    nobody(&stage)
}

/// What the distribution's file exports reaches HAProxy, also without a running one to inherit it from.
fn start_exported(haproxy: &Haproxy) -> Result<()> {
    let stage = stopped(haproxy, Config::plain("g1"))?;
    let plain = Config::plain("g1").text(&stage.instance.admin_socket(), Path::new("/dev/null"));
    stage.instance.write_config_text(&plain.replace("127.0.0.1:8080", "\"127.0.0.1:$OWN_PORT\""))?;
    let file = stage.instance.dir().join("own-defaults");
    fs::write(&file, "export OWN_PORT=8080\n")?;
    for verb in ["check", "start", "reload", "restart"] {
        stage.hareload().env("HARELOAD_DEFAULTS_FILE", &file).verb(verb).run()?.expect_code(0)?;
    }
    stage.expect_serving("g1")
}

/// What is taken out of the distribution's file is not given any more; what came from elsewhere is.
fn reload_withdrawn(haproxy: &Haproxy) -> Result<()> {
    let stage = stopped(haproxy, Config::plain("g1"))?;
    let file = stage.instance.dir().join("own-defaults");
    let run = |verb: &str| stage.hareload().env("HARELOAD_DEFAULTS_FILE", &file).verb(verb);
    for verb in ["reload", "restart"] {
        fs::write(&file, "export OWN_COLOUR=red\nexport OWN_SHAPE=round\nEXTRAOPTS=\"-n 777\"\n")?;
        run("start").env("OWN_SIZE", "small").args(["--", "-dr"]).run()?.expect_code(0)?;
        fs::write(&file, "export OWN_SHAPE=round\n")?;
        run(verb).run()?.expect_code(0)?;
        let pid = stage.instance.pid()?;
        let of_pid = |name| fs::read_to_string(format!("/proc/{pid}/{name}"));
        let of_pid = |name| of_pid(name).map(|text| text.replace('\0', " "));
        let (words, variables) = (of_pid("cmdline")?, of_pid("environ")?);
        ensure!(words.contains(" -dr") && !words.contains("777"), "{verb}: {words}");
        ensure!(variables.contains("OWN_SHAPE=round") && variables.contains("OWN_SIZE=small"), "{variables}");
        ensure!(!variables.contains("OWN_COLOUR"), "{verb}: {variables}");
        run("stop").run()?.expect_code(0)?;
    }
    nobody(&stage)
}

/// The new one is killed as soon as it is in charge: if that is seen, nobody is told to serve.
fn reload_ends_at_once(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    for _ in 0..10 {
        let old = stage.instance.pid()?;
        let running = stage.json().verb("reload").spawn()?;
        let new = until(DEADLINE, "the commit", || stage.instance.pid().ok().filter(|pid| *pid != old))?;
        stage.instance.signal(new, Signal::KILL)?;
        let result = running.wait(DEADLINE)?;
        let told = account(&result)?;
        match result.code {
            0 => ensure!(told["serving"]["pids"][0] == new, "{told}"),
            151 => ensure!(told["serving"].is_null(), "{told}"),
            _ => ensure!(false, "{result:?}"),
        }
        stage.hareload().verb("start").run()?.expect_code(0)?;
    }
    stage.expect_serving("g2")
}

/// Whoever comes after the start may be somewhere else.
fn start_relative_paths(haproxy: &Haproxy) -> Result<()> {
    let page = "errorfile 503 own-503.http";
    let stage = stopped(haproxy, Config::plain("g1").extra_default(page))?;
    let dir = stage.instance.dir();
    fs::write(dir.join("own-503.http"), "HTTP/1.0 503 Down\r\nConnection: close\r\n\r\n")?;
    stage.hareload().verb("start").option("-f", "haproxy.cfg").run()?.expect_code(0)?;
    for verb in ["check", "reload", "restart", "reload"] {
        stage.hareload().verb(verb).from_dir("/").run()?.expect_code(0).with_context(|| verb.to_owned())?;
    }
    stage.expect_serving("g1")
}

/// Two ways to write the same directory are one.
fn reload_state_dir_spelled(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    let link = stage.instance.dir().join("own-link");
    std::os::unix::fs::symlink(stage.instance.dir(), &link)?;
    for dir in [link.join("state"), stage.instance.state_dir(), link.join("state/../state")] {
        stage.hareload().option("--state-dir", &dir).arg("--wait").run()?.expect_code(0)?;
    }
    stage.hareload().verb("restart").run()?.expect_code(0)?;
    stage.expect_serving("g2")
}

/// One in another pid namespace is not ours, whatever its words are.
fn stop_beside_a_container(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    let config = stage.instance.dir().join("own-other.cfg");
    fs::write(&config, "defaults\n mode http\n timeout client 1s\nfrontend f\n bind 127.0.0.1:8099\n")?;
    let mut container = Command::new("unshare");
    container.args(["--pid", "--fork", "--kill-child"]).arg(&haproxy.path).arg("-db").arg("-f").arg(&config);
    container.arg("-p").arg(stage.instance.pidfile_path());
    let before = stage.instance.pid()?;
    let container = Running::start(container)?;
    until(DEADLINE, "the container to listen", || std::net::TcpStream::connect(("127.0.0.1", 8099)).ok())?;
    fs::write(stage.instance.pidfile_path(), format!("{before}\n"))?;
    stage.hareload().verb("stop").run()?.expect_code(0)?;
    ensure!(std::net::TcpStream::connect(("127.0.0.1", 8099)).is_ok(), "the container's HAProxy was stopped");
    stage.hareload().verb("status").run()?.expect_code(3)?;
    drop(container);
    Ok(())
}

fn start_pidfile_of_another(haproxy: &Haproxy) -> Result<()> {
    let (stage, _) = running(haproxy, Config::plain("g1"))?;
    stage.hareload().verb("restart").run()?.expect_code(0)?;
    let old = stage.instance.pid()?;
    let second = Instance::prepare(haproxy, Config::new().frontend(8090).marker("second"))?;
    let hareload = Hareload::new(HARELOAD).instance(&second).args(["--instance", "second"]);
    for verb in ["start", "restart"] {
        let result =
            hareload.clone().verb(verb).option("-p", stage.instance.pidfile_path()).run()?.expect_code(2)?;
        result.expect_said(&[&format!("names pid {old}, another HAProxy"), "--pidfile"])?;
        ensure!(second.haproxies().is_empty(), "one was started");
        stage.expect_unharmed(old)?;
    }
    Ok(())
}

/// One that drains is nobody's pidfile: it was stopped by hand a moment ago.
fn start_pidfile_of_one_that_drains(haproxy: &Haproxy) -> Result<()> {
    let (stage, old) = running(haproxy, Config::plain("g2"))?;
    let _client = std::net::TcpStream::connect(stage.instance.address()?)?;
    ensure!(stage.instance.signal(old, hareload_testkit::Signal::USR1)?, "the old one was gone already");
    hareload_testkit::waiting::until(DEADLINE, "the old one to drain", || {
        stage.listening().is_empty().then_some(())
    })?;
    stage.hareload().verb("start").run()?.expect_code(0)?;
    stage.expect_serving("g2")
}

/// Without a pidfile named, each instance has its own.
fn start_two_instances(_: &Haproxy) -> Result<()> {
    let mut bare = Command::new(HARELOAD);
    bare.args(["settings", "--settings", "/dev/null", "--instance", "web"]).env_clear();
    process::run(bare, DEADLINE)?.expect_code(0)?.expect_said(&["/run/haproxy-web.pid"])
}

fn restart_state_dir(haproxy: &Haproxy) -> Result<()> {
    let (stage, old) = running(haproxy, Config::plain("g2"))?;
    let long = stage.instance.dir().join(format!("own-{}", "l".repeat(90)));
    let result = stage.hareload().verb("restart").option("--state-dir", long).run()?.expect_code(2)?;
    result.expect_said(&["state-dir"])?;
    stage.expect_unharmed(old)
}

fn restart_pidfile_read_only(haproxy: &Haproxy) -> Result<()> {
    let (stage, old) = running(haproxy, Config::plain("g2"))?;
    // The state has to be writable all the same.
    let script = "mount --bind \"$1\" \"$1\" && mount --bind \"$2\" \"$2\" && mount -o remount,bind,ro \"$1\" && \
                  shift 2 && exec \"$@\"";
    let state = stage.instance.state_dir();
    fs::create_dir_all(&state)?;
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(stage.instance.dir()).arg(&state);
    let result = process::run(stage.hareload().verb("restart").within(command), DEADLINE)?.expect_code(4)?;
    result.expect_said(&["can't be written to"])?;
    stage.expect_unharmed(old)
}

/// Several programs end well, whatever they are given.
fn restart_program(haproxy: &Haproxy) -> Result<()> {
    let (stage, old) = running(haproxy, Config::plain("g2"))?;
    let result = stage.hareload().verb("restart").option("--haproxy", "/bin/true").run()?.expect_code(5)?;
    result.expect_said(&["/bin/true is not HAProxy"])?;
    stage.expect_unharmed(old)
}

/// Whatever does not fit, the old one serves or the new one does.
fn restart_disk_full(haproxy: &Haproxy) -> Result<()> {
    let (stage, _) = running(haproxy, Config::plain("g2"))?;
    let state = stage.instance.state_dir();
    fs::create_dir_all(&state)?;
    let mut codes = Vec::new();
    for pages in (0..8).chain([64, 80]) {
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs -o size=512k,mode=700 none \"$1\" && \
                      head -c $((4096 * (128 - $2))) /dev/zero >\"$1/filling\" && shift 2 && exec \"$@\"";
        command.args(["-m", "sh", "-c", script, "sh"]).arg(&state).arg(pages.to_string());
        let result = process::run(stage.hareload().verb("restart").within(command), DEADLINE)?;
        codes.push(result.code);
        match result.code {
            0 => return stage.expect_serving("g2").with_context(|| format!("{codes:?}")),
            1 => {
                result.expect_said(&["pace"])?;
                stage.expect_serving("g1").with_context(|| format!("{codes:?}: {}", result.stderr))?;
            }
            code => ensure!(code == 0, "exit code {code} with {pages} pages: {}", result.stderr),
        }
    }
    ensure!(codes.last() == Some(&0), "there was room, and no restart: {codes:?}");
    Ok(())
}

/// One that another was started beside by hand goes on, and is named.
fn reload_with_another_beside(haproxy: &Haproxy) -> Result<()> {
    let (stage, old) = running(haproxy, Config::plain("g2"))?;
    stage.instance.start_stock()?;
    let result = stage.hareload().run()?.expect_code(0)?;
    result.expect_said(&[&format!("goes on as before, pid {old}"), "hareload restart"])?;
    stage.hareload().verb("restart").run()?.expect_code(0)?;
    stage.expect_serving("g2")?;
    stage.instance.wait_only(&[stage.instance.pid()?], DEADLINE)
}

/// How HAProxy is started does not matter to a stop.
fn stop_with_an_odd_defaults_file(haproxy: &Haproxy) -> Result<()> {
    let (stage, old) = running(haproxy, Config::plain("g2"))?;
    let file = stage.instance.dir().join("own-defaults");
    fs::write(&file, b"# caf\xe9\nulimit -n 65536\n")?;
    let hareload = stage.hareload().env("HARELOAD_DEFAULTS_FILE", &file);
    for verb in ["reload", "restart"] {
        hareload.clone().verb(verb).run()?.expect_code(2)?.expect_said(&["own-defaults", "line 2"])?;
        stage.expect_unharmed(old)?;
    }
    hareload.clone().verb("status").arg("--quiet").run()?.expect_code(0)?;
    hareload.verb("stop").run()?.expect_code(0)?.expect_said(&["warning", "line 2", "left out"])?;
    nobody(&stage)
}

/// Told to end at any instant, it leaves nobody who serves and no pidfile that lies, or it has done nothing.
fn stop_interrupted(haproxy: &Haproxy) -> Result<()> {
    let (stage, _) = running(haproxy, Config::plain("g2"))?;
    for part in 0..12 {
        stage.hareload().verb("start").run()?.expect_code(0)?;
        let stop = stage.hareload().verb("stop").spawn()?;
        std::thread::park_timeout(Duration::from_millis(2 * part));
        stop.signal(hareload_testkit::Signal::INT)?;
        let result = stop.wait(DEADLINE)?;
        let context = || format!("after {} ms: {}{}", 2 * part, result.stdout, result.stderr);
        ensure!(result.code == 0 || result.signal == Some(2), "exit code {}: {}", result.code, context());
        let named = stage.instance.pidfile().unwrap_or_default();
        let alive = stage.instance.haproxies();
        ensure!(
            named.iter().all(|pid| alive.contains(pid)),
            "{named:?} named, {alive:?} live: {}",
            context()
        );
    }
    stage.hareload().verb("stop").run()?.expect_code(0)?;
    nobody(&stage)
}

/// One that hears nothing leaves all the same, within its time.
fn stop_stopped(haproxy: &Haproxy) -> Result<()> {
    let (stage, old) = running(haproxy, Config::plain("g2"))?;
    ensure!(stage.instance.signal(old, hareload_testkit::Signal::STOP)?, "the old one was gone already");
    stage.hareload().verb("stop").args(["--drain-timeout", "500ms"]).run()?.expect_code(0)?;
    nobody(&stage)
}
