//! Two VRRP instances whose addresses go to and fro, while somebody else reloads.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::keepaliveds::Keepalived;
use hareload_testkit::waiting::until;

use crate::DEADLINE;
use crate::pair::{Pair, SECOND, Setup, VIP};

/// How often both addresses change places: each time two instances on two nodes change their state.
const TURNS: usize = 25;

/// Within which all of it has happened.
const LIMIT: Duration = Duration::from_secs(60);

/// What counts as a transition in keepalived's log.
const TRANSITIONS: [&str; 2] = ["Entering MASTER STATE", "Entering BACKUP STATE"];

pub(crate) fn leaves_one(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let mut pair = Pair::new(haproxy, keepalived)?;
    // What is in this file is added to the node's priority.
    let file = pair.nodes[0].path("weight");
    fs::write(&file, "0")?;
    let global = format!("}}\nvrrp_track_file weight {{\n file {}\n weight 1\n", file.display());
    let setup = Setup { second: true, ..Setup::hooked() };
    let tracking = Setup { global, instance: " track_file {\n  weight\n }".to_owned(), ..setup.clone() };
    pair.nodes[0].start_keepalived(&tracking, 150)?;
    pair.nodes[1].start_keepalived(&setup, 100)?;
    pair.serves("n1")?;
    for node in &pair.nodes {
        node.hooks_end()?;
    }
    let count = || -> usize {
        pair.nodes.iter().map(|node| TRANSITIONS.iter().map(|what| node.heard(what)).sum::<usize>()).sum()
    };
    let (before, began) = (count(), Instant::now());
    let load = pair.nodes[0].stage.load(500, [])?;
    let over = AtomicBool::new(false);
    let reloads = thread::scope(|scope| -> Result<usize> {
        let node = &pair.nodes[0];
        let reloading = scope.spawn(|| -> Result<usize> {
            let mut reloads = 0;
            while !over.load(Ordering::Relaxed) {
                reloads += 1;
                node.configure(&format!("r{reloads}"))?;
                node.inside(|| node.hareload("reload").run()?.expect_code(0).map(drop))?;
            }
            Ok(reloads)
        });
        let turns = (0..TURNS).try_for_each(|turn| -> Result<()> {
            let there = turn % 2 == 0;
            fs::write(&file, if there { "-100" } else { "0" })?;
            until(DEADLINE, "the addresses to move", || {
                let [first, second] =
                    [VIP, SECOND].map(|vip| pair.nodes.each_ref().map(|node| node.has(vip).ok()));
                let wanted = [Some(!there), Some(there)];
                (first == wanted && second == wanted).then_some(())
            })
        });
        over.store(true, Ordering::Relaxed);
        let reloads = reloading.join().map_err(|_| hareload_testkit::anyhow::anyhow!("it panicked"))?;
        turns?;
        reloads
    })?;
    let (transitions, took) = (count() - before, began.elapsed());
    ensure!(transitions >= 4 * TURNS && took < LIMIT, "{transitions} transitions in {took:?}");
    let report = load.stop()?.expect_lossless()?;
    eprintln!("{transitions} transitions in {took:?}, {reloads} reloads beside: {report}");
    for (node, marker) in pair.nodes.iter().zip([format!("r{reloads}"), "n2".to_owned()]) {
        node.hooks_end()?;
        node.inside(|| {
            node.stage.expect_serving(&marker)?;
            let pid = node.stage.instance.pid()?;
            node.stage.instance.wait_only(&[pid], DEADLINE)?;
            node.stage.expect_tidy()
        })?;
    }
    Ok(())
}
