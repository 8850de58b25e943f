//! What stock HAProxy loses: reloads of every version under load, `-sf` alone and with `-x`.
//!
//! `cargo run -p hareload-testkit --example stock [reloads] [held connections]`, as root.

use std::time::Duration;

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::{self, Haproxy};
use hareload_testkit::instance::{Instance, Stock};
use hareload_testkit::load::{Load, LoadSpec};
use hareload_testkit::netns::run_in_netns;
use hareload_testkit::waiting::until;

/// An old one has nothing left to do but to end long-held connections, which take four seconds.
const LEAVE: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse());
    let reloads: usize = args.next().transpose()?.unwrap_or(20);
    let keep_long: usize = args.next().transpose()?.unwrap_or(0);
    for haproxy in haproxies::all() {
        for way in [Stock::Finish, Stock::FinishAndTransfer] {
            run_in_netns(|_| reload_under_load(&haproxy, way, reloads, keep_long))?;
        }
    }
    Ok(())
}

fn reload_under_load(haproxy: &Haproxy, way: Stock, reloads: usize, keep_long: usize) -> Result<()> {
    let config = |generation: usize| {
        let config = Config::plain(&format!("g{generation}"));
        if haproxy.version.at_least(2, 4) { config.idle_close_on_response() } else { config }
    };
    let mut instance = Instance::start(haproxy, config(0))?;
    ensure!(instance.serving_generation()? == "g0", "another one answers");
    let load = Load::start(LoadSpec { keep_long, ..LoadSpec::to(vec![instance.address()?]) })?;
    for generation in 1..=reloads {
        let marker = format!("g{generation}");
        instance.write_config(config(generation))?;
        instance.reload_stock(way)?.expect_code(0)?;
        until(LEAVE, &format!("1000 answers of {marker}"), || {
            (load.report_so_far().ok()?.answered_by(&marker) > 1000).then_some(())
        })?;
        instance.wait_only(&instance.pidfile()?, LEAVE)?;
    }
    let report = load.stop()?;
    println!(
        "{haproxy} {way:?}, {reloads} reloads: {}",
        report.to_string().split(", g0 ").next().unwrap_or("")
    );
    for failure in report.failures.iter().take(3) {
        println!("    {failure}");
    }
    Ok(())
}
