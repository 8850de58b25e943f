//! A HAProxy that has changed its user, and a root without CAP_SYS_PTRACE, as in a container: `/proc` hides what it holds.

use std::process::Command;

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::config::{Admin, Config};
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::hareload::Hareload;
use hareload_testkit::process::{self, RunResult};
use hareload_testkit::stage::timeline;

use crate::by;
use crate::scene::{DEADLINE, Scene};

/// How many handovers in a row: the first from its own admin socket, the others from the private one.
const RELOADS: usize = 4;

fn dropping(marker: &str, admin: Admin) -> Config {
    Config::plain(marker).extra_global("user nobody").admin(admin)
}

fn scene(haproxy: &Haproxy, admin: Admin) -> Result<Scene> {
    let mut scene = Scene::of(haproxy, dropping("g1", admin))?;
    scene.write_next(dropping("g2", admin))?;
    Ok(scene)
}

fn without(capability: &str, hareload: &Hareload) -> Result<RunResult> {
    let mut command = Command::new("setpriv");
    command.args([format!("--bounding-set=-{capability}"), format!("--inh-caps=-{capability}")]);
    process::run(hareload.within(command), DEADLINE)
}

pub(crate) fn exposed(haproxy: &Haproxy) -> Result<()> {
    let mut scene = scene(haproxy, Admin::ExposesListeners)?;
    for reload in 0..RELOADS {
        scene.write_next(dropping("g2", Admin::ExposesListeners))?;
        let result = without("sys_ptrace", &by::json(&scene.stage))?.expect_code(0)?;
        let account = by::account(&result)?;
        let reason = if reload == 0 { "its own admin socket" } else { "private admin socket" };
        ensure!(account["reason"].as_str().is_some_and(|told| told.contains(reason)), "{account}");
        ensure!(account["notes"].to_string().contains("no CAP_SYS_PTRACE"), "{account}");
        let timeline = timeline(&account);
        ensure!(timeline.contains("has closed its listeners"), "{timeline}");
        scene.new_serves()?;
    }
    scene.load.stop()?.expect_lossless().map(drop)
}

pub(crate) fn probe_command_fails(haproxy: &Haproxy) -> Result<()> {
    let scene = scene(haproxy, Admin::ExposesListeners)?;
    let result = without("sys_ptrace", &scene.hareload().args(["--probe", "exec:exit 7"]))?;
    result.expect_code(150)?.expect_said(&["exec:exit 7", "status 7"])?;
    scene.unharmed()
}

/// Two accept from one queue, and which of them did can't be seen.
pub(crate) fn probe_can_not_be_told(haproxy: &Haproxy) -> Result<()> {
    let scene = scene(haproxy, Admin::ExposesListeners)?;
    let probe = format!("http://{}/", scene.stage.instance.address()?);
    let result = without("sys_ptrace", &scene.hareload().args(["--probe", &probe]))?;
    result.expect_code(150)?.expect_said(&["can't be seen without CAP_SYS_PTRACE", "exec:"])?;
    scene.unharmed()
}

pub(crate) fn not_exposed(haproxy: &Haproxy) -> Result<()> {
    let scene = scene(haproxy, Admin::Plain)?;
    let result = without("sys_ptrace", &scene.hareload())?.expect_code(4)?;
    result.expect_said(&["can't be seen", "--cap-add SYS_PTRACE", "expose-fd listeners"])?;
    scene.unharmed()
}

pub(crate) fn no_signals(haproxy: &Haproxy) -> Result<()> {
    let scene = scene(haproxy, Admin::ExposesListeners)?;
    let result = without("kill", &scene.hareload())?.expect_code(4)?;
    result.expect_said(&["may not be sent signals", "CAP_KILL"])?;
    scene.unharmed()
}
