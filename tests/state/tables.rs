//! Stick tables, which the old one teaches the new one.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::instance::Instance;
use hareload_testkit::stage::{Stage, account, timeline};

use crate::{DEADLINE, HARELOAD};

/// So many that teaching them takes longer than a `--drain-timeout` of 10 ms.
const ENTRIES: u32 = 60_000;

/// How many are set in one line: it has to fit into one buffer.
const A_LINE: u32 = 150;

fn config(marker: &str) -> Result<Config> {
    // The name that it has by itself.
    let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
    Ok(Config::plain(marker)
        .extra_frontend("stick-table type integer size 100k expire 1h store gpc0 peers mine")
        .append(&format!("peers mine\n    peer {} 127.0.0.1:10000", host.trim())))
}

fn entries(stage: &Stage) -> Option<u32> {
    let told = stage.instance.ask("show table").ok()?;
    told.split("used:").nth(1)?.split_whitespace().next()?.parse().ok()
}

pub(crate) fn taught(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, config("g0")?)?;
    for first in (0..ENTRIES).step_by(usize::try_from(A_LINE)?) {
        let set: Vec<String> =
            (first..first + A_LINE).map(|key| format!("set table test key {key} data.gpc0 7")).collect();
        stage.instance.ask(&set.join(";"))?;
    }
    ensure!(entries(&stage) == Some(ENTRIES), "{:?}", entries(&stage));
    let load = stage.load(500, (0..=3).map(|generation| format!("g{generation}")))?;
    let ways: [&[&str]; 3] = [&[], &["--handover", "trial"], &["--drain-timeout", "10ms"]];
    for (generation, args) in (1..).zip(ways) {
        stage.instance.write_config(config(&format!("g{generation}"))?)?;
        // It keeps the old one from leaving.
        let mut client = TcpStream::connect(stage.instance.address()?)?;
        client.write_all(b"GET / HTTP/1.1\r\n")?;
        let told = account(&stage.json().args(args).run()?.expect_code(0)?)?;
        let said = || format!("{args:?}{}", timeline(&told));
        if args.contains(&"--drain-timeout") {
            ensure!(told["outcome"]["rest"] == "gone", "{}", said());
            let stopped = told["took_us"].as_u64().map(Duration::from_micros);
            ensure!(stopped >= Some(Duration::from_secs(10)), "it was stopped early: {}", said());
        }
        drop(client);
        stage.instance.wait_only(&[stage.instance.pid()?], DEADLINE)?;
        ensure!(entries(&stage) == Some(ENTRIES), "{:?} are left: {}", entries(&stage), said());
        let one = stage.instance.ask("show table test key 4711")?;
        ensure!(one.contains("gpc0=7"), "{one}");
    }
    let report = load.stop()?;
    report.expect_lossless().map(drop).context("the load")
}

/// One that has just been started learns itself at first: it is waited for, and nothing that it knows is lost.
pub(crate) fn taught_by_a_young_one(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::of(HARELOAD, Instance::prepare(haproxy, config("g1")?)?);
    stage.hareload().verb("start").run()?.expect_code(0)?;
    stage.instance.ask("set table test key 4711 data.gpc0 7")?;
    stage.instance.write_config(config("g2")?)?;
    let told = account(&stage.json().run()?.expect_code(0)?)?;
    stage.instance.wait_only(&[stage.instance.pid()?], DEADLINE)?;
    let one = stage.instance.ask("show table test key 4711")?;
    ensure!(one.contains("gpc0=7"), "{one}: {}", timeline(&told));
    // The second one was taught.
    let told = account(&stage.json().run()?.expect_code(0)?)?;
    ensure!(!timeline(&told).contains("learns stick tables itself"), "{}", timeline(&told));
    stage.instance.wait_only(&[stage.instance.pid()?], DEADLINE)?;
    ensure!(stage.instance.ask("show table test key 4711")?.contains("gpc0=7"), "{}", timeline(&told));
    Ok(())
}
