//! Back to what was kept.

use std::fs;

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;

use crate::site::{Site, run};

pub(crate) fn goes_back(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let load = site.load()?;
    let map = site.stage.instance.dir().join("own-hosts.map");
    let line = format!("http-request set-header x-map %[src,map({})]", map.display());
    fs::write(&map, "two\n")?;
    run(&site.deploy(site.candidate(&Config::plain("g2").extra_frontend(&line))?), 0)?;
    fs::write(&map, "three\n")?;
    run(&site.deploy(site.candidate(&Config::plain("g3").extra_frontend(&line))?), 0)?;
    // With all that it referred to. What lay there before the third one came, nobody had run.
    run(&site.rollback(), 0)?;
    site.expect_matching("g2")?;
    ensure!(fs::read_to_string(&map)? == "two\n");
    run(&site.rollback(), 0)?;
    site.expect_matching("g1")?;
    let told = run(&site.rollback(), 2)?;
    ensure!(told["fate"]["refused"][1].as_str().is_some_and(|why| why.contains("older")), "{told}");
    run(&site.rollback().args(["--to", "4"]), 0)?;
    site.expect_matching("g3")?;
    ensure!(fs::read_to_string(&map)? == "three\n");
    let told = run(&site.rollback().args(["--to", "77"]), 2)?;
    ensure!(told["fate"]["refused"][1].as_str().is_some_and(|why| why.contains("77")), "{told}");
    ensure!(site.kept()?.len() == 4, "{:?}", site.kept()?);
    site.expect_matching("g3")?;
    load.stop()?.expect_lossless().map(drop)
}

/// What was rolled back from is no way back.
pub(crate) fn past_what_was_left(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    for marker in ["g2", "g3"] {
        run(&site.deploy(site.candidate(&Config::plain(marker))?), 0)?;
    }
    run(&site.rollback(), 0)?;
    site.expect_matching("g2")?;
    run(&site.deploy(site.candidate(&Config::plain("g4"))?), 0)?;
    for marker in ["g2", "g1"] {
        run(&site.rollback(), 0)?;
        site.expect_matching(marker)?;
    }
    run(&site.rollback(), 2).map(drop)
}

/// What is the same was in place twice, and few are kept: the way back is the one that was gone.
pub(crate) fn the_way_that_was_gone(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let deploy = |marker: &str| -> Result<()> {
        run(&site.deploy(site.candidate(&Config::plain(marker))?).args(["--keep", "4"]), 0)?;
        site.expect_matching(marker)
    };
    let back = |marker: &str| -> Result<()> {
        run(&site.rollback().args(["--keep", "4"]), 0)?;
        site.expect_matching(marker)
    };
    ["g2", "g3"].into_iter().try_for_each(&deploy)?;
    back("g2")?;
    ["g4", "g2"].into_iter().try_for_each(&deploy)?;
    back("g4")?;
    back("g2")?;
    deploy("g5")?;
    ["g2", "g1"].into_iter().try_for_each(back)
}

/// Somebody has broken what is in place by hand, or lost it.
pub(crate) fn from_a_broken_one(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let load = site.load()?;
    run(&site.deploy(site.candidate(&Config::plain("g2"))?), 0)?;
    let states = |site: &Site| -> Result<Vec<String>> {
        Ok(site.kept()?.into_iter().map(|(_, state)| state).collect())
    };
    fs::write(site.stage.instance.config_path(), "nonsense\n")?;
    site.stage.hareload().run()?.expect_code(6)?;
    let told = run(&site.rollback(), 0)?;
    ensure!(told["kept"] == 2, "{told}");
    site.expect_matching("g2")?;
    ensure!(states(&site)? == ["found", "good", "unproven"], "{:?}", site.kept()?);
    fs::remove_file(site.stage.instance.config_path())?;
    run(&site.rollback(), 0)?;
    site.expect_matching("g2")?;
    load.stop()?.expect_lossless().map(drop)
}

/// The one that served has died, and what is in place can't be started.
pub(crate) fn where_nobody_serves(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    run(&site.deploy(site.candidate(&Config::plain("g2"))?), 0)?;
    fs::write(site.stage.instance.config_path(), "nonsense\n")?;
    site.stage.hareload().verb("stop").arg("--now").run()?.expect_code(0)?;
    run(&site.rollback(), 7)?;
    let told = run(&site.rollback().arg("--start"), 0)?;
    ensure!(told["handover"]["outcome"]["way"] == "start", "{told}");
    site.expect_matching("g2")?;
    site.stage.hareload().verb("stop").arg("--now").run()?.expect_code(0)?;
    // Nobody served before one that does not start: nobody does.
    let bad = site.candidate(&Config::plain("g3"))?;
    let told = run(&site.deploy(bad).args(["--start", "--probe", "tcp://127.0.0.1:9"]), 151)?;
    ensure!(told["fate"]["nobody"].is_string(), "{told}");
    ensure!(fs::read_to_string(site.stage.instance.config_path())?.contains("g2"), "{told}");
    run(&site.deploy(site.candidate(&Config::plain("g4"))?).arg("--start"), 0)?;
    site.expect_matching("g4")
}

/// What is kept was damaged: the next whole one is gone back to, and what is passed over is told.
pub(crate) fn past_what_is_damaged(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    for marker in ["g2", "g3", "g4"] {
        run(&site.deploy(site.candidate(&Config::plain(marker))?), 0)?;
    }
    let path = site.stage.instance.config_path();
    let copy = |number: u32| site.history(&format!("configurations/{number}/files{}", path.display()));
    fs::write(copy(3), "nonsense\n")?;
    let told = run(&site.rollback().args(["--to", "3"]), 1)?;
    let why = told["fate"]["refused"][1].as_str().unwrap_or_default();
    ensure!(why.contains("configuration 3 can't be gone back to"), "{told}");
    ensure!(why.contains(&copy(3).display().to_string()), "{told}");
    site.expect_matching("g4")?;
    fs::remove_file(copy(2))?;
    let told = run(&site.rollback(), 0)?;
    let notes = told["notes"].to_string();
    ensure!(told["kept"] == 1 && notes.contains("configuration 3 was passed over"), "{told}");
    ensure!(notes.contains("configuration 2 was passed over") && notes.contains("does not exist"), "{told}");
    site.expect_matching("g1")?;
    run(&site.rollback().args(["--to", "4"]), 0)?;
    let manifest = site.history("configurations/1/manifest.json");
    fs::write(&manifest, "{\"number\":1")?;
    let told = run(&site.rollback(), 2)?;
    let why = told["fate"]["refused"][1].as_str().unwrap_or_default();
    ensure!(why.contains("is whole") && why.contains("configuration 2 was passed over"), "{told}");
    let garbled = format!("{} is cut off or garbled", manifest.display());
    ensure!(told["notes"].to_string().contains(&garbled), "{told}");
    let told = run(&site.rollback().args(["--to", "1"]), 1)?;
    ensure!(told["fate"].to_string().contains("manifest.json is cut off or garbled"), "{told}");
    for verb in ["recover", "status", "doctor"] {
        site.stage.json().verb(verb).run()?.expect_said(&["configuration 1 is passed over", &garbled])?;
    }
    let listed = site.stage.hareload().verb("history").arg("--configurations").run()?.expect_code(0)?;
    ensure!(listed.stderr.contains(&garbled), "{listed:?}");
    // Nor is it removed.
    run(&site.deploy(site.candidate(&Config::plain("g5"))?).args(["--keep", "1"]), 0)?;
    ensure!(manifest.exists());
    site.expect_matching("g5")
}

/// What was written down of an interrupted deploy is lost: nothing is begun on top of it, and whoever asks is told.
pub(crate) fn not_over_a_lost_record(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    run(&site.deploy(site.candidate(&Config::plain("g2"))?), 0)?;
    let record = site.history("deploy.json");
    let candidate = site.candidate(&Config::plain("g3"))?;
    let newer = "{\"schema\":\"hareload.transaction/2\",\"boot\":\"x\"}";
    for (text, cause) in
        [("", "is empty"), ("{\"boot\":\"x\",", "cut off or garbled"), (newer, "hareload.transaction/2")]
    {
        fs::write(&record, text)?;
        let (picture, pid) = (site.picture()?, site.stage.instance.pid()?);
        let named = format!("{}", record.display());
        for command in [site.deploy(&candidate), site.deploy(&candidate).arg("--dry-run"), site.rollback()] {
            let told = run(&command, 1)?;
            let why = told["fate"]["refused"][1].as_str().unwrap_or_default();
            ensure!(why.contains(&named) && why.contains(cause) && why.ends_with("away"), "{told}");
        }
        let told = |verb: &str| site.stage.hareload().verb(verb).run();
        told("recover")?.expect_code(1)?.expect_said(&[&named, cause])?;
        told("status")?.expect_code(0)?.expect_said(&[&named, cause])?;
        told("doctor")?.expect_said(&[&named, cause])?;
        site.stage.hareload().verb("history").arg("--configurations").run()?.expect_said(&[&named, cause])?;
        ensure!(site.picture()? == picture && site.stage.instance.pid()? == pid, "something is touched");
        ensure!(fs::read_to_string(&record)? == text);
        // Whoever only reloads is not held up.
        told("reload")?.expect_code(0)?.expect_said(&[&named, cause])?;
    }
    fs::rename(&record, site.history("deploy.json.bad"))?;
    run(&site.deploy(&candidate), 0)?;
    site.expect_matching("g3")
}
