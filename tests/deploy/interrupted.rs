//! A job that is cancelled before anything is touched: that is told, and nothing is.

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::killing::{self, Instants};
use hareload_testkit::process::{RunResult, Running};
use hareload_testkit::serde_json::Value;
use hareload_testkit::waiting::until;

use crate::DEADLINE;
use crate::site::{Site, told};

/// Within it a deploy goes from its beginning to its commit.
const SPAN: Duration = Duration::from_millis(300);

/// It says that it was interrupted, and dies of the signal.
fn expect_refused(result: &RunResult) -> Result<()> {
    let told = told(result)?;
    ensure!(result.signal == Some(Signal::TERM.as_raw()), "{result:?}");
    ensure!(told["interrupted"] == Signal::TERM.as_raw(), "{told}");
    ensure!(told["fate"].to_string().contains("interrupted by SIGTERM"), "{told}");
    Ok(())
}

/// Waits until SIGTERM does not simply end it any more.
fn until_caught(running: &Running) -> Result<()> {
    let status = format!("/proc/{}/status", running.pid());
    until(DEADLINE, "SIGTERM to be caught", || {
        let status = std::fs::read_to_string(&status).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        (caught >> (Signal::TERM.as_raw() - 1) & 1 == 1).then_some(())
    })
}

pub(crate) fn while_it_reads(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let (picture, pid) = (site.picture()?, site.stage.instance.pid()?);
    let stream = site.checkout("stream");
    let mut wrapper = Command::new("sh");
    // Whoever has it open for both never comes to its end.
    wrapper.args(["-c", &format!("mkfifo {0} && exec \"$@\" <> {0}", stream.display()), "sh"]);
    let running = Running::start(site.deploy("-").within(wrapper))?;
    until_caught(&running)?;
    running.signal(Signal::TERM)?;
    expect_refused(&running.wait(DEADLINE)?)?;
    ensure!(site.picture()? == picture && site.stage.instance.pid()? == pid);
    site.expect_matching("g1")
}

pub(crate) fn while_it_waits(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let (picture, pid) = (site.picture()?, site.stage.instance.pid()?);
    let lock = File::open(site.stage.instance.state_dir().join("lock"))?;
    lock.lock()?;
    let candidate = site.candidate(&Config::plain("g2"))?;
    let running = site.deploy(candidate).args(["--lock-timeout", "30s"]).spawn()?;
    until_caught(&running)?;
    running.signal(Signal::TERM)?;
    let result = running.wait(DEADLINE)?;
    drop(lock);
    expect_refused(&result)?;
    ensure!(site.picture()? == picture && site.stage.instance.pid()? == pid);
    site.expect_matching("g1")
}

/// Whenever it comes, it is heard: undone, or done already, and either is told.
pub(crate) fn at_any_instant(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let load = site.load()?;
    let seed = killing::seed();
    let mut instants = Instants::of(seed);
    let mut served = "g1".to_owned();
    let (mut undone, mut done) = (0, 0);
    for round in 0..20 {
        let marker = ["g2", "g3"][round % 2];
        let running = site.deploy(site.candidate(&Config::plain(marker))?).spawn()?;
        until_caught(&running)?;
        let at = instants.within(SPAN);
        // The instant is what is tested: there is no condition to wait for.
        std::thread::park_timeout(at);
        running.signal(Signal::TERM)?;
        let result = running.wait(DEADLINE)?;
        let told = told(&result)?;
        let what = format!("HARELOAD_TEST_SEED={seed}: round {round}, after {at:?}: {told}");
        let deployed = told["fate"] == "deployed";
        match (result.signal, &told["interrupted"]) {
            // It came when all was said.
            (_, Value::Null) => ensure!(deployed, "{what}"),
            (Some(signal), told) => ensure!(signal == Signal::TERM.as_raw() && *told == signal, "{what}"),
            (None, _) => ensure!(false, "{what}: it has not died of it"),
        }
        if deployed {
            done += 1;
            marker.clone_into(&mut served);
        } else {
            undone += 1;
        }
        site.expect_matching(&served)?;
    }
    eprintln!("interrupted within {SPAN:?}: {undone} undone, {done} done");
    load.stop()?.expect_lossless().map(drop)
}
