//! `kill -9` of a deploy, alone or with its guard, at any instant: after the next command file and process match, and nobody
//! was lost.
//!
//! `HARELOAD_TEST_KILLS` is the number of instants, `HARELOAD_TEST_SEED` replays one run.

use std::time::Duration;

use hareload_testkit::anyhow::{Context as _, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::killing::{self, Instants, Victims, kill, nobody};
use hareload_testkit::waiting::until;

use crate::DEADLINE;
use crate::site::Site;

/// A deploy takes about that long, with its check and its probation.
const SPAN: Duration = Duration::from_millis(500);

/// And a recovery.
const SPAN_OF_RECOVERY: Duration = Duration::from_millis(60);

pub(crate) fn of_hareload(haproxy: &Haproxy) -> Result<()> {
    campaign(haproxy, Victims::Hareload)
}

pub(crate) fn of_hareload_and_guard(haproxy: &Haproxy) -> Result<()> {
    campaign(haproxy, Victims::All)
}

fn campaign(haproxy: &Haproxy, victims: Victims) -> Result<()> {
    let seed = killing::seed();
    let kills = killing::kills(20);
    let mut instants = Instants::of(seed);
    let site = Site::new(haproxy)?;
    let load = site.stage.load(1000, (1..=kills + 2).map(|number| format!("g{number}")))?;
    let (mut over, mut undone, mut finished) = (0, 0, 0);
    let mut served = "g1".to_owned();
    for round in 1..=kills {
        let marker = format!("g{}", round + 1);
        let candidate = site.candidate(&Config::plain(&marker))?;
        let at = instants.within(SPAN);
        let watched = ["0s", "100ms"][usize::from(instants.toss())];
        let what = || {
            format!("HARELOAD_TEST_SEED={seed}: kill {round} of {kills}, after {at:?}, probation {watched}")
        };
        let running = site.deploy(&candidate).args(["--probation", watched]).spawn()?;
        // The instant is what is tested: there is no condition to wait for.
        std::thread::park_timeout(at);
        kill(&site.stage.instance, running.pid(), victims)?;
        let killed = running.wait(DEADLINE)?.signal == Some(9);
        until(DEADLINE, "the guard to have done its work", || nobody(&site.stage.instance).then_some(()))?;
        if victims == Victims::All {
            // So is whoever recovers it, every other time.
            if instants.toss() {
                let recovering = site.stage.hareload().verb("recover").spawn()?;
                std::thread::park_timeout(instants.within(SPAN_OF_RECOVERY));
                kill(&site.stage.instance, recovering.pid(), victims)?;
                recovering.wait(DEADLINE)?;
            }
            let recovered = site.stage.hareload().verb("recover").run()?;
            ensure!(recovered.code == 0 || recovered.code == 150, "{}: {recovered:?}", what());
        }
        let answers = site.stage.instance.serving_generation().with_context(what)?;
        ensure!(answers == served || answers == marker, "{}: {answers} answers", what());
        site.expect_matching(&answers).with_context(what)?;
        match killed {
            false => over += 1,
            true if answers == marker => finished += 1,
            true => undone += 1,
        }
        served = answers;
        let losses = load.report_so_far()?.losses();
        ensure!(losses == 0, "{}: {losses} lost", what());
    }
    let report = load.stop()?.expect_lossless()?;
    eprintln!("{kills} kills: {over} too late, {undone} undone, {finished} done: {report}");
    // What is kept is whole, and good to go back to.
    site.stage
        .hareload()
        .verb("deploy")
        .arg(site.candidate(&Config::plain("last"))?)
        .run()?
        .expect_code(0)?;
    site.stage.hareload().verb("rollback").run()?.expect_code(0)?;
    site.expect_matching(&served)
}
