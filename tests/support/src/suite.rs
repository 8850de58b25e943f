//! The tests of a program that has its own `main`: which of them, on which HAProxies, how many at once.
//!
//! Called by the integration tests that need a HAProxy, root or a tool, and say so in the name of what they skip.

use std::num::NonZero;
use std::process::ExitCode;
use std::thread;

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};

use crate::caps::Caps;
use crate::haproxies::Haproxy;

/// A test with a HAProxy.
pub type Test = fn(&Haproxy) -> Result<()>;

/// A test that needs nothing.
pub type Plain = fn() -> Result<()>;

/// The tests of a program.
#[derive(Debug)]
pub struct Suite {
    /// What the machine gives to them.
    pub caps: Caps,
    arguments: Arguments,
    at_once: usize,
    trials: Vec<Trial>,
}

/// How many tests run at once that neither measure nor load every core: most of a test is waiting.
#[must_use]
pub fn at_once() -> usize {
    2 * thread::available_parallelism().map_or(1, NonZero::get)
}

impl Suite {
    /// None yet; which of them run is said by the program's arguments.
    #[must_use]
    pub fn of_this_program() -> Suite {
        Suite {
            caps: Caps::find(),
            arguments: Arguments::from_args(),
            at_once: at_once(),
            trials: Vec::new(),
        }
    }

    /// Each of these on each of these branches, as [`Caps::on_branch`] has it.
    #[must_use]
    pub fn on<N, F, T>(mut self, branches: &[(u32, u32)], tests: T) -> Suite
    where
        N: AsRef<str>,
        F: FnOnce(&Haproxy) -> Result<()> + Send + 'static,
        T: IntoIterator<Item = (N, F)> + Clone,
    {
        for branch in branches {
            let of_branch = tests.clone().into_iter();
            self.trials
                .extend(of_branch.map(|(name, test)| self.caps.on_branch(*branch, name.as_ref(), test)));
        }
        self
    }

    /// Tests that need nothing.
    #[must_use]
    pub fn anywhere(mut self, tests: &[(&str, Plain)]) -> Suite {
        self.trials.extend(tests.iter().map(|(name, test)| self.caps.trial(name, &[], *test)));
        self
    }

    /// Another test.
    #[must_use]
    pub fn and(mut self, trial: impl FnOnce(&Caps) -> Trial) -> Suite {
        self.trials.push(trial(&self.caps));
        self
    }

    /// One after the other, unless the arguments say otherwise: for those that measure, or load every core.
    #[must_use]
    pub fn one_at_a_time(mut self) -> Suite {
        self.at_once = 1;
        self
    }

    /// Runs them.
    #[must_use]
    pub fn run(mut self) -> ExitCode {
        self.arguments.test_threads.get_or_insert(self.at_once);
        libtest_mimic::run(&self.arguments, self.trials).exit_code()
    }
}
