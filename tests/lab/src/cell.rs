//! One scenario on one version: reloads under a load that counts every connection, in a network namespace of its own.
//!
//! Called by `main`.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context, Result, bail};
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::instance::Instance;
use hareload_testkit::load::{Load, LoadSpec};
use hareload_testkit::waiting::until;

use crate::command::{Commands, Watch};
use crate::figures::{Cell, Spread};
use crate::metronome::Metronome;
use crate::scenario::{Change, FOREIGN_PORT, Means, Memory, Outcome, Scenario};

/// Connections under way at once at most: enough for the rate while nothing stalls.
const WORKERS: usize = 16;
/// For each step of a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// Within this a configuration that was taken answers, and the one before has left; if not, the cell is given up.
const SETTLE: Duration = Duration::from_secs(15);
/// A master that shows no effect of a signal after this is sent it again: ten times what a reload takes.
const AGAIN: Duration = Duration::from_millis(500);
/// The load runs this long before the first reload and after the last one, so that what comes late is still counted.
const MARGIN: Duration = Duration::from_millis(300);
/// A reload that is meant to fail is watched this long: an outage for ever is counted for this second.
const OBSERVED: Duration = Duration::from_secs(1);
/// Failing reloads of a cell at most: with stock each takes seconds.
const FAILING: u32 = 5;
/// The load alone, without any reload.
const BASELINE: Duration = Duration::from_secs(5);
/// A cell makes no more reloads after this.
const LIMIT: Duration = Duration::from_secs(180);
/// How many lost connections are kept word for word.
const KEPT: usize = 5;

/// Runs one cell. What goes wrong in it is told in it.
pub(crate) fn run(
    scenario: &Scenario,
    haproxy: &Haproxy,
    commands: &Commands,
    rate: u32,
    reloads: u32,
) -> Cell {
    let mut cell =
        Cell { version: haproxy.version.to_string(), scenario: scenario.name.to_owned(), ..Cell::default() };
    let mut course = Course { scenario, commands, cell: &mut cell, times: Times::default() };
    let result = course.run(haproxy, rate, reloads);
    let times = course.times;
    cell.command = Spread::of(times.command);
    cell.answers = Spread::of(times.answers);
    cell.last_old = Spread::of(times.last_old);
    if let Err(error) = result {
        cell.error = Some(format!("{error:#}").chars().take(600).collect());
    }
    cell
}

#[derive(Debug, Default)]
struct Times {
    command: Vec<Duration>,
    answers: Vec<Duration>,
    last_old: Vec<Duration>,
}

struct Course<'a> {
    scenario: &'a Scenario,
    commands: &'a Commands,
    cell: &'a mut Cell,
    times: Times,
}

impl Course<'_> {
    fn run(&mut self, haproxy: &Haproxy, rate: u32, reloads: u32) -> Result<()> {
        let scenario = self.scenario;
        let _stranger = match scenario.change {
            Change::ForeignPort => Some(
                TcpListener::bind((Ipv4Addr::LOCALHOST, FOREIGN_PORT)).context("no port for a stranger")?,
            ),
            Change::Sound | Change::MissingChroot => None,
        };
        let mut instance = Instance::prepare(haproxy, scenario.sound("g0"))?;
        start(&instance, scenario)?;
        if let Means::Hareload(Memory::Kept, _) = scenario.means {
            // From here on the old one is one that hareload has started.
            let first = Means::Hareload(Memory::Kept, &["--handover", "shared"]);
            let ended = self.commands.reload(&instance, first, Watch::Nothing)?;
            if ended.code != 0 {
                bail!("the first reload ended with {}: {}", ended.code, ended.said);
            }
            left_alone(&instance, scenario.processes())?;
        }
        let address = instance.address()?;
        let spec =
            LoadSpec { workers: WORKERS, rate: Some(rate), timeout: PATIENCE, ..LoadSpec::to(vec![address]) };
        let metronome = Metronome::start(address)?;
        let load = Load::start(spec)?;
        pass(MARGIN);
        let result = self.rounds(&mut instance, &metronome, reloads);
        pass(MARGIN);
        let gap = metronome.gap();
        drop(metronome);
        let report = load.stop()?;
        self.cell.connections = report.connections();
        self.cell.failures = report.failures.iter().take(KEPT).map(ToString::to_string).collect();
        let longest = report.failures.iter().map(|failure| failure.after).max().unwrap_or_default();
        self.cell.stall = gap.max(report.latency.max).max(longest);
        self.cell.lost = report.lost;
        // Without clients whoever is to leave can leave.
        let _ = left_alone(&instance, scenario.processes());
        self.cell.left = instance.processes().len().saturating_sub(scenario.processes());
        result
    }

    fn rounds(&mut self, instance: &mut Instance, metronome: &Metronome, reloads: u32) -> Result<()> {
        if self.scenario.means == Means::Nothing {
            pass(BASELINE);
            return Ok(());
        }
        let reloads = match self.scenario.outcome {
            Outcome::Reloaded => reloads,
            Outcome::Undone => reloads.min(FAILING),
        };
        let began = Instant::now();
        for round in 1..=reloads {
            if began.elapsed() > LIMIT {
                bail!("the cell's time is over after {} reloads", round - 1);
            }
            match self.scenario.outcome {
                Outcome::Reloaded => self.reload(instance, metronome, round)?,
                Outcome::Undone => self.fail(instance, round)?,
            }
            self.cell.reloads = round;
        }
        Ok(())
    }

    fn reload(&mut self, instance: &mut Instance, metronome: &Metronome, round: u32) -> Result<()> {
        let (before, marker) = (format!("g{}", round - 1), format!("g{round}"));
        instance.write_config(self.scenario.changed(&marker))?;
        let began = self.command(instance)?;
        let mut told = Instant::now();
        let first = until(SETTLE, &format!("an answer of {marker}"), || {
            // A signal has no answer: a master that was busy with itself has not heard it.
            if self.scenario.means == Means::Master && told.elapsed() > AGAIN {
                told = Instant::now();
                instance.signal(instance.pid().ok()?, Signal::USR2).ok()?;
                self.cell.repeated += 1;
            }
            metronome.first(&marker)
        })?;
        self.times.answers.push(first.saturating_duration_since(began));
        left_alone(instance, self.scenario.processes())?;
        if let Some(last) = metronome.last(&before) {
            self.times.last_old.push(last.saturating_duration_since(began));
        }
        self.count_server("new");
        Ok(())
    }

    /// A reload that is meant to end with the old one serving.
    fn fail(&mut self, instance: &mut Instance, round: u32) -> Result<()> {
        let (before, marker) = (instance.serving_generation()?, format!("g{round}"));
        let sound = instance.config().clone();
        instance.write_config(self.scenario.changed(&marker))?;
        self.command(instance)?;
        pass(OBSERVED);
        match instance.serving_generation() {
            Ok(serving) if serving == before => self.count_server("old"),
            Ok(_) => self.count_server("new"),
            Err(_) => {
                self.count_server("nobody");
                instance.write_config(sound.clone())?;
                start(instance, self.scenario)?;
            }
        }
        // Whoever comes next starts from a sound one.
        instance.write_config(sound)
    }

    fn command(&mut self, instance: &Instance) -> Result<Instant> {
        let ended = self.commands.reload(instance, self.scenario.means, Watch::Memory)?;
        *self.cell.codes.entry(ended.code).or_default() += 1;
        if let Some(way) = ended.way {
            *self.cell.ways.entry(way).or_default() += 1;
        }
        self.times.command.extend(ended.took);
        self.cell.peak_kib = self.cell.peak_kib.max(ended.peak_kib);
        if self.scenario.outcome == Outcome::Reloaded && ended.code != 0 {
            bail!("a reload ended with {}: {}", ended.code, ended.said);
        }
        Ok(ended.began)
    }

    fn count_server(&mut self, who: &str) {
        *self.cell.serves.entry(who.to_owned()).or_default() += 1;
    }
}

fn start(instance: &Instance, scenario: &Scenario) -> Result<()> {
    if scenario.means != Means::Master {
        return instance.start_stock();
    }
    // The pidfile names the master, which does not listen itself from 3.1 on: an answer tells that it has started.
    instance.run_haproxy(&["-W".to_owned()])?.expect_code(0)?;
    until(SETTLE, "an answer of the master's worker", || instance.serving_generation().ok())?;
    let address: SocketAddr = instance.address()?;
    left_alone(instance, scenario.processes()).with_context(|| format!("the master of {address}"))
}

/// Waits until there are only as many HAProxies as one generation has.
fn left_alone(instance: &Instance, processes: usize) -> Result<()> {
    until(SETTLE, "the old one to leave", || (instance.haproxies().len() <= processes).then_some(()))
}

/// Lets time pass while the load runs: there is nothing to wait for but the time itself.
fn pass(time: Duration) {
    let _ = until(time, "the time to pass", || None::<()>);
}
