//! The state directory is full, or is not ours.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::process::Command;

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::instance::Instance;
use hareload_testkit::process;

use crate::agreeing::expect_agreeing;
use crate::by;
use crate::scene::{DEADLINE, Scene};

pub(crate) fn disk_full(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let state = scene.stage.instance.state_dir();
    fs::create_dir(&state)?;
    let mut codes = Vec::new();
    // A page more each time, so that each of the files is the one that does not fit.
    for pages in 0..6 {
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs -o size=64k,mode=700 none \"$1\" && \
                      head -c $((4096 * (16 - $2))) /dev/zero >\"$1/filling\" && shift 2 && exec \"$@\"";
        command.args(["-m", "sh", "-c", script, "sh"]).arg(&state).arg(pages.to_string());
        let result = process::run(scene.hareload().within(command), DEADLINE)?;
        codes.push(result.code);
        match result.code {
            0 => return finish_disk_full(scene, &codes),
            1 | 150 => {
                ensure!(result.stderr.contains("pace"), "no word of the space: {}", result.stderr);
                scene.stage.expect_serving("g1").with_context(|| format!("after {codes:?}"))?;
                scene.stage.expect_admin().with_context(|| result.stderr.clone())?;
                expect_agreeing(&scene.stage, "g1").with_context(|| result.stderr.clone())?;
            }
            code => hareload_testkit::anyhow::bail!("exit code {code} with {pages} pages: {}", result.stderr),
        }
    }
    finish_disk_full(scene, &codes)
}

fn finish_disk_full(scene: Scene, codes: &[i32]) -> Result<()> {
    ensure!(codes.first() != Some(&0), "a full disk went unnoticed");
    let pids = scene.stage.listening();
    ensure!(pids == scene.stage.instance.pidfile()?, "{pids:?} listen after {codes:?}");
    let marker = if codes.last() == Some(&0) { "g2" } else { "g1" };
    expect_agreeing(&scene.stage, marker).with_context(|| format!("after {codes:?}"))?;
    scene.load.stop()?.expect_lossless().map(drop)
}

pub(crate) fn of_another(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let state = scene.stage.instance.state_dir();
    fs::create_dir(&state)?;
    chown(&state, Some(12), Some(12))?;
    scene.hareload().run()?.expect_code(4)?.expect_said(&["belongs to uid 12"])?;
    scene.unharmed()
}

pub(crate) fn a_symlink(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let target = scene.stage.instance.dir().join("own-elsewhere");
    fs::create_dir(&target)?;
    symlink(&target, scene.stage.instance.state_dir())?;
    scene.hareload().run()?.expect_code(4)?.expect_said(&["symbolic link"])?;
    ensure!(fs::read_dir(&target)?.next().is_none(), "something was written through the link");
    scene.unharmed()
}

/// The state directory is gone, and the one that runs is of it.
pub(crate) fn lost(haproxy: &Haproxy) -> Result<()> {
    let mut scene = Scene::between(haproxy, |config| config)?;
    scene.hareload().run()?.expect_code(0)?;
    fs::remove_dir_all(scene.stage.instance.state_dir())?;
    scene.in_vain("g2")?;
    scene.old = scene.stage.instance.pid()?;
    scene.hareload().run()?.expect_code(0)?;
    scene.handed_over()
}

/// Another instance uses the same state directory.
pub(crate) fn of_another_instance(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    scene.hareload().run()?.expect_code(0)?;
    let other = Instance::start(haproxy, Config::new().frontend(8090).marker("other"))?;
    let (state, theirs) = (scene.stage.instance.state_dir(), fs::read(other.config_path())?);
    // The options of the other one, but for this.
    let sharing = || {
        let command =
            by::naming_next(scene.stage.hareload().instance(&other), &scene.stage.instance).command();
        let words: Vec<OsString> = command.get_args().map(OsStr::to_owned).collect();
        let (theirs, ours) = (other.state_dir().into_os_string(), state.clone().into_os_string());
        let words = words.into_iter().map(|word| if word == theirs { ours.clone() } else { word });
        let mut changed = Command::new(command.get_program());
        changed.args(words).env("HARELOAD_HISTORY_DIR", other.dir().join("history"));
        process::run(changed, DEADLINE)
    };
    sharing()?.expect_code(2)?.expect_said(&["name another instance with --instance"])?;
    fs::remove_file(other.pidfile_path())?;
    sharing()?.expect_code(2)?.expect_said(&["name another instance with --instance"])?;
    ensure!(other.serving_generation()? == "other", "the other instance was harmed");
    ensure!(fs::read(other.config_path())? == theirs, "the other instance's configuration was touched");
    scene.handed_over()
}
