//! Who dies while a hook is at work.

use std::thread;
use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context as _, Result};
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::keepaliveds::Keepalived;
use hareload_testkit::process;
use hareload_testkit::waiting::until;

use crate::DEADLINE;
use crate::pair::{Pair, Setup};

/// The instants at which hooks are killed: every 5 ms of what a hook takes, and beyond.
const INSTANTS: u32 = 30;
const STEP: Duration = Duration::from_millis(5);

/// keepalived, whole, as soon as its hook has begun to start HAProxy.
pub(crate) fn of_keepalived(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let mut pair = Pair::new(haproxy, keepalived)?;
    let node = &mut pair.nodes[0];
    node.inside(|| node.hareload("stop").arg("--now").run()?.expect_code(0).map(drop))?;
    node.start_keepalived(&Setup::hooked(), 100)?;
    let node = &pair.nodes[0];
    until(DEADLINE, "the new HAProxy", || {
        let all = process::naming(node.stage.instance.dir());
        all.iter().any(|process| process.is("haproxy")).then_some(())
    })?;
    node.kill_keepalived()?;
    node.hooks_end()?;
    node.inside(|| node.stage.expect_serving("n1"))?;
    // Nobody has taken the address away.
    pair.serves("n1")
}

/// A hook that hands over is killed, later and later; its guard undoes or finishes it, and the next hook is content.
pub(crate) fn of_the_hook(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let pair = Pair::started(haproxy, keepalived, &Setup::hooked())?;
    let node = &pair.nodes[0];
    let load = node.stage.load(1000, [])?;
    for instant in 0..INSTANTS {
        let marker = format!("k{instant}");
        node.configure(&marker)?;
        let hook = node.inside(|| node.hareload("notify").spawn())?;
        thread::sleep(STEP * instant);
        hook.signal(Signal::KILL)?;
        hook.wait(DEADLINE)?;
        node.hooks_end()?;
        node.inside(|| {
            node.hareload("notify").run()?.expect_code(0)?;
            node.stage.expect_serving(&marker).with_context(|| format!("killed after {:?}", STEP * instant))
        })?;
    }
    load.stop()?.expect_lossless()?;
    node.inside(|| {
        let pid = node.stage.instance.pid()?;
        node.stage.instance.wait_only(&[pid], DEADLINE)?;
        node.stage.expect_tidy()
    })
}
