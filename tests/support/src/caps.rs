//! What can be tested here, so that what can't is reported as skipped, by name, and never as passed.
//!
//! Called by the tests' `main`, which builds its trials with [`Caps::on_branch`] and [`Caps::trial`].

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use libtest_mimic::Trial;
use nix::unistd::geteuid;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::haproxies::{self, Haproxy};
use crate::netns;
use crate::process;

/// What a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Effective uid 0.
    Root,
    /// A network namespace of one's own.
    Netns,
    /// Any HAProxy.
    Haproxy,
    /// An unpacked HAProxy of this branch.
    Branch(u32, u32),
    /// Copying descriptors of another process.
    PidfdGetfd,
    /// Saying which pid the next process gets.
    ChosenPids,
}

/// What this machine gives to tests.
#[derive(Debug, Clone)]
pub struct Caps {
    /// Is this root?
    pub root: bool,
    /// Can network namespaces be made?
    pub netns: bool,
    /// Can a child's descriptors be copied (Linux 5.6, and no seccomp filter or Yama in the way)?
    pub pidfd_getfd: bool,
    /// Can it be said which pid comes next ([`crate::process::LAST_PID`])?
    pub chosen_pids: bool,
    /// The HAProxies that `tests/unpack.sh` has unpacked, oldest first.
    pub haproxies: Vec<Haproxy>,
    /// The machine's own HAProxy.
    pub system: Option<Haproxy>,
}

impl Caps {
    /// Finds out.
    #[must_use]
    pub fn find() -> Caps {
        Caps {
            root: geteuid().is_root(),
            netns: netns::possible(),
            pidfd_getfd: can_copy_descriptors(),
            chosen_pids: OpenOptions::new().write(true).open(process::LAST_PID).is_ok(),
            haproxies: haproxies::all(),
            system: haproxies::system(),
        }
    }

    /// What of these needs is missing, in words; none if nothing is.
    #[must_use]
    pub fn missing(&self, needs: &[Need]) -> Option<String> {
        let lacks = |need: &Need| match *need {
            Need::Root => (!self.root).then(|| "no root".to_owned()),
            Need::Netns => (!self.netns).then(|| "no network namespaces".to_owned()),
            Need::Haproxy => {
                (self.system.is_none() && self.haproxies.is_empty()).then(|| "no haproxy".to_owned())
            }
            Need::Branch(major, minor) => {
                let has = |h: &Haproxy| (h.version.major, h.version.minor) == (major, minor);
                (!self.haproxies.iter().any(has)).then(|| format!("no haproxy {major}.{minor}"))
            }
            Need::PidfdGetfd => (!self.pidfd_getfd).then(|| "no pidfd_getfd".to_owned()),
            Need::ChosenPids => (!self.chosen_pids).then(|| "pids can't be chosen".to_owned()),
        };
        let missing: Vec<String> = needs.iter().filter_map(lacks).collect();
        (!missing.is_empty()).then(|| missing.join(", "))
    }

    /// A test with a HAProxy of this branch, as root in a network namespace of its own: `<version>::<name>`.
    pub fn on_branch<F>(&self, branch: (u32, u32), name: &str, test: F) -> Trial
    where
        F: FnOnce(&Haproxy) -> Result<()> + Send + 'static,
    {
        self.on_branch_with(branch, name, &[], test)
    }

    /// The same, of a test that needs more than that.
    pub fn on_branch_with<F>(&self, (major, minor): (u32, u32), name: &str, more: &[Need], test: F) -> Trial
    where
        F: FnOnce(&Haproxy) -> Result<()> + Send + 'static,
    {
        let haproxy = haproxies::of_branch(major, minor);
        let version =
            haproxy.as_ref().map_or_else(|| format!("{major}.{minor}"), |found| found.version.to_string());
        let needs = [Need::Root, Need::Netns, Need::PidfdGetfd, Need::Branch(major, minor)];
        let needs = [&needs, more].concat();
        self.trial(&format!("{version}::{name}"), &needs, move || {
            let haproxy = haproxy.context("no such HAProxy")?;
            netns::run_in_netns(|_| test(&haproxy))
        })
    }

    /// A test that needs something. Where that is missing it is marked ignored, and its name says what was missing:
    /// `reload_under_load [skipped: no root]`. Run nevertheless (`--ignored`), it fails.
    pub fn trial<F>(&self, name: &str, needs: &[Need], test: F) -> Trial
    where
        F: FnOnce() -> Result<()> + Send + 'static,
    {
        trial_unless(self.missing(needs), name, test)
    }
}

/// A test that runs unless something is missing, in words. Where it is, the test is marked ignored, as
/// [`Caps::trial`] has it.
pub fn trial_unless<F>(missing: Option<String>, name: &str, test: F) -> Trial
where
    F: FnOnce() -> Result<()> + Send + 'static,
{
    let Some(missing) = missing else {
        return Trial::test(name, move || test().map_err(|error| format!("{error:#}").into()));
    };
    let name = format!("{name} [skipped: {missing}]");
    Trial::test(name, move || Err(format!("can't run here: {missing}").into())).with_ignored_flag(true)
}

/// Tries it on a child: `cat`, whose stdin is a pipe that ends it when it is closed.
fn can_copy_descriptors() -> bool {
    let Ok(mut child) = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn() else {
        return false;
    };
    let copied = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
        .and_then(|pidfd| pidfd_getfd(pidfd, 0, PidfdGetfdFlags::empty()))
        .is_ok();
    // wait() closes the pipe first, so the child ends by itself.
    let _ = child.wait();
    copied
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Caps {
        Caps {
            root: false,
            netns: false,
            pidfd_getfd: false,
            chosen_pids: false,
            haproxies: Vec::new(),
            system: None,
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = nothing().missing(&[Need::Root, Need::Branch(3, 2)]);
        assert_eq!(missing.as_deref(), Some("no root, no haproxy 3.2"));
        assert_eq!(nothing().missing(&[]), None);
    }

    #[test]
    fn a_test_that_cannot_run_is_skipped_by_name() {
        let trial = nothing().trial("reload", &[Need::Root], || Ok(()));
        assert_eq!(trial.name(), "reload [skipped: no root]");
        assert!(trial.has_ignored_flag());
    }
}
