//! Listeners that not every way can hand over, and an old one whose listeners are paused.

use std::net::{Ipv6Addr, SocketAddr};

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::config::{Admin, Config};
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::stage::Stage;
use hareload_testkit::waiting::until;

use crate::HARELOAD;
use crate::scene::{DEADLINE, RATE};

/// Connections a second where a socket's queue is hardly ever empty.
const MANY: u32 = 4000;

/// Without a TCP listener: the sockets are borrowed all the same.
fn without_tcp(haproxy: &Haproxy, bind: &str) -> Result<()> {
    let config = |marker| Config::new().admin(Admin::Plain).marker(marker).extra_frontend(bind);
    let mut stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    for _ in 0..2 {
        let old = stage.instance.pid()?;
        stage.instance.write_config(config("g2"))?;
        stage.hareload().run()?.expect_code(0)?.expect_said(&["handed over shared"])?;
        ensure!(stage.instance.pid()? != old, "the pidfile names the old one");
        stage.expect_admin()?;
        stage.instance.wait_only(&stage.instance.pidfile()?, DEADLINE)?;
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
        stage.instance.write_config(config(&marker))?;
        stage.hareload().args(["--trial", "20ms"]).run()?.expect_code(0)?.expect_said(&["handed over"])?;
        stage.expect_serving(&marker)?;
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
        stage.instance.write_config(config(&marker, shards))?;
        let failing = stage.hareload().args(["--probe", "exec:false"]).run()?;
        failing.expect_code(150)?.expect_said(&["goes on serving"])?;
        stage.hareload().run()?.expect_code(0)?.expect_said(&["handed over shared"])?;
        stage.expect_serving(&marker)?;
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
    stage.instance.write_config(Config::plain("g2"))?;
    stage.hareload().arg("--dry-run").run()?.expect_code(0)?.expect_said(&["it is paused"])?;
    ensure!(stage.listening().is_empty(), "a dry run has resumed it");
    stage.hareload().run()?.expect_code(0)?.expect_said(&["was paused", "handed over shared"])?;
    stage.expect_serving("g2")?;
    stage.expect_tidy()
}
