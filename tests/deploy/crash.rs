//! `kill -9` of a deploy, alone or with its guard, at any instant: after the next command file and process match, and nobody
//! was lost.
//!
//! `HARELOAD_TEST_KILLS` is the number of instants, `HARELOAD_TEST_SEED` replays one run.

use std::env;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context as _, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::waiting::until;

use crate::DEADLINE;
use crate::site::Site;

/// A deploy takes about that long, with its check and its probation.
const SPAN: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Victims {
    Hareload,
    All,
}

pub(crate) fn of_hareload(haproxy: &Haproxy) -> Result<()> {
    campaign(haproxy, Victims::Hareload)
}

pub(crate) fn of_hareload_and_guard(haproxy: &Haproxy) -> Result<()> {
    campaign(haproxy, Victims::All)
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

/// The next of a generator that a seed replays (splitmix64, by Sebastiano Vigna, in the public domain).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn campaign(haproxy: &Haproxy, victims: Victims) -> Result<()> {
    let seed = number("HARELOAD_TEST_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| u64::from(time.subsec_nanos()))
    });
    eprintln!("HARELOAD_TEST_SEED={seed}");
    let kills = number("HARELOAD_TEST_KILLS").unwrap_or(20);
    let mut state = seed;
    let site = Site::new(haproxy)?;
    let load = site.stage.load(1000, (1..=kills + 2).map(|number| format!("g{number}")))?;
    let (mut over, mut undone, mut finished) = (0, 0, 0);
    let mut served = "g1".to_owned();
    for kill in 1..=kills {
        let marker = format!("g{}", kill + 1);
        let candidate = site.candidate(&Config::plain(&marker))?;
        let micros = u64::try_from(SPAN.as_micros()).unwrap_or(u64::MAX);
        let at = Duration::from_micros(next(&mut state) % micros);
        let watched = ["0s", "100ms"][usize::from(next(&mut state).is_multiple_of(2))];
        let what = || {
            format!("HARELOAD_TEST_SEED={seed}: kill {kill} of {kills}, after {at:?}, probation {watched}")
        };
        let running = site.deploy(&candidate).args(["--probation", watched]).spawn()?;
        // The instant is what is tested: there is no condition to wait for.
        std::thread::park_timeout(at);
        end(&site, running.pid(), victims)?;
        let killed = running.wait(DEADLINE)?.signal == Some(9);
        until(DEADLINE, "the guard to have done its work", || nobody(&site).then_some(()))?;
        if victims == Victims::All {
            // So is whoever recovers it, every other time.
            if next(&mut state).is_multiple_of(2) {
                let recovering = site.stage.hareload().verb("recover").spawn()?;
                std::thread::park_timeout(Duration::from_micros(next(&mut state) % 60_000));
                end(&site, recovering.pid(), victims)?;
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

fn nobody(site: &Site) -> bool {
    !site.stage.instance.processes().iter().any(|process| process.is("hareload"))
}

/// Kills this hareload; with it, if all are meant, its guard first, so that it does not see its hareload die.
fn end(site: &Site, pid: u32, victims: Victims) -> Result<()> {
    let instance = &site.stage.instance;
    let is_guard = |pid: u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("hareload-"))
    };
    if victims == Victims::All {
        let others = instance.processes().into_iter().filter(|process| process.pid != pid);
        for process in others.filter(|process| process.is("hareload") && is_guard(process.pid)) {
            instance.signal(process.pid, Signal::KILL)?;
        }
    }
    instance.signal(pid, Signal::KILL)?;
    if victims == Victims::All {
        until(DEADLINE, "all of hareload's processes to be killed", || {
            for process in instance.processes().iter().filter(|process| process.is("hareload")) {
                let _ = instance.signal(process.pid, Signal::KILL);
            }
            nobody(site).then_some(())
        })?;
    }
    Ok(())
}
