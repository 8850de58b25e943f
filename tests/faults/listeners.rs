//! Listeners that not every way can hand over, and an old one whose listeners are paused.

use std::net::{Ipv6Addr, SocketAddr};

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::config::{Admin, Config};
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::stage::Stage;
use hareload_testkit::waiting::until;

use crate::agreeing::expect_agreeing;
use crate::scene::{DEADLINE, RATE};
use crate::{HARELOAD, by};

/// Connections a second where a socket's queue is hardly ever empty.
const MANY: u32 = 4000;

/// Without a TCP listener: the sockets are borrowed all the same.
fn without_tcp(haproxy: &Haproxy, bind: &str) -> Result<()> {
    let config = |marker| Config::new().admin(Admin::Plain).marker(marker).extra_frontend(bind);
    let mut stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    for _ in 0..2 {
        let old = stage.instance.pid()?;
        by::write_next(&mut stage, config("g2"))?;
        by::hareload(&stage).arg("-v").run()?.expect_code(0)?.expect_said(&[&by::handed_over("shared")])?;
        ensure!(stage.instance.pid()? != old, "the pidfile names the old one");
        stage.expect_admin()?;
        stage.instance.wait_only(&stage.instance.pidfile()?, DEADLINE)?;
        expect_agreeing(&stage, "g2")?;
    }
    stage.expect_tidy()
}

pub(crate) fn abstract_only(haproxy: &Haproxy) -> Result<()> {
    without_tcp(haproxy, "bind abns@hareload-test")
}

pub(crate) fn unix_only(haproxy: &Haproxy) -> Result<()> {
    without_tcp(haproxy, "bind unix@own-frontend.sock")
}

/// HAProxy does not take such a one over from 2.3 on: a trial loses nobody there either.
pub(crate) fn specific_ipv6(haproxy: &Haproxy) -> Result<()> {
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, 8081));
    let config = |marker: &str| Config::new().frontend_at(address).frontend(8080).marker(marker);
    let mut stage = Stage::start(HARELOAD, haproxy, config("g0"))?;
    let load = stage.load(RATE, (0..=4).map(|generation| format!("g{generation}")))?;
    for generation in 1..=4 {
        let marker = format!("g{generation}");
        by::write_next(&mut stage, config(&marker))?;
        by::hareload(&stage)
            .arg("-v")
            .args(["--trial", "20ms"])
            .run()?
            .expect_code(0)?
            .expect_said(&[by::done()])?;
        stage.expect_serving(&marker)?;
        expect_agreeing(&stage, &marker)?;
    }
    load.stop()?.expect_lossless().map(drop)
}

/// Sockets that only one of the two has are closed, and nobody may wait there: forth, back, and on the way back.
pub(crate) fn shards(haproxy: &Haproxy) -> Result<()> {
    let config = |marker: &str, shards| Config::new().frontend(8080).shards(shards).marker(marker);
    let mut stage = Stage::start(HARELOAD, haproxy, config("g0", 4))?;
    let load = stage.load(MANY, (0..=8).map(|generation| format!("g{generation}")))?;
    for (generation, shards) in (1..=8).zip([1, 4, 2, 3, 1, 4, 1, 4]) {
        let marker = format!("g{generation}");
        by::write_next(&mut stage, config(&marker, shards))?;
        let failing = by::hareload(&stage).arg("-v").args(["--probe", "exec:false"]).run()?;
        failing.expect_code(150)?.expect_said(&[by::goes_on()])?;
        by::hareload(&stage).arg("-v").run()?.expect_code(0)?.expect_said(&[&by::handed_over("shared")])?;
        stage.expect_serving(&marker)?;
        expect_agreeing(&stage, &marker)?;
    }
    load.stop()?.expect_lossless().map(drop)
}

/// What a reload of HAProxy's own that failed may leave behind.
pub(crate) fn paused(haproxy: &Haproxy) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let old = stage.instance.pid()?;
    let deaf = || {
        let _ = stage.instance.signal(old, Signal::TTOU);
        stage.listening().is_empty().then_some(())
    };
    until(DEADLINE, "the old one to be paused", deaf)?;
    by::write_next(&mut stage, Config::plain("g2"))?;
    // A deploy foretells what changes.
    let foretold = if by::deploys() { "would change 1 file" } else { "it is paused" };
    by::hareload(&stage).arg("-v").arg("--dry-run").run()?.expect_code(0)?.expect_said(&[foretold])?;
    ensure!(stage.listening().is_empty(), "a dry run has resumed it");
    by::hareload(&stage)
        .arg("-v")
        .run()?
        .expect_code(0)?
        .expect_said(&["was paused", &by::handed_over("shared")])?;
    stage.expect_serving("g2")?;
    expect_agreeing(&stage, "g2")?;
    stage.expect_tidy()
}
