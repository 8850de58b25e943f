//! What happens to a candidate that serves, while it is watched.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread;
use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context as _, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::process;
use hareload_testkit::waiting::until;

use crate::DEADLINE;
use crate::site::{Site, in_mounts, run, told};

pub(crate) fn is_passed(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let load = site.load()?;
    let candidate = site.candidate(&Config::plain("g2"))?;
    let deploy = site.deploy(&candidate).args(["--probation", "1s", "--probe", "tcp://127.0.0.1:8080"]);
    let told = run(&deploy, 0)?;
    ensure!(told["watched_us"].as_u64().is_some_and(|us| us >= 1_000_000), "{told}");
    site.expect_matching("g2")?;
    load.stop()?.expect_lossless().map(drop)
}

fn until_watched(site: &Site) -> Result<()> {
    until(DEADLINE, "the candidate to be watched", || {
        let text = std::fs::read_to_string(site.history("deploy.json")).ok()?;
        text.contains("\"probation\"").then_some(())
    })
}

/// Its own HAProxy is killed two thirds on: the one before is started at once.
pub(crate) fn of_one_that_ends(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let old = site.stage.instance.pid()?;
    let running = site.deploy(site.candidate(&Config::plain("g2"))?).args(["--probation", "20s"]).spawn()?;
    until_watched(&site)?;
    let candidate = site.stage.instance.pid()?;
    ensure!(candidate != old);
    site.stage.instance.signal(candidate, Signal::KILL)?;
    let result = running.wait(DEADLINE)?.expect_code(150)?;
    let told = told(&result)?;
    ensure!(told["fate"]["undone"].as_str().is_some_and(|why| why.contains("probation")), "{told}");
    ensure!(told["undo"]["outcome"]["way"] == "start", "{told}");
    site.expect_matching("g1")
}

/// The one before is started in its own manner, not in that of whoever deploys: with its variables, its options, its place.
pub(crate) fn of_one_that_ends_elsewhere(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let instance = &site.stage.instance;
    let page = "HTTP/1.0 503 Down\r\nConnection: close\r\n\r\n";
    std::fs::write(instance.dir().join("own-503.http"), page)?;
    let with = |marker: &str| {
        let text = site.text(&Config::plain(marker).extra_default("errorfile 503 own-503.http"))?;
        Ok::<_, hareload_testkit::anyhow::Error>(text.replace("127.0.0.1:8080", "\"127.0.0.1:$OWN_PORT\""))
    };
    site.stage.hareload().verb("stop").run()?.expect_code(0)?;
    std::fs::write(instance.config_path(), with("g1")?)?;
    let start = site.stage.hareload().verb("start").env("OWN_PORT", "8080");
    start.args(["--", "-n", "777"]).run()?.expect_code(0)?;
    let candidate = site.checkout("candidate.cfg");
    std::fs::write(&candidate, with("g2")?)?;
    let running = site.deploy(candidate).from_dir("/").args(["--probation", "20s"]).spawn()?;
    until_watched(&site)?;
    instance.signal(instance.pid()?, Signal::KILL)?;
    running.wait(DEADLINE)?.expect_code(150)?;
    site.expect_matching("g1")?;
    let words = std::fs::read_to_string(format!("/proc/{}/cmdline", instance.pid()?))?;
    ensure!(words.split(char::from(0)).any(|word| word == "777"), "{words:?}");
    Ok(())
}

/// It does not pass because the time is over before it is certain.
pub(crate) fn of_one_that_hangs(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let running = site.deploy(site.candidate(&Config::plain("g2"))?).args(["--probation", "2s"]).spawn()?;
    until_watched(&site)?;
    site.stage.instance.signal(site.stage.instance.pid()?, Signal::STOP)?;
    let told = told(&running.wait(2 * DEADLINE)?.expect_code(150)?)?;
    ensure!(told["fate"]["undone"].as_str().is_some_and(|why| why.contains("probation")), "{told}");
    site.expect_matching("g1")
}

/// A backend that answers 500 from now on, to everybody.
fn failing() -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    // It ends with the test's process.
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 1024];
            let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
            let _ = stream.read(&mut head);
            let _ = stream.write_all(b"HTTP/1.1 500 Sorry\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    Ok(address)
}

pub(crate) fn of_one_that_answers_500(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let load = site.load()?;
    let candidate = site.candidate(&Config::plain("g2").backend(failing()?))?;
    let told = run(&site.deploy(&candidate).args(["--probation", "20s"]), 150)?;
    ensure!(told["fate"]["undone"].as_str().is_some_and(|why| why.contains("requests failed")), "{told}");
    let took = Duration::from_micros(told["took_us"].as_u64().unwrap_or_default());
    ensure!(took < Duration::from_secs(15), "{took:?}");
    site.expect_matching("g1")?;
    let report = load.stop()?;
    // What the candidate answered is wrong; no connection was refused or reset.
    ensure!(report.lost_by(hareload_testkit::report::Loss::Refused) == 0, "{report}");
    eprintln!("{} answers 500: undone after {took:?}: {report}", haproxy.version);
    Ok(())
}

pub(crate) fn of_one_that_fails_a_probe(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let load = site.load()?;
    // It answers for half a second, and then no more.
    let flag = site.checkout("flag");
    std::fs::write(&flag, "")?;
    let probe = format!("exec:test -e {}", flag.display());
    let candidate = site.candidate(&Config::plain("g2"))?;
    let running = site.deploy(candidate).args(["--probation", "20s", "--probe", &probe]).spawn()?;
    site.stage.expect_serving_beside("g2")?;
    std::fs::remove_file(&flag)?;
    let result = running.wait(DEADLINE)?.expect_code(150)?;
    let told = told(&result)?;
    ensure!(told["fate"]["undone"].as_str().is_some_and(|why| why.contains("exec:test -e")), "{told}");
    site.expect_matching("g1")?;
    load.stop()?.expect_lossless().map(drop)
}

/// The job is cancelled: what was there before comes back, and hareload dies of the signal when it has.
pub(crate) fn that_is_interrupted(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let load = site.load()?;
    let running = site.deploy(site.candidate(&Config::plain("g2"))?).args(["--probation", "20s"]).spawn()?;
    site.stage.expect_serving_beside("g2")?;
    running.signal(Signal::TERM)?;
    let result = running.wait(DEADLINE)?;
    ensure!(result.signal == Some(15), "{result:?}");
    ensure!(result.stdout.contains("\"undone\""), "{}", result.stdout);
    site.expect_matching("g1")?;
    load.stop()?.expect_lossless().map(drop)
}

/// What was in place can't be put back: that is said, and the candidate, whole, goes on.
pub(crate) fn without_a_way_back(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let load = site.load()?;
    let running = site.deploy(site.candidate(&Config::plain("g2"))?).args(["--probation", "20s"]).spawn()?;
    site.stage.expect_serving_beside("g2")?;
    let path = site.stage.instance.config_path();
    let immutable = |flag: &str| Command::new("chattr").arg(flag).arg(&path).status();
    if !immutable("+i").is_ok_and(|status| status.success()) {
        eprintln!("skipped: probation::without_a_way_back needs chattr and a file system that has +i");
        return running.signal(Signal::TERM);
    }
    running.signal(Signal::TERM)?;
    let result = running.wait(DEADLINE);
    immutable("-i")?;
    let told = told(&result?)?;
    ensure!(
        told["fate"]["stuck"].as_str().is_some_and(|why| why.contains("could not be put back")),
        "{told}"
    );
    ensure!(told["exit_code"] == 154, "{told}");
    site.expect_matching("g2")?;
    load.stop()?.expect_lossless().map(drop)
}

/// It is passed, since nothing is known of how that was before; but it is told.
pub(crate) fn of_a_new_backend_that_is_down(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let closed = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let backend = format!("backend later\n    server one {closed} check inter 50ms fall 1");
    let candidate = site.candidate(&Config::plain("g2").append(&backend))?;
    let told = run(&site.deploy(&candidate).args(["--probation", "2s"]), 0)?;
    ensure!(told["notes"].to_string().contains("no server is up in what is new: backend later"), "{told}");
    site.expect_matching("g2")
}

/// There is no room left to write what was in place before: it comes back all the same.
pub(crate) fn on_a_disk_that_fills_up(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let place = site.stage.instance.dir().join("own-small");
    std::fs::create_dir(&place)?;
    let (config, saved, flag) =
        (place.join("haproxy.cfg"), site.checkout("saved.cfg"), site.checkout("flag"));
    std::fs::write(&saved, site.text(&Config::plain("g1"))?)?;
    let (place, full, flag) = (place.display(), place.join("full"), flag.display());
    // The proof passes; in the probation nothing can be written any more.
    let probe = format!(
        "exec:test -e {flag} || {{ touch {flag}; exit 0; }}; cat /dev/zero > {0} 2> /dev/null; exit 1",
        full.display()
    );
    let candidate = site.candidate(&Config::plain("g2"))?;
    let deploy =
        site.deploy(&candidate).option("-f", &config).args(["--probation", "20s", "--probe", &probe]);
    let mut wrapper = Command::new("unshare");
    let script = format!(
        "mount -t tmpfs -o size=64k none {place} && cp {0} {1} && \"$@\"; \
         code=$?; test -s {2} && cmp {0} {1} || exit 99; ls -A {place}; exit $code",
        saved.display(),
        config.display(),
        full.display()
    );
    wrapper.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    let told = process::run(deploy.within(wrapper), DEADLINE)?;
    ensure!(told.code == 150 && told.stdout.contains("\"undone\""), "{told:?}");
    ensure!(told.stdout.trim_end().ends_with("}\nfull\nhaproxy.cfg"), "something is left: {told:?}");
    site.stage.expect_serving("g1")
}

/// Nothing can be written any more where its state is, and HAProxy dies: it is started from what was in place before.
pub(crate) fn of_one_that_ends_on_a_full_disk(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let instance = &site.stage.instance;
    site.stage.hareload().verb("stop").run()?.expect_code(0)?;
    let (state, flag) = (instance.state_dir(), site.checkout("flag"));
    let probe = format!(
        "exec:test -e {0} || {{ touch {0}; exit 0; }}; cat /dev/zero > {1}/full 2> /dev/null; kill -KILL $(cat {2}); exit 1",
        flag.display(),
        state.display(),
        instance.pidfile_path().display()
    );
    let start = site.stage.hareload().verb("start").command();
    let words: Vec<_> = [start.get_program()].into_iter().chain(start.get_args()).collect();
    let script = format!(
        "mount -t tmpfs -o size=2m,mode=0700 none {} && {} >&2 && exec \"$@\"",
        state.display(),
        words.join(" ".as_ref()).display()
    );
    let mut wrapper = Command::new("unshare");
    wrapper.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    let candidate = site.candidate(&Config::plain("g2"))?;
    let deploy = site.deploy(candidate).args(["--probation", "20s", "--probe", &probe]);
    let told = told(&process::run(deploy.within(wrapper), 2 * DEADLINE)?.expect_code(150)?)?;
    ensure!(told["undo"]["outcome"]["way"] == "start" && told["fate"]["undone"].is_string(), "{told}");
    site.expect_matching("g1")
}

/// Who serves can't be written down: that is no reason to think that the candidate has ended.
pub(crate) fn of_one_that_is_not_written_down(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    // Nothing can be put over what is mounted by itself.
    let current = site.stage.instance.state_dir().join("current.json");
    let bind = format!("mount --bind {0} {0}", current.display());
    let told = |marker: &str, code: i32, words: &[&str]| -> Result<()> {
        let candidate = site.candidate(&Config::plain(marker))?;
        in_mounts(&bind, &site.deploy(candidate).args(words))?.expect_code(code).map(drop)
    };
    told("g2", 0, &[])?;
    site.stage.expect_serving("g2")?;
    told("g3", 0, &["--probation", "500ms"])?;
    site.stage.expect_serving("g3")?;
    let flag = site.checkout("flag");
    let probe = format!("exec:test -e {0} || {{ touch {0}; exit 0; }}; exit 1", flag.display());
    told("g4", 150, &["--probation", "20s", "--probe", &probe])?;
    site.stage.expect_serving("g3")
}

/// Somebody else writes to what is in place, while it is watched: that is told, and what is kept is what serves.
pub(crate) fn of_a_file_that_is_changed(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    run(&site.deploy(site.candidate(&Config::plain("g2"))?), 0)?;
    let candidate = site.candidate(&Config::plain("g3"))?;
    let foretold = run(&site.deploy(&candidate).arg("--dry-run"), 0)?;
    let running = site.deploy(&candidate).args(["--probation", "2s"]).spawn()?;
    until_watched(&site)?;
    let status = run(&site.stage.json().verb("status"), 0)?;
    let drift = status["deployed"]["drift"].as_array().is_some_and(Vec::is_empty);
    ensure!(
        drift && status["notes"].to_string().contains("the deploy of configuration 3 is under way"),
        "{status}"
    );
    let path = site.stage.instance.config_path();
    std::fs::write(&path, "nonsense\n")?;
    let told = told(&running.wait(DEADLINE)?.expect_code(0)?)?;
    ensure!(told["notes"].to_string().contains("was changed by somebody else since"), "{told}");
    ensure!(told["hash_after"] == foretold["hash_after"], "{told}, and {foretold}");
    site.stage.expect_serving("g3")?;
    let status = run(&site.stage.json().verb("status"), 0)?;
    ensure!(status["deployed"]["drift"][0]["how"] == "changed", "{status}");
    ensure!(status["deployed"]["hash"] == told["hash_after"], "{status}");
    // Back to what serves.
    run(&site.rollback(), 0)?;
    site.expect_matching("g3")
}

/// Somebody else writes to what is in place while it fails: the candidate goes on, and `recover` says so until that is put right.
pub(crate) fn of_a_changed_file_that_fails(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    run(&site.deploy(site.candidate(&Config::plain("g2"))?), 0)?;
    let candidate = site.candidate(&Config::plain("g3"))?;
    let flag = site.checkout("flag");
    let probe = format!("exec:test ! -e {}", flag.display());
    let running = site.deploy(&candidate).args(["--probation", "20s", "--probe", &probe]).spawn()?;
    until_watched(&site)?;
    let path = site.stage.instance.config_path();
    std::fs::write(&path, "nonsense\n")?;
    std::fs::write(&flag, "")?;
    running.wait(DEADLINE)?.expect_code(154)?;
    site.stage.expect_serving("g3")?;
    let recover = || site.stage.json().verb("recover").run();
    let refused = told(&recover()?.expect_code(1)?)?;
    let text = refused.to_string();
    ensure!(text.contains("somebody else has changed it") && text.contains("probe"), "{refused}");
    ensure!(refused["serving"]["pids"].is_array(), "{refused}");
    let status = run(&site.stage.json().verb("status"), 0)?;
    ensure!(status["deployed"]["drift"][0]["how"] == "changed", "{status}");
    ensure!(status["notes"].to_string().contains("could not be undone"), "{status}");
    // It is put right.
    std::fs::copy(&candidate, &path)?;
    recover()?.expect_code(0)?;
    site.expect_matching("g2")?;
    let status = run(&site.stage.json().verb("status"), 0)?;
    let deployed = &status["deployed"];
    ensure!(deployed["number"] == 2 && deployed["drift"].as_array().is_some_and(Vec::is_empty), "{status}");
    ensure!(
        site.kept()?.iter().any(|(number, state)| *number == 3 && state == "failed"),
        "{:?}",
        site.kept()?
    );
    Ok(())
}

/// It is killed as soon as it is in charge, and nobody watches it: it is not told as deployed.
pub(crate) fn of_one_that_ends_at_once(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let mut undone = 0;
    for round in 2..12 {
        let old = site.stage.instance.pid()?;
        let (before, marker) = (format!("g{}", round - 1), format!("g{round}"));
        let running = site.deploy(site.candidate(&Config::plain(&marker))?).spawn()?;
        let new = until(DEADLINE, "the commit", || site.stage.instance.pid().ok().filter(|pid| *pid != old))?;
        // It may have been told as deployed by now, and may be another one.
        let _ = site.stage.instance.signal(new, Signal::KILL);
        let result = running.wait(DEADLINE)?;
        let told = told(&result)?;
        match result.code {
            150 => {
                undone += 1;
                site.expect_matching(&before).with_context(|| told.to_string())?;
            }
            0 => ensure!(told["serving"]["pids"][0] == new, "{told}"),
            // It had done all that it does.
            151 => ensure!(told["fate"]["nobody"].is_string() && told["serving"].is_null(), "{told}"),
            _ => ensure!(false, "{told}"),
        }
        // Whatever is in place is what the next one replaces.
        site.stage.hareload().verb("start").run()?.expect_code(0)?;
        std::fs::write(site.stage.instance.config_path(), site.text(&Config::plain(&marker))?)?;
        site.stage.hareload().run()?.expect_code(0)?;
    }
    eprintln!("{} killed at the commit: {undone} of 10 undone", haproxy.version);
    Ok(())
}

/// What the deploy was given is the candidate's: the one before is started, or handed back to, as it was.
pub(crate) fn of_one_with_other_settings(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let instance = &site.stage.instance;
    let defaults = site.checkout("defaults");
    let with = |marker: &str, name: &str| {
        let text = site.text(&Config::plain(marker))?;
        let text = text.replace("127.0.0.1:8080", &format!("\"127.0.0.1:${name}\""));
        Ok::<_, hareload_testkit::anyhow::Error>(text)
    };
    site.stage.hareload().verb("stop").run()?.expect_code(0)?;
    for alive in [false, true] {
        std::fs::write(instance.config_path(), with("g1", "OWN_OLD")?)?;
        std::fs::write(&defaults, "export OWN_OLD=8080\nEXTRAOPTS=\"-n 777\"\n")?;
        let start = site.stage.hareload().verb("start").env("HARELOAD_DEFAULTS_FILE", &defaults);
        start.run()?.expect_code(0)?;
        let candidate = site.checkout("candidate.cfg");
        std::fs::write(&candidate, with("g2", "OWN_NEW")?)?;
        std::fs::write(&defaults, "export OWN_NEW=8080\nEXTRAOPTS=\"-n 888\"\n")?;
        let deploy = site.deploy(candidate).env("HARELOAD_DEFAULTS_FILE", &defaults);
        let running = deploy.args(["--probation", "20s", "--", "-dW"]).spawn()?;
        until_watched(&site)?;
        match alive {
            true => running.signal(Signal::TERM)?,
            false => drop(instance.signal(instance.pid()?, Signal::KILL)?),
        }
        let result = running.wait(DEADLINE)?;
        ensure!(result.code == 150 || result.signal == Some(15), "{result:?}");
        site.expect_matching("g1")?;
        let words = std::fs::read_to_string(format!("/proc/{}/cmdline", instance.pid()?))?;
        let words: Vec<&str> = words.split(char::from(0)).collect();
        ensure!(words.contains(&"777") && !words.contains(&"888") && !words.contains(&"-dW"), "{words:?}");
        site.stage.hareload().verb("stop").run()?.expect_code(0)?;
    }
    Ok(())
}

/// It hangs, and can't be handed over from without its sockets: it is ended, and the one before is started.
pub(crate) fn of_one_that_hangs_in_a_trial(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let candidate = site.candidate(&Config::plain("g2"))?;
    let deploy = site.deploy(candidate).args(["--handover", "trial", "--probation", "20s"]);
    let running = deploy.spawn()?;
    until_watched(&site)?;
    site.stage.instance.signal(site.stage.instance.pid()?, Signal::STOP)?;
    let told = told(&running.wait(2 * DEADLINE)?.expect_code(150)?)?;
    ensure!(told["fate"]["undone"].is_string(), "{told}");
    site.expect_matching("g1")
}
