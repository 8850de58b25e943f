//! Two nodes with real keepalived and real HAProxy: `hareload notify` as the hook, `hareload healthy` as the check.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

#[path = "keepalived/death.rs"]
mod death;
#[path = "keepalived/failover.rs"]
mod failover;
#[path = "keepalived/fifo.rs"]
mod fifo;
#[path = "keepalived/flapping.rs"]
mod flapping;
#[path = "keepalived/generated.rs"]
mod generated;
#[path = "keepalived/health.rs"]
mod health;
#[path = "keepalived/hook.rs"]
mod hook;
#[path = "keepalived/pair.rs"]
mod pair;
#[path = "keepalived/reload.rs"]
mod reload;

use std::process::ExitCode;
use std::time::Duration;

use hareload_testkit::anyhow::{Context as _, Result};
use hareload_testkit::caps::{Caps, Need, trial_unless};
use hareload_testkit::haproxies::{self, Haproxy};
use hareload_testkit::keepaliveds::{self, BRANCHES, Keepalived};
use hareload_testkit::libtest_mimic::Trial;
use hareload_testkit::netns::run_in_netns;
use hareload_testkit::suite::Suite;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when anything that a test waits for has happened.
const DEADLINE: Duration = Duration::from_secs(30);

/// A test with both.
type Test = fn(&Haproxy, &Keepalived) -> Result<()>;

const TESTS: [(&str, Test); 22] = [
    ("failover::haproxy_killed", failover::haproxy_killed),
    ("failover::node_dies", failover::node_dies),
    ("failover::keepalived_stopped_and_back", failover::planned),
    ("failover::nobody_is_refused", failover::nobody_is_refused),
    ("fifo::is_followed", fifo::is_followed),
    ("fifo::is_left_in_time", fifo::is_left_in_time),
    ("flapping::leaves_one_generation", flapping::leaves_one),
    ("generated::is_taken", generated::is_taken),
    ("health::reds", health::reds),
    ("hook::starts_what_does_not_run", hook::starts),
    ("hook::leaves_alone_what_is_right", hook::leaves_alone),
    ("hook::brings_back_what_is_paused_or_frozen", hook::brings_back),
    ("hook::inherits_nothing", hook::inherits_nothing),
    ("hook::the_newest_state_wins", hook::newest_wins),
    ("hook::the_newest_of_two_within_a_tick_wins", hook::newest_within_a_tick),
    ("hook::two_at_once_make_one_handover", hook::two_at_once),
    ("hook::comes_while_another_leaves", hook::comes_while_another_leaves),
    ("hook::has_a_deadline", hook::has_a_deadline),
    ("hook::stops_only_the_last", hook::stops_only_the_last),
    ("death::of_keepalived_during_the_hook", death::of_keepalived),
    ("death::of_the_hook_at_any_phase", death::of_the_hook),
    ("reload::on_the_master_and_on_the_backup", reload::on_both),
];

fn main() -> ExitCode {
    let suite = BRANCHES.into_iter().fold(Suite::of_this_program(), |suite, branch| {
        TESTS.into_iter().fold(suite, |suite, (name, test)| suite.and(|caps| trial(caps, branch, name, test)))
    });
    suite.one_at_a_time().run()
}

fn trial(caps: &Caps, (major, minor): (u32, u32), name: &str, test: Test) -> Trial {
    let keepalived = keepaliveds::of_branch(major, minor);
    let missing = caps.missing(&[Need::Root, Need::Netns, Need::PidfdGetfd, Need::Branch(2, 6)]);
    let missing = missing.or_else(|| keepalived.is_none().then(|| format!("no keepalived {major}.{minor}")));
    let version =
        keepalived.as_ref().map_or_else(|| format!("{major}.{minor}"), |found| found.version.to_string());
    trial_unless(missing, &format!("{version}::{name}"), move || {
        let haproxy = haproxies::of_branch(2, 6).context("no HAProxy 2.6")?;
        let keepalived = keepalived.context("no keepalived")?;
        run_in_netns(|_| test(&haproxy, &keepalived))
    })
}
