//! Reloads on nodes of a pair: nobody notices, and no address moves.

use std::fs;

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::keepaliveds::Keepalived;
use hareload_testkit::load::{Load, LoadSpec};

use crate::pair::{Pair, SERVICE, Setup};

/// How many on the master.
const RELOADS: usize = 20;

pub(crate) fn on_both(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let pair = Pair::started(haproxy, keepalived, &Setup::generated())?;
    on_the_master(&pair)?;
    on_the_backup(&pair)
}

/// By the hook, each time with another configuration, under a load on the virtual address.
fn on_the_master(pair: &Pair) -> Result<()> {
    let (master, backup) = (&pair.nodes[0], &pair.nodes[1]);
    let transitions = || [master, backup].map(|node| node.heard("STATE"));
    let known = transitions();
    let load = Load::start(LoadSpec { rate: Some(1000), ..LoadSpec::to(vec![SERVICE]) })?;
    for round in 0..RELOADS {
        master.configure(&format!("r{round}"))?;
        master.inside(|| master.hareload("notify").run()?.expect_code(0)?.expect_said(&["reloaded"]))?;
    }
    let report = load.stop()?.expect_lossless()?;
    ensure!(transitions() == known, "{}", pair.told());
    pair.serves(&format!("r{}", RELOADS - 1))?;
    eprintln!("{RELOADS} reloads on the master: {report}");
    Ok(())
}

/// It lacks the address, and may not bind it: that is said, and whoever is served goes on being served.
fn on_the_backup(pair: &Pair) -> Result<()> {
    let node = &pair.nodes[1];
    let pid = node.stage.instance.pid()?;
    let text = fs::read_to_string(node.stage.instance.config_path())?;
    for (line, words) in [
        ("bind 10.99.0.102:80", ["10.99.0.102:80", "IPv4", "net.ipv4.ip_nonlocal_bind"]),
        ("bind [fd99::100]:80", ["[fd99::100]:80", "IPv6", "net.ipv6.ip_nonlocal_bind"]),
    ] {
        node.inside(|| {
            fs::write("/proc/sys/net/ipv4/ip_nonlocal_bind", "0")?;
            node.stage
                .instance
                .write_config_text(&format!("{text}\nfrontend more\n mode http\n {line}\n"))?;
            Ok(())
        })?;
        let load = node.stage.load(1000, ["n2".to_owned()])?;
        let refused = node.inside(|| node.hareload("notify").run())?;
        load.stop()?.expect_lossless()?;
        ensure!(refused.code != 0, "{refused:?}");
        let said = format!("{}{}", refused.stdout, refused.stderr);
        for word in words {
            ensure!(said.contains(word), "no {word}: {said}");
        }
        eprintln!("{said}");
        node.inside(|| node.stage.expect_serving("n2"))?;
        ensure!(node.stage.instance.pid()? == pid, "{}", node.told());
    }
    Ok(())
}
