//! The benchmarks: stock HAProxy and hareload in turn, on a quiet machine, in one network namespace.
//!
//! Called by `main`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hareload_testkit::anyhow::{Result, bail};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::instance::Instance;
use hareload_testkit::waiting::until;

use crate::command::{Commands, Ended, Watch};
use crate::figures::Pair;
use crate::scenario::{Means, Memory};

/// Where stock HAProxy's listeners begin, and where those of hareload's.
const PORTS: (u16, u16) = (10_000, 20_000);
/// The backends of the large configuration, and the servers of each.
const BACKENDS: usize = 10_000;
const SERVERS: usize = 5;
/// An old one has no clients here and leaves at once; one with the large configuration frees hundreds of megabytes.
const SETTLE: Duration = Duration::from_secs(30);

/// `hareload reload` as the benchmarks call it: nothing is waited for that stock does not wait for.
const AT_ONCE: Means = Means::Hareload(Memory::Kept, &["--trial", "0s"]);

/// One benchmark.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bench {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it is compared with.
    stock: Means,
    stock_is: &'static str,
    size: Size,
}

#[derive(Debug, Clone, Copy)]
enum Size {
    Small,
    Backends,
    Listeners(u16),
    /// A verb that has nothing to do, with these options, beside as many listeners.
    Idle {
        verb: &'static str,
        options: &'static [&'static str],
        listeners: u16,
    },
}

/// All benchmarks.
pub(crate) const ALL: &[Bench] = &[
    Bench { name: "bench-small", stock: Means::Finish, stock_is: "haproxy -D -sf", size: Size::Small },
    Bench {
        name: "bench-backends",
        stock: Means::CheckAndFinish,
        stock_is: "haproxy -c && haproxy -D -sf",
        size: Size::Backends,
    },
    listeners("bench-listeners-100", 100),
    listeners("bench-listeners-300", 300),
    listeners("bench-listeners-1000", 1000),
    idle("bench-status", "status", &[], 1000),
    idle("bench-status-quiet", "status", &["--quiet"], 1000),
    idle("bench-healthy", "healthy", &[], 10),
    idle("bench-healthy-1000", "healthy", &[], 1000),
    idle("bench-notify", "notify", &[], 10),
    // The candidate is what is in place: the instance's own configuration, by its name in the instance's directory.
    idle("bench-deploy-unchanged", "deploy", &["--if-changed", "haproxy.cfg"], 10),
];

/// What a verb that finds all as it should be takes beyond a hareload that does nothing.
const fn idle(
    name: &'static str,
    verb: &'static str,
    options: &'static [&'static str],
    listeners: u16,
) -> Bench {
    let size = Size::Idle { verb, options, listeners };
    Bench { name, stock: Means::Nothing, stock_is: "hareload --version", size }
}

const fn listeners(name: &'static str, count: u16) -> Bench {
    Bench { name, stock: Means::Transfer, stock_is: "haproxy -D -x -sf", size: Size::Listeners(count) }
}

impl Bench {
    /// Runs it in as many rounds, and once more to see hareload's memory.
    pub(crate) fn run(&self, haproxy: &Haproxy, commands: &Commands, rounds: u32) -> Result<Pair> {
        if let Size::Idle { verb, options, .. } = self.size {
            return self.idle(haproxy, commands, rounds, verb, options);
        }
        let mut stock = Instance::start(haproxy, self.config(PORTS.0, 0))?;
        let mut own = Instance::start(haproxy, self.config(PORTS.1, 0))?;
        let mut ways = BTreeMap::new();
        // The first reload of an installation has no overlay to go by: it is not among those compared.
        self.once(&mut own, PORTS.1, AT_ONCE, 1, commands, Watch::Nothing)?;
        let mut times = Vec::new();
        for round in 2..rounds + 2 {
            let mut time = |instance: &mut Instance, port, means| -> Result<Duration> {
                let ended = self.once(instance, port, means, round, commands, Watch::Nothing)?;
                if let Some(way) = ended.way {
                    *ways.entry(way).or_default() += 1;
                }
                Ok(ended.took.unwrap_or_default())
            };
            // Each goes first in every other round.
            if round.is_multiple_of(2) {
                let first = time(&mut stock, PORTS.0, self.stock)?;
                times.push((first, time(&mut own, PORTS.1, AT_ONCE)?));
            } else {
                let first = time(&mut own, PORTS.1, AT_ONCE)?;
                times.push((time(&mut stock, PORTS.0, self.stock)?, first));
            }
        }
        let watched = self.once(&mut own, PORTS.1, AT_ONCE, rounds + 2, commands, Watch::Memory)?;
        let Some(pair) = Pair::of(&times) else { bail!("no rounds") };
        Ok(Pair {
            version: haproxy.version.to_string(),
            bench: self.name.to_owned(),
            stock_is: self.stock_is.to_owned(),
            peak_kib: watched.peak_kib,
            ways,
            ..pair
        })
    }

    /// The time of a verb that has all to look at: the generation is one of hareload's.
    fn idle(
        &self,
        haproxy: &Haproxy,
        commands: &Commands,
        rounds: u32,
        verb: &str,
        options: &[&str],
    ) -> Result<Pair> {
        let mut own = Instance::start(haproxy, self.config(PORTS.1, 0))?;
        self.once(&mut own, PORTS.1, AT_ONCE, 1, commands, Watch::Nothing)?;
        let mut times = Vec::new();
        for _ in 0..rounds {
            times.push((commands.nothing()?, commands.idle(&own, verb, options)?));
        }
        let Some(pair) = Pair::of(&times) else { bail!("no rounds") };
        Ok(Pair {
            version: haproxy.version.to_string(),
            bench: self.name.to_owned(),
            stock_is: self.stock_is.to_owned(),
            ..pair
        })
    }

    /// One reload, from a written configuration until the old one has left.
    fn once(
        &self,
        instance: &mut Instance,
        port: u16,
        means: Means,
        round: u32,
        commands: &Commands,
        watch: Watch,
    ) -> Result<Ended> {
        instance.write_config(self.config(port, round))?;
        let ended = commands.reload(instance, means, watch)?;
        if ended.code != 0 {
            bail!("{}: a reload ended with {}: {}", self.name, ended.code, ended.said);
        }
        let marker = format!("g{round}");
        until(SETTLE, &format!("{}: only {marker} to serve", self.name), || {
            (instance.haproxies().len() == 1).then_some(())?;
            (instance.serving_generation().ok()? == marker).then_some(())
        })?;
        Ok(ended)
    }

    fn config(&self, port: u16, round: u32) -> Config {
        let config = Config::new().marker(&format!("g{round}"));
        match self.size {
            Size::Small => config.frontend(port),
            Size::Listeners(count) | Size::Idle { listeners: count, .. } => {
                (port..port.saturating_add(count)).fold(config, |config, port| config.frontend(port))
            }
            Size::Backends => config.frontend(port).append(&backends()),
        }
    }
}

fn backends() -> String {
    let mut text = String::new();
    for backend in 0..BACKENDS {
        let _ = writeln!(text, "backend large-{backend}");
        for server in 0..SERVERS {
            let _ = writeln!(text, "    server s{server} 127.0.0.1:{}", 30_000 + server);
        }
    }
    text
}
