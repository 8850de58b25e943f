//! Handovers that fail, several in a row, under load: each is undone, and nobody is lost by it.
//!
//! `HARELOAD_TEST_ROLLBACKS` is the number of failures in a row, `HARELOAD_TEST_RATE` the connections a second.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::process::ExitCode;
use std::time::Duration;

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::{BRANCHES, Haproxy};
use hareload_testkit::stage::Stage;
use hareload_testkit::suite::Suite;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// What is told where HAProxy's own retries, which take 2 s, are not waited for. How long that takes, the lab tells.
const AT_ONCE: &str = "lets it fail";

/// By when what is left of the last new one has gone.
const GONE: Duration = Duration::from_secs(30);

/// A new one that fails.
#[derive(Debug, Clone, Copy)]
struct Row {
    name: &'static str,
    options: &'static [&'static str],
    change: fn(Config) -> Config,
    /// Another number of threads than one.
    threads: Option<u32>,
    /// What is said.
    words: &'static [&'static str],
}

const ROWS: [Row; 6] = [
    Row {
        name: "probe::shared",
        options: &["--handover", "shared", "--probe", "tcp://127.0.0.1:9"],
        change: |config| config,
        threads: None,
        words: &["tcp://127.0.0.1:9"],
    },
    Row {
        name: "probe::trial",
        options: &["--handover", "trial", "--probe", "tcp://127.0.0.1:9"],
        change: |config| config,
        threads: None,
        words: &["tcp://127.0.0.1:9"],
    },
    Row {
        name: "chroot",
        options: &[],
        change: |config| config.extra_global("chroot /nonexistent/jail"),
        threads: None,
        words: &["chroot"],
    },
    Row {
        name: "threads",
        // 200 MB of address space are not enough for 32 stacks.
        options: &["--ready-timeout", "1s", "--", "-m", "200"],
        change: |config| config,
        threads: Some(32),
        words: &["goes on serving"],
    },
    Row {
        name: "foreign_port::shared",
        options: &[],
        change: |config| config.frontend_at(([127, 0, 0, 1], 8081).into()),
        threads: None,
        words: &["127.0.0.1:8081 is held by pid", AT_ONCE],
    },
    Row {
        name: "foreign_port::trial",
        options: &["--handover", "trial"],
        change: |config| config.frontend_at(([127, 0, 0, 1], 8081).into()),
        threads: None,
        words: &["127.0.0.1:8081 is held by pid", AT_ONCE],
    },
];

fn main() -> ExitCode {
    let tests = ROWS.map(|row| (row.name, move |haproxy: &Haproxy| in_a_row(haproxy, &row)));
    // Each loads every core.
    Suite::of_this_program().on(&BRANCHES, tests).one_at_a_time().run()
}

fn number(variable: &str, otherwise: u32) -> u32 {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn in_a_row(haproxy: &Haproxy, row: &Row) -> Result<()> {
    let rollbacks = number("HARELOAD_TEST_ROLLBACKS", 4);
    let _stranger = TcpListener::bind(("127.0.0.1", 8081))?;
    let config = |marker| Config::plain(marker);
    let mut stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    let old = stage.instance.pid()?;
    stage.instance.write_config((row.change)(config("g2")))?;
    if let Some(threads) = row.threads {
        let text = fs::read_to_string(stage.instance.config_path())?;
        let text = text.replace("nbthread 1", &format!("nbthread {threads}"));
        stage.instance.write_config_text(&text)?;
    }
    // What a trial's new one serves while it is tried is right too.
    let load = stage.load(number("HARELOAD_TEST_RATE", 4000), ["g1".to_owned(), "g2".to_owned()])?;
    let mut times = Vec::new();
    for rollback in 1..=rollbacks {
        let result = stage.hareload().arg("-v").args(row.options).run()?.expect_code(150)?;
        let said = || format!("rollback {rollback}: {}{}", result.stdout, result.stderr);
        let missing = row.words.iter().find(|word| !result.stderr.contains(**word));
        ensure!(missing.is_none(), "not said: {missing:?}: {}", said());
        times.push(result.took);
        ensure!(stage.instance.pid()? == old, "the pidfile names another: {}", said());
    }
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    stage.expect_serving("g1")?;
    stage.expect_admin()?;
    stage.instance.wait_only(&[old], GONE)?;
    stage.expect_tidy()?;
    let report = load.stop()?;
    eprintln!(
        "{} {}: {rollbacks} rollbacks of {median:?}, the longest {longest:?}: {report}",
        haproxy.version, row.name
    );
    report.expect_lossless().map(drop)
}
