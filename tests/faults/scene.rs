//! The scene of a fault: an instance whose first generation serves under a light load, and what is looked at after it.

use std::fs;
use std::time::Duration;

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::hareload::Hareload;
use hareload_testkit::load::Load;
use hareload_testkit::process::lives;
use hareload_testkit::stage::{Stage, pid_at};
use hareload_testkit::waiting::until;

use crate::agreeing::{Look, expect_agreeing, expect_as_before, expect_deployed, start};
use crate::by;

/// By when anything that a test waits for has happened.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Connections a second: enough to notice every gap of a few milliseconds.
pub(crate) const RATE: u32 = 500;

/// An instance whose first generation serves under a light load.
pub(crate) struct Scene {
    pub(crate) stage: Stage,
    pub(crate) load: Load,
    pub(crate) old: u32,
    /// The configuration in place.
    before: Look,
}

impl Scene {
    pub(crate) fn of(haproxy: &Haproxy, config: Config) -> Result<Scene> {
        let stage = start(haproxy, config)?;
        let load = stage.load(RATE, ["g1".to_owned(), "g2".to_owned()])?;
        let old = stage.instance.pid()?;
        let before = Look::of(&stage.instance)?;
        Ok(Scene { stage, load, old, before })
    }

    /// The old one serves `g1`, what is to be handed over to says `g2`.
    pub(crate) fn between(haproxy: &Haproxy, change: impl Fn(Config) -> Config) -> Result<Scene> {
        let mut scene = Scene::of(haproxy, Config::plain("g1"))?;
        scene.write_next(change(Config::plain("g2")))?;
        Ok(scene)
    }

    /// Writes what is to be handed over to.
    pub(crate) fn write_next(&mut self, config: Config) -> Result<()> {
        by::write_next(&mut self.stage, config)
    }

    /// A deploy finds this before the new one is started, and says so; a reload has only the start to find it.
    pub(crate) fn found_by_check(
        haproxy: &Haproxy,
        change: impl Fn(Config) -> Config,
        words: &[&str],
    ) -> Result<()> {
        if !by::deploys() {
            return Ok(());
        }
        let scene = Scene::between(haproxy, change)?;
        let result = scene.hareload().run()?.expect_code(6)?;
        result.expect_said(&[by::untouched()])?;
        result.expect_said(words)?;
        ensure!(!scene.stage.instance.dir().join("history/configurations").exists(), "something was tried");
        scene.unharmed()
    }

    /// Where a deploy does not fail of the fault, one of a bad candidate does of its probe, and is undone, whatever the
    /// pidfile says. What was in place says `marker`.
    pub(crate) fn in_vain(&self, marker: &str) -> Result<()> {
        if !by::deploys() {
            return Ok(());
        }
        let (pids, file) = (self.stage.listening(), fs::read(self.stage.instance.config_path())?);
        let failing = self.hareload().args(["--probe", "exec:false"]).run()?.expect_code(150)?;
        failing.expect_said(&[by::goes_on(), "exec:false"])?;
        until(DEADLINE, "the old one to listen alone", || (self.stage.listening() == pids).then_some(()))?;
        let answers = self.stage.instance.serving_generation()?;
        ensure!(answers == marker, "{answers} answers instead of {marker}");
        ensure!(fs::read(self.stage.instance.config_path())? == file, "the file is another");
        expect_agreeing(&self.stage, marker)
    }

    /// The handover.
    pub(crate) fn hareload(&self) -> Hareload {
        by::hareload(&self.stage).arg("-v")
    }

    /// The old one serves as before, and nobody was lost.
    pub(crate) fn unharmed(self) -> Result<()> {
        self.old_serves()?;
        self.load.stop()?.expect_lossless().map(drop)
    }

    pub(crate) fn old_serves(&self) -> Result<()> {
        self.stage.expect_unharmed(self.old)?;
        expect_agreeing(&self.stage, "g1")?;
        expect_as_before(&self.stage, &self.before)
    }

    pub(crate) fn expect_file_as_before(&self) -> Result<()> {
        expect_as_before(&self.stage, &self.before)
    }

    /// The new one serves, and nobody was lost.
    pub(crate) fn handed_over(self) -> Result<()> {
        self.new_serves()?;
        self.load.stop()?.expect_lossless().map(drop)
    }

    pub(crate) fn new_serves(&self) -> Result<()> {
        self.stage.expect_serving("g2")?;
        let pid = self.stage.instance.pid()?;
        ensure!(pid != self.old, "the pidfile still names the old one");
        self.stage.expect_admin()?;
        expect_agreeing(&self.stage, "g2")?;
        expect_deployed(&self.stage, &self.before)
    }

    /// The pid in the newest private pidfile, once it is there: HAProxy writes it when it is bound.
    pub(crate) fn bound(&self) -> Result<u32> {
        until(DEADLINE, "the new one to be bound", || {
            let files = fs::read_dir(self.stage.instance.state_dir()).ok()?;
            let names = files.flatten().map(|entry| entry.path());
            let pidfiles = names.filter(|path| path.extension().is_some_and(|kind| kind == "pid"));
            pidfiles
                .filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok())
                .filter(|pid| *pid != self.old && lives(*pid))
                .max()
        })
    }

    /// The same, once it answers on its private admin socket.
    pub(crate) fn live(&self) -> Result<u32> {
        let pid = self.bound()?;
        until(DEADLINE, "the new one to be live", || {
            let files = fs::read_dir(self.stage.instance.state_dir()).ok()?;
            let sockets = files.flatten().map(|entry| entry.path());
            let mut admins = sockets.filter(|path| path.extension().is_some_and(|kind| kind == "sock"));
            admins.any(|path| pid_at(&path).is_ok_and(|answers| answers == pid)).then_some(pid)
        })
    }

    /// The same, once it is the only one that listens.
    pub(crate) fn alone(&self) -> Result<u32> {
        let pid = self.live()?;
        until(DEADLINE, "the old one to be paused", || (self.stage.listening() == [pid]).then_some(pid))
    }
}

pub(crate) fn few_lost(load: Load, most: u64) -> Result<()> {
    let report = load.stop()?;
    ensure!(report.losses() <= most, "{report}: {:?}", report.failures);
    Ok(())
}
