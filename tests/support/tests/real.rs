//! The test kit against real HAProxies: what it counts is compared with what HAProxy has counted itself, and what it
//! calls lost is made to happen.

use std::process::ExitCode;
use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::backend::Server;
use hareload_testkit::caps::{Caps, Need};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::{self, Haproxy};
use hareload_testkit::instance::{Instance, Stock};
use hareload_testkit::libtest_mimic::{self, Arguments, Trial};
use hareload_testkit::load::{Load, LoadSpec};
use hareload_testkit::netns::{Netns, run_in_netns};
use hareload_testkit::report::{Loss, Report};
use hareload_testkit::waiting::until;

const DEADLINE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let caps = Caps::find();
    let mut trials = Vec::new();
    for haproxy in &caps.haproxies {
        let mut add = |name: &str, test: fn(&Netns, &Haproxy) -> Result<()>| {
            let (name, haproxy) = (format!("{name}::{}", haproxy.version), haproxy.clone());
            let test = move || run_in_netns(|netns| test(netns, &haproxy));
            trials.push(caps.trial(&name, &[Need::Root, Need::Netns], test));
        };
        add("every_connection_is_counted_as_haproxy_counts_it", every_connection_is_counted);
        add("a_killed_haproxy_is_seen_by_every_client", a_killed_haproxy_is_seen);
        add("silent_ends_of_long_held_connections_are_lost", silent_ends_are_lost);
        add("a_slow_client_outlives_a_reload", a_slow_client_outlives_a_reload);
        add("an_instance_takes_its_processes_with_it", an_instance_takes_its_processes_with_it);
        add("a_rate_is_kept", a_rate_is_kept);
    }
    if trials.is_empty() {
        let needs = [Need::Branch(2, 6)];
        trials.push(caps.trial("real", &needs, || Ok(())));
    }
    run(trials)
}

/// Each trial loads both cores: one at a time, unless asked otherwise.
fn run(trials: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn every_connection_is_counted(_: &Netns, haproxy: &Haproxy) -> Result<()> {
    let instance = Instance::start(haproxy, Config::new().frontend(8080))?;
    let load = Load::start(LoadSpec::to(vec![instance.address()?]).expecting(["g1"]))?;
    wait_for(&load, "20,000 answers", |report| report.ok > 20_000)?;
    let report = load.stop()?.expect_lossless()?;
    let statistics = instance.ask("show stat")?;
    // The eighth column is stot, the sessions so far.
    let line =
        statistics.lines().find(|line| line.starts_with("test,FRONTEND,")).context("no such frontend")?;
    let counted: u64 = line.split(',').nth(7).context("no stot")?.parse()?;
    ensure!(counted == report.connections(), "HAProxy has counted {counted}: {report}");
    ensure!(report.rate() > 4000.0, "too slow to be a load: {report}");
    Ok(())
}

fn a_killed_haproxy_is_seen(_: &Netns, haproxy: &Haproxy) -> Result<()> {
    let instance = Instance::start(haproxy, Config::new().frontend(8080))?;
    let spec = LoadSpec { keep_long: 4, ..LoadSpec::to(vec![instance.address()?]) };
    let load = Load::start(spec)?;
    wait_for(&load, "answers", |report| report.ok > 1000 && report.held.answered >= 2)?;
    instance.kill_all()?;
    wait_for(&load, "refusals", |report| report.lost_by(Loss::Refused) > 100)?;
    wait_for(&load, "broken sessions", |report| {
        report.lost_by(Loss::HeldBroken) + report.lost_by(Loss::HeldClosedIdle) >= 2
    })?;
    instance.start_stock()?;
    let before = load.report_so_far()?.ok;
    wait_for(&load, "answers again", |report| report.ok > before + 1000)?;
    ensure!(load.stop()?.expect_lossless().is_err(), "an outage went unnoticed");
    Ok(())
}

fn silent_ends_are_lost(_: &Netns, haproxy: &Haproxy) -> Result<()> {
    let tells = haproxy.version.at_least(2, 4);
    for config in [Config::new(), Config::new().idle_close_on_response()] {
        let announces = config.text("s".as_ref(), "l".as_ref()).contains("idle-close-on-response");
        if announces && !tells {
            continue;
        }
        let instance = Instance::start(haproxy, config.frontend(8080))?;
        let spec = LoadSpec { workers: 0, keep_long: 8, ..LoadSpec::to(vec![instance.address()?]) };
        let load = Load::start(spec)?;
        wait_for(&load, "sessions", |report| report.held.answered >= 8)?;
        let old = instance.pid()?;
        instance.reload_stock(Stock::FinishAndTransfer)?.expect_code(0)?;
        until(DEADLINE, "the old one to leave", || (!instance.haproxies().contains(&old)).then_some(()))?;
        let report = load.stop()?;
        let lost = report.lost_by(Loss::HeldClosedIdle);
        ensure!(report.losses() == lost, "{report}");
        ensure!((lost > 0) == (tells && !announces), "announced {announces}: {report}");
    }
    Ok(())
}

fn a_slow_client_outlives_a_reload(_: &Netns, haproxy: &Haproxy) -> Result<()> {
    let server = Server::start()?;
    let mut instance = Instance::start(haproxy, Config::new().frontend(8080).backend(server.address()))?;
    let load = Load::start(LoadSpec { workers: 2, keep_long: 2, ..LoadSpec::to(vec![instance.address()?]) })?;
    wait_for(&load, "both long-held connections", |report| report.held.opened >= 2 && report.ok > 10)?;
    let old = instance.pid()?;
    instance.write_config(Config::new().frontend(8080).backend(server.address()).marker("g2"))?;
    instance.reload_stock(Stock::FinishAndTransfer)?.expect_code(0)?;
    wait_for(&load, "the new generation", |report| report.answered_by("g2") > 100)?;
    ensure!(instance.haproxies().contains(&old), "the old one left a client that was still reading");
    until(DEADLINE, "the old one to leave", || (!instance.haproxies().contains(&old)).then_some(()))?;
    ensure!(instance.serving_generation()? == "g2", "the wrong one serves");
    let report = load.stop()?;
    ensure!(report.lost_by(Loss::HeldBroken) == 0, "{report}");
    Ok(())
}

fn an_instance_takes_its_processes_with_it(_: &Netns, haproxy: &Haproxy) -> Result<()> {
    let instance = Instance::start(haproxy, Config::new().frontend(8080))?;
    let other = Instance::start(haproxy, Config::new().frontend(8081))?;
    ensure!(instance.haproxies() == instance.pidfile()?, "not those of the pidfile");
    let pid = instance.pid()?;
    let own = instance.processes().iter().all(|process| process.executable == haproxy.path);
    ensure!(own, "/proc names another executable than the one that was started");
    ensure!(!other.signal(pid, Signal::TERM)?, "another instance's process was signalled");
    drop(instance);
    ensure!(!hareload_testkit::process::lives(pid), "left behind");
    ensure!(other.serving_generation()? == "g1", "taken along");
    ensure!(haproxies::at(&haproxy.path)? == *haproxy, "another version than its directory's name");
    Ok(())
}

fn a_rate_is_kept(_: &Netns, haproxy: &Haproxy) -> Result<()> {
    let instance = Instance::start(haproxy, Config::new().frontend(8080))?;
    let spec = LoadSpec { rate: Some(500), ..LoadSpec::to(vec![instance.address()?]) };
    let load = Load::start(spec)?;
    wait_for(&load, "a second's answers", |report| report.took > Duration::from_secs(1))?;
    let report = load.stop()?.expect_lossless()?;
    ensure!((450.0..=510.0).contains(&report.rate()), "{report}");
    Ok(())
}

fn wait_for(load: &Load, what: &str, seen: impl Fn(&Report) -> bool) -> Result<()> {
    until(DEADLINE, what, || load.report_so_far().is_ok_and(|report| seen(&report)).then_some(()))
        .with_context(|| {
            load.report_so_far().map_or_else(|error| error.to_string(), |report| report.to_string())
        })
}
