//! HAProxy's program is missing, is none, is another one by now, or runs as a master with workers.

use std::fs;

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::{self, Haproxy};
use hareload_testkit::hareload::Hareload;
use hareload_testkit::instance::Instance;
use hareload_testkit::process;
use hareload_testkit::waiting::until;

use crate::scene::{DEADLINE, Scene};
use crate::{HARELOAD, by};

pub(crate) fn missing(haproxy: &Haproxy) -> Result<()> {
    let mut scene = Scene::between(haproxy, |config| config)?;
    let path = scene.stage.instance.dir().join("own-nothing");
    scene.stage.instance.set_haproxy(&Haproxy { path: path.clone(), ..haproxy.clone() });
    scene.hareload().run()?.expect_code(5)?.expect_said(&["own-nothing"])?;
    scene.unharmed()
}

pub(crate) fn not_executable(haproxy: &Haproxy) -> Result<()> {
    let mut scene = Scene::between(haproxy, |config| config)?;
    let path = scene.stage.instance.dir().join("own-text");
    fs::write(&path, "not a program")?;
    scene.stage.instance.set_haproxy(&Haproxy { path: path.clone(), ..haproxy.clone() });
    scene.hareload().run()?.expect_code(5)?.expect_said(&["own-text"])?;
    scene.unharmed()
}

pub(crate) fn upgraded_in_place(haproxy: &Haproxy) -> Result<()> {
    let newer = haproxies::all().into_iter().next_back().context("no HAProxy")?;
    let room = hareload_testkit::tempfile::tempdir()?;
    let path = room.path().canonicalize()?.join("haproxy");
    process::copy_program(&haproxy.path, &path)?;
    let copied = Haproxy { path: path.clone(), ..haproxy.clone() };
    let mut scene = Scene::of(&copied, Config::plain("g1"))?;
    scene.write_next(Config::plain("g2"))?;
    // As a package manager does it: a new file by another name, then the rename.
    let beside = room.path().join("haproxy.new");
    process::copy_program(&newer.path, &beside)?;
    fs::rename(&beside, &path)?;
    let runs = fs::read_link(format!("/proc/{}/exe", scene.old))?;
    ensure!(runs.to_string_lossy().ends_with(" (deleted)"), "{} was not replaced", runs.display());
    // Without --haproxy: what runs is started again, which is the newer one now.
    let instance = &scene.stage.instance;
    let result = by::naming_next(Hareload::new(HARELOAD), instance)
        .arg("-p")
        .arg(instance.pidfile_path())
        .arg("--state-dir")
        .arg(instance.state_dir())
        .env("HARELOAD_HISTORY_DIR", instance.dir().join("history"))
        .run()?;
    result.expect_code(0)?;
    let told = instance.ask("show info")?;
    ensure!(told.contains(&format!("Version: {}", newer.version)), "another version: {told}");
    scene.handed_over()
}

pub(crate) fn master_worker(haproxy: &Haproxy) -> Result<()> {
    let instance = Instance::prepare(haproxy, Config::plain("g1"))?;
    instance.run_haproxy(&["-W".to_owned()])?.expect_code(0)?;
    until(DEADLINE, "the worker to serve", || instance.serving_generation().ok())?;
    let before = instance.haproxies();
    by::write_next_text(&instance, &fs::read_to_string(instance.config_path())?)?;
    let result = by::naming_next(Hareload::new(HARELOAD).instance(&instance), &instance)
        .env("HARELOAD_HISTORY_DIR", instance.dir().join("history"))
        .run()?
        .expect_code(3)?;
    result.expect_said(&["master-worker"])?;
    ensure!(instance.haproxies() == before, "the processes are others now");
    ensure!(instance.serving_generation()? == "g1", "it does not serve any more");
    Ok(())
}

/// The new configuration asks for a master.
pub(crate) fn master_worker_wanted(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config.extra_global("master-worker"))?;
    scene
        .hareload()
        .run()?
        .expect_code(3)?
        .expect_said(&["haproxy.cfg:", "takes the place of the master"])?;
    scene.unharmed()
}
