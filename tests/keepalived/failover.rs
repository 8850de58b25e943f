//! The address moves: how long nobody answers. With the configuration that `hareload gen keepalived` makes.
//!
//! `HARELOAD_TEST_FAILOVERS` is how often each is done, once otherwise, and `HARELOAD_TEST_ADVERT_INT` another time between
//! advertisements: docs/keepalived.md has figures of such runs.

use std::env;
use std::thread;
use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::keepaliveds::Keepalived;
use hareload_testkit::load::{Load, LoadSpec};
use hareload_testkit::report::Loss;
use hareload_testkit::waiting::until;

use crate::DEADLINE;
use crate::pair::{Pair, SERVICE, Setup, VIP};

/// Within which a client is answered again.
const FAILOVER: Duration = Duration::from_secs(2);

/// How many answers of a node are enough to say that it serves.
const ENOUGH: u64 = 100;

/// How many connections of the load are under way at once.
const WORKERS: u64 = 24;

/// Does it as often as is asked for, each time with a new pair, and prints how long nobody answered.
fn each(what: &str, keepalived: &Keepalived, once: impl Fn(&dyn Fn()) -> Result<Duration>) -> Result<()> {
    let runs: u32 = env::var("HARELOAD_TEST_FAILOVERS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let asked = env::var_os("HARELOAD_TEST_ADVERT_INT");
    for run in 0..runs {
        // Spread over the second in which keepalived asks for HAProxy's health once.
        let outage = once(&|| thread::sleep(Duration::from_secs(1) * run / runs))?;
        eprintln!("{keepalived}, {what}: {outage:.2?}");
        ensure!(asked.is_some() || outage < FAILOVER, "{what}: {outage:?}");
    }
    Ok(())
}

pub(crate) fn haproxy_killed(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    each("HAProxy killed", keepalived, |phase| {
        let pair = Pair::started(haproxy, keepalived, &Setup::generated())?;
        let master = &pair.nodes[0];
        let pid = master.stage.instance.pid()?;
        phase();
        pair.outage("n2", || master.stage.instance.signal(pid, Signal::KILL).map(drop))
    })
}

pub(crate) fn node_dies(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    each("node cut off", keepalived, |phase| {
        let pair = Pair::started(haproxy, keepalived, &Setup::generated())?;
        phase();
        pair.outage("n2", || {
            pair.nodes[0].cut()?;
            pair.nodes[0].kill_keepalived()
        })
    })
}

/// Nobody is refused while the address moves there and back: whoever came in between is answered by the other node, a
/// second later at most, which is when the kernel sends a SYN again.
pub(crate) fn nobody_is_refused(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let setup = Setup::generated();
    let mut pair = Pair::started(haproxy, keepalived, &setup)?;
    let load = Load::start(LoadSpec { rate: Some(300), ..LoadSpec::to(vec![SERVICE]) })?;
    let answered_by = |name: &str| {
        until(DEADLINE, &format!("{name} to answer the load"), || {
            (load.report_so_far().ok()?.answered_by(name) > ENOUGH).then_some(())
        })
    };
    answered_by("n1")?;
    pair.nodes[0].signal_keepalived(Signal::TERM)?;
    answered_by("n2")?;
    pair.nodes[0].wait_keepalived()?;
    pair.nodes[0].start_keepalived(&setup, 254)?;
    pair.serves("n1")?;
    let so_far = load.report_so_far()?.answered_by("n1");
    until(DEADLINE, "n1 to answer the load again", || {
        (load.report_so_far().ok()?.answered_by("n1") > so_far + ENOUGH).then_some(())
    })?;
    let report = load.stop()?;
    eprintln!("{keepalived}, there and back: {report}");
    ensure!(report.lost_by(Loss::Refused) == 0, "{report}");
    // Those that a node had accepted when it lost the address.
    ensure!(report.losses() <= 2 * WORKERS, "{report}");
    Ok(())
}

/// There by a stop of keepalived's, and back by its start.
pub(crate) fn planned(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let setup = Setup::generated();
    each("keepalived stopped", keepalived, |phase| {
        let mut pair = Pair::started(haproxy, keepalived, &setup)?;
        phase();
        let there = pair.outage("n2", || pair.nodes[0].signal_keepalived(Signal::TERM))?;
        pair.nodes[0].wait_keepalived()?;
        pair.nodes[1].hook_ends("master")?;
        // Clients of an address that stays do not notice that the other one goes.
        let load = pair.nodes[1].stage.load(500, ["n2".to_owned()])?;
        pair.nodes[0].start_keepalived(&setup, 254)?;
        pair.serves("n1")?;
        load.stop()?.expect_lossless()?;
        ensure!(pair.nodes[0].has(VIP)? && !pair.nodes[1].has(VIP)?, "{}", pair.told());
        Ok(there)
    })
}
