//! The new one runs, and does not serve as it should: probes and health.

use std::net::TcpListener;

use hareload_testkit::anyhow::Result;
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;

use crate::by;
use crate::scene::{Scene, few_lost};

pub(crate) fn probe_fails_shared(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let probe = ["--handover", "shared", "--probe", "http://127.0.0.1:8080/=404"];
    scene.hareload().args(probe).run()?.expect_code(150)?.expect_said(&[by::goes_on(), "probe", "200"])?;
    scene.unharmed()
}

pub(crate) fn probe_fails_trial(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let probe = ["--handover", "trial", "--probe", "http://127.0.0.1:8080/=404"];
    scene.hareload().args(probe).run()?.expect_code(150)?.expect_said(&[by::goes_on(), "probe", "200"])?;
    scene.unharmed()
}

pub(crate) fn probe_command_fails(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    scene.hareload().args(["--probe", "exec:exit 3"]).run()?.expect_code(150)?.expect_said(&["exit 3"])?;
    scene.unharmed()
}

pub(crate) fn health_worse(haproxy: &Haproxy) -> Result<()> {
    let server = TcpListener::bind(("127.0.0.1", 9001))?;
    let with = |marker: &str, port: u16| {
        Config::plain(marker)
            .append(&format!("backend app\n    server one 127.0.0.1:{port} check inter 100ms fall 1"))
    };
    let mut scene = Scene::of(haproxy, with("g1", 9001))?;
    scene.write_next(with("g2", 9002))?;
    let result = scene.hareload().args(["--settle", "500ms"]).run()?.expect_code(150)?;
    result.expect_said(&[by::goes_on(), "backend app"])?;
    drop(server);
    scene.unharmed()
}

/// A new one that hears no signal: a harder word than *retire* and *stop* ends it. What it has accepted is lost with it.
fn new_frozen(haproxy: &Haproxy, way: &str) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let freeze = "exec:kill -STOP $HARELOAD_NEW_PID; exit 1";
    let result = scene.hareload().args(["--handover", way, "--probe", freeze]).run()?.expect_code(150)?;
    result.expect_said(&[by::goes_on(), "probe", "tells the new one to kill"])?;
    scene.old_serves()?;
    // All that came between its freezing and the way back, at the rate of the load.
    few_lost(scene.load, 20)
}

pub(crate) fn new_frozen_shared(haproxy: &Haproxy) -> Result<()> {
    new_frozen(haproxy, "shared")
}

pub(crate) fn new_frozen_trial(haproxy: &Haproxy) -> Result<()> {
    new_frozen(haproxy, "trial")
}
