//! The scenarios: by which means one configuration follows another, and what is wrong with the new one.
//!
//! Pure data. Read by `cell`.

use hareload_testkit::config::{Admin, Config};

/// Where every configuration listens.
pub(crate) const PORT: u16 = 8080;

/// Where a stranger listens, in the scenarios that have one.
pub(crate) const FOREIGN_PORT: u16 = 8081;

/// How one configuration follows another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Means {
    /// Not at all: the load alone.
    Nothing,
    /// `haproxy -D … -sf <pid>`.
    Finish,
    /// `haproxy -c …`, and then `haproxy -D … -sf <pid>`.
    CheckAndFinish,
    /// `haproxy -D … -x <admin socket> -sf <pid>`.
    Transfer,
    /// SIGUSR2 to the master of `haproxy -W -D`.
    Master,
    /// `hareload reload` with more arguments.
    Hareload(Memory, &'static [&'static str]),
}

/// What hareload remembers of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// It has started it, and has its private admin socket.
    Kept,
    /// Not its private admin socket: sockets have to be borrowed, as at the first reload after installing hareload.
    None,
}

/// What the new configuration is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Another marker, nothing else.
    Sound,
    /// It wants a port that a stranger holds.
    ForeignPort,
    /// Its chroot is not there; `haproxy -c` says that it is valid.
    MissingChroot,
}

/// One scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// Its name.
    pub(crate) name: &'static str,
    /// How.
    pub(crate) means: Means,
    /// To what.
    pub(crate) change: Change,
    /// Lines of every configuration's `global` section.
    pub(crate) globals: &'static [&'static str],
    /// Whether the new one is to serve in the end.
    pub(crate) outcome: Outcome,
}

/// How a scenario is meant to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The new one serves.
    Reloaded,
    /// The old one goes on serving.
    Undone,
}

impl Scenario {
    /// Its configuration of a generation that is sound.
    pub(crate) fn sound(&self, marker: &str) -> Config {
        let config = Config::new().frontend(PORT).marker(marker);
        let config = match self.means {
            // No admin socket hands out its sockets: they can only be borrowed.
            Means::Hareload(Memory::None, _) => config.admin(Admin::None),
            _ => config,
        };
        self.globals.iter().fold(config, |config, line| config.extra_global(line))
    }

    /// Its configuration of a generation that follows.
    pub(crate) fn changed(&self, marker: &str) -> Config {
        let config = self.sound(marker);
        match self.change {
            Change::Sound => config,
            Change::ForeignPort => config.frontend(FOREIGN_PORT),
            Change::MissingChroot => config.extra_global("chroot /nonexistent/hareload-lab"),
        }
    }

    /// How many HAProxies there are when one generation serves.
    pub(crate) fn processes(&self) -> usize {
        if self.means == Means::Master { 2 } else { 1 }
    }
}

const fn reloaded(name: &'static str, means: Means) -> Scenario {
    Scenario { name, means, change: Change::Sound, globals: &[], outcome: Outcome::Reloaded }
}

const fn undone(name: &'static str, means: Means, change: Change) -> Scenario {
    Scenario { name, means, change, globals: &[], outcome: Outcome::Undone }
}

const fn without_reuseport(scenario: Scenario) -> Scenario {
    Scenario { globals: &["noreuseport"], ..scenario }
}

const SHARED: &[&str] = &["--handover", "shared"];
const TRIAL: &[&str] = &["--handover", "trial"];
const OVERLAP: &[&str] = &["--handover", "overlap"];
// HAProxy answers 200: a probe that wants another status fails.
const SHARED_PROBED: &[&str] = &["--handover", "shared", "--probe", "http://127.0.0.1:8080/=404"];
const TRIAL_PROBED: &[&str] = &["--handover", "trial", "--probe", "http://127.0.0.1:8080/=404"];

/// All scenarios, in the order in which they are run.
pub(crate) const ALL: &[Scenario] = &[
    reloaded("baseline", Means::Nothing),
    reloaded("stock", Means::Finish),
    reloaded("stock-checked", Means::CheckAndFinish),
    without_reuseport(reloaded("stock-noreuseport", Means::Finish)),
    reloaded("stock-x", Means::Transfer),
    reloaded("stock-master", Means::Master),
    reloaded("hareload-overlay", Means::Hareload(Memory::Kept, SHARED)),
    reloaded("hareload-borrowed", Means::Hareload(Memory::None, SHARED)),
    without_reuseport(reloaded("hareload-borrowed-noreuseport", Means::Hareload(Memory::None, SHARED))),
    reloaded("hareload-trial", Means::Hareload(Memory::Kept, TRIAL)),
    reloaded("hareload-overlap", Means::Hareload(Memory::Kept, OVERLAP)),
    undone("foreign-stock", Means::Finish, Change::ForeignPort),
    undone("foreign-hareload", Means::Hareload(Memory::Kept, &[]), Change::ForeignPort),
    undone("chroot-stock", Means::CheckAndFinish, Change::MissingChroot),
    undone("chroot-hareload", Means::Hareload(Memory::Kept, &[]), Change::MissingChroot),
    undone("probe-shared", Means::Hareload(Memory::Kept, SHARED_PROBED), Change::Sound),
    undone("probe-trial", Means::Hareload(Memory::Kept, TRIAL_PROBED), Change::Sound),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
