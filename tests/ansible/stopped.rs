//! A run that can't go on: it stops, and those that are done get back what they had.

use std::net::TcpListener;

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::serde_json::json;

use crate::fleet::Fleet;
use crate::pair::VIP;
use crate::rolled::lost_only_in_moves;

/// A port that only one node has free.
const HELD: u16 = 8081;

pub(crate) fn at_the_first_backup(fleet: &Fleet) -> Result<()> {
    fleet.write_both("-broken", |config| config.extra_frontend("{{7*191}} *:8082"))?;
    let watched = fleet.load()?;
    let before = (fleet.seen(fleet.master())?, fleet.seen(fleet.backup())?);
    let told = fleet.run(&[], &[])?;
    ensure!(told.0.code != 0, "{}", told.0.stdout);
    told.says("n2: Deploy: hareload deploy: exit code 6: ")?;
    // What HAProxy says of it is no template.
    told.says("unknown keyword '{{7*191}}'")?;
    told.says("rolled back: nobody")?;
    ensure!(told.count("n1", "changed")? == 0 && told.count("n1", "failed")? == 0, "{}", told.0.stdout);
    ensure!((fleet.seen(fleet.master())?, fleet.seen(fleet.backup())?) == before, "something was touched");
    fleet.at_home()?;
    watched.load.stop()?.expect_lossless().map(drop)
}

/// Once because it is foretold to fail there, and once because it fails.
pub(crate) fn at_the_master(fleet: &Fleet) -> Result<()> {
    let bind = format!("frontend more\n mode http\n bind 0.0.0.0:{HELD}\n");
    fleet.write_both("-second", |config| config.append(&bind))?;
    let watched = fleet.load()?;
    let master = fleet.seen(fleet.master())?;
    let stranger = fleet.master().inside(|| Ok(TcpListener::bind(("0.0.0.0", HELD))?))?;
    let told = fleet.run(&[], &[])?;
    drop(stranger);
    ensure!(told.0.code != 0, "{}", told.0.stdout);
    told.says("n1: Foretell what would be done on the master: hareload deploy: exit code 6: ")?;
    told.says(&format!("{HELD}"))?;
    told.says("rolled back: n2\\n")?;
    ensure!(fleet.seen(fleet.master())? == master, "the master was touched");
    fleet.runs(fleet.backup(), "")?;
    fleet.at_home()?;
    watched.load.stop()?.expect_lossless()?;

    let watched = fleet.load()?;
    let told = fleet.run(&[], &[(fleet.master(), json!({"hareload_probes": ["exec:false"]}))])?;
    ensure!(told.0.code != 0, "{}", told.0.stdout);
    told.says("n1: Deploy: hareload deploy: exit code 150: ")?;
    told.says("rolled back: n2\\n")?;
    for node in &fleet.pair.nodes {
        fleet.runs(node, "")?;
    }
    fleet.at_home()?;
    lost_only_in_moves(fleet, watched, 2).map(drop)
}

/// The master goes away while the backup is deployed to.
pub(crate) fn by_a_host_that_is_lost(fleet: &Fleet) -> Result<()> {
    fleet.write_both("-second", |config| config)?;
    let lost = fleet.master().path("lost");
    let probe = format!("exec:touch {}", lost.display());
    let watched = fleet.load()?;
    let master = fleet.seen(fleet.master())?;
    let told = fleet.run(&[], &[(fleet.backup(), json!({"hareload_probes": [probe]}))])?;
    ensure!(told.0.code != 0, "{}", told.0.stdout);
    told.says("the host can't be reached")?;
    told.says("rolled back: n2\\n")?;
    ensure!(fleet.seen(fleet.master())? == master, "the master was touched");
    fleet.runs(fleet.backup(), "")?;
    fleet.at_home()?;
    watched.load.stop()?.expect_lossless().map(drop)
}

pub(crate) fn where_nobody_has_the_address(fleet: &Fleet) -> Result<()> {
    fleet.write_both("-second", |config| config)?;
    for node in [fleet.backup(), fleet.master()] {
        fleet.script(node, "keepalived-stop")?;
        fleet.script(node, "keepalived-check").expect_err("it is stopped");
    }
    let told = fleet.run(&[], &[])?;
    ensure!(told.0.code != 0, "{}", told.0.stdout);
    told.says(&format!("no host of this play has the virtual address {VIP}"))?;
    for node in &fleet.pair.nodes {
        ensure!(told.count(node.name, "changed")? == 0, "{}", told.0.stdout);
        fleet.runs(node, "")?;
    }
    Ok(())
}
