//! Hareload is told to stop, at every instant of a handover.

use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::stage::Stage;

use crate::HARELOAD;
use crate::scene::{DEADLINE, RATE};

fn interrupted(haproxy: &Haproxy, options: &[&str], exclusive: fn(Config) -> Config) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, exclusive(Config::plain("g0")))?;
    let rounds: u64 = 24;
    let markers = (0..=rounds).map(|round| format!("g{round}"));
    let load = stage.load(RATE, markers)?;
    let mut serves = "g0".to_owned();
    let (mut through, mut undone) = (0, 0);
    for round in 1..=rounds {
        let marker = format!("g{round}");
        stage.instance.write_config(exclusive(Config::plain(&marker)))?;
        let running = stage.hareload().arg("-v").args(options).spawn()?;
        let signal = if round.is_multiple_of(2) { Signal::INT } else { Signal::TERM };
        // Every 4 ms of a handover's first 100.
        std::thread::park_timeout(Duration::from_millis(round * 4));
        running.signal(signal)?;
        let result = running.wait(DEADLINE)?;
        let context = || {
            format!("round {round}, {signal:?} after {} ms: {}{}", round * 4, result.stdout, result.stderr)
        };
        ensure!(
            result.code == 0 || result.signal == Some(signal.as_raw()),
            "exit code {}: {}",
            result.code,
            context()
        );
        // Whoever the pidfile names is truthful if it is the one that answers.
        let answers = stage.instance.serving_generation().with_context(context)?;
        ensure!(answers == serves || answers == marker, "{answers} answers: {}", context());
        if answers == marker {
            through += 1
        } else {
            undone += 1
        }
        stage.expect_serving(&answers).with_context(context)?;
        stage.expect_admin().with_context(context)?;
        serves = answers;
    }
    eprintln!("{undone} interrupted, {through} through");
    stage.hareload().args(options).arg("--wait").run()?.expect_code(0)?;
    stage.expect_tidy()?;
    let report = load.stop()?;
    if exclusive(Config::plain("g0")).text("s".as_ref(), "l".as_ref()).contains("noreuseport")
        && options.contains(&"pause")
    {
        eprintln!("{report}");
        return Ok(());
    }
    report.expect_lossless().map(drop)
}

pub(crate) fn shared(haproxy: &Haproxy) -> Result<()> {
    interrupted(haproxy, &["--handover", "shared"], |config| config)
}

pub(crate) fn trial(haproxy: &Haproxy) -> Result<()> {
    interrupted(haproxy, &["--handover", "trial", "--trial", "20ms"], |config| config)
}

pub(crate) fn pause(haproxy: &Haproxy) -> Result<()> {
    interrupted(haproxy, &["--handover", "pause"], Config::noreuseport)
}
