//! Several at once.

use std::thread;

use hareload_testkit::anyhow::{Context as _, Result, anyhow, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;

use crate::DEADLINE;
use crate::site::{Site, run, told};

/// The one that comes second finds another configuration than it expects.
pub(crate) fn two_pipelines(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let load = site.load()?;
    let hash = run(&site.deploy(site.candidate(&Config::plain("g1"))?).arg("--dry-run"), 0)?;
    let hash = hash["hash_before"].as_str().context("no hash")?.to_owned();
    let candidates = ["g2", "g3"].map(|marker| {
        let path = site.checkout(&format!("{marker}.cfg"));
        std::fs::write(&path, site.text(&Config::plain(marker))?)?;
        hareload_testkit::anyhow::Ok(path)
    });
    let running = candidates
        .into_iter()
        .map(|candidate| site.deploy(candidate?).arg("--expect-hash").arg(&hash).spawn())
        .collect::<Result<Vec<_>>>()?;
    let results = running.into_iter().map(|one| one.wait(DEADLINE)).collect::<Result<Vec<_>>>()?;
    let mut codes: Vec<i32> = results.iter().map(|result| result.code).collect();
    let won = codes.iter().position(|code| *code == 0).context("nobody deployed")?;
    codes.sort_unstable();
    ensure!(codes == [0, 155], "{results:?}");
    site.expect_matching(["g2", "g3"][won])?;
    load.stop()?.expect_lossless().map(drop)
}

/// keepalived's hook, and somebody else, reload meanwhile.
pub(crate) fn with_reloads(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let load = site.load()?;
    thread::scope(|scope| {
        let others = ["notify", "reload"].map(|verb| {
            let command = site.stage.hareload().verb(verb);
            scope.spawn(move || (0..5).try_for_each(|_| command.run()?.expect_code(0).map(drop)))
        });
        for number in 2..7 {
            let candidate = site.candidate(&Config::plain(&format!("g{number}")))?;
            let result = site.deploy(candidate).run()?.expect_code(0)?;
            ensure!(told(&result)?["fate"] == "deployed");
        }
        others.into_iter().try_for_each(|other| other.join().map_err(|_| anyhow!("a thread"))?)
    })?;
    site.expect_matching("g6")?;
    load.stop()?.expect_lossless().map(drop)
}
