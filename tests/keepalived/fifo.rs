//! `hareload notify --fifo`, started by keepalived itself.

use std::time::{Duration, Instant};

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::keepaliveds::Keepalived;
use hareload_testkit::process;
use hareload_testkit::waiting::until;

use crate::DEADLINE;
use crate::pair::{Node, Pair, Setup};

/// What keepalived gives its scripts to end, and the time to see it.
const IN_TIME: Duration = Duration::from_millis(1500);

/// A node whose keepalived tells it by a FIFO, and has no hooks.
fn setup(node: &Node) -> Setup {
    let line = node.hareload("notify").arg("--fifo").command();
    let words: Vec<String> = line.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let script = format!("{} {}", node.path("hareload").display(), words.join(" "));
    let global =
        format!(" vrrp_notify_fifo {}\n vrrp_notify_fifo_script \"{script}\"", node.path("fifo").display());
    Setup { global, ..Setup::default() }
}

fn readers(node: &Node) -> usize {
    let all = process::naming(node.stage.instance.dir());
    all.iter().filter(|process| process.words.iter().any(|word| word == "--fifo")).count()
}

/// It starts HAProxy, and goes on after keepalived has read its configuration again.
pub(crate) fn is_followed(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let mut pair = Pair::new(haproxy, keepalived)?;
    let node = &mut pair.nodes[0];
    node.inside(|| node.hareload("stop").arg("--now").run()?.expect_code(0).map(drop))?;
    let setup = setup(node);
    node.start_keepalived(&setup, 100)?;
    pair.serves("n1")?;
    let node = &pair.nodes[0];
    ensure!(readers(node) == 1);
    for _ in 0..3 {
        node.signal_keepalived(Signal::HUP)?;
        until(DEADLINE, "one reader", || (readers(node) == 1).then_some(()))?;
    }
    node.inside(|| node.stage.expect_serving("n1"))?;
    // What is told to whichever reader is done.
    let pid = node.stage.instance.pid()?;
    node.stage.instance.signal(pid, Signal::KILL)?;
    until(DEADLINE, "HAProxy to end", || node.stage.instance.haproxies().is_empty().then_some(()))?;
    pair.nodes[1].start_keepalived(&Setup::hooked(), 200)?;
    pair.serves("n2")?;
    pair.nodes[1].signal_keepalived(Signal::TERM)?;
    pair.serves("n1")
}

/// A stop of keepalived's does not wait for it, nor does it leave anything behind.
pub(crate) fn is_left_in_time(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let mut pair = Pair::new(haproxy, keepalived)?;
    let node = &mut pair.nodes[0];
    let setup = setup(node);
    node.start_keepalived(&setup, 100)?;
    pair.serves("n1")?;
    let node = &mut pair.nodes[0];
    let began = Instant::now();
    node.signal_keepalived(Signal::TERM)?;
    node.wait_keepalived()?;
    until(DEADLINE, "the reader to end", || (readers(node) == 0).then_some(()))?;
    let took = began.elapsed();
    ensure!(took < IN_TIME, "{took:?}");
    node.hooks_end()?;
    node.inside(|| node.stage.expect_serving("n1"))
}
