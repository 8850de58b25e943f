//! The new one can't start: its configuration, this host's limits, an address that somebody else holds.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::process;
use hareload_testkit::sockets;

use crate::by;
use crate::scene::{DEADLINE, Scene, few_lost};

/// How long a fault that is seen at once may take to be told on a busy machine: HAProxy's own retries take 2 s.
const AT_ONCE: Duration = Duration::from_millis(1500);

pub(crate) fn syntax_error(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config.extra_default("nonsense and more"))?;
    let result = scene.hareload().run()?.expect_code(6)?;
    result.expect_said(&[by::untouched(), "nonsense"])?;
    scene.unharmed()
}

pub(crate) fn configuration_missing(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config)?;
    let path = by::next_path(&scene.stage.instance);
    fs::remove_file(&path)?;
    // What a deploy is asked to put in place makes no sense; of what is in place, HAProxy is asked.
    let code = if by::deploys() { 2 } else { 6 };
    scene.hareload().run()?.expect_code(code)?.expect_said(&[&path.to_string_lossy()])?;
    scene.unharmed()
}

pub(crate) fn chroot_missing(haproxy: &Haproxy) -> Result<()> {
    let jail = "chroot /nonexistent/jail";
    Scene::found_by_check(haproxy, |config| config.extra_global(jail), &["chroot"])?;
    let scene = Scene::between(haproxy, |config| by::unseen_global(config, jail))?;
    let result = scene.hareload().run()?.expect_code(150)?;
    result.expect_said(&[by::goes_on(), "chroot"])?;
    scene.unharmed()
}

pub(crate) fn usesrc_without_privilege(haproxy: &Haproxy) -> Result<()> {
    let far = "backend far\n    source 0.0.0.0 usesrc clientip\n    server one 127.0.0.1:9";
    let scene = Scene::between(haproxy, |config| by::unseen_global(config, "user nobody").append(far))?;
    let result = scene.hareload().run()?;
    // From 3.0 on HAProxy keeps the one capability that it needs.
    if haproxy.version.at_least(3, 0) && result.code == 0 {
        return scene.handed_over();
    }
    result.expect_code(150)?.expect_said(&[by::goes_on()])?;
    scene.unharmed()
}

pub(crate) fn limits_too_low(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::between(haproxy, |config| config.extra_global("maxconn 50000"))?;
    // Without CAP_SYS_RESOURCE root can't raise the limit either.
    let mut command = Command::new("prlimit");
    command.args(["--nofile=4096:4096", "setpriv", "--bounding-set=-sys_resource"]);
    let result = process::run(scene.hareload().within(command), DEADLINE)?;
    // Up to 2.2 it is a warning, and the new one serves with what it got.
    if !haproxy.version.at_least(2, 3) {
        result.expect_code(0)?;
        return scene.handed_over();
    }
    ensure!([6, 150].contains(&result.code), "exit code {}: {}", result.code, result.stderr);
    result.expect_said(&["limit"])?;
    scene.unharmed()
}

pub(crate) fn threads_cannot_be_created(haproxy: &Haproxy) -> Result<()> {
    let mut scene = Scene::of(haproxy, Config::plain("g1"))?;
    scene.write_next(Config::plain("g2"))?;
    let text = fs::read_to_string(by::next_path(&scene.stage.instance))?
        .replace("nbthread 1", &by::unseen("nbthread 32"));
    by::write_next_text(&scene.stage.instance, &text)?;
    // 200 MB of address space are not enough for 32 stacks.
    let result =
        scene.hareload().args(["--ready-timeout", "2s", "--", "-m", "200"]).run()?.expect_code(150)?;
    result.expect_said(&[by::goes_on()])?;
    scene.unharmed()
}

fn foreign_port(haproxy: &Haproxy, options: &[&str]) -> Result<()> {
    let stranger = TcpListener::bind(("127.0.0.1", 8081))?;
    Scene::found_by_check(haproxy, |config| config.frontend(8081), &["127.0.0.1:8081 is held by pid"])?;
    let scene =
        Scene::between(haproxy, |config| by::unseen_bind(config, "127.0.0.1:8081", |it| it.frontend(8081)))?;
    let told = || scene.hareload().args(options).run()?.expect_code(150);
    let mut result = told()?;
    for _ in 0..2 {
        // A busy machine may be slow once.
        if result.took >= AT_ONCE {
            result = told()?;
        }
    }
    ensure!(result.took < AT_ONCE, "told after {:?}: {}", result.took, result.stderr);
    let name = fs::read_to_string("/proc/self/comm")?;
    let holder = format!("127.0.0.1:8081 is held by pid {} ({})", std::process::id(), name.trim());
    result.expect_said(&[by::goes_on(), &holder])?;
    ensure!(
        sockets::listening(std::process::id())?.contains(&stranger.local_addr()?),
        "the stranger was harmed"
    );
    if options.is_empty() || options.contains(&"trial") {
        return scene.unharmed();
    }
    // Beside the old one's, its sockets take clients that it then can't serve.
    scene.old_serves()?;
    few_lost(scene.load, 20)
}

pub(crate) fn foreign_port_auto(haproxy: &Haproxy) -> Result<()> {
    foreign_port(haproxy, &[])
}

pub(crate) fn foreign_port_trial(haproxy: &Haproxy) -> Result<()> {
    foreign_port(haproxy, &["--handover", "trial"])
}

pub(crate) fn foreign_port_overlap(haproxy: &Haproxy) -> Result<()> {
    foreign_port(haproxy, &["--handover", "overlap"])
}

pub(crate) fn foreign_port_pause(haproxy: &Haproxy) -> Result<()> {
    foreign_port(haproxy, &["--handover", "pause"])
}

pub(crate) fn address_not_here(haproxy: &Haproxy) -> Result<()> {
    let (address, absent) = ("192.0.2.1:8081", ([192, 0, 2, 1], 8081).into());
    Scene::found_by_check(haproxy, |config| config.frontend_at(absent), &[address])?;
    let scene =
        Scene::between(haproxy, |config| by::unseen_bind(config, address, |it| it.frontend_at(absent)))?;
    scene.hareload().run()?.expect_code(150)?.expect_said(&[by::goes_on(), address])?;
    scene.unharmed()
}
