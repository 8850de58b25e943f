//! The new one or the old one dies. Whoever is killed takes the connections along that it has accepted.

use std::fs;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::process::RunResult;

use crate::agreeing::{Look, expect_agreeing, expect_as_before, start};
use crate::by;
use crate::scene::{DEADLINE, Scene, few_lost};

/// A handover during which `pid` is killed, and what came of it.
fn killing(scene: &Scene, options: &[&str], whom: fn(&Scene) -> Result<u32>) -> Result<RunResult> {
    let running = scene.hareload().args(options).spawn()?;
    let pid = whom(scene)?;
    ensure!(scene.stage.instance.signal(pid, Signal::KILL)?, "{pid} was gone already");
    running.wait(DEADLINE)
}

fn new_killed(haproxy: &Haproxy, options: &[&str], whom: fn(&Scene) -> Result<u32>) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let result = killing(&scene, options, whom)?.expect_code(150)?;
    // One that dies before its start is over may be reported by its own parent, from 3.1 on, in these words.
    let told = result.stderr.contains("signal 9") || result.stderr.contains("(Killed)");
    ensure!(told, "its end is not told: {}", result.stderr);
    result.expect_said(&[by::goes_on()])?;
    scene.old_serves()?;
    few_lost(scene.load, 60)
}

pub(crate) fn new_killed_when_bound(haproxy: &Haproxy) -> Result<()> {
    new_killed(haproxy, &["--handover", "shared", "--trial", "2s"], Scene::bound)
}

pub(crate) fn new_killed_when_live(haproxy: &Haproxy) -> Result<()> {
    new_killed(haproxy, &["--handover", "shared", "--trial", "2s"], Scene::live)
}

pub(crate) fn new_killed_alone(haproxy: &Haproxy) -> Result<()> {
    new_killed(haproxy, &["--handover", "trial", "--trial", "2s"], Scene::alone)
}

fn old_killed(haproxy: &Haproxy, options: &[&str], when: fn(&Scene) -> Result<u32>) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let running = scene.hareload().args(options).spawn()?;
    when(&scene)?;
    ensure!(scene.stage.instance.signal(scene.old, Signal::KILL)?, "the old one was gone already");
    let result = running.wait(DEADLINE)?;
    // A deploy whose candidate has not proven itself leads back to what was in place, by a generation of that.
    if by::deploys() && result.code == 150 {
        result.expect_said(&[by::goes_on()])?;
        scene.stage.expect_serving("g1")?;
        ensure!(scene.stage.instance.pid()? != scene.old, "the pidfile names the dead one");
        scene.stage.expect_admin()?;
        expect_agreeing(&scene.stage, "g1")?;
        scene.expect_file_as_before()?;
        return few_lost(scene.load, 60);
    }
    // The new one is seen through, proven or not.
    ensure!([0, 154].contains(&result.code), "exit code {}: {}", result.code, result.stderr);
    scene.new_serves()?;
    scene.stage.expect_tidy()?;
    few_lost(scene.load, 60)
}

pub(crate) fn old_killed_shared(haproxy: &Haproxy) -> Result<()> {
    old_killed(haproxy, &["--handover", "shared", "--trial", "500ms"], Scene::live)
}

pub(crate) fn old_killed_trial(haproxy: &Haproxy) -> Result<()> {
    old_killed(haproxy, &["--handover", "trial", "--trial", "500ms"], Scene::alone)
}

pub(crate) fn old_dead(haproxy: &Haproxy) -> Result<()> {
    let mut stage = start(haproxy, Config::plain("g1"))?;
    let look = Look::of(&stage.instance)?;
    let before = fs::read(stage.instance.pidfile_path())?;
    stage.instance.kill_all()?;
    by::write_next(&mut stage, Config::plain("g2"))?;
    by::hareload(&stage).run()?.expect_code(7)?.expect_said(&["which is gone", "start HAProxy first"])?;
    ensure!(stage.instance.haproxies().is_empty(), "one was started");
    ensure!(fs::read(stage.instance.pidfile_path())? == before, "the pidfile was touched");
    expect_agreeing(&stage, "g1")?;
    expect_as_before(&stage, &look)?;
    stage.expect_tidy()
}
