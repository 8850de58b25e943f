//! `hareload healthy` on a node of a pair: what others would call healthy.

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::keepaliveds::Keepalived;
use hareload_testkit::waiting::until;

use crate::DEADLINE;
use crate::pair::{Node, Pair, Setup};

fn red(node: &Node, words: &[&str]) -> Result<()> {
    let told = node.inside(|| node.hareload("healthy").run())?;
    ensure!(told.code == 1 && told.stdout.lines().count() == 1, "{told:?}");
    told.expect_said(words)
}

/// The other node answers at the virtual address, and this one has nothing that listens.
pub(crate) fn reds(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let pair = Pair::started(haproxy, keepalived, &Setup::generated())?;
    let backup = &pair.nodes[1];
    let green = || backup.inside(|| backup.hareload("healthy").run()?.expect_code(0).map(drop));
    green()?;
    let pid = backup.stage.instance.pid()?;
    let signal = |signal| backup.stage.instance.signal(pid, signal).map(drop);
    // Paused and resumed, frozen and thawed.
    signal(Signal::TTOU)?;
    until(DEADLINE, "it to be paused", || red(backup, &["not healthy"]).ok())?;
    signal(Signal::TTIN)?;
    until(DEADLINE, "it to be resumed", || green().ok())?;
    signal(Signal::STOP)?;
    until(DEADLINE, "it to be frozen", || red(backup, &["not healthy"]).ok())?;
    signal(Signal::CONT)?;
    until(DEADLINE, "it to go on", || green().ok())?;
    // Dead, with the pidfile still there; the master is answered.
    signal(Signal::KILL)?;
    until(DEADLINE, "it to end", || backup.stage.instance.haproxies().is_empty().then_some(()))?;
    pair.serves("n1")?;
    red(backup, &["not healthy"])
}
