//! Something else than the old one's pid is in the pidfile, or something else is in its place.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::instance::Instance;
use hareload_testkit::process::{self, Running, lives};

use crate::agreeing::expect_agreeing;
use crate::by;
use crate::scene::{DEADLINE, Scene};

/// How many pids are tried to be had: on a busy machine somebody else is given one.
const PIDS: u32 = 5;

/// With this in place of the pidfile, the old one is found all the same.
fn adopted(haproxy: &Haproxy, spoil: impl Fn(&Path) -> Result<()>, words: &[&str]) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    spoil(&scene.stage.instance.pidfile_path())?;
    scene.in_vain("g1")?;
    scene.hareload().run()?.expect_code(0)?.expect_said(words)?;
    scene.handed_over()
}

pub(crate) fn missing(haproxy: &Haproxy) -> Result<()> {
    adopted(haproxy, |path| Ok(fs::remove_file(path)?), &["is missing", "adopted pid"])
}

pub(crate) fn empty(haproxy: &Haproxy) -> Result<()> {
    adopted(haproxy, |path| Ok(fs::write(path, "")?), &["adopted pid"])
}

pub(crate) fn garbage(haproxy: &Haproxy) -> Result<()> {
    adopted(
        haproxy,
        |path| Ok(fs::write(path, b"\x1b[2J\xff\0 -1\n99999999999999999999\n")?),
        &["adopted pid"],
    )
}

pub(crate) fn huge(haproxy: &Haproxy) -> Result<()> {
    adopted(haproxy, |path| Ok(fs::write(path, "1\n".repeat(4 << 20))?), &["adopted pid"])
}

pub(crate) fn stale(haproxy: &Haproxy) -> Result<()> {
    let gone = Running::start(Command::new("true"))?;
    let pid = gone.pid();
    gone.wait(DEADLINE)?;
    adopted(haproxy, |path| Ok(fs::write(path, format!("{pid}\n"))?), &["which is gone", "adopted pid"])
}

pub(crate) fn a_directory(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let path = scene.stage.instance.pidfile_path();
    fs::remove_file(&path)?;
    fs::create_dir(&path)?;
    scene.hareload().run()?.expect_code(2)?.expect_said(&["a directory"])?;
    fs::remove_dir(&path)?;
    fs::write(&path, format!("{}\n", scene.old))?;
    scene.unharmed()
}

pub(crate) fn a_symlink(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let path = scene.stage.instance.pidfile_path();
    let real = scene.stage.instance.dir().join("own-real.pid");
    fs::rename(&path, &real)?;
    symlink(&real, &path)?;
    scene.in_vain("g1")?;
    scene.hareload().run()?.expect_code(0)?;
    ensure!(fs::symlink_metadata(&path)?.is_symlink(), "the link was replaced");
    ensure!(fs::read(&real)? == fs::read(&path)?, "the link leads elsewhere");
    scene.handed_over()
}

pub(crate) fn names_a_stranger(haproxy: &Haproxy) -> Result<()> {
    let mut sleep = Command::new("sleep");
    sleep.arg("600");
    let stranger = Running::start(sleep)?;
    let pid = stranger.pid();
    let words = ["which is sleep", "adopted pid"];
    adopted(haproxy, |path| Ok(fs::write(path, format!("{pid}\n"))?), &words)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    ensure!(status.contains("State:\tS"), "the stranger does not sleep any more: {status}");
    Ok(())
}

pub(crate) fn names_several(haproxy: &Haproxy) -> Result<()> {
    let gone = Running::start(Command::new("true"))?;
    let dead = gone.pid();
    gone.wait(DEADLINE)?;
    let mut sleep = Command::new("sleep");
    sleep.arg("600");
    let stranger = Running::start(sleep)?;
    let pid = stranger.pid();
    let scene = Scene::between(haproxy, |config| config)?;
    fs::write(scene.stage.instance.pidfile_path(), format!("{dead}\n{}\n{pid}\n", scene.old))?;
    scene.in_vain("g1")?;
    scene.hareload().run()?.expect_code(0)?;
    ensure!(lives(pid), "the stranger was killed");
    scene.handed_over()
}

pub(crate) fn names_another_instance(haproxy: &Haproxy) -> Result<()> {
    let other = Instance::start(haproxy, Config::new().frontend(8090).marker("other"))?;
    let scene = Scene::between(haproxy, |config| config)?;
    fs::write(scene.stage.instance.pidfile_path(), format!("{}\n", other.pid()?))?;
    scene.in_vain("g1")?;
    scene.hareload().run()?.expect_code(0)?.expect_said(&["another pidfile", "adopted pid"])?;
    ensure!(other.serving_generation()? == "other", "the other instance was harmed");
    scene.handed_over()
}

/// The pid that the records and the pidfile name was given to another program, be it one that is called haproxy too.
pub(crate) fn recycled(haproxy: &Haproxy) -> Result<()> {
    for name in ["sleep", "haproxy"] {
        let had = (0..PIDS).map(|_| recycled_by(haproxy, name)).find(|had| !matches!(had, Ok(false)));
        ensure!(had.transpose()?.is_some(), "none of {PIDS} pids could be had");
    }
    Ok(())
}

/// A stranger of this name is given the pid that the pidfile names; false if somebody else has got it.
fn recycled_by(haproxy: &Haproxy, name: &str) -> Result<bool> {
    let scene = Scene::between(haproxy, |config| config)?;
    scene.hareload().run()?.expect_code(0)?;
    let instance = &scene.stage.instance;
    let pid = instance.pid()?;
    scene.load.stop()?.expect_lossless()?;
    instance.kill_all()?;
    let program = instance.dir().join("own-bin").join(name);
    fs::create_dir(instance.dir().join("own-bin"))?;
    process::copy_program("/bin/sleep", &program)?;
    let stranger = process::start_as(pid, || {
        let mut command = Command::new(&program);
        command.arg("600");
        command
    })?;
    let Some(_stranger) = stranger else { return Ok(false) };
    let refused = by::hareload(&scene.stage).arg("-v").run()?.expect_code(7)?;
    refused.expect_said(&[by::untouched(), &format!("names pid {pid}")])?;
    scene.stage.hareload().verb("recover").run()?.expect_code(0)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    ensure!(status.contains("State:\tS"), "the stranger does not sleep any more: {status}");
    ensure!(instance.pid()? == pid, "the pidfile was touched");
    ensure!(instance.haproxies().iter().all(|one| *one == pid), "one was started");
    expect_agreeing(&scene.stage, "g2")?;
    Ok(true)
}
