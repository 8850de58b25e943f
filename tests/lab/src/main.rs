//! The lab: stock HAProxy and hareload paired in one run, on every version, with every connection counted.
//!
//! `cargo run --release -p hareload-lab -- [--versions V…] [--reloads N] [--rate R] [--out FILE] [--only NAME…]`, as
//! root: each cell has a network namespace of its own, and signals nobody but what it has started. Every wait and every
//! cell is bounded. `docs/benchmarks.md` tells what the figures mean. Uses the tests' kit; the program does not know it.

mod bench;
mod cell;
mod command;
mod figures;
mod metronome;
mod options;
mod scenario;
mod table;

use std::fs;
use std::io::Write as _;
use std::process::ExitCode;
use std::thread;

use clap::Parser as _;
use hareload_testkit::anyhow::{Context as _, Result, ensure};
use hareload_testkit::netns;

use crate::command::Commands;
use crate::figures::{Cell, Conditions, Run, SCHEMA};
use crate::options::Options;

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let mut stdout = std::io::stdout();
    if options.list {
        let names = scenario::ALL.iter().map(|one| one.name).chain(bench::ALL.iter().map(|one| one.name));
        for name in names {
            writeln!(stdout, "{name}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(netns::possible(), "the lab needs root: each cell has a network namespace of its own");
    let haproxies = options.haproxies()?;
    let commands = Commands::new(&options.hareload()?);
    let mut run =
        Run { schema: SCHEMA, conditions: conditions(&options, &commands)?, cells: vec![], pairs: vec![] };
    let mut given_up = false;
    for haproxy in &haproxies {
        let first = run.cells.len();
        for scenario in scenario::ALL.iter().filter(|scenario| options.wants(scenario.name)) {
            let cell = netns::run_in_netns(|_| {
                Ok(cell::run(scenario, haproxy, &commands, options.rate, options.reloads))
            })?;
            eprintln!("{}", table::line(&cell));
            let told = cell.error.iter().chain(cell.failures.iter().take(1));
            told.for_each(|what| eprintln!("    {what}"));
            given_up |= cell.error.is_some();
            run.cells.push(cell);
        }
        beyond_baseline(&mut run.cells[first..]);
    }
    for bench in bench::ALL.iter().filter(|bench| options.wants(bench.name)) {
        for haproxy in &haproxies {
            match netns::run_in_netns(|_| bench.run(haproxy, &commands, options.reloads)) {
                Ok(pair) => {
                    eprintln!("{} {}: {:+.1} ms", pair.version, pair.bench, pair.difference_s * 1e3);
                    run.pairs.push(pair);
                }
                Err(error) => {
                    eprintln!("{haproxy} {}: given up: {error:#}", bench.name);
                    given_up = true;
                }
            }
        }
    }
    write!(stdout, "{}", table::of(&run))?;
    if let Some(path) = &options.out {
        let text = serde_json::to_string_pretty(&run)?;
        fs::write(path, text + "\n").with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(if given_up { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// How much longer clients waited than without any reload.
fn beyond_baseline(cells: &mut [Cell]) {
    let Some(baseline) = cells.iter().find(|cell| cell.scenario == "baseline").map(|cell| cell.stall) else {
        return;
    };
    for cell in cells.iter_mut().filter(|cell| cell.scenario != "baseline") {
        cell.stall_beyond = Some(cell.stall.saturating_sub(baseline));
    }
}

fn conditions(options: &Options, commands: &Commands) -> Result<Conditions> {
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(Conditions {
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        processors: thread::available_parallelism()?.get(),
        hareload: commands.version()?,
        rate: options.rate,
        reloads: options.reloads,
        load_average: load.split_whitespace().next().unwrap_or("unknown").to_owned(),
    })
}
