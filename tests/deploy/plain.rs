//! Deploys of good candidates.

use std::fs;

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;

use crate::site::{Site, run};

pub(crate) fn is_done(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let load = site.load()?;
    let candidate = site.candidate(&Config::plain("g2"))?;
    let told = run(&site.deploy(&candidate), 0)?;
    ensure!(told["fate"] == "deployed" && told["schema"] == "hareload.deploy/1", "{told}");
    ensure!(
        told["files"][0]["deed"] == "changed" && told["files"].as_array().map(Vec::len) == Some(1),
        "{told}"
    );
    site.expect_matching("g2")?;
    ensure!(fs::read(site.stage.instance.config_path())? == fs::read(&candidate)?);
    ensure!(site.kept()? == [(1, "found".to_owned()), (2, "good".to_owned())], "{:?}", site.kept()?);
    // Again: there is a handover, and nothing else to do.
    let told = run(&site.deploy(&candidate), 0)?;
    ensure!(told["files"].as_array().is_some_and(Vec::is_empty), "{told}");
    site.expect_matching("g2")?;
    load.stop()?.expect_lossless().map(drop)
}

pub(crate) fn that_changes_nothing(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let map = site.stage.instance.dir().join("own-hosts.map");
    fs::write(&map, "a b\n")?;
    let line = format!("http-request set-header x-map %[src,map({})]", map.display());
    let candidate = site.candidate(&Config::plain("g2").extra_frontend(&line))?;
    run(&site.deploy(&candidate).arg("--if-changed"), 0)?;
    let pid = site.stage.instance.pid()?;
    let (picture, kept) = (site.picture()?, site.kept()?);
    let told = run(&site.deploy(&candidate).arg("--if-changed"), 0)?;
    ensure!(told["fate"] == "unchanged", "{told}");
    ensure!(site.picture()? == picture && site.kept()? == kept && site.stage.instance.pid()? == pid);
    // What it refers to is a part of it.
    fs::write(&map, "c d\n")?;
    let told = run(&site.deploy(&candidate).arg("--if-changed"), 0)?;
    ensure!(told["fate"] == "deployed", "{told}");
    ensure!(site.stage.instance.pid()? != pid);
    // So is what the one that serves has read, where somebody has changed the file and put it back.
    let told = run(&site.deploy(&candidate).arg("--if-changed"), 0)?;
    ensure!(told["fate"] == "unchanged", "{told}");
    site.expect_matching("g2")
}

/// What HAProxy is started with is a part of it too; and where nobody can tell, something may have changed.
pub(crate) fn that_may_change_something(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let (script, module, ran, defaults) = ("own.lua", "own-module.lua", "own-run", "own-defaults");
    let at = |name: &str| site.stage.instance.dir().join(name);
    fs::write(at(module), "return {}\n")?;
    fs::write(at(ran), "local a = 1\n")?;
    fs::write(at(script), "local m = require(\"own-module\")\n")?;
    fs::write(at(defaults), "export COLOUR=red\n")?;
    let paths = format!("lua-prepend-path {}", at("?.lua").display());
    let load = format!("lua-load {}", at(script).display());
    let candidate = site.candidate(&Config::plain("g2").extra_global(&paths).extra_global(&load))?;
    let deploy = |fate: &str, why: &str| {
        let deploy = site.deploy(&candidate).arg("--if-changed").option("--defaults-file", at(defaults));
        let told = run(&deploy, 0)?;
        ensure!(told["fate"] == fate, "{why}: {told}");
        Ok(())
    };
    deploy("deployed", "at first")?;
    deploy("unchanged", "at second")?;
    fs::write(at(module), format!("dofile(\"{}\")\nreturn {{}}\n", at(ran).display()))?;
    deploy("deployed", "a module of Lua")?;
    fs::write(at(ran), "local b = 1\n")?;
    deploy("deployed", "a script that a module runs")?;
    let log = format!("io.open(\"{}\", \"a\"):write(\"started\\n\")\n", at("own.log").display());
    fs::write(at(ran), format!("package.path = package.path .. \";/none/?.lua\"\n{log}"))?;
    deploy("deployed", "a script that writes a log")?;
    deploy("unchanged", "a log")?;
    fs::write(at(defaults), "export COLOUR=blue\n")?;
    deploy("deployed", "a variable")?;
    deploy("unchanged", "the same variable")?;
    fs::write(at(defaults), "export COLOUR=blue\nEXTRAOPTS=\"-dr\"\n")?;
    deploy("deployed", "an option")?;
    deploy("unchanged", "the same option")?;
    fs::write(at(script), "local name = \"own-module\"\nlocal m = require(name)\n")?;
    deploy("deployed", "a script")?;
    deploy("deployed", "a module that only Lua knows")?;
    let why = site.stage.hareload().verb("deploy").arg(&candidate).arg("--if-changed").arg("-v");
    let told = why.option("--defaults-file", at(defaults)).run()?.expect_code(0)?;
    let place = format!("{}:2 reads what only Lua knows", at(script).display());
    ensure!(told.stderr.contains(&place) || told.stdout.contains(&place), "{}{}", told.stdout, told.stderr);
    site.expect_matching("g2")
}

pub(crate) fn foretold(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let secret = "stats auth admin:sesame";
    let candidate = site.candidate(&Config::plain("g2").extra_frontend(secret))?;
    let (picture, pid) = (site.picture()?, site.stage.instance.pid()?);
    let told = run(&site.deploy(&candidate).arg("--dry-run"), 0)?;
    let diff = told["files"][0]["diff"].as_str().unwrap_or_default().to_owned();
    ensure!(told["fate"] == "foretold" && diff.contains("+++") && diff.contains("stats auth"), "{told}");
    ensure!(!told.to_string().contains("sesame"), "a secret: {told}");
    let human =
        site.stage.hareload().verb("deploy").arg(&candidate).arg("--dry-run").run()?.expect_code(0)?;
    ensure!(human.stdout.contains("would change 1 file") && human.stdout.contains("\n+"), "{}", human.stdout);
    let broken = site.checkout("broken.cfg");
    fs::write(&broken, "global\n nonsense\n")?;
    let told = run(&site.deploy(&broken).arg("--dry-run"), 6)?;
    ensure!(told["findings"][0]["file"] == broken.display().to_string().as_str(), "{told}");
    ensure!(site.picture()? == picture && site.stage.instance.pid()? == pid && site.kept()?.is_empty());
    site.expect_matching("g1")
}

pub(crate) fn keeps_only_so_many(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    for number in 2..8 {
        let candidate = site.candidate(&Config::plain(&format!("g{number}")))?;
        run(&site.deploy(&candidate).arg("--keep").arg("3"), 0)?;
    }
    let kept: Vec<u64> = site.kept()?.into_iter().map(|(number, _)| number).collect();
    ensure!(kept == [5, 6, 7], "{kept:?}");
    // What one that was killed was setting aside, or keeping.
    for number in [0, 8] {
        fs::create_dir(site.history(&format!("configurations/{number}")))?;
    }
    let recover = || site.stage.hareload().verb("recover").run();
    recover()?.expect_code(0)?;
    for number in [0, 8] {
        ensure!(!site.history(&format!("configurations/{number}")).exists(), "{number} is left");
    }
    recover()?.expect_said(&["nothing to recover"])?;
    site.expect_matching("g7")
}

pub(crate) fn shows_drift(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    run(&site.deploy(site.candidate(&Config::plain("g2"))?), 0)?;
    let status = || run(&site.stage.json().verb("status"), 0);
    let told = status()?;
    ensure!(
        told["deployed"]["number"] == 2 && told["deployed"]["drift"].as_array().is_some_and(Vec::is_empty),
        "{told}"
    );
    let path = site.stage.instance.config_path();
    let text = fs::read_to_string(&path)?;
    fs::write(&path, format!("{text}\n# by hand\n"))?;
    let told = status()?;
    ensure!(told["deployed"]["drift"][0]["how"] == "changed", "{told}");
    // A pipeline that expects what it deployed last is told.
    let hash = told["deployed"]["hash"].as_str().unwrap_or_default().to_owned();
    let candidate = site.candidate(&Config::plain("g3"))?;
    let told = run(&site.deploy(&candidate).arg("--expect-hash").arg(&hash), 155)?;
    ensure!(told["fate"]["stale"].as_str().is_some_and(|why| why.contains(&hash)), "{told}");
    fs::write(&path, text)?;
    run(&site.deploy(&candidate).arg("--expect-hash").arg(&hash[..16]), 0)?;
    site.expect_matching("g3")
}
