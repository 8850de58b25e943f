//! Handovers of real HAProxies under load: every version, every way, several in a row.
//!
//! After each: the exit code, the way and its reason, who serves, the pidfile, the admin socket, nothing left over. At
//! the end of each row: the connections lost, none where the way promises none, and the history.
//!
//! `HARELOAD_TEST_RELOADS` is the number of handovers in a row, `HARELOAD_TEST_RATE` the connections a second.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::caps::{Caps, Need};
use hareload_testkit::config::{Admin, Config};
use hareload_testkit::haproxies::{self, BRANCHES, Haproxy};
use hareload_testkit::netns::run_in_netns;
use hareload_testkit::stage::{Stage, account, timeline};
use hareload_testkit::suite::Suite;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when an old one has finished the connections of the load.
const DRAINED: Duration = Duration::from_secs(30);

/// Whether two HAProxies can have the ports side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ports {
    Reusable,
    Exclusive,
    /// SO_REUSEPORT, and an admin socket that hands out the listeners.
    Exposed,
}

/// Whether a way promises to lose nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Losses {
    None,
    Possible,
}

/// One row of handovers.
#[derive(Debug, Clone, Copy)]
struct Row {
    name: &'static str,
    options: &'static [&'static str],
    ports: Ports,
    /// The way that must have been taken.
    way: &'static str,
    /// What the reason of the first one says, and that of all later ones.
    reasons: [&'static str; 2],
    losses: Losses,
}

const ROWS: [Row; 6] = [
    Row {
        name: "shared::reuseport",
        options: &[],
        ports: Ports::Reusable,
        way: "shared",
        reasons: ["borrowed", "private admin socket"],
        losses: Losses::None,
    },
    Row {
        name: "shared::noreuseport",
        options: &["--handover", "shared"],
        ports: Ports::Exclusive,
        way: "shared",
        reasons: ["borrowed", "private admin socket"],
        losses: Losses::None,
    },
    Row {
        name: "shared::own_admin_socket",
        options: &["--handover", "shared"],
        ports: Ports::Exposed,
        way: "shared",
        reasons: ["its own admin socket", "private admin socket"],
        losses: Losses::None,
    },
    Row {
        name: "trial::steered",
        options: &["--handover", "trial", "--trial", "50ms"],
        ports: Ports::Reusable,
        way: "trial",
        reasons: ["steered", "steered"],
        losses: Losses::None,
    },
    Row {
        name: "overlap::reuseport",
        options: &["--handover", "overlap"],
        ports: Ports::Reusable,
        way: "overlap",
        reasons: ["own sockets", "own sockets"],
        losses: Losses::Possible,
    },
    Row {
        name: "pause::noreuseport",
        options: &["--handover", "pause"],
        ports: Ports::Exclusive,
        way: "pause",
        reasons: ["side by side", "side by side"],
        losses: Losses::Possible,
    },
];

fn main() -> ExitCode {
    let tests = ROWS.map(|row| (row.name, move |haproxy: &Haproxy| in_a_row(haproxy, &row)));
    let upgrade = |name: &'static str, options: &'static [&'static str], way: &'static str| {
        let needs = [Need::Root, Need::Netns, Need::PidfdGetfd, Need::Branch(2, 6), Need::Branch(3, 0)];
        let name = format!("2.6_to_3.0_and_back::{name}::upgrade");
        move |caps: &Caps| caps.trial(&name, &needs, move || run_in_netns(|_| upgrade(options, way)))
    };
    Suite::of_this_program()
        .on(&BRANCHES, tests)
        .and(upgrade("shared", &[], "shared"))
        .and(upgrade("trial", &["--handover", "trial", "--trial", "50ms"], "trial"))
        // Each loads every core.
        .one_at_a_time()
        .run()
}

fn number(variable: &str, otherwise: u32) -> u32 {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn configuration(ports: Ports, generation: u32) -> Config {
    let config = Config::plain(&format!("g{generation}"));
    match ports {
        Ports::Reusable => config.admin(Admin::Plain),
        Ports::Exclusive => config.admin(Admin::Plain).noreuseport(),
        Ports::Exposed => config,
    }
}

fn in_a_row(haproxy: &Haproxy, row: &Row) -> Result<()> {
    let reloads = number("HARELOAD_TEST_RELOADS", 8);
    let mut stage = Stage::start(HARELOAD, haproxy, configuration(row.ports, 0))?;
    let load = stage.load(rate(), (0..=reloads).map(|generation| format!("g{generation}")))?;
    for generation in 1..=reloads {
        stage.instance.write_config(configuration(row.ports, generation))?;
        let reason = row.reasons[usize::from(generation > 1)];
        hand_over(&stage, row.options, row.way, reason).with_context(|| format!("handover {generation}"))?;
        let served = format!("g{generation}");
        stage.expect_serving(&served).with_context(|| format!("after handover {generation}"))?;
        stage.expect_admin().with_context(|| format!("after handover {generation}"))?;
    }
    stage.instance.wait_only(&stage.instance.pidfile()?, DRAINED)?;
    let report = load.stop()?;
    eprintln!("{} {}: {reloads} handovers: {report}", haproxy.version, row.name);
    for failure in report.failures.iter().take(5) {
        eprintln!("  {failure:?}");
    }
    if row.losses == Losses::None {
        report.expect_lossless()?;
    }
    // Each forgets those that were gone by then; this one waits for that.
    let waiting: Vec<&str> = row.options.iter().chain(&["--wait"]).copied().collect();
    hand_over(&stage, &waiting, row.way, row.reasons[1])?;
    ensure!(stage.instance.haproxies() == stage.instance.pidfile()?, "others are left");
    history(&stage, reloads + 1)
}

fn rate() -> u32 {
    number("HARELOAD_TEST_RATE", 4000)
}

fn hand_over(stage: &Stage, options: &[&str], way: &str, reason: &str) -> Result<()> {
    let result = stage.json().args(options).run()?.expect_code(0)?;
    let told = account(&result)?;
    let said = || format!("{}{}", result.stdout, timeline(&told));
    ensure!(told["outcome"]["verdict"] == "reloaded", "{}", said());
    ensure!(told["outcome"]["way"] == way, "another way than {way}: {}", said());
    let why = told["reason"].as_str().unwrap_or_default();
    ensure!(why.contains(reason), "the reason is {why:?}, not {reason:?}: {}", said());
    let pids = stage.instance.pidfile()?;
    ensure!(told["serving"]["pids"] == hareload_testkit::serde_json::json!(pids), "{pids:?}: {}", said());
    if env::var_os("HARELOAD_TEST_TIMELINE").is_some() {
        eprintln!("{}", timeline(&told));
    }
    Ok(())
}

/// Every handover is on record, and nothing but the serving generation is left.
fn history(stage: &Stage, handovers: u32) -> Result<()> {
    let all = stage.json().verb("history").args(["-n", "1000"]).run()?.expect_code(0)?;
    let done = all.stdout.lines().filter(|line| line.contains("\"exit_code\":0")).count();
    ensure!(done == usize::try_from(handovers)?, "{done} of {handovers} on record: {}", all.stdout);
    let short = stage.hareload().verb("history").args(["-n", "1"]).run()?.expect_code(0)?;
    ensure!(short.stdout.lines().count() == 1, "{}", short.stdout);
    ensure!(short.stdout.contains("reloaded"), "{}", short.stdout);
    stage.expect_tidy()
}

fn upgrade(options: &[&str], way: &str) -> Result<()> {
    let [old, new] = [(2, 6), (3, 0)].map(|(major, minor)| haproxies::of_branch(major, minor));
    let (old, new) = (old.context("no 2.6")?, new.context("no 3.0")?);
    let mut stage = Stage::start(HARELOAD, &old, configuration(Ports::Reusable, 0))?;
    let load = stage.load(rate(), (0..=4).map(|generation| format!("g{generation}")))?;
    for (generation, haproxy) in [&new, &old, &new, &old].into_iter().enumerate() {
        stage.instance.set_haproxy(haproxy);
        let generation = u32::try_from(generation)? + 1;
        stage.instance.write_config(configuration(Ports::Reusable, generation))?;
        hand_over(&stage, options, way, "")?;
        stage.expect_serving(&format!("g{generation}"))?;
        let told = stage.instance.ask("show info")?;
        let runs = format!("Version: {}", haproxy.version);
        ensure!(told.contains(&runs), "not {runs}: {told}");
    }
    stage.instance.wait_only(&stage.instance.pidfile()?, DRAINED)?;
    let report = load.stop()?;
    eprintln!("{} to {} and back, {way}: {report}", old.version, new.version);
    report.expect_lossless().map(drop)
}
