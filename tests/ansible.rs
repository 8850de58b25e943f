//! `packaging/ansible`, by the real Ansible, over two nodes with real keepalived and HAProxy, under load on their address.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

#[path = "ansible/fleet.rs"]
mod fleet;
#[expect(dead_code, reason = "tests/keepalived.rs needs more of it")]
#[path = "keepalived/pair.rs"]
mod pair;
#[path = "ansible/rolled.rs"]
mod rolled;
#[path = "ansible/stopped.rs"]
mod stopped;

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use hareload_testkit::anyhow::{Context as _, Result};
use hareload_testkit::caps::{Caps, Need, trial_unless};
use hareload_testkit::haproxies;
use hareload_testkit::keepaliveds;
use hareload_testkit::libtest_mimic::Trial;
use hareload_testkit::netns::run_in_netns;
use hareload_testkit::suite::Suite;

use fleet::Fleet;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when anything that a test waits for has happened.
const DEADLINE: Duration = Duration::from_secs(30);

/// A test with both nodes, and keepalived on them.
type Test = fn(&Fleet) -> Result<()>;

const TESTS: [(&str, Test); 5] = [
    ("rolled::one_after_the_other", rolled::one_after_the_other),
    ("stopped::at_the_first_backup", stopped::at_the_first_backup),
    ("stopped::at_the_master", stopped::at_the_master),
    ("stopped::by_a_host_that_is_lost", stopped::by_a_host_that_is_lost),
    ("stopped::where_nobody_has_the_address", stopped::where_nobody_has_the_address),
];

fn main() -> ExitCode {
    let suite = TESTS
        .into_iter()
        .fold(Suite::of_this_program(), |suite, (name, test)| suite.and(|caps| trial(caps, name, test)));
    suite.one_at_a_time().run()
}

fn trial(caps: &Caps, name: &str, test: Test) -> Trial {
    let keepalived = keepaliveds::of_branch(2, 2);
    let missing = caps.missing(&[Need::Root, Need::Netns, Need::PidfdGetfd, Need::Branch(2, 6)]);
    let missing = missing
        .or_else(|| keepalived.is_none().then(|| "no keepalived 2.2".to_owned()))
        .or_else(|| (!is_installed()).then(|| "no ansible-playbook".to_owned()));
    trial_unless(missing, name, move || {
        let haproxy = haproxies::of_branch(2, 6).context("no HAProxy 2.6")?;
        let keepalived = keepalived.context("no keepalived")?;
        run_in_netns(|_| test(&Fleet::new(&haproxy, &keepalived)?))
    })
}

fn is_installed() -> bool {
    let mut command = Command::new("ansible-playbook");
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
