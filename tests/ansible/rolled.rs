//! A good configuration: foretold, rolled over both nodes, and left alone the second time.

use std::time::Duration;

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::report::{Loss, Report};

use crate::fleet::{Fleet, Watched};

/// How many connections of the load are under way at once.
const WORKERS: u64 = 24;

/// How long an address moves: three advertisements of half a second each, and the check of HAProxy before.
const MOVING: Duration = Duration::from_secs(4);

/// What is never shown.
const SECRET: &str = "userlist some\n user somebody insecure-password tr0ubador\n";

pub(crate) fn one_after_the_other(fleet: &Fleet) -> Result<()> {
    fleet.write_both("-second", |config| config.append(SECRET))?;
    let watched = fleet.load()?;
    let untouched = || {
        Ok::<_, hareload_testkit::anyhow::Error>((fleet.seen(fleet.master())?, fleet.seen(fleet.backup())?))
    };
    let before = untouched()?;
    let told = fleet.run(&["--check", "--diff"], &[])?;
    ensure!(told.0.code == 0, "{}{}", told.0.stdout, told.0.stderr);
    for node in ["n1", "n2"] {
        ensure!(
            told.0.stdout.lines().any(|line| line.starts_with('-') && line.ends_with(&format!(" {node}"))),
            "{}",
            told.0.stdout
        );
        told.says(&format!("{node}-second"))?;
        ensure!(told.count(node, "changed")? == 1, "{}", told.0.stdout);
    }
    told.says("insecure-password")?;
    ensure!(!told.0.stdout.contains("tr0ubador"), "a secret is shown: {}", told.0.stdout);
    ensure!(untouched()? == before, "a check has touched something");
    watched.load.stop()?.expect_lossless()?;

    let watched = fleet.load()?;
    let told = fleet.run(&[], &[])?;
    ensure!(told.0.code == 0, "{}{}", told.0.stdout, told.0.stderr);
    for node in &fleet.pair.nodes {
        fleet.runs(node, "-second")?;
        ensure!(told.count(node.name, "changed")? >= 1, "{}", told.0.stdout);
    }
    fleet.at_home()?;
    let report = lost_only_in_moves(fleet, watched, 2)?;
    // It went to a backup that had the new one already.
    ensure!(report.answered_by("n2") == 0 && report.answered_by("n2-second") > 0, "{report}");
    ensure!(report.answered_by("n1") > 0 && report.answered_by("n1-second") > 0, "{report}");

    let watched = fleet.load()?;
    let before = untouched()?;
    let told = fleet.run(&[], &[])?;
    ensure!(told.0.code == 0, "{}{}", told.0.stdout, told.0.stderr);
    for node in ["n1", "n2"] {
        ensure!(told.count(node, "changed")? == 0, "{}", told.0.stdout);
    }
    ensure!(untouched()? == before, "the second run has touched something");
    watched.load.stop()?.expect_lossless().map(drop)
}

/// Nobody is refused; and who was lost was under way while the address moved, so many times.
pub(crate) fn lost_only_in_moves(fleet: &Fleet, watched: Watched, times: u64) -> Result<Report> {
    let report = watched.load.stop()?;
    let moves = fleet.moves_since(watched.began)?;
    eprintln!("keepalived stopped and started at {moves:.1?}: {report}");
    ensure!(u64::try_from(moves.len())? == times, "{moves:?}");
    ensure!(report.lost_by(Loss::Refused) == 0, "{report}");
    ensure!(report.losses() <= times * WORKERS, "{report}");
    for failure in &report.failures {
        let began = failure.at.saturating_sub(failure.after);
        let moved = |at: &Duration| began <= *at + MOVING && *at <= failure.at;
        ensure!(moves.iter().any(moved), "lost outside of the moves at {moves:?}: {failure:?}");
    }
    Ok(report)
}
