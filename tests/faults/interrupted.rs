//! Hareload is told to stop, at every instant of a handover.

use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::stage::Stage;

use crate::agreeing::expect_agreeing;
use crate::scene::{DEADLINE, RATE};
use crate::{HARELOAD, by};

fn interrupted(haproxy: &Haproxy, options: &[&str], exclusive: fn(Config) -> Config) -> Result<()> {
    let mut stage = Stage::start(HARELOAD, haproxy, exclusive(Config::plain("g0")))?;
    let rounds: u64 = 24;
    let markers = (0..=rounds).map(|round| format!("g{round}"));
    let load = stage.load(RATE, markers)?;
    // Every 4 ms of a handover's first 100. A deploy has its check before, which takes as long as it takes on this machine.
    let mut step = Duration::from_millis(4);
    if by::deploys() {
        by::write_next(&mut stage, exclusive(Config::plain("g0")))?;
        step = by::hareload(&stage).args(options).run()?.expect_code(0)?.took / u32::try_from(rounds - 4)?;
    }
    let mut serves = "g0".to_owned();
    let (mut through, mut undone) = (0, 0);
    for round in 1..=rounds {
        let marker = format!("g{round}");
        by::write_next(&mut stage, exclusive(Config::plain(&marker)))?;
        let running = by::hareload(&stage).arg("-v").args(options).spawn()?;
        let signal = if round.is_multiple_of(2) { Signal::INT } else { Signal::TERM };
        let after = step * u32::try_from(round)?;
        std::thread::park_timeout(after);
        running.signal(signal)?;
        let result = running.wait(DEADLINE)?;
        let context =
            || format!("round {round}, {signal:?} after {after:?}: {}{}", result.stdout, result.stderr);
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
        expect_agreeing(&stage, &answers).with_context(context)?;
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
